"""Pieces of a watershed: joining those that belong together, and giving each its own outline."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hyped_imaging.segment.kernels_blobs import (
    centroids,
    edge_drop,
    group_pixels,
    outline,
    region_quantile,
    row_ends,
    touching,
)

LabelImage = npt.NDArray[np.int32]
FloatImage = npt.NDArray[np.float32]

BRIGHT_SHARE = 0.8
"""A region's brightness is this quantile of its pixels: high, since its rim is blurred."""


POINTS = 25
"""Points at which the line between two centres is looked at."""

DOUBT = 2.0
"""A dip counts as far as it is deeper than so many times the noise: dim nuclei dip by chance."""

EDGE_SHARE = 0.25
"""A region's edge is as sharp as its outline is on all but this share of its length."""


class Saddles(NamedTuple):
    """Pairs of touching regions, in the order of their numbers."""

    a: npt.NDArray[np.int32]
    b: npt.NDArray[np.int32]
    """Numbers of the two, a < b."""
    height: npt.NDArray[np.float32]
    """Height of the highest pass between them."""
    length: npt.NDArray[np.int64]
    """Pairs of 4-neighbours across their border."""


def saddles(labels: LabelImage, height: FloatImage) -> Saddles:
    """The pairs of touching regions, with the highest pass and the length of their border."""
    a, b, h = touching(labels, height)
    order = np.lexsort((-h, b, a))
    a, b, h = a[order], b[order], h[order]
    first = np.ones(len(a), dtype=bool)
    first[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    start = np.flatnonzero(first)
    return Saddles(a[start], b[start], h[start], np.diff(start, append=len(a)))


def merge_shallow(labels: LabelImage, height: FloatImage, share: float) -> LabelImage:
    """Join touching regions whose pass is at least ``share`` of the lower of their two peaks, highest pass
    first."""
    count = int(labels.max(initial=0))
    order, begin = group_pixels(labels, count)
    peak = region_quantile(height.ravel(), order, begin, 1.0)
    parent = np.arange(count + 1)
    a, b, h, _ = saddles(labels, height)
    for i in np.argsort(-h, kind="stable"):
        p, q = _root(parent, int(a[i])), _root(parent, int(b[i]))
        if p != q and h[i] >= share * min(peak[p], peak[q]):
            low, high = min(p, q), max(p, q)
            parent[high] = low
            peak[low] = max(peak[low], peak[high])
    return _renamed(labels, parent)


def merge_convex(
    labels: LabelImage,
    outlined: LabelImage,
    signal: FloatImage,
    *,
    solidity: float,
    neck: float,
    dip: float,
    contrast: float,
    max_area: float,
) -> LabelImage:
    """Join touching regions that together make one convex body of one brightness.

    Parameters
    ----------
    labels : regions of the watershed.
    outlined : the same regions, each within its own outline; shapes are judged on these.
    solidity : least share of the convex hull that the two fill together.
    neck : least length of the border of two, as a share of the diameter of the smaller one.
    dip : least brightness on the line from centre to centre, as a share of the lower of the peaks on either side.
    contrast : least brightness of the dimmer as a share of the brighter one's.
    max_area : largest body that may result, pixels.
    """
    import cv2

    count = int(labels.max(initial=0))
    order, begin = group_pixels(outlined, count)
    areas = np.diff(begin).astype(np.float64)
    brightness = region_quantile(signal.ravel(), order, begin, 0.5)
    a, b, _, length = saddles(outlined, signal)
    centres = centroids(order, begin, labels.shape[1])
    height = lowest_between(signal, centres[a], centres[b])
    dimmer, brighter = np.minimum(brightness[a], brightness[b]), np.maximum(brightness[a], brightness[b])
    alike = (height >= dip) & (dimmer >= contrast * brighter) & (areas[a] + areas[b] <= max_area)
    neighbours: dict[int, dict[int, int]] = {}
    for p, q, n in zip(a[alike].tolist(), b[alike].tolist(), length[alike].tolist(), strict=True):
        neighbours.setdefault(p, {})[q] = n
        neighbours.setdefault(q, {})[p] = n
    hulls = {i: cv2.convexHull(row_ends(order[begin[i] : begin[i + 1]], labels.shape[1])) for i in sorted(neighbours)}
    parent = np.arange(count + 1)
    while True:
        waiting = []
        for group in _groups(neighbours):
            total = sum(areas[i] for i in group)
            if total > max_area or len(group) == 2 and _neck(*group, areas, neighbours) < neck:
                continue
            fill = _fill([hulls[i] for i in group], total)
            if fill >= solidity:
                waiting.append((-fill, group))
        joined: set[int] = set()
        for _, group in sorted(waiting):
            if joined.isdisjoint(group):
                joined.update(group)
                _join(group, parent, areas, hulls, neighbours)
        if not joined:
            return _renamed(labels, parent)


def lowest_between(signal: FloatImage, start: npt.NDArray, stop: npt.NDArray) -> npt.NDArray:
    """How deep each line (n, 2) from ``start`` to ``stop`` dips: its lowest value, as a share of the lower of the
    highest before and the highest after it, beyond `DOUBT`; 1 where it rises or falls throughout. ``signal`` is in
    units of its noise."""
    share = np.linspace(0, 1, POINTS)[:, None, None]
    y, x = np.moveaxis(np.rint(start + (stop - start) * share).astype(np.intp), -1, 0)
    values = np.maximum(signal[y, x], 1e-6)
    before = np.maximum.accumulate(values, axis=0)
    after = np.maximum.accumulate(values[::-1], axis=0)[::-1]
    return np.minimum((values + DOUBT) / np.minimum(before, after), 1).min(axis=0)


def _groups(neighbours: dict[int, dict[int, int]]) -> set[tuple[int, ...]]:
    """Pairs of neighbours, and threes of which one touches both others: a nucleus cut in three shows its shape
    only whole."""
    found: set[tuple[int, ...]] = set()
    for i, near in neighbours.items():
        ordered = sorted(near)
        for k, p in enumerate(ordered):
            found.add((min(i, p), max(i, p)))
            for q in ordered[k + 1 :]:
                found.add(tuple(sorted((i, p, q))))
    return found


def _neck(p: int, q: int, areas: npt.NDArray, neighbours: dict[int, dict[int, int]]) -> float:
    """Length of the border of two regions against the diameter of the smaller one; a slanted border has 4 / pi
    times as many pairs of 4-neighbours as its length, on average."""
    return np.pi / 4 * neighbours[p][q] / np.sqrt(4 / np.pi * min(areas[p], areas[q]))


def _join(
    group: tuple[int, ...],
    parent: npt.NDArray,
    areas: npt.NDArray,
    hulls: dict[int, npt.NDArray],
    neighbours: dict[int, dict[int, int]],
) -> None:
    """Make the regions of ``group`` the first of them."""
    import cv2

    first, *others = group
    hulls[first] = cv2.convexHull(np.concatenate([hulls[i] for i in group]))
    for i in others:
        parent[i] = first
        areas[first] += areas[i]
        del hulls[i]
        for near, length in neighbours.pop(i).items():
            neighbours[near].pop(i)
            if near != first:
                length += neighbours[first].get(near, 0)
                neighbours[first][near] = neighbours[near][first] = length


def _fill(hulls: list[npt.NDArray], area: float) -> float:
    """Share of the joint convex hull of several hulls that ``area`` pixels fill (hulls run through pixel
    centres)."""
    import cv2

    hull = cv2.convexHull(np.concatenate(hulls))
    return area / max(1.0, cv2.contourArea(hull) + cv2.arcLength(hull, True) / 2 + 1)


def _root(parent: npt.NDArray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def _renamed(labels: LabelImage, parent: npt.NDArray) -> LabelImage:
    return np.array([_root(parent, i) for i in range(len(parent))], np.int32)[labels]


def outline_regions(
    labels: LabelImage, signal: FloatImage, level: float, min_area: float, *, renumber: bool = True
) -> LabelImage:
    """Keep of each region what lies above ``level`` times its own brightness, as one piece without holes.

    Brightness is the 80th percentile of the region's pixels. Pieces below ``min_area`` pixels are dropped and
    the others numbered from 1 in the order of the regions, or keep their number (``renumber=False``).
    """
    order, begin = group_pixels(labels, int(labels.max(initial=0)))
    brightness = region_quantile(signal.ravel(), order, begin, BRIGHT_SHARE)
    return outline(labels, signal, order, begin, np.float32(level) * brightness, min_area, renumber)


def keep_brightness(labels: LabelImage, signal: FloatImage, least: float, most: float | None) -> LabelImage:
    """Drop regions dimmer than ``least`` or brighter than ``most`` times the median region, and number the others
    from 1; a region's brightness is the median of its pixels."""
    count = int(labels.max(initial=0))
    if count == 0 or (least <= 0 and most is None):
        return labels
    brightness = region_quantile(signal.ravel(), *group_pixels(labels, count), 0.5)
    typical = np.median(brightness[1:])
    kept = brightness >= least * typical
    if most is not None:
        kept &= brightness <= most * typical
    return _only(labels, kept)


def keep_sharp(labels: LabelImage, signal: FloatImage, least: float, reach: int) -> LabelImage:
    """Drop regions whose edge is not sharp, and number the others from 1.

    An edge is sharp where the signal falls by more than ``least`` times the region's brightness (the median of its
    pixels) from ``reach`` pixels inside to ``reach`` pixels outside: not so where a nucleus is out of focus, and
    never where the region is light of a brighter neighbour, whose signal rises outwards.
    """
    count = int(labels.max(initial=0))
    if count == 0:
        return labels
    brightness = region_quantile(signal.ravel(), *group_pixels(labels, count), 0.5)
    return _only(labels, edge_drop(labels, signal, count, reach, EDGE_SHARE) > least * brightness)


def _only(labels: LabelImage, kept: npt.NDArray[np.bool_]) -> LabelImage:
    """The regions that are ``kept`` (one for each number, 0 included), numbered from 1."""
    kept[0] = False
    return (np.cumsum(kept) * kept).astype(np.int32)[labels]
