"""A CZI file behind one interface: scenes, tiles, times and raw tile pixels, by either CZI library or none.

What the file holds comes from its sub-block directory (`CziStructure`), read once; the libraries only decode
pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingDependencyError, UsageError
from hyped_imaging.readers.metadata import CziMetadata, parse_metadata
from hyped_imaging.readers.structure import GRAY, CziStructure
from hyped_imaging.readers.times import scene_times

if TYPE_CHECKING:
    import pandas as pd

    from hyped_imaging.readers.backends import Backend

ReaderName = Literal["auto", "aicspylibczi", "pylibczirw", "direct"]
_MODULES = {"aicspylibczi": "aicspylibczi", "pylibczirw": "pylibCZIrw"}
_INSTALL = {"aicspylibczi": "pip install 'hyped-imaging[aics]'", "pylibczirw": "pip install pylibCZIrw"}


@dataclass(frozen=True, slots=True)
class SceneInfo:
    """A scene: its index in the file, its name, how many frames, planes in Z and tiles it has, its channels.

    ``channels`` are those of `CziFile.channels` that occur in this scene.
    """

    index: int
    name: str
    n_frames: int
    n_z: int
    n_tiles: int
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Scene:
    """A scene's part of the directory: its sub-blocks and the values of T, C, Z and m in them, sorted."""

    info: SceneInfo
    table: pd.DataFrame
    frames: list[int]
    channels: list[int]
    depths: list[int]
    tiles: list[int]


def choose_reader(reader: str = "auto") -> str:
    """The reader to use: ``auto`` is aicspylibczi where it is installed, else pylibCZIrw.

    ``direct`` decodes each sub-block from its own bytes, with neither library. The libraries go through their
    whole list of sub-blocks for every read, so in a file with hundreds of thousands it is several times faster.

    Raises
    ------
    UsageError
        There is no reader of this name.
    MissingDependencyError
        It is not installed; the error gives the install command.
    """
    if reader == "auto":
        reader = "aicspylibczi" if find_spec("aicspylibczi") else "pylibczirw"
    if reader == "direct":
        return reader
    if reader not in _MODULES:
        raise UsageError(
            f"there is no CZI reader {reader!r}", mend=f"readers: {', '.join(get_args(ReaderName))}"
        )
    if find_spec(_MODULES[reader]) is None:
        raise MissingDependencyError("is not installed", where=_MODULES[reader], mend=_INSTALL[reader])
    return reader


def open_czi(path: str | Path, reader: str = "auto", select: Mapping[str, int] | None = None) -> CziFile:
    """Open a CZI file after checking that it is whole.

    ``select`` names the value to read of a dimension other than S, T, C, Z, M that has several, for example
    ``{"H": 1}``; dimensions not named there have to have one value.

    Raises
    ------
    MissingFileError, CorruptFileError
        No such file; not a CZI; truncated or damaged.
    UnsupportedDataError
        RGB, float or mixed pixels, an unread compression, split files, several values in B, V, H, I or R of
        which ``select`` names none.
    UsageError, InvalidDataError
        ``select`` names a dimension that cannot be selected, or a value the file lacks.
    """
    return CziFile(path, reader=reader, select=select)


