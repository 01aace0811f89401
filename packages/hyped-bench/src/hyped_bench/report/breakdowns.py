"""The same scores seen closer: by source, subgroup and phase, and what a confounded design leaves of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hyped_bench.report.context import ReportContext, Table
from hyped_bench.report.inputs import Entry
from hyped_bench.report.scoreboard import Metric, ordered

AGAINST = (
    ("pearson_delta", "pearson_delta_train"),
    ("cosine_delta", "cosine_delta_train"),
    ("mse_delta", "mse_delta_train"),
    ("cosine_shift", "cosine_shift_conditions"),
)
"""Scores against control, and those against the mean of the other perturbed conditions, which the pool drops out of."""


def confounded(context: ReportContext, task: str, entries: list[Entry]) -> list[str]:
    """For sources whose condition and pool cannot be told apart: scores against control and against the others."""
    names: dict[str, None] = {}
    for entry in entries:
        facts = ((entry.record or {}).get("facts") or {}).get("confounded") or {}
        names |= {str(name): None for name, value in facts.items() if value}
    judged = context.inputs.judgements.get(task)
    if judged is not None:
        names |= {name: None for name in judged.sources if judged.confounded(name)}
    rows, marks = [], []
    pairs = [
        pair
        for pair in AGAINST
        if all(any(value_of(e, key, n) is not None for e in entries for n in names) for key in pair)
    ]
    for name in names:
        for entry in entries:
            values = [value_of(entry, key, name) for pair in pairs for key in pair]
            if entry.status == "ok" and any(v is not None for v in values):
                rows.append([name, entry.model, entry.kind, *values])
                marks.append("control" if entry.kind == "control" else "")
    if not names:
        return []
    parts: list[str] = [
        context.alert(
            f"Confounded: on {', '.join(names)} every control cell comes from one capture pool and every perturbed "
            "cell from another. What is scored against control there also holds the difference between the pools"
            + (
                "; scores against the mean of the other perturbed conditions stand beside it and are free of it."
                if rows
                else "."
            )
        )
    ]
    if rows:
        heads = ["source", "model", "role", *(key for pair in pairs for key in pair)]
        caption = "Each score against control, and beside it against the mean of the other perturbed conditions"
        sheet = Table(caption, heads, rows, marks=marks)
        parts.append(
            context.table(
                f"confounded_{task}",
                sheet,
                folded=f"Against control, and against the other conditions ({len(rows)} rows)",
            )
        )
    return parts


def costs(context: ReportContext, task: str, entries: list[Entry]) -> list[str]:
    """Time and memory of each model, where its record keeps them."""
    kept = {e.model: held for e in entries if e.folder is not None and (held := timing(e.folder / "timing.json"))}
    keys = list(dict.fromkeys(key for held in kept.values() for key in held))
    if not kept:
        return []
    rows = [[e.model, e.kind, *(kept[e.model].get(key) for key in keys)] for e in entries if e.model in kept]
    sheet = Table("Time and memory on the machine of the record", ["model", "role", *keys], rows)
    return [context.table(f"costs_{task}", sheet, folded=f"Time and memory ({len(rows)})")]


def timing(path: Path) -> dict[str, float]:
    """The numbers of a ``timing.json``; none where there is no such file, or it holds no mapping."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): float(v) for k, v in held.items() if isinstance(v, int | float)} if isinstance(held, dict) else {}


def value_of(entry: Entry, key: str, source: str) -> float | None:
    """A metric on one source; the plain key where the task has no other source."""
    value = entry.metrics.get(f"{key}_{source}")
    if value is None and len(entry.sources) <= 1:
        value = entry.metrics.get(key)
    return value


