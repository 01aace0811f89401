"""A CZI file behind one interface: scenes, tiles, times and raw tile pixels, by either CZI library.

What the file holds comes from its sub-block directory (`CziStructure`), read once; the libraries only decode
pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from hyped_core.errors import InvalidDataError, MissingDependencyError, UsageError
from hyped_imaging.readers.metadata import CziMetadata, parse_metadata
from hyped_imaging.readers.structure import GRAY, CziStructure
from hyped_imaging.readers.times import scene_times

if TYPE_CHECKING:
    import pandas as pd

    from hyped_imaging.readers.backends import Backend

ReaderName = Literal["auto", "aicspylibczi", "pylibczirw"]
_MODULES = {"aicspylibczi": "aicspylibczi", "pylibczirw": "pylibCZIrw"}
_INSTALL = {"aicspylibczi": "pip install 'hyped-imaging[aics]'", "pylibczirw": "pip install pylibCZIrw"}


@dataclass(frozen=True, slots=True)
class SceneInfo:
    """A scene: its index in the file, its name, and how many frames, planes in Z and tiles it has."""

    index: int
    name: str
    n_frames: int
    n_z: int
    n_tiles: int


def choose_reader(reader: str = "auto") -> str:
    """The library to use: ``auto`` is aicspylibczi where it is installed, else pylibCZIrw.

    Raises
    ------
    UsageError
        There is no reader of this name.
    MissingDependencyError
        It is not installed; the error gives the install command.
    """
    if reader == "auto":
        reader = "aicspylibczi" if find_spec("aicspylibczi") else "pylibczirw"
    if reader not in _MODULES:
        raise UsageError(f"there is no CZI reader {reader!r}", mend=f"readers: auto, {', '.join(_MODULES)}")
    if find_spec(_MODULES[reader]) is None:
        raise MissingDependencyError("is not installed", where=_MODULES[reader], mend=_INSTALL[reader])
    return reader


def open_czi(path: str | Path, reader: str = "auto") -> CziFile:
    """Open a CZI file after checking that it is whole.

    Raises
    ------
    MissingFileError, CorruptFileError
        No such file; not a CZI; truncated or damaged.
    UnsupportedDataError
        RGB, float or mixed pixels, several values in a dimension other than S, T, C, Z, M, split files.
    """
    return CziFile(path, reader=reader)


class CziFile:
    """A CZI file; a context manager.

    Attributes
    ----------
    path, reader : the file and the library that decodes its pixels.
    dims : dimensions that occur, e.g. ``"HSTCZMYX"``.
    dtype : uint8 or uint16.
    channels : names from the metadata, ``C0``, ``C1``, ... where it has none; made unique.
    pixel_size_um : (y, x), None where the file has no scaling.
    """

    def __init__(self, path: str | Path, reader: str = "auto") -> None:
        self.reader = choose_reader(reader)
        self.structure = CziStructure(path)
        self.path = self.structure.path
        self.metadata: CziMetadata = parse_metadata(self.structure.xml)
        table = self.structure.table
        _number_tiles(table)
        self.dims = self.structure.dims
        self.dtype = GRAY[int(table["pixel_type"].iloc[0])].newbyteorder("=")
        self._channel_indices = [int(c) for c in np.unique(table["C"])]
        self.channels = _channel_names(self.metadata.channels, self._channel_indices)
        self.pixel_size_um = self.metadata.pixel_size_um
        self.bits = self.metadata.bits or 8 * self.dtype.itemsize
        self._blocks = {int(s): block for s, block in table.groupby("S")}
        self._frames = {s: np.unique(block["T"].to_numpy()) for s, block in self._blocks.items()}
        self._backend: Backend | None = None
        self._rows: dict[int, dict[int, pd.DataFrame]] = {}

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
    @property
    def scenes(self) -> tuple[SceneInfo, ...]:
        """The scenes, in index order. A file without scenes has one, of index 0."""
        found = []
        for index, block in self._blocks.items():
            name = self.metadata.scenes.get(index, f"S{index}")
            found.append(
                SceneInfo(index, name, len(self._frames[index]), block["Z"].nunique(), block["m"].nunique())
            )
        return tuple(found)

    def scene(self, key: int | str) -> SceneInfo:
        """The scene with this name, ``S<index>`` or index.

        Raises
        ------
        InvalidDataError
            There is none; the error lists those there are.
        """
        scenes = self.scenes
        for matches in (
            lambda s: s.name == key,
            lambda s: f"S{s.index}" == key,
            lambda s: str(s.index) == str(key),
        ):
            for info in scenes:
                if matches(info):
                    return info
        known = ", ".join(f"{s.name} (index {s.index})" for s in scenes)
        raise InvalidDataError(f"has no scene {key!r}", where=self.path, mend=f"scenes there: {known}")

    def n_frames(self, scene: int | str) -> int:
        """How many time points the scene has."""
        return self.scene(scene).n_frames

    def tiles(self, scene: int | str, frame: int = 0) -> pd.DataFrame:
        """Rectangles of the scene's tiles: columns m, x, y, w, h (pixels, stage coordinates), sorted by m.

        A tile that frame ``frame`` lacks is listed at the place it has in other frames.
        """
        info = self.scene(scene)
        block = self._blocks[info.index]
        time = self._frames[info.index][frame]
        ordered = block.assign(other=block["T"] != time).sort_values(["m", "other", "T"], kind="stable")
        return ordered.drop_duplicates("m")[["m", "x", "y", "w", "h"]].reset_index(drop=True)

    def time_h(self, scene: int | str, interval_min: float | None = None) -> tuple[np.ndarray | None, str]:
        """Hours of each frame since the file's first frame, and where they come from (see `scene_times`)."""
        return scene_times(self.structure, self.metadata, self.scene(scene).index, interval_min)

    # -- pixels ----
    def read_tiles(self, scene: int | str, frame: int) -> list[np.ndarray | None]:
        """Raw pixels of one frame, a (c, z, y, x) array for each row of `tiles`; None for a tile it lacks."""
        from hyped_imaging.readers.backends import make_backend

        info = self.scene(scene)
        if self._backend is None:
            self._backend = make_backend(self)
        return self._backend.read(
            info, int(self._frames[info.index][frame]), self.frame_rows(info.index, frame)
        )

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
        """Sub-blocks of one frame (rows of the directory, sorted by C, Z, m)."""
        if scene not in self._rows:
            self._rows = {scene: {int(t): rows for t, rows in self._blocks[scene].groupby("T")}}
        return self._rows[scene][int(self._frames[scene][frame])]

    def axes(self, scene: int) -> tuple[list[int], list[int], list[int]]:
        """Values of C (over the file), Z and m (over the scene)."""
        block = self._blocks[scene]
        return self._channel_indices, sorted(set(block["Z"].tolist())), sorted(set(block["m"].tolist()))


def _number_tiles(table: pd.DataFrame) -> None:
    """Add column ``m``: the mosaic index, or the place in the file among the sub-blocks of the same plane."""
    order = table.groupby(["S", "T", "C", "Z"]).cumcount()
    table["m"] = np.where(
        (table["M"] >= 0) & ~table.duplicated(["S", "T", "C", "Z", "M"], keep=False), table["M"], order
    )


def _channel_names(named: tuple[str, ...], indices: list[int]) -> tuple[str, ...]:
    """A unique name for each channel: the file's, else ``C<index>``; a second ``DAPI`` becomes ``DAPI_2``."""
    names: list[str] = []
    for index in indices:
        name = named[index] if index < len(named) and named[index] else f"C{index}"
        copies = sum(1 for other in names if other == name or other.startswith(f"{name}_"))
        names.append(name if name not in names else f"{name}_{copies + 1}")
    return tuple(names)
