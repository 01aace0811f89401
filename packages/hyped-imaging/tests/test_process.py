"""`hyped imaging process`: a CZI from end to end, done once, continued, and never losing what a hand changed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from hyped_core.cli.main import run
from hyped_core.container import HypedData
from hyped_core.context import RunContext
from hyped_core.design import default_design, read_design
from hyped_core.errors import DesignError, UsageError
from hyped_imaging.parallel import Workers
from hyped_imaging.process import run as steps
from hyped_imaging.process.params import ProcessParams
from hyped_imaging.process.run import Job, Layout
from hyped_imaging.process.source import find_scenes
from hyped_imaging.process.starter import guess_role, settle_roles, starter_design
from hyped_imaging.simulate.params import SimulateParams
from hyped_imaging.simulate.run import simulate

SCENES = ("S0", "S2")
FRAMES = 6


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CZI of two scenes and its design."""
    folder = tmp_path_factory.mktemp("experiment")
    design = default_design()
    params = SimulateParams.model_validate(
        {"scenes": SCENES, "timing": {"n_frames": FRAMES, "gap_at_h": None}, "workers": 1, "name": "small"}
    )
    simulate(folder, folder / "truth", design, params, RunContext(seed=3))
    (folder / "design.yaml").write_text(design.to_yaml())
    return folder


@pytest.fixture(scope="module")
def done(experiment: Path) -> Path:
    """The folder that processing it makes."""
    out = experiment / "done"
    assert process(experiment, out) == 0
    return out


def process(experiment: Path, out: Path, *options: str) -> int:
    design = str(experiment / "design.yaml")
    return run(["imaging", "process", str(experiment / "small.czi"), str(out), "--design", design, *options])


def job(experiment: Path, out: Path, **params: object) -> Job:
    design = read_design(experiment / "design.yaml")
    found = find_scenes([experiment / "small.czi"], design)
    return Job(found, Layout(out), design, ProcessParams.model_validate(params), Workers(), RunContext())


def times(out: Path) -> dict[str, int]:
    """When each table and movie was last written."""
    kept = [*out.glob("*/*.parquet"), *out.glob("*.hyped/movies/*.zarr/zarr.json"), *out.glob("*.csv")]
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in kept}


