"""Ingest of wf-single-cell matrices: reading and rewriting one of 2,000 cells beside scipy and scanpy, and full size.

Full size is 20,000 cells x 36,000 genes x 150,000 transcripts in two pools, 70 and 92 million stored counts, to
finished h5ad files; its peak memory and seconds are asserted. The counts are made up, as wide and as dense as those
of a nanopore run, and the second pool has its features in an order of its own.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from time import perf_counter

import anndata
import numba
import numpy as np
import pandas as pd
import pytest
import scanpy
import scipy.io
import scipy.sparse as sp

from hyped_seq.readers.h5ad import write_h5ad
from hyped_seq.readers.mex import read_mex
from hyped_seq.readers.read_summary import read_summary

POOLS = {"perturbed": 11_000, "control": 9_000}
GENES, TRANSCRIPTS = 36_000, 150_000
GENES_A_CELL, TRANSCRIPTS_A_CELL = 3_500, 4_500
"""Names with a count in a cell, about."""
SMALL_CELLS, SMALL_READS = 2_000, 1_000_000
LIMIT_S, LIMIT_MB = 90.0, 6000.0
RATIO = {"scipy": 2.0, "scanpy": 4.0, "anndata": 8.0, "pandas": 1.5}
"""How many times as long as ours an alternative takes at least."""
SECONDS: dict[str, float] = {}
"""The shortest time of ours in each group."""


@numba.njit
def _put(out, at, number):
    """Write ``number`` as decimal digits to ``out``; the place behind them."""
    width, rest = 1, number
    while rest >= 10:
        width, rest = width + 1, rest // 10
    for place in range(at + width - 1, at - 1, -1):
        out[place] = 48 + number % 10
        number //= 10
    return at + width


@numba.njit
def _cells_as_text(out, first, sizes, curve, rng):
    """Entries of the cells from ``first`` on as lines of Matrix Market: (bytes, entries)."""
    at, entries = 0, 0
    for cell in range(len(sizes)):
        last = -1
        for k in range(sizes[cell]):
            feature = curve[int((k + rng.random()) / sizes[cell] * len(curve))]
            if feature == last:
                continue
            last = feature
            count = 1
            while count < 500 and rng.random() < 0.35:
                count += 1
            at = _put(out, at, feature + 1)
            out[at] = 32
            at = _put(out, at + 1, first + cell + 1)
            out[at] = 32
            at = _put(out, at + 1, count)
            out[at] = 10
            at, entries = at + 1, entries + 1
    return at, entries


def write_mex(folder: Path, prefix: str, cells: int, features: int, a_cell: int, seed: int, shuffled: bool) -> int:
    """A MEX folder as wf-single-cell writes it, sorted by cell; the number of its entries."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    sizes = np.clip(rng.lognormal(np.log(a_cell), 0.25, cells), 20, features).astype(np.int64)
    # features that are seen often take more places on the curve a cell's draws fall on, in the order of the file
    weight = rng.lognormal(0, 1.0, features)
    places = np.maximum(np.rint(weight / weight.sum() * features * 30), 1).astype(int)
    curve = np.repeat(np.arange(features), places)
    total = 0
    with gzip.open(folder / "body.gz", "wb", compresslevel=1) as handle:
        for first in range(0, cells, 500):
            part = sizes[first : first + 500]
            out = np.empty(int(part.sum()) * 20, dtype=np.uint8)
            length, entries = _cells_as_text(out, first, part, curve, rng)
            handle.write(out[:length])
            total += entries
    head = f"%%MatrixMarket matrix coordinate integer general\n%\n{features} {cells} {total}\n"
    with (folder / "matrix.mtx.gz").open("wb") as handle:
        handle.write(gzip.compress(head.encode()))
        with (folder / "body.gz").open("rb") as body:
            shutil.copyfileobj(body, handle)
    (folder / "body.gz").unlink()
    order = rng.permutation(features) if shuffled else np.arange(features)
    names = [f"unknown_{i:05d}\t{prefix}{name}\tGene Expression" for i, name in enumerate(order)]
    for name, lines in (("barcodes.tsv.gz", barcodes(cells)), ("features.tsv.gz", names)):
        (folder / name).write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    return total


