"""Segmenters and measuring, on drawn nuclei of which everything is known."""

from __future__ import annotations

import numpy as np
import pytest

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta, Segmenter
from hyped_core.design import default_design
from hyped_core.errors import DesignError, InvalidDataError
from hyped_imaging.segment.background import background_map
from hyped_imaging.segment.fast import FastConfig, FastSegmenter
from hyped_imaging.segment.measure import SHAPE_COLUMNS, measure
from hyped_imaging.segment.paper import PaperConfig, PaperSegmenter, clip_and_scale
from hyped_imaging.segment.regions import merge_shallow

CONTEXT = RunContext()


def draw(nuclei, shape=(160, 200), noise=12.0, background=200.0, slope=0.5, seed=0):
    """Ellipses (y, x, radius_y, radius_x, level) on an uneven background with noise; returns plane and
    labels."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    light = np.zeros(shape)
    labels = np.zeros(shape, np.int32)
    for i, (y, x, ry, rx, level) in enumerate(nuclei, start=1):
        inside = ((yy - y) / ry) ** 2 + ((xx - x) / rx) ** 2 <= 1
        light[inside] = np.maximum(light[inside], level)
        labels[inside & (labels == 0)] = i
    rng = np.random.default_rng(seed)
    plane = background * (1 + slope * xx / shape[1]) + light
    return (plane + noise * rng.standard_normal(shape)).astype(np.uint16), labels


def f1(truth, found, at=0.5):
    """F1 of matching by intersection over union."""
    hits = 0
    for i in np.unique(truth[truth > 0]):
        mask = truth == i
        for j in np.unique(found[mask]):
            if j and (mask & (found == j)).sum() / (mask | (found == j)).sum() > at:
                hits += 1
    return 2 * hits / (len(np.unique(truth[truth > 0])) + len(np.unique(found[found > 0])))


APART = [
    (30, 30, 9, 9, 900),
    (30, 80, 8, 11, 600),
    (80, 40, 10, 8, 1200),
    (120, 120, 9, 9, 150),
    (60, 160, 9, 10, 500),
]
META = ImageMeta(channels=("Cy5",), pixel_size_um=1.0)


def test_fast_finds_bright_and_dim_ones_on_an_uneven_background():
    plane, truth = draw(APART)
    labels = FastSegmenter().segment(plane[None], META, context=CONTEXT)
    assert labels.dtype == np.int32 and labels.shape == plane.shape
    assert f1(truth, labels) == 1.0
    areas = np.bincount(labels.ravel())[1:]
    wanted = np.bincount(truth.ravel())[1:]
    assert abs(areas.sum() / wanted.sum() - 1) < 0.15


def test_fast_keeps_the_dim_one_beside_a_bright_one():
    plane, truth = draw([(50, 50, 9, 9, 1500), (50, 71, 9, 9, 250)])
    labels = FastSegmenter().segment(plane[None], META, context=CONTEXT)
    assert f1(truth, labels) == 1.0


@pytest.mark.parametrize("model", ["fast", "paper"])
def test_watershed_splits_touching_discs(model):
    plane, truth = draw([(60, 60, 10, 10, 800), (60, 78, 10, 10, 800), (66, 95, 10, 10, 800)])
    segmenter = FastSegmenter() if model == "fast" else PaperSegmenter(PaperConfig(channels=("Cy5",)))
    labels = segmenter.segment(plane[None], META, context=CONTEXT)
    assert len(np.unique(labels)) == 4
    assert f1(truth, labels) == 1.0


def test_fast_does_not_split_one_long_nucleus():
    plane, truth = draw([(60, 80, 8, 16, 800)])
    labels = FastSegmenter().segment(plane[None], META, context=CONTEXT)
    assert labels.max() == 1
    assert f1(truth, labels, at=0.7) == 1.0


def test_fast_sizes_follow_the_pixel_size():
    plane, truth = draw([(60, 60, 20, 20, 800), (60, 130, 20, 20, 600)], shape=(140, 200))
    meta = ImageMeta(channels=("Cy5",), pixel_size_um=0.45)
    assert f1(truth, FastSegmenter().segment(plane[None], meta, context=CONTEXT)) == 1.0


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_fast_does_not_depend_on_the_camera_gain(scale):
    plane, _ = draw(APART)
    plain = FastSegmenter().segment(plane[None].astype(np.float32), META, context=CONTEXT)
    scaled = FastSegmenter().segment(plane[None].astype(np.float32) * scale + 50, META, context=CONTEXT)
    assert f1(plain, scaled) == 1.0


@pytest.mark.parametrize("segmenter", [FastSegmenter(), PaperSegmenter(PaperConfig(channels=("Cy5",)))])
def test_constant_black_saturated_and_tiny_frames_have_no_nuclei(segmenter):
    assert isinstance(segmenter, Segmenter)
    for value, dtype in [(0, np.uint16), (65535, np.uint16), (7.5, np.float32)]:
        for shape in [(1, 64, 64), (1, 5, 7), (1, 1, 1)]:
            assert segmenter.segment(np.full(shape, value, dtype), META, context=CONTEXT).max() == 0


def test_pure_noise_is_not_full_of_nuclei():
    plane, _ = draw([], noise=30.0)
    assert FastSegmenter().segment(plane[None], META, context=CONTEXT).max() == 0


@pytest.mark.parametrize("segmenter", [FastSegmenter(), PaperSegmenter()])
def test_a_missing_channel_names_the_ones_there(segmenter):
    plane, _ = draw(APART)
    with pytest.raises(DesignError, match="red, green"):
        segmenter.segment(np.stack([plane, plane]), ImageMeta(channels=("red", "green")), context=CONTEXT)


def test_nan_and_wrong_shapes_are_refused():
    plane = np.full((1, 32, 32), 5.0)
    plane[0, 3, 3] = np.nan
    with pytest.raises(InvalidDataError, match="NaN"):
        FastSegmenter().segment(plane, META, context=CONTEXT)
    with pytest.raises(InvalidDataError, match="expected \\(c, y, x\\)"):
        FastSegmenter().segment(plane[0], META, context=CONTEXT)
    with pytest.raises(InvalidDataError, match="names 1"):
        FastSegmenter().segment(np.zeros((2, 8, 8)), META, context=CONTEXT)


def test_input_is_not_modified_and_the_answer_is_repeatable():
    plane, _ = draw(APART)
    before = plane.copy()
    first = FastSegmenter().segment(plane[None], META, context=CONTEXT)
    assert np.array_equal(plane, before)
    assert np.array_equal(first, FastSegmenter().segment(plane[None], META, context=CONTEXT))


def test_paper_stack_loses_what_is_dark_in_both_reporters():
    reporters = [(30, 30, 9, 9, 900), (80, 40, 10, 8, 1200), (30, 120, 10, 10, 900), (80, 160, 10, 10, 900)]
    dark = (120, 120, 9, 9, 800)
    red, truth = draw(reporters, slope=0)
    green = red // 2
    nuclei, _ = draw([*reporters, dark], slope=0, seed=2)
    planes = np.stack([nuclei, red, green])
    meta = ImageMeta(channels=("Cy5", "mKate", "TagGFP"))
    found = PaperSegmenter(PaperConfig(min_area_px=100)).segment(planes, meta, context=CONTEXT)
    assert f1(truth, found) == 1.0
    assert found[120, 120] == 0
    config = PaperConfig(channels=("Cy5",), min_area_px=100)
    assert PaperSegmenter(config).segment(planes, meta, context=CONTEXT)[120, 120] > 0


@pytest.mark.parametrize("combine", ["max", "sum", "two"])
def test_paper_stack_by_every_reading(combine):
    red, _ = draw([(40, 40, 16, 16, 900)], slope=0)
    green, _ = draw([(100, 120, 16, 16, 900)], slope=0, seed=1)
    meta = ImageMeta(channels=("mKate", "TagGFP"))
    config = PaperConfig(combine=combine, min_area_px=100)
    labels = PaperSegmenter(config).segment(np.stack([red, green]), meta, context=CONTEXT)
    assert labels[40, 40] > 0 and labels[100, 120] > 0 and labels[40, 40] != labels[100, 120]


def test_clip_and_scale():
    plane = np.arange(101, dtype=np.float32).reshape(1, -1)
    scaled = clip_and_scale(plane, "percentile", 98)
    assert scaled.min() == 0 and scaled.max() == 1 and (scaled == 1).sum() == 3
    assert (clip_and_scale(plane, "share", 50.0) == 1).sum() == 51
    assert not clip_and_scale(np.full((3, 3), 4.0), "percentile", 98).any()


def test_config_takes_channels_from_the_design_unless_named():
    design = default_design()
    assert tuple(PaperConfig.for_design({}, design)["channels"]) == ("mKate", "TagGFP")
    assert PaperConfig.for_design({"channels": ["Cy5"]}, design)["channels"] == ["Cy5"]
    assert tuple(FastConfig.for_design({}, design)["channels"]) == ("Cy5",)
    reporters = design.model_copy(update={"channels": design.channels[1:]})
    assert FastConfig.for_design({}, reporters)["channels"] == ["mKate", "TagGFP"]


def test_merge_shallow_joins_across_a_shallow_pass_only():
    height = np.array([[5, 9, 5, 8, 5]], np.float32)
    labels = np.array([[1, 1, 1, 2, 2]], np.int32)
    assert merge_shallow(labels, height, 0.5).tolist() == [[1, 1, 1, 1, 1]]
    assert merge_shallow(labels, height, 0.7).tolist() == [[1, 1, 1, 2, 2]]


def test_measure_knows_place_shape_and_corrected_intensity():
    plane, truth = draw([(40, 50, 8, 16, 600), (100, 1, 9, 9, 300)], noise=5.0)
    table = measure(truth, np.stack([plane, plane * 0 + 7]), ("Cy5", "flat"), 0.5)
    assert tuple(table.columns) == (
        *SHAPE_COLUMNS, "mean_Cy5", "integrated_Cy5", "mean_flat", "integrated_flat",
    )  # fmt: skip
    first = table.iloc[0]
    assert (first.y_px, first.x_px) == pytest.approx((40, 50), abs=0.01)
    assert (first.y_um, first.x_um) == pytest.approx((20, 25), abs=0.01)
    assert first.area_um2 == pytest.approx(np.pi * 8 * 16 / 4, rel=0.03)
    assert first.eccentricity == pytest.approx(np.sqrt(1 - 0.25), abs=0.02)
    assert first.mean_Cy5 == pytest.approx(600, abs=20)
    assert first.integrated_Cy5 == pytest.approx(first.mean_Cy5 * first.area_px)
    assert abs(first.mean_flat) < 1e-3
    assert table["border"].tolist() == [False, True]


def test_measure_of_nothing_and_of_misfits():
    empty = measure(np.zeros((10, 12), np.int32), np.zeros((1, 10, 12)), ("Cy5",), 1.0)
    assert len(empty) == 0 and "mean_Cy5" in empty.columns
    with pytest.raises(InvalidDataError, match="do not fit"):
        measure(np.zeros((10, 11), np.int32), np.zeros((1, 10, 12)), ("Cy5",), 1.0)


def test_background_map_follows_a_gradient_under_nuclei():
    plane, truth = draw(APART, noise=2.0)
    found = background_map(plane.astype(np.float32), truth > 0, 40)
    wanted = np.broadcast_to(200 * (1 + 0.5 * np.arange(200) / 200), plane.shape)
    assert np.abs(found - wanted).max() < 20
    assert np.isfinite(background_map(plane.astype(np.float32), np.ones(plane.shape, bool), 40)).all()
