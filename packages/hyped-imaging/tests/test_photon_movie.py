"""Denoising a movie together: what neighbouring frames give, and what they must not do."""

import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hyped_core.context import RunContext, SilentProgress
from hyped_core.contracts import ImageMeta
from hyped_imaging.denoise.photon.model import Photon, PhotonConfig
from hyped_imaging.denoise.photon.movie import denoise_movie, frame_light, stream_movie
from hyped_imaging.denoise.physics import NoisePhysics, estimate_noise

GAIN, ZERO, READ = 6.0, 100.0, 8.0
PHYSICS = NoisePhysics(GAIN, READ**2 - GAIN * ZERO, READ**2, np.ones((8, 8), np.float32), False)
EDGE, RADIUS = 96, 9


def scene(frames: int, step: float = 4.0, seed: int = 0, gone_after: int | None = None) -> np.ndarray:
    """Clean movie (t, y, x): textured discs that walk over a still background; the first may vanish."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:EDGE, :EDGE].astype(float)
    places, ways = rng.uniform(15, 81, (5, 2)), rng.uniform(0, 2 * np.pi, 5)
    places[0] = 40, 40
    movie = np.full((frames, EDGE, EDGE), 230.0) + 30 * np.sin(x / 15) * np.cos(y / 20)
    for t in range(frames):
        for i, (place, way) in enumerate(zip(places, ways, strict=True)):
            if i == 0 and gone_after is not None and t > gone_after:
                continue
            v, u = place + step * (t - frames // 2) * np.array([np.sin(way), np.cos(way)])
            disc = 1 / (1 + np.exp(2 * (np.hypot(y - v, x - u) - RADIUS)))
            movie[t] += (600 + 150 * i) * disc * (1 + 0.15 * np.cos(0.7 * (y - v)) * np.sin(0.7 * (x - u) + i))
    return np.stack([gaussian_filter(plane, 1.0) for plane in movie]).astype(np.float32)


def expose(clean: np.ndarray, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(np.maximum(clean - ZERO, 0) / GAIN)
    return (electrons * GAIN + ZERO + rng.normal(0, READ, clean.shape)).astype(np.float32)


def together(noisy: np.ndarray, neighbours: int = 3, threads: int = 1) -> np.ndarray:
    context = RunContext(progress=SilentProgress(), threads=threads)
    return denoise_movie(noisy, PHYSICS, PhotonConfig(neighbours=neighbours), context)


def decibel(result: np.ndarray, clean: np.ndarray) -> float:
    errors = ((result - clean) ** 2).mean(axis=(1, 2))
    return float(np.mean(10 * np.log10(np.ptp(clean) ** 2 / errors)))


def rms(values: np.ndarray) -> float:
    return float(np.sqrt((values.astype(np.float64) ** 2).mean()))


@pytest.fixture(scope="module")
def walking() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Clean, noisy, denoised frame by frame, denoised together."""
    clean = scene(9)
    noisy = expose(clean)
    return clean, noisy, together(noisy, 0), together(noisy)


def test_together_beats_alone_by_a_decibel_also_in_what_moves(walking) -> None:
    clean, noisy, alone, joint = walking
    assert decibel(alone, clean) > decibel(noisy, clean) + 6
    assert decibel(joint, clean) > decibel(alone, clean) + 1
    moving = clean > 400
    assert rms((joint - clean)[moving]) < rms((alone - clean)[moving])
    left = (np.roll(clean, 1, 0) > 400) & ~moving  # where a disc was a frame ago
    left[0] = False
    assert rms((joint - clean)[left]) < 1.05 * rms((alone - clean)[left])


def test_means_are_kept_and_the_input_is_left_alone(walking) -> None:
    _, noisy, _, joint = walking
    assert (noisy == expose(scene(9))).all()
    np.testing.assert_allclose(joint.mean((1, 2)), noisy.mean((1, 2)), rtol=1e-3)
    assert joint.dtype == np.float32 and joint.shape == noisy.shape


def test_a_nucleus_that_vanishes_leaves_no_ghost() -> None:
    clean = scene(7, step=0.0, gone_after=3)
    noisy = expose(clean)
    joint = together(noisy)
    y, x = np.mgrid[:EDGE, :EDGE]
    place = np.hypot(y - 40, x - 40) < RADIUS - 2
    there = clean[3][place].mean() - clean[4][place].mean()
    assert there > 200
    for t in range(7):
        off = float((joint[t] - clean[t])[place].mean())
        own = rms((noisy - clean)[t][place]) / np.sqrt(place.sum())
        assert abs(off) < 4 * own + 0.02 * there, t


def test_a_stage_that_drifts_does_no_harm() -> None:
    still = scene(7, step=1.0)
    clean = np.stack([np.roll(plane, (2 * t, -3 * t), (0, 1)) for t, plane in enumerate(still)])
    noisy = expose(clean)
    assert decibel(together(noisy), clean) > decibel(together(noisy, 0), clean) + 0.7


@pytest.mark.parametrize("lost", ["black", "dark", "saturated"])
def test_a_lost_frame_changes_nothing_around_it(lost: str) -> None:
    clean = scene(7)
    noisy = expose(clean)
    dark = expose(np.full((1, EDGE, EDGE), ZERO, np.float32))[0]
    noisy[3] = {"black": np.zeros_like(dark), "dark": dark, "saturated": np.full_like(dark, 16383)}[lost]
    joint = together(noisy)
    others = [0, 1, 2, 4, 5, 6]
    assert decibel(joint[others], clean[others]) > decibel(together(noisy, 0)[others], clean[others]) + 0.8
    assert abs(joint[3].mean() - noisy[3].mean()) < 0.5
    assert (joint[3] == noisy[3]).all() if lost != "dark" else joint[3].std() < 0.3 * dark.std()


