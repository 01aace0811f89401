"""The two CZI libraries as decoders of one frame's tiles; both give the same pixels for every file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from hyped_core.errors import CorruptFileError
from hyped_imaging.readers.structure import MEND
from hyped_imaging.readers.subblock import check_block, open_binary, read_pixels

if TYPE_CHECKING:
    import pandas as pd

    from hyped_imaging.readers.czi import CziFile, SceneInfo

Tiles = list[np.ndarray | None]


class Backend(Protocol):
    """Decodes the tiles of a frame."""

    def read(self, scene: SceneInfo, time: int, rows: pd.DataFrame) -> Tiles:
        """Tiles of ``rows`` (the frame's sub-blocks), each (c, z, y, x), None where one lacks a plane."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


def make_backend(file: CziFile) -> Backend:
    """The decoder that ``file.reader`` names."""
    return AicsBackend(file) if file.reader == "aicspylibczi" else PylibBackend(file)


class SubBlocks:
    """Reads sub-blocks one by one from their byte offsets."""

    def __init__(self, file: CziFile) -> None:
        self.path = file.path
        self.axes = file.axes
        self.dtype = file.dtype
        self.handle = open_binary(file.path)

    def close(self) -> None:
        """Close the file."""
        self.handle.close()

    def check(self, rows: pd.DataFrame) -> None:
        """Look at the head of every sub-block of ``rows`` before a C++ library does."""
        for row in rows.itertuples():
            check_block(self.handle, row.position, row.n_dims, row.pixel_type)

    def plane(self, row: object) -> np.ndarray:
        """Pixels (y, x) of one row of the directory."""
        return read_pixels(
            self.handle, row.position, row.n_dims, (row.h, row.w), row.pixel_type, row.compression
        )  # type: ignore[attr-defined]

    def gather(self, scene: int, rows: pd.DataFrame, read: object) -> Tiles:
        """Stack ``read(row)`` of every sub-block by tile, channel and Z."""
        channels, depths, tiles = self.axes(scene)
        out: Tiles = []
        groups = dict(iter(rows.groupby("m")))
        for m in tiles:
            group = groups.get(m)
            if group is None or len(group) < len(channels) * len(depths):
                out.append(None)
                continue
            first = group.iloc[0]
            stack = np.empty((len(channels), len(depths), int(first["h"]), int(first["w"])), self.dtype)
            for row in group.itertuples():
                if (row.h, row.w) != stack.shape[2:]:
                    raise CorruptFileError(
                        f"tile {m} changes its size between planes", where=self.path, mend=MEND
                    )
                stack[channels.index(row.C), depths.index(row.Z)] = read(row)  # type: ignore[operator]
            out.append(stack)
        return out


class AicsBackend:
    """aicspylibczi: one call a frame; a frame that is not a full grid of equal tiles is read by sub-block."""

    def __init__(self, file: CziFile) -> None:
        import aicspylibczi

        self.blocks = SubBlocks(file)
        self.path = file.path
        self.czi = aicspylibczi.CziFile(str(file.path))
        self.dims = self.czi.dims

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
        full = len(rows) == len(channels) * len(depths) * len(tiles)
        equal = rows["h"].nunique() == 1 and rows["w"].nunique() == 1
        if not (full and equal) or ("M" not in self.dims and len(tiles) > 1):
            return self.blocks.gather(scene.index, rows, self.blocks.plane)
        self.blocks.check(rows)
        wanted = {name: value for name, value in (("S", scene.index), ("T", time)) if name in self.dims}
        try:
            data, shape = self.czi.read_image(**wanted, cores=1)
        except Exception as error:  # the library's own exceptions are plain Exception subclasses
            raise CorruptFileError(
                f"aicspylibczi cannot read frame T={time}: {error}",
                where=self.path,
                mend="try --reader pylibczirw, or " + MEND,
            ) from error
        names = [name for name, _ in shape]
        keep = [names.index(name) for name in "MCZYX" if name in names]
        lead = [axis for axis in range(data.ndim) if axis not in keep]
        data = np.transpose(data, lead + keep).reshape(
            len(tiles), len(channels), len(depths), data.shape[-2], data.shape[-1]
        )
        return list(data)


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
        self.dims = [name for name in "BHTCZ" if name in file.dims]
        self.many = len(file.scenes) > 1

    def close(self) -> None:
        """Close the library's handle."""
        self.blocks.close()
        self._open.__exit__(None, None, None)

    def read(self, scene: SceneInfo, time: int, rows: pd.DataFrame) -> Tiles:
        """See `Backend.read`."""
        self.blocks.check(rows)
        covered = _covered(rows)

        def plane(row: object) -> np.ndarray:
            if covered[row.m]:  # type: ignore[attr-defined]
                return self.blocks.plane(row)
            return self._roi(scene.index, row)

        return self.blocks.gather(scene.index, rows, plane)

    def _roi(self, scene: int, row: object) -> np.ndarray:
        where = {name: int(getattr(row, name)) for name in self.dims}
        roi = (int(row.x), int(row.y), int(row.w), int(row.h))  # type: ignore[attr-defined]
        try:
            data = self.czi.read(roi=roi, plane=where, scene=scene if self.has_scenes else None)
        except RuntimeError as error:
            raise CorruptFileError(
                f"pylibCZIrw cannot read plane {where}: {error}", where=self.path, mend=MEND
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
