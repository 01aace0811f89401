"""Scores of the task `expression`: one row of numbers a predicted perturbation, against the cells nobody saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_bench.metrics import expression as measure
from hyped_bench.metrics.de_sets import ALPHA
from hyped_bench.metrics.differential import De
from hyped_bench.splits import Fold
from hyped_bench.tasks.expression.changed import DE_KEYS, de_of_predictions, de_of_truth, de_values
from hyped_bench.tasks.expression.data import ExpressionData
from hyped_bench.tasks.expression.draws import draw_table
from hyped_bench.tasks.expression.means import MEAN_KEYS, PLAIN_KEYS, mean_scores, state_zero
from hyped_bench.tasks.expression.params import ExpressionParams
from hyped_bench.tasks.expression.populations import POPULATION_KEYS, Populations, populations
from hyped_bench.tasks.expression.predicted import Key, Predictions
from hyped_bench.tasks.expression.ranks import RANK_KEYS, rank_scores
from hyped_bench.tasks.expression.strata import strata_table
from hyped_core.context import RunContext
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError

KEYS = (*MEAN_KEYS, *RANK_KEYS, *POPULATION_KEYS, *DE_KEYS)
TOP_KEYS = tuple(f"{key}_top" for key in PLAIN_KEYS)
"""The paper's four numbers on the source's top genes; columns of the units of ``conditions``, no metrics."""


@dataclass(slots=True)
class Scored:
    """Tables of a source: ``units`` a row a scored perturbation, ``genes`` a row a gene of each."""

    units: pd.DataFrame
    genes: list[pd.DataFrame]
    draws: pd.DataFrame | None
    strata: pd.DataFrame
    remarks: list[str] = field(default_factory=list)


def score_source(
    data: ExpressionData, predictions: Predictions, truth: Predictions, params: ExpressionParams, context: RunContext
) -> Scored:
    """Everything that is said of a model's predictions for a source.

    ``truth`` replaces the held-out cells of the perturbations it has by other cells of theirs.

    Raises
    ------
    InvalidDataError
        For a scored perturbation without a prediction.
    """
    keys = data.keys()
    missing = [key[2] for key in keys if key not in predictions]
    if missing:
        raise InvalidDataError(f"no prediction for {', '.join(missing[:5])}", mend="predict every held-out one")
    ranks: dict[Key, dict[str, float]] = {}
    changes: dict[Key, dict[str, float]] = {}
    significant: dict[Key, npt.NDArray[np.bool_]] = {}
    for alike in data.folds_alike():
        ranks |= _ranks(data, alike, predictions, truth)
        true_de = _true_changes(data, alike, truth, context.threads)
        significant |= {key: de.fdr < ALPHA for key, de in true_de.items()}
        changes |= _changes(data, alike[0], true_de, predictions, truth, context.threads)
    weights = {key: data.remember(("weights", key[2]), lambda name=key[2]: _weights(data, name)) for key in keys}
    groups: dict[Key, Populations] = {}
    rows: list[dict[str, Any]] = []
    genes: list[pd.DataFrame] = []
    for fold in data.folds:
        means = _mean_values(data, fold, predictions, truth, weights)
        for key in data.keys(fold):
            found, true = predictions[key], true_mean(data, fold, key, truth)
            group = populations(data, fold, key, found, truth.get(key), params, context)
            groups |= {} if group is None else {key: group}
            top = top_rows(data, key[2]) if data.source.kind == "conditions" else None
            rows.append(
                {
                    "source": key[0],
                    "fold": key[1],
                    "perturbation": key[2],
                    "subgroup": fold.subgroup_of(key[2]),
                    "n_cells": len(data.rows(key[2], fold)),
                    "n_predicted": found.n_cells,
                    **means[key],
                    **ranks[key],
                    **(dict.fromkeys(POPULATION_KEYS, np.nan) if group is None else group.scores()),
                    **changes[key],
                    **({} if top is None else _top_values(found.mean, true, top)),
                }
            )
            genes.append(_genes_table(key, data, fold, true, found.mean, top))
    strata, said = strata_table(data, predictions, truth)
    drawn = draw_table(data, predictions, truth, weights, groups, significant) if data.few else None
    units = pd.DataFrame(rows)
    return Scored(units, genes, drawn, strata, [*said, *_remarks(data, units)])


def _remarks(data: ExpressionData, units: pd.DataFrame) -> list[str]:
    """What was stated because it has no value, or could not be scored."""
    said = []
    name = data.source.name
    if len(units) == 1:
        said.append(
            f"{name}: one perturbation is scored: nothing to tell it from, so pds, rank and centroid_accuracy "
            "have no value"
        )
    if silent := int((units["de_n_true"] == 0).sum()):
        said.append(
            f"{name}: {silent} of {len(units)} perturbations have no significant gene in the truth: what doing nothing "
            "scores is stated for their sets of genes, whatever was predicted"
        )
    return said


def true_mean(data: ExpressionData, fold: Fold, key: Key, truth: Predictions) -> npt.NDArray[np.float64]:
    """Mean of a unit's true cells, or of the cells that stand for them."""
    return truth[key].mean if key in truth else data.mean(key[2], fold)


