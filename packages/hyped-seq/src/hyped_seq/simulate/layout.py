"""One pool's folder as EPI2ME wf-single-cell v3.1.0 leaves it: matrices, and the small files beside them.

Left out: ``tagged.bam``, ``transcriptome.fa.gz`` and the UMAP tables. ``read_summary.tsv`` holds a sample of
the reads, among them one for every transcript seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.simulate.programme import GeneProgramme
from hyped_seq.simulate.mex import MatrixWriter, write_barcodes, write_features, write_gzip
from hyped_seq.simulate.population import BASES, PoolCells

READ_COLUMNS = (
    "read_id",
    "uncorrected_barcode",
    "corrected_barcode",
    "quality_barcode",
    "uncorrected_umi",
    "corrected_umi",
    "quality_umi",
    "gene",
    "transcript",
    "start",
    "end",
    "chr",
)
_MIN_FEATURES, _MIN_CELLS, _MAX_MITO = 200, 3, 20.0


def write_pool(
    folder: Path,
    pool: PoolCells,
    programme: GeneProgramme,
    blocks: Iterable[tuple[sp.csr_matrix, sp.csr_matrix]],
    *,
    read_rows: int,
    processed: bool,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Write ``<folder>/<pool>.*`` from blocks of (gene, transcript) counts; returns counts per barcode.

    Returns a table with ``n_counts, n_genes, mito_pct``, one row a barcode.
    """
    names = {"gene": programme.symbols, "transcript": programme.isoforms.ids}
    mito = np.array(["MT-" in str(symbol) for symbol in programme.symbols])
    paths = {kind: folder / f"{pool.name}.{kind}_raw_feature_bc_matrix" for kind in names}
    spill = folder / ".blocks"
    spill.mkdir(parents=True)
    sample = _ReadSample(pool, programme, read_rows, rng)
    figures, n_blocks = [], 0
    with (
        MatrixWriter(paths["gene"], len(names["gene"])) as gene_writer,
        MatrixWriter(paths["transcript"], len(names["transcript"])) as transcript_writer,
    ):
        for genes, transcripts in blocks:
            sample.add(transcripts, gene_writer.n_cells)
            gene_writer.append(genes)
            transcript_writer.append(transcripts)
            figures.append(_figures(genes, mito))
            if processed:
                sp.save_npz(spill / f"gene_{n_blocks}.npz", genes, compressed=False)
                sp.save_npz(spill / f"transcript_{n_blocks}.npz", transcripts, compressed=False)
            n_blocks += 1
    barcodes = pool.table["barcode"].tolist()
    for kind, path in paths.items():
        write_features(path, names[kind])
        write_barcodes(path, barcodes)
    if processed:
        for kind in names:
            files = [spill / f"{kind}_{i}.npz" for i in range(n_blocks)]
            out = folder / f"{pool.name}.{kind}_processed_feature_bc_matrix"
            _write_processed(out, files, barcodes, names[kind], mito if kind == "gene" else None)
    for path in spill.iterdir():
        path.unlink()
    spill.rmdir()
    table = pd.concat(figures, ignore_index=True)
    _write_small(folder, pool, table, sample)
    return table


def write_reference(path: Path, programme: GeneProgramme) -> None:
    """The annotation the counts refer to, as GTF: genes and transcripts; their places are made up."""
    isoforms = programme.isoforms
    chromosome, start = _places(programme)

    def lines() -> Iterator[str]:
        for g, (symbol, identifier) in enumerate(zip(programme.symbols, programme.ensembl, strict=True)):
            place = f"{chromosome[g]}\tsimulated\t{{}}\t{start[g]}\t{start[g] + 9999}\t.\t+\t."
            gene = f'gene_id "{identifier}"; gene_name "{symbol}";'
            yield f"{place.format('gene')}\t{gene}"
            for t in range(isoforms.first[g], isoforms.first[g] + isoforms.count[g]):
                yield f'{place.format("transcript")}\t{gene} transcript_id "{isoforms.ids[t]}";'

    write_gzip(path, lines())


