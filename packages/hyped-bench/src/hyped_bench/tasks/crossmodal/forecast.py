"""Forecast: the course of a scene from its start, of the last third of every movie or of a held-out replicate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from hyped_bench.metrics.crossmodal import mase, one_step, rmse
from hyped_bench.splits import replicate_split, time_split
from hyped_bench.tasks.base import Judged, ModelFactory, Scores, TaskParams, summarise, summary_keys
from hyped_bench.tasks.crossmodal.contracts import Course
from hyped_bench.tasks.crossmodal.courses import QUANTITIES, SHORT, SceneSums, course, measured, scene_sums
from hyped_bench.tasks.crossmodal.data import (
    MIN_BINS,
    Answer,
    Answers,
    CrossmodalParams,
    CrossmodalSource,
    CrossmodalTask,
    FloatArray,
    read_design_of,
    read_nuclei,
    same_bins,
    true_sums,
)
from hyped_core.errors import InvalidDataError, PluginError

KEYS = (*(f"rmse_{SHORT[q]}" for q in QUANTITIES), "mase")
LAST_H = 2.0
"""Hours before the cut from which growth is counted where halves are compared."""
GIVEN = {"future": 2 / 3, "replicate": 1 / 3}


class ForecastSource(CrossmodalSource):
    """One container with movies that were segmented, tracked and given phases; cells are not needed."""

    kind: Literal["future", "replicate"] = "future"
    """``future``: no model sees a scene beyond the cut. ``replicate``: one replicate at a time is held out beyond
    the cut (in all conditions that have another), the others are seen whole."""
    given: float | None = Field(None, gt=0, lt=1)
    """Share of each movie before the cut; 2/3 for ``future``, 1/3 for ``replicate`` where None."""


class ForecastParams(CrossmodalParams):
    """Parameters of the task."""

    sources: tuple[ForecastSource, ...]
    bin_h: float = Field(1.0, gt=0)
    """Frames of this many hours are taken together."""


@dataclass(slots=True)
class ForecastData:
    """A source read.

    Attributes
    ----------
    units : scenes that are scored.
    folds : name -> (scenes hidden beyond their cut, those of them that are scored).
    cut_h : scene -> hour beyond which its course may be hidden.
    values : scene -> (1 + draws, bins, quantities), all four quantities, NaN where undefined.
    """

    source: ForecastSource
    scenes: list[SceneSums]
    quantities: tuple[str, ...]
    folds: dict[str, tuple[list[str], list[str]]]
    cut_h: dict[str, float]
    values: dict[str, FloatArray]
    confounded: bool = False
    """Sequencing's pools do not touch movies."""
    beware: tuple[str, ...] = ()

    @property
    def units(self) -> list[str]:
        """Scenes that are scored, each in one fold."""
        return sorted(name for _, scored in self.folds.values() for name in scored)

    def scene(self, name: str) -> SceneSums:
        """One scene."""
        return next(s for s in self.scenes if s.scene == name)

    def hidden(self, scene: SceneSums) -> npt.NDArray[np.bool_]:
        """Bins beyond the cut."""
        return scene.time_h >= self.until(scene.scene)

    def visible(self, fold: str, row: int) -> dict[str, Course]:
        """What may be seen in a fold: scene -> its course, up to the cut where it is hidden beyond."""
        found = {}
        for scene in self.scenes:
            name = scene.scene
            until = self.until(name) if name in self.folds[fold][0] else np.inf
            seen = course(scene, self.values[name][row], self.quantities, until=until)
            if not np.isfinite(seen.values).all():  # a redraw that left a quantity out: as it was measured
                whole = course(scene, self.values[name][0], self.quantities, until=until)
                lost = ~np.isfinite(seen.values).all(axis=0)
                seen = replace(seen, values=np.where(lost, whole.values, seen.values))
            found[name] = seen
        return found

    def until(self, name: str) -> float:
        """Hour before which a scene's bins are shown where the rest is hidden."""
        return self.cut_h[name] + 1e-9

    def split(self) -> dict[str, Any]:
        """What was held out, for the record."""
        folds = {name: {"hidden": hidden, "scored": scored} for name, (hidden, scored) in self.folds.items()}
        return {"kind": f"unseen_{'time' if self.source.kind == 'future' else 'replicate'}",
                "cut_h": self.cut_h, "folds": folds}  # fmt: skip


