"""Scores of redrawn cells, for sources with too few perturbations to say anything of other ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_bench.splits import Fold
from hyped_bench.tasks.expression.changed import OF_MEANS, redrawn_changes
from hyped_bench.tasks.expression.data import ExpressionData
from hyped_bench.tasks.expression.means import MEAN_KEYS, mean_scores, state_zero
from hyped_bench.tasks.expression.populations import DRAWN_POPULATION_KEYS, Populations
from hyped_bench.tasks.expression.predicted import DRAWS, Key, Predicted, Predictions, redraw
from hyped_bench.tasks.expression.ranks import RANK_KEYS, rank_scores

DRAWN_KEYS = (*MEAN_KEYS, *RANK_KEYS, *DRAWN_POPULATION_KEYS, *OF_MEANS)
"""Metrics a draw has. Those that need tests, and distances that grow when cells repeat, are not redrawn."""


def draw_table(
    data: ExpressionData,
    predictions: Predictions,
    truth: Predictions,
    weights: dict[Key, npt.NDArray[np.float64]],
    groups: dict[Key, Populations],
    significant: dict[Key, npt.NDArray[np.bool_]],
) -> pd.DataFrame:
    """``source``, ``fold``, ``perturbation``, ``draw`` and the scores of each unit with its cells redrawn.

    Control cells, true cells and predicted cells are redrawn with replacement within their conditions. What models
    learned, the means of the training perturbations, the weights of genes and which genes are significant in the truth
    stay as they are: the spread is
    that of measuring these conditions again, not that of other perturbations.
    """
    found: dict[Key, npt.NDArray] = {}
    true: dict[Key, npt.NDArray] = {}
    ranks: dict[Key, dict[str, npt.NDArray[np.float64]]] = {}
    for folds in data.folds_alike():
        control = data.redrawn_control(folds[0])
        units = [(fold, key) for fold in folds for key in data.keys(fold)]
        for fold, key in units:
            found[key] = _drawn(predictions[key], control)
            true[key] = _drawn(truth[key], control) if key in truth else _drawn_truth(data, fold, key)
        ranks |= _ranks(data, [key for _, key in units], found, true, control)
    parts = []
    for fold in data.folds:
        control = data.redrawn_control(fold)
        for key in data.keys(fold):
            trained = data.trained_mean(fold, key[2])
            values = mean_scores(found[key], true[key], control, trained, weights[key])
            state_zero(values)
            ids = {"source": key[0], "fold": key[1], "perturbation": key[2], "draw": np.arange(DRAWS)}
            apart = groups[key].draws(key) if key in groups else dict.fromkeys(DRAWN_POPULATION_KEYS, np.nan)
            changes = redrawn_changes(found[key], true[key], control, significant[key])
            parts.append(pd.DataFrame({**ids, **values, **ranks[key], **apart, **changes}))
    return pd.concat(parts, ignore_index=True)


def _drawn(cells: Predicted, control: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means (draws, genes) of redrawn cells; a bare mean has no cells and stays as it is."""
    return np.broadcast_to(cells.mean, control.shape) if cells.redrawn is None else cells.redrawn


def _drawn_truth(data: ExpressionData, fold: Fold, key: Key) -> npt.NDArray[np.float64]:
    return data.remember(("redrawn", key), lambda: redraw(data.x[data.rows(key[2], fold)], key[0], key[2], "truth"))


def _ranks(
    data: ExpressionData,
    keys: Sequence[Key],
    found: dict[Key, npt.NDArray],
    true: dict[Key, npt.NDArray],
    control: npt.NDArray[np.float64],
) -> dict[Key, dict[str, npt.NDArray[np.float64]]]:
    """Scores of ranks in each draw, key -> metric -> (draws,)."""
    excluded = data.changed_genes([key[2] for key in keys])
    ranks = {key: {name: np.full(DRAWS, np.nan) for name in RANK_KEYS} for key in keys}
    for draw in range(DRAWS):
        predicted = np.array([found[key][draw] - control[draw] for key in keys])
        measured = np.array([true[key][draw] - control[draw] for key in keys])
        for name, values in rank_scores(predicted, measured, excluded).items():
            for i, key in enumerate(keys):
                ranks[key][name][draw] = np.nan if values is None else values[i]
    return ranks
