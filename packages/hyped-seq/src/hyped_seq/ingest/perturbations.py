"""Names of perturbations as files have them (GEARS, scPerturb, ours) to typed perturbations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from hyped_core.design import Design, GeneChange, Perturbation
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError
from hyped_seq.ingest.params import ImportCellsParams

Direction = Literal["activation", "suppression"]

DIRECTIONS: dict[str, Direction] = {
    "activation": "activation",
    "crispra": "activation",
    "overexpression": "activation",
    "orf": "activation",
    "suppression": "suppression",
    "crispri": "suppression",
    "crispr": "suppression",
    "crispr-cas9": "suppression",
    "knockout": "suppression",
    "ko": "suppression",
    "sirna": "suppression",
    "shrna": "suppression",
}
"""What a value of the direction column (lower case) does to the gene."""
MISSING = ("", "nan", "none", "na", "<na>")
"""Text (lower case) that stands for no value."""


@dataclass
class Named:
    """Perturbation and condition of each cell, the perturbations by name, and what said their directions."""

    names: pd.Series
    conditions: pd.Series
    perturbations: dict[str, Perturbation]
    direction_from: str


@dataclass(frozen=True)
class Columns:
    """Columns of ``obs`` beside the perturbation's.

    Attributes
    ----------
    directions : what was done to the genes (CRISPRa); None where no column says it.
    numbers : how many genes a cell's perturbation has (scPerturb's ``nperts``).
    """

    directions: pd.Series | None = None
    numbers: pd.Series | None = None


def without_value(column: pd.Series) -> np.ndarray:
    """True for cells that no perturbation is given for (missing, or text such as ``nan``), bool (cells,)."""
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip().str.lower()
    return text.isin(MISSING).to_numpy()


def name_perturbations(
    column: pd.Series,
    design: Design,
    params: ImportCellsParams,
    genes: set[str],
    beside: Columns | None = None,
    known: Mapping[str, Perturbation] | None = None,
) -> Named:
    """Name the perturbation of every cell ``"control"``, ``"GENE"`` or ``"GENE1+GENE2"``.

    A value that is a condition of the design gets that condition's genes and directions; ``A+ctrl`` and
    ``ctrl+A`` are ``A``; the same genes in another order are one perturbation. ``genes`` are the measured ones,
    which tell whether ``_`` parts two genes or belongs to a name (`split_name`). ``known`` are perturbations
    that the file itself describes.

    Raises
    ------
    InvalidDataError
        A value is missing; it is not clear how many genes one names; a direction is unknown, or cells of one
        perturbation have several.
    """
    beside = beside or Columns()
    missing = without_value(column)
    if missing.any():
        raise InvalidDataError(
            f"{int(missing.sum())} of {len(missing)} cells have no value",
            where=f"obs/{column.name}",
            mend="without_perturbation: leave_out imports the others, and says how many were left out",
        )
    values = column.astype(str).str.strip()
    by_condition = {item.name: item for item in design.conditions}
    described = {
        **{name: item.perturbation for name, item in by_condition.items()},
        **{name: item.changes for name, item in (known or {}).items()},
    }
    unique = sorted(set(values))
    parts = _parts([value for value in unique if value not in described], values, params, genes, beside.numbers)
    order: dict[frozenset[str], str] = {}
    names: dict[str, str] = {}
    for value in unique:
        spelled = [change.gene for change in described[value]] if value in described else parts[value]
        names[value] = order.setdefault(frozenset(spelled), "+".join(spelled) or CONTROL)
    named = values.map(names)
    found: dict[str, Perturbation] = {}
    for value in unique:
        name = names[value]
        if value in described:
            found.setdefault(name, Perturbation(name=name, changes=described[value]))
    said = _said_of(named, beside.directions)
    for value, spelled in parts.items():
        name = names[value]
        if name not in found:
            direction, agent = _direction(name, said, params) if spelled else ("activation", "")
            changes = tuple(GeneChange(gene=gene, direction=direction, agent=agent) for gene in spelled)
            found[name] = Perturbation(name=name, changes=changes)
    conditions = values.map({value: value if value in by_condition else names[value] for value in unique})
    return Named(named, conditions, found, _said_by(parts, beside.directions, params))


def _parts(
    unique: Sequence[str], values: pd.Series, params: ImportCellsParams, genes: set[str], numbers: pd.Series | None
) -> dict[str, tuple[str, ...]]:
    """Genes of each value; the file's number of genes decides where names alone do not."""
    singles = {value for value in unique if not any(mark in value for mark in params.separators)}
    singles |= genes | set(params.genes)
    stated: dict[str, int] = {}
    if numbers is not None:
        counts = pd.to_numeric(numbers, errors="coerce").groupby(values.to_numpy()).agg(["min", "max"])
        stated = {
            str(value): int(low) for value, low, high in counts.itertuples() if low == high and low == int(low)
        }
    found = {
        value: split_name(value, params.control_names, params.separators, set())
        for value in unique
        if stated.get(value) == 1 and "+" not in value
    }
    singles |= {gene for parts in found.values() for gene in parts}
    unclear: list[str] = []
    for value in unique:
        if value not in found:
            found[value] = split_name(value, params.control_names, params.separators, singles)
            parted = any(mark in value for mark in params.separators if mark != "+")
            if len(found[value]) == 1 and found[value][0] not in genes and stated.get(value, 1) > 1 and parted:
                unclear.append(value)
    if unclear and numbers is not None:
        raise InvalidDataError(
            f"{', '.join(unclear[:5])}{', ...' if len(unclear) > 5 else ''}: obs/{numbers.name} says several genes, "
            "and not all parts are genes that are measured or perturbed alone",
            where=f"obs/{values.name}",
            mend="list the genes that are meant (genes: [A, B]), or keep such names whole (separators: ['+'])",
        )
    return found


