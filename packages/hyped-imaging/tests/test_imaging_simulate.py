"""The simulated CZI file and the truth beside it say the same, and are what they claim to be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hyped_core.cli.main import run as run_hyped
from hyped_core.container.labels import Labels
from hyped_core.container.movies import Movie
from hyped_core.context import RunContext
from hyped_core.design import default_design, read_design
from hyped_core.errors import DesignError, InvalidDataError
from hyped_imaging.readers.czi import open_czi
from hyped_imaging.simulate.camera import expected, expose
from hyped_imaging.simulate.optics import clean_frame
from hyped_imaging.simulate.params import MotionParams, OpticsParams, SimulateParams
from hyped_imaging.simulate.plan import plan
from hyped_imaging.simulate.run import cut, simulate
from hyped_imaging.simulate.scene import PAD_PX, crop, draw, live
from hyped_imaging.stitch import StitchParams, plan_scene, stitch_scene

SMALL = {
    "scenes": ("S0", "S3"),
    "mosaic": {"tile_height_px": 100, "tile_width_px": 90, "step_y_px": 84, "step_x_px": 76},
    "nuclei": {"founders_per_mm2": 700.0},
    "timing": {"n_frames": 16},
    "workers": 1,
}


@pytest.fixture(scope="module")
def mini_design():
    """HYPED's own design, imaged from 20 h."""
    design = default_design()
    timeline = design.timeline.model_copy(update={"imaging_start_h": 20.0, "imaging_end_h": 52.0})
    return design.model_copy(update={"timeline": timeline})


@pytest.fixture(scope="module")
def small() -> SimulateParams:
    return SimulateParams.model_validate(SMALL)


@pytest.fixture(scope="module")
def simulated(mini_design, small, tmp_path_factory):
    """(folder with raw/ and truth/, the record)."""
    folder = tmp_path_factory.mktemp("simulated")
    return folder, simulate(folder / "raw", folder / "truth", mini_design, small, RunContext(seed=3))


@pytest.fixture(scope="module")
def tracks(simulated):
    return pd.read_parquet(simulated[0] / "truth" / "tracks.parquet")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def subblock_times(path: Path) -> dict[tuple[int, int, int, int], np.datetime64]:
    aics = pytest.importorskip("aicspylibczi")
    found = {}
    for dims, text in aics.CziFile(str(path)).read_subblock_metadata():
        time = re.search(r"<AcquisitionTime>([^<]+)Z</AcquisitionTime>", text).group(1)
        found[dims["S"], dims["T"], dims["C"], dims["M"]] = np.datetime64(time, "ns")
    return found


def test_same_seed_gives_same_bytes_whatever_the_workers(simulated, mini_design, small, tmp_path):
    again = small.model_copy(update={"workers": 2})
    simulate(tmp_path / "raw", tmp_path / "truth", mini_design, again, RunContext(seed=3))
    first, second = contents(simulated[0]), contents(tmp_path)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_another_seed_gives_another_file(simulated, mini_design, small, tmp_path):
    short = small.model_copy(update={"timing": small.timing.model_copy(update={"n_frames": 1})})
    simulate(tmp_path / "a", tmp_path / "ta", mini_design, short, RunContext(seed=3))
    simulate(tmp_path / "b", tmp_path / "tb", mini_design, short, RunContext(seed=4))
    a, b = (tmp_path / "a/mini.czi").read_bytes(), (tmp_path / "b/mini.czi").read_bytes()
    assert a[48:80] != b[48:80], "the GUIDs of two files must differ"
    assert a[48:64] == a[64:80]


