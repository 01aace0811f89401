"""Controls and simple models of the cross-modal tasks: composition, forecast and response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_bench.tasks.crossmodal.contracts import Course
from hyped_core.context import RunContext
from hyped_core.design.model import CONTROL
from hyped_core.design.phases import COARSE_PHASES, coarse_phase
from hyped_core.params import Params

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

FloatArray = npt.NDArray[np.float64]
_WITHIN_H = 1.0
"""Bins this near an hour count as being at it."""


# ---------------------------------------------------------------- composition: share of S_G2M at harvest
class _FromCourses:
    """Base: keeps what it was shown."""

    def fit(self, courses: Sequence[Course], cells: AnnData, *, harvest_h: float, context: RunContext) -> None:
        """Keep courses, cells and the hour of harvest."""
        self.courses, self.cells, self.harvest_h = courses, cells, harvest_h

    def at_harvest(self) -> dict[str, float]:
        """Condition -> mean of its scenes' shares of S_G2M around the harvest, of those seen then."""
        shares: dict[str, list[float]] = {}
        for course in self.courses:
            near = np.abs(course.time_h - self.harvest_h) <= _WITHIN_H + 1e-9
            if near.any():
                shares.setdefault(course.condition, []).append(float(course.of("dividing")[near].mean()))
        return {name: float(np.mean(values)) for name, values in sorted(shares.items())}


class EvenSplit(_FromCourses):
    """Half of the cells, whatever the condition."""

    def estimate(self, cells: AnnData, condition: str, *, context: RunContext) -> float:
        """0.5."""
        return 0.5


class SortedDesign(_FromCourses):
    """The share among the sequenced cells of sorted conditions, which the sorter set; 0.5 where none was sorted."""

    def estimate(self, cells: AnnData, condition: str, *, context: RunContext) -> float:
        """Share of S and G2M among the sorted cells."""
        calls = self.cells.obs.loc[self.cells.obs["sorted"].to_numpy(bool), "phase"]
        coarse = [phase for phase in coarse_phase(calls.astype(str), "rna") if phase is not None]
        return float(np.mean([phase == COARSE_PHASES[1] for phase in coarse])) if coarse else 0.5


class StartComposition(_FromCourses):
    """What the condition's own movies showed last before they were hidden."""

    def estimate(self, cells: AnnData, condition: str, *, context: RunContext) -> float:
        """Mean over its scenes; the mean of all others at harvest where it has none."""
        own = [float(_last(c)[c.quantities.index("dividing")]) for c in self.courses if c.condition == condition]
        return float(np.mean(own)) if own else float(np.mean(list(self.at_harvest().values())))


class MeanComposition(_FromCourses):
    """Mean of the other conditions' movies at harvest, each counted once."""

    def estimate(self, cells: AnnData, condition: str, *, context: RunContext) -> float:
        """The mean; 0.5 where no other condition was imaged then."""
        others = [v for name, v in self.at_harvest().items() if name != condition]
        return float(np.mean(others)) if others else 0.5


class ControlComposition(MeanComposition):
    """What the control's movies show at harvest: nothing was changed. The mean of the others where it was not seen."""

    def estimate(self, cells: AnnData, condition: str, *, context: RunContext) -> float:
        """The control's share."""
        found = self.at_harvest()
        if condition != CONTROL and CONTROL in found:
            return found[CONTROL]
        return super().estimate(cells, condition, context=context)


class CalledPhasesConfig(Params):
    """Which calls."""

    column: str = "phase"
    """Column of ``obs``: ``phase`` (what the pipeline settled on), ``phase_score`` (gene scores)."""


class CalledPhases(_FromCourses):
    """Counts the phases that the pipeline called of the condition's cells."""

    def __init__(self, config: CalledPhasesConfig | None = None) -> None:
        self.config = config or CalledPhasesConfig()

    def estimate(self, cells: AnnData, condition: str, *, context: RunContext) -> FloatArray:
        """1 for a cell in S or G2M, 0 in G1; the mean of the others for cells without a call."""
        return _dividing(cells, self.config.column)


class AdjustedCount(_FromCourses):
    """Counts corrected for the errors that the classifier makes on sorted cells it has not seen (Forman 2008).

    ``(share - false positive rate) / (true positive rate - false positive rate)``; the plain share where no cell
    was sorted or the rates say nothing. It holds as far as the sorter's labels are right and errors on sorted control
    cells are those on others.
    """

    def estimate(self, cells: AnnData, condition: str, *, context: RunContext) -> FloatArray:
        """Each cell's part of the corrected share."""
        obs = self.cells.obs
        called = "phase_classifier" if "phase_classifier" in obs else "phase"
        plain = _dividing(cells, called)
        if "assigned_phase" not in obs or "phase_classifier" not in obs:
            return plain
        chosen = obs.loc[obs["sorted"].to_numpy(bool)]
        true, said = (coarse_phase(chosen[name].astype(str), "rna") for name in ("assigned_phase", called))
        kept = np.array([a is not None and b is not None for a, b in zip(true, said, strict=True)], bool)
        truth, call = true[kept] == COARSE_PHASES[1], said[kept] == COARSE_PHASES[1]
        if truth.all() or not truth.any():
            return plain
        hit, miss = float(call[truth].mean()), float(call[~truth].mean())
        return plain if hit - miss < 0.1 else (plain - miss) / (hit - miss)


