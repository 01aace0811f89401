"""Denoising controls: what they gain on known truth, their rules, and bad input of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_bench.controls.denoise import GRID_PX, Gaussian, GaussianConfig, Identity, Median, blur, estimated_errors
from hyped_bench.controls.denoise_nlm import NonLocalMeans, stabilise, unstabilise
from hyped_bench.controls.denoise_noise import NoiseModel, fit_noise, line, noise_sigma
from hyped_bench.controls.denoise_tv import TotalVariation
from hyped_core.context import RunContext
from hyped_core.contracts import Denoiser, ImageMeta
from hyped_core.errors import InvalidDataError

CONTEXT = RunContext()
META = ImageMeta(channel="Cy5", data_range=(0, 16383))
SMOOTHING = [Gaussian(), Median(), TotalVariation(), NonLocalMeans()]
ALL = [Identity(), Gaussian(GaussianConfig(sigma_px=2.0)), *SMOOTHING]


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
    drawn = rng.poisson(np.maximum(clean - 100, 0) / gain) * gain + 100 + read * rng.standard_normal(clean.shape)
    return np.clip(drawn, 0, 16383).astype(np.uint16)


@pytest.mark.parametrize("model", SMOOTHING)
def test_error_falls_by_far_and_brightness_stays(model):
    clean = scene()
    noisy = expose(clean)
    out = model.denoise(np.stack([noisy, noisy]), META, context=CONTEXT)
    assert isinstance(model, Denoiser)
    assert np.mean((out[0] - clean) ** 2) < 0.35 * np.mean((noisy - clean) ** 2)
    assert abs(out[0].mean() / clean.mean() - 1) < 0.01
    assert np.array_equal(out[0], out[1])


@pytest.mark.parametrize("model", SMOOTHING)
def test_a_camera_with_another_gain_gives_the_same_picture(model):
    noisy = expose(scene()).astype(np.float32)
    plain = model.denoise(noisy[None], META, context=CONTEXT)
    scaled = model.denoise(noisy[None] * 4, META, context=CONTEXT)
    assert np.allclose(scaled, 4 * plain, rtol=0.01, atol=8)


@pytest.mark.parametrize("model", ALL)
def test_nothing_leaks_from_plane_to_plane(model):
    stack = np.zeros((3, 20, 20), np.uint16)
    stack[1] = 100
    result = model.denoise(stack, META, context=CONTEXT)
    assert (result[0] == 0).all() and (result[1] == 100).all()


def test_blur_lowers_noise_as_theory_says():
    noise = np.random.default_rng(0).normal(0, 1, (1, 300, 300)).astype(np.float32)
    result = Gaussian(GaussianConfig(sigma_px=2.0)).denoise(noise, META, context=CONTEXT)
    assert result.std() == pytest.approx(1 / (2 * np.sqrt(np.pi) * 2.0), rel=0.05)


DTYPES = st.sampled_from([np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])


@settings(max_examples=25, deadline=None)
@given(
    model=st.sampled_from(ALL),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 33), st.integers(1, 33)),
    dtype=DTYPES,
    kind=st.sampled_from(["constant", "saturated", "zero", "negative", "noise", "one bright pixel"]),
    seed=st.integers(0, 99),
)
def test_any_image_comes_back_with_its_shape_range_and_input_unchanged(model, shape, dtype, kind, seed):
    rng = np.random.default_rng(seed)
    top = float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1.0
    stack = np.full(shape, 0.3 * top)
    if kind == "saturated":
        stack = np.where(rng.random(shape) < 0.5, top, 0.1 * top)
    elif kind == "zero":
        stack = np.zeros(shape)
    elif kind == "negative" and np.dtype(dtype).kind != "u":
        stack = -0.2 * top + 0.05 * top * rng.standard_normal(shape)
    elif kind == "noise":
        stack = np.clip(0.4 * top + 0.1 * top * rng.standard_normal(shape), 0, top)
    elif kind == "one bright pixel":
        stack[0, 0, 0] = top
    stack = stack.astype(dtype)
    before = stack.copy()
    out = model.denoise(stack, META, context=CONTEXT)
    assert out.shape == shape and out.dtype == np.float32 and np.isfinite(out).all()
    assert np.array_equal(stack, before) and not np.shares_memory(out, stack)
    low, high = float(stack.min()), float(stack.max())
    slack = 1e-5 * max(abs(low), abs(high))
    assert low - slack <= out.min() and out.max() <= high + slack
    if low == high:
        assert np.allclose(out, low, rtol=1e-6)


@pytest.mark.parametrize("model", ALL)
def test_bad_input_is_refused(model):
    bad = np.zeros((2, 16, 16), np.float32)
    bad[1, 3, 4:6] = np.nan, np.inf
    with pytest.raises(InvalidDataError, match=r"NaN or infinite pixels in 1 of 2 frames \(frame 1: 2\)"):
        model.denoise(bad, META, context=CONTEXT)
    for wrong in (np.zeros((16, 16)), np.zeros((0, 4, 4)), np.zeros((1, 4, 4), complex), np.full((1, 2, 2), "a")):
        with pytest.raises(InvalidDataError, match="expected numbers"):
            model.denoise(wrong, META, context=CONTEXT)


@pytest.mark.parametrize("sigma", [0.7, 1.2, 2.0])
def test_the_estimated_error_of_a_blur_is_its_true_error(sigma):
    rng = np.random.default_rng(0)
    clean = scene((256, 256))
    noisy = (clean + 60 * rng.standard_normal(clean.shape)).astype(np.float32)
    blurs = {s: blur(noisy, s) for s in (0.0, sigma)}
    estimate = estimated_errors(noisy, blurs, NoiseModel(0.0, 3600.0, 3600.0))
    assert estimate[sigma] == pytest.approx(np.mean((blurs[sigma] - clean) ** 2), rel=0.1)
    assert estimate[0.0] == pytest.approx(3600)


def test_the_width_follows_the_noise_and_is_recorded():
    clean = scene((200, 200))
    rng = np.random.default_rng(1)
    model = Gaussian()
    model.denoise(np.stack([clean + s * rng.standard_normal(clean.shape) for s in (20, 300)]), META, context=CONTEXT)
    assert len(model.chosen["sigma_px"]) == 2 and 0 < model.chosen["sigma_px"][0] < model.chosen["sigma_px"][1]
    fixed = Gaussian(GaussianConfig(sigma_px=1.5))
    fixed.denoise(clean[None], META, context=CONTEXT)
    assert fixed.chosen == {"sigma_px": (1.5,)}


def test_the_width_is_near_the_best_for_correlated_noise_too():
    """Noise smeared over neighbours hides from differences of neighbours; the rule still sees it."""
    clean = scene((256, 256)) / 10
    rng = np.random.default_rng(2)
    noise = blur(rng.standard_normal(clean.shape).astype(np.float32), 0.8)
    noisy = (clean + 15 * noise / noise.std()).astype(np.float32)
    model = Gaussian()
    out = model.denoise(noisy[None], META, context=CONTEXT)[0]
    errors = {s: float(np.mean((blur(noisy, s) - clean) ** 2)) for s in GRID_PX}
    assert fit_noise(noisy).correlation > 0.3
    assert fit_noise(noisy).variance == pytest.approx(225, rel=0.35)
    assert np.mean((out - clean) ** 2) < 1.25 * min(errors.values())


def test_noise_of_white_noise():
    rng = np.random.default_rng(0)
    plane = (100 + 7 * rng.standard_normal((200, 200))).astype(np.float32)
    assert noise_sigma(plane) == pytest.approx(7, rel=0.03)
    model = fit_noise(plane)
    assert model.sigma(100) == pytest.approx(7, rel=0.1) and model.variance == pytest.approx(49, rel=0.05)
    assert model.correlation == 0


def test_noise_grows_with_the_signal_by_the_gain():
    yy, _ = np.mgrid[:256, :256]
    noisy = expose(100.0 + 8 * yy, gain=8.0, read=12.0).astype(np.float32)
    model = fit_noise(noisy)
    assert model.gain == pytest.approx(8, rel=0.15)
    assert model.sigma(1100) == pytest.approx(np.sqrt(8 * 1000 + 144), rel=0.1)
    assert model.variance == pytest.approx(8 * (8 * yy).mean() + 144, rel=0.1)


def test_line_ignores_outliers():
    x = np.arange(20.0)
    y = 3 * x + 2
    y[4] = 500
    assert line(x, y) == pytest.approx((3, 2))
    assert line(x, -x)[0] == 0


@pytest.mark.parametrize("noise", [NoiseModel(8.0, -656.0), NoiseModel(0.0, 25.0), NoiseModel(0.0, 0.0)])
def test_the_map_goes_there_and_back(noise):
    values = np.linspace(500, 4000, 50)
    assert np.allclose(unstabilise(stabilise(values, noise), noise), values, rtol=0.02)  # unbiased, not exact


def test_the_map_makes_noise_even():
    noise = NoiseModel(8.0, -656.0)
    spreads = [
        np.std(stabilise(expose(np.full((120, 120), level)).astype(float), noise)) for level in (400.0, 1000.0, 4000.0)
    ]
    assert spreads == pytest.approx([1, 1, 1], rel=0.06)
