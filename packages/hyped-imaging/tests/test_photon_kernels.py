"""The compiled kernels of the denoiser `photon` against plain numpy and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn
from scipy.linalg import hadamard as hadamard_matrix

from hyped_imaging.denoise.photon.filtering import dct_rows, filter_groups, hadamard, inverse_dct_rows
from hyped_imaging.denoise.photon.matching import PATCH, match_patches, trim_groups

ONES = np.ones((PATCH, PATCH), np.float32)


def textured(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def distances(stack: np.ndarray, frame: int, y: int, x: int, radius: int, frames: list[int]) -> dict[int, float]:
    """Corner -> squared distance, by brute force in float64."""
    height, width = stack.shape[1:]
    wide = stack.astype(np.float64)
    own = wide[frame, y : y + PATCH, x : x + PATCH]
    return {
        (t * height + v) * width + u: float(((own - wide[t, v : v + PATCH, u : u + PATCH]) ** 2).sum())
        for t in frames
        for v in range(max(0, y - radius), min(height - PATCH, y + radius) + 1)
        for u in range(max(0, x - radius), min(width - PATCH, x + radius) + 1)
    }


@pytest.mark.parametrize(("frames", "radius", "count"), [([1], 4, 8), ([0, 1, 2], 3, 16), ([0, 1], 9, 4)])
def test_matches_are_the_nearest_patches(frames: list[int], radius: int, count: int) -> None:
    stack = textured((3, 23, 29))
    rows, columns = np.array([0, 5, 15], np.int32), np.array([0, 7, 13, 21], np.int32)
    index, found = match_patches(stack, 1, rows, columns, radius, np.array(frames, np.int32), count)
    assert (found == count).all()
    for a, y in enumerate(rows):
        for b, x in enumerate(columns):
            all_of_them = distances(stack, 1, int(y), int(x), radius, frames)
            mine = [all_of_them[int(i)] for i in index[a, b]]
            assert index[a, b, 0] == (1 * 23 + y) * 29 + x
            assert len(set(index[a, b].tolist())) == count
            np.testing.assert_allclose(mine, sorted(all_of_them.values())[:count], rtol=1e-4)


def test_few_candidates_give_the_largest_power_of_two() -> None:
    stack = textured((1, 8, 13))
    zero = np.zeros(1, np.int32)
    index, found = match_patches(stack, 0, zero, zero, 20, zero, 16)
    assert found[0, 0] == 4  # six places
    assert sorted(index[0, 0, :4].tolist())[0] == 0
    alone, one = match_patches(textured((1, 8, 8)), 0, zero, zero, 20, zero, 16)
    assert one[0, 0] == 1 and alone[0, 0, 0] == 0


def test_trimming_keeps_only_what_is_near_enough() -> None:
    stack = textured((2, 30, 30))
    rows = np.array([0, 11, 22], np.int32)
    index, found = match_patches(stack, 0, rows, rows, 6, np.arange(2, dtype=np.int32), 16)
    assert (found == 16).all()
    limit = np.full(found.shape, 2 * 64 * 20.0**2 * 0.9, np.float32)
    trim_groups(stack, index, found, limit)
    for a, y in enumerate(rows):
        for b, x in enumerate(rows):
            near = distances(stack, 0, int(y), int(x), 6, [0, 1])
            ranked = [near[int(i)] for i in index[a, b]]
            n = int(found[a, b])
            assert max(ranked[:n]) <= limit[a, b]
            assert n == 16 or ranked[2 * n - 1] > limit[a, b]
    assert (found < 16).any() and (found > 1).any()


@given(st.integers(0, 5), st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_transforms_are_orthonormal(power: int, seed: int) -> None:
    n = 2**power
    values = textured((PATCH, n, PATCH), seed)
    g = values.ravel().copy()
    dct_rows(g, n * PATCH)
    np.testing.assert_allclose(g.reshape(values.shape), dctn(values, norm="ortho", axes=0), atol=2e-3)
    np.testing.assert_allclose((g.astype(float) ** 2).sum(), (values.astype(float) ** 2).sum(), rtol=1e-5)
    inverse_dct_rows(g, n * PATCH)
    np.testing.assert_allclose(g, values.ravel(), atol=2e-3)
    hadamard(g, n)
    by_matrix = np.einsum("kl,ilj->ikj", hadamard_matrix(n) / np.sqrt(n), values)
    np.testing.assert_allclose(g.reshape(values.shape), by_matrix, atol=5e-3)
    hadamard(g, n)
    np.testing.assert_allclose(g, values.ravel(), atol=5e-3)


def plainly(noisy, pilot, index, found, spectrum, gain, offset, floor, strength, wiener, window):
    """`filter_groups` in numpy, float64."""
    width = noisy.shape[2]
    sums = np.zeros((2, noisy.size))
    patch = (np.arange(PATCH)[:, None] * width + np.arange(PATCH)).ravel()
    for corners, n in zip(index.reshape(-1, index.shape[2]), found.ravel(), strict=True):
        places = corners[:n, None] + patch
        mix = hadamard_matrix(n) / np.sqrt(n)

        def forward(stack, places=places, mix=mix):
            cube = stack.ravel()[places].astype(float).reshape(-1, PATCH, PATCH)
            return np.tensordot(mix, dctn(cube, norm="ortho", axes=(1, 2)), 1)

        c = forward(noisy)
        p = forward(pilot)
        mean = (p if wiener else c)[0, 0, 0] / (PATCH * np.sqrt(n))
        variance = max(gain * mean + offset, floor)
        if wiener:
            share = p**2 / (p**2 + variance * strength * spectrum)
        else:
            share = (c**2 >= strength**2 * variance * spectrum).astype(float)
            share[0, 0, 0] = 1
        weight = 1 / (variance * max(float((share**2 * spectrum).sum()), 1.0)) * window.ravel()
        back = dctn(np.tensordot(mix, c * share, 1), type=3, norm="ortho", axes=(1, 2)).reshape(n, -1)
        np.add.at(sums[0], places, weight * back)
        np.add.at(sums[1], places, np.broadcast_to(weight, back.shape))
    return sums.reshape(2, *noisy.shape)


@pytest.mark.parametrize("wiener", [False, True])
def test_filter_does_what_numpy_does(wiener: bool) -> None:
    noisy, pilot = textured((2, 24, 20)), textured((2, 24, 20), 1)
    spectrum = np.random.default_rng(2).uniform(0.3, 2, (PATCH, PATCH)).astype(np.float32)
    window = np.outer(np.hanning(10)[1:-1], np.kaiser(PATCH, 2)).astype(np.float32)
    rows, columns = np.array([0, 4, 16], np.int32), np.array([0, 5, 12], np.int32)
    index, found = match_patches(noisy, 0, rows, columns, 5, np.arange(2, dtype=np.int32), 8)
    found[0, 0], found[1, 1] = 2, 1
    numbers = (3.0, 50.0, 10.0, 1.3, wiener, window)
    sums = np.zeros((2, *noisy.shape), np.float32)
    filter_groups(noisy, pilot, index, found, spectrum.ravel(), *numbers, sums[0], sums[1])
    expected = plainly(noisy, pilot, index, found, spectrum, *numbers)
    np.testing.assert_allclose(sums[1], expected[1], rtol=2e-3, atol=1e-9)
    np.testing.assert_allclose(sums[0], expected[0], rtol=5e-3, atol=1e-5)


@pytest.mark.parametrize("wiener", [False, True])
def test_without_noise_the_filter_returns_its_input(wiener: bool) -> None:
    stack = textured((1, 32, 40))
    rows, columns = np.arange(0, 25, 4, dtype=np.int32), np.arange(0, 33, 4, dtype=np.int32)
    index, found = match_patches(stack, 0, rows, columns, 6, np.zeros(1, np.int32), 16)
    sums = np.zeros((2, *stack.shape), np.float32)
    filter_groups(stack, stack, index, found, ONES.ravel(), 0.0, 0.0, 1e-6, 1.0, wiener, ONES, sums[0], sums[1])
    np.testing.assert_allclose(sums[0] / sums[1], stack, rtol=1e-4)


def test_noise_loses_energy_and_keeps_its_mean() -> None:
    stack = textured((1, 64, 64))
    rows = np.arange(0, 57, 4, dtype=np.int32)
    index, found = match_patches(stack, 0, rows, rows, 9, np.zeros(1, np.int32), 16)
    sums = np.zeros((2, *stack.shape), np.float32)
    filter_groups(stack, stack, index, found, ONES.ravel(), 0.0, 400.0, 1.0, 3.0, False, ONES, sums[0], sums[1])
    estimate = sums[0] / sums[1]
    assert estimate.std() < 0.3 * stack.std()
    assert abs(estimate.mean() - stack.mean()) < 1.0
