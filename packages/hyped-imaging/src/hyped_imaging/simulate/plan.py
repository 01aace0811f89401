"""What a simulated dataset will be: scenes, times, tiles and light, known before anything is simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.errors import DesignError, InvalidDataError
from hyped_imaging.simulate.camera import illumination, tile_layout
from hyped_imaging.simulate.params import SimulateParams
from hyped_imaging.simulate.scene import PAD_PX, frame_times

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.design import Design

_PAUSE_S = 2.0
"""Seconds the stage takes from one scene to the next."""


@dataclass(frozen=True)
class Plan:
    """What is to be made: everything that follows from design, parameters and seed without simulating."""

    design: Design
    params: SimulateParams
    seed: int
    scenes: tuple[str, ...]

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the design's channels."""
        return tuple(channel.name for channel in self.design.channels)

    @property
    def n_tiles(self) -> int:
        """Tiles a scene."""
        return self.params.mosaic.rows * self.params.mosaic.columns

    @property
    def streams(self) -> bool:
        """True where tiles go from memory into the file, False where scenes are made side by side."""
        return self.params.workers == 1 or self.params.scale == "full" or len(self.scenes) == 1

    def scene_s(self) -> float:
        """Seconds a frame of one scene takes."""
        timing = self.params.timing
        return self.n_tiles * (timing.tile_s + len(self.channels) * timing.channel_s) + _PAUSE_S

    def times_h(self, scene: str) -> npt.NDArray[np.float64]:
        """Hours of the frames of ``scene``: when its first tile's first channel was taken."""
        return frame_times(self.design, self.params) + self.scenes.index(scene) * self.scene_s() / 3600

    def layout(self, scene: str) -> npt.NDArray[np.int64]:
        """The scene's tiles: row, column, nominal x, y, true x, y (pixels of the stitched frame)."""
        number = [item.name for item in self.design.scenes].index(scene)
        return tile_layout(self.params.mosaic, np.random.default_rng([self.seed, 3, number]))

    def layouts(self) -> pd.DataFrame:
        """The tiles of all scenes: ``scene, tile, row, col`` and ``nominal_`` and ``true_x_px, _y_px``."""
        import pandas as pd

        names = ["row", "col", "nominal_x_px", "nominal_y_px", "true_x_px", "true_y_px"]
        tables = []
        for scene in self.scenes:
            table = pd.DataFrame(self.layout(scene), columns=names)
            table.insert(0, "tile", np.arange(len(table)))
            table.insert(0, "scene", scene)
            tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def light(self) -> npt.NDArray[np.float32]:
        """Uneven illumination (c, y, x) of a tile, the same for all tiles."""
        rng = np.random.default_rng([self.seed, 2])
        return illumination(self.params.mosaic, self.params.optics, len(self.channels), rng)

    def estimate(self) -> dict[str, float]:
        """Rough size and time of the result: bytes on disk and seconds."""
        height, width = self.params.mosaic.canvas
        frames = frame_times(self.design, self.params).size * len(self.scenes)
        tile = self.params.mosaic.tile_height_px * self.params.mosaic.tile_width_px
        workers = 1 if self.streams else self.params.workers
        pixels = frames * len(self.channels) * self.n_tiles * tile
        return {
            "scenes": len(self.scenes),
            "frames_per_scene": frames // max(len(self.scenes), 1),
            "height_px": height,
            "width_px": width,
            "raw_bytes": int(1.1 * pixels),
            "truth_bytes": int(frames * height * width * (len(self.channels) * 0.9 + 0.1)),
            "temporary_bytes": 0 if self.streams else 2 * pixels,
            "seconds": round(4 + (0.02 * frames + 3.5e-8 * pixels) / workers),
        }


def plan(design: Design, params: SimulateParams, seed: int) -> Plan:
    """Check that the parameters fit the design and fill in the presets.

    Raises
    ------
    DesignError
        The design has no scenes, no channels, or not the scenes that were asked for.
    InvalidDataError
        Tiles do not overlap, or no frame lies in the timeline.
    """
    params = params.resolved()
    if not design.scenes or not design.channels:
        raise DesignError("has no scenes or no channels to image", where=f"design {design.name!r}")
    scenes = params.scenes or tuple(scene.name for scene in design.scenes)
    for name in scenes:
        design.scene(name)
    mosaic = params.mosaic
    if mosaic.step_y_px > mosaic.tile_height_px or mosaic.step_x_px > mosaic.tile_width_px:
        raise InvalidDataError(
            "neighbouring tiles do not meet", where="mosaic/step_y_px", mend="make the steps smaller"
        )
    if mosaic.jitter_px > PAD_PX:
        raise InvalidDataError(f"is more than {PAD_PX}", where="mosaic/jitter_px", mend="make it smaller")
    if not frame_times(design, params).size:
        raise InvalidDataError("no frame lies in the timeline", where="timing", mend="see gap_at_h and gap_h")
    return Plan(design, params, seed, scenes)
