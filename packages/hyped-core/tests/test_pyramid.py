"""Levels of a pyramid: sizes, means of what is there, labels that exist, metadata that viewers read."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.container.movies import Labels, LabelsWriter, Movie, write_movie
from hyped_core.container.pyramid import halve, level_shapes

DTYPES = ["uint8", "uint16", "int32", "float32"]
sides = st.integers(1, 300)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, dtype=st.sampled_from(DTYPES), seed=st.integers(0, 9))
def test_mean_of_each_block_of_four(height, width, dtype, seed):
    top = 255 if dtype == "uint8" else 65535
    frame = np.random.default_rng(seed).integers(0, top + 1, (2, height, width)).astype(dtype)
    rows, columns = np.arange(0, height, 2), np.arange(0, width, 2)
    sums = np.add.reduceat(np.add.reduceat(frame.astype(np.float64), rows, 1), columns, 2)
    counts = np.add.reduceat(np.add.reduceat(np.ones((height, width)), rows, 0), columns, 1)
    expected = sums / counts
    if dtype != "float32":
        expected = np.floor(expected + 0.5)
    small = halve(frame, "mean")
    assert small.dtype == frame.dtype
    assert np.allclose(small, expected, rtol=1e-6, atol=0)


def test_a_saturated_frame_stays_saturated_and_a_black_one_black():
    for value, dtype in ((0, "u2"), (65535, "u2"), (255, "u1"), (2**31 - 1, "i4"), (65504, "f2")):
        assert (halve(np.full((1, 301, 299), value, dtype), "mean") == value).all()


def test_levels_end_when_both_sides_are_short():
    assert level_shapes((203, 4, 2826, 3245)) == [
        (203, 4, 2826, 3245), (203, 4, 1413, 1623), (203, 4, 707, 812), (203, 4, 354, 406),
    ]  # fmt: skip
    assert level_shapes((1, 512, 512)) == [(1, 512, 512)]
    assert level_shapes((1, 1, 513)) == [(1, 1, 513), (1, 1, 257)]


@settings(max_examples=15, deadline=None)
@given(
    frames=st.integers(1, 3), height=st.integers(1, 700), width=st.integers(1, 700),
    top=st.sampled_from([1, 300, 2**31]), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_labels_come_back_and_no_level_invents_one(tmp_path_factory, frames, height, width, top, seed):
    path = tmp_path_factory.mktemp("l") / "S.zarr"
    values = np.random.default_rng(seed).integers(0, top, (frames, height, width)).astype(np.int32)
    with LabelsWriter(path, shape=values.shape, pixel_size_um=0.5, time_h=range(frames)) as out:
        for index in reversed(range(frames)):
            out.write_frame(index, values[index])
    labels = Labels.open(path)
    assert np.array_equal(np.stack([labels.frame(i) for i in range(frames)]), values)
    group = zarr.open_group(str(path), mode="r")
    assert [group[level].shape for level in labels.levels] == level_shapes(values.shape)
    for level in labels.levels[1:]:
        for index in range(frames):
            assert np.isin(group[level][index], values[index]).all()


def test_levels_lie_on_one_another(tmp_path):
    """A bright spot is at the same micrometres in every level, by the metadata alone."""
    frame = np.zeros((1, 1100, 1300), np.uint16)
    frame[0, 400:408, 800:808] = 60000
    path = write_movie(tmp_path / "S.zarr", [frame], channels=["a"], pixel_size_um=0.65, time_h=[0])
    levels = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"]
    assert [level["path"] for level in levels] == ["0", "1", "2"] == list(Movie.open(path).levels)
    group = zarr.open_group(str(path), mode="r")
    for level in levels:
        plane = group[level["path"]][0, 0].astype(float)
        transforms = {t["type"]: t[t["type"]] for t in level["coordinateTransformations"]}
        scale, shift = transforms["scale"], transforms.get("translation", [0] * 4)
        y, x = np.indices(plane.shape)
        place = [(plane * at).sum() / plane.sum() * scale[k] + shift[k] for k, at in ((2, y), (3, x))]
        assert place == pytest.approx([403.5 * 0.65, 803.5 * 0.65])


def test_ome_zarr_reads_all_levels(tmp_path):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    path = write_movie(
        tmp_path / "S.zarr", np.ones((2, 1, 700, 600), "u2"), channels="a", pixel_size_um=1, time_h=[0, 1]
    )
    node = next(iter(Reader(parse_url(str(path)))()))
    assert [level.shape[-2:] for level in node.data] == [(700, 600), (350, 300)]
