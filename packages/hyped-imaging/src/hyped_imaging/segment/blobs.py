"""The recipe ``nuclei`` of the segmenter ``fast``: background off, blobs found and split, each outlined at its own
level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_core.params import Params
from hyped_imaging.segment.background import background_map, noise_of

FloatImage = npt.NDArray[np.float32]
LabelImage = npt.NDArray[np.int32]

ENOUGH = 500_000
"""So many pixels settle a median; of more, every so manieth is taken."""


EDGE = 0.1
"""Half the width of a nucleus' edge, in diameters."""


class BlobConfig(Params):
    """Sizes in micrometres (or pixels, where ``diameter_px`` is given), thresholds in units of the noise.

    The defaults were chosen on simulated nuclei of both difficulties, and checked on public movies.
    """

    diameter_um: float = Field(18.0, gt=0)
    """Diameter of a typical nucleus."""
    diameter_px: float | None = Field(None, gt=2)
    """The same in pixels; wins over ``diameter_um`` (for movies without a pixel size)."""
    smooth: float = Field(0.05, ge=0)
    """Gaussian before thresholding, in diameters."""
    sensitivity: float = Field(5.0, gt=0)
    """How many times the noise a nucleus' pixels lie above the background."""
    floor: float = Field(0.08, ge=0, lt=1)
    """... and the least share of the frame's nuclei's brightness that they lie above it, however little noise there is:
    else haze and dust would count as nuclei in a frame with hardly any, as in a denoised one."""
    outline: float = Field(0.45, gt=0, lt=1)
    """Where the edge of a nucleus lies, as a share of its own brightness: dim ones keep their size."""
    blob: float = Field(0.18, gt=0)
    """Scale of the blob filter that finds nuclei's centres, in diameters."""
    split: float = Field(0.75, gt=0, le=1)
    """Neighbours are one nucleus where the blob filter's saddle between them exceeds this share of the
    lower peak."""
    solidity: float = Field(0.9, gt=0, le=1)
    """Neighbours are one nucleus where they fill this share of their joint convex hull,"""
    neck: float = Field(0.6, ge=0)
    """... their border is at least this long, in diameters of the smaller one,"""
    dip: float = Field(0.55, ge=0, le=1)
    """... the line between their centres nowhere dips, beyond the noise, below this share of the lower peak on it
    (0.92 for nuclei without texture),"""
    contrast: float = Field(0.6, ge=0, le=1)
    """... and the dimmer has at least this share of the brighter one's."""
    max_area: float = Field(3.0, gt=0)
    """Largest nucleus that joining may make, in typical areas."""
    min_area: float = Field(0.12, ge=0)
    """Smallest nucleus, as a share of the typical area."""
    min_brightness: float = Field(0.0, ge=0)
    """Dimmest nucleus that is kept, as a share of the median nucleus of the frame: above 0 leaves out those out of
    focus, or without the reporter."""
    max_brightness: float | None = Field(None, gt=0)
    """Brightest nucleus that is kept, as a multiple of the median one: leaves out dead and condensed ones."""
    min_sharpness: float | None = None
    """Least fall of the signal across the outline, over a fifth of a diameter, as a share of the nucleus' brightness:
    leaves out those out of focus, and the halos of very bright bodies."""


def segment_blobs(planes: FloatImage, pixel_size_um: float, config: BlobConfig) -> LabelImage:
    """Labels (y, x) of the nuclei in the sum of ``planes`` (c, y, x), each in units of its noise."""
    diameter = config.diameter_px or max(4.0, config.diameter_um / pixel_size_um)
    signal = in_noise_units(planes[0], diameter, config.smooth * diameter)
    for plane in planes[1:]:
        signal += in_noise_units(plane, diameter, config.smooth * diameter)
    least = config.floor * typical_brightness(signal, max(1, int(diameter / 9)))
    if least > config.sensitivity:  # as if there were more noise: what counts in units of noise counts alike
        signal *= np.float32(config.sensitivity / least)
    return split_blobs(signal, diameter, config)


