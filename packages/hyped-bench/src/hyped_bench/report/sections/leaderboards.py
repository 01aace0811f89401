"""A figure and a table for every task: each model beside all controls, with intervals, verdicts and counts."""

from __future__ import annotations

from typing import Any

from hyped_bench.report.boards import board_figure, board_table, main_sources
from hyped_bench.report.breakdowns import by_phase, by_source, by_subgroup, confounded, costs
from hyped_bench.report.context import Cell, ReportContext, Table, number_text
from hyped_bench.report.inputs import Entry
from hyped_bench.report.opening import tone, unjudged
from hyped_bench.report.scoreboard import RAW_MEANS, groups, task_title
from hyped_bench.report.verdicts import ROLES, Judged, said

ROLE_WORDS = {
    "reference": "sees the truth: oracle and duplicate stand for what can be reached, shuffled and wrong for what "
    "similarity alone earns",
    "pipeline": "what the pipeline itself wrote",
    "unknown": "scored without keeping a record",
}
OPEN = 2
"""Groups of metrics of a task that are shown; further ones are folded."""


def section(context: ReportContext) -> str:
    """All tasks that were scored; those set but not scored are named."""
    parts = []
    wanted = list(context.settings.get("bench") or {})
    if not context.results:
        parts.append(context.absent("No task was scored for this dataset."))
    parts.append(
        context.text(
            "In each figure the models are points and the controls are lines with their names: a score says something "
            "only by its distance from them. Intervals in brackets are 95 % bootstrap intervals over the units counted "
            "in the last columns; where there are too few units none is given. A model's name leads to its record."
        )
    )
    for task, entries in context.results.items():
        parts.append(board(context, task, entries))
    for task in sorted(set(wanted) - set(context.results)):
        parts.append(context.absent(f"The task {task} is set in the parameters but was not scored."))
    return context.join(parts)


def board(context: ReportContext, task: str, entries: list[Entry]) -> str:
    """One task."""
    judged = context.inputs.judgements.get(task)
    parts = [context.heading(task_title(task), listed=task)]
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
    parts += failures(context, entries)
    parts += judgement(context, task, entries, judged)
    for i, (title, keys) in enumerate(shown):
        suffix = "" if i == 0 else f"_{i + 1}"
        name = f"leaderboard_{task}{suffix}"
        raw = title == RAW_MEANS
        note = (
            [] if not raw else [embedding_note(context, entries) if task == "embedding" else raw_note(context, entries)]
        )
        body = [board_figure(context, name, task, entries, keys, judged)] if len(entries) > 1 else []
        body.append(board_table(context, name, title or "Scores", entries, keys, judged))
        if i >= OPEN:
            parts += [*note, context.fold(f"{title}: {', '.join(m.key for m in keys)}", body)]
        else:
            parts += [*([context.heading(title, 4)] if title else []), *note, *body]
    keys = [m for _, found in shown for m in found]
    parts += details(context, task, judged)
    parts += remarks(context, task, entries)
    parts += confounded(context, task, entries)
    parts += by_source(context, task, entries, keys)
    parts += by_phase(context, task, entries, keys)
    parts += by_subgroup(context, task, entries, keys)
    parts += costs(context, task, entries)
    return context.join(parts)


def judgement(context: ReportContext, task: str, entries: list[Entry], judged: Judged | None) -> list[str]:
    """What verdicts rest on, the metrics that cannot tell, and every verdict in a folded table."""
    if judged is None:
        if task not in unjudged(context):
            return []
        where = f"records/{context.dataset}"
        return [
            context.note(
                f"No verdicts: this task was not judged. Make them with hyped bench judge {where} --task {task} "
                f"--out {where}/judgement/{task}, then the report again."
            )
        ]
    parts: list[str] = []
    main = main_sources(entries, judged)
    for source in judged.sources:
        name = f"{source}: " if len(judged.sources) > 1 else ""
        if judged.inference(source) and source in main:
            parts.append(context.text(f"Inference. {name}{judged.inference(source)}."))
        lines = judged.blind_lines(source)
        if lines and source in main:
            parts.append(context.text(f"{name}Metrics that cannot tell doing nothing from real data here:"))
            parts.append(context.items(lines))
        elif lines:
            parts.append(context.fold(f"{source}: metrics that cannot tell", [context.items(lines)]))
    return parts


