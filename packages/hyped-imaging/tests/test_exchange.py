"""Tracks to GEFF and to the Cell Tracking Challenge and back: nothing lost, edits understood, nonsense refused."""

import json
import sys

import geff
import numpy as np
import pandas as pd
import pytest
import tifffile
from click.testing import CliRunner
from ctc_metrics.scripts.evaluate import evaluate_sequence
from ctc_metrics.scripts.validate import validate_sequence
from geff.core_io import read_to_memory, write_arrays
from geff.validate.data import ValidationConfig
from geff_spec import Axis, GeffMetadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyped_core.container.movies import Labels, LabelsWriter, write_movie
from hyped_core.errors import (
    CorruptFileError,
    InvalidDataError,
    MissingDependencyError,
    MissingFileError,
    UnsupportedDataError,
    UsageError,
    ValidationError,
)
from hyped_imaging.cli_exchange import export_tracks, import_tracks
from hyped_imaging.exchange.ctc import MAX_LABEL, export_ctc, split_pieces
from hyped_imaging.exchange.ctc_import import import_ctc
from hyped_imaging.exchange.geff import export_geff
from hyped_imaging.exchange.geff_import import Hints, import_geff
from hyped_imaging.exchange.graph import detect, number_tracks, one_scene, table_edges
from hyped_imaging.segment.measure import measure

PIXEL = 0.65
CELL, ACROSS = 3, 6
"""Side of an object in the masks, and objects in a row of them."""


@st.composite
def forests(draw, frames=8, most=8):
    """A table of tracks with gaps, divisions, daughters without sisters and unassigned objects."""
    tracks, open_ends = [], []
    for _ in range(draw(st.integers(0, most))):
        name = len(tracks) + 1
        parent = 0
        if open_ends and draw(st.booleans()):
            mother, after = open_ends.pop(0)
            begin = draw(st.integers(after, frames - 1))
            parent = mother
        else:
            begin = draw(st.integers(0, frames - 1))
        end = draw(st.integers(begin, frames - 1))
        inside = [f for f in range(begin + 1, end) if draw(st.integers(0, 3)) > 0]
        tracks.append((name, parent, sorted({begin, *inside, end})))
        open_ends += [(name, end + 1)] * (draw(st.integers(0, 2)) if end + 1 < frames else 0)
    names = draw(st.permutations(range(1, 3 * most)))
    number = {k + 1: names[k] for k in range(len(tracks))} | {0: 0}
    rows = [(f, number[t], number[p], "") for t, p, fs in tracks for f in fs]
    lone = draw(st.lists(st.integers(0, frames - 1), max_size=3))
    rows += [(f, 0, 0, "shorter than 2 frames") for f in lone]
    return table_of(rows, draw(st.randoms(use_true_random=False)))


def table_of(rows, random=None):
    """Rows (frame, track, parent, reason) as a table with labels and places."""
    rows = sorted(rows, key=lambda row: row[0])
    frame = np.array([row[0] for row in rows], dtype=np.int64)
    label = np.zeros(len(rows), np.int64)
    for f in np.unique(frame):
        at = np.flatnonzero(frame == f)
        names = list(range(1, len(at) + 1))
        if random is not None:
            random.shuffle(names)
        label[at] = names
    y, x = place(label)
    return pd.DataFrame(
        {
            "scene": np.full(len(rows), "S0", dtype=object),
            "frame": frame,
            "time_h": 20 + frame / 3 + (frame > 4) * 0.7,
            "label": label,
            "y_px": y, "x_px": x, "y_um": y * PIXEL, "x_um": x * PIXEL,
            "area_px": np.full(len(rows), CELL * CELL, dtype=np.int64),
            "border": label == 1,
            "mean_Cy5": np.sqrt(label + frame / 7),
            "track_id": np.array([row[1] for row in rows], dtype=np.int64),
            "parent_id": np.array([row[2] for row in rows], dtype=np.int64),
            "unassigned_reason": np.array([row[3] for row in rows], dtype=object),
        }
    )  # fmt: skip


def place(label):
    row, column = np.divmod(np.asarray(label) - 1, ACROSS)
    return 2.0 + row * (CELL + 1), 2.0 + column * (CELL + 1)


