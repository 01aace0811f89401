"""Static checks: a good package passes all, and one with a single defect fails the check for it and no other."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from hyped_core.checking.static import all_static
from hyped_core.checking.static.package import package_of
from hyped_core.plugins.folder import FOLDERS_VARIABLE
from hyped_core.plugins.host import default_host

_spec = importlib.util.spec_from_file_location("check_folders", Path(__file__).parent / "check_folders.py")
folders = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(folders)

MEASURED = ("import_time", "import_light")


@pytest.fixture
def static(tmp_path, monkeypatch):
    """Check -> its records, of a plugin written with changes; without those that start processes unless asked."""
    monkeypatch.setenv(FOLDERS_VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(only=None, **changes):
        folder, name = folders.write_plugin(tmp_path / "source", **changes)
        package = package_of(str(folder), None)
        found: dict = {}
        for check in all_static():
            if check.name in only if only else check.name not in MEASURED:
                found[check.name] = list(check.records(package))
        run.name = name
        return found

    yield run
    default_host.cache_clear()


def bad(found):
    return {name for name, records in found.items() if any(record.bad for record in records)}


def test_a_good_package_passes_every_check(static):
    found = static(only=[check.name for check in all_static()])
    assert bad(found) == set()
    assert {r.status for records in found.values() for r in records} == {"passed"}
    assert len(found) == len(all_static()) == len({check.name for check in all_static()})


EXCUSES = '[tool.hyped.expected-failures]\n"denoise/NAME" = {sead_repeats = "why"}\n'
DEFECTS = {
    "no version": ("metadata", {"pyproject": ('version = "0.1.0"', "")}, "version"),
    "no summary": ("metadata", {"pyproject": ('description = "Leaves frames as they are"', "")}, "description"),
    "no python": ("metadata", {"pyproject": ('requires-python = ">=3.11"', "")}, "requires-python"),
    "unreadable requirement": (
        "metadata",
        {"pyproject": ('"hyped-core>=0.1,<0.2"', '"hyped-core>=0.1,<0.2", "a b c"')},
        "a b c",
    ),
    "no licence": ("licence", {"pyproject": ('license = "BSD-3-Clause"', "")}, "license"),
    "core not required": ("core_requirement", {"pyproject": ('"hyped-core>=0.1,<0.2"', "")}, "not required"),
    "no upper bound": (
        "core_requirement",
        {"pyproject": ('"hyped-core>=0.1,<0.2"', '"hyped-core>=0.1"')},
        "upper bound",
    ),
    "no lower bound": (
        "core_requirement",
        {"pyproject": ('"hyped-core>=0.1,<0.2"', '"hyped-core<0.2"')},
        "lower bound",
    ),
    "syntax": ("syntax", {"files": {"src/NAME/other.py": "def broken(:\n"}}, "other.py:1"),
    "imports a sibling": (
        "hyped_imports",
        {"model": ("import numpy as np", "import numpy as np\nimport hyped_bench.tasks")},
        "hyped_bench.tasks",
    ),
    "imports pickle": ("pickle_use", {"model": ("import numpy as np", "import numpy as np\nimport pickle")}, "pickle"),
    "allows pickles": (
        "pickle_use",
        {"files": {"src/NAME/other.py": "import numpy\nX = lambda p: numpy.load(p, allow_pickle=True)\n"}},
        "allow_pickle",
    ),
    "torch.load": (
        "pickle_use",
        {"files": {"src/NAME/other.py": "def load(torch, p):\n    return torch.load(p)\n"}},
        "weights_only",
    ),
    "undeclared library": (
        "libraries_declared",
        {"model": ("import numpy as np", "import numpy as np\nimport hypothesis")},
        "hypothesis",
    ),
    "no hook": ("entry_point", {"plugin": ("@hookimpl\ndef hyped_models", "def models")}, "implements no hook"),
    "hook raises": (
        "contributions",
        {"plugin": ("    yield ModelSpec(", "    1 / 0\n    yield ModelSpec(")},
        "ZeroDivisionError",
    ),
    "misspelt hook": (
        "contributions",
        {"plugin": ("@hookimpl", "@hookimpl\ndef hyped_metrix():\n    return []\n\n@hookimpl")},
        "hyped_metrics",
    ),
    "another api": ("api_version", {"plugin": ("seeded=False,", "seeded=False, api_version=99,")}, "99"),
    "name taken": ("names", {"plugin": ('name="NAME"', 'name="identity"')}, "hyped-bench"),
    "unknown task": ("names", {"plugin": ('task="denoise"', 'task="denoize"')}, "denoise"),
    "no summary of the model": ("described", {"plugin": ('summary="Frames as they are", ', "")}, "summary"),
    "no licence of the model": ("described", {"plugin": (' licence="BSD-3-Clause",', "")}, "licence"),
    "no such class": ("target", {"plugin": ('model:Same"', 'model:Other"')}, "Other"),
    "method is not there": ("target", {"model": ("def denoise", "def clean")}, "def denoise"),
    "method takes too little": (
        "target",
        {"model": ("stack, meta, *, context", "stack, *, context")},
        "cannot be called as",
    ),
    "method without context": ("target", {"model": (", *, context", "")}, "context"),
    "constructor without config": ("target", {"model": ("(self, config: SameConfig)", "(self)")}, "with the config"),
    "field without default": ("config", {"model": ("offset: float = 0.0", "offset: float")}, "no default"),
    "field without description": (
        "config",
        {"model": ('    """Added to each pixel, in camera units."""\n', "")},
        "no description",
    ),
    "takes unknown keys": (
        "config",
        {"model": ("class SameConfig(Params):", "class SameConfig(Params, extra='ignore'):")},
        "does not know",
    ),
    "config not frozen": (
        "config",
        {"model": ("class SameConfig(Params):", "class SameConfig(Params, frozen=False):")},
        "can be changed",
    ),
    "config is no pydantic": ("config", {"plugin": ("model:SameConfig", "model:Same")}, "no pydantic"),
    "needs without command": (
        "needs",
        {"plugin": ("seeded=False,", "seeded=False, needs=__import__('hyped_core').Needs(modules=('numpy',)),")},
        "empty",
    ),
    "undeclared source": (
        "sources",
        {
            "model": ("import numpy as np", "import numpy as np\nfrom NAME import helper"),
            "files": {"src/NAME/helper.py": "X = 1\n"},
        },
        "NAME.helper",
    ),
    "unknown expected failure": (
        "expected_failures",
        {"plugin": ("seeded=False,", "seeded=False, expected_failures={'stdout_silnt': 'prints'},")},
        "stdout_silent",
    ),
    "unknown expected failure in pyproject": (
        "expected_failures",
        {
            "pyproject": (
                "[project]\n",
                '[tool.hyped.expected-failures]\n"denoise/NAME" = {sead_repeats = "why"}\n\n[project]\n',
            )
        },
        "seed_repeats",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_fails_its_check_and_no_other(static, defect):
    check, changes, said = DEFECTS[defect]
    found = static(**changes)
    assert bad(found) == {check}
    records = [record for record in found[check] if record.bad]
    text = " ".join(f"{r.where} {r.reason} {r.mend}" for r in records)
    assert said.replace("NAME", static.name) in text
    assert all(record.where for record in records)


def test_everything_wrong_is_said_at_once(static):
    found = static(
        pyproject=('license = "BSD-3-Clause"\ndependencies = ["hyped-core>=0.1,<0.2"]', ""),
        plugin=('licence="BSD-3-Clause", seeded=False,', "seeded=False, expected_failures={'a': 'b', 'c': 'd'},"),
        model=(
            '    offset: float = 0.0\n    """Added to each pixel, in camera units."""',
            "    offset: float\n    gain: float",
        ),
    )
    assert bad(found) == {"licence", "core_requirement", "described", "config", "expected_failures"}
    assert len(found["config"]) == 4
    assert len(found["expected_failures"]) == 2


@pytest.mark.parametrize(
    ("line", "check", "said"),
    [
        ("import pandas", "import_light", "pandas"),
        ("import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass", "import_time", "0.3 s"),
    ],
)
def test_a_plugin_module_has_to_be_light(static, line, check, said):
    found = static(only=MEASURED, plugin=('"""What the package offers."""', line))
    assert bad(found) - {"import_time"} == {check} - {"import_time"}
    assert found[check][0].bad
    assert said in found[check][0].reason


def test_a_plugin_that_fails_on_import_is_one_problem(static):
    found = static(
        only=[c.name for c in all_static()],
        plugin=('"""What the package offers."""', "import a_module_that_is_not_there"),
    )
    assert "entry_point" in bad(found)
    assert bad(found) <= {"entry_point", "libraries_declared"}
    assert "a_module_that_is_not_there" in found["entry_point"][0].reason
    assert found["names"][0].status == "skipped"
    assert found["import_time"][0].status == "skipped"


def test_what_may_fail_or_never_runs_need_not_be_declared(static):
    text = "try:\n    import hypothesis\nexcept ImportError:\n    hypothesis = None\n"
    text += "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import hypothesis.strategies\n"
    assert bad(static(files={"src/NAME/other.py": text})) == set()


def test_an_extra_or_a_need_declares_a_library(static):
    extra = ("[project.entry", '[project.optional-dependencies]\nmore = ["hypothesis"]\n\n[project.entry')
    assert bad(static(pyproject=extra, files={"src/NAME/other.py": "import hypothesis\n"})) == set()
