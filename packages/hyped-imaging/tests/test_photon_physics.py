"""The noise that an image is made with is the noise that is read off it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from tests.photon_scenes import NOISELESS, SCENES, expose, noiseless, scene

from hyped_imaging.denoise.photon.fusion import fuse, halve, halved_noise
from hyped_imaging.denoise.physics import NoisePhysics, estimate_noise


def variance_of(residual, clean, level):
    near = np.abs(clean - level) <= np.quantile(np.abs(clean - level), 0.2)
    return residual[near].var()


@pytest.mark.parametrize(
    ("peak", "gain", "offset", "read", "bits"),
    [(50, 1, 0, 1, None), (500, 8, 100, 12, 14), (1000, 4, 50, 4, 12), (3000, 15, 1000, 30, 16), (100, 0.3, 2, 0.3, 8)],
)
def test_gain_offset_and_read_noise_of_a_camera(peak, gain, offset, read, bits):
    clean, noisy = expose(scene("smooth", 256), peak, gain, offset, read, bits=bits)
    noise = estimate_noise(noisy)
    rounding = 0 if bits is None else 1 / 12
    for level in np.quantile(clean, [0.1, 0.5, 0.9]):
        truth = gain * (level - offset) + read**2 + rounding
        assert noise.variance(level) == pytest.approx(truth, rel=0.15)
    assert noise.gain == pytest.approx(gain, rel=0.15)
    assert not noise.correlated and np.array_equal(noise.spectrum, np.ones((8, 8)))


@pytest.mark.parametrize("kind", SCENES)
def test_structures_pass_for_little_noise(kind):
    clean, noisy = expose(scene(kind, 256), 50, 1, 100, 1)
    noise = estimate_noise(noisy)
    for level in np.quantile(clean, [0.1, 0.5, 0.95]):
        assert 0.85 < noise.variance(level) / (level - 100 + 1) < 1.35


@pytest.mark.parametrize("photons", [30, 100, 300])
@pytest.mark.parametrize("density", [0.004, 0.01])
def test_points_of_light_do_not_pass_for_noise_alike_in_neighbours(photons, density):
    rng = np.random.default_rng(photons)
    image = gaussian_filter((rng.random((256, 256)) < density) * rng.uniform(0.3, 1, (256, 256)), 1.4)
    clean = 2 * photons * (image / image.max() + 0.1) + 100
    noise = estimate_noise(2 * rng.poisson((clean - 100) / 2) + 100.0)
    assert not noise.correlated
    for level in np.quantile(clean, [0.1, 0.5, 0.9]):
        assert 0.85 < noise.variance(level) / (2 * (level - 100)) < 1.35


@pytest.mark.parametrize("kind", NOISELESS)
def test_structures_without_noise_are_hardly_noise(kind):
    clean = noiseless(kind)
    assert estimate_noise(clean).variance(clean).mean() < (0.2 * clean.std()) ** 2


def test_noise_that_does_not_grow_with_the_signal():
    clean, noisy = expose(scene("discs", 256), 10_000, 0.01, 100, 10)
    noise = estimate_noise(noisy)
    assert all(noise.variance(level) == pytest.approx(100, rel=0.15) for level in (100.0, 150.0, 200.0))


def test_single_photons():
    """An eighth of a photon a pixel, most patches hold a few, some none."""
    rng = np.random.default_rng(0)
    clean = np.where(np.hypot(*np.ogrid[-128:128, -128:128]) < 70, 0.2, 0.01)
    noise = estimate_noise(rng.poisson(clean) * 30.0)
    assert noise.gain == pytest.approx(30, rel=0.15) and not noise.correlated


@pytest.mark.parametrize("width", [0.6, 0.8, 1.0])
@pytest.mark.parametrize("kind", ["discs", "smooth"])
def test_noise_alike_in_neighbours(width, kind):
    clean, noisy = expose(scene(kind, 256), 20, 1, 0, 2, blur=width)
    residual = noisy - clean
    noise = estimate_noise(noisy)
    assert noise.correlated and noise.spectrum.mean() == pytest.approx(1, abs=1e-5)
    for level in np.quantile(clean, [0.2, 0.5, 0.8]):
        assert noise.variance(level) == pytest.approx(variance_of(residual, clean, level), rel=0.25)
    flat = gaussian_filter(np.random.default_rng(5).standard_normal((512, 512)), width)
    truth = powers(flat / flat.std())
    assert np.allclose(noise.spectrum[1:4, 1:4], truth[1:4, 1:4], rtol=0.35)
    assert noise.spectrum[6, 6] < 0.1 * noise.spectrum[1, 1]


def powers(plane):
    """Mean squared DCT coefficients of patches, by scipy."""
    from scipy.fft import dctn

    patches = np.lib.stride_tricks.sliding_window_view(plane, (8, 8))[::4, ::4]
    return np.square(dctn(patches, axes=(2, 3), norm="ortho")).mean((0, 1))


def test_a_movie_tells_its_noise_better_than_a_frame():
    """Structures that stand still do not pass for noise in the differences of frames."""
    x = scene("filaments", 128)
    frames = [expose(x, 500, 1, 0, 1, blur=0.7, seed=t) for t in range(6)]
    stack, clean = np.stack([noisy for _, noisy in frames]), frames[0][0]
    truth = (stack - clean).var()
    movie, frame = (estimate_noise(part).variance(clean).mean() for part in (stack, stack[0]))
    assert movie == pytest.approx(truth, rel=0.15)
    assert abs(movie / truth - 1) < abs(frame / truth - 1)


def test_repeated_frames_are_not_free_of_noise():
    _, noisy = expose(scene("discs", 128), 50)
    once, twice = estimate_noise(noisy), estimate_noise(np.stack([noisy, noisy]))
    assert twice.variance(20.0) == pytest.approx(once.variance(20.0), rel=0.1)


@pytest.mark.parametrize("factor", [0.25, 1024.0, 3.7])
def test_noise_follows_the_camera_units(factor):
    _, noisy = expose(scene("discs", 128), 50, 1, 0, 1)
    one, other = estimate_noise(noisy), estimate_noise(noisy * factor + 1000 * factor)
    assert other.gain == pytest.approx(one.gain * factor, rel=1e-2)
    assert other.variance(1030.0 * factor) == pytest.approx(one.variance(30.0) * factor**2, rel=1e-2)
    assert other.floor == pytest.approx(one.floor * factor**2, rel=1e-2)


def test_a_known_gain_is_used_where_the_image_agrees():
    _, noisy = expose(scene("discs", 128), 50, 2, 0, 1)
    free, known, wrong = (estimate_noise(noisy, gain) for gain in (None, 2.0, 40.0))
    level = float(np.median(noisy))
    scale = known.gain / 2.0
    assert 1 <= scale <= 1.3 and wrong.gain == free.gain
    assert known.variance(level) == pytest.approx(free.variance(level), rel=0.1)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_what_was_filled_in_around_a_mosaic_is_no_quiet_place(share):
    clean, noisy = expose(scene("discs", 256), 50, 2, 100, 3)
    whole = estimate_noise(noisy)
    noisy[: int(share * 256)] = 0
    assert estimate_noise(noisy).variance(130.0) == pytest.approx(whole.variance(130.0), rel=0.15)


@pytest.mark.parametrize("plane", [np.zeros((40, 40)), np.full((40, 40), 65535), np.ones((3, 100)), np.eye(5)])
def test_no_noise_where_nothing_varies_or_nothing_fits(plane):
    noise = estimate_noise(plane)
    assert (noise.gain, noise.offset, noise.floor) == (0, 0, 0)


@pytest.mark.parametrize("shape", [(64, 64), (65, 33), (24, 101)])
def test_halving_keeps_the_mean_and_white_noise_white(shape):
    rng = np.random.default_rng(1)
    plane = rng.standard_normal(shape).astype(np.float32) + 100
    small = halve(plane)
    assert small.shape == (shape[0] // 2, shape[1] // 2) and small.mean() == pytest.approx(plane.mean(), rel=1e-4)
    assert small.std() == pytest.approx(0.5, rel=0.15)
    assert np.allclose(fuse(plane, small, 0.4, 0.8), plane, atol=1e-3)


def test_what_the_noise_becomes_at_half_the_size():
    rng = np.random.default_rng(2)
    field = gaussian_filter(rng.standard_normal((512, 512)), 0.9).astype(np.float32)
    field /= field.std()
    spectrum = powers(field)
    noise = NoisePhysics(2.0, 1.0, 0.5, (spectrum / spectrum.mean()).astype(np.float32), True)
    half = halved_noise(noise)
    truth = powers(halve(field))
    assert np.allclose(half.spectrum * half.variance(0.0), truth, rtol=0.35)  # patches of 8 pixels smear the peak
    assert half.gain / half.offset == pytest.approx(2) and half.spectrum.mean() == pytest.approx(1, abs=1e-5)
