"""One worker process: started, fed, watched (time, memory, crashes) and ended, whatever it does."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyped_core import errors
from hyped_core.errors import HypedError, MissingHardwareError, PluginError
from hyped_core.remote.exchange import line
from hyped_core.remote.memory import group_memory_mb

PROTOCOL = 1
LOOK_S = 0.05
"""Seconds between two looks at the memory of the process and its children."""
STDERR_LINES = 20
"""Lines of stderr that are kept to say why a process died."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Where and how a model of its own process runs.

    Attributes
    ----------
    python : the interpreter, of an environment that has hyped-core.
    seconds : how long the process may work for one model, start and exchange included; None for no limit.
    memory_gb : main memory (10**9 bytes resident) of the process and its children together; None for no limit.
    env : environment variables beside the host's.
    """

    python: str = sys.executable
    seconds: float | None = None
    memory_gb: float | None = None
    env: dict[str, str] = field(default_factory=dict)


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
        self._relay = relay or (lambda text: None if sys.stderr is None else sys.stderr.write(text))
        self._tail: deque[str] = deque(maxlen=STDERR_LINES)
        self._replies: queue.Queue[bytes | None] = queue.Queue()
        self.folder = Path(tempfile.mkdtemp(prefix="hyped-remote-"))
        try:
            self._process = self._start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
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
        variables = dict(os.environ)
        if Path(self.runner.python) != Path(sys.executable):
            for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"):
                variables.pop(name, None)
        variables |= {name: str(value) for name, value in self.runner.env.items()}
        try:
            return subprocess.Popen(
                [self.runner.python, "-m", "hyped_core.remote.worker", str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
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
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line(request))
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError, OSError):
            pass  # it is gone: waiting says how
        reply = self._wait(on_progress)
        self.peak_memory_mb = max(self.peak_memory_mb, reply.get("peak_memory_mb") or 0.0)
        self.peak_gpu_memory_mb = reply.get("peak_gpu_memory_mb") or self.peak_gpu_memory_mb
        if "error" in reply:
            raise _error_in(reply["error"])
        return reply["ok"]

    def _wait(self, on_progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        started = time.monotonic()
        try:
            while True:
                self._check_limits(self.spent_s + time.monotonic() - started)
                try:
                    text = self._replies.get(timeout=LOOK_S)
                except queue.Empty:
                    continue
                if text is None:
                    raise self._died()
                try:
                    message = json.loads(text)
                except json.JSONDecodeError as error:
                    raise PluginError("wrote something else than replies", where=self.who) from error
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
                mend="raise runners/<model>/seconds, or give it less to do",
            )
        used = group_memory_mb(self._process.pid)
        self.peak_memory_mb = max(self.peak_memory_mb, used)
        bound = self.runner.memory_gb
        if bound is not None and used * 2**20 > bound * 1e9:
            raise MissingHardwareError(
                f"took {used * 2**20 / 1e9:.1f} GB of memory, more than the {bound:g} GB it may, and was ended",
                where=self.who,
                mend="raise runners/<model>/memory_gb, or give it less to do",
            )

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
        said = "stopped answering" if code is None else f"ended with exit code {code}"
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else str(-code)
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
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the group: children may outlive the process
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
