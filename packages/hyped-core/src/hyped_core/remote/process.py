"""One worker process: started, fed, watched (time, memory, crashes) and ended, whatever it does."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hyped_core import errors
from hyped_core.blame import place_in_dump, without_dumps
from hyped_core.errors import HypedError, MissingHardwareError, ParamsError, PluginError, Problem, ValidationError
from hyped_core.plugins.streams import printed_note
from hyped_core.remote.exchange import line
from hyped_core.remote.locks import in_use
from hyped_core.remote.memory import is_watched
from hyped_core.remote.watched import WatchedProcess

PROTOCOL = 2
LOOK_S = 0.05
"""Seconds between two looks at the memory of the process and its children."""
STDERR_LINES = 20
"""Lines of stderr that are told to say why a process died."""
_DUMP_LINES = 110
"""Lines that are kept beside them: stacks that `faulthandler` writes have up to a hundred frames."""
LONGER = "raise --time-limit, runners/<model>/seconds or HYPED_MODEL_SECONDS, or give it less to do"
"""What to do about a model that took too long."""
MOST_PROCESSES = 1000
"""A model with more at once multiplies without end, and is ended before the machine is."""
_PATHS = ("PYTHONPATH", "HYPED_PLUGIN_FOLDERS", "HYPED_CACHE")
"""Variables whose relative paths are made absolute: the worker works in another folder."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Where and how a model of its own process runs.

    Attributes
    ----------
    python : the interpreter, of an environment that has hyped-core.
    seconds : how long the process may work for one model, start and exchange included; None for no limit.
    memory_gb : main memory (10**9 bytes resident) of the process and its children together; None for no limit.
    env : environment variables beside the host's.
    requirements : in place of ``python``: what to install, in pip's words, into an environment that HYPED makes
        (`hyped_core.remote.environments`).
    runner : ``process``, or ``here`` for a model that is to run in the host's own process.
    """

    python: str = sys.executable
    seconds: float | None = None
    memory_gb: float | None = None
    env: dict[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    runner: Literal["process", "here"] = "process"

    def __post_init__(self) -> None:
        if self.requirements and self.python != sys.executable:
            raise ParamsError(
                "python and requirements exclude each other",
                where="a runner",
                mend="name the interpreter of an environment that is there, or what to install into a new one",
            )


class RemoteError(PluginError):
    """The model's own error, with the frames of its traceback over there."""

    def __init__(self, message: str, *, frames: list[str], where: object = None, mend: str | None = None) -> None:
        super().__init__(message, where=where, mend=mend)
        self.frames = frames


