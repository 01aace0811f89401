"""Image metrics: closed forms, parity with scikit-image, and what a do-nothing denoiser scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from hyped_bench.metrics import image as measure
from hyped_core.errors import InvalidDataError


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    clean = rng.uniform(0, 200, (40, 50))
    return clean + rng.normal(0, 10, clean.shape), clean


def test_parity_with_scikit_image(pair):
    noisy, clean = pair
    assert measure.psnr(noisy, clean, 255) == pytest.approx(
        peak_signal_noise_ratio(clean, noisy, data_range=255)
    )
    assert measure.ssim(noisy, clean, 255) == pytest.approx(
        structural_similarity(clean, noisy, data_range=255)
    )


def test_paper_convention_adds_48_db_to_unit_range_images(pair):
    noisy, clean = (part / 255 for part in pair)
    right = measure.psnr(noisy, clean, 1.0)
    assert measure.psnr(noisy, clean, 255.0) - right == pytest.approx(measure.PAPER_OFFSET_DB)
    assert pytest.approx(48.13, abs=0.01) == measure.PAPER_OFFSET_DB
    # the paper's own pair of numbers: MSE 0.000146 with peak 255
    assert 10 * math.log10(1 / 0.000146) + measure.PAPER_OFFSET_DB == pytest.approx(86.48, abs=0.02)


def test_an_exact_copy_has_no_psnr_and_perfect_ssim(pair):
    _, clean = pair
    assert measure.psnr(clean, clean, 255) is None
    assert measure.ssim(clean, clean, 255) == pytest.approx(1.0)
    assert measure.mse(clean, clean) == 0.0


def test_psnr_falls_by_6_db_when_noise_doubles(pair):
    noisy, clean = pair
    twice = clean + 2 * (noisy - clean)
    assert measure.psnr(noisy, clean, 255) - measure.psnr(twice, clean, 255) == pytest.approx(
        20 * math.log10(2)
    )


def test_unit_range_clips_the_share_it_was_told():
    plane = np.arange(1000, dtype=float)
    scaled, low, high = measure.unit_range(plane, clip=98.0)
    assert (low, high) == (0.0, pytest.approx(979.02))
    assert scaled.max() == 1.0
    assert np.mean(scaled == 1.0) == pytest.approx(0.02, abs=0.002)
    assert measure.unit_range(plane, clip=98.0, rule="share")[2] == pytest.approx(0.98 * 999)
    assert (measure.unit_range(np.full((3, 3), 7.0))[0] == 0).all()


def test_signal_to_noise_by_hand():
    image = np.array([[10.0, 10.0], [1.0, 3.0]])
    mask = np.array([[1, 1], [0, 0]])
    assert measure.signal_to_noise(image, mask) == pytest.approx(10.0)
    assert measure.signal_to_noise(image, mask, "power") == pytest.approx(100 / 5)
    assert measure.decibel(10.0) == pytest.approx(20.0)
    assert measure.decibel(10.0, "power") == pytest.approx(10.0)
    assert measure.signal_to_noise(image, np.ones((2, 2))) is None
    assert measure.decibel(None) is None


def test_signal_to_error_leaves_offset_and_scale_out(pair):
    noisy, clean = pair
    found = measure.signal_to_error(noisy, clean)
    assert found == pytest.approx(10 * math.log10(clean.var() / np.mean((noisy - clean) ** 2)))
    assert measure.signal_to_error(3 * noisy + 500, 3 * clean + 500) == pytest.approx(found)
    assert measure.signal_to_error(np.full(clean.shape, clean.mean()), clean) == pytest.approx(0)
    assert measure.signal_to_error(clean, clean) is None and measure.signal_to_error([1.0], [2.0]) is None


def test_shapes_must_agree():
    with pytest.raises(InvalidDataError, match="shape"):
        measure.mse(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(InvalidDataError, match="data_range"):
        measure.psnr(np.zeros((2, 2)), np.ones((2, 2)), 0)
