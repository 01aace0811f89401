"""Denoising controls: nothing, a Gaussian whose width follows a stated rule, a median."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_bench.controls.denoise_noise import NoiseModel, fit_noise
from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta
from hyped_core.params import Params
from hyped_core.stacks import check_stack

GRID_PX = (0.0, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4, 2.8, 3.4, 4.0)
"""Widths to choose from, each about a fifth wider than the one before; 0 leaves the plane as it is."""


class Identity:
    """Returns the noisy stack: what doing nothing scores."""

    def denoise(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.float32]:
        """The stack as float32."""
        return check_stack(stack, where="identity").copy()


class GaussianConfig(Params):
    """Width of the blur."""

    sigma_px: float | None = Field(None, gt=0)
    """Standard deviation in pixels; where None each plane gets the one of `GRID_PX` with the least estimated error (see
    `estimated_errors`)."""


class Gaussian:
    """Blurs each plane with a Gaussian; ``chosen`` tells the widths of the last call, one a plane."""

    def __init__(self, config: GaussianConfig | None = None) -> None:
        self.config = config or GaussianConfig()
        self.chosen: dict[str, tuple[float, ...]] = {}

    def denoise(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.float32]:
        """(t, y, x) -> the same, float32.

        Raises
        ------
        InvalidDataError
            Not (t, y, x), or pixels that are NaN or infinite.
        """
        planes = check_stack(stack)
        blurred = [self._blurred(plane) for plane in planes]
        self.chosen = {"sigma_px": tuple(sigma for _, sigma in blurred)}
        return np.stack([plane for plane, _ in blurred])

    def _blurred(self, plane: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], float]:
        if self.config.sigma_px is not None:
            return blur(plane, self.config.sigma_px), self.config.sigma_px
        noise = fit_noise(plane)
        if noise.variance <= 0:
            return plane, 0.0
        blurs = {sigma: blur(plane, sigma) for sigma in GRID_PX}
        errors = estimated_errors(plane, blurs, noise)
        sigma = min(errors, key=errors.__getitem__)
        return blurs[sigma], sigma


def blur(plane: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """A Gaussian of ``sigma`` pixels, cut at four sigma, mirrored at the edges; the plane itself for 0."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(plane, sigma, mode="reflect") if sigma > 0 else plane


def estimated_errors(
    plane: npt.NDArray[np.float32], blurs: dict[float, npt.NDArray[np.float32]], noise: NoiseModel
) -> dict[float, float]:
    """Stein's unbiased estimate of each blur's mean square error, from the noisy plane alone.

    mean((Gx - x)^2) - v + 2 sum_d g(d) c(d), with v the noise's variance, c its covariance at a distance and g the
    kernel: for white noise the sum is v g(0). (Stein 1981; holds for any linear filter and for noise of any law.)
    """
    errors = {}
    for sigma, blurred in blurs.items():
        reach = int(4 * sigma + 0.5)
        at = np.arange(-reach, reach + 1)
        kernel = np.exp(-0.5 * (at / sigma) ** 2) if sigma > 0 else np.ones(1)
        alike = np.where(at == 0, 1.0, noise.correlation ** np.abs(at))
        shared = float((kernel / kernel.sum() * alike).sum()) ** 2
        moved = float(np.mean((blurred - plane) ** 2, dtype=np.float64))
        errors[sigma] = moved - noise.variance + 2 * noise.variance * shared
    return errors


class MedianConfig(Params):
    """Size of the window."""

    size_px: int = Field(3, ge=1)
    """Edge of the square window in pixels."""


class Median:
    """Replaces each pixel by the median of its neighbourhood."""

    def __init__(self, config: MedianConfig | None = None) -> None:
        self.config = config or MedianConfig()

    def denoise(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.float32]:
        """(t, y, x) -> the same, float32.

        Raises
        ------
        InvalidDataError
            Not (t, y, x), or pixels that are NaN or infinite.
        """
        from scipy.ndimage import median_filter

        size = self.config.size_px
        return median_filter(check_stack(stack), (1, size, size), mode="reflect")
