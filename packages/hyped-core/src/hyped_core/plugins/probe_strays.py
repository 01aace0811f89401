"""Processes that a plugin left behind without the variable by which they are known: the looking child ends them itself.

That they are its children is what tells them (`hyped_core.remote.memory.adopt`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from hyped_core.remote.memory import children

MARK = "HYPED_LOOK"
"""Variable by which the processes that came of a looking child are known, wherever they went."""
_LOOK_S = 0.01


def ended_strays(grace_s: float) -> str:
    """End children without this process's mark that are still there after ``grace_s``; says so where there were."""
    until = time.monotonic() + grace_s
    while strays := _strays():
        if time.monotonic() > until:
            for _ in range(100):  # what they started comes to this process, and is seen the next time
                for pid in strays:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(_LOOK_S)
                for pid in strays:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
                if not (strays := _strays()):
                    break
            return "leaves a process running"
        time.sleep(_LOOK_S)
    return ""


def _strays() -> list[int]:
    mark = f"{MARK}={os.environ.get(MARK, '')}".encode()
    return [pid for pid in children() if mark not in _environment(pid, mark)]


def _environment(pid: int, otherwise: bytes) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return [otherwise]  # it ended meanwhile
