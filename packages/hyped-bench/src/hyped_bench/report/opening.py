"""What a reader meets first: how to read the page, and what the judgements say in short."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from hyped_bench.report.breakdowns import AGAINST
from hyped_bench.report.context import Cell, ReportContext, Table
from hyped_bench.report.verdicts import Judged, counted, said

TERMS = (
    (
        "Task",
        "A question with a hidden answer: cells that no model may see, nuclei whose outlines are known, a "
        "perturbation whose effect was measured. A model answers, the answer is scored.",
    ),
    (
        "Control",
        "A model that does nothing, or only what is obvious: it returns the control cells, the noisy image, the mean "
        "of what was trained on. Controls run on every task and are the labelled grey lines of every plot. A score "
        "says something only by its distance from them.",
    ),
    (
        "Reference",
        "No model: it sees the truth. The dashed lines: a second half of the real cells (duplicate) shows how far "
        "noise lets anyone come, wrong or shuffled answers show what similarity alone earns.",
    ),
    (
        "Interval",
        "95 %. What it is over is said beside each task: perturbations, images, or only the cells within conditions. "
        "In the last case it says nothing of perturbations that were not measured.",
    ),
    (
        "Verdict",
        "Better than, worse than or indistinguishable from a control: paired differences over the same units, "
        "corrected for the number of models. No verdict is given on a metric that cannot tell doing nothing from real "
        "data on this dataset; such metrics are greyed, with the reason.",
    ),
)


def reading(context: ReportContext) -> Markup:
    """The page in a few sentences, for who has not read the paper."""
    has = {kind for c in context.containers for kind in ("movies", "rna") if _has(c, kind)}
    what = {
        frozenset({"movies", "rna"}): "Cells under perturbation were filmed under the microscope and, in other wells, "
        "sequenced one by one. The two kinds of data are of different cells and are never joined cell to cell.",
        frozenset({"movies"}): "Cells were filmed under the microscope.",
        frozenset({"rna"}): "Cells under perturbation were sequenced one by one.",
    }.get(frozenset(has), "")
    if what and context.settings.get("simulated"):
        what = "These data are simulated: no cell was measured, and the truth is known. They stand for this. " + what
    lead = (
        f"{what} This page shows what was measured, and how well models segment, track, denoise and sort these data or "
        "predict what a perturbation does, each beside models that do next to nothing. It is one file, needs no "
        "network, and every table and figure on it can be downloaded. A model's name leads to how its numbers came "
        "about."
    )
    terms = Markup("").join(Markup("<dt>{}</dt><dd>{}</dd>\n").format(name, text) for name, text in TERMS)
    return context.text(lead.strip()) + Markup('<dl class="terms">\n{}</dl>').format(terms)


def _has(container: Any, kind: str) -> bool:
    return bool(len(container.data.movies)) if kind == "movies" else container.has("rna")


def summary(context: ReportContext) -> Markup:
    """Verdicts of all judged tasks in one table, what could not be judged, failures and warnings."""
    parts: list[str] = []
    heads, rows = verdict_rows(context)
    if rows:
        caption = (
            "Each model against doing nothing, simple models and the best control, by the leading metric that can tell"
        )
        shown = []
        for task, source, model, lead, text, size, tally in rows:
            first = Cell(task, href=f"#{board_anchor(task)}")
            words = Cell(text, mark=f"long {tone(text)}".strip())
            shown.append([first, source, model, lead, words, Cell(size.replace(" (", "\n("), mark="ends"),
                          Cell(tally, mark="tight")])  # fmt: skip
        short = [*heads[:5], "effect", "all metrics"]
        caption += (
            ". The last column counts the verdicts against doing nothing over all metrics that can tell. Effects are "
            "mean paired differences from doing nothing (else from the best control), above 0 is better. "
            "Verdicts are corrected for the number of models, intervals are not"
        )
        parts.append(context.table("verdicts", Table(caption, heads, rows, (short, shown), stacked=True)))
        for task, judged in context.inputs.judgements.items():
            parts += [context.alert(text) for text in missing(task, judged)]
    lacking = unjudged(context)
    if lacking:
        where = f"records/{context.dataset}"
        parts.append(
            context.note(
                f"Not judged: {', '.join(lacking)}. Their scores are shown without verdicts; to make them: "
                f"hyped bench judge {where} --task TASK --out {where}/judgement/TASK"
            )
        )
    failed = [e for e in context.inputs.entries if e.status != "ok"]
    if failed:
        parts.append(context.text("Without scores:"))
        parts.append(context.items(f"{e.model} on {e.task}: {e.status}. {e.reason}" for e in failed))
    if not rows and not lacking and not failed:
        parts.append(context.text("No models were compared on this dataset."))
    for title, texts in (("Beware", context.placed.alerts), ("Not here", context.placed.absent)):
        if texts:
            parts.append(context.fold(f"{title}: {len(texts)} remarks of the sections below", [context.items(texts)]))
    return context.join(parts)


def board_anchor(task: str) -> str:
    """Where a task's leaderboard stands on the page."""
    return f"leaderboards-{task.replace('_', '-')}"


