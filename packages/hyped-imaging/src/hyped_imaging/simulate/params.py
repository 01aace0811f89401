"""What can be set about the simulated imaging experiment, with the presets ``scale`` and ``difficulty``.

Lengths are micrometres, times hours, intensities camera units, where a name does not say otherwise.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from hyped_core.params import Params
from hyped_core.simulate.params import BiologyParams


class MosaicParams(Params):
    """The tiles of a scene and where the stage really puts them."""

    rows: int = Field(2, ge=1)
    columns: int = Field(2, ge=1)
    tile_height_px: int = Field(138, ge=32)
    tile_width_px: int = Field(138, ge=32)
    step_y_px: int = Field(118, ge=16)
    """Nominal distance of neighbouring rows; the overlap is the tile's height less this."""
    step_x_px: int = Field(118, ge=16)
    jitter_px: int = Field(3, ge=0)
    """Largest distance of a tile's true position from its nominal one, along each axis; fixed for a scene."""
    pixel_size_um: float = Field(1.0, gt=0)

    @property
    def canvas(self) -> tuple[int, int]:
        """(height, width) in pixels of the stitched frame: the bounding box of the nominal tiles."""
        height = (self.rows - 1) * self.step_y_px + self.tile_height_px
        return height, (self.columns - 1) * self.step_x_px + self.tile_width_px


class NucleiParams(Params):
    """Shape, brightness and number of nuclei."""

    founders_per_mm2: float = Field(290.0, gt=0)
    """Nuclei at the first frame."""
    clumped: float = Field(0.35, ge=0, le=1)
    """Share of founders that start beside another one."""
    area_um2: float = Field(190.0, gt=0)
    """Mean area of a nucleus early in G1; it grows by ``growth`` until M."""
    area_cv: float = Field(0.12, ge=0)
    growth: float = Field(0.55, ge=0)
    aspect: float = Field(1.4, ge=1)
    lobes: float = Field(0.06, ge=0, lt=0.3)
    """Amplitude of three-fold deformation, as a share of the radius."""
    brightness_cv: float = Field(0.2, ge=0)
    reporter_cv: float = Field(0.1, ge=0)
    texture: float = Field(0.22, ge=0, lt=1)
    """Amplitude of chromatin texture, as a share of the brightness."""
    dim_share: float = Field(0.077, ge=0, le=1)
    """Share of founders with weak nuclear stain; their daughters have it too."""
    dim_level: float = Field(0.3, gt=0, le=1)
    """Brightness of the dim ones against the others."""
    margin_um: float = Field(24.0, ge=0)
    """Nuclei live in an area larger than the field by this on each side: they enter and leave."""
    min_visible_um2: float = Field(15.0, ge=0)
    """What shows less than this inside the field is not in the truth."""


class MotionParams(Params):
    """Persistent random walk, contacts and division."""

    speed_um_h: float = Field(16.0, ge=0)
    """Root mean square speed."""
    persistence_h: float = Field(1.2, gt=0)
    contact: float = Field(1.03, gt=0)
    """Centres are pushed apart where they are nearer than this times the sum of the radii between them."""
    stiffness: float = Field(0.5, gt=0, le=1)
    adhesion_per_h: float = Field(0.5, ge=0)
    """Rate at which a gap between neighbours closes."""
    reach_um: float = Field(6.0, ge=0)
    """Gaps wider than this are not felt."""
    division_push_um: float = Field(11.0, ge=0)
    """How far each daughter is carried from the mother's place."""
    division_push_h: float = Field(0.15, gt=0)
    """Time constant of that."""
    substeps: int = Field(4, ge=1)
    """Steps of the motion in a frame interval."""


