"""A child process that answers in lines on stdout: started apart, heard, watched and ended with all that came of it."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import shutil
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from hyped_core.remote.memory import Family, signal_name, way_of

REST = 4
"""Times as long as a look took there is none: where thousands of processes run, a look takes long."""
_MODULES = "Extension modules: "
"""How the last line of `faulthandler`'s dump begins, thousands of letters that name no culprit: it is left out."""
_LAST_S = 0.5
"""Seconds for what an ended process wrote last to come through."""
_WAKE_S = 0.2
"""Seconds between two looks of a reader whether anybody still waits: what a child let go may hold a pipe for ever."""


class WatchedProcess:
    """A running child. After `close` nothing of it is left: neither processes nor its folder.

    Parameters
    ----------
    command
        What to start.
    folder
        An empty folder, which is removed at the end. The child works in ``work`` below it: what it writes or deletes
        around it is not the user's.
    tail
        How many lines of its stderr are kept.
    variables
        Its environment; this process's own where None.
    relay
        Given what it writes to stderr.

    Raises
    ------
    OSError
        It cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        tail: int,
        variables: Mapping[str, str] | None = None,
        relay: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder = folder
        self._relay = relay
        self._tail: deque[str] = deque(maxlen=tail)
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._seen, self._look_due = (0, 0.0), 0.0
        self._closed = False
        self._over = threading.Event()
        mark = f"HYPED_CHILD_{uuid.uuid4().hex}"  # a name of its own: children of children keep the marks of all above
        place = folder / "work"
        try:
            place.mkdir()
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=place,
                env={**(os.environ if variables is None else variables), mark: "1"},
                start_new_session=True,
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._family = Family(self._process.pid, f"{mark}=1")
        self._writer: threading.Thread | None = None
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._read_lines, self._read_stderr)]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def write(self, text: bytes, *, last: bool = False) -> None:
        """Write to its stdin, without waiting for who reads nothing; ``last`` closes it."""
        self._writer = threading.Thread(target=self._write, args=(text, last, self._writer), daemon=True)
        self._writer.start()

    def _write(self, text: bytes, last: bool, before: threading.Thread | None) -> None:
        assert self._process.stdin is not None
        if before is not None:
            before.join()
        rest = memoryview(text)
        with contextlib.suppress(ValueError, OSError):  # it is gone: reading says how
            while rest:
                rest = rest[self._process.stdin.write(rest) :]
            if last:
                self._process.stdin.close()

    def read(self, wait: float) -> bytes | None:
        """Its next line; None where none came within ``wait`` seconds.

        Raises
        ------
        EOFError
            There will be none: it ended, or closed its stdout.
        """
        try:
            text = self._lines.get(timeout=wait)
        except queue.Empty:
            if self._process.poll() is None:
                return None
            try:
                text = self._lines.get(timeout=_LAST_S)
            except queue.Empty:  # what it started may hold the pipe open
                text = None
        if text is None:
            raise EOFError
        return text

    def look(self, bound_mb: float = float("inf")) -> tuple[int, float]:
        """How many processes came of it, and their memory in MB.

        Pages that they share count for each of them; once, where there would be more than ``bound_mb``. Where a look
        takes long, the last one holds for a while.
        """
        now = time.monotonic()
        if now >= self._look_due:
            count, used = self._family.look()
            if used > bound_mb and count > 1:
                used = self._family.memory_mb()
            self._seen, self._look_due = (count, used), now + (1 + REST) * (time.monotonic() - now)
        return self._seen

    def fate(self) -> str:
        """How it ended, once `read` said that it did."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "its process closed its connection to HYPED"
        if code >= 0:
            return f"its process ended with {way_of(code)}"
        hint = " (the system does so when memory runs out)" if signal_name(code) == "SIGKILL" else ""
        return f"its process was killed by {way_of(code)}{hint}"

    def last_words(self) -> list[str]:
        """The last lines of its stderr, once it ended."""
        self._threads[1].join(timeout=1)
        return list(self._tail)

    def _read_lines(self) -> None:
        for text in self._lines_of(self._process.stdout):
            self._lines.put(text)
        self._lines.put(None)

    def _read_stderr(self) -> None:
        for raw in self._lines_of(self._process.stderr):
            text = raw.decode(errors="replace")
            if text.startswith(_MODULES):
                continue
            self._tail.append(text.rstrip())
            with contextlib.suppress(ValueError, OSError):  # stderr may be closed at the end of the host
                self._relay(text if text.endswith("\n") else f"{text}\n")  # its last may have no end

    def _lines_of(self, pipe: IO[bytes] | None) -> Iterator[bytes]:
        """Lines until all who could write have closed the pipe, or, once it is over, until it is empty."""
        assert pipe is not None
        ready = select.poll()
        ready.register(pipe)
        parts: list[bytes] = []
        until = float("inf")
        while time.monotonic() < until:
            if not ready.poll(1000 * _WAKE_S):
                if self._over.is_set():
                    break
                continue
            if self._over.is_set() and until == float("inf"):
                until = time.monotonic() + _LAST_S  # who goes on writing is heard no longer
            if not (found := os.read(pipe.fileno(), 65536)):
                break
            *lines, rest = found.split(b"\n")
            for text in lines:
                yield b"".join((*parts, text, b"\n"))
                parts.clear()
            parts.append(rest)
        if any(parts):
            yield b"".join(parts)

    def close(self) -> None:
        """End it and all that came of it, and remove its folder."""
        if self._closed:
            return
        self._closed = True
        self._family.kill()  # children may outlive the process
        self._process.wait()
        self._over.set()
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        for thread, pipe in zip((self._writer, *self._threads), pipes, strict=True):
            if thread is not None:
                thread.join(timeout=1)
            if pipe is not None and not (thread is not None and thread.is_alive()):  # else it waits at that pipe
                with contextlib.suppress(OSError):
                    pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)
