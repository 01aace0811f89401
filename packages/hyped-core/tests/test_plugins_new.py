"""``hyped plugins new``: every combination of the template renders to valid files, whole or not at all."""

from __future__ import annotations

import configparser
import io
import itertools
import json
import os
import pty
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
import yaml
from packaging.licenses import canonicalize_license_expression
from packaging.requirements import Requirement

from hyped_core.contracts import PROTOCOLS
from hyped_core.errors import UsageError
from hyped_core.plugins.registry import get_model
from hyped_core.spec import TASKS
from hyped_core.templates.names import check_author, check_distribution, check_model, suggested
from hyped_core.templates.render import CAN_LEARN, CI, LICENCES, Choice, rendered, write_plugin
from hyped_core.testing import isolated_host, make_distribution

REPOSITORY = Path(__file__).resolve().parents[3]
VARIANTS = [(task, learns) for task in TASKS for learns in ((False, True) if task in CAN_LEARN else (False,))]
COMBINATIONS = list(itertools.product(VARIANTS, LICENCES, CI))


def choice(task: str = "track", **changes) -> Choice:
    given = {"distribution": "my-model", "task": task, "model": "my_model", "author": "A. Name", "year": 2026}
    return Choice(**{**given, **changes})


def new(*arguments: str, cwd: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """``hyped plugins new`` as it is typed, without a terminal."""
    command = [sys.executable, "-m", "hyped_core.cli.main", "plugins", "new", *arguments]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **changes}, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(("variant", "licence", "ci"), COMBINATIONS)
def test_every_combination_gives_valid_files(variant: tuple[str, bool], licence: str, ci: str):
    task, learns = variant
    texts = rendered(choice(task, learns=learns, licence=licence, ci=ci, author='O\'Neil "Q" Müller \\ Lab'))
    assert "@@" not in "".join(texts.values())
    for place, text in texts.items():
        assert text.endswith("\n") and "\t" not in text, place
        if place.endswith(".py"):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                compile(text, place, "exec")
    project = tomllib.loads(texts["pyproject.toml"])["project"]
    assert project["authors"][0]["name"] == 'O\'Neil "Q" Müller \\ Lab'
    assert canonicalize_license_expression(project["license"]) == licence
    needed = {Requirement(line).name for line in project["dependencies"]}
    assert "hyped-core" in needed and not needed & {"hyped-imaging", "hyped-seq", "hyped-bench", "torch", "scanpy"}
    assert project["entry-points"]["hyped"] == {"my-model": "my_model.plugin"}
    citation = yaml.safe_load(texts["CITATION.cff"])
    assert citation["license"] == licence and citation["authors"] == [{"name": project["authors"][0]["name"]}]
    assert citation["version"] == project["version"]
    assert f"Copyright 2026 {citation['authors'][0]['name']}. Licence: {licence} (`LICENSE`)." in texts["README.md"]
    first = {"BSD-3-Clause": "BSD 3-Clause License", "MIT": "MIT License", "Apache-2.0": "Apache License"}[licence]
    assert texts["LICENSE"].lstrip().startswith(first)
    assert (ci == "github") == (".github/workflows/test.yml" in texts)
    if ci == "github":
        steps = yaml.safe_load(texts[".github/workflows/test.yml"])["jobs"]["test"]["steps"]
        typed = [step["run"] for step in steps if "run" in step]
        assert typed == ['python -m pip install -e ".[test]"', "hyped plugins check .", "python -m pytest"]
        assert steps[1]["with"]["python-version"] == "${{ matrix.python }}"


@pytest.mark.parametrize(("task", "learns"), VARIANTS)
def test_what_it_imports_is_what_it_asks_for(task: str, learns: bool):
    import ast

    texts = rendered(choice(task, learns=learns))
    modules = set()
    for place in ("src/my_model/model.py", "src/my_model/plugin.py"):
        for node in ast.walk(ast.parse(texts[place])):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add((node.module or "").partition(".")[0])
    project = tomllib.loads(texts["pyproject.toml"])["project"]
    asked = {Requirement(line).name.replace("-", "_") for line in project["dependencies"]}
    assert asked == modules - set(sys.stdlib_module_names)


