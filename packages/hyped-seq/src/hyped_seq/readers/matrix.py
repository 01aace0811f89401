"""`CountMatrix`, what every reader returns, and the checks that all of them share."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import scipy.sparse as sp
from isal import igzip, isal_zlib

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError

MOST = int(np.iinfo(np.int32).max)
"""The largest count, and the most rows and columns."""


@dataclass(frozen=True, slots=True)
class CountMatrix:
    """Raw counts of one file.

    Attributes
    ----------
    counts : (cells, features) CSR int32, indices sorted.
    barcodes : one a row, unique, as the file has them.
    features : one row a column of ``counts``; columns ``id`` and ``name``.
    """

    counts: sp.csr_matrix
    barcodes: list[str]
    features: pd.DataFrame


def as_counts(matrix: object, where: object) -> sp.csr_matrix:
    """``matrix`` as CSR int32 with sorted indices and no stored zeros, sharing no memory with ``matrix``.

    Raises
    ------
    InvalidDataError
        A value is negative, fractional, not finite or above 2**31 - 1, or a column lies outside the matrix.
    """
    counts = sp.csr_matrix(matrix)
    _check_counts(counts.data, where)
    if counts.indices.size and not 0 <= counts.indices.min() <= counts.indices.max() < counts.shape[1]:
        raise InvalidDataError(
            f"holds columns outside its {counts.shape[1]} features", where=where, mend="copy the file again"
        )
    canonical = counts.has_canonical_format
    if not canonical:
        # sums of entries of one place may be above what int32 holds
        counts = counts.astype(np.int64)
        counts.sum_duplicates()
        _check_counts(counts.data, where)
    kind = index_type(counts.nnz)
    own = sp.csr_matrix(
        (counts.data.astype(np.int32), counts.indices.astype(np.int32), counts.indptr.astype(kind)), shape=counts.shape
    )
    own.has_canonical_format = True
    own.eliminate_zeros()
    return own


def index_type(stored: int) -> type[np.signedinteger]:
    """The type of ``indptr`` of a matrix with so many stored values."""
    return np.int32 if stored <= MOST else np.int64


def are_counts(matrix: object) -> bool:
    """Whether all values of a sparse or dense matrix are whole numbers from 0 to 2**31 - 1."""
    try:
        _check_counts(matrix.data if sp.issparse(matrix) else np.asarray(matrix), "")
    except InvalidDataError:
        return False
    return True


def _check_counts(values: np.ndarray, where: object) -> None:
    """Raise `InvalidDataError` where ``values`` are not whole numbers from 0 to 2**31 - 1."""
    if not values.size:
        return
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InvalidDataError("holds counts that are not finite", where=where, mend="give raw counts")
    if values.min() < 0:
        raise InvalidDataError(
            f"holds negative counts (lowest {values.min():g})", where=where, mend="give raw counts"
        )
    if values.dtype.kind == "f" and (values != np.rint(values)).any():
        raise InvalidDataError(
            f"holds counts that are not whole numbers (e.g. {values[values != np.rint(values)][0]:g})",
            where=where,
            mend="give the raw matrix, not the processed one",
        )
    if values.max() > MOST:
        raise InvalidDataError(f"holds counts above {MOST}", where=where, mend="give raw counts")


def check_barcodes(barcodes: Sequence[str], where: object) -> None:
    """Raise `InvalidDataError` where a barcode is empty or occurs more than once."""
    repeated = [name for name, count in Counter(barcodes).items() if count > 1]
    if repeated:
        raise InvalidDataError(
            f"{len(repeated)} barcode(s) occur more than once, first {repeated[0]!r}",
            where=where,
            mend="give one row a cell",
        )
    if any(not name for name in barcodes):
        raise InvalidDataError("holds an empty barcode", where=where, mend="remove the empty line")


def checked(counts: object, barcodes: Sequence[str], features: pd.DataFrame, where: object) -> CountMatrix:
    """A `CountMatrix` after all checks; ``counts`` is any matrix of cells x features, and is copied.

    Raises
    ------
    InvalidDataError
        Lengths disagree, counts are no counts, barcodes repeat, or nothing is there.
    """
    check_shape(counts.shape, barcodes, features, where)  # type: ignore[attr-defined]
    return CountMatrix(as_counts(counts, where), list(barcodes), features.reset_index(drop=True))


def check_shape(shape: tuple[int, int], barcodes: Sequence[str], features: pd.DataFrame, where: object) -> None:
    """Raise `InvalidDataError` where names and matrix disagree, barcodes repeat, or there is no cell."""
    rows, columns = shape
    if (columns, rows) == (len(barcodes), len(features)) and rows != columns:
        raise InvalidDataError(
            f"has its {columns} cells where features belong, and its {rows} features where cells do",
            where=where,
            mend="transpose the matrix: 10x and wf-single-cell have a row a feature and a column a cell",
        )
    if rows != len(barcodes):
        raise InvalidDataError(
            f"the matrix has {rows} cells but there are {len(barcodes)} barcodes",
            where=where,
            mend="take matrix and barcodes from one run",
        )
    if columns != len(features):
        raise InvalidDataError(
            f"the matrix has {columns} features but {len(features)} are named",
            where=where,
            mend="take matrix and features from one run",
        )
    if rows == 0:
        raise InvalidDataError("holds no cells", where=where, mend="give a pool with cells")
    check_barcodes(barcodes, where)


def find_file(folder: Path, *names: str) -> Path:
    """The first of ``names`` (each tried plain and with ``.gz``) that exists in ``folder``."""
    for name in names:
        for candidate in (folder / f"{name}.gz", folder / name):
            if candidate.is_file():
                return candidate
    raise MissingFileError(
        f"has no {' or '.join(names)} (plain or .gz)", where=folder, mend="give the complete folder"
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong inside into one `CorruptFileError` that names ``path``."""
    try:
        yield
    except (EOFError, zlib.error, isal_zlib.error, igzip.BadGzipFile) as error:
        raise CorruptFileError(
            f"is cut short or is not gzip: {error}", where=path, mend="copy the file again"
        ) from error
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CorruptFileError(f"cannot be read: {error}", where=path, mend="copy the file again") from error


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, gzipped (``.gz``) or plain, as bytes.

    Raises
    ------
    MissingFileError, CorruptFileError
        No such file, or a ``.gz`` of no bytes at all.
    """
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="check the path")
    if path.suffix != ".gz":
        return path.open("rb")
    if path.stat().st_size == 0:
        raise CorruptFileError("is empty, not even gzip", where=path, mend="copy the file again")
    return igzip.open(path, "rb")


def open_text(path: Path) -> IO[str]:
    """Open a text file, gzipped (``.gz``) or plain, as UTF-8 without byte order mark; raises what `open_bytes` does."""
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, gzipped or plain, without line ends."""
    with reading(path), open_text(path) as handle:
        return [line.rstrip("\r\n") for line in handle]