def test_it_makes_a_container_tables_and_a_summary_of_all_scenes(done: Path):
    container = HypedData.read(done / "done.hyped")
    assert sorted(container.movies) == sorted(SCENES) and sorted(container.labels) == sorted(SCENES)
    assert container.movies["S0"].n_frames == FRAMES
    nuclei = pd.read_parquet(done / "phases" / "S2.parquet")
    assert len(nuclei) > 10 * FRAMES and {"track_id", "phase", "mean_Cy5"} <= set(nuclei.columns)
    summary = json.loads((done / "summary.json").read_text())
    assert summary["scenes"]["S2"]["nuclei"] == len(nuclei)
    assert summary["scenes"]["S2"]["tracks"] == nuclei.loc[nuclei["track_id"] > 0, "track_id"].nunique()
    assert summary["scenes"]["S0"]["seam_error"] <= summary["scenes"]["S0"]["seam_error_before"]
    assert abs(sum(summary["scenes"]["S0"]["phases"].values()) - 1) < 1e-3
    page = (done / "summary.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 3 * len(SCENES)
    assert "<polyline" in page and not re.search(r"https?://", page), "it needs no network"


def test_the_nuclei_are_those_of_the_truth(done: Path, experiment: Path):
    truth = pd.read_parquet(experiment / "truth" / "tracks.parquet")
    for scene in SCENES:
        found = pd.read_parquet(done / "nuclei" / f"{scene}.parquet").groupby("frame").size()
        there = truth[truth["scene"] == scene].groupby("frame").size()
        assert np.abs(found / there - 1).max() < 0.15


def test_a_second_run_does_nothing_and_a_parameter_only_what_depends_on_it(done: Path, experiment: Path, tmp_path):
    before = times(done)
    assert process(experiment, done) == 0
    assert times(done) == before
    params = tmp_path / "p.yaml"
    params.write_text("track: {model: lap, config: {max_speed_um_h: 39}}\n")
    assert process(experiment, done, "--params", str(params)) == 0
    after = times(done)
    changed = {name for name in before if before[name] != after[name]}
    assert {"tracks/S0.parquet", "tracks/S2.parquet"} <= changed
    assert not {name for name in changed if name.startswith(("nuclei/", "done.hyped/movies"))}
    assert process(experiment, done) == 0


def test_it_goes_on_after_a_step_that_failed(experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    work = job(experiment, tmp_path / "out")

    def full(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(steps.Job, "_track", full)
        with pytest.raises(OSError, match="no space"):
            work.run()
    before = times(tmp_path / "out")
    assert "nuclei/S0.parquet" in before and "tracks/S0.parquet" not in before
    summary = job(experiment, tmp_path / "out").run()
    assert set(summary["scenes"]) == set(SCENES)
    after = times(tmp_path / "out")
    assert {name: after[name] for name in before} == before


def test_a_table_changed_by_hand_is_kept_and_followed(experiment: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert process(experiment, out, "--scene", "S0") == 0
    tracks = pd.read_parquet(out / "tracks" / "S0.parquet")
    dropped = int(tracks["track_id"].max())
    mended = tracks.assign(track_id=tracks["track_id"].where(tracks["track_id"] != dropped, 0))
    mended.loc[mended["track_id"] == 0, "unassigned_reason"] = "by hand"
    mended.loc[mended["parent_id"] == dropped, "parent_id"] = 0
    mended.to_parquet(out / "tracks" / "S0.parquet", index=False)
    assert process(experiment, out, "--scene", "S0") == 0
    assert dropped not in set(pd.read_parquet(out / "phases" / "S0.parquet")["track_id"])
    assert "changed by hand" in capsys.readouterr().err
    before = times(out)
    params = tmp_path / "p.yaml"
    params.write_text("segment: {model: fast, config: {sensitivity: 6}}\n")
    code = process(experiment, out, "--scene", "S0", "--params", str(params))
    assert code == 2 and "changed by hand" in capsys.readouterr().err
    assert times(out) == before, "refused before anything is made anew"
    assert (pd.read_parquet(out / "tracks" / "S0.parquet")["unassigned_reason"] == "by hand").any()


def test_a_graph_edited_in_place_is_read_back_and_followed(experiment: Path, tmp_path: Path, capsys):
    import geff

    out = tmp_path / "out"
    assert process(experiment, out, "--scene", "S0") == 0
    graph, metadata = geff.read(out / "tracks" / "S0.geff")
    count = pd.read_parquet(out / "phases" / "S0.parquet")["track_id"].nunique()
    edge = next(edge for edge in graph.edges if graph.out_degree(edge[0]) == 1 and graph.in_degree(edge[0]) == 1)
    graph.remove_edge(*edge)
    geff.write(graph, out / "tracks" / "S0.geff", metadata=metadata, overwrite=True)
    assert process(experiment, out, "--scene", "S0") == 0
    said = capsys.readouterr().err
    assert "tracks/S0.geff was changed by hand and is not read back: hyped imaging import-tracks" in said
    assert run(["imaging", "import-tracks", str(out / "tracks/S0.geff"), str(out / "tracks/S0.parquet")]) == 0
    assert process(experiment, out, "--scene", "S0") == 0
    assert pd.read_parquet(out / "phases" / "S0.parquet")["track_id"].nunique() == count + 1
    again, _ = geff.read(out / "tracks" / "S0.geff")
    assert again.number_of_edges() == graph.number_of_edges()
    assert (out / "tracks" / "S0.by-hand.geff").is_dir(), "what was edited is not lost"


def test_another_seed_or_condition_is_another_result(experiment: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert process(experiment, out, "--scene", "S0") == 0
    before = times(out)
    assert process(experiment, out, "--scene", "S0", "--seed", "7") == 0
    seeded = times(out)
    assert seeded["nuclei/S0.parquet"] != before["nuclei/S0.parquet"]
    other = _written(tmp_path / "design.yaml", re.sub(r"\bcontrol\b", "ctrl", default_design().to_yaml()))
    source = str(experiment / "small.czi")
    assert run(["imaging", "process", source, str(out), "--design", str(other), "--scene", "S0", "--seed", "7"]) == 0
    assert set(pd.read_parquet(out / "phases" / "S0.parquet")["condition"]) == {"ctrl"}
    after = times(out)
    movie = "out.hyped/movies/S0.zarr/zarr.json"
    assert after[movie] == before[movie], "pixels do not depend on what a condition is called"


def test_what_would_fail_late_is_refused_at_once(experiment: Path, tmp_path: Path, capsys):
    source, design = str(experiment / "small.czi"), default_design()
    assert run(["imaging", "process", source, str(tmp_path / "o")]) == 2
    assert "hyped imaging design" in capsys.readouterr().err
    for changes, said in (
        ({"TagGFP": {"role": "other", "reports": None}}, "one reporter"),
        ({n: {"role": "other", "reports": None} for n in ("Cy5", "mKate", "TagGFP")}, "no channel shows nuclei"),
    ):
        channels = tuple(c.model_copy(update=changes.get(c.name, {})) for c in design.channels)
        text = design.model_copy(update={"channels": channels}).to_yaml()
        path = _written(tmp_path / "d.yaml", text)
        assert run(["imaging", "process", source, str(tmp_path / "o"), "--design", str(path)]) == 3
        assert said in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_folder_of_other_things_is_left_alone(done: Path, experiment: Path, tmp_path: Path, capsys):
    (tmp_path / "mine").mkdir()
    _written(tmp_path / "mine" / "notes.txt", "x")
    assert process(experiment, tmp_path / "mine") == 2
    assert process(experiment, _written(tmp_path / "file", "x")) == 2
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == ["notes.txt"]
    copied = (tmp_path / "other.czi")
    copied.write_bytes((experiment / "small.czi").read_bytes())
    code = run(["imaging", "process", str(copied), str(done), "--design", str(experiment / "design.yaml")])
    assert code == 2 and "small.czi" in capsys.readouterr().err


def test_dark_frames_and_cut_files(experiment: Path, tmp_path: Path, capsys):
    cut = _written(tmp_path / "cut.czi", "")
    whole = (experiment / "small.czi").read_bytes()
    for share in (0.02, 0.5, 0.97):
        cut.write_bytes(whole[: int(share * len(whole))])
        code = run(["imaging", "process", str(cut), str(tmp_path / "o"), "--design", str(experiment / "design.yaml")])
        assert code == 3 and "cut.czi" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    from hyped_core.container.movies import write_movie

    frames = np.full((5, 2, 64, 64), 100, np.uint16)
    write_movie(tmp_path / "dark.zarr", frames, channels=["Cy5", "mKate"], pixel_size_um=1.0, time_h=np.arange(5) / 3)
    design = default_design().model_copy(update={"channels": default_design().channels[:1]})
    path = _written(tmp_path / "d.yaml", design.to_yaml())
    code = run(["imaging", "process", str(tmp_path / "dark.zarr"), str(tmp_path / "out"), "--design", str(path),
                "--scene", "S0"])  # fmt: skip
    assert code == 0 and "no nuclei in frame(s) 0, 1, 2, 3, 4" in capsys.readouterr().err


def test_dry_run_estimates_and_writes_nothing(experiment: Path, tmp_path: Path, capsys):
    assert process(experiment, tmp_path / "none", "--dry-run") == 0
    record = json.loads(capsys.readouterr().out)
    assert set(record["scenes"]) == set(SCENES) and record["disk_mib"] > 1 and record["nuclei_in_one_frame"] > 5
    assert not (tmp_path / "none").exists()


def test_scenes_of_file_and_design_are_matched_or_refused(experiment: Path, tmp_path: Path, capsys):
    design = default_design()
    wells = tuple(scene.model_copy(update={"name": f"well{scene.name}"}) for scene in design.scenes)
    other = design.model_copy(update={"scenes": wells})
    with pytest.raises(DesignError, match="hyped imaging design"):
        find_scenes([experiment / "small.czi"], other)
    with pytest.raises(UsageError, match="S9"):
        find_scenes([experiment / "small.czi"], design, ["S9"])
    one = design.model_copy(update={"scenes": design.scenes[:1]})
    found = find_scenes([experiment / "small.czi"], one)
    assert list(found.scenes) == ["S0"] and found.left_out == ("S2",)
    assert "S1" in find_scenes([experiment / "small.czi"], design).absent
    with pytest.raises(UsageError, match="--scene"):
        find_scenes([tmp_path / "a.tif"], design)


def test_a_movie_of_other_files_is_processed_too(done: Path, experiment: Path, tmp_path: Path):
    frames = tmp_path / "frames"
    assert run(["imaging", "export", str(done / "done.hyped/movies/S2.zarr"), str(frames)]) == 0
    out = tmp_path / "out"
    design = ["--design", str(experiment / "design.yaml"), "--scene", "S2"]
    assert run(["imaging", "process", str(frames), str(out), *design, "--release"]) == 0
    first, second = (pd.read_parquet(folder / "nuclei" / "S2.parquet") for folder in (done, out))
    pd.testing.assert_frame_equal(first, second)
    assert len(list((out / "release" / "S2").glob("*.h5"))) == FRAMES


def test_the_starter_is_a_design_that_processes(experiment: Path, tmp_path: Path):
    text = starter_design(experiment / "small.czi")
    design = read_design(_written(tmp_path / "d.yaml", text))
    assert [scene.name for scene in design.scenes] == list(SCENES)
    assert design.nuclear_channel() == "Cy5"
    assert (design.reporter("G1"), design.reporter("S_G2M")) == ("mKate", "TagGFP")
    assert set(find_scenes([experiment / "small.czi"], design).scenes) == set(SCENES)
    assert yaml.safe_load(text)["timeline"]["imaging_end_h"] > 1


@pytest.mark.parametrize(
    ("name", "role"), [("SiR-DNA", "role: nuclei"), ("mCherry-Cdt1", "role: reporter, reports: G1"),
                       ("mAG-Geminin", "role: reporter, reports: S_G2M"), ("Oblique", "role: brightfield"),
                       ("xyz", "role: other")],
)  # fmt: skip
def test_roles_are_guessed_from_names(name: str, role: str):
    assert guess_role(name) == role


@pytest.mark.parametrize(
    ("channels", "roles"),
    [(["EGFP"], ["role: nuclei"]), (["C0", "C1"], ["role: nuclei", "role: other"]), (["Oblique"], ["role: nuclei"]),
     (["DAPI", "EGFP"], ["role: nuclei", "role: other"]), (["GFP", "GFP2", "Cdt1"], ["role: reporter, reports: S_G2M",
      "role: other", "role: reporter, reports: G1"])],
)  # fmt: skip
def test_settled_roles_make_a_design_to_work_with(channels: list[str], roles: list[str]):
    assert settle_roles(channels) == roles


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
