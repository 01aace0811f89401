"""scripts/release_check.py finds what would spoil a release, and finds nothing in this repository."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import run, tool_environment


@pytest.fixture(scope="module")
def release(root: Path):
    place = importlib.util.spec_from_file_location("release_check", root / "scripts" / "release_check.py")
    module = importlib.util.module_from_spec(place)
    sys.modules["release_check"] = module
    place.loader.exec_module(module)
    return module


@pytest.fixture
def copy(root: Path, tmp_path: Path, release) -> Path:
    """What the check reads of the repository, to be spoiled."""
    for name in release.PACKAGES:
        source, target = root / "packages" / name, tmp_path / "packages" / name
        target.mkdir(parents=True)
        for file in ("pyproject.toml", "CHANGELOG.md"):
            shutil.copy(source / file, target / file)
        shutil.copytree(source / "changes", target / "changes")
    (tmp_path / "docs").mkdir()
    shutil.copy(root / "docs" / "upgrading.md", tmp_path / "docs")
    shutil.copy(root / "CITATION.cff", tmp_path)
    return tmp_path


def spoil(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def said(release, copy: Path, package: str, tags: tuple[str, ...] = ()) -> list[str]:
    return release.problems(copy, [package], wheels=False, tags=list(tags))[package]


def test_this_repository_is_ready(release, root: Path):
    assert not any(release.problems(root, list(release.PACKAGES), wheels=False, tags=[]).values())


@pytest.mark.parametrize(("file", "old", "new", "what"), [
    ("packages/hyped-seq/pyproject.toml", 'version = "0.1.0"', 'version = "next"', "is no version"),
    ("packages/hyped-seq/pyproject.toml", ">=0.1,<0.2", ">=0.1.1,<0.2", "does not take hyped-core 0.1.0"),
    ("packages/hyped-seq/pyproject.toml", ">=0.1,<0.2", ">=0.1", "also takes 0.2"),
    ("packages/hyped-seq/pyproject.toml", "[tool.towncrier]", "[tool.other]", "no [tool.towncrier]"),
    ("packages/hyped-seq/CHANGELOG.md", "towncrier release notes start", "notes", "lacks the line"),
    ("docs/upgrading.md", "## hyped-seq 0.1", "## seq", "no section '## hyped-seq 0.1'"),
])  # fmt: skip
def test_each_defect_is_said(release, copy: Path, file: str, old: str, new: str, what: str):
    spoil(copy / file, old, new)
    problems = said(release, copy, "hyped-seq")
    assert len(problems) == 1 and what in problems[0]


@pytest.mark.parametrize(("name", "text", "what"), [
    ("fixed-a-thing.md", "A thing.", "is not named"),
    ("+a-thing.mended.md", "A thing.", "is not named"),
    ("+a-thing.fixed.md", " \n", "is empty"),
])  # fmt: skip
def test_a_fragment_that_towncrier_would_lose_is_said(release, copy: Path, name: str, text: str, what: str):
    (copy / "packages/hyped-core/changes" / name).write_text(text)
    problems = said(release, copy, "hyped-core")
    assert len(problems) == 1 and name in problems[0] and what in problems[0]


def test_versions_are_held_against_tags(release, copy: Path):
    assert "is below 0.2.0" in said(release, copy, "hyped-core", ("hyped-core-v0.2.0",))[0]
    assert "raise the version" in said(release, copy, "hyped-core", ("hyped-core-v0.1.0",))[0]
    assert said(release, copy, "hyped-core", ("hyped-core-v0.0.9", "hyped-seq-v3.0.0")) == []
    spoil(copy / "CITATION.cff", "version: 0.1.0", "version: 0.0.9")
    assert "CITATION.cff" in said(release, copy, "hyped-core")[0]


def test_a_version_that_says_nothing_new_is_no_release(release, copy: Path):
    shutil.rmtree(copy / "packages/hyped-core/changes")
    assert "says what is new" in said(release, copy, "hyped-core")[0]


def test_towncrier_takes_every_fragment(release, root: Path):
    for name in release.PACKAGES:
        folder = root / "packages" / name
        command = [str(Path(sys.executable).parent / "towncrier"), "build", "--draft", "--version", "9.9.9"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=tool_environment())
        assert done.returncode == 0, done.stderr
        drafted = " ".join(done.stdout.split())
        assert "## [9.9.9] - " in drafted
        for fragment in release.fragments(release.read_package(root, name)):
            assert " ".join(fragment.read_text().split()) in drafted, f"{name}: {fragment.name} is lost"


def test_workflows_call_targets_that_exist_and_no_exhaustive_test(root: Path):
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.M))
    called, lines = set(), (root / ".ci" / "run").read_text().splitlines()
    for file in sorted((root / ".github" / "workflows").glob("*.yml")):
        jobs = yaml.safe_load(file.read_text())["jobs"]
        for job in jobs.values():
            for step in job["steps"]:
                called |= set(re.findall(r"\bmake ([a-z-]+)", step.get("run", "")))
                lines += step.get("run", "").splitlines()
    assert called <= targets
    marks = {line.partition("test-all ")[2] for line in lines if "make test-all" in line}
    assert marks == {"""PYTEST_ARGS="-m 'slow and not exhaustive'\""""}
    assert {"test", "test-all", "docs", "release-check", "lint", "repro", "dist"} <= called


@pytest.mark.slow
def test_make_release_check(root: Path):
    done = run([sys.executable, "scripts/release_check.py"], root, env=tool_environment(), timeout=1500)
    assert "together: ready" in done.stdout


def test_a_wheel_that_lacks_a_module_is_said(release, tmp_path: Path, root: Path):
    import zipfile

    package = release.read_package(root, "hyped-bench")
    wheel = tmp_path / "hyped_bench-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("hyped_bench/__init__.py", "")
        archive.writestr("tests/test_a.py", "")
        archive.writestr("hyped_bench-0.1.0.dist-info/METADATA", "Name: hyped-bench\nVersion: 0.0.9\n")
    found = " ".join(release.wheel_problems(package, wheel))
    for what in ("says version 0.0.9", "has no LICENSE", "lacks hyped_bench/", "also holds tests/test_a.py"):
        assert what in found
