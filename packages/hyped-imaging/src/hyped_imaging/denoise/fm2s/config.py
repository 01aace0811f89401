"""What can be set of FM2S. Imports no torch, so that parameters can be checked without it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from hyped_core.params import Params


class Fm2sConfig(Params):
    """How FM2S learns and applies its network. Fields left empty take the mode's own value."""

    mode: Literal["fast", "paper", "series"] = "fast"
    """``fast``: each image learns on its own small crops, constants estimated from the image. ``series``: one
    network for all frames given together. ``paper``: as published, whole images, published constants, 8 bits."""
    microscope: Literal["estimate", "confocal", "two_photon", "wide_field", "base"] = "estimate"
    """Published constants to use; ``estimate`` takes them from the image (not in ``paper``)."""
    average: Literal[1, 2, 4, 8, 16] = 1
    """Exposures averaged into an image: row of the published constants."""
    filter_px: int | None = Field(None, ge=1)
    """Side of the median filter that makes the target, odd. Empty: published or estimated, as all that follow."""
    channels: int | None = Field(None, ge=1, le=16)
    """Identical channels the image is repeated to (lambda)."""
    block_px: int | None = Field(None, ge=1)
    """Side of the blocks of equal noise level."""
    k_g: float | None = Field(None, ge=0)
    """Gaussian noise of a block: standard deviation at a block mean of 1, in units of 1/255."""
    k_p: float | None = Field(None, gt=0)
    """Poisson noise of a block: photons times the block mean."""
    lambda_p: float | None = Field(None, gt=0)
    """Poisson noise of the whole image: photons at intensity 1."""
    crop_px: int | None = Field(None, ge=0)
    """Side of the crops learnt on; 0 is the whole image. 48; in ``paper`` 0."""
    crops: int | None = Field(None, ge=1)
    """Crops in a step. 8; in ``paper`` 1."""
    draws: int | None = Field(None, ge=1)
    """Times that noise is drawn. 80; in ``paper`` 450."""
    steps_per_draw: int | None = Field(None, ge=1)
    """Steps on the same noise. 3; in ``paper`` 5."""
    real_steps: int = Field(5, ge=0)
    """Steps on the noisy image itself before the first draw (``paper``)."""
    learning_rate: float | None = Field(None, gt=0)
    """Of Adam. 0.003, falling to nothing along a cosine; in ``paper`` 0.001, constant."""
    truncate: bool = True
    """In ``paper``: cut results down to whole 8-bit levels, as the original does (half a level too dark)."""
    frames: int = Field(4, ge=1)
    """Frames that ``series`` learns from, spread over those given."""
    attempts: int = Field(3, ge=1)
    """Trainings to try, each with other random numbers and a third of the rate, before the filtered image itself
    is given back. Not in ``paper``."""
    weights: str = ""
    """Folder of saved weights to use; nothing is learnt then."""
    tile_px: int | None = Field(None, ge=16)
    """Side of the tiles the network is applied to: memory, not the result. 128; 2048 on a GPU."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic. ``bf16`` is for a GPU: on a CPU it is refused, and in ``paper``, which is computed as published."""

    @model_validator(mode="after")
    def _consistent(self) -> Fm2sConfig:
        if self.mode == "paper" and self.microscope == "estimate" and not self.weights:
            raise ValueError("paper estimates nothing: name the microscope whose published constants to use")
        if self.mode == "paper" and self.precision != "fp32" and not self.weights:
            raise ValueError("paper is computed in fp32, as published")
        if self.filter_px is not None and self.filter_px % 2 == 0:
            raise ValueError("filter_px must be odd")
        if self.microscope == "base" and self.average != 1:
            raise ValueError("base has constants of single exposures only")
        return self

    def with_defaults(self) -> Fm2sConfig:
        """The same, the mode's own values filled in."""
        paper = self.mode == "paper"
        own = {
            "crop_px": 0 if paper else 48,
            "crops": 1 if paper else 8,
            "draws": 450 if paper else 80,
            "steps_per_draw": 5 if paper else 3,
            "learning_rate": 1e-3 if paper else 3e-3,
        }
        return self.model_copy(update={key: value for key, value in own.items() if getattr(self, key) is None})

    def given_constants(self) -> dict[str, float | int]:
        """The constants that were set."""
        names = ("filter_px", "channels", "block_px", "k_g", "k_p", "lambda_p")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class Fm2sSeriesConfig(Fm2sConfig):
    """The same for a movie: one network for all of its frames."""

    mode: Literal["fast", "paper", "series"] = "series"
    """As in `Fm2sConfig`."""
