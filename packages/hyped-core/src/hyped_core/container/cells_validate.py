"""Validation of a release of cells: every problem with its place and its mend; matrices are read in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.container.cells_file import MAKE, CellsFile, open_cells
from hyped_core.container.cells_matrix import StoredMatrix
from hyped_core.container.cells_schema import HASHTAG_COUNTS, PARTS, SCHEMA, Entry
from hyped_core.container.cells_values import COUNTS, ISOFORMS, RAW, ReleaseValues, X
from hyped_core.container.validate_tables import HASHTAG_KINDS, NOT_KNOWN, cell_problems
from hyped_core.errors import Problem, ValidationError

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.design import Design

_AGAIN = f"{MAKE} again"
_BY_DESIGN = ("pool", "hashtag_call", "hashtag_kind", "assigned_condition", "assigned_phase")
"""Columns of which the last two follow from the others by the design."""


@dataclass(frozen=True, slots=True)
class CheckedCells:
    """A valid release: its size, and what is odd without being wrong."""

    cells: int
    genes: int
    warnings: tuple[Problem, ...]


def validate_cells(path: str | Path, *, quick: bool = False) -> CheckedCells:
    """Check everything that a release promises; ``quick`` leaves the values of the matrices unread.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError, UnsupportedDataError
        It cannot be opened as a release at all.
    ValidationError
        With every problem found.
    """
    with open_cells(path) as cells:
        found, warnings = _matrix_problems(cells, quick)
        problems = [*_problems(cells), *found]
    if problems:
        raise ValidationError("the release is not valid", problems, where=path)
    return CheckedCells(len(cells.obs), len(cells.var), tuple(warnings))


def _problems(cells: CellsFile) -> Iterator[Problem]:
    """Problems of the tables and records."""
    from anndata import AnnData

    yield from _record_problems(cells)
    if cells.design is None:
        yield Problem("uns/design_yaml", cells.design_error, _AGAIN)
    for name, why in sorted(cells.unreadable.items()):
        yield Problem(f"uns/{name}", f"cannot be read: {why}", _AGAIN)
    for where, index in (("obs", cells.obs.index), ("var", cells.var.index)):
        if not index.is_unique:
            first = index[index.duplicated()][0]
            yield Problem(f"{where}_names", f"{first!r} is there twice", "give each a name of its own")
    told: set[str] = set()
    if cells.design is not None:
        perturbations = {k: v for k, v in cells.uns.items() if k == "perturbations_json"}
        table = AnnData(obs=cells.obs.set_axis(range(len(cells.obs)), axis=0).rename(index=str), uns=perturbations)
        for problem in cell_problems(".", table, cells.design):
            place = problem.where.removeprefix("./")
            told.add(place)
            yield Problem(place, problem.message, problem.mend)
        if not told & {f"obs/{name}" for name in _BY_DESIGN}:
            yield from _assigned_problems(cells.obs, cells.design)
    for entry in SCHEMA:
        if entry.place not in told and entry.place != "uns/design_yaml":
            yield from _entry_problems(cells, entry)


def _assigned_problems(obs: pd.DataFrame, design: Design) -> Iterator[Problem]:
    """Conditions and sorted phases that are not those of the design for the cell's pool and tag."""
    if not set(_BY_DESIGN) <= set(obs.columns):
        return
    cells = obs[list(_BY_DESIGN)].astype(object).where(obs[list(_BY_DESIGN)].notna(), "").astype(str)
    meaning = {(tag.pool, tag.tag): (tag.condition, tag.phase or "") for tag in design.hashtags}
    for (pool, call, kind, condition, phase), rows in cells.groupby(list(_BY_DESIGN), sort=True):
        if kind not in HASHTAG_KINDS or (kind == "singlet" and (pool, call) not in meaning):
            continue  # no hashtags; a tag that is none of the pool's is told elsewhere
        right = meaning[pool, call] if kind == "singlet" else ("", "")
        whose = f"singlets of tag {call!r} in pool {pool!r}" if kind == "singlet" else f"cells of kind {kind!r}"
        for column, value, expected in zip(_BY_DESIGN[3:], (condition, phase), right, strict=True):
            if ("" if value in NOT_KNOWN else value) != expected:
                said = f"{len(rows)} {whose} have {value!r}, by the design it is {expected!r}"
                mend = f"correct calls or design (first cell: {rows.index[0]!r}), and {_AGAIN}"
                yield Problem(f"obs/{column}", said, mend)


