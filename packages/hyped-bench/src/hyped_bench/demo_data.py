"""A tiny simulated experiment, numpy only: dividing nuclei, and cells with hashtags and conditions.

It exists to show the benchmark at work in a minute; the simulator proper is in hyped-imaging and hyped-seq.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_core.design import Design, default_design

if TYPE_CHECKING:
    from anndata import AnnData

FRAMES, EDGE, INTERVAL_H = 14, 128, 1 / 3
CHANNELS = ("Cy5", "mKate", "TagGFP")
GENES = 200
SCENE = "S0"


@dataclass(slots=True)
class Nucleus:
    """A nucleus while the movie runs."""

    track: int
    parent: int
    y: float
    x: float
    radius: float
    age_h: float
    cycle_h: float


@dataclass(slots=True)
class DemoMovie:
    """What the movie's simulator made: frames (t, c, y, x), clean ones, labels (t, y, x) and true tracks."""

    noisy: npt.NDArray[np.uint16]
    clean: npt.NDArray[np.uint16]
    labels: npt.NDArray[np.int32]
    tracks: pd.DataFrame
    time_h: npt.NDArray[np.float64]


def simulate_movie(rng: np.random.Generator) -> DemoMovie:
    """Nuclei that wander, touch and divide under Poisson and read noise (camera units, 14 bits)."""
    alive: list[Nucleus] = []
    while len(alive) < 22:
        y, x = rng.uniform(8, EDGE - 8, 2)
        if all(np.hypot(y - n.y, x - n.x) > 11 for n in alive):
            alive.append(
                Nucleus(
                    len(alive) + 1, 0, y, x, rng.uniform(4.5, 6.0), rng.uniform(0, 12), rng.uniform(10, 14)
                )
            )
    count = len(alive)
    grid = np.mgrid[:EDGE, :EDGE]
    clean = np.zeros((FRAMES, len(CHANNELS), EDGE, EDGE))
    labels = np.zeros((FRAMES, EDGE, EDGE), dtype=np.int32)
    rows: list[dict[str, Any]] = []
    for frame in range(FRAMES):
        after: list[Nucleus] = []
        for nucleus in alive:
            nucleus.age_h += INTERVAL_H
            if frame and nucleus.age_h > nucleus.cycle_h:
                angle = rng.uniform(0, np.pi)
                for side in (-1, 1):
                    count += 1
                    shift = side * 0.8 * nucleus.radius * np.array([np.sin(angle), np.cos(angle)])
                    after.append(
                        Nucleus(
                            count, nucleus.track, nucleus.y + shift[0], nucleus.x + shift[1], 4.2, 0.0, 12.0
                        )
                    )
                continue
            nucleus.y, nucleus.x = np.clip([nucleus.y, nucleus.x] + rng.normal(0, 1.2, 2), 4, EDGE - 4)
            after.append(nucleus)
        alive = after
        depth = np.full((EDGE, EDGE), 1.0)
        for label, nucleus in enumerate(alive, start=1):
            away = np.hypot(grid[0] - nucleus.y, grid[1] - nucleus.x) / nucleus.radius
            mine = away < depth
            labels[frame][mine] = label
            depth = np.minimum(depth, away)
            profile = np.clip(1.3 - away, 0, 1) ** 0.5
            late = min(nucleus.age_h / nucleus.cycle_h, 1.0)
            for channel, level in enumerate((900.0, 700.0 * (late < 0.55), 700.0 * (late > 0.45))):
                clean[frame, channel] = np.maximum(clean[frame, channel], level * profile)
            rows.append(
                {
                    "scene": SCENE, "frame": frame, "time_h": frame * INTERVAL_H, "label": label,
                    "track_id": nucleus.track, "parent_id": nucleus.parent,
                    "y_um": nucleus.y, "x_um": nucleus.x,
                    "phase": "G1" if late <= 0.45 else "G1S" if late < 0.55 else "S_G2M",
                    "area_um2": np.pi * nucleus.radius**2,
                }
            )  # fmt: skip
    clean += 300.0
    noisy = rng.poisson(clean / 4) * 4 + rng.normal(0, 25, clean.shape) + 100
    tracks = pd.DataFrame(rows)
    visible = {(f, n) for f in range(FRAMES) for n in np.unique(labels[f])}
    kept = [(f, n) in visible for f, n in zip(tracks["frame"], tracks["label"], strict=True)]
    return DemoMovie(
        np.clip(np.rint(noisy), 0, 16383).astype(np.uint16),
        np.rint(clean + 100).astype(np.uint16),
        labels,
        tracks[kept].reset_index(drop=True),
        np.arange(FRAMES) * INTERVAL_H,
    )


