"""Differential expression of groups of cells against control: rank-sum tests and fold changes, all groups at once.

What two such tables have in common, the truth's and a prediction's, is scored in `hyped_bench.metrics.de_sets`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError

PSEUDOCOUNT = 1e-9
"""CP10k added to both sides of a fold change, so that a gene silent on one side stays finite (pdex's default)."""


@dataclass(frozen=True, slots=True)
class De:
    """Differential expression of one group of cells against control; arrays (genes,).

    Attributes
    ----------
    p : two-sided p of the Wilcoxon rank-sum test.
    fdr : p adjusted over genes by Benjamini and Hochberg.
    lfc : log2 fold change (see `log2_fold_changes`); may be infinite where a caller's pseudocount is 0.
    """

    p: npt.NDArray[np.float64]
    fdr: npt.NDArray[np.float64]
    lfc: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = {np.shape(v) for v in (self.p, self.fdr, self.lfc)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise InvalidDataError(f"p, fdr and fold change of a group differ in shape: {sorted(shapes)}")
        for name in ("p", "fdr", "lfc"):
            if np.isnan(getattr(self, name)).any():
                raise InvalidDataError(f"{name} of a group has NaN", mend="give every gene a value: p 1 and change 0")


@dataclass(frozen=True, slots=True)
class DeTables:
    """`De` of several groups: ``groups`` names the rows of ``p``, ``fdr`` and ``lfc`` (groups, genes)."""

    groups: tuple[str, ...]
    p: npt.NDArray[np.float64]
    fdr: npt.NDArray[np.float64]
    lfc: npt.NDArray[np.float64]

    def of(self, group: str) -> De:
        """Of one group.

        Raises
        ------
        InvalidDataError
            For a group without a row.
        """
        if group not in self.groups:
            raise InvalidDataError(f"no differential expression of {group!r}", mend="test every group that is scored")
        row = self.groups.index(group)
        return De(self.p[row], self.fdr[row], self.lfc[row])


def de_tables(
    cells: npt.ArrayLike,
    labels: Sequence[str] | npt.NDArray,
    control: npt.ArrayLike,
    *,
    pseudocount: float = PSEUDOCOUNT,
    threads: int = 1,
) -> DeTables:
    """Test every gene of every group of ``cells`` against the ``control`` cells.

    p is that of the two-sided Mann-Whitney test by its normal approximation, corrected for ties and continuity
    (scipy's ``mannwhitneyu(method="asymptotic")``), computed by illico to about 6 digits; fdr is Benjamini and
    Hochberg's over the genes of a group. Both are what cell-eval gets from pdex. A gene with one value in all cells of
    both sides has p = 1.

    A model that returns the control cells has p = 1, fdr = 1 and fold change 0 in every gene.

    Parameters
    ----------
    cells : (n, genes), ln(1 + CP10k), dense; cells of all groups, none of them control.
    labels : (n,) group of each cell.
    control : (n0, genes) control cells of the truth, never those of a submission.
    pseudocount : see `log2_fold_changes`.
    threads : of the tests; results do not depend on it.

    Returns
    -------
    DeTables
        Rows in the order of the sorted group names.

    Raises
    ------
    InvalidDataError
        For arrays that do not match, without cells, or with NaN or infinity.
    """
    x, reference = (np.ascontiguousarray(v, dtype=np.float32) for v in (cells, control))
    names = np.asarray(labels, dtype=str)
    if x.ndim != 2 or reference.ndim != 2 or x.shape[1] != reference.shape[1] or len(x) != len(names):
        raise InvalidDataError(f"cells {x.shape}, labels {names.shape} and control {reference.shape} do not match")
    if not len(x) or not len(reference) or not x.shape[1]:
        raise InvalidDataError("differential expression without cells or genes", mend="give cells on both sides")
    if not (np.isfinite(x).all() and np.isfinite(reference).all()):
        raise InvalidDataError("expression has NaN or infinity", mend="give finite values of ln(1 + CP10k)")
    groups, codes = np.unique(names, return_inverse=True)
    p = _rank_sum_p(x, codes, reference, threads)
    means = np.array([x[codes == i].mean(axis=0, dtype=np.float64) for i in range(len(groups))])
    lfc = log2_fold_changes(means, reference.mean(axis=0, dtype=np.float64), pseudocount)
    return DeTables(tuple(groups.tolist()), p, benjamini_hochberg(p), lfc)


def _rank_sum_p(
    x: npt.NDArray[np.float32], codes: npt.NDArray, reference: npt.NDArray[np.float32], threads: int
) -> npt.NDArray[np.float64]:
    """p (groups, genes) of illico's test of each group against ``reference``."""
    import pandas as pd
    from anndata import AnnData
    from illico import asymptotic_wilcoxon
    from loguru import logger

    logger.disable("illico")
    n_groups = int(codes.max()) + 1
    width = len(str(n_groups))  # names of one length sort as numbers do; control comes last
    side = np.array([f"{i:0{width}d}" for i in range(n_groups + 1)])[np.r_[codes, np.full(len(reference), n_groups)]]
    together = AnnData(
        np.concatenate([x, reference]), obs=pd.DataFrame({"side": side}, index=np.arange(len(side)).astype(str))
    )
    with contextlib.redirect_stderr(io.StringIO()):  # illico draws a progress bar whatever one says
        found = asymptotic_wilcoxon(
            together, is_log1p=True, group_keys="side", reference=f"{n_groups:0{width}d}", n_threads=threads
        )
    shape = (n_groups + 1, x.shape[1])
    p, u = (found[column].to_numpy(float).reshape(shape)[:-1] for column in ("p_value", "statistic"))
    middle = np.bincount(codes, minlength=n_groups)[:, None] * len(reference) / 2
    # half a step cannot move U past its mean; illico lets it
    return np.where(np.isfinite(p) & (np.abs(u - middle) > 0.5), p, 1.0)


def benjamini_hochberg(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """p adjusted along the last axis: min over ranks j >= i of p_(j) m / j, at most 1 (Benjamini and Hochberg 1995).

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, axis=-1, kind="stable")
    m = values.shape[-1]
    adjusted = np.take_along_axis(values, order, axis=-1) * (m / np.arange(1, m + 1))
    adjusted = np.minimum(np.minimum.accumulate(adjusted[..., ::-1], axis=-1)[..., ::-1], 1.0)
    result = np.empty_like(adjusted)
    np.put_along_axis(result, order, adjusted, axis=-1)
    return result


def log2_fold_changes(
    means: npt.ArrayLike, control: npt.ArrayLike, pseudocount: float = PSEUDOCOUNT
) -> npt.NDArray[np.float64]:
    """log2((expm1(m) + c) / (expm1(m0) + c)): m and m0 are means over cells of ln(1 + CP10k), c the pseudocount.

    So it compares geometric means of 1 + CP10k, less 1, as pdex and cell-eval do; scanpy's is the same up to c. It
    is not the ratio of mean counts. A predicted mean below 0 counts as 0. Equal means, and so doing nothing, give 0.
    With c = 0 a gene silent on one side gives +-inf (cell-eval), on both sides 0.
    """
    group = np.maximum(np.expm1(np.asarray(means, dtype=np.float64)), 0.0) + pseudocount
    other = np.maximum(np.expm1(np.asarray(control, dtype=np.float64)), 0.0) + pseudocount
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.log2(group / other)
    return np.where(np.isnan(change), 0.0, change)
