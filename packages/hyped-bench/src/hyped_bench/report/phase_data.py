"""Phase fractions of nuclei over time and at harvest, and of cells: pure functions on tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_bench.metrics.phases import lineages
from hyped_core.design.phases import COARSE_PHASES, PHASE_SYSTEMS, coarse_phase

if TYPE_CHECKING:
    import pandas as pd

BIN_H = 1.0
"""Fractions over time are means over frames of this many hours: single frames hold few nuclei."""


def phased(nuclei: pd.DataFrame, system: str) -> pd.DataFrame:
    """Nuclei with a phase of ``system``, phase as plain text. Those without one are left out."""
    found = nuclei.assign(
        phase=nuclei["phase"].astype(str),
        condition=nuclei["condition"].astype(str),
        scene=nuclei["scene"].astype(str),
    )
    return found[found["phase"].isin(PHASE_SYSTEMS[system].phases)]


def fractions_over_time(nuclei: pd.DataFrame, system: str) -> pd.DataFrame:
    """Columns condition, replicate, time_h (middle of the bin), phase, fraction, n (nuclei in frames of the bin).

    Every phase of the system has a row in every bin; the fractions of a bin add up to 1.
    """
    import pandas as pd

    known = phased(nuclei, system)
    phases = list(PHASE_SYSTEMS[system].phases)
    keys = ["condition", "replicate", "time_h"]
    binned = known.assign(time_h=(np.floor(known["time_h"] / BIN_H + 1e-6) + 0.5) * BIN_H)
    counted = binned.groupby([*keys, "phase"], observed=True).size().unstack("phase", fill_value=0)
    counted = counted.reindex(columns=phases, fill_value=0).sort_index()
    totals = counted.sum(axis=1)
    wide = counted.div(totals, axis=0)
    rows = [
        (*index, phase, float(wide.at[index, phase]), int(totals[index]))
        for index in wide.index
        for phase in phases
    ]
    return pd.DataFrame(rows, columns=[*keys, "phase", "fraction", "n"])


def fraction_bands(
    nuclei: pd.DataFrame, system: str, *, draws: int = 400, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Columns condition, time_h (middle of the bin), phase, fraction (mean of the replicates), lo, hi, n_lineages.

    ``lo`` and ``hi`` are percentiles of a bootstrap in which the lineages of each replicate are drawn again:
    nuclei of one lineage, and the same one in several frames, are not independent. Where replicates are few this
    says how well the cells that were seen stand for these replicates, not how replicates differ.
    """
    import pandas as pd

    known = phased(nuclei, system)
    phases = list(PHASE_SYSTEMS[system].phases)
    binned = known.assign(
        time_h=(np.floor(known["time_h"] / BIN_H + 1e-6) + 0.5) * BIN_H, lineage=lineages(known)
    )
    level_ends = [(1 - level) / 2, (1 + level) / 2]
    rows: list[tuple[Any, ...]] = []
    for condition, own in binned.groupby("condition", observed=True, sort=True):
        times = np.sort(own["time_h"].unique())
        shape = (len(times), len(phases))
        seen, means, drawn = np.zeros(len(times)), np.zeros(shape), np.zeros((draws, *shape))
        rng = np.random.default_rng(seed)
        n_lineages = np.zeros(len(times), int)
        for _, replicate in own.groupby("replicate", observed=True, sort=True):
            names, which = np.unique(replicate["lineage"], return_inverse=True)
            place = np.searchsorted(times, replicate["time_h"]), pd.Index(phases).get_indexer(replicate["phase"])
            hits = np.zeros((len(names), *shape))
            np.add.at(hits, (which, *place), 1.0)
            sizes = hits.sum(axis=2)
            there = sizes.any(axis=0)
            weight = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
            total = hits.sum(axis=0)
            means[there] += total[there] / total[there].sum(axis=1, keepdims=True)
            again, against = np.tensordot(weight, hits, 1), weight @ sizes
            share = np.where(against[..., None] > 0, again / np.maximum(against, 1)[..., None], np.nan)
            share = np.where(np.isnan(share), (total / np.maximum(total.sum(axis=1, keepdims=True), 1))[None], share)
            drawn[:, there] += share[:, there]
            seen += there
            n_lineages += (sizes > 0).sum(axis=0)
        ends = np.quantile(drawn / seen[:, None], level_ends, axis=0)
        for i, time in enumerate(times):
            for j, phase in enumerate(phases):
                low, high = (float(end) for end in ends[:, i, j])
                mean = float(means[i, j] / seen[i])
                rows.append((condition, float(time), phase, mean, low, high, int(n_lineages[i])))
    return pd.DataFrame(rows, columns=["condition", "time_h", "phase", "fraction", "lo", "hi", "n_lineages"])


