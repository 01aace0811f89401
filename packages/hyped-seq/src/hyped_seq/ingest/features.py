"""Which column of the joined matrix each feature of each pool goes to, and under which name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from hyped_seq.ingest.genes import GeneMap, ensembl_id


@dataclass
class FeaturePlan:
    """Columns of a joined matrix, in order of first occurrence.

    Attributes
    ----------
    names : of the columns, unique.
    symbols : what each is called today; several columns may share one where duplicates are kept apart.
    sources : what the files call each, ``|`` between several names.
    targets : for each pool the column that each of its features goes to.
    own_ids : feature id of a column as the first pool that has it says.
    renamed : old name -> current symbol, of names that were found.
    ambiguous : names that are aliases of several symbols -> those symbols.
    repeated : symbol -> how many features of one pool (the most) have it, where that is more than one.
    """

    names: list[str]
    symbols: list[str]
    sources: list[str]
    targets: list[np.ndarray]
    own_ids: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    ambiguous: dict[str, list[str]] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)


def plan_features(
    tables: Sequence[pd.DataFrame], gene_map: GeneMap, duplicates: Literal["sum", "keep"] = "sum"
) -> FeaturePlan:
    """The columns for features of these tables (``id``, ``name``; one a pool), renamed as ``gene_map`` says.

    With ``sum``, features of one symbol share a column. With ``keep``, each has its own: features of two pools are
    one where they agree in symbol and Ensembl id or, without such ids, in symbol, name and how many of that name
    stand before. The first column of a symbol has its name, further ones ``-1``, ``-2``, ...
    """
    columns: dict[tuple[str, ...], int] = {}
    sources: list[dict[str, None]] = []
    plan = FeaturePlan([], [], [], [])
    ids: list[str] = []
    for table in tables:
        target = np.empty(len(table), dtype=np.int64)
        key = _key(duplicates)
        seen: Counter[str] = Counter()
        for i, (identifier, name) in enumerate(zip(table["id"], table["name"], strict=True)):
            symbol = gene_map.current(name)
            if symbol != name:
                plan.renamed[name] = symbol
            elif name in gene_map.ambiguous_aliases:
                plan.ambiguous[name] = list(gene_map.ambiguous_aliases[name])
            seen[symbol] += 1
            column = columns.setdefault(key(symbol, name, identifier), len(columns))
            if column == len(plan.symbols):
                plan.symbols.append(symbol)
                sources.append({})
                ids.append(identifier)
            sources[column].setdefault(name)
            target[i] = column
        plan.targets.append(target)
        for symbol, n in seen.items():
            if n > 1:
                plan.repeated[symbol] = max(n, plan.repeated.get(symbol, 0))
    plan.names = _unique(plan.symbols)
    plan.sources = ["|".join(names) for names in sources]
    plan.own_ids = dict(zip(plan.names, ids, strict=True))
    return plan


def _key(duplicates: str) -> Callable[[str, str, str], tuple[str, ...]]:
    """What makes two features one; the function counts names, so each pool takes a new one."""
    before: Counter[tuple[str, ...]] = Counter()

    def apart(symbol: str, name: str, identifier: str) -> tuple[str, ...]:
        found = ensembl_id(identifier)
        key = (symbol, found) if found else (symbol, name, "")
        before[key] += 1
        return (*key, str(before[key]))

    return apart if duplicates == "keep" else lambda symbol, name, identifier: (symbol,)


def _unique(symbols: Sequence[str]) -> list[str]:
    """Symbols, with ``-1``, ``-2``, ... behind those that occurred before (skipping names that are symbols).

    >>> _unique(["A", "A", "A-1", "A"])
    ['A', 'A-2', 'A-1', 'A-3']
    """
    taken = set(symbols)
    names: list[str] = []
    seen: set[str] = set()
    for symbol in symbols:
        name, number = symbol, 0
        while name in seen or (number and name in taken):
            number += 1
            name = f"{symbol}-{number}"
        seen.add(name)
        names.append(name)
    return names
