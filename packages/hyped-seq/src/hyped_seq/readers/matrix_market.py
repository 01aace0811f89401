"""Matrix Market files of counts, streamed into a CSR matrix of cells without a copy in between."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import scipy.sparse as sp

from hyped_core.errors import CorruptFileError, InvalidDataError
from hyped_seq.readers import kernels
from hyped_seq.readers.matrix import MOST, index_type, open_bytes, reading

_CHUNK = 4 << 20
"""Bytes of text parsed at a time."""
_LONGEST_LINE = 4096
_DENSEST = 1040
"""No gzip holds more than 1032 bytes in one; with this, a header cannot ask for memory that the file cannot fill."""
_COUNT = rb"[-+]?(?:\d{1,30}(?:\.\d{0,30})?(?:e[-+]?\d{1,3})?|inf|nan)"
_ENTRY = re.compile(rb"\s*(\d{1,30})\s+(\d{1,30})\s+(" + _COUNT + rb")\s*", re.IGNORECASE)
_FIELDS = ("integer", "real", "unsigned-integer")
_SHORTEST = len("1 1 1\n")


@dataclass(frozen=True, slots=True)
class Header:
    """What the top of a Matrix Market file says, and how many lines it has."""

    features: int
    cells: int
    entries: int
    lines: int


def read_matrix_market(path: Path) -> sp.csr_matrix:
    """The counts of a Matrix Market file (features x cells, ``coordinate``) as cells x features.

    Entries may come in any order; those of one place are summed, zeros are left out. Counts may be written as
    whole numbers or as reals that are whole (``3.0``, ``1e2``).

    Returns
    -------
    CSR int32, indices sorted.

    Raises
    ------
    MissingFileError, CorruptFileError
        No such file, not Matrix Market, cut short, or an entry that is none; the line is named.
    InvalidDataError
        A negative or fractional count, or one above 2147483647; the line is named.
    """
    with reading(path), open_bytes(path) as handle:
        return _Parser(path, handle).read()


class _Parser:
    """Parses one open file; holds the entries read so far."""

    def __init__(self, path: Path, handle: IO[bytes]) -> None:
        self.path, self.handle = path, handle
        self.header = header = _read_header(path, handle)
        self.features = np.empty(header.entries, dtype=np.int32)
        self.values = np.empty(header.entries, dtype=np.int32)
        self.cells = np.empty(0, dtype=np.int32)
        self.per_cell = np.zeros(header.cells, dtype=np.int64)
        self.state = np.array([0, -1, -1, header.lines, 1], dtype=np.int64)

    def read(self) -> sp.csr_matrix:
        """All entries as a matrix of cells."""
        text = np.empty(_CHUNK + _LONGEST_LINE + 1, dtype=np.uint8)
        view = memoryview(text)
        kept = 0
        while True:
            got = self.handle.readinto(view[kept : kept + _CHUNK])  # type: ignore[attr-defined]
            size = kept + got
            if not got:
                if not kept:
                    break
                text[size] = ord("\n")
                size += 1
            whole = size - _after_last_line(text[:size])
            self._parse(text, whole)
            kept = size - whole
            if kept > _LONGEST_LINE:
                raise self._broken(f"line {self.state[kernels.LINES] + 1} does not end")
            text[:kept] = text[whole:size]
        read = int(self.state[kernels.ENTRIES])
        if read != self.header.entries:
            raise self._broken(
                f"ends at line {self.state[kernels.LINES]} after {read} entries, its header says {self.header.entries}"
            )
        return self._matrix()

    def _parse(self, text: np.ndarray, end: int) -> None:
        """Parse the whole lines of ``text[:end]``."""
        at = 0
        while at < end:
            at, reason = kernels.parse_entries(
                text, at, end, self.header.features, self.header.cells,
                self.features, self.values, self.cells, self.per_cell, self.state,
            )  # fmt: skip
            if reason == kernels.OUT_OF_ORDER:
                self.cells = np.empty(self.header.entries, dtype=np.int32)
                earlier = np.repeat(np.arange(self.header.cells, dtype=np.int32), self.per_cell)
                self.cells[: len(earlier)] = earlier
                self.state[kernels.CANONICAL] = 0
            elif reason == kernels.TOO_MANY:
                line = self.state[kernels.LINES] + 1
                raise self._broken(f"line {line} is one entry more than the {self.header.entries} of its header")
            elif reason == kernels.ODD_LINE:
                stop = at + int(np.flatnonzero(text[at:end] == ord("\n"))[0]) + 1
                plain = self._plain(text[at:stop].tobytes())
                if plain:
                    self._parse(np.frombuffer(plain, dtype=np.uint8), len(plain))
                else:
                    self.state[kernels.LINES] += 1
                at = stop

    def _plain(self, line: bytes) -> bytes:
        """An entry as the compiled parser takes it; nothing for an empty line; an error for all else."""
        number = int(self.state[kernels.LINES]) + 1
        fields = line.split()
        if not fields or fields[0].startswith(b"%"):
            return b""
        shown = line.decode("ascii", "replace").strip()[:60]
        found = _ENTRY.fullmatch(line)
        if found is None:
            raise self._broken(f"line {number} is no entry: {shown!r}")
        feature, cell, value = int(found[1]), int(found[2]), float(found[3])
        if not (1 <= feature <= self.header.features and 1 <= cell <= self.header.cells):
            raise self._broken(
                f"line {number} ({shown!r}) is outside the {self.header.features} x {self.header.cells} of its header"
            )
        if not np.isfinite(value) or value < 0 or value != int(value) or value > MOST:
            kind = (
                "not finite" if not np.isfinite(value)
                else "negative" if value < 0
                else f"above {MOST}" if value > MOST
                else "not a whole number"
            )  # fmt: skip
            raise InvalidDataError(
                f"line {number} has a count that is {kind}: {shown!r}",
                where=self.path,
                mend="give the raw matrix, not the processed one",
            )
        return f"{feature} {cell} {int(value)}\n".encode()

    def _matrix(self) -> sp.csr_matrix:
        """The entries as CSR with sorted indices."""
        shape = (self.header.cells, self.header.features)
        kind = index_type(self.header.entries)
        indptr = np.concatenate([[0], np.cumsum(self.per_cell)]).astype(kind)
        if len(self.cells):
            self.features, self.values = kernels.group_by_cell(self.cells, self.features, self.values, indptr)
            self.cells = np.empty(0, dtype=np.int32)
        if not self.state[kernels.CANONICAL]:
            before = indptr.copy()
            rows = np.arange(self.header.cells)
            nowhere = np.empty(0, dtype=np.int32)
            over = kernels.put_rows(
                rows, before, self.features, self.values, nowhere, indptr, self.features, self.values
            )
            if over >= 0:
                raise InvalidDataError(
                    f"cell {over + 1} has a feature whose entries sum to more than {MOST}",
                    where=self.path,
                    mend="give raw counts",
                )
        stored = int(indptr[-1])
        matrix = sp.csr_matrix((self.values[:stored], self.features[:stored], indptr), shape=shape, copy=False)
        matrix.has_canonical_format = True
        return matrix

    def _broken(self, what: str) -> CorruptFileError:
        return CorruptFileError(what, where=self.path, mend="copy the file again")


def read_header(path: Path) -> Header:
    """What the top of the Matrix Market file ``path`` says; raises what `read_matrix_market` does."""
    with reading(path), open_bytes(path) as handle:
        return _read_header(path, handle)


def _read_header(path: Path, handle: IO[bytes]) -> Header:
    """Read the banner, comments and the line of sizes."""

    def broken(what: str, mend: str = "copy the file again") -> CorruptFileError:
        return CorruptFileError(what, where=path, mend=mend)

    banner = handle.readline(_LONGEST_LINE).decode("utf-8", "replace").lower().split()
    if len(banner) != 5 or banner[0] not in ("%%matrixmarket", "%matrixmarket"):
        raise broken("is not a Matrix Market file: line 1 has no %%MatrixMarket")
    if banner[2] != "coordinate" or banner[3] not in _FIELDS or banner[4] != "general":
        raise broken(
            f"line 1 says {' '.join(banner[1:])!r}, not 'matrix coordinate integer general'",
            "give the matrix as 10x and wf-single-cell write it",
        )
    lines = 1
    while line := handle.readline(_LONGEST_LINE):
        lines += 1
        if line.strip() and not line.startswith(b"%"):
            break
    sizes = line.split()
    if len(sizes) != 3 or not all(size.isdigit() and len(size) < 16 for size in sizes):
        raise broken(f"line {lines} does not say rows, columns and entries")
    features, cells, entries = map(int, sizes)
    if max(features, cells) > MOST:
        raise broken(f"line {lines} says more rows or columns than {MOST}")
    size = path.stat().st_size * (_DENSEST if path.suffix == ".gz" else 1)
    if entries * _SHORTEST > size + 1:
        raise broken(f"line {lines} says {entries} entries, more than the file has room for")
    return Header(features, cells, entries, lines)


def _after_last_line(text: np.ndarray) -> int:
    """Bytes behind the last line end."""
    for size in (256, len(text)):
        ends = np.flatnonzero(text[-size:] == ord("\n"))
        if len(ends):
            return min(size, len(text)) - 1 - int(ends[-1])
    return len(text)
