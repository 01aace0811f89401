"""Main memory of a process, measured over a stretch of its work: Linux's high-water mark, which can be set back."""

from __future__ import annotations

import os
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def peak_memory_mb() -> float:
    """The most resident memory since the start, or since `reset_peak`, in MB (2**20 bytes).

    Where there is no ``/proc`` it is the peak since the start of the process.
    """
    if (found := _field("VmHWM")) is not None:
        return found
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def resident_memory_mb() -> float:
    """What is resident now, in MB; `peak_memory_mb` where there is no ``/proc``."""
    found = _field("VmRSS")
    return peak_memory_mb() if found is None else found


def reset_peak() -> bool:
    """Set the high-water mark to what is resident now; False where the system does not offer it."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def group_memory_mb(group: int) -> float:
    """Resident memory of a process group in MB from ``/proc``; 0 where there is none.

    The address space is not looked at: libraries for GPUs reserve far more of it than they ever use.
    """
    total, page = 0, os.sysconf("SC_PAGE_SIZE")
    try:
        entries = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
    except OSError:
        return 0.0
    for name in entries:
        try:
            if os.getpgid(int(name)) == group:
                total += int(Path(f"/proc/{name}/statm").read_text().split()[1]) * page
        except (OSError, IndexError):
            continue  # it ended meanwhile, or is another user's
    return total / 2**20


def _field(name: str) -> float | None:
    try:
        for text in _STATUS.read_text().splitlines():
            if text.startswith(f"{name}:"):
                return int(text.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        pass  # not Linux
    return None
