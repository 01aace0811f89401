"""Composition: the share of cells in S_G2M at harvest, from sequenced cells, against that of imaged nuclei."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from hyped_bench.metrics.crossmodal import fraction_gap, order_agreement
from hyped_bench.readers import read_table, require_columns
from hyped_bench.tasks.base import Judged, ModelFactory, Scores, TaskParams, summarise, summary_keys
from hyped_bench.tasks.crossmodal.contracts import Course
from hyped_bench.tasks.crossmodal.courses import QUANTITIES, SceneSums, course, measured, scene_sums
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
    need_phases,
    read_design_of,
    read_nuclei,
    read_rna,
)
from hyped_core.design.phases import COARSE_PHASES, coarse_phase
from hyped_core.errors import InvalidDataError, PluginError

if TYPE_CHECKING:
    from anndata import AnnData

KEYS = ("fraction_error", "bias")
DIVIDING = QUANTITIES.index("dividing")


class CompositionSource(CrossmodalSource):
    """One container with both modalities."""

    population: str | None = None
    """CSV with ``condition, time_h, phase`` (system rna), ``fraction``: the simulated populations, for ``oracle``."""
    within_h: float = Field(1.0, gt=0)
    """Nuclei of bins this near the harvest are counted."""


class CompositionParams(CrossmodalParams):
    """Parameters of the task."""

    sources: tuple[CompositionSource, ...]
    bin_h: float = Field(1.0, gt=0)
    start: float = Field(1 / 3, gt=0, lt=1)
    """Share of the movie of a condition that models may see of it."""


@dataclass(slots=True)
class CompositionData:
    """A source read: weights and values have as measured in row 0, then the draws.

    Attributes
    ----------
    units : conditions that are scored.
    truth : condition -> (1 + draws,) share of S_G2M around the harvest, mean of its scenes.
    values : scene -> (1 + draws, bins, quantities).
    """

    source: CompositionSource
    scenes: list[SceneSums]
    quantities: tuple[str, ...]
    cells: AnnData
    harvest_h: float
    units: list[str]
    truth: dict[str, FloatArray]
    values: dict[str, FloatArray]
    confounded: bool
    beware: tuple[str, ...]

    def split(self) -> dict[str, Any]:
        """What was held out, for the record."""
        return {"kind": "unseen_condition", "held_out": self.units, "of": "its movies beyond their start"}

    def near(self, scene: SceneSums) -> np.ndarray:
        """Bins of a scene around the harvest."""
        return np.abs(scene.time_h - self.harvest_h) <= self.source.within_h + 1e-9

    def share(self, condition: str, values: dict[str, FloatArray]) -> FloatArray:
        """Mean over the scenes of ``condition`` of the mean over bins around the harvest (rows,)."""
        shares = [
            _mean_known(values[s.scene][:, self.near(s), DIVIDING], axis=1)
            for s in self.scenes if s.condition == condition and self.near(s).any()
        ]  # fmt: skip
        return _mean_known(np.array(shares), axis=0)

    def visible(self, condition: str, start: float, row: int) -> list[Course]:
        """All other conditions, and the start of this one's movies, as far as every quantity is known in it."""
        found = []
        for scene in self.scenes:
            until = self.cut(scene, start) if scene.condition == condition else np.inf
            seen = course(scene, self.values[scene.scene][row], self.quantities, until=until)
            if len(seen.time_h) and np.isfinite(seen.values).all():
                found.append(seen)
        return found

    def cut(self, scene: SceneSums, start: float) -> float:
        """Hour from which a scene of the condition in question is hidden: after its start, and before the harvest."""
        first, last = scene.time_h[0], scene.time_h[-1]
        return min(first + start * (last - first), self.harvest_h - self.source.within_h - 1e-6)


