"""Privileged references: they see the truth, so they are no models and cannot be registered.

``duplicate``: one half of the held-out cells against the other half (what a technical repeat reaches). Its halves share
the noise of one measurement twice; a noise-free prediction meets it once and correlates with a half as the square root
of what the halves do. That second ceiling stands beside the first in the units (``<metric>_sqrt``) and the facts.
``oracle``: the simulator's noise-free means. ``wrong``: the truth of another held-out perturbation.
``shuffled``: random perturbed cells. All are scored by the task itself and give the same JSON as a model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hyped_bench.metrics.undefined import mean_defined
from hyped_bench.readers import dense, read_cells
from hyped_bench.splits import Fold, genes_of
from hyped_bench.tasks.base import Scores
from hyped_bench.tasks.expression import ExpressionData, ExpressionTask, Predicted, Predictions
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError, UsageError

REFERENCES = ExpressionTask.reference_names
CORRELATIONS = (
    "pearson", "cosine", "pearson_delta", "cosine_delta", "pearson_delta_train", "cosine_delta_train"
)  # fmt: skip
"""Metrics of ``duplicate`` whose square root is what a noise-free prediction reaches."""


def score_reference(name: str, task: ExpressionTask) -> Scores:
    """Scores of a reference on a loaded task.

    Raises
    ------
    UsageError
        There is no such reference.
    InvalidDataError
        ``oracle`` without a source that has one.
    """
    if name == "duplicate":
        first, second = _halves(task)
        scores = task.score(first, second)
        scores.warnings.append("duplicate: halves of the held-out cells, so its truth has half as many cells")
        task.noted = {"ceilings": _add_square_roots(scores)}
        return scores
    makers = {"oracle": _oracle, "wrong": _wrong, "shuffled": _shuffled}
    if name not in makers:
        raise UsageError(f"there is no reference {name!r}", mend=f"references: {', '.join(REFERENCES)}")
    scores = task.score(makers[name](task))
    if name == "oracle":
        blank = [s.name for s in task.params.sources if s.oracle is None]
        for key in [k for k in scores.metrics if any(k.endswith(f"_{b}") for b in blank)]:
            scores.metrics[key] = None
        if any(s.primary and s.oracle is None for s in task.params.sources):
            raise InvalidDataError(
                "a primary source has no noise-free truth", mend="set `oracle` or primary: false"
            )
        scores.warnings += [f"{name}: no noise-free truth for source {source}" for source in blank]
        units = scores.tables["units"]
        scores.tables["units"] = units[~units["source"].isin(blank)].reset_index(drop=True)
        for tables in (scores.tables, scores.details):
            for key in ({"draws", "strata", "subgroups"} & set(tables)):
                tables[key] = tables[key][~tables[key]["source"].isin(blank)].reset_index(drop=True)
    return scores


def _units(task: ExpressionTask) -> list[tuple[ExpressionData, Fold, str]]:
    return [(data, fold, name) for data in task.data.values() for fold in data.folds for name in fold.test]


def _add_square_roots(scores: Scores) -> dict[str, dict[str, dict[str, float | None]]]:
    """Add ``<metric>_sqrt`` to the units, 0 for negative correlations; source -> metric -> means for the record.

    ``halves`` r of two halves, ``noise_free`` sqrt(r) of a noise-free prediction against a half,
    ``noise_free_all_cells`` sqrt(2 r / (1 + r)) of one against all cells (Spearman and Brown), which models meet.
    """
    units = scores.tables["units"]
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for key in CORRELATIONS:
        r = np.clip(units[key].to_numpy(dtype=np.float64), 0.0, None)
        units[f"{key}_sqrt"] = np.sqrt(r)
        columns = {"halves": units[key], "noise_free": np.sqrt(r), "noise_free_all_cells": np.sqrt(2 * r / (1 + r))}
        for source in sorted(set(units["source"])):
            own = (units["source"] == source).to_numpy()
            means = {name: mean_defined(np.asarray(values)[own]) for name, values in columns.items()}
            found.setdefault(source, {})[key] = means
    return found


def _halves(task: ExpressionTask) -> tuple[Predictions, Predictions]:
    first: Predictions = {}
    second: Predictions = {}
    for data, fold, name in _units(task):
        rng = task.context.rng("reference", "duplicate", data.source.name, name)
        rows = rng.permutation(data.rows(name, fold))
        if len(rows) < 2:
            raise InvalidDataError(
                f"{name} has {len(rows)} cells: no two halves",
                where=data.source.cells,
                mend="leave conditions with a single cell out",
            )
        key = (data.source.name, fold.name, name)
        middle = len(rows) // 2
        first[key] = _of_rows(task, data, np.sort(rows[:middle]), name, "predicted")
        second[key] = _of_rows(task, data, np.sort(rows[middle:]), name, "truth")
    return first, second


def _wrong(task: ExpressionTask) -> Predictions:
    """True cells of the next perturbation by name (held out or not) that shares no gene, if there is one."""
    found: Predictions = {}
    for data, fold, name in _units(task):
        names = sorted({n for n in set(data.labels) - {CONTROL} if n == name or len(data.rows(n, fold))})
        at = names.index(name)
        others = names[at + 1 :] + names[:at]
        genes = set(data.perturbations[name].genes)
        apart = [n for n in others if not set(data.perturbations[n].genes) & genes]
        chosen = (apart or others or [name])[0]
        if chosen == name:
            raise InvalidDataError(
                f"{name} is the only perturbation: there is no wrong one", where=data.source.cells
            )
        found[data.source.name, fold.name, name] = _of_rows(task, data, data.rows(chosen, fold), name, "predicted")
    return found


def _shuffled(task: ExpressionTask) -> Predictions:
    found: Predictions = {}
    for data, fold, name in _units(task):
        rng = task.context.rng("reference", "shuffled", data.source.name, name)
        perturbed = np.sort(np.concatenate([data.rows(n, fold) for n in sorted(set(data.labels) - {CONTROL})]))
        drawn = np.sort(rng.choice(perturbed, len(data.rows(name, fold)), replace=False))
        found[data.source.name, fold.name, name] = _of_rows(task, data, drawn, name, "predicted")
    return found


def _of_rows(task: ExpressionTask, data: ExpressionData, rows: npt.NDArray[np.intp], *stream: str) -> Predicted:
    """Real cells in the task's form, with their phases."""
    return task.predicted(data.x[rows], data, rows, (data.source.name, *stream))


