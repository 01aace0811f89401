"""Which terms (gene ontology, gene sets) each gene has, read from the files such annotations come in."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_core.io.unpickle import safe_load

_MEND = "give .gmt, a table .tsv or .csv with columns gene and term, GAF, or gene2go as .pkl or .json"
_GENE_COLUMNS = ("gene", "symbol", "gene_name", "gene_symbol")
_TERM_COLUMNS = ("term", "go_id", "go", "gene_set")


@dataclass(frozen=True)
class Terms:
    """Genes, terms and which gene has which.

    Attributes
    ----------
    genes, terms : names, each once, sorted by code points.
    table : bool CSR, (genes, terms).
    source : the file it was read from.
    """

    genes: tuple[str, ...]
    terms: tuple[str, ...]
    table: sp.csr_matrix
    source: str


def read_terms(path: str | Path) -> Terms:
    """Read genes and their terms; the ending of ``path`` says how (each may end in ``.gz`` too, save ``.pkl``).

    ``.gmt``: a line a term, tab-separated: term, description, genes. ``.pkl``: gene2go as GEARS has it, a dict of
    gene to its set or list of terms; only plain data is unpickled. ``.json``: an object of the same kind.
    ``.tsv``, ``.csv``: a table with a header, with columns gene (or symbol, gene_name, gene_symbol) and
    term (or go_id, go, gene_set). ``.gaf``: GO annotation file, gene from ``DB Object Symbol`` (column 3) and term
    from ``GO ID`` (column 5), comments (``!``) left out, and with them annotations whose qualifier says ``NOT``.

    A gene named twice has the terms of both; a pair named twice counts once; genes without any term are kept.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file; not readable as what its ending says; a pickle that holds more than data; no gene in it.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError("there is no such file of terms", where=path, mend=_MEND)
    kind = Path(path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name).suffix.lower()
    if kind == ".pkl":
        found = _mapping(safe_load(path, "plain"), path)
    elif kind == ".json":
        found = _mapping(_json(path), path)
    elif kind == ".gmt":
        found = _gmt(path)
    elif kind == ".gaf":
        found = _gaf(path)
    elif kind in (".tsv", ".csv"):
        try:
            found = _table(path, kind)
        except csv.Error as error:
            raise CorruptFileError(f"is no table: {error}", where=path, mend=_MEND) from error
    else:
        raise InvalidDataError(f"{kind or 'no ending'} is no known kind of terms", where=path, mend=_MEND)
    return terms_of(found, str(path))


def terms_of(pairs: Mapping[str, Iterable[str]], source: str) -> Terms:
    """`Terms` of a mapping of gene to terms."""
    genes = tuple(sorted(pairs))
    if not genes:
        raise InvalidDataError("holds no gene", where=source, mend=_MEND)
    sets = [sorted(set(pairs[gene])) for gene in genes]
    terms = tuple(sorted({term for own in sets for term in own}))
    number = {term: i for i, term in enumerate(terms)}
    indices = np.asarray([number[term] for own in sets for term in own], dtype=np.int64)
    indptr = np.concatenate([[0], np.cumsum([len(own) for own in sets])])
    table = sp.csr_matrix((np.ones(len(indices), dtype=bool), indices, indptr), shape=(len(genes), len(terms)))
    return Terms(genes, terms, table, source)


