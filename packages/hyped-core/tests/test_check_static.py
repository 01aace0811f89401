"""Static checks: a good package passes all, and one with a single defect fails the check for it and no other."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from hyped_core.checking.static import all_static, trial
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
READER = """from hyped_core import ReaderSpec

@hookimpl
def hyped_readers():
    yield ReaderSpec("NAME", "movie", (".tif", ".NAME"), "NAME.model:Same")

@hookimpl
"""
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
    "licence in words": (
        "licence",
        {"pyproject": ('"BSD-3-Clause"', '"MIT License"')},
        "pyproject.toml:10: project.license 'MIT License' is no SPDX expression",
    ),
    "licence that is no text": ("licence", {"pyproject": ('"BSD-3-Clause"', "3")}, "'3' is no SPDX expression"),
    "licence in a file that is not there": (
        "licence",
        {"pyproject": ('"BSD-3-Clause"', '{file = "LICENSE"}')},
        "LICENSE is not there",
    ),
    "licence files that are not there": (
        "licence",
        {"pyproject": ('"BSD-3-Clause"', '"BSD-3-Clause"\nlicense-files = ["LICEN*"]')},
        "LICEN* is not there",
    ),
    "empty licence file": ("licence", {"files": {"LICENSE": "\n"}}, "LICENSE is empty"),
    "whole text for the name of a licence": (
        "described",
        {"plugin": ('licence="BSD-3-Clause"', 'licence="MIT License. " + 50 * "Permission is hereby granted "')},
        "ModelSpec.licence is a text of",
    ),
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
    "nothing is yielded": (
        "contributions",
        {"plugin": ("yield ModelSpec(", "ModelSpec(")},
        "NAME/plugin.py:5: hyped_models gives no record yield ModelSpec(...)",
    ),
    "name of the entry point taken": (
        "names",
        {"pyproject": ("NAME = ", "hyped-bench = ")},
        "hyped-bench calls its plugin 'hyped-bench' too",
    ),
    "package renamed": (
        "target",
        {"plugin": ('target="NAME.model:Same"', 'target="before.model:Same"')},
        "there is no module before.model did you mean NAME.model?",
    ),
    "suffix taken": (
        "names",
        {"plugin": ("@hookimpl\n", READER)},
        "hyped_readers: movie/NAME: ReaderSpec.suffixes hyped-imaging reads .tif: this reader is not asked for it",
    ),
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
    "hyped-core of the future": (
        "core_requirement",
        {"pyproject": (">=0.1,<0.2", ">=9")},
        "dependencies 'hyped-core>=9' leaves out",
    ),
    "another python": ("core_requirement", {"pyproject": (">=3.11", ">=3.99")}, "project.requires-python"),
    "no entry point": (
        "entry_point",
        {"pyproject": ('[project.entry-points.hyped]\nNAME = "NAME.plugin"\n', "")},
        'nothing is found [project.entry-points.hyped]\nNAME = "NAME.plugin"',
    ),
    "misspelt group": (
        "entry_point",
        {"pyproject": ("entry-points.hyped", "entry-points.hype")},
        "pyproject.toml:13: project.entry-points.hype HYPED looks for the group 'hyped' alone, not 'hype'",
    ),
    "entry point for a group": (
        "entry_point",
        {"pyproject": ('[project.entry-points.hyped]\nNAME =', "[project.entry-points]\nhyped =")},
        'expected a table [project.entry-points.hyped]\nNAME = "NAME.plugin"',
    ),
    "misspelt module of the entry point": (
        "entry_point",
        {"pyproject": ("NAME.plugin", "NAME.plugins")},
        'pyproject.toml:14: project.entry-points.hyped.NAME there is no module NAME.plugins did you mean NAME = '
        '"NAME.plugin"?',
    ),
    "path for a module": (
        "entry_point",
        {"pyproject": ("NAME.plugin", "src/NAME/plugin.py")},
        'did you mean NAME = "NAME.plugin"?',
    ),
    "name of the distribution for a module": (
        "entry_point",
        {"pyproject": ("NAME.plugin", "my-model.plugin")},
        'there is no module my-model.plugin did you mean NAME = "NAME.plugin"?',
    ),
    "no entry point and no hook": (
        "entry_point",
        {
            "pyproject": ('[project.entry-points.hyped]\nNAME = "NAME.plugin"\n', ""),
            "plugin": ("@hookimpl\ndef hyped_models", "def models"),
        },
        'write a module with a hook (hyped plugins new DIR shows one), and name it:',
    ),
    "misspelt object of the entry point": (
        "entry_point",
        {"pyproject": ("NAME.plugin", "NAME.plugin:plugni")},
        "has no attribute 'plugni' NAME = \"NAME.plugin\"",
    ),
    "version that is none": (
        "metadata",
        {"pyproject": ('"0.1.0"', '"one"')},
        "pyproject.toml:7: project.version 'one' is no version",
    ),
    "name that is none": ("metadata", {"pyproject": ('name = "NAME"', 'name = "NAME!"')}, 'name = "NAME"'),
    "dependencies as text": (
        "metadata",
        {"pyproject": ('["hyped-core>=0.1,<0.2"]', '"hyped-core>=0.1,<0.2"')},
        'project.dependencies is no list of text dependencies = ["hyped-core>=0.1,<0.2"]',
    ),
    "ends the interpreter": (
        "entry_point",
        {"plugin": ("from hyped_core", "__import__('os')._exit(0)\nfrom hyped_core")},
        "NAME/plugin.py:2 its import ends the process (exit code 0) take out what ends it",
    ),
    "exits": (
        "entry_point",
        {"plugin": ("from hyped_core", "raise SystemExit(3)\nfrom hyped_core")},
        "NAME/plugin.py:2 ends the process on import (SystemExit: 3) take it out",
    ),
    "a hook ends the interpreter": (
        "entry_point",
        {"plugin": ("    yield ModelSpec(", "    __import__('os')._exit(3)\n    yield ModelSpec(")},
        "NAME/plugin.py:6 hyped_models ends the process (exit code 3)",
    ),
    "a hook takes arguments": (
        "entry_point",
        {"plugin": ("def hyped_models():", "def hyped_models(config):")},
        "NAME/plugin.py:5 hyped_models takes arguments, and is called without def hyped_models():",
    ),
    "misspelt module of its own": (
        "entry_point",
        {"plugin": ("from hyped_core", "import NAME.modle\nfrom hyped_core")},
        "NAME/plugin.py:2 there is no module NAME.modle did you mean NAME.model?",
    ),
    "its only hook misspelt": (
        "contributions",
        {"plugin": ("def hyped_models", "def hyped_model")},
        "NAME/plugin.py:5 there is no hook 'hyped_model' rename hyped_model to hyped_models",
    ),
    "capitals": (
        "contributions",
        {"plugin": ('name="NAME"', 'name="My Model"')},
        'NAME/plugin.py:7: ModelSpec.name model name must be lower-case letters, digits, \'_\' or \'-\' and '
        'start with a letter name="my-model"',
    ),
    "dot in the name": (
        "contributions",
        {"plugin": ('name="NAME"', 'name="n2v-0.1"')},
        'name="n2v-0-1"',
    ),
    "capitals in a variable": (
        "contributions",
        {"plugin": ('name="NAME"', 'name="NAME".upper()')},
        'name="NAME"',
    ),
    "text for a tuple": (
        "contributions",
        {"plugin": ("seeded=False", 'seeded=False, sources="NAME.model"')},
        'NAME/plugin.py:8: ModelSpec.sources sources is str, expected a tuple of text sources=("NAME.model",)',
    ),
    "text for a tuple of Needs": (
        "contributions",
        {"plugin": ("seeded=False", "seeded=False, needs=__import__('hyped_core').Needs('torch', 'pip install x')")},
        "give ModelSpec.needs.modules as a tuple of text",
    ),
    "unknown field": (
        "contributions",
        {"plugin": ("licence=", "license=")},
        "NAME/plugin.py:8: ModelSpec.license there is no such field did you mean licence?",
    ),
    "missing field": (
        "contributions",
        {"plugin": ('target="NAME.model:Same", ', "")},
        "NAME/plugin.py:6: ModelSpec.target is not given",
    ),
    "dots alone in the target": (
        "contributions",
        {"plugin": ('model:Same"', 'model.Same"')},
        'package.module:Name\' target="NAME.model:Same"',
    ),
    "name of another record": (
        "contributions",
        {
            "plugin": (
                "@hookimpl",
                "@hookimpl\ndef hyped_readers():\n    from hyped_core.spec import ReaderSpec\n"
                "    yield ReaderSpec('ND2', 'movie', ('.nd2',), 'NAME.model:Same')\n\n@hookimpl",
            )
        },
        'NAME/plugin.py:7: hyped_readers raised PluginError: \'ND2\': reader name must be lower-case letters, digits, '
        "'_' or '-' and start with a letter name=\"nd2\"",
    ),
    "no record": (
        "contributions",
        {"plugin": ("yield ModelSpec(", "yield dict(")},
        "NAME/plugin.py:5: hyped_models yielded dict, expected ModelSpec yield ModelSpec(...)",
    ),
    "one name twice": (
        "names",
        {
            "plugin": (
                "    yield ModelSpec(",
                "    yield ModelSpec(name='NAME', task='denoise', target='NAME.model:Same',\n        summary='Again', "
                "config='NAME.model:SameConfig', licence='MIT')\n    yield ModelSpec(",
            )
        },
        "NAME/plugin.py:6, NAME/plugin.py:8: denoise/NAME is announced 2 times",
    ),
    "misspelt class": (
        "target",
        {"plugin": ('model:Same"', 'model:Sama"')},
        "NAME/plugin.py:6: ModelSpec.target: NAME.model:Sama NAME.model has no 'Sama' did you mean NAME.model:Same?",
    ),
    "misspelt module": (
        "target",
        {"plugin": ('NAME.model:Same"', 'NAME.modle:Same"')},
        "there is no module NAME.modle did you mean NAME.model?",
    ),
    "misspelt config": (
        "config",
        {"plugin": ("model:SameConfig", "model:SameConfg")},
        "NAME.model has no 'SameConfg' did you mean NAME.model:SameConfig?",
    ),
    "model's module fails": (
        "target",
        {"model": ("import numpy as np", "import numpy as np\n1 / 0")},
        "NAME/model.py:3 fails on import: ZeroDivisionError",
    ),
    "library that is not installed": (
        "libraries_declared",
        {"model": ("import numpy as np", "import numpy as np\nimport a_library_not_there")},
        "NAME/model.py:3 imports a_library_not_there",
    ),
    "library that is not installed, in a try": (
        "target",
        {"model": ("import numpy as np", "import numpy as np\ntry: import nowhere\nexcept ImportError: raise")},
        "imports nowhere, which is not installed pip install nowhere (the distribution that has nowhere may be called",
    ),
    "constructor with config, spec without": (
        "target",
        {"plugin": (', config="NAME.model:SameConfig"', "")},
        'cannot be called without arguments: missing a required argument: \'config\' def __init__(self), or config=',
    ),
    "target is a module": ("target", {"plugin": ('model:Same"', 'model:np"')}, "a class name a class with denoise"),
    "default of another type": (
        "config",
        {"model": ("offset: float = 0.0", "offset: float = 'none'")},
        "NAME/model.py:8: SameConfig.offset its default is refused by its own type",
    ),
    "misspelt source": (
        "sources",
        {"plugin": ("seeded=False", 'seeded=False, sources=("NAME.modle",)')},
        "did you mean NAME.model?",
    ),
    "expected failures without reasons": (
        "expected_failures",
        {"pyproject": ("[project]\n", '[tool.hyped.expected-failures]\n"denoise/NAME" = "why"\n\n[project]\n')},
        "must map checks to the reasons",
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
    assert said.replace("NAME", static.name) in text.replace("NAME", static.name)
    assert len(records) == 1, text
    assert all(record.where and record.reason and record.mend for record in records), text
    assert "uninstall" not in text


@pytest.mark.parametrize(
    ("pyproject", "said"),
    [(("entry-points.hyped", "entry-points.hype"), "not 'hype'"), (("NAME.plugin", "NAME.plug"), "there is no module")],
)
def test_what_is_wrong_with_the_entry_point_hides_nothing_else(static, pyproject, said):
    found = static(
        pyproject=pyproject,
        plugin=(' licence="BSD-3-Clause",', ""),
        model=("    offset: float = 0.0", "    offset: float"),
        files={"src/NAME/other.py": "import pickle\n"},
    )
    assert bad(found) == {"entry_point", "described", "config", "pickle_use"}
    assert said in found["entry_point"][0].reason


@pytest.mark.parametrize("place", ["python", "."])
def test_a_package_need_not_lie_in_src(static, tmp_path, place):
    folder, name = folders.write_plugin(tmp_path / "source")
    (folder / place).mkdir(exist_ok=True)
    (folder / "src" / name).rename(folder / place / name)
    (folder / "src").rmdir()
    with (folder / "pyproject.toml").open("a") as file:
        file.write('\n[tool.setuptools]\npackage-dir = {"" = "python"}\n')
    package = package_of(str(folder), None)
    assert package.problems == []
    assert [path.parent for path, _ in package.trees.values()] == [(folder / place / name).resolve()] * 3
    assert [spec.name for spec in package.models()] == [name]


def test_every_field_that_cannot_be_taken_is_said_and_the_model_is_looked_at_as_it_was_meant(static):
    found = static(
        plugin=(
            'summary="Frames as they are", licence="BSD-3-Clause", seeded=False',
            'sumary="Frames as they are", role="best", sources="NAME.model", seeded=0',
        ),
        model=("offset: float = 0.0", "offset: float"),
    )
    places = [record.where.rpartition(".")[2] for record in found["contributions"]]
    assert places == ["sumary", "role", "sources", "seeded"]
    assert bad(found) == {"contributions", "described", "config"}
    assert [record.where.rpartition(" ")[2] for record in found["described"]] == ["ModelSpec.licence"]


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ('license = {file = "COPYING.txt"}', {"COPYING.txt": "Do as you like"}),
        ('license = {text = "ours"}', {}),
        ('classifiers = ["License :: OSI Approved :: MIT License"]', {}),
        ('license = "mit AND (Apache-2.0 OR LicenseRef-Ours)"', {"LICENSE": "Do as you like"}),
        ('license = "MIT"\nlicense-files = ["LICENSES/*"]', {"LICENSES/MIT.txt": "Do as you like"}),
        ('license = "MIT"\nlicense-files = []', {"LICENSE": ""}),
        ('dynamic = ["license"]', {}),
    ],
)
def test_a_licence_can_be_said_in_other_ways(static, line, files):
    found = static(pyproject=('license = "BSD-3-Clause"', line), files=files)
    assert bad(found) == set()
    assert found["licence"][0].status == ("skipped" if "dynamic" in line else "passed")


@pytest.mark.parametrize(
    ("package", "model", "noted"),
    [
        ("GPL-3.0-or-later", "MIT", True),
        ("MIT", "CC-BY-4.0", True),
        ("MIT AND (Apache-2.0 OR BSD-3-Clause)", "bsd-3-clause", False),
        ("MIT", "MIT; weights CC-BY-NC-4.0", False),
    ],
)
def test_a_model_of_another_licence_than_its_package_is_noted(static, package, model, noted):
    found = static(
        pyproject=('"BSD-3-Clause"', f'"{package}"'), plugin=('licence="BSD-3-Clause"', f'licence="{model}"')
    )
    assert bad(found) == set()
    said = f"its licence {model} is not that of its package ({package})"
    assert [said in record.reason for record in found["described"]] == [noted]


def test_a_good_model_beside_a_bad_one_is_looked_at(static):
    more = "    yield ModelSpec(name='Second', task='denoise', target='NAME.model.Same', licence='MIT')\n"
    found = static(plugin=("    yield ModelSpec(", f"{more}    yield ModelSpec("), model=("def denoise", "def clean"))
    assert {record.model for record in found["target"]} == {"denoise/second", f"denoise/{static.name}"}
    assert bad(found) == {"contributions", "described", "target"}
    assert len(found["contributions"]) == 2


def test_of_a_model_whose_fields_are_computed_nothing_is_guessed(static):
    found = static(plugin=("seeded=False", "seeded=bool(0), sources='NAME.model'"))
    assert bad(found) == {"contributions"}
    assert found["target"][0].status == "skipped"
    assert "contributions" in found["target"][0].reason


def test_what_a_misspelt_hook_announces_is_looked_at(static):
    found = static(plugin=("def hyped_models", "def hyped_model"), model=("offset: float = 0.0", "offset: float"))
    assert bad(found) == {"contributions", "config"}


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
        ("import time; time.sleep(0.4)", "import_time", "0.3 s"),
    ],
)
def test_a_plugin_module_has_to_be_light(static, line, check, said):
    found = static(only=MEASURED, plugin=('"""What the package offers."""', line))
    assert bad(found) - {"import_time"} == {check} - {"import_time"}
    assert found[check][0].bad
    assert said in found[check][0].reason


@pytest.mark.parametrize(
    ("took", "best"), [((0.1,), 0.1), ((1.0, 0.2), 0.2), ((0.9, 0.5, 0.7), 0.5), ((2.5, 2.0), 2.0)]
)
def test_an_import_that_was_slow_is_tried_again(monkeypatch, took, best):
    waiting = list(took)
    monkeypatch.setattr(trial, "_try", lambda module, wait: trial.Trial(waiting.pop(0)))
    assert trial.tried.__wrapped__("any", 15.0).seconds == best and waiting == []


def test_a_plugin_that_fails_on_import_is_one_problem(static):
    found = static(
        only=[c.name for c in all_static()],
        plugin=('"""What the package offers."""', "import a_module_that_is_not_there"),
    )
    assert "entry_point" in bad(found)
    assert bad(found) == {"entry_point"}
    assert "a_module_that_is_not_there" in found["entry_point"][0].reason
    assert found["entry_point"][0].where == f"{static.name}/plugin.py:1"
    assert found["names"][0].status == "skipped"
    assert found["import_time"][0].status == "skipped"


def test_what_may_fail_or_never_runs_need_not_be_declared(static):
    text = "try:\n    import hypothesis\nexcept ImportError:\n    hypothesis = None\n"
    text += "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import hypothesis.strategies\n"
    assert bad(static(files={"src/NAME/other.py": text})) == set()


def test_an_extra_or_a_need_declares_a_library(static):
    extra = ("[project.entry", '[project.optional-dependencies]\nmore = ["hypothesis"]\n\n[project.entry')
    assert bad(static(pyproject=extra, files={"src/NAME/other.py": "import hypothesis\n"})) == set()
