"""Hashtag counts straight from a table, where there are no gene counts to ingest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hyped_core.design import Design
from hyped_core.errors import UsageError
from hyped_seq.hashtags.counts import read_hashtag_counts
from hyped_seq.hashtags.names import name_tags
from hyped_seq.ingest.pool import parse_pool_argument
from hyped_seq.readers.h5ad import read_h5ad
from hyped_seq.readers.matrix import CountMatrix, check_barcodes
from hyped_seq.readers.wf_single_cell import strip_suffixes

if TYPE_CHECKING:
    from anndata import AnnData


def read_hto(path: str | Path, pool: str | None, design: Design, *, given: bool = True) -> tuple[AnnData, list[str]]:
    """Hashtag counts as `hyped_seq.demultiplex.run.demultiplex` takes them, and what a user should know of the reading.

    Parameters
    ----------
    path : the hto.h5ad of an ingest (it has ``obs["pool"]``), or a count table of one pool as
        `hyped_seq.hashtags.counts.read_hashtag_counts` reads them. Cells of a table are named ``<pool>_<barcode>``,
        without the ``-1`` of the barcode, as an ingest names them; its tags go by the design's names.
    pool : of a table; None: the design's only one, or the file's name where no design is given.
    given : whether ``design`` is the user's.

    Raises
    ------
    UsageError
        A pool is named and the file has its own, or none is named and the design has several.
    MissingFileError, CorruptFileError, InvalidDataError, DesignError
        As `read_hashtag_counts` and `hyped_seq.hashtags.names.name_tags`.
    """
    path = Path(path)
    if path.is_file() and path.suffix == ".h5ad":
        cells = read_h5ad(path)
        if "pool" in cells.obs:
            if pool is not None:
                raise UsageError("names its pools itself (obs/pool)", where=path, mend="leave --pool out")
            return cells, []
    names = [item.name for item in design.pools] if given else []
    if pool is None and len(names) > 1:
        said = f"is of one pool, the design has {', '.join(names)}"
        raise UsageError(said, where=path, mend="say which: --pool NAME")
    pool = pool or (names[0] if names else parse_pool_argument(path)[0])
    hashtags = [hashtag for hashtag in design.hashtags if hashtag.pool == pool]
    read = read_hashtag_counts(path, [hashtag.tag for hashtag in hashtags])
    barcodes = strip_suffixes(read.barcodes)
    check_barcodes(barcodes, path)
    matrix, record = name_tags(CountMatrix(read.counts, barcodes, read.features), hashtags)
    return _hto(matrix, pool), _notes(matrix, record, pool, [hashtag.tag for hashtag in hashtags])


def _hto(matrix: CountMatrix, pool: str) -> AnnData:
    from anndata import AnnData

    obs = pd.DataFrame(
        {"pool": pool, "barcode": matrix.barcodes}, index=[f"{pool}_{barcode}" for barcode in matrix.barcodes]
    )
    var = pd.DataFrame(index=pd.Index(list(matrix.features["name"]), dtype=object))
    return AnnData(matrix.counts, obs=obs, var=var, layers={"counts": matrix.counts})


def _notes(matrix: CountMatrix, record: dict, pool: str, tags: list[str]) -> list[str]:
    notes = [f"pool {pool!r}: {len(matrix.barcodes)} cells, tags {', '.join(matrix.features['name'])}"]
    left_out = list(record.get("rows_that_are_no_tags", ()))
    left_out += [name for name in matrix.features["name"] if tags and name not in tags]
    if left_out:
        notes.append(f"left out, no tags of the pool: {', '.join(left_out)}")
    return notes
