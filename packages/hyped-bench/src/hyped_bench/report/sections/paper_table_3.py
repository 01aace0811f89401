"""Table 3 (expression and embeddings) in the paper's layout, and the versions that tell a model from doing nothing."""

from __future__ import annotations

from typing import Any

from hyped_bench.report.context import Cell, ReportContext, Table
from hyped_bench.report.inputs import Entry
from hyped_bench.report.printed import PAPER_DATASET, TABLE_3
from hyped_bench.report.scoreboard import models_first
from hyped_bench.report.sections.paper_embedding import LONG, embedding_3
from hyped_bench.report.sections.paper_layout import (
    KEYS,
    NOT_COMPUTED,
    as_printed,
    conditions_rows,
    honest,
    number,
    paper_names,
)

PUBLISHED = "geneformer"
"""The model that runs the published weights; others of its architecture (``geneformer-tiny``) are not the paper's."""
GEARS = {"gears": "GEARS", "gears-reference": "GEARS (the original's arithmetic)"}
"""Models -> name under the paper's recipe; by other protocols they keep their own."""
RECIPE = "relabelled_control"
"""Protocol of the task `expression` that is the paper's for GEARS."""
def expression_rows(context: ReportContext, entries: list[Entry]) -> list[tuple[Entry, dict[str, Any]]]:
    """Rows of the task `expression`, with ``protocol`` and what the numbers are ``over``; the paper's recipe first.

    Perturbations come as the paper's GEARS rows have them. Where the units hold the paper's numbers on the source's
    top genes, these are what ``cosine``, ``mse``, ``mae`` and ``pearson`` become.
    """
    names = paper_names(context)
    printed = [perturbation for model, perturbation, *_ in TABLE_3 if model == "GEARS"]
    found = []
    for entry in entries:
        for row in conditions_rows(context, entry):
            protocol = protocol_of(entry, str(row["source"]))
            top = protocol.get("top_genes") if f"{KEYS[0]}_top" in row else None
            over = "all genes" if top is None else f"{top} genes by {protocol['top_genes_by']}"
            numbers = {k: row.get(k if top is None else f"{k}_top") for k in KEYS}
            found.append((entry, {**row, **numbers, "protocol": protocol["name"], "over": over}))

    def place(item: tuple[Entry, dict[str, Any]]) -> tuple[bool, bool, int, int]:
        entry, row = item
        label = names.get(str(row["perturbation"]), "")
        at = printed.index(label) if label in printed else len(printed)
        return row["protocol"] != RECIPE, entry.model not in GEARS, entries.index(entry), at

    return sorted(found, key=place)


def protocol_of(entry: Entry, source: str) -> dict[str, Any]:
    """What the models of a source saw, as the record has it."""
    facts = ((entry.record or {}).get("facts") or {}).get("protocol") or {}
    return facts.get(source) or {"name": "held_out"}


def called(entry: Entry, row: dict[str, Any]) -> str:
    """Model of a row: GEARS by the paper's recipe under its name there, with a word where it began untrained."""
    if row["protocol"] != RECIPE or entry.model not in GEARS:
        return entry.model
    return GEARS[entry.model] + ("" if pretrained(entry, row) else ", not pretrained")


def pretrained(entry: Entry, row: dict[str, Any]) -> str:
    """What the weights a row began with had learned from, as far as the record tells; empty where it began anew."""
    source, record = str(row["source"]), entry.record or {}
    told = ((record.get("facts") or {}).get("model") or {}).get(source) or {}
    started = (told.get(str(row.get("fold"))) or {}).get("started_from")
    if started is None:
        return ""
    first = started.get("from") or started
    cells, said = first.get("cells") or {}, str(first.get("source") or "the record does not say of which cells")
    if "train" in cells:
        perturbations = f"{first.get('conditions')} perturbations"
        said = f"trained on {cells['train']} cells ({cells.get('control', 0)} control) of {perturbations}"
    sources = (record.get("params") or {}).get("sources") or []
    configs = next((s.get("configs") or {} for s in sources if s.get("name") == source), {})
    folder = {**(record.get("config") or {}), **(configs.get(entry.model) or {})}.get("pretrained")
    said += f", folder {folder}" if folder else ""
    moved = (started.get("transferred") or {}).get("genes") or {}
    return said + (f"; {moved['shared']} of its genes are in this panel" if "shared" in moved else "")


