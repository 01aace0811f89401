"""Two runs held against each other: tolerances by metric, what was made otherwise, and the recipe for reruns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hyped_bench.comparison import compare_runs
from hyped_bench.environment import blas, cpu_model, run_environment
from hyped_bench.tolerances import Tolerances, read_tolerances
from hyped_core.cli.main import run as hyped
from hyped_core.errors import InvalidDataError, ParamsError
from hyped_core.plugins.hookspecs import hookimpl
from hyped_core.plugins.host import PluginHost
from hyped_core.spec import MetricSpec


@pytest.fixture
def loose(monkeypatch):
    """A host whose metric `psnr` of `denoise` may differ by 0.01."""

    class Plugin:
        @hookimpl
        def hyped_metrics(self):
            yield MetricSpec("psnr", "denoise", "m:f", tolerance=0.01)
            yield MetricSpec("psnr_exact", "denoise", "m:f", tolerance=1e-9)

    host = PluginHost(points=[])
    host.register(Plugin(), "loose")
    monkeypatch.setattr("hyped_core.plugins.registry.default_host", lambda: host)


def write(folder: Path, metrics: dict, **more) -> Path:
    """A record."""
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps({"task": "denoise", "metrics": metrics, **more}))
    return folder


def test_each_metric_has_the_tolerance_that_it_declares(loose, tmp_path):
    allowed = Tolerances()
    assert {allowed.of("denoise", key) for key in ("psnr", "psnr_S0", "psnr_lo")} == {(0.01, 0.01)}
    assert allowed.of("denoise", "psnr_exact_S0") == (1e-9, 1e-9)  # the longest name that fits
    assert allowed.of("denoise", "psnrx") == allowed.of("track", "psnr") == allowed.of(None, "psnr") == (1e-6, 1e-6)
    a = write(tmp_path / "a", {"psnr": 30.0, "other": 1.0})
    b = write(tmp_path / "b", {"psnr": 30.3, "other": 1.0})
    assert compare_runs(a, b).agrees  # 0.3 <= 0.01 + 0.01 * 30.3
    assert not compare_runs(a, b, relative=1e-6).agrees and not compare_runs(a, b, absolute=0.1).agrees
    c = write(tmp_path / "c", {"psnr": 30.0, "other": 1.001})
    assert [d.metric for d in compare_runs(a, c).past] == ["other"]


def test_metrics_files_take_the_task_from_their_folder(loose, tmp_path):
    for run, value in (("a", 30.0), ("b", 30.2)):
        (tmp_path / run / "denoise").mkdir(parents=True)
        (tmp_path / run / "denoise" / "tv.json").write_text(json.dumps({"psnr": value}))
    for inner in ("", "denoise", "denoise/tv.json"):
        assert compare_runs(tmp_path / "a" / inner, tmp_path / "b" / inner).agrees


def test_a_file_of_tolerances_goes_before_all(loose, tmp_path, capsys):
    a = write(tmp_path / "a", {"psnr": 30.0, "ssim": 0.9, "n": 3})
    b = write(tmp_path / "b", {"psnr": 30.3, "ssim": 0.905, "n": 3})
    file = tmp_path / "t.yaml"
    file.write_text("denoise/ssim*: 1e-2\npsnr: {absolute: 0.2}\nno_such: 1\n")
    assert read_tolerances(file)["psnr"] == (0.2, 0.0)
    assert hyped(["bench", "compare", str(a), str(b), f"--tolerances={file}"]) == 6
    said = capsys.readouterr()
    assert "PAST" in said.out and "psnr: 30.0 against 30.3, allowed 0.2" in said.out and "within" in said.out
    assert "no_such is no metric" in said.err and "ssim is no metric" not in said.err
    file.write_text("'*': 0.5\n")
    assert hyped(["bench", "compare", str(a), str(b), f"--tolerances={file}", "--tolerance=0"]) == 0
    for text, word in (("psnr: many", "number"), ("psnr: -1", "negative"), ("psnr: {abs: 1}", "abs"), ("[1]", "map")):
        file.write_text(text)
        with pytest.raises(ParamsError, match=word):
            read_tolerances(file)
    with pytest.raises(InvalidDataError, match="negative"):
        Tolerances(absolute=-1.0)
    with pytest.raises(InvalidDataError, match="negative"):
        Tolerances(relative=float("nan"))


def test_what_was_made_otherwise_and_what_failed_twice_is_said(tmp_path, capsys):
    one = {"environment": {"cpu": "A", "determinism": {}}, "seeds": [0, 1], "status": "failed"}
    other = {"environment": {"cpu": "B", "determinism": {"VAR": "1"}}, "seeds": [0, 2], "status": "failed"}
    a, b = write(tmp_path / "a", {"psnr": None}, **one), write(tmp_path / "b", {"psnr": None}, **other)
    assert hyped(["bench", "compare", str(a), str(b), "--json"]) == 6  # nothing agrees with nothing
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["n_metrics"] == 0 and not found["agrees"] and "every model failed in both runs (1)" in said.err
    assert set(found["environment"]) == {"environment/cpu", "environment/determinism/VAR", "seeds"}
    assert found["failed"] == [""] and "failed in both" in said.err


def test_models_that_failed_in_both_runs_are_in_no_count(tmp_path, capsys):
    for run in ("a", "b"):
        write(tmp_path / run / "denoise/tv", {"psnr": 30.0, "ssim": None}, status="ok")
        write(tmp_path / run / "denoise/theirs", {"psnr": None, "ssim": None}, status="failed")
        write(tmp_path / run / "denoise/huge", {"psnr": None, "ssim": None}, status="unavailable")
        (tmp_path / f"{run}-metrics").mkdir()
        (tmp_path / f"{run}-metrics" / "tv.json").write_text('{"psnr": 30.0, "ssim": null}')
        (tmp_path / f"{run}-metrics" / "theirs.json").write_text('{"psnr": null, "ssim": null}')
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    assert found.agrees and found.n_metrics == 2 and found.failed == ["denoise/huge", "denoise/theirs"]
    bare = compare_runs(tmp_path / "a-metrics", tmp_path / "b-metrics")
    assert bare.agrees and bare.n_metrics == 2 and bare.failed == ["theirs"]
    assert hyped(["bench", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "2 metrics agree; failed in both and not compared: 2 of the models" in capsys.readouterr().err
    record = tmp_path / "b/denoise/theirs/record.json"
    record.write_text(json.dumps({"task": "denoise", "metrics": {"psnr": 1.0, "ssim": 1.0}, "status": "ok"}))
    assert hyped(["bench", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 6  # failed in one is a difference


def test_a_record_holds_what_the_number_was_made_on():
    found = run_environment(3)
    assert found["threads"]["given"] == 3 and found["cpu"] == cpu_model() != ""
    assert found["blas"] == blas() and blas()["name"]
    assert found["libraries"]["numpy"] and found["python"] and "determinism" in found
    text = json.dumps(found)
    assert str(Path.home()) not in text and json.dumps(run_environment(3)) == text


def test_the_recipe_for_reruns(demo_sections, tmp_path, capsys):
    """docs/reruns.md on a CPU: twice on one machine agrees; a number that moved past its tolerance does not."""
    section = {**demo_sections["demultiplex"], "models": ["top_tag"]}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"demultiplex": section}))
    for run in ("first", "second"):
        command = ["bench", "run", f"--params={tmp_path}/p.yaml", "--device=cpu", "--deterministic"]
        subprocess.run(
            [sys.executable, "-m", "hyped_core.cli.main", *command, f"--out={tmp_path}/{run}"],
            check=True,
            capture_output=True,
            env={k: v for k, v in os.environ.items() if k != "HYPED_DETERMINISTIC"},
        )
    at = [str(tmp_path / run / "records") for run in ("first", "second")]
    assert hyped(["bench", "compare", *at, "--tolerance=1e-6"]) == 0
    assert "made with other" not in capsys.readouterr().out
    moved = tmp_path / "second/records/demultiplex/top_tag/record.json"
    record = json.loads(moved.read_text())
    assert record["environment"]["determinism"]["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    record["metrics"]["accuracy"] += 0.01
    moved.write_text(json.dumps(record))
    assert hyped(["bench", "compare", *at, "--tolerance=1e-6"]) == 6
    assert "accuracy" in capsys.readouterr().out


FLAGS = """
import importlib.util, os, sys
from hyped_core.remote.determinism import determinism_record, make_deterministic
if "late" not in sys.argv:
    import torch
make_deterministic()
make_deterministic()
if "late" in sys.argv:
    assert importlib.util.find_spec("torch") is not None  # asking for it is not importing it
    assert "torch" not in sys.modules and "torch" not in determinism_record()
    import torch
assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.allow_tf32
assert determinism_record()["torch"] == {"deterministic_algorithms": True, "cudnn_benchmark": False, "tf32": False}
assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_flags_are_set_whenever_torch_is_imported(when):
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-c", FLAGS, when], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
