"""Taking up a run: what is finished is not run again, what changed is, and nothing half-written counts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from hyped_bench.records import read_record
from hyped_bench.runner import prepare, run_model
from hyped_bench.runs.keys import Hashes, _paths, changed_parts, key_parts, task_code
from hyped_bench.runs.many import run_many
from hyped_core.cli.main import run as hyped
from hyped_core.errors import PluginError


@pytest.fixture
def setup(tiny_screen, toy_host, tmp_path, monkeypatch):
    """Runs the model `noisy` and says whether it was run; its log counts its runs."""
    monkeypatch.setenv("TOYS_LOG", str(tmp_path / "log"))
    monkeypatch.setattr("hyped_bench.runs.keys.task_code", lambda task, host: "held while the test runs")

    def go(seeds=(0,), host=toy_host, **config):
        section = {**tiny_screen.section, "models": {"noisy": config}}
        job = prepare("expression", section, host=host, load=False)
        said = []
        [done] = run_many(job, ["noisy"], tmp_path / "out", seeds=seeds, host=host, say=said.append)
        go.said, go.job = said, job
        return done

    go.log = tmp_path / "log"
    go.out = tmp_path / "out"
    return go


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_is_finished_is_not_run_again(setup):
    first = setup(seeds=(0, 1))
    before = {k: v for k, v in files(setup.out).items() if not k.startswith("timing")}
    runs = setup.log.read_text()
    again = setup(seeds=(0, 1))
    assert not first.reused and again.reused and setup.log.read_text() == runs
    assert not setup.job.loaded  # not even the data were read
    assert {k: v for k, v in files(setup.out).items() if not k.startswith("timing")} == before
    assert again.result.metrics == first.result.metrics
    more = setup(seeds=(0, 1, 2))
    assert not more.reused and sorted(set(setup.log.read_text().removeprefix(runs).split())) == ["2"]


def test_what_changed_is_run_again_and_said(setup, toys_folder, tmp_path, monkeypatch):
    weights = tmp_path / "weights.txt"
    weights.write_text("1")
    kept = {"weights": str(weights)}
    assert not setup(**kept).reused and setup(**kept).reused
    weights.write_text("2")
    assert not setup(**kept).reused and "again: other data" in setup.said[0]
    assert not setup(width=0.2, **kept).reused and "again: other config" in setup.said[0]
    source = toys_folder / "toys_models.py"
    source.write_text(source.read_text() + "\n# edited\n")
    assert not setup(width=0.2, **kept).reused and "again: other source" in setup.said[0]
    assert setup(width=0.2, **kept).reused
    monkeypatch.setenv("HYPED_DETERMINISTIC", "1")
    assert not setup(width=0.2, **kept).reused and "again: other deterministic" in setup.said[0]


def test_a_damaged_record_and_a_failed_run_are_run_again(setup):
    setup()
    table = setup.out / "records/expression/noisy/units.csv"
    table.unlink()
    assert not setup().reused and table.is_file() and "damaged" in setup.said[0]
    assert setup(fails_with=0).result.status == "failed"
    again = setup(fails_with=0)
    assert not again.reused and again.result.status == "failed"
    assert not list(setup.out.rglob("keys/expression/noisy.json"))


def test_key_parts_name_all_that_decides(tiny_screen, toy_host):
    job = prepare("expression", tiny_screen.section, host=toy_host, load=False)
    parts = key_parts(job, "bilinear", 0, Hashes(), toy_host)
    assert set(parts["data"]) == set(job.task.inputs()) and len(parts["source"]) == 64
    assert parts["config"] and parts["version"] == "0.1.0" and parts["task code"] != parts["source"]
    assert changed_parts(parts, {**parts, "seed": 1}) == ["seed"] and changed_parts(parts, dict(parts)) == []
    assert changed_parts(None, parts)


def test_the_code_of_splits_decides_and_the_working_folder_does_not(monkeypatch, tmp_path, bench_host):
    hashed = []
    monkeypatch.setattr("hyped_bench.runs.keys.source_hash", lambda modules: hashed.append(set(modules)) or "x")
    task_code("expression", bench_host)
    assert {"hyped_core.splits", "hyped_bench.splits", "hyped_bench.tasks"} <= hashed[0]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "w.txt").write_text("1")
    monkeypatch.chdir(tmp_path / "in")
    said = {"a": ".", "b": ["..", "/", "./w.txt"], "c": {"d": str(tmp_path), "e": "w.txt", "f": "no.txt", "g": 1.0}}
    assert _paths(said) == ["./w.txt", "w.txt"]


def test_a_killed_run_leaves_nothing_half_written_and_goes_on(tiny_screen, toys_folder, tmp_path):
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"expression": tiny_screen.section}))
    # a shell's background job ignores interrupts
    heed = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [
        sys.executable, "-c", f"{heed} runpy.run_module('hyped_core.cli.main', None, '__main__')",
        "bench", "run", f"--params={tmp_path}/p.yaml", "--model=noisy", "--seeds=2", f"--out={tmp_path}/out",
    ]  # fmt: skip
    variables = {**os.environ, "PYTHONPATH": str(toys_folder), "TOYS_LOG": str(tmp_path / "log")}
    process = subprocess.Popen(command, env={**variables, "TOYS_SLEEP_WITH": "1"}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not ((tmp_path / "log").is_file() and "1" in (tmp_path / "log").read_text()):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    process.stderr.close()
    assert not [p for p in (tmp_path / "out").rglob("*") if p.name.endswith(".part")]
    assert read_record(tmp_path / "out/seeds/expression/noisy/0")["status"] == "ok"
    assert not (tmp_path / "out/records/expression/noisy").exists()
    (tmp_path / "log").unlink()
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert "expression: noisy, seed 0: as it was run before" in done.stderr
    assert set((tmp_path / "log").read_text().split()) == {"1"}
    assert read_record(tmp_path / "out/records/expression/noisy")["seeds"] == [0, 1]


def test_controls_and_references_cannot_be_left_out(tiny_screen, toy_host, tmp_path, monkeypatch, capsys):
    section = {**tiny_screen.section, "models": ["noisy"]}
    job = prepare("expression", section, host=toy_host, load=False)
    controls = ["additive", "bilinear", "matching_mean", "nearest", "no_change", "pool_effect", "train_mean"]
    assert job.controls(toy_host) == controls and job.models(toy_host) == [*controls, "noisy"]
    assert job.references() == ["duplicate", "oracle", "wrong", "shuffled"]
    blind = {"sources": [{k: v for k, v in section["sources"][0].items() if k != "oracle"}]}
    assert "oracle" not in prepare("expression", blind, host=toy_host, load=False).references()
    monkeypatch.setattr("hyped_core.plugins.registry.default_host", lambda: toy_host)
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(section))
    at = ["bench", "run", "--task=expression", f"--params={tmp_path}/p.yaml", "--model=noisy"]
    assert hyped(at) == 0
    said = capsys.readouterr().out
    rows = [line.split()[0] for line in said.splitlines()[1 : len(controls) + 6]]
    assert rows == [*controls, "noisy", *job.references()]
    assert any(line.startswith("screen: noisy: ") for line in said.splitlines())  # the verdict
    assert hyped([*at, f"--record={tmp_path}/alone"]) == 0
    assert capsys.readouterr().out == "" and (tmp_path / "alone/record.json").is_file()


def test_several_tasks_of_one_section(demo_sections, toy_host, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hyped_core.plugins.registry.default_host", lambda: toy_host)
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({t: demo_sections[t] for t in ("demultiplex", "track")}))
    at = ["bench", "run", f"--params={tmp_path}/p.yaml", f"--out={tmp_path}/out"]
    assert hyped(at) == 0
    said = capsys.readouterr().out
    assert "demultiplex\n" in said and "track\n" in said
    assert {p.parent.parent.name for p in (tmp_path / "out/records").rglob("record.json")} == {"demultiplex", "track"}
    assert hyped([*at, "--task=track", "--model=top_tag"]) == 4
    assert hyped([*at, "--model=top_tag"]) == 0  # the task that knows it
    assert hyped([*at, "--task=denoise"]) == 2
    assert hyped(["bench", "run", f"--params={tmp_path}/p.yaml#track", "--model=nearest"]) == 2


def test_every_datasets_stages_hold_all_controls():
    from hyped_bench.runner import controls_of

    root = Path(__file__).parents[3]
    missing, seen = [], 0
    for path in (root / "params.yaml", *sorted(root.glob("data/*/pipeline.yaml"))):
        groups = yaml.safe_load(path.read_text()) if path.is_file() else {}
        for dataset, steps in groups.get("datasets", {}).items():
            for task in steps.get("bench", {}):
                stages = groups.get(f"bench-{task}", {}).values()
                listed = {item["model"] for item in stages if item["dataset"] == dataset}
                missing += [f"{path.name} bench-{task} {dataset}: {n}" for n in controls_of(task) if n not in listed]
                seen += 1
    assert missing == [] and seen > 20


@pytest.mark.parametrize("name", ["no_change", "additive", "noisy"])
def test_a_model_in_a_process_of_its_own_scores_to_the_bit(name, tiny_screen, toy_host, toys_folder):
    here = run_model(prepare("expression", tiny_screen.section, host=toy_host), name, host=toy_host, seed=4)
    runner = {"python": sys.executable, "seconds": 120, "memory_gb": 4, "env": {"PYTHONPATH": str(toys_folder)}}
    job = prepare("expression", {**tiny_screen.section, "runners": {name: runner}}, host=toy_host)
    there = run_model(job, name, host=toy_host, seed=4)
    assert there.status == "ok", there.reason
    assert there.metrics == here.metrics and there.config == here.config and there.kind == here.kind
    for table, rows in here.scores.tables.items():
        assert rows.equals(there.scores.tables[table]), table
    assert there.runner["environment"]["python"] and len(there.runner["sha256"]) == 64
    assert 10 < there.timing["peak_memory_mb"] < 4000


def test_a_file_among_the_requirements_decides(tiny_screen, toy_host, toys_folder, tmp_path, monkeypatch):
    import os
    import sysconfig

    from hyped_bench.runs.keys import Hashes, changed_parts, key_parts
    from hyped_core.remote import environments

    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "core_requirements", list)  # this Python's libraries are lent to it
    lent = os.pathsep.join([sysconfig.get_path("purelib"), str(toys_folder)])
    (tmp_path / "reqs.txt").write_text("--no-index\n")
    runner = {"requirements": [f"-r {tmp_path}/reqs.txt"], "env": {"PYTHONPATH": lent}}
    job = prepare("expression", {**tiny_screen.section, "runners": {"noisy": runner}}, host=toy_host)
    before = key_parts(job, "noisy", 0, Hashes(), toy_host)
    assert before is not None and changed_parts(before, key_parts(job, "noisy", 0, Hashes(), toy_host)) == []
    (tmp_path / "reqs.txt").write_text("--no-index\n--pre\n")
    assert changed_parts(before, key_parts(job, "noisy", 0, Hashes(), toy_host)) == ["files of requirements"]


def test_a_process_that_dies_or_hangs_is_a_failed_model(tiny_screen, toy_host, toys_folder, tmp_path):
    runner = {"seconds": 4, "env": {"PYTHONPATH": str(toys_folder)}}
    runner["env"]["TOYS_SLEEP_WITH"] = "0"
    section = {**tiny_screen.section, "runners": {"noisy": runner}}
    job = prepare("expression", section, host=toy_host)
    done = {d.result.model: d.result for d in run_many(job, ["noisy", "no_change"], tmp_path, host=toy_host)}
    assert done["noisy"].status == "failed" and "4 seconds" in done["noisy"].reason
    assert done["no_change"].status == "ok"
    from hyped_bench.runner import raise_for

    with pytest.raises(PluginError, match="4 seconds"):
        raise_for(done["noisy"])


def test_a_plain_file_is_benchmarked_and_a_file_of_predictions_scored_beside_the_controls(
    tiny_screen, toy_host, tmp_path, monkeypatch, capsys
):
    import anndata

    monkeypatch.setattr("hyped_core.plugins.registry.default_host", lambda: toy_host)
    cells = tiny_screen.folder / "screen.h5ad"
    at = ["bench", "run", f"--cells={cells}", "--split=unseen_combination", "--model=noisy", f"--out={tmp_path}/run"]
    assert hyped(at) == 0
    assert "noisy" in capsys.readouterr().out and (tmp_path / "run/records/expression/no_change").is_dir()
    shutil.copytree(tmp_path / "run/records/expression/noisy", tmp_path / "run/records/expression/steady")
    record = tmp_path / "run/records/expression/steady/record.json"
    record.write_text(record.read_text().replace('"model": "noisy"', '"model": "steady"'))
    assert hyped(at) == 0
    assert "steady" not in capsys.readouterr().out  # a record of another run is not judged as this one's
    made = anndata.read_h5ad(cells)
    doubles = made[made.obs["perturbation"].astype(str).str.contains("+", regex=False)].copy()
    doubles.write_h5ad(tmp_path / "mine.h5ad")
    assert hyped(["bench", "score", f"{tmp_path}/mine.h5ad", f"--truth={cells}", f"--out={tmp_path}/s"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert {"mine", "no_change", "additive", "duplicate"} <= {line.split()[0] for line in said if line}
    assert any(line.startswith("screen: mine: ") for line in said)
    assert said[0] == "held out: what the file predicts, 6 of 18 perturbations; the other 12 were there to learn from"
    assert read_record(tmp_path / "s/records/expression/mine")["kind"] == "model"
    doubles.write_h5ad(tmp_path / "additive.h5ad")
    assert hyped(["bench", "score", f"{tmp_path}/additive.h5ad", f"--truth={cells}"]) == 2
    assert hyped(["bench", "score", f"{tmp_path}/mine.h5ad"]) == 2
    assert hyped(["bench", "run", f"--cells={cells}"]) == 2


def test_a_bound_on_cells_of_a_plain_file(tiny_screen, bench_host, tmp_path, monkeypatch, capsys):
    import anndata

    monkeypatch.setattr("hyped_core.plugins.registry.default_host", lambda: bench_host)
    cells = tiny_screen.folder / "screen.h5ad"
    run = ["bench", "run", f"--cells={cells}", "--split=unseen_combination", "--model=no_change", "--max-cells=12"]
    assert hyped([*run, f"--out={tmp_path}/run"]) == 0
    assert read_record(tmp_path / "run/records/expression/no_change")["params"]["sources"][0]["max_cells"] == 12
    made = anndata.read_h5ad(cells)
    made[made.obs["perturbation"].astype(str).str.contains("+", regex=False)].copy().write_h5ad(tmp_path / "mine.h5ad")
    score = ["bench", "score", f"{tmp_path}/mine.h5ad", f"--record={tmp_path}/r", "--max-cells=11"]
    assert hyped([*score, f"--truth={cells}"]) == 0
    record = read_record(tmp_path / "r")
    assert record["params"]["sources"][0]["max_cells"] == 11
    assert any("at most 11 of a perturbation" in line for line in record["warnings"])
    capsys.readouterr()
    assert hyped([*score, "--params=p.yaml"]) == 2 and "are for --truth" in capsys.readouterr().err
    assert hyped(["bench", "run", "--params=p.yaml", "--max-cells=20"]) == 2
    assert "max_cells" in capsys.readouterr().err


def test_a_leak_ends_the_run(tiny_screen, toy_host, tmp_path, monkeypatch, capsys):
    """Every model of the task could see the test cells: a table that shows them as failed would hide it."""
    from hyped_bench.splits import LeakError

    def leak(*_, **__):
        raise LeakError("shows 3 cells of the test set", where="screen/fold/visible")

    monkeypatch.setattr("hyped_core.plugins.registry.default_host", lambda: toy_host)
    monkeypatch.setattr("hyped_bench.tasks.expression.data.check_no_leak", leak)
    with pytest.raises(LeakError, match="3 cells"):
        run_model(prepare("expression", tiny_screen.section, host=toy_host), "no_change", host=toy_host)
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"expression": {**tiny_screen.section, "models": ["noisy"]}}))
    for more in ([], ["--keep-going"], ["--model=noisy", f"--record={tmp_path}/r", "--keep-going"]):
        assert hyped(["bench", "run", "--task=expression", f"--params={tmp_path}/p.yaml", *more]) == 3
        said = capsys.readouterr()
        assert "3 cells of the test set" in said.err and said.out == ""
    assert not (tmp_path / "r").exists()


def test_a_score_beside_failed_controls_does_not_pass(tiny_screen, bench_host, tmp_path, monkeypatch, capsys):
    import anndata

    def broken(self, *_, **__):
        raise RuntimeError("out of luck")

    monkeypatch.setattr("hyped_core.plugins.registry.default_host", lambda: bench_host)
    monkeypatch.setattr("hyped_bench.controls.expression.Additive.fit", broken)
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(tiny_screen.section))
    made = anndata.read_h5ad(tiny_screen.folder / "screen.h5ad")
    made[made.obs["perturbation"].astype(str).str.contains("+", regex=False)].copy().write_h5ad(tmp_path / "mine.h5ad")
    at = ["bench", "score", f"{tmp_path}/mine.h5ad", f"--params={tmp_path}/p.yaml", f"--out={tmp_path}/out"]
    assert hyped(at) == 4
    said = capsys.readouterr()
    assert "additive: failed: RuntimeError: out of luck" in said.err
    assert "controls without a score: additive" in said.err
    assert said.out.startswith("held out: unseen_combination, 6 of 18 perturbations\n") and "no_change" in said.out
    assert read_record(tmp_path / "out/records/expression/mine")["status"] == "ok"
