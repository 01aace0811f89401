"""Names of perturbations as files have them (GEARS, scPerturb, ours) to typed perturbations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from hyped_core.design import Design, GeneChange, Perturbation
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError
from hyped_seq.ingest.params import ImportCellsParams

DIRECTIONS = {
    "activation": "activation",
    "crispra": "activation",
    "overexpression": "activation",
    "suppression": "suppression",
    "crispri": "suppression",
    "crispr": "suppression",
    "crispr-cas9": "suppression",
    "knockout": "suppression",
    "ko": "suppression",
    "sirna": "suppression",
}
"""What a value of the direction column (lower case) does to the gene."""


@dataclass
class Named:
    """Perturbation and condition of each cell, and the perturbations by name."""

    names: pd.Series
    conditions: pd.Series
    perturbations: dict[str, Perturbation]


def name_perturbations(
    column: pd.Series,
    design: Design,
    params: ImportCellsParams,
    directions: pd.Series | None,
    genes: set[str],
    known: Mapping[str, Perturbation] | None = None,
) -> Named:
    """Name the perturbation of every cell ``"control"``, ``"GENE"`` or ``"GENE1+GENE2"``.

    A value that is a condition of the design gets that condition's genes and directions; ``A+ctrl`` is
    ``A``; the same genes in another order are one perturbation. ``genes`` are the measured ones, which tell
    whether ``_`` parts two genes or belongs to a name. ``known`` are perturbations that the file itself
    describes.

    Raises
    ------
    InvalidDataError
        A value is missing, or the direction column holds an unknown value.
    """
    values = column.astype(object).where(column.notna(), "").astype(str)
    if (values == "").any():
        raise InvalidDataError(
            f"{int((values == '').sum())} cells have no value",
            where=f"obs/{column.name}",
            mend="filter them out",
        )
    by_condition = {item.name: item for item in design.conditions}
    unique = sorted(set(values))
    singles = {value for value in unique if not any(mark in value for mark in params.separators)} | genes
    found: dict[str, Perturbation] = {}
    order: dict[frozenset[str], str] = {}
    for value in unique:
        condition = by_condition.get(value)
        if known and value in known:
            changes = known[value].changes
        elif condition is not None:
            changes = condition.perturbation
        else:
            direction, agent = _direction(values, value, directions, params)
            parts = split_name(value, params.control_names, params.separators, singles)
            changes = tuple(GeneChange(gene=gene, direction=direction, agent=agent) for gene in parts)
        spelled = "+".join(change.gene for change in changes) or CONTROL
        name = order.setdefault(frozenset(change.gene for change in changes), spelled)
        found[value] = Perturbation(name=name, changes=changes)
    names = values.map({value: item.name for value, item in found.items()})
    conditions = values.map(
        {
            value: value if value in by_condition else CONTROL if item.is_control else item.name
            for value, item in found.items()
        }
    )
    described: dict[str, Perturbation] = {}
    for item in found.values():
        described.setdefault(item.name, item)
    return Named(names, conditions, described)


def split_name(
    value: str, controls: Sequence[str], separators: Sequence[str], singles: set[str]
) -> tuple[str, ...]:
    """Genes in a perturbation's name.

    ``+`` always parts; other separators only where every part is a gene known by itself.

    >>> split_name("KLF1+ctrl", ("ctrl",), ("+", "_"), set())
    ('KLF1',)
    >>> split_name("HLA_A", ("ctrl",), ("+", "_"), {"KLF1"})
    ('HLA_A',)
    """
    lowered = {name.lower() for name in controls}
    if value.lower() in lowered:
        return ()
    parts = [value]
    if "+" in separators and "+" in value:
        parts = value.split("+")
    else:
        for mark in separators:
            pieces = value.split(mark)
            if (
                len(pieces) > 1
                and value not in singles
                and all(p in singles or p.lower() in lowered for p in pieces)
            ):
                parts = pieces
                break
    return tuple(part.strip() for part in parts if part.strip() and part.strip().lower() not in lowered)


def _direction(
    values: pd.Series, value: str, directions: pd.Series | None, params: ImportCellsParams
) -> tuple[str, str]:
    """Direction and agent of one perturbation: the direction column's commonest value among its cells."""
    if directions is None:
        return params.direction, params.agent
    text = directions[values == value].astype(str).value_counts()
    commonest = sorted(text.index, key=lambda item: (-text[item], item))[0]
    direction = DIRECTIONS.get(commonest.lower())
    if direction is None:
        raise InvalidDataError(
            f"{commonest!r} is no known direction (known: {', '.join(sorted(DIRECTIONS))})",
            where=f"obs/{directions.name}",
            mend="set direction and agent in the parameters instead of direction_column",
        )
    return direction, params.agent or commonest
