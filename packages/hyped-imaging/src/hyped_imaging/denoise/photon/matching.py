"""Finds for each reference patch of 8 x 8 pixels the patches that look most like it, in its own and other frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

PATCH = 8
"""Edge of a patch in pixels."""


@njit(cache=True, nogil=True)
def _box_distances(
    guide: npt.NDArray[np.float32],
    frame: int,
    y: int,
    other: int,
    y_other: int,
    dx: int,
    column: npt.NDArray[np.float32],
    pair: npt.NDArray[np.float32],
) -> None:
    """Squared distances of the patches of row ``y`` to those ``dx`` further in row ``y_other``, into ``column[x]``.

    Valid for the corners x with both patches in the frame. ``column`` and ``pair`` have the frame's width.
    """
    width = guide.shape[2]
    start, n = max(0, -dx), width - abs(dx)
    sums, halves = column[start : start + n], pair[start : start + n]
    for k in range(PATCH):
        one, two = guide[frame, y + k, start : start + n], guide[other, y_other + k, start + dx : start + dx + n]
        if k == 0:
            for x in range(n):
                d = one[x] - two[x]
                sums[x] = d * d
        else:
            for x in range(n):
                d = one[x] - two[x]
                sums[x] += d * d
    # sums over 8 columns by doubling: 1 + 1, 2 + 2, 4 + 4
    for x in range(n - 1):
        halves[x] = sums[x] + sums[x + 1]
    for x in range(n - 3):
        sums[x] = halves[x] + halves[x + 2]
    for x in range(n - 7):
        halves[x] = sums[x] + sums[x + 4]
    for x in range(n - 7):
        sums[x] = halves[x]


@njit(cache=True, nogil=True)
def match_patches(
    guide: npt.NDArray[np.float32],
    frame: int,
    ys: npt.NDArray[np.int32],
    xs: npt.NDArray[np.int32],
    radius: int,
    frames: npt.NDArray[np.int32],
    count: int,
) -> tuple:
    """The ``count`` patches nearest to each reference patch by the sum of squared differences.

    Parameters
    ----------
    guide : (t, y, x), contiguous: what is compared, commonly a smoothed or an already denoised copy.
    frame : frame of the references.
    ys, xs : corners of the references are all pairs of them; ascending, within 0 .. edge - 8.
    radius : how far up, down, left and right a match may lie, in pixels.
    frames : frames to search; nothing outside them is found but the reference itself.
    count : patches wanted, a power of two.

    Returns
    -------
    index : (ny, nx, count) int64, corners as ``t * height * width + y * width + x``: the reference first, then by
        rising distance, equal ones in the order of frame, row, column.
    found : (ny, nx) int32, how many of them to use: ``count``, or the largest power of two that there were.
    """
    height, width = guide.shape[1], guide.shape[2]
    ny, nx = len(ys), len(xs)
    index = np.zeros((ny, nx, count), np.int64)
    found = np.ones((ny, nx), np.int32)
    distance = np.empty((nx, count), np.float32)
    held = np.empty(nx, np.int64)
    column, pair = np.empty(width, np.float32), np.empty(width, np.float32)
    for a in range(ny):
        y = ys[a]
        distance[:] = np.inf
        held[:] = 1
        for b in range(nx):
            distance[b, 0] = -1.0
            index[a, b, 0] = (frame * height + y) * width + xs[b]
        for t in frames:
            for y_other in range(max(0, y - radius), min(height - PATCH, y + radius) + 1):
                for dx in range(-radius, radius + 1):
                    if (t == frame and y_other == y and dx == 0) or abs(dx) > width - PATCH:
                        continue
                    _box_distances(guide, frame, y, t, y_other, dx, column, pair)
                    place = (t * height + y_other) * width + dx
                    first, last = max(0, -dx), width - PATCH - max(0, dx)
                    for b in range(nx):
                        x = xs[b]
                        s = column[x]
                        if s < distance[b, count - 1] and first <= x <= last:
                            j = count - 1
                            while distance[b, j - 1] > s:
                                distance[b, j] = distance[b, j - 1]
                                index[a, b, j] = index[a, b, j - 1]
                                j -= 1
                            distance[b, j] = s
                            index[a, b, j] = place + x
                            held[b] += 1
        for b in range(nx):
            n = 1
            while 2 * n <= min(held[b], count):
                n *= 2
            found[a, b] = n
    return index, found


@njit(cache=True, nogil=True)
def trim_groups(
    guide: npt.NDArray[np.float32],
    index: npt.NDArray[np.int64],
    found: npt.NDArray[np.int32],
    limit: npt.NDArray[np.float32],
) -> None:
    """Lower ``found`` (ny, nx) in place until no member of a group is further from its reference than ``limit``.

    Parameters
    ----------
    guide, index, found : as for and from `match_patches`.
    limit : (ny, nx), largest sum of squared differences.
    """
    width = guide.shape[2]
    flat = guide.reshape(-1)
    for a in range(index.shape[0]):
        for b in range(index.shape[1]):
            own = index[a, b, 0]
            n = found[a, b]
            while n > 1:
                # members are in the order of their distance, so the last one decides
                other = index[a, b, n - 1]
                s = np.float32(0.0)
                for i in range(PATCH):
                    one = flat[own + i * width : own + i * width + PATCH]
                    two = flat[other + i * width : other + i * width + PATCH]
                    for j in range(PATCH):
                        d = one[j] - two[j]
                        s += d * d
                if s <= limit[a, b]:
                    break
                n //= 2
            found[a, b] = n
