"""Sums over the pixels of each label, in one pass over the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

AREA, TOP, LEFT, SUM_Y, SUM_X, SUM_YY, SUM_XX, SUM_XY, BORDER, INTENSITIES = range(10)
"""Columns of `sums_of_labels`; those from SUM_Y to SUM_XY count from (TOP, LEFT), the label's first pixel."""


@njit(cache=True, nogil=True, error_model="numpy")
def sums_of_labels(
    labels: npt.NDArray[np.int32], planes: npt.NDArray, grids: npt.NDArray[np.float32], highest: int
) -> npt.NDArray[np.float64]:
    """Area, place, second moments and background-corrected intensities of labels 1 to ``highest``.

    Parameters
    ----------
    labels : (y, x), 0 to ``highest``.
    planes : (c, y, x) numbers.
    grids : (c, rows, columns), the background of each plane at the middles of equal blocks; in between it is
        linear, as ``cv2.resize`` with INTER_LINEAR makes it.

    Returns
    -------
    (highest + 1, 9 + c): columns `AREA` to `BORDER` (pixels at the frame's edge), then each plane's sum less its
    background.
    """
    height, width = labels.shape
    n_planes, rows, columns = grids.shape
    out = np.zeros((highest + 1, INTENSITIES + n_planes))
    line = np.empty((n_planes, columns))  # the grids' values at the row's height
    y_scale, x_scale = rows / height, columns / width
    for y in range(height):
        at, share = _between((y + 0.5) * y_scale - 0.5, rows)
        x = 0
        fresh = False
        while x < width:
            label = labels[y, x]
            if label == 0:
                x += 1
                continue
            a = x
            while x < width and labels[y, x] == label:
                x += 1
            if not fresh:
                fresh = True
                for c in range(n_planes):
                    for j in range(columns):
                        above, below = grids[c, max(at, 0), j], grids[c, min(at + 1, rows - 1), j]
                        line[c, j] = above * (1 - share) + below * share
            row = out[label]
            if row[AREA] == 0:
                row[TOP], row[LEFT] = y, a
            n, dy, dx = x - a, y - row[TOP], a - row[LEFT]
            sum_x = n * dx + n * (n - 1) / 2
            row[AREA] += n
            row[SUM_Y] += n * dy
            row[SUM_X] += sum_x
            row[SUM_YY] += n * dy * dy
            row[SUM_XX] += n * dx * dx + dx * n * (n - 1) + (n - 1) * n * (2 * n - 1) / 6
            row[SUM_XY] += dy * sum_x
            if y == 0 or y == height - 1:
                row[BORDER] += n
            else:
                row[BORDER] += (a == 0) + (x == width)
            for c in range(n_planes):
                total = 0.0
                for u in range(a, x):
                    total += planes[c, y, u]
                row[INTENSITIES + c] += total
            u = a
            while u < x:  # stretches over which the background is one straight line
                j, first = _between((u + 0.5) * x_scale - 0.5, columns)
                stop = u + 1
                while stop < x and _between((stop + 0.5) * x_scale - 0.5, columns)[0] == j:
                    stop += 1
                last = _between((stop - 0.5) * x_scale - 0.5, columns)[1]
                middle = (first + last) / 2
                for c in range(n_planes):
                    left, right = line[c, max(j, 0)], line[c, min(j + 1, columns - 1)]
                    row[INTENSITIES + c] -= (stop - u) * (left + (right - left) * middle)
                u = stop
    return out


@njit(cache=True, nogil=True, inline="always")
def _between(position: float, count: int) -> tuple:
    """Grid point below a position and the share of the next one; -1 and the last where there is but one beside."""
    if position <= 0:
        return -1, 0.0
    at = int(position)
    if at >= count - 1:
        return count - 1, 0.0
    return at, position - at
