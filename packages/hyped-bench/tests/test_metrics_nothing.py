"""What doing nothing scores in images, segmentation, tracking, demultiplexing, phases and lists of changed genes.

The numbers and rules that the docstrings and ``docs/metrics.md`` state; those of expression are with its own tests.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_bench.metrics import changes, demultiplex, image, phases, segmentation, tracking
from hyped_core.errors import InvalidDataError

RNG = np.random.default_rng(0)


def test_the_noisy_image_scores_its_noise_and_is_perfect_against_itself():
    clean = np.outer(np.linspace(0, 1, 64), np.linspace(0, 1, 64))
    noisy = clean + RNG.normal(0, 0.1, clean.shape)
    assert image.mse(noisy, clean) == pytest.approx(0.01, rel=0.1)
    assert image.psnr(noisy, clean, 1.0) == pytest.approx(20.0, abs=0.5)
    assert image.signal_to_error(noisy, clean) == pytest.approx(10 * np.log10(clean.var() / 0.01), abs=0.5)
    assert (image.mse(noisy, noisy), image.psnr(noisy, noisy, 1.0), image.ssim(noisy, noisy, 1.0)) == (0.0, None, 1.0)
    # against itself, hardly changing the image beats any denoising
    assert image.psnr(noisy + 1e-9, noisy, 1.0) > 170 > image.psnr(clean, noisy, 1.0)


def test_signal_to_noise_rises_with_a_blur_and_with_a_constant():
    noisy = RNG.normal(1.0, 0.3, (40, 40))
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:30, 10:30] = True
    noisy[mask] += 2.0
    raw = image.signal_to_noise(noisy, mask)
    assert image.signal_to_noise(noisy + 5, mask) > 2 * raw
    flat = np.where(mask, noisy[mask].mean(), noisy[~mask].mean() + 1e-6 * noisy)
    assert image.signal_to_noise(flat, mask) > 1000 * raw
    assert image.signal_to_noise(np.ones((40, 40)), mask) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_images_that_are_not_finite_are_an_error(bad):
    spoiled = np.ones((8, 8))
    spoiled[2, 2] = bad
    for score in (image.mse, image.signal_to_error):
        with pytest.raises(InvalidDataError, match="NaN"):
            score(spoiled, np.ones((8, 8)))
    with pytest.raises(InvalidDataError, match="NaN"):
        image.psnr(np.ones((8, 8)), spoiled, 1.0)
    with pytest.raises(InvalidDataError, match="no pixels"):
        image.mse(np.ones((0, 3)), np.ones((0, 3)))


def test_finding_nothing_and_finding_one_object_everywhere():
    truth = np.zeros((30, 30), dtype=int)
    for label, (y, x) in enumerate([(2, 2), (2, 15), (18, 4)], start=1):
        truth[y : y + 6, x : x + 6] = label
    nothing, everything = np.zeros_like(truth), np.ones_like(truth)
    assert segmentation.match_counts(nothing, truth) == (0, 0, 3)
    assert segmentation.f1_from_counts(*segmentation.match_counts(nothing, truth)) == 0.0
    assert segmentation.f1_from_counts(*segmentation.match_counts(everything, truth)) == 0.0
    assert segmentation.f1_from_counts(0, 0, 0) is None
    assert segmentation.seg_values(nothing, truth).tolist() == [0.0] * 3
    hits, marked = segmentation.foreground_counts(everything, truth)
    assert hits == marked and segmentation.foreground_counts(nothing, truth)[0] == 0
    extra = truth.copy()
    extra[28:, 28:] = 9
    assert segmentation.seg_values(extra, truth).tolist() == [1.0] * 3  # extra objects cost SEG nothing
    assert segmentation.f1_from_counts(*segmentation.match_counts(extra, truth)) < 1


@pytest.mark.parametrize(("n_tracks", "n_frames"), [(3, 4), (5, 40)])
def test_linking_nothing(n_tracks, n_frames):
    """TRA 1 - 1.5 E / (10 N + 1.5 E), DET 1, LNK 0: TRA flatters a tracker that is given the objects."""
    frame, label = (v.ravel() for v in np.meshgrid(np.arange(n_frames), np.arange(1, n_tracks + 1), indexing="ij"))
    truth = pd.DataFrame({"frame": frame, "label": label, "track_id": label, "parent_id": 0})
    loose = truth.assign(track_id=np.arange(1, len(truth) + 1))
    scores = tracking.tracking_scores(loose, truth)
    n, links = n_tracks * n_frames, n_tracks * (n_frames - 1)
    assert scores["tra"] == pytest.approx(1 - 1.5 * links / (10 * n + 1.5 * links))
    assert (scores["det"], scores["lnk"], scores["division_f1"]) == (1.0, 0.0, None)
    if n_frames == 40:
        assert scores["tra"] == pytest.approx(0.87, abs=0.005)
    unassigned = tracking.tracking_scores(truth.assign(track_id=0), truth)
    assert (unassigned["tra"], unassigned["det"], unassigned["lnk"]) == (0.0, 0.0, 0.0)


@given(st.integers(2, 6))
@settings(max_examples=5, deadline=None)
def test_one_call_for_all_cells(k):
    truth = np.repeat([f"s{i}" for i in range(k)], 10)
    one = np.full(len(truth), "s0")
    table, names = demultiplex.confusion(one, truth)
    assert demultiplex.accuracy(table) == pytest.approx(1 / k)
    assert demultiplex.called_accuracy(table, names) == pytest.approx(1 / k)
    assert demultiplex.forced_accuracy(one, truth) == pytest.approx(1 / k)
    assert demultiplex.f_singlet(table, names) == pytest.approx(2 / (k * (k + 1)))
    table, names = demultiplex.confusion(np.full(len(truth), demultiplex.NEGATIVE), truth)
    assert demultiplex.f_singlet(table, names) == 0.0 and demultiplex.called_accuracy(table, names) is None
    table, names = demultiplex.confusion(np.full(len(truth), demultiplex.DOUBLET), truth)
    assert demultiplex.recall_precision(table, names) == (None, 0.0)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
@settings(max_examples=30, deadline=None)
def test_one_probability_for_all_calls(right):
    share = float(np.mean(right))
    assert demultiplex.expected_calibration_error([share] * len(right), right) == pytest.approx(0, abs=1e-12)
    assert demultiplex.brier([share] * len(right), right) == pytest.approx(share * (1 - share), abs=1e-12)


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.1])
def test_probabilities_that_are_none_are_an_error(bad):
    for score in (demultiplex.brier, demultiplex.expected_calibration_error):
        with pytest.raises(InvalidDataError, match="probability"):
            score([0.5, bad], [True, False])
        with pytest.raises(InvalidDataError, match="2 probabilities for 1"):
            score([0.5, 0.5], [True])
        assert score([], []) is None


def test_one_phase_for_all_cells():
    truth = np.array(["G1"] * 5 + ["S"] * 5 + ["G2M"] * 5)
    one = np.full(15, "S")
    assert phases.phase_accuracy(one, truth) == phases.commonest_accuracy(truth) == pytest.approx(1 / 3)
    tables = [pd.DataFrame({"group": "a", "phase": v}) for v in (one, truth)]
    k = 3
    assert phases.fraction_error(*tables, by=["group"])[0] == pytest.approx(2 * (k - 1) / k**2)
    assert phases.recall_precision(one, truth, "S") == (1.0, pytest.approx(1 / 3))
    assert phases.recall_precision(one, truth, "G1") == (0.0, None)
    assert phases.phase_accuracy([], []) is None and phases.commonest_accuracy([]) is None


def test_positions_without_information():
    truth = np.arange(1000) / 1000
    assert phases.circular_error(RNG.random(1000), truth) == pytest.approx(0.25, abs=0.02)
    constant = np.full(1000, phases.best_constant(truth))
    assert phases.circular_error(constant, truth) == pytest.approx(0.25, abs=1e-3)


def test_calling_no_gene_and_every_gene():
    true = np.array([True] * 3 + [False] * 7)
    nothing, everything = np.zeros(10, dtype=bool), np.ones(10, dtype=bool)
    assert (changes.recall(nothing, true), changes.recall(everything, true)) == (0.0, 1.0)
    assert changes.false_share(nothing, ~true) is None and changes.false_share(everything, ~true) == 0.7
    assert changes.size_correlation(np.zeros(10), np.arange(10)) is None
    counts = RNG.poisson(20, (50, 4))
    scores = changes.count_scores(np.zeros_like(counts), counts)
    assert (scores["count_ratio"], scores["count_error"], scores["count_pearson"]) == (0.0, 1.0, None)
    assert scores["top_tag_agreement"] < 0.5
