"""The table of nuclei against scikit-image and plain numpy, and what bad frames get."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hyped_core.errors import InvalidDataError
from hyped_imaging.segment.background import background_grid, background_map
from hyped_imaging.segment.kernels.medians import block_medians
from hyped_imaging.segment.measure import SHAPE_COLUMNS, measure


@pytest.fixture(scope="module")
def blobs():
    """Labels of smooth random pieces, some at the frame's edge."""
    rng = np.random.default_rng(3)
    return ndimage.label(ndimage.gaussian_filter(rng.random((150, 180)), 4) > 0.51)[0].astype(np.int32)


@pytest.fixture(scope="module")
def planes(blobs):
    """Three planes of uint16: light on uneven background."""
    rng = np.random.default_rng(4)
    slope = np.linspace(100, 300, blobs.shape[1])
    light = [slope + rng.normal(0, 9, blobs.shape) + 700 * (blobs > 0) * k for k in (0, 1, 3)]
    return np.stack(light).astype(np.uint16)


def test_shapes_are_those_of_scikit_image(blobs, planes):
    from skimage.measure import regionprops_table

    table = measure(blobs, planes, ["a", "b", "c"], 0.5)
    properties = ("label", "centroid", "area", "eccentricity", "axis_major_length", "axis_minor_length", "orientation")
    wanted = regionprops_table(blobs, properties=properties)
    assert tuple(table.columns[: len(SHAPE_COLUMNS)]) == SHAPE_COLUMNS
    np.testing.assert_array_equal(table.label, wanted["label"])
    np.testing.assert_array_equal(table.area_px, wanted["area"])
    for ours, theirs, scale in [
        ("y_px", "centroid-0", 1), ("x_px", "centroid-1", 1), ("x_um", "centroid-1", 0.5),
    ]:  # fmt: skip
        np.testing.assert_allclose(table[ours], wanted[theirs] * scale, rtol=1e-9, atol=1e-7)
    for ours, theirs in [("major_um", "axis_major_length"), ("minor_um", "axis_minor_length")]:
        variance = (wanted[theirs] / 4) ** 2 + 1 / 12  # scikit-image takes pixels for points
        np.testing.assert_allclose(table[ours], 0.5 * 4 * np.sqrt(variance), rtol=1e-6)
    np.testing.assert_allclose(table.eccentricity, np.sqrt(1 - (table.minor_um / table.major_um) ** 2), atol=1e-6)
    long = table.eccentricity.to_numpy() > 0.3  # the angle of a round one means nothing
    apart = table.orientation_rad.to_numpy() - wanted["orientation"]
    assert np.abs(np.sin(apart))[long].max() < 1e-6
    edge = np.unique(np.concatenate([blobs[0], blobs[-1], blobs[:, 0], blobs[:, -1]]))
    np.testing.assert_array_equal(table.border, np.isin(table.label, edge))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64, np.int32])
