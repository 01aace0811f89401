"""The segmenter ``fast`` (default): nuclei of any brightness on the nuclear channel, touching ones split; or, as recipe
``paper``, the partition of the segmenter ``paper`` on compiled kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from hyped_imaging.segment.blobs import BlobConfig, segment_blobs
from hyped_imaging.segment.paper import PaperConfig
from hyped_imaging.segment.planes import select_planes

if TYPE_CHECKING:
    from hyped_core.context import RunContext
    from hyped_core.contracts import ImageMeta
    from hyped_core.design import Design


class FastConfig(BlobConfig, PaperConfig):
    """What to segment and how. ``channels``, the diameter and ``sensitivity`` are what most movies need."""

    recipe: Literal["nuclei", "paper"] = "nuclei"
    """``nuclei``: bright blobs in units of the noise, of any brightness. ``paper``: the paper's six steps, with
    the parameters of the segmenter ``paper`` and its partition."""
    channels: tuple[str, ...] = ()
    """``nuclei``: the nuclear channel; several are summed after each is divided by its noise. ``paper``: the
    channels that are stacked. Where none is named, those that the design gives these roles, else HYPED's own."""

    @classmethod
    def for_design(cls, values: dict[str, Any], design: Design) -> dict[str, Any]:
        """``values`` with the design's channels where none are named: its nuclear channel (else its reporters),
        for recipe ``paper`` its reporters."""
        if values.get("recipe") == "paper":
            return PaperConfig.for_design(values, design)
        nuclear = design.nuclear_channel()
        names = [nuclear] if nuclear else [c.name for c in design.channels if c.role == "reporter"]
        return {"channels": names, **values} if names else values

    @model_validator(mode="after")
    def _of_one_recipe(self) -> FastConfig:
        """A parameter of the other recipe is refused: it would do nothing."""
        mine, other = (PaperConfig, BlobConfig) if self.recipe == "paper" else (BlobConfig, PaperConfig)
        foreign = self.model_fields_set & (set(other.model_fields) - {"channels"})
        idle = sorted(name for name in foreign if getattr(self, name) != type(self).model_fields[name].default)
        if idle:
            usable = ", ".join(name for name in mine.model_fields if name != "channels")
            raise ValueError(f"recipe {self.recipe} has no {', '.join(idle)}; its parameters are {usable}")
        return self

    @property
    def segmented(self) -> tuple[str, ...]:
        """``channels``, or the recipe's own where none are named."""
        own = PaperConfig().channels if self.recipe == "paper" else ("Cy5",)
        return self.channels or own


class FastSegmenter:
    """Background off, everything above the noise, blobs split by a watershed and joined where they make one
    convex body, each outlined at its own level; or the paper's steps."""

    def __init__(self, config: FastConfig | None = None) -> None:
        self.config = config or FastConfig()

    def segment(self, planes: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.int32]:
        """(c, y, x) -> labels (y, x) int32, 0 is background, labels from 1; a constant frame has no nuclei.

        Raises
        ------
        DesignError, InvalidDataError
            A channel is missing; NaN.
        """
        config = self.config
        if config.recipe == "paper":
            from hyped_imaging.segment.partition import paper_partition

            return paper_partition(select_planes(planes, meta, config.segmented, dtype=None), config)
        return segment_blobs(select_planes(planes, meta, config.segmented), meta.pixel_size_um, config)
