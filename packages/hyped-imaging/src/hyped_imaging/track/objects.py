"""The table of objects that trackers read: its checks, and the order trackers work in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError, Problem, ValidationError

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("frame", "time_h", "y_um", "x_um", "label")
"""Columns every tracker needs; ``area_um2`` and intensities are used where they are there."""


def check_objects(objects: pd.DataFrame) -> None:
    """Refuse a table that cannot be tracked.

    Raises
    ------
    ValidationError
        With every problem: missing columns, NaN or infinite positions or times, a time that differs within a
        frame or does not rise with it, a label used twice in a frame, several scenes in one table.
    """
    missing = [name for name in REQUIRED if name not in objects.columns]
    if missing:
        raise InvalidDataError(
            f"the table of objects lacks {', '.join(missing)}",
            where="columns",
            mend=f"columns needed: {', '.join(REQUIRED)}; there: {', '.join(map(str, objects.columns))}",
        )
    problems = []
    for name in REQUIRED:
        values = objects[name].to_numpy()
        if not np.issubdtype(values.dtype, np.number):
            problems.append(Problem(name, f"is {values.dtype}, expected numbers", "convert the column"))
        elif not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            problems.append(Problem(name, f"{count} value(s) are NaN or infinite", "drop or mend these rows"))
    if not problems and len(objects):
        problems.extend(_frame_problems(objects))
    if "scene" in objects.columns and objects["scene"].nunique() > 1:
        problems.append(Problem("scene", "holds several scenes", "track each scene on its own"))
    if problems:
        raise ValidationError("the table of objects cannot be tracked", problems)


def _frame_problems(objects: pd.DataFrame) -> list[Problem]:
    problems = []
    times = objects.groupby("frame", sort=True)["time_h"].agg(["min", "max"])
    for frame in times.index[times["max"] > times["min"]]:
        problems.append(Problem(f"time_h/frame {frame}", "differs within the frame", "one time a frame"))
    if (np.diff(times["min"].to_numpy()) <= 0).any():
        problems.append(Problem("time_h", "does not rise with frame", "sort frames by acquisition time"))
    twice = objects.duplicated(["frame", "label"])
    if twice.any():
        row = objects.loc[twice.idxmax()]
        problems.append(
            Problem("label", f"{int(row['label'])} is used twice in frame {int(row['frame'])}", "relabel")
        )
    return problems


def canonical_order(objects: pd.DataFrame) -> npt.NDArray[np.intp]:
    """Row positions sorted by frame, then label: the result does not depend on the order of the rows."""
    return np.lexsort((objects["label"].to_numpy(), objects["frame"].to_numpy()))


def with_tracks(
    objects: pd.DataFrame,
    track_id: npt.NDArray[np.int64],
    parent_id: npt.NDArray[np.int64],
    reason: npt.NDArray[np.object_],
) -> pd.DataFrame:
    """``objects`` with ``track_id``, ``parent_id`` (int64) and ``unassigned_reason`` ("" where assigned)."""
    out = objects.copy()
    out["track_id"] = track_id.astype(np.int64)
    out["parent_id"] = parent_id.astype(np.int64)
    out["unassigned_reason"] = reason.astype(object)
    return out