def dividing_over_time(nuclei: pd.DataFrame, system: str) -> pd.DataFrame:
    """Share of the coarse phase S_G2M by bin: index time_h (middle of the bin), a column a condition.

    Each value is the mean over the replicates that have nuclei in the bin; NaN where none has.
    """
    table = fractions_over_time(nuclei, system)
    coarse = coarse_phase(table["phase"], system)
    keys = ["condition", "replicate", "time_h"]
    dividing = table["fraction"].where(coarse == COARSE_PHASES[1], 0.0)
    placed = table["fraction"].where([name is not None for name in coarse], 0.0)
    sums = table.assign(dividing=dividing, placed=placed).groupby(keys)[["dividing", "placed"]].sum()
    share = sums["dividing"] / sums["placed"].where(sums["placed"] > 0)
    return share.groupby(["time_h", "condition"]).mean().unstack("condition").sort_index()


def at_time(nuclei: pd.DataFrame, hour: float, *, within_h: float = 1.0) -> pd.DataFrame:
    """The nuclei of each scene's frame nearest to ``hour``; scenes with none within ``within_h`` are left out."""
    import pandas as pd

    parts = []
    for _, scene in nuclei.groupby("scene", observed=True, sort=True):
        times = scene["time_h"].to_numpy()
        nearest = times[np.argmin(np.abs(times - hour))]
        if abs(nearest - hour) <= within_h:
            parts.append(scene[times == nearest])
    return pd.concat(parts) if parts else nuclei.iloc[:0]


def shares(table: pd.DataFrame, by: str, phases: list[str]) -> dict[str, dict[str, Any]]:
    """Group -> {phase: share, ..., ``n``: rows}, of rows whose ``phase`` is one of ``phases``."""
    found = {}
    for name, group in table.groupby(by, observed=True, sort=True):
        counts = group["phase"].value_counts()
        total = int(sum(counts.get(p, 0) for p in phases))
        found[str(name)] = {**{p: counts.get(p, 0) / total if total else None for p in phases}, "n": total}
    return found


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927).

    >>> [round(v, 4) for v in wilson(5, 10)]
    [0.2366, 0.7634]
    """
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return (centre - half) / scale, (centre + half) / scale


def composition(
    nuclei: pd.DataFrame, cells: pd.DataFrame, system: str, conditions: list[str], hour: float
) -> list[dict[str, Any]]:
    """Share of the coarse phase S_G2M at ``hour``: imaging (range over replicates) and sequencing (interval).

    Parameters
    ----------
    nuclei, cells
        ``obs`` of both; phases of ``system`` and of ``rna``.
    conditions
        Those whose sequenced cells were not sorted.
    """
    at_harvest = at_time(phased(nuclei, system), hour)
    at_harvest = at_harvest.assign(coarse=coarse_phase(at_harvest["phase"], system))
    sequenced = cells.assign(
        coarse=coarse_phase(cells["phase"].astype(str), "rna"), condition=cells["condition"].astype(str)
    )
    sequenced = sequenced[sequenced["coarse"].notna()]
    dividing = COARSE_PHASES[1]
    rows = []
    for name in conditions:
        seen = at_harvest[at_harvest["condition"] == name]
        own = sequenced[sequenced["condition"] == name]
        if seen.empty or own.empty:
            continue
        replicates = [
            float((g["coarse"] == dividing).mean()) for _, g in seen.groupby("replicate", observed=True)
        ]
        hits = int((own["coarse"] == dividing).sum())
        low, high = wilson(hits, len(own))
        rows.append(
            {
                "condition": name,
                "imaging": float((seen["coarse"] == dividing).mean()),
                "imaging_lowest": min(replicates),
                "imaging_highest": max(replicates),
                "n_replicates": len(replicates),
                "n_nuclei": len(seen),
                "sequencing": hits / len(own),
                "sequencing_lo": low,
                "sequencing_hi": high,
                "n_cells": len(own),
            }
        )
    return rows
