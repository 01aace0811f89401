"""Watershed by flooding from seeds: scikit-image's partition, one connected component at a time.

Pixels are taken by the height of the pass over which they were reached and, at one height, in the order in which
they were reached. That order matters only within a component, so each has a small queue of its own; a component
that holds one seed needs none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from hyped_core.errors import InvalidDataError
from hyped_imaging.segment.kernels.runs import find_runs, join_runs, rows_of_runs, runs_by_component

AGELESS = np.uint64(0xFFFFFFFF00000000)


def watershed(
    height: npt.NDArray, seeds: npt.NDArray, mask: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int32]:
    """Labels (y, x) int32 of the basins of ``seeds``, as ``skimage.segmentation.watershed`` gives them.

    Equal to it with connectivity 1, except where two seed pixels of one component lie at exactly the same
    height: which goes first depends there on the shape of its queue, and here on their order in the image.

    Parameters
    ----------
    height : (y, x) numbers, flooded from below; taken as float32.
    seeds : (y, x) integers, 0 is no seed; those outside the mask are left out.
    mask : (y, x), what may be flooded; everything where it is None.

    Raises
    ------
    InvalidDataError
        Shapes differ, seeds are not integers, or the height holds NaN inside the mask.
    """
    height, seeds = np.asarray(height), np.asarray(seeds)
    mask = np.ones(height.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if height.ndim != 2 or seeds.shape != height.shape or mask.shape != height.shape or seeds.dtype.kind not in "iu":
        raise InvalidDataError(
            f"height {height.shape}, seeds {seeds.dtype} {seeds.shape} and mask {mask.shape} do not fit",
            where="watershed",
            mend="give three planes (y, x) of one shape, seeds as integers",
        )
    mask = np.ascontiguousarray(mask)
    runs = find_runs(mask)
    rows = rows_of_runs(runs.first)
    component, count = join_runs(*runs, 0)
    order, begin = runs_by_component(component, count)
    seeds = np.ascontiguousarray(seeds, dtype=np.int32)
    pixels, numbers, seed_begin = _seeds_of_components(seeds, rows, runs.start, runs.stop, order, begin)
    height = np.ascontiguousarray(height, dtype=np.float32)
    if not np.isfinite(height).all() and np.isnan(height[mask]).any():
        raise InvalidDataError("the height holds NaN", where="watershed", mend="fill or mask it")
    out = np.zeros(height.shape, np.int32)
    flood_components(
        height, mask.view(np.uint8), rows, runs.start, runs.stop, order, begin, pixels, numbers, seed_begin, out
    )
    return out


@njit(cache=True, nogil=True)
def _seeds_of_components(
    seeds: npt.NDArray[np.int32],
    row: npt.NDArray[np.int32],
    start: npt.NDArray[np.int32],
    stop: npt.NDArray[np.int32],
    order: npt.NDArray[np.int64],
    begin: npt.NDArray[np.int64],
) -> tuple:
    """Raveled pixels and numbers of the seeds, component after component, and where each component's begin."""
    width = seeds.shape[1]
    pixels, numbers = np.empty(1024, np.int64), np.empty(1024, np.int32)
    seed_begin = np.zeros(len(begin), np.int64)
    n = 0
    for c in range(len(begin) - 1):
        for k in range(begin[c], begin[c + 1]):
            i = order[k]
            for x in range(start[i], stop[i]):
                if seeds[row[i], x] == 0:
                    continue
                if n == len(pixels):
                    pixels = np.concatenate((pixels, np.empty_like(pixels)))
                    numbers = np.concatenate((numbers, np.empty_like(numbers)))
                pixels[n], numbers[n] = row[i] * width + x, seeds[row[i], x]
                n += 1
        seed_begin[c + 1] = n
    return pixels[:n].copy(), numbers[:n].copy(), seed_begin