def tone(text: str) -> str:
    """Class of a verdict's cell: nothing but better; worse than doing nothing, or no other than it; "" for the rest."""
    if text.startswith("better"):
        return "" if "worse" in text or "indistinguishable" in text else "good"
    return "bad" if text.startswith(("worse", "returns")) else ""


def verdict_rows(context: ReportContext) -> tuple[list[str], list[list[Any]]]:
    """One line a model, task and source: verdict by the leading metric, and the tally over all that can tell."""
    tally_head = "against doing nothing, all metrics that can tell"
    heads = ["task", "source", "model", "metric", "verdict", "effect", tally_head]
    rows: list[list[Any]] = []
    for task, judged in context.inputs.judgements.items():
        for source in judged.sources:
            lead, models = judged.lead(source), judged.models(source)
            row = judged.calibration(source, lead)
            why = f"no metric can tell: {row.get('reason') or 'no reason given'}" if row and not row["can_tell"] else ""
            if not why and not any(judged.decided(source, model) for model in models):
                why = f"no verdict: {judged.inference(source) or 'no intervals'}"
            if why and models:
                rows.append([task, source, f"all {len(models)}", f"all {len(judged.metrics(source))}", why, "", ""])
                continue
            free = next((b for a, b in AGAINST if a == lead), "") if judged.confounded(source) else ""
            for model in models:
                text = said(judged.verdicts(source, lead, model))
                if free in judged.metrics(source):
                    other = said(judged.verdicts(source, free, model))
                    text = f"confounded with the capture pool: {text}. Free of it ({free}): {other}"
                size, tally = effect(judged, source, lead, model), counted(judged.tally(source, model))
                rows.append([task, source, model, lead, text, size, tally])
    return heads, rows


def effect(judged: Judged, source: str, metric: str, model: str) -> str:
    """Mean difference from doing nothing (else from the best control) with its interval; more is better."""
    row = judged.leading(source, metric, model)
    value, low, high = (row.get(key) for key in ("effect", "lo", "hi"))
    if value is None:
        return ""
    text = f"{value:+.3g}"
    return text if low is None or high is None else f"{text} ({low:.3g} to {high:.3g})"


def unjudged(context: ReportContext) -> list[str]:
    """Tasks on which models stand beside controls, but nothing was judged."""
    return [
        task
        for task, entries in context.results.items()
        if task not in context.inputs.judgements and {"model", "control"} <= {e.kind for e in entries}
    ]


def missing(task: str, judged: Judged) -> list[str]:
    """Controls that should have been there."""
    found = []
    for item in judged.values.get("missing_controls") or []:
        name = ", ".join(str(v) for v in item.values()) if isinstance(item, dict) else str(item)
        found.append(f"On {task} a control is missing: {name}. Verdicts against it are not given.")
    return found