def typical_brightness(signal: FloatImage, step: int = 1) -> float:
    """Median of what lies above Otsu's threshold of the square root of ``signal``, at every ``step``-th pixel; 0 where
    nothing is above 0."""
    from skimage.filters import threshold_otsu

    roots = np.sqrt(np.maximum(signal[::step, ::step], 0))
    roots = roots[roots > 0]
    if not roots.size or roots.min() == roots.max():
        return 0.0
    return float(np.median(roots[roots > threshold_otsu(roots)])) ** 2


def in_noise_units(plane: FloatImage, diameter: float, sigma: float) -> FloatImage:
    """Smoothed plane minus its background, divided by the noise left after smoothing; zeros where
    constant.

    Background and noise are those of every so manieth row and column, nine to a diameter.
    """
    import cv2

    smooth = cv2.GaussianBlur(plane, (0, 0), max(sigma, 0.3), borderType=cv2.BORDER_REFLECT)
    step = max(1, int(diameter / 9))
    coarse = np.ascontiguousarray(smooth[::step, ::step])
    foreground = np.zeros(coarse.shape, dtype=bool)
    block = max(8, round(2 * diameter / step))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(diameter / step / 6) + 1,) * 2)
    background, noise = coarse, 0.0
    for _ in range(3):
        background = background_map(coarse, foreground, block)
        residual = coarse - background
        free = residual[~foreground]
        middle, noise = noise_of(free[:: 1 + free.size // ENOUGH])
        above = (residual > middle + 4 * noise).astype(np.uint8)
        above = cv2.morphologyEx(above, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        foreground = cv2.dilate(above, kernel).astype(bool)
        if foreground.mean() > 0.95:
            break
    if step > 1:
        background = cv2.resize(background, plane.shape[::-1], interpolation=cv2.INTER_LINEAR)
    residual = cv2.subtract(smooth, background, dst=smooth)
    if noise <= 0:
        spread = float(residual.max() - residual.min())
        if spread <= 0:
            return np.zeros(plane.shape, np.float32)
        noise = spread / 100
    return cv2.multiply(residual, 1 / noise, dst=residual)


def blob_filter(signal: FloatImage, sigma: float) -> FloatImage:
    """Minus the scale-normalised Laplacian of the Gaussian of ln(1 + signal): positive on bright blobs."""
    import cv2

    compressed = cv2.log(cv2.max(signal, 0.0) + np.float32(1))
    smooth = cv2.GaussianBlur(compressed, (0, 0), sigma, borderType=cv2.BORDER_REFLECT, dst=compressed)
    return cv2.Laplacian(smooth, cv2.CV_32F, ksize=3, scale=-(sigma**2), borderType=cv2.BORDER_REFLECT)


def split_blobs(signal: FloatImage, diameter: float, config: BlobConfig) -> LabelImage:
    """Labels of the nuclei in a plane given in units of its noise."""
    from hyped_imaging.segment.kernels.flooding import watershed
    from hyped_imaging.segment.kernels_blobs import find_peaks
    from hyped_imaging.segment.regions import keep_brightness, keep_sharp, merge_convex, merge_shallow, outline_regions

    mask = signal > config.sensitivity
    if not mask.any():
        return np.zeros(signal.shape, np.int32)
    typical_area = np.pi * diameter**2 / 4
    response = blob_filter(signal / np.float32(config.sensitivity), config.blob * diameter)
    seeds = find_peaks(response, mask.view(np.uint8), max(1, round(config.blob * diameter / 2)))
    if not seeds.any():
        return np.zeros(signal.shape, np.int32)
    basins = watershed(-response, seeds, mask)
    basins = merge_shallow(basins, response, config.split)
    outlined = outline_regions(basins, signal, config.outline, 0, renumber=False)
    basins = merge_convex(
        basins,
        outlined,
        signal,
        solidity=config.solidity,
        neck=config.neck,
        dip=config.dip,
        contrast=config.contrast,
        max_area=config.max_area * typical_area,
    )
    labels = outline_regions(basins, signal, config.outline, config.min_area * typical_area)
    sharp = labels
    if config.min_sharpness is not None:
        sharp = keep_sharp(labels, signal, config.min_sharpness, max(1, round(EDGE * diameter)))
    return keep_brightness(sharp, signal, config.min_brightness, config.max_brightness)
