"""Predictions as they come from a model or a file: checked, and brought to the task's form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_bench.tasks.expression.names import canonical_names
from hyped_bench.tasks.expression.scale import LOG_LIMIT, Scale, check_scale, looks_like_counts, scale_of
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError, PluginError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

    from hyped_bench.tasks.expression.data import ExpressionData
    from hyped_bench.tasks.expression.predicted import Predictions
    from hyped_bench.tasks.expression.task import ExpressionTask


COLUMNS = ("perturbation", "condition", "perturbation_name", "gene", "guide_identity")
"""``obs`` columns that may name perturbations: HYPED's and scPerturb's, GEARS', and others seen in public files."""


def checked_prediction(result: Any, genes: npt.NDArray, where: str) -> npt.NDArray[np.float32]:
    """Predicted cells as a dense float32 array, or a `PluginError` that says which rule they break.

    Checked: an AnnData with at least one cell, the control's genes in the control's order, finite values, on
    the scale of ln(1 + counts per 10,000) and not counts.
    """
    if not hasattr(result, "var_names") or not hasattr(result, "X"):
        raise PluginError(f"predict returned {type(result).__name__}, expected AnnData", where=where)
    names = np.asarray(result.var_names, dtype=object)
    if not np.array_equal(names, genes):
        same = set(names) == set(genes)
        raise PluginError(
            "predicted genes are in another order than the control's"
            if same
            else f"predicted genes differ from the control's ({len(names)} against {len(genes)})",
            where=where,
            mend="return control's var_names in control's order",
        )
    if result.n_obs == 0:
        raise PluginError("predicted no cells", where=where)
    return checked_values(result.X, where)


def checked_values(matrix: Any, where: str) -> npt.NDArray[np.float32]:
    """Values as dense float32: finite and on the log scale, or a `PluginError`."""
    values = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 2:
        raise PluginError(f"predicted an array of {values.ndim} axes, expected (cells, genes)", where=where)
    if not np.isfinite(values).all():
        raise PluginError("predicted NaN or infinite values", where=where)
    if values.max() > LOG_LIMIT or looks_like_counts(values):
        raise PluginError(
            f"predicted values from {values.min():g} to {values.max():g}: these are "
            f"{'scaled values' if values.min() < -1 else 'counts'}, not ln(1 + counts per 10,000)",
            where=where,
            mend="normalise each cell to 10,000 counts and take ln(1 + x)",
        )
    return values


def predicted_column(obs: pd.DataFrame, where: str | Path | None = None) -> str:
    """The column of predicted cells' ``obs`` that names perturbations: the first of `COLUMNS`."""
    found = next((column for column in COLUMNS if column in obs), None)
    if found is None:
        raise InvalidDataError(
            "has no obs column perturbation", where=where, mend="name each predicted cell's perturbation there"
        )
    return found


def held_out_line(data: ExpressionData) -> str:
    """How much of what was measured is scored, for a split that lists it: what a file leaves out is not held out."""
    count = len(set(data.labels) - {CONTROL})
    return f"{data.source.name}: held out: what the file predicts or the split lists, {len(data.scored)} of {count}"


def predictions_from_cells(
    cells: AnnData, task: ExpressionTask, source: str
) -> tuple[Predictions, list[str]]:
    """Predictions of one source out of a file: cells whose ``obs.perturbation`` names what they predict.

    Genes may come in another order (a warning says so) but have to be the same; control cells in the file are
    not used; perturbations that are not scored are ignored, with a warning.

    Raises
    ------
    InvalidDataError
        Other genes, a held-out perturbation without cells, no column ``perturbation``, values on another scale.
    """
    data = task.data[source]
    column = predicted_column(cells.obs)
    names = np.asarray(cells.var_names, dtype=object)
    warnings = []
    if len(set(names)) != len(names) or set(names) != set(data.genes):
        missing = sorted(set(data.genes) - set(names))
        extra = sorted(set(names) - set(data.genes))
        raise InvalidDataError(
            f"genes differ from the benchmark's: {len(missing)} missing ({', '.join(missing[:3])}), "
            f"{len(extra)} unknown ({', '.join(extra[:3])}), {len(names) - len(set(names))} twice",
            mend="predict exactly the benchmark's genes",
        )
    if not np.array_equal(names, data.genes):
        warnings.append("genes came in another order and were reordered")
        cells = cells[:, list(data.genes)]
    raw = cells.obs[column].astype(str).to_numpy(dtype=object)
    names_of = canonical_names(raw, known=data.perturbations)
    labels = np.array([names_of[n] for n in raw], dtype=object)
    found: Predictions = {}
    scales: list[Scale] = []
    control = data.x[data.rows(CONTROL)]
    for fold in data.folds:
        if fold.held is not None:
            raise InvalidDataError(
                f"a file has one prediction of a perturbation, the split holds out cells by {fold.held[0]}",
                where=source,
                mend="run the model with `hyped bench run`, or score the file with another split",
            )
        for name in fold.test:
            rows = np.flatnonzero(labels == name)
            if len(rows) == 0:
                raise InvalidDataError(
                    f"holds no prediction for {name}", mend="predict every held-out perturbation"
                )
            try:
                values = checked_values(cells.X[rows], name)
            except PluginError as error:
                raise InvalidDataError(error.message, where=name, mend=error.mend) from error
            scales.append(scale_of(values, control))
            found[source, fold.name, name] = task.predicted(values, data, stream=(source, name, "predicted"))
    try:
        warnings += check_scale(scales, source)
    except PluginError as error:
        raise InvalidDataError(error.message, where=source, mend=error.mend) from error
    measured = set(data.labels)
    if unknown := sorted(set(labels) - measured - {CONTROL}):
        warnings.append(
            f"{len(unknown)} perturbations that the truth does not hold were ignored: {', '.join(unknown[:5])}"
        )
    ignored = sorted((set(labels) & measured) - {CONTROL} - {key[2] for key in found})
    if ignored:
        warnings.append(
            f"{len(ignored)} perturbations that are not held out were ignored: {', '.join(ignored[:5])}"
        )
    if (labels == CONTROL).any():
        warnings.append("control cells in the file were not used: the benchmark takes its own")
    if data.source.held_out.kind == "listed":
        warnings.append(held_out_line(data))
    return found, warnings
