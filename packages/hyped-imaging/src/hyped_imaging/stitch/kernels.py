"""Fusion of one frame in compiled code: every canvas row is accumulated from the tile rows that cover it, in cache.

Neither weights nor illuminated tiles are ever stored: a weight is the smaller of two distances to the tile's edges,
made again for each pixel, which costs less than reading it from memory would.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit


@njit(cache=True, nogil=True)
def fuse_rows(
    flat: npt.NDArray,
    starts: npt.NDArray,
    present: npt.NDArray,
    corners: npt.NDArray,
    sizes: npt.NDArray,
    gains: npt.NDArray,
    offset: npt.NDArray,
    keep: float,
    feather: bool,
    top: float,
    out: npt.NDArray,
) -> None:  # pragma: no cover - compiled
    """Fill ``out`` (c, y, x) from tiles.

    Parameters
    ----------
    flat, starts : pixels of all tiles, 1-D, and where each plane (m, c) begins in them; a plane is contiguous.
    present : (m,) whether the tile is there. corners, sizes : (m, 2) y, x of each tile, pixels; a tile may reach
        over the canvas' edge.
    gains : (c, h, w) float32, one over the flat-field; of size 0 where there is none.
    offset : (c,) float32, the camera's offset, and ``keep``, the share of it that the result keeps.
    feather : weigh by the distance to the tile's edge; else the last tile wins.
    top : largest value of the result.
    """
    channels, height, width = out.shape
    tiles = len(present)
    even = gains.size == 0
    total = np.empty(width, np.float32)
    weight = np.empty(width, np.float32)
    one = np.float32(1.0)
    for c in range(channels):
        dark = np.float32(0.0) if even else offset[c]
        back = np.float32(0.0) if even else np.float32(offset[c] * keep)
        for y in range(height):
            total[:] = 0.0
            weight[:] = 0.0
            for m in range(tiles):
                row = y - corners[m, 0]
                if not present[m] or row < 0 or row >= sizes[m, 0]:
                    continue
                left, size = corners[m, 1], sizes[m, 1]
                skip = max(0, -left)
                count = min(size, width - left) - skip
                if count <= 0:
                    continue
                begin = starts[m, c] + row * size + skip
                pixels = flat[begin : begin + count]
                below = np.float32(min(row + 1, sizes[m, 0] - row))
                sums = total[left + skip : left + skip + count]
                shares = weight[left + skip : left + skip + count]
                if not feather:
                    shares[:] = one
                    if even:
                        for x in range(count):
                            sums[x] = np.float32(pixels[x])
                    else:
                        gain = gains[c, row, skip : skip + count]
                        for x in range(count):
                            sums[x] = (np.float32(pixels[x]) - dark) * gain[x]
                elif even:
                    for x in range(count):
                        w = min(below, min(np.float32(x + skip + 1), np.float32(size - skip - x)))
                        sums[x] += np.float32(pixels[x]) * w
                        shares[x] += w
                else:
                    gain = gains[c, row, skip : skip + count]
                    for x in range(count):
                        w = min(below, min(np.float32(x + skip + 1), np.float32(size - skip - x)))
                        sums[x] += (np.float32(pixels[x]) - dark) * gain[x] * w
                        shares[x] += w
            line = out[c, y]
            for x in range(width):
                share = weight[x]
                value = np.rint(total[x] / max(share, one) + back)
                value = min(max(value, np.float32(0.0)), np.float32(top))
                line[x] = np.uint16(value) if share > 0 else np.uint16(0)


@njit(cache=True, nogil=True)
def extremes(
    flat: npt.NDArray, starts: npt.NDArray, present: npt.NDArray, sizes: npt.NDArray, top: int
) -> npt.NDArray:  # pragma: no cover - compiled
    """(c, 3) int64: pixels of the present tiles at ``top`` or above, smallest and largest value."""
    channels = starts.shape[1]
    out = np.empty((channels, 3), np.int64)
    for c in range(channels):
        saturated = 0
        low = flat[0]
        high = flat[0]
        first = True
        for m in range(len(present)):
            if not present[m]:
                continue
            pixels = flat[starts[m, c] : starts[m, c] + sizes[m, 0] * sizes[m, 1]]
            if first:
                low = pixels[0]
                high = pixels[0]
                first = False
            for value in pixels:
                saturated += value >= top
                low = min(low, value)
                high = max(high, value)
        out[c, 0], out[c, 1], out[c, 2] = saturated, 0 if first else low, 0 if first else high
    return out
