"""Every model against doing nothing, against the simple models and against the best control: effect, interval, p."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hyped_bench.judgement.calibration import best_control
from hyped_bench.judgement.entries import plural
from hyped_bench.judgement.panels import Array, Panel
from hyped_bench.judgement.statistics import (
    FEW,
    LEAST,
    Intervals,
    Method,
    bootstrap_over_units,
    holm,
    over_draws,
    student,
)

Role = Literal["nothing", "simple", "best_control"]
CELLS = "cells"
NONE = "none"


@dataclass(frozen=True, slots=True)
class Inference:
    """What intervals of a source speak of.

    Attributes
    ----------
    kind : ``cells``, ``none``, else the plural of what a unit is (``perturbations``, ``scenes``).
    n : units.
    said : in words.
    method : ``bootstrap`` over units, ``student``, ``cells`` or ``none``.
    """

    kind: str
    n: int
    said: str
    method: Method | Literal["none"]


@dataclass(frozen=True, slots=True)
class Compared:
    """One entry against one other, on one metric and source; ``effect`` is positive where the entry is better.

    ``reason`` says why there is no effect or no interval, "" where there is; ``same`` is True where the two are
    equal in every unit.
    """

    source: str
    metric: str
    model: str
    kind: str
    against: str
    role: Role
    score: float | None
    against_score: float | None
    effect: float | None
    lo: float | None
    hi: float | None
    p: float | None
    p_holm: float | None
    n: int
    reason: str = ""
    same: bool = False


def inference_of(panel: Panel, *, few_perturbations: bool = False) -> Inference:
    """Over what intervals are taken: units where there are enough, else redrawn cells, else few units or none.

    Few perturbations get no Student's interval, which would speak of unseen ones, unless ``few_perturbations`` allows
    it: for parts of a source that has enough of them.
    """
    n, word = len(panel.units), panel.judged.unit_word
    many = plural(word)
    folds = f", each the mean of up to {panel.folds} folds" if panel.folds > 1 else ""
    if n >= FEW:
        return Inference(_kind(word), n, f"intervals are over {n} {many}{folds}", "bootstrap")
    count = f"{n} {word if n == 1 else many}{folds}"
    if panel.draws is not None:
        within = "conditions" if "perturbation" in panel.judged.unit else _kind(word)
        said = f"{count}: too few to draw from, so intervals come from cells within {within}"
        return Inference(CELLS, n, f"{said}; this says nothing of unseen {_kind(word)}", "cells")
    if n < LEAST or ("perturbation" in panel.judged.unit and not few_perturbations):
        return Inference(NONE, n, f"{count}, and no redrawn cells in the records: there are no intervals", "none")
    said = f"intervals are Student's over {count}, which takes their differences for normal"
    return Inference(_kind(word), n, said, "student")


def _kind(word: str) -> str:
    """``perturbations`` of ``held-out perturbation``."""
    return plural(word.removeprefix("held-out "))


def compare_panel(panel: Panel, *, seed: int = 0, few_perturbations: bool = False) -> list[Compared]:
    """All comparisons of a panel; p values corrected by Holm over the entries of one kind held against one control.

    References are compared with nothing: they see the truth. A control is held against doing nothing (and what else
    does nothing by this metric) and the simple models, a model against the best control too. The best control is
    picked by its score on the same units, which makes it a little harder to beat.
    """
    pairs = _pairs(panel)
    if not pairs:
        return []
    inference = inference_of(panel, few_perturbations=few_perturbations)
    base, effects, drawn = [], [], []
    for column, against, role in pairs:
        other, other_draws = panel.against(against, column)
        mine_draws = None if panel.draws is None else panel.draws[:, column]
        difference = panel.sign * (panel.values[:, column] - other)
        effects.append(difference)
        if mine_draws is None or other_draws is None:
            drawn.append(None)
        else:
            drawn.append(panel.sign * (mine_draws - other_draws))
        base.append(_row(panel, column, against, role, other, difference))
    rows = _with_intervals(base, np.stack(effects, axis=1), drawn, inference, seed)
    return corrected(rows)


def corrected(rows: Sequence[Compared]) -> list[Compared]:
    """The rows with Holm's p values, by source, metric, control, role and kind of entry."""
    families: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(rows):
        families.setdefault((row.source, row.metric, row.against, row.role, row.kind), []).append(i)
    done = list(rows)
    for members in families.values():
        adjusted = holm([np.nan if (p := rows[i].p) is None else p for i in members])
        for i, value in zip(members, adjusted, strict=True):
            done[i] = replace(rows[i], p_holm=float(value) if np.isfinite(value) else None)
    return done


def _pairs(panel: Panel) -> list[tuple[int, str, Role]]:
    best = best_control(panel)
    found: list[tuple[int, str, Role]] = []
    for column, entry in enumerate(panel.entries):
        if entry.kind == "reference":
            continue
        held: list[tuple[str, Role]] = [(panel.judged.nothing, "nothing")]
        held += [(name, "simple") for name in (*panel.idle, *panel.judged.simple)]
        held += [(best, "best_control")] if best and entry.kind == "model" else []
        found += [(column, name, role) for name, role in held if name and name != entry.model and panel.has(name)]
    return found


def _row(panel: Panel, column: int, against: str, role: Role, other: Array, difference: Array) -> Compared:
    entry = panel.entries[column]
    undefined = int((~np.isfinite(difference)).sum())
    reason = f"undefined in {undefined} of {len(difference)} {plural(panel.judged.unit_word)}" if undefined else ""
    return Compared(
        panel.source, panel.metric, entry.model, entry.kind, against, role,
        _number(panel.values[:, column].mean()), _number(other.mean()),
        None if undefined else float(difference.mean()), None, None, None, None, len(difference), reason,
        not undefined and bool((difference == 0).all()),
    )  # fmt: skip


def _with_intervals(
    rows: list[Compared], effects: Array, drawn: Sequence[Array | None], inference: Inference, seed: int
) -> list[Compared]:
    done = list(rows)
    if inference.kind == NONE:
        return [replace(row, reason=row.reason or inference.said) for row in rows]
    usable = [i for i, row in enumerate(rows) if not row.reason]
    if inference.kind == CELLS:
        lacking = [i for i in usable if (d := drawn[i]) is None or not np.isfinite(d).all()]
        for i in lacking:
            done[i] = replace(rows[i], reason="no scores of redrawn cells for both of the two")
        usable = [i for i in usable if i not in set(lacking)]
    if not usable:
        return done
    made: Intervals
    if inference.kind == CELLS:
        made = over_draws(
            effects[:, usable].mean(axis=0), np.stack([d for i in usable if (d := drawn[i]) is not None], axis=1)
        )
    else:
        chosen = effects[:, usable]
        made = student(chosen) if inference.n < FEW else bootstrap_over_units(chosen, seed=seed)
    for k, i in enumerate(usable):
        done[i] = replace(rows[i], lo=float(made.lo[k]), hi=float(made.hi[k]), p=float(made.p[k]))
    return done


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
