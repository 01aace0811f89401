"""What the differential expression of a prediction shares with the truth's: sets, directions, order and counts.

All functions take `hyped_bench.metrics.differential.De` of the true and of the predicted cells of one perturbation,
both tested against the control cells of the truth. A gene is significant where fdr < ``alpha``. A model that returns
the control cells finds no gene (fdr 1, fold change 0); `NOTHING` is what stands in place of an undefined score.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hyped_bench.metrics.differential import De
from hyped_core.errors import InvalidDataError

ALPHA = 0.05
FLOOR = 1e-10
"""Smallest fdr that AUPRC and AUROC tell from a smaller one (cell-eval)."""
NOTHING = {
    "de_overlap_50": 0.0,
    "de_precision_50": 0.0,
    "de_direction": 0.0,
    "de_spearman": 0.0,
    "de_recall": 0.0,
    "de_auprc": 0.0,
    "de_auroc": 0.5,
}
"""Stated in place of an undefined score, the same for every model: what doing nothing scores in the worst case."""


def overlap_at_k(truth: De, found: De, k: int | None = 50, alpha: float = ALPHA) -> float | None:
    """|T_k and F_k| / k': genes shared by the top k' of both lists (cell-eval's overlap_at_k).

    T and F are the significant genes of truth and prediction by falling absolute fold change (ties: first gene first),
    k' = min(k, |T|), and k' = |T| for ``k=None`` (overlap_at_N of the Virtual Cell Challenge). 0 where the prediction
    finds none, as doing nothing does. None where the truth has no significant gene; cell-eval says 0 there.
    """
    true, predicted = _ranked(truth, alpha), _ranked(found, alpha)
    _same_genes(truth, found)
    depth = len(true) if k is None else min(k, len(true))
    return None if depth == 0 else _shared(true[:depth], predicted[:depth]) / depth


def precision_at_k(truth: De, found: De, k: int | None = 50, alpha: float = ALPHA) -> float | None:
    """|T_k and F_k| / k' as `overlap_at_k`, but k' = min(k, |F|), the prediction's (cell-eval's precision_at_k).

    0 where the prediction finds none and the truth does, as doing nothing does: saying nothing is not precise. None
    where neither has a significant gene; cell-eval says 0 there.
    """
    true, predicted = _ranked(truth, alpha), _ranked(found, alpha)
    _same_genes(truth, found)
    depth = len(predicted) if k is None else min(k, len(predicted))
    if depth == 0:
        return 0.0 if len(true) else None
    return _shared(true[:depth], predicted[:depth]) / depth


def direction_match(truth: De, found: De, alpha: float = ALPHA) -> float | None:
    """Share of the truth's significant genes with sign(found) = sign(true) of the fold change (cell-eval).

    Doing nothing scores 0 (its sign is 0), a coin 0.5. None where the truth has no significant gene.
    """
    _same_genes(truth, found)
    genes = truth.fdr < alpha
    return float(np.mean(np.sign(truth.lfc[genes]) == np.sign(found.lfc[genes]))) if genes.any() else None


def fold_change_spearman(truth: De, found: De, alpha: float = ALPHA) -> float | None:
    """Rank correlation of true and predicted fold changes over the truth's significant genes (cell-eval).

    Doing nothing has no value, nor has any constant fold change or a truth with fewer than 2 significant genes: None,
    and the benchmark states 0.
    """
    _same_genes(truth, found)
    genes = truth.fdr < alpha
    return spearman(truth.lfc[genes], found.lfc[genes])


def recall(truth: De, found: De, alpha: float = ALPHA) -> float | None:
    """|T and F| / |T| of the significant genes (cell-eval's de_sig_genes_recall).

    Doing nothing scores 0, calling every gene 1: read it beside `precision_at_k`. None where the truth has no
    significant gene.
    """
    _same_genes(truth, found)
    genes = truth.fdr < alpha
    return float(np.mean(found.fdr[genes] < alpha)) if genes.any() else None


def auprc(truth: De, found: De, alpha: float = ALPHA) -> float | None:
    """Average precision of -log10(max(predicted fdr, 1e-10)) for the truth's significant genes (cell-eval's pr_auc).

    Sum over thresholds of (R_n - R_n-1) P_n (scikit-learn). Doing nothing scores the share of genes that are
    significant in the truth, as any constant does. None where none or all genes are.
    """
    from sklearn.metrics import average_precision_score

    labels, score = _labelled(truth, found, alpha)
    return None if labels.all() or not labels.any() else float(average_precision_score(labels, score))


def auroc(truth: De, found: De, alpha: float = ALPHA) -> float | None:
    """Chance that a significant gene of the truth has a smaller predicted fdr than another, ties half (cell-eval).

    Doing nothing scores 0.5. None where none or all genes of the truth are significant.
    """
    from scipy.stats import rankdata

    labels, score = _labelled(truth, found, alpha)
    n = int(labels.sum())
    if n in (0, labels.size):
        return None
    return float((rankdata(score)[labels].sum() - n * (n + 1) / 2) / (n * (labels.size - n)))


def significant_counts(truth: De, found: De, alpha: float = ALPHA) -> tuple[int, int]:
    """Numbers of significant genes of truth and prediction; doing nothing finds 0 (cell-eval's de_nsig_counts)."""
    return int((truth.fdr < alpha).sum()), int((found.fdr < alpha).sum())


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Pearson correlation of ranks, ties at their mean rank; infinite values are the outermost.

    None for fewer than 2 values or where either side is constant.
    """
    from scipy.stats import rankdata

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or np.isnan(a).any() or np.isnan(b).any():
        raise InvalidDataError(f"values of shape {a.shape} and {b.shape} differ in shape or have NaN")
    if a.size < 2:
        return None
    x, y = rankdata(a) - (a.size + 1) / 2, rankdata(b) - (a.size + 1) / 2
    norm = float(np.sqrt(x @ x) * np.sqrt(y @ y))
    return None if norm == 0 else float(x @ y / norm)


def de_scores(truth: De, found: De, alpha: float = ALPHA) -> dict[str, float | int | None]:
    """Every score of a perturbation by its key: those of `NOTHING`, and ``de_n_true`` and ``de_n_found``."""
    n_true, n_found = significant_counts(truth, found, alpha)
    return {
        "de_overlap_50": overlap_at_k(truth, found, 50, alpha),
        "de_precision_50": precision_at_k(truth, found, 50, alpha),
        "de_direction": direction_match(truth, found, alpha),
        "de_spearman": fold_change_spearman(truth, found, alpha),
        "de_recall": recall(truth, found, alpha),
        "de_auprc": auprc(truth, found, alpha),
        "de_auroc": auroc(truth, found, alpha),
        "de_n_true": n_true,
        "de_n_found": n_found,
    }


def _same_genes(truth: De, found: De) -> None:
    if truth.fdr.shape != found.fdr.shape:
        raise InvalidDataError(f"tests of {truth.fdr.size} and {found.fdr.size} genes cannot be compared")


def _ranked(table: De, alpha: float) -> npt.NDArray[np.intp]:
    """Significant genes by falling absolute fold change."""
    genes = np.flatnonzero(table.fdr < alpha)
    return genes[np.argsort(-np.abs(table.lfc[genes]), kind="stable")]


def _shared(first: npt.NDArray, second: npt.NDArray) -> int:
    return int(np.isin(first, second, assume_unique=True).sum())


def _labelled(truth: De, found: De, alpha: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    _same_genes(truth, found)
    return truth.fdr < alpha, -np.log10(np.clip(found.fdr, FLOOR, 1.0))
