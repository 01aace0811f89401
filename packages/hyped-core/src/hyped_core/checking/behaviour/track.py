"""What a tracker has to do: the exercise, and checks of whole, odd and bad tables of objects."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.checking.behaviour.images import REFUSE, done_or_refused, movie
from hyped_core.checking.behaviour.track_kit import (
    HERE,
    PLAIN,
    answer,
    check_reported,
    check_rows,
    check_tracks,
    objects,
    same_tracks,
    tracked,
)
from hyped_core.checking.behaviour.track_kit import track_check as _check
from hyped_core.checking.behaviour.working import must_repeat
from hyped_core.checking.records import CheckFailed, Exercise, Subject
from hyped_core.checking.tiny.movie import tiny_movie
from hyped_core.context import RunContext

if TYPE_CHECKING:
    import pandas as pd

SHIFT_UM = (1024.0, -512.0)
"""By which coordinates are shifted; powers of two, so that differences stay what they are."""


def _inputs(seed: int) -> dict[str, Any]:
    made = tiny_movie(seed)
    return {"objects": made.objects, "labels": made.labels}


def _work(model: Any, inputs: dict[str, Any], context: RunContext) -> dict[str, Any]:
    return {
        "tracks": model.track(inputs["objects"], None, context=context),
        "tracks with labels": model.track(inputs["objects"], inputs["labels"], context=context),
    }


EXERCISE = Exercise("track", _inputs, _work)


def rows_kept(subject: Subject) -> None:
    """The given rows in their order, with ``track_id`` and ``parent_id`` as int64."""
    _track(subject)


def tracked_or_reported(subject: Subject) -> None:
    """``track_id`` 0 goes with a reason."""
    check_reported(_track(subject), HERE)


def tracks_possible(subject: Subject) -> None:
    """One object of a track a frame; parents exist, end before their daughters begin, and have few."""
    check_tracks(_track(subject), HERE)


def with_label_images(subject: Subject) -> None:
    """Label images (t, y, x) may be given or not."""
    mend = "label images (t, y, x) are an offer: track every row of objects, with them and with labels=None"
    tracked(subject, objects(), movie().labels.copy(), where="track(objects, labels)", mend=mend)


def plain_columns(subject: Subject) -> None:
    """Intensities are not in every table."""
    where = f"{HERE} with the columns {', '.join(PLAIN)} alone"
    mend = "use other columns only where `name in objects`: these six are all that every table has"
    tracked(subject, objects()[list(PLAIN)].copy(), where=where, mend=mend)


def small_tables(subject: Subject) -> None:
    """No object, one object, one frame, two frames far apart: all are tables of scenes."""
    table = objects()
    for name, chosen in (
        ("no rows", table.iloc[:0]),
        ("one object", table.iloc[5:6]),
        ("one frame", table[table["frame"] == 3]),
        ("one object in each of two frames", table[table["frame"].isin([2, 3]) & (table["label"] == 1)]),
    ):
        mend = "answer such tables too: no row gives no row, and an object that nothing follows a track of its own"
        tracked(subject, chosen.reset_index(drop=True), where=f"{HERE} of {name}", mend=mend)


def frames_with_gaps(subject: Subject) -> None:
    """Frames without objects are passed over, wherever they are; the first need not be 0."""
    table = objects()
    later = table.assign(frame=table["frame"] + 20, time_h=table["time_h"] + 20 / 3)
    for name, chosen in (
        ("without frame 3", table[table["frame"] != 3]),
        ("without label 2 of frame 4", table[(table["frame"] != 4) | (table["label"] != 2)]),
        ("from frame 20 on", later),
    ):
        mend = "go through numpy.unique(objects['frame']), and look objects up by their frame: it is no place in a list"
        tracked(subject, chosen.reset_index(drop=True), where=f"{HERE} {name}", mend=mend)


def row_order(subject: Subject) -> None:
    """The tracks are those of the objects, in whatever order their rows come."""
    must_repeat(subject)
    table = objects()
    turn = np.random.default_rng(5).permutation(len(table))
    where = f"{HERE} with rows in another order"
    mend = "work on objects.sort_values(['frame', 'label']), and put the result back in the order given"
    turned = tracked(subject, table.iloc[turn].reset_index(drop=True), where=where, mend=mend)
    back = turned.iloc[np.argsort(turn)].reset_index(drop=True)
    same_tracks(back, tracked(subject, table), "rows in another order", mend, where)


def label_names(subject: Subject) -> None:
    """A label is a number of one frame; it says nothing of the next."""
    must_repeat(subject)
    table = objects()
    rng = np.random.default_rng(7)
    renamed = table.assign(label=table.groupby("frame")["label"].transform(lambda own: rng.permutation(own)))
    where = f"{HERE} with other labels in each frame"
    mend = "link by y_um, x_um and what is measured: a label names a nucleus within its frame alone"
    found = tracked(subject, renamed, where=where, mend=mend)
    expected = tracked(subject, table).assign(label=renamed["label"])
    same_tracks(found, expected, "labels by other names", mend, where)


def place_of_the_origin(subject: Subject) -> None:
    """Coordinates are micrometres of the stage or of the image."""
    must_repeat(subject)
    table = objects()
    moved = table.assign(y_um=table["y_um"] + SHIFT_UM[0], x_um=table["x_um"] + SHIFT_UM[1])
    where = f"{HERE} with y_um + {SHIFT_UM[0]:g}, x_um - {-SHIFT_UM[1]:g}"
    mend = "use differences of y_um and x_um alone, or subtract the smallest of each first"
    found = tracked(subject, moved, where=where, mend=mend)
    same_tracks(found, tracked(subject, table), "coordinates with another origin", mend, where)


def more_columns(subject: Subject) -> None:
    """Columns that the contract does not name stay, and the index too."""
    import pandas as pd

    table = objects()
    table["scene"] = "S0"
    table["kind"] = pd.Categorical(np.where(table["label"] % 2, "odd", "even"))
    table["border"] = table["label"] == 1
    table["score"] = np.where(table["label"] == 2, np.nan, 0.5)
    table.index = pd.Index(np.arange(len(table))[::-1] + 1000)
    where = f"{HERE} with more columns and an index from {table.index[0]} down"
    tracked(subject, table, where=where, mend="name the columns that you use: others may be text, categories or NaN")


def bad_places(subject: Subject) -> None:
    """NaN and infinite places are refused, or those objects reported as left out."""
    for column, value in (("y_um", np.nan), ("x_um", np.inf)):
        table = objects()
        table.loc[20, column] = value
        where = f"{HERE} with {column} = {value} in row 20"
        mend = "leave the object out, with track_id 0 and an unassigned_reason"
        result = done_or_refused(partial(answer, subject, table, where=where), where, mend)
        if result is None:
            continue
        check_rows(result, table, where)
        check_reported(result, where)
        if result["track_id"].iloc[20] != 0:
            raise CheckFailed(
                f"the object is in track {int(result['track_id'].iloc[20])}, though nobody knows where it is",
                where=where,
                mend=f"{mend}, or {REFUSE}",
            )


def _track(subject: Subject) -> pd.DataFrame:
    """A fresh model's answer for the tiny movie's objects, if its rows are those given."""
    result = answer(subject, objects())
    check_rows(result, objects(), HERE)
    return result


CHECKS = (
    _check("rows_kept", "Everything measured of a nucleus is joined to its track by row.", rows_kept),
    _check(
        "tracked_or_reported",
        "Nuclei that vanish silently bias every count; those left out have to be seen and explained.",
        tracked_or_reported,
    ),
    _check(
        "tracks_possible",
        "Lineages are walked from mother to daughter; a loop or a mother that lives on breaks them.",
        tracks_possible,
    ),
    _check("with_label_images", "Some users have label images at hand, others the table alone.", with_label_images),
    _check("plain_columns", "Public tracking data are points without intensities.", plain_columns),
    _check("small_tables", "One empty scene must not end the run of all others.", small_tables),
    _check("frames_with_gaps", "Frames get lost at the microscope, and nuclei in the segmentation.", frames_with_gaps),
    _check("row_order", "Tables are sorted, filtered and joined; tracks must not change with that.", row_order),
    _check("label_names", "Segmenters number nuclei anew in each frame; a label that helps is a leak.", label_names),
    _check("place_of_the_origin", "Scenes lie anywhere on the stage.", place_of_the_origin),
    _check("more_columns", "Later steps need columns that a tracker has never heard of.", more_columns),
    _check("bad_places", "One object without a place can mislead the links of a whole frame.", bad_places),
)
