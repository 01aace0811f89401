"""Models of other packages in `hyped bench run`: apart, within limits; what misbehaves harms no other."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from hyped_bench.runner import Job, prepare
from hyped_bench.runs.strangers import Limits, clashing_apart, place_models
from hyped_core.cli.main import run as hyped
from hyped_core.errors import ParamsError
from hyped_core.plugins.host import default_host
from hyped_core.testing.plugins import make_distribution

KINDS = (
    "good", "exits", "segfaults", "hangs", "eats", "prints", "leaves", "multiplies", "closes", "deletes", "refuses",
    "interrupts", "odd",
)  # fmt: skip
PLUGIN = f"""
    from hyped_core import ModelSpec, hookimpl

    @hookimpl
    def hyped_models():
        for name in {KINDS!r}:
            yield ModelSpec(name, "segment", f"badlab_models:{{name.capitalize()}}", seeded=False)
    """
MODELS = """
    import ctypes, os, shutil, subprocess, sys, time
    import numpy as np
    from hyped_core.errors import ParamsError

    def note(*pids):
        if "BADLAB_PIDS" in os.environ:
            with open(os.environ["BADLAB_PIDS"], "a") as file:
                file.write("".join(f"{pid} " for pid in pids))

    class Good:
        def segment(self, planes, meta, *, context):
            note(os.getpid())
            return (planes[0] > planes[0].mean()).astype(np.int32)

    class Exits(Good):
        def segment(self, planes, meta, *, context):
            os._exit(3)

    class Segfaults(Good):
        def segment(self, planes, meta, *, context):
            ctypes.string_at(0)

    class Hangs(Good):
        def segment(self, planes, meta, *, context):
            time.sleep(600)

    class Eats(Good):
        def segment(self, planes, meta, *, context):
            held = []
            while True:
                held.append(bytearray(20_000_000))
                time.sleep(0.01)

    class Prints(Good):
        def segment(self, planes, meta, *, context):
            print("{noise}")
            print("one more", "and the last", sep=chr(10))
            os.write(1, b"{more noise}")
            return super().segment(planes, meta, context=context)

    class Leaves(Good):
        def segment(self, planes, meta, *, context):
            sys.exit(0)

    class Multiplies(Good):
        def segment(self, planes, meta, *, context):
            code = "import time; time.sleep(600)"
            for apart in (False, True):
                note(subprocess.Popen([sys.executable, "-c", code], start_new_session=apart).pid)
            os._exit(0)

    class Closes(Good):
        def segment(self, planes, meta, *, context):
            os.closerange(0, 256)
            return super().segment(planes, meta, context=context)

    class Deletes(Good):
        def segment(self, planes, meta, *, context):
            shutil.rmtree(os.getcwd())
            return super().segment(planes, meta, context=context)

    class Refuses:
        def __init__(self):
            raise ParamsError("has no parameters that it likes")

        def segment(self, planes, meta, *, context): ...

    class Interrupts(Good):
        def segment(self, planes, meta, *, context):
            raise KeyboardInterrupt

    class Odd(Good):
        def segment(self, planes, meta, *, context):
            return {"labels": planes}
    """
OK = ("good", "prints")


@pytest.fixture
def badlab(tmp_path, monkeypatch, demo_sections):
    """The package is installed, the working folder is a user's, and parameters of a small task lie there."""
    lab = tmp_path / "lab"
    make_distribution(lab, "badlab", {"badlab_plugin": PLUGIN, "badlab_models": MODELS})
    monkeypatch.syspath_prepend(str(lab))
    monkeypatch.setenv("PYTHONPATH", str(lab))
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BADLAB_PIDS", str(tmp_path / "pids"))
    work = tmp_path / "work"
    work.mkdir()
    (work / "precious.txt").write_text("kept")
    (work / "p.yaml").write_text(yaml.safe_dump({"segment": demo_sections["segment"]}))
    monkeypatch.chdir(work)
    default_host.cache_clear()
    yield tmp_path
    default_host.cache_clear()
    for name in ("badlab_plugin", "badlab_models"):
        sys.modules.pop(name, None)


