"""Release of cells: building and writing it beside AnnData's own writers, and validating beside reading it whole.

2,000 cells x 36,000 genes x 150,000 transcripts, about 4,000 genes and 4,300 transcripts with a count in a cell.
``hyped`` is `build_release` and `write_release`, ``anndata`` is `AnnData.write_h5ad` of the same object with
``compression="gzip"`` at level 1 and at its default level 4, ``anndata-lzf`` with ``compression="lzf"``. The peak of
memory that validation takes beyond the open file is measured by tracemalloc in a round of its own.
"""

from __future__ import annotations

import tracemalloc

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from hyped_core.container.cells_validate import validate_cells
from hyped_core.design import default_design
from hyped_seq.annotate.normalise import log_normalised
from hyped_seq.release import build_release, write_release

CELLS, GENES, TRANSCRIPTS = 2_000, 36_000, 150_000
MOLECULES = 7_400
"""Molecules drawn for a cell, before cells differ in size by 30 %."""
WAYS = {
    "hyped": None,
    "anndata-gzip-1": {"compression": "gzip", "compression_opts": 1},
    "anndata-gzip-4": {"compression": "gzip"},
    "anndata-lzf": {"compression": "lzf"},
}


def drawn(cells: int, features: int, molecules: int) -> sp.csr_matrix:
    """Counts whose features' levels are log-normal over ten orders of magnitude."""
    rng = np.random.default_rng(0)
    levels = np.exp(rng.normal(0, 2.4, features)).cumsum()
    levels /= levels[-1]
    rows, data, starts = [], [], [0]
    for size in (molecules * np.exp(rng.normal(0, 0.3, cells))).astype(int):
        found, counts = np.unique(np.searchsorted(levels, rng.random(size)).astype(np.int32), return_counts=True)
        rows.append(found)
        data.append(counts.astype(np.int32))
        starts.append(starts[-1] + len(found))
    return sp.csr_matrix((np.concatenate(data), np.concatenate(rows), np.array(starts)), shape=(cells, features))


@pytest.fixture(scope="module")
def modalities():
    """Annotated cells: transcripts, the genes that they sum to, hashtags."""
    design, rng = default_design(), np.random.default_rng(1)
    tags = [design.hashtags[i] for i in rng.integers(0, len(design.hashtags), CELLS)]
    columns = {
        "pool": [tag.pool for tag in tags],
        "hashtag_call": [tag.tag for tag in tags],
        "hashtag_kind": ["singlet"] * CELLS,
        "assigned_condition": [tag.condition for tag in tags],
        "condition": [tag.condition for tag in tags],
        "assigned_phase": [tag.phase or "" for tag in tags],
        "phase": [tag.phase or "G1" for tag in tags],
    }
    obs = pd.DataFrame({name: pd.Categorical(values) for name, values in columns.items()})
    obs.index = [f"{tag.pool}_C{i}" for i, tag in enumerate(tags)]
    owner = np.sort(rng.integers(0, GENES, TRANSCRIPTS))
    isoforms = drawn(CELLS, TRANSCRIPTS, MOLECULES)
    ones = np.ones(TRANSCRIPTS, np.int32)
    counts = (isoforms @ sp.csr_matrix((ones, (np.arange(TRANSCRIPTS), owner)), shape=(TRANSCRIPTS, GENES))).tocsr()
    counts.sort_indices()
    symbols = [f"G{i}" for i in range(GENES)]
    genes = pd.DataFrame({"gene_id": [f"ENSG{i:011d}" for i in range(GENES)], "symbol": symbols}, index=symbols)
    transcripts = genes.iloc[owner].set_axis([f"ENST{i:011d}" for i in range(TRANSCRIPTS)])
    names = list(dict.fromkeys(tag.tag for tag in design.hashtags))
    tag_counts = sp.csr_matrix(rng.poisson(5, (CELLS, len(names))).astype(np.int32))
    return {
        "rna": anndata.AnnData(log_normalised(counts), obs, genes, layers={"counts": counts}),
        "isoform": anndata.AnnData(obs=obs, var=transcripts, layers={"counts": isoforms}),
        "hto": anndata.AnnData(tag_counts, obs, pd.DataFrame(index=names), layers={"counts": tag_counts}),
    }


@pytest.mark.benchmark(group="write a release of 2,000 cells")
@pytest.mark.parametrize("way", list(WAYS))
def test_write(benchmark, modalities, tmp_path, way):
    """Building included for ``hyped``; the others write what was built."""
    path, cells = tmp_path / "out.h5ad", build_release(modalities, default_design())

    def write() -> None:
        if way == "hyped":
            write_release(build_release(modalities, default_design()), path)
        else:
            cells.write_h5ad(path, **WAYS[way])

    benchmark.pedantic(write, rounds=3, warmup_rounds=1)
    benchmark.extra_info["megabytes"] = round(path.stat().st_size / 1e6, 1)


@pytest.mark.benchmark(group="check a release of 2,000 cells")
@pytest.mark.parametrize("way", ["validate", "read"])
def test_validate(benchmark, modalities, tmp_path, way):
    """``read`` is `anndata.read_h5ad`, which checks nothing: what any check in memory has to do first."""
    path = tmp_path / "out.h5ad"
    write_release(build_release(modalities, default_design()), path)
    check = validate_cells if way == "validate" else anndata.read_h5ad
    benchmark.pedantic(check, (path,), rounds=3, warmup_rounds=1)
    tracemalloc.start()
    check(path)
    benchmark.extra_info["peak_megabytes"] = round(tracemalloc.get_traced_memory()[1] / 1e6, 1)
    tracemalloc.stop()