def _record_problems(cells: CellsFile) -> Iterator[Problem]:
    """``uns["hyped"]`` against what is there."""
    modalities = {str(name) for name in np.atleast_1d(cells.record.get("modalities", []))}
    for part in sorted(set(cells.absent) - set(PARTS)):
        yield Problem("uns/hyped/absent", f"names {part!r}, which is no part", f"parts: {', '.join(PARTS)}")
    for part in ("rna", "isoform", "hto"):
        if (part in modalities) == (part in cells.absent):
            said = "both there and absent" if part in modalities else "neither there nor absent"
            yield Problem("uns/hyped", f"says that {part} is {said}", _AGAIN)
    for entry in SCHEMA:
        if entry.needed in cells.absent and _has(cells, entry):
            yield Problem(entry.place, f"is there although uns/hyped says that {entry.needed} is absent", _AGAIN)


def _has(cells: CellsFile, entry: Entry) -> bool:
    if entry.where == "X":
        return "X" in cells.store
    if entry.where in ("obs", "var"):
        return entry.name in getattr(cells, entry.where)
    return entry.name in cells.keys(entry.where)


def _entry_problems(cells: CellsFile, entry: Entry) -> Iterator[Problem]:
    """One entry of the schema: there where needed, of its kind, within its values."""
    if not _has(cells, entry):
        needed = entry.needed == "always" or entry.needed in set(PARTS) - set(cells.absent)
        if entry.needed == "counts" and "rna" in cells.absent:
            needed = False
        if needed:
            yield Problem(entry.place, "is missing", f"it has to hold: {entry.meaning}; {_AGAIN}")
        return
    if entry.where in ("obs", "var"):
        yield from _column_problems(cells, entry)
    elif entry.where == "obsm" and entry.kind == "matrix":
        element = cells.store[entry.place]
        shape = tuple(getattr(element, "shape", ()))
        if len(shape) != 2 or shape[0] != len(cells.obs):
            yield Problem(entry.place, f"has shape {shape} for {len(cells.obs)} cells", "embed the cells again")
        elif not np.isfinite(element[:]).all():
            yield Problem(entry.place, "holds NaN or infinite values", "embed the cells again")


def _column_problems(cells: CellsFile, entry: Entry) -> Iterator[Problem]:
    import pandas as pd
    from pandas.api import types

    column = getattr(cells, entry.where)[entry.name]
    kind = column.cat.categories.dtype if isinstance(column.dtype, pd.CategoricalDtype) else column.dtype
    if entry.kind in ("text", "category"):
        empty = isinstance(column.dtype, pd.CategoricalDtype) and not len(column.cat.categories)
        if not (types.is_string_dtype(kind) or types.is_object_dtype(kind) or empty):
            yield Problem(entry.place, f"holds {kind}, not text", f"it has to be: {entry.meaning}")
        elif entry.values:
            odd = sorted({str(value) for value in column.dropna().unique()} - {*entry.values, *NOT_KNOWN})
            if odd:
                shown = ", ".join(map(repr, odd[:5])) + (", ..." if len(odd) > 5 else "")
                yield Problem(entry.place, f"unexpected value{'s' if len(odd) > 1 else ''} {shown}",
                              f"one of {entry.allowed}, or empty")  # fmt: skip
        return
    if entry.kind == "truth":
        if not types.is_bool_dtype(kind):
            yield Problem(entry.place, f"holds {kind}, not true or false", f"it has to be: {entry.meaning}")
        return
    if not types.is_numeric_dtype(kind) or types.is_bool_dtype(kind) or column.dtype.name == "category":
        yield Problem(entry.place, f"holds {kind}, not numbers", f"it has to be: {entry.meaning}")
        return
    values = column.to_numpy(dtype=float, na_value=np.nan)
    known = values[~np.isnan(values)]
    outside = np.zeros(len(known), dtype=bool)
    if entry.low is not None:
        outside |= known < entry.low
    if entry.high is not None:
        outside |= known > entry.high
    if outside.any():
        first = cells.obs.index[~np.isnan(values)][outside][0] if entry.where == "obs" else ""
        yield Problem(entry.place, f"{int(outside.sum())} values are not {entry.allowed} (first: "
                      f"{known[outside][0]:.6g}, {first!r})", f"it has to be: {entry.meaning}")  # fmt: skip
    if entry.kind == "integer" and (known != np.rint(known)).any():
        yield Problem(entry.place, "holds values that are not whole numbers", f"it has to be: {entry.meaning}")


