"""Distance of the foreground's pixels to the background: exact, and worked out for them alone.

Two passes after Meijster, Roerdink and Hesselink (2000), in whole numbers: along columns, then along rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from hyped_imaging.segment.kernels.runs import Runs

FAR = 60_000
"""Vertical distance where a column has no background; longer than any column is."""


def negative_squared_distance(
    runs: Runs, shape: tuple[int, int], out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Minus the squared distance (px^2) to the nearest background pixel, (y, x) float32.

    Only the pixels of ``runs`` are written: the rest of ``out`` keeps what it held. What lies beyond the frame
    is not background; a frame without background has distances that mean nothing.
    """
    out = np.zeros(shape, np.float32) if out is None else out
    _along_rows(runs.first, runs.start, runs.stop, _along_columns(runs.first, runs.start, runs.stop, shape[1]), out)
    return out


@njit(cache=True, nogil=True)
def _along_columns(
    first: npt.NDArray[np.int64], start: npt.NDArray[np.int32], stop: npt.NDArray[np.int32], width: int
) -> npt.NDArray[np.uint16]:
    """Distance to the nearest background in the same column, pixel after pixel of all runs."""
    total = 0
    for i in range(len(start)):
        total += stop[i] - start[i]
    out = np.empty(total, np.uint16)
    line = np.full(width, FAR, np.uint16)  # of the row above, then of the row below
    rows = len(first) - 1
    position = 0
    for y in range(rows):
        done = 0
        for i in range(first[y], first[y + 1]):
            line[done : start[i]] = 0
            for x in range(start[i], stop[i]):
                value = min(np.uint16(line[x] + np.uint16(1)), np.uint16(FAR))
                line[x] = value
                out[position + x - start[i]] = value
            position += stop[i] - start[i]
            done = stop[i]
        line[done:] = 0
    line[:] = FAR
    for y in range(rows - 1, -1, -1):
        done = width
        for i in range(first[y + 1] - 1, first[y] - 1, -1):
            line[stop[i] : done] = 0
            position -= stop[i] - start[i]
            for x in range(start[i], stop[i]):
                value = min(np.uint16(line[x] + np.uint16(1)), out[position + x - start[i]])
                line[x] = value
                out[position + x - start[i]] = value
            done = start[i]
        line[:done] = 0
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _along_rows(
    first: npt.NDArray[np.int64],
    start: npt.NDArray[np.int32],
    stop: npt.NDArray[np.int32],
    columns: npt.NDArray[np.uint16],
    out: npt.NDArray[np.float32],
) -> None:
    """Lower envelope of the parabolas of a run's columns and of the background pixels at its ends."""
    height, width = out.shape
    squares = np.empty(width + 2, np.int64)
    site = np.empty(width + 2, np.int64)
    begins = np.empty(width + 2, np.int64)
    position = 0
    for y in range(height):
        for i in range(first[y], first[y + 1]):
            a, b = np.int64(start[i]), np.int64(stop[i])
            left, right = a - (a > 0), b + (b < width)  # sites left .. right - 1
            if a > 0:
                squares[0] = 0
            for x in range(a, b):
                value = np.int64(columns[position])
                squares[x - left] = value * value
                position += 1
            if b < width:
                squares[b - left] = 0
            top = 0
            site[0], begins[0] = left, left
            for u in range(left + 1, right):
                own = squares[u - left]
                while top >= 0:
                    s, t = site[top], begins[top]
                    if (t - s) * (t - s) + squares[s - left] > (t - u) * (t - u) + own:
                        top -= 1
                    else:
                        break
                if top < 0:
                    top = 0
                    site[0], begins[0] = u, left
                else:
                    s = site[top]
                    meet = 1 + (u * u - s * s + own - squares[s - left]) // (2 * (u - s))
                    if meet < right:
                        top += 1
                        site[top], begins[top] = u, meet
            for u in range(right - 1, left - 1, -1):
                if a <= u < b:
                    s = site[top]
                    out[y, u] = -np.float32((u - s) * (u - s) + squares[s - left])
                if u == begins[top]:
                    top -= 1