class OpticsParams(Params):
    """Light, blur and camera. Camera units are uint16 with ``bits`` used."""

    blur_px: float = Field(1.0, ge=0)
    """Standard deviation of the point spread function."""
    nuclear: float = Field(900.0, gt=0)
    """Brightness of a usual nucleus above the background in the nuclear channel."""
    reporter: float = Field(1300.0, gt=0)
    """Brightness of a reporter at level 1."""
    brightfield: float = Field(2500.0, gt=0)
    relief: float = Field(0.16, ge=0)
    """Contrast of cell bodies in the brightfield channel."""
    background: float = Field(130.0, ge=0)
    haze: float = Field(40.0, ge=0)
    """Light from a cell's body outside its nucleus."""
    bleed: float = Field(0.08, ge=0)
    """Share of ``bleed_from`` that is seen in ``bleed_into``."""
    bleed_from: str = "mKate"
    bleed_into: str = "Cy5"
    vignette: float = Field(0.45, ge=0, lt=1)
    """Light lost at a tile's far corner against its brightest point, which differs by channel."""
    offset: float = Field(100.0, ge=0)
    """What the camera reads in the dark."""
    gain: float = Field(8.0, gt=0)
    """Camera units a photo-electron."""
    read_noise: float = Field(12.0, ge=0)
    """Standard deviation, camera units."""
    bits: int = Field(14, ge=8, le=16)


class TimingParams(Params):
    """When frames are taken; start, end and interval are the design's timeline."""

    n_frames: int | None = Field(None, ge=1)
    """At most this many frames."""
    gap_at_h: float | None = 24.0
    """Imaging stops here for the change of medium."""
    gap_h: float = Field(1.0, ge=0)
    first_frame: str = Field("2025-01-01T00:00:00Z", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")
    """Clock time of the first frame of the first scene."""
    tile_s: float = Field(0.9, ge=0)
    channel_s: float = Field(0.2, ge=0)


SCALES: dict[str, dict[str, dict[str, Any]]] = {
    "mini": {},
    "full": {
        "mosaic": {
            "rows": 6,
            "columns": 5,
            "tile_height_px": 516,
            "tile_width_px": 705,
            "step_y_px": 462,
            "step_x_px": 635,
            "jitter_px": 5,
        },
        "timing": {"n_frames": 203},
    },
}
"""``full``: 6 x 5 tiles make 2826 x 3245 pixels, 203 frames; the number of scenes is the design's."""

DIFFICULTIES: dict[str, dict[str, dict[str, Any]]] = {
    "standard": {},
    "hard": {
        "nuclei": {"founders_per_mm2": 380.0, "dim_level": 0.22, "brightness_cv": 0.3, "lobes": 0.09},
        "motion": {"speed_um_h": 20.0, "adhesion_per_h": 2.4},
        "optics": {"gain": 16.0, "read_noise": 18.0, "vignette": 0.6, "bleed": 0.16, "blur_px": 1.3},
    },
}


class SimulateParams(Params):
    """Everything about the simulated movies. Call `resolved` to have the presets filled in."""

    scale: Literal["mini", "full"] = "mini"
    """``full``: the paper's mosaic and number of frames."""
    difficulty: Literal["standard", "hard"] = "standard"
    mosaic: MosaicParams = MosaicParams()
    nuclei: NucleiParams = NucleiParams()
    motion: MotionParams = MotionParams()
    optics: OpticsParams = OpticsParams()
    timing: TimingParams = TimingParams()
    biology: BiologyParams = BiologyParams()
    """The cell cycle; the same section makes the simulated counts."""
    scenes: tuple[str, ...] = ()
    """Names of the design's scenes to make; all where empty."""
    workers: int = Field(2, ge=1)
    """Processes; the result does not depend on it."""
    name: str = Field("mini", pattern=r"^[\w.-]+$")
    """Name of the CZI file and its document."""

    def resolved(self) -> SimulateParams:
        """The same with ``scale`` and ``difficulty`` applied to every value that was not given explicitly."""
        values: dict[str, Any] = {}
        for preset in (SCALES[self.scale], DIFFICULTIES[self.difficulty]):
            for group, changes in preset.items():
                current = values.get(group, getattr(self, group))
                given = getattr(self, group).model_fields_set
                wanted = {key: value for key, value in changes.items() if key not in given}
                values[group] = current.model_copy(update=wanted)
        return self.model_copy(update=values)
