"""The leak test: fails when what a model is given holds cells it is scored on, by name, by label or by content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_bench.splits.folds import Fold
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    from anndata import AnnData

MIN_DETECTED = 5
"""Rows with fewer values besides 0 are not compared by content: two nearly empty cells may be equal by chance."""
_BLOCK = 1 << 22
"""Values hashed at a time, so that memory does not grow with the number of cells."""


class LeakError(InvalidDataError):
    """A model can see cells it is scored on."""


@dataclass(frozen=True, slots=True)
class Leak:
    """One way in which test cells are visible.

    Attributes
    ----------
    kind : ``names`` (a test cell's name), ``labels`` (a held-out perturbation's label) or ``content`` (a row equal
        to a test cell's, whatever its name).
    n_cells : visible cells it is about.
    examples : some of them, by name.
    """

    kind: str
    n_cells: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        said = {
            "names": "have the name of a test cell",
            "labels": "have the label of what is held out",
            "content": "have the expression of a test cell",
        }
        return f"{self.n_cells} cells {said[self.kind]} ({', '.join(self.examples)})"


def check_no_leak(
    fold: Fold, seen: Mapping[str, AnnData | None], test: AnnData, *, relabelled: bool = False
) -> None:
    """Raise where anything a model is given in a fold holds the fold's test cells.

    Call it in every fold, before the model is made, with everything the model will get::

        check_no_leak(fold, {"visible": visible, "validation": validation, "control": control}, test)

    Parameters
    ----------
    seen
        Name of a part -> its cells (None: the fold has no such part): X on the scale of ``test``, the same genes in the
        same order, ``obs.perturbation``, and ``obs.phase`` or ``obs.replicate`` where the fold holds one out.
    test
        The true cells that predictions are scored against, with their own names: perturbed cells only. Control cells
        are never test cells, so control cells under other labels (``relabelled_control``) are no leak.
    relabelled
        Labels in ``seen`` are not the cells' own: labels are not looked at, names and content are.

    Raises
    ------
    LeakError
        Naming the fold, the part, how the cells are visible, and some of them.
    """
    both = set(fold.test) & {*fold.train, *fold.validation}
    if both and not relabelled and fold.held is None:
        raise LeakError(
            f"perturbations are scored and learned from: {_some(sorted(both))}",
            where=f"fold {fold.name}",
            mend="correct the split",
        )
    for part, cells in seen.items():
        if cells is None:
            continue
        leaks = find_leaks(cells, test, None if relabelled else fold)
        if leaks:
            raise LeakError(
                f"{part}: a model would see what it is scored on: {'; '.join(map(str, leaks))}",
                where=f"fold {fold.name}",
                mend="correct the split, or drop cells that are in the data twice",
            )


def find_leaks(seen: AnnData, test: AnnData, fold: Fold | None = None) -> list[Leak]:
    """Every way in which ``test`` cells are visible in ``seen``; labels are looked at where a fold is given.

    Names are compared as they are and without a prefix ``CONDITION/``; content is compared exactly, row by row, on
    rows with at least 5 values besides 0.

    Raises
    ------
    InvalidDataError
        The two have other genes, so that rows cannot be compared.
    """
    if list(seen.var_names) != list(test.var_names):
        raise InvalidDataError("seen and test cells have other genes, or another order", where="var_names")
    names = np.asarray(seen.obs_names, dtype=object)
    found = []
    tested = set(map(str, test.obs_names))
    own = np.array([str(n) in tested or str(n).rpartition("/")[2] in tested for n in names], dtype=bool)
    if own.any():
        found.append(_leak("names", names, own))
    if fold is not None:
        held = _held_labels(seen, fold)
        if held.any():
            found.append(_leak("labels", names, held))
    equal = equal_rows(seen.X, test.X)
    if equal.any():
        found.append(_leak("content", names, equal))
    return found


def _held_labels(seen: AnnData, fold: Fold) -> npt.NDArray[np.bool_]:
    label = seen.obs["perturbation"].astype(str).to_numpy()
    if fold.held is None:
        return np.isin(label, fold.test)
    column, value = fold.held
    if column not in seen.obs:
        raise InvalidDataError(f"seen cells have no column {column!r}", where=f"fold {fold.name}")
    of = seen.obs[column].astype(str).to_numpy()
    return (label != CONTROL) & ((of == value) | (of == ""))


def equal_rows(x: Any, among: Any) -> npt.NDArray[np.bool_]:
    """Which rows of ``x`` are exactly equal to a row of ``among``; nearly empty rows are never said to be.

    Rows are compared by a 64-bit key first and by their values then, so that equal keys of unequal rows do no harm.

    Parameters
    ----------
    x, among
        (cells, genes) dense or sparse, compared as float32.

    Returns
    -------
    numpy.ndarray
        (cells of ``x``,) bool.
    """
    keys, filled = row_keys(x)
    others, others_filled = row_keys(among)
    at: dict[int, list[int]] = {}
    for row in np.flatnonzero(others_filled):
        at.setdefault(int(others[row]), []).append(int(row))
    equal = np.zeros(len(keys), dtype=bool)
    for row in np.flatnonzero(filled & np.isin(keys, others[others_filled])):
        mine = _rows(x, slice(row, row + 1))[0]
        equal[row] = any(
            np.array_equal(mine, _rows(among, slice(i, i + 1))[0]) for i in at[int(keys[row])]
        )
    return equal


def row_keys(x: Any) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """A 64-bit key of each row (equal rows, equal keys), and which rows have enough values to be compared."""
    n, m = x.shape
    weights = np.random.default_rng(0).integers(1, 2**63, size=m, dtype=np.uint64) * 2 + 1
    keys = np.empty(n, dtype=np.uint64)
    filled = np.empty(n, dtype=bool)
    step = max(1, _BLOCK // max(1, m))
    for start in range(0, n, step):
        block = _rows(x, slice(start, min(start + step, n)))
        bits = block.view(np.uint32).astype(np.uint64)
        keys[start : start + len(block)] = (bits * weights).sum(axis=1, dtype=np.uint64)
        filled[start : start + len(block)] = (block != 0).sum(axis=1) >= MIN_DETECTED
    return keys, filled


def _rows(x: Any, rows: slice) -> npt.NDArray[np.float32]:
    part = x[rows]
    part = part.toarray() if hasattr(part, "toarray") else np.asarray(part)
    return np.ascontiguousarray(part, dtype=np.float32) + np.float32(0)  # -0 becomes 0


def _leak(kind: str, names: npt.NDArray, rows: npt.NDArray[np.bool_]) -> Leak:
    return Leak(kind, int(rows.sum()), tuple(map(str, names[rows][:3])))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
