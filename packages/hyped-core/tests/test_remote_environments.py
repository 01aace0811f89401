"""Environments made of requirements: once, whole or not at all, with this very hyped-core and the plugin's package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hyped_core.cli.plugins_environments import list_environments
from hyped_core.context import RunContext
from hyped_core.errors import MissingDependencyError, ParamsError, StorageError, UnknownNameError
from hyped_core.plugins.registry import models
from hyped_core.remote import cache, environments, making
from hyped_core.remote.cache import remove_environment
from hyped_core.remote.environments import environment_for, open_model
from hyped_core.remote.host import Runner, read_runner
from hyped_core.remote.locks import alone
from hyped_core.remote.requirements import requirements_of
from hyped_core.testing.plugins import isolated_host, make_distribution

PLUGIN = """
    from hyped_core import ModelSpec, hookimpl

    @hookimpl
    def hyped_models():
        yield ModelSpec("old", "denoise", "oldlab.model:Old", environment=("numpy==1.26.4", "pandas==2.2.2"))
    """
MODEL = """
    import numpy as np

    class Old:
        def denoise(self, stack, meta, *, context):
            self.facts = {"numpy": np.__version__}
            return (stack * 2).astype(np.float32)
    """


def wheel(folder: Path, name: str, version: str = "1.0") -> str:
    """A wheel of one module, made by hand; its requirement."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return f"{name} @ file://{path}"


@pytest.fixture
def lab(tmp_path):
    """A plugin's package, installed by nobody."""
    make_distribution(
        tmp_path / "lab", "oldlab", {"oldlab/plugin.py": PLUGIN, "oldlab/__init__.py": "", "oldlab/model.py": MODEL}
    )
    return tmp_path / "lab"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """A cache of its own, and no libraries but those of a test: pip asks no index."""
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(environments, "core_requirements", list)
    return tmp_path / "cache"


def said_by(python: Path, code: str) -> str:
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HYPED_PLUGIN_FOLDERS")}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=variables, cwd=python.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_environment_has_the_requirement_the_plugin_and_this_hyped_core(offline, lab, tmp_path):
    told = []
    asked = [wheel(tmp_path / "wheels", "tinydep")]
    with isolated_host(lab) as host:
        provided = models(host).provided("denoise/old")
        python = environment_for(asked, provided.spec, "oldlab", say=told.append)
        assert any("denoise/old" in text and "tinydep" in text for text in told)
        told.clear()
        assert environment_for(asked, provided.spec, "oldlab", say=told.append) == python and not told
    import hyped_core

    code = "import tinydep, hyped_core, oldlab; print(tinydep.VERSION, hyped_core.__file__, oldlab.__file__)"
    version, core, own = said_by(python, code).split()
    assert version == "1.0" and core.startswith(str(offline)) and own.startswith(str(offline))
    assert Path(core).read_text() == Path(hyped_core.__file__).read_text()
    points = said_by(
        python,
        "from importlib.metadata import entry_points, version; "
        "print(version('hyped-core'), sorted(p.name for p in entry_points(group='hyped')))",
    )
    assert points == f"{hyped_core.__version__} ['hyped-core', 'oldlab']"
    # a change of the plugin's code is another layer over the same libraries, and pip has no work
    (lab / "oldlab/__init__.py").write_text("CHANGED = True\n")
    with isolated_host(lab):
        changed = environment_for(asked, provided.spec, "oldlab", say=told.append)
    assert changed != python and not told
    assert said_by(changed, "import oldlab; print(oldlab.CHANGED)") == "True"
    # other requirements are other libraries
    other = environment_for([wheel(tmp_path / "wheels", "tinydep", "2.0")], say=told.append)
    assert told and said_by(other, "import tinydep; print(tinydep.VERSION)") == "2.0"


def test_what_pip_cannot_install_is_said_and_leaves_nothing(offline):
    with pytest.raises(MissingDependencyError) as caught:
        environment_for(["no-such-distribution-of-anyone==9.9"], say=lambda text: None)
    error = caught.value
    assert error.exit_code == 5 and "No matching distribution" in error.message and "pip install" in error.mend
    assert cache.environments() == []


def test_what_an_interrupted_maker_left_is_made_anew(offline, tmp_path):
    asked = [wheel(tmp_path / "wheels", "tinydep")]
    python = environment_for(asked, say=lambda text: None)
    [made] = cache.environments()
    (made.folder / making.MARKER).unlink()
    for file in made.folder.rglob("tinydep.py"):
        file.write_text("raise SystemExit('half of it')")
    assert not cache.environments()[0].finished
    again = environment_for(asked, say=lambda text: None)
    assert again == python and said_by(python, "import tinydep; print(tinydep.VERSION)") == "1.0"