@pytest.mark.parametrize(("task", "learns"), VARIANTS)
def test_a_variant_is_found_made_and_lints(task: str, learns: bool, tmp_path: Path):
    folder = tmp_path / ("a" * 60)
    name = folder.name
    write_plugin(folder, choice(task, learns=learns, distribution=name, model=name))
    modules = {p.relative_to(folder / "src").as_posix(): p.read_text() for p in folder.glob("src/*/*.py")}
    points = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]["hyped"]
    make_distribution(tmp_path / "site", name, modules, entry_points=points)
    with isolated_host(tmp_path / "site", strict=True) as host:
        assert [plugin.state for plugin in host.check()] == ["active"]
        model = get_model(task, name, host).create({})
        assert isinstance(model, PROTOCOLS[task])
        assert learns == all(callable(getattr(model, method, None)) for method in ("fit", "save", "load"))
    own = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["ruff"]
    settings = ["--isolated", "--config", f"line-length={own['line-length']}", "--no-cache"]
    chosen = ["--select", ",".join(own["lint"]["select"]), "--ignore", ",".join(own["lint"]["ignore"]),
              "--target-version", own["target-version"], "--config", "src=['src']",
              "--per-file-ignores", "**/tests/**:D", "--per-file-ignores", "**/tests/**:ANN"]
    for verb in (["check", *chosen], ["format", "--check"]):
        command = ["ruff", *verb, *settings, "."]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_apache_licence_is_word_for_word():
    text = " ".join(rendered(choice(licence="Apache-2.0"))["LICENSE"].split())
    assert text.startswith("Apache License Version 2.0, January 2004")
    assert text.endswith("limitations under the License.")
    assert len(re.findall(r"\b[1-9]\. [A-Z][a-z]+", text)) >= 9 and "[name of copyright owner]" in text


def test_bsd_is_the_text_that_hyped_has():
    own = (REPOSITORY / "LICENSE").read_text().splitlines()
    made = rendered(choice(licence="BSD-3-Clause", author="X Y"))["LICENSE"].splitlines()
    assert [(a, b) for a, b in itertools.zip_longest(own, made) if a != b] == [
        ("Copyright (c) 2026, the HYPED developers", "Copyright (c) 2026, X Y")
    ]


def test_the_range_of_the_core_holds_this_version():
    from hyped_core import __version__
    from hyped_core.templates.render import _core_range

    for version, outside in ((__version__, "9.0"), ("0.3.1", "0.4.0"), ("1.4.2", "2.0.0"), ("2.0.0", "3.0.0")):
        specifier = Requirement(_core_range(version)).specifier
        assert version in specifier and outside not in specifier


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("My Model", "my-model"), ("myModel", "my-model"), ("2fast", "model-2fast"), ("a--b", "a-b"), ("-x", "x"),
        ("my.model", "my-model"), ("größe", "gro-e"), ("数", "my-model"), ("torch", "torch-model"),
        ("test", "test-model"), ("json", "json-model"), ("class", "class-model"), ("hyped-core", "hyped-core-model"),
        ("hyped", "hyped-model"), ("x" * 80, "x" * 54),
    ],
)  # fmt: skip
def test_a_name_that_will_not_do_gets_the_closest(name: str, close: str):
    with pytest.raises(UsageError) as raised:
        check_distribution(name)
    assert raised.value.exit_code == 2 and suggested(name) in str(raised.value.mend)
    assert check_distribution(suggested(name)) == suggested(name)
    if name.isascii():
        assert suggested(name) == close


def test_names_of_models_and_authors():
    assert check_model("ab_c-1") == "ab_c-1"
    with pytest.raises(UsageError, match="use 'my_net'"):
        check_model("My Net")
    with pytest.raises(UsageError, match="use 'n2v_0_1'"):
        check_model("n2v-0.1")
    assert check_author("  Ann Ö. ") == "Ann Ö."
    for bad in ("", "  ", "a\nb", "a\x00", "@@year@@"):
        with pytest.raises(UsageError):
            check_author(bad)


def test_learning_without_fit_in_the_contract_is_refused():
    for task in set(TASKS) - set(CAN_LEARN):
        with pytest.raises(UsageError, match="no fit"):
            choice(task, learns=True)


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="something in it"):
        write_plugin(full, choice(distribution="full"))
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path(".."), Path(".")):
        with pytest.raises(UsageError):
            write_plugin(place, choice())
    empty = tmp_path / "empty"
    empty.mkdir()
    assert len(write_plugin(empty, choice())) == 10
    written = Path.write_text

    def failing(self: Path, *args, **kwargs):
        if self.name == "plugin.py":
            raise OSError(28, "No space left on device")
        return written(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(OSError):
        write_plugin(tmp_path / "broken", choice())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "full"]
    assert [p.name for p in full.iterdir()] == ["mine.txt"]


