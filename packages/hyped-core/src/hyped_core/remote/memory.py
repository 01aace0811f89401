"""Memory of this process over a stretch of its work, and of another with all that came of it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_PR_SET_CHILD_SUBREAPER = 36


def peak_memory_mb() -> float:
    """The most resident memory since the start, or since `reset_peak`, in MB (2**20 bytes).

    Where there is no ``/proc`` it is the peak since the start of the process.
    """
    if (found := _field("VmHWM")) is not None:
        return found
    import resource

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
    """Resident memory of a process group in MB from ``/proc``; 0 where there is none."""
    return Family(group, "").look()[1]


class Family:
    """All processes that came of one: those of its group, those that left it with a variable that they inherited, and
    what descends from them.

    Without a mark the group alone counts. It is looked at through ``/proc``; where there is none, the group
    alone is ended and its memory is 0.
    """

    def __init__(self, group: int, mark: str) -> None:
        self.group = group
        self._mark = mark.encode()
        self._known: dict[tuple[int, str], bool] = {}

    def members(self) -> list[int]:
        """Ids of the processes that run now."""
        seen: dict[tuple[int, str], bool] = {}
        parents: dict[tuple[int, str], int] = {}
        running = set()
        for pid in _processes():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                key = (pid, fields[19])  # with its start: ids are given again
                ours = int(fields[2]) == self.group or self._known.get(key)
                if ours is None and self._mark:
                    ours = self._mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except (OSError, IndexError):
                continue  # it ended meanwhile, or is another user's
            seen[key], parents[key] = bool(ours), int(fields[1])
            if fields[0] not in "ZX":
                running.add(pid)
        found = {pid for (pid, _), ours in seen.items() if ours}
        while self._mark and (more := {key for key, ours in seen.items() if not ours and parents[key] in found}):
            seen |= dict.fromkeys(more, True)
            found |= {pid for pid, _ in more}
        self._known = seen
        return sorted(found & running)

    def look(self) -> tuple[int, float]:
        """How many there are, and the sum of their resident memory in MB: pages that they share count for each.

        The address space is not looked at: libraries for GPUs reserve far more of it than they ever use.
        """
        total, page, members = 0, os.sysconf("SC_PAGE_SIZE"), self.members()
        for pid in members:
            try:
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
            except (OSError, IndexError):
                continue
        return len(members), total / 2**20

    def memory_mb(self) -> float:
        """Their memory together in MB, shared pages counted once; slower than `look`."""
        total = 0
        for pid in self.members():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
            except (OSError, IndexError, StopIteration):
                continue
        return total / 1024

    def kill(self) -> None:
        """End them all, those too that start while this goes on."""
        for _ in range(100):
            rest = self.members()
            if not rest and is_watched():
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.group, signal.SIGKILL)
            for pid in rest:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if not rest:
                return
            time.sleep(0.01)


def adopt() -> None:
    """Become the parent of all that descends from this process, also where those between end; on Linux alone.

    A process with an empty environment in a session of its own is told by its parent alone.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int]:
    """Ids of the processes that this one is the parent of and that have not ended; none where there is no ``/proc``."""
    found = []
    for pid in _processes():
        with contextlib.suppress(OSError, IndexError):  # it ended meanwhile
            state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state not in "ZX":
                found.append(pid)
    return found


def signal_name(code: int) -> str:
    """The name of the signal that a process's (negative) exit code tells of, its number where it has none."""
    return {s.value: s.name for s in signal.Signals}.get(-code, str(-code))


def way_of(code: int) -> str:
    """How a process ended, by its exit code: ``exit code 3`` or ``signal SIGSEGV``."""
    return f"exit code {code}" if code >= 0 else f"signal {signal_name(code)}"


def is_watched() -> bool:
    """Whether this system shows the memory of other processes (``/proc``); elsewhere `Family` sees nothing."""
    return Path("/proc/self/stat").exists()


def machine_memory_gb() -> float | None:
    """Main memory of this machine, or what its control group may have, in 10**9 bytes; None where it cannot be told."""
    found = []
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            found.append(int(Path(place).read_text()))
    return min(found) / 1e9 if found else None


def _processes() -> list[int]:
    try:
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    except OSError:
        return []


def _field(name: str) -> float | None:
    try:
        for text in _STATUS.read_text().splitlines():
            if text.startswith(f"{name}:"):
                return int(text.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        pass  # not Linux
    return None
