"""Real frames with published labels: FUCCI nuclei, a migration movie, and sparse annotations of BBBC007."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta
from hyped_imaging.segment.fast import FastConfig, FastSegmenter

FOLDER = os.environ.get("HYPED_PUBLIC_DATA", "")
pytestmark = [
    pytest.mark.public,
    pytest.mark.skipif(not FOLDER or not Path(FOLDER).is_dir(), reason="HYPED_PUBLIC_DATA names no folder"),
]


def counts(labels, truth):
    """(found, extra, missed) at an intersection over union above one half."""
    pairs, shared = np.unique(np.stack([labels.ravel(), truth.ravel()]), axis=1, return_counts=True)
    area, true_area = np.bincount(labels.ravel()), np.bincount(truth.ravel())
    both = (pairs[0] > 0) & (pairs[1] > 0)
    i, j = pairs[:, both]
    hits = int((shared[both] / (area[i] + true_area[j] - shared[both]) > 0.5).sum())
    return hits, int((area[1:] > 0).sum()) - hits, int((true_area[1:] > 0).sum()) - hits


def scores(stack, published, **config):
    """(counts by frame) of ``fast`` on a stack of one channel."""
    segmenter = FastSegmenter(FastConfig(channels=("nuclei",), **config))
    meta = ImageMeta(channels=("nuclei",))
    return np.array(
        [
            counts(segmenter.segment(plane[None], meta, context=RunContext()), truth.astype(np.int64))
            for plane, truth in zip(stack, published, strict=True)
        ]
    )


def fucci():
    """Red frames and their published labels."""
    tifffile = pytest.importorskip("tifffile")
    folder = Path(FOLDER) / "timelapse" / "fucci"
    return tifffile.imread(folder / "test_red_stack.tiff"), tifffile.imread(folder / "test_segmented_stack.tiff")


def test_published_fucci_nuclei_are_found():
    """With the diameter only; the published labels leave out dim and very bright nuclei, which counts as extra
    here."""
    found = scores(*fucci(), diameter_px=28).sum(axis=0)
    assert found[0] + found[2] == 119
    assert found[0] / 119 > 0.87


def test_brightness_limits_bring_the_published_choice_of_fucci_nuclei():
    """Average precision TP / (TP + FP + FN), averaged over frames."""
    plain = scores(*fucci(), diameter_px=28)
    chosen = scores(*fucci(), diameter_px=28, min_brightness=0.4, max_brightness=4.0)
    precision = [(table[:, 0] / table.sum(axis=1)).mean() for table in (plain, chosen)]
    assert precision[1] > 0.68
    assert precision[1] > precision[0] + 0.15


def test_sharpness_and_size_bring_most_of_the_published_fucci_nuclei():
    """One choice for all three frames, made on these very frames: how well it can be done, not what to expect."""
    found = scores(
        *fucci(),
        diameter_px=28,
        sensitivity=8,
        outline=0.6,
        dip=0.92,
        contrast=0.6,
        min_area=0.2,
        min_sharpness=0.14,
        min_brightness=0.45,
        max_brightness=3.5,
    )
    assert (found[:, 0] / found.sum(axis=1)).mean() > 0.84


def test_migration_nuclei_match_the_published_labels():
    tifffile = pytest.importorskip("tifffile")
    folder = Path(FOLDER) / "timelapse" / "migration"
    stack = tifffile.imread(folder / "cancer_cell_migration_crop.tif")[::12]
    published = tifffile.imread(folder / "cancer_cell_migration_voronoi_otsu_labeling_crop.tif")[::12]
    hits, extra, missed = scores(stack, published, diameter_px=20).sum(axis=0)
    assert 2 * hits / (2 * hits + extra + missed) > 0.9


def test_annotated_pixels_of_bbbc007():
    """Annotations are 2 for nucleus, 1 for background, 0 where nobody looked."""
    tifffile = pytest.importorskip("tifffile")
    folder = Path(FOLDER) / "segmentation" / "BBBC007"
    segmenter = FastSegmenter(FastConfig(channels=("nuclei",)))
    labelled, marks = [], []
    for path in sorted((folder / "images").glob("*.tif")):
        plane = tifffile.imread(path)
        labels = segmenter.segment(plane[None], ImageMeta(channels=("nuclei",)), context=RunContext())
        labelled.append(labels.ravel() > 0)
        marks.append(tifffile.imread(folder / "masks" / path.name).ravel())
    found, mark = np.concatenate(labelled), np.concatenate(marks)
    assert found[mark == 2].mean() > 0.85
    assert (~found[mark == 1]).mean() > 0.9