def test_pylibczirw_reads_the_file(simulated, mini_design):
    from pylibCZIrw import czi

    with czi.open_czi(str(simulated[0] / "raw" / "mini.czi")) as reader:
        box = reader.total_bounding_box
        assert (box["T"], box["C"], box["Z"], box["H"]) == ((0, 16), (0, 4), (0, 1), (0, 1))
        scenes = reader.scenes_bounding_rectangle
        assert [(scenes[i].w, scenes[i].h) for i in (0, 1)] == [(166, 184), (166, 184)]
        metadata = reader.metadata["ImageDocument"]["Metadata"]
        image = metadata["Information"]["Image"]
        names = [channel["@Name"] for channel in image["Dimensions"]["Channels"]["Channel"]]
        assert names == [channel.name for channel in mini_design.channels]
        scenes_xml = image["Dimensions"]["S"]["Scenes"]["Scene"]
        assert [scene["@Name"] for scene in scenes_xml] == ["S0", "S3"]
        scale = {item["@Id"]: float(item["Value"]) for item in metadata["Scaling"]["Items"]["Distance"]}
        assert scale["X"] == scale["Y"] == pytest.approx(1e-6)
        assert image["ComponentBitCount"] == "14"
        assert {c["ComponentBitCount"] for c in image["Dimensions"]["Channels"]["Channel"]} == {"14"}
        assert reader.read(plane={"T": 3, "C": 1}, scene=1).shape == (184, 166, 1)


def test_aicspylibczi_reads_the_file(simulated):
    aics = pytest.importorskip("aicspylibczi")
    file = aics.CziFile(str(simulated[0] / "raw" / "mini.czi"))
    assert file.dims == "HSTCZMYX"
    assert tuple(file.size) == (1, 2, 16, 4, 1, 4, 100, 90)
    assert file.is_mosaic()
    assert {node.text for node in file.meta.iter("ComponentBitCount")} == {"14"}


@pytest.mark.parametrize("reader", ["aicspylibczi", "pylibczirw"])
def test_the_cameras_range_reaches_the_stitched_movie(simulated, mini_design, tmp_path, reader):
    if reader == "aicspylibczi":
        pytest.importorskip(reader)
    with open_czi(simulated[0] / "raw" / "mini.czi", reader=reader) as file:
        assert file.bits == 14
        params = StitchParams()
        stitch_scene(file, plan_scene(file, "S3", params, mini_design), tmp_path / "S3.zarr", params)
    stitched = Movie.open(tmp_path / "S3.zarr")
    truth = Movie.open(simulated[0] / "truth" / "frames" / "S3.zarr")
    assert tuple(stitched.data_range) == tuple(truth.data_range) == (0, 16383)
    assert stitched.frame(3).max() <= 16383


def test_the_bits_in_the_file_are_those_of_the_camera(mini_design, small, tmp_path):
    values = {"optics": OpticsParams(bits=12), "scenes": ("S0",)}
    short = small.model_copy(update={**values, "timing": small.timing.model_copy(update={"n_frames": 1})})
    simulate(tmp_path / "raw", tmp_path / "truth", mini_design, short, RunContext(seed=3))
    with open_czi(tmp_path / "raw" / "mini.czi") as file:
        assert file.bits == 12
        assert max(tile.max() for tile in file.read_tiles("S0", 0)) <= 4095


def test_times_are_in_the_file_and_have_the_gap(simulated):
    folder, _ = simulated
    taken = subblock_times(folder / "raw" / "mini.czi")
    zero = taken[0, 0, 0, 0]
    for index, scene in enumerate(("S0", "S3")):
        truth = Movie.open(folder / "truth" / "frames" / f"{scene}.zarr").time_h
        hours = (
            np.array([(taken[index, t, 0, 0] - zero) / np.timedelta64(1, "ns") for t in range(16)]) / 3.6e12
        )
        np.testing.assert_allclose(hours + 20.0, truth, atol=1e-8)
        steps = np.diff(truth)
        assert np.isclose(steps, 1 / 3).sum() == 14
        assert steps.max() == pytest.approx(4 / 3)
        assert truth[steps.argmax()] < 24 <= truth[steps.argmax() + 1]
    assert taken[1, 0, 0, 0] > max(taken[0, 0, c, m] for c in range(4) for m in range(4))
    assert taken[0, 1, 0, 0] > taken[1, 0, 3, 3]


