"""Smaller copies of a frame for viewers: each level half the one before, until both sides are short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

LONGEST_SIDE = 512
"""Pixels: levels are added until neither side is longer."""

Halving = Literal["mean", "nearest"]
_BAND = 64


def level_shapes(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Shapes of all levels, the first as given: y and x halved and rounded up, other axes kept."""
    shapes = [tuple(int(n) for n in shape)]
    while max(shapes[-1][-2:]) > LONGEST_SIDE:
        *lead, height, width = shapes[-1]
        shapes.append((*lead, -(-height // 2), -(-width // 2)))
    return shapes


def halve(frame: npt.NDArray, how: Halving) -> npt.NDArray:
    """A frame (..., y, x) at half its size, same dtype.

    ``"mean"`` of each block of 2x2 (of what there is of it at an odd edge), integers rounded half up;
    ``"nearest"`` its upper left pixel, which invents no label.
    """
    if how == "nearest":
        return np.ascontiguousarray(frame[..., ::2, ::2])
    height, width = frame.shape[-2:]
    out = np.empty((*frame.shape[:-2], -(-height // 2), -(-width // 2)), frame.dtype)
    planes = frame.reshape(-1, height, width)
    for plane, small in zip(planes, out.reshape(-1, *out.shape[-2:]), strict=True):
        for top in range(0, height, 2 * _BAND):  # a band at a time stays in the cache
            small[top // 2 : top // 2 + _BAND] = _mean(plane[top : top + 2 * _BAND])
    return out


def _mean(band: npt.NDArray) -> npt.NDArray:
    height, width = band.shape
    if height % 2 or width % 2:
        band = np.pad(band, ((0, height % 2), (0, width % 2)), mode="edge")
    if band.dtype in (np.uint8, np.uint16) and band.dtype.isnative:
        pairs = np.ascontiguousarray(band).view(f"u{2 * band.itemsize}")  # two neighbours in one number
        bits = 8 * band.itemsize
        sums = (pairs & ((1 << bits) - 1)).astype(np.uint32, copy=False)
        sums += pairs >> bits
    else:
        wide = band.astype(np.int64 if band.dtype.kind in "ui" else np.result_type(band, np.float32), copy=False)
        sums = wide[:, ::2] + wide[:, 1::2]
    total = sums[::2] + sums[1::2]
    if band.dtype.kind == "f":
        return (total * total.dtype.type(0.25)).astype(band.dtype, copy=False)
    total += 2
    total >>= 2
    return total.astype(band.dtype)
