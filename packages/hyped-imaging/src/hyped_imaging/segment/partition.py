"""The paper's steps on compiled kernels: the partition of ``paper.PaperSegmenter``, several times faster."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError
from hyped_imaging.segment.kernels.distance import negative_squared_distance
from hyped_imaging.segment.kernels.flooding import flood_components
from hyped_imaging.segment.kernels.levels import (
    clip_and_stretch,
    count_between,
    count_values,
    percentile_of_counts,
)
from hyped_imaging.segment.kernels.peaks import deepest_points
from hyped_imaging.segment.kernels.runs import find_runs, join_runs, number_large, rows_of_runs, runs_by_component
from hyped_imaging.segment.paper import clip_and_scale
from hyped_imaging.segment.planes import check_finite

FloatImage = npt.NDArray[np.float32]
LabelImage = npt.NDArray[np.int32]

BINS = 256
"""Bins of the histogram behind Otsu's threshold, as in scikit-image."""
TRUNCATE = 4.0
"""Reach of the Gaussian in sigmas, as in scikit-image."""


class PaperParameters(Protocol):
    """What `paper_partition` reads of a config; ``paper.PaperConfig`` says what each means."""

    clip: str
    clip_at: float
    combine: str
    sigma_px: float
    min_distance_px: int
    min_area_px: int


def paper_partition(chosen: npt.NDArray, config: PaperParameters) -> LabelImage:
    """Clip, scale to [0, 1], stack, Gaussian and Otsu, watershed on the distance, one number a nucleus.

    Labels and their numbers are those of ``PaperSegmenter`` with the same parameters, but for single pixels where
    a sum is rounded differently or two seeds of one piece lie equally deep (see `kernels.flooding`).

    Parameters
    ----------
    chosen : (c, y, x), the planes of the channels to stack. Fastest as uint8 or uint16.

    Returns
    -------
    (y, x) int32, 0 is background; a constant frame has no nuclei.

    Raises
    ------
    InvalidDataError
        Not (c, y, x) numbers, or NaN.
    """
    chosen = np.asarray(chosen)
    if chosen.ndim != 3 or 0 in chosen.shape or chosen.dtype.kind not in "uif":
        raise InvalidDataError(
            f"planes are {chosen.dtype} {chosen.shape}", where="segment", mend="give numbers (c, y, x)"
        )
    check_finite(chosen, "segment")
    scaled = [scale_plane(plane, config.clip, config.clip_at) for plane in chosen]
    if config.combine != "two" and len(scaled) > 1:
        scaled = [stack_planes(scaled, config.combine)]
    mask = smooth_above_otsu(scaled[0], config.sigma_px)
    for plane in scaled[1:]:
        mask |= smooth_above_otsu(plane, config.sigma_px)
    return split_touching(mask, config.min_distance_px, config.min_area_px, work=scaled[0])


def scale_plane(plane: npt.NDArray, clip: str, at: float) -> FloatImage:
    """``paper.clip_and_scale`` of the plane in float32, new memory."""
    if plane.dtype not in (np.uint8, np.uint16):
        return clip_and_scale(plane.astype(np.float32), clip, at)
    plane = np.ascontiguousarray(plane)
    if clip == "percentile":
        counts = count_values(plane)
        low = np.float32(np.argmax(counts > 0))
        top = percentile_of_counts(counts, at)
    else:
        low = np.float32(plane.min())
        top = np.float32(np.float32(plane.max()) * at / 100.0)
        low = min(low, top)
    if top <= low:
        return np.zeros(plane.shape, np.float32)
    out = np.empty(plane.shape, np.float32)
    clip_and_stretch(plane, low, top, out)
    return out


def stack_planes(scaled: list[FloatImage], combine: str) -> FloatImage:
    """The brightest of the planes or their mean; the first one's memory is used."""
    out = scaled[0]
    for plane in scaled[1:]:
        if combine == "max":
            np.maximum(out, plane, out=out)
        else:
            out += plane
    if combine == "sum":
        out /= len(scaled)
    return out


def smooth_above_otsu(plane: FloatImage, sigma: float) -> npt.NDArray[np.bool_]:
    """Pixels of the smoothed plane above its Otsu threshold, none where it is constant; ``plane`` is smoothed in
    place."""
    import cv2
    from skimage.filters import threshold_otsu

    reach = int(TRUNCATE * sigma + 0.5)
    if reach > 0:
        size = (2 * reach + 1, 2 * reach + 1)
        cv2.GaussianBlur(plane, size, sigma, dst=plane, borderType=cv2.BORDER_REPLICATE)
    low, high = plane.min(), plane.max()
    if low == high:
        return np.zeros(plane.shape, dtype=bool)
    edges = np.histogram_bin_edges(np.array([low, high], np.float32), BINS)
    counts = count_between(plane, edges)
    return plane > threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2.0))


def split_touching(
    mask: npt.NDArray[np.bool_], min_distance: int, min_area: int, *, work: FloatImage | None = None
) -> LabelImage:
    """``paper.split_touching``: watershed on the distance to the background, seeded at its peaks, small pieces
    dropped.

    ``work``, a plane whose contents are no longer wanted, spares a new one.
    """
    if mask.all():  # no distance to anything: leave it to the reference what that means
        from hyped_imaging.segment.paper import split_touching as reference

        return reference(mask, min_distance, min_area)
    runs = find_runs(mask)
    out = np.zeros(mask.shape, np.int32)
    if len(runs.start) == 0:
        return out
    rows = rows_of_runs(runs.first)
    pixels = mask.view(np.uint8)
    depth = negative_squared_distance(runs, mask.shape, work)
    around = runs_by_component(*join_runs(*runs, 1))
    seeds, run = deepest_points(depth, pixels, rows, runs.start, runs.stop, *around, min_distance)
    component, count = join_runs(*runs, 0)
    if min_distance == 1:  # every pixel of a plateau is a seed: one queue for all settles ties as the reference does
        component, count = np.zeros_like(component), 1
    home = component[run]
    order = np.lexsort((seeds, home))
    flood_components(
        depth, pixels, rows, runs.start, runs.stop, *runs_by_component(component, count),
        seeds[order], (order + 1).astype(np.int32), np.searchsorted(home[order], np.arange(count + 1)), out,
    )  # fmt: skip
    number_large(out, rows, runs.start, runs.stop, len(seeds), min_area)
    return out
