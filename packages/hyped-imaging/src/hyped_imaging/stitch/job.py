"""Stitching one frame, in whichever process: tiles read, fused, written; and the note that goes with the frame."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import CorruptFileError
from hyped_imaging.stitch.calibrate import Calibration
from hyped_imaging.stitch.drift import covered_bins, small_picture
from hyped_imaging.stitch.fuse import Pixels
from hyped_imaging.stitch.params import StitchParams
from hyped_imaging.stitch.plan import ScenePlan
from hyped_imaging.stitch.source import TileSource

if TYPE_CHECKING:
    from hyped_core.container.planes import FrameHandle

_HEAD = struct.Struct("<III")


@dataclass(frozen=True)
class FrameNote:
    """What is kept of a frame beside its pixels.

    Attributes
    ----------
    missing : indices of the tiles it lacks. levels : (c, 3) saturated pixels, smallest and largest value of
    the raw tiles; ``pixels`` : how many each channel has. picture : for the drift (`small_picture`).
    """

    missing: list[int]
    levels: list[list[int]]
    pixels: int
    picture: npt.NDArray[np.int8]

    def to_bytes(self) -> bytes:
        """As it is stored: lengths, JSON, the picture."""
        head = json.dumps([self.missing, self.levels, self.pixels]).encode()
        return _HEAD.pack(len(head), *self.picture.shape) + head + self.picture.tobytes()

    @classmethod
    def from_bytes(cls, stored: bytes) -> FrameNote:
        """What `to_bytes` made."""
        length, height, width = _HEAD.unpack_from(stored)
        start = _HEAD.size
        missing, levels, pixels = json.loads(stored[start : start + length])
        picture = np.frombuffer(stored, np.int8, height * width, start + length).reshape(height, width)
        return cls(missing, levels, pixels, picture)


@dataclass(frozen=True)
class StitchJob:
    """Stitches frames of one scene and writes them by ``handle``; with none, only looks at them for the drift.

    A frame gives None where it was written (or its picture, where nothing is), and the reason as text where
    its pixels cannot be read.
    """

    path: str
    reader: str
    select: dict[str, int]
    plan: ScenePlan
    params: StitchParams
    calibration: Calibration
    handle: FrameHandle | None
    shifts: dict[int, tuple[int, int]]

    @contextmanager
    def open(self) -> Iterator[Callable[[int], Any]]:
        """Open the file; gives the function of a frame."""
        from hyped_imaging.readers.czi import open_czi

        fuser = self.calibration.fuser(self.plan, self.params)
        with open_czi(self.path, reader=self.reader, select=self.select) as czi:
            source = TileSource(czi, self.plan, self.params, keep=False)

            def work(frame: int) -> Any:
                try:
                    tiles = source.tiles(frame)
                except CorruptFileError as error:
                    return error.message
                pixels = Pixels(tiles)
                fused = fuser.fuse(pixels, self.shifts.get(frame, (0, 0)))
                covered = covered_bins(fuser.canvas, fuser.corners, fuser.sizes, pixels.present)
                picture = small_picture(fused[self.calibration.drift_channel], covered)
                if self.handle is None:
                    return picture
                missing = [index for index, tile in enumerate(tiles) if tile is None]
                count = sum(tile[0].size for tile in tiles if tile is not None)
                note = FrameNote(missing, fuser.levels(pixels).tolist(), count, picture)
                self.handle.write_frame(frame, fused, note.to_bytes())
                return None

            yield work