class Masks:
    """Labels of a table in memory, as `Labels` offers them."""

    def __init__(self, table, frames=8):
        side = 2 + ACROSS * (CELL + 1)
        self.images = np.zeros((frames, side, side), np.int32)
        for f, label in zip(table["frame"], table["label"], strict=True):
            y, x = (int(v) for v in place(label))
            self.images[f, y - 1 : y + 2, x - 1 : x + 2] = label
        self.n_frames, self.pixel_size_um, self.has_times = frames, PIXEL, True
        self.time_h = 20 + np.arange(frames) / 3 + (np.arange(frames) > 4) * 0.7

    @property
    def shape(self):
        return self.images.shape

    def frame(self, index):
        return self.images[index]

    def write(self, path):
        with LabelsWriter(path, shape=self.shape, pixel_size_um=PIXEL, time_h=self.time_h) as writer:
            for i in range(self.n_frames):
                writer.write_frame(i, self.images[i])
        return Labels.open(path)


def lineage(table):
    """Tracks as sets of (frame, y, x), and pairs (mother's set, daughter's set): names do not count."""
    tracked = table[table["track_id"] > 0]
    key = list(zip(tracked["frame"], tracked["y_px"].round(3), tracked["x_px"].round(3), strict=True))
    sets = {}
    for name, point in zip(tracked["track_id"], key, strict=True):
        sets.setdefault(name, set()).add(point)
    frozen = {name: frozenset(points) for name, points in sets.items()}
    parents = tracked.groupby("track_id")["parent_id"].first()
    born = {(frozen[p], frozen[t]) for t, p in parents.items() if p > 0}
    return set(frozen.values()), born


FAMILY = [
    *[(f, 1, 0, "") for f in range(3)],
    *[(f, t, 1, "") for t in (2, 3) for f in range(3, 8)],
    *[(f, 4, 0, "") for f in (0, 1, 4, 5)],
    (6, 0, 0, "too short"),
]
"""A mother of two, a track with a gap, an object in no track."""


def edited(tmp_path, table, change, name="edited.geff"):
    """Export, change the graph as another program would, write it with the geff library, import."""
    export_geff(table, tmp_path / "out.geff")
    graph, metadata = geff.read(tmp_path / "out.geff")
    change(graph)
    geff.write(graph, tmp_path / name, metadata)
    return import_geff(tmp_path / name, Hints())


def node(table, track, frame):
    """Id of the node of one object."""
    return int(np.flatnonzero((table["track_id"] == track) & (table["frame"] == frame))[0]) + 1


# GEFF -------------------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=forests())
def test_geff_gives_back_what_it_got(tmp_path, table):
    counts = export_geff(table, tmp_path / "a.geff")
    pd.testing.assert_frame_equal(import_geff(tmp_path / "a.geff", Hints()).table, table)
    assert counts["tracks"] == table.loc[table["track_id"] > 0, "track_id"].nunique()
    checks = ValidationConfig(graph=True, tracklet=True, lineage=True)
    read_to_memory(tmp_path / "a.geff", data_validation=checks)  # geff's own checks of our metadata


def test_geff_survives_another_program(tmp_path):
    table = table_of(FAMILY)
    same = edited(tmp_path, table, lambda graph: None)
    pd.testing.assert_frame_equal(same.table, table)
    assert same.record["changed"] == same.record["added"] == same.record["moved"] == 0


def test_geff_keeps_every_type(tmp_path):
    table = table_of(FAMILY).assign(
        small=np.arange(18, dtype=np.uint8),
        single=np.linspace(0, 1, 18, dtype=np.float32),
        holes=[np.nan, *range(17)],
        maybe=pd.array([None, *range(17)], dtype="Int64"),
        text=[None, "ü", *["a b"] * 16],
        phase=pd.Categorical(["G1", None, *["S_G2M"] * 16], categories=["S_G2M", "G1", "M"], ordered=True),
        flag=pd.array([None, *[True, False] * 8, True], dtype="boolean"),
    )
    export_geff(table, tmp_path / "a.geff")
    pd.testing.assert_frame_equal(import_geff(tmp_path / "a.geff", Hints()).table, table)
    with pytest.raises(UnsupportedDataError, match="'when'"):
        export_geff(table.assign(when=pd.Timestamp(0)), tmp_path / "b.geff")
    with pytest.raises(InvalidDataError, match="'hyped_row'"):
        export_geff(table.assign(hyped_row=1), tmp_path / "b.geff")
    assert not (tmp_path / "b.geff").exists()


def test_geff_axes_lead_to_hours_and_micrometres(tmp_path):
    table = table_of(FAMILY)
    labels = Masks(table).write(tmp_path / "labels.zarr")
    export_geff(table, tmp_path / "a.geff", labels=labels)
    graph, metadata = geff.read(tmp_path / "a.geff")
    t, y, x = metadata.axes
    assert (t.unit, t.scaled_unit, y.unit, y.scaled_unit) == ("frame", "hour", "pixel", "micrometer")
    assert t.scale == pytest.approx(1 / 3)
    assert [y.scale, x.scale] == [PIXEL, PIXEL]
    values = pd.DataFrame([graph.nodes[i + 1] for i in range(len(table))])
    np.testing.assert_allclose(values["y"] * y.scale, table["y_um"])
    linked = tmp_path / "a.geff" / metadata.related_objects[0].path
    assert Labels.open(linked.resolve().parent).shape == labels.shape