def table_3(context: ReportContext) -> list[str]:
    """Expression and embeddings of the experiment's conditions."""
    names = paper_names(context)
    entries = models_first(context.results.get("expression", []))
    embedded = models_first(context.results.get("embedding", []))
    found = expression_rows(context, entries)
    recipe = [(entry, row) for entry, row in found if row["protocol"] == RECIPE]
    parts: list[str] = [context.heading("Table 3: expression, in the paper's layout", listed="Table 3")]
    heads = ["model", "role", "protocol", "over", "perturbation", "phase", "cosine", "MSE", "MAE", "Pearson"]
    rows: list[list[Any]] = []
    marks: list[str] = []
    said = list(dict.fromkeys(names.values())) or ["each condition"]

    def place(entry: Entry, row: dict[str, Any], model: str, protocol: str, over: str) -> None:
        label = names.get(str(row["perturbation"]), str(row["perturbation"]))
        numbers = [number(row.get(k)) for k in KEYS]
        rows.append([model, entry.kind, protocol, over, label, row["phase"], *numbers])
        marks.append("control" if entry.kind == "control" else "")

    def lacking(model: str, protocol: str, phase: str) -> None:
        rows.append([model, "paper's model", protocol, "", ", ".join(said), phase, *[NOT_COMPUTED] * 4])
        marks.append("")

    missing = []
    for entry in embedded:
        for row in conditions_rows(context, entry):
            place(entry, row, entry.model, "in silico", "embedding")
    if not any(e.model == PUBLISHED for e in embedded):
        missing.append(f"Geneformer ({why_no_geneformer(context)})")
        lacking("Geneformer", "in silico", "G1, S, G2/M")
    if not any(pretrained(entry, row) for entry, row in recipe if entry.model in GEARS):
        missing.append(f"GEARS ({why_no_gears(context)})")
        lacking("GEARS", RECIPE, "all")
    for entry, row in found:
        place(entry, row, called(entry, row), row["protocol"], row["over"])
    if context.dataset == PAPER_DATASET:
        for model, perturbation, phase, *values in TABLE_3:
            embeds = model != "GEARS"
            protocol, over = ("in silico", "embedding") if embeds else (RECIPE, "500 genes")
            rows.append([f"{model} (printed)", "paper", protocol, over, perturbation, phase, *values])
            marks.append("printed")
    raw = [[None if isinstance(v, Cell) else v for v in row] for row in rows]
    caption = "Table 3 with every model and control: predicted against measured mean expression or embedding, raw means"
    inside = [(entry, row) for entry in embedded for row in conditions_rows(context, entry)]
    # the published weights stand for Geneformer; GEARS is what its recipe was run with
    started = [(entry, row) for entry, row in recipe if pretrained(entry, row)]
    parts.append(as_printed(context, inside, started, names, ((PUBLISHED,), tuple(GEARS))))
    sheet = Table(caption, heads, raw, (heads, rows), marks)
    fold = f"The same numbers of every model and control ({len(rows)} rows)" if len(rows) > LONG else ""
    parts.append(context.table("table_3", sheet, folded=fold))
    parts += seen_3(context, said, rows, recipe)
    if entries and not found and not embedded:
        parts.append(
            context.absent("Table 3 has no scores: no source of the expression task holds the conditions.")
        )
    if missing:
        parts.append(context.absent("Not computed for Table 3: " + "; ".join(missing) + "."))
    parts.append(
        context.note(
            'These four numbers compare raw means, so predicting "nothing changes" scores almost as high; the paper '
            "reports no such control, the rows marked control are it. By the paper's recipe GEARS is first trained on "
            "another screen; then it sees control cells relabelled as the conditions, which trains it toward no "
            "change. Rows that began without the first half say so. Metrics on the change from control stand in the "
            "leaderboard of the expression task. Errors of embeddings (MSE, MAE) are in units of each model's "
            "own space and do not compare between models."
        )
    )
    parts += honest(context, recipe, names, tuple(GEARS))
    parts += honest_3(context, found, names)
    parts += embedding_3(context, embedded, names)
    return parts


