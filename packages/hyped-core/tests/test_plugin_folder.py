"""A source folder counts as the installed plugin it would become, also in the place of one that is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hyped_core.errors import PluginError
from hyped_core.plugins.folder import FOLDERS_VARIABLE, folder_distribution, plugin_folders
from hyped_core.testing import make_distribution

PROJECT = """
[project]
name = "My_Model"
version = "1.2.0"
description = "A model\\nof ours"
requires-python = ">=3.11"
license = "MIT"
dependencies = ["hyped-core>=0.1", "numpy"]

[project.optional-dependencies]
deep = ["torch>=2; python_version > '3'", "safetensors"]

[project.scripts]
mine = "my_model.cli:main"

[project.entry-points.hyped]
my-model = "my_model.plugin"
"""
PLUGIN = """
from importlib.metadata import version

from hyped_core import ModelSpec, hookimpl

@hookimpl
def hyped_models():
    yield ModelSpec("mine", "track", "my_model.model:Mine", summary="{said}, version " + version("my-model"))
"""


def source(folder: Path, layout: str, project: str = PROJECT, said: str = "from the folder") -> Path:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(project)
    package = folder / layout / "my_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "4.5"\n')
    (package / "plugin.py").write_text(PLUGIN.format(said=said))
    (package / "model.py").write_text("class Mine:\n    def track(self, objects, labels=None, *, context): ...\n")
    return folder


def hyped(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hyped_core.cli.main", *arguments]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("layout", ["src", ".", "python"])
def test_it_reads_as_if_installed(tmp_path: Path, layout: str):
    project = PROJECT if layout != "python" else PROJECT + '\n[tool.setuptools]\npackage-dir = {"" = "python"}\n'
    folder = source(tmp_path / "dev", layout, project)
    found = folder_distribution(folder)
    assert (found.name, found.version, found.metadata["Summary"]) == ("My_Model", "1.2.0", "A model of ours")
    assert found.metadata["Requires-Python"] == ">=3.11" and found.metadata["License-Expression"] == "MIT"
    assert found.requires == [
        "hyped-core>=0.1",
        "numpy",
        "torch>=2; (python_version > '3') and extra == \"deep\"",
        'safetensors; extra == "deep"',
    ]
    points = {(point.group, point.name, point.value, point.dist.name) for point in found.entry_points}
    assert points == {
        ("hyped", "my-model", "my_model.plugin", "My_Model"),
        ("console_scripts", "mine", "my_model.cli:main", "My_Model"),
    }
    assert found.folder == folder and found.source == (folder / layout).resolve()
    assert Path(found.locate_file("my_model/model.py")).is_file()


@pytest.mark.parametrize(
    ("line", "version"),
    [('dynamic = ["version"]', "4.5"), ("", "0"), ('version = "1.0rc1"', "1.0rc1")],
)
def test_its_version(tmp_path: Path, line: str, version: str):
    folder = source(tmp_path / "dev", "src", PROJECT.replace('version = "1.2.0"', line))
    assert folder_distribution(folder).version == version


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('license = {file = "COPYING"}', {"License": ["COPYING"], "License-File": ["COPYING"]}),
        ('license = {text = "ours"}', {"License": ["ours"], "License-File": ["LICENSE.txt"]}),
        ('license = 3', {"License-Expression": ["3"], "License-File": ["LICENSE.txt"]}),
        ('license-files = ["L*", "none*", "../*", "/etc/*", "**x", 3]',
         {"License-File": ["LICENSE.txt", "none*", "../*", "/etc/*", "**x"]}),
        ('license-files = []', {}),
        ('license-files = {paths = ["LICENSE.txt"]}\nclassifiers = 3', {}),
        ('classifiers = ["License :: Public Domain"]\ndynamic = ["license", "readme"]',
         {"Classifier": ["License :: Public Domain"], "Dynamic": ["license"], "License-File": ["LICENSE.txt"]}),
    ],
)
def test_its_licence(tmp_path: Path, lines: str, said: dict[str, list[str]]):
    folder = source(tmp_path / "dev", "src", PROJECT.replace('license = "MIT"', lines))
    (folder / "LICENSE.txt").write_text("Do as you like")
    meta = folder_distribution(folder).metadata
    keys = ("License", "License-Expression", "License-File", "Classifier", "Dynamic")
    assert {key: meta.get_all(key) for key in keys if meta.get_all(key)} == said


def test_a_version_that_cannot_be_told(tmp_path: Path):
    folder = source(tmp_path / "dev", "src", PROJECT.replace('version = "1.2.0"', 'dynamic = ["version"]'))
    (folder / "src" / "my_model" / "__init__.py").write_text("")
    assert folder_distribution(folder).version == "0+unknown"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "pyproject.toml is not there"),
        (b"[project\n", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"", "no table 'project'"),
        (b"project = 3\n", "expected a table"),
        (b"[project]\nname = 3\n", "project.name is 3"),
        (b"[project]\nname = 'a b'\n", "project.name is 'a b'"),
        (b"[project]\nname = 'a'\n", "no entry point of the group 'hyped'"),
        (b"[project]\nname = 'a'\n[project.entry-points.hyped]\n", "no entry point of the group 'hyped'"),
        (b"[project]\nname = 'a'\n[project.entry-points.hyped]\na = 3\n", "no entry point of the group 'hyped'"),
        (b"[project]\nname = 'a'\nentry-points = 3\n", "expected a table"),
        (b"[project]\nname='a'\nversion='x'\n[project.entry-points.hyped]\na='b'\n", "'x' is no version"),
        (b"[project]\nname='a'\ndependencies=3\n[project.entry-points.hyped]\na='b'\n", "must be a list of text"),
        (b"tool = 3\n[project]\nname='a'\ndependencies=3\n[project.entry-points.hyped]\na='b'\n", "list of text"),
    ],
)
def test_what_is_no_source_of_a_plugin(tmp_path: Path, content: bytes | None, said: str):
    if content is not None:
        (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(PluginError, match=said) as caught:
        folder_distribution(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(PluginError, match="nor is the folder"):
        folder_distribution(tmp_path / "none")


def test_folders_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    named = [str(tmp_path / "a"), "", "b", str(tmp_path / "a"), " "]
    monkeypatch.setenv(FOLDERS_VARIABLE, os.pathsep.join(named))
    assert plugin_folders() == [tmp_path / "a", tmp_path / "b"]
    monkeypatch.delenv(FOLDERS_VARIABLE)
    assert plugin_folders() == []


def test_it_stands_for_the_installed_one_of_its_name(tmp_path: Path):
    site = tmp_path / "site"
    files = {"my_model/plugin": PLUGIN.format(said="installed"), "my_model/__init__": ""}
    make_distribution(site, "my.model", files, entry_points={"my-model": "my_model.plugin"})
    installed = json.loads(hyped("models", "info", "mine", "--json", PYTHONPATH=str(site)).stdout)
    assert (installed["summary"], installed["version"]) == ("installed, version 1.0", "1.0")
    folder = source(tmp_path / "dev", "src")
    variables = {"PYTHONPATH": str(site), FOLDERS_VARIABLE: str(folder)}
    found = json.loads(hyped("models", "info", "mine", "--json", **variables).stdout)
    assert (found["summary"], found["version"]) == ("from the folder, version 1.2.0", "1.2.0")
    rows = json.loads(hyped("plugins", "list", "--json", **variables).stdout)
    assert [row["folder"] for row in rows if row["name"] == "my-model"] == [str(folder)]
    assert all(row["folder"] == "" for row in rows if row["name"] != "my-model")
    assert f"from {folder}" in hyped("plugins", "list", **variables).stdout


def test_two_folders_and_one_that_is_none(tmp_path: Path):
    first = source(tmp_path / "first", "src", said="first")
    second = source(tmp_path / "second", ".", said="second")
    bad = tmp_path / "bad"
    bad.mkdir()
    named = os.pathsep.join(map(str, (bad, first, second, tmp_path / "none")))
    rows = json.loads(hyped("plugins", "list", "--json", **{FOLDERS_VARIABLE: named}).stdout)
    by_name = {row["name"]: row for row in rows}
    assert by_name["my-model"]["folder"] == str(first), "the first of a name counts"
    for name in ("bad", "none"):
        assert by_name[name]["state"] == "broken" and "pyproject.toml" in by_name[name]["reason"]
        assert FOLDERS_VARIABLE in by_name[name]["mend"] and "pip uninstall" not in by_name[name]["mend"]
    assert {row["state"] for row in rows if row["distribution"].startswith("hyped-")} == {"active"}


def test_a_broken_folder_harms_no_other(tmp_path: Path):
    folder = source(tmp_path / "dev", "src")
    (folder / "src" / "my_model" / "plugin.py").write_text("import os\nos.abort()\n")
    done = hyped("plugins", "list", "--json", **{FOLDERS_VARIABLE: str(folder)})
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert "SIGABRT" in rows["my-model"]["reason"] and "leave its folder out" in rows["my-model"]["mend"]
    (folder / "src" / "my_model" / "plugin.py").write_text(PLUGIN.format(said="mended"))
    rows = json.loads(hyped("plugins", "list", "--json", **{FOLDERS_VARIABLE: str(folder)}).stdout)
    assert {row["state"] for row in rows if row["name"] == "my-model"} == {"active"}, "no need to wait or to clear"


USE = """
import json, os, subprocess, sys
from pathlib import Path
from hyped_core.errors import PluginError
from hyped_core.plugins.folder import use_folder
from hyped_core.plugins.registry import get_model
from hyped_core.spec import import_target

