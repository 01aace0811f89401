"""Environments that HYPED makes of a list of requirements, once, in its cache: other libraries for one model.

An environment has two parts. The libraries (pip's work, minutes) belong to the requirements; a layer over them (copies,
a second) holds this very hyped-core and the plugin's package, so that a change of code installs nothing anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.errors import MissingDependencyError, StorageError, UnknownNameError
from hyped_core.io.atomic import remove, scratch_path, write_json
from hyped_core.plugins.probe import CACHE_VARIABLE, cache_folder
from hyped_core.plugins.registry import Provided
from hyped_core.remote.layers import code_of, layer_hash, local_state, requirements_of, write_layer
from hyped_core.remote.process import Runner
from hyped_core.spec import ModelSpec

if TYPE_CHECKING:
    from hyped_core.remote.host import RemoteModel

MARKER = "hyped-environment.json"
"""Written last: a folder without it was not finished, and is made anew."""
_TAIL = 12
"""Lines of pip's output that an error shows."""


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment in the cache.

    Attributes
    ----------
    name : its folder's name, a hash of what it is made of.
    requirements : what it was made for, in pip's words.
    size : bytes on disk.
    finished : False for what an interrupted maker left.
    """

    name: str
    folder: Path
    requirements: tuple[str, ...]
    version: str
    size: int
    finished: bool


def environments_folder() -> Path:
    """Where environments are kept."""
    return cache_folder() / "environments"


def open_model(provided: Provided, runner: Runner | None = None, **more: Any) -> RemoteModel:
    """The model of a spec that asks for an environment of its own, in that environment.

    ``hyped plugins check`` and ``hyped bench run`` open such models here.

    Parameters
    ----------
    provided
        The model as it is registered here.
    runner
        Limits and variables; its ``python`` or ``requirements`` go before what the spec asks for. Without any, and
        where the spec asks for no environment, the model runs under this Python, in a process of its own.
    more
        ``values`` and ``design`` of `hyped_core.remote.host.RemoteModel`.

    Raises
    ------
    MissingDependencyError
        The environment cannot be made.
    HypedError
        The process cannot be started, or refuses the model's parameters.
    """
    from hyped_core.remote.host import RemoteModel

    asked = runner or Runner()
    if not asked.requirements and asked.python == sys.executable:
        asked = replace(asked, requirements=provided.spec.environment)
    return RemoteModel(provided.spec.task, _handle(provided), asked, provided=provided, **more)


def _handle(provided: Provided) -> str:
    return f"{provided.plugin.distribution}:{provided.spec.name}"


def settled(runner: Runner, spec: ModelSpec | None, distribution: str = "") -> Runner:
    """The runner with an interpreter in place of requirements; the environment is made where it is not there."""
    if not runner.requirements:
        return runner
    return replace(runner, python=str(environment_for(runner.requirements, spec, distribution)), requirements=())


def is_made(requirements: Sequence[str], spec: ModelSpec | None = None, distribution: str = "") -> bool:
    """Whether `environment_for` would find its libraries there, and call no pip."""
    lines = [*requirements, *core_requirements(), *code_of(spec, distribution).requirements]
    return _is_finished(environments_folder() / _base_hash(lines))


def environment_for(
    requirements: Sequence[str],
    spec: ModelSpec | None = None,
    distribution: str = "",
    *,
    say: Callable[[str], None] | None = None,
) -> Path:
    """The interpreter of an environment with ``requirements``, made now where it is not there.

    It is a virtual environment of this Python in `environments_folder`, with the requirements, the dependencies of
    hyped-core and of the plugin's distribution (other than HYPED's packages), installed by pip under pip's own
    configuration; and with copies of this very hyped-core and of the packages of ``spec``. Two makers at once wait for
    each other. What an interrupted one left is made anew.

    Parameters
    ----------
    requirements
        In pip's words, as lines of a requirements file.
    spec, distribution
        The model and the distribution it is of; None for hyped-core alone.
    say
        Told what takes long; stderr by default.

    Raises
    ------
    MissingDependencyError
        The environment cannot be made: what pip said last, and what to do.
    StorageError
        The cache folder cannot be written to.
    """
    tell = say or _to_stderr
    code = code_of(spec, distribution)
    lines = [*requirements, *core_requirements(), *code.requirements]
    folder = environments_folder() / _base_hash(lines)
    who = spec.key if spec is not None else "a model"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_suffix(".lock"), lambda: tell(f"waiting for another process that makes {folder}")):
            if not _is_finished(folder):
                _make(folder, list(requirements), lines, who, tell)
            layer = folder / "layers" / layer_hash(code)
            if not layer.is_dir():
                with scratch_path(layer) as temporary:
                    write_layer(temporary, code, _packages(folder))
                    temporary.rename(layer)
    except OSError as error:
        raise StorageError(
            f"an environment cannot be kept there: {error.strerror or error}",
            where=error.filename or folder,
            mend=f"free some space, or set {CACHE_VARIABLE} to a folder on another disk",
        ) from error
    return python_of(layer)


def core_requirements() -> list[str]:
    """What hyped-core needs without extras, as its metadata says."""
    try:
        return requirements_of(metadata.distribution("hyped-core"))
    except metadata.PackageNotFoundError:
        return []


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def environments() -> list[Environment]:
    """Those in the cache, by name."""
    root, found = environments_folder(), []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        said: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            said = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
        asked = tuple(str(line) for line in said.get("requirements", ()))
        found.append(Environment(folder.name, folder, asked, str(said.get("python", "")), size, bool(said)))
    return found


def remove_environment(name: str) -> None:
    """Delete an environment from the cache; a maker that is at work is waited for.

    Raises
    ------
    UnknownNameError
        There is none of this name.
    """
    folder = environments_folder() / name
    if name != Path(name).name or name.startswith(".") or not folder.is_dir():
        known = ", ".join(one.name for one in environments()) or "there is none"
        raise UnknownNameError(f"there is no environment {name!r}", where=environments_folder(), mend=f"known: {known}")
    lock = folder.with_suffix(".lock")
    with _alone(lock, lambda: None):
        remove(folder)
        lock.unlink(missing_ok=True)


def _base_hash(lines: Sequence[str]) -> str:
    """What decides the libraries: the requirements, in whatever order, and the Python they are for."""
    told = [*sorted({line.strip() for line in lines}), sys.version, getattr(sys, "_base_executable", sys.executable)]
    told += [local_state(line) for line in lines]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _is_finished(folder: Path) -> bool:
    return (folder / MARKER).is_file() and python_of(folder).exists()


def _packages(folder: Path) -> Path:
    """Where the libraries of a virtual environment are."""
    import sysconfig

    base = {"base": str(folder), "platbase": str(folder)}
    return Path(sysconfig.get_path("purelib", "venv", vars=base))


def _make(folder: Path, asked: list[str], lines: list[str], who: str, tell: Callable[[str], None]) -> None:
    """The libraries; a folder that was not finished is replaced, and none is left where this fails."""
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
                f"{sys.version.partition(' ')[0]}: pip install {shlex.join(lines)}",
            )
        write_json(folder / MARKER, {"requirements": asked, "all": lines, "python": sys.version.partition(" ")[0]})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    tell(f"made {folder} in {time.monotonic() - started:.0f} s; hyped plugins environments lists and removes them")


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


@contextlib.contextmanager
def _alone(lock: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file that the system lets go of when this process ends, however it does."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    while True:
        with lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(lock, file.fileno()):  # removed while this waited: others hold a new one
                continue
            yield
            return


def _is_at(place: Path, opened: int) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(place.stat(), os.fstat(opened))
    return False


def _to_stderr(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
