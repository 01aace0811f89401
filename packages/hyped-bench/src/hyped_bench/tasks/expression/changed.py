"""Which genes change: differential expression of true and of predicted cells, and what the two share.

Cells that are control cells plus one shift differ from control in nearly every silent gene, so tests of them find most
genes, and fold changes of silent genes are the largest. Precision, overlap and AUPRC are low for such predictions
whatever the shift; direction and Spearman, which ask about the genes that change in the truth, are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hyped_bench.metrics.de_sets import NOTHING, de_scores
from hyped_bench.metrics.differential import De, de_tables, log2_fold_changes
from hyped_bench.splits import Fold
from hyped_bench.tasks.expression.data import ExpressionData
from hyped_bench.tasks.expression.predicted import Key, Predicted, Predictions
from hyped_core.context import RunContext
from hyped_core.design.model import CONTROL

DE_KEYS = tuple(NOTHING)
OF_MEANS = ("de_direction", "de_spearman")
"""What a bare mean has: fold changes, but no test."""


def de_of_truth(
    data: ExpressionData, fold: Fold, keys: Sequence[Key], truth: Predictions, threads: int
) -> dict[Key, De]:
    """Tests of true cells against control; those of the source's own cells are done once.

    ``keys`` are the units of all folds that hold out the same cells of perturbations as ``fold``, and so have its
    control cells.
    """
    if not any(key in truth for key in keys):
        cells = {key: data.x[data.rows(key[2], fold)] for key in keys}
        return data.remember(("de", fold.held), lambda: _tested(data, fold, cells, threads))
    return _tested(data, fold, {key: _cells(data, fold, key, truth) for key in keys}, threads)


def de_of_predictions(
    data: ExpressionData, fold: Fold, predictions: Predictions, sizes: Mapping[Key, int], threads: int
) -> dict[Key, De]:
    """Tests of the predicted cells, as many of them as there are true ones: more cells would find more genes.

    Fold changes are those of the mean of all predicted cells. A bare mean has no p (1 is put there, which `de_values`
    does not use).
    """
    control = data.mean(CONTROL, fold)
    cells = {
        key: kept[matched(predictions[key], size, key)]
        for key, size in sizes.items()
        if (kept := predictions[key].cells) is not None
    }
    tested = _tested(data, fold, cells, threads)
    found = {}
    ones = np.ones(len(control))
    for key in sizes:
        change = log2_fold_changes(predictions[key].mean, control)
        found[key] = De(tested[key].p, tested[key].fdr, change) if key in tested else De(ones, ones, change)
    return found


def matched(predicted: Predicted, size: int, key: Key) -> npt.NDArray[np.intp]:
    """Positions of at most ``size`` of the kept cells, the same for every model that predicts as many."""
    count = 0 if predicted.cells is None else len(predicted.cells)
    if count <= size:
        return np.arange(count)
    rng = RunContext(seed=0).rng("expression", "matched", *key)
    return np.sort(rng.choice(count, size, replace=False))


def de_values(true: De, found: De, bare: bool) -> dict[str, float]:
    """`DE_KEYS`, ``de_n_true`` and ``de_n_found`` of a unit.

    Where a score has no value (no gene changes in the truth, a prediction without any change) what doing nothing
    scores is stated, so that nobody gains by it. A bare mean has only the scores that need no test, the others are NaN.
    """
    values = de_scores(true, found)
    stated = {key: NOTHING[key] if values[key] is None else float(values[key]) for key in DE_KEYS}  # type: ignore[arg-type]
    counts = {"de_n_true": values["de_n_true"], "de_n_found": np.nan if bare else values["de_n_found"]}
    if bare:
        stated |= {key: np.nan for key in DE_KEYS if key not in OF_MEANS}
    return {**stated, **counts}  # type: ignore[dict-item]


def redrawn_changes(
    found: npt.NDArray, true: npt.NDArray, control: npt.NDArray, significant: npt.NDArray[np.bool_]
) -> dict[str, npt.NDArray[np.float64]]:
    """`OF_MEANS` of redrawn means (draws, genes), over the genes that change in the truth as it was measured."""
    from scipy.stats import rankdata

    draws, count = len(found), int(significant.sum())
    stated = {key: np.full(draws, NOTHING[key]) for key in OF_MEANS}
    if count == 0:
        return stated
    base = control[:, significant]
    ours, theirs = (log2_fold_changes(x[:, significant], base) for x in (found, true))
    stated["de_direction"] = np.mean(np.sign(ours) == np.sign(theirs), axis=1)
    a, b = (rankdata(x, axis=1) - (count + 1) / 2 for x in (ours, theirs))
    norms = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    stated["de_spearman"] = np.divide((a * b).sum(axis=1), norms, out=stated["de_spearman"], where=norms > 0)
    return stated


def _cells(data: ExpressionData, fold: Fold, key: Key, truth: Predictions) -> npt.NDArray[np.float32]:
    other = truth[key].cells if key in truth else None
    return data.x[data.rows(key[2], fold)] if other is None else other


def _tested(data: ExpressionData, fold: Fold, cells: Mapping[Key, npt.NDArray], threads: int) -> dict[Key, De]:
    """All groups at once."""
    if not cells:
        return {}
    names = {key: f"{i:06d}" for i, key in enumerate(cells)}
    labels = np.repeat(np.array(list(names.values())), [len(part) for part in cells.values()])
    control = data.x[data.rows(CONTROL, fold)]
    found = de_tables(np.concatenate(list(cells.values())), labels, control, threads=threads)
    return {key: found.of(name) for key, name in names.items()}
