"""Points of light: found where they are, grouped with their like wherever those lie, and worth it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, median_filter

from hyped_imaging.denoise.photon import single
from hyped_imaging.denoise.photon.points import CLEAR, FEWEST, PLACES, find_points, point_groups
from hyped_imaging.denoise.photon.single import Passes, denoise_plane
from hyped_imaging.denoise.physics import NoisePhysics, estimate_noise

NOISE = NoisePhysics(0.0, 0.01, 0.01, np.ones((8, 8), np.float32), False)


def points(size=256, density=0.004, seed=0):
    rng = np.random.default_rng(seed)
    image = gaussian_filter((rng.random((size, size)) < density) * rng.uniform(0.3, 1, (size, size)), 1.4)
    return image / image.max()


def psnr(image, clean):
    return 10 * np.log10(np.ptp(clean) ** 2 / np.mean((image - clean) ** 2))


def grid():
    """Equal points 20 pixels apart, fainter ones between, too faint to stand out."""
    plane = np.zeros((128, 128))
    plane[20:110:20, 20:110:20] = 40
    plane[30:110:20, 30:110:20] = 0.5
    return gaussian_filter(plane, 1.4).astype(np.float32)


def test_points_are_found_where_they_stand_out():
    plane = grid()
    rows, columns = find_points(plane, NOISE)
    assert plane[30, 30] < CLEAR * 0.1
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
        (y, x) for y in range(20, 110, 20) for x in range(20, 110, 20)
    }


def test_members_have_the_point_at_the_same_place():
    plane = grid()
    groups = list(point_groups(plane, NOISE, 16))
    assert len(groups) == len(PLACES) ** 2
    for (index, found), (down, right) in zip(groups, [(d, r) for d in PLACES for r in PLACES], strict=True):
        assert np.all(found == 16) and index.shape == (1, 25, 16)
        rows, columns = np.divmod(index, 128)
        assert np.all((rows + down) % 20 == 0) and np.all((columns + right) % 20 == 0)
        assert all(len(set(group)) == 16 for group in index[0])


@pytest.mark.parametrize(
    "plane", [np.zeros((64, 64)), np.ones((8, 40)), np.add.outer(np.arange(50.0), np.arange(60.0))]
)
def test_nothing_where_there_are_no_points(plane):
    assert not list(point_groups(plane.astype(np.float32), NOISE, 16))


def test_few_points_make_no_group():
    plane = np.zeros((128, 128), np.float32)
    plane[20 : 20 + 10 * (FEWEST - 1) : 10, 60] = 5
    assert len(find_points(gaussian_filter(plane, 1.4), NOISE)[0]) == FEWEST - 1
    assert not list(point_groups(gaussian_filter(plane, 1.4), NOISE, 16))


@pytest.mark.parametrize("photons", [30, 100, 300])
def test_points_come_out_better_than_by_their_neighbourhood_alone(photons, monkeypatch):
    clean = 2 * photons * (points() + 0.1) + 100
    noisy = (2 * np.random.default_rng(1).poisson((clean - 100) / 2) + 100).astype(np.float32)
    simple = max(psnr(median_filter(noisy, 3), clean), *(psnr(gaussian_filter(noisy, s), clean) for s in (1, 1.5)))
    noise = estimate_noise(noisy)
    grouped = psnr(denoise_plane(noisy, noise, Passes()), clean)
    monkeypatch.setattr(single, "point_groups", lambda *_: iter(()))
    assert grouped > psnr(denoise_plane(noisy, noise, Passes()), clean) + 0.5
    assert grouped > simple + 2
