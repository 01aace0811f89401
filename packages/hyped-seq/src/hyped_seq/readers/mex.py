"""10x MEX folders: ``matrix.mtx``, ``barcodes.tsv``, ``features.tsv`` (or ``genes.tsv``), plain or gz."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_seq.readers.matrix import CountMatrix, check_shape, find_file, read_lines
from hyped_seq.readers.matrix_market import read_header, read_matrix_market

_FEATURES = ("features.tsv", "genes.tsv")


def is_mex(folder: Path) -> bool:
    """True where ``folder`` holds a Matrix Market file under 10x' name."""
    return any((folder / name).is_file() for name in ("matrix.mtx", "matrix.mtx.gz"))


def read_mex(folder: str | Path) -> CountMatrix:
    """Read one MEX folder (features x cells on disk, cells x features here).

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        A file is absent, cut short, or the three disagree.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError("no such folder", where=folder, mend="check the path")
    matrix_path = find_file(folder, "matrix.mtx")
    barcodes = [line for line in read_lines(find_file(folder, "barcodes.tsv")) if line]
    features = read_features(find_file(folder, *_FEATURES))
    counts = read_matrix_market(matrix_path)
    check_shape(counts.shape, barcodes, features, matrix_path)
    return CountMatrix(counts, barcodes, features)


def read_mex_features(folder: str | Path) -> pd.DataFrame:
    """The features of a MEX folder as `read_features` has them; of the matrix only the header is read.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        A file is absent, or the table has more or fewer lines than the matrix has features.
    """
    folder = Path(folder)
    path = find_file(folder, *_FEATURES)
    features = read_features(path)
    stated = read_header(find_file(folder, "matrix.mtx")).features
    if len(features) != stated:
        raise CorruptFileError(
            f"names {len(features)} features, the matrix has {stated}", where=path, mend="copy the file again"
        )
    return features


def read_features(path: Path) -> pd.DataFrame:
    """Columns ``id``, ``name`` (and ``kind``) of a 10x feature table of one to three columns.

    A feature without a name goes by its id.
    """
    rows = [line.split("\t") for line in read_lines(path) if line]
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        line = next(i for i, row in enumerate(rows, 1) if len(row) != len(rows[0]))
        raise InvalidDataError(
            f"line {line} has {len(rows[line - 1])} columns, the first {len(rows[0])}",
            where=path,
            mend="give one feature a line, columns parted by tabs",
        )
    if not rows:
        return pd.DataFrame({"id": [], "name": []}, dtype=str)
    table = pd.DataFrame(rows).iloc[:, :3]
    table.columns = ["id", "name", "kind"][: table.shape[1]]
    if "name" not in table:
        table["name"] = table["id"]
    table["name"] = table["name"].where(table["name"] != "", table["id"])
    return table
