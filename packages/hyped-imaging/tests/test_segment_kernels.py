"""Compiled kernels against the scikit-image and scipy functions whose results they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta
from hyped_core.errors import InvalidDataError
from hyped_imaging.segment.kernels.flooding import watershed
from hyped_imaging.segment.kernels.runs import find_runs, join_runs
from hyped_imaging.segment.paper import PaperConfig, PaperSegmenter
from hyped_imaging.segment.paper import split_touching as reference_split
from hyped_imaging.segment.partition import paper_partition, split_touching


def random_mask(rng, shape):
    """A mask between salt and pepper and one piece."""
    return rng.random(shape) < rng.choice([0.2, 0.6, 0.75, 0.9, 1.0])


def random_flood(seed, kind):
    """Height, seeds of different heights, and mask; ``kind`` 1 and 2 are full of plateaus."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 60, 2))
    mask = random_mask(rng, shape)
    mask[0, 0] = True
    height = rng.random(shape).astype(np.float32)
    if kind == 1:
        height = rng.integers(-4, 4, shape).astype(np.float32)
    elif kind == 2:
        height = ndimage.gaussian_filter(height, 3).round(2)
    inside = np.flatnonzero(mask)
    chosen = rng.permutation(inside)[: rng.integers(1, 12)]
    seeds = np.zeros(shape, np.int32)
    seeds.flat[chosen] = np.arange(1, len(chosen) + 1)
    height.flat[chosen] = -20 - rng.permutation(len(chosen))
    return height, seeds, mask


@pytest.mark.parametrize("kind", [0, 1, 2])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_watershed_is_that_of_scikit_image(kind, seed):
    from skimage.segmentation import watershed as reference

    height, seeds, mask = random_flood(seed, kind)
    found = watershed(height, seeds, mask)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, reference(height, seeds, mask=mask))


def test_watershed_with_seeds_on_slopes_and_in_regions():
    from skimage.segmentation import watershed as reference

    rng = np.random.default_rng(4)
    height = ndimage.gaussian_filter(rng.random((150, 170)), 4).astype(np.float32)
    seeds = np.zeros(height.shape, np.int32)
    for number, (y, x) in enumerate(rng.integers(5, 140, (30, 2)), start=1):
        seeds[y : y + 4, x : x + 3] = number
    mask = height > np.percentile(height, 20)
    np.testing.assert_array_equal(watershed(height, seeds, mask), reference(height, seeds, mask=mask))
    np.testing.assert_array_equal(watershed(height, seeds), reference(height, seeds))


def test_watershed_of_seeds_at_one_height_differs_at_most_where_basins_meet():
    """Which of two equal seeds goes first is the queue's accident in scikit-image, and decides ties only."""
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed as reference

    rng = np.random.default_rng(5)
    mask = ndimage.gaussian_filter(rng.random((400, 400)), 4) > 0.51
    height = -ndimage.distance_transform_edt(mask)
    seeds = np.zeros(mask.shape, np.int32)
    peaks = peak_local_max(-height, min_distance=5, labels=mask.astype(int), exclude_border=False)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    found, wanted = watershed(height, seeds, mask), reference(height, seeds, mask=mask)
    np.testing.assert_array_equal(found > 0, wanted > 0)
    assert (found != wanted)[mask].mean() < 2e-3


def test_watershed_leaves_what_no_seed_reaches_and_the_empty():
    mask = np.zeros((6, 9), bool)
    mask[1:3, 1:4] = mask[3, 4] = True  # the last touches at a corner only
    seeds = np.zeros(mask.shape, np.int64)
    seeds[1, 1], seeds[5, 8] = 7, 3  # the second lies outside the mask
    found = watershed(np.zeros(mask.shape), seeds, mask)
    assert (found[1:3, 1:4] == 7).all() and (found > 0).sum() == 6
    assert watershed(np.zeros((4, 5)), np.zeros((4, 5), int)).max() == 0


def test_watershed_refuses_what_does_not_fit():
    with pytest.raises(InvalidDataError, match="do not fit"):
        watershed(np.zeros((4, 5)), np.zeros((5, 4), int))
    with pytest.raises(InvalidDataError, match="float64"):
        watershed(np.zeros((4, 5)), np.zeros((4, 5)))
    height, seeds = np.zeros((4, 5)), np.zeros((4, 5), int)
    seeds[0, 0], seeds[3, 3], height[2, 2] = 1, 2, np.nan
    with pytest.raises(InvalidDataError, match="NaN"):
        watershed(height, seeds)