def _matrix_problems(cells: CellsFile, quick: bool) -> tuple[list[Problem], list[Problem]]:
    """Problems and warnings of the matrices."""
    shape = (len(cells.obs), len(cells.var))
    problems: list[Problem] = []
    opened: dict[str, StoredMatrix] = {}
    for place in (X, COUNTS):
        if place in cells.store and shape[1]:
            matrix = StoredMatrix(cells.store[place])
            if matrix.defect or matrix.shape != shape:
                said = matrix.defect or f"has shape {matrix.shape}, there are {shape[0]} cells and {shape[1]} genes"
                problems.append(Problem(place, said, _AGAIN))
            else:
                opened[place] = matrix
    isoforms = _isoforms(cells)
    if isoforms.matrix is not None:
        opened[ISOFORMS] = isoforms.matrix
    problems += [*isoforms.problems, *_hashtag_problems(cells)]
    if quick:
        return problems, []
    values = ReleaseValues(cells, opened, isoforms.table)
    values.read()
    return problems + values.problems(), values.warnings()


@dataclass
class _Isoforms:
    matrix: StoredMatrix | None
    table: Any
    problems: list[Problem]


def _isoforms(cells: CellsFile) -> _Isoforms:
    """The isoforms' matrix and names, and what is wrong between them."""
    place = ISOFORMS
    if place not in cells.store or "uns/isoform" not in cells.store:
        return _Isoforms(None, None, [])
    table = cells.table("uns", "isoform")
    matrix = StoredMatrix(cells.store[place])
    problems = []
    columns = getattr(table, "columns", ())
    for name in ("transcript_id", "gene_id", "symbol"):
        if name not in columns:
            problems.append(Problem(f"uns/isoform/{name}", "is missing", _AGAIN))
    if matrix.defect:
        problems.append(Problem(place, matrix.defect, _AGAIN))
    elif matrix.shape[0] != len(cells.obs):
        problems.append(Problem(place, f"has {matrix.shape[0]} rows for {len(cells.obs)} cells", _AGAIN))
    elif matrix.shape[1] != len(table):
        said = f"has {matrix.shape[1]} columns, uns/isoform names {len(table)} transcripts"
        problems.append(Problem(place, said, _AGAIN))
    return _Isoforms(None if problems else matrix, table, problems)


def _hashtag_problems(cells: CellsFile) -> Iterator[Problem]:
    """The table of hashtag counts: small, read whole."""
    place = f"obsm/{HASHTAG_COUNTS}"
    if place not in cells.store:
        return
    table = cells.table("obsm", HASHTAG_COUNTS)
    if not hasattr(table, "columns"):
        yield Problem(place, "is no table with a column for each tag", _AGAIN)
        return
    named = cells.uns.get("hashtags")
    if named is not None and len(named) != table.shape[1]:
        yield Problem(place, f"has {table.shape[1]} columns, uns/hashtags names {len(named)} tags", _AGAIN)
    for name in table.columns:
        values = table[name]
        if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            yield Problem(f"{place}/{name}", "holds values that are not numbers", RAW)
        elif (values < 0).any() or (values != np.rint(values)).any():
            yield Problem(f"{place}/{name}", "holds counts that are negative or not whole numbers", RAW)