def test_geff_edits_are_understood(tmp_path):
    table = table_of(FAMILY)
    mother, brother = node(table, 1, 2), node(table, 3, 3)
    gap_end, moved, gone = node(table, 4, 4), node(table, 2, 5), node(table, 3, 6)
    lone = int(np.flatnonzero(table["track_id"] == 0)[0]) + 1

    def change(graph):
        graph.remove_edge(mother, brother)  # a false division: one daughter goes on, the other is on its own
        graph.remove_edge(node(table, 4, 1), gap_end)  # cut at the gap
        graph.add_edge(node(table, 4, 5), lone)  # take in the unassigned object
        graph.nodes[moved]["y"] += 4.0
        graph.remove_node(gone)
        graph.add_edge(node(table, 3, 5), node(table, 3, 7))  # bridge the deleted object
        graph.add_node(1000, t=7, y=10.5, x=11.25)
        graph.add_edge(lone, 1000)

    found = edited(tmp_path, table, change)
    result = found.table.set_index(["frame", "label"]).sort_index()
    rows = table.set_index(["frame", "label"]).sort_index()

    def tracks(name):
        keys = rows[(rows["track_id"] == name)].index
        return [int(result.loc[key, "track_id"]) for key in keys if key in result.index]

    assert set(tracks(1)) == set(tracks(2)) == {1}
    assert set(tracks(3)) == {3}
    assert result.loc[result["track_id"] == 3, "parent_id"].eq(0).all()
    first, second = tracks(4)[:2], tracks(4)[2:]
    assert set(first) == {4} and len(set(second)) == 1 and second[0] not in (0, 1, 3, 4)
    taken = found.table[found.table["track_id"] == second[0]]
    assert taken["frame"].tolist() == [4, 5, 6, 7]
    assert (taken["unassigned_reason"] == "").all()
    added = taken.iloc[-1]
    assert (added["y_px"], added["y_um"]) == (10.5, 10.5 * PIXEL)
    assert added["time_h"] == table.loc[table["frame"] == 7, "time_h"].iloc[0]
    assert added["scene"] == "S0" and added["mean_Cy5"] == taken["mean_Cy5"].iloc[-2]  # level at the end
    assert found.table["added_by_hand"].tolist() == [False] * (len(found.table) - 1) + [True]
    assert found.table.dtypes.drop("added_by_hand").equals(table.dtypes)
    assert not found.table.duplicated(["frame", "label"]).any()
    where = {"frame": [5], "label": [table.iloc[moved - 1]["label"]]}
    was, now = (t[t[list(where)].isin(where).all(axis=1)].iloc[0] for t in (table, found.table))
    assert now["y_um"] == pytest.approx(was["y_um"] + 4 * PIXEL) and now["x_um"] == was["x_um"]
    assert {k: found.record[k] for k in ("added", "deleted", "moved")} == {"added": 1, "deleted": 1, "moved": 1}


def test_added_objects_are_measured_by_their_track(tmp_path):
    table = table_of(FAMILY)
    before, after = node(table, 4, 1), node(table, 4, 4)

    def change(graph):  # fill the gap, and add an object that belongs to nothing
        graph.remove_edge(before, after)
        graph.add_node(900, t=2, y=8.0, x=9.0)
        graph.add_edges_from([(before, 900), (900, after)])
        graph.add_node(901, t=2, y=18.0, x=19.0)

    found = edited(tmp_path, table, change).table
    added = found[found["added_by_hand"]].set_index("y_px")
    low, high = table.loc[before - 1], table.loc[after - 1]
    share = (added.loc[8.0, "time_h"] - low["time_h"]) / (high["time_h"] - low["time_h"])
    assert 0.3 < share < 0.4
    assert added.loc[8.0, "mean_Cy5"] == pytest.approx((1 - share) * low["mean_Cy5"] + share * high["mean_Cy5"])
    assert (added.loc[8.0, "track_id"], added.loc[18.0, "track_id"]) == (4, 5)
    assert np.isnan(added.loc[18.0, "mean_Cy5"])


