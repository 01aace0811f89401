"""Splits below the perturbation: the rows a fold shows and scores, and splits of movies by time and replicate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_bench.splits.folds import Fold
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError


@dataclass(frozen=True, slots=True)
class FoldCells:
    """Row numbers of a fold's cells, ascending.

    Attributes
    ----------
    train : what the model learns from, control cells among them.
    validation : perturbed cells it may choose its stopping point by.
    test : perturbed cells it is scored on; in neither of the others.
    control : control cells a prediction starts from and changes are measured from.
    """

    train: npt.NDArray[np.intp]
    validation: npt.NDArray[np.intp]
    test: npt.NDArray[np.intp]
    control: npt.NDArray[np.intp]


def fold_cells(fold: Fold, cells: pd.DataFrame) -> FoldCells:
    """The rows a fold shows and scores.

    Where perturbations are held out, whole perturbations go to each part and every control cell is seen. With
    ``held_phase`` the perturbed cells of that phase are scored, all control cells are seen, and predictions start from
    the control cells of the phase. With ``held_replicate`` nothing of the replicate is learned from, its control
    cells included: predictions start from those, or from the others where the replicate has none. Perturbed cells
    without a phase (or replicate) may belong to the held-out one: they are neither seen nor scored.

    Parameters
    ----------
    cells
        A row a cell: ``perturbation`` (``control`` for control), and ``phase`` or ``replicate`` where the fold holds
        one out (empty text where unknown).

    Raises
    ------
    InvalidDataError
        No such column.
    """
    label = cells["perturbation"].astype(str).to_numpy()
    control = label == CONTROL
    train = np.isin(label, fold.train)
    validation = np.isin(label, fold.validation)
    test = np.isin(label, fold.test)
    start = control
    if fold.held is not None:
        column, value = fold.held
        if column not in cells:
            raise InvalidDataError(f"cells have no column {column!r}", where=fold.name, mend=f"annotate the {column}")
        of = cells[column].astype(str).to_numpy()
        inside, outside = of == value, (of != value) & (of != "")
        train, validation, test = train & outside, validation & outside, test & inside
        start = control & inside
        if fold.held_replicate:
            control = control & outside
            start = start if start.any() else control
    rows = (np.flatnonzero(part) for part in (train | control, validation, test, start))
    return FoldCells(*rows)


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """A movie cut at one time.

    Attributes
    ----------
    start, rest : (n,) bool, what a model is given and what it has to forecast; each time is in one of them.
    cut_h : hours; times up to and at it are given.
    """

    start: npt.NDArray[np.bool_]
    rest: npt.NDArray[np.bool_]
    cut_h: float


def time_split(time_h: npt.ArrayLike, fraction: float = 1 / 3) -> TimeSplit:
    """Cut times (of frames, or of the rows of a table) so that the last ``fraction`` of the span is to be forecast.

    The cut is by hours, not by count: gaps between frames are real.

    Parameters
    ----------
    time_h
        (n,) hours, in any order, repeats allowed.
    fraction
        Share of the span from the first to the last time that is held out, between 0 and 1.

    Raises
    ------
    InvalidDataError
        A time is not finite, the fraction is out of range, or one side would be empty.

    Examples
    --------
    >>> time_split([0, 1, 2, 3], 1 / 3).rest.tolist()
    [False, False, False, True]
    """
    times = np.asarray(time_h, dtype=np.float64)
    if times.ndim != 1 or not np.isfinite(times).all():
        raise InvalidDataError("times must be one row of finite hours", where="time_h")
    if not 0 < fraction < 1:
        raise InvalidDataError(f"is {fraction}, not between 0 and 1", where="fraction")
    if len(times) == 0 or times.min() == times.max():
        raise InvalidDataError(
            "fewer than two different times cannot be cut", where="time_h", mend="give more frames"
        )
    first, last = float(times.min()), float(times.max())
    cut = first + (1 - fraction) * (last - first)
    # a frame that is meant to stand at the cut may miss it by rounding
    start = times <= cut + 1e-9 * (last - first)
    if start.all():
        start = times < last
    return TimeSplit(start, ~start, float(times[start].max()))


@dataclass(frozen=True, slots=True)
class RowFold:
    """One replicate held out of a table.

    Attributes
    ----------
    name : the replicate.
    train, test, left_out : (n,) bool; each row is in one of them. ``left_out`` rows are of the replicate, in a group
        that has no other one: nothing of the group could be learned, so it is not scored here.
    """

    name: str
    train: npt.NDArray[np.bool_]
    test: npt.NDArray[np.bool_]
    left_out: npt.NDArray[np.bool_]


def replicate_split(
    replicates: Sequence[object], groups: Sequence[object] | None = None, held: Sequence[object] = ()
) -> list[RowFold]:
    """A fold a replicate (or each of ``held``): its rows are scored, all others learned from.

    Parameters
    ----------
    replicates
        (n,) the replicate of each row (of scenes, or of cells).
    groups
        (n,) the condition of each row: a replicate's rows are scored only in groups that other replicates have too.
        Replicate ``1`` of one condition and of another are held out together.
    held
        Replicates to hold out; each where empty.

    Raises
    ------
    InvalidDataError
        Lengths differ, a replicate is not there, or there is nothing to score.

    Examples
    --------
    >>> [fold.name for fold in replicate_split([1, 1, 2], ["a", "b", "a"])]
    ['1', '2']
    """
    of = np.array([str(value) for value in replicates], dtype=object)
    group = np.array([str(value) for value in groups], dtype=object) if groups is not None else np.full(len(of), "")
    if len(group) != len(of):
        raise InvalidDataError(f"{len(of)} replicates, {len(group)} groups", where="groups")
    there = sorted(set(of.tolist()))
    wanted = sorted({str(value) for value in held}) or there
    if missing := sorted(set(wanted) - set(there)):
        raise InvalidDataError(
            f"no replicate {', '.join(missing)}", where="held", mend=f"there: {', '.join(there)}"
        )
    folds = []
    for name in wanted:
        inside = of == name
        known = np.isin(group.astype(str), sorted(set(group[~inside].astype(str).tolist())))
        if (inside & known).any():
            folds.append(RowFold(name, ~inside, inside & known, inside & ~known))
    if not folds:
        raise InvalidDataError(
            "no group has a second replicate: there is nothing to score",
            where="replicates",
            mend="use another kind of split",
        )
    return folds
