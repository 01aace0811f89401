"""Genes that differ most between each perturbation and control: Welch's t from sums of sparse rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Floats = npt.NDArray[np.float64]
TOP = 20
"""Genes that validation looks at, as the original's ``mse_de``."""


@dataclass(frozen=True)
class GroupMoments:
    """Sums over the cells of each group.

    Attributes
    ----------
    counts : (groups,) cells.
    mean : (groups, genes); zeros for a group without cells.
    variance : (groups, genes) with n - 1; NaN for a group of one cell or none.
    """

    counts: npt.NDArray[np.int64]
    mean: Floats
    variance: Floats


def group_moments(x: sp.csr_matrix, group: npt.NDArray[np.int64], groups: int) -> GroupMoments:
    """Mean and variance of every gene in every group; ``group`` (cells,) below 0 leaves a cell out."""
    rows = np.flatnonzero(group >= 0)
    counts = np.bincount(group[rows], minlength=groups)
    members = sp.csr_matrix((np.ones(len(rows)), (group[rows], rows)), shape=(groups, x.shape[0]))
    values = x.astype(np.float64)
    size = np.maximum(counts, 1)[:, None]
    mean = np.asarray((members @ values).todense()) / size
    values.data **= 2
    squares = np.asarray((members @ values).todense()) / size
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.maximum(squares - mean**2, 0) * (counts / (counts - 1.0))[:, None]
    variance[counts < 2] = np.nan
    return GroupMoments(counts, mean, variance)


def welch_scores(moments: GroupMoments, control: int = 0) -> Floats:
    """(groups, genes) t of each group against the group ``control``, variances not taken as equal.

    Zero where neither group varies and their means are equal. A group of one cell has no variance of its own: its
    scores are the differences of means.
    """
    m, v, n = moments.mean, moments.variance, moments.counts.astype(np.float64)
    difference = m - m[control]
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = difference / np.sqrt(v / n[:, None] + v[control] / n[control])
    scores[np.isnan(scores)] = 0.0
    alone = moments.counts < 2
    if moments.counts[control] < 2:
        alone[:] = True
    scores[alone] = difference[alone]
    return scores


def top_genes(scores: Floats, top: int = TOP) -> npt.NDArray[np.int64]:
    """(groups, top) genes by falling absolute score; among equals the first comes first."""
    order = np.argsort(-np.abs(scores), axis=1, kind="stable")
    return order[:, : min(top, scores.shape[1])].astype(np.int64)