@settings(max_examples=60, deadline=None)
@given(table=forests(frames=10, most=10), cut=st.randoms(use_true_random=False))
def test_tracks_follow_from_edges_as_a_walk_finds_them(table, cut):
    edges, kind = table_edges(table)
    kept = np.array([cut.random() > 0.2 for _ in edges], dtype=bool)
    edges, kind = edges[kept], kind[kept]
    track, parent = number_tracks(
        table["frame"].to_numpy(), edges, kind, table["track_id"].to_numpy()
    )
    after = {a: [] for a in range(len(table))}
    for (a, b), k in zip(edges, kind, strict=True):
        after[a].append((b, k))
    heads = {b: a for (a, b), k in zip(edges, kind, strict=True) if len(after[a]) == 2 or k == 2}
    starts = (set(range(len(table))) - set(edges[:, 1])) | set(heads)
    seen = set()
    for start in starts:
        walk = [start]
        while len(after[walk[-1]]) == 1 and after[walk[-1]][0][1] != 2:
            walk.append(after[walk[-1]][0][0])
        assert len(set(track[walk])) == 1
        assert (track == track[start]).sum() == len(walk)
        assert set(parent[walk]) == {track[heads[start]] if start in heads else 0}
        seen |= set(walk)
    assert seen == set(range(len(table)))


def test_all_that_is_no_lineage_is_named_at_once(tmp_path):
    table = table_of(FAMILY)
    merged, third, back = node(table, 4, 5), node(table, 4, 4), node(table, 1, 0)

    def change(graph):
        graph.add_edge(node(table, 2, 4), merged)
        graph.add_edge(node(table, 1, 2), third)
        graph.remove_edge(node(table, 4, 1), third)
        graph.add_edge(node(table, 3, 7), back)

    with pytest.raises(ValidationError) as caught:
        edited(tmp_path, table, change)
    said = {problem.where: problem for problem in caught.value.problems}
    assert {f"node {merged}", f"node {node(table, 1, 2)}", f"edge {node(table, 3, 7)} -> {back}"} <= set(said)
    assert "merge" in said[f"node {merged}"].message and "delete" in said[f"node {merged}"].mend
    assert "divides into 3" in said[f"node {node(table, 1, 2)}"].message


def test_a_viewer_may_turn_pixels_into_micrometres_and_drop_columns(tmp_path):
    table = table_of(FAMILY)
    ids = np.arange(1, len(table) + 1, dtype=np.uint64)[::-1]
    y = table["y_um"].to_numpy()[::-1].copy()
    y[0] += 3.0
    props = {
        "t": table["frame"].to_numpy()[::-1], "y": y, "x": table["x_um"].to_numpy()[::-1],
        "hyped_row": ids.astype(np.int64),
    }  # fmt: skip
    edges, _ = table_edges(table)
    write(tmp_path / "a.geff", ids, props, edges + 1, [("t", "time"), ("y", "space"), ("x", "space")])
    with pytest.raises(InvalidDataError, match="--original"):
        import_geff(tmp_path / "a.geff", Hints())
    found = import_geff(tmp_path / "a.geff", Hints(), original=table)
    assert found.record["moved"] == 1
    last = len(table) - 1
    assert found.table.loc[last, "y_px"] == pytest.approx(table.loc[last, "y_px"] + 3 / PIXEL)
    pd.testing.assert_frame_equal(found.table.drop(index=last), table.drop(index=last))


def write(path, ids, props, edges, axes):
    """A GEFF graph of another tool; axes are (name, type[, unit[, scale, scaled unit]])."""
    described = [
        Axis(name=a[0], type=a[1], unit=a[2] if len(a) > 2 else None,
             **({"scale": a[3], "scaled_unit": a[4]} if len(a) > 3 else {}))
        for a in axes
    ]  # fmt: skip
    write_arrays(
        path,
        node_ids=np.asarray(ids, np.uint64),
        node_props={k: {"values": np.asarray(v), "missing": None} for k, v in props.items()},
        edge_ids=np.asarray(edges, np.uint64).reshape(-1, 2),
        edge_props={},
        metadata=GeffMetadata(
            directed=True, axes=described or None, node_props_metadata={}, edge_props_metadata={}
        ),
    )


IDS = [10, 11, 20, 31, 32]
EDGES = [(10, 11), (11, 20), (20, 31), (20, 32)]


