"""Quality: how well tiles meet at the seams, and what the hashtags called in each pool."""

from __future__ import annotations

import json
from typing import Any

from hyped_bench.report.charts import GREY, PALETTE, Chart, Panel, Series, condition_colours
from hyped_bench.report.context import ReportContext, Table
from hyped_bench.report.inputs import Container

KINDS = ("singlet", "doublet", "negative")


def section(context: ReportContext) -> str:
    """Seams, then hashtags."""
    return context.join([*seams(context), *hashtags(context)])


def seams(context: ReportContext) -> list[str]:
    """Disagreement of neighbouring tiles where they overlap, before and after registration, by scene."""
    parts: list[str] = [context.heading("Stitching seams")]
    entries = [e for e in context.results.get("stitch", []) if e.status == "ok"]
    units = next((t for t in (e.table("units") for e in entries) if t is not None), None)
    if units is None or "seam_error" not in units:
        return [*parts, context.absent("No stitching was scored: its seams are not shown.")]
    scenes = units["source"].astype(str).tolist()
    values = {k: [_plain(v) for v in units[k]] for k in units.columns if k != "source"}
    series = []
    if "seam_error_before" in values:
        series.append(Series("stage positions", values["seam_error_before"], scenes, GREY))
    series.append(Series("registered", values["seam_error"], scenes, PALETTE[0]))
    known = [v for v in values["seam_error"] if v is not None]
    panels = [Panel("intervals", "seam error", series=tuple(series))]
    if any(v is not None for v in values.get("residual_px", [])):
        own = (Series("registered", values["residual_px"], scenes, PALETTE[0]),)
        panels.append(Panel("intervals", "residual of overlaps (px)", series=own))
    chart = Chart(
        "How much neighbouring tiles disagree where they overlap, by scene: at the stage's positions and after "
        "registration.",
        f"Seam errors of {len(scenes)} scenes" + (f", {min(known):.3g} to {max(known):.3g}" if known else ""),
        tuple(panels),
        tuple((s.name, s.colour) for s in series),
        height=110 + 20 * len(scenes),
    )
    rows = [[scene, *(values[k][i] for k in values)] for i, scene in enumerate(scenes)]
    table = Table("Stitching by scene", ["scene", *values], rows)
    return [*parts, context.chart("seams", chart), context.table("seams", table, folded="Stitching by scene")]


def hashtags(context: ReportContext) -> list[str]:
    """Calls per pool: kinds, and conditions of the singlets."""
    parts: list[str] = [context.heading("Demultiplexing")]
    found = [
        (c, c.data.table("rna" if c.has("rna") else "hto").obs) for c in context.containers if _called(c)
    ]
    if not found:
        return [*parts, context.absent("No container holds hashtag calls: demultiplexing is not shown.")]
    for i, (container, cells) in enumerate(found):
        suffix = f"_{i + 1}" if len(found) > 1 else ""
        parts += calls(context, container, cells, suffix)
    return parts


def _called(container: Container) -> bool:
    table = next((t for t in ("rna", "hto") if container.has(t)), None)
    if table is None or not container.has("hto"):
        return False
    obs = container.data.table(table).obs
    return {"pool", "hashtag_kind", "assigned_condition"} <= set(obs.columns)


def calls(context: ReportContext, container: Container, cells: Any, suffix: str) -> list[str]:
    """One container's calls."""
    pool, kind = cells["pool"].astype(str), cells["hashtag_kind"].astype(str)
    condition = cells["assigned_condition"].astype(str).where(kind == "singlet", "")
    pools = sorted(set(pool))
    if not kind.isin(KINDS).any():
        return [context.absent(f"Container {container.name}: hashtags were counted, but no cell has a call.")]
    known = [c.name for c in container.data.design.conditions] if container.data.design.conditions else []
    named = [c for c in known if (condition == c).any()] + sorted(set(condition) - set(known) - {""})
    colours = condition_colours(named)
    extra = {"doublet": "#d55e00", "negative": "#a6761d"}
    groups = [(n, (condition == n) & (kind == "singlet"), colours[n]) for n in named]
    groups += [(k, kind == k, extra[k]) for k in ("doublet", "negative")]
    series = tuple(
        Series(name, pools, [int((mask & (pool == p)).sum()) for p in pools], colour)
        for name, mask, colour in groups
    )
    legend = tuple((s.name, s.colour) for s in series)
    panel = Panel("bars", y_label="cells", series=series)
    rows = [
        [p, *(int((mask & (pool == p)).sum()) for _, mask, _ in groups), int((pool == p).sum())]
        for p in pools
    ]
    title = f"Container {container.name}: hashtag calls by pool (cells kept after quality control)"
    chart = Chart(
        title + ".", f"Stacked bars of hashtag calls in pools {', '.join(pools)}", (panel,), legend, 340
    )
    table = Table(title, ["pool", *(g[0] for g in groups), "all"], rows)
    parts: list[str] = [context.chart(f"hashtags_called{suffix}", chart)]
    parts.append(context.table(f"hashtags_called{suffix}", table))
    note = container.data.table("rna").uns.get("annotate_json") if container.has("rna") else None
    if note:
        record = json.loads(str(note))
        parts.append(context.text(f"Removed by quality control: {record.get('removed', 'not said')} cells."))
        keep = {k: record[k] for k in ("kinds", "thresholds") if k in record}
        parts.append(context.fold("Thresholds of quality control", [context.pairs(keep)]))
    return parts


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and value != value else value