def simulate_cells(
    rng: np.random.Generator, design: Design, per_tag: int = 60
) -> tuple[AnnData, AnnData, pd.DataFrame]:
    """(rna, hto, truth) of cells of every hashtag, doublets too; effects add up in most genes."""
    import anndata
    import scipy.sparse as sp

    genes = [change.gene for c in design.conditions for change in c.perturbation]
    names = sorted(set(genes)) + [f"GENE{i:03d}" for i in range(GENES - len(set(genes)))]
    base = rng.gamma(0.6, 1.0, GENES)
    effect = {gene: rng.normal(0, 0.9, GENES) * (rng.random(GENES) < 0.15) for gene in sorted(set(genes))}
    joint = rng.normal(0, 0.8, GENES) * (rng.random(GENES) < 0.05)
    pools = {pool.name: rng.normal(0, 0.12, GENES) for pool in design.pools}
    conditions = {c.name: [change.gene for change in c.perturbation] for c in design.conditions}
    tags = sorted({tag.tag for tag in design.hashtags})
    obs, counts, hashes = [], [], []
    for tag in design.hashtags:
        shift = sum((effect[g] for g in conditions[tag.condition]), np.zeros(GENES)) + pools[tag.pool]
        if len(conditions[tag.condition]) > 1:
            shift = shift + joint
        rate = base * np.exp(shift)
        others = [t.tag for t in design.hashtags if t.pool == tag.pool and t.tag != tag.tag]
        own = {t.tag for t in design.hashtags if t.pool == tag.pool}
        for _ in range(per_tag):
            double = rng.random() < 0.06
            depth = rng.lognormal(np.log(1500), 0.3)
            counts.append(rng.poisson(rate / rate.sum() * depth))
            second = str(rng.choice(others)) if double else ""
            level = {t: 0.0 if t not in own else 3.0 for t in tags}
            for t in (tag.tag, second) if second else (tag.tag,):
                level[t] += rng.lognormal(np.log(40), 0.7)
            hashes.append(rng.poisson([level[t] for t in tags]))
            code = "".join(rng.choice(list("ACGT"), 16))
            obs.append(
                {
                    "barcode": code, "pool": tag.pool, "condition": "" if double else tag.condition,
                    "phase": tag.phase or "", "kind": "doublet" if double else "singlet",
                    "tags": tag.tag + (f"+{second}" if second else ""),
                }
            )  # fmt: skip
    truth = pd.DataFrame(obs)
    index = pd.Index(truth["pool"] + "_" + truth["barcode"], dtype=object)
    table = pd.DataFrame(
        {
            "pool": truth["pool"], "hashtag_call": truth["tags"].where(truth["kind"] == "singlet", "Doublet"),
            "hashtag_kind": truth["kind"], "assigned_condition": truth["condition"],
            "condition": truth["condition"],
            "assigned_phase": truth["phase"], "phase": truth["phase"],
        }
    ).set_axis(index)  # fmt: skip
    raw = np.array(counts, dtype=np.float32)
    logs = np.log1p(raw / raw.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
    rna = anndata.AnnData(
        sp.csr_matrix(logs),
        obs=table,
        var=pd.DataFrame(index=pd.Index(names, dtype=object)),
        layers={"counts": sp.csr_matrix(raw)},
    )
    tagged = sp.csr_matrix(np.array(hashes, dtype=np.float32))
    hto = anndata.AnnData(
        tagged,
        obs=table.copy(),
        var=pd.DataFrame(index=pd.Index(tags, dtype=object)),
        layers={"counts": tagged.copy()},
    )
    return rna, hto, truth


def write_demo(folder: Path, seed: int = 0) -> dict[str, Any]:
    """Write ``demo.hyped`` and ``truth/`` into ``folder``; returns the benchmark's parameters for them."""
    from hyped_core.container.assembly import assemble
    from hyped_core.container.movies import LabelsWriter, write_movie

    design = default_design()
    movie = simulate_movie(np.random.default_rng([seed, 1]))
    rna, hto, cells = simulate_cells(np.random.default_rng([seed, 2]), design)
    container, truth = folder / "demo.hyped", folder / "truth"
    facts: dict[str, Any] = {
        "channels": CHANNELS,
        "pixel_size_um": 1.0,
        "time_h": movie.time_h,
        "data_range": (0, 16383),
    }
    write_movie(container / "movies" / f"{SCENE}.zarr", movie.noisy, **facts)
    write_movie(truth / "clean" / f"{SCENE}.zarr", movie.clean, **facts)
    with LabelsWriter(
        container / "labels" / f"{SCENE}.zarr",
        shape=movie.labels.shape,
        pixel_size_um=1.0,
        time_h=movie.time_h,
        source=f"../../movies/{SCENE}.zarr",
    ) as writer:
        for index, frame in enumerate(movie.labels):
            writer.write_frame(index, frame)
    movie.tracks.to_parquet(truth / "tracks.parquet", index=False)
    cells.to_parquet(truth / "cells.parquet", index=False)
    assemble(
        container,
        design=design,
        name="demo",
        nuclei=[truth / "tracks.parquet"],
        tables={"rna": rna, "hto": hto},
    )
    scene, labels = f"{container}/movies/{SCENE}.zarr", f"{container}/labels/{SCENE}.zarr"
    tracks, clean = f"{truth}/tracks.parquet", f"{truth}/clean/{SCENE}.zarr"
    return {
        "denoise": {
            "sources": [
                {"name": "demo", "noisy": scene, "reference": "clean", "clean": clean, "frames": [0, 5, 10]}
            ]
        },
        "segment": {"sources": [{"name": "demo", "movie": scene, "truth": labels, "frames": [0, 7, 13]}]},
        "track": {"sources": [{"name": "demo", "table": tracks, "scene": SCENE}]},
        "demultiplex": {
            "sources": [
                {
                    "name": pool.name,
                    "counts": str(container),
                    "pool": pool.name,
                    "truth": f"{truth}/cells.parquet",
                }
                for pool in design.pools
            ]
        },
        "expression": {
            "sources": [
                {
                    "name": "conditions",
                    "cells": str(container),
                    "kind": "conditions",
                }
            ]
        },
    }
