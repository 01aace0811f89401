"""One child process that looks at a plugin or a config: started, watched (time, memory) and ended, whatever it does."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import deque
from importlib.metadata import EntryPoint
from typing import Any, Literal

from hyped_core.plugins.probe import MEMORY_VARIABLE, SECONDS_VARIABLE, Limits, Verdict
from hyped_core.plugins.probe_strays import MARK
from hyped_core.plugins.record import PROBING_VARIABLE, plain
from hyped_core.remote.memory import Family, way_of

STDIN = b"\n\n"
"""What a plugin that reads stdin finds; that it did is seen by how far it came."""
END_S = 3.0
"""Seconds the interpreter may take to end after the plugin was asked everything."""
MEMORY_LOOK_S = 0.1
MOST_PROCESSES = 100
_TAIL = 4000
_CODE = (
    "import json, sys; given = json.loads(sys.argv[1]); sys.path[:] = given['path']; "
    "from hyped_core.plugins.probe_child import main; main(given)"
)


class Child:
    """A running look. `look` gives the verdict once there is one; `end` leaves nothing of it running.

    The job ``plugin`` imports an entry point and asks all hooks; ``config`` imports a model's config, and `found` then
    is what there is to show of it.
    """

    def __init__(self, point: EntryPoint, limits: Limits, job: Literal["plugin", "config"] = "plugin") -> None:
        self.found: dict[str, Any] | None = None
        self._limits = limits
        self._started = time.monotonic()
        self._memory_due = 0.0
        self._reported: float | None = None
        self._reports: list[dict[str, Any]] = []
        self._text = b""
        self._tail: deque[bytes] = deque(maxlen=8)
        self._wrote_stdout = False
        self._stdin = tempfile.TemporaryFile()
        self._stdin.write(STDIN)
        self._stdin.seek(0)
        mark = uuid.uuid4().hex
        self._report, report = os.pipe()
        try:
            given = {"job": job, "path": sys.path, "name": point.name, "value": point.value, "report": report}
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CODE, json.dumps(given, default=str)],
                stdin=self._stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(report,),
                env={**os.environ, PROBING_VARIABLE: point.name, "PYTHONFAULTHANDLER": "1", MARK: mark},
                start_new_session=True,
            )
        except BaseException:
            os.close(self._report)
            self._stdin.close()
            raise
        finally:
            os.close(report)
        self._family = Family(self._process.pid, f"{MARK}={mark}")
        assert self._process.stdout is not None and self._process.stderr is not None
        self._pipes = (self._report, self._process.stdout.fileno(), self._process.stderr.fileno())
        for pipe in self._pipes:
            os.set_blocking(pipe, False)

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started

    def look(self) -> Verdict | None:
        """Take in what came; the verdict where it is settled, else None."""
        code = self._process.poll()
        self._take()
        if len(self._reports) > 1:
            return self._harm("forks the interpreter: two processes would go on")
        if self._reports and self._reports[0].get("harm"):
            first = self._reports[0]
            return self._harm(str(first["harm"]), str(first.get("place", "load")), str(first.get("trace", "")))
        if self._reports and isinstance(found := self._reports[0].get("found"), dict):
            self.found = found
            return Verdict()
        now = time.monotonic()
        if code is not None:
            return self._ended(code)
        if self._reported is not None and now - self._reported > END_S:
            return self._harm(f"keeps the interpreter from ending (for more than {END_S:g} s)")
        if now - self._started > self._limits.seconds:
            return self._harm(
                f"hangs: import and hooks take longer than {self._limits.seconds:g} s "
                f"(where it needs more: {SECONDS_VARIABLE}=60)"
            )
        if now >= self._memory_due:
            self._memory_due = now + MEMORY_LOOK_S
            count, used = self._family.look()
            if count > MOST_PROCESSES:
                return self._harm(f"starts more than {MOST_PROCESSES} processes")
            if used * 2**20 > self._limits.memory_gb * 1e9:
                return self._harm(
                    f"takes more than {self._limits.memory_gb:g} GB of memory when it is imported or asked "
                    f"(where it needs more: {MEMORY_VARIABLE}=8)"
                )
        return None

    def _ended(self, code: int) -> Verdict:
        if not self._reports:
            return self._harm(f"ends the interpreter ({way_of(code)}) when it is imported or asked")
        if code != 0:
            return self._harm(f"makes the interpreter end badly ({way_of(code)})")
        if os.lseek(self._stdin.fileno(), 0, os.SEEK_CUR) > 0:
            return self._harm("reads stdin, which belongs to the command")
        if self._leaves_processes():
            return self._harm("leaves a process running")
        return Verdict(writes_stdout=self._wrote_stdout)

    def _harm(self, said: str, place: str = "load", trace: str = "") -> Verdict:
        last = b"".join(self._tail)[-_TAIL:].decode(errors="replace")
        return Verdict(harm=plain(said), place=place, trace=trace or last)

    def _take(self) -> None:
        """Read what the pipes hold, without waiting."""
        report, stdout, stderr = self._pipes
        for _ in range(64):
            came = [_some(report), _some(stdout), _some(stderr)]
            self._text += came[0]
            self._wrote_stdout = self._wrote_stdout or bool(came[1])
            if came[2]:
                self._tail.append(came[2][-_TAIL:])
            if not any(came):
                break
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict):
                    self._reports.append(said)
                    self._reported = self._reported or time.monotonic()

    def _leaves_processes(self) -> bool:
        """Whether processes that the plugin started are still there a moment after the child."""
        for _ in range(10):
            if not self._family.members():
                return False
            time.sleep(0.02)
        return True

    def end(self) -> None:
        """End the child and what it started, and close everything."""
        self._family.kill()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        os.close(self._report)
        self._stdin.close()


def _some(pipe: int) -> bytes:
    try:
        return os.read(pipe, 65536)
    except (BlockingIOError, OSError):
        return b""
