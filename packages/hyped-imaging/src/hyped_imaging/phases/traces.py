"""Reporter traces along tracks: normalised per movie, smoothed within their own time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def normalise(values: FloatArray, bright_quantile: float, min_signal: float) -> FloatArray:
    """Background-corrected intensities as shares of what bright nuclei of the movie show.

    Nuclei are parted into on and off by Otsu's threshold on the square root (which evens out the spread of
    the bright ones); 1 is the ``bright_quantile`` of those that are on. A movie in which on does not exceed
    off by ``min_signal`` times the spread of off has no nucleus that is on: zeros.
    """
    finite = values[np.isfinite(values)]
    if finite.size < 2 or np.ptp(finite) <= 0:
        return np.zeros(len(values))
    part = otsu(np.sqrt(np.maximum(finite, 0))) ** 2
    on, off = finite[finite > part], finite[finite <= part]
    if on.size == 0:
        return np.zeros(len(values))
    bright = float(np.quantile(on, bright_quantile))
    dark = float(np.median(off)) if off.size else 0.0
    spread = 1.4826 * float(np.median(np.abs(off - dark))) if off.size else 0.0
    if bright <= 0 or bright - dark < min_signal * spread:
        return np.zeros(len(values))
    return np.nan_to_num(values, nan=0.0) / bright


def otsu(values: FloatArray, bins: int = 128) -> float:
    """The cut that leaves least variance within the two parts, halfway where a range of cuts is equally
    good."""
    counts, edges = np.histogram(values, bins=bins)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    mass = np.cumsum(counts * centres)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (mass[:-1] / below - (mass[-1] - mass[:-1]) / above) ** 2
    best = between >= np.nanmax(between) * (1 - 1e-9)
    return float(edges[1:-1][best].mean())


def smooth(
    values: FloatArray, track: IntArray, time_h: FloatArray, half_h: float, reach: int = 6
) -> FloatArray:
    """Median of each trace within ``half_h`` hours either side.

    Rows are sorted by track and time; neighbours of another track, farther in time or more than ``reach``
    objects away do not count.
    """
    n = len(values)
    stack = [values]
    for shift in range(1, reach + 1):
        if shift >= n:
            break
        near = (track[shift:] == track[:-shift]) & (np.abs(time_h[shift:] - time_h[:-shift]) <= half_h + 1e-9)
        if not near.any():
            break
        before, after = np.full(n, np.nan), np.full(n, np.nan)
        before[shift:][near] = values[:-shift][near]
        after[:-shift][near] = values[shift:][near]
        stack += [before, after]
    return np.nanmedian(np.vstack(stack), axis=0) if len(stack) > 1 else values.copy()


def earlier_median(
    values: FloatArray, track: IntArray, time_h: FloatArray, from_h: float, to_h: float, reach: int = 20
) -> FloatArray:
    """Median of each trace between ``from_h`` and ``to_h`` hours earlier; NaN where nothing is there.

    Rows are sorted by track and time; at most ``reach`` objects back are looked at.
    """
    n = len(values)
    stack = []
    for shift in range(1, min(reach, n - 1) + 1):
        lag = time_h[shift:] - time_h[:-shift]
        near = (track[shift:] == track[:-shift]) & (lag >= from_h - 1e-9) & (lag <= to_h + 1e-9)
        row = np.full(n, np.nan)
        row[shift:][near] = values[:-shift][near]
        stack.append(row)
    out = np.full(n, np.nan)
    if stack:
        table = np.vstack(stack)
        some = np.isfinite(table).any(axis=0)
        out[some] = np.nanmedian(table[:, some], axis=0)
    return out


def track_median(values: FloatArray, track: IntArray) -> FloatArray:
    """Median over the track of each row (the row's own value where ``track`` is 0)."""
    order = np.lexsort((values, track))
    names, first, count = np.unique(track[order], return_index=True, return_counts=True)
    ranked = values[order]
    low, high = ranked[first + (count - 1) // 2], ranked[first + count // 2]
    out = ((low + high) / 2)[np.searchsorted(names, track)]
    return np.where(track > 0, out, values)
