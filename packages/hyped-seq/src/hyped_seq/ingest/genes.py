"""Gene names to Ensembl ids: reading the map, and summing features that share a name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import CorruptFileError, InvalidDataError
from hyped_seq.readers.matrix import open_text, reading

_ENSEMBL = re.compile(r"^ENS[A-Z]*[GT]\d{6,}(\.\d+)?(_PAR_Y)?$")
_ATTRIBUTE = re.compile(r'(\w+) "([^"]*)"')


@dataclass(frozen=True, slots=True)
class GeneMap:
    """Symbol -> Ensembl gene id (without version), and transcript id -> symbol where the source has it.

    A symbol with several ids keeps the one that sorts first; such symbols are in ``ambiguous``.
    """

    ids: dict[str, str]
    ambiguous: frozenset[str]
    transcript_gene: dict[str, str]


EMPTY = GeneMap({}, frozenset(), {})


def read_gene_map(path: str | Path | None) -> GeneMap:
    """Read a GTF (``.gtf``, ``.gtf.gz``) or a two-column table of symbols and Ensembl ids, in either order.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file, cut short, or a table without a column of Ensembl ids.
    """
    if path is None:
        return EMPTY
    path = Path(path)
    with reading(path):
        return _read_gtf(path) if ".gtf" in path.suffixes else _read_table(path)


def _read_gtf(path: Path) -> GeneMap:
    pairs: set[tuple[str, str]] = set()
    transcripts: dict[str, str] = {}
    with open_text(path) as handle:
        for number, line in enumerate(handle, 1):
            if line.startswith("#") or not line.strip():
                continue
            fields = line.rstrip("\n").split("\t")
            if len(fields) != 9:
                raise CorruptFileError(
                    f"line {number} is not GTF (9 columns)", where=path, mend="give a GTF file"
                )
            if fields[2] not in ("gene", "transcript"):
                continue
            attributes = dict(_ATTRIBUTE.findall(fields[8]))
            name, gene = attributes.get("gene_name"), attributes.get("gene_id")
            if name and gene:
                pairs.add((name, _unversioned(gene)))
                if fields[2] == "transcript" and "transcript_id" in attributes:
                    transcripts[attributes["transcript_id"]] = name
    return _from_pairs(pairs, transcripts)


def _read_table(path: Path) -> GeneMap:
    with open_text(path) as handle:
        first = handle.readline()
    separator = "\t" if "\t" in first else ","
    table = pd.read_csv(path, sep=separator, header=None, dtype=str, na_filter=False)
    if table.shape[1] < 2:
        raise InvalidDataError("has one column", where=path, mend="give two columns: symbol and Ensembl id")
    shares = [table[column].str.match(_ENSEMBL).mean() for column in table.columns]
    id_column = int(np.argmax(shares))
    if shares[id_column] < 0.5:
        raise InvalidDataError(
            "has no column of Ensembl ids", where=path, mend="give two columns: symbol and Ensembl id"
        )
    name_column = next(i for i in range(table.shape[1] - 1, -1, -1) if i != id_column and shares[i] < 0.5)
    rows = table[table[id_column].str.match(_ENSEMBL) & (table[name_column] != "")]
    ids = rows[id_column].map(_unversioned)
    return _from_pairs(set(zip(rows[name_column], ids, strict=True)), {})


def _unversioned(identifier: str) -> str:
    """An Ensembl id without its version."""
    return identifier.partition(".")[0]


def _from_pairs(pairs: set[tuple[str, str]], transcripts: dict[str, str]) -> GeneMap:
    ids: dict[str, str] = {}
    ambiguous = set()
    for name, identifier in sorted(pairs):
        if name in ids:
            ambiguous.add(name)
        else:
            ids[name] = identifier
    return GeneMap(ids, frozenset(ambiguous), transcripts)


def merge_features(
    counts: sp.csr_matrix, names: list[str]
) -> tuple[sp.csr_matrix, list[str], dict[str, int]]:
    """Sum the columns that share a name; order is that of first occurrence.

    Returns the counts, the unique names, and how many columns went into each name that had more than one.
    """
    codes, unique = pd.factorize(np.asarray(names, dtype=object))
    multiplicity = np.bincount(codes, minlength=len(unique))
    repeated = {str(unique[i]): int(multiplicity[i]) for i in np.flatnonzero(multiplicity > 1)}
    if not repeated:
        return counts, [str(name) for name in unique], {}
    return remap_columns(counts, codes, len(unique)), [str(name) for name in unique], repeated


def remap_columns(counts: sp.csr_matrix, target: np.ndarray, width: int) -> sp.csr_matrix:
    """``counts`` with column ``i`` moved (and added) to column ``target[i]`` of a matrix ``width`` wide."""
    moved = sp.csr_matrix(
        (counts.data.copy(), np.asarray(target)[counts.indices], counts.indptr.copy()),
        shape=(counts.shape[0], width),
    )
    moved.sum_duplicates()
    moved.sort_indices()
    return moved


def gene_table(
    symbols: list[str], gene_map: GeneMap, own_ids: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """``var`` of a gene matrix by symbol: columns ``gene_id`` ("" where unmapped), ``symbol``, ``mapped``.

    The map comes first; then an Ensembl id that the matrix itself had (``own_ids``, symbol -> id); then the
    name where it is one. Placeholder ids (``unknown_00001``) are none.
    """
    own = own_ids or {}
    ids = [
        gene_map.ids.get(symbol) or ensembl_id(own.get(symbol, "")) or ensembl_id(symbol)
        for symbol in symbols
    ]
    return pd.DataFrame(
        {"gene_id": ids, "symbol": symbols, "mapped": [bool(identifier) for identifier in ids]},
        index=pd.Index(symbols, dtype=object),
    )


def ensembl_id(text: str) -> str:
    """``text`` without version where it is an Ensembl id, else ``""``.

    >>> ensembl_id("ENSG00000129152.4"), ensembl_id("unknown_00001")
    ('ENSG00000129152', '')
    """
    return _unversioned(text) if _ENSEMBL.match(text) else ""
