"""Expression under unseen perturbations: models see training cells, predictions meet the held-out ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from hyped_bench.metrics import expression as measure
from hyped_bench.splits import Fold, genes_of, split_record
from hyped_bench.tasks.base import (
    ModelFactory,
    Scores,
    Task,
    TaskParams,
    check_sources,
    summarise,
    summary_keys,
)
from hyped_bench.tasks.expression_data import LOG_LIMIT, ExpressionData, ExpressionSource, load_source
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError, PluginError

if TYPE_CHECKING:
    from anndata import AnnData

PLAIN_KEYS = ("cosine", "pearson", "mse", "mae")
DELTA_KEYS = ("pearson_delta", "cosine_delta", "pearson_delta_train", "cosine_delta_train")
ERROR_KEYS = ("mse_delta", "mse_relative", "wmse")
PDS_KEYS = ("pds_l1", "pds_l2", "pds_cosine")
KEYS = (*PLAIN_KEYS, *DELTA_KEYS, *ERROR_KEYS, *PDS_KEYS, "energy_distance")
MIN_UNITS = 8
"""With fewer held-out perturbations there is no interval over perturbations."""


class ExpressionParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[ExpressionSource, ...]
    components: int = Field(20, ge=2)
    """Principal components of the training cells for the energy distance."""
    energy_cells: int = Field(200, ge=10)
    """Cells of each group used for the energy distance."""


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


Predictions = dict[tuple[str, str, str], Predicted]
"""(source, fold, perturbation) -> prediction."""


class ExpressionTask(Task):
    """Model: `hyped_core.contracts.ExpressionPredictor`. Unit: a held-out perturbation."""

    name: ClassVar[str] = "expression"
    Params: ClassVar[type[TaskParams]] = ExpressionParams

    def __init__(self, params: ExpressionParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: ExpressionParams = params
        check_sources([s.name for s in params.sources])
        self.data: dict[str, ExpressionData] = {}

    def inputs(self) -> list[str]:
        """Cells, and the noise-free truth where there is one."""
        return [p for s in self.params.sources for p in (s.cells, s.oracle) if p]

    def facts(self) -> dict[str, Any]:
        """Splits with their hashes, and the size of what was scored."""
        splits = {
            name: split_record(data.folds, data.source.held_out) for name, data in sorted(self.data.items())
        }
        return {
            "unit": "perturbation",
            "split": splits,
            "split_sha256": {name: split["sha256"] for name, split in splits.items()},
            "confounded": {name: data.confounded for name, data in sorted(self.data.items())},
            "n_genes": {name: len(data.genes) for name, data in sorted(self.data.items())},
        }

    def load(self) -> None:
        """Read every source and make its folds."""
        for source in self.params.sources:
            rng = self.context.rng("expression", "cells", source.name)
            self.data[source.name] = load_source(source, rng)

    def run(self, make_model: ModelFactory) -> Predictions:
        """Fit a fresh model a fold on what it may see, and predict the held-out perturbations."""
        found: Predictions = {}
        work = [(data, fold) for data in self.data.values() for fold in data.folds]
        for data, fold in self.context.progress.track(work, "expression"):
            model = make_model()
            model.fit(data.visible(fold), None, context=self.context)
            control = data.control()
            for name in fold.test:
                result = model.predict(control.copy(), data.perturbations[name], context=self.context)
                where = f"{data.source.name}/{name}"
                values = checked_prediction(result, data.genes, where)
                self._note_fallback(result, where)
                found[data.source.name, fold.name, name] = self.predicted(values)
        return found

    def _note_fallback(self, result: Any, where: str) -> None:
        reason = result.uns.get("fallback") if hasattr(result, "uns") else None
        if reason:
            self.warnings.append(f"{where}: {reason}")

    def predicted(self, values: npt.NDArray[np.float32]) -> Predicted:
        """Mean, and the cells the energy distance will use."""
        kept = values
        if len(values) > self.params.energy_cells:
            rng = self.context.rng("expression", "energy")
            kept = values[np.sort(rng.choice(len(values), self.params.energy_cells, replace=False))]
        return Predicted(values.mean(axis=0, dtype=np.float64), kept, len(values))

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        names = [s.name for s in self.params.sources if s.suffix]
        counts = [
            f"n_{what}{end}"
            for what in ("perturbations", "undefined")
            for end in ("", *(f"_{n}" for n in names))
        ]
        return summary_keys(KEYS, names, ("pearson_delta", "mse_relative", "energy_distance")) + counts

    def score(self, predictions: Predictions, truth: Predictions | None = None) -> Scores:
        """Score every held-out perturbation.

        ``truth`` replaces the held-out cells by other cells of the same perturbations (the reference
        ``duplicate`` holds one half of the cells against the other).
        """
        rows, details = [], []
        for data in self.data.values():
            pds = self._discrimination(data, predictions, truth or {})
            for fold in data.folds:
                part = self._score_fold(data, fold, predictions, truth or {}, pds)
                rows += part[0]
                details += part[1]
        units = pd.DataFrame(rows)
        undefined = int(units["undefined"].sum())
        warnings = list(dict.fromkeys(self.warnings))
        if undefined:
            warnings.append(
                f"{undefined} correlations or cosines of a change are undefined (predicted or true change "
                "constant): 0 was stated"
            )
        warnings += [
            f"{name}: no pool holds both control and perturbed cells: changes from control hold the pool's "
            "effect; pearson_delta_train and cosine_delta_train are free of it"
            for name, data in self.data.items()
            if data.confounded
        ]
        sources = self.params.sources
        primary = [s.name for s in sources if s.primary]
        named = [s.name for s in sources if s.suffix]
        intervals = ("pearson_delta", "mse_relative", "energy_distance")
        chosen = units[units["source"].isin(primary)]
        enough = len(chosen) >= MIN_UNITS
        metrics, said = summarise(
            units,
            KEYS,
            named,
            primary,
            intervals=intervals if enough else (),
            rng=self.context.rng("expression", "bootstrap"),
            draws=self.params.bootstrap,
        )
        if not enough:
            metrics.update({f"{key}{end}": None for key in intervals for end in ("_lo", "_hi")})
            warnings.append(
                f"{len(chosen)} held-out perturbations are too few for intervals over perturbations"
            )
        metrics["n_perturbations"] = len(chosen)
        metrics["n_undefined"] = int(chosen["undefined"].sum())
        for name in named:
            own = units[units["source"] == name]
            metrics[f"n_perturbations_{name}"] = len(own)
            metrics[f"n_undefined_{name}"] = int(own["undefined"].sum())
        return Scores(
            metrics, {"units": units}, {"genes": pd.concat(details, ignore_index=True)}, warnings + said
        )

    def _discrimination(
        self, data: ExpressionData, predictions: Predictions, truth: Predictions
    ) -> dict[tuple[str, str, str], dict[str, float | None]]:
        """Discrimination scores of a source's held-out perturbations, all of its folds ranked together."""
        keys = [(data.source.name, fold.name, name) for fold in data.folds for name in fold.test]
        missing = [key[2] for key in keys if key not in predictions]
        if missing:
            raise InvalidDataError(
                f"no prediction for {', '.join(missing[:5])}", mend="predict every held-out one"
            )
        control = data.mean(CONTROL)
        found = np.array([predictions[k].mean - control for k in keys])
        true = np.array([(truth[k].mean if k in truth else data.mean(k[2])) - control for k in keys])
        excluded = np.array([np.isin(data.genes, genes_of(k[2])) for k in keys])
        columns = {
            f"pds_{kind}": measure.discrimination(found, true, kind, excluded)  # type: ignore[arg-type]
            for kind in ("l1", "l2", "cosine")
        }
        return {
            k: {n: None if v is None else float(v[i]) for n, v in columns.items()} for i, k in enumerate(keys)
        }

    def _score_fold(
        self,
        data: ExpressionData,
        fold: Fold,
        predictions: Predictions,
        truth: Predictions,
        pds: dict[tuple[str, str, str], dict[str, float | None]],
    ) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
        source = data.source.name
        control = data.mean(CONTROL)
        trained = np.mean([data.mean(name) for name in fold.train], axis=0)
        seen = np.flatnonzero(np.isin(data.labels, (CONTROL, *fold.train)))
        centre, axes = measure.principal_axes(
            data.x[seen[:: max(1, len(seen) // 2000)]],
            self.params.components,
            self.context.rng("expression", "axes", source, fold.name),
        )
        keys = [(source, fold.name, name) for name in fold.test]
        means = {k: truth[k].mean if k in truth else data.mean(k[2]) for k in keys}
        perturbed = measure.Moments.of(data.x[data.labels != CONTROL])
        rows, details = [], []
        for key in keys:
            name, found, true = key[2], predictions[key], means[key]
            own = data.rows(name)
            cells = truth[key].cells if key in truth else data.x[own[: self.params.energy_cells]]
            moments = measure.Moments.of(data.x[own])
            weights = measure.de_weights(measure.welch_t(moments, perturbed.without(moments)))
            values: dict[str, float | None] = {
                "cosine": measure.cosine(found.mean, true),
                "pearson": measure.pearson(found.mean, true),
                "mse": measure.mse(found.mean, true),
                "mae": measure.mae(found.mean, true),
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
            rows.append(
                {
                    "source": source,
                    "fold": fold.name,
                    "perturbation": name,
                    "n_cells": len(own),
                    "n_predicted": found.n_cells,
                    "undefined": len(undefined),
                    **{k: np.nan if v is None else v for k, v in values.items()},
                }
            )
            details.append(_genes_table(key, data.genes, control, true, found.mean))
        return rows, details


def _genes_table(
    key: tuple[str, str, str],
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
    if not np.isfinite(values).all():
        raise PluginError("predicted NaN or infinite values", where=where)
    if values.max() > LOG_LIMIT:
        raise PluginError(
            f"predicted values up to {values.max():g}: these are counts, not ln(1 + counts per 10,000)",
            where=where,
            mend="normalise each cell to 10,000 counts and take ln(1 + x)",
        )
    return values


def predictions_from_cells(
    cells: AnnData, task: ExpressionTask, source: str
) -> tuple[Predictions, list[str]]:
    """Predictions of one source out of a file: cells whose ``obs.perturbation`` names what they predict.

    Genes may come in another order (a warning says so) but have to be the same; control cells in the file are
    not used; perturbations that are not scored are ignored.

    Raises
    ------
    InvalidDataError
        Other genes, a held-out perturbation without cells, no column ``perturbation``.
    """
    data = task.data[source]
    if "perturbation" not in cells.obs:
        raise InvalidDataError(
            "has no obs column perturbation", mend="name each predicted cell's perturbation there"
        )
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
    labels = np.array(
        ["+".join(genes_of(n)) or CONTROL for n in cells.obs["perturbation"].astype(str)], dtype=object
    )
    found: Predictions = {}
    for fold in data.folds:
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
            found[source, fold.name, name] = task.predicted(values)
    ignored = sorted(set(labels) - {CONTROL} - {key[2] for key in found})
    if ignored:
        warnings.append(
            f"{len(ignored)} perturbations that are not held out were ignored: {', '.join(ignored[:5])}"
        )
    if (labels == CONTROL).any():
        warnings.append("control cells in the file were not used: the benchmark takes its own")
    return found, warnings