def test_foreign_axes_are_converted(tmp_path):
    places = {"POSITION_X": [1000.0, 2000, 3000, 4000, 5000], "POSITION_Y": [500.0, 500, 500, 500, 900]}
    props = {"POSITION_T": [0.0, 600, 1800, 2400, 2400], **places, "POSITION_Z": [0.0] * 5}
    props["QUALITY"] = [1.5, 2, 3, 4, 5]
    axes = [("POSITION_X", "space", "nanometer"), ("POSITION_Y", "space", "nanometer"),
            ("POSITION_Z", "space", "nanometer"), ("POSITION_T", "time", "second")]  # fmt: skip
    write(tmp_path / "trackmate.geff", IDS, props, EDGES, axes)
    table = import_geff(tmp_path / "trackmate.geff", Hints()).table
    assert table["frame"].tolist() == [0, 1, 3, 4, 4]
    np.testing.assert_allclose(table["time_h"], [0, 1 / 6, 1 / 2, 2 / 3, 2 / 3])
    np.testing.assert_allclose(table["x_um"], [1, 2, 3, 4, 5])
    np.testing.assert_allclose(table["y_um"], [0.5, 0.5, 0.5, 0.5, 0.9])
    assert table["track_id"].tolist() == [1, 1, 1, 2, 3]
    assert table["parent_id"].tolist() == [0, 0, 0, 1, 1]
    assert table["label"].tolist() == [1, 1, 1, 1, 2]
    assert table["QUALITY"].tolist() == [1.5, 2, 3, 4, 5]


def test_foreign_pixels_and_frames_ask_for_what_they_lack(tmp_path):
    props = {"time": [0, 1, 2, 3, 3], "r": [2.0, 2, 2, 2, 6], "c": [4.0, 8, 12, 16, 20], "seg_id": [7, 7, 9, 3, 4]}
    axes = [("time", "time"), ("r", "space", "pixel"), ("c", "space", "pixel")]
    write(tmp_path / "a.geff", IDS, props, EDGES, axes)
    with pytest.raises(UsageError, match="--interval-min"):
        import_geff(tmp_path / "a.geff", Hints(pixel_size_um=0.5))
    with pytest.raises(UsageError, match="--pixel-size-um"):
        import_geff(tmp_path / "a.geff", Hints(interval_min=20))
    table = import_geff(tmp_path / "a.geff", Hints(pixel_size_um=0.5, interval_min=20, start_h=24)).table
    assert table["y_um"].tolist() == [1, 1, 1, 1, 3] and table["x_px"].tolist() == [4, 8, 12, 16, 20]
    assert table["time_h"].tolist() == pytest.approx([24, 24 + 1 / 3, 24 + 2 / 3, 25, 25])
    assert table["label"].tolist() == [7, 7, 9, 3, 4]

    write(tmp_path / "bare.geff", IDS, {"when": [0, 1, 2, 3, 3], "a": props["r"], "b": props["c"]}, EDGES, [])
    with pytest.raises(InvalidDataError, match="--axes"):
        import_geff(tmp_path / "bare.geff", Hints(pixel_size_um=1, interval_min=20))
    named = Hints(pixel_size_um=0.5, interval_min=20, axes=("when", "a", "b"))
    assert import_geff(tmp_path / "bare.geff", named).table["x_um"].tolist() == [2, 4, 6, 8, 10]

    scaled = [("time", "time", "frame", 10.0, "minute"), ("r", "space", "pixel", 0.5, "micrometer"),
              ("c", "space", "pixel", 0.5, "micrometer")]  # fmt: skip
    write(tmp_path / "scaled.geff", IDS, props, EDGES, scaled)
    table = import_geff(tmp_path / "scaled.geff", Hints()).table
    assert table["time_h"].tolist() == pytest.approx([0, 1 / 6, 1 / 3, 1 / 2, 1 / 2])
    assert table["y_um"].tolist() == [1, 1, 1, 1, 3] and table["y_px"].tolist() == [2, 2, 2, 2, 6]


@pytest.mark.filterwarnings("ignore:Object at values")
def test_volumes_and_broken_graphs_are_refused(tmp_path):
    props = {"t": [0, 1, 2, 3, 3], "z": [0.0, 1, 2, 3, 4], "y": [0.0] * 5, "x": [0.0] * 5}
    axes = [("t", "time", "hour"), *[(n, "space", "micrometer") for n in "zyx"]]
    write(tmp_path / "volume.geff", IDS, props, EDGES, axes)
    with pytest.raises(UnsupportedDataError, match="'z'"):
        import_geff(tmp_path / "volume.geff", Hints())
    export_geff(table_of(FAMILY), tmp_path / "cut.geff")
    (tmp_path / "cut.geff" / "nodes" / "props" / "t" / "values" / ".zarray").unlink()
    with pytest.raises(CorruptFileError, match="cannot be read as GEFF"):
        import_geff(tmp_path / "cut.geff", Hints())


