"""Output folders of EPI2ME wf-single-cell v3.1.0: ``<folder>/<alias>.<what>``. Raw matrices only.

The processed matrices are log10-normalised and filtered by another rule, so nothing here reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hyped_core.errors import InvalidDataError, MissingFileError
from hyped_seq.readers.matrix import CountMatrix, check_barcodes, read_lines, reading
from hyped_seq.readers.mex import read_mex
from hyped_seq.readers.rows import take_columns

GENES = "gene_raw_feature_bc_matrix"
TRANSCRIPTS = "transcript_raw_feature_bc_matrix"
UNASSIGNED = "-"
"""What the workflow writes for a read without gene, transcript or barcode."""


@dataclass(frozen=True, slots=True)
class WfFolder:
    """One pool's output folder and the prefix its files carry."""

    folder: Path
    alias: str

    def path(self, name: str) -> Path:
        """Path of ``<alias>.<name>``."""
        return self.folder / f"{self.alias}.{name}"


def is_wf_folder(folder: Path) -> bool:
    """True where ``folder`` looks like an output of wf-single-cell."""
    return folder.is_dir() and any(folder.glob(f"*.{GENES}"))


def open_wf_folder(folder: str | Path) -> WfFolder:
    """Find the alias of an output folder.

    Raises
    ------
    MissingFileError, InvalidDataError
        There is no raw gene matrix, or there are several samples' in one folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError("no such folder", where=folder, mend="check the path")
    found = sorted(folder.glob(f"*.{GENES}"))
    if not found:
        raise MissingFileError(
            f"has no <alias>.{GENES}",
            where=folder,
            mend="give a folder <out_dir>/<alias> of wf-single-cell v3.1",
        )
    if len(found) > 1:
        raise InvalidDataError(
            f"holds {len(found)} samples: {', '.join(path.name for path in found)}",
            where=folder,
            mend="give one folder a pool",
        )
    return WfFolder(folder, found[0].name[: -len(GENES) - 1])


def strip_suffix(barcode: str) -> str:
    """A barcode without the ``-1`` (any ``-<number>``) that the workflow's matrices carry.

    >>> strip_suffix("ACGTACGTACGTACGT-1")
    'ACGTACGTACGTACGT'
    """
    stem, dash, number = barcode.rpartition("-")
    return stem if dash and number.isdigit() else barcode


def strip_suffixes(barcodes: Sequence[str]) -> list[str]:
    """Barcodes without their ``-<number>``, unless that number tells cells of joined captures apart.

    >>> strip_suffixes(["AC-1", "GT-1"]), strip_suffixes(["AC-1", "AC-2"])
    (['AC', 'GT'], ['AC-1', 'AC-2'])
    """
    stripped = [strip_suffix(barcode) for barcode in barcodes]
    return stripped if len(set(stripped)) == len(set(barcodes)) else list(barcodes)


def read_wf_matrix(wf: WfFolder, which: str = GENES) -> CountMatrix:
    """The raw gene or transcript matrix, barcodes without suffix, the unassigned feature removed."""
    folder = wf.path(which)
    matrix = read_mex(folder)
    barcodes = [strip_suffix(barcode) for barcode in matrix.barcodes]
    check_barcodes(barcodes, folder)
    keep = (matrix.features["name"] != UNASSIGNED).to_numpy()
    return CountMatrix(take_columns(matrix.counts, keep), barcodes, matrix.features[keep].reset_index(drop=True))


def read_whitelist(path: Path) -> list[str]:
    """Barcodes of a whitelist, one a line, suffixes removed."""
    barcodes = [strip_suffix(line.strip()) for line in read_lines(path) if line.strip()]
    check_barcodes(barcodes, path)
    return barcodes


def read_mito(path: Path) -> pd.Series:
    """Percent mitochondrial counts by barcode, from ``gene_expression_mito_per_cell.tsv``; NaN where it says none.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file, columns that are not there, repeated barcodes, or a value that is no number (its line is named).
    """
    with reading(path):
        table = pd.read_csv(path, sep="\t", dtype=str, skip_blank_lines=False).dropna(how="all")
    need_columns(list(table.columns), ("CB", "mito_pct"), path)
    barcodes = [strip_suffix(str(barcode)) for barcode in table["CB"]]
    check_barcodes(barcodes, path)
    values = pd.to_numeric(table["mito_pct"], errors="coerce")
    text = np.flatnonzero(values.isna() & table["mito_pct"].notna())
    if len(text):
        raise InvalidDataError(
            f"line {table.index[text[0]] + 2} has a mito_pct that is no number: {table['mito_pct'].iloc[text[0]]!r}",
            where=path,
            mend="give percent with a decimal point, nothing where there is none",
        )
    return pd.Series(values.to_numpy(dtype="float32"), index=barcodes)


def need_columns(there: Sequence[str], names: Sequence[str], path: Path) -> None:
    """Raise `InvalidDataError` where one of ``names`` is not among the columns ``there``."""
    absent = [name for name in names if name not in there]
    if absent:
        raise InvalidDataError(
            f"has no column {', '.join(absent)}; columns there: {', '.join(map(str, there))}",
            where=path,
            mend="give the file as wf-single-cell v3.1.0 writes it",
        )
