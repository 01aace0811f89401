"""Segmentation, tracks and phases of one simulated scene, against its truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hyped_core.container.movies import Labels, Movie
from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta
from hyped_core.design import default_design
from hyped_imaging.phases.states import call_phases
from hyped_imaging.segment.fast import FastSegmenter
from hyped_imaging.segment.measure import measure
from hyped_imaging.segment.paper import PaperConfig, PaperSegmenter
from hyped_imaging.simulate.camera import expose
from hyped_imaging.simulate.params import SimulateParams
from hyped_imaging.simulate.plan import plan
from hyped_imaging.simulate.run import scene_frames
from hyped_imaging.track.lap import LapTracker

CONTEXT = RunContext()
SCENE = "S8"
KEYS = ["frame", "label"]


def overlaps(truth, found):
    """(label found, label true) of pairs whose intersection over union exceeds a half."""
    pairs, count = np.unique(np.stack([found.ravel(), truth.ravel()]), axis=1, return_counts=True)
    area_found, area_truth = np.bincount(found.ravel()), np.bincount(truth.ravel())
    union = area_found[pairs[0]] + area_truth[pairs[1]] - count
    good = (pairs[0] > 0) & (pairs[1] > 0) & (count > union / 2)
    return pairs[:, good].T


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Truth of a scene, what `nuclei` found in it, and which is which."""
    design = default_design()
    timeline = design.timeline.model_copy(update={"imaging_start_h": 20.0, "imaging_end_h": 52.0})
    design = design.model_copy(update={"timeline": timeline})
    made = plan(design, SimulateParams(), 0)
    folder = tmp_path_factory.mktemp("truth")
    for _ in scene_frames(made, SCENE, folder):
        pass
    movie, labels = (
        Movie.open(folder / "frames" / f"{SCENE}.zarr"),
        Labels.open(folder / "labels" / f"{SCENE}.zarr"),
    )
    tables, pairs, rng, last = [], [], np.random.default_rng(0), None
    for frame, hours in enumerate(movie.time_h):
        planes = expose(movie.frame(frame).astype(np.float32), made.params.optics, rng)
        meta = ImageMeta(channels=movie.channels, pixel_size_um=movie.pixel_size_um)
        found = FastSegmenter().segment(planes, meta, context=CONTEXT)
        table = measure(found, planes, movie.channels, movie.pixel_size_um)
        tables.append(table.assign(frame=frame, time_h=hours))
        matched = overlaps(labels.frame(frame), found)
        pairs.append(pd.DataFrame({"frame": frame, "label": matched[:, 0], "true": matched[:, 1]}))
        last = planes, meta, labels.frame(frame)
    truth = pd.read_parquet(folder / "tracks" / f"{SCENE}.parquet")
    return design, truth, pd.concat(tables, ignore_index=True), pd.concat(pairs, ignore_index=True), last


def test_nuclei_are_found(scene):
    _, truth, found, pairs, (planes, meta, last) = scene
    assert 2 * len(pairs) / (len(truth) + len(found)) > 0.92

    for channels in (("mKate", "TagGFP"), ("Cy5",)):
        labels = PaperSegmenter(PaperConfig(channels=channels)).segment(planes, meta, context=CONTEXT)
        paper = 2 * len(overlaps(last, labels)) / (labels.max() + len(np.unique(last)) - 1)
        assert paper > 0.3  # the plain steps work


def test_tracks_and_divisions_follow_the_truth(scene):
    _, truth, found, pairs, _ = scene
    result = LapTracker().track(found, context=CONTEXT).merge(pairs, on=KEYS, how="left")
    named = result.dropna(subset=["true"])
    following = truth[["frame", "track_id"]].assign(frame=lambda d: d["frame"] + 1, goes_on=True)
    after = named.assign(frame=named["frame"] + 1)[["frame", "true", "track_id"]]
    links = named.merge(after, on=["frame", "true"], suffixes=("", "_before"))
    links = links.merge(following, left_on=["frame", "true"], right_on=["frame", "track_id"])
    assert (links["track_id_x"] == links["track_id_before"]).mean() > 0.97

    main = named.groupby("true")["track_id"].agg(lambda ids: ids.mode().iloc[0])
    parent_of = result.groupby("track_id")["parent_id"].first()
    born = truth[truth["parent_id"] > 0].groupby("track_id")["parent_id"].first()
    pairs_of = born.groupby(born).apply(lambda daughters: list(daughters.index))
    full = {m: d for m, d in pairs_of.items() if len(d) == 2 and m in main and all(x in main for x in d)}
    right = sum(
        all(parent_of[main[x]] == main[mother] for x in daughters) for mother, daughters in full.items()
    )
    made = parent_of[parent_of > 0].nunique()
    assert len(full) > 15
    assert right / len(full) > 0.6 and right / made > 0.6


def test_phases_follow_the_truth(scene):
    design, truth, found, pairs, _ = scene
    tracked = LapTracker().track(found, context=CONTEXT)
    called = call_phases(tracked, design).merge(pairs, on=KEYS)
    both = called.merge(
        truth[["frame", "label", "phase"]],
        left_on=["frame", "true"],
        right_on=["frame", "label"],
        suffixes=("", "_true"),
    )
    assert len(both) > 1000
    assert (both["phase"] == both["phase_true"]).mean() > 0.93
    shares, wanted = (both[c].value_counts(normalize=True) for c in ("phase", "phase_true"))
    assert (shares - wanted).abs().max() < 0.03
