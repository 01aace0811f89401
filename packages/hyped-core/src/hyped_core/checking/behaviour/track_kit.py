"""How the checks of trackers put a model to work, and what holds of every table of tracks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.checking.behaviour.images import called, movie
from hyped_core.checking.behaviour.working import comparing
from hyped_core.checking.records import Check, CheckFailed, Subject, asked_by

if TYPE_CHECKING:
    import pandas as pd

HERE = "track(objects)"
PLAIN = ("frame", "time_h", "y_um", "x_um", "label", "area_um2")
"""The columns that every table of objects has."""
MOST_DAUGHTERS = 3
"""Nuclei divide into two, now and then into three."""


def objects() -> pd.DataFrame:
    """The tiny movie's objects, new memory."""
    return movie().objects.copy(deep=True)


def tracked(
    subject: Subject, table: pd.DataFrame, labels: npt.NDArray | None = None, *, where: str = HERE, mend: str = ""
) -> pd.DataFrame:
    """A fresh model's answer for ``table``, if its rows and its tracks are what the contract says."""
    result = answer(subject, table, labels, where=where, mend=mend)
    check_rows(result, table, where)
    check_reported(result, where)
    check_tracks(result, where)
    return result


def answer(
    subject: Subject, table: pd.DataFrame, labels: npt.NDArray | None = None, *, where: str = HERE, mend: str = ""
) -> Any:
    """A fresh model's answer for a copy of ``table``, as it is; ``mend`` says what to do where it raises something."""
    model, context = subject.make(), subject.context()
    return called(lambda: model.track(table.copy(deep=True), labels, context=context), where, mend)


@asked_by("rows_kept")
def check_rows(result: Any, given: pd.DataFrame, where: str) -> None:
    """The rows given, in their order, with whole numbers in two columns more."""
    import pandas as pd

    if not isinstance(result, pd.DataFrame):
        raise CheckFailed(
            f"returned {type(result).__name__}, expected the table of objects with two columns more",
            where=where,
            mend="return objects.assign(track_id=..., parent_id=...), a DataFrame with all columns of objects",
        )
    order = "return the given rows, columns and index as they are, with two columns more: "
    order += "objects.assign(track_id=..., parent_id=...) keeps all of that"
    if len(result) != len(given):
        raise CheckFailed(f"{len(result)} rows for {len(given)} objects", where=where, mend=order)
    for name in given.columns:
        if name not in result.columns:
            raise CheckFailed(f"the column {name!r} is gone", where=where, mend=order)
        differs = ~((result[name].to_numpy() == given[name].to_numpy()) | pd.isna(given[name]).to_numpy())
        if differs.any():
            row = int(np.argmax(differs))
            raise CheckFailed(
                f"in row {row} {name!r} is {_shown(result[name].iloc[row])} and was {_shown(given[name].iloc[row])}",
                where=where,
                mend=order,
            )
    if not result.index.equals(given.index):
        raise CheckFailed("the index is another than that of the objects", where=where, mend=order)
    for name in ("track_id", "parent_id"):
        if name not in result.columns:
            what = "numbers from 1, 0 for no track" if name == "track_id" else "the mother's track_id, 0 for none"
            raise CheckFailed(f"there is no column {name!r}", where=where, mend=f"add it as int64: {what}")
        if result[name].dtype != np.int64:
            raise CheckFailed(
                f"{name} is {result[name].dtype}, expected int64",
                where=where,
                mend="fill what is missing with 0, then astype('int64')",
            )
        if len(result) and result[name].min() < 0:
            raise CheckFailed(
                f"row {int(result[name].to_numpy().argmin())} has {name} {int(result[name].min())}, expected 0 or more",
                where=where,
                mend=f"number tracks from 1, and let {name} be 0, not a negative number, where there is none",
            )


@asked_by("tracked_or_reported")
def check_reported(result: pd.DataFrame, where: str) -> None:
    """Every object has a track or a reason."""
    left = result["track_id"].to_numpy() == 0
    if not left.any():
        return
    mend = "give lone objects tracks of their own, or say why not in the text column unassigned_reason"
    if "unassigned_reason" not in result.columns:
        raise CheckFailed(
            f"{int(left.sum())} objects have track_id 0, and there is no column unassigned_reason",
            where=where,
            mend=mend,
        )
    told = [isinstance(said, str) and said.strip() != "" for said in result["unassigned_reason"]]
    silent = left & ~np.array(told, dtype=bool)
    if silent.any():
        raise CheckFailed(
            f"{int(silent.sum())} objects have track_id 0 and no unassigned_reason, the first in row "
            f"{int(np.argmax(silent))}",
            where=where,
            mend=mend,
        )


