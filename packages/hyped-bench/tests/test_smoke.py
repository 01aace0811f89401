"""`hyped bench run --smoke`: every task in under a minute, a plugin's folder on the table, and its place in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from hyped_bench.runner import Result
from hyped_bench.runs.said import page_of
from hyped_bench.smoke import CAUTION, new_data_folder, place_lines, smoke_sections
from hyped_core.cli.main import run as hyped
from hyped_core.errors import UsageError
from hyped_core.plugins.host import default_host
from hyped_core.spec import TASKS

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "toyplug"
version = "0.3"
dependencies = ["hyped-core"]

[project.entry-points.hyped]
toyplug = "toyplug.plugin"
"""
PLUGIN = """
from hyped_core import ModelSpec, hookimpl

@hookimpl
def hyped_models():
    for name, task in (("halves", "expression"), ("sums", "embedding"), ("copies", "denoise"), ("cuts", "segment"),
                       ("alone", "track"), ("tops", "demultiplex"), ("breaks", "demultiplex")):
        yield ModelSpec(name, task, f"toyplug.models:{name.capitalize()}", seeded=False)
"""
MODELS = """
import os
import numpy as np
import pandas as pd

class Halves:
    def fit(self, train, validation=None, *, context):
        x, of = np.asarray(train.X), train.obs["perturbation"].to_numpy()
        self.shift = x[of != "control"].mean(0) - x[of == "control"].mean(0)

    def predict(self, control, perturbation, *, context):
        made = control.copy()
        made.X = np.clip(np.asarray(control.X) + 0.5 * self.shift, 0, None).astype(np.float32)
        return made

class Sums:
    def embed(self, cells, *, context):
        return np.asarray(cells.X.toarray()[:, :8], dtype=np.float32)

    def embed_perturbed(self, cells, perturbation, *, context):
        return self.embed(cells, context=context) + 1

class Copies:
    def denoise(self, stack, meta, *, context):
        return stack.astype(np.float32)

class Cuts:
    def segment(self, planes, meta, *, context):
        return (planes[0] > planes[0].mean() + 100).astype(np.int32)

class Alone:
    def track(self, objects, labels=None, *, context):
        out = objects.copy()
        out["track_id"], out["parent_id"] = np.arange(1, len(out) + 1), np.zeros(len(out), np.int64)
        return out

class Tops:
    def assign(self, hto, *, context):
        best = np.asarray(hto.X.argmax(1)).ravel()
        call = hto.var_names.to_numpy()[best]
        return pd.DataFrame({"call": call, "kind": "singlet", "probability": 1.0, "tags": call}, index=hto.obs_names)

class Breaks(Tops):
    def assign(self, hto, *, context):
        os._exit(9)
"""
MODEL_OF = dict(
    zip(
        ("expression", "embedding", "denoise", "segment", "track", "demultiplex"),
        ("halves", "sums", "copies", "cuts", "alone", "tops"),
        strict=True,
    )
)


@pytest.fixture
def plug(tmp_path, monkeypatch):
    """A plugin's source folder that nobody installed."""
    folder = tmp_path / "toyplug-source"
    (folder / "src/toyplug").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "src/toyplug/__init__.py").write_text("")
    (folder / "src/toyplug/plugin.py").write_text(PLUGIN)
    (folder / "src/toyplug/models.py").write_text(MODELS)
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HYPED_PLUGIN_FOLDERS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    yield folder
    default_host.cache_clear()
    forget()


