"""A look at strangers' plugins in processes of their own before they are imported here, and what it found, kept.

A plugin that hangs, crashes the interpreter, takes all memory or meddles with it does so in the child
(`hyped_core.plugins.probe_child`) and is never imported in this process. This protects from accidents, not from
malice: a plugin is code that runs with the user's rights.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

from hyped_core.plugins import kept
from hyped_core.plugins.discovery import normal_name, owner_of
from hyped_core.plugins.record import plain

if TYPE_CHECKING:
    from hyped_core.plugins.probe_process import Child

SECONDS_VARIABLE = "HYPED_PROBE_SECONDS"
MEMORY_VARIABLE = "HYPED_PROBE_GB"
SECONDS, MEMORY_GB = 20.0, 2.0
FORMAT = 3
"""Of the verdicts, and of what is looked at: another number and all are looked at again."""
HARM_DAYS = 1.0
"""A verdict of harm is made again after this: a busy machine may have been its cause, or anything else outside it."""
SAID_AFTER_S = 1.0
"""The user is told of looks once they take longer than this."""
SHOWN = 5
AT_ONCE, MOST_AT_ONCE = 4, 12
"""Looks that are started side by side, and those that go on at all."""
YOUNG_S = 1.0
"""A look older than this holds up no other: it waits for something, or hangs."""
LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at a plugin found.

    Attributes
    ----------
    harm : why it is not to be imported in this process; empty where it may be.
    place : ``load``, or the hook at which it happened.
    trace : what it wrote last, for ``hyped plugins list --verbose``.
    writes_stdout : it may be imported, and writes to stdout meanwhile.
    """

    harm: str = ""
    place: str = "load"
    trace: str = ""
    writes_stdout: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a look may take, and how much resident memory (10**9 bytes) with all processes it starts."""

    seconds: float = SECONDS
    memory_gb: float = MEMORY_GB

    @classmethod
    def from_environment(cls) -> Limits:
        """``HYPED_PROBE_SECONDS`` and ``HYPED_PROBE_GB``, where they are positive numbers."""
        return cls(_positive(SECONDS_VARIABLE, SECONDS), _positive(MEMORY_VARIABLE, MEMORY_GB))


def verdicts(points: Sequence[EntryPoint]) -> list[Verdict]:
    """A verdict for each entry point, in order: from the cache, or of a child process each."""
    limits = Limits.from_environment()
    places = [_place(point) for point in points]
    stamps = [fingerprint(point, limits) for point in points]
    found = [_read(place, stamp) for place, stamp in zip(places, stamps)]
    missing = [i for i, verdict in enumerate(found) if verdict is None]
    for i, verdict in zip(missing, look([points[i] for i in missing], limits)):
        found[i] = verdict
        if points[i].value.partition(":")[0].strip() not in sys.modules:  # else what it did here, it does not do there
            kept.write(places[i], stamps[i], asdict(verdict))
    return [verdict for verdict in found if verdict is not None]


def doubt() -> None:
    """Forget each verdict by which a plugin would be imported, so that it is looked at anew before it is."""
    kept.forget(lambda found: isinstance(found, dict) and found.get("harm") == "")


def look(points: Sequence[EntryPoint], limits: Limits) -> list[Verdict]:
    """Import each plugin and ask its hooks in a child process, a few started at once; those that hang do so together.

    On any error or interrupt here, children and what they started are ended first.
    """
    if not points:
        return []
    from hyped_core.plugins.probe_process import Child

    waiting = list(enumerate(points))[::-1]
    running: dict[int, Child] = {}
    found: dict[int, Verdict] = {}
    started, told = time.monotonic(), False
    try:
        while waiting or running:
            while waiting and _is_room(list(running.values())):
                number, point = waiting.pop()
                running[number] = Child(point, limits)
            time.sleep(LOOK_S)
            for number, child in list(running.items()):
                verdict = child.look()
                if verdict is not None:
                    found[number] = verdict
                    running.pop(number).end()
            if not told and time.monotonic() - started > SAID_AFTER_S and sys.stderr is not None:
                told = True
                names = sorted({plain(point.name) for point in points})
                shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(f"note: looking at plugins of others, each in a process of its own: {shown}\n")
                    sys.stderr.flush()
    finally:
        for child in running.values():
            child.end()
    return [found[number] for number in range(len(points))]


def _is_room(running: Sequence[Child]) -> bool:
    """Whether one more look may start."""
    young = sum(child.age_s < YOUNG_S for child in running)
    return len(running) < MOST_AT_ONCE and young < min(AT_ONCE, os.cpu_count() or 1)


def fingerprint(point: EntryPoint, limits: Limits) -> str:
    """What a verdict depends on, as a hash: the state of the plugin's code, its version and the limits."""
    distribution, version = owner_of(point)
    bounds = (limits.seconds, limits.memory_gb)
    beside = kept.code_beside(point.value, point.dist)
    said = (FORMAT, distribution, version, point.name, *bounds, beside)
    return kept.stamp_of(point.value, (point.name, distribution), *said)


def _place(point: EntryPoint) -> Path:
    """The file of a verdict: one for each plugin, interpreter and place it is imported from."""
    return kept.place_of("verdict", normal_name(owner_of(point)[0]), point.name, point.value, _root(point))


def _root(point: EntryPoint) -> str:
    try:
        return str(point.dist.locate_file(""))  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001  damaged metadata: it then shares a place with others of its name
        return ""


def _read(place: Path, stamp: str) -> Verdict | None:
    """The verdict kept for this very state of the plugin, if there is one that can be read and is not too old."""
    try:
        verdict = Verdict(**kept.read(place, stamp))
    except TypeError:
        return None
    texts = (verdict.harm, verdict.place, verdict.trace)
    if not all(isinstance(text, str) for text in texts):
        return None
    return verdict if not verdict.harm or kept.read(place, stamp, HARM_DAYS) is not None else None


def _positive(variable: str, otherwise: float) -> float:
    try:
        value = float(os.environ.get(variable, ""))
    except ValueError:
        return otherwise
    return value if 0 < value < float("inf") else otherwise
