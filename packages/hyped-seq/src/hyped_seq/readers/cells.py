"""Cells of a file or a container as AnnData, and those among them that a user asks for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hyped_core.errors import InvalidDataError, MissingFileError, UsageError

if TYPE_CHECKING:
    from anndata import AnnData


def read_cells(path: str | Path) -> AnnData:
    """Cells of an .h5ad file or of a .hyped container (its table ``rna``).

    Raises
    ------
    MissingFileError, CorruptFileError
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError("no such file or folder", where=path, mend="give an .h5ad file or a .hyped container")
    if path.is_dir():
        from hyped_core.container.data import HypedData

        return HypedData.read(path).table("rna")
    from hyped_seq.readers.h5ad import read_h5ad

    return read_h5ad(path)


def select_cells(cells: AnnData, conditions: Sequence[str], where: object = "cells") -> AnnData:
    """Cells of which ``obs`` fulfils every ``COLUMN=VALUE``; of several values for one column, one of them.

    Raises
    ------
    UsageError
        A condition has no ``=``.
    InvalidDataError
        There is no such column or no cell with such a value, or no cell fulfils all.
    """
    wanted: dict[str, list[str]] = {}
    for condition in conditions:
        column, equals, value = condition.partition("=")
        if not equals or not column:
            raise UsageError(f"must be COLUMN=VALUE, found {condition!r}", where="--where", mend="condition=control")
        wanted.setdefault(column, []).append(value)
    if not cells.n_obs:
        raise InvalidDataError("has no cells", where=where, mend="give a file with cells")
    keep = np.ones(cells.n_obs, dtype=bool)
    for column, values in wanted.items():
        if column not in cells.obs:
            raise InvalidDataError(
                f"obs has no column {column!r}",
                where=where,
                mend=_close(column, map(str, cells.obs.columns), "columns"),
            )
        held = cells.obs[column].astype(str).to_numpy()
        for value in values:
            if value not in held:
                raise InvalidDataError(
                    f"no cell has {column} {value!r}", where=where, mend=_close(value, dict.fromkeys(held), "values")
                )
        keep &= np.isin(held, values)
    if not keep.any():
        raise InvalidDataError(f"no cell has {' and '.join(conditions)}", where=where, mend="ask for less")
    return cells if keep.all() else cells[keep]


def _close(name: str, known: Iterator[str] | dict[str, None], what: str) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"{what} there: {', '.join(names[:20])}"
