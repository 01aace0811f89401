"""Shares of phases over time, by condition and replicate, with confidence intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.design import COARSE_PHASES, PHASE_SYSTEMS, coarse_phase
from hyped_imaging.phases.intervals import lineage_intervals, replicate_interval
from hyped_imaging.phases.params import PhaseParams
from hyped_imaging.phases.runs import lineages

if TYPE_CHECKING:
    import pandas as pd

KEYS = ["condition", "replicate", "frame", "time_h"]
ALL = "all"
"""What ``replicate`` says in rows over all replicates of a condition."""
COLUMNS = [
    *KEYS, "system", "phase", "n", "n_total", "n_lineages", "n_replicates", "fraction", "fraction_lo",
    "fraction_hi", "interval",
]  # fmt: skip


def phase_fractions(table: pd.DataFrame, params: PhaseParams | None = None) -> pd.DataFrame:
    """Share of each phase among the nuclei with a phase, by condition, replicate and frame.

    Columns ``condition, replicate`` (text)``, frame, time_h, system`` (``fucci`` or ``coarse``), ``phase, n,
    n_total, n_lineages, n_replicates, fraction, fraction_lo, fraction_hi, interval``; phases that no nucleus
    is in have rows too.

    The interval of a replicate is Wilson's over its lineages (`intervals.lineage_intervals`): it says how well
    the nuclei that were seen stand for the replicate. Rows with replicate ``all`` hold the mean of the
    replicates at the same time (within half the time between frames) and Student's t interval over them
    (`intervals.replicate_interval`); of one replicate alone there is no such interval, and it is NaN.
    """
    import pandas as pd

    params = params or PhaseParams()
    called = table[table["phase"] != ""].reset_index(drop=True)
    if called.empty:
        return pd.DataFrame(columns=COLUMNS)
    called["replicate"] = called["replicate"].astype(str)
    called["lineage"] = _lineages(called)
    called["moment"] = moments(called)
    parts = []
    for system, phases, values in (
        ("fucci", PHASE_SYSTEMS["fucci"].phases, called["phase"].to_numpy(object)),
        ("coarse", COARSE_PHASES, coarse_phase(called["phase"], "fucci")),
    ):
        names = np.array(phases, dtype=object)
        hits = pd.DataFrame(values[:, None] == names[None, :], columns=list(phases)).astype(np.float64)
        marked = pd.concat([called[[*KEYS, "moment", "lineage"]], hits], axis=1)
        parts += _by_replicate(marked, system, phases, params)
        parts += _by_condition(marked, system, phases, params)
    out = pd.DataFrame(parts, columns=COLUMNS)
    for name in ("fraction", "fraction_lo", "fraction_hi"):
        out[name] = out[name].round(6)
    return out.sort_values(["condition", "replicate", "system", "time_h", "frame", "phase"], ignore_index=True)


def moments(table: pd.DataFrame) -> np.ndarray:
    """A number for each row's time that scenes imaged in turn share: time over the usual time of a frame."""
    first = float(table["time_h"].min())
    steps = []
    for _, scene in table.groupby("scene" if "scene" in table.columns else "replicate", sort=True):
        apart = np.diff(np.unique(scene["time_h"]))
        steps += [float(np.median(apart))] if len(apart) else []
    step = min(steps) if steps else 1.0
    return np.floor((table["time_h"].to_numpy(np.float64) - first) / step + 0.25).astype(np.int64)


def _lineages(table: pd.DataFrame) -> np.ndarray:
    """A number for each lineage of the whole table; untracked nuclei are lineages of one."""
    import pandas as pd

    out = np.zeros(len(table), np.int64)
    if not {"track_id", "parent_id"} <= set(table.columns):
        return np.arange(len(table))
    scenes = table["scene"] if "scene" in table.columns else pd.Series("", index=table.index)
    for number, (_, rows) in enumerate(sorted(scenes.groupby(scenes).indices.items())):
        found = lineages(table["track_id"].to_numpy(np.int64)[rows], table["parent_id"].to_numpy(np.int64)[rows])
        out[rows] = np.unique(found, return_inverse=True)[1] + number * len(table)
    return out


def _by_replicate(
    marked: pd.DataFrame, system: str, phases: tuple[str, ...], params: PhaseParams
) -> list[dict[str, Any]]:
    rows = []
    for keys, group in marked.groupby(KEYS, sort=True):
        counts = _counts(group, phases)
        ends = lineage_intervals(counts[:, :-1], counts[:, -1], params.interval)
        about = dict(zip(KEYS, keys, strict=True))
        for i, phase in enumerate(phases):
            rows.append(about | _row(system, phase, counts, i, 1) | {
                "fraction": counts[:, i].sum() / counts[:, -1].sum(),
                "fraction_lo": ends[i][0],
                "fraction_hi": ends[i][1],
                "interval": f"{params.interval:.0%} Wilson over lineages",
            })  # fmt: skip
    return rows


def _by_condition(
    marked: pd.DataFrame, system: str, phases: tuple[str, ...], params: PhaseParams
) -> list[dict[str, Any]]:
    rows = []
    for (condition, _), group in marked.groupby(["condition", "moment"], sort=True):
        counts = _counts(group, phases)
        shares = np.stack([
            own[list(phases)].to_numpy().mean(axis=0) for _, own in group.groupby("replicate", sort=True)
        ])  # fmt: skip
        about = {
            "condition": condition,
            "replicate": ALL,
            "frame": int(group["frame"].min()),
            "time_h": round(float(group["time_h"].drop_duplicates().mean()), 6),
        }
        ends = lineage_intervals(counts[:, :-1], counts[:, -1], params.interval)
        for i, phase in enumerate(phases):
            low, high = replicate_interval(shares[:, i], ends[i], params.interval)
            several = len(shares) > 1
            rows.append(about | _row(system, phase, counts, i, len(shares)) | {
                "fraction": float(shares[:, i].mean()),
                "fraction_lo": low,
                "fraction_hi": high,
                "interval": f"{params.interval:.0%} t over replicates" if several else "",
            })  # fmt: skip
    return rows


def _counts(group: pd.DataFrame, phases: tuple[str, ...]) -> np.ndarray:
    """(lineages, phases + 1) nuclei of each lineage in each phase, and in all."""
    which = np.unique(group["lineage"].to_numpy(), return_inverse=True)[1]
    columns = [np.bincount(which, group[phase].to_numpy()) for phase in phases]
    return np.column_stack([*columns, np.bincount(which).astype(np.float64)])


def _row(system: str, phase: str, counts: np.ndarray, column: int, replicates: int) -> dict[str, Any]:
    return {
        "system": system,
        "phase": phase,
        "n": int(counts[:, column].sum()),
        "n_total": int(counts[:, -1].sum()),
        "n_lineages": len(counts),
        "n_replicates": replicates,
    }
