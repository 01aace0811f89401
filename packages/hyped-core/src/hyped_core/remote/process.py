"""One worker process: started, fed, watched (time, memory, crashes) and ended, whatever it does."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hyped_core import errors
from hyped_core.errors import HypedError, MissingHardwareError, ParamsError, PluginError
from hyped_core.remote.exchange import line
from hyped_core.remote.memory import Family, signal_name

PROTOCOL = 1
LOOK_S = 0.05
"""Seconds between two looks at the memory of the process and its children."""
REST = 4
"""Times as long as a look took there is none: where thousands of processes run, a look takes long."""
STDERR_LINES = 20
"""Lines of stderr that are kept to say why a process died."""
MOST_PROCESSES = 1000
"""A model with more at once multiplies without end, and is ended before the machine is."""
_MARK = "HYPED_WORKER"
"""Variable by which what came of a worker is known, wherever it went."""
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
        self._closed = False
        self._look_due = 0.0
        self._relay = relay or (lambda text: None if sys.stderr is None else sys.stderr.write(text))
        self._tail: deque[str] = deque(maxlen=STDERR_LINES)
        self._replies: queue.Queue[bytes | None] = queue.Queue()
        self.folder = Path(tempfile.mkdtemp(prefix="hyped-remote-"))
        self._mark = uuid.uuid4().hex
        try:
            self._process = self._start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self._family = Family(self._process.pid, f"{_MARK}={self._mark}")
        self._threads = [
            threading.Thread(target=self._read_replies, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
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

    def _start(self) -> subprocess.Popen[bytes]:
        """The process, in an empty folder of its own: what a model writes or deletes around it is not the user's."""
        python = self.runner.python
        if os.sep in python:
            python = str(Path(python).expanduser().absolute())  # links stay: they say which environment it is
        variables = dict(os.environ)
        if Path(python) != Path(sys.executable):
            for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"):
                variables.pop(name, None)
        variables |= {name: str(value) for name, value in self.runner.env.items()} | {_MARK: self._mark}
        for name in _PATHS:
            if variables.get(name):
                parts = [part for part in variables[name].split(os.pathsep) if part]
                variables[name] = os.pathsep.join(str(Path(p).absolute()) for p in parts)
        place = self.folder / "work"
        place.mkdir()
        try:
            return subprocess.Popen(
                [python, "-m", "hyped_core.remote.worker", str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=place,
                env=variables,
                start_new_session=True,
            )
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
            What the model or the other side raised: a `HypedError` as itself, any other as `RemoteError`.
        PluginError
            The process died, or took longer than it may.
        MissingHardwareError
            It took more memory than it may.
        """
        threading.Thread(target=self._send, args=(line(request),), daemon=True).start()
        reply = self._wait(on_progress)
        self.peak_memory_mb = max(self.peak_memory_mb, reply.get("peak_memory_mb") or 0.0)
        self.peak_gpu_memory_mb = reply.get("peak_gpu_memory_mb") or self.peak_gpu_memory_mb
        if "error" in reply:
            raise _error_in(reply["error"])
        return reply["ok"]

    def _send(self, text: bytes) -> None:
        """Write a request; apart from the waiting, since a process that reads nothing holds up who writes."""
        assert self._process.stdin is not None
        with contextlib.suppress(ValueError, OSError):  # it is gone: waiting says how
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _wait(self, on_progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        started = time.monotonic()
        try:
            while True:
                self._check_limits(self.spent_s + time.monotonic() - started)
                try:
                    text = self._replies.get(timeout=LOOK_S)
                except queue.Empty:
                    if self._process.poll() is None:
                        continue
                    text = self._last_reply()  # its children may hold the pipe open
                if text is None:
                    raise self._died()
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

    def _last_reply(self) -> bytes | None:
        try:
            return self._replies.get(timeout=0.5)
        except queue.Empty:
            return None

    def _check_limits(self, spent: float) -> None:
        limit = self.runner.seconds
        if limit is not None and spent > limit:
            raise PluginError(
                f"took longer than the {limit:g} seconds it may and was ended",
                where=self.who,
                mend="raise --time-limit or runners/<model>/seconds, or give it less to do",
            )
        now = time.monotonic()
        if now < self._look_due:
            return
        count, used = self._family.look()
        self._look_due = now + (1 + REST) * (time.monotonic() - now)
        if count > MOST_PROCESSES:
            raise PluginError(
                f"had {count} processes at once and was ended", where=self.who, mend="let it start fewer workers"
            )
        bound = self.runner.memory_gb
        if bound is not None and used * 2**20 > bound * 1e9:
            used = self._family.memory_mb() if count > 1 else used
            if used * 2**20 > bound * 1e9:
                self.peak_memory_mb = max(self.peak_memory_mb, used)
                raise MissingHardwareError(
                    f"took {used * 2**20 / 1e9:.1f} GB of memory, more than the {bound:g} GB it may, and was ended",
                    where=self.who,
                    mend="raise --memory-limit or runners/<model>/memory_gb, or give it less to do",
                )
        self.peak_memory_mb = max(self.peak_memory_mb, used)

    def _died(self) -> HypedError:
        """What to say of a process that closed its pipe."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = None
        self._threads[1].join(timeout=1)
        tail = "".join(f"\n    {text}" for text in self._tail)
        if any("No module named 'hyped_core'" in text or "No module named hyped_core" in text for text in self._tail):
            return PluginError(
                f"the environment of {self.runner.python} lacks hyped-core",
                where=self.who,
                mend=f"{self.runner.python} -m pip install hyped-core",
            )
        said = "closed its connection to HYPED" if code is None else f"ended with exit code {code}"
        if code is not None and code < 0:
            name = signal_name(code)
            said = f"was killed by signal {name}"
            if name == "SIGKILL":
                said += " (the system does so when memory runs out)"
        return PluginError(f"its process {said}; the last it wrote:{tail or ' nothing'}", where=self.who)

    def _read_replies(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self._replies.put(text)
        self._replies.put(None)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            text = raw.decode(errors="replace")
            self._tail.append(text.rstrip("\n"))
            with contextlib.suppress(ValueError, OSError):  # stderr may be closed at the end of the host
                self._relay(text)

    def close(self) -> None:
        """End the process and its children, and remove what was exchanged."""
        if self._closed:
            return
        self._closed = True
        self._family.kill()  # children may outlive the process
        self._process.wait()
        for thread in self._threads:
            thread.join(timeout=1)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _error_in(said: dict[str, Any]) -> HypedError:
    """The error that the other side told of."""
    kind = getattr(errors, said["type"], None) if said["hyped"] else None
    if isinstance(kind, type) and issubclass(kind, HypedError) and kind is not errors.ValidationError:
        return kind(said["message"], where=said.get("where"), mend=said.get("mend"))
    return RemoteError(said["message"], frames=said["frames"], where=said.get("where"), mend=said.get("mend"))