def seen_3(
    context: ReportContext,
    said: list[str],
    rows: list[list[Any]],
    recipe: list[tuple[Entry, dict[str, Any]]],
) -> list[str]:
    """What the models had seen of the cells they were scored on."""
    parts: list[str] = []
    held = list(dict.fromkeys(str(r[4]) for r in rows if not isinstance(r[6], Cell) and r[1] != "paper"))
    if held:
        rest = [name for name in said if name not in held]
        text = f"Each condition was predicted by models that had not seen its cells ({', '.join(held)})."
        if rest:
            text += f" Not scored: {', '.join(rest)}, which models learn from."
        parts.append(context.text(text))
    says = dict.fromkeys(protocol_of(entry, str(row["source"])).get("says", "") for entry, row in recipe)
    parts += [context.note(f"Protocol {RECIPE}: {text}") for text in says if text]
    gears = [(called(entry, row), pretrained(entry, row)) for entry, row in recipe if entry.model in GEARS]
    began = [(model, text) for model, text in dict.fromkeys(gears) if text]
    parts += [context.note(f"{model} began with pretrained weights: {text}.") for model, text in began]
    if any(row["over"].endswith("by change") for _, row in recipe):
        parts.append(context.note("The genes were chosen by their true change: no model could have known them."))
    return parts


def why_no_gears(context: ReportContext) -> str:
    """Why there is no row of GEARS by the paper's recipe."""
    own = [e for e in context.results.get("expression", []) if e.model in GEARS]
    if not own:
        return "no such model was scored"
    failed = [e for e in own if e.status != "ok"]
    if len(failed) == len(own):
        return "; ".join(f"{e.status}: {e.reason}" if e.reason else e.status for e in failed)
    recipe = (row["protocol"] == RECIPE for _, row in expression_rows(context, own))
    if any(recipe):
        return "it was scored by the recipe's second half only, from weights that were not pretrained"
    return f"it was scored, but on no source of conditions with the protocol {RECIPE}"


def why_no_geneformer(context: ReportContext) -> str:
    """Why no model with the published weights is there."""
    own = [e for e in context.results.get("embedding", []) if e.model == PUBLISHED]
    if own:
        return f"{own[0].status}: {own[0].reason}" if own[0].reason else own[0].status
    kin = sorted(e.model for e in context.results.get("embedding", []) if e.model.startswith(PUBLISHED))
    if kin:
        one = len(kin) == 1
        return f"{', '.join(kin)} {'has its' if one else 'have its'} architecture, not the published weights"
    return "embeddings by phase: no model of the task embedding was scored"


def honest_3(
    context: ReportContext, found: list[tuple[Entry, dict[str, Any]]], names: dict[str, str]
) -> list[str]:
    """The same conditions by the change from control, over all genes."""
    keys = ("pearson_delta", "cosine_delta", "mse_relative", "energy_distance")
    rows, marks = [], []
    for entry, row in found:
        label = names.get(str(row["perturbation"]), str(row["perturbation"]))
        cells = row.get("n_cells")
        count = int(cells) if cells == cells and cells is not None else None
        rows.append([entry.model, entry.kind, row["protocol"], label, *(number(row.get(k)) for k in keys), count])
        marks.append("control" if entry.kind == "control" else "")
    if not rows:
        return []
    heads = ["model", "role", "protocol", "perturbation", *keys, "n_cells"]
    caption = "Table 3, honest version: the same predictions by their change from control, all genes"
    fold = f"{caption} ({len(rows)} rows)" if len(rows) > LONG else ""
    return [context.table("table_3_change", Table(caption, heads, rows, marks=marks), folded=fold)]
