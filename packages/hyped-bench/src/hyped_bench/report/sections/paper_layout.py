"""Table 3 as the paper prints it: rows of Geneformer and GEARS, beside the printed numbers for the paper's own data."""

from __future__ import annotations

from typing import Any

from hyped_bench.report.context import Cell, ReportContext, Table
from hyped_bench.report.inputs import Entry
from hyped_bench.report.printed import PAPER_DATASET, TABLE_3

NOT_COMPUTED = Cell("not computed", number=True)
NUMBERS = ("cosine", "MSE", "MAE", "Pearson")
KEYS = ("cosine", "mse", "mae", "pearson")


PHASES = {"G2M": "G2/M"}
"""Phases as the paper writes them."""


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
    """The entry's scores on the experiment's own conditions: sources, then perturbations in the design's order."""
    sources = [str(s["name"]) for s in entry.sources if s.get("kind") == "conditions"]
    units = entry.table("units")
    if units is None or not sources or "perturbation" not in units:
        return []
    chosen = units[units["source"].astype(str).isin(sources)].to_dict("records")
    order = list(paper_names(context))

    def place(row: dict[str, Any]) -> tuple[int, int]:
        name = row["perturbation"]
        return sources.index(str(row["source"])), order.index(name) if name in order else len(order)

    chosen.sort(key=place)
    return [{**row, "phase": PHASES.get(row.get("phase"), row.get("phase") or "all")} for row in chosen]


def as_printed(
    context: ReportContext,
    embedded: list[tuple[Entry, dict[str, Any]]],
    recipe: list[tuple[Entry, dict[str, Any]]],
    names: dict[str, str],
    shown_as: tuple[tuple[str, ...], tuple[str, ...]],
) -> str:
    """The table.

    Parameters
    ----------
    embedded, recipe
        Rows of the task `embedding`, and rows of the task `expression` by the paper's recipe.
    names
        Perturbation as the units name it -> as the paper writes it.
    shown_as
        Models that stand for Geneformer, and those for GEARS: the first one that has the row.
    """
    printed = context.dataset == PAPER_DATASET
    # a dataset with other perturbations has rows of its own in the paper's order of models and phases
    labels = list(dict.fromkeys(names.values()))
    known = {label for _, label, *_ in TABLE_3}
    keys = [(m, label, phase) for m, label, phase, *_ in TABLE_3] if printed or known & set(labels) else []
    if not keys:
        keys = [("Geneformer", label, phase) for label in labels for phase in ("G1", "S", "G2/M")]
        keys += [("GEARS", label, "all") for label in labels]
    own = {"Geneformer": (embedded, shown_as[0]), "GEARS": (recipe, shown_as[1])}
    raw: list[list[Any]] = []
    shown: list[list[Any]] = []
    paper = {tuple(row[:3]): row[3:] for row in TABLE_3}
    for model, label, phase in keys:
        found, models = own[model]
        row = next(
            (
                (entry.model, row)
                for wanted in models
                for entry, row in found
                if entry.model == wanted and names.get(str(row["perturbation"])) == label and row["phase"] == phase
            ),
            None,
        )
        values = [None] * 4 if row is None else [number(row[1].get(key)) for key in KEYS]
        ours = [NOT_COMPUTED] * 4 if row is None else [four(value) for value in values]
        by = "" if row is None else row[0]
        beside = list(paper[model, label, phase]) if printed else []
        raw.append([model, label, phase, *values, *beside, by])
        shown.append([model, label, phase, *ours, *map(four, beside), by])
    heads = ["model", "perturbation", "phase", *NUMBERS]
    heads += [f"{name} (printed)" for name in NUMBERS] if printed else []
    heads.append("computed by")
    caption = "Table 3 as the paper prints it: predicted against measured means"
    caption += ", with the paper's numbers beside ours" if printed else ""
    return context.table("table_3_paper", Table(caption, heads, raw, (heads, shown)))


def honest(
    context: ReportContext, recipe: list[tuple[Entry, dict[str, Any]]], names: dict[str, str], models: tuple[str, ...]
) -> list[str]:
    """GEARS by the paper's recipe beside doing nothing and a second half of the real cells: raw, and by change."""
    keys = ("cosine", "pearson", "pearson_delta", "pearson_delta_train", "mse_relative", "energy_distance")
    beside = {"no_change": "doing nothing", "pool_effect": "the pool's shift only", "duplicate": "half the real cells"}
    rows, marks = [], []
    for label in names_of(names):
        for entry, row in recipe:
            if names.get(str(row["perturbation"])) == label and entry.model in (*models, *beside):
                said = beside.get(entry.model, "")
                rows.append([entry.model, said, label, *(number(row.get(key)) for key in keys)])
                marks.append("control" if entry.kind == "control" else "")
    if not rows:
        return []
    heads = ["model", "what it is", "perturbation", *keys]
    caption = (
        "Table 3, honest version: the same recipe beside doing nothing and the ceiling. cosine and pearson are of raw "
        "means; pearson_delta is of the change from control, pearson_delta_train of the change from the mean of "
        "what was trained on, which by this recipe is control cells; 0 is knowing nothing"
    )
    return [context.table("table_3_honest", Table(caption, heads, rows, marks=marks))]


def names_of(names: dict[str, str]) -> list[str]:
    """The perturbations as the paper writes them, in the order of its GEARS rows; others after them."""
    printed = [label for model, label, *_ in TABLE_3 if model == "GEARS"]
    found = list(dict.fromkeys(names.values()))
    return sorted(found, key=lambda label: printed.index(label) if label in printed else len(printed))


def four(value: float | None) -> Cell:
    """A number with four decimals, as the paper prints it."""
    return Cell.of(None) if value is None else Cell(f"{value:.4f}", number=True)


def number(value: Any) -> float | None:
    """A value of a table of units; None where it is undefined."""
    return None if value is None or value != value else float(value)
