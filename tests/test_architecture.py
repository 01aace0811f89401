"""The rules of the house: who imports whom, and what may not lie in the repository."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import yaml

from tests.conftest import run, tool_environment


def test_import_rules_hold(root: Path):
    done = run([str(Path(sys.executable).parent / "lint-imports")], root, env=tool_environment())
    assert "0 broken" in done.stdout


def test_tracked_files_are_small_and_name_no_machine(root: Path, tracked_files: list[str]):
    place = re.compile(r"(^|[^A-Za-z0-9_.~-])/(work|farm|root)/")
    for name in tracked_files:
        file = root / name
        assert file.stat().st_size < 2_000_000, f"{name} is over 2 MB"
        if file.suffix in {".py", ".md", ".yaml", ".toml", ".sh", ".txt", ""}:
            text = file.read_text(errors="ignore")
            assert not place.search(text) or name == "tests/test_architecture.py", f"{name} names a machine's path"


def test_modules_are_documented_and_not_too_long(root: Path):
    for file in sorted(root.glob("packages/*/src/**/*.py")):
        text = file.read_text()
        assert len(text.splitlines()) <= 600, f"{file} is over 600 lines"
        if text.strip():
            assert ast.get_docstring(ast.parse(text)), f"{file} opens without a docstring"


def test_style_rules_hold(root: Path):
    run([str(Path(sys.executable).parent / "ruff"), "check", "--no-cache", "."], root, env=tool_environment())


def test_a_step_that_runs_models_sees_a_change_in_each_of_its_modules(root: Path):
    """Stages that run a model depend on single files; with the models' hashes they have to cover the folder."""
    from hyped_core.plugins.host import default_host

    models = [item.spec for item in default_host().collect("hyped_models")]
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    folders = {"segment": "hyped-imaging", "track": "hyped-imaging", "demultiplex": "hyped-seq"}
    for step, package in folders.items():
        module = package.replace("-", "_")
        source = root / "packages" / package / "src"
        hashed = {
            name.partition(":")[0]
            for spec in models
            if spec.task == step
            for name in (spec.target, spec.config or "", *spec.sources)
        }
        deps = set(stages[step]["do"]["deps"])
        for file in sorted((source / module / step).glob("*.py")):
            name = ".".join(file.relative_to(source).with_suffix("").parts)
            assert file.relative_to(root).as_posix() in deps or name in hashed, f"{file.name} reruns nothing"