@pytest.mark.parametrize("reach", [0, 1])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_components_are_those_of_scikit_image_in_its_order(reach, seed):
    from skimage.measure import label

    rng = np.random.default_rng(seed)
    mask = random_mask(rng, tuple(rng.integers(1, 50, 2)))
    runs = find_runs(mask)
    component, count = join_runs(*runs, reach)
    painted = np.zeros(mask.shape, int)
    for y in range(len(mask)):
        for i in range(runs.first[y], runs.first[y + 1]):
            painted[y, runs.start[i] : runs.stop[i]] = component[i] + 1
    np.testing.assert_array_equal(painted, label(mask, connectivity=reach + 1))
    assert count == painted.max()


@pytest.fixture(scope="module")
def planes():
    """Two channels of touching nuclei of every brightness, (2, 320, 301) uint16."""
    rng = np.random.default_rng(8)
    yy, xx = np.mgrid[:320, :301]
    out = np.zeros((2, 320, 301))
    for y, x, r in zip(rng.uniform(0, 320, 90), rng.uniform(0, 301, 90), rng.uniform(7, 13, 90), strict=True):
        out += ((yy - y) ** 2 + (xx - x) ** 2 < r * r) * rng.uniform(100, 1500, 2)[:, None, None]
    return (ndimage.gaussian_filter(out, (0, 1, 1)) + rng.normal(300, 12, out.shape)).astype(np.uint16)


@pytest.mark.parametrize(
    "values",
    [
        {}, {"combine": "sum"}, {"combine": "two"}, {"clip": "share", "clip_at": 60.0}, {"clip_at": 99.37},
        {"sigma_px": 0.0}, {"sigma_px": 3.3, "min_distance_px": 4}, {"min_distance_px": 1}, {"min_area_px": 0},
        {"min_area_px": 400}, {"channels": ("b",)},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_partition_is_that_of_the_paper_segmenter(planes, values, dtype):
    config = PaperConfig(**{"channels": ("a", "b"), **values})
    meta = ImageMeta(channels=("a", "b"), pixel_size_um=1.0)
    wanted = PaperSegmenter(config).segment(planes, meta, context=RunContext())
    found = paper_partition(planes[["ab".index(c) for c in config.channels]].astype(dtype), config)
    assert found.dtype == np.int32 and wanted.max() > 5
    assert (found == wanted).mean() >= 0.999


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), min_distance=st.integers(1, 9), min_area=st.integers(0, 40))
def test_splitting_any_mask_finds_the_same_foreground_and_number_of_pieces(seed, min_distance, min_area):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random(rng.integers(1, 70, 2)), rng.choice([0, 1, 3]))
    mask = noise > np.percentile(noise, rng.choice([1, 30, 60, 95]))
    found, wanted = split_touching(mask, min_distance, 0), reference_split(mask, min_distance, 0)
    np.testing.assert_array_equal(found > 0, wanted > 0)
    assert found.max(initial=0) == wanted.max(initial=0)
    if min_distance == 1:
        np.testing.assert_array_equal(split_touching(mask, 1, min_area), reference_split(mask, 1, min_area))


def test_constant_tiny_and_broken_frames():
    config = PaperConfig(channels=("a",))
    for value, dtype in [(0, np.uint16), (65535, np.uint16), (7.5, np.float32), (9, np.uint8)]:
        for shape in [(1, 64, 64), (1, 5, 7), (1, 1, 1)]:
            assert paper_partition(np.full(shape, value, dtype), config).max() == 0
    assert split_touching(np.ones((9, 9), bool), 3, 0).shape == (9, 9)
    with pytest.raises(InvalidDataError, match="NaN"):
        paper_partition(np.full((1, 8, 8), np.nan, np.float32), config)
    with pytest.raises(InvalidDataError, match="complex"):
        paper_partition(np.zeros((1, 8, 8), complex), config)
    with pytest.raises(InvalidDataError):
        paper_partition(np.zeros((8, 8), np.uint16), config)
