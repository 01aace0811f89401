"""What lies beside the verdicts: spread over seeds, and comparisons within a cell-cycle phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from hyped_bench.judgement.comparisons import Compared, Inference, compare_panel
from hyped_bench.judgement.entries import Entry
from hyped_bench.judgement.panels import Panel, panels
from hyped_bench.judgement.statistics import holm
from hyped_bench.judgement.verdicts import word_of
from hyped_bench.tasks.base import Judged

SEED = "seed"
PHASE = "phase"


def seed_spread(entries: Sequence[Entry], found: Sequence[Panel]) -> list[dict[str, Any]]:
    """Entries that ran with several seeds: how many, and deviation, least and highest of their mean scores."""
    rows = []
    for panel in found:
        names = {key[0] for key in panel.units}
        for entry in panel.entries:
            table = entry.units
            if table is None or SEED not in table or table[SEED].nunique() < 2 or panel.metric not in table:
                continue
            own = table[table["source"].isin(names)]
            once = own.groupby([SEED, "source", *panel.judged.unit])[panel.metric].agg(lambda v: v.mean(skipna=False))
            means = once.groupby(SEED).agg(lambda v: v.mean(skipna=False)).to_numpy(dtype=float)
            rows.append(
                {
                    "source": panel.source, "metric": panel.metric, "model": entry.model, "n_seeds": len(means),
                    "spread": _number(means.std(ddof=1)) if len(means) > 1 else None,
                    "lowest": _number(means.min()), "highest": _number(means.max()),
                }
            )  # fmt: skip
    return rows


def strata_rows(
    entries: Sequence[Entry], judged: Sequence[Judged], inferences: Mapping[str, Inference], *, seed: int = 0
) -> list[dict[str, Any]]:
    """Comparisons against doing nothing and the simple models within each phase, on equal numbers of cells a phase.

    Not every unit has cells enough of each phase, so a phase has fewer units than its source; from 3 of them on
    there are intervals where the source itself is judged over units. Holm runs over entries and phases together; a
    word stands only where that is significant.
    """
    phases = sorted(
        {str(p) for e in entries if e.strata is not None and PHASE in e.strata for p in e.strata[PHASE].dropna()}
    )
    rows: list[tuple[str, Compared]] = []
    for phase in phases:
        part = [_within(entry, phase) for entry in entries]
        once = list({item.metric: item for item in judged}.values())
        for panel in panels(part, [_plain(item, part) for item in once]):
            whole = inferences.get(panel.source)
            enough = whole is not None and whole.method == "bootstrap"
            made = compare_panel(panel, seed=seed, few_perturbations=enough)
            rows += [(phase, row) for row in made if row.role != "best_control"]
    families: dict[tuple[str, ...], list[int]] = {}
    for i, (_, row) in enumerate(rows):
        families.setdefault((row.source, row.metric, row.against, row.kind), []).append(i)
    adjusted: dict[int, float] = {}
    for members in families.values():
        values = holm([np.nan if (p := rows[i][1].p) is None else p for i in members])
        adjusted |= dict(zip(members, values.tolist(), strict=True))
    found = []
    for i, (phase, row) in enumerate(rows):
        done = replace(row, p_holm=adjusted[i] if np.isfinite(adjusted[i]) else None)
        word = word_of(done)
        found.append({PHASE: phase, **asdict(done), "word": word if word in ("better", "worse") else ""})
    return found


def _within(entry: Entry, phase: str) -> Entry:
    if entry.strata is None or PHASE not in entry.strata:
        return replace(entry, units=None, draws=None)
    table = entry.strata
    return replace(entry, units=table[table[PHASE].astype(str) == phase], draws=None, strata=None)


def _plain(item: Judged, entries: Sequence[Entry]) -> Judged:
    """Ids of units that the tables of strata have."""
    columns = {str(c) for e in entries if e.units is not None for c in e.units.columns}
    return replace(item, unit=tuple(c for c in item.unit if c in columns))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
