"""Checks of trackers: a plain good model passes them all, and each fails on a model that is wrong in its way."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment

from hyped_core.checking.behaviour.images import movie
from hyped_core.checking.behaviour.track import CHECKS, EXERCISE
from hyped_core.checking.behaviour.track_kit import check_tracks, same_tracks
from hyped_core.checking.compare import copy_of, difference
from hyped_core.checking.records import CheckFailed, CheckSkipped, Subject
from hyped_core.errors import InvalidDataError
from hyped_core.spec import ModelSpec

checked = runpy.run_path(str(Path(__file__).with_name("checked_models.py")))
NAMED = {check.name: check for check in CHECKS}
REACH_UM = 12.0


class Linking:
    """Assigns the objects of a frame to those of the frame before, as near as may be."""

    def track(self, objects, labels=None, *, context):
        places = objects[["y_um", "x_um"]].to_numpy(dtype=float)
        if not np.isfinite(places).all():
            raise InvalidDataError("places are NaN or infinite", where="y_um, x_um")
        frame = objects["frame"].to_numpy()
        track = np.zeros(len(objects), np.int64)
        count, before = 0, np.zeros(0, int)
        for now in np.unique(frame):
            rows = np.flatnonzero(frame == now)
            away = np.hypot(*np.moveaxis(places[before][:, None] - places[rows][None], 2, 0))
            for i, j in zip(*linear_sum_assignment(np.minimum(away, REACH_UM)), strict=True):
                if away[i, j] < REACH_UM:
                    track[rows[j]] = track[before[i]]
            fresh = rows[track[rows] == 0]
            track[fresh] = np.arange(count + 1, count + 1 + len(fresh))
            count, before = count + len(fresh), rows
        return objects.assign(track_id=track, parent_id=np.zeros(len(objects), np.int64))


class True_:
    """Knows the truth of the tiny movie, where it is given that very table."""

    def track(self, objects, labels=None, *, context):
        truth = movie().tracks
        if len(objects) != len(truth) or objects["frame"].min() > 0:
            return Linking().track(objects, labels, context=context)
        return objects.assign(**{name: truth[name].to_numpy() for name in ("track_id", "parent_id")})


def subject_of(model, tmp_path, **told) -> Subject:
    spec = ModelSpec("tried", "track", "nowhere:Model", **told)
    return Subject("track", "tried", spec, lambda values=None: model(), tmp_path)


def wrong(change, base=Linking):
    """A model whose table is ``change(result)``."""

    class Wrong(base):
        def track(self, objects, labels=None, *, context):
            return change(super().track(objects, labels, context=context))

    return checked["sendable"](Wrong, globals())


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.name)
def test_a_good_model_passes(check, tmp_path):
    check.run(subject_of(Linking, tmp_path))


@pytest.mark.parametrize("name", ["rows_kept", "tracked_or_reported", "tracks_possible"])
def test_the_truth_passes(name, tmp_path):
    NAMED[name].run(subject_of(True_, tmp_path))


def test_objects_left_out_with_a_reason_are_fine(tmp_path):
    def leave_out(table):
        lone = table["label"].to_numpy() == 2
        return table.assign(
            track_id=table["track_id"].where(~lone, 0), unassigned_reason=np.where(lone, "second of its frame", "")
        )

    for name in ("rows_kept", "tracked_or_reported", "tracks_possible", "small_tables", "more_columns"):
        NAMED[name].run(subject_of(wrong(leave_out), tmp_path))


class Strict(Linking):
    """Wants what not every table has."""

    def track(self, objects, labels=None, *, context):
        assert objects["mean_Cy5"].notna().all()
        return super().track(objects, labels, context=context)


class Peeking(Linking):
    """Follows labels."""

    def track(self, objects, labels=None, *, context):
        label = objects["label"].to_numpy().astype(np.int64)
        return objects.assign(track_id=label, parent_id=np.zeros(len(objects), np.int64))


class Greedy(Linking):
    """Gives each object in the order of the rows the nearest track that is left."""

    def track(self, objects, labels=None, *, context):
        place = objects[["y_um", "x_um"]].to_numpy(dtype=float)
        frame = objects["frame"].to_numpy()
        track = np.arange(1, len(objects) + 1)
        for row in range(1, len(objects)):
            near = np.hypot(*(place[:row] - place[row]).T)
            near[frame[:row] != frame[row] - 1] = np.inf
            best = track[near.argmin()]
            if near.min() < REACH_UM and not (track[:row][frame[:row] == frame[row]] == best).any():
                track[row] = best
        return objects.assign(track_id=track.astype(np.int64), parent_id=np.zeros(len(objects), np.int64))


class Centred(Linking):
    """Takes the distance from the origin for the distance between nuclei."""

    def track(self, objects, labels=None, *, context):
        far = np.hypot(objects["y_um"], objects["x_um"])
        return super().track(objects.assign(y_um=far, x_um=0.0), labels, context=context).assign(
            y_um=objects["y_um"], x_um=objects["x_um"]
        )


class Indexing(Linking):
    """Takes frame numbers for places in a list."""

    def track(self, objects, labels=None, *, context):
        counts = objects.groupby("frame").size().tolist()
        assert [counts[f] for f in objects["frame"]]
        return super().track(objects, labels, context=context)


class First(Linking):
    def track(self, objects, labels=None, *, context):
        assert objects["frame"].iloc[0] == 0
        return super().track(objects, labels, context=context)


class Painted(Linking):
    def track(self, objects, labels=None, *, context):
        if labels is not None:
            objects = objects[objects["label"] < labels.max()]
        return super().track(objects, None, context=context)


class Bold(Linking):
    def track(self, objects, labels=None, *, context):
        filled = objects.assign(**{c: objects[c].replace([np.inf], np.nan).fillna(0.0) for c in ("y_um", "x_um")})
        found = super().track(filled, labels, context=context)
        return objects.assign(track_id=found["track_id"], parent_id=found["parent_id"])


class Unguarded(Linking):
    def track(self, objects, labels=None, *, context):
        assert np.isfinite(objects[["y_um", "x_um"]].to_numpy()).all()
        return super().track(objects, labels, context=context)


class Sorting(Linking):
    def track(self, objects, labels=None, *, context):
        found = super().track(objects, labels, context=context)
        return found.sort_values(["track_id", "frame"])


def family(parents):
    """The tracks of `Linking`, with these parents."""
    return wrong(lambda table: table.assign(parent_id=table["track_id"].map(parents).fillna(0).astype("int64")))


TOLD = {
    "of no rows: raises IndexError": {"frames_with_gaps", "row_order", "small_tables"},
    "without frame 3: raises IndexError": {"frames_with_gaps", "small_tables"},
    "from frame 20 on: raises AssertionError": {"frames_with_gaps", "row_order", "small_tables"},
    "rows in another order: ": {"bad_places", "row_order"},
    "labels by other names: ": {"bad_places", "label_names"},
}
"""The checks that tell of a defect where it is not its own alone: one that is more general, or several that differ."""
WRONG = [
    ("rows_kept", wrong(lambda t: t["track_id"]), "returned Series"),
    ("rows_kept", wrong(lambda t: t.iloc[1:]), "70 rows for 71 objects"),
    ("rows_kept", Sorting, "in row 1 'frame' is 1 and was 0"),
    ("rows_kept", wrong(lambda t: t.drop(columns="area_um2")), "the column 'area_um2' is gone"),
    ("rows_kept", wrong(lambda t: t.drop(columns="parent_id")), "no column 'parent_id'"),
    ("rows_kept", wrong(lambda t: t.astype({"track_id": "float64"})), "track_id is float64, expected int64"),
    ("rows_kept", wrong(lambda t: t.assign(parent_id=t["parent_id"] - 1)), "row 0 has parent_id -1"),
    ("rows_kept", wrong(lambda t: t.assign(y_um=t["y_um"] / 1.2)), "in row 0 'y_um' is"),
    (
        "tracked_or_reported",
        wrong(lambda t: t.assign(track_id=t["track_id"].where(t["frame"] > 0, 0))),
        "8 objects have track_id 0, and there is no column",
    ),
    (
        "tracked_or_reported",
        wrong(lambda t: t.assign(track_id=t["track_id"] * 0, unassigned_reason=["late", *[None] * len(t)][: len(t)])),
        "70 objects have track_id 0 and no unassigned_reason, the first in row 1",
    ),
    ("tracks_possible", wrong(lambda t: t.assign(track_id=np.int64(1))), "track 1 has two objects in frame 0"),
    ("tracks_possible", family({9: 99}), "track 9 has the parent 99, which is no track"),
    ("tracks_possible", family({9: 9}), "track 9 begins in frame 2, and its parent 9 goes on to frame 7"),
    ("tracks_possible", family({9: 1}), "its parent 1 goes on to frame 7"),
    (
        "tracks_possible",
        wrong(lambda t: t.assign(parent_id=np.where((t["track_id"] == 9) & (t["frame"] > 5), 1, 0))),
        "track 9 has the parents 0 and 1",
    ),
    (
        "tracks_possible",
        wrong(lambda t: t.assign(track_id=0, parent_id=1, unassigned_reason="late").astype({"track_id": "int64"})),
        "row 0 has track_id 0 and parent_id 1",
    ),
    (
        "tracks_possible",
        wrong(lambda t: t.assign(track_id=np.arange(1, len(t) + 1), parent_id=np.where(t["frame"] > 0, 1, 0))),
        "track 1 has 63 daughters, expected up to 3",
    ),
    ("with_label_images", Painted, "rows for 71 objects"),
    ("plain_columns", Strict, "KeyError: 'mean_Cy5'"),
    ("small_tables", First, "of no rows: raises IndexError"),
    ("frames_with_gaps", Indexing, "without frame 3: raises IndexError"),
    ("frames_with_gaps", First, "from frame 20 on: raises AssertionError"),
    ("row_order", Greedy, "rows in another order: "),
    ("label_names", Peeking, "labels by other names: "),
    ("place_of_the_origin", Centred, "coordinates with another origin: "),
    ("more_columns", wrong(lambda t: t.reset_index(drop=True)), "the index is another"),
    ("more_columns", wrong(lambda t: t.drop(columns="kind", errors="ignore")), "the column 'kind' is gone"),
    ("bad_places", Unguarded, "y_um = nan in row 20: raises AssertionError"),
    ("bad_places", Bold, "though nobody knows where it is"),
]


@pytest.mark.parametrize("name, model, said", WRONG, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(WRONG)])
def test_a_wrong_model_fails_its_check(name, model, said, tmp_path):
    with pytest.raises(CheckFailed) as caught:
        NAMED[name].run(subject_of(model, tmp_path))
    failed = caught.value
    assert failed.where and failed.mend
    assert re.search(said, f"{failed.where}: {failed.message}", re.DOTALL), f"{failed.where}: {failed.message}"


@pytest.mark.parametrize("name, model, said", WRONG, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(WRONG)])
def test_a_defect_is_told_by_as_few_checks_as_can_be(name, model, said):
    assert set(checked["failing"]("track", model)) == TOLD.get(said, {name})


def test_every_check_is_seen_to_fail():
    assert {name for name, *_ in WRONG} == set(NAMED)


def test_names_of_tracks_do_not_count_their_members_and_parents_do():
    truth = movie().tracks
    names = {0: 0, **{n: 50 - n for n in truth["track_id"].unique()}}
    renamed = truth.assign(track_id=truth["track_id"].map(names), parent_id=truth["parent_id"].map(names))
    same_tracks(truth, renamed, "renamed", "", "")
    check_tracks(truth, "")
    with pytest.raises(CheckFailed, match="8 of 71 objects"):
        same_tracks(truth, truth.assign(parent_id=np.int64(0)), "no parents", "", "")
    other = truth["track_id"].replace({1: 2, 2: 1})
    swapped = truth.assign(track_id=truth["track_id"].where(truth["frame"] < 6, other))
    with pytest.raises(CheckFailed, match="4 of 71 objects .* label . of frame 6"):
        same_tracks(truth, swapped, "swapped", "", "")


def test_a_bad_place_may_be_reported(tmp_path):
    class Reporting(Linking):
        def track(self, objects, labels=None, *, context):
            good = np.isfinite(objects[["y_um", "x_um"]]).all(axis=1)
            found = super().track(objects[good], labels, context=context)
            return objects.assign(
                track_id=found["track_id"].reindex(objects.index).fillna(0).astype("int64"),
                parent_id=np.int64(0),
                unassigned_reason=np.where(good, "", "its place is not known"),
            )

    NAMED["bad_places"].run(subject_of(Reporting, tmp_path))


def test_models_that_do_not_repeat_themselves_are_not_compared(tmp_path):
    for name in ("row_order", "label_names", "place_of_the_origin"):
        with pytest.raises(CheckSkipped, match="deterministic=False"):
            NAMED[name].run(subject_of(Greedy, tmp_path, deterministic=False))


def test_why_is_one_sentence_and_names_are_told_once():
    assert len(NAMED) == len(CHECKS)
    for check in CHECKS:
        assert check.tasks == ("track",) and check.why.endswith(".") and ". " not in check.why


def test_the_exercise(tmp_path):
    inputs = EXERCISE.inputs(3)
    assert difference(inputs, EXERCISE.inputs(3)) is None and difference(inputs, EXERCISE.inputs(4)) is not None
    before = copy_of(inputs)
    found = EXERCISE.work(Linking(), inputs, subject_of(Linking, tmp_path).context())
    assert isinstance(found["tracks"], pd.DataFrame) and difference(inputs, before) is None