def test_the_command_writes_says_what_and_what_next(tmp_path: Path):
    dry = new("my-model", "--task", "expression", "--dry-run", cwd=tmp_path)
    assert dry.returncode == 0 and not list(tmp_path.iterdir())
    done = new("my-model", "--task", "expression", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = sorted(p.relative_to(tmp_path).as_posix() for p in (tmp_path / "my-model").rglob("*") if p.is_file())
    assert sorted(done.stdout.split()) == files == sorted(dry.stdout.split())
    assert done.stderr.splitlines()[-4:] == [
        "next:", "  pip install -e my-model", "  hyped plugins check my-model",
        "  hyped bench run --plugin my-model --task expression --smoke",
    ]  # fmt: skip
    again = new("my-model", "--task", "expression", cwd=tmp_path)
    assert again.returncode == 2 and "nothing is ever overwritten" in again.stderr


def test_without_a_terminal_nothing_is_asked(tmp_path: Path):
    done = new("my-model", cwd=tmp_path)
    assert done.returncode == 2 and "which task?" in done.stderr and "demultiplex" in done.stderr
    assert not list(tmp_path.iterdir())
    wrong = new("My Model", "--task", "track", cwd=tmp_path)
    assert wrong.returncode == 2 and "use 'my-model'" in wrong.stderr and not list(tmp_path.iterdir())


def test_a_name_that_another_has_is_warned_of(tmp_path: Path):
    code = (
        "from hyped_core import ModelSpec, hookimpl\n\n\n@hookimpl\ndef hyped_models():\n"
        "    yield ModelSpec('near', 'track', 'other.plugin:Nothing')\n"
    )
    make_distribution(tmp_path / "site", "other", {"other/plugin.py": code, "other/__init__.py": ""})
    done = new("mine", "--task", "track", "--name", "near", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0
    assert "track/near is the name of a model of other" in done.stderr
    other = new("mine2", "--task", "segment", "--name", "near", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert other.returncode == 0 and "warning" not in other.stderr
    assert "each is only found as DISTRIBUTION:near" in done.stderr


def test_a_name_of_hypeds_own_stays_with_it(tmp_path: Path):
    pytest.importorskip("hyped_bench")
    done = new("mine", "--task", "expression", "--name", "additive", "--dry-run", cwd=tmp_path)
    assert "the bare name stays with hyped-bench, and this one is asked for as mine:additive" in done.stderr
    assert "DISTRIBUTION" not in done.stderr


def test_on_a_terminal_what_is_left_out_is_asked(tmp_path: Path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "hyped_core.cli.main", "plugins", "new", "my-net", "--licence", "MIT"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "TERM": "dumb"}) as process:
        os.close(theirs)
        os.write(ours, b"embedding\n\nAnn Author\nnone\ny\n")
        said = io.BytesIO()
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other end is closed: this is how a terminal says that it is over
                break
            if not piece:
                break
            said.write(piece)
        assert process.stdout is not None
        printed = process.stdout.read()
    os.close(ours)
    talk = said.getvalue().decode()
    assert process.returncode == 0, talk
    assert all(question in talk for question in ("Task", "Name of the model", "Author", "learn"))
    assert "Licence" not in talk
    assert "my-net/src/my_net/model.py" in printed.split() and ".github" not in printed
    text = (tmp_path / "my-net" / "src" / "my_net" / "plugin.py").read_text()
    assert 'name="my_net"' in text and 'task="embedding"' in text and "def fit" in (
        tmp_path / "my-net" / "src" / "my_net" / "model.py").read_text()
    assert "Copyright (c)" in (licence := (tmp_path / "my-net" / "LICENSE").read_text()) and "Ann Author" in licence


def test_the_templates_are_in_the_wheel(tmp_path: Path):
    """What hatchling would put into the wheel, without building it: every data file, under the package."""
    from hatchling.builders.wheel import WheelBuilder

    core = REPOSITORY / "packages" / "hyped-core"
    inside = {Path(item.distribution_path).as_posix() for item in WheelBuilder(str(core)).recurse_included_files()}
    source = core / "src"
    wanted = {p.relative_to(source).as_posix() for p in (source / "hyped_core/templates").rglob("*.tmpl")}
    assert len(wanted) >= 28 and wanted <= inside


def test_entry_points_parse_as_an_installer_reads_them(tmp_path: Path):
    project = tomllib.loads(rendered(choice())["pyproject.toml"])["project"]
    parser = configparser.ConfigParser()
    parser.read_dict({"hyped": project["entry-points"]["hyped"]})
    assert json.dumps(dict(parser["hyped"])) == '{"my-model": "my_model.plugin"}'
