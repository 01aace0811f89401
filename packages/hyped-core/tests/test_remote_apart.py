"""What keeps a process of its own apart from this one: folder, plugins, children; and state that goes over as files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta
from hyped_core.errors import PluginError
from hyped_core.plugins.registry import models
from hyped_core.remote import process
from hyped_core.remote.environments import open_model
from hyped_core.remote.host import RemoteModel, Runner
from hyped_core.testing.plugins import isolated_host, make_distribution

PLUGIN = """
    import os
    from hyped_core import ModelSpec, hookimpl

    with open(os.environ.get("APART_LOG", os.devnull), "a") as file:
        file.write(f"{os.getpid()} ")

    @hookimpl
    def hyped_models():
        yield ModelSpec("apart", "denoise", "apartlab_models:Apart", "apartlab_models:ApartConfig")
    """
MODELS = """
    import json, os, sys, time
    from pathlib import Path
    import numpy as np
    from hyped_core import Params

    class ApartConfig(Params):
        does: str = "work"
        weights: Path = Path("weights/w.txt")
        other: str = ""

    class Apart:
        def __init__(self, config):
            self.config = config

        def denoise(self, stack, meta, *, context):
            does = self.config.does
            if does == "read":
                names = [self.config.weights, *filter(None, [self.config.other])]
                self.facts = {"read": [Path(name).read_text() for name in names]}
            if does == "litter":
                Path("litter.txt").write_text("x")
                self.facts = {"cwd": os.getcwd()}
            if does == "modules":
                self.facts = {"modules": sorted(m for m in sys.modules if m.startswith("apartlab"))}
            if does in ("fork", "bomb"):
                pids = []
                for _ in range(1 if does == "fork" else 40):
                    pid = os.fork()
                    if not pid:
                        os.setsid()
                        time.sleep(300)
                        os._exit(0)
                    pids.append(pid)
                Path(self.config.other).write_text(" ".join(map(str, pids)))
                if does == "fork":
                    os._exit(5)
                time.sleep(300)
            if does == "sleep":
                Path(self.config.other).write_text(str(os.getpid()))
                time.sleep(300)
            return (stack * getattr(self, "scale", 1.0)).astype(np.float32)

        def fit(self, stack, meta, *, context):
            self.scale = float(stack.mean())

        def save(self, folder):
            (folder / "state.json").write_text(json.dumps(self.scale))

        def load(self, folder):
            self.scale = json.loads((folder / "state.json").read_text())
    """
STACK = np.random.default_rng(1).normal(5, 1, (2, 4, 5)).astype(np.float32)


@pytest.fixture
def open_apart(tmp_path, monkeypatch):
    """Opens the model in a process of its own, from a user's working folder with weights in it."""
    lab, work = tmp_path / "lab", tmp_path / "work"
    make_distribution(lab, "apartlab", {"apartlab_plugin": PLUGIN, "apartlab_models": MODELS})
    (work / "weights").mkdir(parents=True)
    (work / "weights/w.txt").write_text("the weights")
    (work / "more.txt").write_text("more")
    monkeypatch.chdir(work)
    opened = []
    with isolated_host(lab) as host:
        provided = models(host).provided("denoise/apart")

        def make(values=None, **limits):
            opened.append(open_model(provided, Runner(**limits), values=values))
            return opened[-1]

        yield make
        for one in opened:
            one.close()


def call(remote: RemoteModel):
    model = remote.create()
    model.denoise(STACK, ImageMeta(), context=RunContext())
    return model.facts


def test_it_works_in_a_folder_of_its_own_and_reads_the_users_paths(open_apart):
    before = sorted(Path.cwd().rglob("*"))
    remote = open_apart({"does": "litter"})
    where = Path(call(remote)["cwd"])
    assert where != Path.cwd() and sorted(Path.cwd().rglob("*")) == before
    remote.close()
    assert not where.exists()
    remote = open_apart({"does": "read", "other": "more.txt"})  # one path given, one a default of the config
    assert call(remote) == {"read": ["the weights", "more"]}
    assert remote.config == {"does": "read", "weights": "weights/w.txt", "other": "more.txt"}  # as the user said it


