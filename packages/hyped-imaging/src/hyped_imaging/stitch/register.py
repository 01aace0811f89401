"""How far the stage is off between neighbouring tiles: correlation of the overlaps, by Fourier transform.

Correlation is masked (Padfield, "Masked object registration in the Fourier domain", IEEE TIP 2012), so that
every shift is judged on the pixels both tiles then share (rectangles, so their sums come from a summed-area
table); strips are band-passed first, which whitens their spectrum and takes uneven illumination out.
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
_SETTLED_PX = 0.05
_QUIET_FRAMES = 3
"""Registration ends where one more frame moved no pair by more than 0.05 px, three times in a row."""
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


def band_pass(image: npt.NDArray, band: tuple[float, float] = BANDS[0]) -> npt.NDArray[np.float32]:
    """The (c, y, x) image between the two widths of ``band``, bright outliers bounded."""
    import cv2

    planes = np.asarray(image, np.float32)
    out = np.empty_like(planes)
    for plane, result in zip(planes, out, strict=True):
        fine = cv2.GaussianBlur(plane, (0, 0), band[0], borderType=cv2.BORDER_REFLECT)
        coarse = cv2.GaussianBlur(plane, (0, 0), band[1], borderType=cv2.BORDER_REFLECT)
        np.subtract(fine, coarse, out=result)
        bound = 6.0 * 1.4826 * float(np.median(np.abs(result[::2, ::2])))
        if bound > 0:
            np.clip(result, -bound, bound, out=result)
    return out


class PairCorrelator:
    """Correlation of one overlap over all shifts up to ``reach``, for many images of the same two rectangles.

    ``corners`` and ``sizes`` are those of the two tiles, (2, 2) in y, x pixels of the stage. Only a strip of
    each tile is filtered: the overlap, ``reach`` pixels more, and what the filter sees beyond.
    """

    def __init__(
        self,
        overlap: Overlap,
        corners: npt.NDArray,
        sizes: npt.NDArray,
        reach: int,
        band: tuple[float, float] = BANDS[0],
    ) -> None:
        from scipy.fft import next_fast_len

        low = np.array([overlap.top, overlap.left]) - reach
        high = np.array([overlap.bottom, overlap.right]) + reach
        rim = min(_RIM_PX, max((overlap.width - 4) // 4, 0))
        starts = [np.maximum(low, corner + rim) for corner in corners]
        stops = [np.minimum(high, corner + size - rim) for corner, size in zip(corners, sizes, strict=True)]
        margin = int(np.ceil(4 * band[1]))
        self.band = band
        self._outer, self._inner = [], []
        for start, stop, corner, size in zip(starts, stops, corners, sizes, strict=True):
            first, last = np.maximum(start - margin, corner), np.minimum(stop + margin, corner + size)
            self._outer.append(_slices(first - corner, last - corner))
            self._inner.append(_slices(start - first, stop - first))
        shapes = np.array([stop - start for start, stop in zip(starts, stops, strict=True)])
        self.shifts = np.arange(-reach, reach + 1)
        lags = [self.shifts - int(n) for n in starts[0] - starts[1]]
        # long enough that what wraps around falls outside the lags looked at
        needed = [
            max(int(lag.max()) + int(b), int(a) - int(lag.min()), int(a), int(b))
            for lag, (a, b) in zip(lags, shapes.T, strict=True)
        ]
        self.shape = tuple(next_fast_len(n, real=True) for n in needed)
        self._where = np.ix_(lags[0] % self.shape[0], lags[1] % self.shape[1])
        spans = [_spans(lag, int(a), int(b)) for lag, (a, b) in zip(lags, shapes.T, strict=True)]
        self._spans = [(spans[0][k], spans[1][k]) for k in (0, 1)]
        lengths = [np.maximum(stop - start, 0) for start, stop in self._spans[0]]
        self.shared = np.outer(*lengths).astype(float)
        self.allowed = self.shared >= max(0.4 * float(self.shared[reach, reach]), 8.0)

    def _strip(self, tile: npt.NDArray, which: int) -> npt.NDArray[np.float32]:
        """The band-passed strip (k, y, x) of one tile, of mean square 1 where it has texture."""
        strip = band_pass(tile[(slice(None), *self._outer[which])], self.band)
        strip = strip[(slice(None), *self._inner[which])]
        scale = np.sqrt(np.square(strip).mean(axis=(-2, -1), keepdims=True))
        return np.divide(strip, scale, out=np.zeros_like(strip), where=scale > 0)

    def _sums(self, image: npt.NDArray, which: int) -> npt.NDArray[np.float64]:
        """Sums of (k, y, x) over what is shared at every shift, (k, 2 reach + 1, 2 reach + 1)."""
        table = np.zeros((len(image), image.shape[1] + 1, image.shape[2] + 1))
        np.cumsum(image, axis=1, dtype=np.float64, out=table[:, 1:, 1:])
        np.cumsum(table[:, 1:, 1:], axis=2, out=table[:, 1:, 1:])
        (y0, y1), (x0, x1) = self._spans[which]
        y1, x1 = np.maximum(y0, y1), np.maximum(x0, x1)

        def at(y: npt.NDArray, x: npt.NDArray) -> npt.NDArray:
            return table[:, y[:, None], x[None, :]]

        return at(y1, x1) - at(y0, x1) - at(y1, x0) + at(y0, x0)

    def correlation(self, first: npt.NDArray, second: npt.NDArray) -> npt.NDArray[np.float32]:
        """Correlation in [-1, 1] of two whole tiles (k, y, x), (k, 2 reach + 1, 2 reach + 1).

        Entry (dy, dx): the second tile lies ``dy, dx`` pixels further than the stage says, relative to the
        first. Shifts that leave too few shared pixels, and images without texture, are 0.
        """
        from scipy.fft import irfft2, rfft2

        a, b = self._strip(first, 0), self._strip(second, 1)
        product = irfft2(rfft2(a, self.shape) * np.conj(rfft2(b, self.shape)), self.shape)
        n = np.maximum(self.shared, 1.0)
        sum_a, sum_b = self._sums(a, 0), self._sums(b, 1)
        var_a = self._sums(a * a, 0) - sum_a**2 / n
        var_b = self._sums(b * b, 1) - sum_b**2 / n
        usable = self.allowed & (var_a > 1e-3 * n) & (var_b > 1e-3 * n)
        top = product[(slice(None), *self._where)] - sum_a * sum_b / n
        out = np.zeros(top.shape, np.float32)
        scale = np.sqrt(np.maximum(var_a, 1e-6) * np.maximum(var_b, 1e-6))
        np.divide(top, scale, out=out, where=usable, casting="unsafe")
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


def _slices(start: npt.NDArray, stop: npt.NDArray) -> tuple[slice, slice]:
    return slice(int(start[0]), int(stop[0])), slice(int(start[1]), int(stop[1]))


def _spans(
    lags: npt.NDArray, first: int, second: int
) -> tuple[tuple[npt.NDArray, npt.NDArray], tuple[npt.NDArray, npt.NDArray]]:
    """[start, stop) along one axis of what two images of these lengths share at every lag, in each of them."""
    start, stop = np.clip(lags, 0, first), np.clip(lags + second, 0, first)
    return (start, stop), (np.clip(start - lags, 0, second), np.clip(stop - lags, 0, second))


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


@dataclass(frozen=True, slots=True)
class Measured:
    """Shifts of all pairs, what each channel counted for (c,), and how many frames were looked at."""

    pairs: list[PairShift]
    weights: npt.NDArray[np.float64]
    n_frames: int


def measure_pairs(
    frames: Iterable[Sequence[npt.NDArray | None]],
    overlaps: Sequence[Overlap],
    corners: npt.NDArray,
    sizes: npt.NDArray,
    *,
    max_shift_px: int = 16,
    min_correlation: float = 0.2,
) -> Measured:
    """Shift of every pair, from correlations averaged over frames and, by their strength, over channels.

    ``frames`` are lists of tiles (c, y, x), None where one is missing; they may be read twice: a pair that
    the narrow band does not settle is measured in the wide one. No more frames are read once every pair is
    trusted and stays where it is. A pair is trusted where its correlation reaches ``min_correlation`` and
    what noise hardly reaches, inside the window of shifts.
    """
    pairs: list[PairShift] = [PairShift(o.first, o.second, (0.0, 0.0), 0.0, False) for o in overlaps]
    weights, looked = np.ones(1), 0
    for band in BANDS:
        todo = [k for k, pair in enumerate(pairs) if not pair.trusted]
        if not todo:
            break
        chosen = [overlaps[k] for k in todo]
        found = _measure_band(frames, chosen, corners, sizes, band, max_shift_px, min_correlation)
        if found is None:
            break
        if band == BANDS[0] or any(pair.trusted for pair in found.pairs):
            weights = found.weights
        looked = max(looked, found.n_frames)
        for k, pair in zip(todo, found.pairs, strict=True):
            if pair.trusted or not pairs[k].correlation:
                pairs[k] = pair
    return Measured(pairs, weights, looked)


def _measure_band(
    frames: Iterable[Sequence[npt.NDArray | None]], overlaps: list[Overlap], corners: npt.NDArray,
    sizes: npt.NDArray, band: tuple[float, float], max_shift_px: int, min_correlation: float,
) -> Measured | None:  # fmt: skip
    correlators = []
    for pair in overlaps:
        ends = [pair.first, pair.second]
        reach = int(min(max_shift_px, max(3, pair.width), max(2, sizes[ends].min() // 4)))
        correlators.append(PairCorrelator(pair, corners[ends], sizes[ends], reach, band))
    summed: list[npt.NDArray | float] = [0.0] * len(overlaps)
    counts = np.zeros(len(overlaps))
    found: Measured | None = None
    quiet = 0
    for number, tiles in enumerate(frames, start=1):
        for k, pair in enumerate(overlaps):
            first, second = tiles[pair.first], tiles[pair.second]
            if first is not None and second is not None:
                summed[k] = summed[k] + correlators[k].correlation(first, second)
                counts[k] += 1
        if not counts.any():
            continue
        before, found = found, _peaks(overlaps, correlators, summed, counts, band, min_correlation, number)
        quiet = quiet + 1 if _settled(before, found) else 0
        if quiet >= _QUIET_FRAMES:
            break
    return found


def _settled(before: Measured | None, after: Measured) -> bool:
    """Whether every pair is trusted and one more frame moved none of them."""
    if before is None or not all(pair.trusted for pair in after.pairs):
        return False
    moved = np.array([p.shift for p in after.pairs]) - np.array([p.shift for p in before.pairs])
    return bool(np.abs(moved).max() <= _SETTLED_PX)


def _peaks(
    overlaps: list[Overlap], correlators: list[PairCorrelator], summed: list, counts: npt.NDArray,
    band: tuple[float, float], min_correlation: float, n_frames: int,
) -> Measured:  # fmt: skip
    """Shifts from the correlations summed so far."""
    means = {k: np.asarray(summed[k]) / counts[k] for k in np.flatnonzero(counts)}
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
    return Measured(pairs, weights, n_frames)