def by_phase(context: ReportContext, task: str, entries: list[Entry], keys: list[Metric]) -> list[str]:
    """Means over the units of each cell-cycle phase, with equal numbers of cells a phase, where they were kept."""
    found: dict[tuple[str, str], list[tuple[Entry, int, dict[str, float]]]] = {}
    for entry in entries:
        table = entry.table("strata") if entry.status == "ok" else None
        if table is None or not {"source", "phase"} <= set(table.columns):
            continue
        for (source, phase), own in table.groupby(["source", "phase"], sort=True):
            means = own.mean(numeric_only=True, skipna=False).to_dict()
            found.setdefault((str(source), str(phase)), []).append((entry, len(own), means))
    columns = [m.key for m in keys if any(m.key in means for rows in found.values() for _, _, means in rows)]
    if not columns:
        return []
    rows, marks = [], []
    for (source, phase), own in sorted(found.items()):
        place = {e.model: i for i, e in enumerate(ordered([e for e, _, _ in own], keys[0]))}
        for entry, n, means in sorted(own, key=lambda item: place[item[0].model]):
            values = [None if (v := means.get(key)) is None or v != v else float(v) for key in columns]
            rows.append([source, phase, entry.model, entry.kind, n, *values])
            marks.append("control" if entry.kind == "control" else "")
    heads = ["source", "phase", "model", "role", "n_units", *columns]
    caption = "Scores by cell-cycle phase, with as many cells of every phase: means over units"
    return [
        context.table(f"by_phase_{task}", Table(caption, heads, rows, marks=marks), folded=f"By phase ({len(found)})")
    ]


def by_subgroup(context: ReportContext, task: str, entries: list[Entry], keys: list[Metric]) -> list[str]:
    """Means over the units of each subgroup of a split (how much of a combination was seen), where one has them."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for entry in entries:
        table = entry.table("subgroups") if entry.status == "ok" else None
        for row in [] if table is None else table.to_dict("records"):
            found.setdefault((str(row["source"]), str(row["subgroup"])), {})[entry.model] = row
    if not found or not keys:
        return []
    columns = [m.key for m in keys if any(m.key in row for rows in found.values() for row in rows.values())]
    rows, marks = [], []
    for (source, group), own in sorted(found.items()):
        for entry in ordered([e for e in entries if e.model in own], keys[0]):
            row = own[entry.model]
            values = [None if value is None or value != value else float(value) for value in map(row.get, columns)]
            rows.append([source, group, int(row["n_perturbations"]), entry.model, entry.kind, *values])
            marks.append("control" if entry.kind == "control" else "")
    heads = ["source", "subgroup", "n_perturbations", "model", "role", *columns]
    caption = "Scores by subgroup of the split: means over its perturbations, models in the order of the first table"
    sheet = Table(caption, heads, rows, marks=marks)
    return [context.table(f"by_subgroup_{task}", sheet, folded=f"By subgroup ({len(found)})")]


def by_source(context: ReportContext, task: str, entries: list[Entry], keys: list[Metric]) -> list[str]:
    """The same scores by source, where there are several."""
    names = list(dict.fromkeys(str(s["name"]) for e in entries for s in e.sources if "name" in s))
    if len(names) < 2 or not keys:
        return []
    primary = {str(s["name"]): s.get("primary", True) for e in entries for s in e.sources if "name" in s}
    rows, marks = [], []
    scored = {name for name in names for e in entries for m in keys if e.metrics.get(f"{m.key}_{name}") is not None}
    names = [name for name in names if name in scored]
    for name in names:
        for entry in ordered([e for e in entries if e.status == "ok"], keys[0]):
            values = [entry.metrics.get(f"{m.key}_{name}") for m in keys]
            rows.append([name, entry.model, entry.kind, *values])
            marks.append("control" if entry.kind == "control" else "")
    heads = ["source", "model", "role", *(m.key for m in keys)]
    beside = [name for name in names if not primary[name]]
    caption = "Scores by source" + (f"; not in the means above: {', '.join(beside)}" if beside else "")
    sheet = Table(caption, heads, rows, marks=marks)
    return [context.table(f"by_source_{task}", sheet, folded=f"By source ({len(names)})")]
