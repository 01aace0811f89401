"""Environments in the cache: none is removed under a running model, old copies of code go, old ones on request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from hyped_core.cli.plugins_environments import list_environments
from hyped_core.errors import UsageError
from hyped_core.remote import cache, environments, locks
from hyped_core.remote.cache import remove_environment, remove_unused
from hyped_core.remote.environments import environment_for
from hyped_core.remote.locks import in_use
from hyped_core.testing.plugins import isolated_host, make_distribution

PLUGIN = """
    from hyped_core import ModelSpec, hookimpl

    @hookimpl
    def hyped_models():
        yield ModelSpec("old", "denoise", "keptlab.model:Old")
    """
HOST = """
import sys, time
from pathlib import Path
import hyped_core.remote.environments as environments
environments.core_requirements = list
from hyped_core.remote.host import RemoteModel, Runner
runner = Runner(requirements=("--no-index",), env={"PYTHONPATH": sys.argv[1]})
with RemoteModel("denoise", "keptlab:old", runner):
    Path(sys.argv[2]).write_text("open")
    time.sleep(300)
"""


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """A cache of its own, and environments without libraries."""
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(environments, "core_requirements", list)
    return tmp_path / "cache"


@pytest.fixture
def host(offline, tmp_path):
    """Starts a process that keeps a model open in an environment; gives it once it does."""
    lab = tmp_path / "lab"
    (tmp_path / "tmp").mkdir()
    make_distribution(
        lab, "keptlab", {"keptlab/plugin.py": PLUGIN, "keptlab/__init__.py": "", "keptlab/model.py": "class Old: ..."}
    )
    started = []

    def go() -> subprocess.Popen[bytes]:
        told = tmp_path / f"told-{len(started)}"
        libraries = os.pathsep.join([sysconfig.get_path("purelib"), str(lab)])
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", HOST, libraries, str(told)],
                stderr=subprocess.PIPE,
                env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
            )
        )
        deadline = time.monotonic() + 120
        while not told.exists():
            assert started[-1].poll() is None and time.monotonic() < deadline, started[-1].stderr.read().decode()
            time.sleep(0.05)
        return started[-1]

    yield go
    for one in started:
        one.kill()
        one.wait()
        one.stderr.close()


def age(layer: Path, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(layer / locks.IN_USE, (then, then))


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
def test_an_environment_that_a_model_runs_in_stays_until_it_has_ended(host, way, tmp_path):
    running = host()
    assert list((tmp_path / "tmp").glob("hyped-remote-*"))
    [made] = cache.environments()
    with pytest.raises(UsageError, match="runs in this environment now") as caught:
        remove_environment(made.name)
    assert str(made.folder) == caught.value.where and caught.value.exit_code == 2
    [layer] = cache._layers(made.folder)
    age(layer, 400)
    assert remove_unused(0) == [] and layer.is_dir()
    result = CliRunner().invoke(list_environments, ["--clean"])
    assert isinstance(result.exception, UsageError) and made.folder.is_dir()
    running.send_signal(way)
    running.wait()
    deadline = time.monotonic() + 10  # a killed one's worker sees it within a second
    while True:
        try:
            remove_environment(made.name)
            break
        except UsageError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert cache.environments() == [] and not list(cache.environments_folder().iterdir())
    while list((tmp_path / "tmp").glob("hyped-remote-*")):  # nor is what they exchanged left
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_who_comes_while_it_is_removed_is_told(offline, tmp_path):
    from hyped_core.errors import PluginError

    python = environment_for(["--no-index"], say=lambda text: None)
    layer = python.parent.parent
    with locks.nobody_uses(layer) as free:
        assert free
        code = (
            "import sys; from hyped_core.remote.locks import in_use; print('comes', flush=True)\n"
            "with in_use(sys.argv[1]): print('in')"
        )
        comes = subprocess.Popen([sys.executable, "-c", code, python], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert comes.stdout.readline() == b"comes\n"
        time.sleep(0.3)
        layer.rename(layer.with_name("gone"))
    out, err = comes.communicate(timeout=30)
    assert out == b"" and PluginError.__name__.encode() in err and b"removed just now" in err


def test_old_copies_of_code_go_when_another_is_written(offline, tmp_path):
    lab = tmp_path / "lab"
    make_distribution(
        lab, "keptlab", {"keptlab/plugin.py": PLUGIN, "keptlab/__init__.py": "", "keptlab/model.py": "class Old: ..."}
    )
    from hyped_core.plugins.registry import models

    made = []
    with isolated_host(lab) as plugins:
        spec = models(plugins).provided("denoise/old").spec
        for version in range(4):
            (lab / "keptlab/__init__.py").write_text(f"VERSION = {version}\n")
            made.append(environment_for(["--no-index"], spec, "keptlab", say=lambda text: None).parent.parent)
            if version == 2:
                age(made[0], 2)
                age(made[1], 2)
                left = made[0].with_name(".half.part")
                left.mkdir()
                held = in_use(made[1] / "bin/python")  # used again
                held.__enter__()
                age(made[1], 2)  # as one that began two days ago
        assert environment_for(["--no-index"], spec, "keptlab", say=lambda text: None) == made[3] / "bin/python"
    assert len(set(made)) == 4
    assert [layer.is_dir() for layer in made] == [False, True, True, True] and not left.exists()
    [one] = cache.environments()
    assert one.layers == 3 and one.days_unused < 0.1
    held.__exit__(None, None, None)
    [gone] = remove_unused(1)
    assert gone == f"{one.name}/layers/{made[1].name}" and not made[1].exists()


def test_what_was_not_used_for_days_goes_on_request(offline):
    old = environment_for(["--no-index"], say=lambda text: None)
    new = environment_for(["--no-index", "--pre"], say=lambda text: None)
    name = old.parent.parent.parent.parent.name
    for environment in cache.environments():
        then = time.time() - 40 * 86400
        os.utime(environment.folder / "hyped-environment.json", (then, then))
    age(old.parent.parent, 40)
    runner = CliRunner()
    rows = {row["name"]: row for row in json.loads(runner.invoke(list_environments, ["--json"]).stdout)}
    assert 39.9 < rows[name]["days_unused"] < 40.1 and rows[name]["layers"] == 1
    assert "40 d ago" in runner.invoke(list_environments, []).stdout
    assert runner.invoke(list_environments, ["--unused", "41"]).exit_code == 0 and old.exists()
    result = runner.invoke(list_environments, ["--unused", "30"])
    assert result.exit_code == 0 and f"removed {name}" in result.stderr
    assert not old.exists() and new.exists()
    assert runner.invoke(list_environments, ["--unused", "-1"]).exit_code == 2
