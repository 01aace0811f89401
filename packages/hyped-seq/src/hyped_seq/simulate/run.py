"""The whole simulation: pools, reference, truth and screen, each written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from hyped_core.context import Progress, RunContext, SilentProgress
from hyped_core.design import Design, Perturbation
from hyped_core.design.model import CONTROL
from hyped_core.errors import DesignError, UsageError
from hyped_core.io.atomic import atomic_path, write_json
from hyped_core.simulate.programme import GeneProgramme
from hyped_seq.simulate.counts import pool_counts
from hyped_seq.simulate.hashtags import hashtag_counts, write_counts, write_reads
from hyped_seq.simulate.layout import write_pool, write_reference
from hyped_seq.simulate.params import SeqSimulationParams
from hyped_seq.simulate.population import (
    PoolCells,
    draw_pool,
    harvest_hours,
    phase_fractions,
)
from hyped_seq.simulate.screen import screen_perturbations, simulate_screen
from hyped_seq.simulate.truth import gene_table, transcript_table


def build_programme(design: Design, params: SeqSimulationParams, context: RunContext) -> GeneProgramme:
    """The gene programme of this seed, with the effects of the design's conditions and of the screen."""
    perturbations = [design.perturbation(c.name) for c in design.conditions]
    perturbations += screen_perturbations(params.screen, context)
    return GeneProgramme.build(params.programme, context.rng("programme"), perturbations)


