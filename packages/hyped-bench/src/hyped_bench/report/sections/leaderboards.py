"""A table and a figure for every task: each model beside all controls, with intervals and counts."""

from __future__ import annotations

from typing import Any

from hyped_bench.report.charts import GREY, PALETTE, Chart, Panel, Rule, Series
from hyped_bench.report.context import Cell, ReportContext, Table, number_text
from hyped_bench.report.inputs import Entry
from hyped_bench.report.scoreboard import Metric, best_control, counts, groups, ordered, task_title

ROLE_COLOURS = {"model": PALETTE[0], "pipeline": PALETTE[0], "control": GREY, "reference": PALETTE[1]}
ROLES = {
    "reference": "sees the truth: oracle and duplicate stand for what can be reached, shuffled and wrong for what "
    "similarity alone earns",
    "pipeline": "what the pipeline itself wrote",
    "unknown": "scored without keeping a record",
}


def section(context: ReportContext) -> str:
    """All tasks that were scored; those set but not scored are named."""
    parts = []
    wanted = list(context.settings.get("bench") or {})
    if not context.results:
        parts.append(context.absent("No task was scored for this dataset."))
    parts.append(
        context.text(
            "Every model stands beside the controls of its task (grey, dashed lines in the figures): models that do "
            "next to nothing, or only what is obvious. A score says something only by its distance from them. "
            "Intervals in brackets are 95 % bootstrap intervals over the units counted in the last columns; where "
            "there are too few units none is given."
        )
    )
    for task, entries in context.results.items():
        parts.append(board(context, task, entries))
    for task in sorted(set(wanted) - set(context.results)):
        parts.append(context.absent(f"The task {task} is set in the parameters but was not scored."))
    return context.join(parts)


def board(context: ReportContext, task: str, entries: list[Entry]) -> str:
    """One task."""
    parts = [context.heading(task_title(task))]
    shown = groups(task, entries)
    if task == "embedding":
        parts.append(
            context.text(
                "Units are perturbations in phases; the intervals are over the cells within them. Each p is of the "
                "mean over units: the share of draws of random genes, matched for expression, that do as well."
            )
        )
    if not any(e.kind == "control" for e in entries) and any(e.kind == "model" for e in entries):
        parts.append(context.alert(f"No control was scored on {task}: its numbers cannot be judged."))
    for i, (title, keys) in enumerate(shown):
        suffix = "" if i == 0 else f"_{i + 1}"
        if title:
            parts.append(context.heading(title, 4))
        if title == "Raw means":
            parts.append(embedding_note(context, entries) if task == "embedding" else raw_note(context, entries))
        parts.append(table(context, f"leaderboard_{task}{suffix}", title or "Scores", entries, keys))
        if len(entries) > 1:
            parts.append(figure(context, f"leaderboard_{task}{suffix}", task, entries, keys))
    parts += failures(context, entries)
    parts += remarks(context, task, entries)
    keys = [m for _, found in shown for m in found]
    parts += by_source(context, task, entries, keys)
    parts += by_subgroup(context, task, entries, keys)
    return context.join(parts)


def table(context: ReportContext, name: str, title: str, entries: list[Entry], keys: list[Metric]) -> str:
    """The scores: one line a model; the CSV holds the metrics files' own numbers, intervals in columns."""
    numbers = [n for n in counts(entries, keys[0]) if n not in {m.key for m in keys}]
    scored = [e for e in entries if e.status == "ok"]
    values = {n: {e.metrics.get(n) for e in scored} for n in numbers}
    shared = [n for n in numbers if len(values[n]) == 1 and values[n] != {0}]  # others tell of the model
    rows = ordered(entries, keys[0])
    columns = ["model", "role", "status"]
    for item in keys:
        columns += [item.key, f"{item.key}_lo", f"{item.key}_hi"]
    raw, shown, marks = [], [], []
    for entry in rows:
        values = [entry.metrics.get(f"{m.key}{end}") for m in keys for end in ("", "_lo", "_hi")]
        raw.append([entry.model, entry.kind, entry.status, *values, *(entry.metrics.get(n) for n in numbers)])
        cells = [Cell(with_interval(entry, m.key), True) for m in keys]
        over = [entry.metrics.get(n) for n in shared]
        role = entry.kind if entry.status == "ok" else f"{entry.kind}, {entry.status}"
        shown.append([entry.model, role, *cells, *over])
        marks.append("failed" if entry.status != "ok" else "control" if entry.kind == "control" else "")
    heads = ["model", "role", *(m.heading for m in keys), *shared]
    caption = f"{title}, best first by {keys[0].key}; arrows point to the better end"
    return context.table(name, Table(caption, [*columns, *numbers], raw, (heads, shown), marks))


def with_interval(entry: Entry, key: str) -> str:
    """A value with its interval, where there is one."""
    value, low, high = (entry.metrics.get(f"{key}{end}") for end in ("", "_lo", "_hi"))
    text = number_text(value)
    if value is None or low is None or high is None:
        return text
    return f"{text} ({number_text(low)} to {number_text(high)})"


