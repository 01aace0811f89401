"""Gene names to Ensembl ids: reading the map, and what each name of a matrix is called and stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import CorruptFileError, InvalidDataError
from hyped_seq.ingest.aliases import AliasTable, read_aliases
from hyped_seq.readers.matrix import open_text, reading
from hyped_seq.readers.rows import stack

_ENSEMBL = re.compile(r"^ENS[A-Z]*[GT]\d{6,}(\.\d+)?(_PAR_Y)?$")
_ATTRIBUTE = re.compile(r'(\w+) "([^"]*)"')


@dataclass(frozen=True, slots=True)
class GeneMap:
    """Symbol -> Ensembl gene id (without version), and transcript id -> symbol where the source has it.

    A symbol with several ids keeps the one that sorts first; such symbols are in ``ambiguous``. ``aliases`` gives
    the current symbol of a retired name or alias; where it would be several, the name is in ``ambiguous_aliases``
    and keeps its own. A name that is itself a current symbol (of the map or of the alias table) is in neither.
    """

    ids: dict[str, str]
    ambiguous: frozenset[str]
    transcript_gene: dict[str, str]
    aliases: dict[str, str] = field(default_factory=dict)
    ambiguous_aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def current(self, name: str) -> str:
        """The current symbol of ``name``."""
        return self.aliases.get(name, name)

    def gene_of(self, transcript: str) -> str:
        """Symbol of a transcript id, with or without its version; "" where the map does not know it."""
        known = self.transcript_gene.get(transcript) or self.transcript_gene.get(_unversioned(transcript), "")
        return self.current(known)


EMPTY = GeneMap({}, frozenset(), {})


def read_gene_map(path: str | Path | None, aliases: str | Path | None = None) -> GeneMap:
    """Read a GTF (``.gtf``, ``.gtf.gz``) or a two-column table of symbols and Ensembl ids, in either order.

    ``aliases`` is a table of retired names and aliases: see `hyped_seq.ingest.aliases.read_aliases`.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file, cut short, or a table without a column of Ensembl ids.
    """
    known = EMPTY
    if path is not None:
        path = Path(path)
        with reading(path):
            known = _read_gtf(path) if ".gtf" in path.suffixes else _read_table(path)
    return with_aliases(known, read_aliases(aliases))


def with_aliases(known: GeneMap, table: AliasTable) -> GeneMap:
    """``known`` with the names of ``table`` that are not current, and with the ids that only the table has.

    A current symbol that has no id in either takes that of its only old name in ``known``.
    """
    current = known.ids.keys() | table.current
    clear, several = {}, {}
    for name, targets in table.targets.items():
        if name not in current:
            if len(targets) == 1:
                clear[name] = targets[0]
            else:
                several[name] = targets
    ids = {**{symbol: _unversioned(found) for symbol, found in table.ids.items()}, **known.ids}
    olds: dict[str, list[str]] = {}
    for name, targets in table.targets.items():
        if name in known.ids and len(targets) == 1 and targets[0] not in ids:
            olds.setdefault(targets[0], []).append(name)
    ids.update({symbol: known.ids[names[0]] for symbol, names in olds.items() if len(names) == 1})
    return GeneMap(ids, known.ambiguous, known.transcript_gene, clear, several)


def _read_gtf(path: Path) -> GeneMap:
    pairs: set[tuple[str, str]] = set()
    transcripts: dict[str, str] = {}
    with open_text(path) as handle:
        for number, line in enumerate(handle, 1):
            if line.startswith("#") or not line.strip():
                continue
            if line.count("\t") != 8:
                raise CorruptFileError(
                    f"line {number} is not GTF (9 columns)", where=path, mend="give a GTF file"
                )
            # most lines are exons: they are passed over before they are taken apart
            if "\tgene\t" not in line and "\ttranscript\t" not in line:
                continue
            fields = line.rstrip("\n").split("\t")
            if fields[2] not in ("gene", "transcript"):
                continue
            attributes = dict(_ATTRIBUTE.findall(fields[8]))
            name, gene = attributes.get("gene_name"), attributes.get("gene_id")
            if name and gene:
                pairs.add((name, _unversioned(gene)))
                if fields[2] == "transcript" and "transcript_id" in attributes:
                    transcript = attributes["transcript_id"]
                    transcripts[transcript] = name
                    transcripts.setdefault(_unversioned(transcript), name)
    return _from_pairs(pairs, transcripts)


def _read_table(path: Path) -> GeneMap:
    with open_text(path) as handle:
        first = handle.readline()
    separator = "\t" if "\t" in first else ","
    with open_text(path) as handle:
        table = pd.read_csv(handle, sep=separator, header=None, dtype=str, na_filter=False)
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
    return stack((counts,), [codes], len(unique)), [str(name) for name in unique], repeated


def gene_table(names: list[str], symbols: list[str], gene_map: GeneMap, own_ids: Mapping[str, str]) -> pd.DataFrame:
    """``var`` of a gene matrix by ``names``: columns ``gene_id`` ("" where unmapped), ``symbol``, ``mapped``.

    The map comes first; then an Ensembl id that the matrix itself had (``own_ids``, name -> id); then the
    symbol where it is one. Placeholder ids (``unknown_00001``) are none. Of names that share a symbol (kept
    apart), each takes its own id, and at most one the map's.
    """
    shared = {symbol for symbol, n in pd.Series(symbols, dtype=object).value_counts().items() if n > 1}
    ids: list[str] = []
    taken: set[str] = set()
    for name, symbol in zip(names, symbols, strict=True):
        mapped, own = gene_map.ids.get(symbol, ""), ensembl_id(own_ids.get(name, ""))
        found = (own or mapped if symbol in shared else mapped or own) or ensembl_id(symbol)
        ids.append("" if symbol in shared and found in taken else found)
        taken.add(found)
    return pd.DataFrame(
        {"gene_id": ids, "symbol": symbols, "mapped": [bool(identifier) for identifier in ids]},
        index=pd.Index(names, dtype=object),
    )


def unmapped_genes(var: pd.DataFrame, gene_map: GeneMap) -> pd.DataFrame:
    """Genes of ``var`` without an Ensembl id: columns ``symbol`` (its name in the matrix) and ``reason``."""
    rows = []
    taken = set(var.loc[var["mapped"], "symbol"])
    for name, symbol in zip(var.index[~var["mapped"]], var.loc[~var["mapped"], "symbol"], strict=True):
        if symbol in gene_map.ambiguous_aliases:
            reason = f"is an alias of {' and of '.join(gene_map.ambiguous_aliases[symbol])}"
        elif symbol in taken:
            reason = f"has the symbol {symbol} with another gene, which has the id"
        elif not gene_map.ids:
            reason = "no gene map was given, and the matrix has no Ensembl id for it"
        else:
            reason = "not in the gene map"
        rows.append((name, reason))
    return pd.DataFrame(rows, columns=["symbol", "reason"], dtype=object)


def ensembl_id(text: str) -> str:
    """``text`` without version where it is an Ensembl id, else ``""``.

    >>> ensembl_id("ENSG00000129152.4"), ensembl_id("unknown_00001")
    ('ENSG00000129152', '')
    """
    return _unversioned(text) if _ENSEMBL.match(text) else ""
