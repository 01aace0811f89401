"""Denoising controls: nothing, a Gaussian, a median."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta
from hyped_core.params import Params


class Identity:
    """Returns the noisy stack: what doing nothing scores."""

    def denoise(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.float32]:
        """The stack as float32."""
        return np.asarray(stack, dtype=np.float32).copy()


class GaussianConfig(Params):
    """Width of the blur."""

    sigma_px: float = Field(1.0, gt=0)
    """Standard deviation in pixels."""


class Gaussian:
    """Blurs each plane with a Gaussian."""

    def __init__(self, config: GaussianConfig | None = None) -> None:
        self.config = config or GaussianConfig()

    def denoise(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.float32]:
        """(t, y, x) -> the same, float32."""
        from scipy.ndimage import gaussian_filter

        sigma = self.config.sigma_px
        return gaussian_filter(np.asarray(stack, dtype=np.float32), (0, sigma, sigma), mode="reflect")


class MedianConfig(Params):
    """Size of the window."""

    size_px: int = Field(3, ge=1)
    """Edge of the square window in pixels."""


class Median:
    """Replaces each pixel by the median of its neighbourhood."""

    def __init__(self, config: MedianConfig | None = None) -> None:
        self.config = config or MedianConfig()

    def denoise(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.float32]:
        """(t, y, x) -> the same, float32."""
        from scipy.ndimage import median_filter

        size = self.config.size_px
        return median_filter(np.asarray(stack, dtype=np.float32), (1, size, size), mode="reflect")
