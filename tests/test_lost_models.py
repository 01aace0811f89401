"""A pipeline with two strangers' models, one of which breaks: its stage says so, and the other and the report stand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from hyped_bench.demo_data import write_demo
from hyped_core.testing import make_distribution
from tests.conftest import run, tool_environment

PLUGIN = """
from hyped_core import ModelSpec, hookimpl

@hookimpl
def hyped_models():
    yield ModelSpec("{name}", "demultiplex", "{name}_model:Model")
"""
MODEL = """
import numpy as np
import pandas as pd

class Model:
    def assign(self, hto, *, context):
        counts = np.asarray(hto.X.todense() if hasattr(hto.X, "todense") else hto.X)
        call = hto.var_names.to_numpy()[counts.argmax(1)]
        return pd.DataFrame({"call": call, "kind": "singlet", "probability": 1.0, "tags": call}, index=hto.obs_names)
"""
STAGES = {
    "bench": {
        "foreach": "${bench}",
        "do": {
            "cmd": "hyped bench run --task demultiplex --model ${item.model} --keep-going"
            " --params params.yaml#demultiplex --metrics metrics/${item.model}.json --record records/${item.model}",
            "params": [{"plugins.lock.yaml": ["models.demultiplex.${item.model}"]}],
            "metrics": [{"metrics/${item.model}.json": {"cache": False}}],
            "outs": ["records/${item.model}"],
        },
    },
    "report": {"cmd": "ls records > report.txt", "deps": ["records"], "outs": ["report.txt"]},
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """Root, folder of installed plugins, environment; both strangers locked, then one broken, and locked again."""
    folder = tmp_path_factory.mktemp("lost")
    root, site = folder / "repository", folder / "site"
    root.mkdir()
    env = tool_environment(PYTHONPATH=str(site), HYPED_CACHE=str(folder / "cache"), OMP_NUM_THREADS="1")
    for name in ("athird", "healthy"):
        make_distribution(site, name, {f"{name}_plugin": PLUGIN.format(name=name), f"{name}_model": MODEL})
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "core.analytics", "false"]):
        run(command, root, env=env)
    section = write_demo(folder / "demo")["demultiplex"]
    lines = {name: {"model": name} for name in ("athird", "healthy")}
    (root / "params.yaml").write_text(json.dumps({"demultiplex": {"sources": section["sources"][:1]}, "bench": lines}))
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    run(["hyped", "plugins", "lock"], root, env=env)
    (site / "athird_plugin.py").write_text("import os\nos.abort()\n")
    run(["hyped", "plugins", "lock"], root, env=env)
    return root, site, env


def test_the_healthy_neighbour_and_the_report_are_made_and_the_broken_one_is_recorded(repository):
    root, _, env = repository
    run(["dvc", "repro", "report"], root, env=env)
    assert (root / "report.txt").read_text().split() == ["athird", "healthy"]
    files = [root / "records" / name / "record.json" for name in ("healthy", "athird")]
    healthy, lost = (json.loads(file.read_text()) for file in files)
    assert healthy["status"] == "ok"
    assert (lost["status"], lost["distribution"], lost["version"]) == ("failed", "athird", "1.0")
    assert "SIGABRT" in lost["reason"] and "pip uninstall athird" in lost["reason"]
    metrics = json.loads((root / "metrics" / "athird.json").read_text())
    assert metrics and set(metrics.values()) == {None}
    assert set(metrics) == set(json.loads((root / "metrics" / "healthy.json").read_text()))


def test_a_command_that_names_it_beside_another_runs_the_other(repository):
    root, _, env = repository
    command = [sys.executable, "-m", "hyped_core.cli.main", "bench", "run", "--task", "demultiplex"]
    both = [*command, "--params", "params.yaml#demultiplex", "--model", "top_tag", "--model", "athird"]
    done = run(both, root, env=env)
    rows = {line.split()[0]: line.split()[2] for line in done.stdout.splitlines() if line.strip()[:3] in ("top", "ath")}
    assert rows["top_tag"] == "ok" and rows["athird"] == "failed"
    assert "athird (athird 1.0): failed" in done.stderr and "pip uninstall athird" in done.stderr
    alone = [*command, "--params", "params.yaml#demultiplex", "--metrics", "m.json", "--model"]
    assert run([*alone, "athird"], root, env=env, check=False).returncode == 4
    assert not (root / "m.json").exists()


def test_a_name_that_nobody_ever_had_is_an_error_of_the_stage(repository):
    root, site, env = repository
    command = ["hyped", "bench", "run", "--task", "demultiplex", "--params", "params.yaml#demultiplex", "--keep-going"]
    typo = [*command, "--metrics", "typo.json", "--model", "top_tga"]
    done = run(typo, root, env={**env, "PYTHONPATH": ""}, check=False)
    assert done.returncode == 4 and "did you mean demultiplex/top_tag" in done.stderr
    assert not (root / "typo.json").exists()
