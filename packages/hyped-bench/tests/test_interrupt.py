"""Ctrl-C while a stranger's model works in a process of its own: nothing goes on, and what was finished stands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PYPROJECT = """
[project]
name = "waits"
version = "0.1"
dependencies = ["hyped-core"]

[project.entry-points.hyped]
waits = "waits_plugin"
"""
PLUGIN = """
from hyped_core import ModelSpec, hookimpl

@hookimpl
def hyped_models():
    for name in ("done", "waits"):
        yield ModelSpec(name, "segment", f"waits_models:{name.capitalize()}", seeded=False)
"""
MODELS = """
import os, subprocess, sys, time
import numpy as np

class Done:
    def segment(self, planes, meta, *, context):
        return (planes[0] > planes[0].mean()).astype(np.int32)

class Waits(Done):
    def segment(self, planes, meta, *, context):
        if os.environ.get("WAITS_NO_MORE"):
            return super().segment(planes, meta, context=context)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        with open(os.environ["WAITS_PIDS"] + ".part", "w") as file:
            file.write(f"{os.getpid()} {child.pid}")
        os.rename(os.environ["WAITS_PIDS"] + ".part", os.environ["WAITS_PIDS"])
        time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working folder with the plugin's source; temporary files of commands go to ``temporary``."""
    (tmp_path / "waits").mkdir()
    (tmp_path / "temporary").mkdir()
    for name, text in (("pyproject.toml", PYPROJECT), ("waits_plugin.py", PLUGIN), ("waits_models.py", MODELS)):
        (tmp_path / "waits" / name).write_text(text)
    return tmp_path


def hyped(place: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """A command as a shell in a terminal starts it: in a group of its own, and heeding an interrupt."""
    environment = {
        **os.environ,
        "TMPDIR": str(place / "temporary"),
        "HYPED_CACHE": str(place / "cache"),
        "WAITS_PIDS": str(place / "pids"),
        **variables,
    }
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from hyped_core.cli.main import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended: one that no parent has asked for is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def interrupted(place: Path, process: subprocess.Popen[str], sent: signal.Signals) -> tuple[str, str]:
    """What a command said that was interrupted while the model worked; the processes of the model are gone."""
    deadline = time.monotonic() + 120
    while not (place / "pids").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [int(pid) for pid in (place / "pids").read_text().split()]
    os.killpg(process.pid, sent)  # a terminal sends it to the whole group
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted; " in err and "Traceback" not in err
    assert len(pids) == 2 and not any(runs(pid) for pid in pids)
    assert list((place / "temporary").iterdir()) == []
    return out, err


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_benchmark_that_is_interrupted_is_taken_up_where_it_was(place: Path, sent: signal.Signals):
    run = ["bench", "run", "--plugin", "waits", "--task", "segment", "--smoke", "--out", "out"]
    out, err = interrupted(place, hyped(place, *run), sent)
    assert out == "" and "segment: done: ok" in err
    records = place / "out/records/segment"
    assert {path.name for path in records.iterdir()} == {"otsu", "done"}, "nothing half-written either"
    assert json.loads((records / "done/record.json").read_text())["status"] == "ok"
    again = hyped(place, *run, WAITS_NO_MORE="1")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0 and "waits: place " in out
    assert (records / "waits/record.json").is_file()


def test_a_check_that_is_interrupted_leaves_nothing_running(place: Path):
    process = hyped(place, "plugins", "check", "waits", "--seconds", "300", "--only", "runs")
    out, _ = interrupted(place, process, signal.SIGINT)
    assert out.endswith("interrupted: the checks that follow were not run\n")
