"""The steps segment, track and phases as commands, on a small movie of which everything is known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from hyped_core.cli.main import run
from hyped_core.container.movies import Labels, write_movie
from hyped_core.context import RunContext
from hyped_core.design import default_design
from hyped_core.errors import DesignError, InvalidDataError, UsageError
from hyped_core.plugins.registry import get_model
from hyped_imaging.modelstep import read_step
from hyped_imaging.segment.step import canonical_channels, checked_labels, parse_frames

FRAMES = 7
TIMES = [0, 1 / 3, 2 / 3, 1, 3, 10 / 3, 11 / 3]
CHANNELS = ("SiR-DNA", "mKate", "TagGFP")
"""The first is an alias of the design's Cy5."""


def frame(index):
    """Three nuclei that drift, bright in other reporters."""
    yy, xx = np.mgrid[:96, :128]
    planes = np.full((3, 96, 128), 150.0)
    for y, x, red, green in [(25, 30, 900, 0), (60, 70, 0, 900), (30, 100, 800, 700)]:
        inside = np.hypot(yy - y - index, xx - x + index) <= 9
        planes[0][inside] += 800
        planes[1][inside] += red
        planes[2][inside] += green
    rng = np.random.default_rng(index)
    return (planes + 10 * rng.standard_normal(planes.shape)).astype(np.uint16)


@pytest.fixture
def movie(tmp_path):
    path = tmp_path / "movies" / "S4.zarr"
    write_movie(
        path, (frame(i) for i in range(FRAMES)), channels=CHANNELS, pixel_size_um=0.9, time_h=TIMES,
        data_range=(0, 16383),
    )  # fmt: skip
    return path


def segment(movie, tmp_path, *options):
    """Run the command; exit code, labels and table."""
    labels, table = tmp_path / "labels" / "S4.zarr", tmp_path / "nuclei" / "S4.parquet"
    return run(["imaging", "segment", str(movie), str(labels), str(table), *options]), labels, table


