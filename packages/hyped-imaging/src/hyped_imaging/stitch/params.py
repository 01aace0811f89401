"""Parameters of stitching."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hyped_core.params import Params


class StitchParams(Params):
    """How the tiles of a scene become one movie."""

    refine: bool = True
    """Refine the stage's tile positions by correlation of the overlaps."""
    registration_frames: int = Field(12, ge=1)
    """Time points, evenly spread, over which the overlaps' correlation is averaged, at most: fewer are read
    where no pair moves any more."""
    registration_channels: tuple[str, ...] = ()
    """Channels to register by; all where empty (each weighs by how well it correlates)."""
    max_shift_px: int = Field(16, ge=1)
    """Largest error of the stage that is looked for, in pixels."""
    min_correlation: float = Field(0.2, ge=0, le=1)
    """An overlap that correlates less keeps the stage's offset."""
    flatfield: bool = True
    """Estimate and correct uneven illumination, per channel over the scene's tiles."""
    flatfield_tiles: int = Field(400, ge=1)
    """How many tiles to estimate it from, at most."""
    flatfield_min_tiles: int = Field(48, ge=2)
    """With fewer tiles than this the illumination is left as it is."""
    flatfield_degree: int = Field(4, ge=1, le=8)
    """Degree of the polynomial that describes it."""
    camera_offset: float | None = None
    """Camera offset in camera units; estimated with the illumination where None."""
    subtract_offset: bool = False
    """Subtract the offset from the movie (else it stays, and the movie's attributes name it)."""
    fusion: Literal["feather", "last"] = "feather"
    """In overlaps: weigh tiles by the distance to their edge, or let the tile with the highest index win."""
    canvas: Literal["stage", "tiles"] = "stage"
    """Size of the frame: the stage's bounding box (equal layouts give equal sizes), or that of the refined
    tiles.
    Pixels that no tile covers are 0."""
    z_projection: Literal["max", "mean"] | int = "max"
    """How planes in Z become one: their maximum, their mean, or the plane of this index."""
    correct_drift: bool = False
    """Move every frame back by the stage's drift, in whole pixels: what leaves the frame is cut, what is left
    empty is 0. Reads the scene twice. The drift is reported either way, and left alone where it is no more than
    the cells' own motion explains."""
    max_drift_px: int = Field(64, ge=1)
    """Largest drift between neighbouring frames that is looked for, in pixels."""
    max_lost_frames: float = Field(0.1, ge=0, le=1)
    """Share of frames that may be unreadable: they are recorded and left out; more of them are an error."""
    pixel_size_um: float | None = Field(None, gt=0)
    """Edge of a pixel, for a file that does not say."""
    interval_min: float | None = Field(None, gt=0)
    """Minutes between frames, for a file that does not say when they were taken."""
    start_h: float | None = None
    """Hours since release at the file's first frame; the design's ``timeline.imaging_start_h`` where None."""
    select: dict[str, int] = Field(default_factory=dict)
    """Which value to read of a dimension B, V, H, I or R that has several, for example {H: 1}."""
    channels: dict[str, str] = Field(default_factory=dict)
    """Channel name in the file -> name in the movie, where the design's names and aliases do not say."""