# Cell Tracking Challenge ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Empty frame")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=forests())
def test_ctc_gives_back_tracks_and_places(tmp_path, table):
    masks = Masks(table)
    counts = export_ctc(table, masks, tmp_path / "a_RES")
    assert counts["unassigned"] == (table["track_id"] == 0).sum()
    found = import_ctc(tmp_path / "a_RES").table
    tracked = table[table["track_id"] > 0]
    assert lineage(found) == lineage(table)
    names = ["frame", "time_h", "y_um", "x_um", "area_px", "track_id", "parent_id"]
    same = [t.sort_values(["frame", "track_id"])[names].reset_index(drop=True) for t in (found, tracked)]
    pd.testing.assert_frame_equal(*same)
    if len(tracked):
        assert validate_sequence(str(tmp_path / "a_RES"), threads=1)["Valid"] == 1


def test_gaps_are_found_again_without_our_notes(tmp_path):
    table = table_of(FAMILY)
    export_ctc(table, Masks(table), tmp_path / "a_RES")
    text = (tmp_path / "a_RES" / "res_track.txt").read_text()
    assert text == "1 0 2 0\n2 3 7 1\n3 3 7 1\n4 0 1 0\n5 4 5 4\n"
    (tmp_path / "a_RES" / "hyped.json").unlink()
    with pytest.raises(UsageError, match="--pixel-size-um UM and --interval-min MINUTES"):
        import_ctc(tmp_path / "a_RES")
    found = import_ctc(tmp_path / "a_RES", pixel_size_um=PIXEL, interval_min=20, start_h=20).table
    assert lineage(found) == lineage(table)


def test_a_corrected_file_of_tracks_counts_more_than_our_notes(tmp_path):
    table = table_of(FAMILY)
    export_ctc(table, Masks(table), tmp_path / "a_RES")
    path = tmp_path / "a_RES" / "res_track.txt"
    path.write_text(path.read_text().replace("5 4 5 4", "5 4 5 0"))
    found = import_ctc(tmp_path / "a_RES").table
    assert found.loc[found["track_id"] == 5, "parent_id"].eq(0).all()
    assert sorted(found["track_id"].unique()) == [1, 2, 3, 4, 5]
    assert found["time_h"].iloc[-1] == pytest.approx(20 + 7 / 3 + 0.7)


def test_judges_agree_with_a_result_that_is_the_truth(tmp_path):
    table = table_of(FAMILY)
    masks = Masks(table)
    export_ctc(table, masks, tmp_path / "01_RES")
    export_ctc(table, masks, tmp_path / "01_GT", layout="gt")
    scores = evaluate_sequence(
        str(tmp_path / "01_RES"), str(tmp_path / "01_GT"), metrics=["Valid", "DET", "TRA", "LNK", "BC"], threads=1
    )
    assert [scores[name] for name in ("Valid", "DET", "TRA", "LNK", "BC(1)")] == [1, 1, 1, 1, 1]
    segmented = tifffile.imread(tmp_path / "01_GT" / "SEG" / "man_seg006.tif")
    assert segmented.dtype == np.uint16 and len(np.unique(segmented)) - 1 == (table["frame"] == 6).sum()

    loaders = pytest.importorskip("traccuracy.loaders")
    graph = loaders.load_ctc_data(str(tmp_path / "01_RES")).graph
    edges, _ = table_edges(table)
    assert (graph.number_of_nodes(), graph.number_of_edges()) == ((table["track_id"] > 0).sum(), len(edges))


def test_ctc_measures_on_a_movie_and_writes_labels(tmp_path):
    table = table_of(FAMILY)
    masks = Masks(table)
    planes = np.random.default_rng(0).integers(90, 110, (8, 2, *masks.shape[1:])).astype(np.uint16)
    planes += (masks.images[:, None] * 50).astype(np.uint16)
    write_movie(tmp_path / "m.zarr", planes, channels=["Cy5", "mKate"], pixel_size_um=PIXEL, time_h=masks.time_h)
    export_ctc(table, masks, tmp_path / "a_RES")
    arguments = [str(tmp_path / "a_RES"), str(tmp_path / "t.parquet"), "--movie", str(tmp_path / "m.zarr")]
    run = CliRunner().invoke(import_tracks, [*arguments, "--labels-out", str(tmp_path / "l.zarr"), "--json"])
    assert run.exception is None and json.loads(run.stdout)["divisions"] == 1
    found, labels = pd.read_parquet(tmp_path / "t.parquet"), Labels.open(tmp_path / "l.zarr")
    expected = measure(labels.frame(3), planes[3], ["Cy5", "mKate"], PIXEL, block_px=92)
    given = found[found["frame"] == 3].reset_index(drop=True)
    np.testing.assert_allclose(given["mean_mKate"], expected["mean_mKate"])
    assert sorted(np.unique(labels.frame(3))) == [0, 2, 3]


