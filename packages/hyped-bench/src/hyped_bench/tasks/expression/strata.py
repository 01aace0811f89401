"""Scores by cell-cycle phase, with equally many cells of each phase: does a model do well in one phase only?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_bench.tasks.expression.data import ExpressionData
from hyped_bench.tasks.expression.means import DELTA_KEYS, MEAN_KEYS, mean_scores, state_zero
from hyped_bench.tasks.expression.predicted import Key, Predictions, equal_phases
from hyped_core.design.model import CONTROL

STRATA_KEYS = tuple(key for key in MEAN_KEYS if not key.endswith("_train") and key not in ("wmse", "weighted_r2_delta"))
"""Metrics of a stratum. Those that need the training perturbations or weights of genes are left to the whole."""

COLUMNS = ("source", "fold", "perturbation", "phase", "n_cells", "own_phase", "undefined", *STRATA_KEYS)


def strata_table(data: ExpressionData, predictions: Predictions, truth: Predictions) -> tuple[pd.DataFrame, list[str]]:
    """A row a scored perturbation and phase, and what had to be left out.

    True and control cells of a phase are compared, equally many of each phase. The prediction is that for control
    cells of the phase where predicted cells correspond to control cells (``own_phase`` 1), else the mean of all
    predicted cells (0): a model that does not tell phases apart.
    """
    rows: list[dict[str, Any]] = []
    said: list[str] = []
    without: list[str] = []
    for fold in data.folds:
        among = data.rows(CONTROL, fold)
        control = _means(data, among, CONTROL)
        for name in fold.test:
            key: Key = (data.source.name, fold.name, name)
            own = data.rows(name, fold)
            chosen = equal_phases(data.phase[own], key[0], name, "truth")
            measured = {n: (data.x[own[at]].mean(axis=0, dtype=np.float64), len(at)) for n, at in chosen.items()}
            if key in truth:
                measured = {n: (mean, 0) for n, mean in truth[key].phases.items()}
            if not measured and set(data.phase[own]) - {""}:
                without.append(name)
            found = predictions[key]
            for phase, (true, count) in measured.items():
                if phase not in control:
                    continue
                predicted = found.phases.get(phase)
                rows.append(
                    {
                        "source": key[0],
                        "fold": key[1],
                        "perturbation": name,
                        "phase": phase,
                        "n_cells": count,
                        "own_phase": int(predicted is not None),
                        **_scores(found.mean if predicted is None else predicted, true, control[phase]),
                    }
                )
    if without:
        said.append(
            f"{data.source.name}: no strata by phase for {len(without)} of its perturbations: fewer than two phases "
            f"with 10 cells ({', '.join(without[:3])}{', ...' if len(without) > 3 else ''})"
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)), said


def _means(data: ExpressionData, rows: npt.NDArray[np.intp], name: str) -> dict[str, npt.NDArray[np.float64]]:
    chosen = equal_phases(data.phase[rows], data.source.name, name)
    return {phase: data.x[rows[at]].mean(axis=0, dtype=np.float64) for phase, at in chosen.items()}


def _scores(found: npt.NDArray, true: npt.NDArray, control: npt.NDArray) -> dict[str, float]:
    flat = np.full(true.shape, 1.0 / len(true))
    values = mean_scores(found, true, control, control, flat)
    undefined = int(sum(np.isnan(values[key][0]) for key in DELTA_KEYS if key in STRATA_KEYS))
    state_zero(values)
    return {"undefined": undefined, **{key: float(values[key][0]) for key in STRATA_KEYS}}
