"""One pool: what kind of input it is, reading it, and lining hashtags and transcripts up with its cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Design
from hyped_core.errors import DesignError, InvalidDataError, MissingFileError
from hyped_seq.hashtags.counts import read_hashtag_counts
from hyped_seq.ingest.params import IngestParams
from hyped_seq.readers.h5ad import read_h5ad_counts
from hyped_seq.readers.matrix import CountMatrix, check_barcodes
from hyped_seq.readers.mex import is_mex, read_mex
from hyped_seq.readers.tenx_h5 import read_tenx_h5
from hyped_seq.readers.wf_single_cell import (
    TRANSCRIPTS,
    WfFolder,
    is_wf_folder,
    open_wf_folder,
    read_mito,
    read_summary,
    read_wf_matrix,
    read_whitelist,
    strip_suffixes,
)

_STRAY_SHARE = 1e-4
"""Molecules of a pool that may match a barcode by error alone; the soup leaves more of every tag that was used."""


@dataclass
class PoolCounts:
    """Everything read of one pool; the rows of all matrices are ``barcodes``.

    Attributes
    ----------
    genes, transcripts, hashtags : cells x features CSR int32 with their features, None where absent.
    figures : further columns per cell (``mito_pct``, ``n_reads``, ``n_reads_assigned``).
    report : counts of what was dropped or filled, and where hashtag reads went.
    """

    name: str
    barcodes: list[str]
    genes: CountMatrix | None = None
    transcripts: CountMatrix | None = None
    hashtags: CountMatrix | None = None
    figures: pd.DataFrame = field(default_factory=pd.DataFrame)
    transcript_gene: dict[str, str] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


def parse_pool_argument(argument: str | Path) -> tuple[str, Path]:
    """``PATH`` or ``NAME=PATH`` as (pool's name, path); the name of a bare path is its own without suffixes.

    >>> parse_pool_argument("batch1=counts.csv")
    ('batch1', PosixPath('counts.csv'))
    """
    text = str(argument)
    name, equals, rest = text.partition("=")
    if equals and name and "/" not in name:
        return name, Path(rest)
    path = Path(text)
    return Path(path.resolve().name.removesuffix(".gz")).stem if path.is_file() else path.resolve().name, path


def read_pool(name: str, path: Path, design: Design, params: IngestParams) -> PoolCounts:
    """Read one pool from a wf-single-cell folder, 10x MEX or h5, an h5ad, or a table of hashtag counts alone.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError, DesignError
        A file is absent, broken or of another run; or the tags are not those of the design.
    """
    if not path.exists():
        raise MissingFileError("no such pool", where=path, mend="check the path")
    tags = [] if params.unlisted_tags == "keep" and name not in _pools(design) else _tags(design, name)
    pool = _read_cells(name, path, tags)
    whitelist = pool.barcodes
    if is_wf_folder(path):
        whitelist = _wf_extras(pool, open_wf_folder(path))
    if pool.hashtags is None and params.hashtags != "none":
        folder = (path if path.is_dir() else path.parent) / params.hashtag_folder
        pool.hashtags = _read_hashtags(pool, folder, whitelist, tags, design, params)
    if pool.hashtags is not None:
        pool.hashtags = match_tags(pool.hashtags, tags, name, design, params)
    return pool


def _pools(design: Design) -> list[str]:
    return [pool.name for pool in design.pools]


def _tags(design: Design, pool: str) -> list[str]:
    """Tags of a pool that the design has to know."""
    return [hashtag.tag for hashtag in design.pool_hashtags(pool)]


def _read_cells(name: str, path: Path, tags: list[str]) -> PoolCounts:
    """The gene counts of a pool, or its hashtag counts where the path holds nothing else."""
    if path.is_file() and any(suffix in (".csv", ".tsv", ".txt") for suffix in path.suffixes):
        return _hashtags_only(name, read_hashtag_counts(path, tags))
    if path.is_dir() and is_mex(path):
        matrix = read_mex(path)
        if set(matrix.features["name"]) <= set(tags):
            return _hashtags_only(name, matrix)
    elif is_wf_folder(path) or path.is_dir():
        matrix = read_wf_matrix(open_wf_folder(path))
    elif path.suffix == ".h5ad":
        matrix = read_h5ad_counts(path)
    elif path.suffix in (".h5", ".hdf5"):
        matrix = read_tenx_h5(path)
    else:
        raise InvalidDataError(
            "is no pool",
            where=path,
            mend="give a wf-single-cell or MEX folder, .h5, .h5ad, or .csv of hashtags",
        )
    if matrix.counts.nnz == 0:
        raise InvalidDataError("is empty: it holds no counts", where=path, mend="leave this pool out")
    barcodes = strip_suffixes(matrix.barcodes)
    check_barcodes(barcodes, path)
    return PoolCounts(name, barcodes, genes=CountMatrix(matrix.counts, barcodes, matrix.features))


def _hashtags_only(name: str, hashtags: CountMatrix) -> PoolCounts:
    barcodes = strip_suffixes(hashtags.barcodes)
    check_barcodes(barcodes, f"pool {name!r}")
    return PoolCounts(name, barcodes, hashtags=CountMatrix(hashtags.counts, barcodes, hashtags.features))


def _wf_extras(pool: PoolCounts, wf: WfFolder) -> list[str]:
    """Add transcripts and per-cell figures where they are; return the whitelist."""
    transcripts = read_wf_matrix(wf, TRANSCRIPTS)
    pool.transcripts, absent, extra = align_cells(transcripts, pool.barcodes)
    pool.report["cells_without_transcripts"] = absent
    pool.report["transcript_barcodes_without_genes"] = extra
    figures: dict[str, pd.Series] = {}
    if wf.path("gene_expression_mito_per_cell.tsv").is_file():
        figures["mito_pct"] = read_mito(wf.path("gene_expression_mito_per_cell.tsv"))
    if wf.path("read_summary.tsv").is_file():
        reads = read_summary(wf.path("read_summary.tsv"))
        figures["n_reads"], figures["n_reads_assigned"] = reads.n_reads, reads.n_reads_assigned
        pool.transcript_gene = reads.transcript_gene
    columns = {name: series.reindex(pool.barcodes).to_numpy() for name, series in figures.items()}
    for name in ("n_reads", "n_reads_assigned"):
        if name in columns:
            columns[name] = np.nan_to_num(columns[name].astype("float64")).astype("int64")
    pool.figures = pd.DataFrame(columns, index=pool.barcodes)
    whitelist = wf.path("whitelist.tsv")
    return read_whitelist(whitelist) if whitelist.is_file() else pool.barcodes


def align_cells(matrix: CountMatrix, barcodes: list[str]) -> tuple[CountMatrix, int, int]:
    """Rows in the order of ``barcodes``, zeros for cells it lacks; how many it lacks and has too many."""
    position = {barcode: row for row, barcode in enumerate(matrix.barcodes)}
    rows = np.array([position.get(barcode, -1) for barcode in barcodes], dtype=np.int64)
    present = np.flatnonzero(rows >= 0)
    pick = sp.csr_matrix(
        (np.ones(len(present), dtype=np.int32), (present, rows[present])),
        shape=(len(barcodes), len(position)),
    )
    aligned = sp.csr_matrix(pick @ matrix.counts, dtype=np.int32)
    aligned.sort_indices()
    absent = len(barcodes) - len(present)
    return CountMatrix(aligned, barcodes, matrix.features), absent, len(position) - len(present)


def _read_hashtags(
    pool: PoolCounts,
    folder: Path,
    whitelist: list[str],
    tags: list[str],
    design: Design,
    params: IngestParams,
) -> CountMatrix:
    """Hashtag counts of the pool's cells from table or reads."""
    path = folder / (params.counts_file if params.hashtags == "counts" else params.reads_file)
    if not path.exists():
        raise MissingFileError(
            f"has no hashtag {params.hashtags} for pool {pool.name!r}",
            where=path,
            mend="put the file there, name it in counts_file / reads_file, or set hashtags: none",
        )
    if params.hashtags == "reads":
        from hyped_seq.hashtags.reads import count_hashtag_reads

        matrix, report = count_hashtag_reads(
            path,
            whitelist,
            _tag_barcodes(pool.name, design),
            tag_distance=params.tag_distance,
            barcode_distance=params.barcode_distance,
            umi_length=params.umi_length,
            umi_distance=params.umi_distance,
        )
        pool.report["hashtag_reads"] = report.record()
        _check_seen(matrix, path, pool.name, design, params)
    else:
        read = read_hashtag_counts(path, tags)
        barcodes = strip_suffixes(read.barcodes)
        check_barcodes(barcodes, path)
        matrix = CountMatrix(read.counts, barcodes, read.features)
    aligned, absent, extra = align_cells(matrix, pool.barcodes)
    pool.report["cells_without_hashtags"] = absent
    pool.report["hashtag_barcodes_without_genes"] = extra
    if 1 - absent / len(pool.barcodes) < params.min_cell_overlap:
        raise InvalidDataError(
            f"knows {len(pool.barcodes) - absent} of the {len(pool.barcodes)} cells of pool {pool.name!r}",
            where=path,
            mend="give the hashtags of the same run (or lower min_cell_overlap)",
        )
    return aligned


def _check_seen(matrix: CountMatrix, path: Path, pool: str, design: Design, params: IngestParams) -> None:
    """Refuse a tag that no sample can have carried: what matches its barcode is sequencing error, if anything."""
    molecules = np.asarray(matrix.counts.sum(axis=0)).ravel()
    unseen = [
        tag
        for tag, count in zip(matrix.features["name"], molecules, strict=True)
        if count <= _STRAY_SHARE * molecules.sum()
    ]
    if unseen and params.absent_tags == "error":
        raise DesignError(
            f"names tag {', '.join(map(repr, unseen))}, whose barcode the reads of {path} lack",
            where=f"design {design.name!r}, pool {pool!r}",
            mend="correct the tag's barcode in the design, or set absent_tags: zero",
        )


def _tag_barcodes(pool: str, design: Design) -> dict[str, str]:
    """Tag -> sequence; every tag of the pool has to have one."""
    barcodes = {hashtag.tag: hashtag.barcode for hashtag in design.pool_hashtags(pool)}
    without = [tag for tag, barcode in barcodes.items() if not barcode]
    if without:
        raise DesignError(
            f"tag {without[0]!r} has no barcode, which counting reads needs",
            where=f"design {design.name!r}, pool {pool!r}",
            mend="add the barcode to the design's hashtags, or set hashtags: counts",
        )
    return barcodes


def match_tags(
    matrix: CountMatrix, tags: list[str], pool: str, design: Design, params: IngestParams
) -> CountMatrix:
    """The columns in the order of the design; tags on one side only are refused, dropped, kept or filled."""
    names = list(matrix.features["name"])
    unlisted = [name for name in names if name not in tags]
    absent = [tag for tag in tags if tag not in names]
    where = f"design {design.name!r}, pool {pool!r}"
    if unlisted and params.unlisted_tags == "error":
        raise DesignError(
            f"does not name tag {', '.join(map(repr, unlisted))}, which the counts hold",
            where=where,
            mend="add it to the design's hashtags, or set unlisted_tags: drop",
        )
    if absent and params.absent_tags == "error":
        raise DesignError(
            f"names tag {', '.join(map(repr, absent))}, which the counts lack (they hold {', '.join(names)})",
            where=where,
            mend="correct the tag's name in the design, or set absent_tags: zero",
        )
    order = [*tags, *(unlisted if params.unlisted_tags == "keep" else [])]
    dense = pd.DataFrame(matrix.counts.toarray(), columns=names).reindex(columns=order, fill_value=0)
    features = pd.DataFrame({"id": order, "name": order})
    return CountMatrix(sp.csr_matrix(dense.to_numpy(dtype=np.int32)), matrix.barcodes, features)
