"""The pipeline's graph, run for real by DVC with a stand-in doing the work: what reruns when what changes."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import copy_repository, run, tool_environment

KEPT_SCENES = {"S0", "S1", "TR1", "F0"}
KEPT_NAMES = {"mini", "screen", "mosaics/tileregion", "fucci/fucci", "hto/cell_line", "perturb/norman"}
KEPT_MODELS = {
    "pipeline", "gaussian", "identity", "otsu", "fast", "lap", "top_tag", "hashed", "no_change", "paper",
    "pca", "even_split", "persistence", "no_response",
}  # fmt: skip


def thin(path: Path) -> None:
    """Leave a few scenes, containers and models of each group: the same graph, with fewer stages to walk through."""
    content = yaml.safe_load(path.read_text())
    for name, group in content.items():
        if name != "datasets":
            content[name] = {
                key: item
                for key, item in (group or {}).items()
                if item.get("scene", "S0") in KEPT_SCENES
                and item.get("name", "mini") in KEPT_NAMES
                and item.get("model", "lap") in KEPT_MODELS
            }
    path.write_text(yaml.safe_dump(content, sort_keys=False))


class Pipeline:
    """A copy of the repository whose ``hyped`` is the stand-in, except for ``data use``."""

    def __init__(self, root: Path, names: list[str], folder: Path) -> None:
        self.root = folder
        copy_repository(root, names, folder)
        (folder / "dvc.lock").unlink(missing_ok=True)
        shutil.rmtree(folder / "metrics", ignore_errors=True)
        shutil.rmtree(folder / "plots", ignore_errors=True)
        thin(folder / "params.yaml")
        thin(folder / "data" / "public" / "pipeline.yaml")
        self.params = (folder / "params.yaml").read_text()
        binaries = folder / "bin"
        binaries.mkdir()
        stand_in = binaries / "hyped"
        stand_in.write_text(f"#!/bin/sh\nexec {sys.executable} {folder}/tests/pipeline_double.py \"$@\"\n")
        stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
        self.env = tool_environment(binaries)
        self.real_env = tool_environment()
        (folder / "behaviour").mkdir()
        self.resolve()

    def dvc(self, *arguments: str, check: bool = True):
        return run(["dvc", *arguments], self.root, env=self.env, check=check)

    def resolve(self) -> dict[str, dict[str, list[str]]]:
        """Write stages.json: each stage's inputs and outputs as DVC resolves them."""
        script = (
            "import json, os\nfrom dvc.repo import Repo\n"
            "repo = Repo('.')\n"
            "path = lambda item: os.path.relpath(item.fs_path, repo.root_dir)\n"
            "stages = {s.addressing: {'deps': [path(d) for d in s.deps if not hasattr(d, 'params')],"
            " 'outs': [path(o) for o in s.outs]} for s in repo.index.stages}\n"
            "json.dump(stages, open('stages.json', 'w'))\n"
        )
        run([sys.executable, "-c", script], self.root, env=self.env)
        return json.loads((self.root / "stages.json").read_text())

    def repro(self, *targets: str) -> list[str]:
        """Run the pipeline and return the stages that ran."""
        log = self.root / "ran.log"
        log.unlink(missing_ok=True)
        self.dvc("repro", *targets)
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture(scope="module")
def pipeline(root: Path, tracked_files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    made = Pipeline(root, tracked_files, tmp_path_factory.mktemp("graph") / "repository")
    ran = made.repro()
    stages = made.resolve()
    assert sorted(ran) == sorted(stages)
    return made


def edit(file: Path) -> None:
    file.write_text(file.read_text() + "\n# edited\n")


def groups(ran: list[str]) -> set[str]:
    return {name.split("@")[0] for name in ran}


def test_a_second_run_does_nothing_and_says_so(pipeline: Pipeline):
    assert pipeline.repro() == []
    assert "up to date" in pipeline.dvc("repro").stdout


def test_every_stage_belongs_to_a_dataset(pipeline: Pipeline):
    stages = pipeline.resolve()
    assert len(stages) > 20
    assert all(name.split("@")[1].split("-")[0] == "mini" for name in stages)


def test_editing_a_step_reruns_that_step_and_what_follows_only(pipeline: Pipeline):
    edit(pipeline.root / "packages/hyped-imaging/src/hyped_imaging/phases/__init__.py")
    assert groups(pipeline.repro()) == {"phases"}, "same result: nothing that follows has to run"
    edit(pipeline.root / "packages/hyped-imaging/src/hyped_imaging/phases/__init__.py")
    (pipeline.root / "behaviour" / "phases").write_text("other phases")
    ran = groups(pipeline.repro())
    assert {"phases", "assemble", "bench-phases_imaging", "report"} <= ran
    assert not ran & {"simulate-imaging", "simulate-seq", "stitch", "segment", "track", "ingest", "demultiplex",
                      "annotate", "import-cells", "assemble-cells"}


def test_editing_the_report_reruns_the_report_alone(pipeline: Pipeline):
    edit(pipeline.root / "packages/hyped-bench/src/hyped_bench/report/__init__.py")
    assert pipeline.repro() == ["report@mini"]


def test_a_new_version_of_one_model_reruns_that_model_alone(pipeline: Pipeline):
    lock = pipeline.root / "plugins.lock.yaml"
    content = yaml.safe_load(lock.read_text())
    content["models"]["denoise"]["gaussian"]["version"] = "99.0"
    lock.write_text(yaml.safe_dump(content))
    ran = pipeline.repro()
    assert "bench-denoise@mini-gaussian" in ran
    assert groups(ran) <= {"bench-denoise", "report"}
    assert len([name for name in ran if name.startswith("bench-denoise")]) == 1


def test_a_denoiser_s_stage_depends_on_the_segmenter_and_tracker_of_its_line(pipeline: Pipeline):
    def models() -> dict[str, set[str]]:
        """Stage of the denoisers -> the entries of plugins.lock.yaml that DVC has it depend on, its own left out."""
        script = (
            "import json\nfrom dvc.repo import Repo\n"
            "locked = lambda s: [k for d in s.deps if str(d) == 'plugins.lock.yaml' for k in d.params]\n"
            "print(json.dumps({s.addressing: locked(s) for s in Repo('.').index.stages}))\n"
        )
        said = json.loads(run([sys.executable, "-c", script], pipeline.root, env=pipeline.env).stdout)
        return {name: set(keys) - {f"models.denoise.{name.partition('-')[2].partition('-')[2]}"}
                for name, keys in said.items() if name.startswith("bench-denoise@")}  # fmt: skip

    denoisers = models()
    assert len(denoisers) > 1
    assert all(keys == {"models.segment.fast", "models.track.lap"} for keys in denoisers.values())
    params = pipeline.root / "params.yaml"
    before = params.read_text()
    edited = before.replace("segmenter: fast", "segmenter: paper").replace("tracker: lap", "tracker: laptrack")
    params.write_text(edited)
    other = models()
    params.write_text(before)
    assert other.keys() == denoisers.keys(), "another name would part it from its entry in dvc.lock"
    assert all(keys == {"models.segment.paper", "models.track.laptrack"} for keys in other.values())


def test_another_dataset_leaves_mini_up_to_date(pipeline: Pipeline):
    mini = set(pipeline.resolve())
    run(["hyped", "data", "use", "public"], pipeline.root, env=pipeline.real_env)
    for name, stage in pipeline.resolve().items():
        for dep in stage["deps"]:
            if name not in mini and dep.startswith("data/public/raw"):
                path = pipeline.root / dep
                if path.suffix:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text("raw")
                else:
                    path.mkdir(parents=True, exist_ok=True)
                    (path / "raw.txt").write_text("raw")
    ran = pipeline.repro("report@public")
    assert ran
    assert not mini & set(ran)
    assert pipeline.repro("report@mini") == []
    run(["hyped", "data", "use", "public", "--remove"], pipeline.root, env=pipeline.real_env)
    assert (pipeline.root / "params.yaml").read_text() == pipeline.params
    assert set(pipeline.resolve()) == mini


def test_push_pull_and_gc_with_a_folder_as_remote(pipeline: Pipeline, tmp_path: Path):
    refused = pipeline.dvc("push", check=False)
    assert refused.returncode != 0
    assert "no remote" in (refused.stdout + refused.stderr).lower()
    pipeline.dvc("remote", "add", "--local", "-d", "folder", str(tmp_path / "remote"))
    pipeline.dvc("push")
    shutil.rmtree(pipeline.root / "data" / "mini" / "raw")
    shutil.rmtree(pipeline.root / "records")
    shutil.rmtree(pipeline.root / ".dvc" / "cache")
    pipeline.dvc("pull")
    assert (pipeline.root / "data" / "mini" / "raw" / "imaging").is_dir()
    assert pipeline.repro() == []
    (pipeline.root / "behaviour" / "annotate").write_text("other")
    edit(pipeline.root / "packages/hyped-seq/src/hyped_seq/annotate/__init__.py")
    assert "annotate@mini" in pipeline.repro()
    cached = {p.name for p in (pipeline.root / ".dvc" / "cache").rglob("*") if p.is_file()}
    pipeline.dvc("gc", "--workspace", "--force")
    kept = {p.name for p in (pipeline.root / ".dvc" / "cache").rglob("*") if p.is_file()}
    assert kept < cached
    assert pipeline.repro() == []
    pipeline.dvc("remote", "remove", "--local", "folder")
