"""Highest points of each component that keep a least distance: the seeds of a watershed on distances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit


@njit(cache=True, nogil=True)
def deepest_points(
    depth: npt.NDArray[np.float32],
    mask: npt.NDArray[np.uint8],
    row: npt.NDArray[np.int32],
    start: npt.NDArray[np.int32],
    stop: npt.NDArray[np.int32],
    order: npt.NDArray[np.int64],
    begin: npt.NDArray[np.int64],
    min_distance: int,
) -> tuple:
    """Raveled pixel and run of each minimum of ``depth``, component after component, deepest first.

    The points that ``skimage.feature.peak_local_max`` finds in ``-depth`` with ``labels`` and
    ``exclude_border=False``, in its order: no pixel of the same component within ``min_distance`` rows and
    columns is deeper, and of points nearer than that to each other the deeper stays, or else the first in the
    image. ``depth`` is read inside ``mask`` only.

    Parameters
    ----------
    row, start, stop : the runs of the mask.
    order, begin : those of component c are ``order[begin[c]:begin[c + 1]]``; its pixels must be 8-connected.
    min_distance : pixels, at least 1.
    """
    height, width = depth.shape
    across = width // min_distance + 1
    cells = (height // min_distance + 1) * across if min_distance > 1 else 0
    owner, holder = np.full(cells, -1, np.int64), np.empty(cells, np.int64)
    pixels, runs = np.empty(1024, np.int64), np.empty(1024, np.int64)
    keys, places = np.empty(1024, np.float32), np.empty(1024, np.int64)
    n = 0
    for c in range(len(begin) - 1):
        found = 0
        for k in range(begin[c], begin[c + 1]):
            i = order[k]
            y = row[i]
            for x in range(start[i], stop[i]):
                if _beaten_beside(depth, mask, y, x) or _beaten_around(
                    depth, row, start, stop, order, begin[c], begin[c + 1], k, x, min_distance
                ):
                    continue
                if found == len(keys):
                    keys, places = _twice(keys), _twice(places)
                keys[found], places[found] = depth[y, x], k * width + x
                found += 1
        ranks = np.argsort(keys[:found], kind="mergesort") if found > 1 else np.arange(found)
        for rank in ranks:
            k, x = places[rank] // width, places[rank] % width
            i = order[k]
            y = row[i]
            if min_distance > 1:
                if _near_another(owner, holder, across, width, c, y, x, min_distance):
                    continue
                cell = (y // min_distance) * across + x // min_distance
                owner[cell], holder[cell] = c, y * width + x
            if n == len(pixels):
                pixels, runs = _twice(pixels), _twice(runs)
            pixels[n], runs[n] = y * width + x, i
            n += 1
    return pixels[:n].copy(), runs[:n].copy()


@njit(cache=True, nogil=True)
def _twice(values: npt.NDArray) -> npt.NDArray:
    out = np.empty(2 * len(values), values.dtype)
    out[: len(values)] = values
    return out


@njit(cache=True, nogil=True)
def _beaten_beside(depth: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8], y: int, x: int) -> bool:
    """Whether one of the eight neighbours is deeper: true of nearly every pixel, and quickly seen."""
    height, width = depth.shape
    own = depth[y, x]
    for v in range(max(0, y - 1), min(height, y + 2)):
        for u in range(max(0, x - 1), min(width, x + 2)):
            if mask[v, u] != 0 and depth[v, u] < own:
                return True
    return False


@njit(cache=True, nogil=True)
def _beaten_around(
    depth: npt.NDArray[np.float32],
    row: npt.NDArray[np.int32],
    start: npt.NDArray[np.int32],
    stop: npt.NDArray[np.int32],
    order: npt.NDArray[np.int64],
    begin: int,
    end: int,
    k: int,
    x: int,
    reach: int,
) -> bool:
    """Whether a pixel of the same component within ``reach`` is deeper; ``k`` is the run's place in
    ``order``."""
    y = row[order[k]]
    own = depth[y, x]
    for step in (-1, 1):
        j = k if step < 0 else k + 1
        while begin <= j < end:
            i = order[j]
            v = row[i]
            if v < y - reach or v > y + reach:
                break
            for u in range(max(start[i], x - reach), min(stop[i], x + reach + 1)):
                if depth[v, u] < own:
                    return True
            j += step
    return False


@njit(cache=True, nogil=True)
def _near_another(
    owner: npt.NDArray[np.int64],
    holder: npt.NDArray[np.int64],
    across: int,
    width: int,
    component: int,
    y: int,
    x: int,
    min_distance: int,
) -> bool:
    """Whether an accepted point of this component is nearer than ``min_distance``; a cell of that size holds at
    most one."""
    down = len(owner) // across
    cy, cx = y // min_distance, x // min_distance
    for v in range(max(0, cy - 1), min(down, cy + 2)):
        for u in range(max(0, cx - 1), min(across, cx + 2)):
            cell = v * across + u
            if owner[cell] == component:
                dy, dx = abs(holder[cell] // width - y), abs(holder[cell] % width - x)
                if max(dy, dx) < min_distance:
                    return True
    return False
