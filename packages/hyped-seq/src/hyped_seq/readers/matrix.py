"""`CountMatrix`, what every reader returns, and the checks that all of them share."""

from __future__ import annotations

import gzip
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

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError


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
    """``matrix`` as CSR int32 with sorted indices and no stored zeros.

    Raises
    ------
    InvalidDataError
        A value is negative, fractional, not finite or above 2**31 - 1.
    """
    counts = sp.csr_matrix(matrix)
    values = counts.data
    if values.size:
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
        if values.max() > np.iinfo(np.int32).max:
            raise InvalidDataError("holds counts above 2147483647", where=where, mend="give raw counts")
    if counts is matrix:
        counts = counts.copy()
    counts = counts.astype(np.int32)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    counts.sort_indices()
    return counts


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
    """A `CountMatrix` after all checks; ``counts`` is cells x features.

    Raises
    ------
    InvalidDataError
        Lengths disagree, counts are no counts, barcodes repeat, or nothing is there.
    """
    rows, columns = counts.shape  # type: ignore[attr-defined]
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
    return CountMatrix(as_counts(counts, where), list(barcodes), features.reset_index(drop=True))


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
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorruptFileError(
            f"is cut short or is not gzip: {error}", where=path, mend="copy the file again"
        ) from error
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CorruptFileError(f"cannot be read: {error}", where=path, mend="copy the file again") from error


def open_text(path: Path) -> IO[str]:
    """Open a text file, gzipped or plain, as UTF-8."""
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="check the path")
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, gzipped or plain, without line ends."""
    with reading(path), open_text(path) as handle:
        return [line.rstrip("\r\n") for line in handle]
