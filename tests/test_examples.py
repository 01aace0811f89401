"""Strangers' code: each package of `examples` that wraps a library is built, checked, tried beside controls and tested.

Where pip cannot install what one needs the test is skipped with pip's reason; anything else that goes wrong fails it.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import run

MINUTES = 60.0


@dataclass(frozen=True)
class Example:
    """A package: its folder, its model, and a score that shows the model at work on the tiny data."""

    folder: str
    task: str
    model: str
    metric: str
    at_least: float
    """Of the metric on the tiny data: far below what it scores, above what a broken model would."""


EXAMPLES = [
    Example("laptrack-tracker", "track", "laptrack-area", "tra", 0.98),
    Example("careamics-n2v", "denoise", "careamics-n2v", "psnr", 20.0),
    Example("cell-gears-model", "expression", "cell-gears", "cosine", 0.95),
    Example("scvi-embedding", "embedding", "scvi", "cosine", 0.9),
]
by_folder = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.folder)


def source(root: Path, example: Example) -> Path:
    return root / "examples" / example.folder


@by_folder
def test_it_depends_on_hyped_core_alone(root: Path, example: Example):
    project = tomllib.loads((source(root, example) / "pyproject.toml").read_text())["project"]
    own = [line for line in project["dependencies"] if line.startswith("hyped")]
    assert [line.partition(">")[0] for line in own] == ["hyped-core"]
    for file in (source(root, example) / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.startswith("hyped_") and n.partition(".")[0] != "hyped_core"], file


def command(*words: str, env: dict[str, str], timeout: float, codes: tuple[int, ...] = (0,)) -> tuple[str, str]:
    """What `hyped` says on stdout and stderr; skips where pip could not install, fails at any other exit code."""
    line = [sys.executable, "-m", "hyped_core.cli.main", *words]
    done = run(line, Path(env["HOME"]), env, check=False, timeout=timeout)
    if done.returncode == 5 and "pip cannot install" in done.stderr:
        pytest.skip(done.stderr[-1500:])
    assert done.returncode in codes, f"exit code {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-4000:]}"
    return done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.exhaustive
@by_folder
def test_it_is_built_checked_tried_and_tested(root: Path, tmp_path: Path, example: Example):
    folder = source(root, example)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist")]
    run([*build, str(folder)], root)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("entry_points.txt") for name in names)
    assert not any("tests" in name for name in names)

    home = tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    env.setdefault("HYPED_CACHE", str(tmp_path / "cache"))
    env.pop("HYPED_PLUGIN_FOLDERS", None)

    said, _ = command(
        "plugins", "check", "--install", "--seconds", "180", "--json", str(folder), env=env, timeout=30 * MINUTES
    )
    records = json.loads(said)["records"]
    (started,) = [r for r in records if r["check"] == "runs"]
    if started["status"] == "skipped":  # the only other reason is a library that this environment lacks
        pytest.skip(started["reason"])
    worked = [r for r in records if r["model"] == f"{example.task}/{example.model}" and r["status"] == "passed"]
    assert len(worked) > 15

    said, told = command(
        "bench", "run", "--plugin", str(folder), "--task", example.task, "--smoke", "--json",
        env=env, timeout=15 * MINUTES,
    )  # fmt: skip
    found = json.loads(said)
    assert len(found) > 1, "no control beside it"
    assert found[example.model][example.metric] >= example.at_least, told

    own = dict(env, PYTHONPATH=str(folder / "src"))
    run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(folder),
         "-k", "not TestContract", str(folder / "tests")], tmp_path, own, timeout=10 * MINUTES)  # fmt: skip