class CziFile:
    """A CZI file; a context manager.

    Attributes
    ----------
    path, reader : the file and what decodes its pixels (a library's name, or ``direct``).
    select : value read of B, V, H, I or R, where one was named.
    dims : dimensions that occur, e.g. ``"HSTCZMYX"``.
    dtype : uint8 or uint16.
    channels : names from the metadata, ``C0``, ``C1``, ... where it has none; made unique.
    pixel_size_um : (y, x), None where the file has no scaling.
    scenes : `SceneInfo` of each scene, in index order. A file without scenes has one, of index 0.
    """

    def __init__(
        self, path: str | Path, reader: str = "auto", select: Mapping[str, int] | None = None
    ) -> None:
        self.reader = choose_reader(reader)
        self.select = dict(select or {})
        self.structure = CziStructure(path, self.select)
        self.path = self.structure.path
        self.metadata: CziMetadata = parse_metadata(self.structure.xml)
        table = self.structure.table
        table["m"] = _number_tiles(table)
        self.dims = self.structure.dims
        self.dtype = GRAY[int(table["pixel_type"].iloc[0])].newbyteorder("=")
        indices = _values(table["C"])
        self.channels = _channel_names(self.metadata.channels, indices)
        self.pixel_size_um = self.metadata.pixel_size_um
        self.bits = self.metadata.bits or 8 * self.dtype.itemsize
        named = dict(zip(indices, self.channels, strict=True))
        self._scenes = {int(s): self._scene(int(s), block, named) for s, block in table.groupby("S")}
        self.scenes: tuple[SceneInfo, ...] = tuple(scene.info for scene in self._scenes.values())
        self._backend: Backend | None = None
        self._rows: dict[int, dict[int, pd.DataFrame]] = {}

    def _scene(self, index: int, block: pd.DataFrame, named: Mapping[int, str]) -> _Scene:
        frames, channels, depths, tiles = (_values(block[name]) for name in ("T", "C", "Z", "m"))
        name = self.metadata.scenes.get(index, f"S{index}")
        info = SceneInfo(
            index, name, len(frames), len(depths), len(tiles), tuple(named[channel] for channel in channels)
        )
        return _Scene(info, block, frames, channels, depths, tiles)

    def __enter__(self) -> CziFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the library's handle."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    # -- what there is ----
    def scene(self, key: int | str) -> SceneInfo:
        """The scene with this name, ``S<index>`` or index.

        Raises
        ------
        InvalidDataError
            There is none; the error lists those there are.
        """
        for matches in (
            lambda s: s.name == key,
            lambda s: f"S{s.index}" == key,
            lambda s: str(s.index) == str(key),
        ):
            for info in self.scenes:
                if matches(info):
                    return info
        known = ", ".join(f"{s.name} (index {s.index})" for s in self.scenes)
        raise InvalidDataError(f"has no scene {key!r}", where=self.path, mend=f"scenes there: {known}")

    def n_frames(self, scene: int | str) -> int:
        """How many time points the scene has."""
        return self.scene(scene).n_frames

    def tiles(self, scene: int | str, frame: int = 0) -> pd.DataFrame:
        """Rectangles of the scene's tiles: columns m, x, y, w, h (pixels, stage coordinates), sorted by m.

        A tile that frame ``frame`` lacks is listed at the place it has in other frames.
        """
        found = self._scenes[self.scene(scene).index]
        block, time = found.table, found.frames[frame]
        ordered = block.assign(other=block["T"] != time).sort_values(["m", "other", "T"], kind="stable")
        return ordered.drop_duplicates("m")[["m", "x", "y", "w", "h"]].reset_index(drop=True)

    def time_h(self, scene: int | str, interval_min: float | None = None) -> tuple[np.ndarray | None, str]:
        """Hours of each frame since the file's first frame, and where they come from (see `scene_times`)."""
        return scene_times(self.structure, self.metadata, self.scene(scene).index, interval_min)

    # -- pixels ----
    def read_tiles(
        self, scene: int | str, frame: int, damaged: Literal["raise", "skip"] = "raise"
    ) -> list[np.ndarray | None]:
        """Raw pixels of one frame, a (c, z, y, x) array for each row of `tiles`; None for a tile it lacks.

        ``c`` are the scene's channels (`SceneInfo.channels`). With ``skip``, a damaged tile is None too.

        Raises
        ------
        CorruptFileError
            Pixels of this frame are damaged (with ``skip``: of half its tiles or more); other frames can be read
            all the same.
        """
        from hyped_imaging.readers.backends import SubBlocks, make_backend

        info = self.scene(scene)
        if self._backend is None:
            self._backend = make_backend(self)
        rows = self.frame_rows(info.index, frame)
        try:
            return self._backend.read(info, self._scenes[info.index].frames[frame], rows)
        except CorruptFileError:
            if damaged == "raise":
                raise
            with closing(SubBlocks(self)) as blocks:
                tiles, lost = blocks.read_whole(info, rows)
            if 2 * lost >= rows["m"].nunique():
                raise
            return tiles

    def read_tile(self, scene: int | str, frame: int, channel: int, tile: int, z: int = 0) -> np.ndarray:
        """Raw pixels (y, x) of one plane of one tile (``tile`` is a row of `tiles`).

        Raises
        ------
        InvalidDataError
            The frame lacks the tile.
        """
        data = self.read_tiles(scene, frame)[tile]
        if data is None:
            raise InvalidDataError(f"scene {scene}, frame {frame} lacks tile {tile}", where=self.path)
        return data[channel, z]

    def frame_rows(self, scene: int, frame: int) -> pd.DataFrame:
        """Sub-blocks of one frame (rows of the directory, sorted by C, Z, M)."""
        found = self._scenes[scene]
        if scene not in self._rows:
            self._rows = {scene: {int(t): rows for t, rows in found.table.groupby("T")}}
        return self._rows[scene][found.frames[frame]]

    def axes(self, scene: int) -> tuple[list[int], list[int], list[int]]:
        """Values of C, Z and m in the scene."""
        found = self._scenes[scene]
        return found.channels, found.depths, found.tiles


def _values(column: pd.Series) -> list[int]:
    """Distinct values, sorted."""
    return np.unique(column.to_numpy()).tolist()


def _number_tiles(table: pd.DataFrame) -> np.ndarray:
    """A tile's number within its scene: the mosaic index where every sub-block of the scene has one of its own
    in its plane; else the number of its rectangle where rectangles repeat from plane to plane; else its place
    in the file among the sub-blocks of its plane."""
    plane = ["S", "T", "C", "Z"]
    order = table.groupby(plane).cumcount().to_numpy()
    bad = (table["M"] < 0) | table.duplicated([*plane, "M"], keep=False)
    scenes = table["S"].to_numpy()
    numbers = table["M"].to_numpy().copy()
    for scene in np.unique(scenes[bad.to_numpy()]):
        mine = scenes == scene
        place = table.loc[mine].groupby(["x", "y", "w", "h"], sort=False).ngroup().to_numpy()
        numbers[mine] = place if place.max() == order[mine].max() else order[mine]
    return numbers


def _channel_names(named: tuple[str, ...], indices: list[int]) -> tuple[str, ...]:
    """A unique name for each channel: the file's, else ``C<index>``; a second ``DAPI`` becomes ``DAPI_2``."""
    names: list[str] = []
    for index in indices:
        name = named[index] if index < len(named) and named[index] else f"C{index}"
        copies = sum(1 for other in names if other == name or other.startswith(f"{name}_"))
        names.append(name if name not in names else f"{name}_{copies + 1}")
    return tuple(names)
