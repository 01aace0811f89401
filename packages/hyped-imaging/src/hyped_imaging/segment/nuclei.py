"""The segmenter ``nuclei`` (ours, default): nuclei of any brightness on the nuclear channel, touching ones
split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_core.params import Params
from hyped_imaging.segment.background import background_map, noise_of
from hyped_imaging.segment.planes import select_planes
from hyped_imaging.segment.regions import merge_convex, merge_shallow, outline_regions

if TYPE_CHECKING:
    from hyped_core.context import RunContext
    from hyped_core.contracts import ImageMeta
    from hyped_core.design import Design

FloatImage = npt.NDArray[np.float32]
LabelImage = npt.NDArray[np.int32]


class NucleiConfig(Params):
    """Sizes in micrometres (or pixels, where ``diameter_px`` is given), thresholds in units of the noise."""

    channels: tuple[str, ...] = Field(("Cy5",), min_length=1)
    """The nuclear channel; several are summed after each is divided by its noise."""
    diameter_um: float = Field(18.0, gt=0)
    """Diameter of a typical nucleus."""
    diameter_px: float | None = Field(None, gt=2)
    """The same in pixels; wins over ``diameter_um`` (for movies without a pixel size)."""
    smooth: float = Field(0.05, ge=0)
    """Gaussian before thresholding, in diameters."""
    sensitivity: float = Field(5.0, gt=0)
    """How many times the noise a nucleus' pixels lie above the background."""
    outline: float = Field(0.45, gt=0, lt=1)
    """Where the edge of a nucleus lies, as a share of its own brightness: dim ones keep their size."""
    blob: float = Field(0.18, gt=0)
    """Scale of the blob filter that finds nuclei's centres, in diameters."""
    split: float = Field(0.75, gt=0, le=1)
    """Neighbours are one nucleus where the blob filter's saddle between them exceeds this share of the
    lower peak."""
    solidity: float = Field(0.93, gt=0, le=1)
    """Neighbours are one nucleus where they fill this share of their joint convex hull, and are alike:"""
    dip: float = Field(0.85, ge=0, le=1)
    """... the pass between them has at least this share of the dimmer one's brightness,"""
    contrast: float = Field(0.7, ge=0, le=1)
    """... and the dimmer has at least this share of the brighter one's."""
    max_area: float = Field(3.0, gt=0)
    """Largest nucleus that joining may make, in typical areas."""
    min_area: float = Field(0.12, ge=0)
    """Smallest nucleus, as a share of the typical area."""

    @classmethod
    def for_design(cls, values: dict[str, Any], design: Design) -> dict[str, Any]:
        """``values`` with the design's nuclear channel (else its reporters) where no ``channels`` are
        named."""
        nuclear = design.nuclear_channel()
        names = [nuclear] if nuclear else [c.name for c in design.channels if c.role == "reporter"]
        return {"channels": names, **values} if names else values


class NucleiSegmenter:
    """Background off, everything above the noise, blobs split by a watershed, each outlined at its own
    level."""

    def __init__(self, config: NucleiConfig | None = None) -> None:
        self.config = config or NucleiConfig()

    def segment(self, planes: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.int32]:
        """(c, y, x) -> labels (y, x) int32, 0 is background, labels from 1 by position.

        Raises
        ------
        DesignError, InvalidDataError
            A channel is missing; NaN.
        """
        config = self.config
        chosen = select_planes(planes, meta, config.channels)
        diameter = config.diameter_px or max(4.0, config.diameter_um / meta.pixel_size_um)
        signal = np.zeros(chosen.shape[1:], np.float32)
        for plane in chosen:
            signal += in_noise_units(plane, diameter, config.smooth * diameter)
        return split_blobs(signal, diameter, config)


def in_noise_units(plane: FloatImage, diameter: float, sigma: float) -> FloatImage:
    """Smoothed plane minus its background, divided by the noise left after smoothing; zeros where
    constant."""
    import cv2

    smooth = cv2.GaussianBlur(plane, (0, 0), max(sigma, 0.3), borderType=cv2.BORDER_REFLECT)
    foreground = np.zeros(plane.shape, dtype=bool)
    block = max(8, round(2 * diameter))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(diameter / 6) + 1,) * 2)
    residual, noise = smooth, 0.0
    for _ in range(3):
        residual = smooth - background_map(smooth, foreground, block)
        middle, noise = noise_of(residual[~foreground])
        above = (residual > middle + 4 * noise).astype(np.uint8)
        above = cv2.morphologyEx(above, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        foreground = cv2.dilate(above, kernel).astype(bool)
        if foreground.mean() > 0.95:
            break
    if noise <= 0:
        spread = float(residual.max() - residual.min())
        if spread <= 0:
            return np.zeros(plane.shape, np.float32)
        noise = spread / 100
    return (residual / noise).astype(np.float32)


def blob_filter(signal: FloatImage, sigma: float) -> FloatImage:
    """Minus the scale-normalised Laplacian of the Gaussian of ln(1 + signal): positive on bright blobs."""
    import cv2

    compressed = np.log1p(np.maximum(signal, 0))
    smooth = cv2.GaussianBlur(compressed, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return -(sigma**2) * cv2.Laplacian(smooth, cv2.CV_32F, ksize=3, borderType=cv2.BORDER_REFLECT)


def split_blobs(signal: FloatImage, diameter: float, config: NucleiConfig) -> LabelImage:
    """Labels of the nuclei in a plane given in units of its noise."""
    import cv2
    from skimage.segmentation import watershed

    mask = signal > config.sensitivity
    min_area = config.min_area * np.pi * diameter**2 / 4
    response = blob_filter(signal / config.sensitivity, config.blob * diameter)
    reach = 2 * max(1, round(config.blob * diameter / 2)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    peak = (response >= cv2.dilate(response, kernel)) & mask & (response > 0)
    count, seeds = cv2.connectedComponents(peak.astype(np.uint8), connectivity=8)
    if count <= 1:
        return np.zeros(signal.shape, np.int32)
    basins = watershed(-response, seeds, mask=mask).astype(np.int32)
    basins = merge_shallow(basins, response, config.split)
    outlined = outline_regions(basins, signal, config.outline, 0, renumber=False)
    basins = merge_convex(
        basins,
        outlined,
        signal,
        solidity=config.solidity,
        dip=config.dip,
        contrast=config.contrast,
        max_area=config.max_area * np.pi * diameter**2 / 4,
    )
    return outline_regions(basins, signal, config.outline, min_area)