def test_tiles_show_the_clean_frame_at_their_true_place(simulated):
    """Noise is all that tells a tile from the clean frame, once moved and lit as the truth says."""
    aics = pytest.importorskip("aicspylibczi")
    folder, _ = simulated
    optics = OpticsParams()
    file = aics.CziFile(str(folder / "raw" / "mini.czi"))
    layout = pd.read_csv(folder / "truth" / "tiles.csv").query("scene == 'S3'")
    light = np.load(folder / "truth" / "illumination.npy")
    clean = Movie.open(folder / "truth" / "frames" / "S3.zarr").frame(7).astype(np.float64)
    assert (
        layout[["nominal_x_px", "nominal_y_px"]].to_numpy() != layout[["true_x_px", "true_y_px"]].to_numpy()
    ).any()

    def spread(tile, channel, x, y):
        raw = file.read_image(S=1, T=7, C=channel, M=tile)[0].squeeze().astype(np.float64)
        y0, x0 = max(-y, 0), max(-x, 0)
        y1, x1 = min(clean.shape[1] - y, raw.shape[0]), min(clean.shape[2] - x, raw.shape[1])
        mean = (clean[channel, y + y0 : y + y1, x + x0 : x + x1] - optics.offset) * light[
            channel, y0:y1, x0:x1
        ]
        noise = np.sqrt(mean * optics.gain + optics.read_noise**2)
        z = (raw[y0:y1, x0:x1] - optics.offset - mean) / noise
        return abs(z.mean()), z.std()

    for row in layout.itertuples():
        for channel in range(4):
            shift, width = spread(row.tile, channel, row.true_x_px, row.true_y_px)
            assert shift < 0.05
            assert width == pytest.approx(1.0, abs=0.05)
        moved = (row.true_x_px, row.true_y_px) != (row.nominal_x_px, row.nominal_y_px)
        if moved:
            assert spread(row.tile, 0, row.nominal_x_px, row.nominal_y_px)[1] > 1.1


def test_noise_free_tiles_put_back_give_the_clean_frame(mini_design, small):
    made = plan(mini_design, small, seed=3)
    life = live(mini_design, "S0", made.times_h("S0"), made.params, made.seed)
    planes, _ = draw(life, 5, made.params)
    clean = clean_frame(planes, mini_design, made.params.optics)
    light = made.light()
    np.testing.assert_allclose(light.mean(axis=(1, 2)), 1.0, atol=1e-5)
    assert light.min() < 0.75
    layout, optics = made.layout("S0"), made.params.optics
    frame = np.full_like(crop(clean), np.nan)
    for tile, (*_, x, y) in enumerate(layout):
        seen = expected(cut(clean, layout, made)[:, tile], light, optics)
        flat = (seen - optics.offset) / light + optics.offset
        y0, x0 = max(y, 0), max(x, 0)
        part = frame[:, y0 : y + flat.shape[1], x0 : x + flat.shape[2]]
        part[:] = flat[:, y0 - y : y0 - y + part.shape[1], x0 - x : x0 - x + part.shape[2]]
    covered = np.isfinite(frame)
    assert covered.mean() > 0.97
    np.testing.assert_allclose(frame[covered], crop(clean)[covered], rtol=1e-4)
    assert layout[0, 2:].tolist() == [0, 0, 0, 0]
    assert layout[:, 4:].min(axis=0).tolist() == [0, 0]
    assert np.abs(layout[:, 4:] - layout[:, 2:4]).max() <= made.params.mosaic.jitter_px <= PAD_PX


