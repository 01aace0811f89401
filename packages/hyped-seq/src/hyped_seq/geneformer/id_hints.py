"""What to say of gene ids that a dictionary does not know: version suffixes, symbols in the place of ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hyped_seq.geneformer.dictionaries import Dictionaries

_ENSEMBL = re.compile(r"ENS[A-Z]*G\d+", re.IGNORECASE)
_VERSIONED = re.compile(r"(ENS[A-Z]*G\d+)\.\d+", re.IGNORECASE)


def versioned(ids: Iterable[object]) -> list[str]:
    """Those of ``ids`` that are Ensembl ids with a version suffix.

    >>> versioned(["ENSG00000129152.7", "ENSG00000129152", "MYOD1"])
    ['ENSG00000129152.7']
    """
    return [name for name in ids if isinstance(name, str) and _VERSIONED.fullmatch(name)]


def strip_versions(held: str = 'var["gene_id"]') -> str:
    """The line that takes version suffixes off the ids that ``held`` (of an AnnData called cells) has."""
    return f'strip the versions: cells.var["gene_id"] = cells.{held}.str.replace(r"\\.\\d+$", "", regex=True)'


def n_with_versions_off(ids: Iterable[object], dictionaries: Dictionaries) -> int:
    """How many of ``ids`` are in the dictionary without the version suffix that they have, but not with it."""
    names = versioned(ids)
    bare = [name.rpartition(".")[0] for name in names]
    return int(((dictionaries.position(bare) >= 0) & (dictionaries.position(names) < 0)).sum())


FEW = 0.1
"""Share of a file's genes in the dictionary below which a warning is due."""


def few_known(genes: Mapping[str, int]) -> str | None:
    """A warning where next to no gene of a file is in the dictionary; ``genes`` counts its columns and the known ones.

    >>> few_known({"columns": 2000, "known": 1500})
    """
    if genes["known"] >= FEW * genes["columns"]:
        return None
    return (
        f"warning: of {genes['columns']} genes only {genes['known']} are in the dictionary, and a cell is nothing but "
        "these: are species and kind of ids those of the dictionary?"
    )


def mend_of(ids: Iterable[object], dictionaries: Dictionaries, held: str = 'var["gene_id"]') -> str:
    """What to do with ids of which the dictionary knows none or few."""
    given = [name for name in ids if isinstance(name, str) and name]
    if n_with_versions_off(given, dictionaries) or 2 * len(versioned(given)) > len(given) > 0:
        return strip_versions(held)
    example = dictionaries.genes[0]
    names = {symbol.upper() for symbol in dictionaries.symbols}
    known = np.array([name.upper() in names for name in given], dtype=bool)
    if given and _ENSEMBL.fullmatch(example) and (known.any() or not any(map(_ENSEMBL.match, given))):
        return f"these look like symbols: put Ensembl ids (e.g. {example}) into var[\"gene_id\"]"
    return f"put ids as the dictionary has them (e.g. {example}) into var[\"gene_id\"]"
