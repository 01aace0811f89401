"""One pool: what kind of input it is, reading it, and lining hashtags and transcripts up with its cells."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hyped_core.design import Design
from hyped_core.errors import InvalidDataError, MissingFileError, UsageError
from hyped_seq.hashtags.counts import read_hashtag_counts
from hyped_seq.ingest.align import align_cells
from hyped_seq.ingest.empty_droplets import find_step
from hyped_seq.ingest.kinds import split_kinds
from hyped_seq.ingest.params import IngestParams
from hyped_seq.ingest.pool_hashtags import find_pool_hashtags, match_tags, read_pool_hashtags
from hyped_seq.readers.h5ad import read_h5ad_counts
from hyped_seq.readers.matrix import CountMatrix, check_barcodes
from hyped_seq.readers.mex import is_mex, read_mex
from hyped_seq.readers.read_summary import read_summary
from hyped_seq.readers.rows import take_rows
from hyped_seq.readers.tenx_h5 import read_tenx_h5
from hyped_seq.readers.wf_single_cell import (
    GENES,
    TRANSCRIPTS,
    WfFolder,
    is_wf_folder,
    open_wf_folder,
    read_mito,
    read_wf_matrix,
    read_whitelist,
    strip_suffixes,
)


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


def parse_hashtag_arguments(arguments: Sequence[str | Path], pools: Sequence[str]) -> dict[str, Path]:
    """``POOL=PATH`` arguments as pool -> path; a bare ``PATH`` is the only pool's.

    >>> parse_hashtag_arguments(["hashtags.csv"], ["p1"])
    {'p1': PosixPath('hashtags.csv')}

    Raises
    ------
    UsageError
        A bare path with several pools, a pool that is not given, or one that is named twice.
    """
    found: dict[str, Path] = {}
    for argument in map(str, arguments):
        name, equals, rest = argument.partition("=")
        if equals and name in pools:
            path = Path(rest)
        elif len(pools) == 1 and (not equals or "/" in name or Path(argument).exists()):
            name, path = pools[0], Path(argument)
        else:
            raise UsageError(
                f"hashtags {argument!r} name no pool; the pools are {', '.join(pools)}", mend="give POOL=PATH"
            )
        if name in found:
            raise UsageError(f"hashtags of pool {name!r} are given twice", mend="give one library a pool")
        found[name] = path
    return found


def read_pool(
    name: str, path: Path, design: Design, params: IngestParams, *, hashtags: Path | None = None
) -> PoolCounts:
    """Read one pool from a wf-single-cell folder, 10x MEX or h5, an h5ad, or a table of hashtag counts alone.

    ``hashtags`` is its hashing library; without it, hashtags are the antibody features of the matrix itself, else
    the library inside the pool's folder.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError, DesignError
        A file is absent, broken or of another run; or the tags are not those of the design.
    """
    if not path.exists():
        raise MissingFileError("no such pool", where=path, mend="check the path")
    tags = [] if params.unlisted_tags == "keep" and name not in _pools(design) else _tags(design, name)
    if is_wf_folder(path):
        pool, whitelist = _read_wf(name, open_wf_folder(path), params)
    else:
        pool = _read_cells(name, path, tags, params)
        _leave_empty_out(pool, path, params)
        whitelist = pool.barcodes
    if hashtags is not None:
        if pool.genes is None:
            raise InvalidDataError(
                f"holds the hashtags of pool {name!r} itself, and {hashtags} is given too",
                where=path,
                mend="give one of them",
            )
        if not hashtags.exists():
            raise MissingFileError(f"no such hashtags of pool {name!r}", where=hashtags, mend="check the path")
        library: Path | None = hashtags
    elif pool.hashtags is None:
        library = find_pool_hashtags(name, path if path.is_dir() else path.parent, params)
    else:
        library = None
    pool.report["hashtags_from"] = "none" if pool.hashtags is None else "matrix"
    if library is not None:
        pool.report["hashtags_from"] = library.name
        pool.hashtags, report = read_pool_hashtags(name, library, pool.barcodes, whitelist, design, params)
        pool.report.update(report)
    if pool.hashtags is not None:
        pool.hashtags = match_tags(pool.hashtags, tags, name, design, params)
    return pool


def _pools(design: Design) -> list[str]:
    return [pool.name for pool in design.pools]


def _tags(design: Design, pool: str) -> list[str]:
    """Tags of a pool that the design has to know."""
    return [hashtag.tag for hashtag in design.pool_hashtags(pool)]


def _read_cells(name: str, path: Path, tags: list[str], params: IngestParams) -> PoolCounts:
    """The gene counts of a pool, with its hashtag counts where the path holds them, or those alone."""
    if path.is_file() and any(suffix in (".csv", ".tsv", ".txt") for suffix in path.suffixes):
        return _new_pool(name, path, None, read_hashtag_counts(path, tags))
    if path.is_dir() and is_mex(path):
        matrix = read_mex(path)
    elif path.is_dir():
        open_wf_folder(path)
        raise InvalidDataError("is no pool", where=path, mend="give a wf-single-cell or MEX folder")
    elif path.suffix == ".h5ad":
        matrix = read_h5ad_counts(path)
    elif path.suffix in (".h5", ".hdf5"):
        matrix = read_tenx_h5(path, params.genome)
    else:
        raise InvalidDataError(
            "is no pool",
            where=path,
            mend="give a wf-single-cell or MEX folder, .h5, .h5ad, or .csv of hashtags",
        )
    if set(matrix.features["name"]) <= set(tags):
        return _new_pool(name, path, None, matrix)
    kinds = split_kinds(matrix, tags)
    pool = _new_pool(name, path, kinds.genes, kinds.hashtags if params.hashtags != "none" else None)
    if kinds.left_out:
        pool.report["features_left_out"] = kinds.left_out
    return pool


def _new_pool(name: str, path: Path, genes: CountMatrix | None, hashtags: CountMatrix | None) -> PoolCounts:
    """A pool under barcodes without suffix; refused where there is nothing to count."""
    matrix = genes if genes is not None else hashtags
    if matrix is None or matrix.counts.nnz == 0:
        raise InvalidDataError("is empty: it holds no counts", where=path, mend="leave this pool out")
    barcodes = strip_suffixes(matrix.barcodes)
    check_barcodes(barcodes, path)

    def named(part: CountMatrix | None) -> CountMatrix | None:
        return None if part is None else CountMatrix(part.counts, barcodes, part.features)

    return PoolCounts(name, barcodes, genes=named(genes), hashtags=named(hashtags))


def _leave_empty_out(pool: PoolCounts, path: Path, params: IngestParams) -> None:
    """Take the empty droplets out of a matrix that was never filtered, as ``params.empty_droplets`` says."""
    if pool.genes is None or params.empty_droplets == "keep":
        return
    molecules = np.asarray(pool.genes.counts.sum(axis=1)).ravel()
    step = find_step(molecules)
    if step is None:
        return
    if params.empty_droplets == "error" or not step.clear:
        unclear = "" if step.clear else ", and no clear step parts them from cells"
        raise InvalidDataError(
            f"is not filtered: {step.empty} of its {len(molecules)} barcodes look like empty droplets "
            f"(fewer than {step.least} molecules){unclear}",
            where=path,
            mend="give the filtered matrix (filtered_feature_bc_matrix), or set empty_droplets: keep",
        )
    rows = np.flatnonzero(molecules >= step.least)
    pool.barcodes = [pool.barcodes[row] for row in rows]

    def cells(part: CountMatrix | None) -> CountMatrix | None:
        return None if part is None else CountMatrix(take_rows(part.counts, rows), pool.barcodes, part.features)

    pool.genes, pool.hashtags = cells(pool.genes), cells(pool.hashtags)
    pool.report["empty_droplets_left_out"] = step.empty
    pool.report["least_molecules_of_a_cell"] = step.least


def _read_wf(name: str, wf: WfFolder, params: IngestParams) -> tuple[PoolCounts, list[str]]:
    """Genes, transcripts and figures of a workflow's folder, and its whitelist; the two matrices side by side."""
    with ThreadPoolExecutor(1) as other:
        reading = other.submit(read_wf_matrix, wf, TRANSCRIPTS)
        pool = _new_pool(name, wf.path(GENES), read_wf_matrix(wf, GENES), None)
        transcripts = reading.result()
    pool.transcripts, absent, extra = align_cells(transcripts, pool.barcodes)
    _need_overlap(wf.path(TRANSCRIPTS), absent, pool, params)
    pool.report["cells_without_transcripts"] = absent
    pool.report["transcript_barcodes_without_genes"] = extra
    whitelist = pool.barcodes
    if wf.path("whitelist.tsv").is_file():
        whitelist = read_whitelist(wf.path("whitelist.tsv"))
        absent = len(set(pool.barcodes) - set(whitelist))
        _need_overlap(wf.path("whitelist.tsv"), absent, pool, params)
        pool.report["cells_not_in_whitelist"] = absent
    pool.figures = _figures(pool, wf, params)
    return pool, whitelist