def test_too_many_tracks_for_sixteen_bits():
    n = MAX_LABEL + 1
    table = pd.DataFrame({"frame": np.arange(n) % 7, "track_id": np.arange(1, n + 1), "parent_id": 0})
    with pytest.raises(UnsupportedDataError, match="65536 tracks.*16-bit"):
        split_pieces(table)
    pieces = split_pieces(table.iloc[1:])  # ids above 65535, but not too many of them
    assert pieces.lines[:, 0].max() == MAX_LABEL and len(np.unique(pieces.label)) == MAX_LABEL


def test_folders_that_contradict_themselves_are_refused(tmp_path):
    table = table_of(FAMILY)
    export_ctc(table, Masks(table), tmp_path / "a_RES")
    path = tmp_path / "a_RES" / "res_track.txt"
    good = path.read_text()
    for text, message in {
        good + "9 0 3 0\n": "label 9: has a line and is in no mask",
        good.replace("4 0 1 0\n", ""): "its parent 4 has no line",
        good.replace("2 3 7 1", "2 2 7 1"): "its parent 1 ends in 2",
        good.replace("3 3 7 1", "3 3 6 1"): "its line says frames 3 to 6, masks hold it from 3 to 7",
        good + "x y\n": "line 6",
        good + "1 0 2 0\n": "label 1: has several lines",
    }.items():
        path.write_text(text)
        with pytest.raises(ValidationError, match=message):
            import_ctc(tmp_path / "a_RES")
    path.write_text(good)
    (tmp_path / "a_RES" / "mask003.tif").write_bytes(b"II*\0broken")
    with pytest.raises(CorruptFileError, match="mask003"):
        import_ctc(tmp_path / "a_RES")
    (tmp_path / "a_RES" / "mask003.tif").unlink()
    with pytest.raises(InvalidDataError, match="lacks the masks of frames 3"):
        import_ctc(tmp_path / "a_RES")


def test_objects_without_pixels_are_named_and_nothing_is_written(tmp_path):
    table = table_of(FAMILY)
    masks = Masks(table)
    masks.images[4] = 0
    with pytest.raises(ValidationError, match="frame 4, label 1: has no pixels"):
        export_ctc(table, masks, tmp_path / "a_RES")
    assert list(tmp_path.iterdir()) == []


# both -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 1, 0, ""), (0, 1, 0, "")], "two objects of one track"),
        ([(0, 1, 0, ""), (1, 1, 2, ""), (0, 2, 0, "")], "several parents"),
        ([(0, 1, 9, "")], "parent 9 is no track"),
        ([(0, 1, 0, ""), (3, 1, 0, ""), (3, 2, 1, "")], "its parent 1 ends in frame 3"),
    ],
)
def test_tables_that_are_no_lineage_are_refused(tmp_path, rows, message):
    table = table_of(rows)
    for export in (lambda: export_geff(table, tmp_path / "a.geff"), lambda: split_pieces(table)):
        with pytest.raises(ValidationError, match=message):
            export()


def test_commands_go_there_and_back(tmp_path):
    table = table_of(FAMILY)
    both = pd.concat([table, table.assign(scene="S1", track_id=table["track_id"] * 2)], ignore_index=True)
    both["parent_id"] = both["parent_id"].where(both["scene"] == "S0", both["parent_id"] * 2)
    both.to_parquet(tmp_path / "tracks.parquet")
    with pytest.raises(UsageError, match="--scene S0"):
        one_scene(both, None, "tracks")
    Masks(table).write(tmp_path / "S1.zarr")
    run, out = CliRunner(), tmp_path / "S1.geff"
    tracks, labels = str(tmp_path / "tracks.parquet"), ["--labels", str(tmp_path / "S1.zarr")]
    dry = run.invoke(export_tracks, [tracks, str(out), "--scene", "S1", "--dry-run"])
    assert json.loads(dry.stdout)["objects"] == len(table) and not out.exists()
    done = run.invoke(export_tracks, [tracks, str(out), "--scene", "S1", *labels, "--json"])
    assert json.loads(done.stdout)["divisions"] == 1
    run.invoke(export_tracks, [tracks, str(tmp_path / "S1_RES"), "--scene", "S1", *labels])
    assert [detect(tmp_path / n)[0] for n in ("S1.geff", "S1_RES")] == ["geff", "ctc"]

    assert run.invoke(import_tracks, [str(out), str(tmp_path / "back.parquet")]).exception is None
    expected = both[both["scene"] == "S1"].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "back.parquet"), expected)
    back = run.invoke(import_tracks, [str(tmp_path / "S1_RES"), str(tmp_path / "c.parquet"), "--scene", "S1"])
    assert back.exception is None
    assert lineage(pd.read_parquet(tmp_path / "c.parquet")) == lineage(expected)
    wrong = run.invoke(import_tracks, [str(out), str(tmp_path / "d.parquet"), "--movie", "x"])
    assert isinstance(wrong.exception, UsageError) and not (tmp_path / "d.parquet").exists()
    need = run.invoke(export_tracks, [tracks, str(tmp_path / "x_RES"), "--scene", "S1"])
    assert isinstance(need.exception, UsageError) and "--labels" in str(need.exception)