def split_name(
    value: str, controls: Sequence[str], separators: Sequence[str], singles: set[str]
) -> tuple[str, ...]:
    """Genes in a perturbation's name, each once.

    ``+`` always parts. Another separator does where every part is a gene known by itself (parts may hold the
    separator: the way into fewest genes is taken) or a name of the control.

    >>> split_name("KLF1+ctrl", ("ctrl",), ("+", "_"), set())
    ('KLF1',)
    >>> split_name("HLA_A", ("ctrl",), ("+", "_"), {"KLF1"})
    ('HLA_A',)
    >>> split_name("HLA_A_KLF1", ("ctrl",), ("+", "_"), {"KLF1", "HLA_A"})
    ('HLA_A', 'KLF1')
    """
    lowered = {name.lower() for name in controls}
    parts = [value]
    if value.strip().lower() in lowered:
        return ()
    if "+" in separators and "+" in value:
        parts = value.split("+")
    elif value not in singles:
        for mark in separators:
            pieces = value.split(mark)
            while len(pieces) > 1 and pieces[-1].lower() in lowered:
                pieces.pop()
            while len(pieces) > 1 and pieces[0].lower() in lowered:
                pieces.pop(0)
            rest = mark.join(pieces)
            parts = _fewest(pieces, mark, singles) or [rest]
            if rest != value or len(parts) > 1:
                break
    stripped = [part.strip() for part in parts]
    return tuple(dict.fromkeys(part for part in stripped if part and part.lower() not in lowered))


def _fewest(pieces: Sequence[str], mark: str, singles: set[str]) -> list[str]:
    """The fewest known genes that ``pieces`` make when joined by ``mark``; none where there is no such way."""
    ways: list[list[str] | None] = [[]]
    for end in range(1, len(pieces) + 1):
        ends = [
            [*way, mark.join(pieces[start:end])]
            for start, way in enumerate(ways)
            if way is not None and mark.join(pieces[start:end]) in singles
        ]
        ways.append(min(ends, key=len) if ends else None)
    return ways[-1] or []


def _said_of(named: pd.Series, directions: pd.Series | None) -> pd.Series | None:
    """Cells by perturbation and value of the direction column; None where there is no such column."""
    if directions is None:
        return None
    kept = ~without_value(directions)
    text = directions[kept].astype(str).str.strip()
    return text.groupby([named.to_numpy()[kept], text.to_numpy()]).size().rename(directions.name)


def _direction(name: str, said: pd.Series | None, params: ImportCellsParams) -> tuple[Direction, str]:
    """Direction and agent of one perturbation: what the direction column says of its cells."""
    if said is None:
        return params.direction or "activation", params.agent
    where = f"obs/{said.name}"
    if name not in said.index.get_level_values(0):
        raise InvalidDataError(f"says nothing of the cells of {name}", where=where, mend=_SAY_IT)
    cells = {str(text): int(count) for text, count in said.loc[name].items()}
    unknown = sorted(text for text in cells if text.lower() not in DIRECTIONS)
    if unknown:
        raise InvalidDataError(
            f"{unknown[0]!r} is no known direction (known: {', '.join(sorted(DIRECTIONS))})",
            where=where,
            mend=_SAY_IT,
        )
    if len({DIRECTIONS[text.lower()] for text in cells}) > 1:
        raise InvalidDataError(
            f"cells of {name} were both activated and suppressed ({', '.join(sorted(cells))})",
            where=where,
            mend=f"import one kind at a time (filter: {{{said.name}: {min(cells)}}})",
        )
    commonest = min(cells, key=lambda text: (-cells[text], text))
    return DIRECTIONS[commonest.lower()], params.agent or commonest


_SAY_IT = "set direction (and agent) in the parameters instead"


def _said_by(
    parts: Mapping[str, tuple[str, ...]], directions: pd.Series | None, params: ImportCellsParams
) -> str:
    """What the directions were taken from."""
    if not any(parts.values()):
        return "the design or uns/perturbations_json"
    if directions is not None:
        return f"obs/{directions.name}"
    return "parameters" if params.direction else "none says it: taken as activation"
