"""The tracker ``lap`` on movements of which every link is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.context import RunContext
from hyped_core.contracts import Tracker
from hyped_core.design import default_design
from hyped_core.errors import InvalidDataError, ValidationError
from hyped_imaging.track.assignment import assign
from hyped_imaging.track.config import LapConfig
from hyped_imaging.track.lap import LapTracker
from hyped_imaging.track.step import checked, track_table

CONTEXT = RunContext()


def table(rows):
    """Objects from (frame, hours, y, x, area, integrated, true track); labels by order within the frame."""
    names = ["frame", "time_h", "y_um", "x_um", "area_um2", "integrated_Cy5", "true"]
    out = pd.DataFrame(rows, columns=names)
    out.insert(2, "label", out.groupby("frame").cumcount() + 1)
    return out


def crowd(n=40, frames=30, step_um=3.0, interval_h=1 / 3, seed=0, size_um=400.0):
    """Persistent walkers that keep a little apart by chance only."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, size_um, (n, 2))
    speed = rng.normal(0, step_um, (n, 2))
    area, light = rng.uniform(150, 300, n), rng.uniform(1e5, 3e5, n)
    rows = []
    for frame in range(frames):
        for i in range(n):
            rows.append((frame, frame * interval_h, *place[i], area[i], light[i], i + 1))
        speed = 0.7 * speed + rng.normal(0, step_um * 0.7, (n, 2))
        place = place + speed
    return table(rows)


def edges(result, column):
    """Pairs of rows that follow one another in a track."""
    made = set()
    for _, group in result[result[column] > 0].sort_values("frame").groupby(column):
        made |= set(zip(group.index[:-1], group.index[1:], strict=True))
    return made


def dividing(condensed=True, second_from=10, interval_h=1 / 3):
    """A mother (track 1) that divides after frame 9 into 2 and 3, beside a bystander (4)."""
    rows = []
    for frame in range(20):
        hours = frame * interval_h
        if frame < 10:
            late = condensed and frame >= 8
            rows.append((frame, hours, 100.0, 100.0 + frame, 130.0 if late else 240.0, 2e5, 1))
        else:
            apart = 8 + (frame - 10) * 0.5
            rows.append((frame, hours, 100.0 - apart, 110.0, 130.0, 1e5, 2))
            if frame >= second_from:
                rows.append((frame, hours, 100.0 + apart, 110.0, 130.0, 1e5, 3))
        rows.append((frame, hours, 160.0, 100.0 + frame, 240.0, 2e5, 4))
    return table(rows)


def test_links_of_a_crowd_are_nearly_all_right():
    objects = crowd()
    result = LapTracker().track(objects, context=CONTEXT)
    true, made = edges(objects, "true"), edges(result, "track_id")
    assert len(true & made) / len(true) > 0.98
    assert len(true & made) / len(made) > 0.98
    assert isinstance(LapTracker(), Tracker)


def test_every_object_has_a_track_and_no_track_two_objects_of_a_frame():
    result = LapTracker().track(crowd(n=80, step_um=8.0), context=CONTEXT)
    assert (result["track_id"] > 0).all() and (result["unassigned_reason"] == "").all()
    assert not result.duplicated(["track_id", "frame"]).any()
    assert result["track_id"].dtype == np.int64 and result["parent_id"].dtype == np.int64
    assert set(result["track_id"]) == set(range(1, result["track_id"].max() + 1))


def test_order_of_rows_does_not_matter_and_index_is_kept():
    objects = pd.concat([crowd(n=20), dividing().assign(y_um=lambda d: d.y_um + 1000)], ignore_index=True)
    objects["label"] = objects.groupby("frame").cumcount() + 1
    plain = LapTracker().track(objects, context=CONTEXT)
    mixed = objects.sample(frac=1, random_state=3)
    result = LapTracker().track(mixed, context=CONTEXT)
    assert result.index.equals(mixed.index)
    pd.testing.assert_frame_equal(result.sort_index(), plain)


