"""Movie -> release -> movie: nothing is lost, whatever the movie; runs that were ended go on."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.container.movies import Movie, MovieWriter, write_movie
from hyped_core.design import default_design
from hyped_core.errors import CorruptFileError, HypedError, InvalidDataError
from hyped_imaging.movies.importing import import_movie
from hyped_imaging.movies.params import ExportParams, ImportParams
from hyped_imaging.movies.release import export_frames
from hyped_imaging.parallel import Workers

DESIGN = default_design()


def make(path: Path, data: np.ndarray, times: list[float], lost: dict[int, str], **facts: object) -> Movie:
    channels = [f"c{k}" for k in range(data.shape[1])]
    settings = {"channels": channels, "pixel_size_um": 0.65, "data_range": (0, 255), **facts}
    with MovieWriter(path, shape=data.shape, dtype=data.dtype, time_h=times, **settings) as writer:
        for index, frame in enumerate(data):
            writer.write_missing(index, lost[index]) if index in lost else writer.write_frame(index, frame)
    return Movie.open(path)


def assert_equal(one: Movie, other: Movie) -> None:
    assert one.shape == other.shape and one.dtype == other.dtype
    assert one.channels == other.channels and one.pixel_size_um == other.pixel_size_um
    assert one.data_range == other.data_range and one.missing_frames == other.missing_frames
    np.testing.assert_array_equal(one.time_h, other.time_h)
    for index in range(one.n_frames):
        np.testing.assert_array_equal(one.frame(index), other.frame(index))


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_movie_comes_back_from_its_release(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    tmp = tmp_path_factory.mktemp("trip")
    shape = tuple(data.draw(st.integers(1, n)) for n in (5, 3, 9, 9))
    dtype = np.dtype(data.draw(st.sampled_from(["u1", "u2", "u4", "i2", "i4", "f4", "f8"])))
    steps = data.draw(st.lists(st.floats(1e-4, 1e3), min_size=shape[0], max_size=shape[0]))
    some = st.dictionaries(st.integers(0, shape[0] - 1), st.sampled_from(["cut", "ö"]), max_size=shape[0] - 1)
    lost = data.draw(some)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    pixels = (rng.random(shape) * 200).astype(dtype)
    movie = make(tmp / "S0.zarr", pixels, np.cumsum(steps).tolist(), lost)
    compression = data.draw(st.sampled_from(["lz4", "zstd", "gzip", "none"]))
    names = export_frames(movie, tmp / "release", ExportParams(compression=compression))
    assert len(names) == shape[0] - len(lost)
    import_movie([tmp / "release"], tmp / "back.zarr", ImportParams(), DESIGN)
    assert_equal(Movie.open(tmp / "back.zarr"), movie)
    import_movie([tmp / "S0.zarr"], tmp / "copy.zarr", ImportParams(), DESIGN)
    assert_equal(Movie.open(tmp / "copy.zarr"), movie)


@pytest.fixture
def movie(tmp_path: Path) -> Movie:
    data = np.random.default_rng(0).integers(0, 9000, (5, 2, 20, 30), dtype=np.uint16)
    return make(tmp_path / "S0.zarr", data, [0, 1, 2, 9, 10], {})


def test_a_file_that_is_absent_is_a_missing_frame(movie: Movie, tmp_path: Path) -> None:
    export_frames(movie, tmp_path / "release", ExportParams())
    (tmp_path / "release" / "frame_00002.h5").unlink()
    import_movie([tmp_path / "release"], tmp_path / "a.zarr", ImportParams(), DESIGN)
    back = Movie.open(tmp_path / "a.zarr")
    assert list(back.missing_frames) == [2] and "absent" in back.missing_frames[2]
    assert back.time_h.tolist() == [0, 1, 2, 9, 10] and not back.frame(2).any()
    (tmp_path / "release" / "release.json").unlink()  # then the times alone keep the gap
    import_movie([tmp_path / "release"], tmp_path / "b.zarr", ImportParams(), DESIGN)
    assert Movie.open(tmp_path / "b.zarr").time_h.tolist() == [0, 1, 9, 10]


def test_an_export_and_an_import_go_on_where_they_were_ended(
    movie: Movie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = Movie.frame, []

    def failing(self: Movie, index: int) -> np.ndarray:
        if index == 3 and 3 not in seen:
            seen.append(3)
            raise CorruptFileError("disk gone", where=self.path)
        seen.append(index)
        return read(self, index)

    monkeypatch.setattr(Movie, "frame", failing)
    with pytest.raises(CorruptFileError):
        export_frames(movie, tmp_path / "release", ExportParams())
    assert not (tmp_path / "release").exists()
    export_frames(movie, tmp_path / "release", ExportParams())
    assert seen == [0, 1, 2, 3, 3, 4]
    seen.clear()
    with pytest.raises(CorruptFileError):
        import_movie([movie.path], tmp_path / "m.zarr", ImportParams(), DESIGN)
    assert not (tmp_path / "m.zarr").exists()
    import_movie([movie.path], tmp_path / "m.zarr", ImportParams(), DESIGN)
    assert seen == [0, 1, 2, 3, 3, 4]
    assert_equal(Movie.open(tmp_path / "m.zarr"), movie)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["S0.zarr", "m.zarr", "release"]


def test_two_processes_write_the_same_bytes(movie: Movie, tmp_path: Path) -> None:
    for count in (1, 2):
        workers = Workers(count)
        export_frames(movie, tmp_path / f"r{count}", ExportParams(), workers=workers)
        (tmp_path / str(count)).mkdir()
        import_movie([tmp_path / "r1"], tmp_path / str(count) / "m.zarr", ImportParams(), DESIGN, workers=workers)
    for one, two in (("r1", "r2"), ("1", "2")):
        files = [path.relative_to(tmp_path / one) for path in sorted((tmp_path / one).rglob("*")) if path.is_file()]
        assert len(files) > 5
        for name in files:
            assert (tmp_path / one / name).read_bytes() == (tmp_path / two / name).read_bytes()


def test_the_release_says_how_it_is_read(movie: Movie, tmp_path: Path) -> None:
    for compression, said in (("zstd", "hdf5plugin"), ("gzip", "h5py")):
        export_frames(movie, tmp_path / compression, ExportParams(compression=compression))
        with h5py.File(tmp_path / compression / "frame_00001.h5") as file:
            assert said in file.attrs["read_with"]
        told = json.loads((tmp_path / compression / "release.json").read_text())
        assert told["time_h"] == [0, 1, 2, 9, 10] and said in told["read_with"]


@pytest.mark.parametrize("order", ["TZCYX", "TCZYX", "CTZYX", "ZTCYX"])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True, "compression": "zlib"}])
def test_ome_tiff_of_any_order(tmp_path: Path, order: str, options: dict) -> None:
    sizes = {"T": 3, "C": 2, "Z": 2, "Y": 9, "X": 11}
    data = np.random.default_rng(1).integers(0, 60000, [sizes[name] for name in order], dtype=np.uint16)
    tifffile.imwrite(
        tmp_path / "m.ome.tif", data, photometric="minisblack", **options,
        metadata={"axes": order, "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "Channel": {"Name": ["a", "b"]},
                  "TimeIncrement": 20, "TimeIncrementUnit": "min"},
    )  # fmt: skip
    import_movie([tmp_path / "m.ome.tif"], tmp_path / "m.zarr", ImportParams(start_h=2), DESIGN)
    movie = Movie.open(tmp_path / "m.zarr")
    expected = np.transpose(data, [order.index(name) for name in "TCZYX"]).max(axis=2)
    np.testing.assert_array_equal(np.stack([movie.frame(k) for k in range(3)]), expected)
    np.testing.assert_allclose(movie.time_h, [2, 2 + 1 / 3, 2 + 2 / 3])
    assert movie.channels == ("a", "b") and movie.pixel_size_um == 0.5


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_ome_zarr_writes(tmp_path: Path, version: str) -> None:
    import zarr
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_multiscale

    data = np.random.default_rng(2).integers(0, 60000, (3, 2, 40, 30), dtype=np.uint16)
    form = FormatV04() if version == "0.4" else FormatV05()
    root = zarr.open_group(str(tmp_path / "f.zarr"), mode="w", zarr_format=2 if version == "0.4" else 3)
    axes = [{"name": "t", "type": "time", "unit": "hour"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale = [[{"type": "scale", "scale": [0.25, 1.0, 0.65, 0.65]}]]
    write_multiscale([data], root, axes=axes, fmt=form, coordinate_transformations=scale)
    import_movie([tmp_path / "f.zarr"], tmp_path / "m.zarr", ImportParams(start_h=1), DESIGN)
    movie = Movie.open(tmp_path / "m.zarr")
    np.testing.assert_array_equal(np.stack([movie.frame(k) for k in range(3)]), data)
    assert movie.pixel_size_um == 0.65 and movie.time_h.tolist() == [1, 1.25, 1.5]


@pytest.mark.parametrize("dtype", [np.int64, np.complex64, bool])
def test_pixels_that_cannot_be_held_are_refused(tmp_path: Path, dtype: type) -> None:
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["image"] = np.ones((1, 6, 7), dtype)
    with pytest.raises(HypedError) as caught:
        import_movie([tmp_path / "odd.h5"], tmp_path / "m.zarr", ImportParams(pixel_size_um=1), DESIGN)
    assert "odd.h5" in str(caught.value) and caught.value.exit_code == 3 and caught.value.mend


@pytest.mark.parametrize("keep", [0, 40, 0.5])
def test_a_damaged_frame_of_many_is_a_missing_frame(tmp_path: Path, keep: float) -> None:
    data = np.random.default_rng(1).integers(0, 9000, (12, 2, 20, 30), dtype=np.uint16)
    movie = make(tmp_path / "S0.zarr", data, [*range(6), *range(20, 26)], {})
    export_frames(movie, tmp_path / "release", ExportParams())
    path = tmp_path / "release" / "frame_00005.h5"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    record = import_movie([tmp_path / "release"], tmp_path / "m.zarr", ImportParams(), DESIGN)
    back = Movie.open(tmp_path / "m.zarr")
    assert list(back.missing_frames) == [5] and record["n_frames"] == 12
    assert np.array_equal(back.time_h, movie.time_h)
    assert all(np.array_equal(back.frame(k), movie.frame(k)) for k in range(12) if k != 5)
    other = tmp_path / "release" / "frame_00007.h5"
    other.write_bytes(other.read_bytes()[:50])
    with pytest.raises(CorruptFileError, match="frame_0000[57]") as caught:
        import_movie([tmp_path / "release"], tmp_path / "n.zarr", ImportParams(), DESIGN)
    assert "max_lost_frames" in str(caught.value.mend) and not (tmp_path / "n.zarr").exists()


def test_damaged_frames_are_named(movie: Movie, tmp_path: Path) -> None:
    export_frames(movie, tmp_path / "release", ExportParams())
    path = tmp_path / "release" / "frame_00003.h5"
    content = path.read_bytes()
    for keep in (0, 40, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:keep])
        with pytest.raises(CorruptFileError, match="frame_00003") as caught:
            import_movie([tmp_path / "release"], tmp_path / "m.zarr", ImportParams(), DESIGN)
        assert caught.value.mend
    data = np.ones((2, 2, 4, 5), np.float32)
    spoiled = write_movie(tmp_path / "f.zarr", data, channels=["a", "b"], pixel_size_um=1, time_h=[0, 1])
    export_frames(Movie.open(spoiled), tmp_path / "floats", ExportParams(compression="none"))
    with h5py.File(tmp_path / "floats" / "frame_00001.h5", "r+") as file:
        file["image"][0, 1, 1] = np.nan
    with pytest.raises(InvalidDataError, match=r"frame_00001\.h5.*NaN"):
        import_movie([tmp_path / "floats"], tmp_path / "m.zarr", ImportParams(), DESIGN)
