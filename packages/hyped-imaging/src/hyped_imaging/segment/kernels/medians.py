"""Exact medians of blocks, by counting how many values lie at or below a trial value: a loop that processors run
many values at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

MASKED = np.int32(2**31 - 1)
FEW = 64
"""So many values between two trial values are sorted instead."""


def block_medians(
    plane: npt.NDArray, excluded: npt.NDArray[np.bool_], y_edges: npt.NDArray, x_edges: npt.NDArray
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Median of each block's pixels that are not ``excluded``, and how many they are, (rows, columns) each.

    Parameters
    ----------
    plane : (y, x) uint8, uint16 or finite float32.
    excluded : (y, x).
    y_edges, x_edges : block (i, j) is ``plane[y_edges[i]:y_edges[i + 1], x_edges[j]:x_edges[j + 1]]``.

    Returns
    -------
    ``np.median`` of the values in float32, NaN where there are none; counts.
    """
    plane = np.ascontiguousarray(plane)
    excluded = np.ascontiguousarray(excluded).view(np.uint8)
    y_edges, x_edges = np.asarray(y_edges, np.int64), np.asarray(x_edges, np.int64)
    if plane.dtype.kind == "f":
        keys = plane.astype(np.float32, copy=False).view(np.int32)
        return _medians(keys, True, excluded, y_edges, x_edges)
    return _medians(plane, False, excluded, y_edges, x_edges)


@njit(cache=True, nogil=True)
def _medians(
    plane: npt.NDArray,
    floats: bool,
    excluded: npt.NDArray[np.uint8],
    y_edges: npt.NDArray[np.int64],
    x_edges: npt.NDArray[np.int64],
) -> tuple:
    rows, columns = len(y_edges) - 1, len(x_edges) - 1
    medians = np.full((rows, columns), np.nan, np.float32)
    counts = np.zeros((rows, columns), np.int64)
    tallest = (y_edges[1:] - y_edges[:-1]).max()
    widest = (x_edges[1:] - x_edges[:-1]).max()
    keys = np.empty(tallest * widest, np.int32)
    few = np.empty(FEW, np.int32)
    for i in range(rows):
        guess, step = np.int64(0), np.int64(1) << (20 if floats else 4)
        for j in range(columns):
            n, free = _gather(plane, floats, excluded, y_edges[i], y_edges[i + 1], x_edges[j], x_edges[j + 1], keys)
            counts[i, j] = free
            if free == 0:
                continue
            block = keys[:n]
            low, upto = _smallest(block, (free - 1) // 2, guess, step, few)
            high = low if upto > free // 2 else _next_above(block, low)
            a, b = _value(low, floats), _value(high, floats)
            medians[i, j] = np.float32(np.float32(a + b) / np.float32(2))
            guess = low
    return medians, counts


@njit(cache=True, nogil=True)
def _gather(
    plane: npt.NDArray,
    floats: bool,
    excluded: npt.NDArray[np.uint8],
    top: int,
    bottom: int,
    left: int,
    right: int,
    keys: npt.NDArray[np.int32],
) -> tuple:
    """The block as whole numbers of the same order, excluded pixels above all others; (pixels, not excluded)."""
    n, out = 0, 0
    width = right - left
    for y in range(top, bottom):
        values, hidden, target = plane[y, left:right], excluded[y, left:right], keys[n : n + width]
        if floats:
            for x in range(width):
                bits = np.int32(values[x])
                target[x] = MASKED if hidden[x] else np.int32(bits ^ ((bits >> 31) & MASKED))
        else:
            for x in range(width):
                target[x] = MASKED if hidden[x] else np.int32(values[x])
        for x in range(width):
            out += hidden[x]
        n += width
    return n, n - out


@njit(cache=True, nogil=True)
def _smallest(keys: npt.NDArray[np.int32], k: int, guess: int, step: int, few: npt.NDArray[np.int32]) -> tuple:
    """The value of rank ``k`` (0 is the smallest), searched outwards from ``guess``, and how many are not greater."""
    low, high = np.int64(-(2**31)) - 1, np.int64(2**31 - 1)  # rank of the value sought: upto(low) <= k < upto(high)
    below, upto = 0, len(keys)
    trial = guess
    while high - low > 1:
        count = _count_upto(keys, np.int32(trial))
        if count > k:
            high, upto = trial, count
            trial = high - step if low < high - step else low + (high - low) // 2
        else:
            low, below = trial, count
            trial = low + step if low + step < high else low + (high - low) // 2
        if upto - below <= FEW:
            break
        if below > 0 and upto < len(keys):  # bracketed: halve
            trial = low + (high - low) // 2
        else:
            step *= 2
    if high - low == 1:
        return high, upto
    n = 0
    for key in keys:
        if low < key <= high:
            few[n] = key
            n += 1
    chosen = np.sort(few[:n])
    value = np.int64(chosen[k - below])
    for i in range(n):
        below += few[i] <= value
    return value, below


@njit(cache=True, nogil=True)
def _count_upto(keys: npt.NDArray[np.int32], trial: np.int32) -> int:
    count = 0
    for i in range(len(keys)):
        count += keys[i] <= trial
    return count


@njit(cache=True, nogil=True)
def _next_above(keys: npt.NDArray[np.int32], value: int) -> int:
    best = MASKED
    for i in range(len(keys)):
        key = keys[i]
        best = min(best, key if key > value else MASKED)
    return np.int64(best)


@njit(cache=True, nogil=True)
def _value(key: int, floats: bool) -> np.float32:
    if not floats:
        return np.float32(key)
    return np.int32(key ^ ((key >> 31) & MASKED)).view(np.float32)
