"""The filtered image the network learns to reach: a median filter, any size, quick on wide windows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

LEVELS = 4096
"""Intensities are told apart to this share of the image's range where the window is wider than 5."""


def median_filter(plane: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    """Median of ``width`` x ``width`` pixels, the image mirrored at its edges.

    Exact up to width 5; beyond, off by at most half of range / `LEVELS`, and exact on 8-bit images.

    Parameters
    ----------
    plane
        (y, x) float32.
    width
        Odd number of pixels.
    """
    import cv2

    if width == 1:
        return plane.copy()
    half = width // 2
    padded = np.pad(plane, half, mode="symmetric")
    if width <= 5:
        inner = slice(half, -half)
        return np.ascontiguousarray(cv2.medianBlur(padded, width)[inner, inner])
    low, high = float(plane.min()), float(plane.max())
    if high <= low:
        return plane.copy()
    whole = high - low < LEVELS and bool(np.all(plane == np.rint(plane)))
    step = 1.0 if whole else (high - low) / (LEVELS - 1)
    codes = np.rint((padded - low) / step).astype(np.int32)
    out = np.empty(plane.shape, np.int32)
    _sliding_median(codes, width, LEVELS, out)
    return np.clip(out * np.float32(step) + np.float32(low), low, high).astype(np.float32)


@njit(cache=True, nogil=True)
def _sliding_median(codes, width, levels, out):  # noqa: ANN001, ANN202
    """Huang's running median: a histogram slides along the row, its median moves by steps."""
    height, wide = out.shape
    rank = (width * width) // 2
    counts = np.zeros(levels, np.int32)
    for y in range(height):
        counts[:] = 0
        for i in range(width):
            for j in range(width):
                counts[codes[y + i, j]] += 1
        middle, below = 0, 0
        while below + counts[middle] <= rank:
            below += counts[middle]
            middle += 1
        out[y, 0] = middle
        for x in range(1, wide):
            for i in range(width):
                gone = codes[y + i, x - 1]
                come = codes[y + i, x + width - 1]
                counts[gone] -= 1
                counts[come] += 1
                below += int(come < middle) - int(gone < middle)
            while below > rank:
                middle -= 1
                below -= counts[middle]
            while below + counts[middle] <= rank:
                below += counts[middle]
                middle += 1
            out[y, x] = middle
