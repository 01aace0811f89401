"""Response: a condition's change from control in one modality, predicted from its change in the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from hyped_bench.metrics.crossmodal import pearson_rows, rmse, z_rmse
from hyped_bench.metrics.undefined import mean_defined
from hyped_bench.tasks.base import Judged, ModelFactory, Scores, TaskParams, summarise, summary_keys
from hyped_bench.tasks.crossmodal.changes import Changes, expression_changes, phenotype_changes
from hyped_bench.tasks.crossmodal.courses import QUANTITIES, SHORT, SceneSums, measured, scene_sums
from hyped_bench.tasks.crossmodal.data import (
    Answer,
    Answers,
    CrossmodalParams,
    CrossmodalSource,
    CrossmodalTask,
    FloatArray,
    cautions,
    few_conditions,
    is_confounded,
    read_design_of,
    read_nuclei,
    read_rna,
    same_bins,
    true_sums,
)
from hyped_core.design import Design
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError, PluginError

if TYPE_CHECKING:
    from anndata import AnnData

IMAGING_KEYS = tuple(f"rmse_{SHORT[q]}" for q in QUANTITIES)
EXPRESSION_KEYS = ("rmse_expression",)
SHARED_KEYS = ("z_rmse", "pearson")
KEYS = (*SHARED_KEYS, *IMAGING_KEYS, *EXPRESSION_KEYS)
MIN_CONDITIONS = 3
"""Perturbed conditions: one is held out, and two are the least that say whether conditions differ."""


class ResponseSource(CrossmodalSource):
    """One container with both modalities."""

    predict: Literal["imaging", "expression"] = "imaging"
    """Which modality's change is predicted; from the other's."""


class ResponseParams(CrossmodalParams):
    """Parameters of the task."""

    sources: tuple[ResponseSource, ...]
    window_h: float = Field(8.0, gt=0)
    """Phenotypes are means over windows of this many hours."""
    detected: float = Field(0.05, ge=0, lt=1)
    """Genes found in at least this share of the cells of some condition are used."""


@dataclass(slots=True)
class ResponseData:
    """A source read.

    Attributes
    ----------
    units : perturbed conditions, each held out once.
    error : (conditions, response columns) standard error of the response by redraws.
    """

    source: ResponseSource
    units: list[str]
    genes: dict[str, tuple[str, ...]]
    scenes: list[SceneSums]
    quantities: tuple[str, ...]
    cells: AnnData
    features: Changes
    responses: Changes
    error: FloatArray
    confounded: bool
    beware: tuple[str, ...]

    def split(self) -> dict[str, Any]:
        """What was held out, for the record."""
        return {"kind": "unseen_condition", "held_out": self.units, "of": f"its {self.source.predict}"}


class ResponseTask(CrossmodalTask):
    """Model: `ResponsePredictor`. Unit: a perturbed condition, left out of what is learned from."""

    name: ClassVar[str] = "response"
    Params: ClassVar[type[TaskParams]] = ResponseParams
    link: ClassVar = "condition"
    judged: ClassVar[tuple[Judged, ...]] = tuple(
        Judged(
            key, "lower", "no_response", ("mean_response", "additive_response"), "replicate",
            ("condition",), "condition",
        )
        for key in ("z_rmse", *IMAGING_KEYS, *EXPRESSION_KEYS)
    )  # fmt: skip

    def load(self) -> None:
        """Read both modalities and make changes from control of each."""
        for source in self.params.sources:
            self.data[source.name] = self._read(source)

    def _read(self, source: ResponseSource) -> ResponseData:
        design = read_design_of(source)
        cells, nuclei = read_rna(source, design), read_nuclei(source, design)
        scenes = scene_sums(nuclei, self.params.window_h)
        both = {s.condition for s in scenes} & set(cells.obs["condition"].astype(str))
        units = [c.name for c in design.conditions if c.name in both and c.name != CONTROL]
        if CONTROL not in both or len(units) < MIN_CONDITIONS:
            raise InvalidDataError(
                f"has {len(units)} perturbed conditions in both modalities"
                f"{'' if CONTROL in both else ' and no control'}; control and {MIN_CONDITIONS} are the least",
                where=source.container, mend="image and sequence more conditions; nothing can be learned from fewer",
            )  # fmt: skip
        quantities = self._shared_windows(scenes, units, source)
        lacking = [SHORT[q] for q in QUANTITIES if q not in quantities]
        if lacking:
            self.warnings.append(f"{source.name}: not measured, so no part of the phenotype: {', '.join(lacking)}")
        imaging = self._imaging(source, scenes, units, quantities)
        expression = self._expression(source, cells, units)
        features, responses = (expression, imaging) if source.predict == "imaging" else (imaging, expression)
        error = responses.values[1:].std(axis=0)
        constant = error <= 1e-9 * np.maximum(np.abs(responses.values).max(axis=0), 1e-12)
        genes = {name: design.perturbation(name).genes for name in units}
        return ResponseData(
            source, units, genes, scenes, quantities, cells, features, responses, np.where(constant, np.nan, error),
            is_confounded(design), _cautions(design, self.link),
        )  # fmt: skip

    def _shared_windows(self, scenes: list[SceneSums], units: list[str], source: ResponseSource) -> tuple[str, ...]:
        """Cut every scene of a used condition to the windows all have; the quantities that all have in all of them."""
        scenes[:] = [s for s in scenes if s.condition in {*units, CONTROL}]
        windows = set.intersection(*({round(float(t), 6) for t in s.time_h} for s in scenes))
        if not windows:
            raise InvalidDataError(
                f"the scenes share no window of {self.params.window_h:g} h", where=f"{source.container}: nuclei.time_h",
                mend="change `window_h`",
            )  # fmt: skip
        for i, s in enumerate(scenes):
            rows = np.array([round(float(t), 6) in windows for t in s.time_h])
            scenes[i] = SceneSums(s.scene, s.condition, s.replicate, s.time_h[rows], s.frames[rows], s.sums[:, rows])
        there = measured(scenes)
        found = tuple(q for q in there if all(np.isfinite(s.values()[:, QUANTITIES.index(q)]).all() for s in scenes))
        if not found:
            raise InvalidDataError("no quantity is there in every window", where=f"{source.container}: nuclei")
        return found

    def _imaging(
        self, source: ResponseSource, scenes: list[SceneSums], units: list[str], quantities: tuple[str, ...]
    ) -> Changes:
        """``<quantity>@<hour>``: mean of a condition's scenes minus that of control's; growth from the first window."""
        values = {}
        for scene in scenes:
            weights = scene.redraws(self.params.draws, self.context.rng("crossmodal", source.name, scene.scene))
            values[scene.scene] = scene.values(np.concatenate([np.ones((1, scene.n_lineages)), weights]))
        return phenotype_changes(scenes, values, units, quantities)

    def _expression(self, source: ResponseSource, cells: AnnData, units: list[str]) -> Changes:
        """Mean ln(1 + counts per 10,000) minus control's, and the phase scores' means where cells have them."""
        condition = cells.obs["condition"].astype(str).to_numpy()
        weights = {}
        for name in (*units, CONTROL):
            n = int((condition == name).sum())
            rng = self.context.rng("crossmodal", source.name, "cells", name)
            drawn = rng.multinomial(n, np.full(n, 1 / n), size=self.params.draws) / n
            weights[name] = np.concatenate([np.full((1, n), 1 / n), drawn])
        return expression_changes(cells, weights, units, self.params.detected, scores=source.predict == "imaging")

    def run(self, make_model: ModelFactory) -> Answers:
        """Leave one condition out at a time, as measured and for every draw."""
        found: Answers = {}
        for data in self.data.values():
            for i, name in enumerate(self.context.progress.track(data.units, f"response {data.source.name}")):
                rows = [self._predict(make_model(), data, i, row) for row in range(self.rows)]
                found[data.source.name, name] = Answer(np.array(rows))
        return found

    def _predict(self, model: Any, data: ResponseData, held: int, row: int) -> FloatArray:
        others = [name for i, name in enumerate(data.units) if i != held]
        name = data.units[held]
        x = pd.DataFrame(data.features.values[row], index=data.units, columns=data.features.columns)
        y = pd.DataFrame(data.responses.values[row], index=data.units, columns=data.responses.columns)
        model.fit(x.loc[others], y.loc[others], {n: data.genes[n] for n in others}, context=self.context)
        values = np.asarray(model.predict(x.loc[name], data.genes[name], context=self.context), dtype=float)
        where = f"{data.source.name}/{name}"
        if values.shape != (len(data.responses.columns),):
            raise PluginError(
                f"predict gave shape {values.shape}, ({len(data.responses.columns)},) was expected", where=where
            )
        if not np.isfinite(values).all():
            raise PluginError("predict gave NaN or infinite values", where=where)
        return values

    def replicate(self) -> Answers:
        """Changes of one half of the lineages (or cells) against those of the other half."""
        found: Answers = {}
        for data in self.data.values():
            first, second = self._halves(data, self.params.draws)
            for i, name in enumerate(data.units):
                blank = np.full((1, first.shape[2]), np.nan)
                parts = [np.concatenate([blank, part[:, i]]) for part in (first, second)]
                found[data.source.name, name] = Answer(*parts, halves=True)
        return found

    def _halves(self, data: ResponseData, count: int) -> tuple[FloatArray, FloatArray]:
        source = data.source
        if source.predict == "imaging":
            half = {
                s.scene: s.halves(count, self.context.rng("crossmodal", source.name, "halves", s.scene))
                for s in data.scenes
            }
            parts = (
                {s.scene: s.values(half[s.scene]) for s in data.scenes},
                {s.scene: s.values(1 - half[s.scene]) for s in data.scenes},
            )
            changes = [phenotype_changes(data.scenes, part, data.units, data.quantities).values for part in parts]
            return changes[0], changes[1]
        condition = data.cells.obs["condition"].astype(str).to_numpy()
        drawn = {}
        for name in (*data.units, CONTROL):
            n = int((condition == name).sum())
            order = np.argsort(self.context.rng("crossmodal", source.name, "halves", name).random((count, n)), axis=1)
            drawn[name] = (order < n // 2).astype(float)
        found = []
        for flip in (False, True):
            weights = {k: 1 - v if flip else v for k, v in drawn.items()}
            weights = {k: v / v.sum(axis=1, keepdims=True) for k, v in weights.items()}
            found.append(expression_changes(data.cells, weights, data.units, self.params.detected, scores=False).values)
        return found[0], found[1]

    def oracle(self) -> Answers:
        """Phenotypes of the true nuclei of the same scenes; there is none where expression is predicted."""
        found: Answers = {}
        for data in self.data.values():
            if data.source.tracks is None or data.source.predict != "imaging":
                continue
            truth = true_sums(data.source, self.params.window_h)
            values = {s.scene: same_bins(s, truth.get(s.scene), data.source.tracks)[None] for s in data.scenes}
            changes = phenotype_changes(data.scenes, values, data.units, data.quantities).values[0]
            for i, name in enumerate(data.units):
                found[data.source.name, name] = Answer(np.repeat(changes[i][None], self.rows, axis=0))
        return found

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        keys = [*summary_keys(SHARED_KEYS, [s.name for s in self.params.sources])]
        for kind, own in (("imaging", IMAGING_KEYS), ("expression", EXPRESSION_KEYS)):
            keys += summary_keys(own, [s.name for s in self.params.sources if s.predict == kind])
        return [*keys, "n_conditions"]

    def score(self, predictions: Answers) -> Scores:
        """Compare predicted with measured changes."""
        rows, draws, values = [], [], []
        for (source, name), answer in predictions.items():
            data = self.data[source]
            i = data.units.index(name)
            truth = answer.truth if answer.truth is not None else data.responses.values[:, i]
            known = np.isfinite(data.error[i])
            found = {
                "z_rmse": z_rmse(answer.predicted[:, known], truth[:, known], data.error[i][known]),
                "pearson": pearson_rows(
                    answer.predicted[:, known] / data.error[i][known], truth[:, known] / data.error[i][known]
                ),
                **_raw(answer.predicted, truth, data),
            }
            ids = {"source": source, "condition": name}
            errors = [key for key in KEYS if key != "pearson"]
            row, table = self.frame(found, ids, answer, errors)
            rows.append(row | {"n_columns": len(data.responses.columns)})
            draws.append(table)
            if not answer.halves:
                values.append(pd.DataFrame({
                    **ids, "column": data.responses.columns, "predicted": answer.predicted[0], "truth": truth[0],
                    "standard_error": data.error[i],
                }))  # fmt: skip
        units = pd.DataFrame(rows)
        metrics, warnings = self._summary(units)
        n = int(units["source"].isin([s.name for s in self.params.sources if s.primary]).sum())
        metrics["n_conditions"] = n
        warnings += few_conditions(n)
        details = {"draws": pd.concat(draws, ignore_index=True)}
        if values:
            details["changes"] = pd.concat(values, ignore_index=True).round(9)
        return Scores(metrics, {"units": units}, details, [*self.warnings, *warnings])

    def _summary(self, units: pd.DataFrame) -> tuple[dict[str, float | int | None], list[str]]:
        """Keys of both directions over their own sources; an undefined mean where no primary source has them."""
        metrics: dict[str, float | int | None] = {}
        warnings: list[str] = []
        parts = (("", SHARED_KEYS), ("imaging", IMAGING_KEYS), ("expression", EXPRESSION_KEYS))
        for kind, keys in parts:
            own = [s for s in self.params.sources if kind in ("", s.predict)]
            found, said = summarise(units, keys, [s.name for s in own], [s.name for s in own if s.primary])
            if kind and not any(s.primary for s in own):
                found |= {k: mean_defined(units.loc[units["source"].isin([s.name for s in own]), k]) for k in keys}
            metrics |= found
            warnings += said
        return metrics, warnings


def _raw(predicted: FloatArray, truth: FloatArray, data: ResponseData) -> dict[str, FloatArray]:
    """Errors in the quantities' own units; NaN for what the source does not predict."""
    blank = np.full(len(truth), np.nan)
    if data.source.predict == "expression":
        return {**dict.fromkeys(IMAGING_KEYS, blank), "rmse_expression": rmse(predicted, truth)}
    found = {}
    for quantity in QUANTITIES:
        mine = [i for i, name in enumerate(data.responses.columns) if name.startswith(f"{quantity}@")]
        found[f"rmse_{SHORT[quantity]}"] = rmse(predicted[:, mine], truth[:, mine]) if mine else blank
    return {**found, "rmse_expression": blank}


def _cautions(design: Design, link: str) -> tuple[str, ...]:
    chosen = design.sorted_conditions()
    said = cautions(design, link, cells=True)
    names = ", ".join(chosen)
    return (*said, f"cells of {names} were sorted, so changes from them hold the sorter's phases") if chosen else said
