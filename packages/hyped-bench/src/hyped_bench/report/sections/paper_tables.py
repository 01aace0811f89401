"""Tables 3 and 4 in the paper's layout, with what was not computed said so, and the honest version beside them."""

from __future__ import annotations

from typing import Any

from hyped_bench.report.context import Cell, ReportContext, Table
from hyped_bench.report.inputs import Entry
from hyped_bench.report.printed import PAPER_DATASET, TABLE_3
from hyped_bench.report.scoreboard import models_first
from hyped_bench.report.sections.paper_table_4 import NOT_COMPUTED, table_4

KEYS = ("cosine", "mse", "mae", "pearson")


def section(context: ReportContext) -> str:
    """Both tables."""
    return context.join([*table_3(context), *table_4(context)])


def paper_names(context: ReportContext) -> dict[str, str]:
    """Perturbation as the metrics name it -> as the paper writes it (``+MYOD1``, ``-PRRX1``)."""
    found: dict[str, str] = {}
    for container in context.containers:
        for condition in container.data.design.conditions:
            if condition.perturbation:
                signs = {"activation": "+", "suppression": "-"}
                label = "".join(signs[c.direction] + c.gene for c in condition.perturbation)
                found["+".join(c.gene for c in condition.perturbation)] = label
                found[condition.name] = label
    return found


def conditions_rows(context: ReportContext, entry: Entry) -> list[dict[str, Any]]:
    """The entry's scores on the experiment's own conditions: perturbation, phase and the paper's metrics."""
    sources = {str(s["name"]) for s in entry.sources if s.get("kind") == "conditions"}
    units = entry.table("units")
    if units is None or not sources or "perturbation" not in units:
        return []
    chosen = units[units["source"].astype(str).isin(sources)].to_dict("records")
    order = list(paper_names(context))
    chosen.sort(
        key=lambda row: order.index(row["perturbation"]) if row["perturbation"] in order else len(order)
    )
    return [{**row, "phase": row.get("phase") or "all"} for row in chosen]


def table_3(context: ReportContext) -> list[str]:
    """Expression and embeddings of the experiment's conditions."""
    names = paper_names(context)
    entries = models_first(context.results.get("expression", []))
    embedded = models_first(context.results.get("embedding", []))
    parts = [context.heading("Table 3: expression, in the paper's layout")]
    heads = ["model", "role", "perturbation", "phase", "cosine", "MSE", "MAE", "Pearson"]
    rows: list[list[Any]] = []
    marks: list[str] = []
    said = list(dict.fromkeys(names.values())) or ["each condition"]
    for entry in [*embedded, *entries]:
        for row in conditions_rows(context, entry):
            label = names.get(str(row["perturbation"]), str(row["perturbation"]))
            rows.append([entry.model, entry.kind, label, row["phase"], *(_number(row.get(k)) for k in KEYS)])
            marks.append("control" if entry.kind == "control" else "")
    missing = []
    if not any(e.model.startswith("geneformer") for e in embedded):
        missing.append("Geneformer (embeddings by phase: no model of the task embedding was scored)")
        rows.append(["Geneformer", "paper's model", ", ".join(said), "G1, S, G2/M", *[NOT_COMPUTED] * 4])
        marks.append("")
    if not any(e.model == "gears" for e in entries):
        missing.append("GEARS (no such model was scored)")
        rows.append(["GEARS", "paper's model", ", ".join(said), "all", *[NOT_COMPUTED] * 4])
        marks.append("")
    if context.dataset == PAPER_DATASET:
        for model, perturbation, phase, *values in TABLE_3:
            rows.append([f"{model} (printed)", "paper", perturbation, phase, *values])
            marks.append("printed")
    raw = [[None if isinstance(v, Cell) else v for v in row] for row in rows]
    caption = "Table 3 of the paper: predicted against measured mean expression, raw means"
    parts.append(context.table("table_3", Table(caption, heads, raw, (heads, rows), marks)))
    held = list(dict.fromkeys(str(r[2]) for r in rows if not isinstance(r[4], Cell) and r[1] != "paper"))
    if held:
        rest = [name for name in said if name not in held]
        text = f"Each condition was predicted by models that had not seen its cells ({', '.join(held)})."
        if rest:
            text += f" Not scored: {', '.join(rest)}, which models learn from."
        parts.append(context.text(text))
    elif entries:
        parts.append(
            context.absent("Table 3 has no scores: no source of the expression task holds the conditions.")
        )
    if missing:
        parts.append(context.absent("Not computed for Table 3: " + "; ".join(missing) + "."))
    parts.append(
        context.note(
            'These four numbers compare raw means, so predicting "nothing changes" scores almost as high; the paper '
            "reports no such control, the rows marked control are it. By the paper's recipe GEARS sees control cells "
            "relabelled as the conditions, which trains it toward no change. Metrics on the change from control stand "
            "in the leaderboard of the expression task."
        )
    )
    parts += honest_3(context, entries, names)
    return parts


def honest_3(context: ReportContext, entries: list[Entry], names: dict[str, str]) -> list[str]:
    """The same conditions by the change from control."""
    keys = ("pearson_delta", "cosine_delta", "mse_relative", "energy_distance")
    rows, marks = [], []
    for entry in entries:
        for row in conditions_rows(context, entry):
            label = names.get(str(row["perturbation"]), str(row["perturbation"]))
            cells = row.get("n_cells")
            count = int(cells) if cells == cells and cells is not None else None
            rows.append([entry.model, entry.kind, label, *(_number(row.get(k)) for k in keys), count])
            marks.append("control" if entry.kind == "control" else "")
    if not rows:
        return []
    heads = ["model", "role", "perturbation", *keys, "n_cells"]
    caption = "Table 3, honest version: the same predictions by their change from control"
    return [context.table("table_3_change", Table(caption, heads, rows, marks=marks))]


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)
