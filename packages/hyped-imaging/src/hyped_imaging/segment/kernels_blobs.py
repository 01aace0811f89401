"""Loops over the pixels of regions, compiled: grouping, quantiles, passes between neighbours, outlines, peaks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit


@njit(cache=True, nogil=True)
def group_pixels(labels: npt.NDArray[np.int32], count: int) -> tuple:
    """(order, begin): the raveled pixels of region ``i`` are ``order[begin[i]:begin[i + 1]]``, ``i`` from 1 to
    ``count``, in the order of the image."""
    height, width = labels.shape
    begin = np.zeros(count + 2, np.int64)
    for y in range(height):
        for x in range(width):
            if labels[y, x] > 0:
                begin[labels[y, x] + 1] += 1
    for i in range(count + 1):
        begin[i + 1] += begin[i]
    place = begin[:-1].copy()
    order = np.empty(begin[-1], np.int32)
    for y in range(height):
        for x in range(width):
            i = labels[y, x]
            if i > 0:
                order[place[i]] = y * width + x
                place[i] += 1
    return order, begin


@njit(cache=True, nogil=True)
def region_quantile(
    values: npt.NDArray[np.float32], order: npt.NDArray[np.int32], begin: npt.NDArray[np.int64], share: float
) -> npt.NDArray[np.float32]:
    """The value (of raveled ``values``) at rank ``share * (n - 1)``, rounded, of each region's ``n`` pixels; 0
    where it has none."""
    out = np.zeros(len(begin) - 1, np.float32)
    for i in range(len(out)):
        n = begin[i + 1] - begin[i]
        if n > 0:
            inside = np.empty(n, np.float32)
            for k in range(n):
                inside[k] = values[order[begin[i] + k]]
            out[i] = select(inside, int(share * (n - 1) + 0.5))
    return out


@njit(cache=True, nogil=True)
def select(values: npt.NDArray[np.float32], rank: int) -> np.float32:
    """The value of ``rank`` (from 0) in ascending order; reorders ``values``."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return values[rank]


@njit(cache=True, nogil=True)
def touching(labels: npt.NDArray[np.int32], height: npt.NDArray[np.float32]) -> tuple:
    """(a, b, pass) of every pair of 4-neighbours in two regions a < b; the pass is the lower of their heights."""
    rows, columns = labels.shape
    room, n = 4096, 0
    a, b, h = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float32)
    for y in range(rows):
        for x in range(columns):
            p = labels[y, x]
            if p == 0:
                continue
            for side in range(2):
                v, u = (y, x + 1) if side == 0 else (y + 1, x)
                if v == rows or u == columns:
                    continue
                q = labels[v, u]
                if q == 0 or q == p:
                    continue
                if n == room:
                    room *= 2
                    a, b, h = _longer(a, room), _longer(b, room), _longer(h, room)
                a[n], b[n], h[n] = min(p, q), max(p, q), min(height[y, x], height[v, u])
                n += 1
    return a[:n].copy(), b[:n].copy(), h[:n].copy()


@njit(cache=True, nogil=True)
def _longer(values: npt.NDArray, room: int) -> npt.NDArray:
    out = np.empty(room, values.dtype)
    out[: len(values)] = values
    return out


@njit(cache=True, nogil=True)
def centroids(order: npt.NDArray[np.int32], begin: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.float64]:
    """(regions + 1, 2): y and x of each region's centroid, 0 where it has no pixels."""
    out = np.zeros((len(begin) - 1, 2))
    for i in range(len(out)):
        n = begin[i + 1] - begin[i]
        for k in range(begin[i], begin[i + 1]):
            y = order[k] // width
            out[i, 0] += y / n
            out[i, 1] += (order[k] - y * width) / n
    return out


@njit(cache=True, nogil=True)
def row_ends(order: npt.NDArray[np.int32], width: int) -> npt.NDArray[np.int32]:
    """First and last pixel (x, y) of one region in each of its rows, from its raveled pixels in image order: what its
    convex hull rests on."""
    out = np.empty((2 * len(order), 2), np.int32)
    n, row = 0, -1
    for k in range(len(order)):
        y = order[k] // width
        x = order[k] - y * width
        if y != row:
            out[n, 0], out[n, 1], row = x, y, y
            out[n + 1, 1] = y
            n += 2
        out[n - 1, 0] = x
    return out[:n].copy()