def test_flicker_and_bleaching_are_followed() -> None:
    light = np.array([1.0, 0.82, 1.15, 0.95, 0.8, 1.1, 0.9])
    clean = ((scene(7) - ZERO) * light[:, None, None] + ZERO).astype(np.float32)
    noisy = expose(clean)
    found = frame_light(noisy.__getitem__, len(noisy), PHYSICS)
    np.testing.assert_allclose(found.factor, light, rtol=0.03)
    assert found.usable.all()
    joint = together(noisy)
    assert decibel(joint, clean) > decibel(together(noisy, 0), clean) + 0.8
    np.testing.assert_allclose(joint.mean((1, 2)), noisy.mean((1, 2)), rtol=1e-3)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_movies(frames: int) -> None:
    clean = scene(frames)
    noisy = expose(clean)
    assert decibel(together(noisy), clean) > decibel(noisy, clean) + 6


def test_threads_do_not_change_the_result() -> None:
    noisy = expose(scene(3))[:, :83, :71]
    assert (together(noisy, 1, threads=1) == together(noisy, 1, threads=3)).all()


def test_frames_further_than_the_neighbours_have_no_influence() -> None:
    noisy = expose(scene(6))
    changed = noisy.copy()
    changed[5] = expose(scene(6), seed=9)[5]
    reach = 2 * 1 * 2  # two passes, each of which takes from and gives to one neighbour
    one, two = together(noisy, 1), together(changed, 1)
    assert (one[: 5 - reach] == two[: 5 - reach]).all()
    assert (one[5] != two[5]).any()


def test_units_do_not_matter() -> None:
    noisy = expose(scene(3))
    context = RunContext(progress=SilentProgress())
    config = PhotonConfig(neighbours=1)
    scaled = denoise_movie(noisy * np.float32(0.01), PHYSICS.of_units(0.0, 100.0), config, context)
    np.testing.assert_allclose(scaled * 100, denoise_movie(noisy, PHYSICS, config, context), rtol=0.02, atol=1.0)


def test_strength_is_followed() -> None:
    noisy = expose(scene(3))
    context = RunContext(progress=SilentProgress())
    weak, strong = (
        denoise_movie(noisy, PHYSICS, PhotonConfig(neighbours=1, strength=strength), context) for strength in (0.3, 1.0)
    )
    assert rms(noisy - weak) < 0.9 * rms(noisy - strong)


def test_without_noise_and_when_tiny_frames_come_back() -> None:
    clean = scene(2)
    quiet = NoisePhysics(0.0, 0.0, 0.0, np.ones((8, 8), np.float32), False)
    context = RunContext(progress=SilentProgress())
    assert (denoise_movie(clean, quiet, PhotonConfig(neighbours=1), context) == clean).all()
    tiny = expose(clean)[:, :5, :30]
    assert (together(tiny) == tiny).all()
    small = expose(clean)[:, :9, :11]
    assert np.isfinite(together(small)).all()


@pytest.mark.parametrize("frames", [[0], [5, 6], [0, 1, 13], list(range(14))])
def test_frames_asked_for_are_those_of_the_whole_movie(frames: list[int]) -> None:
    """The same pixels wherever the work starts and whatever is left out between."""
    noisy = expose(scene(14))[:, :64, :60]
    noisy[3] *= 0.8  # light is followed from the first frame, wherever the work starts
    config = PhotonConfig(neighbours=1)
    whole = together(noisy, 1)
    found = list(stream_movie(noisy.__getitem__, len(noisy), PHYSICS, config, 1, frames))
    assert len(found) == len(frames)
    for t, plane in zip(frames, found, strict=True):
        assert (plane == whole[t]).all(), t


def test_what_is_held_does_not_grow_with_the_movie() -> None:
    noisy = expose(scene(8))[:, :48, :48].copy()
    most = {}
    for count in (12, 36):
        tracemalloc.start()
        for _ in stream_movie(lambda t: noisy[t % 8].copy(), count, PHYSICS, PhotonConfig(neighbours=1)):
            most[count] = max(most.get(count, 0), tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    plane = noisy[0].nbytes
    assert most[36] - most[12] < 24 * 0.1 * plane
    assert most[36] < (3 * 11 + 12) * plane


def test_the_noise_fitted_is_kept() -> None:
    """With it a part of the movie is denoised as within the whole, by both ways of asking."""
    noisy, meta, context = expose(scene(6))[:, :64, :64], ImageMeta(), RunContext()
    model = Photon(PhotonConfig(neighbours=1))
    model.fit(noisy[::2], meta, context=context)
    kept = denoise_movie(noisy, estimate_noise(noisy[::2]), model.config, context)
    assert (model.denoise(noisy, meta, context=context) == kept).all()
    some = model.denoise_frames(noisy.__getitem__, 6, meta, context=context, frames=[3])
    assert (next(some) == kept[3]).all()
    other = Photon(model.config)
    own = other.denoise(noisy, meta, context=context)
    assert (own != kept).any()
    assert (np.stack(list(other.denoise_frames(noisy.__getitem__, 6, meta, context=context))) == own).all()
