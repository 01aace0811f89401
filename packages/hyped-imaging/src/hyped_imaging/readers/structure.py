"""The skeleton of a CZI (ZISRAW) file: header, sub-block directory, attachments, checked before any C++
library sees it.

Layout from "ZISRAW (CZI) File Format", ZEISS, version 1.2: segments of a 32 byte header (id, allocated size,
used size) and a body; the file header points at the sub-block directory, the metadata and the attachment
directory.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hyped_core.errors import (
    CorruptFileError,
    InvalidDataError,
    MissingFileError,
    UnsupportedDataError,
    UsageError,
)

if TYPE_CHECKING:
    import pandas as pd

HEADER = 32
"""Bytes of a segment's header."""
DIMENSIONS = "BVHISRTCZM"
"""Dimensions of a sub-block beside X and Y; one that is absent counts as 0."""
SELECTABLE = "BVHIR"
"""Dimensions of which one value is read."""
GRAY = {0: np.dtype("u1"), 1: np.dtype("<u2")}
"""Pixel types that HYPED reads."""
PIXEL_NAMES = {
    0: "Gray8",
    1: "Gray16",
    2: "Gray32Float",
    3: "Bgr24",
    4: "Bgr48",
    8: "Bgr96Float",
    9: "Bgra32",
    10: "Gray64ComplexFloat",
    11: "Bgr192ComplexFloat",
    12: "Gray32",
    13: "Gray64",
}
COMPRESSIONS = {0: "uncompressed", 1: "JPEG", 4: "JPEG XR", 5: "zstd0", 6: "zstd1"}
"""Compressions that are read."""
_UNREAD = {2: "LZW"}
ABSENT_M = -1
"""Mosaic index of a sub-block that has none."""
_CHECKED = 20_000
_LARGEST = 50_000_000
_DIMENSION = np.dtype(
    [("name", "S4"), ("start", "<i4"), ("size", "<i4"), ("coordinate", "<f4"), ("stored", "<i4")]
)
_HEAD = np.dtype(
    [
        ("schema", "S2"),
        ("pixel_type", "<i4"),
        ("position", "<i8"),
        ("part", "<i4"),
        ("compression", "<i4"),
        ("pyramid", "u1"),
        ("spare", "V5"),
        ("n_dims", "<i4"),
    ]
)