def _need_overlap(path: Path, absent: int, pool: PoolCounts, params: IngestParams) -> None:
    """Refuse a file of another run."""
    n = len(pool.barcodes)
    if n - absent < params.min_cell_overlap * n:
        raise InvalidDataError(
            f"knows {n - absent} of the {n} cells of pool {pool.name!r}",
            where=path,
            mend="give all files of one run (or lower min_cell_overlap)",
        )


def _need_figures(path: Path, barcodes: pd.Index, pool: PoolCounts, params: IngestParams) -> None:
    """Refuse figures of another run; those of this one may leave cells out."""
    known = len(set(pool.barcodes).intersection(barcodes))
    if not known or known < params.min_cell_overlap * min(len(pool.barcodes), len(barcodes)):
        _need_overlap(path, len(pool.barcodes) - known, pool, params)


def _figures(pool: PoolCounts, wf: WfFolder, params: IngestParams) -> pd.DataFrame:
    """The workflow's figures of each cell, where their files are."""
    figures: dict[str, pd.Series] = {}
    mito, summary = wf.path("gene_expression_mito_per_cell.tsv"), wf.path("read_summary.tsv")
    if mito.is_file():
        figures["mito_pct"] = read_mito(mito)
        _need_figures(mito, figures["mito_pct"].index, pool, params)
    if summary.is_file():
        reads = read_summary(summary)
        _need_figures(summary, reads.n_reads.index, pool, params)
        figures["n_reads"], figures["n_reads_assigned"] = reads.n_reads, reads.n_reads_assigned
        pool.transcript_gene = reads.transcript_gene
    columns = {}
    for name, series in figures.items():
        values = series.reindex(pool.barcodes)
        pool.report[f"cells_without_{name}"] = int(values.isna().sum())
        columns[name] = values.to_numpy() if name == "mito_pct" else values.fillna(0).to_numpy(dtype="int64")
    return pd.DataFrame(columns, index=pool.barcodes)
