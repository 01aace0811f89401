"""Output folders of EPI2ME wf-single-cell v3.1.0: ``<folder>/<alias>.<what>``. Raw matrices only.

The processed matrices are log10-normalised and filtered by another rule, so nothing here reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hyped_core.errors import InvalidDataError, MissingFileError
from hyped_seq.readers.matrix import CountMatrix, check_barcodes, read_lines, reading
from hyped_seq.readers.mex import read_mex

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
    return CountMatrix(matrix.counts[:, keep], barcodes, matrix.features[keep].reset_index(drop=True))


def read_whitelist(path: Path) -> list[str]:
    """Barcodes of a whitelist, one a line, suffixes removed."""
    barcodes = [strip_suffix(line.strip()) for line in read_lines(path) if line.strip()]
    check_barcodes(barcodes, path)
    return barcodes


def read_mito(path: Path) -> pd.Series:
    """Percent mitochondrial counts by barcode, from ``gene_expression_mito_per_cell.tsv``."""
    with reading(path):
        table = pd.read_csv(path, sep="\t", dtype={"CB": str})
    _need_columns(table, ("CB", "mito_pct"), path)
    values = pd.to_numeric(table["mito_pct"], errors="coerce")
    return pd.Series(values.to_numpy(dtype="float32"), index=[strip_suffix(b) for b in table["CB"]])


@dataclass(frozen=True, slots=True)
class ReadFigures:
    """What the read summary says: reads by barcode, reads with a gene by barcode, gene of each transcript."""

    n_reads: pd.Series
    n_reads_assigned: pd.Series
    transcript_gene: dict[str, str]


def read_summary(path: Path, chunk: int = 1_000_000) -> ReadFigures:
    """Stream ``read_summary.tsv`` (one row a read) into counts; memory does not grow with the reads."""
    reads: list[pd.Series] = []
    assigned: list[pd.Series] = []
    pairs: list[pd.Series] = []
    columns = ["corrected_barcode", "gene", "transcript"]
    with reading(path):
        header = pd.read_csv(path, sep="\t", nrows=0)
        _need_columns(header, columns, path)
        for part in pd.read_csv(path, sep="\t", usecols=columns, dtype=str, na_filter=False, chunksize=chunk):
            part = part[part["corrected_barcode"] != UNASSIGNED]
            has_gene = part[part["gene"] != UNASSIGNED]
            reads.append(part["corrected_barcode"].value_counts())
            assigned.append(has_gene["corrected_barcode"].value_counts())
            both = has_gene[has_gene["transcript"] != UNASSIGNED]
            pairs.append(both.groupby(["transcript", "gene"], sort=True).size())
    transcript_gene: dict[str, str] = {}
    if pairs:
        counts = pd.concat(pairs).groupby(level=[0, 1]).sum().reset_index(name="reads")
        counts = counts.sort_values(["transcript", "reads", "gene"], ascending=[True, False, True])
        best = counts.drop_duplicates("transcript")
        transcript_gene = dict(zip(best["transcript"], best["gene"], strict=True))
    return ReadFigures(_total(reads), _total(assigned), transcript_gene)


def _total(parts: list[pd.Series]) -> pd.Series:
    """Sum of counts by barcode over chunks."""
    return pd.concat(parts).groupby(level=0).sum() if parts else pd.Series(dtype="int64")


def _need_columns(table: pd.DataFrame, names: tuple[str, ...] | list[str], path: Path) -> None:
    absent = [name for name in names if name not in table.columns]
    if absent:
        raise InvalidDataError(
            f"has no column {', '.join(absent)}; columns there: {', '.join(map(str, table.columns))}",
            where=path,
            mend="give the file as wf-single-cell v3.1.0 writes it",
        )