def test_every_label_is_one_row_and_every_row_a_label(simulated, tracks):
    from skimage.measure import regionprops_table

    folder, record = simulated
    assert record["nuclei"] == len(tracks)
    for scene, of_scene in tracks.groupby("scene"):
        labels = Labels.open(folder / "truth" / "labels" / f"{scene}.zarr")
        assert labels.source == f"../../frames/{scene}.zarr"
        for frame in range(labels.n_frames):
            rows = of_scene[of_scene.frame == frame].sort_values("label")
            found = pd.DataFrame(
                regionprops_table(labels.frame(frame), properties=("label", "centroid", "area"))
            )
            assert found["label"].tolist() == rows["label"].tolist() == rows["track_id"].tolist()
            np.testing.assert_allclose(found["centroid-0"], rows["y_um"], atol=1e-9)
            np.testing.assert_allclose(found["centroid-1"], rows["x_um"], atol=1e-9)
            np.testing.assert_allclose(found["area"], rows["area_um2"])


def test_tracks_have_no_holes_and_daughters_follow_their_mother(simulated, tracks):
    frames = tracks.groupby(["scene", "track_id"])["frame"].agg(["min", "max", "size"])
    assert ((frames["max"] - frames["min"] + 1) == frames["size"]).all()
    assert (tracks.groupby(["scene", "track_id"])["parent_id"].nunique() == 1).all()
    born = tracks[tracks.parent_id > 0].drop_duplicates(["scene", "track_id"])
    assert len(born) >= 10
    for row in born.itertuples():
        assert frames.loc[(row.scene, row.parent_id), "max"] == row.frame - 1
        assert row.phase == "dark"
        mother = tracks[(tracks.scene == row.scene) & (tracks.track_id == row.parent_id)]
        assert mother.sort_values("frame")["phase"].iloc[-1] in ("M", "S_G2M")
    families = born.groupby(["scene", "parent_id"]).size()
    assert families.max() == 2
    assert simulated[1]["divisions"] == (families == 2).sum()
    assert tracks.groupby(["scene", "track_id"])["dim"].nunique().max() == 1


def test_reporters_and_stain_show_what_the_design_says(simulated, tracks, mini_design):
    folder, _ = simulated
    movie, labels = (
        Movie.open(folder / "truth" / "frames" / "S0.zarr"),
        Labels.open(folder / "truth" / "labels" / "S0.zarr"),
    )
    assert movie.attrs["offset"] == 100
    mean = {}
    rows = tracks[(tracks.scene == "S0") & (tracks.frame == 9)].set_index("label")
    image, drawn = movie.frame(9), labels.frame(9)
    for phase in ("G1", "S_G2M"):
        chosen = np.isin(drawn, rows.index[rows.phase == phase])
        for channel in ("mKate", "TagGFP"):
            mean[phase, channel] = image[movie.channel_index(channel)][chosen].mean()
    assert mean["G1", mini_design.reporter("G1")] > 2 * mean["S_G2M", mini_design.reporter("G1")]
    assert mean["S_G2M", mini_design.reporter("S_G2M")] > 2 * mean["G1", mini_design.reporter("S_G2M")]
    stain = image[movie.channel_index("Cy5")]
    assert stain[drawn > 0].mean() > 2.5 * stain[drawn == 0].mean()


def test_fractions_are_shares_of_the_tracks_table(simulated, tracks):
    table = pd.read_csv(simulated[0] / "truth" / "fractions.csv")
    keys = ["condition", "replicate", "frame", "system"]
    assert np.allclose(table.groupby(keys)["fraction"].sum(), 1, atol=1e-5)
    wide = table[table.frame == 15].set_index(["condition", "system", "phase"]).sort_index()["n"]
    chosen = tracks[(tracks.frame == 15) & (tracks.condition == "control")]
    assert wide["control", "fucci", "G1"] == (chosen.phase == "G1").sum()
    assert wide["control", "coarse", "G1"] == chosen.phase.isin(["G1", "dark"]).sum()