def test_intensities_are_the_pixels_less_the_background_map(blobs, planes, dtype):
    import cv2

    table = measure(blobs, planes.astype(dtype), ["a", "b", "c"], 1.0, block_px=32, halo_px=2)
    foreground = cv2.dilate((blobs > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    for name, plane in zip("abc", planes.astype(np.float32), strict=True):
        corrected = plane - background_map(plane, foreground, 32)
        wanted = ndimage.sum_labels(corrected, blobs, table.label)
        np.testing.assert_allclose(table[f"integrated_{name}"] / table.area_px, wanted / table.area_px, atol=1e-3)
        np.testing.assert_allclose(table[f"mean_{name}"] * table.area_px, table[f"integrated_{name}"])


def test_numbers_of_labels_and_their_dtype_do_not_matter(blobs, planes):
    plain = measure(blobs, planes, ["a", "b", "c"], 1.0)
    high = np.where(blobs > 0, blobs.astype(np.int64) * 1_000_003 + 7, 0)
    again = measure(high, planes, ["a", "b", "c"], 1.0)
    np.testing.assert_array_equal(again.label, plain.label * 1_000_003 + 7)
    for column in plain.columns[1:]:
        np.testing.assert_array_equal(again[column], plain[column])
    sparse = np.where(blobs == 3, 0, blobs).astype(np.uint16)
    assert list(measure(sparse, planes, ["a", "b", "c"], 1.0).label) == [i for i in plain.label if i != 3]


def test_empty_constant_and_saturated_frames(blobs):
    empty = measure(np.zeros((20, 30), np.int32), np.zeros((1, 20, 30), np.uint16), ["a"], 1.0)
    assert len(empty) == 0 and list(empty.columns) == [*SHAPE_COLUMNS, "mean_a", "integrated_a"]
    for value in (0, 65535):
        flat = np.full((1, *blobs.shape), value, np.uint16)
        table = measure(blobs, flat, ["a"], 1.0)
        assert len(table) == blobs.max() and np.abs(table.mean_a).max() < 0.02
    full = measure(np.ones((20, 30), np.int32), np.stack([np.full((20, 30), 5), np.full((20, 30), 9)]), ["a", "b"], 1.0)
    assert full.area_px[0] == 600 and full.border[0] and full.mean_b[0] == 0


def test_what_does_not_fit_is_refused(blobs, planes):
    names = ["a", "b", "c"]
    with pytest.raises(InvalidDataError, match="do not fit"):
        measure(blobs[1:], planes, names, 1.0)
    with pytest.raises(InvalidDataError, match="do not fit"):
        measure(blobs, planes, names[:2], 1.0)
    with pytest.raises(InvalidDataError, match="integers"):
        measure(blobs.astype(float), planes, names, 1.0)
    with pytest.raises(InvalidDataError, match="integers from 0"):
        measure(-blobs, planes, names, 1.0)
    with pytest.raises(InvalidDataError, match="numbers"):
        measure(blobs, planes.astype(complex), names, 1.0)
    broken = planes.astype(np.float32)
    broken[1, 5, 5] = np.nan
    with pytest.raises(InvalidDataError, match="NaN"):
        measure(blobs, broken, names, 1.0)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**31), kind=st.integers(0, 4))
def test_block_medians_are_exact(seed, kind):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 80, 2)
    shape = (height, width)
    plane = (
        rng.integers(0, 300, shape).astype(np.uint16),
        rng.choice([0, 65535], shape).astype(np.uint16),
        rng.integers(0, 256, shape).astype(np.uint8),
        rng.normal(0, 100, shape).astype(np.float32),
        rng.integers(-3, 3, shape).astype(np.float32),
    )[kind]
    hidden = rng.random(shape) < rng.choice([0, 0.3, 0.95, 1])
    y_edges = np.linspace(0, height, min(height, 3) + 1).astype(int)
    x_edges = np.linspace(0, width, min(width, 4) + 1).astype(int)
    medians, counts = block_medians(plane, hidden, y_edges, x_edges)
    for i in range(len(y_edges) - 1):
        for j in range(len(x_edges) - 1):
            block = slice(y_edges[i], y_edges[i + 1]), slice(x_edges[j], x_edges[j + 1])
            free = plane[block][~hidden[block]].astype(np.float32)
            assert counts[i, j] == free.size
            np.testing.assert_array_equal(medians[i, j], np.median(free) if free.size else np.nan)


def test_background_follows_a_slope_and_ignores_the_foreground():
    rng = np.random.default_rng(6)
    slope = np.linspace(100, 300, 256)[None].repeat(200, axis=0)
    foreground = np.zeros(slope.shape, bool)
    foreground[40:80, 50:90] = True
    plane = (slope + rng.normal(0, 2, slope.shape) + 4000 * foreground).astype(np.float32)
    found = background_map(plane, foreground, 32)
    assert np.abs(found - slope)[32:-32, 48:-48].max() < 6
    assert background_grid(plane, np.ones_like(foreground), 32).shape == (1, 1)
