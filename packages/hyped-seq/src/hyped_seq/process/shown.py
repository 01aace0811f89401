"""Sections of the summary page about what the cells show: phases, embedding, and what changes."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from hyped_core.design import Design
from hyped_core.process import page as shell
from hyped_seq.process import charts
from hyped_seq.process.facts import PHASES
from hyped_seq.process.held import Held
from hyped_seq.process.words import interval, plain, share

_MAPS = {"X_tsne": "t-SNE", "X_umap": "UMAP", "X_pca": "first two principal components"}
_TOLD = {
    "held_out_accuracy": "classifier, held-out sorted cells",
    "score_accuracy": "gene score, the same cells",
    "agreement_classifier_score_unsorted": "classifier and gene score agree, other cells",
}
_ISOFORM_COLUMNS = ("gene", "transcript", "share_group", "share_reference", "p_adjusted")
_FACETS_ABOVE = len(charts.PALETTE)


def phases(summary: Mapping[str, Any], held: Held, _: Design) -> str:
    """Shares of phases and how well they are told."""
    phases = summary["phases"]
    if "rna" not in summary["features"]:
        return ""
    parts = [f"<p>{html.escape(str(phases.get('method', 'no phases')))}.</p>"]
    found = phases.get("fractions", {})
    if found:
        shares = {name: {phase: facts["shares"][phase][0] for phase in PHASES} for name, facts in found.items()}
        notes = {name: f"{facts['cells']} cells" + (", set by the sorter" if facts["sorted"] else "")
                 for name, facts in found.items()}  # fmt: skip
        parts.append(charts.stacked(shares, charts.PHASE_COLOURS, notes))
        rows = [[html.escape(name), *(interval(facts["shares"][phase]) for phase in PHASES)]
                for name, facts in found.items()]  # fmt: skip
        parts.append(shell.table(["condition", *PHASES], rows))
        parts.append(shell.note("Singlets as called; 95 % intervals (Wilson) count cells as units."))
    parts.append(_composition(phases.get("composition", {})))
    told = [[words, _accuracy(phases, key)] for key, words in _TOLD.items() if phases.get(key) is not None]
    if told:
        parts.append(shell.table(["how well phases are told", "right or alike"], told))
    if phases.get("confusion"):
        columns = [name for name in PHASES if name in phases["confusion"]]
        rows = [[true, *(phases["confusion"][true].get(name, 0) for name in columns)] for true in columns]
        parts.append(shell.table(["sorted into, called (columns)", *columns], rows))
    parts.append(_agreement(held))
    return "".join(parts)


def _composition(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Shares that the classifier's calls point to once its errors are taken out, where the step gives bounds."""
    rows = []
    for name, shares in groups.items():
        if all(f"{phase}{end}" in shares for phase in PHASES for end in ("", "_lo", "_hi")):
            bounds = [[shares[f"{phase}{end}"] for end in ("", "_lo", "_hi")] for phase in PHASES]
            rows.append([html.escape(name), plain(shares.get("cells")), *map(interval, bounds)])
    heads = ["cells that were not sorted, errors taken out", "cells", *PHASES]
    return shell.table(heads, rows) if rows else ""


def _accuracy(phases: Mapping[str, Any], key: str) -> str:
    """A share in percent, with its bounds where they are known."""
    low, high = phases.get(f"{key}_lo"), phases.get(f"{key}_hi")
    bounds = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * phases[key]:.1f} %{bounds}"


def _agreement(held: Held) -> str:
    """The classifier's call against the gene score's, over cells that were not sorted."""
    cells = held.cells
    if not {"phase_classifier", "phase_score", "assigned_phase"} <= set(cells.columns):
        return ""
    other = cells[(cells["assigned_phase"].astype(str) == "") & (cells["phase_classifier"].astype(str) != "")]
    if other.empty:
        return ""
    called, scored = other["phase_classifier"].astype(str), other["phase_score"].astype(str)
    rows = [[name, *(int(((called == name) & (scored == column)).sum()) for column in PHASES)] for name in PHASES]
    return shell.table(["not sorted: classifier, by gene score (columns)", *PHASES], rows)


