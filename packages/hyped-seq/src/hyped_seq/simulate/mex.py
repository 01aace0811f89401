"""10x MEX folders written a block of cells at a time, with the same bytes for the same counts."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

LEVEL = 4
"""gzip level: most of the saving at a fraction of the time."""

DECIMALS = 5
"""Digits after the point of a real matrix."""


def gzip_writer(handle: BinaryIO) -> gzip.GzipFile:
    """A gzip stream without file name and time, so that equal content gives equal bytes."""
    return gzip.GzipFile(filename="", mode="wb", fileobj=handle, mtime=0, compresslevel=LEVEL)


def write_gzip(path: Path, lines: Iterable[str]) -> None:
    """Write ``lines`` (without line ends) as a gzipped text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as raw, gzip_writer(raw) as out:
        out.write("".join(f"{line}\n" for line in lines).encode())


def write_features(folder: Path, names: Iterable[str]) -> None:
    """``features.tsv.gz`` as the workflow writes it: placeholder id, name, always ``Gene Expression``."""
    lines = (f"unknown_{i:05d}\t{name}\tGene Expression" for i, name in enumerate(names))
    write_gzip(folder / "features.tsv.gz", lines)


def write_barcodes(folder: Path, barcodes: Iterable[str]) -> None:
    """``barcodes.tsv.gz``, each with the suffix ``-1``."""
    write_gzip(folder / "barcodes.tsv.gz", (f"{barcode}-1" for barcode in barcodes))


def format_entries(row: npt.NDArray, column: npt.NDArray, value: npt.NDArray, decimals: int = 0) -> bytes:
    """Lines ``row column value`` of non-negative numbers, written digit by digit for all lines at once.

    ``decimals`` digits follow the point of ``value``; 0 writes whole numbers. Formatting one number after the
    other takes several times as long and would be most of the time at full scale.
    """
    n = len(row)
    scaled = np.rint(np.asarray(value, dtype=float) * 10**decimals).astype(np.int64)
    parts: list[npt.NDArray[np.uint8]] = []
    for numbers, point, end in ((row, 0, b" "), (column, 0, b" "), (scaled, decimals, b"\n")):
        numbers = np.asarray(numbers, dtype=np.int64)
        width = max(len(str(int(numbers.max(initial=0)))), point + 1)
        for k in range(width - 1, -1, -1):
            if k == point - 1:
                parts.append(np.full(n, ord("."), np.uint8))
            digit = (numbers // 10**k % 10 + ord("0")).astype(np.uint8)
            shown = (numbers >= 10**k) | (k <= point)
            parts.append(np.where(shown, digit, 0).astype(np.uint8))
        parts.append(np.full(n, end[0], np.uint8))
    table = np.stack(parts, axis=1).ravel()
    return table[table != 0].tobytes()


class MatrixWriter:
    """``matrix.mtx.gz`` (features x cells), appended to by blocks of cells; use as a context manager.

    The number of entries, which the header needs, is known only at the end: the body goes to a file of its
    own and is put behind the header as a second gzip member.
    """

    def __init__(self, folder: Path, n_features: int, field: str = "integer") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "matrix.mtx.gz"
        self.n_features, self.field = n_features, field
        self.n_cells = self.n_entries = 0
        self._body_path = folder / ".body.gz"
        self._raw = open(self._body_path, "wb")
        self._body = gzip_writer(self._raw)

    def append(self, block: sp.csr_matrix) -> None:
        """Add cells (rows of ``block``)."""
        block = sp.csr_matrix(block)
        cell = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr)) + self.n_cells + 1
        decimals = 0 if self.field == "integer" else DECIMALS
        self._body.write(format_entries(block.indices + 1, cell, block.data, decimals))
        self.n_cells += block.shape[0]
        self.n_entries += block.nnz

    def __enter__(self) -> MatrixWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._body.close()
        self._raw.close()
        if kind is None:
            header = f"%%MatrixMarket matrix coordinate {self.field} general\n%\n"
            header += f"{self.n_features} {self.n_cells} {self.n_entries}\n"
            with open(self.path, "wb") as out:
                with gzip_writer(out) as stream:
                    stream.write(header.encode())
                with open(self._body_path, "rb") as body:
                    shutil.copyfileobj(body, out, 1 << 20)
        self._body_path.unlink()
