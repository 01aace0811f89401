"""Segment and track controls on images and tracks that are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hyped_bench.controls.segment import Otsu, OtsuConfig
from hyped_bench.controls.track import NearestConfig, NearestTracker
from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta, Segmenter, Tracker
from hyped_core.errors import DesignError

CONTEXT = RunContext()


def test_otsu_finds_separate_blobs_and_merges_touching_ones():
    plane = np.full((60, 60), 100.0)
    plane[5:15, 5:15] = plane[30:40, 30:40] = plane[30:40, 40:50] = 900
    plane[50:53, 50:53] = 900  # smaller than min_area_px
    labels = Otsu(OtsuConfig(sigma_px=0)).segment(plane[None], ImageMeta(channels=("Cy5",)), context=CONTEXT)
    assert isinstance(Otsu(), Segmenter)
    assert labels.dtype == np.int32 and set(np.unique(labels)) == {0, 1, 2}
    assert labels[35, 35] == labels[35, 45] != labels[10, 10]
    assert (Otsu().segment(np.full((1, 9, 9), 5.0), ImageMeta(), context=CONTEXT) == 0).all()


def test_otsu_takes_the_channel_it_is_told():
    planes = np.zeros((2, 40, 40))
    planes[1, 10:20, 10:20] = 50
    meta = ImageMeta(channels=("mKate", "Cy5"))
    assert Otsu().segment(planes, meta, context=CONTEXT).max() == 1
    assert Otsu(OtsuConfig(channel="mKate")).segment(planes, meta, context=CONTEXT).max() == 0
    with pytest.raises(DesignError, match="no channel"):
        Otsu(OtsuConfig(channel="GFP")).segment(planes, meta, context=CONTEXT)


def test_nearest_links_neighbours_within_the_limit_and_never_across_a_gap():
    rows = [(0, 0, 0, 1), (0, 0, 50, 2), (1, 0, 3, 1), (1, 0, 90, 2), (3, 0, 3, 1)]
    objects = pd.DataFrame(rows, columns=["frame", "y_um", "x_um", "label"]).assign(time_h=0.0, area_um2=1.0)
    result = NearestTracker(NearestConfig(max_distance_um=20)).track(objects, context=CONTEXT)
    assert isinstance(NearestTracker(), Tracker)
    assert result["track_id"].tolist() == [1, 2, 1, 3, 4]
    assert (result["parent_id"] == 0).all()
    assert "track_id" not in objects


def test_nearest_gives_two_objects_of_a_frame_different_tracks():
    rng = np.random.default_rng(0)
    objects = pd.DataFrame({"frame": np.repeat(np.arange(10), 30), "y_um": rng.uniform(0, 50, 300)})
    objects = objects.assign(x_um=rng.uniform(0, 50, 300), label=1, time_h=0.0, area_um2=1.0)
    result = NearestTracker().track(objects, context=CONTEXT)
    assert not result.duplicated(["frame", "track_id"]).any()