def simulate_sequencing(
    out_raw: str | Path,
    out_truth: str | Path,
    params: SeqSimulationParams,
    design: Design,
    seed: int,
    *,
    screen: str | Path | None = None,
    screen_truth: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the pools of ``design`` to ``out_raw`` and the truth to ``out_truth``; both folders are replaced.

    ``out_raw/<pool>/`` is an output folder of wf-single-cell v3.1.0 with ``hashtags/counts.csv`` and
    ``hashtags/reads.fastq.gz`` inside; ``out_raw/reference.gtf.gz`` names genes and transcripts.
    ``out_truth`` holds ``cells.parquet``, ``genes.parquet``, ``transcripts.parquet``, ``fractions.csv`` and
    ``simulation.json``. ``screen`` and ``screen_truth`` are h5ad files; they may lie inside the two folders.
    The same seed gives the same bytes.

    Returns a record with numbers of cells, molecules and reads.

    Raises
    ------
    DesignError
        The design has no pools or a pool no hashtags.
    """
    out_raw, out_truth = Path(out_raw), Path(out_truth)
    raw_at, truth_at = out_raw.resolve(), out_truth.resolve()
    if raw_at.is_relative_to(truth_at) or truth_at.is_relative_to(raw_at):
        raise UsageError(
            "raw data and truth need two folders, neither inside the other",
            where=out_raw,
            mend="give another",
        )
    sizes = pool_sizes(design, params)
    params = params.resolved()
    context = RunContext(seed=seed, progress=progress or SilentProgress())
    programme = build_programme(design, params, context)
    with ExitStack() as stack:
        raw = stack.enter_context(atomic_path(out_raw))
        truth = stack.enter_context(atomic_path(out_truth))
        raw.mkdir()
        truth.mkdir()
        record: dict[str, Any] = {"seed": seed, "harvest_h": harvest_hours(design, params), "pools": {}}
        tables, fractions = [], {}
        for name, n in context.progress.track(list(sizes.items()), "pools"):
            pool, populations = draw_pool(design, name, n, params, context)
            record["pools"][name] = _write_one(raw / name, pool, programme, design, params, context)
            tables.append(pool.table)
            fractions |= {condition: phase_fractions(cells) for condition, cells in populations.items()}
        write_reference(raw / "reference.gtf.gz", programme)
        _write_truth(truth, pd.concat(tables, ignore_index=True), fractions, programme, design, record)
        if screen is not None or screen_truth is not None:
            perturbations = screen_perturbations(params.screen, context)
            made = simulate_screen(programme, perturbations, params.screen, context)
            folders = {out_raw: raw, out_truth: truth}
            for path, data in zip((screen, screen_truth), made, strict=True):
                if path is not None:
                    with _inside(Path(path), folders) as target:
                        data.write_h5ad(target, compression="gzip")
            record["screen"] = {"cells": made[0].n_obs, "perturbations": made[1].n_obs - 1}
    return record


def pool_sizes(design: Design, params: SeqSimulationParams) -> dict[str, int]:
    """Barcodes of each pool: those with control cells share ``control_share`` of all, the others the rest."""
    params = params.resolved()
    if not design.pools:
        raise DesignError(
            "names no pools, there is nothing to sequence", where=design.name, mend="list pools in the design"
        )
    control = [pool.name for pool in design.pools if CONTROL in pool.conditions]
    others = [pool.name for pool in design.pools if CONTROL not in pool.conditions]
    share = params.control_share if control and others else float(bool(control))
    sizes = {}
    for pool in design.pools:
        group, part = (control, share) if pool.name in control else (others, 1 - share)
        sizes[pool.name] = max(1, round(params.n_cells * part / len(group)))
    return sizes


def estimate(design: Design, params: SeqSimulationParams, screen: bool) -> dict[str, float]:
    """``disk_mb``, ``seconds`` and ``memory_mb`` that a simulation will take, from measured rates."""
    params = params.resolved()
    cells = sum(pool_sizes(design, params).values())
    genes, depth = params.programme.n_genes, params.capture.depth
    entries = 2.4 * cells * genes * -math.expm1(-0.45 * (depth / genes) ** 0.55)
    entries *= 2 if params.capture.processed else 1
    reads = min(cells * 42 * params.hashtags.reads_per_molecule, params.hashtags.max_reads)
    reads = reads if params.hashtags.write_reads else 0
    screened = (params.screen.singles + params.screen.doubles) * 50 + params.screen.controls if screen else 0
    drawn = (params.screen.singles + params.screen.doubles + 1) * params.screen.truth_cells if screen else 0
    disk = entries * 3.4 + reads * 65 + screened * genes * 2.8
    seconds = 2 + entries * 3e-7 + reads * 1.5e-5 + (cells + screened + drawn) * genes * 4e-8
    memory = 250 + params.chunk_cells * genes * 100 / 1e6 + screened * genes * 2e-5
    return {"disk_mb": round(disk / 1e6, 1), "seconds": round(seconds, 0), "memory_mb": round(memory, 0)}


def _write_one(
    folder: Path,
    pool: PoolCells,
    programme: GeneProgramme,
    design: Design,
    params: SeqSimulationParams,
    context: RunContext,
) -> dict[str, Any]:
    """One pool's matrices and hashtag library."""
    blocks = pool_counts(
        programme, pool, params.programme.mito_sd, params.chunk_cells, context.rng("counts", pool.name)
    )
    figures = write_pool(
        folder,
        pool,
        programme,
        context.progress.track(blocks, f"cells of {pool.name}"),
        read_rows=params.capture.read_summary_rows,
        processed=params.capture.processed,
        rng=context.rng("reads", pool.name),
    )
    pool.table["n_counts"] = figures["n_counts"].to_numpy()
    rng = context.rng("hashtags", pool.name)
    counts = hashtag_counts(pool, params.hashtags, rng)
    (folder / "hashtags").mkdir()
    barcodes = pool.table["barcode"].tolist()
    write_counts(folder / "hashtags" / "counts.csv", counts, barcodes, pool.tags)
    n_reads = 0
    if params.hashtags.write_reads:
        path = folder / "hashtags" / "reads.fastq.gz"
        n_reads = write_reads(path, counts, barcodes, design.pool_hashtags(pool.name), params.hashtags, rng)
    return {
        "barcodes": len(barcodes),
        "molecules": int(figures["n_counts"].sum()),
        "hashtag_molecules": int(counts.sum()),
        "hashtag_reads": n_reads,
    }


def _write_truth(
    folder: Path,
    cells: pd.DataFrame,
    fractions: dict[str, dict[str, float]],
    programme: GeneProgramme,
    design: Design,
    record: dict[str, Any],
) -> None:
    """The truth's tables."""
    cells.drop(columns="depth").to_parquet(folder / "cells.parquet", index=False)
    perturbations: list[Perturbation] = [design.perturbation(c.name) for c in design.conditions]
    gene_table(programme, perturbations).to_parquet(folder / "genes.parquet", index=False)
    transcript_table(programme, perturbations).to_parquet(folder / "transcripts.parquet", index=False)
    rows = [
        {"condition": condition, "time_h": record["harvest_h"], "phase": phase, "fraction": value}
        for condition, shares in fractions.items()
        for phase, value in shares.items()
    ]
    pd.DataFrame(rows).to_csv(folder / "fractions.csv", index=False, float_format="%.6f")
    write_json(folder / "simulation.json", record)


@contextmanager
def _inside(path: Path, folders: dict[Path, Path]) -> Iterator[Path]:
    """Where to write ``path`` now: in the temporary of a folder that holds it, else beside itself."""
    for final, temporary in folders.items():
        if path.resolve().is_relative_to(final.resolve()):
            target = temporary / path.resolve().relative_to(final.resolve())
            target.parent.mkdir(parents=True, exist_ok=True)
            yield target
            return
    with atomic_path(path) as target:
        yield target
