"""The segmenter ``paper``: the paper's six steps with scikit-image used plainly. A reference, not a
favourite.

Cells dark in both reporters are lost from its stack; ``channels: [Cy5]`` runs the same steps on the nuclei.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_core.params import Params
from hyped_imaging.segment.planes import select_planes

if TYPE_CHECKING:
    from hyped_core.context import RunContext
    from hyped_core.contracts import ImageMeta
    from hyped_core.design import Design


class PaperConfig(Params):
    """The paper's values where it gives them; sizes in pixels, as it works."""

    channels: tuple[str, ...] = Field(("mKate", "TagGFP"), min_length=1)
    """Channels that are stacked: the two reporters."""
    clip: Literal["percentile", "share"] = "percentile"
    """How "intensities above 98 %" is read: a percentile of the frame, or a share of its maximum."""
    clip_at: float = Field(98.0, gt=0, le=100)
    """The 98 %."""
    combine: Literal["max", "sum", "two"] = "max"
    """How channels become one: the brighter, their sum, or each thresholded on its own and the masks
    joined."""
    sigma_px: float = Field(2.0, ge=0)
    """Gaussian before Otsu's threshold (not given in the paper)."""
    min_distance_px: int = Field(7, ge=1)
    """Least distance of two seeds of the watershed (not given)."""
    min_area_px: int = Field(30, ge=0)
    """Smaller pieces are dropped (not given)."""

    @classmethod
    def for_design(cls, values: dict[str, Any], design: Design) -> dict[str, Any]:
        """``values`` with the design's reporters as ``channels`` where the user named none."""
        reporters = [c.name for c in design.channels if c.role == "reporter"]
        return {"channels": reporters, **values} if reporters else values


class PaperSegmenter:
    """Clip, scale to [0, 1], stack, Gaussian and Otsu, watershed on the distance, one mask a nucleus."""

    def __init__(self, config: PaperConfig | None = None) -> None:
        self.config = config or PaperConfig()

    def segment(self, planes: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.int32]:
        """(c, y, x) -> labels (y, x) int32, 0 is background; a constant frame has no nuclei.

        Raises
        ------
        DesignError, InvalidDataError
            A channel is missing; NaN.
        """
        from skimage.filters import gaussian

        config = self.config
        chosen = select_planes(planes, meta, config.channels)
        scaled = [clip_and_scale(plane, config.clip, config.clip_at) for plane in chosen]
        if config.combine == "max":
            scaled = [np.maximum.reduce(scaled)]
        elif config.combine == "sum":
            scaled = [np.sum(scaled, axis=0) / len(scaled)]
        mask = np.zeros(chosen.shape[1:], dtype=bool)
        for plane in scaled:
            smooth = gaussian(plane, sigma=config.sigma_px, preserve_range=True)
            mask |= above_otsu(smooth)
        return split_touching(mask, config.min_distance_px, config.min_area_px)


def clip_and_scale(plane: npt.NDArray, clip: str, at: float) -> npt.NDArray[np.float32]:
    """Clip from above at a percentile (or a share of the maximum) and scale to [0, 1]; zeros where
    constant."""
    top = np.percentile(plane, at) if clip == "percentile" else plane.max() * at / 100.0
    clipped = np.minimum(plane, top)
    low = clipped.min()
    if top <= low:
        return np.zeros(plane.shape, np.float32)
    return ((clipped - low) / (top - low)).astype(np.float32)


def above_otsu(plane: npt.NDArray) -> npt.NDArray[np.bool_]:
    """Pixels above Otsu's threshold; none where the plane is constant."""
    from skimage.filters import threshold_otsu

    if plane.min() == plane.max():
        return np.zeros(plane.shape, dtype=bool)
    return plane > threshold_otsu(plane)


def split_touching(mask: npt.NDArray[np.bool_], min_distance: int, min_area: int) -> npt.NDArray[np.int32]:
    """Watershed on the distance to the background, seeded at its peaks; small pieces dropped."""
    from scipy.ndimage import distance_transform_edt
    from skimage.feature import peak_local_max
    from skimage.measure import label
    from skimage.segmentation import relabel_sequential, watershed

    distance = distance_transform_edt(mask)
    peaks = peak_local_max(distance, min_distance=min_distance, labels=label(mask), exclude_border=False)
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-distance, markers, mask=mask)
    areas = np.bincount(labels.ravel())
    labels[(areas < min_area)[labels]] = 0
    return relabel_sequential(labels)[0].astype(np.int32)