def rows_of(terms: Terms, names: Sequence[str]) -> np.ndarray:
    """Row of ``terms.table`` of each name, -1 where it has no term; int64, (names,).

    A name is looked up as it is; where that finds nothing, names that are equal in upper case are taken. A gene
    that is listed with no term counts as absent.

    Raises
    ------
    InvalidDataError
        A name fits several genes or several names one gene in upper case, a name is there twice, or none is found.
    """
    filled = np.diff(terms.table.indptr) > 0
    exact = {gene: i for i, gene in enumerate(terms.genes) if filled[i]}
    upper: dict[str, list[int]] = {}
    for gene, i in exact.items():
        upper.setdefault(gene.upper(), []).append(i)
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise InvalidDataError(f"{twice!r} is there more than once", where="names of genes", mend="name it once")
    rows = np.asarray([exact.get(name, -1) for name in names], dtype=np.int64)
    taken = {int(row): names[i] for i, row in enumerate(rows) if row >= 0}
    for i, name in enumerate(names):
        alike = upper.get(name.upper(), []) if rows[i] < 0 else []
        if len(alike) > 1 or (alike and alike[0] in taken):
            others = [terms.genes[row] for row in alike]
            if len(alike) == 1:
                others.append(f"{taken[alike[0]]} (asked for too)")
            raise InvalidDataError(
                f"{name!r} is not in it as written, and in upper case it is not clear which is meant: "
                f"{', '.join(others)}",
                where=terms.source,
                mend="write the gene as the file does",
            )
        if alike:
            rows[i] = alike[0]
            taken[alike[0]] = name
    if len(names) and not (rows >= 0).any():
        raise InvalidDataError(
            f"none of the {len(names)} genes ({', '.join(names[:3])}, ...) has a term in it; "
            f"genes there: {', '.join(list(exact)[:3]) or 'none with a term'}, ...",
            where=terms.source,
            mend="give terms by the same kind of name (symbols or Ensembl ids) as the cells' genes",
        )
    return rows


def _lines(path: Path) -> Iterator[str]:
    """Lines of a text file, gzipped or not, without their ends."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig")
            if path.name.lower().endswith(".gz")
            else path.open(encoding="utf-8-sig") as stream
        ):
            for line in stream:
                yield line.rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"cannot be read as text: {error}", where=path, mend=_MEND) from error


def _json(path: Path) -> Any:
    try:
        return json.loads("\n".join(_lines(path)))
    except ValueError as error:
        raise CorruptFileError(f"is no JSON: {error}", where=path, mend=_MEND) from error


def _mapping(value: Any, path: Path) -> dict[str, list[str]]:
    if not isinstance(value, dict):
        raise InvalidDataError("holds no mapping of gene to terms", where=path, mend=_MEND)
    for gene, own in value.items():
        if (
            not isinstance(gene, str)
            or not isinstance(own, set | frozenset | list | tuple)
            or not all(isinstance(term, str) for term in own)
        ):
            raise InvalidDataError(f"the terms of {gene!r} are no set or list of names", where=path, mend=_MEND)
    return {gene: list(own) for gene, own in value.items()}


def _gmt(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        term, *rest = line.split("\t")
        if not rest or not term.strip():
            raise CorruptFileError(
                f"line {number} is no gene set (term, description, genes, separated by tabs)", where=path
            )
        for gene in rest[1:]:
            if gene.strip():
                found.setdefault(gene.strip(), []).append(term.strip())
    return found


def _gaf(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(path), 1):
        if line.startswith("!") or not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < 5 or not fields[2].strip() or not fields[4].strip():
            raise CorruptFileError(
                f"line {number} has no symbol in column 3 or no term in column 5", where=path, mend=_MEND
            )
        if "NOT" not in fields[3].split("|"):
            found.setdefault(fields[2].strip(), []).append(fields[4].strip())
    return found


def _table(path: Path, kind: str) -> dict[str, list[str]]:
    rows = csv.reader(_lines(path), delimiter="," if kind == ".csv" else "\t")
    header = [name.strip().lower() for name in next(rows, [])]
    gene = next((header.index(name) for name in _GENE_COLUMNS if name in header), None)
    term = next((header.index(name) for name in _TERM_COLUMNS if name in header), None)
    if gene is None or term is None:
        raise InvalidDataError(
            f"lacks a column with the {'gene' if gene is None else 'term'}; columns: {', '.join(header) or 'none'}",
            where=path,
            mend="name the columns gene and term in the first line",
        )
    found: dict[str, list[str]] = {}
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) <= max(gene, term):
            raise CorruptFileError(f"line {number} has {len(row)} fields of {len(header)}", where=path)
        name = row[gene].strip()
        if name:
            own = found.setdefault(name, [])
            if row[term].strip():
                own.append(row[term].strip())
    return found
