"""Expression under unseen perturbations: models see training cells, predictions meet the held-out ones."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_bench.splits import Fold, LeakError
from hyped_bench.tasks.base import (
    Judged,
    ModelFactory,
    Scores,
    Task,
    TaskParams,
    check_sources,
    summarise,
    summary_keys,
)
from hyped_bench.tasks.expression.data import MIN_UNITS, ExpressionData, load_source
from hyped_bench.tasks.expression.files import checked_prediction
from hyped_bench.tasks.expression.judged import JUDGED
from hyped_bench.tasks.expression.params import RELABELLED, SAID, ExpressionParams
from hyped_bench.tasks.expression.predicted import Predicted, Predictions, of_cells
from hyped_bench.tasks.expression.scale import Scale, check_scale, scale_of
from hyped_bench.tasks.expression.scoring import KEYS, score_source, subgroup_means
from hyped_core.design.model import CONTROL
from hyped_core.errors import HypedError, MissingDependencyError, MissingHardwareError, ParamsError

INTERVALS = ("pearson_delta", "mse_relative", "energy_distance")


class ExpressionTask(Task):
    """Model: `hyped_core.contracts.ExpressionPredictor`. Unit: a scored perturbation."""

    name: ClassVar[str] = "expression"
    Params: ClassVar[type[TaskParams]] = ExpressionParams
    reference_names: ClassVar[tuple[str, ...]] = ("duplicate", "oracle", "wrong", "shuffled")
    judged: ClassVar[tuple[Judged, ...]] = JUDGED

    def __init__(self, params: ExpressionParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: ExpressionParams = params
        check_sources([s.name for s in params.sources])
        self.data: dict[str, ExpressionData] = {}
        self.told: dict[str, dict[str, Any]] = {}
        """Source -> fold -> what the model said of itself in the last run."""
        self.noted: dict[str, Any] = {}
        """More facts for the record, of a reference."""
        self.failed: frozenset[str] = frozenset()
        """Sources beside the primary ones that the model failed on in the last run."""

    def inputs(self) -> list[str]:
        """Cells, the noise-free truth and the file of the split where there are such."""
        sources = self.params.sources
        return [p for s in sources for p in (s.cells, s.oracle, s.split.file if s.split else None) if p]

    def facts(self) -> dict[str, Any]:
        """Splits with their hashes, what the models saw, the size of what was scored, the models' own facts."""
        splits = {name: data.split_record() for name, data in sorted(self.data.items())}
        facts = {
            "unit": "perturbation",
            "split": splits,
            "split_sha256": {name: split["sha256"] for name, split in splits.items()},
            "protocol": {name: _protocol(data) for name, data in sorted(self.data.items())},
            "confounded": {name: data.confounded for name, data in sorted(self.data.items())},
            "held_out": {name: _share(data) for name, data in sorted(self.data.items())},
            "n_genes": {name: len(data.genes) for name, data in sorted(self.data.items())},
        }
        facts |= self.noted
        return {**facts, "model": self.told} if self.told else facts

    def load(self) -> None:
        """Read every source and make its folds."""
        for source in self.params.sources:
            same = [s.name for s in self.params.sources if (s.cells, s.where) == (source.cells, source.where)]
            rng = self.context.rng("expression", "cells", same[0])  # protocols and splits compare on the same cells
            self.data[source.name] = load_source(source, rng)
            self.warnings += self.data[source.name].remarks

    def run(self, make_model: ModelFactory) -> Predictions:
        """Fit a fresh model a fold on what it may see, and predict the scored perturbations.

        A model that fails on a source beside the primary ones is not scored on that source, and a warning says why;
        where it fails on a primary one the error is raised.
        """
        found: Predictions = {}
        self.told, self.failed = {}, frozenset()
        scales: dict[str, list[Scale]] = {}
        work = [(data, fold) for data in self.data.values() for fold in data.folds]
        for data, fold in self.context.progress.track(work, "expression"):
            name = data.source.name
            if name in self.failed:
                continue
            try:
                found |= self._predict_fold(make_model, data, fold, scales.setdefault(name, []))
                if fold is data.folds[-1]:
                    self.warnings += check_scale(scales[name], name)
            except (LeakError, MissingDependencyError, MissingHardwareError, ParamsError):
                raise
            except Exception as error:  # a stranger's code may raise anything
                if data.source.primary or len(self.failed) + 1 == len(self.data):
                    raise
                self.failed |= {name}
                self.told.pop(name, None)
                reason = str(error) if isinstance(error, HypedError) else f"{type(error).__name__}: {error}"
                self.warnings.append(f"{name}: not scored, the model failed on it: {reason}")
        return {key: predicted for key, predicted in found.items() if key[0] not in self.failed}

    def _predict_fold(
        self, make_model: ModelFactory, data: ExpressionData, fold: Fold, scales: list[Scale]
    ) -> Predictions:
        """Predictions of a fresh model for the scored perturbations of a fold."""
        source = data.source
        found: Predictions = {}
        data.check_leaks(fold)
        model = make_model(source.configs) if source.configs else make_model()
        model.fit(data.visible(fold), data.validation(fold), context=self.context)
        control = data.control(fold)
        for name in fold.test:
            result = model.predict(control.copy(), data.perturbations[name], context=self.context)
            where = f"{source.name}/{name}"
            values = checked_prediction(result, data.genes, where)
            self._note_fallback(result, where)
            found[source.name, fold.name, name] = self.predicted(values, data, *data.made_of(values, fold, name))
            scales.append(scale_of(values, control.X))
        if said := getattr(model, "facts", None):
            self.told.setdefault(source.name, {})[fold.name] = copy.deepcopy(dict(said))
        return found

    def _note_fallback(self, result: Any, where: str) -> None:
        reason = result.uns.get("fallback") if hasattr(result, "uns") else None
        if reason:
            self.warnings.append(f"{where}: {reason}")

    def predicted(
        self,
        values: npt.NDArray[np.float32],
        data: ExpressionData | None = None,
        rows: npt.NDArray[np.intp] | None = None,
        stream: tuple[str, ...] = (),
    ) -> Predicted:
        """Predicted (or other) cells in the task's form; see `of_cells`."""
        kept = values
        if len(values) > self.params.energy_cells:
            rng = self.context.rng("expression", "energy")
            kept = values[np.sort(rng.choice(len(values), self.params.energy_cells, replace=False))]
        return of_cells(values, kept, data, rows=rows, stream=stream)

    @property
    def references(self) -> tuple[str, ...]:
        """All of them; ``oracle`` where every primary source has a noise-free truth."""
        known = all(s.oracle is not None for s in self.params.sources if s.primary)
        return tuple(name for name in self.reference_names if name != "oracle" or known)

    def reference(self, name: str) -> Scores:
        """Scores of a reference (`hyped_bench.references`)."""
        from hyped_bench.references import score_reference

        return score_reference(name, self)

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        names = [s.name for s in self.params.sources if s.suffix]
        counts = [
            f"n_{what}{end}"
            for what in ("perturbations", "undefined")
            for end in ("", *(f"_{n}" for n in names))
        ]
        return summary_keys(KEYS, names, INTERVALS) + counts

    def score(self, predictions: Predictions, truth: Predictions | None = None) -> Scores:
        """Score every held-out perturbation.

        ``truth`` replaces the held-out cells by other cells of the same perturbations (the reference
        ``duplicate`` holds one half of the cells against the other).
        """
        scored = [
            score_source(data, predictions, truth or {}, self.params, self.context)
            for name, data in self.data.items()
            if name not in self.failed
        ]
        units = pd.concat([one.units for one in scored], ignore_index=True)
        metrics, said = self._summary(units)
        tables = {"units": units}
        if (groups := subgroup_means(units)) is not None:
            tables["subgroups"] = groups
        if strata := [one.strata for one in scored if len(one.strata)]:
            tables["strata"] = pd.concat(strata, ignore_index=True)
        details = {"genes": pd.concat([part for one in scored for part in one.genes], ignore_index=True)}
        if draws := [one.draws for one in scored if one.draws is not None]:
            details["draws"] = pd.concat(draws, ignore_index=True)
        said += [line for one in scored for line in one.remarks]
        return Scores(metrics, tables, details, [*dict.fromkeys(self.warnings), *self._cautions(units), *said])

    def _summary(self, units: pd.DataFrame) -> tuple[dict[str, float | int | None], list[str]]:
        """Means over perturbations (of the repeats of one first), with intervals where there are enough."""
        each = units.groupby(["source", "perturbation"], as_index=False, sort=False)
        repeats = units
        units = each.agg({key: _mean for key in KEYS}) if each.ngroups < len(units) else units
        sources = self.params.sources
        primary = [s.name for s in sources if s.primary]
        named = [s.name for s in sources if s.suffix]
        chosen = units[units["source"].isin(primary)]
        enough = len(chosen) >= MIN_UNITS
        metrics, said = summarise(
            units,
            KEYS,
            named,
            primary,
            intervals=INTERVALS if enough else (),
            rng=self.context.rng("expression", "bootstrap"),
            draws=self.params.bootstrap,
        )
        if not enough:
            metrics.update({f"{key}{end}": None for key in INTERVALS for end in ("_lo", "_hi")})
            few = f"{len(chosen)} perturbations are too few for intervals over perturbations"
            said = [few, *said]
        metrics["n_perturbations"] = len(chosen)
        metrics["n_undefined"] = int(repeats.loc[repeats["source"].isin(primary), "undefined"].sum())
        for name in named:
            metrics[f"n_perturbations_{name}"] = int((units["source"] == name).sum())
            metrics[f"n_undefined_{name}"] = int(repeats.loc[repeats["source"] == name, "undefined"].sum())
        return metrics, said

    def _cautions(self, units: pd.DataFrame) -> list[str]:
        """What a reader of the numbers has to know of the data."""
        said = []
        if undefined := int(units["undefined"].sum()):
            said.append(
                f"{undefined} correlations or cosines of a change are undefined (predicted or true change "
                "constant): 0 was stated"
            )
        for name, data in self.data.items():
            if data.confounded:
                free = "in pearson_delta_train and cosine_delta_train the truth's side is free of it"
                none = ", the models' is not, since they saw no perturbed cell" if data.relabelled else ""
                said.append(
                    f"{name}: no pool holds both control and perturbed cells: changes from control hold the pool's "
                    f"effect; {free}{none}"
                )
            if data.relabelled:
                said.append(f"{name}: {SAID[RELABELLED]}")
        return said


def _share(data: ExpressionData) -> dict[str, int]:
    """Perturbations that are scored, and those that were measured: a split that lists the easy ones shows."""
    return {"scored": len(data.scored), "measured": len(set(data.labels) - {CONTROL})}


def _mean(column: pd.Series) -> float:
    """Undefined where one repeat is."""
    return float(column.mean(skipna=False))


def _protocol(data: ExpressionData) -> dict[str, Any]:
    """What the models of a source saw, and on which genes the paper's numbers are taken."""
    source = data.source
    facts: dict[str, Any] = {"name": source.protocol, "says": SAID[source.protocol]}
    if source.kind == "conditions":
        facts |= {"top_genes": min(source.top_genes, len(data.genes)), "top_genes_by": source.top_genes_by}
    return facts
