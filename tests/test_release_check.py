"""scripts/release_check.py finds what would spoil a release, and finds nothing in this repository."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
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


def said(release, copy: Path, package: str, tags: tuple[str, ...] = (), releasing: tuple[str, ...] = ()) -> list[str]:
    return release.problems(copy, releasing=list(releasing), wheels=False, tags=list(tags))[package]


def test_this_repository_is_ready(release, root: Path):
    assert not any(release.problems(root, releasing=list(release.PACKAGES), wheels=False, tags=[]).values())


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
    assert said(release, copy, "hyped-core", ("hyped-core-v0.0.9", "hyped-core-vault", "hyped-seq-v3.0.0")) == []
    spoil(copy / "CITATION.cff", "version: 0.1.0", "version: 0.0.9")
    assert "CITATION.cff" in said(release, copy, "hyped-core")[0]


def test_changes_since_the_last_release_hold_up_that_package_s_release_alone(release, copy: Path):
    tags = tuple(f"{name}-v0.1.0" for name in release.PACKAGES)
    for name in ("hyped-bench", "hyped-seq"):
        shutil.rmtree(copy / "packages" / name / "changes")
        start = "release notes start -->"
        spoil(copy / "packages" / name / "CHANGELOG.md", start, f"{start}\n## [0.1.0]")
    assert "changes/ holds" in release.pending_changes(release.read_package(copy, "hyped-core"), list(tags))
    assert release.pending_changes(release.read_package(copy, "hyped-seq"), list(tags)) == ""
    for releasing in ((), ("hyped-seq",)):  # a push to main; the release of a sibling
        assert not any(said(release, copy, name, tags, releasing) for name in release.PACKAGES)
    (problem,) = said(release, copy, "hyped-core", tags, ("hyped-core",))
    assert "raise the version" in problem
    spoil(copy / "packages/hyped-core/pyproject.toml", 'version = "0.1.0"', 'version = "0.1.1"')
    spoil(copy / "CITATION.cff", "version: 0.1.0", "version: 0.1.1")
    assert said(release, copy, "hyped-core", tags, ("hyped-core",)) == []


def test_a_sibling_that_is_out_of_order_holds_up_every_release(release, copy: Path):
    spoil(copy / "packages/hyped-seq/pyproject.toml", ">=0.1,<0.2", ">=0.1.1,<0.2")
    assert "does not take hyped-core" in said(release, copy, "hyped-seq", releasing=("hyped-core",))[0]


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


def steps(root: Path, workflow: str, job: str) -> list[str]:
    """The commands of one job."""
    content = yaml.safe_load((root / ".github" / "workflows" / f"{workflow}.yml").read_text())
    return [line for step in content["jobs"][job]["steps"] for line in step.get("run", "").splitlines()]


def test_workflows_call_targets_that_exist_and_each_target_is_called(root: Path):
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.M))
    files = [*sorted((root / ".github" / "workflows").glob("*.yml")), root / ".ci" / "run"]
    called = {target for file in files for target in re.findall(r"\bmake ([a-z-]+)", file.read_text())}
    assert called <= targets
    assert {"test", "test-all", "docs", "release-check", "lint", "repro", "repro-check", "dist"} <= called


def test_exhaustive_tests_run_weekly_and_by_hand_and_not_on_a_push(root: Path):
    few = """make test-all PYTEST_ARGS="-m 'slow and not exhaustive'\""""
    assert few in steps(root, "tests", "slow")
    assert few in [line.strip() for line in (root / ".ci" / "run").read_text().splitlines()]
    assert "make test-all" in steps(root, "weekly", "test-all")
    weekly = yaml.safe_load((root / ".github" / "workflows" / "weekly.yml").read_text())
    assert {"schedule", "workflow_dispatch"} == set(weekly[True])  # `on`, which YAML reads as a truth
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    recipe = (root / "Makefile").read_text().partition("\ntest-all:")[2].partition("\n\n")[0]
    assert " -m pytest " in recipe and "$(PYTEST_ARGS)" in recipe
    for line in (settings["addopts"], recipe.replace(" -m pytest ", " ")):
        assert not re.search(r"\s-(m|k)\b|--deselect|--ignore", line), "without arguments every test runs"


def test_a_release_is_asked_of_the_package_whose_tag_it_is(root: Path):
    assert 'make release-check PACKAGE="$PACKAGE"' in steps(root, "release", "build")
    assert "make release-check" in steps(root, "tests", "test")
    asked = run(["make", "--dry-run", "release-check", "PACKAGE=hyped-core"], root, env=tool_environment()).stdout
    assert "scripts/release_check.py hyped-core" in asked


def test_a_run_elsewhere_is_held_against_numbers_and_not_against_bytes_of_records(root: Path):
    lines = steps(root, "tests", "reproduce")
    assert lines[0] == "make repro" and "make repro-check" in lines
    assert [line.split("#")[0].split()[-1] for line in lines if "git diff" in line] == ["plugins.lock.yaml"]


def test_repro_check_takes_what_a_metric_tolerates_and_nothing_past_it(root: Path, tmp_path: Path):
    file = tmp_path / "metrics" / "mini" / "segment" / "fast.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"f1_iou50": 0.95, "seg": 0.8}')
    trained = tmp_path / "metrics" / "mini" / "expression" / "gears.json"
    trained.parent.mkdir()
    trained.write_text('{"mse": 0.05}')
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "numbers"]):
        run(["git", *words], tmp_path)

    def checked(text: str):
        file.write_text(text)
        return run(["sh", str(root / "scripts/repro_check.sh")], tmp_path, env=tool_environment(), check=False)

    assert checked('{"f1_iou50": 0.952, "seg": 0.8}').returncode == 0
    trained.write_text('{"mse": 0.04}')
    within = checked('{"f1_iou50": 0.952, "seg": 0.8}')
    assert within.returncode == 0 and "expression/gears is trained" in within.stderr and "2 metrics" in within.stderr
    trained.write_text('{"mse": null}')
    failed = checked('{"f1_iou50": 0.952, "seg": 0.8}')
    assert failed.returncode == 6 and "expression/gears, which is trained, lacks numbers" in failed.stderr
    trained.write_text('{"mse": 0.05}')
    past = checked('{"f1_iou50": 0.97, "seg": 0.8}')
    assert past.returncode == 6 and "PAST  segment/fast  f1_iou50" in past.stdout
    gone = checked('{"seg": 0.8}')
    assert gone.returncode == 6 and "only in A: segment/fast:f1_iou50" in gone.stdout
    assert checked('{"f1_iou50": null, "seg": 0.8}').returncode == 6
    file.unlink()
    assert run(["sh", str(root / "scripts/repro_check.sh")], tmp_path, env=tool_environment(), check=False).returncode


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
