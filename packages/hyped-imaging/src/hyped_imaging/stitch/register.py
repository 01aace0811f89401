"""How far the stage is off between neighbouring tiles: correlation of the overlaps, by Fourier transform.

Correlation is masked (Padfield, "Masked object registration in the Fourier domain", IEEE TIP 2012), so that
every shift is judged on the pixels both tiles then share; tiles are band-passed first, which whitens their
spectrum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BANDS = ((1.0, 2.0), (1.5, 8.0))
"""Band-passes (standard deviations in pixels; noise below the first, smooth structure above the second), in
the order they are tried. The narrow one comes first: at a tile's edge, where the overlaps are, a filter sees
what it mirrors, over about its larger width. The wide one is for pictures without fine structure."""
_RIM_PX = 2
"""Pixels along a tile's edge that the band-pass spoils and the correlation leaves out, where overlaps allow
it."""
_MIN_SIDE = 4
_MIN_SHARE = 0.25
"""An overlap counts where its long side is at least this share of the tile's."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two neighbouring tiles and the stage rectangle they share: [top, bottom) x [left, right)."""

    first: int
    second: int
    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """Pixels shared."""
        return (self.bottom - self.top) * (self.right - self.left)

    @property
    def width(self) -> int:
        """The shorter side in pixels."""
        return min(self.bottom - self.top, self.right - self.left)


@dataclass(frozen=True, slots=True)
class PairShift:
    """A pair of tiles, the shift found between them beyond the stage's (y, x pixels), and whether it is
    trusted."""

    first: int
    second: int
    shift: tuple[float, float]
    correlation: float
    trusted: bool


def find_overlaps(
    corners: npt.NDArray[np.integer], sizes: npt.NDArray[np.integer], *, min_side: int = _MIN_SIDE
) -> list[Overlap]:
    """Pairs of neighbouring tiles that share enough pixels; ``corners`` and ``sizes`` are (n, 2) in y, x
    pixels.

    Tiles that meet only at a corner are left out.
    """
    low = np.maximum(corners[:, None], corners[None])
    high = np.minimum((corners + sizes)[:, None], (corners + sizes)[None])
    extent = high - low
    tile = np.minimum(sizes[:, None], sizes[None])
    enough = (extent >= min_side).all(axis=2) & ((extent >= _MIN_SHARE * tile).any(axis=2))
    return [
        Overlap(int(i), int(j), int(low[i, j, 0]), int(high[i, j, 0]), int(low[i, j, 1]), int(high[i, j, 1]))
        for i, j in np.argwhere(np.triu(enough, 1))
    ]


def band_pass(tile: npt.NDArray, band: tuple[float, float] = BANDS[0]) -> npt.NDArray[np.float32]:
    """The (y, x) or (c, y, x) image between the two widths of ``band``, bright outliers bounded."""
    import cv2

    planes = np.asarray(tile, np.float32)
    planes = planes[None] if planes.ndim == 2 else planes
    out = np.empty_like(planes)
    for plane, result in zip(planes, out, strict=True):
        fine = cv2.GaussianBlur(plane, (0, 0), band[0], borderType=cv2.BORDER_REFLECT)
        coarse = cv2.GaussianBlur(plane, (0, 0), band[1], borderType=cv2.BORDER_REFLECT)
        np.subtract(fine, coarse, out=result)
        bound = 6.0 * 1.4826 * float(np.median(np.abs(result)))
        if bound > 0:
            np.clip(result, -bound, bound, out=result)
    return out if np.ndim(tile) == 3 else out[0]


