"""Pieces of a watershed: joining those that belong together, and giving each its own outline."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LabelImage = npt.NDArray[np.int32]
FloatImage = npt.NDArray[np.float32]


def saddles(labels: LabelImage, height: FloatImage) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """For each pair of touching regions (a < b): the highest pass between them, as (a, b, height of the
    pass)."""
    firsts, seconds, passes = [], [], []
    for here, there in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        p, q = labels[here], labels[there]
        touching = (p != q) & (p > 0) & (q > 0)
        firsts.append(np.minimum(p[touching], q[touching]))
        seconds.append(np.maximum(p[touching], q[touching]))
        passes.append(np.minimum(height[here][touching], height[there][touching]))
    a, b, h = np.concatenate(firsts), np.concatenate(seconds), np.concatenate(passes)
    order = np.lexsort((-h, b, a))
    a, b, h = a[order], b[order], h[order]
    first = np.ones(len(a), dtype=bool)
    first[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    return a[first], b[first], h[first]


def merge_shallow(labels: LabelImage, height: FloatImage, share: float) -> LabelImage:
    """Join touching regions whose pass is at least ``share`` of the lower of their two peaks, highest pass
    first."""
    count = int(labels.max())
    peak = np.full(count + 1, -np.inf)
    inside = np.flatnonzero(labels)
    np.maximum.at(peak, labels.ravel()[inside], height.ravel()[inside])
    parent = np.arange(count + 1)

    a, b, h = saddles(labels, height)
    for i in np.argsort(-h, kind="stable"):
        p, q = _root(parent, int(a[i])), _root(parent, int(b[i]))
        if p != q and h[i] >= share * min(peak[p], peak[q]):
            low, high = min(p, q), max(p, q)
            parent[high] = low
            peak[low] = max(peak[low], peak[high])
    return np.array([_root(parent, i) for i in range(count + 1)], np.int32)[labels]


def merge_convex(
    labels: LabelImage,
    outlined: LabelImage,
    signal: FloatImage,
    *,
    solidity: float,
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
    dip : least brightness on the pass between them, as a share of the dimmer one's.
    contrast : least brightness of the dimmer as a share of the brighter one's.
    max_area : largest body that may result, pixels.
    """
    import cv2
    from scipy.ndimage import find_objects

    count = int(labels.max())
    boxes = find_objects(outlined, max_label=count)
    areas = np.bincount(outlined.ravel(), minlength=count + 1).astype(np.float64)
    brightness = np.zeros(count + 1)
    present = np.flatnonzero(areas[1:]) + 1
    hulls: dict[int, npt.NDArray] = {}
    for i in present:
        box = boxes[i - 1]
        piece = (outlined[box] == i).astype(np.uint8)
        brightness[i] = np.median(signal[box][piece.astype(bool)])
        contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        points = np.concatenate(contours).reshape(-1, 2) + [box[1].start, box[0].start]
        hulls[int(i)] = cv2.convexHull(points.astype(np.int32))
    parent = np.arange(count + 1)
    waiting = []
    for a, b, height in zip(*saddles(outlined, signal), strict=True):
        dimmer = min(brightness[a], brightness[b])
        if height < dip * dimmer or dimmer < contrast * max(brightness[a], brightness[b]):
            continue
        waiting.append((-_fill(hulls[int(a)], hulls[int(b)], areas[a] + areas[b]), int(a), int(b)))
    for _, a, b in sorted(waiting):
        p, q = _root(parent, a), _root(parent, b)
        total = areas[p] + areas[q]
        if p == q or total > max_area or _fill(hulls[p], hulls[q], total) < solidity:
            continue
        low, high = min(p, q), max(p, q)
        parent[high] = low
        areas[low] = total
        hulls[low] = cv2.convexHull(np.concatenate([hulls[p], hulls[q]]))
    return np.array([_root(parent, i) for i in range(count + 1)], np.int32)[labels]


def _fill(a: npt.NDArray, b: npt.NDArray, area: float) -> float:
    """Share of the joint convex hull of two hulls that ``area`` pixels fill (contours run through pixel
    centres)."""
    import cv2

    hull = cv2.convexHull(np.concatenate([a, b]))
    return area / max(1.0, cv2.contourArea(hull) + cv2.arcLength(hull, True) / 2 + 1)


def _root(parent: npt.NDArray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def outline_regions(
    labels: LabelImage, signal: FloatImage, level: float, min_area: float, *, renumber: bool = True
) -> LabelImage:
    """Keep of each region what lies above ``level`` times its own brightness, as one piece without holes.

    Brightness is the 80th percentile of the region's pixels. Pieces below ``min_area`` pixels are dropped and
    the others numbered from 1 in the order of the regions, or keep their number (``renumber=False``).
    """
    import cv2
    from scipy.ndimage import find_objects

    out = np.zeros(labels.shape, np.int32)
    number = 0
    for index, box in enumerate(find_objects(labels), start=1):
        if box is None:
            continue
        inside = labels[box] == index
        if inside.sum() < min_area:
            continue
        brightness = np.percentile(signal[box][inside], 80)
        piece = (inside & (signal[box] > level * brightness)).astype(np.uint8)
        piece = np.pad(piece, 1)
        piece = cv2.morphologyEx(piece, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
        contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if not contours:
            continue
        whole = np.zeros(piece.shape, np.uint8)
        cv2.drawContours(whole, [max(contours, key=cv2.contourArea)], -1, 1, thickness=cv2.FILLED)
        kept = whole[1:-1, 1:-1].astype(bool) & inside
        if kept.sum() < min_area:
            continue
        number += 1
        out[box][kept] = number if renumber else index
    return out
