"""Fixtures of the sequencing tests: a simulated experiment, and hand-made pools small enough to break."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from hyped_core.design import Design, read_design


@dataclass(frozen=True)
class SeqWorld:
    """Folders of one simulated experiment and the truth about its cells (indexed ``<pool>_<barcode>``)."""

    raw: Path
    screen: Path
    screen_truth: Path
    cells: pd.DataFrame

    @property
    def pools(self) -> list[Path]:
        return [self.raw / "perturbed", self.raw / "control"]

    @property
    def calls(self) -> np.ndarray:
        """The call a perfect demultiplexer makes of each cell."""
        kind = self.cells["kind"].to_numpy()
        special = np.where(kind == "doublet", "Doublet", "Negative")
        return np.where(kind == "singlet", self.cells["tags"].astype(str), special)


@pytest.fixture(scope="session")
def seq_world(tmp_path_factory: pytest.TempPathFactory) -> SeqWorld:
    """The simulated experiment at its default difficulty, 900 cells, with its screen."""
    from hyped_core.design import default_design
    from hyped_seq.simulate.params import SeqSimulationParams
    from hyped_seq.simulate.run import simulate_sequencing

    folder = tmp_path_factory.mktemp("seq_world")
    params = SeqSimulationParams.model_validate({"n_cells": 900, "capture": {"processed": False}})
    simulate_sequencing(
        folder / "raw",
        folder / "truth",
        params,
        default_design(),
        seed=3,
        screen=folder / "screen.h5ad",
        screen_truth=folder / "screen_truth.h5ad",
    )
    cells = pd.read_parquet(folder / "truth" / "cells.parquet")
    cells.index = cells["pool"] + "_" + cells["barcode"]
    return SeqWorld(folder / "raw", folder / "screen.h5ad", folder / "screen_truth.h5ad", cells)


@pytest.fixture(scope="session")
def ingested(seq_world: SeqWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the simulated experiment after `ingest`."""
    from hyped_core.context import RunContext
    from hyped_core.design import default_design
    from hyped_seq.ingest.genes import read_gene_map
    from hyped_seq.ingest.params import IngestParams
    from hyped_seq.ingest.run import ingest_pools, write_ingested

    gene_map = read_gene_map(seq_world.raw / "reference.gtf.gz")
    result = ingest_pools(seq_world.pools, default_design(), IngestParams(), gene_map, context=RunContext())
    folder = tmp_path_factory.mktemp("ingested") / "ingest"
    write_ingested(result, folder)
    return folder


@pytest.fixture(scope="session")
def calls(ingested: Path) -> pd.DataFrame:
    """Table of calls of the simulated experiment."""
    import anndata

    from hyped_core.context import RunContext
    from hyped_core.design import default_design
    from hyped_seq.demultiplex.hashed import Hashed
    from hyped_seq.demultiplex.run import demultiplex

    hto = anndata.read_h5ad(ingested / "hto.h5ad")
    return demultiplex(hto, Hashed(), default_design(), context=RunContext())


@pytest.fixture(scope="session")
def annotated(ingested: Path, calls: pd.DataFrame) -> Any:
    """The simulated experiment annotated (`hyped_seq.annotate.run.Annotated`), without t-SNE and UMAP."""
    from hyped_core.context import RunContext
    from hyped_core.design import default_design
    from hyped_seq.annotate.cycle_genes import CycleGenes
    from hyped_seq.annotate.params import AnnotateParams
    from hyped_seq.annotate.run import annotate, read_ingested

    params = AnnotateParams.model_validate({"tsne": False, "umap": False})
    modalities = read_ingested(ingested)
    return annotate(modalities, calls, default_design(), params, CycleGenes(), context=RunContext())


