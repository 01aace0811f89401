"""Movies in and out: TIFF, HDF5 and NGFF keep pixels, times, names and units; bad input is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.cli.main import run
from hyped_core.container.movies import Movie, write_movie
from hyped_core.design import default_design
from hyped_core.errors import (
    CorruptFileError,
    HypedError,
    InvalidDataError,
    MissingFileError,
    UnsupportedDataError,
    UsageError,
)
from hyped_imaging.movies.importing import import_movie, open_source
from hyped_imaging.movies.params import ExportParams, ImportParams
from hyped_imaging.movies.release import export_frames

DESIGN = default_design()
TIMES = np.array([20.0, 20.25, 23.0])
"""Hours, with a gap."""


def pixels(t: int = 3, c: int = 2, y: int = 24, x: int = 31, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 16000, (t, c, y, x), dtype=np.uint16)


def bring(paths: list[Path], out: Path, **params: object) -> Movie:
    import_movie(paths, out, ImportParams(**params), DESIGN)
    return Movie.open(out)


@pytest.fixture
def movie(tmp_path: Path) -> Movie:
    path = write_movie(
        tmp_path / "S3.zarr",
        pixels(),
        channels=("Cy5", "mKate"),
        pixel_size_um=0.65,
        time_h=TIMES,
        data_range=(0, 16383),
    )
    return Movie.open(path)


def frames(movie: Movie) -> np.ndarray:
    return np.stack([movie.frame(i) for i in range(movie.n_frames)])


# -- the HDF5 release ----
@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_the_release_comes_back_without_loss(movie: Movie, tmp_path: Path, compression: str) -> None:
    names = export_frames(movie, tmp_path / "release", ExportParams(compression=compression))
    assert names == ["frame_00000.h5", "frame_00001.h5", "frame_00002.h5"]
    back = bring([tmp_path / "release"], tmp_path / "back.zarr")
    np.testing.assert_array_equal(frames(back), frames(movie))
    np.testing.assert_array_equal(back.time_h, TIMES)
    assert back.channels == movie.channels and back.dtype == movie.dtype
    assert back.pixel_size_um == 0.65 and back.data_range == (0.0, 16383.0)


def test_gzip_files_need_h5py_alone(movie: Movie, tmp_path: Path) -> None:
    export_frames(movie, tmp_path / "release", ExportParams(compression="gzip"))
    code = (
        "import sys, h5py\n"
        "f = h5py.File(sys.argv[1])\n"
        "print(int(f['image'][:].sum()), f.attrs['time_h'], *f.attrs['channels'])\n"
        "assert 'hdf5plugin' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "release" / "frame_00002.h5")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(int(movie.frame(2).sum())), "23.0", "Cy5", "mKate"]


def test_equal_movies_give_equal_files(movie: Movie, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_frames(movie, tmp_path / name, ExportParams())
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_an_export_does_not_write_over_other_files(movie: Movie, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep")
    with pytest.raises(UsageError, match="not an empty folder"):
        export_frames(movie, tmp_path / "mine", ExportParams())
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "keep"


@pytest.mark.parametrize("axes", ["CYX", "CXY", "YXC"])
def test_frames_of_others_by_their_axes(tmp_path: Path, axes: str) -> None:
    data = pixels()
    folder = tmp_path / "raw"
    folder.mkdir()
    order = ["CYX".index(name) for name in axes]
    for index in (0, 1, 2):
        with h5py.File(folder / f"f{index + 8}.h5", "w") as file:  # f8, f9, f10: natural order
            file["exp/stack"] = np.transpose(data[index], order)
    movie = bring([folder], tmp_path / "m.zarr", axes=axes, pixel_size_um=1, interval_min=20, start_h=2)
    np.testing.assert_array_equal(frames(movie), data)
    np.testing.assert_allclose(movie.time_h, [2, 2 + 1 / 3, 2 + 2 / 3])
    assert movie.channels == ("C0", "C1")


def test_one_dataset_a_channel(tmp_path: Path) -> None:
    data = pixels(t=1)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["SiR-DNA"], file["mKate2"] = data[0]
    movie = bring([tmp_path / "f.h5"], tmp_path / "m.zarr", pixel_size_um=1)
    assert movie.channels == ("Cy5", "mKate")
    np.testing.assert_array_equal(frames(movie), data)


def test_damaged_or_mixed_releases_are_refused(movie: Movie, tmp_path: Path) -> None:
    release = tmp_path / "release"
    export_frames(movie, release, ExportParams())
    whole = (release / "frame_00001.h5").read_bytes()
    (release / "frame_00001.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError) as caught:
        bring([release], tmp_path / "m.zarr")
    assert "frame_00001.h5" in str(caught.value)
    (release / "frame_00001.h5").write_bytes((release / "frame_00000.h5").read_bytes())
    with pytest.raises(InvalidDataError, match="same time"):
        bring([release], tmp_path / "m.zarr")
    with h5py.File(release / "frame_00001.h5", "w") as file:
        file["image"] = np.zeros((2, 5, 5), np.uint16)
    with pytest.raises(InvalidDataError, match="shape"):
        bring([release], tmp_path / "m.zarr")
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file["names"] = np.array([1, 2, 3])
    with pytest.raises(UnsupportedDataError, match="no image"):
        bring([tmp_path / "none.h5"], tmp_path / "m.zarr")
    assert not (tmp_path / "m.zarr").exists()


# -- TIFF ----
def test_ome_tiff_brings_names_units_and_uneven_times(tmp_path: Path) -> None:
    data = pixels()
    seconds = [0.0, 900.0, 10800.0]
    tifffile.imwrite(
        tmp_path / "m.ome.tif",
        data,
        photometric="minisblack",
        metadata={
            "axes": "TCYX",
            "Channel": {"Name": ["Cy5", "TagGFP2"]},
            "PhysicalSizeX": 650.0,
            "PhysicalSizeXUnit": "nm",
            "SignificantBits": 14,
            "Plane": {"DeltaT": np.repeat(seconds, 2).tolist(), "DeltaTUnit": ["s"] * 6},
        },
    )
    movie = bring([tmp_path / "m.ome.tif"], tmp_path / "m.zarr", start_h=20)
    np.testing.assert_array_equal(frames(movie), data)
    np.testing.assert_allclose(movie.time_h, TIMES)
    assert movie.channels == ("Cy5", "TagGFP") and movie.pixel_size_um == pytest.approx(0.65)
    assert movie.data_range == (0.0, 16383.0)


def test_imagej_hyperstack(tmp_path: Path) -> None:
    data = pixels()
    tifffile.imwrite(
        tmp_path / "ij.tif",
        data,
        imagej=True,
        resolution=(2.0, 2.0),
        metadata={"axes": "TCYX", "unit": "um", "finterval": 1200.0},
    )
    movie = bring([tmp_path / "ij.tif"], tmp_path / "m.zarr", channels=("a", "b"))
    np.testing.assert_array_equal(frames(movie), data)
    np.testing.assert_allclose(movie.time_h, [0, 1 / 3, 2 / 3])
    assert movie.pixel_size_um == 0.5 and movie.channels == ("a", "b")


@settings(max_examples=25, deadline=None)
@given(
    axes=st.permutations("TCZ").flatmap(lambda lead: st.sampled_from(["".join(lead[:n]) for n in range(4)])),
    sizes=st.tuples(*[st.integers(2, 3)] * 3),
    kind=st.sampled_from(["max", "mean", 1]),
    seed=st.integers(0, 99),
)
def test_any_order_of_axes(
    tmp_path_factory: pytest.TempPathFactory, axes: str, sizes: tuple, kind: str | int, seed: int
) -> None:
    tmp = tmp_path_factory.mktemp("axes")
    size = dict(zip("TCZ", sizes, strict=True))
    shape = (*(size[name] for name in axes), 9, 11)
    data = np.random.default_rng(seed).integers(0, 60000, shape, dtype=np.uint16)
    tifffile.imwrite(tmp / "m.tif", data, photometric="minisblack")
    source = open_source(
        [tmp / "m.tif"], ImportParams(axes=f"{axes}YX", z_projection=kind if "Z" in axes else "max")
    )
    full = np.transpose(data, [axes.index(n) for n in "TCZ" if n in axes] + [data.ndim - 2, data.ndim - 1])
    for position, name in enumerate("TCZ"):
        if name not in axes:
            full = np.expand_dims(full, position)
    if "Z" not in axes:
        expected = full[:, :, 0]
    elif kind == "max":
        expected = full.max(axis=2)
    else:
        expected = np.rint(full.mean(axis=2)) if kind == "mean" else full[:, :, 1]
    assert source.shape == expected.shape
    for index in range(source.shape[0]):
        np.testing.assert_array_equal(source.frame(index), expected[index])


def test_a_folder_of_tiffs_is_frames_and_files_are_channels(tmp_path: Path) -> None:
    data = pixels(c=1)
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, name in enumerate(("t2.tif", "t3.tif", "t10.tif")):
        tifffile.imwrite(folder / name, data[index, 0])
    movie = bring([folder], tmp_path / "a.zarr", pixel_size_um=1, interval_min=60)
    np.testing.assert_array_equal(frames(movie), data)
    named = [folder / "t10.tif", folder / "t2.tif"]
    movie = bring(named, tmp_path / "b.zarr", pixel_size_um=1, channels=("late", "early"))
    assert movie.shape == (1, 2, 24, 31) and movie.channels == ("late", "early")
    np.testing.assert_array_equal(movie.plane(0, "early"), data[0, 0])


def test_bad_tiffs_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "ok.tif", pixels(c=1)[:, 0], photometric="minisblack")
    content = (tmp_path / "ok.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: len(content) - 500])
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "empty.tif").write_bytes(b"")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((3, 5, 5), np.uint16), photometric="minisblack")
    tifffile.imwrite(tmp_path / "nan.tif", np.full((8, 8), np.nan, np.float32))
    known = {"pixel_size_um": 1.0, "interval_min": 20.0}
    cases: list[tuple[list[str], dict, type[HypedError], str]] = [
        (["absent.tif"], known, MissingFileError, "absent.tif"),
        (["cut.tif"], known, CorruptFileError, "cut.tif"),
        (["text.tif"], known, CorruptFileError, "text.tif"),
        (["empty.tif"], known, CorruptFileError, "empty.tif"),
        (["rgb.tif"], known, UnsupportedDataError, "colour"),
        (["ok.tif", "small.tif"], known, InvalidDataError, "small.tif"),
        (["nan.tif"], known, InvalidDataError, "NaN"),
        (["ok.tif"], {"pixel_size_um": 1.0}, InvalidDataError, "interval"),
        (["ok.tif"], {"interval_min": 20.0}, InvalidDataError, "pixel-size"),
        (["ok.tif"], {**known, "channels": ("a", "b")}, InvalidDataError, "names given"),
    ]
    for names, params, error, said in cases:
        with pytest.raises(error) as caught:
            bring([tmp_path / name for name in names], tmp_path / "out.zarr", **params)
        assert said in str(caught.value), names
        assert caught.value.mend
    assert not [p for p in tmp_path.iterdir() if "out.zarr" in p.name]


# -- NGFF ----
def test_own_movies_pass_unchanged(movie: Movie, tmp_path: Path) -> None:
    back = bring([movie.path], tmp_path / "copy.zarr")
    np.testing.assert_array_equal(frames(back), frames(movie))
    np.testing.assert_array_equal(back.time_h, TIMES)
    moved = bring([movie.path], tmp_path / "moved.zarr", start_h=0, channels=("a", "b"))
    np.testing.assert_allclose(moved.time_h, TIMES - 20)
    assert moved.channels == ("a", "b")


def test_foreign_ngff_04(tmp_path: Path) -> None:
    import zarr

    data = pixels()
    group = zarr.open_group(str(tmp_path / "f.zarr"), mode="w", zarr_format=2)
    group.create_array("0", data=data, chunks=(1, 1, 24, 31))
    axes = [
        {"name": "t", "type": "time", "unit": "minute"},
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space", "unit": "nanometer"},
        {"name": "x", "type": "space", "unit": "nanometer"},
    ]
    scale = [{"type": "scale", "scale": [15.0, 1.0, 500.0, 500.0]}]
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    ]
    group.attrs["omero"] = {"channels": [{"label": "mKate2"}, {"label": "TagGFP2"}]}
    movie = bring([tmp_path / "f.zarr"], tmp_path / "m.zarr", start_h=1)
    np.testing.assert_array_equal(frames(movie), data)
    np.testing.assert_allclose(movie.time_h, [1, 1.25, 1.5])
    assert movie.channels == ("mKate", "TagGFP") and movie.pixel_size_um == pytest.approx(0.5)


# -- commands ----
def test_commands(movie: Movie, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    release, back = tmp_path / "release", tmp_path / "back.zarr"
    assert run(["imaging", "export", str(movie.path), str(release), "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 3 and not release.exists()
    assert run(["imaging", "export", str(movie.path), str(release), "--compression", "gzip"]) == 0
    assert run(["imaging", "import-movie", str(release), str(back), "--dry-run"]) == 0
    capsys.readouterr()
    assert not back.exists()
    assert run(["imaging", "import-movie", str(release), str(back), "--channels", "a, b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["channels"] == ["a", "b"]
    assert Movie.open(back).data_range == (0.0, 16383.0)
    assert run(["imaging", "export", str(movie.path), str(tmp_path / "again"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["files"] == sorted(path.name for path in (tmp_path / "again").glob("*.h5"))
    assert record["data_range"] == [0, 16383] and record["channels"] == ["Cy5", "mKate"]
    assert (record["n_frames"], record["time_first_h"], record["time_last_h"]) == (3, 20.0, 23.0)
    (tmp_path / "x.nd2").write_bytes(b"")
    assert run(["imaging", "import-movie", str(tmp_path / "x.nd2"), str(tmp_path / "y.zarr")]) == 3
    assert ".nd2" in capsys.readouterr().err


@pytest.mark.public
def test_the_real_fucci_movie(tmp_path: Path) -> None:
    folder = Path(os.environ.get("HYPED_PUBLIC_DATA", "/nowhere")) / "timelapse" / "fucci"
    if not folder.is_dir():
        pytest.skip("HYPED_PUBLIC_DATA names no folder with timelapse/fucci")
    files = [folder / f"{name}.tif" for name in ("red", "green", "phase")]
    movie = bring(files, tmp_path / "fucci.zarr", channels=("mKate", "TagGFP", "Oblique"))
    assert movie.shape == (3, 3, 342, 1212) and movie.pixel_size_um == pytest.approx(0.345, abs=1e-4)
    np.testing.assert_allclose(movie.time_h * 3600, [0, 600, 1200], atol=0.1)
    for index, file in enumerate(files):
        np.testing.assert_array_equal(frames(movie)[:, index], tifffile.imread(file))