class PairCorrelator:
    """Correlation of one overlap over all shifts up to ``reach``, for many images of the same two rectangles.

    ``corners`` and ``sizes`` are those of the two tiles, (2, 2) in y, x pixels of the stage.
    """

    def __init__(self, overlap: Overlap, corners: npt.NDArray, sizes: npt.NDArray, reach: int) -> None:
        from scipy.fft import next_fast_len

        low = np.array([overlap.top, overlap.left]) - reach
        high = np.array([overlap.bottom, overlap.right]) + reach
        rim = min(_RIM_PX, max((overlap.width - 4) // 4, 0))
        starts = [np.maximum(low, corner + rim) for corner in corners]
        stops = [np.minimum(high, corner + size - rim) for corner, size in zip(corners, sizes, strict=True)]
        self.crops = [
            (slice(*map(int, (a[0] - c[0], b[0] - c[0]))), slice(*map(int, (a[1] - c[1], b[1] - c[1]))))
            for a, b, c in zip(starts, stops, corners, strict=True)
        ]
        shapes = [stop - start for start, stop in zip(starts, stops, strict=True)]
        self.shape = tuple(next_fast_len(int(n), real=True) for n in shapes[0] + shapes[1])
        self.shifts = np.arange(-reach, reach + 1)
        lags = [self.shifts - int(n) for n in starts[0] - starts[1]]
        self._where = np.ix_(lags[0] % self.shape[0], lags[1] % self.shape[1])
        self._masks = [self._transform(np.ones(tuple(shape), np.float32)) for shape in shapes]
        self.shared = np.rint(self._correlate(self._masks[0], self._masks[1]))
        self.allowed = self.shared >= max(0.4 * float(self.shared[reach, reach]), 8.0)

    def _transform(self, image: npt.NDArray) -> npt.NDArray:
        from scipy.fft import rfft2

        return rfft2(image, self.shape)

    def _correlate(self, first: npt.NDArray, second: npt.NDArray) -> npt.NDArray:
        from scipy.fft import irfft2

        return irfft2(first * np.conj(second), self.shape)[(..., *self._where)]

    def correlation(self, first: npt.NDArray, second: npt.NDArray) -> npt.NDArray[np.float32]:
        """Correlation in [-1, 1] of two stacks of whole tiles (k, y, x), (k, 2 reach + 1, 2 reach + 1).

        Entry (dy, dx): the second tile lies ``dy, dx`` pixels further than the stage says, relative to the
        first. Shifts that leave too few shared pixels, and images without texture, are 0.
        """
        a = first[(..., *self.crops[0])].astype(np.float32)
        b = second[(..., *self.crops[1])].astype(np.float32)
        scale = [np.sqrt(np.square(x).mean(axis=(-2, -1), keepdims=True)) for x in (a, b)]
        a, b = (
            np.divide(x, s, out=np.zeros_like(x), where=s > 0) for x, s in zip((a, b), scale, strict=True)
        )
        fa, fb = self._transform(a), self._transform(b)
        n = np.maximum(self.shared, 1.0)
        sum_a, sum_b = self._correlate(fa, self._masks[1]), self._correlate(self._masks[0], fb)
        var_a = self._correlate(self._transform(a * a), self._masks[1]) - sum_a**2 / n
        var_b = self._correlate(self._masks[0], self._transform(b * b)) - sum_b**2 / n
        both = var_a * var_b
        usable = self.allowed & (var_a > 1e-3 * n) & (var_b > 1e-3 * n)
        top = self._correlate(fa, fb) - sum_a * sum_b / n
        out = np.zeros(top.shape, np.float32)
        np.divide(top, np.sqrt(np.maximum(both, 1e-12)), out=out, where=usable, casting="unsafe")
        return np.clip(out, -1.0, 1.0)

    def peak(self, correlation: npt.NDArray) -> tuple[npt.NDArray[np.float64], float, bool]:
        """Best (dy, dx) with a parabola's sub-pixel part, its correlation, and whether it lies inside the
        window."""
        row, column = np.unravel_index(
            int(np.argmax(np.where(self.allowed, correlation, -1.0))), correlation.shape
        )
        last = len(self.shifts) - 1
        inside = 0 < row < last and 0 < column < last
        shift = np.array([self.shifts[row], self.shifts[column]], float)
        if inside:
            shift[0] += _parabola(correlation[row - 1 : row + 2, column])
            shift[1] += _parabola(correlation[row, column - 1 : column + 2])
        return shift, float(correlation[row, column]), bool(inside)


def _parabola(values: npt.NDArray) -> float:
    """Offset of the vertex of the parabola through three values around a maximum, within half a pixel."""
    left, middle, right = map(float, values)
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5))