def details(context: ReportContext, task: str, judged: Judged | None) -> list[str]:
    """Every verdict, what each metric can tell, and the judgement's own remarks, folded."""
    if judged is None:
        return []
    notes = [str(text) for text in judged.values.get("notes") or []]
    parts: list[str] = [verdict_sheet(context, task, judged)]
    if judged.values["calibration"]:
        parts.append(calibration_sheet(context, task, judged))
    if notes:
        parts.append(context.fold(f"Remarks on the judgement ({len(notes)})", [context.items(notes)]))
    return parts


def verdict_sheet(context: ReportContext, task: str, judged: Judged) -> str:
    """Every verdict: a line a source, metric and model."""
    columns = [
        "source",
        "metric",
        "can tell",
        "model",
        *(f"against {role}" for role in ROLES),
        "effect against",
        "effect",
        "lo",
        "hi",
        "p (Holm)",
    ]
    heads = ["source", "metric", "can tell", "model", "verdict", "effect", "against", "p (Holm)"]
    raw: list[list[Any]] = []
    shown: list[list[Any]] = []
    marks = []
    for source in judged.sources:
        for metric in judged.metrics(source):
            tells = judged.calibration(source, metric).get("can_tell", True)
            for model in judged.models(source, controls=True):
                rows = judged.verdicts(source, metric, model)
                if not rows:
                    continue
                words = {row["role"]: f"{row['word']}: {row['against']}" for row in rows}
                row = judged.leading(source, metric, model)
                against = row.get("against")
                value, low, high, p = (row.get(key) for key in ("effect", "lo", "hi", "p_holm"))
                text = said(rows)
                by_role = [words.get(role) for role in ROLES]
                raw.append([source, metric, tells, model, *by_role, against, value, low, high, p])
                ends = "" if low is None or high is None else f" ({number_text(low)} to {number_text(high)})"
                shown.append([source, metric, tells, model, Cell(text, mark=tone(text) if tells else "muted"),
                              Cell(f"{number_text(value)}{ends}", True), against, p])  # fmt: skip
                marks.append("" if tells else "blind")
    caption = f"Every verdict on {task}; effects are mean paired differences, above 0 is better for every metric"
    sheet = Table(caption, columns, raw, (heads, shown), marks)
    return context.table(f"verdicts_{task}", sheet, folded=f"Every verdict ({len(raw)})")


def calibration_sheet(context: ReportContext, task: str, judged: Judged) -> str:
    """What each metric can tell: its range between control and ceiling, held against what chance gives."""
    keys = ("source", "metric", "can_tell", "control", "control_score", "ceiling", "ceiling_score", "dynamic_range",
            "null_lo", "null_hi", "share_ceiling_better", "reason")  # fmt: skip
    rows = [[_plain(row.get(key)) for key in keys] for row in judged.values["calibration"]]
    marks = ["" if row.get("can_tell") else "blind" for row in judged.values["calibration"]]
    caption = (
        "Which metrics can tell: the difference between doing nothing and the ceiling must lie outside what chance "
        "gives (null_lo to null_hi), and the ceiling must win in more than half of the units"
    )
    return context.table(
        f"calibration_{task}",
        Table(caption, keys, rows, marks=marks),
        folded=f"What each metric can tell ({len(rows)})",
    )


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, float) else value


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
    return [context.alert(f"{e.model} has no scores: {e.status}. {e.reason}") for e in entries if e.status != "ok"]


def remarks(context: ReportContext, task: str, entries: list[Entry]) -> list[str]:
    """What the records say about the numbers: data ranges, units, warnings, roles."""
    parts = []
    roles = {e.kind for e in entries} & {"reference", "pipeline", "unknown"}
    if roles:
        parts.append(context.text("; ".join(f"{role}: {ROLE_WORDS[role]}" for role in sorted(roles)) + "."))
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
            f"{text} ({'all' if len(names) == len(entries) else ', '.join(names)})" for text, names in said_by.items()
        ]
        parts.append(context.fold(f"Remarks of the runs on {task} ({len(lines)})", [context.items(lines)]))
    return parts