def forget() -> None:
    """Let the package be imported anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "toyplug"]:
        del sys.modules[name]


def spent() -> float:
    """Seconds of processor that this process and its children took: a busy machine makes no difference."""
    return sum(os.times()[:4])


SLOW = [pytest.param(task, marks=[] if task in ("expression", "denoise") else [pytest.mark.slow]) for task in TASKS]


@pytest.mark.parametrize("task", SLOW)
def test_a_plugins_place_among_the_controls_of_each_task(plug, task, capsys):
    started = spent()
    assert hyped(["bench", "run", "--plugin", str(plug), "--task", task, "--model", MODEL_OF[task], "--smoke"]) == 0
    assert spent() - started < 60
    said = capsys.readouterr().out
    table = said.partition("\n\n")[0]
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()}
    assert rows[MODEL_OF[task]][:2] == ["model", "ok"]
    kinds = [row[0] for row in rows.values()]
    assert "control" in kinds and (task != "expression" or "reference" in kinds)
    *_, caution, closing, more = said.splitlines()
    assert more == f"hyped plugins check {plug} holds the model to its contract."
    assert closing.startswith(f"{MODEL_OF[task]}: place ") and caution == CAUTION
    if task == "expression":
        assert "\nscreen: combinations of genes seen alone\n  halves against doing nothing, of " in said
        assert "\nunseen: genes never seen perturbed\n  halves against doing nothing, of " in said
        assert "\n  halves against the best control, of " in said and "redrawn" not in said
        asked = next(line for line in said.splitlines() if "on genes never seen perturbed" in line)
        assert asked.startswith("halves on genes never seen perturbed: pearson_delta 0.") and "additive 0." in asked


def test_the_plugins_models_run_apart_and_one_that_fails_decides_the_exit_code(plug, capsys, tmp_path):
    run = ["bench", "run", "--plugin", str(plug), "--task", "demultiplex", "--smoke", "--out", str(tmp_path / "out")]
    mine = tmp_path / "out/data/mine.txt"
    mine.parent.mkdir(parents=True)
    mine.touch()
    assert hyped(run) == 4
    assert mine.exists(), "a folder of the user's"
    said = capsys.readouterr()
    assert "tops" in said.out and "breaks has no place: it failed." in said.out
    assert "exit code 9" in said.err and "toyplug 0.3" in said.err and "pip uninstall" not in said.err
    assert f"correct it in {plug} (hyped plugins check {plug}" in said.err and "leave that folder out" in said.err
    record = json.loads((tmp_path / "out/records/demultiplex/tops/record.json").read_text())
    assert record["distribution"] == "toyplug" and record["runner"]["environment"]["packages"]
    assert hyped([*run, "--keep-going"]) == 0


REFUSES = """
from hyped_core.errors import InvalidDataError

class Halves(Halves):
    def fit(self, train, validation=None, *, context):
        super().fit(train, validation, context=context)
        self.seen = {gene for name in train.obs["perturbation"] for gene in name.split("+")}

    def predict(self, control, perturbation, *, context):
        if unknown := set(perturbation.genes) - self.seen:
            raise InvalidDataError(f"{min(unknown)} was never seen")
        return super().predict(control, perturbation, context=context)