def test_equal_input_gives_equal_bytes(tmp_path):
    table = table_of(FAMILY)
    for name in ("a", "b"):
        export_geff(table, tmp_path / name / "t.geff")
        export_ctc(table, Masks(table), tmp_path / name / "t_RES")
    files = [sorted(p for p in (tmp_path / name).rglob("*") if p.is_file()) for name in ("a", "b")]
    assert len(files[0]) > 20
    for one, other in zip(*files, strict=True):
        assert one.relative_to(tmp_path / "a") == other.relative_to(tmp_path / "b")
        assert one.read_bytes() == other.read_bytes(), one


@pytest.mark.filterwarnings("ignore")
def test_a_graph_that_the_geff_library_made_of_our_folder(tmp_path):
    convert = pytest.importorskip("geff.convert")
    table = table_of(FAMILY)
    export_ctc(table, Masks(table), tmp_path / "a_RES")
    convert.from_ctc_to_geff(tmp_path / "a_RES", tmp_path / "store" / "tracks.geff")
    form, folder = detect(tmp_path / "store")
    assert (form, folder.name) == ("geff", "tracks.geff")
    found = import_geff(folder, Hints(pixel_size_um=PIXEL, interval_min=20)).table
    assert lineage(found) == lineage(table)


def test_dropped_columns_come_from_the_original_by_frame_and_label(tmp_path):
    table = table_of(FAMILY)
    edges, _ = table_edges(table)
    props = {"t": table["frame"], "y": table["y_px"], "x": table["x_px"], "label": table["label"]}
    axes = [("t", "time"), ("y", "space", "pixel"), ("x", "space", "pixel")]
    write(tmp_path / "a.geff", np.arange(500, 500 + len(table)), props, edges + 500, axes)
    found = import_geff(tmp_path / "a.geff", Hints(), original=table)
    pd.testing.assert_frame_equal(found.table, table)
    with pytest.raises(InvalidDataError, match="names row|original table has"):
        export_geff(table, tmp_path / "own.geff")
        import_geff(tmp_path / "own.geff", Hints(), original=table.iloc[:5])


def test_what_is_no_exchange_is_refused(tmp_path, monkeypatch):
    with pytest.raises(MissingFileError):
        detect(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidDataError, match="neither a GEFF graph nor"):
        detect(tmp_path / "empty")
    table = table_of(FAMILY)
    for name in ("a", "b"):
        export_geff(table, tmp_path / "two" / f"{name}.geff")
    with pytest.raises(InvalidDataError, match="several graphs: a.geff, b.geff"):
        detect(tmp_path / "two")
    monkeypatch.setitem(sys.modules, "geff", None)
    with pytest.raises(MissingDependencyError, match="pip install geff"):
        export_geff(table, tmp_path / "c.geff")


def test_a_table_without_objects_goes_there_and_back(tmp_path):
    table = table_of(FAMILY).iloc[:0].reset_index(drop=True)
    export_geff(table, tmp_path / "a.geff")
    pd.testing.assert_frame_equal(import_geff(tmp_path / "a.geff", Hints()).table, table)
    counts = export_ctc(table, Masks(table), tmp_path / "a_RES")
    assert counts["objects"] == 0 and len(import_ctc(tmp_path / "a_RES").table) == 0


def test_lost_frames_stay_lost(tmp_path):
    table = table_of([(f, 1, 0, "") for f in (0, 1, 3, 4)])
    masks = Masks(table, frames=5)
    with LabelsWriter(tmp_path / "l.zarr", shape=masks.shape, pixel_size_um=PIXEL, time_h=masks.time_h) as writer:
        for index in (0, 1, 3, 4):
            writer.write_frame(index, masks.images[index])
        writer.write_missing(2, "tile 3 cannot be read")
    export_ctc(table, Labels.open(tmp_path / "l.zarr"), tmp_path / "a_RES")
    found = import_ctc(tmp_path / "a_RES", labels_out=tmp_path / "back.zarr").table
    assert Labels.open(tmp_path / "back.zarr").missing_frames == {2: "tile 3 cannot be read"}
    assert found["track_id"].tolist() == [1] * 4 and found["frame"].tolist() == [0, 1, 3, 4]