@asked_by("tracks_possible")
def check_tracks(result: pd.DataFrame, where: str) -> None:
    """One object a frame; parents that exist, end before their daughters begin and have few of them."""
    import pandas as pd

    columns = {name: result[name].to_numpy() for name in ("frame", "track_id", "parent_id")}
    own = pd.DataFrame(columns)
    lost = own[(own["track_id"] == 0) & (own["parent_id"] > 0)]
    if len(lost):
        raise CheckFailed(
            f"row {int(lost.index[0])} has track_id 0 and parent_id {int(lost['parent_id'].iloc[0])}",
            where=where,
            mend="an object without a track has no parent: set parent_id to 0",
        )
    own = own[own["track_id"] > 0]
    twice = own[own.duplicated(["track_id", "frame"])]
    if len(twice):
        row = twice.iloc[0]
        raise CheckFailed(
            f"track {int(row['track_id'])} has two objects in frame {int(row['frame'])}",
            where=where,
            mend="give each object of a frame a track of its own",
        )
    tracks = own.groupby("track_id").agg(
        first=("frame", "min"), last=("frame", "max"), parent=("parent_id", "min"), other=("parent_id", "max")
    )
    for track, row in tracks.iterrows():
        parent = int(row["parent"])
        if row["other"] != parent:
            raise CheckFailed(
                f"track {track} has the parents {parent} and {int(row['other'])}",
                where=where,
                mend="set parent_id of every row of a track to the same track",
            )
        if parent == 0:
            continue
        if parent not in tracks.index:
            raise CheckFailed(
                f"track {track} has the parent {parent}, which is no track",
                where=where,
                mend="name a track_id that is in the table, or 0",
            )
        if tracks.loc[parent, "last"] >= row["first"]:
            raise CheckFailed(
                f"track {track} begins in frame {int(row['first'])}, and its parent {parent} goes on to frame "
                f"{int(tracks.loc[parent, 'last'])}",
                where=where,
                mend="end a track where it divides; each daughter begins one of its own",
            )
    daughters = tracks.loc[tracks["parent"] > 0, "parent"].value_counts()
    if len(daughters) and daughters.iloc[0] > MOST_DAUGHTERS:
        raise CheckFailed(
            f"track {int(daughters.index[0])} has {int(daughters.iloc[0])} daughters, expected up to {MOST_DAUGHTERS}",
            where=where,
            mend="parent_id is a division's mother, nothing else",
        )


@comparing
def same_tracks(a: pd.DataFrame, b: pd.DataFrame, what: str, mend: str, where: str) -> None:
    """Fail where two tables with the same rows hold different tracks or divisions, whatever the tracks are called."""
    ours, theirs = (_as_rows(table) for table in (a, b))
    differs = np.flatnonzero((ours[0] != theirs[0]) | (ours[1] != theirs[1]))
    if len(differs):
        row = int(differs[0])
        at = a.iloc[row]
        raise CheckFailed(
            f"{what}: {len(differs)} of {len(a)} objects are in other tracks or have other parents, the first is label "
            f"{int(at['label'])} of frame {int(at['frame'])}",
            where=where,
            mend=mend,
        )


def _as_rows(table: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of each row the first row (by frame, then place in the table) of its track and of its parent, -1 for none."""
    track, parent = (table[name].to_numpy() for name in ("track_id", "parent_id"))
    first: dict[int, int] = {0: -1}
    for row in np.lexsort((np.arange(len(table)), table["frame"].to_numpy())).tolist():
        first.setdefault(int(track[row]), row)
    return tuple(np.array([first.get(int(v), -2) for v in values], np.int64) for values in (track, parent))  # type: ignore[return-value]


def _shown(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


def track_check(name: str, why: str, run: Callable[[Subject], None]) -> Check:
    """A check of trackers."""
    return Check(name, ("track",), why, run)
