"""Points of light, as of single molecules or vesicles: patches set on them, grouped with those of other points.

Points are alike but far apart: within the reach of the search for alike patches there commonly is no second one, and
hardly ever one that lies in its patch as the first does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hyped_imaging.denoise.photon.matching import PATCH
from hyped_imaging.denoise.physics import NoisePhysics

PLACES = (2, 4)
"""Rows and columns of a patch that a point is set on."""
AROUND = 4
"""Distance in pixels at which a point has ended."""
CLEAR = 1.0
"""Standard deviations of the noise that a point stands out by, at least."""
UNLIKE = 0.25
"""Most that a member differs from the first of its group, as a share of the first's own squares about its mean."""
FEWEST = 8
"""Members of a group, at least."""
CHUNK = 512
"""Points that are compared with each other, in the order of rows."""
_RING = ((-4, 0), (4, 0), (0, -4), (0, 4), (-3, -3), (-3, 3), (3, -3), (3, 3))


def find_points(plane: npt.NDArray[np.float32], noise: NoisePhysics) -> tuple[npt.NDArray, npt.NDArray]:
    """Rows and columns of the pixels that are the greatest of 5 x 5 and clearly above everything `AROUND`.

    ``plane`` : an estimate of the clean image, or a smoothed one. Points within a patch of the edge are left out.
    """
    from scipy.ndimage import maximum_filter

    if min(plane.shape) <= 2 * PATCH:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    inner = plane[PATCH:-PATCH, PATCH:-PATCH]
    rows, columns = np.nonzero(inner == maximum_filter(plane, 5)[PATCH:-PATCH, PATCH:-PATCH])
    rows, columns = rows + PATCH, columns + PATCH
    ring = np.stack([plane[rows + dy, columns + dx] for dy, dx in _RING])
    height = plane[rows, columns] - ring.max(axis=0)
    clear = height > CLEAR * np.sqrt(noise.variance(ring.mean(axis=0)))
    return rows[clear], columns[clear]


def point_groups(
    plane: npt.NDArray[np.float32], noise: NoisePhysics, count: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]]:
    """(index, found) as of `match_patches` for patches set on points, a row of groups at a time.

    Members of a group are the nearest by the sum of squared differences in ``plane``; all have the point at the same
    place. Nothing where fewer than `FEWEST` are alike.
    """
    rows, columns = find_points(plane, noise)
    windows = np.lib.stride_tricks.sliding_window_view(plane, (PATCH, PATCH))
    chunks = max(1, -(-len(rows) // CHUNK))
    for r, c in zip(np.array_split(rows, chunks), np.array_split(columns, chunks), strict=True):
        if len(r) < FEWEST:
            continue
        n = 1 << (min(count, len(r)).bit_length() - 1)
        for down in PLACES:
            for right in PLACES:
                y, x = r - down, c - right
                patches = windows[y, x].reshape(len(y), -1).astype(np.float64)
                square = np.square(patches).sum(axis=1)
                distance = square[:, None] + square[None] - 2 * patches @ patches.T
                np.fill_diagonal(distance, -np.inf)
                nearest = np.argpartition(distance, n - 1, axis=1)[:, :n]
                order = np.take_along_axis(distance, nearest, axis=1).argsort(axis=1, kind="stable")
                nearest = np.take_along_axis(nearest, order, axis=1)
                own = np.square(patches - patches.mean(axis=1, keepdims=True)).sum(axis=1)
                near = (np.take_along_axis(distance, nearest, axis=1) <= UNLIKE * own[:, None]).sum(axis=1)
                found = np.exp2(np.floor(np.log2(near))).astype(np.int32)
                some = found >= FEWEST
                if some.any():
                    place = y.astype(np.int64) * plane.shape[1] + x
                    yield place[nearest[some]][None], found[some][None]