def test_camera_noise_has_poissons_moments():
    optics = OpticsParams(gain=1.0, read_noise=0.0, offset=0.0)
    for light in (20.0, 300.0):
        drawn = expose(np.full((400, 400), light, np.float32), optics, np.random.default_rng(0)).astype(float)
        assert drawn.mean() == pytest.approx(light, rel=0.005)
        assert drawn.var() == pytest.approx(light, rel=0.03)
        skew = ((drawn - drawn.mean()) ** 3).mean() / drawn.std() ** 3
        assert skew == pytest.approx(light**-0.5, abs=0.03)
    bright = expose(np.full((8, 8), 1e6, np.float32), OpticsParams(), np.random.default_rng(0))
    assert bright.dtype == np.uint16
    assert bright.max() == 2**14 - 1


def test_presets_fill_in_what_was_not_given():
    full = SimulateParams(scale="full").resolved()
    assert full.mosaic.canvas == (2826, 3245)
    assert full.timing.n_frames == 203
    hard = SimulateParams(difficulty="hard", motion=MotionParams(speed_um_h=1.0)).resolved()
    assert hard.motion.speed_um_h == 1.0
    assert hard.optics.gain > SimulateParams().optics.gain


def test_full_scale_keeps_the_paper_s_frames(tmp_path):
    record = plan(default_design(), SimulateParams(scale="full"), 0).estimate()
    assert (record["scenes"], record["frames_per_scene"]) == (10, 203)
    assert record["temporary_bytes"] == 0


def test_interrupted_run_leaves_nothing_behind(mini_design, small, tmp_path):
    class Impatient:
        def track(self, items, description, total=None):
            for count, item in enumerate(items):
                if count == 2:
                    raise KeyboardInterrupt
                yield item

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "raw", tmp_path / "truth", mini_design, small, RunContext(progress=Impatient()))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_cannot_be_made_is_refused(mini_design):
    with pytest.raises(DesignError, match="S77"):
        plan(mini_design, SimulateParams(scenes=("S77",)), 0)
    with pytest.raises(InvalidDataError, match="do not meet"):
        plan(mini_design, SimulateParams.model_validate({"mosaic": {"step_y_px": 200}}), 0)
    with pytest.raises(InvalidDataError, match="no frame"):
        plan(mini_design, SimulateParams.model_validate({"timing": {"gap_at_h": 0.0, "gap_h": 99.0}}), 0)
    with pytest.raises(DesignError, match="no scenes"):
        plan(mini_design.model_copy(update={"scenes": ()}), SimulateParams(), 0)


def test_command_estimates_without_writing_and_names_unknown_keys(tmp_path, capsys):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("simulate: {imaging: {timing: {n_frames: 5}}}\n")
    bad.write_text("optics: {blurr_px: 3}\n")
    out = [str(tmp_path / "raw"), str(tmp_path / "truth")]
    arguments = ["imaging", "simulate", *out, "--params", f"{good}#simulate.imaging", "--dry-run", "--json"]
    assert run_hyped(arguments) == 0
    assert json.loads(capsys.readouterr().out)["frames_per_scene"] == 5
    assert run_hyped(["imaging", "simulate", *out, "--params", str(bad)]) == 3
    assert "blurr_px" in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()
    assert not (tmp_path / "truth").exists()


def test_design_of_mini_differs_from_the_default_in_scenes_and_hours_only():
    path = Path(__file__).parents[3] / "data" / "mini" / "design.yaml"
    if not path.is_file():
        pytest.skip("not in a checkout")
    mini, own = read_design(path).model_dump(), default_design().model_dump()
    different = {key for key in own if mini[key] != own[key]}
    assert different == {"name", "scenes", "timeline"}
    assert mini["timeline"]["events"] == own["timeline"]["events"]
    counts = pd.Series([scene["condition"] for scene in mini["scenes"]]).value_counts()
    assert sorted(counts) == [2, 2, 2, 2]
