"""Collaborative filtering of groups of patches: DCT of each patch, Hadamard transform across them, shrinkage, back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from hyped_imaging.denoise.photon.matching import PATCH

PIXELS = PATCH * PATCH
_C1, _C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(0.5 * np.cos(k * np.pi / 16)) for k in range(1, 8))


@njit(cache=True, nogil=True)
def dct_rows(g: npt.NDArray[np.float32], lanes: int) -> None:
    """Orthonormal DCT-II over the first axis of ``g`` seen as (8, lanes), in place."""
    r0, r1, r2, r3 = g[:lanes], g[lanes : 2 * lanes], g[2 * lanes : 3 * lanes], g[3 * lanes : 4 * lanes]
    r4, r5 = g[4 * lanes : 5 * lanes], g[5 * lanes : 6 * lanes]
    r6, r7 = g[6 * lanes : 7 * lanes], g[7 * lanes : 8 * lanes]
    for e in range(lanes):
        s0, s1, s2, s3 = r0[e] + r7[e], r1[e] + r6[e], r2[e] + r5[e], r3[e] + r4[e]
        d0, d1, d2, d3 = r0[e] - r7[e], r1[e] - r6[e], r2[e] - r5[e], r3[e] - r4[e]
        p0, p1, p2, p3 = s0 + s3, s1 + s2, s0 - s3, s1 - s2
        r0[e] = _C4 * (p0 + p1)
        r4[e] = _C4 * (p0 - p1)
        r2[e] = _C2 * p2 + _C6 * p3
        r6[e] = _C6 * p2 - _C2 * p3
        r1[e] = _C1 * d0 + _C3 * d1 + _C5 * d2 + _C7 * d3
        r3[e] = _C3 * d0 - _C7 * d1 - _C1 * d2 - _C5 * d3
        r5[e] = _C5 * d0 - _C1 * d1 + _C7 * d2 + _C3 * d3
        r7[e] = _C7 * d0 - _C5 * d1 + _C3 * d2 - _C1 * d3


@njit(cache=True, nogil=True)
def inverse_dct_rows(g: npt.NDArray[np.float32], lanes: int) -> None:
    """The inverse of `dct_rows`."""
    r0, r1, r2, r3 = g[:lanes], g[lanes : 2 * lanes], g[2 * lanes : 3 * lanes], g[3 * lanes : 4 * lanes]
    r4, r5 = g[4 * lanes : 5 * lanes], g[5 * lanes : 6 * lanes]
    r6, r7 = g[6 * lanes : 7 * lanes], g[7 * lanes : 8 * lanes]
    for e in range(lanes):
        p0, p1 = _C4 * (r0[e] + r4[e]), _C4 * (r0[e] - r4[e])
        p2, p3 = _C2 * r2[e] + _C6 * r6[e], _C6 * r2[e] - _C2 * r6[e]
        s0, s1, s2, s3 = p0 + p2, p1 + p3, p1 - p3, p0 - p2
        x1, x3, x5, x7 = r1[e], r3[e], r5[e], r7[e]
        d0 = _C1 * x1 + _C3 * x3 + _C5 * x5 + _C7 * x7
        d1 = _C3 * x1 - _C7 * x3 - _C1 * x5 - _C5 * x7
        d2 = _C5 * x1 - _C1 * x3 + _C7 * x5 + _C3 * x7
        d3 = _C7 * x1 - _C5 * x3 + _C3 * x5 - _C1 * x7
        r0[e], r1[e], r2[e], r3[e] = s0 + d0, s1 + d1, s2 + d2, s3 + d3
        r4[e], r5[e], r6[e], r7[e] = s3 - d3, s2 - d2, s1 - d1, s0 - d0


@njit(cache=True, nogil=True)
def hadamard(g: npt.NDArray[np.float32], n: int) -> None:
    """Orthonormal Walsh-Hadamard transform over the second axis of ``g`` seen as (8, n, 8), in place; own inverse.

    ``n`` is a power of two.
    """
    scale = np.float32(1.0 / np.sqrt(n))
    for block in range(0, n * PIXELS, n * PATCH):
        h = PATCH
        while h < n * PATCH:
            for i in range(block, block + n * PATCH, 2 * h):
                low, high = g[i : i + h], g[i + h : i + 2 * h]
                for e in range(h):
                    one, two = low[e], high[e]
                    low[e] = one + two
                    high[e] = one - two
            h *= 2
    for e in range(n * PIXELS):
        g[e] *= scale


@njit(cache=True, nogil=True)
def _transpose(source: npt.NDArray[np.float32], n: int, target: npt.NDArray[np.float32]) -> None:
    """(8, n, 8) -> the same with its first and last axes swapped."""
    for i in range(PATCH):
        for k in range(n):
            for j in range(PATCH):
                target[(j * n + k) * PATCH + i] = source[(i * n + k) * PATCH + j]


@njit(cache=True, nogil=True)
def _analyse(
    stack: npt.NDArray[np.float32],
    corners: npt.NDArray[np.int64],
    n: int,
    width: int,
    g: npt.NDArray[np.float32],
    spare: npt.NDArray[np.float32],
) -> None:
    """Coefficients of a group into ``g`` as (horizontal frequency, patch, vertical frequency)."""
    for k in range(n):
        for i in range(PATCH):
            at, to = corners[k] + i * width, (i * n + k) * PATCH
            row, out = stack[at : at + PATCH], spare[to : to + PATCH]
            for j in range(PATCH):
                out[j] = row[j]
    dct_rows(spare, n * PATCH)
    _transpose(spare, n, g)
    dct_rows(g, n * PATCH)
    hadamard(g, n)


@njit(cache=True, nogil=True)
def filter_groups(
    noisy: npt.NDArray[np.float32],
    pilot: npt.NDArray[np.float32],
    index: npt.NDArray[np.int64],
    found: npt.NDArray[np.int32],
    spectrum: npt.NDArray[np.float32],
    gain: float,
    offset: float,
    floor: float,
    strength: float,
    wiener: bool,
    window: npt.NDArray[np.float32],
    numerator: npt.NDArray[np.float32],
    denominator: npt.NDArray[np.float32],
) -> None:
    """Filter groups of patches together and add the estimates of all their patches to two sums.

    The estimate of the stack is ``numerator / denominator`` when all groups were added.

    Parameters
    ----------
    noisy : (t, y, x), contiguous.
    pilot : (t, y, x), contiguous: an estimate of the clean stack for ``wiener``, otherwise not looked at.
    index, found : groups as `match_patches` gives them.
    spectrum : (64,), noise variance of each DCT coefficient over ``variance``, vertical frequency first.
    gain, offset, floor : noise variance at mean m is ``max(gain * m + offset, floor)``, one value for a group.
    strength : hard thresholds are this many standard deviations; for ``wiener`` the factor on the variance.
    wiener : shrink each coefficient by p^2 / (p^2 + variance), p being the pilot's, rather than cut it off.
    window : (8, 8), weight of a patch's pixels.
    numerator, denominator : (t, y, x), contiguous, added to.
    """
    width = noisy.shape[2]
    most = index.shape[2]
    flat, guide = noisy.reshape(-1), pilot.reshape(-1)
    above, below = numerator.reshape(-1), denominator.reshape(-1)
    g, p = np.empty(most * PIXELS, np.float32), np.empty(most * PIXELS, np.float32)
    spare, cost = np.empty(most * PIXELS, np.float32), np.empty(most * PIXELS, np.float32)
    kept = np.empty(PIXELS, np.float32)
    weights = np.empty((PATCH, PATCH), np.float32)
    level, least = np.float32(gain), np.float32(floor)
    pedestal, power = np.float32(offset), np.float32(strength if wiener else strength * strength)
    expanded = 0
    for a in range(index.shape[0]):
        for b in range(index.shape[1]):
            n = found[a, b]
            if n != expanded:
                for v in range(PATCH):
                    for k in range(n):
                        for u in range(PATCH):
                            cost[(v * n + k) * PATCH + u] = spectrum[u * PATCH + v]
                expanded = n
            corners = index[a, b]
            _analyse(flat, corners, n, width, g, spare)
            if wiener:
                _analyse(guide, corners, n, width, p, spare)
            mean = (p[0] if wiener else g[0]) / np.float32(PATCH * np.sqrt(n))
            variance = max(level * mean + pedestal, least)
            scale = variance * power
            kept[:] = 0
            for block in range(0, n * PIXELS, PIXELS):
                c, s = g[block : block + PIXELS], cost[block : block + PIXELS]
                if wiener:
                    q = p[block : block + PIXELS]
                    for e in range(PIXELS):
                        square = q[e] * q[e]
                        share = square / (square + scale * s[e])
                        c[e] *= share
                        kept[e] += share * share * s[e]
                else:
                    dc = c[0]
                    for e in range(PIXELS):
                        keep = np.float32(1.0) if c[e] * c[e] >= scale * s[e] else np.float32(0.0)
                        c[e] *= keep
                        kept[e] += keep * s[e]
                    if block == 0 and c[0] != dc:
                        c[0] = dc
                        kept[0] += s[0]
            total = np.float32(0.0)
            for e in range(PIXELS):
                total += kept[e]
            weight = np.float32(1.0) / (variance * max(total, np.float32(1.0)))
            for i in range(PATCH):
                for j in range(PATCH):
                    weights[i, j] = weight * window[i, j]
            hadamard(g, n)
            inverse_dct_rows(g, n * PATCH)
            _transpose(g, n, spare)
            inverse_dct_rows(spare, n * PATCH)
            for k in range(n):
                for i in range(PATCH):
                    at, to = corners[k] + i * width, (i * n + k) * PATCH
                    for j in range(PATCH):
                        above[at + j] += weights[i, j] * spare[to + j]
                        below[at + j] += weights[i, j]