class _ReadSample:
    """A few reads for ``read_summary.tsv``: the first of every transcript, then random ones."""

    def __init__(self, pool: PoolCells, programme: GeneProgramme, rows: int, rng: np.random.Generator) -> None:
        self._barcodes = pool.table["barcode"].to_numpy()
        self._programme, self._rows, self._rng = programme, rows, rng
        self._share = rows / max(len(self._barcodes), 1)
        self._seen = np.zeros(len(programme.isoforms.ids), bool)
        self._cells: list[np.ndarray] = []
        self._transcripts: list[np.ndarray] = []

    def add(self, block: sp.csr_matrix, offset: int) -> None:
        """Look at a block of transcript counts whose first cell has index ``offset``."""
        cell = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr)) + offset
        first_of, where = np.unique(block.indices, return_index=True)
        where = where[~self._seen[first_of]]
        self._seen[first_of] = True
        count = min(int(round(self._share * block.shape[0])), block.nnz)
        more = self._rng.choice(block.nnz, count, replace=False) if count else where[:0]
        chosen = np.sort(np.concatenate([where, more]))
        self._cells.append(cell[chosen])
        self._transcripts.append(block.indices[chosen])

    def table(self) -> pd.DataFrame:
        """The reads, in order of cells."""
        cells = np.concatenate(self._cells) if self._cells else np.empty(0, np.int64)
        transcripts = np.concatenate(self._transcripts) if self._transcripts else np.empty(0, np.int64)
        n, rng = cells.size, self._rng
        programme = self._programme
        gene = programme.isoforms.gene[transcripts]
        chromosome, start = _places(programme)
        umi = [word.tobytes().decode() for word in BASES[rng.integers(0, 4, (n, 12))]]
        barcode = self._barcodes[cells]
        begin = start[gene] + rng.integers(0, 4000, n)
        values = (
            [f"{word:016x}" for word in rng.integers(0, 2**63, n)],
            barcode,
            barcode,
            ["5" * 16] * n,
            umi,
            umi,
            ["5" * 12] * n,
            programme.symbols[gene],
            programme.isoforms.ids[transcripts],
            begin,
            begin + rng.integers(300, 3000, n),
            chromosome[gene],
        )
        return pd.DataFrame(dict(zip(READ_COLUMNS, values, strict=True)))


def _places(programme: GeneProgramme) -> tuple[np.ndarray, np.ndarray]:
    """Chromosome and start of every gene: made up, except that mitochondrial genes are on chrM."""
    number = np.arange(programme.n_genes)
    chromosome = np.array([f"chr{i % 22 + 1}" for i in number], dtype=object)
    return np.where(programme.role == "mito", "chrM", chromosome), 100_000 + 20_000 * number


def _figures(genes: sp.csr_matrix, mito: np.ndarray) -> pd.DataFrame:
    total = np.asarray(genes.sum(axis=1)).ravel()
    part = np.asarray(genes[:, np.flatnonzero(mito)].sum(axis=1)).ravel()
    percent = 100.0 * part / np.maximum(total, 1)
    return pd.DataFrame({"n_counts": total, "n_genes": np.diff(genes.indptr), "mito_pct": percent})


def _write_processed(
    folder: Path, files: list[Path], barcodes: list[str], names: np.ndarray, mito: np.ndarray | None
) -> None:
    """The workflow's filter and normalisation: 200 features a cell, 3 cells a feature, log10(1 + CP10k)."""
    cells_with = np.zeros(len(names), np.int64)
    keep_cells = []
    for file in files:
        block = sp.load_npz(file)
        keep = np.diff(block.indptr) >= _MIN_FEATURES
        if mito is not None:
            keep &= _figures(block, mito)["mito_pct"].to_numpy() <= _MAX_MITO
        keep_cells.append(keep)
        cells_with += np.bincount(block.indices, minlength=len(names))
    features = np.flatnonzero(cells_with >= _MIN_CELLS)
    with MatrixWriter(folder, features.size, "real") as writer:
        for file, keep in zip(files, keep_cells, strict=True):
            block = sp.csr_matrix(sp.load_npz(file)[np.flatnonzero(keep)][:, features], dtype=np.float64)
            total = np.maximum(np.asarray(block.sum(axis=1)).ravel(), 1)
            block = sp.csr_matrix(sp.diags(1e4 / total) @ block)
            block.data = np.log10(1.0 + block.data)
            block.sort_indices()
            writer.append(block)
    kept = np.concatenate(keep_cells) if keep_cells else np.empty(0, bool)
    write_features(folder, names[features])
    write_barcodes(folder, [barcode for barcode, keep in zip(barcodes, kept, strict=True) if keep])


def _write_small(folder: Path, pool: PoolCells, figures: pd.DataFrame, sample: _ReadSample) -> None:
    """Whitelist, mitochondrial shares, barcode summary, adapter statistics, read summary."""

    def path(name: str) -> Path:
        return folder / f"{pool.name}.{name}"

    barcodes = pool.table["barcode"]
    path("whitelist.tsv").write_text("".join(f"{b}\n" for b in sorted(barcodes)))
    mito = pd.DataFrame({"CB": barcodes, "mito_pct": figures["mito_pct"]})
    mito.to_csv(path("gene_expression_mito_per_cell.tsv"), sep="\t", index=False, float_format="%.4f")
    reads = int(figures["n_counts"].sum())
    summary = {
        "bc_shortlist_exact_match": int(0.86 * reads),
        "bc_corrected": reads - int(0.86 * reads),
        "bc_no_match": int(0.09 * reads),
    }
    path("bc_assignment_summary.tsv").write_text("".join(f"{k}\t{v}\n" for k, v in summary.items()))
    stats = {
        "general": {
            "n_reads": sum(summary.values()),
            "rl_mean": 820.0,
            "n_plus": reads // 2,
            "n_minus": reads // 2,
        },
        "summary_config": {"full_length": reads, "no_adapters": summary["bc_no_match"]},
    }
    path("config_stats.json").write_text(json.dumps({pool.name: stats}, indent=2, sort_keys=True) + "\n")
    sample.table().to_csv(path("read_summary.tsv"), sep="\t", index=False)
