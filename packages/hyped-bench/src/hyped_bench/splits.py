"""Splits of perturbations into those a model learns from and those it is scored on, saved with hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError
from hyped_core.params import Params

Kind = Literal["unseen_combination", "unseen_perturbation", "leave_one_out", "listed"]


class SplitParams(Params):
    """How perturbations are held out."""

    kind: Kind = "unseen_combination"
    """``unseen_combination``: part of the combinations, all singles are seen. ``unseen_perturbation``: part
    of the single genes, with every combination that holds one of them. ``leave_one_out``: a fold a
    perturbation. ``listed``: those in ``held_out``."""
    fraction: float = Field(0.5, gt=0, lt=1)
    seed: int = 0
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fold:
    """One fit of a model: perturbations it learns from and perturbations it is scored on."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"name": self.name, "train": list(self.train), "test": list(self.test)}


def genes_of(name: str) -> tuple[str, ...]:
    """Genes of a perturbation by its name.

    >>> genes_of("MYOD1+PRRX1"), genes_of("control")
    (('MYOD1', 'PRRX1'), ())
    """
    return tuple(part for part in name.split("+") if part not in ("", CONTROL, "ctrl"))


def make_folds(perturbations: Sequence[str], params: SplitParams) -> list[Fold]:
    """Folds over the perturbations (control is always seen and never scored).

    Raises
    ------
    InvalidDataError
        Nothing would be left to learn from or to score, or a listed perturbation is not there.
    """
    names = sorted({name for name in perturbations if genes_of(name)})
    if params.kind == "leave_one_out":
        folds = [Fold(name, tuple(n for n in names if n != name), (name,)) for name in names]
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
        missing = sorted(set(params.held_out) - set(names))
        if missing:
            raise InvalidDataError(f"held_out names perturbations that are not there: {', '.join(missing)}")
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


def split_record(folds: Sequence[Fold], params: SplitParams) -> dict[str, Any]:
    """The split as saved: its parameters, folds and their hash."""
    body = [fold.as_dict() for fold in folds]
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return {
        "kind": params.kind,
        "seed": params.seed,
        "folds": body,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
