"""The libraries of an environment: a virtual environment of this Python, filled by pip, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from hyped_core.errors import MissingDependencyError
from hyped_core.io.atomic import remove, write_json

MARKER = "hyped-environment.json"
"""Written last: a folder without it was not finished, and is made anew."""
_TAIL = 12
"""Lines of pip's output that an error shows."""


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_libraries(folder: Path, asked: list[str], lines: list[str], who: str, tell: Callable[[str], None]) -> None:
    """Make them in ``folder``, which is replaced where it was not finished; none is left where this fails.

    Raises
    ------
    MissingDependencyError
        They cannot be had: what pip said last, and what to do.
    """
    remove(folder)
    started = time.monotonic()
    tell(f"making an environment for {who} ({', '.join(asked) or 'hyped-core alone'}); once, this may take minutes")
    try:
        pip, without = _pip(python_of(folder))
        said = _run([sys.executable, "-m", "venv", *without, str(folder)])
        if said is not None:
            raise MissingDependencyError(
                f"Python's venv fails:{said}", where=sys.executable, mend="install venv and ensurepip for this Python"
            )
        listed = folder / "requirements.txt"
        listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
        pip += ["--disable-pip-version-check", "--no-input", "install", "--quiet", "--requirement", str(listed)]
        said = _run(pip)
        if said is not None:
            raise MissingDependencyError(
                f"pip cannot install {', '.join(asked) or 'what hyped-core needs'}; the last it said:{said}",
                where=f"the environment of {who}",
                mend="correct the requirements, or pip's configuration and the network; tried with Python "
                f"{sys.version.partition(' ')[0]}: pip install {_words(lines)}",
            )
        write_json(folder / MARKER, {"requirements": asked, "all": lines, "python": sys.version.partition(" ")[0]})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    tell(f"made {folder} in {time.monotonic() - started:.0f} s; hyped plugins environments lists and removes them")


def _words(lines: list[str]) -> str:
    """Lines of a requirements file as words of a command."""
    return " ".join(line if line.startswith("-") else shlex.quote(line) for line in lines)


def _pip(python: Path) -> tuple[list[str], list[str]]:
    """The pip that works for an environment, and what venv is told: this Python's own where it can, else one inside."""
    from packaging.version import Version

    try:
        if Version(metadata.version("pip")) >= Version("22.3"):  # the first that installs for another interpreter
            return [sys.executable, "-m", "pip", "--python", str(python)], ["--without-pip"]
    except metadata.PackageNotFoundError:
        pass
    return [str(python), "-m", "pip"], []


def _run(command: list[str]) -> str | None:
    """Run a command in a group of its own, ended with this process's work; None, or the last lines where it failed."""
    gone = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    variables = {name: value for name, value in os.environ.items() if name not in gone}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=variables,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode == 0:
        return None
    tail = [text for text in said.decode(errors="replace").splitlines() if text.strip()][-_TAIL:]
    return "".join(f"\n    {text}" for text in tail) or f" nothing (exit code {process.returncode})"
