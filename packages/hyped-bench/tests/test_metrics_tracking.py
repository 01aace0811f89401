"""Tracking metrics: what perfect, broken and late tracks score, and parity with the Challenge's own files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile

from hyped_bench.metrics.tracking import track_graph, tracking_scores
from hyped_core.errors import InvalidDataError


def table(rows):
    return pd.DataFrame(rows, columns=["frame", "label", "track_id", "parent_id"])


@pytest.fixture
def truth():
    """Track 1 divides after frame 2 into 2 and 3; track 4 lives throughout."""
    rows = [(f, 1, 1, 0) for f in range(3)] + [(f, 4, 4, 0) for f in range(6)]
    rows += [(f, n, n, 1) for f in range(3, 6) for n in (2, 3)]
    return table(sorted(rows))


def test_perfect_tracks_whatever_their_names(truth):
    renamed = truth.assign(track_id=truth.track_id * 11, parent_id=truth.parent_id * 11)
    scores = tracking_scores(renamed, truth)
    assert (scores["tra"], scores["lnk"], scores["det"], scores["division_f1"]) == (1, 1, 1, 1)
    assert (scores["n_objects"], scores["n_divisions"], scores["n_unassigned"]) == (15, 1, 0)


def test_single_objects_find_everything_and_link_nothing(truth):
    alone = truth.assign(track_id=np.arange(1, len(truth) + 1), parent_id=0)
    scores = tracking_scores(alone, truth)
    assert scores["det"] == 1.0 and scores["lnk"] == 0.0 and scores["division_f1"] == 0.0


def test_missing_the_division_costs_links_only(truth):
    blind = truth.assign(parent_id=0)
    scores = tracking_scores(blind, truth)
    assert scores["det"] == 1.0 and scores["division_f1"] == 0.0
    assert scores["lnk"] == pytest.approx(1 - 2 / 13)  # 2 of 13 edges are missing, all at the same weight
    assert scores["n_divisions_missed"] == 1


def test_a_late_division_counts_within_tolerance(truth):
    late = truth.copy()
    late.loc[(late.frame == 3) & (late.label == 2), ["track_id", "parent_id"]] = [1, 0]
    late.loc[(late.frame == 3) & (late.label == 3), ["track_id", "parent_id"]] = [20, 0]
    assert tracking_scores(late, truth, tolerance=1)["division_f1"] == 1.0
    assert tracking_scores(late, truth, tolerance=0)["division_f1"] == 0.0


def test_unassigned_objects_are_missed_detections(truth):
    partly = truth.copy()
    partly.loc[partly.label == 4, ["track_id", "parent_id"]] = 0
    scores = tracking_scores(partly, truth)
    assert scores["n_unassigned"] == 6
    assert scores["det"] == pytest.approx(1 - 6 / 15)
    nothing = tracking_scores(truth.assign(track_id=0, parent_id=0), truth)
    assert nothing["tra"] == 0.0 and nothing["n_unassigned"] == 15


def test_a_gap_is_cut_and_joined_by_a_parent_link():
    gap = table([(0, 1, 5, 0), (1, 1, 5, 0), (3, 1, 5, 0)])
    graph = track_graph(gap, np.arange(4))
    assert graph.tracks.tolist() == [[1, 0, 1, 0], [2, 3, 3, 1]]


def test_contradictory_tracks_are_refused():
    with pytest.raises(InvalidDataError, match="two objects in one frame"):
        track_graph(table([(0, 1, 5, 0), (0, 2, 5, 0)]), [0])
    with pytest.raises(InvalidDataError, match="no track"):
        track_graph(table([(0, 1, 5, 9)]), [0])
    with pytest.raises(InvalidDataError, match="before its parent ends"):
        track_graph(table([(0, 1, 5, 0), (1, 1, 5, 0), (1, 2, 6, 5)]), [0, 1])


def test_parity_with_the_challenge_on_files(truth, tmp_path):
    """The same tracks as masks and track files through py-ctcmetrics' own reader give the same numbers."""
    from ctc_metrics.scripts.evaluate import evaluate_sequence

    predicted = truth.copy()
    predicted.loc[(predicted.frame >= 4) & (predicted.label == 4), "track_id"] = 9  # a broken track
    predicted = predicted[~((predicted.frame == 1) & (predicted.label == 1))]  # a missed object
    reference, result = tmp_path / "01_GT" / "TRA", tmp_path / "01_RES"
    for folder, tracks, stem, name in (
        (reference, truth, "man_track", "man_track.txt"),
        (result, predicted, "mask", "res_track.txt"),
    ):
        folder.mkdir(parents=True)
        graph = track_graph(tracks, np.arange(6))
        for frame in range(6):
            image = np.zeros((30, 30), np.uint16)
            for ident, row, at in zip(graph.ids, graph.rows, graph.frames, strict=True):
                if at == frame:
                    label = int(tracks["label"].iloc[row])
                    image[5 * label : 5 * label + 4, 3:9] = ident
            tifffile.imwrite(folder / f"{stem}{frame:03d}.tif", image)
        np.savetxt(folder / name, graph.tracks, fmt="%d")
    expected = evaluate_sequence(
        str(result), str(tmp_path / "01_GT"), ["Valid", "TRA", "LNK", "DET", "BC"], threads=1
    )
    assert expected["Valid"] == 1
    found = tracking_scores(predicted, truth, tolerance=1)
    for key in ("TRA", "LNK", "DET"):
        assert found[key.lower()] == pytest.approx(expected[key]), key
    assert found["division_f1"] == pytest.approx(expected["BC(1)"] or 0.0)


def test_matches_by_overlap_replace_equal_labels(truth):
    other = truth.assign(label=truth.label + 100)
    pairs = truth[["frame", "label"]].rename(columns={"label": "label_truth"}).assign(label=truth.label + 100)
    assert tracking_scores(other, truth, pairs)["tra"] == 1.0
    assert tracking_scores(other, truth)["det"] == 0.0