@pytest.fixture
def small_design(tmp_path: Path) -> Design:
    """One pool ``p1`` with two tags for two conditions, the second sorted into G1."""
    values = {
        "name": "small",
        "conditions": [
            {"name": "control"},
            {"name": "up", "perturbation": [{"gene": "MYOD1", "direction": "activation"}]},
        ],
        "pools": [{"name": "p1", "conditions": ["control", "up"]}],
        "hashtags": [
            {"pool": "p1", "tag": "A", "barcode": "GTCAACTCTTTAGCG", "condition": "up"},
            {"pool": "p1", "tag": "B", "barcode": "TGATGGCCTATTGGG", "condition": "control", "phase": "G1"},
        ],
    }
    path = tmp_path / "design.yaml"
    path.write_text(yaml.safe_dump(values))
    return read_design(path)


def _gz(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as handle:
        handle.write(text)


def write_mex(folder: Path, dense: np.ndarray, barcodes: list[str], rows: list[str]) -> None:
    """A MEX folder of ``dense`` (features x cells), written without any of the project's code."""
    entries = [
        f"{i + 1} {j + 1} {dense[i, j]}" for j in range(dense.shape[1]) for i in np.flatnonzero(dense[:, j])
    ]
    kind = "integer" if np.issubdtype(dense.dtype, np.integer) else "real"
    head = (
        f"%%MatrixMarket matrix coordinate {kind} general\n{dense.shape[0]} {dense.shape[1]} {len(entries)}\n"
    )
    _gz(folder / "matrix.mtx.gz", head + "\n".join(entries) + "\n")
    _gz(folder / "barcodes.tsv.gz", "".join(f"{b}\n" for b in barcodes))
    _gz(folder / "features.tsv.gz", "".join(f"{row}\n" for row in rows))


BARCODES = ["AAACCCAAGAAACACT", "AAACCCAAGAAACCAT", "GGGTTTCCATTTGGCA"]


@pytest.fixture
def mex_writer() -> Callable[..., None]:
    """`write_mex`."""
    return write_mex


@pytest.fixture
def small_pool(tmp_path: Path) -> Path:
    """A wf-single-cell folder ``p1``: three cells, five features of which two share a symbol, two tags."""
    pool = tmp_path / "p1"
    suffixed = [f"{barcode}-1" for barcode in BARCODES]
    genes = np.array([[5, 0, 1], [1, 2, 3], [0, 7, 0], [2, 0, 4], [9, 9, 9]])
    symbols = ["MYOD1", "DUP", "MT-CO1", "DUP", "NOVEL"]
    rows = [f"unknown_{i:05d}\t{symbol}\tGene Expression" for i, symbol in enumerate(symbols)]
    write_mex(pool / "p1.gene_raw_feature_bc_matrix", genes, suffixed, rows)
    transcripts = np.array([[5, 0], [3, 2]])
    rows = ["unknown_00000\tENST1\tGene Expression", "unknown_00001\tENST2\tGene Expression"]
    write_mex(pool / "p1.transcript_raw_feature_bc_matrix", transcripts, [suffixed[2], suffixed[0]], rows)
    (pool / "p1.whitelist.tsv").write_text("\n".join(BARCODES) + "\n")
    (pool / "p1.gene_expression_mito_per_cell.tsv").write_text(
        "CB\tmito_pct\n" + "".join(f"{b}\t{value}\n" for b, value in zip(BARCODES[::-1], (30.0, 2.0, 1.0)))
    )
    header = (
        "read_id\tuncorrected_barcode\tcorrected_barcode\tquality_barcode\tuncorrected_umi\tcorrected_umi"
    )
    header += "\tquality_umi\tgene\ttranscript\tstart\tend\tchr\n"
    reads = [
        (BARCODES[0], "MYOD1", "ENST1"),
        (BARCODES[0], "-", "-"),
        (BARCODES[2], "DUP", "ENST2"),
        ("-", "DUP", "-"),
    ]
    (pool / "p1.read_summary.tsv").write_text(
        header
        + "".join(f"r{i}\tx\t{b}\t9\tU\tU\t9\t{g}\t{t}\t1\t2\tchr1\n" for i, (b, g, t) in enumerate(reads))
    )
    hashtags = pool / "hashtags"
    hashtags.mkdir()
    (hashtags / "counts.csv").write_text("," + ",".join(BARCODES) + "\nB,1,50,2\nA,40,2,33\n")
    return pool


@pytest.fixture
def public_folder() -> Path:
    """The folder of public files, where the environment names one."""
    folder = os.environ.get("HYPED_PUBLIC_DATA")
    if not folder or not Path(folder, "hto").is_dir():
        pytest.skip("HYPED_PUBLIC_DATA names no folder with hto/")
    return Path(folder)


@dataclass(frozen=True)
class SimulatedCells:
    """Cells as `annotate` would hand them on with perfect calls, and the tables of the truth."""

    rna: Any
    isoform: Any
    cells: pd.DataFrame
    genes: pd.DataFrame
    transcripts: pd.DataFrame


def simulate_cells(seed: int, n_cells: int, **programme: Any) -> SimulatedCells:
    """Simulated experiment in memory: no files, true hashtag kinds, conditions and phases."""
    import scipy.sparse as sp
    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_core.design import default_design
    from hyped_seq.annotate.normalise import log_normalised
    from hyped_seq.simulate.counts import pool_counts
    from hyped_seq.simulate.params import SeqSimulationParams
    from hyped_seq.simulate.population import draw_pool
    from hyped_seq.simulate.run import build_programme, pool_sizes
    from hyped_seq.simulate.truth import gene_table, transcript_table

    design, context = default_design(), RunContext(seed=seed)
    params = SeqSimulationParams.model_validate({"n_cells": n_cells, "programme": programme}).resolved()
    made = build_programme(design, params, context)
    tables, genes, transcripts = [], [], []
    for name, size in pool_sizes(design, params).items():
        pool, _ = draw_pool(design, name, size, params, context)
        rng = context.rng("counts", name)
        for counts, split in pool_counts(made, pool, params.programme.mito_sd, params.chunk_cells, rng):
            genes.append(counts)
            transcripts.append(split)
        tables.append(pool.table)
    cells = pd.concat(tables, ignore_index=True)
    cells.index = cells["pool"] + "_" + cells["barcode"]
    counts, split = sp.vstack(genes, format="csr"), sp.vstack(transcripts, format="csr")
    keep = (~cells["low_quality"]).to_numpy()
    cells, counts, split = cells[keep], counts[keep], split[keep]
    known = cells["condition"].isin([item.name for item in design.conditions])
    condition = cells["condition"].where((cells["kind"] == "singlet") & known, "")
    phase = cells["phase"].where(cells["phase"].isin(["G1", "S", "G2M"]), "")
    obs = pd.DataFrame(
        {"pool": cells["pool"], "hashtag_kind": cells["kind"], "assigned_condition": condition, "phase": phase}
    ).assign(n_counts=counts.sum(axis=1).A1)
    table = gene_table(made, [design.perturbation(item.name) for item in design.conditions])
    shares = transcript_table(made, [design.perturbation(item.name) for item in design.conditions])
    var = pd.DataFrame({"symbol": table["symbol"], "gene_id": table["gene_id"]}).set_index("symbol", drop=False)
    ids = table["gene_id"].to_numpy()[made.isoforms.gene]
    of = pd.DataFrame({"transcript_id": shares["transcript"], "gene_id": ids, "symbol": shares["symbol"]})
    of.index = pd.Index(of["transcript_id"].to_numpy())
    var.index = pd.Index(var["symbol"].to_numpy())
    rna = AnnData(log_normalised(counts), obs=obs, var=var, layers={"counts": counts})
    isoform = AnnData(log_normalised(split), obs=obs, var=of, layers={"counts": split})
    return SimulatedCells(rna, isoform, cells, table.set_index("symbol"), shares)


@pytest.fixture(scope="session")
def cell_simulator() -> Callable[..., SimulatedCells]:
    """`simulate_cells`."""
    return simulate_cells


@pytest.fixture(scope="session")
def simulated_cells() -> SimulatedCells:
    """1,300 simulated cells at the default difficulty."""
    return simulate_cells(5, 1300)
