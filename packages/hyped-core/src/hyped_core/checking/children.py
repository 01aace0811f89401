"""Runs checks in child processes: one that hangs, crashes or takes all memory is one failed check, the rest go on."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyped_core.blame import place_in_dump, without_dumps
from hyped_core.checking.child import WHERE_SIGNAL, failed
from hyped_core.checking.records import CheckRecord
from hyped_core.remote.locks import in_use
from hyped_core.remote.memory import machine_memory_gb
from hyped_core.remote.watched import WatchedProcess

LIMIT_S = 20.0
"""Seconds a check may take."""
START_S = 30.0
"""Seconds until a child is ready beyond the limit of its first check: interpreters start slowly on busy machines."""
MEMORY_SHARE = 0.6
"""Share of the machine's memory that all children with their own may take together."""
GATES = ("runs", "entry_point")
"""Where one of these takes its process along, those after it would only do so again."""
TAIL, SHOWN = 150, 6
"""Lines of the child's stderr that are kept to find where it hung or died, and how many of others are shown."""


@dataclass(slots=True)
class Results:
    """What the children of one job told: ``models`` are the specs (as JSON) of a static job."""

    models: list[dict[str, Any]] = field(default_factory=list)


def run_checks(
    job: dict[str, Any],
    who: str,
    *,
    limit: float = LIMIT_S,
    results: Results | None = None,
    abreast: int = 1,
    stop: threading.Event | None = None,
) -> Iterator[CheckRecord]:
    """The records of a job's checks, as they come.

    Parameters
    ----------
    job
        ``kind`` (``static`` or ``behaviour``), ``checks`` (names, in order) and what `child` needs beside.
    who
        The model or distribution that a check which takes its process along is recorded for.
    limit
        Seconds a check may take.
    abreast
        How many jobs share the memory of the machine.
    stop
        Ends it within a moment, once it is set.
    """
    waiting, known = list(job["checks"]), {}
    with in_use(job.get("python") or sys.executable):
        while waiting:
            with _Child({**job, "checks": waiting, "known": known}) as child:
                yield from child.records(limit, results, MEMORY_SHARE / abreast, stop)
            fate = child.fate
            if fate is None:
                return
            check = child.current or waiting[0]
            known = child.known
            known.setdefault("told", {})[check] = check
            yield failed(who, check, child.place or str(job.get("target", "")), fate[0], fate[1], child.spent)
            waiting = waiting[waiting.index(check) + 1 :]
            if check in GATES or not child.ready:
                yield from (CheckRecord(who, name, "skipped", reason=f"see the check {check!r}") for name in waiting)
                return


class _Child:
    """One child process; afterwards ``fate`` says how it went wrong, with what to do, or is None, and ``place`` where.

    ``known`` is what the next one, which goes on where this one ended, has to know of the checks before.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.fate: tuple[str, str] | None = None
        self.place = ""
        self.current = ""
        self.ready = False
        self.spent = 0.0
        self.known: dict[str, Any] = dict(job["known"])
        code = f"import sys; sys.path[:] = {sys.path!r}; from hyped_core.checking.child import main; main()"
        folder = Path(tempfile.mkdtemp(prefix="hyped-check-"))
        variables = {**os.environ, "TMPDIR": str(folder)}  # what it leaves where it is ended goes with the folder
        self._process = WatchedProcess([sys.executable, "-c", code], folder, tail=TAIL, variables=variables)
        self._process.write(json.dumps({**job, "own": str(folder), "host": os.getpid()}).encode() + b"\n", last=True)
        self._slow = "make it end in time on tiny data"
        if job["kind"] == "behaviour":
            self._slow += "; where it does no more than take long, name values that make it quick in ModelSpec.quick, "
            self._slow += "or give it more time with --seconds"

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    def records(
        self, limit: float, results: Results | None, share: float, stop: threading.Event | None
    ) -> Iterator[CheckRecord]:
        """Records until the child has finished or met its fate, or nobody waits for them."""
        since, bound = time.monotonic(), START_S + limit
        most = share * 1000 * (machine_memory_gb() or float("inf"))
        while stop is None or not stop.is_set():
            try:
                text = self._process.read(0.1)
            except EOFError:
                self.spent = time.monotonic() - since
                self.fate = (self._died(), "find what ends the process: nothing that a model does may")
                return
            if text is None:
                self.spent = time.monotonic() - since
                if self.spent > bound:
                    self.place = self._where()
                    self.fate = (f"took longer than {bound:g} s and was ended", self._slow)
                    return
                if (used := self._process.look(most)[1]) > most:
                    self.fate = (f"took {used / 1000:.1f} GB of memory and was ended", "free what is not needed")
                    return
                continue
            message: dict[str, Any] = {}
            with contextlib.suppress(ValueError):  # it went in the middle of a line
                message = json.loads(text)
            if "ready" in message:
                self.ready = True
            elif "start" in message:
                self.current, since, bound = message["start"], time.monotonic(), limit
            elif "record" in message:
                yield CheckRecord.of(message["record"])
            elif "known" in message:
                self.known = message["known"]
            elif "models" in message and results is not None:
                results.models = message["models"]
            elif "finished" in message:
                return

    def _died(self) -> str:
        said, words = self._process.fate(), self._process.last_words()
        self.place = place_in_dump(words)
        tail = " / ".join(without_dumps(words)[-SHOWN:])
        return f"{said}; the last it wrote: {tail[-400:]}" if tail else said

    def _where(self) -> str:
        """The line of the author's that it is at."""
        if not self.ready or not WHERE_SIGNAL:
            return ""  # it may not listen yet
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, WHERE_SIGNAL)
        return place_in_dump(self._process.last_words())
