"""Hashtag count tables: CSV or TSV with tags in rows or in columns, and MEX folders."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_seq.readers.matrix import CountMatrix, check_barcodes, checked, reading
from hyped_seq.readers.mex import is_mex, read_mex

NOT_A_TAG = ("unmapped", "total_reads", "bad_struct", "nan", "unassigned")
"""Rows that counting tools add to their tables and that are no hashtags (compared in lower case)."""


def read_hashtag_counts(path: str | Path, tags: Collection[str] = ()) -> CountMatrix:
    """Read hashtag counts, cells x tags.

    ``tags`` are the names the design expects: where one side of a table holds one of them, that side is the
    tags'. Without such a hit the shorter side is taken for the tags.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file, not a table, counts that are none, or repeated barcodes or tags.
    """
    path = Path(path)
    if path.is_dir() and is_mex(path):
        return read_mex(path)
    if not path.is_file():
        raise MissingFileError("no such hashtag table", where=path, mend="check the path")
    table = _read_table(path)
    wanted = set(tags)
    in_rows, in_columns = wanted & set(table.index), wanted & set(table.columns)
    if len(in_rows) > len(in_columns) or (
        len(in_rows) == len(in_columns) and table.shape[0] < table.shape[1]
    ):
        table = table.T
    table = table[[name for name in table.columns if name.lower() not in NOT_A_TAG]]
    check_barcodes(list(table.index), path)
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise InvalidDataError(f"tag {repeated[0]!r} occurs more than once", where=path, mend="keep one")
    names = list(table.columns)
    return checked(_numbers(table, path), list(table.index), pd.DataFrame({"id": names, "name": names}), path)


def _read_table(path: Path) -> pd.DataFrame:
    """The table with text labels on both sides; values still as parsed."""
    separator = "\t" if ".tsv" in path.suffixes or ".txt" in path.suffixes else ","
    with reading(path):
        raw = pd.read_csv(path, sep=separator, header=None, dtype=str, na_filter=False, low_memory=False)
    if raw.shape[0] < 2 or raw.shape[1] < 2:
        raise CorruptFileError(
            "is not a table of counts", where=path, mend="give barcodes and tags with counts"
        )
    return pd.DataFrame(
        raw.iloc[1:, 1:].to_numpy(),
        index=[str(name).strip() for name in raw.iloc[1:, 0]],
        columns=[str(name).strip() for name in raw.iloc[0, 1:]],
    )


def _numbers(table: pd.DataFrame, path: Path) -> sp.csr_matrix:
    """The values as numbers; the first that is none is named with its place."""
    try:
        return sp.csr_matrix(table.to_numpy(dtype=np.float64))
    except ValueError:
        for tag in table.columns:
            bad = pd.to_numeric(table[tag], errors="coerce").isna()
            if bad.any():
                cell = table.index[bad.to_numpy()][0]
                raise CorruptFileError(
                    f"count of tag {tag!r} in cell {cell!r} is {table.loc[cell, tag]!r}, not a number",
                    where=path,
                    mend="give whole numbers",
                ) from None
        raise
