"""How every number came about: one folded block a record."""

from __future__ import annotations

from typing import Any

from hyped_bench.report.context import ReportContext, record_anchor
from hyped_bench.report.inputs import Entry


def section(context: ReportContext) -> str:
    """All records by task, and the containers' own provenance."""
    parts: list[str] = []
    for task, entries in context.results.items():
        parts.append(context.heading(task))
        parts += [record(context, entry) for entry in entries]
    if not context.results:
        parts.append(context.absent("Nothing was scored, so there are no records."))
    if context.containers:
        parts.append(context.heading("Containers"))
    for container in context.containers:
        values = {
            "path": container.path.as_posix(),
            **(container.summary["provenance"] or {"provenance": "not said"}),
        }
        parts.append(context.fold(container.name, [context.pairs(values)]))
    return context.join(parts)


def record(context: ReportContext, entry: Entry) -> str:
    """One record."""
    if entry.record is None:
        return context.fold(
            f"{entry.model}: no record",
            [context.absent(f"{entry.task}/{entry.model} was scored without keeping a record of how.")],
            anchor=record_anchor(entry.task, entry.model),
        )
    held: dict[str, Any] = entry.record
    facts = {k: v for k, v in (held.get("facts") or {}).items() if k != "split"}
    values = {
        "from": f"{held.get('distribution')} {held.get('version')}",
        "status": held["status"],
        **({"reason": held["reason"]} if held.get("reason") else {}),
        "seed": held.get("seed"),
        "device": held.get("device"),
        "config": held.get("config") or "no settings",
        "parameters": held.get("params") or "none",
        "data (sha256)": held.get("data") or "none",
        "splits (sha256)": held.get("split_sha256") or "no split",
        "facts": facts or "none",
        "warnings": held.get("warnings") or "none",
        **({"trace": held["trace"]} if held.get("trace") else {}),
        "tables": held.get("tables") or "none",
        "environment": held.get("environment"),
    }
    line = f"{entry.model} ({entry.kind}, {entry.status}), seed {held.get('seed')}, {held.get('device')}"
    return context.fold(line, [context.pairs(values)], anchor=record_anchor(entry.task, entry.model))
