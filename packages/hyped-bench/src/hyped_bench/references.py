"""Privileged references: they see the truth, so they are no models and cannot be registered.

``duplicate``: one half of the held-out cells against the other half (what a technical repeat reaches).
``oracle``: the simulator's noise-free means. ``wrong``: the truth of another held-out perturbation.
``shuffled``: random perturbed cells. All are scored by the task itself and give the same JSON as a model.
"""

from __future__ import annotations

import numpy as np

from hyped_bench.readers import dense, read_cells
from hyped_bench.splits import genes_of
from hyped_bench.tasks.base import Scores
from hyped_bench.tasks.expression import ExpressionData, ExpressionTask, Predicted, Predictions
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError, UsageError

REFERENCES = ("duplicate", "oracle", "wrong", "shuffled")
"""Names; only the task ``expression`` has them."""


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
    return scores


def _folds(task: ExpressionTask) -> list[tuple[ExpressionData, str, tuple[str, ...]]]:
    return [(data, fold.name, fold.test) for data in task.data.values() for fold in data.folds]


def _halves(task: ExpressionTask) -> tuple[Predictions, Predictions]:
    first: Predictions = {}
    second: Predictions = {}
    for data, fold, tests in _folds(task):
        for name in tests:
            rows = task.context.rng("reference", "duplicate", data.source.name, name).permutation(
                data.rows(name)
            )
            if len(rows) < 2:
                raise InvalidDataError(
                    f"{name} has {len(rows)} cells: no two halves", where=data.source.cells
                )
            key = (data.source.name, fold, name)
            first[key] = task.predicted(data.x[rows[: len(rows) // 2]])
            second[key] = task.predicted(data.x[rows[len(rows) // 2 :]])
    return first, second


def _wrong(task: ExpressionTask) -> Predictions:
    """True cells of the next perturbation by name (held out or not) that shares no gene, if there is one."""
    found: Predictions = {}
    for data, fold, tests in _folds(task):
        names = sorted(set(data.labels) - {CONTROL})
        for name in tests:
            at = names.index(name)
            others = names[at + 1 :] + names[:at]
            apart = [n for n in others if not set(genes_of(n)) & set(genes_of(name))]
            chosen = (apart or others or [name])[0]
            found[data.source.name, fold, name] = task.predicted(data.x[data.rows(chosen)])
    return found


def _shuffled(task: ExpressionTask) -> Predictions:
    found: Predictions = {}
    for data, fold, tests in _folds(task):
        perturbed = np.flatnonzero(data.labels != CONTROL)
        for name in tests:
            rng = task.context.rng("reference", "shuffled", data.source.name, name)
            drawn = rng.choice(perturbed, len(data.rows(name)), replace=False)
            found[data.source.name, fold, name] = task.predicted(data.x[drawn])
    return found


def _oracle(task: ExpressionTask) -> Predictions:
    """Noise-free means; a source without them gets its control mean, and its scores are blanked."""
    found: Predictions = {}
    for data, fold, tests in _folds(task):
        means = _noise_free(data) if data.source.oracle else {}
        for name in tests:
            if means and name not in means:
                raise InvalidDataError(f"has no mean of {name}", where=data.source.oracle)
            mean = means.get(name, data.mean(CONTROL))
            found[data.source.name, fold, name] = Predicted(mean, None if means else data.x[:1], 1)
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
