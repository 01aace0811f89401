"""Running, recording, comparing: what fails is said and harms nothing else, equal runs give equal bytes."""

from __future__ import annotations

import filecmp
import json
import subprocess
import sys
from pathlib import Path

import anndata
import pytest
import yaml
from click.testing import CliRunner

from hyped_bench.comparison import compare_runs
from hyped_bench.records import read_record, write_metrics, write_record
from hyped_bench.runner import prepare, raise_for, run_model
from hyped_core.cli.main import run as hyped
from hyped_core.errors import (
    CorruptFileError,
    MissingDependencyError,
    MissingFileError,
    ParamsError,
    PluginError,
    UnknownNameError,
)
from hyped_core.plugins.registry import metrics as metric_registry
from hyped_core.plugins.registry import models, tasks
from hyped_core.spec import import_target


@pytest.fixture
def params(tmp_path, demo_sections):
    """A parameter file of the demo's tasks."""
    demo_sections["denoise"]["models"] = {"identity": {}, "gaussian": {"sigma_px": 1.5}}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"datasets": {"demo": {"bench": demo_sections}}}))
    return path


def test_everything_registered_can_be_imported(bench_host):
    for provided in [
        *tasks(bench_host).items(),
        *metric_registry(bench_host).items(),
        *models(bench_host).items(),
    ]:
        assert callable(import_target(provided.spec.target)), provided.spec
    for provided in models(bench_host).items():
        if provided.spec.task not in ("composition", "forecast", "response"):
            assert provided.spec.role == "control"  # models of the other tasks come from the other packages
        provided.spec.create()


def test_references_cannot_be_looked_up_as_models(bench_host):
    for name in ("duplicate", "oracle", "wrong", "shuffled"):
        with pytest.raises(UnknownNameError):
            models(bench_host).get(f"expression/{name}")


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; import hyped_bench.plugin as p; list(p.hyped_models()); list(p.hyped_tasks()); "
        "list(p.hyped_metrics()); list(p.hyped_commands()); import hyped_bench.cli, hyped_bench.cli_demo; "
        "heavy = ('numpy', 'pandas', 'anndata', 'torch', 'scipy', 'skimage', 'zarr'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_broken_model_is_recorded_and_the_others_are_unharmed(
    demo_sections, misbehaving_host, tmp_path, capfd
):
    job = prepare("denoise", demo_sections["denoise"], host=misbehaving_host)
    names = ["raises", "wrongshape", "nan", "bare", "lost", "overwrites", "identity"]
    results = {name: run_model(job, name, host=misbehaving_host) for name in names}
    states = {name: result.status for name, result in results.items()}
    assert states == {
        "raises": "failed",
        "wrongshape": "failed",
        "nan": "failed",
        "bare": "unavailable",
        "lost": "failed",
        "overwrites": "ok",
        "identity": "ok",
    }
    assert results["raises"].reason == "RuntimeError: out of luck"
    assert "NaN" in results["nan"].reason and "shape" in results["wrongshape"].reason
    assert "pip install no-such-lib" in results["bare"].reason
    assert set(results["raises"].metrics) == set(results["identity"].metrics)
    assert set(results["raises"].metrics.values()) == {None}
    assert results["identity"].metrics["mse"] == results["overwrites"].metrics["mse"] > 0
    written = capfd.readouterr()
    assert written.out == ""  # what a model prints is no data
    assert all(f"noise {how}" in written.err for how in ("on stdout", "on its descriptor", "of C"))
    with pytest.raises(PluginError, match="out of luck") as failed:
        raise_for(results["raises"])
    assert failed.value.exit_code == 4 and "misbehaving 9.9" in str(failed.value)
    with pytest.raises(MissingDependencyError) as missing:
        raise_for(results["bare"])
    assert missing.value.exit_code == 5
    write_record(tmp_path / "rec", job, results["raises"])
    record = read_record(tmp_path / "rec")
    assert record["status"] == "failed" and record["distribution"] == "misbehaving"
    assert any("denoise" in line for line in record["trace"]) and "/" not in "".join(record["trace"])


