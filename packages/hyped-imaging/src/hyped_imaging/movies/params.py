"""Parameters of importing and exporting movies."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hyped_core.params import Params


class ImportParams(Params):
    """What the files do not say themselves. A value given here wins over the file's."""

    channels: tuple[str, ...] = ()
    """Names of the channels in order: of the files, where each file is a channel."""
    pixel_size_um: float | None = Field(None, gt=0)
    """Edge of a pixel in micrometres."""
    interval_min: float | None = Field(None, gt=0)
    """Minutes between frames, for files that do not say when they were taken."""
    start_h: float | None = None
    """Hours since release at the first frame; the design's ``timeline.imaging_start_h`` where None."""
    axes: str = Field("", pattern="^[TCZYX]*$")
    """Stored order of the axes (``CYX``, ``CXY``, ``TZCYX``, ...), where the files do not say or say it
    wrongly."""
    z_as_time: bool = True
    """A stack with planes in Z and none in T is a time series (ImageJ saves them so)."""
    z_projection: Literal["max", "mean"] | int = "max"
    """How planes in Z become one where they are real."""
    dataset: str = ""
    """Path of the image inside an HDF5 file; found where empty."""
    max_lost_frames: float = Field(0.1, ge=0, le=1)
    """Share of frames that may be unreadable; they become missing frames of the movie. More are an error."""
    data_range: tuple[float, float] | None = None
    """(lowest, highest) value the camera can give; from the file or the pixel type where None."""


class ExportParams(Params):
    """How the HDF5 files of a release are written."""

    compression: Literal["lz4", "zstd", "gzip", "none"] = "zstd"
    """lz4 and zstd (Blosc with bit shuffling, fast; reading them needs ``import hdf5plugin`` beside h5py), gzip
    (any h5py, ten times slower) or none."""
    prefix: str = Field("frame", pattern=r"^[\w.-]+$")
    """Names are ``<prefix>_00000.h5``."""
