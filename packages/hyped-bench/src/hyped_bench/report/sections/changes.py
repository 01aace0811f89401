"""What changes between conditions: how many genes and isoforms, which isoforms switch, and whether dose matters."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from hyped_bench.report.context import ReportContext, Table, number_text
from hyped_bench.report.inputs import Container

TOP_SWITCHES = 10
SWITCH_COLUMNS = (
    "contrast", "gene", "transcript", "delta", "share_group", "share_reference", "p_adjusted", "warning",
)  # fmt: skip


def section(context: ReportContext) -> str:
    """For every container whose cells were annotated."""
    found = [(c, record) for c in context.containers if c.has("rna") and (record := changes_record(c)) is not None]
    if not found:
        return context.absent("No container holds contrasts between conditions: what changes is not shown.")
    parts: list[str] = []
    for i, (container, record) in enumerate(found):
        suffix = f"_{i + 1}" if len(found) > 1 else ""
        if len(found) > 1:
            parts.append(context.heading(f"Container {container.name}"))
        parts += numbers(context, container, record, suffix)
        parts += switches(context, container, suffix)
        parts += doses(context, record, suffix)
    return context.join(parts)


def changes_record(container: Container) -> dict[str, Any] | None:
    """What `hyped seq annotate` noted of the contrasts; None where cells were imported."""
    note = container.data.table("rna").uns.get("annotate_json")
    record = json.loads(str(note)).get("changes") if note else None
    return record if record and record.get("contrasts") else None


def numbers(context: ReportContext, container: Container, record: dict[str, Any], suffix: str) -> list[str]:
    """Genes and isoforms found in each contrast, with the contrast's warning."""
    top = frame(container, "top_genes")
    warnings = {} if top is None else dict(zip(top["contrast"], top["warning"], strict=True))
    genes = (record.get("expression") or {}).get("found_at_fdr_0.05", {})
    isoforms = (record.get("isoforms") or {}).get("found_at_fdr_0.05", {})
    rows = [
        [name, genes.get(name), isoforms.get(name), (warnings[name] or "none") if name in warnings else "not tested"]
        for name in record["contrasts"]
    ]
    sheet = Table(
        "Genes and genes with changed isoform usage at a false discovery rate of 5 %, all phases together",
        ["contrast", "genes", "isoform usage", "read with care"], rows,
    )  # fmt: skip
    parts: list[str] = [context.table(f"changes{suffix}", sheet)]
    if record.get("inference"):
        parts.append(context.note(f"P-values: {record['inference']}."))
    parts += [context.note(f"{text[:1].upper()}{text[1:]}.") for text in record.get("notes", [])]
    return parts


def switches(context: ReportContext, container: Container, suffix: str) -> list[str]:
    """The isoforms whose share of their gene changes most surely."""
    top = frame(container, "top_isoforms")
    if top is None:
        return [context.absent("There are no counts of transcripts: isoform usage is not compared.")]
    sure = top[top["p_adjusted"] < 0.05]
    if sure.empty:
        return [context.text("No gene changes its isoform usage at a false discovery rate of 5 %.")]
    rest = sure[sure["reference"] == "rest"]
    shown = (rest if len(rest) else sure).sort_values(["p_adjusted", "contrast", "gene"], kind="stable")
    rows = [list(row) for row in shown[list(SWITCH_COLUMNS)].head(TOP_SWITCHES).itertuples(index=False)]
    which = "among the perturbed conditions" if len(rest) else "of all contrasts"
    caption = f"Surest isoform switches {which}; delta: change of the transcript's share of its gene's molecules"
    return [context.table(f"isoform_switches{suffix}", Table(caption, list(SWITCH_COLUMNS), rows))]


def doses(context: ReportContext, record: dict[str, Any], suffix: str) -> list[str]:
    """Does a cell with more of the perturbed gene respond more? By condition, gene and reference."""
    rows = []
    for condition, entry in ((record.get("dose") or {}).get("conditions") or {}).items():
        for reference, genes in entry.get("level_with_response", {}).items():
            for gene, values in genes.items():
                given = values.get("spearman_given_depth_and_phase")
                rows.append([condition, reference, gene, values.get("n"), *(given or [None, None, None])])
    if not rows:
        return []
    sheet = Table(
        "Rank correlation of a perturbed gene's level with the cell's response, depth and phase held fixed, with its "
        "95 % interval",
        ["condition", "response against", "gene", "cells", "correlation", "low", "high"], rows,
    )  # fmt: skip
    clear = [r for r in rows if r[5] is not None and (r[5] > 0 or r[6] < 0)]
    clear.sort(key=lambda r: -abs(r[4]))
    said = f"{len(clear)} of {len(rows)} intervals exclude 0" + (
        ", largest in " + "; ".join(f"{r[2]} in {r[0]} against {r[1]} {number_text(r[4])}" for r in clear[:4])
        if clear
        else ""
    )
    return [context.text(f"Dose: {said}."), context.table(f"dose{suffix}", sheet, folded="Dose and response")]


def frame(container: Container, name: str) -> pd.DataFrame | None:
    """A table of ``uns``, texts as str."""
    found = container.data.table("rna").uns.get(name)
    if not isinstance(found, pd.DataFrame) or found.empty:
        return None
    texts = [c for c in found.columns if not pd.api.types.is_numeric_dtype(found[c])]
    return found.astype(dict.fromkeys(texts, str))
