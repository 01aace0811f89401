"""Files beside the page: tables as CSV, figures as SVG and PNG, a summary for papers, tables for ``dvc plots``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_bench.report.boards import with_interval
from hyped_bench.report.context import ReportContext, csv_text
from hyped_bench.report.draw_svg import svg_and_png
from hyped_bench.report.opening import verdict_rows
from hyped_bench.report.phase_data import dividing_over_time, fractions_over_time
from hyped_bench.report.scoreboard import groups, ordered, task_title
from hyped_bench.report.sections.phases import phase_tables
from hyped_core.io.atomic import write_text

if TYPE_CHECKING:
    import pandas as pd

    from hyped_bench.report.inputs import Container


def write_files(folder: Path, context: ReportContext) -> None:
    """``tables/*.csv``, figures as SVG and PNG, the data card and ``summary.md`` of what was placed on the page."""
    for kind in ("tables", "figures"):
        (folder / kind).mkdir()
    for name, table in context.placed.tables.items():
        text = csv_text(table.columns, table.rows)
        (folder / "tables" / f"{name}.csv").write_text(text, encoding="utf-8", newline="\n")
    for name, chart in context.placed.charts.items():
        for suffix, held in zip(("svg", "png"), svg_and_png(chart), strict=True):
            (folder / "figures" / f"{name}.{suffix}").write_bytes(held)
    for path in context.inputs.cards:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "summary.md").write_text(summary_text(context), encoding="utf-8", newline="\n")


def summary_text(context: ReportContext) -> str:
    """Verdicts, leaderboards, warnings and what is absent, as Markdown."""
    lines = [f"# HYPED report: {context.dataset}", ""]
    if context.settings.get("description"):
        lines += [str(context.settings["description"]), ""]
    lines += verdict_lines(context)
    for task, entries in context.results.items():
        lines += [f"## {task_title(task)}", ""]
        lines += [f"- {e.model} has no scores: {e.status}. {e.reason}" for e in entries if e.status != "ok"]
        if any(e.status != "ok" for e in entries):
            lines.append("")
        for title, keys in groups(task, entries):
            if title:
                lines += [f"### {title}", ""]
            heads = ["model", "role", *(m.heading for m in keys)]
            lines += [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
            for entry in ordered(entries, keys[0]):
                role = entry.kind if entry.status == "ok" else f"{entry.kind}, {entry.status}"
                lines.append(
                    f"| {' | '.join([entry.model, role, *(with_interval(entry, m.key) for m in keys)])} |"
                )
            lines.append("")
    for title, texts in (("Beware", context.placed.alerts), ("Not here", context.placed.absent)):
        if texts:
            lines += [f"## {title}", "", *(f"- {' '.join(text.split())}" for text in texts), ""]
    lines += ["For research only: not for clinical or diagnostic use.", ""]
    return "\n".join(lines)


def verdict_lines(context: ReportContext) -> list[str]:
    """What the judgements say, as a table."""
    heads, rows = verdict_rows(context)
    if not rows:
        return []
    lines = ["## What the numbers say", "", f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    lines += [f"| {' | '.join('' if v is None else str(v) for v in row)} |" for row in rows]
    for task, judged in context.inputs.judgements.items():
        for source in judged.sources:
            over = judged.inference(source)
            lines += ["", f"{task}, {source}: {over}."] if over else []
            lines += [f"- cannot tell: {line}" for line in judged.blind_lines(source)]
    return [*lines, ""]


def leaderboard_rows(context: ReportContext) -> list[list[Any]]:
    """Task, metric, model, role, value, lo, hi: every metric that the leaderboards show."""
    rows: list[list[Any]] = []
    for task, entries in context.results.items():
        for _, keys in groups(task, entries):
            for item in keys:
                for entry in ordered(entries, item):
                    ends = (entry.metrics.get(f"{item.key}{end}") for end in ("", "_lo", "_hi"))
                    rows.append([task, item.key, entry.model, entry.kind, *ends])
    return rows


def write_plots(folder: Path, context: ReportContext) -> list[Path]:
    """``leaderboard.csv``, and where nuclei have phases the tables of fractions over time; the paths written.

    ``phase_fractions.csv`` is long, with every phase and replicate; ``s_g2m_fraction.csv`` is wide, a column a
    condition. Older ones are removed where there are no phases any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    heads = ["task", "metric", "model", "role", "value", "lo", "hi"]
    written = [folder / "leaderboard.csv"]
    write_text(written[0], csv_text(heads, leaderboard_rows(context)))
    found = phase_tables(context)
    path = folder / "phase_fractions.csv"
    wide = folder / "s_g2m_fraction.csv"
    for old in (path, wide):
        old.unlink(missing_ok=True)
    if found:
        rows = []
        for container, nuclei, system in found:
            prefix = f"{container.name}: " if len(found) > 1 else ""
            table = fractions_over_time(nuclei, system)
            for row in table.itertuples(index=False):
                rows.append([f"{prefix}{row[0]}", int(row[1]), float(row[2]), row[3], float(row[4])])
        write_text(path, csv_text(["condition", "replicate", "time_h", "phase", "fraction"], rows))
        write_text(wide, csv_text(*dividing_rows(found)))
        written += [path, wide]
    return written


def dividing_rows(found: Sequence[tuple[Container, pd.DataFrame, str]]) -> tuple[list[str], list[list[Any]]]:
    """Header and rows of the share of S_G2M: time_h, then the conditions in their design's order.

    Conditions without a nucleus that has a phase get no column. With several containers, columns are named
    ``<container>: <condition>``.
    """
    columns: dict[str, dict[float, float]] = {}
    for container, nuclei, system in found:
        prefix = f"{container.name}: " if len(found) > 1 else ""
        table = dividing_over_time(nuclei, system)
        planned = [item.name for item in container.data.design.conditions]
        names = [name for name in planned if name in table.columns]
        names += [name for name in table.columns if name not in planned]
        for name in names:
            columns[f"{prefix}{name}"] = {float(hour): float(v) for hour, v in table[name].items()}
    hours = sorted({hour for values in columns.values() for hour in values})
    rows = [[hour, *(values.get(hour) for values in columns.values())] for hour in hours]
    return ["time_h", *columns], rows