def barcodes(n: int) -> list[str]:
    """``n`` different barcodes of 16 bases, with the workflow's suffix."""
    bases = np.array(list("ACGT"))
    return ["".join(bases[(code // 4 ** np.arange(16)) % 4]) + "-1" for code in np.arange(n) * 199_933 + 17]


def beside(benchmark, group, name, run, ours, rounds=3):
    """Time ``run``; where it is an alternative, ours is timed once more beside it and the ratio asserted."""
    result = benchmark.pedantic(run, rounds=rounds, warmup_rounds=1)
    if benchmark.stats is None:
        return result
    shortest = benchmark.stats.stats.min
    if name == "hyped":
        SECONDS[group] = shortest
    elif group in SECONDS:
        start = perf_counter()
        ours()
        ratio = shortest / min(SECONDS[group], perf_counter() - start)
        benchmark.extra_info["times_as_long_as_hyped"] = round(ratio, 1)
        assert ratio >= RATIO[name]
    return result


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A MEX folder of 2,000 cells x 36,000 genes with 7 million counts."""
    folder = tmp_path_factory.mktemp("small") / "mex"
    write_mex(folder, "G", SMALL_CELLS, GENES, GENES_A_CELL, 1, False)
    return folder


@pytest.mark.parametrize("name", ["hyped", "scipy", "scanpy"])
@pytest.mark.benchmark(group="ingest: reading MEX, 2,000 cells x 36,000 genes")
def test_reading(benchmark, name, small):
    """7 million counts as gzipped text to a CSR matrix of int32 (scanpy: float32), names with it but for scipy."""
    readers = {
        "hyped": lambda: read_mex(small).counts,
        "scipy": lambda: sp.csr_matrix(scipy.io.mmread(small / "matrix.mtx.gz").T, dtype=np.int32),
        "scanpy": lambda: scanpy.read_10x_mtx(small).X,
    }
    read = beside(benchmark, "reading", name, readers[name], readers["hyped"])
    assert (read != expected(small)).nnz == 0


@cache
def expected(folder):
    """The counts of a MEX folder as scipy reads them."""
    return sp.csr_matrix(scipy.io.mmread(folder / "matrix.mtx.gz").T)


@pytest.mark.parametrize("name", ["hyped", "anndata"])
@pytest.mark.benchmark(group="ingest: writing h5ad, 2,000 cells x 36,000 genes")
def test_writing(benchmark, name, small, tmp_path):
    """7 million counts as X and layers["counts"] to an h5ad file, gzip level 1; bytes of the file in extra_info."""
    counts = read_mex(small).counts
    cells = anndata.AnnData(counts, layers={"counts": counts})
    writers = {
        "hyped": lambda: write_h5ad(cells, tmp_path / "x.h5ad"),
        "anndata": lambda: cells.write_h5ad(tmp_path / "y.h5ad", compression="gzip", compression_opts=1),
    }
    beside(benchmark, "writing", name, writers[name], writers["hyped"])
    benchmark.extra_info["mb"] = round(next(tmp_path.glob("*.h5ad")).stat().st_size / 1e6, 1)


def read_summary_by_pandas(path):
    """Reads by barcode and, of those with both, by transcript and gene."""
    columns = ["corrected_barcode", "gene", "transcript"]
    table = pd.read_csv(path, sep="\t", usecols=columns, dtype=str, na_filter=False, quoting=3)
    return table["corrected_barcode"].value_counts(), table.groupby(["transcript", "gene"]).size()


@pytest.mark.parametrize("name", ["hyped", "pandas"])
@pytest.mark.benchmark(group="ingest: read_summary.tsv of 1,000,000 reads")
def test_read_summary(benchmark, name, tmp_path):
    """Reads by barcode and gene by transcript; 2,000 barcodes, 36,000 genes, 4 transcripts of each."""
    rng = np.random.default_rng(0)
    gene = rng.integers(0, GENES, SMALL_READS)
    table = pd.DataFrame(
        {
            "read_id": [f"0a1b2c3d-1111-2222-3333-{i:012d}_0" for i in range(SMALL_READS)],
            "corrected_barcode": np.array(barcodes(SMALL_CELLS))[rng.integers(0, SMALL_CELLS, SMALL_READS)],
            "quality_barcode": "IIIIIIIIIIIIIIII",
            "gene": np.char.add("G", gene.astype(str)),
            "transcript": np.char.add("ENST", (4 * gene + rng.integers(0, 4, SMALL_READS)).astype(str)),
            "start": gene,
        }
    )
    path = tmp_path / "s.tsv"
    table.to_csv(path, sep="\t", index=False)
    readers = {"hyped": lambda: read_summary(path), "pandas": lambda: read_summary_by_pandas(path)}
    beside(benchmark, "read_summary", name, readers[name], readers["hyped"])


@pytest.mark.benchmark(group="ingest: 20,000 cells x 36,000 genes x 150,000 transcripts")
def test_full_size(benchmark, tmp_path):
    """`hyped seq ingest` of two pools in a process of its own: seconds and peak memory, imports and all."""
    stored = {"rna": 0, "isoform": 0}
    for number, (pool, cells) in enumerate(POOLS.items()):
        for what, kind, features, a_cell in (
            ("gene", "rna", GENES, GENES_A_CELL),
            ("transcript", "isoform", TRANSCRIPTS, TRANSCRIPTS_A_CELL),
        ):
            folder = tmp_path / pool / f"{pool}.{what}_raw_feature_bc_matrix"
            stored[kind] += write_mex(folder, what, cells, features, a_cell, 10 * number + len(what), bool(number))
    (tmp_path / "params.yaml").write_text("ingest: {hashtags: none}\n")
    code = (
        "import sys, resource\n"
        "from hyped_core.cli.main import run\n"
        "status = run(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == 'darwin' else 1e3))\n"
        "sys.exit(status)\n"
    )
    pools = [str(tmp_path / pool) for pool in POOLS]
    arguments = ["seq", "ingest", *pools, str(tmp_path / "out"), "--params", f"{tmp_path}/params.yaml#ingest"]

    def run():
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, check=True, text=True, env=os.environ)
        return float(done.stdout)

    megabytes = benchmark.pedantic(run, rounds=2)
    record = json.loads((tmp_path / "out" / "ingest.json").read_text())
    assert record["stored_counts"] == stored and record["features"] == {"rna": GENES, "isoform": TRANSCRIPTS}
    benchmark.extra_info.update(stored, peak_mb=round(megabytes))
    assert megabytes < LIMIT_MB
    if benchmark.stats is not None:
        assert benchmark.stats.stats.min < LIMIT_S
