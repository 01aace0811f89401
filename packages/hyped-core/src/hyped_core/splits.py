"""Splits of a screen's perturbations into train, validation and test by the definitions that GEARS set (Roohani 2023).

For the same ordered list, seed and fractions the sets are those of the cell-gears package, so that numbers published
on its splits can be compared with. NumPy's legacy generator (Mersenne Twister) is part of that definition.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml

from hyped_core.errors import InvalidDataError, MissingFileError

GearsKind = Literal[
    "simulation", "simulation_single", "single", "combo_seen0", "combo_seen1", "combo_seen2", "no_test"
]
CONTROL_NAMES = ("ctrl", "control")
_VALIDATION_OF_SIMULATION = 0.9
"""Share of genes, and of combinations of seen genes, that stay in training when validation is split off."""


@dataclass(frozen=True, slots=True)
class GearsSplit:
    """Perturbations to learn from, to choose the epoch by and to be scored on; control belongs to none.

    Attributes
    ----------
    train, validation, test : names as they were given.
    subgroups : of the test set, by how many of a combination's genes are seen (kind ``simulation``:
        ``combo_seen0``, ``combo_seen1``, ``combo_seen2``, ``unseen_single``); else empty.
    left_out : perturbations in none of the sets: combinations that hold a test gene, which the definitions of
        ``single``, ``combo_seen0`` and ``combo_seen1`` drop.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    subgroups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        sets = {"train": self.train, "validation": self.validation, "test": self.test, "left_out": self.left_out}
        return {name: list(names) for name, names in sets.items()} | {
            "subgroups": {name: list(names) for name, names in self.subgroups.items()}
        }


def genes_of(name: str) -> tuple[str, ...]:
    """Perturbed genes of a perturbation's name; control has none.

    >>> genes_of("MYOD1+ctrl"), genes_of("ctrl+MYOD1"), genes_of("MYOD1"), genes_of("control")
    (('MYOD1',), ('MYOD1',), ('MYOD1',), ())

    Raises
    ------
    InvalidDataError
        A part is empty, a gene is there twice, or there are more than two.
    """
    parts = name.split("+") if isinstance(name, str) else [""]
    genes = tuple(part for part in parts if part not in CONTROL_NAMES)
    if any(part != part.strip() or not part for part in parts) or len(genes) > 2 or len(set(genes)) < len(genes):
        raise InvalidDataError(
            f"{name!r} is no perturbation's name",
            where="perturbations",
            mend="write A, A+ctrl or ctrl+A for one gene and A+B for two different ones, without spaces",
        )
    return genes


def gears_split(
    perturbations: Sequence[str],
    kind: GearsKind,
    *,
    seed: int = 1,
    train_gene_fraction: float = 0.75,
    combo_seen2_train_fraction: float = 0.75,
    test_fraction: float = 0.1,
    validation_fraction: float = 0.1,
) -> GearsSplit:
    """Split an ordered list of perturbations.

    Parameters
    ----------
    perturbations
        Names in the order in which the data first show them (the order is part of the definition); control is
        passed over. One gene may come as ``A+ctrl`` and as ``ctrl+A``, as in Norman 2019: two entries that every
        kind but ``no_test`` puts into one set. How singles are spelled (``A``, ``A+ctrl``) changes nothing; how
        combinations are does, where a draw goes over their sorted names.
    kind
        ``simulation``: a share of genes is seen; test are singles of the others, combinations with one
        (``combo_seen1``) or no (``combo_seen0``) seen gene and a share of those with two. ``simulation_single``:
        the same for singles only. ``single``: singles of drawn genes; combinations with them are dropped.
        ``combo_seen0/1``: singles of drawn genes and combinations of them with none/up to one other gene; the other
        combinations with them are dropped. ``combo_seen2``: drawn combinations. ``no_test``: drawn perturbations
        validate, nothing is tested.
    seed
        Of the draws.
    train_gene_fraction, combo_seen2_train_fraction
        Share of genes, and of combinations of two seen genes, that ``simulation`` learns from.
    test_fraction, validation_fraction
        Share drawn by the other kinds. The draw is with replacement, as the original's: sets may come out smaller.

    Raises
    ------
    InvalidDataError
        Unknown kind, a fraction out of range, a name twice or not understood, kind ``simulation_single`` with
        combinations, or a set that comes out empty; the message says which and what to do.
    """
    if kind not in get_args(GearsKind):
        raise InvalidDataError(
            f"there is no split {kind!r}",
            where="kind",
            mend=f"kinds: {', '.join(get_args(GearsKind))}; listed sets: custom_split",
        )
    for name, value in (
        ("train_gene_fraction", train_gene_fraction),
        ("combo_seen2_train_fraction", combo_seen2_train_fraction),
        ("test_fraction", test_fraction),
        ("validation_fraction", validation_fraction),
    ):
        if not 0 < value < 1:
            raise InvalidDataError(f"is {value}, not between 0 and 1", where=name)
    names = _checked(perturbations)
    rng = np.random.RandomState(seed)
    subgroups: dict[str, tuple[str, ...]] = {}
    if kind == "simulation":
        train, test, subgroups = _by_genes(names, train_gene_fraction, combo_seen2_train_fraction, seed)
        train, validation, _ = _by_genes(train, _VALIDATION_OF_SIMULATION, _VALIDATION_OF_SIMULATION, seed)
    elif kind == "simulation_single":
        pairs = [name for name in names if len(genes_of(name)) == 2]
        if pairs:
            raise InvalidDataError(
                f"split simulation_single has no place for combinations ({pairs[0]})",
                where="perturbations",
                mend="take kind simulation, or leave the combinations out",
            )
        train, test, subgroups = _by_genes(names, train_gene_fraction, 1.0, seed)
        train, validation, _ = _by_genes(train, _VALIDATION_OF_SIMULATION, 1.0, seed)
        subgroups = {"unseen_single": subgroups["unseen_single"]}
    elif kind == "no_test":
        test = []
        train, validation = _drawn(names, kind, validation_fraction, rng)
    else:
        train, test = _drawn(names, kind, test_fraction, rng)
        train, validation = _drawn(train, kind, validation_fraction, rng)
    sets = [{*train}, {*validation}, {*test}]
    left = set(names).difference(*sets)
    ordered = [tuple(name for name in names if name in held) for held in (*sets, left)]
    split = GearsSplit(ordered[0], ordered[1], ordered[2], subgroups, ordered[3])
    return _filled(split, kind, len(names), needs_test=kind != "no_test")