def _dividing(cells: AnnData, column: str) -> FloatArray:
    from hyped_core.errors import InvalidDataError

    if column not in cells.obs:
        raise InvalidDataError("the cells have no such column", where=f"obs.{column}", mend="run `hyped seq annotate`")
    coarse = coarse_phase(cells.obs[column].astype(str), "rna")
    values = np.array([np.nan if phase is None else phase == COARSE_PHASES[1] for phase in coarse], float)
    known = np.isfinite(values)
    return np.where(known, values, values[known].mean() if known.any() else 0.5)


# ---------------------------------------------------------------- forecast: the rest of a scene's course
class _Forecast:
    """Base: keeps what it was shown."""

    def fit(self, courses: Sequence[Course], *, context: RunContext) -> None:
        """Keep the courses."""
        self.courses = courses


class Persistence(_Forecast):
    """The mean of the last two hours, for ever."""

    def forecast(self, start: Course, time_h: FloatArray, *, context: RunContext) -> FloatArray:
        """One value a quantity, repeated."""
        return np.repeat(_last(start)[None], len(time_h), axis=0)


class MeanTrajectory(_Forecast):
    """Mean of the other scenes of the condition at each hour (of all others where there are none).

    Beyond the hours that they were seen, the mean of their last ones.
    """

    def forecast(self, start: Course, time_h: FloatArray, *, context: RunContext) -> FloatArray:
        """Other scenes interpolated at ``time_h`` and averaged."""
        others = [c for c in self.courses if c.scene != start.scene]
        same = [c for c in others if c.condition == start.condition] or others
        if not same:
            return np.repeat(_last(start)[None], len(time_h), axis=0)
        return np.mean([_at(course, time_h) for course in same], axis=0)


class DampedTrendConfig(Params):
    """How far a trend goes on."""

    recent_h: float = Field(8.0, gt=0)
    """Hours at the end of the start from which level and slope are fitted."""
    damping: float = Field(0.9, gt=0, lt=1)
    """What is left of the slope an hour later."""


class DampedTrend(_Forecast):
    """A line through the last hours whose slope fades (Gardner and McKenzie, Management Science 1985)."""

    def __init__(self, config: DampedTrendConfig | None = None) -> None:
        self.config = config or DampedTrendConfig()

    def forecast(self, start: Course, time_h: FloatArray, *, context: RunContext) -> FloatArray:
        """Level plus slope times the damped hours ahead."""
        late = start.time_h > start.time_h[-1] - self.config.recent_h
        time = start.time_h[late] - start.time_h[-1]
        design = np.stack([np.ones_like(time), time], axis=1)
        level, slope = np.linalg.lstsq(design, start.values[late], rcond=None)[0]
        rate = -np.log(self.config.damping)
        ahead = (1 - np.exp(-rate * (time_h - start.time_h[-1]))) / rate
        values = level + slope * ahead[:, None]
        for i, quantity in enumerate(start.quantities):
            if quantity == "dividing":
                values[:, i] = np.clip(values[:, i], 0, 1)
            elif quantity != "growth":
                values[:, i] = np.maximum(values[:, i], 0)
        return values


class TwoState(_Forecast):
    """Cells in G1 enter S at one rate, cells in S_G2M divide into two in G1 at another.

    ``dG/dt = 2 m S - k G``, ``dS/dt = k G - m S``, so ``dN/dt = m S``; k and m by least squares (none negative) on
    the integrals of the scenes of the condition that may be seen. Carries ``dividing`` and ``growth`` on; other
    quantities stay as they are. Constant rates know nothing of cells that were released together.
    """

    def forecast(self, start: Course, time_h: FloatArray, *, context: RunContext) -> FloatArray:
        """The two states run on from the last hours of the start."""
        from scipy.optimize import nnls

        values = np.repeat(_last(start)[None], len(time_h), axis=0)
        if not {"dividing", "growth"} <= set(start.quantities):
            return values
        rows, targets = [], []
        for seen in (c for c in self.courses if c.condition == start.condition and len(c.time_h) > 1):
            number = 2.0 ** seen.of("growth")
            dividing = seen.of("dividing") * number
            width = np.diff(seen.time_h)
            in_s, in_g1 = (_integral(v, width) for v in (dividing, number - dividing))
            rows += [np.stack([in_g1, -in_s], axis=1), np.stack([np.zeros_like(in_s), in_s], axis=1)]
            targets += [dividing[1:] - dividing[0], number[1:] - number[0]]
        enter, divide = nnls(np.concatenate(rows), np.concatenate(targets))[0] if rows else (0.0, 0.0)
        share, growth = (start.quantities.index(name) for name in ("dividing", "growth"))
        state = np.array([1 - values[0, share], values[0, share]]) * 2.0 ** values[0, growth]
        ahead = _two_states(state, enter, divide, time_h - start.time_h[-1])
        values[:, share], values[:, growth] = ahead[:, 1] / ahead.sum(axis=1), np.log2(ahead.sum(axis=1))
        return values