def test_two_makers_at_once_make_one(offline, tmp_path):
    asked, told, found = [wheel(tmp_path / "wheels", "tinydep")], [], []

    def make():
        found.append(environment_for(asked, say=told.append))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and sum("making" in text for text in told) == 1
    assert len(cache.environments()) == 1


def test_who_waits_for_a_lock_that_is_removed_takes_the_new_one(tmp_path):
    lock, said = tmp_path / "x.lock", []
    inside, waiting, go = threading.Event(), threading.Event(), threading.Event()

    def waits():
        with alone(lock, waiting.set):
            said.append(lock.exists())
            inside.set()
            go.wait(10)

    thread = threading.Thread(target=waits)
    with alone(lock, lambda: None):
        thread.start()
        assert waiting.wait(10)
        lock.unlink()
    assert inside.wait(10) and said == [True]
    second = threading.Event()

    def comes():
        with alone(lock, second.set):
            said.append("in")

    other = threading.Thread(target=comes)
    other.start()
    assert second.wait(10) and said == [True], "two were alone at once"
    go.set()
    thread.join()
    other.join()
    assert said == [True, "in"]


def test_environments_are_listed_and_removed(offline, tmp_path):
    asked = [wheel(tmp_path / "wheels", "tinydep")]
    environment_for(asked, say=lambda text: None)
    runner = CliRunner()
    [row] = json.loads(runner.invoke(list_environments, ["--json"]).stdout)
    assert row["requirements"] == asked and row["bytes"] > 1e6 and row["finished"]
    table = runner.invoke(list_environments, []).stdout
    assert row["name"] in table and "tinydep" in table
    for name in ("nothing", "..", "."):
        with pytest.raises(UnknownNameError):
            remove_environment(name)
    assert runner.invoke(list_environments, ["--clean"]).exit_code == 0
    assert not Path(row["folder"]).exists() and json.loads(runner.invoke(list_environments, ["--json"]).stdout) == []


def test_a_cache_that_cannot_be_written_to(offline, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot be kept") as caught:
        environment_for(["tinydep"], say=lambda text: None)
    assert "HYPED_CACHE" in caught.value.mend


def test_requirements_of_a_distribution_leave_hyped_and_extras_out(tmp_path):
    info = make_distribution(tmp_path, "asks", {"asks.py": ""})
    lines = ["hyped-core>=0.1", "HYPED_Bench", "attrs>=23", 'tomli; python_version < "3"', 'torch; extra == "torch"']
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: asks\nVersion: 1\n" + "".join(f"Requires-Dist: {line}\n" for line in lines)
    )
    from importlib.metadata import Distribution

    assert requirements_of(Distribution.at(info)) == ["attrs>=23"]


def test_runners_with_requirements():
    read = read_runner({"runner": "process", "requirements": ["numpy==1.26.4", "--extra-index-url https://x.y"]}, "x")
    assert read == Runner(requirements=("numpy==1.26.4", "--extra-index-url https://x.y"))
    assert read_runner({"runner": "here"}, "x").runner == "here"
    for bad, word in (
        ({"requirements": ["numpy"], "python": "p"}, "exclude each other"),
        ({"requirements": "numpy"}, "list of requirements"),
        ({"requirements": []}, "no requirement"),
        ({"requirements": ["numpy ="]}, "'numpy ='"),
        ({"runner": "there"}, "process or here"),
        ({"runner": "here", "seconds": 5}, "seconds: only for"),
        ({"python": ""}, "interpreter"),
        ({"seconds": float("nan")}, "positive"),
    ):
        with pytest.raises(ParamsError, match=word):
            read_runner(bad, "expression/runners/m")
    with pytest.raises(ParamsError, match="exclude"):
        Runner(python="elsewhere", requirements=("numpy",))


@pytest.mark.slow
def test_a_model_runs_by_itself_in_the_environment_that_it_asks_for(lab, tmp_path, monkeypatch):
    """Over the network: numpy 1.26 and pandas 2.2.2 beside this process's own."""
    from hyped_core.contracts import ImageMeta

    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    stack = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    with isolated_host(lab) as host:
        provided = models(host).provided("denoise/old")
        with open_model(provided, Runner(seconds=120)) as remote:
            model = remote.create()
            assert np.array_equal(model.denoise(stack, ImageMeta(), context=RunContext()), stack * 2)
            assert model.facts == {"numpy": "1.26.4"} and np.__version__ != "1.26.4"
            record = remote.environment()
    assert record["requirements"] == ["numpy==1.26.4", "pandas==2.2.2"] and record["libraries"]["pandas"] == "2.2.2"
    assert remote.process.runner.python != sys.executable
