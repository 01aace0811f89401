"""Classical denoisers against a clean image that is known."""

from __future__ import annotations

import numpy as np
import pytest

from hyped_core.context import RunContext
from hyped_core.contracts import Denoiser, ImageMeta
from hyped_core.errors import InvalidDataError
from hyped_imaging.denoise.nlm import NonLocalMeans, stabilise, unstabilise
from hyped_imaging.denoise.noise import NoiseModel, fit_noise, line, noise_sigma
from hyped_imaging.denoise.tv import TotalVariation

CONTEXT = RunContext()
META = ImageMeta(channel="Cy5", data_range=(0, 16383))
MODELS = [TotalVariation(), NonLocalMeans()]


def scene(shape=(96, 112)):
    """Smooth discs on a dark background, camera units."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    clean = np.full(shape, 250.0)
    for y, x, r, level in [(25, 30, 12, 900), (60, 70, 16, 1800), (30, 90, 9, 500)]:
        clean += level / (1 + np.exp(np.hypot(yy - y, xx - x) - r))
    return clean


def expose(clean, gain=8.0, read=12.0, seed=0):
    """Shot noise at ``gain`` camera units an electron, and read noise."""
    rng = np.random.default_rng(seed)
    noisy = (
        rng.poisson(np.maximum(clean - 100, 0) / gain) * gain + 100 + read * rng.standard_normal(clean.shape)
    )
    return np.clip(noisy, 0, 16383).astype(np.uint16)


@pytest.mark.parametrize("model", MODELS)
def test_error_falls_by_far_and_brightness_stays(model):
    clean = scene()
    noisy = expose(clean)
    out = model.denoise(np.stack([noisy, noisy]), META, context=CONTEXT)
    assert isinstance(model, Denoiser)
    assert out.shape == (2, *clean.shape) and out.dtype == np.float32
    before = np.mean((noisy - clean) ** 2)
    assert np.mean((out[0] - clean) ** 2) < 0.3 * before
    assert abs(out[0].mean() / clean.mean() - 1) < 0.01
    assert np.array_equal(out[0], out[1])


@pytest.mark.parametrize("model", MODELS)
def test_a_camera_with_another_gain_gives_the_same_picture(model):
    noisy = expose(scene()).astype(np.float32)
    plain = model.denoise(noisy[None], META, context=CONTEXT)
    scaled = model.denoise(noisy[None] * 4, META, context=CONTEXT)
    assert np.allclose(scaled, 4 * plain, rtol=0.01, atol=8)


@pytest.mark.parametrize("model", MODELS)
def test_constant_and_tiny_frames_come_back(model):
    for shape in [(1, 40, 40), (2, 4, 3), (1, 1, 1)]:
        out = model.denoise(np.full(shape, 321, np.uint16), META, context=CONTEXT)
        assert out.shape == shape and out.dtype == np.float32 and np.allclose(out, 321)


@pytest.mark.parametrize("model", MODELS)
def test_bad_input_is_refused(model):
    bad = np.full((1, 16, 16), np.nan, np.float32)
    with pytest.raises(InvalidDataError, match="NaN"):
        model.denoise(bad, META, context=CONTEXT)
    with pytest.raises(InvalidDataError, match="expected numbers"):
        model.denoise(np.zeros((16, 16)), META, context=CONTEXT)


@pytest.mark.parametrize("model", MODELS)
def test_input_is_left_alone(model):
    noisy = expose(scene())
    before = noisy.copy()
    model.denoise(noisy[None], META, context=CONTEXT)
    assert np.array_equal(noisy, before)


def test_noise_of_white_noise():
    rng = np.random.default_rng(0)
    plane = (100 + 7 * rng.standard_normal((200, 200))).astype(np.float32)
    assert noise_sigma(plane) == pytest.approx(7, rel=0.03)
    model = fit_noise(plane)
    assert model.sigma(100) == pytest.approx(7, rel=0.1)


def test_noise_grows_with_the_signal_by_the_gain():
    yy, _ = np.mgrid[:256, :256]
    clean = 100.0 + 8 * yy
    noisy = expose(clean, gain=8.0, read=12.0).astype(np.float32)
    model = fit_noise(noisy)
    assert model.gain == pytest.approx(8, rel=0.15)
    assert model.sigma(1100) == pytest.approx(np.sqrt(8 * 1000 + 144), rel=0.1)


def test_line_ignores_outliers():
    x = np.arange(20.0)
    y = 3 * x + 2
    y[4] = 500
    assert line(x, y) == pytest.approx((3, 2))
    assert line(x, -x)[0] == 0


@pytest.mark.parametrize("noise", [NoiseModel(8.0, -656.0), NoiseModel(0.0, 25.0), NoiseModel(0.0, 0.0)])
def test_the_map_goes_there_and_back(noise):
    values = np.linspace(500, 4000, 50)
    back = unstabilise(stabilise(values, noise), noise)
    assert np.allclose(back, values, rtol=0.02)  # the inverse is unbiased for noisy values, not exact


def test_the_map_makes_noise_even():
    noise = NoiseModel(8.0, -656.0)
    spreads = [
        np.std(stabilise(expose(np.full((120, 120), level)).astype(float), noise))
        for level in (400.0, 1000.0, 4000.0)
    ]
    assert spreads == pytest.approx([1, 1, 1], rel=0.06)
