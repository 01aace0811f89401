"""Figure 2b to d: cells in two dimensions by phase and by condition, and the genes that differ most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_bench.report.charts import (
    PALE,
    PHASE_COLOURS,
    Chart,
    Panel,
    Series,
    condition_colours,
)
from hyped_bench.report.context import ReportContext, Table
from hyped_bench.report.inputs import Container

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

MAX_POINTS = 6000
"""More cells than this are thinned out evenly for the page."""
TOP = 10


def section(context: ReportContext) -> str:
    """For every container with an embedding."""
    with_cells = [c for c in context.containers if c.has("rna")]
    if not with_cells:
        return context.absent("No container holds sequenced cells: Figure 2b to d are not drawn.")
    parts: list[str] = []
    drawn = [c for c in with_cells if "X_tsne" in c.data.table("rna").obsm]
    for i, container in enumerate(drawn):
        suffix = f"_{i + 1}" if len(drawn) > 1 else ""
        if len(with_cells) > 1:
            parts.append(context.heading(f"Container {container.name}"))
        parts += maps(context, container, suffix)
        parts += genes(context, container, suffix)
    others = [c.name for c in with_cells if c not in drawn]
    if others:
        parts.append(
            context.absent(
                f"The cells of {', '.join(others)} have no t-SNE (they were imported, not annotated)."
            )
        )
    return context.join(parts)


def maps(context: ReportContext, container: Container, suffix: str) -> list[str]:
    """t-SNE by phase and by condition, side by side."""
    table = container.data.table("rna")
    count = table.n_obs
    keep = np.arange(count) if count <= MAX_POINTS else np.linspace(0, count - 1, MAX_POINTS).astype(int)
    place = np.asarray(table.obsm["X_tsne"])[keep, :2]
    thinned = "" if count <= MAX_POINTS else f", {MAX_POINTS} of {count} cells drawn"
    conditions = [c.name for c in container.data.design.conditions]
    palettes = {"phase": PHASE_COLOURS, "condition": condition_colours(conditions)}
    parts, drawn = [], []
    for letter, column, order in (("b", "phase", ["G1", "S", "G2M"]), ("c", "condition", conditions)):
        if column not in table.obs:
            parts.append(context.absent(f"Figure 2{letter} is not drawn: the cells have no {column}."))
            continue
        values = table.obs[column].astype(str).to_numpy()[keep]
        values = np.where(np.isin(values, order), values, "not known")
        names = [n for n in [*order, "not known"] if (values == n).any()]
        colours = palettes[column]
        series = tuple(
            Series(n, place[values == n, 0].tolist(), place[values == n, 1].tolist(), colours.get(n, PALE))
            for n in names
        )
        tally = ", ".join(
            f"{n} {int((table.obs[column].astype(str) == n).sum())}" for n in names if n != "not known"
        )
        caption = f"Figure 2{letter}: t-SNE of the cells by {column} ({tally}{thinned})."
        panel = Panel("points", x_label="t-SNE 1", y_label="t-SNE 2", series=series)
        legend = tuple((n, colours.get(n, PALE)) for n in names)
        alt = f"Scatter of {len(keep)} cells by {column}: {tally}"
        drawn.append(
            context.chart(f"figure_2{letter}{suffix}", Chart(caption, alt, (panel,), legend, height=430))
        )
    parts.append(context.beside(drawn))
    source = table.obs.get("phase_source")
    if source is not None:
        tally = ", ".join(f"{k}: {v}" for k, v in source.astype(str).value_counts().sort_index().items() if k)
        parts.append(context.text(f"Where a cell's phase comes from: {tally}."))
    if container.data.design.flags.confounded:
        parts.append(
            context.note("In this map the control cells stand apart partly because they were captured apart.")
        )
    return parts


def genes(context: ReportContext, container: Container, suffix: str) -> list[str]:
    """Figure 2d: among the perturbed conditions, and against control."""
    table = container.data.table("rna")
    found: Any = table.uns.get("top_genes")
    if found is None or not {"contrast", "gene", "rank", "log2_fold_change", "p_adjusted"} <= set(
        found.columns
    ):
        return [context.absent("Figure 2d is not drawn: the cells hold no differential expression.")]
    top = found.assign(contrast=found["contrast"].astype(str), gene=found["gene"].astype(str))
    if "phase" in top:
        top = top[top["phase"].astype(str) == "all"]
    parts: list[str] = []
    kinds = (
        (
            "rest",
            "perturbed conditions against one another",
            top["contrast"].str.endswith("_vs_rest"),
        ),
        ("control", "conditions against control", top["contrast"].str.endswith("_vs_control")),
    )
    panels = []
    for _, words, mask in kinds:
        if mask.any():
            panels.append(heat(container, table, best_genes(top[mask]), words))
    if not panels:  # two perturbed conditions and no control: the one contrast is neither
        panels.append(heat(container, table, best_genes(top), "conditions against one another"))
    panels = [p for p in panels if p.matrix]
    if panels:
        warned = sorted({w for w in top.get("warning", []) if isinstance(w, str) and w})
        caption = (
            f"Figure 2d: the {TOP} genes that differ most across conditions; mean ln(1 + counts per 10,000) of each "
            "condition, less the gene's mean over the conditions shown."
        )
        listing = "; ".join(f"{p.title}: {', '.join(p.rows)}" for p in panels)
        chart = Chart(caption, f"Heat maps of gene expression. {listing}", tuple(panels), height=420)
        parts.append(context.chart(f"figure_2d{suffix}", chart))
        if warned:
            parts.append(context.alert("Differential expression: " + "; ".join(warned) + "."))
    for said in sorted({str(text) for text in top.get("inference", []) if text}):
        parts.append(context.note(f"P-values: {said}."))
    columns = (
        "contrast", "rank", "gene", "log2_fold_change", "p_adjusted", "n_group", "n_reference", "warning",
    )  # fmt: skip
    names = [c for c in columns if c in top]
    rows = [[_plain(v) for v in row] for row in top[names].itertuples(index=False)]
    sheet = Table("Top genes of every contrast", names, rows)
    parts.append(context.table(f"top_genes{suffix}", sheet, folded="Top genes of every contrast"))
    return parts


def best_genes(top: pd.DataFrame) -> list[str]:
    """The ten genes that rank highest in any of the contrasts, ties by the larger fold change."""
    order = top.assign(size=-top["log2_fold_change"].abs()).sort_values(
        ["rank", "size", "gene"], kind="stable"
    )
    return list(dict.fromkeys(order["gene"]))[:TOP]


def heat(container: Container, table: AnnData, chosen: list[str], words: str) -> Panel:
    """Genes (rows) by conditions (columns), each gene's mean taken out."""
    labels = (
        table.var["symbol"].astype(str) if "symbol" in table.var else table.var_names.to_series().astype(str)
    )
    symbols = labels.to_numpy()
    names = table.var_names.astype(str).to_numpy()
    places = {
        g: int(np.flatnonzero((symbols == g) | (names == g))[0]) for g in chosen if g in symbols or g in names
    }
    conditions = table.obs["condition"].astype(str).to_numpy()
    shown = [c.name for c in container.data.design.conditions if (conditions == c.name).any()]
    if "one another" in words:
        shown = [name for name in shown if name != "control"]
    block = table.X[:, list(places.values())] if places else np.zeros((table.n_obs, 0))
    block = np.asarray(block.todense() if hasattr(block, "todense") else block, dtype=float)
    means = np.array([block[conditions == name].mean(axis=0) for name in shown]).T
    centred = means - means.mean(axis=1, keepdims=True) if means.size else means
    matrix = tuple(tuple(float(v) for v in row) for row in centred)
    return Panel(
        "heat", words, matrix=matrix, rows=tuple(places), columns=tuple(shown), colour_label="difference"
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
