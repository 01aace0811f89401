"""Folds: which perturbations, and which of their cells, a model learns from and is scored on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError
from hyped_core.params import Params
from hyped_core.splits import GearsKind, GearsSplit, custom_split, gears_split

Kind = Literal[
    "unseen_combination",
    "unseen_perturbation",
    "unseen_condition",
    "unseen_phase",
    "unseen_replicate",
    "listed",
    "custom",
    "saved",
    GearsKind,
]
GEARS_KINDS: tuple[str, ...] = get_args(GearsKind)
HELD_COLUMNS = {"unseen_phase": "phase", "unseen_replicate": "replicate"}
"""Kinds that divide the cells of a perturbation, and the column they divide them by."""


class SplitParams(Params):
    """How perturbations are held out."""

    kind: Kind = "unseen_combination"
    """``unseen_combination``: part of the combinations, all singles are seen. ``unseen_perturbation``: part
    of the single genes, with every combination that holds one of them. ``unseen_condition``: a fold
    a perturbation (or condition), those in ``held_out`` or each. ``unseen_phase`` and
    ``unseen_replicate``: a fold a phase or replicate (those in ``held_out`` or each), whose perturbed cells are scored
    and never seen, while the others of the same perturbations are learned from. ``listed``: one fold, those in
    ``held_out``. ``custom``: as the lists in ``file`` say. ``saved``: the folds of a split file
    (`hyped_bench.splits.files`), checked against the cells. The others are GEARS' and equal those of cell-gears for
    the same list (`hyped_core.splits`), here the perturbations sorted by name."""
    fraction: float = Field(0.5, gt=0, lt=1)
    """Share held out, of combinations or of genes; GEARS' kinds have fractions of their own."""
    seed: int = 0
    """Of the draw; the published GEARS splits have 1."""
    held_out: tuple[str, ...] = ()
    """Perturbations, conditions, phases or replicates, as the kind has it."""
    train_gene_fraction: float = Field(0.75, gt=0, lt=1)
    """GEARS' simulation splits: share of the genes that are seen."""
    combo_seen2_train_fraction: float = Field(0.75, gt=0, lt=1)
    """GEARS' simulation split: share of the combinations of two seen genes that are learned from."""
    test_fraction: float = Field(0.1, gt=0, lt=1)
    """GEARS' ``single`` and ``combo_seen`` splits: genes (or combinations) drawn for the test."""
    validation_fraction: float = Field(0.1, gt=0, lt=1)
    """The same for validation."""
    file: str | None = None
    """.json or .yaml for ``custom``: lists ``train``, ``validation`` and ``test``; names as the cells have them, or
    GEARS' (``A+ctrl``). A saved split for ``saved``."""

    @model_validator(mode="after")
    def _file_for_custom(self) -> Self:
        if (self.kind in ("custom", "saved")) != bool(self.file):
            raise ValueError("`file` goes with the kinds custom and saved; saved needs it as custom needs it")
        return self


@dataclass(frozen=True, slots=True)
class Fold:
    """One fit of a model: perturbations it learns from and perturbations it is scored on.

    Attributes
    ----------
    validation : perturbations it may choose its stopping point by; in neither of the others.
    subgroups : name -> scored perturbations that are summed up together (GEARS: how much of a combination was seen).
    held_phase, held_replicate : where given, perturbations are in ``train`` and ``test`` alike, and their cells of
        this phase (or replicate) are scored and never seen; see `fold_cells`.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    validation: tuple[str, ...] = ()
    subgroups: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    held_phase: str = ""
    held_replicate: str = ""

    @property
    def held(self) -> tuple[str, str] | None:
        """Column and value of the cells that are held out of every perturbation; None where perturbations are."""
        if self.held_phase:
            return "phase", self.held_phase
        return ("replicate", self.held_replicate) if self.held_replicate else None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form; what a split does not have is left out."""
        known: dict[str, Any] = {"name": self.name, "train": list(self.train), "test": list(self.test)}
        if self.validation:
            known["validation"] = list(self.validation)
        if self.subgroups:
            known["subgroups"] = {group: list(names) for group, names in self.subgroups.items()}
        if held := self.held:
            known[f"held_{held[0]}"] = held[1]
        return known

    @classmethod
    def from_dict(cls, known: Mapping[str, Any]) -> Self:
        """The fold that `as_dict` wrote."""
        groups = {group: tuple(names) for group, names in known.get("subgroups", {}).items()}
        return cls(
            known["name"],
            tuple(known["train"]),
            tuple(known["test"]),
            tuple(known.get("validation", ())),
            groups,
            known.get("held_phase", ""),
            known.get("held_replicate", ""),
        )

    def subgroup_of(self, name: str) -> str:
        """Subgroup of a scored perturbation; empty where it has none."""
        return next((group for group, names in self.subgroups.items() if name in names), "")


def genes_of(name: str) -> tuple[str, ...]:
    """Genes of a perturbation by its name.

    >>> genes_of("MYOD1+PRRX1"), genes_of("control")
    (('MYOD1', 'PRRX1'), ())
    """
    return tuple(part for part in name.split("+") if part not in ("", CONTROL, "ctrl"))