def _oracle(task: ExpressionTask) -> Predictions:
    """Noise-free means; a source without them gets its control mean, and its scores are blanked."""
    found: Predictions = {}
    means: dict[str, dict[str, np.ndarray]] = {}
    for data, fold, name in _units(task):
        source = data.source
        if source.oracle and source.name not in means:
            means[source.name] = _noise_free(data)
        known = means.get(source.name, {})
        if known and name not in known:
            raise InvalidDataError(f"has no mean of {name}", where=source.oracle)
        mean = known.get(name, data.mean(CONTROL, fold))
        found[source.name, fold.name, name] = Predicted(mean, None if known else data.x[:1], 1)
    return found


def _noise_free(data: ExpressionData) -> dict[str, np.ndarray]:
    cells = read_cells(str(data.source.oracle))
    missing = sorted(set(data.genes) - set(cells.var_names))
    if missing:
        raise InvalidDataError(
            f"lacks {len(missing)} genes ({', '.join(missing[:3])})", where=data.source.oracle
        )
    values = dense(cells[:, list(data.genes)].X).astype(np.float64)
    labels = cells.obs["perturbation"] if "perturbation" in cells.obs else cells.obs_names
    return {"+".join(genes_of(str(n))) or CONTROL: row for n, row in zip(labels, values, strict=True)}
