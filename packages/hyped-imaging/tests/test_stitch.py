"""Stitching: pictures cut into tiles come back, whatever the layout; light, seams, times and errors."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from hyped_core.cli.main import run
from hyped_core.container.movies import Movie
from hyped_core.design import default_design
from hyped_core.errors import HypedError, InvalidDataError
from hyped_imaging.readers import open_czi
from hyped_imaging.simulate.czi import CziSink
from hyped_imaging.stitch import StitchParams, plan_scene, stitch_scene
from hyped_imaging.stitch.flatfield import block_means, estimate_flatfield
from hyped_imaging.stitch.fuse import Fuser
from hyped_imaging.stitch.layout import solve_layout
from hyped_imaging.stitch.offset import block_noise, estimate_offset
from hyped_imaging.stitch.register import PairShift, find_overlaps, measure_pairs
from hyped_imaging.stitch.seams import Seams, intensity_scale

NO_LIGHT = StitchParams(flatfield=False)


def public_files() -> list[Path]:
    folder = Path(os.environ.get("HYPED_PUBLIC_DATA", "/nowhere")) / "czi"
    return sorted(folder.glob("*.czi"))


def texture(rng: np.random.Generator, shape: tuple[int, int], blur: float = 1.5) -> np.ndarray:
    """A textured picture in camera units, 500 to about 3000."""
    noise = gaussian_filter(rng.standard_normal(shape), blur)
    return np.clip(1500 + 500 * noise / noise.std(), 200, 4000).astype(np.uint16)


def cut(picture: np.ndarray, corners: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    return [picture[None, y : y + size[0], x : x + size[1]] for y, x in corners]


# -- pure functions ----
@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    height=st.integers(48, 90),
    width=st.integers(48, 90),
    overlap=st.integers(16, 24),
    jitter=st.integers(0, 3),
    blur=st.floats(0.8, 3),
    seed=st.integers(0, 2**32 - 1),
    mode=st.sampled_from(["feather", "last"]),
)
def test_any_layout_and_jitter_comes_back(
    rows: int,
    columns: int,
    height: int,
    width: int,
    overlap: int,
    jitter: int,
    blur: float,
    seed: int,
    mode: str,
) -> None:
    rng = np.random.default_rng(seed)
    nominal = np.array(
        [(r * (height - overlap), c * (width - overlap)) for r in range(rows) for c in range(columns)]
    )
    true = nominal + jitter + rng.integers(-jitter, jitter + 1, nominal.shape)
    picture = texture(rng, tuple(true.max(axis=0) + [height, width] + 1), blur)
    tiles = cut(picture, true, (height, width))
    sizes = np.tile([height, width], (len(nominal), 1))
    pairs = measure_pairs([tiles], find_overlaps(nominal, sizes), nominal, sizes).pairs
    layout = solve_layout(nominal, pairs)
    assert layout.used.all()
    moved = layout.positions - layout.positions[0]
    np.testing.assert_allclose(moved, true - true[0], atol=0.49)
    corners = np.rint(moved).astype(int)
    low = corners.min(axis=0)
    fused = Fuser(corners - low, sizes, 1, mode=mode).fuse(tiles)[0]
    origin = true[0] + low
    expected = picture[origin[0] :, origin[1] :][: fused.shape[0], : fused.shape[1]]
    covered = Fuser(corners - low, sizes, 1, mode="last").fuse([np.ones_like(t) for t in tiles])[0] > 0
    np.testing.assert_array_equal(fused[covered], expected[covered])
    assert (fused[~covered] == 0).all()


def test_a_pair_that_contradicts_the_others_loses_its_say() -> None:
    stage = np.array([(0, 0), (0, 100), (100, 0), (100, 100)], float)
    good = [
        PairShift(0, 1, (1, 2), 0.9, True),
        PairShift(0, 2, (-1, 0), 0.9, True),
        PairShift(1, 3, (-1, 0), 0.8, True),
        PairShift(2, 3, (1, 2), 0.8, True),
    ]
    wrong = PairShift(0, 3, (14, -9), 0.3, True)
    layout = solve_layout(stage, [*good, wrong])
    assert layout.used.tolist() == [True] * 4 + [False]
    moved = layout.positions - stage
    np.testing.assert_allclose(moved - moved[0], [(0, 0), (1, 2), (-1, 0), (0, 2)], atol=0.05)
    assert layout.residual_px < 0.05
    assert np.isnan(layout.residuals[4]).all()


def test_tiles_without_signal_stay_where_the_stage_put_them() -> None:
    stage = np.array([(0, 0), (0, 80), (0, 160)])
    sizes = np.tile([90, 100], (3, 1))
    blank = [np.full((1, 90, 100), 300, np.uint16)] * 3
    pairs = measure_pairs([blank], find_overlaps(stage, sizes), stage, sizes).pairs
    assert len(pairs) == 2 and not any(pair.trusted for pair in pairs)
    layout = solve_layout(stage, pairs)
    np.testing.assert_allclose(layout.positions, stage)
    assert layout.residual_px == 0.0


def test_noise_alone_is_not_trusted() -> None:
    rng = np.random.default_rng(3)
    stage = np.array([(0, 0), (0, 80), (70, 0), (70, 80)])
    sizes = np.tile([90, 100], (4, 1))
    trusted = total = 0
    for _ in range(10):
        tiles = [rng.poisson(200, (1, 90, 100)).astype(np.uint16) for _ in range(4)]
        pairs = measure_pairs([tiles], find_overlaps(stage, sizes), stage, sizes).pairs
        trusted, total = trusted + sum(pair.trusted for pair in pairs), total + len(pairs)
    assert total == 40 and trusted <= 2


def test_flatfield_and_offset_are_found() -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[-1:1:96j, -1:1:128j]
    light = 1 - 0.2 * ((y - 0.2) ** 2 + (x + 0.1) ** 2)
    light /= light.mean()
    gain, offset = 4.0, 120.0
    tiles = []
    for _ in range(160):
        scene = np.full(light.shape, 180.0)
        for _ in range(12):
            cy, cx = rng.integers(0, 96), rng.integers(0, 128)
            scene[max(cy - 6, 0) : cy + 6, max(cx - 6, 0) : cx + 6] += rng.uniform(300, 1200)
        tiles.append((rng.poisson(scene * light / gain) * gain + offset)[None].astype(np.uint16))
    means = np.stack([block_means(tile)[0] for tile in tiles])
    noise = np.stack([block_noise(tile)[0] for tile in tiles])
    found = estimate_offset([means], [noise])
    assert found == pytest.approx(offset, abs=30)
    flat = estimate_flatfield(means, light.shape, offset=found)
    assert flat.flat.mean() == pytest.approx(1.0, abs=1e-5)
    assert np.abs(flat.flat - light).max() < 0.06


@pytest.mark.parametrize("level", [0, 300, 65535])
def test_black_constant_and_saturated_tiles_leave_light_even(level: int) -> None:
    tile = np.full((1, 64, 64), level, np.uint16)
    means, noise = np.stack([block_means(tile)[0]] * 60), np.stack([block_noise(tile)[0]] * 60)
    flat = estimate_flatfield(means, (64, 64), offset=estimate_offset([means], [noise]))
    np.testing.assert_allclose(flat.flat, 1.0, atol=1e-5)


def test_seam_error_is_zero_at_the_right_place_only() -> None:
    picture = texture(np.random.default_rng(1), (80, 160))
    true = np.array([(0, 0), (2, 60)])
    sizes = np.tile([70, 90], (2, 1))
    tiles = cut(picture, true, (70, 90))
    overlaps = find_overlaps(np.array([(0, 0), (0, 63)]), sizes)
    fuser, stage = Fuser(true, sizes, 1), np.array([(0, 0), (0, 63)])
    scale = intensity_scale(tiles, stage, overlaps, fuser)
    right, wrong = Seams.none(1), Seams.none(1)
    right.add(tiles, true, overlaps, fuser, scale)
    wrong.add(tiles, stage, overlaps, fuser, scale)
    assert right.error == 0 and right.by_pair[0] == 0
    assert wrong.error > 0.05 and wrong.by_pair[0] == wrong.error


def test_a_missing_tile_leaves_the_others_whole() -> None:
    picture = texture(np.random.default_rng(2), (100, 170))
    corners = np.array([(0, 0), (0, 70)])
    sizes = np.tile([100, 100], (2, 1))
    tiles = cut(picture, corners, (100, 100))
    fused = Fuser(corners, sizes, 1).fuse([tiles[0], None])[0]
    np.testing.assert_array_equal(fused[:, :100], picture[:, :100])
    assert (fused[:, 100:] == 0).all()


# -- from a file ----
TRUE = np.array([(0, 0), (2, 62), (49, 3), (52, 60)])
"""y, x; the stage says (0, 0), (0, 60), (50, 0), (50, 60)."""
SECONDS = (0, 1200, 2400, 7200, 8400)


def write_mosaic(path: Path, frames: int = 5, noise: float = 8.0) -> Path:
    rng = np.random.default_rng(11)
    with CziSink(
        path,
        channels=["SiR-DNA", "mKate"],
        scenes=["S4"],
        pixel_size_um=1.0,
        name="m",
        first_frame="2025-01-01T00:00:00Z",
        seed=3,
    ) as sink:
        for frame in range(frames):
            time = np.datetime64("2025-01-01T00:00:00", "us") + np.timedelta64(SECONDS[frame], "s")
            for channel in range(2):
                picture = texture(np.random.default_rng([frame, channel]), (130, 150), 2.0)
                for index, (y, x) in enumerate(TRUE):
                    noisy = picture[y : y + 64, x : x + 72] + noise * rng.standard_normal((64, 72))
                    sink.write_tile(
                        np.clip(noisy, 0, 16383).astype(np.uint16),
                        scene=0,
                        frame=frame,
                        channel=channel,
                        tile=index,
                        position_px=(-5 + 60 * (index % 2), 1000 + 50 * (index // 2)),
                        time=time,
                    )
    return path


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mosaic(tmp_path_factory.mktemp("mosaic") / "mosaic.czi")


@pytest.mark.parametrize("reader", ["aicspylibczi", "pylibczirw"])
def test_a_mosaic_becomes_a_movie(mosaic: Path, tmp_path: Path, reader: str) -> None:
    if reader == "aicspylibczi":
        pytest.importorskip("aicspylibczi", reason="aicspylibczi is not installed")
    qc = tmp_path / "qc.json"
    with open_czi(mosaic, reader) as czi:
        plan = plan_scene(czi, "S4", NO_LIGHT, default_design())
        record = stitch_scene(czi, plan, tmp_path / "S4.zarr", NO_LIGHT, qc=qc)
    assert json.loads(qc.read_text()) == record
    assert record["reader"] == reader
    found = np.array([(tile["y"], tile["x"]) for tile in record["tiles"]])
    assert np.abs((found - found[0]) - TRUE).max() < 0.5
    assert record["residual_px"] < 0.5
    assert record["seam_error"] < 0.5 * record["seam_error_before"]
    movie = Movie.open(tmp_path / "S4.zarr")
    assert movie.channels == ("Cy5", "mKate")
    np.testing.assert_allclose(movie.time_h * 3600, SECONDS, atol=1e-4)
    assert movie.shape == (5, 2, 114, 132) and movie.dtype == np.uint16
    frame = movie.frame(3)
    truth = texture(np.random.default_rng([3, 0]), (130, 150), 2.0)[:114, :132]
    seen = frame[0] > 0
    assert seen.mean() > 0.93
    assert np.sqrt(np.square(frame[0][seen].astype(float) - truth[seen]).mean()) < 9


def test_the_same_file_gives_the_same_bytes_by_either_reader(mosaic: Path, tmp_path: Path) -> None:
    pytest.importorskip("aicspylibczi", reason="aicspylibczi is not installed")
    content = []
    for number, reader in enumerate(("aicspylibczi", "pylibczirw", "pylibczirw")):
        out = tmp_path / str(number) / "S4.zarr"
        with open_czi(mosaic, reader) as czi:
            stitch_scene(czi, plan_scene(czi, 0, StitchParams(), default_design()), out, StitchParams())
        content.append(
            {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
        )
    assert content[0] == content[1] == content[2]


def test_without_refinement_tiles_stay_on_the_stage(mosaic: Path, tmp_path: Path) -> None:
    params = StitchParams(refine=False, flatfield=False, fusion="last")
    with open_czi(mosaic) as czi:
        record = stitch_scene(czi, plan_scene(czi, 0, params, default_design()), tmp_path / "m.zarr", params)
        raw = czi.read_tiles(0, 0)
    assert record["n_pairs_measured"] == 0 and record["seam_error"] == record["seam_error_before"]
    frame = Movie.open(tmp_path / "m.zarr").frame(0)
    np.testing.assert_array_equal(frame[:, 50:114, 60:132], raw[3][:, 0])


def test_commands_and_exit_codes(mosaic: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "m.zarr"
    assert run(["imaging", "stitch", str(mosaic), str(out), "--scene", "S4", "--dry-run"]) == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate["shape"] == [5, 2, 114, 132] and not out.exists()
    assert run(["imaging", "stitch", str(mosaic), str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_frames"] == 5
    assert run(["imaging", "stitch", str(mosaic), str(out), "--scene", "S7"]) == 3
    assert "S4" in capsys.readouterr().err
    design = tmp_path / "design.yaml"
    design.write_text(default_design().to_yaml())
    assert run(["imaging", "stitch", str(mosaic), str(tmp_path / "x.zarr"), "--design", str(design)]) == 3
    assert "TagGFP" in capsys.readouterr().err
    params = tmp_path / "params.yaml"
    params.write_text("stitch: {fuzion: last}\n")
    assert run(["imaging", "stitch", str(mosaic), str(out), "--params", f"{params}#stitch"]) == 3
    assert "fusion" in capsys.readouterr().err
    assert not (tmp_path / "x.zarr").exists()


def test_a_folder_in_place_of_the_czi_is_called_one(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, out = tmp_path / "imaging", tmp_path / "m.zarr"
    folder.mkdir()
    assert run(["imaging", "stitch", str(folder), str(out)]) == 3
    said = capsys.readouterr().err
    assert "is a folder" in said and str(folder) in said
    (folder / "mini.czi").write_bytes(b"")
    assert run(["imaging", "stitch", str(folder), str(out), "--json"]) == 3
    assert "mini.czi" in capsys.readouterr().err and not out.exists()


def test_what_the_file_does_not_say_comes_from_parameters(tmp_path: Path) -> None:
    from pylibCZIrw import czi as pyczi

    path = tmp_path / "plain.czi"
    with pyczi.create_czi(str(path)) as document:
        for frame in range(2):
            document.write(np.full((20, 30, 1), 9, np.uint8), plane={"T": frame, "C": 0, "Z": 0})
    with open_czi(path) as czi:
        with pytest.raises(InvalidDataError, match="interval_min"):
            plan_scene(czi, 0, StitchParams(pixel_size_um=0.5), default_design())
        with pytest.raises(InvalidDataError, match="pixel_size_um"):
            plan_scene(czi, 0, StitchParams(interval_min=30), default_design())
        params = StitchParams(pixel_size_um=0.5, interval_min=30, start_h=5)
        stitch_scene(czi, plan_scene(czi, 0, params, default_design()), tmp_path / "m.zarr", params)
    movie = Movie.open(tmp_path / "m.zarr")
    assert movie.time_h.tolist() == [5.0, 5.5] and movie.pixel_size_um == 0.5
    assert (movie.frame(1) == 9).all()


@pytest.mark.public
@pytest.mark.skipif(not public_files(), reason="HYPED_PUBLIC_DATA names no folder with czi/")
@pytest.mark.parametrize("path", public_files(), ids=lambda path: path.stem)
def test_every_real_file_stitches_or_is_refused_in_words(path: Path, tmp_path: Path) -> None:
    with open_czi(path) as czi:
        for info in czi.scenes:
            out = tmp_path / f"{info.name}.zarr"
            try:
                plan = plan_scene(czi, info.index, StitchParams(), default_design())
                record = stitch_scene(czi, plan, out, StitchParams())
            except HypedError as error:
                assert path.stem == "DAPI_GFP" and "pixel_size_um" in str(error)
                continue
            assert record["n_tiles"] == info.n_tiles and record["n_frames"] == info.n_frames
            assert record["seam_error"] <= record["seam_error_before"]
            assert Movie.open(out).frame(0).any()


@pytest.mark.public
@pytest.mark.skipif(not public_files(), reason="HYPED_PUBLIC_DATA names no folder with czi/")
def test_refinement_lowers_the_seams_of_a_real_mosaic(tmp_path: Path) -> None:
    path = next(path for path in public_files() if path.stem == "1_tileregion")
    with open_czi(path) as czi:
        plan = plan_scene(czi, 0, StitchParams(), default_design())
        record = stitch_scene(czi, plan, tmp_path / "m.zarr", StitchParams())
    assert record["n_pairs_measured"] > 0
    assert record["seam_error"] < record["seam_error_before"]