def test_from_movie_to_phases(movie, tmp_path, capsys):
    code, labels, table = segment(movie, tmp_path, "--json")
    assert code == 0
    assert json.loads(capsys.readouterr().out) == {
        "scene": "S4",
        "model": "fast",
        "frames": 7,
        "frames_missing": 0,
        "nuclei": 21,
    }
    nuclei = pd.read_parquet(table)
    assert list(nuclei.columns[:8]) == [
        "scene", "frame", "time_h", "condition", "replicate", "label", "y_px", "x_px",
    ]  # fmt: skip
    assert {"mean_Cy5", "integrated_TagGFP", "border", "eccentricity", "area_um2"} <= set(nuclei.columns)
    assert set(nuclei["condition"]) == {default_design().scene("S4").condition}
    assert nuclei.groupby("frame")["time_h"].first().tolist() == pytest.approx(TIMES)
    stored = Labels.open(labels)
    assert stored.source == "../../movies/S4.zarr" and stored.pixel_size_um == 0.9
    for _, row in nuclei.iterrows():
        inside = stored.frame(row["frame"]) == row["label"]
        y, x = np.nonzero(inside)
        assert (y.mean(), x.mean()) == pytest.approx((row["y_px"], row["x_px"]))
        assert row["y_um"] == pytest.approx(y.mean() * 0.9)

    tracks, phases, shares = (tmp_path / n for n in ("tracks.parquet", "phases.parquet", "fractions.csv"))
    assert run(["imaging", "track", str(table), str(tracks), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": "lap", "objects": 21, "tracks": 3, "divisions": 0, "unassigned": 0,
    }  # fmt: skip
    assert run(["imaging", "phases", str(tracks), str(phases), "--fractions", str(shares)]) == 0
    called = pd.read_parquet(phases)
    assert called.groupby("track_id")["phase"].agg(set).tolist() == [{"G1"}, {"G1S"}, {"S_G2M"}]
    assert pd.read_csv(shares)["n_total"].eq(3).all()


def test_same_input_same_bytes(movie, tmp_path):
    contents = []
    for name in ("a", "b"):
        _, labels, table = segment(movie, tmp_path / name)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        contents.append([(p.relative_to(tmp_path / name), p.read_bytes()) for p in files])
    assert contents[0] == [(path, data) for path, data in contents[1]]


def test_dry_run_writes_nothing(movie, tmp_path, capsys):
    code, labels, table = segment(movie, tmp_path, "--dry-run", "--json")
    assert code == 0 and not labels.exists() and not table.exists()
    record = json.loads(capsys.readouterr().out)
    assert record["frames"] == FRAMES and record["seconds"] >= 0 and record["megabytes"] > 0


def test_chosen_frames_keep_their_numbers(movie, tmp_path):
    code, labels, table = segment(movie, tmp_path, "--frames", "1:6:2")
    assert code == 0
    assert sorted(pd.read_parquet(table)["frame"].unique()) == [1, 3, 5]
    stored = Labels.open(labels)
    assert stored.shape[0] == FRAMES
    assert [bool(stored.frame(i).any()) for i in range(FRAMES)] == [
        False,
        True,
        False,
        True,
        False,
        True,
        False,
    ]


def test_parameters_choose_model_and_channels(movie, tmp_path, capsys):
    params = tmp_path / "params.yaml"
    params.write_text("segment:\n  model: paper\n  config: {channels: [Cy5], min_area_px: 100}\n")
    code, _, table = segment(movie, tmp_path, "--params", f"{params}#segment")
    assert code == 0 and "by paper" in capsys.readouterr().err
    assert pd.read_parquet(table).groupby("frame").size().tolist() == [3] * FRAMES
    with pytest.raises(UsageError, match="parameters of paper"):
        read_step(f"{params}#segment", "fast", "fast")


@pytest.mark.parametrize(
    ("text", "message", "code"),
    [
        ("{config: {channels: [Cy7]}}", "Cy5, mKate, TagGFP", 3),
        ("{config: {sensitvity: 3}}", "did you mean 'sensitivity'", 3),
        ("{modell: paper}", "did you mean 'model'", 3),
        ("{model: fsat}", "did you mean segment/fast", 4),
    ],
)
def test_wrong_parameters_leave_nothing_behind(movie, tmp_path, capsys, text, message, code):
    params = tmp_path / "params.yaml"
    params.write_text(text)
    given, labels, table = segment(movie, tmp_path, "--params", str(params))
    assert given == code
    assert message in capsys.readouterr().err
    assert not table.exists() and not list(labels.parent.glob("*")) if labels.parent.exists() else True


def test_a_scene_that_the_design_does_not_know(movie, tmp_path, capsys):
    code, labels, _ = segment(movie, tmp_path, "--scene", "S77")
    assert code == 3 and "S77" in capsys.readouterr().err and not labels.exists()


def test_missing_and_broken_tables(tmp_path, capsys):
    out = tmp_path / "out.parquet"
    assert run(["imaging", "track", str(tmp_path / "no.parquet"), str(out)]) == 3
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not really")
    assert run(["imaging", "phases", str(broken), str(out)]) == 3
    assert "broken.parquet" in capsys.readouterr().err and not out.exists()


def test_a_blank_movie_goes_through(tmp_path):
    movie = tmp_path / "movies" / "S4.zarr"
    blank = np.full((3, 40, 50), 100, np.uint16)
    write_movie(movie, [blank, blank], channels=CHANNELS, pixel_size_um=1.0, time_h=[0, 1])
    code, _, table = segment(movie, tmp_path)
    assert code == 0 and len(pd.read_parquet(table)) == 0
    tracks, phases, shares = (tmp_path / n for n in ("t.parquet", "p.parquet", "f.csv"))
    assert run(["imaging", "track", str(table), str(tracks)]) == 0
    assert run(["imaging", "phases", str(tracks), str(phases), "--fractions", str(shares)]) == 0
    assert {"track_id", "parent_id", "phase", "phase_per_frame"} <= set(pd.read_parquet(phases).columns)
    assert "fraction" in pd.read_csv(shares).columns


def test_a_frame_with_nan_is_named_and_no_output_is_there(tmp_path, capsys):
    movie = tmp_path / "movies" / "S4.zarr"
    frames = [frame(i).astype(np.float32) for i in range(3)]
    frames[2][1, 5, 5] = np.nan
    write_movie(movie, frames, channels=CHANNELS, pixel_size_um=1.0, time_h=[0, 1, 2])
    code, labels, table = segment(movie, tmp_path)
    assert code == 3 and "frame 2" in capsys.readouterr().err
    assert not table.exists() and not labels.exists()
    assert all(path.suffix == ".resume" for path in labels.parent.iterdir())


def test_frames_are_read_as_slices():
    assert list(parse_frames(None, 3)) == [0, 1, 2]
    assert list(parse_frames("::2", 5)) == [0, 2, 4]
    assert list(parse_frames("3", 5)) == [3]
    assert list(parse_frames("-1", 5)) == [4]
    for wrong in ("a", "9:12", "1:2:3:4", "0:5:0"):
        with pytest.raises(UsageError):
            parse_frames(wrong, 5)


def test_names_of_channels_follow_the_design():
    assert canonical_channels(CHANNELS, default_design()) == ("Cy5", "mKate", "TagGFP")
    with pytest.raises(InvalidDataError, match="aliases"):
        canonical_channels(("Cy5", "SiR-DNA"), default_design())


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(InvalidDataError, match="frame 3"):
        checked_labels(np.zeros((4, 4)), (4, 4), 3)
    with pytest.raises(InvalidDataError, match="frame 3"):
        checked_labels(np.zeros((4, 5), int), (4, 4), 3)


@pytest.mark.parametrize(
    ("task", "name"),
    [("segment", "paper"), ("segment", "fast"), ("track", "lap"), ("denoise", "photon"), ("denoise", "fm2s")],
)
def test_models_are_registered_and_made_from_defaults(task, name):
    spec = get_model(task, name)
    assert spec.role == "model" and spec.licence
    assert spec.create() is not None


def test_segmenters_refuse_a_channel_the_movie_lacks():
    model = get_model("segment", "fast").create({"channels": ["Cy7"]})
    from hyped_core.contracts import ImageMeta

    with pytest.raises(DesignError):
        model.segment(frame(0), ImageMeta(channels=CHANNELS), context=RunContext())


def test_the_scene_a_movie_carries_wins_over_its_name(movie, tmp_path):
    from hyped_core.container.movies import Movie

    kept = Movie.open(movie)
    other = tmp_path / "elsewhere" / "nothing.zarr"
    write_movie(
        other, (kept.frame(i) for i in range(FRAMES)), channels=CHANNELS, pixel_size_um=0.9, time_h=TIMES,
        attrs={"scene": "S7"},
    )  # fmt: skip
    code, _, table = segment(other, tmp_path)
    assert code == 0
    assert set(pd.read_parquet(table)["scene"]) == {"S7"}
