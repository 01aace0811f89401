"""Writes down how cell-gears 0.1.2 splits ordered lists of perturbations: the fixture of the splits' tests.

Run by the python of the pinned environment (`make gears-oracle`)::

    .gears-oracle/bin/python scripts/gears_oracle/splits.py packages/hyped-core/tests/data/gears_splits.json

Sets are written as places in the list. The lists are made up: as many singles (some in both spellings) and
combinations as Norman 2019 has, a medium one and small ones.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from gears.data_utils import DataSplitter

KINDS = ("simulation", "simulation_single", "single", "combo_seen0", "combo_seen1", "combo_seen2", "no_test")


def made_up(genes: int, twice: int, combinations: int, seed: int) -> list[str]:
    """Singles of made-up genes, the first few in both spellings, and combinations; shuffled, control among them."""
    rng = np.random.default_rng(seed)
    names = [f"{'XYZ'[i % 3]}{(i * 31) % genes}" for i in range(genes)]
    listed = [f"ctrl+{g}" if rng.random() < 0.3 else f"{g}+ctrl" for g in names]
    listed += [f"ctrl+{g}" if f"{g}+ctrl" in listed else f"{g}+ctrl" for g in names[:twice]]
    pairs: set[frozenset[str]] = set()
    while len(pairs) < combinations:
        a, b = rng.choice(names, 2, replace=False)
        if frozenset((a, b)) not in pairs:
            pairs.add(frozenset((a, b)))
            listed.append(f"{a}+{b}")
    rng.shuffle(listed)
    return ["ctrl", *listed] if seed % 2 else [*listed[:5], "ctrl", *listed[5:]]


LISTS = {
    "as large as Norman": made_up(105, 47, 131, 1),
    "no spelling twice": made_up(105, 0, 131, 2),
    "medium": made_up(24, 3, 18, 3),
    "small": made_up(12, 0, 6, 4),
    "singles": made_up(40, 0, 0, 5),
}


def split_of(listed: list[str], kind: str, seed: int, **fractions: float) -> dict[str, Any] | str:
    """The original's sets and subgroups, or the name of the error it raises."""
    cells = SimpleNamespace(obs=pd.DataFrame({"condition": listed}))
    splitter = DataSplitter(cells, split_type=kind.split("_seen")[0], seen=int(kind[-1]) if "seen" in kind else 0)
    try:
        found = splitter.split_data(seed=seed, **fractions)
    except (AssertionError, ValueError, IndexError, TypeError, KeyError, AttributeError) as error:
        return type(error).__name__
    cells, groups = found if isinstance(found, tuple) else (found, {})
    sets = {"train": [], "val": [], "test": []}
    for place, name in enumerate(cells.obs["split"]):
        if isinstance(name, str) and listed[place] != "ctrl":
            sets[name].append(place)
    subgroups = {k: sorted(map(listed.index, v)) for k, v in groups.get("test_subgroup", {}).items()}
    return {**sets, "subgroups": subgroups}


def main(path: Path) -> None:
    """Write the fixture."""
    cases = []
    for name, listed in LISTS.items():
        for kind in KINDS:
            for seed in (1, 2, 17):
                cases.append({"list": name, "kind": kind, "seed": seed, "result": split_of(listed, kind, seed)})
    listed = LISTS["as large as Norman"]
    for kind, fractions in (
        ("simulation", {"train_gene_set_size": 0.6, "combo_seen2_train_frac": 0.5}),
        ("single", {"test_size": 0.3, "val_size": 0.2}),
    ):
        found = split_of(listed, kind, 4, **fractions)
        cases.append({"list": "as large as Norman", "kind": kind, "seed": 4, "fractions": fractions, "result": found})
    path.write_text(json.dumps({"lists": LISTS, "cases": cases}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
