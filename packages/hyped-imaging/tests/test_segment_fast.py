"""The segmenter ``fast``: the paper's partition by its recipe, odd frames, symmetry, and the pieces of its merging."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta
from hyped_core.design import default_design
from hyped_core.errors import InvalidDataError, ParamsError
from hyped_core.params import build
from hyped_imaging.segment.fast import FastConfig, FastSegmenter
from hyped_imaging.segment.kernels_blobs import find_peaks, group_pixels, region_quantile, row_ends, select
from hyped_imaging.segment.paper import PaperConfig, PaperSegmenter
from hyped_imaging.segment.regions import (
    DOUBT,
    keep_brightness,
    keep_sharp,
    lowest_between,
    merge_convex,
    outline_regions,
    saddles,
)

CONTEXT = RunContext()
META = ImageMeta(channels=("Cy5",), pixel_size_um=1.0)
MERGE = {"solidity": 0.9, "neck": 0.6, "dip": 0.55, "contrast": 0.7, "max_area": 1e4}


def field(nuclei, shape=(120, 160), noise=10.0, seed=0):
    """Plane (uint16) of discs (y, x, radius, level) on an even background, and their labels."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    plane, labels = np.full(shape, 200.0), np.zeros(shape, np.int32)
    for i, (y, x, radius, level) in enumerate(nuclei, start=1):
        inside = np.hypot(yy - y, xx - x) <= radius
        plane[inside], labels[inside] = 200 + level, i
    plane = cv2.GaussianBlur(plane, (0, 0), 1.0)
    rng = np.random.default_rng(seed)
    return np.clip(plane + noise * rng.standard_normal(shape), 0, 65535).astype(np.uint16), labels


DISCS = [(30, 30, 9, 800), (30, 47, 9, 700), (80, 40, 8, 300), (60, 110, 10, 1200), (95, 120, 9, 150)]


def segment(plane, meta=META, **config):
    """Labels of one plane by ``fast``."""
    return FastSegmenter(FastConfig(**config)).segment(plane[None], meta, context=CONTEXT)


@pytest.mark.parametrize("values", [{}, {"combine": "sum", "sigma_px": 1.0}, {"combine": "two", "clip": "share"}])
def test_recipe_paper_is_the_partition_of_paper(values):
    red, _ = field(DISCS[:3])
    green, _ = field(DISCS[2:], seed=1)
    planes, meta = np.stack([red, green]), ImageMeta(channels=("mKate", "TagGFP"))
    plain = PaperSegmenter(PaperConfig(**values)).segment(planes, meta, context=CONTEXT)
    fast = FastSegmenter(FastConfig(recipe="paper", **values)).segment(planes, meta, context=CONTEXT)
    assert plain.max() >= 3
    assert (plain != fast).mean() < 0.001


def test_a_parameter_of_the_other_recipe_is_refused():
    with pytest.raises(ParamsError, match="recipe nuclei has no min_area_px"):
        build(FastConfig, {"min_area_px": 40})
    with pytest.raises(ParamsError, match="recipe paper has no diameter_um"):
        build(FastConfig, {"recipe": "paper", "diameter_um": 12})
    assert build(FastConfig, {"recipe": "paper", "min_area_px": 40}).min_area_px == 40


def test_channels_follow_the_recipe_and_the_design():
    design = default_design()
    assert FastConfig().segmented == ("Cy5",)
    assert FastConfig(recipe="paper").segmented == ("mKate", "TagGFP")
    assert FastConfig.for_design({}, design)["channels"] == ["Cy5"]
    assert FastConfig.for_design({"recipe": "paper"}, design)["channels"] == ["mKate", "TagGFP"]
    assert FastConfig.for_design({"channels": ["TagGFP"]}, design)["channels"] == ["TagGFP"]


@pytest.mark.parametrize("recipe", ["nuclei", "paper"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (1, 40), (40, 2), (64, 64)])
def test_frames_without_structure_have_no_nuclei(recipe, shape):
    for value, dtype in [(0, np.uint8), (65535, np.uint16), (3.5, np.float64)]:
        labels = segment(np.full(shape, value, dtype), recipe=recipe, channels=("Cy5",))
        assert labels.shape == shape and labels.dtype == np.int32 and not labels.any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 50), (7, 9)])
def test_tiny_noisy_frames_do_not_fail(shape):
    plane = np.random.default_rng(0).integers(0, 1000, shape).astype(np.uint16)
    labels = segment(plane)
    assert labels.shape == shape and labels.min() >= 0


