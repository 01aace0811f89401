"""Matrices that were never filtered: cells are found among planted empty droplets, filtered pools are left alone."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from hyped_core.cli.main import run
from hyped_core.context import RunContext
from hyped_core.errors import InvalidDataError
from hyped_seq.ingest.empty_droplets import find_step
from hyped_seq.ingest.genes import EMPTY
from hyped_seq.ingest.params import IngestParams
from hyped_seq.ingest.run import ingest_pools
from hyped_seq.readers.mex import read_mex
from hyped_seq.readers.tenx_h5 import read_tenx_h5

CELLS, DROPLETS = 300, 3000


@pytest.mark.parametrize("depth", [300, 1500, 8000])
@pytest.mark.parametrize("n_empty", [2000, 60_000])
def test_cells_are_found_among_planted_droplets(depth, n_empty):
    rng = np.random.default_rng(depth + n_empty)
    cells = rng.poisson(rng.lognormal(np.log(depth), 0.5, 1000))
    soup = rng.poisson(rng.lognormal(np.log(3 + depth / 50), 0.4, n_empty // 10))
    rest = rng.poisson(rng.gamma(0.5, 4, n_empty))
    molecules = np.concatenate([rest, cells, soup])
    step = find_step(molecules)
    assert step is not None and step.clear and step.cells + step.empty == len(molecules)
    assert (cells >= step.least).mean() >= 0.95
    assert (np.concatenate([soup, rest]) >= step.least).sum() <= 0.01 * step.cells


@pytest.mark.parametrize("median", [3, 15, 100, 5000])
@pytest.mark.parametrize("spread", [0.3, 0.7, 1.1, 2])
def test_a_filtered_pool_has_no_step_however_shallow(median, spread):
    rng = np.random.default_rng(median)
    assert find_step(rng.poisson(rng.lognormal(np.log(median), spread, 5000))) is None
    large, small = rng.poisson(10 * median, 1500), rng.poisson(median, 3500)
    assert find_step(np.concatenate([large, small])) is None, "two kinds of cells, tenfold apart"


def test_few_or_silent_barcodes_are_no_droplets():
    assert find_step([]) is None and find_step(np.zeros(5000, int)) is None
    assert find_step(np.r_[np.full(100, 5000), np.ones(800, int)]) is None


def test_the_simulated_pools_are_left_alone_at_any_depth(seq_world):
    rng = np.random.default_rng(0)
    for pool in seq_world.pools:
        molecules = read_mex(pool / f"{pool.name}.gene_raw_feature_bc_matrix").counts.sum(axis=1).A1
        molecules = np.tile(molecules, 4)
        for share in (1, 0.1, 0.01, 0.001):
            assert len(molecules) > 1000 and find_step(rng.binomial(molecules, share)) is None


@pytest.fixture
def unfiltered(tmp_path: Path) -> Path:
    """10x matrix ``p1.h5ad`` of 300 cells behind 3,000 empty droplets, with the tags A and B inside."""
    rng = np.random.default_rng(1)
    genes = np.vstack([rng.poisson(0.5, (DROPLETS, 12)), rng.poisson(100, (CELLS, 12))])
    tags = rng.poisson(2, (DROPLETS + CELLS, 2))
    tags[np.arange(DROPLETS, DROPLETS + CELLS), np.arange(CELLS) % 2] += 200
    kinds = ["Gene Expression"] * 12 + ["Antibody Capture"] * 2
    names = [*(f"G{i}" for i in range(12)), "A", "B"]
    codes = np.arange(DROPLETS + CELLS)
    letters = np.array(list("ACGT"))[codes[:, None] // 4 ** np.arange(8) % 4]
    anndata.AnnData(
        sp.csr_matrix(np.hstack([genes, tags]).astype("float32")),
        obs=pd.DataFrame(index=["".join(row) + "ACACACAC-1" for row in letters]),
        var=pd.DataFrame({"gene_ids": names, "feature_types": kinds}, index=names),
    ).write_h5ad(tmp_path / "p1.h5ad")
    return tmp_path / "p1.h5ad"


def ingest(path, design, hashtags=None, **params):
    return ingest_pools(
        [path], design, IngestParams.model_validate(params), EMPTY,
        hashtags={"p1": hashtags} if hashtags else None, context=RunContext(),
    )  # fmt: skip


def test_empty_droplets_are_left_out_and_counted(unfiltered, small_design):
    result = ingest(unfiltered, small_design)
    report = result.record["pools"]["p1"]
    assert report["empty_droplets_left_out"] == DROPLETS and result.record["cells"] == {"p1": CELLS}
    assert 12 * 2 < report["least_molecules_of_a_cell"] <= result.modalities["rna"].obs["n_counts"].min()
    hto = result.modalities["hto"].to_df()
    assert (hto.idxmax(axis=1).to_numpy() == np.tile(["A", "B"], CELLS // 2)).all(), "rows stay with their cells"
    source = anndata.read_h5ad(unfiltered)
    assert (result.modalities["rna"].X != source.X[DROPLETS:, :12]).nnz == 0


def test_droplets_are_kept_or_refused_on_demand(unfiltered, small_design):
    kept = ingest(unfiltered, small_design, empty_droplets="keep").record
    assert kept["cells"] == {"p1": DROPLETS + CELLS} and "empty_droplets_left_out" not in kept["pools"]["p1"]
    with pytest.raises(InvalidDataError, match=r"p1.h5ad: is not filtered: 3000 of its 3300 barcodes"):
        ingest(unfiltered, small_design, empty_droplets="error")


def test_a_pool_without_a_clear_step_is_refused(unfiltered, small_design):
    n = 120_000
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.lognormal(0, 2, (n, 1)) * np.ones(14))
    var = anndata.read_h5ad(unfiltered).var
    obs = pd.DataFrame(index=[f"C{i}" for i in range(n)])
    anndata.AnnData(sp.csr_matrix(counts.astype("float32")), obs=obs, var=var).write_h5ad(unfiltered)
    with pytest.raises(InvalidDataError, match="no clear step parts them from cells"):
        ingest(unfiltered, small_design)
    assert ingest(unfiltered, small_design, empty_droplets="keep").record["cells"] == {"p1": n}


def test_a_table_of_the_cells_beside_a_matrix_of_all_barcodes(unfiltered, small_design, tmp_path):
    cells = anndata.read_h5ad(unfiltered)
    (table := cells[DROPLETS:, ["A", "B"]].to_df().astype(int)).to_csv(tmp_path / "hto.csv")
    cells[:, :12].copy().write_h5ad(unfiltered)
    result = ingest(unfiltered, small_design, tmp_path / "hto.csv")
    assert (result.modalities["hto"].X.toarray() == table.to_numpy()).all()
    assert result.record["pools"]["p1"]["cells_without_hashtags"] == 0
    with pytest.raises(InvalidDataError, match=r"knows 300 of the 3300 cells.*the matrix holds empty droplets too"):
        ingest(unfiltered, small_design, tmp_path / "hto.csv", empty_droplets="keep")


def test_the_command_line_says_so(unfiltered, small_design, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["seq", "ingest", str(unfiltered), str(out), "--design", str(tmp_path / "design.yaml")]) == 0
    assert "look: p1: 3000 barcodes look like empty droplets" in capsys.readouterr().err
    assert json.loads((out / "ingest.json").read_text())["pools"]["p1"]["empty_droplets_left_out"] == 3000


@pytest.mark.public
def test_public_shallow_matrices_are_left_alone(public_folder):
    folder = public_folder / "reference" / "scanpy_10x"
    for path in sorted(folder.rglob("*.h5")):
        for genome in ("hg19_chr21", None):
            try:
                molecules = read_tenx_h5(path, genome).counts.sum(axis=1).A1
            except InvalidDataError:
                continue
            assert find_step(molecules) is None and find_step(np.tile(molecules, 100)) is None
