"""docs/plugins/tutorial.md followed to its end by somebody who has two wheels and nothing else, on a clock."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "plugins" / "tutorial.md"
BLOCK = re.compile(r"(?:^`([^`\n]+)`:\n\n)?^```(\w*)\n(.*?)^```$", re.S | re.M)
LONGEST_S = 30 * 60
"""The page promises ten minutes, and the whole way is to be gone within the hour; the reader has to type meanwhile."""
ABSENT = ("torch", "scanpy", "hyped_imaging", "hyped_seq")


@dataclass(frozen=True)
class Step:
    """What the reader does: type ``command``, of which the page shows ``shown``; or write ``text`` into ``path``."""

    command: str = ""
    shown: tuple[str, ...] = ()
    path: str = ""
    text: str = ""


def steps_of(page: str) -> list[Step]:
    """The page as what its reader does, in order; a block that is neither typed nor saved is an error."""
    found = []
    for path, language, text in BLOCK.findall(page):
        if path:
            found.append(Step(path=path, text=text))
            continue
        assert language == "console" and text.startswith("$ "), f"a block that nobody runs:\n{text}"
        for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
            command, *shown = part.rstrip("\n").split("\n")
            found.append(Step(command=command, shown=tuple(shown)))
    return found


def as_shown(printed: str, shown: tuple[str, ...]) -> bool:
    """Whether the output is what the page shows: ``...`` is anything, blanks count once; nothing shown fits all."""
    patterns = []
    for line in shown:
        if line.strip() == "...":
            patterns.append(r"(?:[^\n]*\n)*?")
        else:
            pieces = [re.escape(" ".join(piece.split())) for piece in line.split("...")]
            patterns.append(" ?[^\n]*? ?".join(pieces) + r"\n")
    lines = "".join(" ".join(line.split()) + "\n" for line in printed.splitlines())
    return not shown or re.fullmatch("".join(patterns), lines) is not None


class Reader:
    """Somebody with a shell in an empty folder, a Python, and the wheels where pip looks for packages."""

    def __init__(self, folder: Path, wheels: Path, cache: Path) -> None:
        self.folder = folder
        commands = cache / "bin"
        commands.mkdir(parents=True)
        python = commands / "python"
        base = getattr(sys, "_base_executable", sys.executable)  # not this environment's
        python.write_text(f'#!/bin/sh\nexec "{base}" "$@"\n')
        python.chmod(0o755)
        mine = ("PYTHON", "VIRTUAL_ENV", "HYPED", "PYTEST", "COV_")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(mine)}
        links = " ".join(filter(None, [str(wheels), environment.get("PIP_FIND_LINKS", "")]))
        environment |= {
            "PATH": f"{commands}:/usr/bin:/bin", "HYPED_CACHE": str(cache / "hyped"), "PIP_FIND_LINKS": links,
            "PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "COLUMNS": "200",
        }  # fmt: skip
        self._shell = subprocess.Popen(["/bin/bash", "--norc"], cwd=folder, env=environment, text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def types(self, command: str) -> tuple[int, str]:
        """Exit code and what was printed."""
        assert self._shell.stdin is not None and self._shell.stdout is not None
        self._shell.stdin.write(f"{command} </dev/null\nprintf '\\n<<%s>>\\n' $?\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        for line in self._shell.stdout:
            if end := re.fullmatch(r"<<(\d+)>>\n", line):
                return int(end[1]), "".join(lines)[:-1]
            lines.append(line)
        raise AssertionError(f"the shell ended at {command!r}\n{''.join(lines)}")

    def leaves(self) -> None:
        """Close the shell."""
        assert self._shell.stdin is not None
        self._shell.communicate(timeout=60)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of the core and the bench, built from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    for package in ("hyped-core", "hyped-bench"):
        run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder),
             str(ROOT / "packages" / package)], ROOT)
    return folder


def test_the_page_leads_from_nothing_to_a_scored_plugin(
    wheels: Path, tmp_path: Path, record_property, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "reader"
    folder.mkdir()
    reader = Reader(folder, wheels, tmp_path / "machine")
    clock: list[tuple[float, str]] = []
    try:
        for step in steps_of(PAGE.read_text(encoding="utf-8")):
            if step.path:
                (folder / step.path).write_text(step.text, encoding="utf-8")
                continue
            started = time.monotonic()
            code, printed = reader.types(step.command)
            clock.append((time.monotonic() - started, step.command))
            assert code == 0, f"{step.command}\nexit code {code}\n{printed}"
            assert as_shown(printed, step.shown), f"{step.command}\nprints\n{printed}\nthe page shows\n" + "\n".join(
                step.shown
            )
        for module in ABSENT:
            code, _ = reader.types(f"python -c 'import {module}'")
            assert code != 0, f"{module} can be imported where only the core and the bench were asked for"
        code = "import sys, hyped_core, hyped_bench as b, my_model.mine as m; print(sys.path, hyped_core, b, m)"
        _, places = reader.types(f"python -c '{code}'")
    finally:
        reader.leaves()
    assert str(ROOT) not in places and f"{folder}/env/" in places
    assert f"{folder}/my-model/src/my_model/mine.py" in places
    total = sum(seconds for seconds, _ in clock)
    listing = "\n".join(f"{seconds:7.1f} s  {command[:90]}" for seconds, command in [*clock, (total, "in all")])
    record_property("seconds", {command: round(seconds, 1) for seconds, command in clock})
    with capsys.disabled():
        sys.stderr.write(f"\n{PAGE.relative_to(ROOT)}:\n{listing}\n")
    assert total < LONGEST_S, listing


def test_the_page_shows_what_a_reader_would_see_and_no_more():
    assert as_shown("a  b\nc\n", ("a b", "c")) and not as_shown("a b\nc\nd\n", ("a b", "c"))
    assert as_shown("x\ny\nz\n", ("...", "z")) and as_shown("z\n", ("...", "z")) and not as_shown("zz\n", ("...", "z"))
    assert as_shown("version 1.2 here\n", ("version ... here",)) and as_shown("anything\n", ())
    commands = [step.command for step in steps_of(PAGE.read_text(encoding="utf-8")) if step.command]
    wanted = (
        "pip install hyped-core hyped-bench", "hyped plugins new", 'pip install -e "my-model', "hyped models list",
        "hyped plugins check", "hyped bench run --plugin my-model", "hyped bench run --cells",
    )  # fmt: skip
    places = [next(i for i, command in enumerate(commands) if command.startswith(want)) for want in wanted]
    assert places == sorted(places)
