"""Trackers on awkward input: `lap`'s invariants, its time limit and gaps, and `laptrack` under the contract."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.context import RunContext
from hyped_core.errors import InvalidDataError
from hyped_imaging.track.config import LapConfig
from hyped_imaging.track.lap import LapTracker
from hyped_imaging.track.laptrack import LaptrackTracker, number_edges
from hyped_imaging.track.step import checked, read_table

CONTEXT = RunContext()


def scatter(seed, n=12, frames=8, side=60.0):
    """Crowded walkers, some missed, of which some turn into two."""
    rng = np.random.default_rng(seed)
    place, parts = rng.uniform(0, side, (n, 2)), []
    for frame in range(frames):
        seen = place[rng.random(len(place)) > 0.1]
        parts.append(pd.DataFrame({"frame": frame, "time_h": frame / 3, "y_um": seen[:, 0], "x_um": seen[:, 1]}))
        split = place[rng.random(len(place)) < 0.08]
        place = np.concatenate([place, split + 8.0]) + rng.normal(0, 3, (len(place) + len(split), 2))
    table = pd.concat(parts, ignore_index=True)
    table["label"] = table.groupby("frame").cumcount() + 1
    table["area_um2"] = rng.uniform(80, 300, len(table))
    return table.assign(integrated_Cy5=rng.uniform(5e4, 2e5, len(table)))


def check_families(result):
    """Every object has a track or a reason, a parent ends before its daughters, and has two of them."""
    assert ((result["track_id"] > 0) == (result["unassigned_reason"] == "")).all()
    tracks = result[result["track_id"] > 0].groupby("track_id")
    assert not result[result["track_id"] > 0].duplicated(["track_id", "frame"]).any()
    first, last, parent = tracks["frame"].min(), tracks["frame"].max(), tracks["parent_id"].agg(set)
    assert (parent.map(len) == 1).all()
    parent = parent.map(lambda names: next(iter(names)))
    born = parent[parent > 0]
    assert (last[born].to_numpy() < first[born.index].to_numpy()).all()
    assert (born.value_counts() == 2).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_families_are_whole_and_neither_order_nor_place_matters(seed):
    objects = scatter(seed)
    result = LapTracker().track(objects, context=CONTEXT)
    check_families(result)
    mixed = LapTracker().track(objects.sample(frac=1, random_state=seed), context=CONTEXT).sort_index()
    pd.testing.assert_frame_equal(mixed, result)
    moved = objects.assign(y_um=objects["y_um"] + 1024.0, x_um=objects["x_um"] - 4096.0)
    there = LapTracker().track(moved, context=CONTEXT)
    assert there[["track_id", "parent_id"]].equals(result[["track_id", "parent_id"]])


@pytest.mark.parametrize("n", [1, 300])
def test_coincident_objects_are_all_accounted_for(n):
    objects = scatter(0, n=n).assign(y_um=5.0, x_um=5.0)
    check_families(LapTracker().track(objects, context=CONTEXT))


def test_time_limit_leaves_reasons(caplog):
    objects = scatter(1)
    result = LapTracker(LapConfig(time_limit_s=1e-9)).track(objects, context=CONTEXT)
    left = result["track_id"] == 0
    assert left.any() and result.loc[left, "unassigned_reason"].str.contains("time limit").all()
    assert (result.loc[result["frame"] == 0, "track_id"] > 0).all()
    assert "time limit" in caplog.text
    far = LapTracker(LapConfig(time_limit_s=1e6)).track(objects, context=CONTEXT)
    pd.testing.assert_frame_equal(far, LapTracker().track(objects, context=CONTEXT))


def test_missing_frames_are_bridged():
    """Frames 4 and 5 were lost for all: the numbers skip them and the hours go on."""
    steps = [f for f in range(10) if f not in (4, 5)]
    rows = [(f, f / 3, 1 + i, 50.0 * i, 3.0 * f) for f in steps for i in range(3)]
    objects = pd.DataFrame(rows, columns=["frame", "time_h", "label", "y_um", "x_um"])
    result = LapTracker().track(objects, context=CONTEXT)
    assert result["track_id"].nunique() == 3
    assert (result.groupby("label")["track_id"].nunique() == 1).all()


def test_reporters_tell_crossing_nuclei_apart():
    rows = [(f, f / 3, y, 10.0 * s * (f - 2.5), level) for f in range(6) for y, s, level in ((0, 1, 5), (1, -1, 900))]
    objects = pd.DataFrame(rows, columns=["frame", "time_h", "y_um", "x_um", "mean_mKate"])
    objects["label"] = objects.groupby("frame").cumcount() + 1
    config = LapConfig(reporters=("mKate",), reporter_weight=0.4, velocity_memory=0)
    result = LapTracker(config).track(objects, context=CONTEXT)
    assert result.groupby("mean_mKate")["track_id"].nunique().tolist() == [1, 1]
    plain = LapTracker(LapConfig(velocity_memory=0)).track(objects, context=CONTEXT)
    assert plain.groupby("mean_mKate")["track_id"].nunique().tolist() != [1, 1]


def test_edges_become_families():
    """0-1 divides into 2-4 and 3."""
    track, parent = number_edges(5, np.array([0, 1, 1, 2]), np.array([1, 2, 3, 4]))
    assert track.tolist() == [1, 1, 2, 3, 2] and parent.tolist() == [0, 0, 1, 1, 1]


def test_laptrack_keeps_the_contract():
    pytest.importorskip("laptrack")
    objects = scatter(3).sample(frac=1, random_state=0).reset_index(drop=True)
    checked(LaptrackTracker().track(objects, context=CONTEXT), objects)
    assert len(LaptrackTracker().track(objects.iloc[:0], context=CONTEXT)) == 0
    assert (LaptrackTracker().track(objects[objects["frame"] == 0], context=CONTEXT)["track_id"] > 0).all()


def test_a_folder_is_no_table(tmp_path):
    (tmp_path / "S0.parquet").write_bytes(b"")
    with pytest.raises(InvalidDataError, match="is a folder") as caught:
        read_table(tmp_path)
    assert "S0.parquet" in str(caught.value.mend)