def test_a_model_that_exits_is_a_failed_model(demo_sections, misbehaving_host):
    job = prepare("denoise", demo_sections["denoise"], host=misbehaving_host)
    assert run_model(job, "exits", host=misbehaving_host).status == "failed"


def test_too_little_memory_is_no_defect_of_the_model(demo_sections, misbehaving_host, monkeypatch):
    def starve(*_, **__):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(sys.modules["misbehaving_models"].Raises, "denoise", starve)
    job = prepare("denoise", demo_sections["denoise"], host=misbehaving_host)
    result = run_model(job, "raises", host=misbehaving_host)
    assert (result.status, result.exit_code) == ("unavailable", 5) and "9 TiB" in result.reason
    with pytest.raises(MissingDependencyError, match="not enough memory"):
        raise_for(result)


def test_equal_runs_give_equal_bytes(tiny_screen, demo_sections, bench_host, tmp_path):
    for task, section, name in (
        ("expression", tiny_screen.section, "bilinear"),
        ("demultiplex", demo_sections["demultiplex"], "top_tag"),
    ):
        for run in ("a", "b"):
            job = prepare(task, section, seed=3, host=bench_host)
            result = run_model(job, name, host=bench_host)
            write_record(tmp_path / run / task, job, result)
            write_metrics(tmp_path / run / f"{task}.json", result)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) > 6
    same, different, _ = filecmp.cmpfiles(
        tmp_path / "a", tmp_path / "b", [str(f) for f in files], shallow=False
    )
    assert not different and len(same) == len(files)


def test_a_record_says_how_a_number_came_about(demo_sections, bench_host, tmp_path):
    section = {**demo_sections["denoise"], "models": {"gaussian": {"sigma_px": 2.0}}}
    job = prepare("denoise", section, seed=5, host=bench_host)
    result = run_model(job, "gaussian", host=bench_host)
    write_record(tmp_path / "r", job, result, timing=True)
    record = read_record(tmp_path / "r")
    assert record["config"] == {"sigma_px": 2.0} and record["seed"] == 5 and record["kind"] == "control"
    assert record["distribution"] == "hyped-bench" and record["environment"]["libraries"]["numpy"]
    assert set(record["data"]) == set(job.task.inputs()) and all(
        len(v) == 64 for v in record["data"].values()
    )
    assert record["facts"]["data_range"]["demo_Cy5"] > 500
    assert record["params"]["sources"][0]["name"] == "demo"
    assert (tmp_path / "r" / "units.csv").is_file() and (tmp_path / "r" / "timing.json").is_file()
    assert record["tables"]["planes.csv"] == 9


def test_run_command_single(params, tmp_path, capsys):
    at = [f"--params={params}#datasets.demo.bench.denoise", "--task=denoise"]
    out = [f"--metrics={tmp_path}/m/gaussian.json", f"--record={tmp_path}/r/gaussian"]
    assert hyped(["bench", "run", *at, "--model=gaussian", *out]) == 0
    assert capsys.readouterr().out == ""
    metrics = json.loads((tmp_path / "m" / "gaussian.json").read_text())
    assert metrics["psnr"] > 20
    assert read_record(tmp_path / "r" / "gaussian")["config"] == {"sigma_px": 1.5}
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".part")]


