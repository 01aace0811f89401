"""What stitching a scene will make, worked out before any pixel is read: names, times, units, the stage's
layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError, ParamsError
from hyped_imaging.readers.czi import CziFile, SceneInfo
from hyped_imaging.stitch.params import StitchParams

if TYPE_CHECKING:
    from hyped_core.design import Design

_MIB = 2**20
_SPARSEST = 50.0
"""A large canvas covered less than one in this many is not a mosaic."""


@dataclass(frozen=True)
class ScenePlan:
    """What stitching a scene will make, known before any pixel is read.

    Attributes
    ----------
    scene : the scene; ``channels`` : names in the movie; ``time_h`` : (t,) hours since release.
    time_source : where the times come from (``subblock``, ``timestamps``, ``xml``, ``parameter``,
        ``single``).
    corners, sizes : (n, 2) stage position (y, x, the smallest is 0) and size of each tile in pixels.
    """

    scene: SceneInfo
    channels: tuple[str, ...]
    time_h: npt.NDArray[np.float64]
    time_source: str
    pixel_size_um: float
    pixel_size_source: str
    corners: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(t, c, y, x) of the movie by the stage's layout."""
        height, width = (int(n) for n in (self.corners + self.sizes).max(axis=0))
        return len(self.time_h), len(self.channels), height, width

    def estimate(self, processes: int = 1) -> dict[str, Any]:
        """What it will cost with so many processes: disk (uncompressed, the smaller levels included, MiB), memory
        of a process (MiB) and seconds, roughly."""
        frames, channels, height, width = self.shape
        tiles = int(self.sizes.prod(axis=1).sum()) * channels * self.scene.n_z
        return {
            "scene": self.scene.name,
            "frames": frames,
            "shape": list(self.shape),
            "tiles": len(self.corners),
            "disk_mib": round(2.67 * frames * channels * height * width / _MIB, 1),
            "memory_mib": round((250 * _MIB + 6 * tiles + 6 * channels * height * width) / _MIB, 1),
            "seconds": round(2.0 + 400e-9 * tiles + frames * (0.003 + 25e-9 * tiles) / processes, 1),
        }


def plan_scene(
    czi: CziFile, scene: str | int, params: StitchParams, design: Design, *, strict: bool = False
) -> ScenePlan:
    """Work out names, times, units and the stage's layout of a scene.

    Channels take the design's name where the file's name is one of its aliases. ``strict`` (a design of the
    user's own): every channel the design names has to be there.

    Raises
    ------
    InvalidDataError
        The file says nothing of its pixel size or times and no parameter does; a channel is missing.
    """
    info = czi.scene(scene)
    channels = tuple(_channel_name(name, params, design) for name in info.channels or czi.channels)
    if len(set(channels)) != len(channels):
        raise InvalidDataError(f"two channels would be named alike: {', '.join(channels)}", where=czi.path,
                               mend="correct the parameter `channels` or the design's aliases")  # fmt: skip
    missing = [channel.name for channel in design.channels if channel.name not in channels] if strict else []
    if missing:
        raise InvalidDataError(
            f"lacks channel {', '.join(missing)} that the design names; it has {', '.join(channels)}",
            where=czi.path,
            mend="add the file's name to the channel's `aliases` in the design, or map it by the "
            "parameter `channels`",
        )  # fmt: skip
    hours, source = czi.time_h(info.index, params.interval_min)
    if hours is None:
        raise InvalidDataError("does not say when its frames were taken", where=czi.path,
                               mend="set the parameter `interval_min`")  # fmt: skip
    start = design.timeline.imaging_start_h if params.start_h is None else params.start_h
    pixel, pixel_source = _pixel_size(czi, params)
    tiles = czi.tiles(info.index)
    corners = tiles[["y", "x"]].to_numpy(np.int64)
    sizes = tiles[["h", "w"]].to_numpy(np.int64)
    spread = float(np.prod((corners + sizes).max(axis=0) - corners.min(axis=0), dtype=float))
    if spread > 1e8 and spread > _SPARSEST * float(sizes.prod(axis=1).sum()):
        raise InvalidDataError(
            f"scene {info.name} spreads {len(corners)} tiles over {spread:.2g} pixels",
            where=czi.path,
            mend="check the stage positions in ZEN; split the scene where its tiles do not belong together",
        )
    if isinstance(params.z_projection, int) and not 0 <= params.z_projection < info.n_z:
        raise ParamsError(f"z_projection {params.z_projection} is not a plane of this scene", where=czi.path,
                          mend=f"planes go from 0 to {info.n_z - 1}; or give max or mean")  # fmt: skip
    return ScenePlan(
        info,
        channels,
        start + np.round(hours, 9),
        source,
        pixel,
        pixel_source,
        corners - corners.min(axis=0),
        sizes,
    )


def _channel_name(name: str, params: StitchParams, design: Design) -> str:
    if name in params.channels:
        return params.channels[name]
    return next((channel.name for channel in design.channels if name in channel.aliases), name)


def _pixel_size(czi: CziFile, params: StitchParams) -> tuple[float, str]:
    if params.pixel_size_um is not None:
        return params.pixel_size_um, "parameter"
    if czi.pixel_size_um is None:
        raise InvalidDataError("does not say how large a pixel is", where=czi.path,
                               mend="set the parameter `pixel_size_um`")  # fmt: skip
    y, x = czi.pixel_size_um
    if abs(y - x) > 0.01 * max(y, x):
        raise InvalidDataError(f"has pixels that are not square ({y:g} x {x:g} um)", where=czi.path,
                               mend="set the parameter `pixel_size_um` to the edge to use")  # fmt: skip
    return float(f"{(y + x) / 2:.9g}"), "file"