def custom_split(path: str | Path, perturbations: Iterable[str]) -> GearsSplit:
    """A split listed in a JSON or YAML file with keys ``train``, ``validation`` (or ``val``) and ``test``.

    Parameters
    ----------
    path
        The file; ``test`` may be missing. Names are compared by their genes: ``A``, ``A+ctrl`` and ``ctrl+A`` are
        one, ``A+B`` and ``B+A`` too. Control is passed over; what is listed nowhere is left out.
    perturbations
        Those of the data; the split comes back in their spelling and order.

    Raises
    ------
    MissingFileError, InvalidDataError
        No such file; no JSON or YAML, an unknown key, a name that the data do not hold, that is listed twice or in
        two sets, or an empty training or validation set.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError("there is no such file", where=path, mend="check the path of the split")
    if path.suffix.lower() not in (".json", ".yaml", ".yml"):
        raise InvalidDataError("a split is read from .json or .yaml only", where=path, mend="write it as JSON")
    try:
        text = path.read_text(encoding="utf-8")
        listed = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise InvalidDataError(f"cannot be read: {str(error)[:200]}", where=path) from error
    if not isinstance(listed, Mapping) or not all(isinstance(v, list) for v in listed.values()):
        raise InvalidDataError(
            "is not a table of lists", where=path, mend="{train: [...], validation: [...], test: [...]}"
        )
    unknown = set(listed) - {"train", "validation", "val", "test"}
    if unknown or {"validation", "val"} <= set(listed):
        raise InvalidDataError(
            f"keys are {', '.join(map(str, listed))}", where=path, mend="train, validation (or val) and test"
        )
    spelled: dict[frozenset[str], list[str]] = {}
    for name in _checked(list(perturbations)):
        spelled.setdefault(frozenset(genes_of(name)), []).append(name)
    place: dict[frozenset[str], str] = {}
    for key in ("train", "validation", "test"):
        names = listed.get(key, listed.get("val", []) if key == "validation" else [])
        twice = [name for name, count in Counter(map(str, names)).items() if count > 1]
        if twice:
            raise InvalidDataError(f"{key} lists {twice[0]!r} twice", where=path, mend="list it once")
        for name in names:
            genes = frozenset(genes_of(name))
            if genes and genes not in spelled:
                raise InvalidDataError(f"{key} names {name!r}, which the data do not hold", where=path)
            if genes and place.setdefault(genes, key) != key:
                raise InvalidDataError(
                    f"{name!r} is in {place[genes]} and in {key}", where=path, mend="list it in one set"
                )
    sets: dict[str, list[str]] = {"train": [], "validation": [], "test": [], "left": []}
    for genes, names in spelled.items():
        sets[place.get(genes, "left")].extend(names)
    split = GearsSplit(
        tuple(sets["train"]), tuple(sets["validation"]), tuple(sets["test"]), left_out=tuple(sets["left"])
    )
    return _filled(split, f"custom ({path.name})", sum(map(len, spelled.values())), needs_test=False)


def _checked(perturbations: Sequence[str]) -> list[str]:
    names = [name for name in perturbations if genes_of(name)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidDataError(f"{twice[0]!r} is listed twice", where="perturbations", mend="give each once")
    seen: dict[frozenset[str], str] = {}
    for name in names:
        if len(genes_of(name)) == 2 and (first := seen.setdefault(frozenset(genes_of(name)), name)) != name:
            raise InvalidDataError(
                f"{first!r} and {name!r} are one perturbation", where="perturbations", mend="give it under one name"
            )
    if not names:
        raise InvalidDataError("there is no perturbation besides control", where="perturbations")
    return names


def _filled(split: GearsSplit, kind: str, total: int, *, needs_test: bool) -> GearsSplit:
    empty = [name for name in ("train", "validation", "test") if not getattr(split, name)]
    if not needs_test and "test" in empty:
        empty.remove("test")
    if empty:
        counts = Counter({name: len(getattr(split, name)) for name in ("train", "validation", "test", "left_out")})
        raise InvalidDataError(
            f"split {kind} of {total} perturbations leaves {' and '.join(empty)} without any "
            f"({', '.join(f'{name} {count}' for name, count in counts.items())})",
            where="perturbations",
            mend="give more perturbations, another fraction, seed or kind, or list the sets (custom_split)",
        )
    return split


def _singles(names: Iterable[str], genes: Iterable[str]) -> list[str]:
    wanted = set(genes)
    return [name for name in names if len(found := genes_of(name)) == 1 and found[0] in wanted]


def _combinations(names: Iterable[str], genes: Iterable[str]) -> list[str]:
    wanted = set(genes)
    return [name for name in names if len(found := genes_of(name)) == 2 and wanted & set(found)]


def _all_genes(names: Iterable[str]) -> np.ndarray:
    return np.unique([gene for name in names for gene in genes_of(name)])


def _by_genes(
    names: list[str], gene_fraction: float, combination_fraction: float, seed: int
) -> tuple[list[str], list[str], dict[str, tuple[str, ...]]]:
    """Split by drawn genes: train, the rest, and the rest by what is seen of it.

    The generator starts anew for the genes and again for the combinations, so that either draw depends on nothing
    but its own list; combinations are drawn from their sorted names.
    """
    genes = _all_genes(names)
    seen = set(np.random.RandomState(seed).choice(genes, int(len(genes) * gene_fraction), replace=False).tolist())
    unseen = set(genes.tolist()) - seen
    of = {name: len(seen & set(genes_of(name))) for name in names if len(genes_of(name)) == 2}
    both = np.unique(np.array([name for name, held in of.items() if held == 2], dtype=str))
    count = int(len(both) * combination_fraction)
    drawn = np.random.RandomState(seed).choice(both, count, replace=False) if count else both[:0]
    rest = {
        "combo_seen1": [name for name in _combinations(names, seen) if of[name] == 1],
        "combo_seen2": np.setdiff1d(both, drawn).tolist(),
        "unseen_single": _singles(names, unseen),
        "combo_seen0": [name for name, held in of.items() if held == 0],
    }
    train = [*_singles(names, seen), *drawn.tolist()]
    order = ("combo_seen0", "combo_seen1", "combo_seen2", "unseen_single")
    return train, [name for group in rest.values() for name in group], {key: tuple(rest[key]) for key in order}


def _drawn(names: list[str], kind: str, fraction: float, rng: np.random.RandomState) -> tuple[list[str], list[str]]:
    """Split off what a draw of genes, combinations or perturbations picks; the draw of genes is always made."""
    singles = [name for name in names if len(genes_of(name)) == 1]
    pairs = [name for name in names if len(genes_of(name)) == 2]
    genes = rng.choice(_all_genes(names), int(len(singles) * fraction)).tolist() if names else []
    dropped: list[str] = []
    if kind == "no_test":
        picked = rng.choice(names, int(len(names) * fraction)).tolist()
    elif kind == "combo_seen2":
        picked = rng.choice(pairs, int(len(pairs) * fraction)).tolist() if pairs else []
    else:
        mixed = _combinations(names, genes)
        most = {"single": -1, "combo_seen0": 0, "combo_seen1": 1}[kind]
        dropped = [name for name in mixed if len(set(genes_of(name)) - set(genes)) > most]
        picked = [*_singles(names, genes), *(name for name in mixed if name not in dropped)]
    away = {*picked, *dropped}
    return [name for name in names if name not in away], list(dict.fromkeys(picked))
