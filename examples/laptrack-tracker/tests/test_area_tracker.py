"""The tracker on movies whose tracks are known, and HYPED's own checks of trackers."""

import numpy as np
import pandas as pd
import pytest
from laptrack_tracker.costs import division_cost, move_cost
from laptrack_tracker.model import AreaTracker, AreaTrackerConfig

from hyped_core import RunContext
from hyped_core.errors import InvalidDataError
from hyped_core.testing import TrackerSuite


class TestContract(TrackerSuite):
    model = "laptrack_tracker.model:AreaTracker"


def objects(rows: list[tuple[int, float, float, float, float]]) -> pd.DataFrame:
    """Of (frame, time_h, y_um, x_um, area_um2), labelled within frames."""
    table = pd.DataFrame(rows, columns=["frame", "time_h", "y_um", "x_um", "area_um2"])
    return table.assign(label=table.groupby("frame").cumcount() + 1)


def track(table: pd.DataFrame, **config: float) -> pd.DataFrame:
    return AreaTracker(AreaTrackerConfig(**config)).track(table, context=RunContext())


def test_tracks_and_the_division_of_the_tiny_movie(tiny_movie):
    found = track(tiny_movie.objects)
    pair = found.merge(tiny_movie.tracks, on=["frame", "label"], suffixes=("", "_true"))
    assert pair.groupby("track_id_true")["track_id"].nunique().eq(1).all()
    assert pair["track_id"].nunique() == pair["track_id_true"].nunique()
    names = dict(zip(pair["track_id"], pair["track_id_true"], strict=True)) | {0: 0}
    assert (pair["parent_id"].map(names) == pair["parent_id_true"]).all()


def test_a_longer_interval_reaches_farther():
    """30 um in one hour are within reach, in a third of an hour they are not."""
    for hours, tracks in ((1.0, 1), (1 / 3, 2)):
        rows = [(0, 0.0, 50.0, 20.0, 80.0), (1, hours, 50.0, 50.0, 80.0)]
        assert track(objects(rows), area_weight=0)["track_id"].nunique() == tracks


def test_gaps_are_closed_by_hours_not_by_frames():
    """Three frames without the nucleus: over 0.8 h they are closed, over 4 h they are not."""
    for step, tracks in ((0.2, 2), (1.0, 3)):
        rows = [(f, f * step, 50.0, 20.0, 80.0) for f in (0, 4)] + [(f, f * step, 200.0, 20.0, 80.0) for f in range(5)]
        found = track(objects(sorted(rows)), max_gap_h=1.0)
        assert found["track_id"].nunique() == tracks


def test_a_daughter_is_half_her_mother():
    mother, half, same = (np.array([0.0, x, np.log2(area), t]) for x, area, t in ((0, 80, 0), (5, 40, 1), (5, 80, 1)))
    cost = division_cost(20.0, 0.5)
    assert cost(half, mother) == cost(mother, half) == pytest.approx(25 / 400)
    assert cost(same, mother) == pytest.approx(25 / 400 + 0.25)


def test_a_move_costs_distance_over_reach_and_area():
    a, b = np.array([0.0, 0.0, 6.0, 0.0]), np.array([3.0, 4.0, 7.0, 0.5])
    assert move_cost(8.0, 4.0, 0.5)(a, b) == pytest.approx(25 / 100 + 0.25)
    assert move_cost(8.0, 4.0, 0.5, longest_h=0.4)(a, b) == np.inf


def test_objects_without_area_are_refused():
    with pytest.raises(InvalidDataError, match="area_um2"):
        track(objects([(0, 0.0, 5.0, 5.0, 10.0)]).drop(columns="area_um2"))
