"""The denoising control ``tv``: total variation by Chambolle's projection, with the weight taken from the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_bench.controls.denoise_noise import fit_noise
from hyped_core.params import Params
from hyped_core.stacks import check_stack

if TYPE_CHECKING:
    from hyped_core.context import RunContext
    from hyped_core.contracts import ImageMeta


class TotalVariationConfig(Params):
    """How strongly, and how long."""

    strength: float = Field(1.6, gt=0)
    """Weight of the total variation in units of the noise's standard deviation. Chosen among 1.2, 1.4, 1.6, 1.8 and 2.1
    on six public fields of three microscopes (Fluorescence Microscopy Denoising, Zhang et al. 2019), a field being the
    unit; leaving any one field out the same value is best (mean 34.4 dB either way;
    `benchmarks/calibrate_denoise_others.py`)."""
    max_iterations: int = Field(200, ge=1)
    """Iterations at most."""
    tolerance: float = Field(5e-5, gt=0)
    """Relative change of the energy at which to stop; stopping here is part of what ``strength`` was chosen for."""


class TotalVariation:
    """Denoises plane by plane; nothing is learned."""

    def __init__(self, config: TotalVariationConfig | None = None) -> None:
        self.config = config or TotalVariationConfig()

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
        from skimage.restoration import denoise_tv_chambolle

        sigma = float(np.sqrt(fit_noise(plane).variance))
        if sigma <= 0:
            return plane
        # in units of the noise: the weight is the strength, whatever the camera's units
        smooth = denoise_tv_chambolle(
            plane / sigma,
            weight=self.config.strength,
            eps=self.config.tolerance,
            max_num_iter=self.config.max_iterations,
        )
        return (smooth * sigma).astype(np.float32)