def test_saturated_nuclei_are_still_found():
    plane, truth = field([(40, 40, 9, 200000), (80, 110, 9, 200000)])
    assert plane.max() == 65535
    labels = segment(plane)
    assert labels.max() == 2 and labels[40, 40] > 0 and labels[80, 110] > 0
    assert 1 <= (labels > 0).sum() / (truth > 0).sum() < 1.35  # what is clipped is wider at half its height


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("recipe", ["nuclei", "paper"])
def test_what_is_not_a_number_is_refused(bad, recipe):
    plane = np.full((32, 32), 5.0, np.float32)
    plane[3, 3] = bad
    with pytest.raises(InvalidDataError, match="NaN or infinite"):
        segment(plane, recipe=recipe, channels=("Cy5",))


def test_type_of_the_pixels_does_not_matter():
    plane, _ = field(DISCS, noise=3.0)
    small = (plane // 8).astype(np.uint8)
    wanted = segment(small)
    assert wanted.max() == 5
    for dtype in (np.uint16, np.int32, np.float32, np.float64):
        assert np.array_equal(segment(small.astype(dtype)), wanted)
    assert np.array_equal(segment(np.asfortranarray(small)), wanted)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_labels_are_whole_pieces_numbered_from_1_and_the_input_stays(data):
    discs = data.draw(
        st.lists(
            st.tuples(st.integers(0, 99), st.integers(0, 119), st.integers(4, 14), st.sampled_from([120, 500, 2000])),
            max_size=9,
        )
    )
    plane, _ = field(discs, (100, 120), seed=data.draw(st.integers(0, 99)))
    before = plane.copy()
    labels = segment(plane)
    assert np.array_equal(plane, before)
    assert np.array_equal(labels, segment(plane))
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    for i in range(1, labels.max() + 1):
        inside = labels == i
        assert ndimage.label(inside, np.ones((3, 3)))[1] == 1
        assert inside.sum() >= 0.12 * np.pi * 18**2 / 4


@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, np.transpose])
def test_a_turned_frame_has_the_same_nuclei(turn):
    plane, truth = field(DISCS)
    plain, turned = segment(plane), segment(np.ascontiguousarray(turn(plane)))
    assert plain.max() == turned.max() == 5
    back = turn(turned)
    assert ((plain > 0) != (back > 0)).mean() < 0.002
    for y, x, *_ in DISCS:
        assert plain[y, x] > 0 and back[y, x] > 0


def test_brightness_limits_leave_out_dim_and_bright_ones():
    plane, _ = field([(30, 30, 9, 500), (30, 80, 9, 550), (80, 30, 9, 100), (80, 80, 9, 3000), (80, 130, 9, 450)])
    assert segment(plane).max() == 5
    labels = segment(plane, min_brightness=0.5, max_brightness=3.0)
    assert labels.max() == 3
    assert labels[80, 30] == 0 and labels[80, 80] == 0 and labels[30, 30] > 0
    assert not keep_brightness(np.zeros((4, 4), np.int32), np.zeros((4, 4), np.float32), 0.5, 2.0).any()


@pytest.mark.parametrize("noise", [10.0, 1.0, 0.1, 0.0])
def test_haze_is_no_nucleus_however_little_noise_there_is(noise):
    rng = np.random.default_rng(3)
    yy, xx = np.mgrid[:120, :160]
    plane = 200.0 + noise * rng.standard_normal((120, 160))
    for i, (y, x) in enumerate([(30, 30), (30, 80), (80, 40), (60, 120), (100, 90), (90, 140), (60, 75), (20, 130)]):
        plane += (800.0 if i < 5 else 12.0) * np.exp(-(((np.hypot(yy - y, xx - x)) / 9) ** 4))
    assert segment(plane.astype(np.float32)).max() == 5


def test_a_nucleus_cut_in_three_becomes_one_again_but_three_nuclei_stay():
    yy, xx = np.mgrid[:80, :80]
    angle = np.arctan2(yy - 40, xx - 40)
    cut = (1 + np.floor((angle + np.pi) / (2 * np.pi / 3 + 1e-6))).astype(np.int32)
    cut[np.hypot(yy - 40, xx - 40) > 15] = 0
    signal = np.full(cut.shape, 10.0, np.float32)
    assert len(np.unique(cut)) == 4
    assert merge_convex(cut, cut, signal, **MERGE).max() == 1
    apart = np.zeros((80, 80), np.int32)
    for i, (y, x) in enumerate([(30, 30), (30, 46), (44, 38)], start=1):
        apart[(np.hypot(yy - y, xx - x) <= 8.5) & (apart == 0)] = i
    assert np.array_equal(merge_convex(apart, apart, signal, **MERGE), apart)
    assert merge_convex(cut, cut, signal, **{**MERGE, "max_area": 300.0}).max() > 1


