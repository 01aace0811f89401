"""Matrices inside an h5ad file, read some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_VALUES = 4_000_000
"""Values held at a time: about 50 MB of sparse matrices."""


class StoredMatrix:
    """Rows of a CSR or dense matrix in an open HDF5 file; what is wrong with its storage is `defect`.

    Parameters
    ----------
    element
        ``h5py.Group`` (CSR as AnnData writes it) or ``h5py.Dataset``.
    """

    def __init__(self, element: Any) -> None:
        self._element = element
        self._starts: npt.NDArray[np.int64] | None = None
        self.shape: tuple[int, int] = (0, 0)
        self.defect = self._open()

    def _open(self) -> str:
        import h5py

        element = self._element
        if isinstance(element, h5py.Dataset):
            if element.ndim != 2:
                return f"has {element.ndim} dimensions, not 2"
            self.shape = (int(element.shape[0]), int(element.shape[1]))
            return "" if element.dtype.kind in "iufb" else "does not hold numbers"
        kind = element.attrs.get("encoding-type")
        if kind != "csr_matrix" or not {"data", "indices", "indptr"} <= set(element):
            return f"is stored as {kind!r}, not as csr_matrix or a dense array"
        self.shape = tuple(int(n) for n in element.attrs["shape"])  # type: ignore[assignment]
        starts = element["indptr"][:].astype(np.int64)
        self._starts = starts
        stored = int(element["data"].shape[0])
        if len(starts) != self.shape[0] + 1 or starts[0] != 0 or (np.diff(starts) < 0).any():
            return "has row starts (indptr) that do not go with its rows"
        columns = int(element["indices"].shape[0])
        if starts[-1] != stored or columns != stored:
            return f"has {stored} values, {columns} columns for them, {starts[-1]} by its row starts"
        return "" if element["data"].dtype.kind in "iufb" else "does not hold numbers"

    def rows(self, start: int, stop: int) -> Any:
        """Rows ``start`` to ``stop`` as CSR.

        Raises
        ------
        ValueError
            A column number is outside the matrix.
        """
        import scipy.sparse as sp

        if self._starts is None:
            return sp.csr_matrix(self._element[start:stop])
        first, last = int(self._starts[start]), int(self._starts[stop])
        columns = self._element["indices"][first:last]
        if columns.size and (columns.min() < 0 or columns.max() >= self.shape[1]):
            raise ValueError(f"names a column outside its {self.shape[1]}")
        parts = (self._element["data"][first:last], columns, self._starts[start : stop + 1] - first)
        return sp.csr_matrix(parts, shape=(stop - start, self.shape[1]))

    def starts(self) -> npt.NDArray[np.int64]:
        """(rows + 1,) values before each row, those of all rows last."""
        if self._starts is None:
            return np.arange(self.shape[0] + 1, dtype=np.int64) * self.shape[1]
        return self._starts


def row_blocks(matrices: Sequence[StoredMatrix]) -> Iterator[tuple[int, int]]:
    """First and last row (exclusive) of blocks in which matrices with the same rows hold `BLOCK_VALUES` together.

    A row that holds more by itself is a block.
    """
    if not matrices:
        return
    starts = np.sum([matrix.starts() for matrix in matrices], axis=0)
    n_rows, start = len(starts) - 1, 0
    while start < n_rows:
        last = int(np.searchsorted(starts, int(starts[start]) + BLOCK_VALUES, side="right")) - 1
        stop = min(max(start + 1, last), n_rows)
        yield start, stop
        start = stop