MEND = "copy the file again from its source and compare the sizes"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attachment: its name (``TimeStamps``), content type (``CZTIMS``) and where its bytes lie."""

    name: str
    kind: str
    position: int


def _inside(folder: Path) -> str:
    """What to do about a folder given in place of a file: name a CZI file in it, where it has any."""
    found = sorted(path.name for path in folder.glob("*.czi") if path.is_file())
    return f"give the path of a CZI file in it, e.g. {found[0]}" if found else "give the path of a CZI file"


class CziStructure:
    """Sub-blocks, attachments and metadata of one CZI file, read from its directory in one pass.

    Attributes
    ----------
    path : the file.
    select : value to read of a dimension of `SELECTABLE`.
    table : DataFrame, one row a sub-block of full resolution, sorted by S, T, C, Z, M: columns of
        `DIMENSIONS` (int), ``x, y, w, h`` (pixels, the stage's coordinates), ``pixel_type, compression,
        position`` (byte offset of the segment).
    dims : dimensions that occur, in the order of ``BVHISRTCZMYX``.
    xml : the metadata as text.
    """

    def __init__(self, path: str | Path, select: Mapping[str, int] | None = None) -> None:
        self.path = Path(path)
        self.select = dict(select or {})
        unknown = [name for name in self.select if name not in SELECTABLE or len(name) != 1]
        if unknown:
            raise UsageError(
                f"a value of dimension {', '.join(unknown)} cannot be selected",
                where=path,
                mend=f"dimensions that can: {', '.join(SELECTABLE)}",
            )
        if self.path.is_dir():
            raise MissingFileError("is a folder, not a CZI file", where=path, mend=_inside(self.path))
        if not self.path.is_file():
            raise MissingFileError("no such file", where=path, mend="give the path of a CZI file")
        self.size = self.path.stat().st_size
        self._end = 0
        if self.size < 16:
            raise CorruptFileError("too short to be a CZI file", where=path, mend=MEND)
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            directory, metadata, attachments = self._header(view)
            entries = self._directory(view, directory)
            self._check_blocks(view, entries["position"], entries["n_dims"])
            self.xml = self._metadata(view, metadata)
            self.attachments = self._attachments(view, attachments)
            self._check_tail(view)
        self.dims = entries.pop("dims")
        self.table = self._table(entries)

    # -- segments ----
    def _corrupt(self, message: str) -> CorruptFileError:
        return CorruptFileError(f"{message} (the file has {self.size} bytes)", where=self.path, mend=MEND)

    def _segment(self, view: mmap.mmap, position: int, name: bytes, what: str) -> int:
        """Check the segment at ``position``; return the offset behind its last byte."""
        if position < 0 or position + HEADER > self.size:
            raise self._corrupt(f"truncated: the {what} should be at byte {position}")
        if view[position : position + 16].rstrip(b"\0") != name:
            raise self._corrupt(f"damaged: there is no {what} at byte {position}")
        allocated, used = struct.unpack("<qq", view[position + 16 : position + HEADER])
        whole = position + HEADER + max(allocated, used)
        if allocated < 0 or used < 0 or whole > self.size:
            raise self._corrupt(f"truncated: the {what} should end at byte {whole}")
        self._end = max(self._end, whole)
        return position + HEADER + (used or allocated)

    def _check_tail(self, view: mmap.mmap) -> None:
        """Segments behind the last one known (deleted ones, usually) end in the file too."""
        end = self._end
        while end < self.size:
            head = view[end : end + HEADER]
            if not head.startswith((b"ZISRAW", b"DELETED")):
                return
            allocated = struct.unpack("<q", head[16:24])[0] if len(head) == HEADER else self.size
            end += HEADER + max(allocated, 0)
        if end > self.size:
            raise self._corrupt(f"truncated: its last segment should end at byte {end}")

    def _header(self, view: mmap.mmap) -> tuple[int, int, int]:
        if view[:16].rstrip(b"\0") != b"ZISRAWFILE":
            raise CorruptFileError(
                "not a CZI file (it does not begin with ZISRAWFILE)",
                where=self.path,
                mend="give a file that ZEN or pylibCZIrw wrote",
            )
        if self.size < HEADER + 80:
            raise self._corrupt("truncated within the file header")
        body = view[HEADER : HEADER + 80]
        part = struct.unpack("<i", body[48:52])[0]
        directory, metadata = struct.unpack("<qq", body[52:68])
        attachments = struct.unpack("<q", body[72:80])[0]
        if part != 0:
            raise UnsupportedDataError(
                "one part of a CZI split over several files",
                where=self.path,
                mend="save it as a single file in ZEN",
            )
        if directory <= 0:
            raise CorruptFileError(
                "has no sub-block directory: the acquisition was not closed",
                where=self.path,
                mend="open and save the file in ZEN, which rebuilds the directory",
            )
        return directory, metadata, attachments

    def _metadata(self, view: mmap.mmap, position: int) -> str:
        if position <= 0:
            return ""
        self._segment(view, position, b"ZISRAWMETADATA", "metadata")
        start = position + HEADER
        length = struct.unpack("<i", view[start : start + 4])[0]
        if length < 0 or start + 256 + length > self.size:
            raise self._corrupt("truncated within the metadata")
        return view[start + 256 : start + 256 + length].decode("utf-8", errors="replace").rstrip("\0")

    def _attachments(self, view: mmap.mmap, position: int) -> list[Attachment]:
        if position <= 0:
            return []
        end = self._segment(view, position, b"ZISRAWATTDIR", "attachment directory")
        start = position + HEADER
        count = struct.unpack("<i", view[start : start + 4])[0]
        if count < 0 or start + 256 + 128 * count > max(end, start + 256):
            raise self._corrupt("damaged attachment directory")
        found = []
        for index in range(count):
            entry = view[start + 256 + 128 * index : start + 256 + 128 * (index + 1)]
            where = struct.unpack("<q", entry[12:20])[0]
            self._segment(view, where, b"ZISRAWATTACH", "attachment")
            kind = entry[40:48].rstrip(b"\0").decode("latin-1")
            name = entry[48:128].split(b"\0")[0].decode("utf-8", errors="replace")
            found.append(Attachment(name, kind, where))
        return found

    # -- the directory ----
    def _directory(self, view: mmap.mmap, position: int) -> dict[str, np.ndarray]:
        end = self._segment(view, position, b"ZISRAWDIRECTORY", "sub-block directory")
        start = position + HEADER
        count = struct.unpack("<i", view[start : start + 4])[0]
        start += 128
        if count <= 0:
            raise self._corrupt("holds no image")
        if start + 32 * count > end:
            raise self._corrupt(f"damaged: the directory has no room for its {count} entries")
        runs: dict[int, list[np.ndarray]] = {}
        for first, number, n_dims in self._runs(view, start, count, end):
            kind = np.dtype([("head", _HEAD), ("dim", _DIMENSION, (n_dims,))])
            runs.setdefault(n_dims, []).append(
                np.frombuffer(view[first : first + kind.itemsize * number], kind)
            )
        groups = [_columns(np.concatenate(found)) for found in runs.values()]
        dims = set().union(*(group.pop("dims") for group in groups))
        merged = {key: np.concatenate([group[key] for group in groups]) for key in groups[0]}
        merged["dims"] = "".join(name for name in DIMENSIONS + "YX" if name in dims or name in "YX")
        return merged

    def _runs(self, view: mmap.mmap, start: int, count: int, end: int) -> list[tuple[int, int, int]]:
        """Runs of entries with equally many dimensions: (offset, how many, dimensions). Usually there is
        one."""
        runs: list[tuple[int, int, int]] = []
        done, offset = 0, start
        while done < count:
            if offset + 32 > end or view[offset : offset + 2] != b"DV":
                raise self._corrupt(f"damaged directory entry {done}")
            n_dims = struct.unpack("<i", view[offset + 28 : offset + 32])[0]
            stride = 32 + 20 * n_dims
            if not 2 <= n_dims <= 20 or offset + stride > end:
                raise self._corrupt(f"damaged directory entry {done}")
            room = min(count - done, (end - offset) // stride)
            number, look = 1, 64  # look ahead in growing steps: short runs by turns cost no more than long ones
            while number < room:
                ahead = min(look, room - number)
                first = offset + number * stride
                raw = np.frombuffer(view[first : first + ahead * stride], np.uint8).reshape(ahead, stride)
                same = (
                    (raw[:, 28:32].copy().view("<i4")[:, 0] == n_dims) & (raw[:, 0] == 68) & (raw[:, 1] == 86)
                )
                number += ahead if same.all() else int(np.argmin(same))
                if not same.all():
                    break
                look *= 4
            runs.append((offset, number, n_dims))
            done, offset = done + number, offset + number * stride
        return runs

    def _check_blocks(self, view: mmap.mmap, positions: np.ndarray, n_dims: np.ndarray) -> None:
        """Sub-blocks begin in the file as such, most of them; the last one also ends in it, unless the directory
        lies behind it. A few damaged ones are left to who reads their tiles."""
        outside = (positions < 0) | (positions + HEADER + 256 > self.size)
        if outside.any():
            raise self._corrupt(
                f"truncated: {int(outside.sum())} of {len(positions)} sub-blocks lie behind its end"
            )
        step = max(1, len(positions) // _CHECKED)
        looked = positions[::step].tolist()
        bad = [position for position in looked if view[position : position + 14] != b"ZISRAWSUBBLOCK"]
        if 2 * len(bad) >= len(looked):
            raise self._corrupt(
                f"damaged: there is no sub-block at byte {bad[0]} and {len(bad) - 1} more of {len(looked)} places"
            )
        last = int(np.argmax(positions))
        if positions[last] < self._end:
            return
        self._segment(view, int(positions[last]), b"ZISRAWSUBBLOCK", "last sub-block")
        start = int(positions[last]) + HEADER
        metadata, _, data = struct.unpack("<iiq", view[start : start + 16])
        end = start + max(256, 48 + 20 * int(n_dims[last])) + metadata + data
        if metadata < 0 or data < 0 or end > self.size:
            raise self._corrupt(f"truncated: the last sub-block should end at byte {end}")

    def _check_values(self, entries: dict[str, np.ndarray]) -> None:
        """Indices and sizes that no microscope writes mean a damaged directory."""
        for name in DIMENSIONS:
            values = entries[name]
            if name == "M":
                values[values == np.iinfo(np.int32).min] = ABSENT_M
            if values.min() < (ABSENT_M if name == "M" else 0) or values.max() > _LARGEST:
                raise self._corrupt(f"damaged: the directory has an impossible index in dimension {name}")
        for name in ("w", "h"):
            if entries[name].min() < 1 or entries[name].max() > _LARGEST:
                raise self._corrupt("damaged: the directory has a tile of an impossible size")

    def _table(self, entries: dict[str, np.ndarray]) -> pd.DataFrame:
        import pandas as pd

        self._check_values(entries)
        table = pd.DataFrame(entries)
        full = (table["pyramid"] == 0) & (table["stored_w"] == table["w"]) & (table["stored_h"] == table["h"])
        table = table.loc[full].drop(columns=["pyramid", "stored_w", "stored_h"])
        if table.empty:
            raise UnsupportedDataError("holds no image of full resolution", where=self.path)
        table = self._selected(table)
        if (table["part"] != 0).any():
            raise UnsupportedDataError(
                "its pixels are split over several files",
                where=self.path,
                mend="save it as a single file in ZEN",
            )
        other = sorted(set(table["pixel_type"]) - set(GRAY))
        if other:
            names = ", ".join(PIXEL_NAMES.get(kind, str(kind)) for kind in other)
            raise UnsupportedDataError(
                f"pixels of type {names}; HYPED reads single-channel grey values of 8 or 16 bits",
                where=self.path,
                mend="split the colours into grey channels in ZEN (Create Gray Scale Image)",
            )
        if table["pixel_type"].nunique() > 1:
            raise UnsupportedDataError(
                "mixes 8 and 16 bit pixels", where=self.path, mend="convert all channels to 16 bits in ZEN"
            )
        unread = sorted(set(table["compression"]) - set(COMPRESSIONS))
        if unread:
            names = ", ".join(_UNREAD.get(kind, f"method {kind}") for kind in unread)
            raise UnsupportedDataError(
                f"its pixels are compressed with {names}",
                where=self.path,
                mend="save it in ZEN uncompressed or with zstd",
            )
        return table.sort_values(["S", "T", "C", "Z", "M", "position"], kind="stable", ignore_index=True)


    def _selected(self, table: pd.DataFrame) -> pd.DataFrame:
        """The sub-blocks with the selected values; every dimension of `SELECTABLE` has one value there."""
        for name, value in self.select.items():
            there = sorted(set(table[name].tolist()))
            table = table.loc[table[name] == value]
            if table.empty:
                raise InvalidDataError(
                    f"has no {name}={value}",
                    where=self.path,
                    mend=f"values of {name} there: {', '.join(map(str, there))}",
                )
        for name in SELECTABLE:
            values = sorted(set(table[name].tolist()))
            if len(values) > 1:
                raise UnsupportedDataError(
                    f"has {len(values)} values in dimension {name}: {', '.join(map(str, values[:10]))}",
                    where=self.path,
                    mend=f"choose one by the parameter `select`, for example {{{name}: {values[0]}}}",
                )
        return table


def _columns(raw: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of a run of directory entries; a dimension that is absent is 0 (M: `ABSENT_M`)."""
    head, dim = raw["head"], raw["dim"]
    n = len(raw)
    out = {
        name: head[name].astype(np.int64)
        for name in ("pixel_type", "position", "part", "compression", "pyramid", "n_dims")
    }
    for name in DIMENSIONS:
        out[name] = np.full(n, ABSENT_M if name == "M" else 0, np.int64)
    for name in ("x", "y", "w", "h", "stored_w", "stored_h"):
        out[name] = np.zeros(n, np.int64)
    present: set[str] = set()
    names = dim["name"]
    for name in np.unique(names):
        rows, columns = np.nonzero(names == name)
        letter = name.decode("latin-1").strip("\0 ")
        entry = dim[rows, columns]
        present.add(letter)
        if letter in ("X", "Y"):
            size = "w" if letter == "X" else "h"
            out[letter.lower()][rows] = entry["start"]
            out[size][rows] = entry["size"]
            out[f"stored_{size}"][rows] = np.where(entry["stored"] > 0, entry["stored"], entry["size"])
        elif letter in out:
            out[letter][rows] = entry["start"]
    return {**out, "dims": present}