class ForecastTask(CrossmodalTask):
    """Model: `Forecaster`. Unit: a scene."""

    name: ClassVar[str] = "forecast"
    Params: ClassVar[type[TaskParams]] = ForecastParams
    unit: ClassVar[str] = "scene"
    judged: ClassVar[tuple[Judged, ...]] = tuple(
        Judged(key, "lower", "persistence", ("mean_trajectory",), "replicate", ("scene",), "scene") for key in KEYS
    )

    def load(self) -> None:
        """Read the nuclei and decide where each scene is cut."""
        for source in self.params.sources:
            self.data[source.name] = self._read(source)

    def facts(self) -> dict[str, Any]:
        """What is in every task's facts, and what was measured."""
        measured_ = {name: list(data.quantities) for name, data in sorted(self.data.items())}
        drawn = "lineages redrawn within scenes; scenes stay as they are"
        return {**super().facts(), "link": "none: imaging only", "quantities": measured_, "draws": drawn}

    def _read(self, source: ForecastSource) -> ForecastData:
        design = read_design_of(source)
        scenes = scene_sums(read_nuclei(source, design), self.params.bin_h)
        where = f"{source.container}: nuclei"
        share = source.given or GIVEN[source.kind]
        starts = {s.scene: time_split(s.time_h, 1 - share) for s in scenes if len(s.time_h) >= MIN_BINS + 2}
        kept = [s for s in scenes if s.scene in starts and starts[s.scene].start.sum() >= MIN_BINS]
        if not kept:
            longest = max(float(np.ptp(s.time_h)) for s in scenes)
            raise InvalidDataError(
                f"no movie is long enough: the longest has {longest:g} h between its first and last bin, and "
                f"{MIN_BINS} bins of {self.params.bin_h:g} h before the cut and 2 after it are needed",
                where=f"{where}.time_h", mend="lower `bin_h`, or give longer movies",
            )  # fmt: skip
        short = sorted({s.scene for s in scenes} - {s.scene for s in kept})
        if short:
            self.warnings.append(f"{source.name}: movies too short to cut are left out: {', '.join(short)}")
        folds = self._folds(source, kept)
        there = measured(kept, {s.scene: starts[s.scene].cut_h + 1e-9 for s in kept})
        lacking = [SHORT[q] for q in QUANTITIES if q not in there]
        if not there:
            raise InvalidDataError("nothing can be followed over time", where=where, mend="track the nuclei")
        if lacking:
            self.warnings.append(f"{source.name}: not measured, so not forecast: {', '.join(lacking)}")
        data = ForecastData(source, kept, there, folds, {s.scene: starts[s.scene].cut_h for s in kept}, {})
        for scene in kept:
            weights = scene.redraws(self.params.draws, self.context.rng("crossmodal", source.name, scene.scene))
            data.values[scene.scene] = scene.values(np.concatenate([np.ones((1, scene.n_lineages)), weights]))
        return data

    def _folds(self, source: ForecastSource, scenes: list[SceneSums]) -> dict[str, tuple[list[str], list[str]]]:
        names = np.array([s.scene for s in scenes])
        if source.kind == "future":
            return {"future": (names.tolist(), names.tolist())}
        conditions = [s.condition for s in scenes]
        alone = [s.scene for s in scenes if conditions.count(s.condition) < 2]
        if len(alone) == len(scenes):
            raise InvalidDataError(
                "no condition has a second scene, so no replicate can be held out",
                where=f"{source.container}: nuclei.replicate", mend="use kind: future, or image replicates",
            )  # fmt: skip
        if alone:
            self.warnings.append(f"{source.name}: scenes without a replicate are not scored: {', '.join(alone)}")
        return {
            fold.name: (names[~fold.train].tolist(), names[fold.test].tolist())
            for fold in replicate_split([s.replicate for s in scenes], conditions)
        }

    def run(self, make_model: ModelFactory) -> Answers:
        """Fit once a fold and forecast its scenes, as measured and again in every draw."""
        found: Answers = {}
        for data in self.data.values():
            parts: dict[str, list[FloatArray]] = {name: [] for name in data.units}
            for row in self.context.progress.track(range(self.rows), f"forecast {data.source.name}"):
                for fold, (_, scored) in data.folds.items():
                    seen = data.visible(fold, row)
                    model = make_model()
                    model.fit(list(seen.values()), context=self.context)
                    for name in scored:
                        parts[name].append(self._forecast(model, data, name, seen[name]))
            found |= {(data.source.name, name): Answer(np.array(part)) for name, part in parts.items()}
        return found

    def _forecast(self, model: Any, data: ForecastData, name: str, start: Course) -> FloatArray:
        scene = data.scene(name)
        hours = scene.time_h[data.hidden(scene)]
        values = np.asarray(model.forecast(start, hours.copy(), context=self.context), dtype=float)
        wanted = (len(hours), len(data.quantities))
        where = f"{data.source.name}/{name}"
        if values.shape != wanted:
            raise PluginError(
                f"forecast gave shape {values.shape}, {wanted} (hours, quantities) was expected", where=where
            )
        if not np.isfinite(values).all():
            raise PluginError("forecast gave NaN or infinite values", where=where)
        return _wide(values, data.quantities)

    def replicate(self) -> Answers:
        """One half of a scene's lineages against the other half, growth counted from the cut.

        What was before the cut is known to every model, so halves are not held to differ by it.
        """
        found: Answers = {}
        for data in self.data.values():
            for name in data.units:
                scene = data.scene(name)
                half = scene.halves(self.params.draws, self.context.rng("crossmodal", data.source.name, "halves", name))
                hidden = data.hidden(scene)
                late = ~hidden & (scene.time_h > scene.time_h[~hidden][-1] - LAST_H + 1e-9)
                growth = QUANTITIES.index("growth")
                parts = []
                for weights in (half, 1 - half):
                    values = scene.values(weights)
                    values[..., growth] -= values[:, late, growth].mean(axis=1, keepdims=True)
                    blank = np.full((1, int(hidden.sum()), len(QUANTITIES)), np.nan)
                    parts.append(np.concatenate([blank, values[:, hidden]]))
                found[data.source.name, name] = Answer(*parts, halves=True)
        return found

    def oracle(self) -> Answers:
        """The true nuclei of the same scene: what is lost to segmentation, tracking and calling phases."""
        found: Answers = {}
        for data in self.data.values():
            truth = true_sums(data.source, self.params.bin_h)
            for name in data.units if data.source.tracks else ():
                scene = data.scene(name)
                values = same_bins(scene, truth.get(name), data.source.tracks)[data.hidden(scene)]
                found[data.source.name, name] = Answer(np.repeat(values[None], self.rows, axis=0))
        return found

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        return [*summary_keys(KEYS, [s.name for s in self.params.sources], KEYS), "n_scenes"]

    def score(self, predictions: Answers) -> Scores:
        """Compare every scene's hidden hours."""
        rows, draws, courses = [], [], []
        for (source, name), answer in predictions.items():
            data = self.data[source]
            scene = data.scene(name)
            hidden = data.hidden(scene)
            truth = answer.truth if answer.truth is not None else data.values[name][:, hidden]
            found = {}
            for i, quantity in enumerate(QUANTITIES):
                known = quantity in data.quantities
                error = rmse(answer.predicted[..., i], truth[..., i])
                found[f"rmse_{SHORT[quantity]}"] = error if known else np.full(len(truth), np.nan)
            columns = [QUANTITIES.index(q) for q in data.quantities]
            history = course(scene, data.values[name][0], data.quantities, until=data.until(name))
            found["mase"] = mase(answer.predicted[..., columns], truth[..., columns], one_step(history.values))
            ids = {"source": source, "scene": name}
            row, table = self.frame(found, ids, answer, KEYS)
            row |= {"condition": scene.condition, "replicate": scene.replicate, "n_bins": int(hidden.sum()),
                    "n_lineages": scene.n_lineages}  # fmt: skip
            rows.append(row)
            draws.append(table)
            if not answer.halves:
                courses.append(_long(ids, scene.time_h[hidden], answer.predicted[0], truth[0], data.quantities))
        units = pd.DataFrame(rows)
        names = [s.name for s in self.params.sources]
        primary = [s.name for s in self.params.sources if s.primary]
        metrics, warnings = summarise(
            units, KEYS, names, primary, intervals=KEYS, rng=self.context.rng("forecast", "bootstrap"),
            draws=self.params.bootstrap,
        )  # fmt: skip
        metrics["n_scenes"] = int(units["source"].isin(primary).sum())
        details = {"draws": pd.concat(draws, ignore_index=True)}
        if courses:
            details["courses"] = pd.concat(courses, ignore_index=True).round(9)
        return Scores(metrics, {"units": units}, details, [*self.warnings, *warnings])


def _wide(values: FloatArray, quantities: tuple[str, ...]) -> FloatArray:
    """All four quantities, NaN where one was not measured."""
    wide = np.full((*values.shape[:-1], len(QUANTITIES)), np.nan)
    wide[..., [QUANTITIES.index(q) for q in quantities]] = values
    return wide


def _long(
    ids: dict[str, Any], time_h: FloatArray, predicted: FloatArray, truth: FloatArray, quantities: tuple[str, ...]
) -> pd.DataFrame:
    """``source, scene, quantity, time_h, predicted, truth``."""
    parts = [
        pd.DataFrame(
            {**ids, "quantity": q, "time_h": time_h, "predicted": predicted[:, i], "truth": truth[:, i]},
        )
        for q in quantities
        for i in [QUANTITIES.index(q)]
    ]
    return pd.concat(parts, ignore_index=True)
