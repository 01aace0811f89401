"""Every combination of the template's options is generated, installed side by side, listed, tested and checked."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from hyped_core.spec import TASKS
from hyped_core.templates.render import CAN_LEARN, CI, LICENCES, Choice, write_plugin
from tests.conftest import run

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

VARIANTS = [(task, learns) for task in TASKS for learns in ((False, True) if task in CAN_LEARN else (False,))]
OTHERS = list(itertools.product(LICENCES, CI))
THOROUGH = {variant: OTHERS[i % len(OTHERS)] for i, variant in enumerate(VARIANTS)}
"""Of each variant the combination whose every check runs: code is the same in all of its licences and workflows, and
each of these is among them."""


def name_of(task: str, learns: bool, licence: str, ci: str) -> str:
    """``denoise-learns-mit-none``, of one combination."""
    words = [task, *(["learns"] if learns else []), licence.partition("-")[0].lower(), ci]
    return "-".join(words)


class Machine:
    """An environment that has the libraries of this one, and packages of its own."""

    def __init__(self, folder: Path) -> None:
        run([sys.executable, "-m", "venv", str(folder / "env")], folder)
        self.python = folder / "env" / "bin" / "python"
        mine = ("PYTHON", "VIRTUAL_ENV", "HYPED", "PYTEST", "COV_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(mine)}
        self.environment = {**kept, "HYPED_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        packages = Path(self.runs("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
        libraries = sysconfig.get_path("purelib")
        (packages / "libraries.pth").write_text(f"import site; site.addsitedir({libraries!r})\n")

    def runs(self, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
        """This environment's Python with ``arguments``; fails the test where that fails."""
        return run([str(self.python), *arguments], self.python.parent, env=self.environment, timeout=900, **options)

    def hyped(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command, as it is installed there."""
        return self.runs("-m", "hyped_core.cli.main", *arguments)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Machine, dict[str, Path]]:
    """All combinations, generated and installed: where, and the folder of each by its name."""
    place = tmp_path_factory.mktemp("template")
    folders = {}
    for (task, learns), (licence, ci) in itertools.product(VARIANTS, OTHERS):
        name = name_of(task, learns, licence, ci)
        folders[name] = place / name
        write_plugin(folders[name], Choice(distribution=name, task=task, model=name.replace("-", "_"), learns=learns,
                                           author="A. Name", year=2026, licence=licence, ci=ci))
    machine = Machine(place)
    editable = [word for folder in folders.values() for word in ("-e", str(folder))]
    machine.runs("-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", *editable)
    return machine, folders


def test_all_are_listed_beside_one_another(installed: tuple[Machine, dict[str, Path]]):
    machine, folders = installed
    assert len(folders) == 54
    plugins = {p["name"]: p for p in json.loads(machine.hyped("plugins", "list", "--json").stdout)}
    assert {plugins[name]["state"] for name in folders} == {"active"}
    assert all(plugins[name]["import_s"] < 0.3 for name in folders)
    models = json.loads(machine.hyped("models", "list", "--json").stdout)
    assert {name.replace("-", "_") for name in folders} <= {model["name"] for model in models}


def test_the_tests_of_all_pass(installed: tuple[Machine, dict[str, Path]]):
    machine, folders = installed
    thorough = [folders[name_of(*variant, *other)] for variant, other in THOROUGH.items()]
    common = ["-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", "-c", os.devnull]
    machine.runs(*common, *(str(folder / "tests") for folder in thorough))
    rest = [str(folder / "tests") for folder in folders.values() if folder not in thorough]
    done = machine.runs(*common, "-k", "not TestChecks or test_runs", *rest)
    assert f"{2 * len(rest)} passed" in done.stdout


@pytest.mark.parametrize("task", TASKS)
def test_the_checks_of_a_task_find_nothing(installed: tuple[Machine, dict[str, Path]], task: str):
    machine, folders = installed
    variant = (task, task in CAN_LEARN)
    folder = folders[name_of(*variant, *THOROUGH[variant])]
    found = json.loads(machine.hyped("plugins", "check", str(folder), "--json").stdout)
    assert found["ok"] and found["counts"]["passed"] > 30