def _two_states(state: FloatArray, enter: float, divide: float, hours: FloatArray) -> FloatArray:
    """Numbers (hours, 2) in G1 and S_G2M: ``exp(A t) state`` by Sylvester's formula; A has real eigenvalues."""
    if enter == 0 and divide == 0:
        return np.repeat(state[None], len(hours), axis=0)
    step = np.array([[-enter, 2 * divide], [enter, -divide]])
    root = np.sqrt((enter + divide) ** 2 + 4 * enter * divide)
    first, second = (-(enter + divide) + root) / 2, (-(enter + divide) - root) / 2
    parts = (step @ state - second * state) / root, (first * state - step @ state) / root
    return np.exp(first * hours)[:, None] * parts[0] + np.exp(second * hours)[:, None] * parts[1]


def _integral(values: FloatArray, width: FloatArray) -> FloatArray:
    return np.cumsum((values[1:] + values[:-1]) / 2 * width)


def _last(course: Course, hours: float = 2.0) -> FloatArray:
    """Means (quantities,) over the last hours."""
    return course.values[course.time_h > course.time_h[-1] - hours + 1e-9].mean(axis=0)


def _at(course: Course, time_h: FloatArray) -> FloatArray:
    """A course at given hours, its last hours' mean beyond its end."""
    values = np.stack([np.interp(time_h, course.time_h, column) for column in course.values.T], axis=1)
    return np.where((time_h > course.time_h[-1])[:, None], _last(course), values)


# ---------------------------------------------------------------- response: one modality's change from the other's
class NoResponse:
    """Predicts no change from control."""

    def fit(
        self, features: pd.DataFrame, responses: pd.DataFrame, genes: Mapping[str, tuple[str, ...]], *,
        context: RunContext,
    ) -> None:  # fmt: skip
        """Keep what was shown."""
        self.x, self.y = features.to_numpy(float), responses.to_numpy(float)
        self.columns = list(features.columns)
        self.names, self.genes = list(responses.index), dict(genes)

    def predict(self, features: pd.Series, genes: tuple[str, ...], *, context: RunContext) -> FloatArray:
        """Zeros."""
        return np.zeros(self.y.shape[1])


class MeanResponse(NoResponse):
    """Mean change of the other conditions."""

    def predict(self, features: pd.Series, genes: tuple[str, ...], *, context: RunContext) -> FloatArray:
        """The mean."""
        return self.y.mean(axis=0)


class AdditiveResponse(NoResponse):
    """Sum of the changes of the conditions that change one of its genes each; the mean where one is missing."""

    def predict(self, features: pd.Series, genes: tuple[str, ...], *, context: RunContext) -> FloatArray:
        """The sum over its genes."""
        single = {self.genes[n][0]: row for n, row in zip(self.names, self.y, strict=True) if len(self.genes[n]) == 1}
        if len(genes) < 2 or not set(genes) <= set(single):
            return self.y.mean(axis=0)
        return np.sum([single[gene] for gene in genes], axis=0)


class LinearResponseConfig(Params):
    """What the regression uses."""

    features: Literal["scores", "all"] = "scores"
    """``scores``: columns named ``score_...`` (phase genes) where there are any, else all; ``all``."""
    ridge: float = Field(1.0, gt=0)
    """Penalty, of features scaled by their size (root mean square change from control) in the training conditions."""


class LinearResponse(NoResponse):
    """Ridge regression between changes, around the mean of the training conditions.

    Around the mean, not around control: what all perturbed conditions share (pool, sorting) is in both means and
    drops out. With two training conditions it is a line through two points, shrunk to their mean, the more the
    nearer they lie.
    """

    def __init__(self, config: LinearResponseConfig | None = None) -> None:
        self.config = config or LinearResponseConfig()

    def predict(self, features: pd.Series, genes: tuple[str, ...], *, context: RunContext) -> FloatArray:
        """Mean response plus what the features' distance from their mean says."""
        scores = [i for i, name in enumerate(self.columns) if name.startswith("score_")]
        kept = scores if scores and self.config.features == "scores" else list(range(len(self.columns)))
        x, new = self.x[:, kept], features.to_numpy(float)[kept]
        centre, size = x.mean(axis=0), np.sqrt((x**2).mean(axis=0))
        use = size > 0
        if not use.any():
            return self.y.mean(axis=0)
        weight = 1 / (size[use] * np.sqrt(use.sum()))
        table, ahead = (x[:, use] - centre[use]) * weight, (new[use] - centre[use]) * weight
        dual = np.linalg.solve(table @ table.T + self.config.ridge * np.eye(len(table)), self.y - self.y.mean(axis=0))
        return self.y.mean(axis=0) + ahead @ table.T @ dual
