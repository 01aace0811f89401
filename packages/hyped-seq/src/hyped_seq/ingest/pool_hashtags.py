"""Hashtags of one pool: from a count table or from reads, as the design names them, over the pool's cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Design, Hashtag
from hyped_core.errors import DesignError, InvalidDataError, MissingFileError
from hyped_seq.hashtags.counts import read_hashtag_counts
from hyped_seq.hashtags.files import is_fastq
from hyped_seq.hashtags.names import name_tags
from hyped_seq.ingest.align import align_cells
from hyped_seq.ingest.params import IngestParams
from hyped_seq.readers.matrix import CountMatrix, check_barcodes
from hyped_seq.readers.wf_single_cell import strip_suffixes

_STRAY_SHARE = 1e-4
"""Molecules of a pool that may match a barcode by error alone; the soup leaves more of every tag that was used."""

_SHOWN = 5

_STRANGERS = 0.1
"""Barcodes of a hashtag table that a matrix of the same run may lack."""


def find_pool_hashtags(pool: str, folder: Path, params: IngestParams) -> Path | None:
    """The hashing library inside a pool's folder as ``params`` name it; None where they ask for none.

    Raises
    ------
    MissingFileError
        It is not there.
    """
    if params.hashtags == "none":
        return None
    path = folder / params.hashtag_folder / (params.counts_file if params.hashtags == "counts" else params.reads_file)
    if not path.exists():
        raise MissingFileError(
            f"has no hashtag {params.hashtags} for pool {pool!r}",
            where=path,
            mend="put the file there, name it in counts_file / reads_file, or set hashtags: none",
        )
    return path


def read_pool_hashtags(
    pool: str,
    path: Path,
    barcodes: list[str],
    whitelist: Sequence[str],
    design: Design,
    params: IngestParams,
) -> tuple[CountMatrix, dict[str, Any]]:
    """Hashtag counts of the cells ``barcodes``, columns named as the design has them, and the record of the reading.

    Parameters
    ----------
    path : count table (CSV, TSV), MEX folder, h5 or h5ad; or reads: FASTQ (plain or gzipped) or a folder of it.
    barcodes : the pool's cells, no suffix; rows of the result.
    whitelist : barcodes that reads are corrected against (only used for reads).

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError, DesignError
        No such file, broken, of another run, or its tags are not those of the design.
    """
    hashtags = _listed(pool, design) if params.unlisted_tags == "keep" else design.pool_hashtags(pool)
    report: dict[str, Any] = {}
    if is_fastq(path):
        from hyped_seq.hashtags.reads import count_hashtag_reads

        matrix, reads = count_hashtag_reads(
            path, whitelist, hashtags, params.reads, whitelist_name=f"the whitelist of pool {pool!r}"
        )
        report["hashtag_reads"] = reads.record()
        _check_seen(matrix, path, pool, design, params)
    else:
        read = read_hashtag_counts(path, [hashtag.tag for hashtag in hashtags])
        names = strip_suffixes(read.barcodes)
        check_barcodes(names, path)
        matrix, report = name_tags(CountMatrix(read.counts, names, read.features), hashtags)
    aligned, absent, extra = align_cells(matrix, barcodes)
    known = len(barcodes) - absent
    report["cells_without_hashtags"] = absent
    report["hashtag_barcodes_without_genes"] = extra
    if known < params.min_cell_overlap * len(barcodes):
        if known and extra <= _STRANGERS * (known + extra):
            raise InvalidDataError(
                f"knows {known} of the {len(barcodes)} cells of pool {pool!r}, and {known} of its own {known + extra} "
                "cells are among them: the matrix holds empty droplets too, or the table lacks cells",
                where=path,
                mend="give the pool's filtered matrix (filtered_feature_bc_matrix) or the hashtags of all its cells "
                "(or lower min_cell_overlap)",
            )
        raise InvalidDataError(
            f"knows {known} of the {len(barcodes)} cells of pool {pool!r}",
            where=path,
            mend="give the hashtags of the same run (or lower min_cell_overlap)",
        )
    return aligned, report


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


def match_tags(matrix: CountMatrix, tags: list[str], pool: str, design: Design, params: IngestParams) -> CountMatrix:
    """The columns in the order of the design; tags on one side only are refused, dropped, kept or filled.

    A tag without any count is refused as one that is absent.
    Labels are matched to the design's as `hyped_seq.hashtags.names.name_tags` says.
    """
    matrix, _ = name_tags(matrix, _listed(pool, design))
    names = list(matrix.features["name"])
    unlisted = [name for name in names if name not in tags]
    absent = [tag for tag in tags if tag not in names]
    where = f"design {design.name!r}, pool {pool!r}"
    if unlisted and params.unlisted_tags == "error":
        raise DesignError(
            f"does not name tag {_some(unlisted)}, which the counts hold",
            where=where,
            mend="add it to the design's hashtags, or set unlisted_tags: drop",
        )
    if absent and params.absent_tags == "error":
        raise DesignError(
            f"names tag {_some(absent)}, which the counts lack (they hold {_some(names)})",
            where=where,
            mend="correct the tag's name in the design, or set absent_tags: zero",
        )
    totals = dict(zip(names, np.asarray(matrix.counts.sum(axis=0)).ravel(), strict=True))
    silent = [tag for tag in tags if tag in totals and totals[tag] == 0]
    if silent and params.absent_tags == "error":
        raise DesignError(
            f"names tag {_some(silent)}, of which no cell has a count",
            where=where,
            mend="take the tag out of the design's hashtags, or set absent_tags: zero",
        )
    order = [*tags, *(unlisted if params.unlisted_tags == "keep" else [])]
    place = {name: column for column, name in enumerate(names)}
    columns = matrix.counts.tocsc()
    empty = sp.csc_matrix((matrix.counts.shape[0], 1), dtype=np.int32)
    parts = [columns[:, [place[name]]] if name in place else empty for name in order]
    counts = sp.csr_matrix(sp.hstack(parts) if parts else (matrix.counts.shape[0], 0), dtype=np.int32)
    return CountMatrix(counts, matrix.barcodes, pd.DataFrame({"id": order, "name": order}))


def _listed(pool: str, design: Design) -> list[Hashtag]:
    """The design's hashtags of a pool; none of a pool it does not name."""
    return list(design.pool_hashtags(pool)) if pool in {item.name for item in design.pools} else []


def _some(names: Sequence[str]) -> str:
    """The first of many names, quoted."""
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