class WorkerProcess:
    """A running worker. Used as a context manager: at the end, and on an interrupt, nothing of it is left."""

    def __init__(self, runner: Runner, who: str, *, relay: Callable[[str], None] | None = None) -> None:
        self.runner = runner
        self.who = who
        self.peak_memory_mb = 0.0
        self.peak_gpu_memory_mb: float | None = None
        self.spent_s = 0.0
        self._printed = 0
        self._relay = relay or _to_stderr
        if runner.memory_gb is not None and not is_watched():
            _warn_unwatched()
        python = runner.python
        if os.sep in python:
            python = str(Path(python).expanduser().absolute())  # links stay: they say which environment it is
        with contextlib.ExitStack() as held:
            held.enter_context(in_use(python))
            self._process = self._start(python, self._relay)
            held.callback(self._process.close)
            self.folder = self._process.folder
            self._held = held.pop_all()
        try:
            hello = self._wait(lambda message: None)
            if hello.get("hello") != PROTOCOL:
                raise PluginError(
                    f"its hyped-core speaks another protocol ({hello.get('hello')}, here {PROTOCOL})",
                    where=who,
                    mend=f"{runner.python} -m pip install --upgrade hyped-core",
                )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def _start(self, python: str, relay: Callable[[str], None]) -> WatchedProcess:
        variables = dict(os.environ)
        if Path(python) != Path(sys.executable):
            for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"):
                variables.pop(name, None)
        variables |= {name: str(value) for name, value in self.runner.env.items()}
        for name in _PATHS:
            if variables.get(name):
                parts = [part for part in variables[name].split(os.pathsep) if part]
                variables[name] = os.pathsep.join(str(Path(p).absolute()) for p in parts)
        folder = Path(tempfile.mkdtemp(prefix="hyped-remote-"))
        command = [python, "-m", "hyped_core.remote.worker", str(folder)]
        try:
            return WatchedProcess(command, folder, tail=STDERR_LINES + _DUMP_LINES, variables=variables, relay=relay)
        except OSError as error:
            raise PluginError(
                f"the interpreter {self.runner.python} cannot be started: {error.strerror}",
                where=self.who,
                mend="runners/<model>/python names the Python of the model's environment",
            ) from error

    def ask(self, request: dict[str, Any], on_progress: Callable[[dict[str, Any]], None]) -> Any:
        """Send a request and wait for its result.

        Raises
        ------
        HypedError
            What the model or the other side raised: a `HypedError` as the nearest of its classes that is HYPED's own,
            any other as `RemoteError`; ``frames`` are those of its traceback over there.
        PluginError
            The process died, or took longer than it may.
        MissingHardwareError
            It took more memory than it may.
        """
        self._process.write(line(request))
        reply = self._wait(on_progress)
        self.peak_memory_mb = max(self.peak_memory_mb, reply.get("peak_memory_mb") or 0.0)
        self.peak_gpu_memory_mb = reply.get("peak_gpu_memory_mb") or self.peak_gpu_memory_mb
        if request.get("do") == "call":
            self._printed = reply.get("printed", 0)
        if "error" in reply:
            raise _error_in(reply["error"])
        return reply["ok"]

    def _wait(self, on_progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        started = time.monotonic()
        try:
            while True:
                self._check_limits(self.spent_s + time.monotonic() - started)
                try:
                    text = self._process.read(LOOK_S)
                except EOFError:
                    raise self._died() from None
                if text is None:
                    continue
                try:
                    message = json.loads(text)
                except json.JSONDecodeError as error:
                    raise PluginError("wrote something else than replies", where=self.who) from error
                if not isinstance(message, dict):
                    raise PluginError("wrote something else than replies", where=self.who)
                if "progress" not in message:
                    return message
                on_progress(message)
        except BaseException:
            self.close()
            raise
        finally:
            self.spent_s += time.monotonic() - started

    def _check_limits(self, spent: float) -> None:
        limit = self.runner.seconds
        if limit is not None and spent > limit:
            raise PluginError(
                f"took longer than the {limit:g} seconds it may and was ended",
                where=self.who,
                mend=LONGER,
            )
        bound = float("inf") if self.runner.memory_gb is None else self.runner.memory_gb
        count, used = self._process.look(bound * 1e9 / 2**20)
        if count > MOST_PROCESSES:
            raise PluginError(
                f"had {count} processes at once and was ended", where=self.who, mend="let it start fewer workers"
            )
        self.peak_memory_mb = max(self.peak_memory_mb, used)
        if used * 2**20 > bound * 1e9:
            raise MissingHardwareError(
                f"took {used * 2**20 / 1e9:.1f} GB of memory, more than the {bound:g} GB it may, and was ended",
                where=self.who,
                mend="raise --memory-limit, runners/<model>/memory_gb or HYPED_MODEL_GB, or give it less to do",
            )

    def _died(self) -> HypedError:
        """What to say of a process that closed its pipe; a dump of its stack is on stderr, its place in ``frames``."""
        said, words = self._process.fate(), self._process.last_words()
        if any("No module named 'hyped_core'" in text or "No module named hyped_core" in text for text in words):
            return PluginError(
                f"the environment of {self.runner.python} lacks hyped-core",
                where=self.who,
                mend=f"{self.runner.python} -m pip install hyped-core",
            )
        tail = "".join(f"\n    {text}" for text in without_dumps(words)[-STDERR_LINES:])
        error = PluginError(f"{said}; the last it wrote:{tail or ' nothing'}", where=self.who)
        if place := place_in_dump(words):
            error.__dict__["frames"] = [place]
        return error

    def close(self) -> None:
        """End the process and its children, and remove what was exchanged."""
        self._held.close()
        if note := printed_note(self.who, self._printed):
            self._printed = 0
            with contextlib.suppress(ValueError, OSError):
                self._relay(f"{note}\n")


@functools.cache
def _warn_unwatched() -> None:
    """Say once that a limit is not held."""
    warnings.warn(
        "this system has no /proc: limits of memory (--memory-limit, memory_gb) are not held here, and processes that "
        "a model detaches are not found",
        RuntimeWarning,
        stacklevel=2,
    )


def _to_stderr(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text)


def _error_in(said: dict[str, Any]) -> HypedError:
    """The error that the other side told of; ``place`` is the author's own line in it."""
    fields = {"where": said.get("where"), "mend": said.get("mend")}
    error: HypedError = RemoteError(said["message"], frames=said["frames"], **fields)
    for name in said.get("kinds", ()):  # from the error's own class upwards
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, HypedError):
            error = kind.__new__(kind)
            HypedError.__init__(error, said["message"], **fields)
            if isinstance(error, ValidationError):
                error.problems = tuple(Problem(*problem) for problem in said.get("problems", ()))
            break
    error.__dict__.update(frames=said["frames"], place=said.get("place", ""))
    return error
