"""Several seeds of a model: only the model's draws differ, the record holds all, failures are not averaged away."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from hyped_bench.records import read_record, read_result, write_record
from hyped_bench.runner import prepare, run_model
from hyped_bench.runs.many import run_many
from hyped_bench.runs.seeds import differs_by_seed, merge_seeds
from hyped_core.cli.main import run as hyped


@pytest.fixture
def job(tiny_screen, toy_host):
    """The tiny screen, loaded."""
    return prepare("expression", tiny_screen.section, host=toy_host)


def test_only_models_that_differ_are_run_again(job, toy_host):
    for name, differs in (("noisy", True), ("steady", False), ("additive", False), ("duplicate", False)):
        assert differs_by_seed(job, name, toy_host) is differs


def test_a_seed_changes_the_model_and_not_the_data(job, toy_host):
    one, two = (run_model(job, "noisy", host=toy_host, seed=seed) for seed in (0, 7))
    assert (one.seed, two.seed) == (0, 7) and one.metrics["mse"] != two.metrics["mse"]
    assert one.facts["split_sha256"] == two.facts["split_sha256"]
    steady = [run_model(job, "additive", host=toy_host, seed=seed).metrics for seed in (0, 7)]
    assert steady[0] == steady[1]
    assert run_model(job, "noisy", host=toy_host).metrics == one.metrics


def test_merged_scores_are_means_with_their_spread(job, toy_host, tmp_path):
    parts = [run_model(job, "noisy", host=toy_host, seed=seed) for seed in (0, 1, 2)]
    merged = merge_seeds(parts)
    values = [part.metrics["mse"] for part in parts]
    assert merged.metrics["mse"] == pytest.approx(np.mean(values), rel=1e-5)
    assert merged.spread["mse"] == pytest.approx(np.std(values, ddof=1), rel=1e-5)
    assert merged.metrics["n_perturbations"] == parts[0].metrics["n_perturbations"]
    assert merged.seeds == (0, 1, 2) and set(merged.metrics) == set(parts[0].metrics)
    units = merged.scores.tables["units"]
    assert list(units.columns[:2]) == ["source", "seed"] and len(units) == 3 * len(parts[0].scores.tables["units"])
    own = units[units["seed"] == 1].drop(columns="seed").reset_index(drop=True)
    pd.testing.assert_frame_equal(own, parts[1].scores.tables["units"])
    write_record(tmp_path / "r", job, merged)
    record = read_record(tmp_path / "r")
    assert record["seeds"] == [0, 1, 2] and record["spread"]["mse"] > 0
    parts[1].metrics["mse"] = None
    assert merge_seeds(parts).metrics["mse"] is None


def test_a_model_that_failed_under_one_seed_has_failed(tiny_screen, toy_host, tmp_path):
    section = {**tiny_screen.section, "models": {"noisy": {"fails_with": 1}}}
    job = prepare("expression", section, host=toy_host)
    [done] = run_many(job, ["noisy"], tmp_path, seeds=(0, 1, 2), host=toy_host)
    assert done.result.status == "failed" and "seed 1" in done.result.reason and "out of luck" in done.result.reason
    assert set(done.result.metrics.values()) == {None}
    assert read_record(tmp_path / "records/expression/noisy")["status"] == "failed"


def test_a_result_read_back_gives_the_same_bytes(job, toy_host, tmp_path):
    write_record(tmp_path / "a", job, run_model(job, "noisy", host=toy_host, seed=3))
    write_record(tmp_path / "b", job, read_result(tmp_path / "a"))
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert "units.csv" in names and names == sorted(p.name for p in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_seeds_on_the_command_line(tiny_screen, toy_host, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hyped_core.plugins.registry.default_host", lambda: toy_host)
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"expression": tiny_screen.section}))
    at = ["bench", "run", f"--params={tmp_path}/p.yaml", "--model=noisy"]
    assert hyped([*at, f"--out={tmp_path}/out", "--seeds=3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"no_change", "additive", "duplicate", "oracle", "noisy"} < set(found)
    assert read_record(tmp_path / "out/records/expression/noisy")["seeds"] == [0, 1, 2]
    assert "seeds" not in read_record(tmp_path / "out/records/expression/additive")
    single = ["--task=expression", f"--metrics={tmp_path}/m.json", f"--record={tmp_path}/r", "--seeds=3"]
    assert hyped([*at, *single]) == 0
    assert json.loads((tmp_path / "m.json").read_text()) == found["noisy"]
    assert read_record(tmp_path / "r")["seeds"] == [0, 1, 2]