@pytest.mark.parametrize("second_from", [10, 11])
def test_division_gives_both_daughters_their_mother(second_from):
    objects = dividing(second_from=second_from)
    result = LapTracker().track(objects, context=CONTEXT)
    of = {true: set(group["track_id"]) for true, group in result.groupby("true")}
    assert all(len(names) == 1 for names in of.values())
    mother = of[1].pop()
    parents = result.groupby("true")["parent_id"].agg(set)
    assert parents[2] == {mother} and parents[3] == {mother} and parents[1] == {0} and parents[4] == {0}
    assert result.loc[result["track_id"] == mother, "frame"].max() == 9


def test_division_is_found_where_positions_are_all_there_is():
    objects = dividing().drop(columns=["area_um2", "integrated_Cy5"])
    result = LapTracker().track(objects, context=CONTEXT)
    assert result.loc[result["parent_id"] > 0, "true"].isin([2, 3]).all()
    assert set(result.loc[result["true"] == 3, "parent_id"]) == set(
        result.loc[result["true"] == 1, "track_id"]
    )


def test_mean_intensity_times_area_stands_in_for_the_integral():
    objects = dividing()
    mean = objects.assign(mean_Cy5=objects["integrated_Cy5"] / objects["area_um2"]).drop(
        columns="integrated_Cy5"
    )
    plain, other = (LapTracker().track(table, context=CONTEXT) for table in (objects, mean))
    assert plain[["track_id", "parent_id"]].equals(other[["track_id", "parent_id"]])


def test_an_intruder_of_another_size_is_no_daughter():
    rows = [(f, f / 3, 50.0, 50.0, 240.0, 2e5, 1) for f in range(20)]
    rows += [(f, f / 3, 70.0, 50.0, 240.0, 2e5, 2) for f in range(10, 20)]
    result = LapTracker().track(table(rows), context=CONTEXT)
    assert (result["parent_id"] == 0).all() and result["track_id"].nunique() == 2


def test_divisions_can_be_switched_off():
    result = LapTracker(LapConfig(divisions=False)).track(dividing(), context=CONTEXT)
    assert (result["parent_id"] == 0).all()


def test_a_fragment_that_vanishes_is_no_daughter():
    rows = [(f, f / 3, 50.0, 50.0, 120.0 if f in (10, 11) else 240.0, 2e5, 1) for f in range(20)]
    rows += [(10, 10 / 3, 60.0, 50.0, 120.0, 1e5, 2)]
    result = LapTracker().track(table(rows), context=CONTEXT)
    assert (result["parent_id"] == 0).all()


def test_missed_frames_are_bridged():
    objects = crowd(n=10, step_um=1.0)
    holes = objects[~((objects["true"] == 4) & objects["frame"].isin([12, 13]))]
    result = LapTracker().track(holes, context=CONTEXT)
    assert result.loc[result["true"] == 4, "track_id"].nunique() == 1
    short = LapTracker(LapConfig(max_gap_h=0.5)).track(holes, context=CONTEXT)
    assert short.loc[short["true"] == 4, "track_id"].nunique() == 2


def test_gates_count_hours_not_frames():
    """The same jump of 60 um is too far in 20 minutes and within reach after a gap of three hours."""

    def jump(gap_h):
        rows = [(f, f / 3, 100.0, 100.0, 200.0, 2e5, 1) for f in range(5)]
        rows += [(5 + f, 4 / 3 + gap_h + f / 3, 160.0, 100.0, 200.0, 2e5, 1) for f in range(5)]
        return LapTracker().track(table(rows), context=CONTEXT)["track_id"].nunique()

    assert jump(1 / 3) == 2
    assert jump(3.0) == 1


def test_short_tracks_may_be_left_out_with_a_reason_but_not_families():
    objects = dividing()
    lone = table([(3, 1.0, 500.0, 500.0, 200.0, 2e5, 9)])
    lone["label"] = 99
    result = LapTracker(LapConfig(min_frames=3)).track(
        pd.concat([objects, lone], ignore_index=True), context=CONTEXT
    )
    left = result[result["track_id"] == 0]
    assert left["true"].tolist() == [9] and left["unassigned_reason"].str.contains("3 frames").all()
    assert (result.loc[result["true"] == 3, "parent_id"] > 0).all()


