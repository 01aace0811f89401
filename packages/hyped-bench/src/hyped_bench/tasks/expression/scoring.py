"""Scores of the task `expression`: one row of numbers a predicted perturbation, against the cells nobody saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_bench.metrics import expression as measure
from hyped_bench.splits import Fold
from hyped_bench.tasks.expression.data import ExpressionData
from hyped_core.context import RunContext
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError

PLAIN_KEYS = ("cosine", "pearson", "mse", "mae")
DELTA_KEYS = ("pearson_delta", "cosine_delta", "pearson_delta_train", "cosine_delta_train")
ERROR_KEYS = ("mse_delta", "mse_relative", "wmse")
PDS_KEYS = ("pds_l1", "pds_l2", "pds_cosine")
KEYS = (*PLAIN_KEYS, *DELTA_KEYS, *ERROR_KEYS, *PDS_KEYS, "energy_distance")
TOP_KEYS = tuple(f"{key}_top" for key in PLAIN_KEYS)
"""The paper's four numbers on the source's top genes; columns of the units of ``conditions``, no metrics."""

Key = tuple[str, str, str]
"""(source, fold, perturbation)."""


@dataclass(slots=True)
class Predicted:
    """What a model said about one perturbation.

    Attributes
    ----------
    mean : (genes,) over its cells.
    cells : (cells, genes) float32, at most as many as the energy distance uses; None for a bare mean.
    n_cells : cells predicted.
    """

    mean: npt.NDArray[np.float64]
    cells: npt.NDArray[np.float32] | None
    n_cells: int


Predictions = dict[Key, Predicted]


def discrimination(data: ExpressionData, predictions: Predictions, truth: Predictions) -> dict[Key, dict[str, Any]]:
    """Discrimination scores of a source's scored perturbations, all of its folds ranked together."""
    keys = [(data.source.name, fold.name, name) for fold in data.folds for name in fold.test]
    missing = [key[2] for key in keys if key not in predictions]
    if missing:
        raise InvalidDataError(f"no prediction for {', '.join(missing[:5])}", mend="predict every held-out one")
    control = data.mean(CONTROL)
    found = np.array([predictions[k].mean - control for k in keys])
    true = np.array([(truth[k].mean if k in truth else data.mean(k[2])) - control for k in keys])
    excluded = np.array([np.isin(data.genes, data.perturbations[k[2]].genes) for k in keys])
    columns = {
        f"pds_{kind}": measure.discrimination(found, true, kind, excluded)  # type: ignore[arg-type]
        for kind in ("l1", "l2", "cosine")
    }
    return {
        k: {n: None if v is None else float(v[i]) for n, v in columns.items()} for i, k in enumerate(keys)
    }


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


def score_fold(
    data: ExpressionData,
    fold: Fold,
    predictions: Predictions,
    truth: Predictions,
    pds: dict[Key, dict[str, Any]],
    *,
    components: int,
    energy_cells: int,
    context: RunContext,
) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    """Rows of units and tables of genes of a fold's scored perturbations."""
    source = data.source.name
    control, trained = data.mean(CONTROL), data.trained_mean(fold)
    seen = data.seen(fold)
    centre, axes = measure.principal_axes(
        data.x[seen[:: max(1, len(seen) // 2000)]],
        components,
        context.rng("expression", "axes", source, fold.name),
    )
    perturbed = measure.Moments.of(data.x[data.labels != CONTROL])
    rows, details = [], []
    for name in fold.test:
        key = (source, fold.name, name)
        found = predictions[key]
        true = truth[key].mean if key in truth else data.mean(name)
        own = data.rows(name)
        cells = truth[key].cells if key in truth else data.x[own[:energy_cells]]
        moments = measure.Moments.of(data.x[own])
        weights = measure.de_weights(measure.welch_t(moments, perturbed.without(moments)))
        values: dict[str, float | None] = {
            **paper_numbers(found.mean, true),
            "pearson_delta": measure.pearson_delta(found.mean, true, control),
            "cosine_delta": measure.cosine_delta(found.mean, true, control),
            "pearson_delta_train": measure.pearson_delta(found.mean, true, trained),
            "cosine_delta_train": measure.cosine_delta(found.mean, true, trained),
            "mse_delta": measure.mse_delta(found.mean, true, control),
            "mse_relative": measure.mse_relative(found.mean, true, control),
            "wmse": measure.wmse(found.mean, true, weights),
            **pds[key],
            "energy_distance": None
            if found.cells is None or cells is None
            else measure.energy_distance((found.cells - centre) @ axes, (cells - centre) @ axes),
        }
        undefined = [k for k in DELTA_KEYS if values[k] is None]
        values.update(dict.fromkeys(undefined, 0.0))
        top = top_rows(data, name) if data.source.kind == "conditions" else None
        if top is not None:
            values.update({f"{k}_top": v for k, v in paper_numbers(found.mean[top], true[top]).items()})
        rows.append(
            {
                "source": source,
                "fold": fold.name,
                "perturbation": name,
                "subgroup": fold.subgroup_of(name),
                "n_cells": len(own),
                "n_predicted": found.n_cells,
                "undefined": len(undefined),
                **{k: np.nan if v is None else v for k, v in values.items()},
            }
        )
        details.append(_genes_table(key, data.genes, control, true, found.mean))
        details[-1]["top"] = pd.array(top if top is not None else [pd.NA] * len(true), dtype="boolean")
    return rows, details


def paper_numbers(found: npt.NDArray[np.float64], true: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Cosine, Pearson, MSE and MAE of two means (the paper's Table 3)."""
    return {key: getattr(measure, key)(found, true) for key in PLAIN_KEYS}


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
    genes: npt.NDArray,
    control: npt.NDArray,
    truth: npt.NDArray,
    predicted: npt.NDArray,
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "source": key[0],
            "fold": key[1],
            "perturbation": key[2],
            "gene": genes,
            "control": control.astype(np.float32),
            "truth": truth.astype(np.float32),
            "predicted": predicted.astype(np.float32),
        }
    )