def make_folds(
    perturbations: Sequence[str], params: SplitParams, cells: pd.DataFrame | None = None
) -> list[Fold]:
    """Folds over the perturbations (control is always seen and never scored).

    Parameters
    ----------
    perturbations
        Names, as in the cells; control may be among them.
    cells
        Index the cells' names, column ``perturbation`` (``control`` for control) and ``phase`` or ``replicate``
        (empty text where unknown): for ``unseen_phase``, ``unseen_replicate`` and ``saved``, which look at cells.

    Raises
    ------
    InvalidDataError
        Nothing would be left to learn from or to score, or a listed perturbation is not there; what
        `hyped_core.splits` refuses.
    MissingFileError
        No such split file.
    """
    names = sorted({name for name in perturbations if genes_of(name)})
    if params.kind in HELD_COLUMNS or params.kind == "saved":
        if cells is None:
            raise InvalidDataError(f"the split {params.kind} is made on cells", mend="give the cells too")
        if params.kind == "saved":
            from hyped_bench.splits.files import load_split, verify_split

            return list(verify_split(load_split(str(params.file)), cells).folds)
        return _held_folds(names, params, cells)
    if params.kind == "no_test":
        raise InvalidDataError(
            "the split no_test holds nothing out: there is nothing to score",
            mend="use another kind of split; no_test is for training a model that is scored elsewhere",
        )
    if params.kind == "unseen_condition":
        scored = params.held_out or names
        _check_listed(scored, names, "perturbations")
        folds = [Fold(name, tuple(n for n in names if n != name), (name,)) for name in sorted(set(scored))]
    elif params.kind == "custom":
        folds = [_fold_of(params.kind, names, custom_split(str(params.file), names))]
    elif params.kind in GEARS_KINDS:
        split = gears_split(
            names,
            params.kind,  # type: ignore[arg-type]
            seed=params.seed,
            train_gene_fraction=params.train_gene_fraction,
            combo_seen2_train_fraction=params.combo_seen2_train_fraction,
            test_fraction=params.test_fraction,
            validation_fraction=params.validation_fraction,
        )
        folds = [_fold_of(params.kind, names, split)]
    else:
        held = _held_out(names, params)
        folds = [
            Fold(params.kind, tuple(n for n in names if n not in held), tuple(n for n in names if n in held))
        ]
    if not folds or any(not fold.test for fold in folds):
        raise InvalidDataError(
            f"the split {params.kind} leaves nothing to score of {len(names)} perturbations",
            mend="use another kind of split, or data with more perturbations",
        )
    if any(not fold.train for fold in folds):
        raise InvalidDataError(
            f"the split {params.kind} leaves no perturbation to learn from", mend="hold out less"
        )
    return folds


def _held_out(names: Sequence[str], params: SplitParams) -> set[str]:
    if params.kind == "listed":
        _check_listed(params.held_out, names, "perturbations")
        return set(params.held_out)
    rng = np.random.default_rng(params.seed)
    if params.kind == "unseen_combination":
        pool = [name for name in names if len(genes_of(name)) > 1]
    else:
        pool = sorted({gene for name in names for gene in genes_of(name) if gene in names})
    count = max(1, round(params.fraction * len(pool))) if pool else 0
    drawn = {pool[i] for i in rng.permutation(len(pool))[:count]}
    if params.kind == "unseen_combination":
        return drawn
    return {name for name in names if drawn & set(genes_of(name))}


def _check_listed(held_out: Sequence[str], there: Sequence[str], what: str) -> None:
    if missing := sorted(set(held_out) - set(there)):
        raise InvalidDataError(
            f"held_out names {what} that are not there: {', '.join(missing)}",
            where="held_out",
            mend=f"{what} there: {', '.join(there)}",
        )


def _held_folds(names: Sequence[str], params: SplitParams, cells: pd.DataFrame) -> list[Fold]:
    """A fold a phase (or replicate) in which every perturbation with cells on both sides is seen and scored."""
    column = HELD_COLUMNS[params.kind]
    if column not in cells:
        raise InvalidDataError(f"cells have no column {column!r}", where=column, mend=f"annotate the {column}")
    label, value = cells["perturbation"].astype(str), cells[column].astype(str)
    perturbed = label.isin(list(names)) & (value != "")
    there = sorted(set(value[perturbed]))
    _check_listed(params.held_out, there, f"{column}s of perturbed cells")
    folds = []
    for held in sorted(set(params.held_out)) or there:
        seen = set(label[perturbed & (value != held)])
        scored = seen & set(label[perturbed & (value == held)])
        if scored:
            train = tuple(name for name in names if name in seen)
            test = tuple(name for name in names if name in scored)
            folds.append(Fold(f"{column} {held}", train, test, **{f"held_{column}": held}))
    if not folds:
        raise InvalidDataError(
            f"the split {params.kind} leaves nothing to score: no perturbation has cells in the held-out {column} "
            f"and outside it ({column}s: {', '.join(there) or 'none'})",
            where=column,
            mend="use another kind of split",
        )
    return folds


def _fold_of(kind: str, names: Sequence[str], split: GearsSplit) -> Fold:
    """A split as a fold, each part in the order of the names."""

    def sort(part: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name in set(part))

    groups = {group: sort(part) for group, part in split.subgroups.items() if part}
    return Fold(kind, sort(split.train), sort(split.test), sort(split.validation), groups)


def split_record(folds: Sequence[Fold], params: SplitParams, kind: str | None = None) -> dict[str, Any]:
    """The split as saved: its parameters, folds and their hash; of a split file its hash too."""
    body = [fold.as_dict() for fold in folds]
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    record: dict[str, Any] = {
        "kind": kind or params.kind,
        "seed": params.seed,
        "folds": body,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    if params.file:
        from hyped_core.io.hashing import sha256_file

        record["file"] = {"path": params.file, "sha256": sha256_file(params.file)}
    return record