def test_the_host_says_which_model_it_is_and_no_plugin_is_loaded_there(open_apart, tmp_path, monkeypatch):
    monkeypatch.setenv("APART_LOG", str(tmp_path / "log"))
    remote = open_apart({"does": "modules"})
    assert remote.distribution == "apartlab" and remote.spec.name == "apart" and len(remote.sha256) == 64
    assert call(remote) == {"modules": ["apartlab_models"]} and not (tmp_path / "log").exists()


def test_state_that_was_learned_is_saved_and_loaded_over_there(open_apart, tmp_path):
    first = open_apart().create()
    first.fit(STACK, ImageMeta(), context=RunContext())
    first.save(tmp_path)
    second = open_apart().create()
    second.load(tmp_path)
    expected = (STACK * float(STACK.mean())).astype(np.float32)
    assert np.array_equal(second.denoise(STACK, ImageMeta(), context=RunContext()), expected)
    assert not hasattr(second, "denoise_frames")


def test_a_child_that_holds_the_pipe_does_not_hold_up_the_host(open_apart, tmp_path, gone):
    model = open_apart({"does": "fork", "other": str(tmp_path / "pids")}, seconds=60).create()
    started = time.monotonic()
    with pytest.raises(PluginError, match="exit code 5"):
        model.denoise(STACK, ImageMeta(), context=RunContext())
    assert time.monotonic() - started < 30
    assert gone(int((tmp_path / "pids").read_text()))  # though it left its parent's session


def test_one_that_multiplies_is_ended_with_all_that_came_of_it(open_apart, tmp_path, monkeypatch, gone):
    monkeypatch.setattr(process, "MOST_PROCESSES", 20)
    model = open_apart({"does": "bomb", "other": str(tmp_path / "pids")}, seconds=60).create()
    with pytest.raises(PluginError, match="processes at once"):
        model.denoise(STACK, ImageMeta(), context=RunContext())
    pids = (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []
    assert all(gone(int(pid)) for pid in pids)


def test_shared_memory_of_children_counts_once():
    from hyped_core.remote.memory import Family

    code = (
        "import os, time, sys\n"
        "held = bytearray(b'x') * 200_000_000\n"
        "for _ in range(4):\n"
        "    if not os.fork():\n"
        "        time.sleep(60)\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    family = Family(started.pid, "")
    try:
        assert started.stdout.readline() == b"ready\n"
        count, added = family.look()
        assert count == 5 and added > 900 and 180 < family.memory_mb() < 400
    finally:
        family.kill()
        started.wait()
        started.stdout.close()


def test_an_interrupt_of_the_host_ends_the_worker(open_apart, tmp_path, gone):
    lab = tmp_path / "lab"
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import numpy as np\n"
        "from hyped_core.context import RunContext\n"
        "from hyped_core.contracts import ImageMeta\n"
        "from hyped_core.remote.host import RemoteModel, Runner\n"
        f"runner = Runner(env={{'PYTHONPATH': {str(lab)!r}, 'HYPED_CACHE': {str(tmp_path / 'cache')!r}}})\n"
        f"values = {{'does': 'sleep', 'other': {str(tmp_path / 'pid')!r}}}\n"
        "remote = RemoteModel('denoise', 'apart', runner, values=values)\n"
        "remote.create().denoise(np.zeros((1, 2, 2)), ImageMeta(), context=RunContext())\n"
    )
    host = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, env=dict(os.environ))
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert host.poll() is None and time.monotonic() < deadline, host.stderr.read().decode()
        time.sleep(0.05)
    host.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in host.communicate(timeout=60)[1]
    assert gone(int((tmp_path / "pid").read_text()))
