"""A table of hashtag counts without gene counts, as `import-cells` takes it: one pool's ``hto`` modality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hyped_core.design import Design
from hyped_seq.hashtags.counts import read_hashtag_counts
from hyped_seq.hashtags.names import name_tags
from hyped_seq.ingest.params import ImportCellsParams, IngestParams
from hyped_seq.ingest.pool_hashtags import match_tags
from hyped_seq.readers.mex import is_mex

NOT_CALLED = ("hashtag_call", "hashtag_kind", "assigned_condition", "condition", "assigned_phase", "phase")
"""Fixed columns that stay empty until the cells are demultiplexed."""


def is_hashtag_table(path: str | Path) -> bool:
    """True for CSV, TSV, MEX folders and CITE-seq-Count's output; an h5ad holds gene counts."""
    path = Path(path)
    return bool({".csv", ".tsv", ".txt"} & set(path.suffixes)) or is_mex(path) or is_mex(path / "umi_count")


def import_hashtags(
    path: str | Path, design: Design, params: ImportCellsParams
) -> tuple[Any, dict[str, Any]]:
    """The ``hto`` AnnData of a hashtag table and the record of how it was read.

    The pool is ``params.pool_name``, else the design's only one, else ``all``. Where the design names the
    pool, its tags have to be those of the table. ``X`` and ``layers["counts"]`` hold raw counts; barcodes are
    kept as they are, ``obs_names`` are ``<pool>_<barcode>``.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError, DesignError
        No such table, not a table of counts, or tags that the design does not name.
    """
    from anndata import AnnData

    only = design.pools[0].name if len(design.pools) == 1 else "all"
    pool = params.pool_name or only
    known = pool in {item.name for item in design.pools}
    tags = [hashtag.tag for hashtag in design.pool_hashtags(pool)] if known else []
    matrix = read_hashtag_counts(path, tags)
    if tags:
        matrix = match_tags(matrix, tags, pool, design, IngestParams())
    else:
        matrix, _ = name_tags(matrix, ())
    names = list(matrix.features["name"])
    obs = pd.DataFrame(
        {"pool": pd.Categorical([pool] * len(matrix.barcodes)), "barcode": matrix.barcodes},
        index=[f"{pool}_{barcode}" for barcode in matrix.barcodes],
    )
    for column in NOT_CALLED:
        obs[column] = pd.Categorical(np.full(len(obs), ""))
    hto = AnnData(
        X=matrix.counts,
        obs=obs,
        var=pd.DataFrame({"hashtag": names}, index=pd.Index(names, dtype=object)),
        layers={"counts": matrix.counts.copy()},
    )
    hto.uns["design_yaml"] = design.to_yaml()
    record = {
        "cells": hto.n_obs,
        "tags": names,
        "pool": pool,
        "counts": f"hashtag counts of {Path(path).name}",
    }
    return hto, record