"""


def test_a_model_that_refuses_genes_it_never_saw_has_its_place_all_the_same(plug, capsys):
    source = plug / "src/toyplug/models.py"
    source.write_text(MODELS + REFUSES)
    assert hyped(["bench", "run", "--plugin", str(plug), "--task", "expression", "--model", "halves", "--smoke"]) == 0
    said = capsys.readouterr().out
    assert "halves on genes never seen perturbed: not scored" in said and "G1" in said and "was never seen" in said
    assert said.splitlines()[-2].startswith("halves: place 5 of 8 by pearson_delta")


def test_where_nothing_can_be_told_the_reason_is(plug, capsys):
    assert hyped(["bench", "run", "--plugin", str(plug), "--task", "segment", "--model", "cuts", "--smoke"]) == 0
    said = capsys.readouterr().out
    assert "\n  cuts against the best control, of 3 metrics: cannot tell on 3\n" in said
    assert "\n  cannot tell f1_iou50, seg, foreground_recall: 1 scene, too few for an interval\n" in said


def test_a_trial_uses_the_values_that_a_spec_names_for_it(plug, capsys, tmp_path):
    quick = PLUGIN.replace(", seeded=False", ', "toyplug.models:Config", seeded=False, quick={"steps": 3}')
    (plug / "src/toyplug/plugin.py").write_text(quick)
    config = "from hyped_core import Params\nclass Config(Params):\n    steps: int = 900\n"
    sized = "\nclass Cuts(Cuts):\n    def __init__(self, config):\n        assert config.steps == 3\n"
    (plug / "src/toyplug/models.py").write_text(config + MODELS + sized)
    run = ["bench", "run", "--plugin", str(plug), "--task", "segment", "--model", "cuts", "--smoke", "--out"]
    assert hyped([*run, str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out/records/segment/cuts/record.json").read_text())
    assert record["config"] == {"steps": 3}
    (plug / "src/toyplug/plugin.py").write_text(quick.replace('"steps"', '"step"'))
    forget()
    assert hyped([*run, str(tmp_path / "other")]) == 4
    assert "steps" in capsys.readouterr().err
    assert (tmp_path / "other/records/segment/otsu/record.json").is_file(), "the others have results"


def test_a_trial_replaces_the_data_of_an_earlier_one_and_nothing_else(tmp_path):
    mine = tmp_path / "data" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    folder = new_data_folder(tmp_path)
    (folder / "screen.h5ad").touch()
    assert new_data_folder(tmp_path) == folder and not (folder / "screen.h5ad").exists()
    assert mine.read_text() == "years of work"
    (other := tmp_path / "other" / folder.name).mkdir(parents=True)
    (other / "mine.txt").touch()
    with pytest.raises(UsageError, match="no folder that --smoke made"):
        new_data_folder(other.parent)
    assert (other / "mine.txt").exists()


def test_parameters_of_ones_own_take_a_plugin_too(plug, capsys, tiny_screen):
    cells = str(tiny_screen.folder / "screen.h5ad")
    run = ["bench", "run", "--plugin", str(plug), "--cells", cells, "--split", "unseen_combination"]
    assert hyped(run) == 0
    said = capsys.readouterr().out
    assert "halves" in said and "no_change" in said and CAUTION not in said


def test_a_column_of_another_name_is_named(plug, capsys, tiny_screen, tmp_path):
    import anndata

    cells = anndata.read_h5ad(tiny_screen.folder / "screen.h5ad")
    cells.obs = cells.obs.rename(columns={"perturbation": "guide_id"})
    cells.write_h5ad(tmp_path / "guides.h5ad")
    run = ["bench", "run", "--plugin", str(plug), "--cells", str(tmp_path / "guides.h5ad")]
    run += ["--split", "unseen_combination", "--dry-run"]
    assert hyped(run) == 3 and "--perturbation COLUMN" in capsys.readouterr().err
    assert hyped([*run, "--perturbation", "guide_id"]) == 0
    assert "would run" in capsys.readouterr().out


def test_what_is_wrong_with_a_folder_is_said(plug, tmp_path, capsys):
    def refused(*given: str) -> tuple[int, str]:
        code = hyped(["bench", "run", *given])
        return code, capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    for given, code, words in (
        (("--plugin", "empty", "--smoke"), 4, "pyproject.toml is not there"),
        (("--plugin", str(plug), "--smoke"), 2, "--task NAME says which"),
        (("--plugin", str(plug)), 2, "--smoke for a first trial"),
        (("--plugin", str(plug), "--smoke", "--cells", "x.h5ad"), 2, "--smoke has data of its own"),
        (("--smoke", "--task", "composition"), 2, "no small data for the task composition"),
        (("--smoke", "--task", "segmnt"), 2, "did you mean segment?"),
        (("--plugin", str(plug), "--smoke", "--task", "trakc"), 4, "did you mean track?"),
        (("--plugin", "toyplug-sorce", "--smoke"), 4, "did you mean toyplug-source"),
        (("--plugin", str(tmp_path / "toyplug-sorce"), "--smoke"), 4, f"did you mean {tmp_path / 'toyplug-source'}"),
        (("--plugin", str(plug), "--smoke", "--task", "track", "--model", "alnoe"), 4, "did you mean track/alone"),
        (("--smoke", "--params", "p.yaml"), 2, "--smoke has data of its own"),
        (("--smoke", "--perturbation", "guide_id"), 2, "--smoke has data of its own"),
        (("--params", "p.yaml", "--perturbation", "guide_id"), 2, "are for --cells"),
        (("--cells", "x.h5ad", "--split", "unseen_comb"), 2, "--split: there is no split 'unseen_comb'"),
        (("--cells", "x.h5ad", "--split", "unseen_combination"), 3, "to mend: correct the path of this file of cells"),
        (("--plugin", str(plug / "pyproject.toml"), "--smoke"), 4, f"to mend: --plugin {plug}"),
    ):
        found, said = refused(*given)
        assert found == code and words in said, (given, said)
    source = plug / "src/toyplug/plugin.py"
    source.write_text(PLUGIN.replace('("copies", "denoise"), ', ""))
    forget()
    found, said = refused("--plugin", str(plug), "--task", "denoise", "--smoke")
    assert found == 4 and "no model of the task denoise" in said and "expression" in said
    source.write_text("raise RuntimeError('out of luck')\n")
    forget()
    found, said = refused("--plugin", str(plug), "--task", "denoise", "--smoke")
    assert found == 4 and "out of luck" in said and "is broken" in said
    assert f"to mend: hyped plugins check {plug} names all that is wrong" in said


def test_a_task_that_nobody_registers_is_no_cure(plug, capsys):
    """The misspelt task is the plugin's: it is named as the fault, and what is registered as the cure."""
    only = '(("halves", "expresion"), ("alone", "track"))'
    start, _, rest = PLUGIN.partition('(("halves"')
    (plug / "src/toyplug/plugin.py").write_text(start + only + rest[rest.index(":") :])
    for task in ("expression", "expresion"):
        assert hyped(["bench", "run", "--plugin", str(plug), "--task", task, "--smoke"]) == 4
        said = capsys.readouterr().err
        assert "its model halves names the task expresion, which nobody registers" in said
        assert "did you mean expression?" in said and "did you mean expresion" not in said
    assert hyped(["bench", "run", "--plugin", str(plug), "--task", "trakc", "--smoke"]) == 4
    assert "did you mean track?; it has some of track" in capsys.readouterr().err