class CompositionTask(CrossmodalTask):
    """Model: `CompositionEstimator`. Unit: a condition that was not sorted."""

    name: ClassVar[str] = "composition"
    Params: ClassVar[type[TaskParams]] = CompositionParams
    link: ClassVar = "condition x phase"
    truth: ClassVar[str] = "population"
    judged: ClassVar[tuple[Judged, ...]] = (
        Judged(
            "fraction_error", "lower", "control_composition", ("mean_composition",), "replicate",
            ("condition",), "condition",
        ),
    )  # fmt: skip

    def load(self) -> None:
        """Read nuclei and cells; conditions whose cells were sorted are never scored."""
        for source in self.params.sources:
            self.data[source.name] = self._read(source)

    def _read(self, source: CompositionSource) -> CompositionData:
        design = read_design_of(source)
        harvest = design.timeline.time_of("harvest")
        if harvest is None:
            raise InvalidDataError(
                "names no event 'harvest', so it is unknown when the cells were taken",
                where=f"{source.container}: design.timeline.events", mend="add {name: harvest, time_h: ...}",
            )  # fmt: skip
        cells, nuclei = read_rna(source, design), read_nuclei(source, design)
        need_phases(nuclei, "fucci", f"{source.container}: nuclei")
        need_phases(cells.obs, "rna", f"{source.container}: rna")
        chosen = design.sorted_conditions()
        cells.obs["sorted"] = cells.obs["condition"].astype(str).isin(chosen).to_numpy()
        every = scene_sums(nuclei, self.params.bin_h)
        scenes = [s for s in every if np.isfinite(s.values()[:, DIVIDING]).any()]
        if len(scenes) < len(every):
            lost = sorted({s.scene for s in every} - {s.scene for s in scenes})
            self.warnings.append(f"{source.name}: scenes without phases are left out: {', '.join(lost)}")
        quantities = tuple(q for q in measured(scenes) if q != "dividing")
        data = CompositionData(
            source, scenes, ("dividing", *quantities), cells, harvest, [], {}, {}, is_confounded(design),
            cautions(design, self.link, cells=True),
        )  # fmt: skip
        for scene in scenes:
            rng = self.context.rng("crossmodal", source.name, scene.scene)
            weights = scene.redraws(self.params.draws, rng)
            data.values[scene.scene] = scene.values(np.concatenate([np.ones((1, scene.n_lineages)), weights]))
        seen = {s.condition for s in scenes if data.near(s).any()}
        if not seen:
            raise InvalidDataError(
                f"no frame lies within {source.within_h:g} h of the harvest at {harvest:g} h",
                where=f"{source.container}: nuclei.time_h", mend="raise `within_h`, or correct the design's harvest",
            )  # fmt: skip
        sequenced = set(cells.obs["condition"].astype(str))
        data.units = [c.name for c in design.conditions if c.name in seen & sequenced and c.name not in chosen]
        if not data.units:
            raise InvalidDataError(
                "every condition that was imaged at harvest and sequenced was sorted, so its cells' fractions say "
                f"nothing of biology (sorted: {', '.join(chosen) or 'none'})",
                where=f"{source.container}: design.conditions", mend="sequence unsorted cells of a condition",
            )  # fmt: skip
        if len({s.condition for s in scenes}) < 2:
            raise InvalidDataError(
                "has movies of one condition; the controls need another",
                where=f"{source.container}: nuclei.condition", mend="image at least two conditions",
            )  # fmt: skip
        data.truth = {name: data.share(name, data.values) for name in data.units}
        return data

    def run(self, make_model: ModelFactory) -> Answers:
        """Fit a fresh model a condition on what it may see; estimates without cells are made again a draw."""
        found: Answers = {}
        for data in self.data.values():
            for name in self.context.progress.track(data.units, "composition"):
                found[data.source.name, name] = Answer(self._estimate(make_model, data, name))
        return found

    def _estimate(self, make_model: ModelFactory, data: CompositionData, name: str) -> FloatArray:
        where = f"{data.source.name}/{name}"
        own = data.cells[(data.cells.obs["condition"].astype(str) == name).to_numpy()].copy()

        def once(row: int) -> FloatArray:
            model = make_model()
            courses = data.visible(name, self.params.start, row)
            model.fit(courses, data.cells.copy() if row == 0 else data.cells, harvest_h=data.harvest_h,
                      context=self.context)  # fmt: skip
            given = own.copy() if row == 0 else own
            return _checked(model.estimate(given, name, context=self.context), own.n_obs, where)

        first = once(0)
        if first.ndim == 0:
            shares = [first, *(once(row) for row in range(1, self.rows))]
            return np.clip(np.array(shares, float), 0, 1)
        rng = self.context.rng("crossmodal", data.source.name, "cells", name)
        n = own.n_obs
        weights = rng.multinomial(n, np.full(n, 1 / n), size=self.params.draws) / n
        return np.clip(np.concatenate([[first.mean()], weights @ first]), 0, 1)

    def replicate(self) -> Answers:
        """Halves of the lineages of every scene against each other."""
        found: Answers = {}
        for data in self.data.values():
            first, second = {}, {}
            for scene in data.scenes:
                rng = self.context.rng("crossmodal", data.source.name, "halves", scene.scene)
                half = scene.halves(self.params.draws, rng)
                first[scene.scene], second[scene.scene] = scene.values(half), scene.values(1 - half)
            for name in data.units:
                shares = [np.append(np.nan, data.share(name, part)) for part in (first, second)]
                found[data.source.name, name] = Answer(*shares, halves=True)
        return found

    def oracle(self) -> Answers:
        """Fractions of the simulated populations at harvest."""
        found: Answers = {}
        for data in self.data.values():
            path = data.source.population
            if path is None:
                continue
            table = read_table(path)
            require_columns(table, ["condition", "time_h", "phase", "fraction"], path)
            at = table[np.isclose(table["time_h"].to_numpy(float), data.harvest_h)]
            dividing = at[coarse_phase(at["phase"], "rna") == COARSE_PHASES[1]]
            for name in data.units:
                own = dividing.loc[dividing["condition"].astype(str) == name, "fraction"]
                if own.empty:
                    raise InvalidDataError(f"has no fractions of {name!r} at {data.harvest_h:g} h", where=path)
                found[data.source.name, name] = Answer(np.full(self.rows, float(own.sum())))
        return found

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        names = [s.name for s in self.params.sources]
        return [*summary_keys((*KEYS, "order_agreement"), names), "n_conditions"]

    def score(self, predictions: Answers) -> Scores:
        """Compare estimated shares with those of the nuclei around the harvest."""
        rows, draws = [], []
        for (source, name), answer in predictions.items():
            data = self.data[source]
            truth = answer.truth if answer.truth is not None else data.truth[name]
            gap = fraction_gap(answer.predicted, truth)
            ids = {"source": source, "condition": name}
            row, table = self.frame({"fraction_error": np.abs(gap), "bias": gap}, ids, answer, KEYS)
            own = [s for s in data.scenes if s.condition == name and data.near(s).any()]
            low, high = _interval(data.truth[name][1:])
            row |= {
                "fraction": np.nan if answer.halves else float(answer.predicted[0]),
                "fraction_truth": float(data.truth[name][0]), "fraction_truth_lo": low, "fraction_truth_hi": high,
                "n_cells": int((data.cells.obs["condition"].astype(str) == name).sum()),
                "n_lineages": sum(s.n_lineages for s in own), "n_scenes": len(own),
            }  # fmt: skip
            rows.append(row)
            draws.append(table)
        units = pd.DataFrame(rows)
        names = [s.name for s in self.params.sources]
        primary = [s.name for s in self.params.sources if s.primary]
        metrics, warnings = summarise(units, KEYS, names, primary)
        order = {n: order_agreement(u["fraction"], u["fraction_truth"]) for n, u in units.groupby("source")}
        metrics |= {f"order_agreement_{n}": order.get(n) for n in names}
        known = [order.get(n) for n in primary]
        metrics["order_agreement"] = None if None in known or not known else float(np.mean(known))
        metrics["n_conditions"] = int(units["source"].isin(primary).sum())
        return Scores(
            metrics, {"units": units}, {"draws": pd.concat(draws, ignore_index=True)},
            [*self.warnings, *warnings, *few_conditions(metrics["n_conditions"])],
        )  # fmt: skip


def _mean_known(values: FloatArray, axis: int) -> FloatArray:
    """Mean of the defined values; NaN where there are none."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=axis) / known.sum(axis=axis)


def _interval(draws: FloatArray) -> tuple[float, float]:
    return tuple(np.nanquantile(draws, [0.025, 0.975])) if np.isfinite(draws).any() else (np.nan, np.nan)


def _checked(value: Any, n: int, where: str) -> FloatArray:
    """Refuse what is neither one number nor a number a cell."""
    array = np.asarray(value, dtype=float)
    if array.shape not in ((), (n,)):
        raise PluginError(
            f"estimate gave shape {array.shape}; a number, or one for each of the {n} cells, was expected", where=where
        )
    if not np.isfinite(array).all():
        raise PluginError("estimate gave NaN or infinite values", where=where)
    return array
