"""Whether a planted truth ranks entries as it must: oracle, duplicate, trained and simple models, doing nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hyped_bench.judgement.calibration import Calibration
from hyped_bench.judgement.ceilings import at_full_size
from hyped_bench.judgement.panels import Array, Panel
from hyped_bench.judgement.statistics import null_interval

ORACLE = "oracle"
State = Literal["holds", "tied", "open", "broken"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the order: ``first`` has to be better than ``second``.

    Attributes
    ----------
    state : ``holds``; ``tied`` (equal, and nothing better is possible); ``open`` (the other way round, by no more than
        chance allows or because the duplicate has half the cells); ``broken`` (the other way round).
    """

    first: str
    second: str
    first_score: float
    second_score: float
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The planted order on one metric and source.

    Attributes
    ----------
    can_tell : whether it has to hold.
    full_size : whether the duplicate's score was brought to the full number of cells.
    steps : from the oracle down; those of entries without a score are left out.
    """

    source: str
    metric: str
    can_tell: bool
    full_size: bool
    steps: tuple[Step, ...]

    @property
    def holds(self) -> bool:
        """Whether every step holds or is tied at the best possible value."""
        return all(step.state in ("holds", "tied") for step in self.steps)

    @property
    def broken(self) -> tuple[Step, ...]:
        """Steps that the scores contradict."""
        return tuple(step for step in self.steps if step.state == "broken")


def planted(panel: Panel, calibration: Calibration | None, *, seed: int = 0) -> Ranking | None:
    """The order on a panel with an oracle; None without one (the truth is not known).

    The order is oracle, ceiling (``duplicate``), the best of the trained models and of the simple ones, doing
    nothing. Steps compare means over the same units.
    """
    judged = panel.judged
    if panel.at(ORACLE) is None:
        return None
    chain = [ORACLE, judged.ceiling, best_model(panel), judged.nothing]
    values: list[tuple[str, Array]] = []
    full = False
    for name in chain:
        at = panel.at(name) if name else None
        if at is None:
            continue
        own = panel.values[:, at]
        if name == judged.ceiling and (whole := at_full_size(panel.metric, own)) is not None:
            own, full = whole, True
        if np.isfinite(own).all():
            values.append((name, own))
    steps = tuple(
        _step(panel, a, b, seed, half=judged.ceiling in (a[0], b[0]) and not full)
        for a, b in zip(values, values[1:], strict=False)
    )
    return Ranking(panel.source, panel.metric, calibration is None or calibration.can_tell, full, steps)


def best_model(panel: Panel) -> str:
    """The trained or simple model with the best mean; "" where none has a value."""
    scores = panel.sign * panel.scores
    found = [
        (-scores[i], entry.model)
        for i, entry in enumerate(panel.entries)
        if (entry.kind == "model" or entry.model in panel.judged.simple) and np.isfinite(scores[i])
    ]
    return min(found)[1] if found else ""


def _step(panel: Panel, first: tuple[str, Array], second: tuple[str, Array], seed: int, *, half: bool) -> Step:
    (a, x), (b, y) = first, second
    scores = float(x.mean()), float(y.mean())
    apart = panel.sign * (x - y)
    if apart.mean() > 0:
        return Step(a, b, *scores, "holds")
    best = 0.0 if panel.judged.better == "lower" else 1.0
    if (x == y).all() and (x == best).all():
        return Step(a, b, *scores, "tied", "both have the best possible value in every unit")
    if half:
        return Step(a, b, *scores, "open", "the duplicate has half the cells on either side, which this metric minds")
    low = float(null_interval(apart, seed=seed)[0][0])
    if apart.mean() >= low * (1 + 1e-9):
        return Step(a, b, *scores, "open", "the difference is no larger than chance allows")
    return Step(a, b, *scores, "broken", f"{b} is better than {a}")


def rank_as_planted(rows: Sequence[dict[str, Any]] | Sequence[Ranking], *, source: str | None = None) -> list[Ranking]:
    """The planted orders of a judgement (``Judgement.planted``, or that part of its file) that have to hold.

    Those are the ones on metrics that can tell, of one source where it is named. A promise on planted truth is kept
    where none of them has a `broken` step.
    """
    made = [
        row
        if isinstance(row, Ranking)
        else Ranking(
            row["source"], row["metric"], row["can_tell"], row["full_size"], tuple(Step(**s) for s in row["steps"])
        )
        for row in rows
    ]
    return [row for row in made if row.can_tell and source in (None, row.source)]