def test_a_name_that_one_plugin_gives_twice_is_told_without_an_owner_that_is_not_known(plug, capsys):
    twice = PLUGIN.replace('("alone", "track")', '("alone", "track"), ("alone", "track")')
    (plug / "src/toyplug/plugin.py").write_text(twice)
    assert hyped(["bench", "run", "--plugin", str(plug), "--task", "track", "--smoke"]) == 4
    said = capsys.readouterr().err
    assert "error: track/toyplug:alone: the model failed: toyplug 0.3 registers the model 'track/alone' 2 times" in said


@pytest.mark.parametrize(("declared", "code"), [("", 4), (', needs=Needs(modules=("nowhere_lib",))', 5)])
def test_a_library_that_is_absent_is_the_plugins_fault_unless_it_is_declared(plug, capsys, declared, code):
    spec = PLUGIN.replace("import ModelSpec,", "import ModelSpec, Needs,").replace("=False", f"=False{declared}")
    (plug / "src/toyplug/plugin.py").write_text(spec)
    (plug / "src/toyplug/models.py").write_text("import nowhere_lib\n" + MODELS)
    assert hyped(["bench", "run", "--plugin", str(plug), "--task", "track", "--smoke"]) == code
    assert "pip install nowhere_lib" in capsys.readouterr().err


def test_a_model_with_a_controls_name_has_one_name_everywhere(plug, capsys):
    target = 'f"toyplug.models:{name.capitalize()}"'
    spec = PLUGIN.replace('"halves"', '"additive"').replace(target, '"toyplug.models:Halves"')
    (plug / "src/toyplug/plugin.py").write_text(spec)
    assert hyped(["bench", "run", "--plugin", str(plug), "--task", "expression", "--smoke"]) == 0
    said = capsys.readouterr().out
    assert "\n  toyplug:additive against doing nothing, of 12 metrics: " in said and "toyplug_additive" not in said