def test_nothing_and_one_frame():
    empty = LapTracker().track(dividing().iloc[:0], context=CONTEXT)
    assert len(empty) == 0 and {"track_id", "parent_id", "unassigned_reason"} <= set(empty.columns)
    one = LapTracker().track(crowd(frames=1), context=CONTEXT)
    assert one["track_id"].is_unique and (one["track_id"] > 0).all()


@pytest.mark.parametrize("column", ["y_um", "x_um", "time_h"])
def test_nan_is_refused_by_name(column):
    objects = crowd(n=3, frames=3)
    objects.loc[4, column] = np.nan
    with pytest.raises(ValidationError, match=column):
        LapTracker().track(objects, context=CONTEXT)


def test_all_that_is_wrong_is_said():
    with pytest.raises(InvalidDataError, match="lacks y_um"):
        LapTracker().track(crowd(n=3, frames=3).drop(columns="y_um"), context=CONTEXT)
    backwards = crowd(n=3, frames=3)
    backwards["time_h"] = -backwards["time_h"]
    backwards.loc[1, "label"] = 1
    with pytest.raises(ValidationError) as caught:
        LapTracker().track(backwards, context=CONTEXT)
    assert {p.where for p in caught.value.problems} == {"time_h", "label"}


def test_scenes_are_tracked_apart():
    objects = pd.concat([crowd(n=5).assign(scene=name) for name in ("S1", "S0")], ignore_index=True)
    result = track_table(objects, LapTracker(), context=CONTEXT)
    assert result["scene"].tolist() == ["S0"] * 150 + ["S1"] * 150
    a, b = (result[result["scene"] == name]["track_id"].tolist() for name in ("S0", "S1"))
    assert a == b


def test_a_trackers_answer_is_checked():
    given_ = crowd(n=3, frames=3)
    good = given_.assign(track_id=[1, 2, 3] * 3, parent_id=0)
    good.loc[0, "track_id"] = 0
    assert checked(good, given_)["unassigned_reason"].iloc[0] != ""
    with pytest.raises(InvalidDataError, match="lost"):
        checked(good.iloc[1:], given_)
    with pytest.raises(InvalidDataError, match="two objects"):
        checked(good.assign(track_id=1), given_)
    with pytest.raises(InvalidDataError, match="no parent_id"):
        checked(good.drop(columns="parent_id"), given_)


def test_nuclear_channel_comes_from_the_design():
    assert LapConfig.for_design({}, default_design())["intensity"] == "Cy5"
    assert LapConfig.for_design({"intensity": None}, default_design())["intensity"] is None


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.integers(1, 5).flatmap(
                lambda m: st.tuples(
                    st.just(m),
                    st.dictionaries(
                        st.tuples(st.integers(0, n - 1), st.integers(0, m - 1)),
                        st.floats(-2, 3, allow_nan=False).map(lambda v: round(v, 3)),
                        max_size=12,
                    ),
                )
            ),
        )
    )
)
def test_assignment_is_the_cheapest(problem):
    n, (m, pairs) = problem
    rows, columns = (np.array([k[i] for k in pairs], np.int64) for i in (0, 1))
    costs = np.array(list(pairs.values()), np.float64)
    r, c = assign(rows, columns, costs, 0.3, 0.7, (n, m))
    assert len(set(r)) == len(r) and len(set(c)) == len(c)
    got = sum(pairs[i, j] - 1.0 for i, j in zip(r.tolist(), c.tolist(), strict=True))

    def best(row, free):
        if row == n:
            return 0.0
        options = [best(row + 1, free)]
        options += [pairs[row, j] - 1.0 + best(row + 1, free - {j}) for j in free if (row, j) in pairs]
        return min(options)

    assert got == pytest.approx(best(0, frozenset(range(m))), abs=1e-6)
