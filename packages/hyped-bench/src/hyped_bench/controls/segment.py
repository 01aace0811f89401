"""Segmentation control: Otsu's threshold and connected components."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta
from hyped_core.errors import DesignError, InvalidDataError
from hyped_core.params import Params


class OtsuConfig(Params):
    """Which plane, and how small a nucleus may be."""

    channel: str | None = None
    """Plane that shows nuclei; where None ``Cy5`` if it is among the planes, else the first."""
    sigma_px: float = Field(1.0, ge=0)
    """Width of the Gaussian blur before the threshold, pixels."""
    min_area_px: int = Field(30, ge=0)
    """Components smaller than this are left out, pixels."""


class Otsu:
    """Blur, threshold by Otsu's method, label connected components; touching nuclei stay one."""

    def __init__(self, config: OtsuConfig | None = None) -> None:
        self.config = config or OtsuConfig()

    def segment(self, planes: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.int32]:
        """(c, y, x) -> labels (y, x) int32, numbered 1..n; `InvalidDataError` for no or no finite pixels."""
        from scipy import ndimage

        plane = np.asarray(planes[self._index(meta)], dtype=np.float32)
        if not plane.size or not np.isfinite(plane).all():
            what = "no pixels" if not plane.size else "pixels that are not finite"
            raise InvalidDataError(f"a frame with {what}", where="planes", mend="leave the frame out, or fill it")
        if self.config.sigma_px:
            plane = ndimage.gaussian_filter(plane, self.config.sigma_px)
        labels, count = ndimage.label(plane > _otsu(plane))
        area = np.bincount(labels.ravel(), minlength=count + 1)
        kept = area >= self.config.min_area_px
        kept[0] = False
        return (np.cumsum(kept) * kept)[labels].astype(np.int32)

    def _index(self, meta: ImageMeta) -> int:
        wanted, there = self.config.channel, meta.channels
        if wanted is None:
            return there.index("Cy5") if "Cy5" in there else 0
        if wanted not in there:
            raise DesignError(f"there is no channel {wanted!r}", mend=f"channels given: {', '.join(there)}")
        return there.index(wanted)


def _otsu(plane: npt.NDArray) -> float:
    """Otsu's threshold over 256 bins; above everything for a constant plane."""
    low, high = float(plane.min()), float(plane.max())
    if high <= low:
        return high
    counts, edges = np.histogram(plane, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    mean_above = (np.cumsum((counts * centres)[::-1]) / np.maximum(np.cumsum(counts[::-1]), 1))[::-1]
    between = below[:-1] * above[1:].astype(float) * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[np.argmax(between)])