def figure(context: ReportContext, name: str, task: str, entries: list[Entry], keys: list[Metric]) -> str:
    """Values with intervals, a panel a metric; every control also as a dashed line."""
    panels = []
    good = [e for e in entries if e.status == "ok"]
    for item in keys:
        rows = [e for e in ordered(good, item) if e.metrics.get(item.key) is not None]
        if not rows or (len(rows) > 1 and len({e.metrics[item.key] for e in rows}) == 1):
            continue  # nothing to tell apart
        best = best_control(rows, item)
        rules = tuple(
            Rule(float(e.metrics[item.key] or 0), "best control" if e is best else "")
            for e in rows
            if e.kind == "control"
        )
        series = tuple(
            Series(
                f"{e.model} ({e.kind})",
                [e.metrics[item.key]],
                [e.model],
                ROLE_COLOURS.get(e.kind, PALETTE[4]),
                [e.metrics.get(f"{item.key}_lo")],
                [e.metrics.get(f"{item.key}_hi")],
            )
            for e in rows
        )
        panels.append(Panel("intervals", item.heading, series=series, rules=rules))
    if not panels:
        return context.note(f"No figure: the values of the models on {task} are undefined or all equal.")
    kinds = [k for k in ("model", "control", "reference") if any(e.kind == k for e in good)]
    best_of = []
    for item in keys[:1]:
        top = ordered(good, item)[0]
        best_of = [
            f"best by {item.key}: {top.model} ({top.kind}) at {number_text(top.metrics.get(item.key))}"
        ]
    chart = Chart(
        f"Scores on {task}; dashed lines are the controls.",
        f"Scores of {len(good)} models on {task}; " + "; ".join(best_of),
        tuple(panels),
        tuple((kind, ROLE_COLOURS[kind]) for kind in kinds),
        height=max(150, 62 + 26 * len(good)),
    )
    return context.chart(name, chart)


def raw_note(context: ReportContext, entries: list[Entry]) -> str:
    """Why the raw means flatter, with this dataset's own number for doing nothing."""
    nothing = next((e for e in entries if e.model == "no_change" and e.status == "ok"), None)
    own = ""
    if nothing is not None and nothing.metrics.get("cosine") is not None:
        own = (
            f' Here predicting "nothing changes" has a cosine of {number_text(nothing.metrics["cosine"])} and a '
            f"Pearson correlation of {number_text(nothing.metrics.get('pearson'))}."
        )
    return context.alert(
        "Cosine and Pearson correlation of raw means flatter every model: genes differ from one another by far more "
        "than any perturbation moves them, so a profile that changes nothing already resembles the truth."
        + own
        + " Read them only beside the metrics on the change from control above."
    )


def embedding_note(context: ReportContext, entries: list[Entry]) -> str:
    """Why the raw means flatter, with what doing nothing has in each embedder's own space."""
    own = [
        f"{number_text(e.metrics['cosine_no_change'])} in the space of {e.model}"
        for e in entries
        if e.metrics.get("cosine_no_change") is not None
    ]
    said = f" Here it has a cosine of {', '.join(own)}." if own else ""
    return context.alert(
        "Cosine and Pearson correlation of mean embeddings flatter every model: all cells lie in one direction from "
        "the origin, so control cells that nothing was done to already resemble the truth."
        + said
        + " A model's cosine means something only as far as it is above that of doing nothing (cosine_gain)."
    )


def failures(context: ReportContext, entries: list[Entry]) -> list[str]:
    """Models that did not run, with the reason."""
    return [
        context.alert(f"{e.model} has no scores: {e.status}. {e.reason}") for e in entries if e.status != "ok"
    ]


def remarks(context: ReportContext, task: str, entries: list[Entry]) -> list[str]:
    """What the records say about the numbers: data ranges, units, warnings, roles."""
    parts = []
    roles = {e.kind for e in entries} & {"reference", "pipeline", "unknown"}
    if roles:
        parts.append(context.text("; ".join(f"{role}: {ROLES[role]}" for role in sorted(roles)) + "."))
    ranges: dict[str, float] = {}
    for entry in entries:
        ranges |= ((entry.record or {}).get("facts") or {}).get("data_range") or {}
    if ranges:
        low, high = min(ranges.values()), max(ranges.values())
        said = f"{number_text(low)} for every field"
        if low != high:
            said = f"{number_text(low)} to {number_text(high)} over {len(ranges)} fields (each in the record)"
        parts.append(context.text(f"Data range that PSNR and SSIM take as the peak: {said}."))
    said_by: dict[str, list[str]] = {}
    for entry in entries:
        for warning in (entry.record or {}).get("warnings") or []:
            said_by.setdefault(warning, []).append(entry.model)
    if said_by:
        lines = [
            f"{text} ({'all' if len(names) == len(entries) else ', '.join(names)})"
            for text, names in said_by.items()
        ]
        parts.append(context.fold(f"Remarks of the runs on {task} ({len(lines)})", [context.items(lines)]))
    return parts


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
