"""plugins.lock.yaml in a pipeline: a new version of one stranger's model makes its own stages stale and no other's."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hyped_core.testing import make_distribution
from tests.conftest import run, tool_environment

PLUGIN = """
from hyped_core import ModelSpec, hookimpl

@hookimpl
def hyped_models():
    yield ModelSpec("{name}", "track", "{name}_model:Model")
    yield ModelSpec("{name}-blur", "denoise", "{name}_blur:Blur")
"""
MODELS = ("track/alpha", "track/beta", "denoise/alpha-blur", "denoise/beta-blur")


class Repository:
    """A git and DVC repository with a stage for each of four models of two strangers."""

    def __init__(self, folder: Path) -> None:
        self.root, self.site = folder / "repository", folder / "site"
        self.root.mkdir()
        self.env = tool_environment(PYTHONPATH=str(self.site), HYPED_CACHE=str(folder / "cache"))
        for name in ("alpha", "beta"):
            self.install(name, "1.0", "class Model: ...\n")
        for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "core.analytics", "false"]):
            run(command, self.root, env=self.env)
        stages = {}
        for key in MODELS:
            task, name = key.split("/")
            stages[f"{task}-{name}"] = {
                "cmd": f"echo {name} > {task}-{name}.txt",
                "params": [{"plugins.lock.yaml": [f"models.{task}.{name}"]}],
                "outs": [{f"{task}-{name}.txt": {"cache": False}}],
            }
        (self.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        self.lock()
        run(["dvc", "repro", "-q"], self.root, env=self.env)

    def install(self, name: str, version: str, model: str) -> None:
        """As pip does: the old version goes, the new one comes."""
        for info in self.site.glob(f"{name}-*.dist-info"):
            shutil.rmtree(info)
        files = {f"{name}_model": model, f"{name}_blur": "class Blur: ...\n"}
        make_distribution(self.site, name, {f"{name}_plugin": PLUGIN.format(name=name), **files}, version=version)

    def lock(self) -> subprocess.CompletedProcess[str]:
        return run(["hyped", "plugins", "lock"], self.root, env=self.env)

    def stale(self) -> set[str]:
        """Stages that ``dvc status`` says have changed."""
        return set(json.loads(run(["dvc", "status", "--json"], self.root, env=self.env).stdout))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """One for all tests here; each leaves it up to date."""
    return Repository(tmp_path_factory.mktemp("upgrade"))


def ran(repository: Repository) -> list[str]:
    said = run(["dvc", "repro"], repository.root, env=repository.env).stdout
    return [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]


def test_what_is_locked_is_up_to_date(repository: Repository):
    models = yaml.safe_load((repository.root / "plugins.lock.yaml").read_text())["models"]
    entry = models["track"]["alpha"]
    assert (entry["distribution"], entry["version"], len(entry["sha256"])) == ("alpha", "1.0", 64)
    assert repository.stale() == set()


def test_a_new_version_reruns_its_stages_and_no_others(repository: Repository):
    repository.install("beta", "1.1", "class Model: ...\n")
    assert repository.stale() == set(), "what is not locked is not known to the pipeline"
    check = run(["hyped", "plugins", "lock", "--check"], repository.root, env=repository.env, check=False)
    assert check.returncode == 1 and "track/beta changed" in check.stderr and "alpha" not in check.stderr
    repository.lock()
    assert repository.stale() == {"track-beta", "denoise-beta-blur"}
    assert sorted(ran(repository)) == ["denoise-beta-blur", "track-beta"]
    assert repository.stale() == set()


def test_changed_code_of_one_model_reruns_its_stage_alone(repository: Repository):
    (repository.site / "alpha_model.py").write_text("class Model:\n    gap = 2\n")
    repository.lock()
    assert repository.stale() == {"track-alpha"}
    assert ran(repository) == ["track-alpha"]


def test_a_stranger_that_breaks_spoils_its_own_stages_alone(repository: Repository):
    before = (repository.root / "plugins.lock.yaml").read_bytes()
    plugin = repository.site / "beta_plugin.py"
    text = plugin.read_text()
    plugin.write_text("import os\nos.abort()\n")
    said = repository.lock().stderr
    assert "plugin beta is broken" in said and "track/beta is broken" in said
    models = yaml.safe_load((repository.root / "plugins.lock.yaml").read_text())["models"]
    assert models["track"]["alpha"] == yaml.safe_load(before)["models"]["track"]["alpha"]
    assert {k: v for k, v in models["track"]["beta"].items() if k != "reason"} == {
        "distribution": "beta", "version": "1.1", "state": "broken"
    }  # fmt: skip
    assert "SIGABRT" in models["track"]["beta"]["reason"]
    bytes_before = (repository.root / "plugins.lock.yaml").read_bytes()
    assert "unchanged" in repository.lock().stderr
    assert (repository.root / "plugins.lock.yaml").read_bytes() == bytes_before
    assert repository.stale() == {"track-beta", "denoise-beta-blur"}
    assert ran_only(repository, "track-alpha") == []
    plugin.write_text(text)
    repository.lock()
    assert (repository.root / "plugins.lock.yaml").read_bytes() == before
    assert repository.stale() == set()


def ran_only(repository: Repository, stage: str) -> list[str]:
    said = run(["dvc", "repro", stage], repository.root, env=repository.env).stdout
    return [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]
