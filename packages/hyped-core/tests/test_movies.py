"""Movies and labels: what is written is read, lazily, whole or not at all; damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.container.movies import Labels, LabelsWriter, Movie, MovieWriter, write_movie
from hyped_core.errors import (
    CorruptFileError,
    DesignError,
    InvalidDataError,
    MissingFileError,
    UnsupportedDataError,
)
from hyped_core.io.hashing import digest

TIMES = [0.0, 0.33, 0.67, 2.5]


def pixels(shape: tuple[int, ...] = (4, 2, 30, 40), dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(3).integers(0, 200, shape).astype(dtype)


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    return write_movie(
        tmp_path / "S0.zarr",
        pixels(),
        channels=["Cy5", "mKate"],
        pixel_size_um=0.65,
        time_h=TIMES,
        data_range=(0, 16383),
        attrs={"offset": 100.0, "reader": "made"},
        chunk_yx=(16, 16),
    )


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    chunk=st.integers(1, 50),
)
def test_any_movie_reads_back_as_it_was_written(tmp_path_factory, shape, dtype, chunk):
    path = tmp_path_factory.mktemp("m") / "A.zarr"
    values = pixels(shape, dtype)
    names = [f"c{k}" for k in range(shape[1])]
    times = np.cumsum(np.arange(1, shape[0] + 1)) / 3
    write_movie(path, values, channels=names, pixel_size_um=0.5, time_h=times, chunk_yx=(chunk, chunk))
    movie = Movie.open(path)
    assert movie.shape == shape and movie.dtype == dtype and movie.channels == tuple(names)
    assert np.array_equal(np.stack([movie.frame(i) for i in range(shape[0])]), values)
    assert np.array_equal(movie.time_h, times)


def test_metadata_units_and_channels(movie: Path):
    opened = Movie.open(movie)
    assert opened.name == "S0"
    assert opened.pixel_size_um == 0.65
    assert opened.data_range == (0, 16383)
    assert opened.attrs["reader"] == "made"
    assert np.array_equal(opened.plane(3, "mKate"), pixels()[3, 1])
    assert np.array_equal(opened.frame(-1), pixels()[3])
    meta = opened.meta("mKate")
    assert (meta.channel, meta.offset, meta.time_h) == ("mKate", 100.0, tuple(TIMES))
    with pytest.raises(DesignError, match="Cy5, mKate"):
        opened.plane(0, "GFP")
    with pytest.raises(InvalidDataError, match="no frame 4"):
        opened.frame(4)


def test_ngff_metadata_as_the_standard_has_it(movie: Path):
    attrs = json.loads((movie / "zarr.json").read_text())["attributes"]
    image = attrs["ome"]["multiscales"][0]
    assert attrs["ome"]["version"] == "0.5"
    assert [(a["name"], a["type"]) for a in image["axes"]] == [
        ("t", "time"),
        ("c", "channel"),
        ("y", "space"),
        ("x", "space"),
    ]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"][2:] == [0.65, 0.65]
    array = json.loads((movie / "0" / "zarr.json").read_text())
    assert array["chunk_grid"]["configuration"]["chunk_shape"] == [1, 2, 32, 48]
    assert array["codecs"][0]["configuration"]["chunk_shape"] == [1, 1, 16, 16]


def test_ome_zarr_reads_what_we_write(movie: Path):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    node = next(iter(Reader(parse_url(str(movie)))()))
    assert node.metadata["channel_names"] == ["Cy5", "mKate"]
    assert np.array_equal(np.asarray(node.data[0][2]), pixels()[2])


def test_lazy_views(movie: Path):
    opened = Movie.open(movie)
    named = opened.xarray()
    assert named.dims == ("t", "c", "y", "x")
    assert named.coords["time_h"].values.tolist() == TIMES
    assert float(named.coords["y"][2]) == pytest.approx(1.3)
    assert np.array_equal(named.sel(c="mKate").isel(t=1).values, pixels()[1, 1])
    assert opened.dask().numblocks[0] == 4


def test_reading_a_movie_imports_no_spatialdata():
    import subprocess
    import sys

    heavy = "('spatialdata', 'anndata', 'zarr', 'dask')"
    code = f"import sys, hyped_core.container.movies; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_same_content_same_bytes(tmp_path: Path):
    for name in "ab":
        write_movie(
            tmp_path / name / "S.zarr",
            pixels((2, 3, 300, 400)),
            channels="xyz",
            pixel_size_um=1,
            time_h=[0, 1],
        )
    assert digest(tmp_path / "a").sha256 == digest(tmp_path / "b").sha256


def writer(path: Path, **changes) -> MovieWriter:
    given = {
        "shape": (4, 2, 30, 40),
        "dtype": "uint16",
        "channels": ["a", "b"],
        "pixel_size_um": 1,
        "time_h": TIMES,
    }
    return MovieWriter(path, **{**given, **changes})


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), writer(tmp_path / "S.zarr") as out:
        out.write_frame(0, pixels()[0])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_frames_in_any_order_and_which_are_written(tmp_path: Path):
    with writer(tmp_path / "S.zarr") as out:
        for i in (2, 0):
            out.write_frame(i, np.zeros((2, 30, 40), "uint16"))
        assert out.written() == [0, 2]
        assert not (tmp_path / "S.zarr").exists()
        for i in (3, 1):
            out.write_frame(i, pixels()[i])
    opened = Movie.open(tmp_path / "S.zarr")
    assert opened.written() == [0, 1, 2, 3]
    assert not opened.frame(2).any() and np.array_equal(opened.frame(3), pixels()[3])


def test_a_missing_frame_is_refused_and_the_old_movie_stays(movie: Path):
    before = digest(movie)
    with (
        pytest.raises(InvalidDataError, match=r"2 of 4 frames were never written \(1, 3\)"),
        writer(movie) as out,
    ):
        out.write_frame(0, pixels()[0])
        out.write_frame(2, pixels()[2])
    assert digest(movie) == before
    assert [p.name for p in movie.parent.iterdir()] == ["S0.zarr"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ["a"]}, "one distinct name"),
        ({"channels": ["a", "a"]}, "one distinct name"),
        ({"time_h": [0, 1, 2]}, "4 frames"),
        ({"time_h": [0, 2, 1, 3]}, "increase"),
        ({"time_h": [0, 1, np.nan, 3]}, "finite"),
        ({"pixel_size_um": 0}, "positive"),
        ({"shape": (4, 2, 0, 40)}, "sizes"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(InvalidDataError, match=message):
        writer(tmp_path / "S.zarr", **changes)
    assert list(tmp_path.iterdir()) == []


def test_values_that_do_not_fit_are_refused(tmp_path: Path):
    with pytest.raises(InvalidDataError, match="do not fit"), writer(tmp_path / "S.zarr") as out:
        out.write_frame(0, np.full((2, 30, 40), 70000.0))


def test_missing_and_foreign_paths(tmp_path: Path):
    with pytest.raises(MissingFileError, match="no such movie"):
        Movie.open(tmp_path / "no.zarr")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CorruptFileError, match="is a file"):
        Movie.open(tmp_path / "file")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(CorruptFileError, match="cannot be read"):
        Movie.open(tmp_path / "empty.zarr")
    zarr.open_group(str(tmp_path / "plain.zarr"), mode="w", attributes={"a": 1})
    with pytest.raises(CorruptFileError, match="multiscales") as caught:
        Movie.open(tmp_path / "plain.zarr")
    assert caught.value.mend and str(tmp_path) in caught.value.where


def test_truncated_metadata_and_pixels_are_named(movie: Path):
    shard = movie / "0" / "c" / "1" / "0" / "0" / "0"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    assert np.array_equal(Movie.open(movie).frame(0), pixels()[0])
    with pytest.raises(CorruptFileError, match="frame 1"):
        Movie.open(movie).frame(1)
    flipped = bytearray(whole)
    flipped[40] ^= 0xFF
    shard.write_bytes(bytes(flipped))
    with pytest.raises(CorruptFileError, match="frame 1"):
        Movie.open(movie).frame(1)
    shard.unlink()
    with pytest.raises(CorruptFileError, match="pixels of frame 1 are missing"):
        Movie.open(movie).frame(1)
    for name in ("0/zarr.json", "zarr.json"):
        text = (movie / name).read_text()
        (movie / name).write_text(text[: len(text) // 2])
        with pytest.raises(CorruptFileError):
            Movie.open(movie)


def test_a_newer_schema_asks_for_an_upgrade(movie: Path):
    values = json.loads((movie / "zarr.json").read_text())
    values["attributes"]["hyped"]["schema_version"] = 99
    (movie / "zarr.json").write_text(json.dumps(values))
    with pytest.raises(UnsupportedDataError, match="version 99") as caught:
        Movie.open(movie)
    assert "upgrade" in caught.value.mend


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["tcyx", "tczyx", "cyx", "yx", "tyx"])
def test_foreign_ngff_movies_open(tmp_path: Path, version: str, axes: str):
    sizes = {"t": 3, "c": 2, "z": 1, "y": 10, "x": 12}
    values = np.arange(np.prod([sizes[a] for a in axes])).reshape([sizes[a] for a in axes]).astype("uint16")
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    described[-1]["unit"] = described[-2]["unit"] = "nanometer"
    scale = [1.0] * (len(axes) - 2) + [500.0, 500.0]
    transforms = [{"type": "scale", "scale": scale}]
    image = {"axes": described, "datasets": [{"path": "0", "coordinateTransformations": transforms}]}
    old = version == "0.4"
    attrs = {"multiscales": [{**image, "version": version}]}
    attrs = attrs if old else {"ome": {"version": version, **attrs}}
    group = zarr.open_group(str(tmp_path / "f.zarr"), mode="w", zarr_format=2 if old else 3, attributes=attrs)
    group.create_array("0", data=values)
    movie = Movie.open(tmp_path / "f.zarr")
    frames = sizes["t"] if "t" in axes else 1
    assert movie.shape == (frames, 2 if "c" in axes else 1, 10, 12)
    assert movie.pixel_size_um == pytest.approx(0.5)
    assert np.array_equal(np.stack([movie.frame(i) for i in range(frames)]), values.reshape(movie.shape))
    assert np.array_equal(movie.dask().compute(), values.reshape(movie.shape))
    if frames > 1:
        with pytest.raises(InvalidDataError, match="interval_h"):
            _ = movie.time_h
        again = Movie.open(tmp_path / "f.zarr", interval_h=0.5)
        assert again.time_h.tolist() == [0, 0.5, 1.0]


def test_a_stack_in_z_is_refused(tmp_path: Path):
    axes = [{"name": a} for a in "tczyx"]
    attrs = {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}}
    group = zarr.open_group(str(tmp_path / "z.zarr"), mode="w", attributes=attrs)
    group.create_array("0", data=np.zeros((2, 1, 4, 5, 5)))
    with pytest.raises(UnsupportedDataError, match="4 z planes"):
        Movie.open(tmp_path / "z.zarr")


def test_pixels_of_the_other_byte_order_and_of_no_number(tmp_path: Path):
    values = pixels((1, 1, 5, 6), ">u2")
    path = write_movie(tmp_path / "S.zarr", values, channels="a", pixel_size_um=1, time_h=[0])
    assert np.array_equal(Movie.open(path).frame(0), values[0])
    assert np.array_equal(zarr.open_group(str(path), mode="r")["0"][0], values[0])
    for dtype in ("bool", "complex64", "U3"):
        with pytest.raises(InvalidDataError, match="integers or floats"):
            writer(tmp_path / "B.zarr", dtype=dtype, data_range=(0, 1))


def test_labels_round_trip(tmp_path: Path):
    values = pixels((4, 30, 40), "int32")
    path = tmp_path / "S0.zarr"
    with LabelsWriter(
        path, shape=(4, 30, 40), pixel_size_um=0.65, time_h=TIMES, source="../../movies/S0.zarr"
    ) as out:
        for i, frame in enumerate(values):
            out.write_frame(i, frame)
    labels = Labels.open(path)
    assert labels.shape == (4, 30, 40) and labels.dtype == np.int32
    assert labels.source == "../../movies/S0.zarr"
    assert labels.time_h.tolist() == TIMES
    assert np.array_equal(labels.frame(2), values[2])
    assert np.array_equal(labels.dask().compute(), values)
    named = labels.xarray()
    assert named.dims == ("t", "y", "x") and named.coords["time_h"].values.tolist() == TIMES
    assert np.array_equal(labels.lazy(3).compute(), values[3])


def test_labels_refuse_what_is_no_label(tmp_path: Path, movie: Path):
    for bad in (np.full((30, 40), -1), np.zeros((30, 40), float), np.full((30, 40), 2**40)):
        given = LabelsWriter(tmp_path / "L.zarr", shape=(1, 30, 40), pixel_size_um=1, time_h=[0])
        with pytest.raises(InvalidDataError), given as out:
            out.write_frame(0, bad)
    assert not (tmp_path / "L.zarr").exists()
    with pytest.raises(UnsupportedDataError, match="no labels"):
        Labels.open(movie)
    write_labels = LabelsWriter(tmp_path / "L.zarr", shape=(1, 30, 40), pixel_size_um=1, time_h=[0])
    with write_labels as out:
        out.write_frame(0, np.zeros((30, 40), int))
    with pytest.raises(UnsupportedDataError, match="no movie but labels"):
        Movie.open(tmp_path / "L.zarr")
