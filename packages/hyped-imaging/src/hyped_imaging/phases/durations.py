"""How long phases and cycles last, by condition and replicate, with durations that were not seen whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_imaging.phases.params import PhaseParams
from hyped_imaging.phases.runs import phase_runs
from hyped_imaging.phases.survival import quantile, restricted_mean, survival

if TYPE_CHECKING:
    import pandas as pd

ALL = "all"
"""What ``replicate`` says in rows over all replicates of a condition."""
COLUMNS = (
    "condition", "replicate", "n_replicates", "system", "phase", "n_complete", "n_censored",
    "n_unknown_begin", "n_lineages", "median_h", "median_lo", "median_hi", "q25_h", "q75_h",
    "restricted_mean_h", "restricted_mean_lo", "restricted_mean_hi", "restricted_to_h", "complete_mean_h",
    "interval",
)  # fmt: skip


def durations(table: pd.DataFrame, params: PhaseParams | None = None) -> pd.DataFrame:
    """Durations (hours) of the phases of ``fucci``, of the coarse phases and of the whole cycle.

    Takes what `call_phases` gives (columns `scene`, `condition` and `replicate` too). A duration counts from
    a begin that was seen. Where the end was seen as well it is complete, otherwise (the movie or the track
    ended, or a gap came) it is right-censored; both go into a product-limit estimate. Runs under way when
    their track began are left out, since their age is unknown, and counted in ``n_unknown_begin``: taken as
    they are they would be too short, and a left truncation at an unknown age cannot be put right.

    ``median_h``, ``q25_h`` and ``q75_h`` are NaN where the estimate does not come down so far;
    ``restricted_mean_h`` counts every duration beyond ``restricted_to_h`` as that (the longest seen).
    ``complete_mean_h`` is the plain mean of complete ones, which is too short, the more so the shorter the
    movie: it is there to show by how much. Intervals are percentiles of a seeded bootstrap over lineages,
    within replicates; ``_hi`` of a median is NaN where more than their share of the draws do not reach it.
    """
    import pandas as pd

    params = params or PhaseParams()
    parts = []
    scenes = table.groupby("scene", sort=True) if "scene" in table.columns else [("", table)]
    for scene, group in scenes:
        keys = group[["condition", "replicate"]].drop_duplicates()
        runs = phase_runs(group, params).assign(scene=str(scene))
        if len(keys):
            runs = runs.assign(condition=keys["condition"].iloc[0], replicate=str(keys["replicate"].iloc[0]))
            parts.append(runs)
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    runs = pd.concat(parts, ignore_index=True)
    rows: list[dict[str, Any]] = []
    for (condition, system, phase), group in runs.groupby(["condition", "system", "phase"], sort=True):
        names = sorted(set(group["replicate"]))
        for replicate in [*names, ALL]:
            own = group if replicate == ALL else group[group["replicate"] == replicate]
            about = {"condition": condition, "replicate": replicate, "system": system, "phase": phase}
            about["n_replicates"] = len(names) if replicate == ALL else 1
            rows.append(about | estimate(own, params))
    order = ["condition", "system", "phase", "replicate"]
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(order, ignore_index=True)


def estimate(runs: pd.DataFrame, params: PhaseParams) -> dict[str, Any]:
    """Numbers of one group of runs: what a row of `durations` holds beside its keys."""
    known = runs[runs["begin_h"].notna()]
    complete = known["end_h"].notna().to_numpy()
    until = np.where(complete, known["end_h"], known["seen_h"])
    length = until - known["begin_h"].to_numpy(np.float64)
    lineage = known[["scene", "replicate", "lineage"]].drop_duplicates()
    found: dict[str, Any] = {
        "n_complete": int(complete.sum()),
        "n_censored": int((~complete).sum()),
        "n_unknown_begin": len(runs) - len(known),
        "n_lineages": len(lineage),
        "interval": f"{params.interval:.0%} bootstrap over lineages",
    }
    if not complete.any():
        return found | {"interval": ""}
    times, share = survival(length, complete)
    longest = float(times[-1])
    found["complete_mean_h"] = float(length[complete].mean())
    found["restricted_to_h"] = longest
    found["restricted_mean_h"] = float(restricted_mean(times, share, longest))
    for name, q in (("median_h", 0.5), ("q25_h", 0.25), ("q75_h", 0.75)):
        found[name] = _finite(quantile(times, share, q))
    _, drawn = survival(length, complete, _draws(known, params))
    ends = (1 - params.interval) / 2, (1 + params.interval) / 2
    medians = quantile(times, drawn, 0.5)
    means = restricted_mean(times, drawn, longest)
    for end, q in zip(("lo", "hi"), ends, strict=True):
        found[f"median_{end}"] = _finite(np.quantile(medians, q, method="higher"))
        found[f"restricted_mean_{end}"] = float(np.quantile(means, q))
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}


def _draws(runs: pd.DataFrame, params: PhaseParams) -> np.ndarray:
    """(draws, runs) how often each run counts when lineages are drawn again within replicates."""
    rng = np.random.default_rng(params.seed)
    weight = np.zeros((params.draws, len(runs)))
    replicate = runs["replicate"].to_numpy(object)
    keys = runs.groupby(["scene", "replicate", "lineage"], sort=True).ngroup().to_numpy()
    for name in sorted(set(replicate)):
        here = np.flatnonzero(replicate == name)
        members, which = np.unique(keys[here], return_inverse=True)
        drawn = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=params.draws)
        weight[:, here] = drawn[:, which]
    return weight


def _finite(value: np.ndarray | float) -> float:
    return float(value) if np.isfinite(value) else float("nan")