def test_what_does_nothing_is_held_against_what_does_by_name(plug, capsys):
    assert hyped(["bench", "run", "--task", "expression", "--model", "no_change", "--smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  no_change against train_mean, of 1 metric: worse on 1" in lines
    at = lines.index("  no_change against train_mean, of 1 metric: worse on 1")
    assert lines[at + 1].startswith("  pool_effect against doing nothing, of 12 metrics: "), "nothing of other metrics"
    assert any(line.startswith("  train_mean against no_change, of 11 metrics: ") for line in lines)
    assert not any("no_change against doing nothing" in line for line in lines)


@pytest.mark.parametrize("wrong", ["toyplug.modles:Alone", "toyplug.models:Aloen", "toyplug.models.Alone:Alone"])
def test_an_author_whose_target_is_misspelt_is_told_to_correct_it(plug, capsys, wrong):
    source = plug / "src/toyplug/plugin.py"
    source.write_text(PLUGIN.replace('f"toyplug.models:{name.capitalize()}"', repr(wrong)))
    assert hyped(["bench", "run", "--plugin", str(plug), "--task", "track", "--model", "alone", "--smoke"]) == 4
    said = capsys.readouterr().err
    close = "did you mean toyplug.models:Alone?; " if wrong.endswith("Aloen") else ""
    assert wrong.partition(":")[0] in said
    assert f"to mend: {close}correct it in {plug} (hyped plugins check {plug}" in said
    assert not any(words in said for words in ("pip install", "pip uninstall", "reinstall", "report it"))


FAILING = """
import time
from hyped_core import Params

class Config(Params):
    share: float

class Types(Alone):
    def track(self, objects, labels=None, *, context):
        return np.zeros(2).reshape("two")  # the error is numpy's, the line the author's

class Leaves(Alone):
    def track(self, objects, labels=None, *, context):
        raise SystemExit(3)

class Aborts(Alone):
    def track(self, objects, labels=None, *, context):
        os.abort()

class Waits(Alone):
    def track(self, objects, labels=None, *, context):
        time.sleep(600)

class Wants(Alone): ...
"""
FAILING_PLUGIN = """
from hyped_core import ModelSpec, hookimpl

@hookimpl
def hyped_models():
    for name in ("types", "leaves", "aborts", "waits", "wants"):
        config = "toyplug.models:Config" if name == "wants" else None
        yield ModelSpec(name, "track", f"toyplug.models:{name.capitalize()}", config, seeded=False)
"""


def test_an_author_is_told_where_a_model_fails_and_what_to_do(plug, capfd, tmp_path):
    (plug / "src/toyplug/plugin.py").write_text(FAILING_PLUGIN)
    (plug / "src/toyplug/models.py").write_text(MODELS + FAILING)
    lines = (MODELS + FAILING).splitlines()
    run = ["bench", "run", "--plugin", str(plug), "--smoke", "--time-limit", "12", "--out", str(tmp_path / "out")]
    assert hyped(run) == 4
    said = capfd.readouterr().err
    told = {
        name: said.partition(f"{name} (toyplug 0.3): ")[2].partition("FOLDERS)")[0]
        for name in ("types", "leaves", "aborts", "waits", "wants")
    }
    for name, code in (("types", "reshape("), ("leaves", "SystemExit(3)"), ("aborts", "os.abort()")):
        at = f"toyplug/models.py:{next(i for i, text in enumerate(lines, 1) if code in text)} in track"
        assert f"\n  at {at}\n  to mend: " in told[name], told[name]
        assert at in json.loads((tmp_path / f"out/records/track/{name}/record.json").read_text())["trace"]
    assert "TypeError" in told["types"] and "SystemExit: 3" in told["leaves"]
    assert "SIGABRT" in told["aborts"] and "Extension modules" not in said
    assert said.count("Fatal Python error") == 2 and said.count("in do_call") == 1, "the stack is told once"
    assert "took longer than the 12 seconds" in told["waits"] and "HYPED_MODEL_SECONDS" not in said
    assert "to mend: raise --time-limit, or give it less to do: ModelSpec.quick names" in told["waits"]
    assert "share: Field required" in told["wants"] and "parameter file" not in told["wants"]
    assert "to mend: give each field of the config a default; correct it in" in told["wants"]


def test_seeds_are_counted(plug, capsys):
    assert hyped(["bench", "run", "--plugin", str(plug), "--task", "track", "--smoke", "--seeds", "0,1,2"]) == 2
    assert "'0,1,2' is no number of seeds: say how many, e.g. 3" in capsys.readouterr().err
    results = [Result("track", "lap", "model", "d", "1", "ok", "", {"tra": 0.5}, {}, seeds=(4, 5, 6))]
    results += [Result("track", "nearest", "control", "d", "1", "ok", "", {"tra": 0.5}, {})]
    said = page_of(results, plug, "track").splitlines()
    assert said[2].startswith("nearest") and said[3] == "lap: mean of 3 seeds (4, 5, 6)"


def test_an_installed_plugin_can_be_named(plug, tmp_path, capsys, monkeypatch):
    from hyped_core.testing.plugins import make_distribution

    plugin = PLUGIN.replace("toyplug.models", "toybox_models")
    files = {"toybox_plugin": plugin, "toybox_models": MODELS}
    make_distribution(tmp_path / "site", "toy-box", files, entry_points={"toys": "toybox_plugin"})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    for name in ("toys", "Toy_Box"):
        default_host.cache_clear()
        assert hyped(["bench", "run", "--plugin", name, "--task", "track", "--smoke"]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("alone: place 2 of 2")
    assert hyped(["bench", "run", "--plugin", "toy-bxo", "--task", "track", "--smoke"]) == 4
    assert "did you mean toy-box" in capsys.readouterr().err


def test_places_are_counted_by_the_tasks_first_metric():
    def made(name, kind, value, status="ok"):
        return Result("segment", name, kind, "d", "1", status, "", {"f1_iou50": value}, {})

    results = [made("otsu", "control", 0.5), made("mine", "model", 0.7), made("same", "model", 0.5)]
    results += [made("best", "reference", 1.0), made("bad", "model", None, "failed"), made("blank", "model", None)]
    lines = place_lines(results)
    assert lines == [
        CAUTION,
        "mine: place 1 of 3 by f1_iou50 (0.7, higher is better), ahead of otsu, same.",
        "same: place 2 of 3 by f1_iou50 (0.5, higher is better), behind mine; level with otsu.",
        "bad has no place: it failed.",
        "blank has no place: its f1_iou50 is undefined.",
    ]


def test_smoke_data_are_the_same_for_a_seed_and_need_no_other_package(tmp_path):
    with pytest.raises(UsageError, match="composition"):
        smoke_sections(tmp_path / "x", ["composition"])
    code = (
        "import sys, pathlib\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('hyped_imaging', 'hyped_seq', 'torch', 'scanpy'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from hyped_bench.smoke import smoke_sections\n"
        "from hyped_bench.runner import prepare, run_model\n"
        "from hyped_bench.smoke import controls_of_bench\n"
        "for task, section in smoke_sections(pathlib.Path(sys.argv[1])).items():\n"
        "    job = prepare(task, section)\n"
        "    for name in controls_of_bench(job)[:2]:\n"
        "        print(task, name, run_model(job, name).metrics)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "all")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {*TASKS}
    first, again = (smoke_sections(tmp_path / name, ["expression"], seed=3) for name in ("a", "b"))
    import anndata

    one, other = (anndata.read_h5ad(s["expression"]["sources"][0]["cells"]) for s in (first, again))
    assert (one.X != other.X).nnz == 0 and list(one.obs["perturbation"]) == list(other.obs["perturbation"])
