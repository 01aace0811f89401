"""Sections of the summary page about what was captured: pools, tags, calls, reads, quality."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from hyped_core.design import Design
from hyped_core.process import page as shell
from hyped_seq.process import charts
from hyped_seq.process.facts import tag_counts
from hyped_seq.process.held import Held
from hyped_seq.process.words import percent, plain, share

_READS = {
    "reads": "all",
    "used": "used",
    "no_adapter": "lost: no adapter",
    "both_strands": "lost: an adapter on either strand",
    "no_barcode": "lost: no cell barcode of the whitelist",
    "ambiguous_barcode": "lost: two cell barcodes fit",
    "too_short": "lost: ends before the UMI does",
    "n_in_umi": "lost: UMI with an N",
    "no_tag": "lost: no tag of the design",
    "ambiguous_tag": "lost: two tags fit",
    "corrected_barcodes": "used, cell barcode corrected",
    "corrected_tags": "used, tag with errors",
    "molecules": "molecules",
}


def knee(summary: Mapping[str, Any], held: Held, _: Design) -> str:
    """Molecules by rank, and medians of each pool."""
    if "n_counts" not in held.captured:
        return ""
    pools = held.captured["pool"].astype(str)
    counts = {name: held.captured.loc[(pools == name).to_numpy(), "n_counts"].to_numpy() for name in summary["pools"]}
    bounds = {pool: found.get("min_counts", 0.0) for pool, found in summary["quality"]["bounds"].items()}
    rows = [[html.escape(pool), facts["cells"], plain(facts.get("median_n_counts")),
             plain(facts.get("median_n_genes")), plain(facts.get("median_mito_pct")), facts["kept"]]
            for pool, facts in summary["pools"].items()]  # fmt: skip
    heads = ["pool", "cells", "median molecules", "median genes", "median mito %", "kept"]
    return charts.knee(counts, bounds) + shell.table(heads, rows) + shell.note(
        "A step down at the right end parts cells from empty droplets; dashed: the least that is kept. Matrices of "
        "wf-single-cell hold called cells only, so there may be no step."
    )


def tags(summary: Mapping[str, Any], held: Held, _: Design) -> str:
    """Counts of each tag in cells called for it and in others."""
    if not summary["tags"]:
        return ""
    parts = []
    for pool, tags in summary["tags"].items():
        shades = charts.colours(list(tags))
        parts.append(f"<h3>{html.escape(pool)}</h3>")
        for tag, facts in tags.items():
            called, others = tag_counts(held, pool, tag)
            groups = {"others": (others, charts.GREY), "called": (called, shades[tag])}
            shown = "" if facts["separation"] is None else f"separation {facts['separation']:.3f}"
            parts.append(charts.histograms(f"{tag}: {facts['condition']} {facts['phase']}", groups, log=True,
                                           label=shown, share=True))  # fmt: skip
    return "".join(parts) + shell.note(
        "Counts of each tag (log scale) in cells called for it (colour) and in the pool's other cells (grey), each "
        "scaled to its highest bin. Separation: the chance that a called cell has more of the tag than another one; "
        "0.5 is none, 1 is complete. The calls were made from these counts, so it is an upper bound."
    )


def calls(summary: Mapping[str, Any], _: Held, __: Design) -> str:
    """Singlets by tag, doublets and negatives."""
    rows = []
    for pool, facts in summary["calls"].items():
        for tag, found in summary["tags"].get(pool, {}).items():
            stands = " ".join(filter(None, [found["condition"], found["phase"]]))
            rows.append([html.escape(pool), html.escape(f"{tag}"), html.escape(stands), found["singlets"],
                         share(found["singlets"], facts["cells"]), found["kept"],
                         plain(found["mean_probability"])])  # fmt: skip
        if pool not in summary["tags"]:
            rows.append([html.escape(pool), "no hashtags", "the pool's condition", facts["singlet"],
                         share(facts["singlet"], facts["cells"]), facts["kept_singlet"], "-"])  # fmt: skip
            continue
        for kind in ("doublet", "negative"):
            rows.append([html.escape(pool), kind, "", facts[kind], share(facts[kind], facts["cells"]),
                         facts[f"kept_{kind}"], "-"])  # fmt: skip
    heads = ["pool", "call", "stands for", "cells", "share of the pool", "kept by quality", "mean probability"]
    return shell.table(heads, rows) + shell.note(
        "Cells are called before the quality filter; the file holds those that it kept. Doublets and negatives stay, "
        "marked by hashtag_kind."
    )


def reads(summary: Mapping[str, Any], _: Held, __: Design) -> str:
    """Where the reads of the hashing libraries went."""
    reports = summary["hashtag_reads"]
    if not reports:
        return ""
    rows = [[words, *(_of_reads(name, report) for report in reports.values())] for name, words in _READS.items()]
    said = {str(report["barcode_translation"]) for report in reports.values() if "barcode_translation" in report}
    translated = ", ".join(sorted(said - {"none"}))
    return shell.table(["hashtag reads", *map(html.escape, reports)], rows) + (
        shell.note(f"Cell barcodes were translated: {html.escape(translated)}.") if translated else ""
    )


def _of_reads(name: str, report: Mapping[str, Any]) -> str:
    """A number of reads with its share of all; molecules are no reads."""
    value = report.get(name, 0)
    return str(value) if name in ("reads", "molecules") else f"{value} ({share(value, report.get('reads', 0))})"


def quality(summary: Mapping[str, Any], held: Held, _: Design) -> str:
    """Figures of the cells with the bounds, why cells left, doublets and soup."""
    quality, parts, figures = summary["quality"], [], held.figures()
    names = {"n_counts": "molecules", "n_genes": "genes", "mito_pct": "mitochondrial %"}
    for pool in summary["pools"]:
        member = (held.captured["pool"].astype(str) == pool).to_numpy()
        rows = figures[member]
        kept = rows.index.isin(held.cells.index)
        bounds = quality["bounds"].get(pool, {})
        drawn = []
        for column, words in names.items():
            if column not in rows or rows[column].isna().all():
                continue
            values = rows[column].to_numpy(dtype=float)
            groups = {"removed": (values[~kept], charts.LINES[1]), "kept": (values[kept], charts.LINES[0])}
            marks = [bounds[f"{end}_{column}"] for end in ("min", "max") if bounds.get(f"{end}_{column}") is not None]
            marks += [bounds[f"{end}_{column[2:]}"] for end in ("min", "max") if column.startswith("n_")
                      and bounds.get(f"{end}_{column[2:]}") is not None]  # fmt: skip
            drawn.append(charts.histograms(f"{pool}: {words}", groups, log=column != "mito_pct", marks=marks))
        parts += [f"<div>{''.join(drawn)}</div>"] if drawn else []
    reasons = [[html.escape(reason), count] for reason, count in quality["reasons"].items()]
    if not parts and not reasons:
        return ""
    table = shell.table(["removed because", "cells"], reasons) if reasons else "<p>No cell was removed.</p>"
    return "".join(parts) + table + _doublets(summary) + shell.note(
        "Blue: kept; orange: removed; dashed: the bounds. A cell may have several reasons; removed.csv lists each."
    )


def _doublets(summary: Mapping[str, Any]) -> str:
    """What expression says of doublets and of the soup."""
    rows = []
    for pool, facts in summary["doublets"].items():
        soup = facts["ambient_share"]
        said = html.escape(facts["ambient_reason"] or "-") if soup is None else (
            f"{100 * soup:.1f} % ({percent(facts['ambient_low'])} to {percent(facts['ambient_high'])})")  # fmt: skip
        rows.append([html.escape(pool), plain(facts["predicted_singlets"]), said])
    heads = ["pool", "singlets by tag that look like two cells", "ambient molecules"]
    return shell.table(heads, rows) + shell.note(
        "Cells that look like two are a guess from expression, beside the calls; they stay unless you have them "
        "removed. In a simulation with 8 % doublets it expected 14 to 15 %, 61 % of the cells it marked were doublets, "
        "and it marked 45 % of the doublets."
    ) if rows else ""