@njit(cache=True, nogil=True)
def flood_components(
    height: npt.NDArray[np.float32],
    mask: npt.NDArray[np.uint8],
    row: npt.NDArray[np.int32],
    start: npt.NDArray[np.int32],
    stop: npt.NDArray[np.int32],
    order: npt.NDArray[np.int64],
    begin: npt.NDArray[np.int64],
    pixels: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int32],
    seed_begin: npt.NDArray[np.int64],
    out: npt.NDArray[np.int32],
) -> None:
    """Flood each component from its seeds; ``out`` is zero before, and keeps it where no seed is.

    Parameters
    ----------
    row, start, stop : the runs of the mask.
    order, begin : those of component c are ``order[begin[c]:begin[c + 1]]``; its pixels are 4-connected.
    pixels, numbers, seed_begin : raveled pixels and labels of the seeds of component c are those at
        ``seed_begin[c]:seed_begin[c + 1]``, in the order of the image.
    """
    width = height.shape[1]
    keys, places = np.empty(4096, np.uint64), np.empty(4096, np.int64)
    flat_height, flat_mask, flat_out = height.ravel(), mask.ravel(), out.ravel()
    for c in range(len(begin) - 1):
        here, there = seed_begin[c], seed_begin[c + 1]
        if here == there:
            continue
        alike = True
        for s in range(here + 1, there):
            alike = alike and numbers[s] == numbers[here]
        if alike:
            for k in range(begin[c], begin[c + 1]):
                i = order[k]
                out[row[i], start[i] : stop[i]] = numbers[here]
            continue
        area = 0
        for k in range(begin[c], begin[c + 1]):
            area += stop[order[k]] - start[order[k]]
        if len(keys) < area:
            keys, places = np.empty(area, np.uint64), np.empty(area, np.int64)
        for s in range(here, there):
            flat_out[pixels[s]] = numbers[s]
        flood(flat_height, flat_mask, flat_out, width, pixels[here:there], keys, places)


@njit(cache=True, nogil=True)
def flood(
    height: npt.NDArray[np.float32],
    mask: npt.NDArray[np.uint8],
    out: npt.NDArray[np.int32],
    width: int,
    seeds: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
    pixels: npt.NDArray[np.int64],
) -> None:
    """Flood from the pixels ``seeds``, which already have their labels in ``out``, all arrays raveled.

    ``keys`` and ``pixels`` are working space for as many entries as there are pixels to reach.
    """
    size, age = 0, np.uint64(0)
    for p in seeds:
        size = _push(keys, pixels, size, _key(height[p]), p)
    while size > 0:
        level, p = keys[0] & AGELESS, pixels[0]
        size = _pop(keys, pixels, size)
        label, x = out[p], p % width
        for side in range(4):  # above, left, right, below: the order in which ages are given
            if side == 0:
                q = p - width
                inside = q >= 0
            elif side == 1:
                q = p - 1
                inside = x > 0
            elif side == 2:
                q = p + 1
                inside = x < width - 1
            else:
                q = p + width
                inside = q < len(out)
            if inside and mask[q] != 0 and out[q] == 0:
                out[q] = label
                age += np.uint64(1)
                size = _push(keys, pixels, size, max(level, _key(height[q])) | age, q)


@njit(cache=True, nogil=True, inline="always")
def _key(height: np.float32) -> np.uint64:
    """A number of the same order as the height, its lower half free for the age: the bits of a float, turned
    over where negative."""
    bits = np.float32(height + np.float32(0)).view(np.uint32)
    if bits & np.uint32(0x80000000):
        bits = ~bits
    else:
        bits = bits | np.uint32(0x80000000)
    return np.uint64(bits) << np.uint64(32)


@njit(cache=True, nogil=True, inline="always")
def _push(keys: npt.NDArray[np.uint64], pixels: npt.NDArray[np.int64], size: int, key: np.uint64, pixel: int) -> int:
    i = size
    while i > 0:
        parent = (i - 1) >> 1
        if keys[parent] <= key:
            break
        keys[i], pixels[i] = keys[parent], pixels[parent]
        i = parent
    keys[i], pixels[i] = key, pixel
    return size + 1


@njit(cache=True, nogil=True, inline="always")
def _pop(keys: npt.NDArray[np.uint64], pixels: npt.NDArray[np.int64], size: int) -> int:
    size -= 1
    key, pixel = keys[size], pixels[size]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[i], pixels[i] = keys[child], pixels[child]
        i = child
    keys[i], pixels[i] = key, pixel
    return size
