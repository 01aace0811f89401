"""Table 3 for embeddings, honest version: what says whether a cosine of mean embeddings means anything."""

from __future__ import annotations

from hyped_bench.report.context import Cell, ReportContext, Table, number_text
from hyped_bench.report.inputs import Entry
from hyped_bench.report.sections.paper_layout import conditions_rows, number

LONG = 16
"""Tables of more rows than this are folded."""

RAW = {
    "cosine_matched": "in silico",
    "cosine_no_change_matched": "nothing changed",
    "cosine_other": "other conditions' cells",
    "cosine_half": "half against half",
}
"""Cosines of raw means on as many cells in every group."""
CHANGE = {
    "cosine_shift": "change",
    "null_p": "p",
    "cosine_shift_null": "random genes",
    "cosine_shift_other": "others' change",
    "cosine_shift_indirect": "indirect",
    "null_p_indirect": "p (indirect)",
    "cosine_shift_half": "half against half",
}
"""Cosines of the change from control."""
BETWEEN = {
    "cosine_shift_conditions": "change",
    "null_p_conditions": "p",
    "cosine_shift_conditions_null": "random genes",
    "cosine_shift_conditions_half": "half against half",
}
"""Cosines of the change against the other perturbed conditions."""
READING = {
    "raw": "How to read it: the first column means something only as far as it is above the second (the control cells "
    "as they are, against the same truth) and the third (the same prediction against the wrong conditions' cells); the "
    "last is what one half of the real cells reaches against the other.",
    "change": "How to read it: the direction of the predicted change against that of the true one; 0 is chance, doing "
    "nothing has no direction (0 stated). p is the share of draws in which random genes of the same expression, in "
    "place of the real ones, do as well (it cannot be below one over the draws plus one: 0.05 for 19, and some "
    "of many units reach it by chance); without a small p the model knows no more than that some gene was changed. "
    "The change of the perturbed genes themselves is part of both; indirect is against what is left of the true change "
    "when these genes are set alike in perturbed and control cells. Half against half is what real cells reach, with "
    "half as many cells on each side.",
    "between": "How to read it: as above, each condition against the mean of the other perturbed ones. Where all "
    "perturbed cells were captured in a pool of their own, the pool's effect is in every change from control and drops "
    "out here.",
}


def embedding_3(context: ReportContext, entries: list[Entry], names: dict[str, str]) -> list[str]:
    """What says whether the embeddings' numbers mean anything, per condition and phase: three tables."""
    found = [(entry, row) for entry in entries for row in conditions_rows(context, entry)]
    if not found:
        return []
    parts: list[str] = [context.heading("Table 3 for embeddings, honest version", 4)]
    for name, title, keys in (
        ("raw", "cosine of raw mean embeddings, as many cells in every group", RAW),
        ("change", "cosine of the change from control", CHANGE),
        ("between", "cosine of the change against the other perturbed conditions", BETWEEN),
    ):
        if all(number(row.get(key)) is None for _, row in found for key in keys):
            continue
        lead = next(iter(keys))
        ends = [] if keys is RAW else [f"{lead}_lo", f"{lead}_hi"]
        columns = ["model", "role", "perturbation", "phase", "n_matched", *keys, *ends]
        raw, shown, marks = [], [], []
        for entry, row in found:
            label = names.get(str(row["perturbation"]), str(row["perturbation"]))
            start = [entry.model, entry.kind, label, row["phase"], int(row["n_matched"])]
            values = [number(row.get(key)) for key in columns[5:]]
            raw.append([*start, *values])
            if keys is RAW:
                shown.append([*start, *map(_close_to_one, values)])
            else:
                shown.append([*start, _interval(values[0], *values[-2:]), *values[1:-2]])
            marks.append("control" if entry.kind == "control" else "")
        heads = ["model", "role", "perturbation", "phase", "cells a group", *keys.values()]
        caption = f"Table 3 for embeddings: {title}"
        sheet = Table(caption, columns, raw, (heads, shown), marks)
        fold = f"{title[:1].upper()}{title[1:]} ({len(raw)} rows)" if len(raw) > LONG else ""
        parts.append(context.text(READING[name]))
        parts.append(context.table(f"table_3_embedding_{name}", sheet, folded=fold))
    parts.append(
        context.note(
            "Intervals in brackets are over cells within each group, 95 %: wells were not kept apart, so they say how "
            "sure these cells make a number, not what another experiment would give. Every model learned from control "
            "cells only, and predicted before it was shown a perturbed one."
        )
    )
    return parts


def _close_to_one(value: float | None) -> Cell:
    """A cosine with six decimals: those of raw means differ late."""
    return Cell.of(None) if value is None else Cell(f"{value:.6f}", number=True)


def _interval(value: float | None, low: float | None, high: float | None) -> Cell:
    text = number_text(value)
    if value is not None and low is not None and high is not None:
        text += f" ({number_text(low)} to {number_text(high)})"
    return Cell(text, number=True)
