"""Splits as files: folds, the rule that made them, and hashes of the cells they were made on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hyped_bench.splits.cells import fold_cells
from hyped_bench.splits.folds import Fold, SplitParams, make_folds, split_record
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, Problem, ValidationError
from hyped_core.io.atomic import write_json

SCHEMA = 1
FORMAT = "hyped-split"
_PARTS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class SavedSplit:
    """A split as it stands in a file.

    Attributes
    ----------
    kind, seed, params : what made it.
    source : ``file`` (a name, no path), ``n_cells`` and ``sha256`` of the cells' names and labels.
    folds : the folds.
    cells : for each fold, part -> ``n`` and ``sha256`` of the sorted names of its cells.
    """

    kind: str
    seed: int
    params: dict[str, Any]
    source: dict[str, Any]
    folds: tuple[Fold, ...]
    cells: tuple[dict[str, dict[str, Any]], ...]

    @property
    def folds_sha256(self) -> str:
        """sha256 of the folds alone, as records have it (``split_sha256``)."""
        return str(split_record(self.folds, SplitParams())["sha256"])

    @property
    def sha256(self) -> str:
        """sha256 of all that the file holds beside it."""
        return body_sha256(self._body())

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form, as saved."""
        return {**self._body(), "sha256": self.sha256}

    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "schema": SCHEMA,
            "kind": self.kind,
            "seed": self.seed,
            "params": self.params,
            "source": self.source,
            "folds": [
                {**fold.as_dict(), "cells": cells} for fold, cells in zip(self.folds, self.cells, strict=True)
            ],
            "folds_sha256": self.folds_sha256,
        }


def body_sha256(known: Mapping[str, Any]) -> str:
    """sha256 over everything in a split's file but its field ``sha256``."""
    body = {key: value for key, value in known.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def names_sha256(names: Iterable[object]) -> str:
    """sha256 over the sorted names, a line each: the order of cells does not matter."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(map(str, names))).encode()).hexdigest()


def cells_sha256(cells: pd.DataFrame) -> str:
    """sha256 over the sorted lines ``NAME<tab>PERTURBATION``."""
    labels = cells["perturbation"].astype(str)
    return names_sha256(f"{name}\t{label}" for name, label in zip(cells.index, labels, strict=True))


def make_split(cells: pd.DataFrame, params: SplitParams, *, file: str = "") -> SavedSplit:
    """A split of these cells, ready to be saved.

    Parameters
    ----------
    cells
        Every cell of the source (before any are drawn from it): index the names, column ``perturbation``
        (``control`` for control), and ``phase`` or ``replicate`` for the kinds that hold one out.
    file
        What the cells were read from; its last part is kept, for people.

    Raises
    ------
    InvalidDataError
        Two cells have one name; what `make_folds` refuses.
    """
    if not cells.index.is_unique:
        twice = cells.index[cells.index.duplicated()][0]
        raise InvalidDataError(f"two cells are named {twice!r}", where=file or "cells", mend="make names unique")
    folds = tuple(make_folds(cells["perturbation"].astype(str).unique().tolist(), params, cells))
    source = {"file": Path(file).name, "n_cells": len(cells), "sha256": cells_sha256(cells)}
    made = params.model_dump(mode="json", exclude={"file", "kind", "seed"}, exclude_defaults=True)
    parts = tuple(_part_hashes(fold, cells) for fold in folds)
    return SavedSplit(params.kind, params.seed, made, source, folds, parts)


def _part_hashes(fold: Fold, cells: pd.DataFrame) -> dict[str, dict[str, Any]]:
    rows = fold_cells(fold, cells)
    names = np.asarray(cells.index, dtype=object)
    parts = {part: getattr(rows, part) for part in _PARTS}
    return {part: {"n": len(at), "sha256": names_sha256(names[at])} for part, at in parts.items() if len(at)}


def save_split(path: str | Path, split: SavedSplit) -> None:
    """Write a split as JSON: equal splits give equal bytes."""
    write_json(path, split.as_dict())


def load_split(path: str | Path) -> SavedSplit:
    """Read a split and check it against its own hash.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file; no JSON; no saved split, one of another schema, or one in which anything was changed by hand.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError("there is no such file", where=path, mend="save one with `hyped bench split`")
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CorruptFileError(f"is not valid JSON: {str(error)[:200]}", where=path) from error
    if not isinstance(known, dict) or known.get("format") != FORMAT:
        raise InvalidDataError(
            "is not a saved split", where=path, mend="lists of perturbations are kind custom, not saved"
        )
    if known.get("schema") != SCHEMA:
        raise InvalidDataError(
            f"is of schema {known.get('schema')!r}, this version reads {SCHEMA}", where=path, mend="save it again"
        )
    try:
        folds = tuple(Fold.from_dict(fold) for fold in known["folds"])
        split = SavedSplit(
            str(known["kind"]),
            int(known["seed"]),
            dict(known["params"]),
            {key: known["source"][key] for key in ("file", "n_cells", "sha256")},
            folds,
            tuple({part: dict(facts) for part, facts in fold["cells"].items()} for fold in known["folds"]),
        )
        stated = str(known["sha256"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidDataError(
            f"lacks a field or holds a wrong one: {error}", where=path, mend="save it again"
        ) from error
    found = body_sha256(known)
    if found != stated:
        raise InvalidDataError(
            f"its content has the sha256 {found[:12]}..., it states {stated[:12]}...",
            where=f"{path}: sha256",
            mend="splits are not edited by hand: save the split again",
        )
    return split


def verify_split(split: SavedSplit, cells: pd.DataFrame) -> SavedSplit:
    """The split itself, if these are the cells it was made on.

    Parameters
    ----------
    cells
        As for `make_split`: every cell of the source, in any order.

    Raises
    ------
    ValidationError
        Naming all that differs: number of cells, names or labels, perturbations that are not there, and the cells
        of each part of each fold.
    """
    problems = []
    source = split.source
    if len(cells) != source["n_cells"]:
        problems.append(Problem("source/n_cells", f"made on {source['n_cells']} cells, found {len(cells)}"))
    if cells_sha256(cells) != source["sha256"]:
        problems.append(Problem("source/sha256", "names or perturbations of cells are others"))
    there = set(cells["perturbation"].astype(str))
    for fold, parts in zip(split.folds, split.cells, strict=True):
        named = {*fold.train, *fold.validation, *fold.test}
        if missing := sorted(named - there):
            problems.append(Problem(f"folds/{fold.name}", f"no cells of {', '.join(missing)}"))
        found = _part_hashes(fold, cells)
        for part in sorted({*parts, *found}):
            expected, here = parts.get(part, {"n": 0}), found.get(part, {"n": 0})
            if expected != here:
                what = f"{expected['n']} cells expected, {here['n']} found"
                what += ", of other names" if expected["n"] == here["n"] else ""
                problems.append(Problem(f"folds/{fold.name}/{part}", what))
    if problems:
        raise ValidationError(
            "the split was made on other cells", problems, where=split.source["file"] or "saved split"
        )
    return split