def test_run_command_several_and_status(params, tmp_path, capsys, monkeypatch):
    reference = f"{params}#datasets.demo.bench"
    assert (
        hyped(["bench", "run", "--task=denoise", f"--params={reference}.denoise", f"--out={tmp_path}/out"])
        == 0
    )
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:4] == ["model", "kind", "status", "psnr"] and len(table) > 5
    assert [line.split()[0] for line in table[1:6]] == ["gaussian", "identity", "median", "nlm", "tv"]
    arguments = ["bench", "status", f"--params={reference}", f"--metrics={tmp_path}/out/metrics"]
    assert hyped([*arguments, f"--records={tmp_path}/out/records", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    states = {(r["task"], r["model"]): r["state"] for r in rows}
    assert states["denoise", "gaussian"] == "ok" and states["track", "nearest"] == "to do"
    at = ["bench", "status", f"--params={reference}", f"--out={tmp_path}/out"]
    assert hyped([*at, "--json"]) == 0 and json.loads(capsys.readouterr().out) == rows
    assert hyped([*at, f"--metrics={tmp_path}/out/metrics"]) == 2
    assert hyped(["bench", "status", f"--params={params}#datasets.demo"]) == 2
    monkeypatch.chdir(tmp_path)
    assert hyped(["bench", "status", f"--params={reference}"]) == 0
    assert "to do" in capsys.readouterr().out


def test_dry_run_writes_nothing(params, tmp_path, capsys):
    at = f"--params={params}#datasets.demo.bench.expression"
    assert hyped(["bench", "run", "--task=expression", at, f"--out={tmp_path}/out", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "nothing was written" in said and "very roughly" in said
    assert not (tmp_path / "out").exists()


def test_an_estimate_counts_what_is_there_without_loading_it(demo_sections, tiny_screen, tmp_path):
    import pandas as pd

    from hyped_bench.estimate import SECONDS, START_S, count_units, estimate

    screen = prepare("expression", tiny_screen.section, load=False)
    n_cells = anndata.read_h5ad(tiny_screen.folder / "screen.h5ad").n_obs
    found = estimate(screen)
    assert found.units == {"rows": n_cells} and not screen.task.data
    assert found.seconds == pytest.approx(START_S + SECONDS["rows"] * n_cells)
    assert found.size == sum(p.stat().st_size for p in tiny_screen.folder.glob("*.h5ad"))
    denoise = prepare("denoise", demo_sections["denoise"])
    frames = sum(len(s.frames or ()) or count_units(s.noisy)[1] for s in denoise.task.params.sources)
    assert estimate(denoise).units == {"frames": frames}
    pd.DataFrame({"a": range(7)}).to_parquet(tmp_path / "t.parquet")
    pd.DataFrame({"a": range(6)}).to_csv(tmp_path / "t.csv", index=False)
    assert count_units(tmp_path / "t.parquet") == ("rows", 7) and count_units(tmp_path / "t.csv") == ("rows", 6)
    (tmp_path / "tags.csv").write_text(",AA,CC,GG\nA,1,2,3\nB,4,5,6\n")
    assert count_units(tmp_path / "tags.csv", "hto") == ("rows", 3)
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(CorruptFileError, match=r"bad\.parquet"):
        count_units(tmp_path / "bad.parquet")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--task=denoise", "--model=no_such"], 4),
        (["--task=no_such", "--model=identity"], 4),
        (["--task=denoise", "--model=identity", "--model=median", "--metrics=x.json"], 2),
        (["--model=identity"], 2),
        (["--task=segment", "--model=otsu"], 3),
    ],
)
def test_exit_codes(params, arguments, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hyped(["bench", "run", f"--params={params}#datasets.demo.bench.denoise", *arguments]) == code


def test_a_failing_model_ends_with_4_or_with_nulls(
    params, demo_sections, tmp_path, monkeypatch, misbehaving_host
):
    monkeypatch.setattr("hyped_core.plugins.registry.default_host", lambda: misbehaving_host)
    at = ["--task=denoise", f"--params={params}#datasets.demo.bench.denoise", "--model=raises"]
    out = [f"--metrics={tmp_path}/m.json", f"--record={tmp_path}/rec"]
    assert hyped(["bench", "run", *at, *out]) == 4
    assert not (tmp_path / "m.json").exists() and read_record(tmp_path / "rec")["status"] == "failed"
    assert hyped(["bench", "run", *at, *out, "--keep-going"]) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert len(metrics) > 10 and set(metrics.values()) == {None}


@pytest.mark.parametrize("model", ["raises", "nan", "bare"])
def test_a_failing_model_says_once_what_to_do(params, model, tmp_path, monkeypatch, misbehaving_host, capsys):
    monkeypatch.setattr("hyped_core.plugins.registry.default_host", lambda: misbehaving_host)
    at = ["--task=denoise", f"--params={params}#datasets.demo.bench.denoise", f"--model={model}", "--here"]
    reason = {"raises": "out of luck", "nan": "NaN", "bare": "pip install no-such-lib"}[model]
    code = 5 if model == "bare" else 4
    assert hyped(["bench", "run", *at]) == code
    said = capsys.readouterr().err
    assert said.count(reason) == 1 and said.count("to mend") <= 1 and "record.json" not in said
    assert hyped(["bench", "run", *at, f"--record={tmp_path}/rec"]) == code
    said = capsys.readouterr().err
    assert said.count("to mend") <= 1 and (f"{tmp_path}/rec/record.json" in said) == (code == 4)


def test_bad_params(demo_sections):
    with pytest.raises(ParamsError, match="unknown key"):
        prepare("denoise", {**demo_sections["denoise"], "bootstrp": 10})
    with pytest.raises(ParamsError, match="list of names or a mapping"):
        prepare("denoise", {**demo_sections["denoise"], "models": "gaussian"})
    with pytest.raises(ParamsError, match="greater than"):
        prepare("denoise", {**demo_sections["denoise"], "bootstrap": 1})


def test_an_unknown_key_of_a_models_config_is_named(demo_sections, bench_host):
    job = prepare("denoise", {**demo_sections["denoise"], "models": {"gaussian": {"sgima_px": 1}}})
    with pytest.raises(ParamsError, match="sigma_px") as caught:
        run_model(job, "gaussian", host=bench_host)
    assert caught.value.exit_code == 3


def records(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "metrics": {"psnr": 30.0, "ssim": 0.9, "n": 3, "x": None},
        "seed": 0,
        "environment": {"python": "3.11.2"},
    }
    (folder / "record.json").write_text(json.dumps(record | changes))
    return folder


def test_compare_passes_within_and_fails_past_the_tolerance(tmp_path, capsys):
    a = records(tmp_path / "a")
    b = records(tmp_path / "b", metrics={"psnr": 30.002, "ssim": 0.9, "n": 3, "x": None}, seed=1)
    assert hyped(["bench", "compare", str(a), str(b)]) == 6
    said, complaint = capsys.readouterr()
    assert "psnr" in said and "seed: 0 against 1" in said and "ssim" not in said
    assert "differences of environment above" in complaint
    same = records(tmp_path / "same", metrics={"psnr": 40.0, "ssim": 0.9, "n": 3, "x": None})
    assert hyped(["bench", "compare", str(a), str(same)]) == 6
    assert "environment" not in capsys.readouterr().err
    assert hyped(["bench", "compare", str(a), str(b), "--tolerance=0.001", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["agrees"] is True


def test_compare_notices_what_is_missing_or_undefined(tmp_path):
    a = records(tmp_path / "a" / "m")
    records(tmp_path / "a" / "extra")
    b = records(tmp_path / "b" / "m", metrics={"psnr": None, "ssim": 0.9, "new": 1, "x": None})
    found = compare_runs(tmp_path / "a", tmp_path / "b", absolute=1e9)
    assert not found.agrees and found.only_first == ["extra", "m:n"] and found.only_second == ["m:new"]
    assert [d.metric for d in found.past] == ["psnr"]
    assert compare_runs(a, a).agrees and compare_runs(a, a).n_metrics == 4
    with pytest.raises(MissingFileError):
        compare_runs(tmp_path / "none", b)
    (b / "record.json").write_text("{")
    with pytest.raises(CorruptFileError):
        compare_runs(a, b)


def test_help_of_every_command():
    from hyped_bench import cli, cli_demo

    for command in (cli.run, cli.score, cli.status, cli.compare, cli_demo.demo):
        assert len(CliRunner().invoke(command, ["--help"]).output) > 300
