"""The tiles of a scene's frames as the stitching steps want them: Z projected, tiles and frames that
cannot be read set aside."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hyped_core.errors import CorruptFileError
from hyped_imaging.readers.czi import CziFile
from hyped_imaging.stitch.params import StitchParams
from hyped_imaging.stitch.plan import ScenePlan

Tiles = list[npt.NDArray | None]

_KEEP_BYTES = 96 * 2**20
"""Frames of small scenes are read once, though illumination, layout and fusion all need them."""


class TileSource:
    """Tiles of the scene's frames with Z projected: (c, y, x), the camera's dtype (float32 for a mean)."""

    def __init__(self, czi: CziFile, plan: ScenePlan, params: StitchParams, *, keep: bool = True) -> None:
        self.czi, self.plan, self.params = czi, plan, params
        self._kept: dict[int, Tiles] = {}
        self._room = _KEEP_BYTES if keep else 0

    def tiles(self, frame: int) -> Tiles:
        """Projected tiles of one frame, None where one is missing or damaged; the first frames asked for are kept.

        Raises
        ------
        CorruptFileError
            Half of the frame's tiles or more cannot be read.
        """
        if frame in self._kept:
            return self._kept[frame]
        stacks = self.czi.read_tiles(self.plan.scene.index, frame, damaged="skip")
        tiles = [None if stack is None else self._project(stack) for stack in stacks]
        size = sum(stack.nbytes for stack in stacks if stack is not None)
        if size <= self._room:
            self._room -= size
            self._kept[frame] = tiles
        return tiles

    def _project(self, stack: npt.NDArray) -> npt.NDArray:
        kind = self.params.z_projection
        if isinstance(kind, int):
            return stack[:, kind]
        if stack.shape[1] == 1:
            return stack[:, 0]
        return stack.max(axis=1) if kind == "max" else stack.mean(axis=1, dtype=np.float32)

    def sampled(self, count: int) -> Iterator[Tiles]:
        """Tiles of at most ``count`` frames, evenly spread over the scene: the ends first, then between them.

        Frames that cannot be read are passed over; where none can, their error is raised.
        """
        error: CorruptFileError | None = None
        given = 0
        for frame in spread(self.plan.shape[0], count):
            try:
                tiles = self.tiles(frame)
            except CorruptFileError as problem:
                error = problem
                continue
            given += 1
            yield tiles
        if error is not None and not given:
            raise error


def spread(frames: int, count: int) -> list[int]:
    """At most ``count`` of ``frames`` indices, evenly spread, in an order whose every beginning is spread
    too."""
    chosen = sorted(set(np.linspace(0, frames - 1, min(count, frames)).round().astype(int).tolist()))
    bits = max(len(chosen) - 1, 1).bit_length()
    reversed_order = sorted(range(2**bits), key=lambda k: int(f"{k:0{bits}b}"[::-1], 2))
    return [chosen[k] for k in reversed_order if k < len(chosen)]
