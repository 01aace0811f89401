"""Whether a metric can tell at all: how far the ceiling lies from the control, and how that compares with chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyped_bench.judgement.ceilings import at_full_size, noise_free
from hyped_bench.judgement.entries import plural
from hyped_bench.judgement.panels import Array, Panel
from hyped_bench.judgement.statistics import FEW, LEVEL, null_interval

DUPLICATE = "duplicate"
"""The reference made of halves."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a metric can tell on one source.

    Attributes
    ----------
    control, ceiling : names; scores are means over units (over entries too, where each has its own).
    dynamic_range : ceiling minus control, oriented so that positive is better.
    share_ceiling_better : share of units in which the ceiling beats the control.
    null_lo, null_hi : where that difference lies by chance.
    ceiling_full_size, ceiling_noise_free : what the duplicate of halves says of a repeat with all cells, and of a
        prediction without noise (`hyped_bench.judgement.ceilings`); None where no law is known.
    reason : why it cannot tell; "" where it can.
    """

    source: str
    metric: str
    better: str
    control: str
    control_score: float | None
    ceiling: str
    ceiling_score: float | None
    dynamic_range: float | None
    share_ceiling_better: float | None
    null_lo: float | None
    null_hi: float | None
    ceiling_full_size: float | None
    ceiling_noise_free: float | None
    can_tell: bool
    reason: str


def calibrate(panel: Panel, *, seed: int = 0) -> Calibration | None:
    """Hold the ceiling against the control; None where the metric declares no ceiling.

    The null interval is the central 95 % of mean differences under flipped signs of units; with fewer than
    `FEW` units and draws of both, the central 95 % of the draws about their mean.
    """
    judged = panel.judged
    if not judged.ceiling:
        return None
    control = judged.nothing or best_control(panel) or ""

    def row(reason: str, **known: float | None) -> Calibration:
        empty = dict.fromkeys(
            (
                "control_score", "ceiling_score", "dynamic_range", "share_ceiling_better", "null_lo", "null_hi",
                "ceiling_full_size", "ceiling_noise_free",
            )
        )  # fmt: skip
        return Calibration(
            source=panel.source, metric=panel.metric, better=judged.better, control=control,
            ceiling=judged.ceiling, can_tell=not reason, reason=reason, **{**empty, **known},
        )  # fmt: skip

    missing = [name for name in (control, judged.ceiling) if not name or not panel.has(name)]
    if missing:
        return row(f"{' and '.join(n or 'a control' for n in missing)} was not scored here")
    low, low_draws = _of(panel, control)
    high, high_draws = _of(panel, judged.ceiling)
    known: dict[str, float | None] = {
        "control_score": _number(low.mean()), "ceiling_score": _number(high.mean())
    }  # fmt: skip
    undefined = int((~np.isfinite(low) | ~np.isfinite(high)).sum())
    if undefined:
        return row(f"control or ceiling is undefined in {undefined} of {len(low)} units", **known)
    apart = panel.sign * (high - low)
    reach, share = float(apart.mean()), float((apart > 0).mean())
    redrawn = len(apart) < FEW and low_draws is not None and high_draws is not None
    if redrawn:
        drawn = panel.sign * (high_draws - low_draws)
        ends = np.quantile(drawn - drawn.mean(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        null_lo, null_hi = float(ends[0]), float(ends[1])
    else:
        ends_of = null_interval(apart, seed=seed)
        null_lo, null_hi = float(ends_of[0][0]), float(ends_of[1][0])
    known |= {"dynamic_range": reach, "share_ceiling_better": share, "null_lo": null_lo, "null_hi": null_hi}
    if judged.ceiling == DUPLICATE:
        for key, law in (("ceiling_full_size", at_full_size), ("ceiling_noise_free", noise_free)):
            known[key] = None if (values := law(panel.metric, high)) is None else float(values.mean())
    many = plural(judged.unit_word)
    if reach <= 0:
        return row(f"{judged.ceiling} does no better than {control}", **known)
    if reach <= null_hi * (1 + 1e-9):
        few = ""
        if not redrawn and 2 ** (1 - len(apart)) > 1 - LEVEL:
            few = f"; {len(apart)} {many} are too few to be outside it"
            few += " and the metric has no scores of redrawn cells" if panel.draws is not None else ""
        return row(f"{judged.ceiling} and {control} differ no more than chance allows{few}", **known)
    if share <= 0.5:
        return row(f"{judged.ceiling} beats {control} in {share:.0%} of {many} only", **known)
    return row("", **known)


def best_control(panel: Panel) -> str | None:
    """The control with the best mean, None where none has a value on all units; the first by name where equal."""
    scores = panel.sign * panel.scores
    found = [
        (-scores[i], entry.model)
        for i, entry in enumerate(panel.entries)
        if entry.kind == "control" and np.isfinite(scores[i])
    ]
    return min(found)[1] if found else None


def _of(panel: Panel, name: str) -> tuple[Array, Array | None]:
    """Scores of a control or ceiling by unit, and by draw where it has any; own columns are averaged over entries."""
    at = panel.at(name)
    if at is None:
        own = panel.own[name]
        return own[:, np.isfinite(own).any(axis=0)].mean(axis=1), None
    drawn = None if panel.draws is None else panel.draws[:, at]
    return panel.values[:, at], drawn if drawn is not None and np.isfinite(drawn).all() else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