@njit(cache=True, nogil=True)
def find_peaks(height: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8], reach: int) -> npt.NDArray[np.int32]:
    """Seeds (y, x): a number from 1, in image order, for each pixel of the mask that is positive and not exceeded
    within a disc of radius ``reach``; of equal ones the first."""
    rows, columns = height.shape
    seeds = np.zeros((rows, columns), np.int32)
    half = np.empty(reach + 1, np.int64)
    for dy in range(reach + 1):
        half[dy] = int(np.sqrt(float(reach * reach - dy * dy)) + 0.5)
    count = 0
    for y in range(rows):
        for x in range(columns):
            h = height[y, x]
            if mask[y, x] == 0 or h <= 0:
                continue
            if x > 0 and height[y, x - 1] >= h or x + 1 < columns and height[y, x + 1] > h:
                continue
            peak = True
            for d in range(2 * reach + 1):
                dy = (d + 1) // 2 if d % 2 else -(d // 2)  # near rows first: most candidates fail there
                v = y + dy
                if v < 0 or v >= rows:
                    continue
                wide = half[abs(dy)]
                for u in range(max(0, x - wide), min(columns, x + wide + 1)):
                    other = height[v, u]
                    if other > h or other == h and (v < y or v == y and u < x) and mask[v, u] != 0:
                        peak = False
                        break
                if not peak:
                    break
            if peak:
                count += 1
                seeds[y, x] = count
    return seeds


@njit(cache=True, nogil=True)
def edge_drop(
    labels: npt.NDArray[np.int32], signal: npt.NDArray[np.float32], count: int, reach: int, share: float
) -> npt.NDArray[np.float32]:
    """How far the signal falls across each region's outline: the value at rank ``share`` of all its rows and columns
    that leave it for the background, each from ``reach`` pixels inside to ``reach`` outside.

    Left out are those that meet another region or the frame on their way; a region of which all do is infinitely
    high.
    """
    rows, columns = labels.shape
    begin = np.zeros(count + 2, np.int64)
    drops = np.empty(0, np.float32)
    place = begin
    for filling in range(2):
        for y in range(rows):
            for x in range(columns):
                i = labels[y, x]
                if i == 0:
                    continue
                for side in range(4):
                    dy, dx = (2 * side - 1, 0) if side < 2 else (0, 2 * side - 5)
                    v, u = y + dy * reach, x + dx * reach
                    if v < 0 or u < 0 or v >= rows or u >= columns or labels[y + dy, x + dx] != 0:
                        continue
                    free = True
                    for k in range(2, reach + 1):
                        free &= labels[y + dy * k, x + dx * k] == 0
                    if not free:
                        continue
                    if filling == 0:
                        begin[i + 1] += 1
                        continue
                    b, a = y, x
                    for _ in range(reach):
                        w, c = b - dy, a - dx
                        if w < 0 or c < 0 or w >= rows or c >= columns or labels[w, c] != i:
                            break
                        b, a = w, c
                    drops[place[i]] = signal[b, a] - signal[v, u]
                    place[i] += 1
        if filling == 0:
            for i in range(count + 1):
                begin[i + 1] += begin[i]
            place = begin[:-1].copy()
            drops = np.empty(begin[-1], np.float32)
    out = np.full(count + 1, np.inf, np.float32)
    for i in range(1, count + 1):
        n = begin[i + 1] - begin[i]
        if n > 0:
            out[i] = select(drops[begin[i] : begin[i + 1]], int(share * (n - 1) + 0.5))
    return out