def embedding(summary: Mapping[str, Any], held: Held, design: Design) -> str:
    """The map of the cells by phase, by condition and by pool."""
    if held.embedding is None:
        return ""
    name, places = held.embedding
    cells, words, parts = held.cells, _MAPS[name], []
    if "phase" in cells:
        parts.append(charts.cell_map(places, list(cells["phase"].astype(str)), charts.PHASE_COLOURS, f"{words}, phase"))
    conditions = list(cells["condition"].astype(str))
    names = [item.name for item in design.conditions if item.name in set(conditions)]
    if len(names) <= _FACETS_ABOVE:
        parts.append(charts.cell_map(places, conditions, charts.colours(names), f"{words}, condition"))
    else:
        for condition in names:
            one = [found if found == condition else "" for found in conditions]
            shades = {condition: charts.LINES[0], "": charts.GREY}
            parts.append(charts.cell_map(places, one, shades, f"{words}, {condition}"))
    if len(summary["pools"]) > 1:
        pools = list(cells["pool"].astype(str))
        parts.append(charts.cell_map(places, pools, charts.colours(list(summary["pools"])), f"{words}, pool"))
    return "".join(parts)


def genes(summary: Mapping[str, Any], _: Held, __: Design) -> str:
    """The first genes of every contrast."""
    parts: list[str] = []
    for contrast in summary["contrasts"]:
        rows = [(str(row["gene"]), float(row["log2_fold_change"] or 0.0), f"; {row.get('pct_group') or 0:.0f} / "
                 f"{row.get('pct_reference') or 0:.0f} %") for row in contrast["top"]]  # fmt: skip
        parts.append(_contrast(contrast, charts.bars(_title(contrast), rows), "genes"))
    return "" if not parts else _inference(summary["contrasts"]) + "".join(parts) + shell.note(
        "The ten genes that differ most; log2 fold change of means, then percent of cells that express the gene in "
        "the condition and in its reference. All genes, also within phases: de.csv in the steps' folder."
    )


def isoforms(summary: Mapping[str, Any], _: Held, __: Design) -> str:
    """Genes whose transcripts shift."""
    parts: list[str] = []
    for contrast in summary["isoforms"]:
        shown = [row for row in contrast["top"] if row.get("p_adjusted") is not None and row["p_adjusted"] < 0.05]
        columns = [name for name in _ISOFORM_COLUMNS if shown and name in shown[0]]
        rows = [[html.escape(plain(row[name])) for name in columns] for row in shown]
        body = shell.table([name.replace("_", " ") for name in columns], rows) if rows else "<p>None at 5 % FDR.</p>"
        parts.append(_contrast(contrast, body, "genes switch isoforms", wide=True))
    return "" if not parts else _inference(summary["isoforms"]) + "".join(parts)


def dose(summary: Mapping[str, Any], _: Held, __: Design) -> str:
    """Level of the perturbed genes and response."""
    rows = [[html.escape(row["condition"]), html.escape(row["gene"]), html.escape(row["reference"]), row["cells"],
             share(row["responders"], 1) if row["responders"] is not None else "-", plain(row["spearman"])]
            for row in summary["dose"]]  # fmt: skip
    if not rows:
        return ""
    heads = ["condition", "perturbed gene", "against", "cells", "respond", "level and response (Spearman)"]
    return shell.table(heads, rows) + shell.note(
        "Response: how far a cell has moved from the reference (0) to its condition's mean (1), along a direction "
        "that other cells set; a cell responds where it lies beyond 95 % of the reference's cells. dose.csv has each."
    )


def _title(contrast: Mapping[str, Any]) -> str:
    return f"{contrast['group']} against {contrast['reference']}" if "group" in contrast else contrast["contrast"]


def _contrast(contrast: Mapping[str, Any], body: str, what: str, wide: bool = False) -> str:
    warning = contrast.get("warning") or ""
    said = f"<p class=warn>&#9888; {html.escape(warning)}</p>" if warning else ""
    sizes = f"{contrast['n_group']} against {contrast['n_reference']} cells; " if "n_group" in contrast else ""
    count = f"{sizes}{contrast.get('significant', 0)} {what} at 5 % FDR"
    kind = "contrast wide" if wide else "contrast"
    return f'<div class="{kind}"><b>{html.escape(_title(contrast))}</b>{said}{body}<p><small>{count}.</small></p></div>'


def _inference(contrasts: Sequence[Mapping[str, Any]]) -> str:
    """What the p-values take for units."""
    said = dict.fromkeys(contrast.get("inference") or "" for contrast in contrasts)
    return "".join(f"<p>P-values: {html.escape(text)}.</p>" for text in said if text)