def _mean_values(
    data: ExpressionData,
    fold: Fold,
    predictions: Predictions,
    truth: Predictions,
    weights: dict[Key, npt.NDArray[np.float64]],
) -> dict[Key, dict[str, float]]:
    """Scores of means of a fold's units, and how many of each had to be stated as 0."""
    keys = data.keys(fold)
    values = mean_scores(
        np.array([predictions[key].mean for key in keys]),
        np.array([true_mean(data, fold, key, truth) for key in keys]),
        data.mean(CONTROL, fold),
        np.array([data.trained_mean(fold, key[2]) for key in keys]),
        np.array([weights[key] for key in keys]),
    )
    undefined = state_zero(values)
    return {
        key: {"undefined": int(undefined[i]), **{name: float(values[name][i]) for name in MEAN_KEYS}}
        for i, key in enumerate(keys)
    }


def _ranks(
    data: ExpressionData, folds: Sequence[Fold], predictions: Predictions, truth: Predictions
) -> dict[Key, dict[str, float]]:
    """Ranks among the scored perturbations of folds with the same control cells."""
    units = [(fold, key) for fold in folds for key in data.keys(fold)]
    control = data.mean(CONTROL, folds[0])
    found = np.array([predictions[key].mean - control for _, key in units])
    true = np.array([true_mean(data, fold, key, truth) - control for fold, key in units])
    columns = rank_scores(found, true, data.changed_genes([key[2] for _, key in units]))
    return {
        key: {name: np.nan if values is None else float(values[i]) for name, values in columns.items()}
        for i, (_, key) in enumerate(units)
    }


def _true_changes(data: ExpressionData, folds: Sequence[Fold], truth: Predictions, threads: int) -> dict[Key, De]:
    """Differential expression of the true cells, tested against the control cells that the folds share."""
    return de_of_truth(data, folds[0], [key for fold in folds for key in data.keys(fold)], truth, threads)


def _changes(
    data: ExpressionData,
    fold: Fold,
    true: dict[Key, De],
    predictions: Predictions,
    truth: Predictions,
    threads: int,
) -> dict[Key, dict[str, float]]:
    """Scores of differential expression; ``fold`` is one of those that share their control cells."""
    sizes = {key: truth[key].n_cells if key in truth else len(data.rows(key[2], fold)) for key in true}
    found = de_of_predictions(data, fold, predictions, sizes, threads)
    return {key: de_values(true[key], found[key], predictions[key].cells is None) for key in true}


def _weights(data: ExpressionData, name: str) -> npt.NDArray[np.float64]:
    """Weights of genes by the t statistic of a perturbation's cells against all other perturbed cells."""
    perturbed = data.remember("moments", lambda: measure.Moments.of(data.x[data.labels != CONTROL]))
    own = measure.Moments.of(data.x[data.rows(name)])
    return measure.de_weights(measure.welch_t(own, perturbed.without(own)))


def top_rows(data: ExpressionData, name: str) -> npt.NDArray[np.bool_]:
    """Mask (genes,) of the genes the paper's numbers are taken on for a perturbation; ties go to the first gene.

    By variance or mean among control cells, or by |t| of the perturbation's cells against control (Welch).
    """
    control = measure.Moments.of(data.x[data.rows(CONTROL)])
    by = data.source.top_genes_by
    if by == "change":
        value = np.abs(measure.welch_t(measure.Moments.of(data.x[data.rows(name)]), control))
    else:
        value = control.variance if by == "variance" else control.mean
    chosen = np.zeros(len(value), dtype=bool)
    chosen[np.argsort(-value, kind="stable")[: data.source.top_genes]] = True
    return chosen


def _top_values(found: npt.NDArray, true: npt.NDArray, top: npt.NDArray[np.bool_]) -> dict[str, float]:
    """The paper's four numbers (Table 3) on some genes."""
    numbers = {key: getattr(measure, key)(found[top], true[top]) for key in PLAIN_KEYS}
    return {f"{key}_top": np.nan if value is None else value for key, value in numbers.items()}


def subgroup_means(units: pd.DataFrame, keys: Sequence[str] = KEYS) -> pd.DataFrame | None:
    """Means over the units of each subgroup of each source; None where no split has subgroups.

    A mean over units of which one is undefined is undefined.
    """
    named = units[units["subgroup"] != ""]
    if named.empty:
        return None
    grouped = named.groupby(["source", "subgroup"], sort=True)
    means = grouped[list(keys)].agg(lambda column: column.mean(skipna=False))
    means.insert(0, "n_perturbations", grouped.size())
    return means.reset_index()


def _genes_table(
    key: Key,
    data: ExpressionData,
    fold: Fold,
    truth: npt.NDArray,
    predicted: npt.NDArray,
    top: npt.NDArray[np.bool_] | None,
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "source": key[0],
            "fold": key[1],
            "perturbation": key[2],
            "gene": data.genes,
            "control": data.mean(CONTROL, fold).astype(np.float32),
            "truth": truth.astype(np.float32),
            "predicted": predicted.astype(np.float32),
            "top": pd.array(top if top is not None else [pd.NA] * len(truth), dtype="boolean"),
        }
    )
