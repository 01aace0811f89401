"""How far the stage strays from frame to frame: correlation of small pictures of the frames, solved over all of
them together, and how far to believe it.

Cells move too, each its own way, so what all of the picture shares is taken for the stage's. With few cells
that is their mean motion: every part of the picture has its own path, and the spread of these paths says how
much of the drift may be the cells'. Steps of one frame are joined by longer ones, which keeps errors from
adding up; a link that contradicts the others loses its weight.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_SIDE = 640
"""Longest side of the small pictures, in their pixels."""
_BAND = (1.0, 6.0)
_CLIP = 6.0
"""Robust standard deviations at which a small picture is cut; int8 holds them in 127 steps."""
LAGS = (1, 4, 16)
"""Each frame is compared with those so many before it."""
_TRUSTED = 0.1
_LOOSE = 1e-4
"""Weight of the assumption that the stage stands still, beside the squared correlation of a measured step."""
_ROUNDS = 10
_PARTS = 3
"""The picture's parts along a side."""
_PART_REACH_PX = 8
"""How far a part's step may lie from that of the whole, in pixels of the frames."""
_BELIEVED = 3.0
"""Standard errors beyond which a drift is held to be the stage's."""


def bin_factor(canvas: tuple[int, int]) -> int:
    """How many pixels of the frame make one of the small picture, along a side."""
    return -(-max(canvas) // _SIDE)


def covered_bins(
    canvas: tuple[int, int], corners: npt.NDArray, sizes: npt.NDArray, present: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Pixels of the small picture that lie well inside what the present tiles cover."""
    import cv2

    factor = bin_factor(canvas)
    height, width = (max(n // factor, 1) for n in canvas)
    covered = np.zeros((height, width), np.uint8)
    for (y, x), (h, w) in zip(corners[present], sizes[present], strict=True):
        covered[max(y // factor, 0) : -(-(y + h) // factor), max(x // factor, 0) : -(-(x + w) // factor)] = 1
    margin = 2 + 2 * int(_BAND[1])
    kernel = np.ones((margin | 1, margin | 1), np.uint8)
    return cv2.erode(covered, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0


def small_picture(plane: npt.NDArray, covered: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.int8]:
    """The plane (y, x) binned, band-passed, cut at `_CLIP` robust standard deviations; 0 outside ``covered``."""
    import cv2

    factor = bin_factor(plane.shape)
    height, width = (max(n // factor, 1) for n in plane.shape)
    cut = plane[: height * factor, : width * factor]
    small = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    if covered is None:
        covered = np.ones(small.shape, bool)
    if not covered.any():
        return np.zeros(small.shape, np.int8)
    if not covered.all():
        small[~covered & (small < small[covered].min())] = small[covered].mean()
    fine, coarse = (cv2.GaussianBlur(small, (0, 0), width, borderType=cv2.BORDER_REFLECT) for width in _BAND)
    passed = np.where(covered, fine - coarse, 0)
    inside = passed[covered]
    spread = 1.4826 * float(np.median(np.abs(inside))) or float(inside.std())
    if spread <= 0:
        return np.zeros(passed.shape, np.int8)
    return np.rint(np.clip(passed / (_CLIP * spread), -1, 1) * 127).astype(np.int8)


@dataclass(frozen=True)
class Drift:
    """``frames`` (n,), their drift (n, 2) in y, x pixels against the first, and its standard error (n,) as far
    as the parts of the picture disagree."""

    frames: list[int]
    path: npt.NDArray[np.float64]
    error: npt.NDArray[np.float64]

    @property
    def length(self) -> npt.NDArray[np.float64]:
        """(n,) how far each frame lies from the first, in pixels."""
        return np.hypot(self.path[:, 0], self.path[:, 1])

    @property
    def believed(self) -> bool:
        """Whether some frame's drift is more than the cells' own motion explains."""
        return bool((self.length > np.maximum(_BELIEVED * self.error, 0.5)).any())


@dataclass
class DriftMeter:
    """Takes the small pictures of the frames in their order and gives the drift of all.

    Memory is that of a few small pictures. ``factor`` is `bin_factor` of the frames; ``reach`` the largest
    step looked for, pixels of the frames.
    """

    factor: int
    reach: int
    _recent: dict[int, tuple[npt.NDArray, float]] = field(default_factory=dict)
    _links: list[tuple[int, int, float, float, float]] = field(default_factory=list)
    _parts: list[npt.NDArray] = field(default_factory=list)
    _frames: list[int] = field(default_factory=list)

    def add(self, frame: int, picture: npt.NDArray[np.int8]) -> None:
        """The next frame's small picture."""
        from scipy.fft import rfft2

        side = min(_PARTS, *picture.shape)
        height, width = (n // side for n in picture.shape)
        parts = picture[: height * side, : width * side].reshape(side, height, side, width).transpose(0, 2, 1, 3)
        values = parts.reshape(-1, height, width).astype(np.float32)
        spectrum, power = rfft2(values), float(np.square(values).sum())
        place = len(self._frames)
        self._frames.append(frame)
        steps = np.zeros((len(values), 2))
        for lag in LAGS:
            before = self._recent.get(place - lag)
            if before is None:
                continue
            step, correlation, own = self._step(before, (spectrum, power), (height, width))
            if correlation >= _TRUSTED:
                self._links.append((place - lag, place, step[0], step[1], correlation))
                steps = own - step if lag == 1 else steps
        self._parts.append(steps)
        self._recent[place] = (spectrum, power)
        self._recent.pop(place - max(LAGS), None)

    def _step(
        self, first: tuple[npt.NDArray, float], second: tuple[npt.NDArray, float], shape: tuple[int, int]
    ) -> tuple[npt.NDArray[np.float64], float, npt.NDArray[np.float64]]:
        """How far the second picture lies from the first (y, x in pixels of the frames), the correlation, and
        the same of every part (parts, 2)."""
        from scipy.fft import irfft2

        nothing = np.zeros(2), 0.0, np.zeros((len(first[0]), 2))
        power = (first[1] * second[1]) ** 0.5
        reach = [min(-(-self.reach // self.factor) + 1, (n - 1) // 2) for n in shape]
        if power <= 0 or min(reach) < 1:
            return nothing
        surface = irfft2(second[0] * np.conj(first[0]), shape)
        lags = [np.arange(-r, r + 1) for r in reach]
        surface = surface[(slice(None), *np.ix_(lags[0] % shape[0], lags[1] % shape[1]))]
        whole = surface.sum(axis=0)
        y, x = np.unravel_index(int(np.argmax(whole)), whole.shape)
        if not (0 < y < whole.shape[0] - 1 and 0 < x < whole.shape[1] - 1):
            return nothing
        near = max(2, -(-_PART_REACH_PX // self.factor))
        y0, x0 = max(y - near, 0), max(x - near, 0)
        own = []
        for part in surface[:, y0 : y + near + 1, x0 : x + near + 1]:
            row, column = np.unravel_index(int(np.argmax(part)), part.shape)
            own.append((lags[0][y0 + row], lags[1][x0 + column]) + _vertex(part, row, column))
        step = np.array([lags[0][y], lags[1][x]]) + _vertex(whole, y, x)
        return step * self.factor, float(whole[y, x]) / power, np.array(own) * self.factor

    def solve(self) -> Drift:
        """The drift of the frames that were added.

        Least squares over all links, a link of residual r (in pixels of the small picture) counting
        1 / (1 + r^2) times its squared correlation (Cauchy's weights).
        """
        n = len(self._frames)
        path, error = np.zeros((n, 2)), np.zeros(n)
        if n < 2 or not self._links:
            return Drift(list(self._frames), path, error)
        links = np.array(self._links)
        first, second = links[:, 0].astype(int), links[:, 1].astype(int)
        robust = np.ones(len(links))
        for _ in range(_ROUNDS):
            path = _banded(n, first, second, links[:, 2:4], robust * links[:, 4] ** 2)
            off = np.hypot(*(path[second] - path[first] - links[:, 2:4]).T)
            robust = 1.0 / (1.0 + np.square(off / self.factor))
        apart = np.cumsum(np.stack(self._parts), axis=0)
        error = np.sqrt(np.square(apart - apart.mean(axis=1, keepdims=True)).sum(axis=2).mean(axis=1) / apart.shape[1])
        return Drift(list(self._frames), path - path[0], error)


def _banded(
    n: int, first: npt.NDArray, second: npt.NDArray, step: npt.NDArray, weight: npt.NDArray
) -> npt.NDArray[np.float64]:
    """Weighted least squares of positions (n, 2) over links (the normal equations are banded)."""
    from scipy.linalg import solveh_banded

    width = max(LAGS)
    matrix = np.zeros((width + 1, n))
    right = np.zeros((n, 2))
    np.add.at(matrix[0], first, weight)
    np.add.at(matrix[0], second, weight)
    np.add.at(matrix, (second - first, first), -weight)
    np.add.at(right, first, -weight[:, None] * step)
    np.add.at(right, second, weight[:, None] * step)
    matrix[0, :-1] += _LOOSE
    matrix[0, 1:] += _LOOSE
    matrix[1, :-1] -= _LOOSE
    matrix[0, 0] += 1.0
    return solveh_banded(matrix, right, lower=True)


def _vertex(surface: npt.NDArray, y: int, x: int) -> npt.NDArray[np.float64]:
    """Sub-pixel part (2,) of a maximum at ``y, x``, by a parabola along each axis; 0 at the rim."""
    out = np.zeros(2)
    for axis, place in enumerate((y, x)):
        line = surface[:, x] if axis == 0 else surface[y]
        if 0 < place < len(line) - 1:
            left, middle, right = map(float, line[place - 1 : place + 2])
            bend = left - 2 * middle + right
            out[axis] = 0.0 if bend >= 0 else np.clip(0.5 * (left - right) / bend, -0.5, 0.5)
    return out


def drift_record(drift: Drift, total: int, corrected: bool) -> dict:
    """Drift of every frame in pixels (y, x; None of a frame that was lost), the largest with its standard error,
    whether it is more than the cells' own motion explains, and whether it was corrected."""
    listed: list[list[float] | None] = [None] * total
    for frame, (y, x) in zip(drift.frames, drift.path, strict=True):
        listed[frame] = [round(float(y), 2), round(float(x), 2)]
    largest = int(np.argmax(drift.length)) if len(drift.frames) else None
    return {
        "max_px": 0.0 if largest is None else round(float(drift.length[largest]), 2),
        "max_error_px": 0.0 if largest is None else round(float(drift.error[largest]), 2),
        "believed": drift.believed,
        "corrected": corrected,
        "frames_px": listed,
    }
