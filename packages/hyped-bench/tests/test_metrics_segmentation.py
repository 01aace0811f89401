"""Segmentation metrics: closed forms, parity with the Cell Tracking Challenge's code, invariances."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hyped_bench.metrics import segmentation as measure
from hyped_core.errors import InvalidDataError

LABELS = hnp.arrays(np.int32, (12, 12), elements=st.integers(0, 5))


def two_nuclei():
    truth = np.zeros((20, 20), np.int32)
    truth[2:10, 2:10] = 1
    truth[2:10, 10:18] = 2
    return truth


def test_perfect_empty_and_merged():
    truth = two_nuclei()
    assert measure.match_counts(truth * 7, truth) == (2, 0, 0)
    assert measure.match_counts(np.zeros_like(truth), truth) == (0, 0, 2)
    merged = (truth > 0).astype(np.int32)
    assert measure.match_counts(merged, truth) == (0, 1, 2)  # an IoU of exactly one half is no match
    assert measure.seg_values(merged, truth) == pytest.approx([0.5, 0.5])
    assert measure.f1_from_counts(0, 1, 2) == 0.0
    assert measure.f1_from_counts(0, 0, 0) is None


@given(LABELS, LABELS)
@settings(max_examples=60, deadline=None)
def test_counts_against_brute_force(predicted, truth):
    hits = sum(
        (((predicted == p) & (truth == t)).sum() / ((predicted == p) | (truth == t)).sum()) > 0.5
        for t in set(np.unique(truth)) - {0}
        for p in set(np.unique(predicted)) - {0}
    )
    found = measure.match_counts(predicted, truth)
    assert found == (
        hits,
        len(set(np.unique(predicted)) - {0}) - hits,
        len(set(np.unique(truth)) - {0}) - hits,
    )


@given(LABELS, LABELS, st.permutations(range(1, 6)))
@settings(max_examples=40, deadline=None)
def test_names_of_labels_do_not_matter(predicted, truth, order):
    renamed = np.concatenate([[0], np.array(order) * 100])[predicted]
    assert measure.match_counts(renamed, truth) == measure.match_counts(predicted, truth)
    assert np.array_equal(measure.seg_values(renamed, truth), measure.seg_values(predicted, truth))


def test_seg_equals_the_challenge_code(tmp_path):
    from ctc_metrics.metrics import seg
    from ctc_metrics.utils.representations import match

    rng = np.random.default_rng(1)
    truth = np.kron(rng.permutation(36).reshape(6, 6), np.ones((5, 5))).astype(np.uint16)
    predicted = np.roll(truth, (1, 2), (0, 1))
    for name, image in (("t.tif", truth), ("p.tif", predicted)):
        tifffile.imwrite(tmp_path / name, image)
    labels, _, _, _, iou = match(str(tmp_path / "t.tif"), str(tmp_path / "p.tif"))
    assert measure.seg_values(predicted, truth).mean() == pytest.approx(seg([labels], [iou]))


def test_foreground_recall_reads_the_annotation_as_told():
    marks = np.array([[0, 1, 2, 2]])
    assert measure.foreground_counts(np.array([[5, 5, 5, 0]]), marks, 2) == (1, 2)
    assert measure.foreground_counts(np.array([[5, 5, 5, 0]]), marks) == (2, 3)


def test_refusals():
    with pytest.raises(InvalidDataError, match="shape"):
        measure.overlaps(np.zeros((2, 2), int), np.zeros((3, 3), int))
    with pytest.raises(InvalidDataError, match="negative"):
        measure.overlaps(np.full((2, 2), -1), np.zeros((2, 2), int))
    with pytest.raises(InvalidDataError, match="unique"):
        measure.match_counts(np.zeros((2, 2), int), np.zeros((2, 2), int), iou=0.3)
