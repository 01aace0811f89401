"""10x MEX folders: ``matrix.mtx``, ``barcodes.tsv``, ``features.tsv`` (or ``genes.tsv``), plain or gz."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import scipy.io
import scipy.sparse as sp

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_seq.readers.matrix import CountMatrix, checked, find_file, read_lines, reading


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
    features = read_features(find_file(folder, "features.tsv", "genes.tsv"))
    return checked(read_matrix_market(matrix_path).T, barcodes, features, matrix_path)


def read_matrix_market(path: Path) -> sp.coo_matrix:
    """The sparse matrix of a Matrix Market file, as stored."""
    try:
        with reading(path):
            matrix = scipy.io.mmread(str(path))
    except (ValueError, OverflowError, OSError) as error:
        raise CorruptFileError(
            f"is not a complete Matrix Market file: {error}", where=path, mend="copy the file again"
        ) from error
    return sp.coo_matrix(matrix)


def read_features(path: Path) -> pd.DataFrame:
    """Columns ``id``, ``name`` (and ``kind``) of a 10x feature table of one to three columns."""
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
    return table
