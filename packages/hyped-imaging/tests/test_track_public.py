"""Real public files: btrack's ground truth, 52,581 detections, real FUCCI frames, real noisy and clean
pairs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta
from hyped_imaging.segment.fast import FastConfig, FastSegmenter
from hyped_imaging.track.config import LapConfig
from hyped_imaging.track.lap import LapTracker

FOLDER = os.environ.get("HYPED_PUBLIC_DATA", "")
pytestmark = [
    pytest.mark.public,
    pytest.mark.skipif(not FOLDER or not Path(FOLDER).is_dir(), reason="HYPED_PUBLIC_DATA names no folder"),
]
CONTEXT = RunContext()


def detections(name):
    """btrack's CSV (pixels, frames) as objects; a frame counts as an hour, a pixel as a micrometre."""
    table = pd.read_csv(Path(FOLDER) / "timelapse" / "btrack" / name)
    out = pd.DataFrame(
        {"frame": table["t"].astype(int), "time_h": table["t"] * 1.0, "y_um": table["y"], "x_um": table["x"]}
    )
    out["label"] = out.groupby("frame").cumcount() + 1
    return out


def truth_links():
    """True pairs of rows of test_data.csv, and rows by track."""
    tracks = json.loads((Path(FOLDER) / "timelapse" / "btrack" / "test_ground_truth.json").read_text())
    return {pair for rows in tracks.values() for pair in zip(rows[:-1], rows[1:], strict=True)}, tracks


def links(result):
    """Pairs of rows that follow one another in a track."""
    made = set()
    for _, group in result[result["track_id"] > 0].sort_values("frame").groupby("track_id"):
        made |= set(zip(group.index[:-1], group.index[1:], strict=True))
    return made


def check_family(result, tracks):
    """The seven true tracks: 1 divides into 2 and 3, 2 into 4 and 5, 3 into 6 and 7."""
    name = {int(k): result["track_id"].iloc[rows[0]] for k, rows in tracks.items()}
    parent = {int(k): result["parent_id"].iloc[rows[0]] for k, rows in tracks.items()}
    assert parent[1] == 0
    assert {parent[2], parent[3]} == {name[1]}
    assert {parent[4], parent[5]} == {name[2]}
    assert {parent[6], parent[7]} == {name[3]}


def test_lap_links_btracks_ground_truth_without_error():
    config = LapConfig(max_speed_um_h=30, slack_um=10, max_division_um=70)
    result = LapTracker(config).track(detections("test_data.csv"), context=CONTEXT)
    true, tracks = truth_links()
    assert links(result) == true
    check_family(result, tracks)


def test_btrack_links_its_own_ground_truth():
    from hyped_core.errors import MissingDependencyError
    from hyped_imaging.track.btrack import BtrackConfig, BtrackTracker

    config = BtrackConfig(
        unit_um=1.0, max_search_um=50, dist_thresh_um=60, measurement_noise=5, prob_not_assign=0.1
    )
    tracker = BtrackTracker(config)
    try:
        result = tracker.track(detections("test_data.csv"), context=CONTEXT)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    true, tracks = truth_links()
    assert links(result) == true
    check_family(result, tracks)


def test_fifty_thousand_detections_in_seconds():
    objects = detections("objects.csv")
    start = time.perf_counter()
    result = LapTracker(LapConfig(max_speed_um_h=20)).track(objects, context=CONTEXT)
    assert time.perf_counter() - start < 10
    assert len(result) == 52_581 and (result["track_id"] > 0).all()
    assert result.groupby("track_id").size().median() > 40


def test_real_fucci_nuclei_match_the_published_labels():
    """Published labels are automatic and leave out dim nuclei, so what counts is that those they have are
    found."""
    tifffile = pytest.importorskip("tifffile")
    folder = Path(FOLDER) / "timelapse" / "fucci"
    red = tifffile.imread(folder / "test_red_stack.tiff")
    published = tifffile.imread(folder / "test_segmented_stack.tiff")
    segmenter = FastSegmenter(FastConfig(channels=("red",), diameter_px=28))
    found = total = 0
    for plane, truth in zip(red, published, strict=True):
        labels = segmenter.segment(plane[None], ImageMeta(channels=("red",)), context=CONTEXT)
        for i in np.unique(truth[truth > 0]):
            mask = truth == i
            best = max(
                (
                    (mask & (labels == j)).sum() / (mask | (labels == j)).sum()
                    for j in np.unique(labels[mask])
                    if j
                ),
                default=0,
            )
            found += best > 0.5
            total += 1
    assert total == 119
    assert found / total > 0.85


@pytest.mark.parametrize(("name", "least_db"), [("tv", 4.0), ("nlm", 2.0)])
def test_real_noisy_fields_come_nearer_to_the_clean_ones(name, least_db):
    from hyped_core.plugins.registry import get_model

    cv2 = pytest.importorskip("cv2")
    folder = Path(FOLDER) / "denoise" / "fmd"
    gains = {}
    for noisy_path in sorted((folder / "noisy").glob("*.png"))[::2]:
        noisy = cv2.imread(str(noisy_path), cv2.IMREAD_GRAYSCALE)[:256, :256]
        clean = cv2.imread(str(folder / "clean" / noisy_path.name), cv2.IMREAD_GRAYSCALE)[:256, :256].astype(
            float
        )
        out = (
            get_model("denoise", name)
            .create()
            .denoise(noisy[None], ImageMeta(data_range=(0, 255)), context=CONTEXT)
        )
        before, after = (np.mean((image - clean) ** 2) for image in (noisy.astype(float), out[0]))
        gains[noisy_path.stem] = 10 * np.log10(before / after)
    assert len(gains) == 6
    assert np.mean(list(gains.values())) > least_db