before = get_model("track", "mine").summary
import my_model.model
try:
    use_folder(Path("nowhere"))
except PluginError:
    assert get_model("track", "mine").summary == before and "HYPED_PLUGIN_FOLDERS" not in os.environ
use_folder(Path(sys.argv[1]))
use_folder(Path(sys.argv[1]))
model = import_target("my_model.model:Mine")
child = "from hyped_core.plugins.registry import get_model; print(get_model('track', 'mine').summary)"
inherited = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout.strip()
file = sys.modules["my_model.model"].__file__
print(json.dumps([before, get_model("track", "mine").summary, inherited, file, os.environ["HYPED_PLUGIN_FOLDERS"]]))
"""


def test_use_folder_replaces_what_was_imported_and_is_inherited(tmp_path: Path):
    site = tmp_path / "site"
    files = {"my_model/plugin": PLUGIN.format(said="installed"), "my_model/__init__": "", "my_model/model": ""}
    make_distribution(site, "my-model", files, entry_points={"my-model": "my_model.plugin"})
    folder = source(tmp_path / "dev", "src")
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", USE, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    before, after, inherited, file, variable = json.loads(done.stdout)
    assert before == "installed, version 1.0"
    assert after == inherited == "from the folder, version 1.2.0"
    assert Path(file).is_relative_to(folder) and variable == str(folder)
