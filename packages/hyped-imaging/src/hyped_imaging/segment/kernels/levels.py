"""Histograms, percentiles and scaling of whole planes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

BLOCK = 4096
"""Pixels that are worked on at a time, so that they stay in the nearest cache."""


@njit(cache=True, nogil=True)
def count_values(plane: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """How often each value of an uint8 or uint16 plane occurs, (65536,)."""
    counts = np.zeros((2, 65536), np.uint32)  # two, because neighbours are often alike and would wait for each other
    flat = plane.ravel()
    for i in range(0, len(flat) - 1, 2):
        counts[0, flat[i]] += np.uint32(1)
        counts[1, flat[i + 1]] += np.uint32(1)
    if len(flat) % 2:
        counts[0, flat[-1]] += np.uint32(1)
    out = np.empty(65536, np.int64)
    for i in range(65536):
        out[i] = np.int64(counts[0, i]) + np.int64(counts[1, i])
    return out


def percentile_of_counts(counts: npt.NDArray[np.int64], percent: float) -> np.float32:
    """``np.percentile`` of the float32 values 0, 1, 2, ... of which there are ``counts``."""
    upto = np.cumsum(counts)
    virtual = (int(upto[-1]) - 1) * (percent / 100)
    below = int(virtual)
    part = virtual - below
    lower = np.float32(np.searchsorted(upto, below, side="right"))
    upper = np.float32(np.searchsorted(upto, min(below + 1, int(upto[-1]) - 1), side="right"))
    if part >= 0.5:
        return np.float32(upper - (upper - lower) * np.float32(1 - part))
    return np.float32(lower + (upper - lower) * np.float32(part))


@njit(cache=True, nogil=True, error_model="numpy")
def clip_and_stretch(
    plane: npt.NDArray[np.uint16], low: np.float32, top: np.float32, out: npt.NDArray[np.float32]
) -> None:
    """``(min(plane, top) - low) / (top - low)`` in float32, into ``out``."""
    flat, target = plane.ravel(), out.ravel()
    span = np.float32(top - low)
    for i in range(len(flat)):
        target[i] = (min(np.float32(flat[i]), top) - low) / span


@njit(cache=True, nogil=True, error_model="numpy")
def count_between(plane: npt.NDArray[np.float32], edges: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """``np.histogram(plane, edges)`` for equally wide bins from the least to the greatest value of the plane."""
    flat = plane.ravel()
    bins = len(edges) - 1
    low = edges[0]
    share = np.float32(np.float64(bins) / (np.float64(edges[-1]) - np.float64(low)))
    last = np.int32(bins - 1)
    index = np.empty(BLOCK, np.int32)
    counts = np.zeros((4, bins), np.int64)
    for begin in range(0, len(flat), BLOCK):
        block = flat[begin : begin + BLOCK]
        for i in range(len(block)):  # within one bin of the right one, whatever the rounding
            guess = np.int32((block[i] - low) * share)
            index[i] = min(max(guess, np.int32(0)), last)
        for i in range(len(block)):
            value, at = block[i], index[i]
            index[i] = at - np.int32(value < edges[at]) + np.int32((value >= edges[at + 1]) & (at < last))
        for i in range(len(block)):
            counts[i & 3, index[i]] += 1
    return counts[0] + counts[1] + counts[2] + counts[3]