def test_lowest_between_is_the_dip_of_the_profile():
    signal = np.tile(np.array([10, 80, 38, 100, 10], np.float32), (3, 1))
    start, stop = np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([[1.0, 3.0], [1.0, 1.0]])
    assert lowest_between(signal, start, stop).tolist() == [(38 + DOUBT) / 80, 1.0]
    noise = np.tile(np.array([1, 8, 7, 10, 1], np.float32), (3, 1))
    assert lowest_between(noise, start, stop).tolist() == [1.0, 1.0]


def test_an_edge_is_sharp_where_the_signal_falls_outwards_and_not_in_a_halo():
    yy, xx = np.mgrid[:120, :160]
    disc = [np.hypot(yy - 40, xx - x) <= 12 for x in (30, 80)]
    blurred = cv2.GaussianBlur(disc[1].astype(np.float32), (0, 0), 12)
    signal = (100 * disc[0] + 100 * blurred + np.maximum(0, yy - 70)).astype(np.float32)
    halo = (np.abs(yy - 95) < 8) & (np.abs(xx - 80) < 8)  # on a slope: falls on one side, rises on the other
    labels = (disc[0] + 2 * disc[1] + 3 * halo).astype(np.int32)
    assert keep_sharp(labels, signal, -9.0, 3).max() == 3
    assert np.unique(labels[keep_sharp(labels, signal, 0.0, 3) > 0]).tolist() == [1, 2]
    assert np.array_equal(keep_sharp(labels, signal, 0.6, 3), disc[0])
    everywhere = np.ones((9, 9), np.int32)
    assert np.array_equal(keep_sharp(everywhere, np.ones((9, 9), np.float32), 0.5, 2), everywhere)


def test_saddles_know_the_pass_and_the_border():
    labels = np.array([[1, 1, 2], [1, 1, 2], [0, 3, 3]], np.int32)
    height = np.arange(9, dtype=np.float32).reshape(3, 3)
    found = saddles(labels, height)
    assert found.a.tolist() == [1, 1, 2] and found.b.tolist() == [2, 3, 3]
    assert found.height.tolist() == [4, 4, 5] and found.length.tolist() == [2, 1, 1]


def test_outline_takes_the_largest_piece_and_fills_its_holes():
    labels = np.zeros((30, 40), np.int32)
    labels[2:28, 2:38] = 7
    signal = np.ones((30, 40), np.float32)
    signal[5:25, 4:28], signal[5:10, 32:36] = 10, 10  # over a fifth of the region: its brightness
    signal[12:15, 12:15] = 1
    wanted = np.zeros((30, 40), bool)
    wanted[5:25, 4:28] = True
    wanted[[5, 5, 24, 24], [4, 27, 4, 27]] = False  # no cross fits into a corner
    kept = outline_regions(labels, signal, 0.5, 0, renumber=False)
    assert set(np.unique(kept)) == {0, 7} and np.array_equal(kept > 0, wanted)
    assert np.array_equal(outline_regions(labels, signal, 0.5, 0), wanted)
    assert not outline_regions(labels, signal, 0.5, 1e6).any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40), st.data())
def test_select_is_the_value_of_its_rank(values, data):
    rank = data.draw(st.integers(0, len(values) - 1))
    assert select(np.array(values, np.float32), rank) == sorted(values)[rank]


def test_groups_of_pixels_their_quantiles_and_hulls():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 5, (12, 17)).astype(np.int32)
    values = rng.standard_normal((12, 17)).astype(np.float32)
    order, begin = group_pixels(labels, 6)
    for i in range(1, 7):
        pixels = order[begin[i] : begin[i + 1]]
        assert np.array_equal(pixels, np.flatnonzero(labels == i))
        if len(pixels):
            assert region_quantile(values.ravel(), order, begin, 1.0)[i] == values[labels == i].max()
            hull = cv2.convexHull(row_ends(pixels, 17))
            whole = cv2.convexHull(np.argwhere(labels == i)[:, ::-1].astype(np.int32))
            assert cv2.contourArea(hull) == cv2.contourArea(whole)


def test_peaks_are_the_maxima_of_a_disc():
    rng = np.random.default_rng(5)
    height = cv2.GaussianBlur(rng.standard_normal((60, 70)).astype(np.float32), (0, 0), 1.5)
    mask = rng.random((60, 70)) > 0.2
    reach = 3
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.abs(dx) <= np.floor(np.sqrt(np.maximum(reach**2 - dy**2, 0)) + 0.5)
    wanted = (height == ndimage.maximum_filter(height, footprint=disc, mode="nearest")) & mask & (height > 0)
    seeds = find_peaks(height, mask.view(np.uint8), reach)
    assert np.array_equal(seeds > 0, wanted)
    assert np.array_equal(np.sort(seeds[seeds > 0]), np.arange(1, wanted.sum() + 1))
    flat = find_peaks(np.ones((9, 9), np.float32), np.ones((9, 9), np.uint8), 20)
    assert np.argwhere(flat).tolist() == [[0, 0]]
