"""The denoiser ``photon`` as it is called: what it promises for any stack of numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.photon_scenes import NOISELESS, expose, noiseless, scene

from hyped_core.context import RunContext
from hyped_core.contracts import Denoiser, ImageMeta
from hyped_core.errors import InvalidDataError
from hyped_imaging.denoise.photon.model import Photon, PhotonConfig

CONTEXT = RunContext()
META = ImageMeta(channel="Cy5")
ALONE = PhotonConfig(neighbours=0)


def denoise(stack, config=ALONE, **context):
    return Photon(config).denoise(np.asarray(stack), META, context=RunContext(**context))


def psnr(image, clean):
    return 10 * np.log10(np.ptp(clean) ** 2 / max(np.mean((image - clean) ** 2), 1e-30))


@given(
    st.sampled_from([np.uint8, np.uint16, np.int16, np.float32, np.float64]).flatmap(
        lambda dtype: arrays(
            dtype,
            st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40)),
            elements=st.integers(0, 255) if np.dtype(dtype).kind != "f" else st.floats(-1e4, 1e4, width=32),
        )
    )
)
@settings(max_examples=40, deadline=None)
def test_shape_type_and_range_are_kept_and_the_input_is_left_alone(stack):
    before = stack.copy()
    result = denoise(stack)
    assert result.shape == stack.shape and result.dtype == np.float32 and np.isfinite(result).all()
    assert np.array_equal(stack, before) and not np.shares_memory(result, stack)
    for frame, given_frame in zip(result, stack.astype(np.float32), strict=True):
        assert given_frame.min() <= frame.min() and frame.max() <= given_frame.max()


@given(st.integers(0, 10_000), st.sampled_from([2.0**-12, 0.25, 8.0, 2.0**9]), st.sampled_from(["discs", "spots"]))
@settings(max_examples=6, deadline=None)
def test_a_power_of_two_scales_the_result_to_the_bit(seed, factor, kind):
    _, noisy = expose(scene(kind, 64, seed), peak=20, offset=10, seed=seed)
    assert np.array_equal(denoise(noisy[None] * np.float32(factor)), denoise(noisy[None]) * np.float32(factor))


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
@settings(max_examples=6, deadline=None)
def test_any_factor_scales_the_result(seed, factor):
    clean, noisy = expose(scene("discs", 64, seed), peak=20, seed=seed)
    apart = denoise(noisy[None] * np.float32(factor)) / factor - denoise(noisy[None])
    assert np.abs(apart).max() < 0.5 * (noisy - clean).std()  # rounding may change which patch is the nearest
    assert np.abs(apart).mean() < 0.02 * (noisy - clean).std()


@given(st.integers(0, 10_000), st.integers(-2000, 30_000))
@settings(max_examples=6, deadline=None)
def test_an_offset_shifts_the_result(seed, offset):
    clean, noisy = expose(scene("discs", 64, seed), peak=20, bits=16, seed=seed)
    apart = denoise(noisy[None] + np.float32(offset)) - np.float32(offset) - denoise(noisy[None])
    assert np.abs(apart).mean() < 0.02 * (noisy - clean).std()


@pytest.mark.parametrize("kind", NOISELESS)
@pytest.mark.parametrize("levels", [None, 200, 3000])
def test_an_image_without_noise_comes_back(kind, levels):
    """Structures, however many and fine, are no noise: not where they are rounded to 8 or 12 bits either."""
    clean = noiseless(kind) * 1000 if levels is None else np.rint(noiseless(kind) * levels)
    assert psnr(denoise(clean[None])[0], clean) > 45


@pytest.mark.parametrize("value", [0, 255, 65535, -7.25])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 30), (2, 8, 8), (1, 50, 61)])
def test_constant_frames_stay_constant(value, shape):
    assert np.array_equal(denoise(np.full(shape, value)), np.full(shape, value, np.float32))


def test_frames_of_less_than_a_patch_come_back():
    stack = np.arange(7 * 40).reshape(1, 7, 40) % 13
    assert np.array_equal(denoise(stack), stack.astype(np.float32))


def test_saturated_nuclei_stay_saturated():
    clean, noisy = expose(scene("discs", 160), peak=1000, gain=1, read=5)
    noisy = np.minimum(noisy, 300)
    result = denoise(noisy[None])[0]
    assert result[clean > 500].mean() > 298


def test_brightness_stays():
    for peak in (2, 50):
        clean, noisy = expose(scene("discs", 160), peak=peak, gain=3, offset=100)
        assert denoise(noisy[None]).mean() - 100 == pytest.approx(noisy.mean() - 100, rel=0.02)
        assert clean.mean() - 100 == pytest.approx(noisy.mean() - 100, rel=0.02)


def test_the_same_bytes_again_and_with_more_threads():
    _, noisy = expose(scene("texture", 200), peak=30)
    assert denoise(noisy[None]).tobytes() == denoise(noisy[None]).tobytes()
    assert denoise(noisy[None]).tobytes() == denoise(noisy[None], threads=3, seed=9).tobytes()


def test_frames_alone_do_not_know_each_other():
    frames = np.stack([expose(scene("discs", 96), peak=10, seed=t)[1] for t in range(3)])
    result = denoise(frames)
    assert all(np.array_equal(result[t : t + 1], denoise(frames[t : t + 1])) for t in range(3))


def test_strength_says_how_much_is_taken_off():
    _, noisy = expose(scene("texture", 128), peak=30)
    taken = [np.abs(denoise(noisy[None], PhotonConfig(strength=s, neighbours=0)) - noisy).mean() for s in (0.5, 1, 2)]
    assert taken[0] < taken[1] < taken[2]


def test_bad_pixels_are_refused_by_frame():
    stack = np.zeros((3, 20, 20))
    stack[2, 4, 4:7] = np.nan
    with pytest.raises(InvalidDataError, match="frame 2: 3"):
        denoise(stack)
    with pytest.raises(InvalidDataError, match="expected numbers"):
        denoise(np.zeros((20, 20)))


def test_it_is_a_denoiser():
    assert isinstance(Photon(), Denoiser)