def significant(shared: float, images: float, fine_px: float = BANDS[0][0]) -> float:
    """The correlation that noise alone hardly reaches over ``shared`` pixels of ``images`` independent
    images.

    Four standard deviations of a correlation over as many independent values as smoothing by ``fine_px``
    leaves.
    """
    independent = shared * images / (4 * np.pi * fine_px**2)
    return float(4.0 / np.sqrt(max(independent, 1.0)))


def measure_pairs(
    frames: Iterable[Sequence[npt.NDArray | None]],
    overlaps: Sequence[Overlap],
    corners: npt.NDArray,
    sizes: npt.NDArray,
    *,
    max_shift_px: int = 16,
    min_correlation: float = 0.2,
) -> list[PairShift]:
    """Shift of every pair, from correlations averaged over frames and, by their strength, over channels.

    ``frames`` are lists of tiles (c, y, x), evenly lit, None where one is missing; they may be read twice: a
    pair that the narrow band does not settle is measured in the wide one. A pair is trusted where its
    correlation reaches ``min_correlation`` and what noise hardly reaches, inside the window of shifts.
    """
    pairs: list[PairShift] = [PairShift(o.first, o.second, (0.0, 0.0), 0.0, False) for o in overlaps]
    frames = frames if isinstance(frames, Sequence) else list(frames)
    for band in BANDS:
        todo = [k for k, pair in enumerate(pairs) if not pair.trusted]
        if todo:
            found = _measure_band(frames, [overlaps[k] for k in todo], corners, sizes, band, max_shift_px,
                                  min_correlation)  # fmt: skip
            for k, pair in zip(todo, found, strict=True):
                if pair.trusted or not pairs[k].correlation:
                    pairs[k] = pair
    return pairs


def _measure_band(
    frames: Sequence[Sequence[npt.NDArray | None]], overlaps: list[Overlap], corners: npt.NDArray,
    sizes: npt.NDArray, band: tuple[float, float], max_shift_px: int, min_correlation: float,
) -> list[PairShift]:  # fmt: skip
    correlators = []
    for pair in overlaps:
        ends = [pair.first, pair.second]
        reach = int(min(max_shift_px, max(3, pair.width), max(2, sizes[ends].min() // 4)))
        correlators.append(PairCorrelator(pair, corners[ends], sizes[ends], reach))
    wanted = {index for pair in overlaps for index in (pair.first, pair.second)}
    summed: list[npt.NDArray | float] = [0.0] * len(overlaps)
    counts = np.zeros(len(overlaps))
    for tiles in frames:
        passed = {
            k: band_pass(tile, band) for k, tile in enumerate(tiles) if tile is not None and k in wanted
        }
        for k, pair in enumerate(overlaps):
            if pair.first in passed and pair.second in passed:
                summed[k] = summed[k] + correlators[k].correlation(passed[pair.first], passed[pair.second])
                counts[k] += 1
    seen = [k for k in range(len(overlaps)) if counts[k]]
    if not seen:
        return [PairShift(o.first, o.second, (0.0, 0.0), 0.0, False) for o in overlaps]
    means = {k: np.asarray(summed[k]) / counts[k] for k in seen}
    strength = np.square(np.median([mean.max(axis=(1, 2)) for mean in means.values()], axis=0).clip(min=0.0))
    weights = strength / strength.sum() if strength.sum() > 0 else np.full(len(strength), 1.0 / len(strength))
    images = 1.0 / float(np.square(weights).sum())
    pairs = []
    for k, pair in enumerate(overlaps):
        if k not in means:
            pairs.append(PairShift(pair.first, pair.second, (0.0, 0.0), 0.0, False))
            continue
        shift, quality, inside = correlators[k].peak(np.tensordot(weights, means[k], axes=1))
        needed = max(min_correlation, significant(pair.area, images * counts[k], band[0]))
        pairs.append(PairShift(pair.first, pair.second, (float(shift[0]), float(shift[1])), quality,
                               bool(inside and quality >= needed)))  # fmt: skip
    return pairs
