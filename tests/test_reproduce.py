"""The whole pipeline for real on a small `mini`: killed in every kind of stage, it ends as if it never had been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import copy_repository, run, tool_environment
from tests.test_pipeline_graph import thin

pytestmark = pytest.mark.slow


def small(folder: Path) -> None:
    """Two scenes of the control and few models, simulated like `mini`."""
    params = folder / "params.yaml"
    thin(params)
    content = yaml.safe_load(params.read_text())
    mini = content["datasets"]["mini"]
    design = yaml.safe_load((folder / "data/mini/design.yaml").read_text())
    design["scenes"] = [scene for scene in design["scenes"] if scene["name"] in ("S0", "S1")]
    (folder / "data/mini/design.yaml").write_text(yaml.safe_dump(design, sort_keys=False))
    for task in mini["bench"].values():
        for source in task["sources"]:
            if "scenes" in source:
                source["scenes"] = ["S0"]
    for name in ("composition", "forecast", "response"):  # two scenes of one condition hold none of these questions
        content[f"bench-{name}"] = content[f"reference-{name}"] = {}
        content["judge"] = {key: item for key, item in content["judge"].items() if item["task"] != name}
    params.write_text(yaml.safe_dump(content, sort_keys=False))


def outputs(folder: Path) -> dict[str, str]:
    """Stage output -> hash, from dvc.lock."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def prepared(root: Path, names: list[str], folder: Path) -> Path:
    copy_repository(root, [name for name in names if name != "dvc.lock"], folder)
    small(folder)
    return folder


def test_killed_in_every_kind_of_stage_it_ends_the_same(root: Path, tracked_files: list[str], tmp_path: Path):
    env = tool_environment(OMP_NUM_THREADS="1", DATASET="mini")
    whole = prepared(root, tracked_files, tmp_path / "whole")
    killed = prepared(root, tracked_files, tmp_path / "killed")
    run(["sh", "scripts/repro.sh"], whole, env=env, timeout=1200)
    expected = outputs(whole)
    assert (whole / "reports/mini/index.html").is_file()

    seen: set[str] = set()
    for _ in range(60):
        process = subprocess.Popen(
            ["sh", "scripts/repro.sh"],
            cwd=killed,
            env={**env, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        printed = []
        for line in process.stdout:
            printed.append(line)
            group = line.partition("Running stage '")[2].partition("@")[0]
            if group and group not in seen:
                seen.add(group)
                time.sleep(0.9)
                os.killpg(process.pid, signal.SIGKILL)
                break
        process.stdout.close()
        if process.wait() == 0:
            break
    assert process.returncode == 0, "".join(printed[-30:])
    assert len(seen) > 12, seen
    assert outputs(killed) == expected
    leftovers = [p for p in killed.rglob(".*.part") if ".dvc" not in p.parts]
    assert leftovers == []


def test_containers_of_the_pipeline_are_valid_and_metrics_can_be_shown(root: Path, tmp_path: Path):
    containers = sorted(root.glob("data/mini/containers/*.hyped"))
    if not containers:
        pytest.skip("run make repro first")
    env = tool_environment()
    for container in containers:
        run(["hyped", "data", "validate", "--deep", str(container)], root, env=env)
    shown = json.loads(run(["dvc", "metrics", "show", "--json"], root, env=env).stdout)
    files = shown[""]["data"]
    assert files["metrics/mini/segment/fast.json"]["data"]["f1_iou50"] > 0.9
    assert all("error" not in item for item in files.values())
    plots = run(["dvc", "plots", "show", "--out", str(tmp_path)], root, env=env)
    assert "index.html" in plots.stdout
