"""The denoising control ``nlm``: generalised Anscombe map, non-local means, and the map back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_bench.controls.denoise_noise import NoiseModel, fit_noise
from hyped_core.params import Params
from hyped_core.stacks import check_stack

if TYPE_CHECKING:
    from hyped_core.context import RunContext
    from hyped_core.contracts import ImageMeta


class NonLocalMeansConfig(Params):
    """Patches and how alike they have to be."""

    patch_px: int = Field(5, ge=3)
    """Side of the patches that are compared."""
    search_px: int = Field(6, ge=1)
    """How far apart compared patches may lie."""
    strength: float = Field(1.0, gt=0)
    """Patches within this many standard deviations of the noise are averaged. Chosen among 0.6, 0.8, 0.9, 1 and 1.3
    on the same six fields as `hyped_bench.controls.denoise_tv` (34.0 dB; by the best of the others: 33.9;
    `benchmarks/calibrate_denoise_others.py`)."""


class NonLocalMeans:
    """Denoises plane by plane; the noise model is fitted to each plane."""

    def __init__(self, config: NonLocalMeansConfig | None = None) -> None:
        self.config = config or NonLocalMeansConfig()

    def denoise(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.float32]:
        """(t, y, x) in camera units -> the same shape, float32.

        Raises
        ------
        InvalidDataError
            Not (t, y, x), or pixels that are NaN or infinite.
        """
        planes = check_stack(stack)
        return np.stack([self._plane(plane) for plane in planes])

    def _plane(self, plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        from skimage.restoration import denoise_nl_means

        if np.ptp(plane) <= 0 or min(plane.shape) < self.config.patch_px:
            return plane
        noise = fit_noise(plane)
        stable = stabilise(plane, noise)
        sigma = float(np.sqrt(fit_noise(stable.astype(np.float32)).variance))
        if sigma <= 0:
            return plane
        smooth = denoise_nl_means(
            stable,
            patch_size=self.config.patch_px,
            patch_distance=self.config.search_px,
            h=self.config.strength * sigma,
            sigma=sigma,
            fast_mode=True,
        )
        # an average of pixels lies between them; the inverse, unbiased for noise, may not
        return np.clip(unstabilise(smooth, noise), plane.min(), plane.max()).astype(np.float32)


def stabilise(plane: npt.NDArray, noise: NoiseModel) -> npt.NDArray[np.float64]:
    """The map under which noise of variance a x + b has unit variance: 2 / a sqrt(a x + 3/8 a^2 + b).

    Affine where the variance does not grow with the signal. (Starck, Murtagh and Bijaoui 1998.)
    """
    values = np.asarray(plane, dtype=np.float64)
    a, b = noise.gain, noise.offset
    if a <= 0:
        return values / np.sqrt(b) if b > 0 else values
    return 2 / a * np.sqrt(np.maximum(a * values + 0.375 * a**2 + b, 0))


def unstabilise(values: npt.NDArray, noise: NoiseModel) -> npt.NDArray[np.float64]:
    """The way back, with the closed-form approximation of the exact unbiased inverse (Makitalo and Foi
    2013)."""
    a, b = noise.gain, noise.offset
    if a <= 0:
        return values * np.sqrt(b) if b > 0 else values
    d = np.maximum(values, 0.5)
    root = np.sqrt(1.5)
    counts = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8
    return a * counts - b / a
