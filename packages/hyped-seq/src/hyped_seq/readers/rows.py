"""Rows and columns of count matrices taken, moved and stacked without copies in between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError
from hyped_seq.readers.kernels import put_rows
from hyped_seq.readers.matrix import MOST, index_type

_AS_THEY_ARE = np.empty(0, dtype=np.int64)


def take_rows(counts: sp.csr_matrix, rows: np.ndarray) -> sp.csr_matrix:
    """Rows of ``counts`` (CSR int32) in the order of ``rows``; -1 makes a row without entries."""
    sizes = np.diff(counts.indptr)
    stored = int(sizes[rows[rows >= 0]].sum())
    out = _Room(len(rows), counts.shape[1], stored)
    out.put(counts, np.asarray(rows, dtype=np.int64), _AS_THEY_ARE)
    return out.matrix()


def take_columns(counts: sp.csr_matrix, keep: np.ndarray) -> sp.csr_matrix:
    """The columns of ``counts`` (CSR int32) where ``keep`` is true; ``counts`` itself where all are kept."""
    if keep.all():
        return counts
    target = np.where(keep, np.cumsum(keep) - 1, -1)
    return stack([counts], [target], int(keep.sum()))


def stack(parts: Sequence[sp.csr_matrix | None], targets: Sequence[np.ndarray], width: int) -> sp.csr_matrix:
    """Rows of all ``parts`` (CSR int32) under one another in a matrix ``width`` wide.

    Column ``j`` of part ``i`` goes to column ``targets[i][j]`` and is added to what else goes there; -1 drops it.
    A list of ``parts`` is emptied as it is used, so that no more than one part is in memory twice.

    Raises
    ------
    InvalidDataError
        A sum is above 2147483647.
    """
    shapes = [part.shape for part in parts if part is not None]
    if len(shapes) == 1 and shapes[0][1] == width and (targets[0] == np.arange(width)).all():
        return parts[0]
    out = _Room(sum(rows for rows, _ in shapes), width, sum(int(part.nnz) for part in parts if part is not None))
    for i, target in enumerate(targets):
        out.put(parts[i], np.arange(parts[i].shape[0]), np.asarray(target, dtype=np.int64))
        if isinstance(parts, list):
            parts[i] = None
    return out.matrix()


class _Room:
    """A matrix that is filled from its first row on."""

    def __init__(self, rows: int, width: int, stored: int) -> None:
        self.shape = (rows, width)
        self.indptr = np.zeros(rows + 1, dtype=index_type(stored))
        self.indices = np.empty(stored, dtype=np.int32)
        self.data = np.empty(stored, dtype=np.int32)
        self.filled = 0

    def put(self, counts: sp.csr_matrix, rows: np.ndarray, target: np.ndarray) -> None:
        """Write ``rows`` of ``counts`` below what is there."""
        to_indptr = self.indptr[self.filled : self.filled + len(rows) + 1]
        over = put_rows(
            rows, counts.indptr, counts.indices, counts.data, target, to_indptr, self.indices, self.data
        )
        if over >= 0:
            raise InvalidDataError(
                f"counts of cell {over + 1} sum to more than {MOST} where features share a name",
                mend="give raw counts, or keep such features apart (duplicate_symbols: keep)",
            )
        self.filled += len(rows)

    def matrix(self) -> sp.csr_matrix:
        """What was written, as CSR with sorted indices."""
        stored = int(self.indptr[-1])
        matrix = sp.csr_matrix((self.data[:stored], self.indices[:stored], self.indptr), shape=self.shape, copy=False)
        matrix.has_canonical_format = True
        return matrix
