"""Aliases and retired symbols of genes: reading a table of them, and the rule by which a name is renamed."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hyped_core.errors import InvalidDataError
from hyped_seq.readers.matrix import open_text, reading

_SYMBOL, _OTHERS, _ID, _STATUS = "symbol", ("alias_symbol", "prev_symbol"), "ensembl_gene_id", "status"
"""Columns of HGNC's complete set (genenames.org, download of ``hgnc_complete_set.txt``)."""


@dataclass(frozen=True, slots=True)
class AliasTable:
    """What a table of aliases says.

    Attributes
    ----------
    targets : the current symbols each other name stands for, sorted.
    current : the symbols it calls current.
    ids : Ensembl gene id of a current symbol, where the table has it.
    """

    targets: dict[str, tuple[str, ...]]
    current: frozenset[str]
    ids: dict[str, str]


NONE = AliasTable({}, frozenset(), {})


def read_aliases(path: str | Path | None) -> AliasTable:
    """Read HGNC's complete set (tab-separated, by its columns' names) or a table of two columns: old, new.

    Of HGNC's set, withdrawn entries are left out, and several names in a field are parted by ``|``. In a table of
    two columns a first line ``old,new`` is a header, and where the new name is an old one of a further line, the
    last name of the chain counts.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file, cut short, a line with another number of columns, or names that replace one another in a ring.
    """
    if path is None:
        return NONE
    path = Path(path)
    with reading(path), open_text(path) as handle:
        first = handle.readline()
    separator = "\t" if "\t" in first else ","
    fields = next(csv.reader([first], delimiter=separator), [])
    if _SYMBOL in fields and any(name in fields for name in _OTHERS):
        return _read_hgnc(path, separator)
    if len(fields) == 2:
        return _read_pairs(path, separator)
    raise InvalidDataError(
        f"line 1 has {len(fields)} columns and none is {_SYMBOL!r}",
        where=path,
        mend="give two columns (old name, current symbol), or HGNC's complete set as it is downloaded",
    )


def _rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not empty, with their numbers; all as long as the first."""
    with reading(path), open_text(path) as handle:
        rows = csv.reader(handle, delimiter=separator)
        width = 0
        try:
            for row in rows:
                width = width or len(row)
                if row and len(row) != width:
                    raise InvalidDataError(
                        f"line {rows.line_num} has {len(row)} columns, the first {width}",
                        where=path,
                        mend="give a table with the same columns in each line",
                    )
                if row:
                    yield rows.line_num, [field.strip() for field in row]
        except csv.Error as error:
            raise InvalidDataError(
                f"line {rows.line_num} cannot be read: {error}", where=path, mend="give a table of text"
            ) from error


def _read_hgnc(path: Path, separator: str) -> AliasTable:
    rows = _rows(path, separator)
    names = next(rows)[1]
    found: dict[str, set[str]] = {}
    current, ids = set(), {}
    for _, row in rows:
        entry = dict(zip(names, row, strict=True))
        symbol = entry[_SYMBOL]
        if not symbol or entry.get(_STATUS, "Approved") != "Approved":
            continue
        current.add(symbol)
        if entry.get(_ID):
            ids[symbol] = entry[_ID]
        for column in _OTHERS:
            for other in filter(None, entry.get(column, "").split("|")):
                found.setdefault(other.strip(), set()).add(symbol)
    return AliasTable(_sorted(found), frozenset(current), ids)


def _read_pairs(path: Path, separator: str) -> AliasTable:
    newer: dict[str, set[str]] = {}
    for number, (old, new) in _rows(path, separator):
        if number == 1 and (old.lower(), new.lower()) == ("old", "new"):
            continue
        if not old or not new:
            raise InvalidDataError(
                f"line {number} has an empty name", where=path, mend="give an old name and a current symbol"
            )
        if old != new:
            newer.setdefault(old, set()).add(new)
    found: dict[str, set[str]] = {}
    for old in newer:
        seen: set[str] = set()
        last: set[str] = set()
        names = newer[old]
        while names:
            if old in names:
                raise InvalidDataError(
                    f"{old!r} is replaced by itself, by way of {', '.join(sorted(seen)) or old}",
                    where=path,
                    mend="remove the line that makes the ring",
                )
            last |= {name for name in names if name not in newer}
            seen |= names
            names = {new for name in names for new in newer.get(name, ())} - (seen - {old})
        found[old] = last
    return AliasTable(_sorted(found), frozenset().union(*found.values()), {})


def _sorted(found: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sorted(found[name])) for name in sorted(found)}
