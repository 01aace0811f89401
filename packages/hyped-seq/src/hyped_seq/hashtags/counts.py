"""Hashtag counts from tables: CSV or TSV with tags in rows or in columns, MEX folders, 10x h5 and h5ad files."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_seq.hashtags.names import split_name
from hyped_seq.ingest.kinds import split_kinds
from hyped_seq.readers.h5ad import read_h5ad, read_h5ad_counts
from hyped_seq.readers.matrix import MOST, CountMatrix, check_barcodes, checked, open_text, reading
from hyped_seq.readers.mex import is_mex, read_mex
from hyped_seq.readers.tenx_h5 import read_tenx_h5

OBSM = "hashtag_counts"
"""Table of an h5ad with genes in ``X`` that holds hashtag counts, as a release of ours has it."""

_UMI_FOLDER = "umi_count"


def read_hashtag_counts(path: str | Path, tags: Collection[str] = ()) -> CountMatrix:
    """Read hashtag counts, cells x tags, labelled as the file has them.

    ``tags`` are the names the design expects: where one side of a CSV or TSV holds more of them (plain or as
    ``name-SEQUENCE``), that side is the tags'. Without a hit the shorter side is taken for the tags. Of a matrix that
    tells antibodies from genes, the antibodies are taken; of an h5ad ``obsm["hashtag_counts"]`` where there is one.
    CITE-seq-Count's output folder is read at its ``umi_count``.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file, not a table, counts that are none, or repeated barcodes or tags.
    """
    path = Path(path)
    if path.is_dir():
        folder = path / _UMI_FOLDER if is_mex(path / _UMI_FOLDER) else path
        if not is_mex(folder):
            raise MissingFileError(
                "holds no matrix.mtx", where=path, mend="give a folder with matrix, barcodes and features"
            )
        return _antibodies(read_mex(folder), tags, folder)
    if not path.is_file():
        raise MissingFileError("no such hashtag table", where=path, mend="check the path")
    if path.suffix == ".h5ad":
        return _read_h5ad(path, tags)
    if path.suffix in (".h5", ".hdf5"):
        return _antibodies(read_tenx_h5(path), tags, path)
    table = _read_table(path)
    in_rows, in_columns = (_hits(labels, tags) for labels in (table.index, table.columns))
    if in_rows > in_columns or (in_rows == in_columns and table.shape[0] < table.shape[1]):
        table = table.T
    check_barcodes(list(table.index), path)
    names = list(table.columns)
    return _unrepeated(
        checked(_numbers(table, path), list(table.index), pd.DataFrame({"id": names, "name": names}), path), path
    )


def _hits(labels: pd.Index, tags: Collection[str]) -> int:
    """How many of ``labels`` are tags of the design."""
    wanted = set(tags)
    return sum(label in wanted or split_name(label)[0] in wanted for label in labels)


def _antibodies(matrix: CountMatrix, tags: Collection[str], path: Path) -> CountMatrix:
    """The part of ``matrix`` that is antibodies, all of it where it tells no kinds apart."""
    kinds = split_kinds(matrix, tags)
    return _unrepeated(kinds.hashtags or matrix, path)


def _unrepeated(matrix: CountMatrix, path: Path) -> CountMatrix:
    names = matrix.features["name"]
    repeated = names[names.duplicated()]
    if len(repeated):
        raise InvalidDataError(f"tag {repeated.iloc[0]!r} occurs more than once", where=path, mend="keep one")
    return matrix


def _read_h5ad(path: Path, tags: Collection[str]) -> CountMatrix:
    cells = read_h5ad(path)
    if OBSM in cells.obsm and isinstance(cells.obsm[OBSM], pd.DataFrame):
        table = cells.obsm[OBSM]
        names = [str(name) for name in table.columns]
        features = pd.DataFrame({"id": names, "name": names})
        barcodes = [str(name) for name in cells.obs_names]
        return _unrepeated(checked(sp.csr_matrix(table.to_numpy()), barcodes, features, f"{path}/obsm/{OBSM}"), path)
    matrix = read_h5ad_counts(path)
    kind = next((name for name in ("feature_types", "feature_type", "kind") if name in cells.var), None)
    if kind is not None and "kind" not in matrix.features and len(cells.var) == len(matrix.features):
        features = matrix.features.assign(kind=[str(value) for value in cells.var[kind]])
        matrix = CountMatrix(matrix.counts, matrix.barcodes, features)
    return _antibodies(matrix, tags, path)


def _read_table(path: Path) -> pd.DataFrame:
    """The table with text labels on both sides; values still as text. A header may lack its first, empty label."""
    with reading(path), open_text(path) as handle:
        text = handle.read()
    lines = text.split("\n", 2)
    usual = "\t" if {".tsv", ".txt"} & set(path.suffixes) else ","
    separator = max((usual, ",", "\t", ";"), key=lines[0].count)
    if len(lines) > 1 and lines[1].count(separator) == lines[0].count(separator) + 1:
        text = separator + text
    with reading(path):
        raw = pd.read_csv(
            io.StringIO(text), sep=separator, header=None, dtype=str, na_filter=False, skip_blank_lines=True
        )
    if raw.shape[0] < 2 or raw.shape[1] < 2:
        raise CorruptFileError("is not a table of counts", where=path, mend="give barcodes and tags with counts")
    return pd.DataFrame(
        raw.iloc[1:, 1:].to_numpy(),
        index=[str(name).strip() for name in raw.iloc[1:, 0]],
        columns=[str(name).strip() for name in raw.iloc[0, 1:]],
    )


def _numbers(table: pd.DataFrame, path: Path) -> sp.csr_matrix:
    """The values as whole numbers; the first that is none is named with its cell and tag."""
    try:
        values = table.to_numpy(dtype=np.float64)
        error: type[InvalidDataError] = InvalidDataError
        bad = ~(np.isfinite(values) & (values >= 0) & (values == np.rint(values)) & (values <= MOST))
    except ValueError:
        error = CorruptFileError
        bad = table.apply(pd.to_numeric, errors="coerce").isna().to_numpy()
    if bad.any():
        cell, tag = (int(place) for place in np.argwhere(bad)[0])
        raise error(
            f"count of tag {table.columns[tag]!r} in cell {table.index[cell]!r} is {table.iloc[cell, tag]!r}, "
            "not a whole number from 0 on (negative, fractional or no number)",
            where=path,
            mend="give raw counts",
        )
    return sp.csr_matrix(values)
