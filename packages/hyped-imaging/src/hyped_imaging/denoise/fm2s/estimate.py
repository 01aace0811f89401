"""Constants of FM2S from an image: what its own noise says of filter, scale and strengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hyped_imaging.denoise.fm2s.constants import LEVEL_LIMITS, Constants
from hyped_imaging.denoise.physics import NoisePhysics

WHITE_PX, CORRELATED_PX = 3, 11
"""Median filters for noise that is independent in neighbouring pixels, and for noise that is not (the published
ones of confocal and two-photon, and of wide-field images)."""
BRIGHT = 99.9
"""Percentile of the filtered image that becomes 1."""
MOST_PHOTONS = 1e6
"""Photons at intensity 1 beyond which Poisson noise is not told from none."""
EXCESS = 1.25
"""Made noise has this many times the measured variance: the target still holds a part of the image's own noise,
which must be small beside it. Chosen on six fields of real microscopes, where 1.05 to 2 do within 0.2 dB alike
(`benchmarks/calibrate_denoise_others.py`)."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Camera units to the network's: ``(image - zero) / unit``, noise clipped to ``limits`` (the camera's black and
    white as seen, in the network's units)."""

    zero: float
    unit: float
    limits: tuple[float, float]

    def apply(self, plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Into the network's units."""
        return (plane - np.float32(self.zero)) / np.float32(self.unit)

    def undo(self, plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Back into camera units."""
        return plane * np.float32(self.unit) + np.float32(self.zero)


def scale_of(
    images: Sequence[npt.NDArray[np.float32]], targets: Sequence[npt.NDArray[np.float32]], noise: NoisePhysics
) -> Scaling:
    """Zero where the noise says that no light falls, 1 near the brightest of the filtered images.

    Works alike for 8 bits and for a camera of 14 bits with an offset that uses a hundredth of its range.
    """
    low = min(float(image.min()) for image in images)
    high = max(float(image.max()) for image in images)
    dark = min(float(np.percentile(target, 5)) for target in targets)
    bright = max(float(np.percentile(target, BRIGHT)) for target in targets)
    zero = min(float(target.min()) for target in targets)
    if noise.gain > 0:
        zero = min(max(-noise.offset / noise.gain, low), dark)
    unit = bright - zero if bright > zero else high - low
    return Scaling(zero, unit, ((low - zero) / unit, (high - zero) / unit))


def estimate_constants(
    targets: Sequence[npt.NDArray[np.float32]], noise: NoisePhysics, given: Mapping[str, float | int]
) -> Constants:
    """Constants whose noise is `EXCESS` times that of the image; what is ``given`` wins.

    Shot noise as measured over the whole image, as much again by blocks; noise that does not grow with the signal
    in the Gaussian part. One channel: on real images more than one gained nothing.

    Parameters
    ----------
    targets
        Filtered images in the network's units.
    noise
        In the network's units.
    """
    constants = Constants(CORRELATED_PX if noise.correlated else WHITE_PX, 1, 75, 0.0, MOST_PHOTONS, MOST_PHOTONS)
    typical = float(np.clip(np.mean([target.mean() for target in targets]), 0.01, LEVEL_LIMITS[1]))
    if noise.gain > 0:
        photons = 1 / noise.gain
        constants = replace(
            constants,
            k_p=min(typical * photons / (EXCESS - 1), MOST_PHOTONS),
            lambda_p=min(photons, MOST_PHOTONS),
        )
    constants = replace(constants, k_g=255 * float(np.sqrt(EXCESS * max(noise.offset, 0.0))) / typical)
    return replace(constants, **given)
