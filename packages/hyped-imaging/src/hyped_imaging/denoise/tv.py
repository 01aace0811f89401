"""The denoiser ``tv``: total variation by Chambolle's projection, with the weight taken from the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_core.params import Params
from hyped_imaging.denoise.noise import check_stack, noise_sigma

if TYPE_CHECKING:
    from hyped_core.context import RunContext
    from hyped_core.contracts import ImageMeta


class TotalVariationConfig(Params):
    """How strongly, and how long."""

    strength: float = Field(2.2, gt=0)
    """Weight of the total variation in units of the noise's standard deviation."""
    min_weight: float = Field(0.04, ge=0)
    """Least weight, as a share of the plane's span (0.1 to 99.9 percentile)."""
    max_iterations: int = Field(100, ge=1)
    """Iterations at most."""
    tolerance: float = Field(2e-4, gt=0)
    """Relative change of the energy at which to stop."""


class TotalVariation:
    """Denoises plane by plane; nothing is learned."""

    def __init__(self, config: TotalVariationConfig | None = None) -> None:
        self.config = config or TotalVariationConfig()

    def denoise(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.float32]:
        """(t, y, x) in camera units -> the same shape, float32.

        Raises
        ------
        InvalidDataError
            Not (t, y, x), or NaN.
        """
        planes = check_stack(stack)
        return np.stack([self._plane(plane) for plane in planes])

    def _plane(self, plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        from skimage.restoration import denoise_tv_chambolle

        low, high = np.percentile(plane, [0.1, 99.9])
        span = float(high - low) or float(np.ptp(plane))
        if span <= 0:
            return plane.copy()
        unit = (plane - low) / span
        weight = max(self.config.strength * noise_sigma(plane) / span, self.config.min_weight)
        smooth = denoise_tv_chambolle(
            unit, weight=weight, eps=self.config.tolerance, max_num_iter=self.config.max_iterations
        )
        return (smooth * span + low).astype(np.float32)
