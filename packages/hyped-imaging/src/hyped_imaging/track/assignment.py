"""Sparse linear assignment with the option to leave rows and columns alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def assign(
    rows: IntArray, columns: IntArray, costs: FloatArray, alone: float, shape: tuple[int, int]
) -> tuple[IntArray, IntArray]:
    """Pairs that minimise the summed cost, where leaving a row or a column alone costs ``alone / 2`` each.

    So a pair is worth making where its cost is below ``alone``. Each row and column is in one pair at most.
    Solved component by component of the graph of candidates: most components are single pairs.

    Parameters
    ----------
    rows, columns, costs : candidate pairs; no pair twice.
    alone : what an unmade pair costs.
    shape : number of rows and columns.

    Returns
    -------
    Rows and columns of the pairs made, sorted by row.
    """
    worth = costs < alone
    rows, columns, costs = rows[worth], columns[worth], costs[worth]
    if rows.size == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    row_degree = np.bincount(rows, minlength=shape[0])
    column_degree = np.bincount(columns, minlength=shape[1])
    single = (row_degree[rows] == 1) & (column_degree[columns] == 1)
    made_rows, made_columns = [rows[single]], [columns[single]]
    if not single.all():
        r, c = _solve(rows[~single], columns[~single], costs[~single], alone)
        made_rows.append(r)
        made_columns.append(c)
    found_rows, found_columns = np.concatenate(made_rows), np.concatenate(made_columns)
    order = np.argsort(found_rows, kind="stable")
    return found_rows[order], found_columns[order]


def _solve(rows: IntArray, columns: IntArray, costs: FloatArray, alone: float) -> tuple[IntArray, IntArray]:
    """One rectangular matching: each row may take a column or a private column that means "alone".

    With every column's cost of staying alone taken off the pairs, what is left is one cost a row, so the
    full matching of rows is the optimum of the original problem.
    """
    row_names, r = np.unique(rows, return_inverse=True)
    column_names, c = np.unique(columns, return_inverse=True)
    n, m = len(row_names), len(column_names)
    shift = 1.0 - min(costs.min(), 0.0)  # explicit zeros would be no edges; a constant a row changes nothing
    matrix = csr_array(
        (
            np.concatenate([costs + shift, np.full(n, alone + shift)]),
            (np.concatenate([r, np.arange(n)]), np.concatenate([c, m + np.arange(n)])),
        ),
        shape=(n, m + n),
    )
    matched_rows, matched_columns = min_weight_full_bipartite_matching(matrix)
    kept = matched_columns < m
    return row_names[matched_rows[kept]], column_names[matched_columns[kept]]
