"""What the containers hold, and what they do not."""

from __future__ import annotations

from typing import Any

from hyped_bench.report.context import ReportContext, Table
from hyped_bench.report.inputs import Container

PARTS = {
    "movies": "movies",
    "labels": "segmented labels",
    "rna": "gene counts",
    "isoform": "transcript counts",
    "hto": "hashtag counts",
    "nuclei": "nuclei",
    "tracks": "tracks",
}


def section(context: ReportContext) -> str:
    """One row a container, and below it the movies' sizes and hours."""
    if not context.containers:
        return context.join([context.absent("No container was found for this dataset."), *data_card(context)])
    rows = [row(container) for container in context.containers]
    heads = ["container", "movies", "nuclei", "tracks", "cells (rna)", "genes", "size (MB)", "absent"]
    parts = [
        context.table("containers", Table("Containers of this dataset, and what each lacks", heads, rows)),
    ]
    missing = set(PARTS).intersection(*(set(c.summary["absent"]) for c in context.containers))
    for name in PARTS:
        if name in missing:
            parts.append(context.absent(f"No container of this dataset holds {PARTS[name]}."))
    scenes = [scene_row(c.name, s, v) for c in context.containers for s, v in c.summary["scenes"].items()]
    if scenes:
        heads = ["container", "scene", "condition", "replicate", "frames", "height", "width", "pixel (um)"]
        heads += ["first hour", "last hour", "longest gap (h)", "channels"]
        table = Table("Movies and labels", heads, scenes)
        parts.append(context.table("scenes", table, folded=f"{len(scenes)} scenes in detail"))
    links = [link for c in context.containers for link in c.summary["links"]]
    if links:
        said = sorted({link_text(link) for link in links})
        parts.append(context.text("Nuclei and cells are never paired one to one. What may be compared:"))
        parts.append(context.items(said))
    return context.join([*parts, *data_card(context)])


def data_card(context: ReportContext) -> list[str]:
    """The dataset's card, folded, with links to it and to its Croissant metadata."""
    files = [path.name for path in context.inputs.cards]
    text = next((p.read_text(encoding="utf-8") for p in context.inputs.cards if p.suffix == ".md"), "")
    if not text:
        return [context.absent("This dataset has no data card (data/<dataset>/card.md).")]
    return [context.fold("Data card: what these data are, where they come from and what they may be used for",
                         [context.document(text, files)], anchor="data-card")]  # fmt: skip


def link_text(link: dict[str, Any]) -> str:
    """A link between the modalities in words."""
    beware = "; ".join(link["beware"])
    return f"{link['by']}: {link['how']}" + (f" (beware: {beware})" if beware else "")


def row(container: Container) -> list[Any]:
    """A container's line."""
    summary = container.summary
    tables = summary["tables"]
    rna = tables.get("rna") or {}
    size = summary["n_bytes"]
    return [
        container.name,
        len(container.data.movies) or None,
        (tables.get("nuclei") or {}).get("n_obs"),
        (tables.get("tracks") or {}).get("n_obs"),
        rna.get("n_obs"),
        rna.get("n_vars"),
        None if size is None else round(size / 1e6, 1),
        ", ".join(summary["absent"]) or "nothing",
    ]


def scene_row(name: str, scene: str, values: dict[str, Any]) -> list[Any]:
    """A scene's line."""
    frames = values.get("movie") or values.get("labels") or {}
    shape = frames.get("shape") or [None, None, None]
    hours = frames.get("time_h") or [None, None]
    return [
        name,
        scene,
        values["condition"],
        values["replicate"],
        shape[0],
        shape[-2],
        shape[-1],
        frames.get("pixel_size_um"),
        *(None if h is None else round(float(h), 2) for h in hours),
        frames.get("longest_gap_h"),
        ", ".join(frames.get("channels") or []) or "labels only",
    ]