def pids(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def test_each_way_to_misbehave_is_a_failed_model_and_the_others_have_results(badlab, capfd, gone):
    limits = ["--time-limit", "8", "--memory-limit", "0.7"]
    assert hyped(["bench", "run", "--params", "p.yaml", "--task", "segment", "--out", "out", *limits, "--json"]) == 0
    said = capfd.readouterr()
    metrics = json.loads(said.out)  # stdout is data, whatever a model prints
    assert metrics["otsu"]["f1_iou50"] > 0.5
    records = {
        name: json.loads(Path(f"out/records/segment/{name}/record.json").read_text()) for name in ("otsu", *KINDS)
    }
    status = {name: record["status"] for name, record in records.items()}
    assert {name for name, found in status.items() if found == "ok"} >= {"otsu", *OK}
    reasons = {
        "exits": "exit code 3", "segfaults": "SIGSEGV", "hangs": "8 seconds", "eats": "0.7 GB", "leaves": "SystemExit",
        "refuses": "likes", "interrupts": "KeyboardInterrupt", "odd": "",
        "deletes": "FileNotFoundError", "closes": "", "multiplies": "exit code 0",
    }  # fmt: skip
    assert set(reasons) | {*OK} == {*KINDS}
    for name, words in reasons.items():
        assert status[name] in ("failed", "unavailable"), name
        assert words in records[name]["reason"], name
        assert f"{name} (badlab 1.0): {status[name]}" in said.err
    assert said.err.count(" to stdout; sent to stderr") == 1
    printed = next(line for line in said.err.splitlines() if " to stdout; sent to stderr" in line)
    assert "note: segment/prints " in printed and printed.split(" lines")[0].split()[-1].isdigit()
    assert said.err.count("pip uninstall badlab, or set HYPED_BLOCK_PLUGINS=badlab") >= len(reasons)
    assert "pip uninstall hyped" not in said.err
    assert all(gone(pid) for pid in pids(badlab))  # those too that left their parent's session
    assert Path("precious.txt").read_text() == "kept"
    assert records["good"]["runner"]["environment"]["python"] and "runner" not in records["otsu"]


def test_strangers_run_here_only_where_that_is_said(badlab, capfd, demo_sections):
    run = ["bench", "run", "--params", "p.yaml", "--task", "segment", "--model", "good"]
    assert hyped(run) == 0
    apart = set(pids(badlab))
    assert apart and os.getpid() not in apart
    assert hyped([*run, "--here"]) == 0
    assert set(pids(badlab)) - apart == {os.getpid()}
    (badlab / "pids").unlink()
    section = {**demo_sections["segment"], "runners": {"good": {"runner": "here"}}}
    Path("p.yaml").write_text(yaml.safe_dump({"segment": section}))
    assert hyped(run) == 0 and set(pids(badlab)) == {os.getpid()}
    section["runners"]["good"] = {"runner": "elsewhere"}
    Path("p.yaml").write_text(yaml.safe_dump({"segment": section}))
    assert hyped(run) == 3 and "process or here" in capfd.readouterr().err


def test_what_a_model_prints_is_counted_wherever_it_works(badlab, capfd):
    run = ["bench", "run", "--params", "p.yaml", "--task", "segment", "--model", "prints", "--json"]
    notes = []
    for more in ((), ("--here",), ("--here", "--metrics", "m.json")):
        assert hyped([*run, *more]) == 0
        said = capfd.readouterr()
        if "--metrics" not in more:
            assert "prints" in json.loads(said.out)
        assert "and the last" in said.err
        notes += [line for line in said.err.splitlines() if " to stdout; sent to stderr" in line]
    counts = [note.partition(" wrote ")[2].partition(" line")[0] for note in notes]
    assert len(notes) == 3 and len(set(counts)) == 1 and int(counts[0]) % 3 == 0, notes
    assert all("note: segment/prints" in note for note in notes)


def test_a_stage_of_the_pipeline_obeys_the_same(badlab, capfd):
    stage = ["bench", "run", "--params", "p.yaml#segment", "--task", "segment", "--metrics", "m.json", "--record", "r"]
    assert hyped([*stage, "--model", "good"]) == 0
    assert os.getpid() not in pids(badlab)
    assert json.loads(Path("r/record.json").read_text())["runner"]["environment"]["libraries"]["numpy"]
    assert hyped([*stage, "--model", "segfaults"]) == 4
    said = capfd.readouterr().err
    assert "SIGSEGV" in said and "segment/segfaults (badlab 1.0)" in said and "pip uninstall badlab" in said
    assert hyped([*stage, "--model", "otsu"]) == 0
    assert "runner" not in json.loads(Path("r/record.json").read_text())


def test_limits_come_from_the_command_line_then_the_file_then_the_default(badlab, demo_sections):
    def placed(runners, limits, name="good") -> dict | None:
        job: Job = prepare("segment", {**demo_sections["segment"], "runners": runners}, load=False)
        place_models(job, ["otsu", name], limits)
        assert "otsu" not in job.runners
        return job.runners.get(name)

    default = placed({}, Limits())
    assert default["seconds"] == 3600 and 0.5 < default["memory_gb"] < 10_000
    assert placed({}, Limits(here=True)) is None
    assert placed({"good": {"seconds": 5}}, Limits())["seconds"] == 5
    assert placed({"good": {"seconds": 5}}, Limits(seconds=7, memory_gb=2)) == {"seconds": 7, "memory_gb": 2}
    assert placed({"good": {"runner": "process", "seconds": 5}}, Limits(here=True))["runner"] == "process"
    with pytest.raises(ParamsError, match="exclude each other"):
        placed({"good": {"python": "p", "requirements": ["numpy"]}}, Limits())


def test_a_name_that_two_strangers_claim_runs_under_both_owners(badlab):
    twin = PLUGIN.replace("badlab_models", "twin_models")
    make_distribution(badlab / "lab", "twin", {"twin_plugin": twin, "twin_models": MODELS})
    default_host.cache_clear()
    assert clashing_apart("segment", ["otsu", "good"]) == ["otsu", "badlab:good", "twin:good"]
    run = ["bench", "run", "--params", "p.yaml", "--task", "segment", "--out", "out"]
    assert hyped([*run, "--model", "badlab:good", "--model", "twin:good"]) == 0
    found = {path.name for path in Path("out/records/segment").iterdir()}
    assert {"otsu", "badlab_good", "twin_good"} <= found
