"""Environments that HYPED makes of a list of requirements, once, in its cache: other libraries for one model.

An environment has two parts. The libraries (pip's work, minutes) belong to the requirements; a layer over them (copies,
a second) holds this very hyped-core and the plugin's package, so that a change of code installs nothing anew.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.io.atomic import scratch_path
from hyped_core.plugins.registry import Provided
from hyped_core.remote.cache import LAYERS, environments_folder, kept_there, thin_out
from hyped_core.remote.layers import Code, code_of, layer_hash, write_layer
from hyped_core.remote.locks import alone, note_use
from hyped_core.remote.making import MARKER, make_libraries, python_of
from hyped_core.remote.process import Runner
from hyped_core.remote.requirements import local_state, requirements_of, settled_lines
from hyped_core.spec import ModelSpec

if TYPE_CHECKING:
    from hyped_core.remote.host import RemoteModel

LAYER_DAYS = 1.0
"""Days after which a layer that nobody uses goes when another is written: it is made again in a second."""


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
    return _is_finished(environments_folder() / _base_hash(_lines(requirements, code_of(spec, distribution))))


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
    configuration; and with copies of this very hyped-core and of all code of the distribution. Two makers at once wait
    for each other. What an interrupted one left is made anew.

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
    MissingFileError
        A requirement names a file of requirements (``-r``, ``-c``) that is not there.
    StorageError
        The cache folder cannot be written to.
    """
    tell = say or _to_stderr
    code = code_of(spec, distribution)
    lines = _lines(requirements, code)
    folder = environments_folder() / _base_hash(lines)
    who = spec.key if spec is not None else "a model"
    with kept_there(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder.with_suffix(".lock"), lambda: tell(f"waiting for another process that makes {folder}")):
            if not _is_finished(folder):
                make_libraries(folder, list(requirements), lines, who, tell)
            layer = folder / LAYERS / layer_hash(code)
            note_use(layer)
            if not layer.is_dir():
                with scratch_path(layer) as temporary:
                    write_layer(temporary, code, _packages(folder))
                    temporary.rename(layer)
                thin_out(folder, LAYER_DAYS)
    return python_of(layer)


def core_requirements() -> list[str]:
    """What hyped-core needs without extras, as its metadata says."""
    try:
        return requirements_of(metadata.distribution("hyped-core"))
    except metadata.PackageNotFoundError:
        return []


def _lines(requirements: Sequence[str], code: Code) -> list[str]:
    """All that pip is to install, as lines of a requirements file."""
    return [*settled_lines(requirements), *core_requirements(), *code.requirements]


def _base_hash(lines: Sequence[str]) -> str:
    """What decides the libraries: the requirements, in whatever order, and the Python they are for."""
    told = [*sorted({line.strip() for line in lines}), sys.version, getattr(sys, "_base_executable", sys.executable)]
    told += local_state(lines)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _is_finished(folder: Path) -> bool:
    return (folder / MARKER).is_file() and python_of(folder).exists()


def _packages(folder: Path) -> Path:
    """Where the libraries of a virtual environment are."""
    import sysconfig

    base = {"base": str(folder), "platbase": str(folder)}
    return Path(sysconfig.get_path("purelib", "venv", vars=base))


def _to_stderr(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
