"""Decoders of one frame's tiles: the two CZI libraries, and none; all give the same pixels for every file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from hyped_core.errors import CorruptFileError
from hyped_imaging.readers.structure import MEND, SELECTABLE
from hyped_imaging.readers.subblock import Row, check_block, open_binary, read_pixels

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from hyped_imaging.readers.czi import CziFile, SceneInfo

Tiles = list[np.ndarray | None]
_NATIVE = (0, 4, 5, 6)
"""Compressions that the libraries decode; the others are decoded from their bytes."""


class Backend(Protocol):
    """Decodes the tiles of a frame."""

    def read(self, scene: SceneInfo, time: int, rows: pd.DataFrame) -> Tiles:
        """Tiles of ``rows`` (the frame's sub-blocks), each (c, z, y, x), None where one lacks a plane."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


def make_backend(file: CziFile) -> Backend:
    """The decoder that ``file.reader`` names.

    Raises
    ------
    CorruptFileError
        The library cannot open the file.
    """
    kinds: dict[str, Callable[[CziFile], Backend]] = {
        "aicspylibczi": AicsBackend, "pylibczirw": PylibBackend, "direct": SubBlocks
    }  # fmt: skip
    try:
        return kinds[file.reader](file)
    except (RuntimeError, ValueError, OSError) as error:
        raise CorruptFileError(
            f"{file.reader} cannot open it: {error}", where=file.path, mend=_other(file.reader)
        ) from error


def _other(reader: str) -> str:
    other = "pylibczirw" if reader == "aicspylibczi" else "aicspylibczi"
    return f"try --reader {other}, or {MEND}"


class SubBlocks:
    """Reads sub-blocks one by one from their byte offsets: the reader ``direct``, and what stands in where a
    library cannot give a tile."""

    def __init__(self, file: CziFile) -> None:
        self.path = file.path
        self.axes = file.axes
        self.dtype = file.dtype
        self.handle = open_binary(file.path)

    def close(self) -> None:
        """Close the file."""
        self.handle.close()

    def read(self, scene: SceneInfo, time: int, rows: pd.DataFrame) -> Tiles:
        """See `Backend.read`."""
        return self.gather(scene.index, rows, self.plane)

    def read_whole(self, scene: SceneInfo, rows: pd.DataFrame) -> tuple[Tiles, int]:
        """Tiles of ``rows``, None where one is damaged too; and how many are damaged."""
        tiles = self.axes(scene.index)[2]
        out: Tiles = [None] * len(tiles)
        damaged = 0
        for m, block in rows.groupby("m"):
            at = tiles.index(m)
            try:
                out[at] = self.gather(scene.index, block, self.plane)[at]
            except CorruptFileError:
                damaged += 1
        return out, damaged

    def check(self, rows: pd.DataFrame) -> None:
        """Look at the head of every sub-block of ``rows`` before a C++ library does."""
        for row in rows.itertuples():
            check_block(self.handle, row)

    def plane(self, row: Row) -> np.ndarray:
        """Pixels (y, x) of one row of the directory."""
        return read_pixels(self.handle, row)

    def gather(self, scene: int, rows: pd.DataFrame, read: Callable[[Row], np.ndarray]) -> Tiles:
        """Stack ``read(row)`` of every sub-block by tile, channel and Z."""
        channels, depths, tiles = self.axes(scene)
        channel_at = {value: k for k, value in enumerate(channels)}
        depth_at = {value: k for k, value in enumerate(depths)}
        groups: dict[int, list] = {}
        for row in rows.itertuples():
            groups.setdefault(row.m, []).append(row)
        out: Tiles = []
        for m in tiles:
            group = groups.get(m, [])
            if len(group) < len(channels) * len(depths):
                out.append(None)
                continue
            stack = np.empty((len(channels), len(depths), group[0].h, group[0].w), self.dtype)
            for row in group:
                if (row.h, row.w) != stack.shape[2:]:
                    raise CorruptFileError(
                        f"tile {m} changes its size between planes", where=self.path, mend=MEND
                    )
                stack[channel_at[row.C], depth_at[row.Z]] = read(row)
            out.append(stack)
        return out


class AicsBackend:
    """aicspylibczi: one call a frame; a frame that is not a full grid, or a file whose tiles differ in size, is
    read by sub-block."""

    def __init__(self, file: CziFile) -> None:
        import aicspylibczi

        self.blocks = SubBlocks(file)
        self.path = file.path
        self.czi = aicspylibczi.CziFile(str(file.path))
        self.dims = self.czi.dims
        sizes = file.structure.table[["h", "w"]]
        self.one_size = bool((sizes == sizes.iloc[0]).all(axis=None))
        self.selected = {
            name: int(file.structure.table[name].iloc[0]) for name in SELECTABLE if name in self.dims
        }

    def close(self) -> None:
        """Drop the library's handle."""
        self.blocks.close()
        handle = getattr(self.czi, "_bytes", None)  # the library leaves its file open
        self.czi = None
        if handle is not None:
            handle.close()

    def read(self, scene: SceneInfo, time: int, rows: pd.DataFrame) -> Tiles:
        """See `Backend.read`."""
        channels, depths, tiles = self.blocks.axes(scene.index)
        shape = (len(tiles), len(channels), len(depths), int(rows["h"].iloc[0]), int(rows["w"].iloc[0]))
        full = len(rows) == np.prod(shape[:3]) and self.one_size  # else it leaves planes uninitialised
        known = rows["compression"].isin(_NATIVE).all() and self._numbered(rows, len(tiles))
        if not (full and known):
            return self.blocks.gather(scene.index, rows, self.blocks.plane)
        self.blocks.check(rows)
        wanted = {name: value for name, value in (("S", scene.index), ("T", time)) if name in self.dims}
        try:
            data, found = self.czi.read_image(**wanted, **self.selected, cores=1)
        except Exception as error:  # the library's own exceptions are plain Exception subclasses
            raise CorruptFileError(
                f"aicspylibczi cannot read frame T={time}: {error}",
                where=self.path,
                mend=_other("aicspylibczi"),
            ) from error
        names = [name for name, _ in found]
        if data.size != np.prod(shape) or data.dtype != self.blocks.dtype:
            return self.blocks.gather(scene.index, rows, self.blocks.plane)
        keep = [names.index(name) for name in "MCZYX" if name in names]
        lead = [axis for axis in range(data.ndim) if axis not in keep]
        return list(np.transpose(data, lead + keep).reshape(shape))

    def _numbered(self, rows: pd.DataFrame, count: int) -> bool:
        """The library tells the tiles apart as the directory's table does."""
        return count == 1 or ("M" in self.dims and bool((rows["M"] == rows["m"]).all()))


class PylibBackend:
    """pylibCZIrw: it composes a region and lets the highest M win, so a covered tile is decoded from its
    bytes."""

    def __init__(self, file: CziFile) -> None:
        from pylibCZIrw import czi

        self.blocks = SubBlocks(file)
        self.path = file.path
        self._open = czi.open_czi(str(file.path))
        self.czi = self._open.__enter__()
        self.has_scenes = "S" in file.dims
        self.dims = [name for name in SELECTABLE + "TCZ" if name in file.dims]

    def close(self) -> None:
        """Close the library's handle."""
        self.blocks.close()
        self._open.__exit__(None, None, None)

    def read(self, scene: SceneInfo, time: int, rows: pd.DataFrame) -> Tiles:
        """See `Backend.read`."""
        self.blocks.check(rows)
        covered = _covered(rows)

        def plane(row: Row) -> np.ndarray:
            if covered[row.m] or row.compression not in _NATIVE:
                return self.blocks.plane(row)
            return self._roi(scene.index, row)

        return self.blocks.gather(scene.index, rows, plane)

    def _roi(self, scene: int, row: Row) -> np.ndarray:
        where = {name: int(getattr(row, name)) for name in self.dims}
        roi = (int(row.x), int(row.y), int(row.w), int(row.h))
        try:
            data = self.czi.read(roi=roi, plane=where, scene=scene if self.has_scenes else None)
        except RuntimeError as error:
            raise CorruptFileError(
                f"pylibCZIrw cannot read plane {where}: {error}", where=self.path, mend=_other("pylibczirw")
            ) from error
        return data[..., 0]


def _covered(rows: pd.DataFrame) -> dict[int, bool]:
    """Tile -> whether a tile with a higher index overlaps it in this frame."""
    tiles = rows.drop_duplicates("m")[["m", "x", "y", "w", "h"]].to_numpy()
    m, x, y, w, h = (tiles[:, column] for column in range(5))
    apart = (
        (x[:, None] + w[:, None] <= x)
        | (x + w <= x[:, None])
        | (y[:, None] + h[:, None] <= y)
        | (y + h <= y[:, None])
    )
    higher = m > m[:, None]
    return dict(zip(m.tolist(), (~apart & higher).any(axis=1).tolist(), strict=True))