@njit(cache=True, nogil=True)
def outline(
    labels: npt.NDArray[np.int32],
    signal: npt.NDArray[np.float32],
    order: npt.NDArray[np.int32],
    begin: npt.NDArray[np.int64],
    level: npt.NDArray[np.float32],
    min_area: float,
    renumber: bool,
) -> npt.NDArray[np.int32]:
    """Of each region the largest piece above its ``level``, opened by a cross, holes filled; see
    `hyped_imaging.segment.regions.outline_regions`."""
    rows, columns = labels.shape
    out = np.zeros((rows, columns), np.int32)
    flat_signal, flat_out = signal.ravel(), out.ravel()
    room = 4096
    mask, eroded, piece = np.empty(room, np.uint8), np.empty(room, np.uint8), np.empty(room, np.int32)
    stack = np.empty(room, np.int32)
    number = 0
    for i in range(1, len(begin) - 1):
        pixels = order[begin[i] : begin[i + 1]]
        if len(pixels) == 0 or len(pixels) < min_area:
            continue
        top, bottom = pixels[0] // columns, pixels[-1] // columns
        left, right = columns, 0
        for p in pixels:
            x = p % columns
            left, right = min(left, x), max(right, x)
        w, size = right - left + 3, (right - left + 3) * (bottom - top + 3)  # a frame of one pixel around it
        if size > room:
            room = 2 * size
            mask, eroded, piece = np.empty(room, np.uint8), np.empty(room, np.uint8), np.empty(room, np.int32)
            stack = np.empty(room, np.int32)
        mask[:size], eroded[:size], piece[:size] = 0, 0, 0
        for p in pixels:
            if flat_signal[p] > level[i]:
                mask[_place(p, columns, top, left, w)] = 1
        for k in range(w, size - w):
            eroded[k] = mask[k] & mask[k - 1] & mask[k + 1] & mask[k - w] & mask[k + w]
        for k in range(w, size - w):
            mask[k] &= eroded[k] | eroded[k - 1] | eroded[k + 1] | eroded[k - w] | eroded[k + w]
        best = _largest_piece(mask, piece, stack, w, size)
        if best == 0:
            continue
        _flood_outside(piece, best, stack, w, size)
        area = 0
        for p in pixels:
            area += piece[_place(p, columns, top, left, w)] != -1
        if area < min_area:
            continue
        number += 1
        for p in pixels:
            if piece[_place(p, columns, top, left, w)] != -1:
                flat_out[p] = number if renumber else i
    return out


@njit(cache=True, nogil=True, inline="always")
def _place(p: int, columns: int, top: int, left: int, w: int) -> int:
    """Where pixel ``p`` of the image lies in the box of a region."""
    y = p // columns
    return (y - top + 1) * w + p - y * columns - left + 1


@njit(cache=True, nogil=True)
def _largest_piece(
    mask: npt.NDArray[np.uint8], piece: npt.NDArray[np.int32], stack: npt.NDArray[np.int32], w: int, size: int
) -> int:
    """Number the 8-connected pieces of a box; returns the largest, 0 where there is none."""
    best, most, n = 0, 0, 0
    for start in range(w, size - w):
        if mask[start] == 0 or piece[start] != 0:
            continue
        n += 1
        piece[start], stack[0], depth, area = n, start, 1, 0
        while depth > 0:
            depth -= 1
            k = stack[depth]
            area += 1
            for dy in range(-w, w + 1, w):
                for q in range(k + dy - 1, k + dy + 2):
                    if mask[q] != 0 and piece[q] == 0:
                        piece[q], stack[depth] = n, q
                        depth += 1
        if area > most:
            best, most = n, area
    return best


@njit(cache=True, nogil=True)
def _flood_outside(piece: npt.NDArray[np.int32], best: int, stack: npt.NDArray[np.int32], w: int, size: int) -> None:
    """Mark with -1 all that is reached from the frame of a box without crossing piece ``best``: what is not marked
    is the piece and its holes."""
    piece[0], stack[0], depth = -1, 0, 1
    while depth > 0:
        depth -= 1
        k = stack[depth]
        x = k % w
        for side in range(4):
            if side == 0:
                q, inside = k - w, k >= w
            elif side == 1:
                q, inside = k - 1, x > 0
            elif side == 2:
                q, inside = k + 1, x < w - 1
            else:
                q, inside = k + w, k + w < size
            if inside and piece[q] != best and piece[q] != -1:
                piece[q], stack[depth] = -1, q
                depth += 1
