"""Absolute Pearson correlations between genes, some rows at a time: from nonzero values alone, or dense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError

SPARSE_UP_TO = 0.2
"""Up to this share of nonzero values products of these alone are faster than dense ones (measured on one core)."""
_SPARSE_BYTES = 1 << 20
"""Sums of so many genes at once stay in the processor's cache."""
_DENSE_GENES = 640
"""Genes of a dense block."""
_DENSE_CELLS = 1024
"""Cells made dense at once."""
_DENSE_BYTES = 512 << 20
"""A matrix up to this size that is to be taken dense is made so once, a larger one piece by piece."""
_CONSTANT = 1e-18
"""A variance below this part of the squared mean is rounding."""


def correlations(x: Any) -> tuple[np.ndarray, Iterator[tuple[int, np.ndarray]]]:
    """Which genes vary, and |r| of each pair of genes.

    Parameters
    ----------
    x
        Expression, (cells, genes), dense or sparse.

    Returns
    -------
    varies : bool (genes,).
    blocks : the number of a block's first gene, and float64 (width, genes - first): |r| of gene ``first + i`` and
        gene ``first + j`` at ``[i, j]`` where ``j > i``, 0 where either does not vary. Other places have no meaning.

    Raises
    ------
    InvalidDataError
        Fewer than two cells, or a value that is not finite.
    """
    matrix = _stored(x)
    mean, spread = moments(matrix)
    return spread > 0, _blocks(matrix, mean, spread)


def _blocks(matrix: Any, mean: np.ndarray, spread: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    scale = np.divide(1.0, np.sqrt(spread), out=np.zeros(len(mean)), where=spread > 0)
    for first, sums in _sparse(matrix, mean) if sp.issparse(matrix) else _dense(matrix, mean):
        sums *= scale[first : first + len(sums), None]
        sums *= scale[first:]
        np.abs(sums, out=sums)
        yield first, np.minimum(sums, 1.0, out=sums)


def moments(x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each gene and sum of its squared deviations, 0 exactly where it does not vary; float64 (genes,).

    ``x`` is dense, or CSR without repeated entries.
    """
    cells, genes = x.shape
    if sp.issparse(x):
        mean = np.bincount(x.indices, weights=x.data, minlength=genes) / cells
        zeros = cells - np.bincount(x.indices, minlength=genes)
        spread = zeros * mean**2
        spread += np.bincount(x.indices, weights=(x.data - mean[x.indices]) ** 2, minlength=genes)
    else:
        mean = x.mean(axis=0, dtype=np.float64)
        spread = np.zeros(genes)
        for start in range(0, cells, _DENSE_CELLS):
            spread += np.square(x[start : start + _DENSE_CELLS] - mean).sum(axis=0)
    return mean, np.where(spread > _CONSTANT * cells * mean**2, spread, 0.0)


def _stored(x: Any) -> Any:
    """``x`` as CSR with rising columns where few enough values are nonzero, else dense where that fits."""
    matrix: Any = sp.csr_matrix(x) if sp.issparse(x) else np.asarray(x)
    if sp.issparse(matrix) and not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    cells, genes = matrix.shape
    if cells < 2:
        raise InvalidDataError(
            f"{cells} cells give no correlations", where="co-expression graph", mend="give at least two cells"
        )
    if not np.isfinite(matrix.data if sp.issparse(matrix) else matrix).all():
        raise InvalidDataError(
            "a value of the expression matrix is not finite",
            where="co-expression graph",
            mend="remove the cells or genes with NaN or infinite values",
        )
    filled = np.diff(matrix.indptr) if sp.issparse(matrix) else np.count_nonzero(matrix, axis=1)
    if np.square(filled, dtype=np.float64).sum() > SPARSE_UP_TO**2 * cells * float(genes) ** 2:
        fits = cells * genes * matrix.dtype.itemsize <= _DENSE_BYTES
        return matrix.toarray() if sp.issparse(matrix) and fits else matrix
    return sp.csr_matrix(matrix)


def _sparse(matrix: sp.csr_matrix, mean: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Sums of products of deviations from products of nonzero values."""
    cells, genes = matrix.shape
    at = matrix.indptr[:-1].astype(np.int64)
    data = matrix.data.astype(np.float64)
    width = max(1, _SPARSE_BYTES // (8 * max(genes, 1)))
    for first in range(0, genes, width):
        last = min(first + width, genes)
        sums = np.zeros((last - first, genes - first))
        add_products(matrix.indptr, matrix.indices, data, at, first, last, sums)
        sums -= cells * mean[first:last, None] * mean[first:]
        yield first, sums


def _dense(matrix: Any, mean: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Sums of products of deviations from dense pieces."""
    cells, genes = matrix.shape
    for first in range(0, genes, _DENSE_GENES):
        last = min(first + _DENSE_GENES, genes)
        sums = np.zeros((last - first, genes - first))
        for start in range(0, cells, _DENSE_CELLS):
            piece = matrix[start : start + _DENSE_CELLS, first:]
            centred = (piece.toarray() if sp.issparse(piece) else piece) - mean[first:]
            sums += centred[:, : last - first].T @ centred
        yield first, sums


@numba.njit(cache=True, nogil=True)
def add_products(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    at: np.ndarray,
    first: int,
    last: int,
    sums: np.ndarray,
) -> None:
    """Add the products of columns ``first`` to ``last - 1`` of a CSR matrix with themselves and the columns behind.

    Parameters
    ----------
    indptr, indices, data
        The matrix, columns rising in each row.
    at
        Where in each row the columns from ``first`` on begin; moved to where those from ``last`` on do.
    sums
        float64 (last - first, columns - first): the products of column ``first + i`` and ``first + j`` are added
        where ``j >= i``, row by row of the matrix, so that the result is the same on every machine.
    """
    for row in range(len(indptr) - 1):
        place, end = at[row], indptr[row + 1]
        while place + 1 < end and indices[place + 1] < last:  # two genes at once: half the reading of the rest
            one, two = data[place], data[place + 1]
            first_row, second_row = np.uint64(indices[place] - first), np.uint64(indices[place + 1] - first)
            sums[first_row, first_row] += one * one
            for other in range(place + 1, end):
                column, value = np.uint64(indices[other] - first), data[other]
                sums[first_row, column] += one * value
                sums[second_row, column] += two * value
            place += 2
        if place < end and indices[place] < last:
            one, first_row = data[place], np.uint64(indices[place] - first)
            for other in range(place, end):
                sums[first_row, np.uint64(indices[other] - first)] += one * data[other]
            place += 1
        at[row] = place
