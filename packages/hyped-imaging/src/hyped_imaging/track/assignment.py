"""Sparse linear assignment with the option to leave rows and columns alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hyped_imaging.track.kernels import sparse_assignment

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def assign(
    rows: IntArray, columns: IntArray, costs: FloatArray, row_alone: npt.ArrayLike, column_alone: npt.ArrayLike,
    shape: tuple[int, int],
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """Pairs that minimise the summed cost of pairs made, rows left alone and columns left alone.

    So a pair is worth making where it costs less than both alone. Each row and column is in one pair at most.

    Parameters
    ----------
    rows, columns, costs : candidate pairs; no pair twice.
    row_alone, column_alone : what leaving a row or a column alone costs, one number or one each.
    shape : number of rows and columns.

    Returns
    -------
    Rows and columns of the pairs made, sorted by row.
    """
    row_alone = np.broadcast_to(np.asarray(row_alone, dtype=np.float64), shape[0]).copy()
    column_alone = np.broadcast_to(np.asarray(column_alone, dtype=np.float64), shape[1])
    # with every column's cost of staying alone taken off its pairs, only rows have a choice left to pay for
    gains = np.asarray(costs, dtype=np.float64) - column_alone[columns]
    worth = gains < row_alone[rows]
    rows, columns, gains = rows[worth], columns[worth], gains[worth]
    order = np.lexsort((columns, rows))
    start = np.searchsorted(rows[order], np.arange(shape[0] + 1))
    column_of = sparse_assignment(start, columns[order], gains[order], row_alone, shape[1])
    made = np.flatnonzero(column_of >= 0)
    return made, column_of[made]
