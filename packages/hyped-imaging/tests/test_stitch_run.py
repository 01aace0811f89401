"""Stitching as a run: several processes, resuming, lost frames and tiles, odd exposures, the stage's drift."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hyped_core.container.movies import Movie
from hyped_core.design import default_design
from hyped_core.errors import CorruptFileError
from hyped_imaging.parallel import Workers
from hyped_imaging.readers import open_czi
from hyped_imaging.simulate.czi import CziSink
from hyped_imaging.stitch import StitchParams, plan_scene, stitch_scene
from hyped_imaging.stitch.drift import DriftMeter, small_picture
from hyped_imaging.stitch.fuse import Fuser
from hyped_imaging.stitch.offset import from_overlaps, overlap_terms
from hyped_imaging.stitch.source import TileSource

CORNERS = np.array([(0, 0), (0, 100), (90, 0), (90, 100)])
SIZE = (120, 130)
PLAIN = StitchParams(flatfield=False)
Picture = Callable[[int], np.ndarray]


def speckle(seed: int, shape: tuple[int, int] = (300, 320), blur: float = 2.0) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), blur)
    return np.clip(1500 + 500 * noise / noise.std(), 200, 4000)


def write(
    path: Path, picture: Picture, times: list[int], skip: set[tuple[int, int]] = frozenset(), bits: int = 14
) -> Path:
    """A CZI whose frames at ``times`` (indices of T, 10 minutes each) show ``picture``, less the tiles in
    ``skip``."""
    with CziSink(
        path, channels=["mKate"], scenes=["S0"], pixel_size_um=1.0, name="m", bits=bits,
        first_frame="2025-01-01T00:00:00Z", seed=1,
    ) as sink:  # fmt: skip
        for frame in times:
            shown = picture(frame)
            for tile, (y, x) in enumerate(CORNERS):
                if (frame, tile) in skip:
                    continue
                cut = shown[y : y + SIZE[0], x : x + SIZE[1]].astype(np.uint16)
                at = np.datetime64("2025-01-01T00:00:00", "us") + np.timedelta64(600 * frame + tile, "s")
                sink.write_tile(
                    cut, scene=0, frame=frame, channel=0, tile=tile, position_px=(int(x), int(y)), time=at
                )
    return path


def run(path: Path, out: Path, params: StitchParams = PLAIN, **kwargs: object) -> dict:
    with open_czi(path, "pylibczirw") as czi:
        return stitch_scene(czi, plan_scene(czi, 0, params, default_design()), out, params, **kwargs)  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*")) if p.is_file()
    }  # fmt: skip


def test_processes_and_an_ended_run_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.czi", speckle, list(range(5)))
    whole = run(path, tmp_path / "a" / "m.zarr")
    spread = run(path, tmp_path / "b" / "m.zarr", workers=Workers(2))
    original, read = TileSource.tiles, []

    def ends(self: TileSource, frame: int) -> list:
        if frame == 3 and not self._room:
            raise KeyboardInterrupt
        return original(self, frame)

    with monkeypatch.context() as patch:
        patch.setattr(TileSource, "tiles", ends)
        with pytest.raises(KeyboardInterrupt):
            run(path, tmp_path / "c" / "m.zarr")
    assert not (tmp_path / "c" / "m.zarr").exists()

    def counted(self: TileSource, frame: int) -> list:
        read.append(frame)
        return original(self, frame)

    monkeypatch.setattr(TileSource, "tiles", counted)
    resumed = run(path, tmp_path / "c" / "m.zarr")
    assert read == [3, 4]  # neither the finished frames nor the layout are worked on again
    assert content(tmp_path / "a") == content(tmp_path / "b") == content(tmp_path / "c")
    assert whole == spread == resumed


def test_other_parameters_do_not_go_on_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.czi", speckle, [0, 1, 2])
    original = TileSource.tiles

    def ends(self: TileSource, frame: int) -> list:
        if frame == 2 and not self._room:
            raise KeyboardInterrupt
        return original(self, frame)

    with monkeypatch.context() as patch:
        patch.setattr(TileSource, "tiles", ends)
        with pytest.raises(KeyboardInterrupt):
            run(path, tmp_path / "o" / "m.zarr")
    last = PLAIN.model_copy(update={"fusion": "last"})
    run(path, tmp_path / "o" / "m.zarr", last)
    run(path, tmp_path / "p" / "m.zarr", last)
    assert content(tmp_path / "o") == content(tmp_path / "p")  # and nothing of the first run is left


def damage(monkeypatch: pytest.MonkeyPatch, frames: set[int]) -> None:
    original = TileSource.tiles

    def tiles(self: TileSource, frame: int) -> list:
        if frame in frames:
            raise CorruptFileError("the pixels cannot be decoded")
        return original(self, frame)

    monkeypatch.setattr(TileSource, "tiles", tiles)


def test_a_lost_frame_is_recorded_and_the_others_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.czi", speckle, list(range(12)))
    whole = run(path, tmp_path / "whole.zarr")
    damage(monkeypatch, {5})
    record = run(path, tmp_path / "m.zarr")
    assert whole["missing_frames"] == {} and list(record["missing_frames"]) == ["5"]
    movie, other = Movie.open(tmp_path / "m.zarr"), Movie.open(tmp_path / "whole.zarr")
    assert list(movie.missing_frames) == [5] and not movie.frame(5).any()
    for frame in (0, 4, 6, 11):
        np.testing.assert_array_equal(movie.frame(frame), other.frame(frame))
    assert record["drift"]["frames_px"][5] is None and record["drift"]["frames_px"][6] is not None


@pytest.mark.parametrize("reader", ["aicspylibczi", "pylibczirw"])
def test_damaged_bytes_in_the_middle_cost_one_tile(tmp_path: Path, reader: str) -> None:
    if reader == "aicspylibczi":
        pytest.importorskip("aicspylibczi", reason="aicspylibczi is not installed")
    path = write(tmp_path / "m.czi", speckle, list(range(12)))
    with open_czi(path, "pylibczirw") as czi:
        position = int(czi.frame_rows(0, 6)["position"].iloc[2])
    stream = path.read_bytes().index(bytes.fromhex("28b52ffd"), position)
    with path.open("r+b") as file:
        file.seek(stream)
        file.write(b"\xa5" * 400)
    with open_czi(path, reader) as czi:
        record = stitch_scene(czi, plan_scene(czi, 0, PLAIN, default_design()), tmp_path / "m.zarr", PLAIN)
    assert record["missing_frames"] == {} and record["missing_tiles"] == [[6, 2]]
    movie = Movie.open(tmp_path / "m.zarr")
    assert not movie.frame(6)[0, 200:, :90].any() and movie.frame(6)[0, :80].all() and movie.frame(7).all()


@pytest.mark.parametrize("lost", [{0, 1, 2}, {3, 4, 5}, set(range(12))])
def test_too_many_lost_frames_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: set[int]) -> None:
    path = write(tmp_path / "m.czi", speckle, list(range(12)))
    damage(monkeypatch, lost)
    with pytest.raises(CorruptFileError):
        run(path, tmp_path / "m.zarr")
    assert not (tmp_path / "m.zarr").exists()


def test_a_missing_tile_and_a_missing_time_point(tmp_path: Path) -> None:
    path = write(tmp_path / "m.czi", speckle, [0, 1, 4, 5], skip={(4, 3)})
    record = run(path, tmp_path / "m.zarr")
    assert record["missing_tiles"] == [[2, 3]] and record["missing_frames"] == {}
    movie = Movie.open(tmp_path / "m.zarr")
    np.testing.assert_allclose(np.diff(movie.time_h) * 60, [10, 30, 10], atol=1e-6)
    frame = movie.frame(2)[0]
    truth = np.rint(speckle(4).astype(np.uint16))[:210, :230]
    np.testing.assert_array_equal(frame[:90], truth[:90])
    np.testing.assert_array_equal(frame[120:, :130], truth[120:210, :130])
    assert (frame[120:, 130:] == 0).all()


@pytest.mark.parametrize("level", [0, 700, 4095])
def test_black_constant_and_saturated_frames(tmp_path: Path, level: int) -> None:
    path = write(tmp_path / "m.czi", lambda _: np.full((300, 320), level), list(range(14)), bits=12)
    record = run(path, tmp_path / "m.zarr", StitchParams())
    frame = Movie.open(tmp_path / "m.zarr").frame(0)
    assert (frame == level).all()
    seen = record["levels"]["mKate"]
    assert seen["constant_frames"] == list(range(14)) and seen["lowest"] == seen["highest"] == level
    assert seen["saturated"] == (1.0 if level == 4095 else 0.0)
    assert np.isfinite([record["seam_error"], record["residual_px"], record["drift"]["max_px"]]).all()


def test_values_stay_in_the_cameras_range(tmp_path: Path) -> None:
    fuser = Fuser(CORNERS, np.tile(SIZE, (4, 1)), 1, np.full((1, *SIZE), 3.0, np.float32), [0.0], top=4095)
    assert fuser.fuse([np.full((1, *SIZE), 4000, np.uint16)] * 4).max() == 4095
    path = write(tmp_path / "m.czi", speckle, [0, 1], bits=12)
    run(path, tmp_path / "m.zarr")
    assert Movie.open(tmp_path / "m.zarr").data_range == (0.0, 4095.0)


def test_drift_is_measured_and_taken_back(tmp_path: Path) -> None:
    still = speckle(9, (340, 360))
    moves = np.array([(0, 0), (1, -2), (3, -4), (4, -7), (9, -8), (12, -11)])

    def moved(frame: int) -> np.ndarray:
        y, x = 20 - moves[frame]
        return still[y : y + 300, x : x + 320]

    path = write(tmp_path / "m.czi", moved, list(range(6)))
    record = run(path, tmp_path / "m.zarr")
    np.testing.assert_allclose(record["drift"]["frames_px"], moves, atol=0.5)
    assert record["drift"]["believed"] and not record["drift"]["corrected"]
    record = run(path, tmp_path / "c.zarr", PLAIN.model_copy(update={"correct_drift": True}))
    assert record["drift"]["corrected"]
    movie = Movie.open(tmp_path / "c.zarr")
    for frame, (y, x) in enumerate(moves):
        np.testing.assert_array_equal(
            movie.frame(frame)[0, : 210 - y, -x:] if x else movie.frame(frame)[0],
            movie.frame(0)[0, : 210 - y, -x:] if x else movie.frame(0)[0],
        )


def test_objects_that_move_on_their_own_are_no_drift() -> None:
    rng = np.random.default_rng(4)
    places = rng.uniform(0, 300, (60, 2))
    meter = DriftMeter(1, 32)
    for frame in range(20):
        picture = np.zeros((300, 300), np.float32)
        y, x = (places % 300).astype(int).T
        picture[y, x] = 1000
        meter.add(frame, small_picture(gaussian_filter(picture, 3)))
        places += rng.normal(0, 2, places.shape)
    assert not meter.solve().believed


def test_overlaps_show_the_cameras_offset_in_spite_of_read_noise() -> None:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[-1:1:120j, -1:1:130j]
    light = 1 - 0.3 * ((y - 0.2) ** 2 + (x + 0.3) ** 2)
    terms = []
    for seed in range(40):
        scene = 130 + gaussian_filter((np.random.default_rng(seed).random((120, 30)) > 0.995) * 4e4, 4)
        left, right = light[:, -30:], light[:, :30]
        shots = [100 + 8 * rng.poisson(scene * part / 8) + rng.normal(0, 12, scene.shape) for part in (left, right)]
        profiles = [100 + 130 * part for part in (left, right)]
        terms.append(overlap_terms(*(part[None] for part in (*shots, *profiles))))
    tops, bottoms = (np.stack(part) for part in zip(*terms, strict=True))
    offset, error = from_overlaps(tops, bottoms)
    assert offset == pytest.approx(100, abs=6) and error < 10


def test_a_frame_whose_first_tile_has_a_damaged_head_takes_the_time_between_its_neighbours(tmp_path: Path) -> None:
    path = write(tmp_path / "m.czi", lambda k: speckle(3), list(range(6)) + list(range(9, 14)))
    with open_czi(path, "direct") as czi:
        whole, source = czi.time_h(0)
        first = czi.structure.table.query("T == 4 and M == 0").iloc[0]
    with path.open("r+b") as file:
        file.seek(int(first["position"]) + 32)
        file.write(b"\xff" * 4)  # a length of the metadata that cannot be
    with open_czi(path, "direct") as czi:
        mended, again = czi.time_h(0)
    assert (source, again) == ("subblock", "subblock")
    np.testing.assert_allclose(mended, whole, atol=1e-9)
    assert np.diff(mended)[5] == pytest.approx(4 * np.diff(mended)[0]), "the gap in time stays"
    record = run(path, tmp_path / "m.zarr")
    assert record["n_frames"] == 11 and record["missing_tiles"] == [[4, 0]] and not record["missing_frames"]
