"""A look at strangers' plugins in processes of their own before they are imported here, and what it found, kept.

A plugin that hangs, crashes the interpreter, takes all memory or meddles with it does so in the child
(`hyped_core.plugins.probe_child`) and is never imported in this process. This protects from accidents, not from
malice: a plugin is code that runs with the user's rights.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

from hyped_core import __version__
from hyped_core.plugins.discovery import normal_name, owner_of
from hyped_core.plugins.record import plain

if TYPE_CHECKING:
    from hyped_core.plugins.probe_process import Child

CACHE_VARIABLE = "HYPED_CACHE"
SECONDS_VARIABLE = "HYPED_PROBE_SECONDS"
MEMORY_VARIABLE = "HYPED_PROBE_GB"
SECONDS, MEMORY_GB = 20.0, 2.0
FORMAT = 1
"""Of the verdicts, and of what is looked at: another number and all are looked at again."""
SAID_AFTER_S = 1.0
"""The user is told of the first looks once they take longer than this."""
SHOWN = 5
AT_ONCE = 4
LOOK_S = 0.02
KEPT_DAYS = 90


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


def cache_folder() -> Path:
    """Where HYPED keeps what it can make again: ``HYPED_CACHE``, else ``hyped`` in the user's cache folder.

    A user without a home has none: then it is a place that nothing can be written to.
    """
    named = os.environ.get(CACHE_VARIABLE, "").strip()
    root = os.environ.get("XDG_CACHE_HOME", "").strip() or "~/.cache"
    try:
        return Path(named).expanduser().absolute() if named else Path(root).expanduser().absolute() / "hyped"
    except RuntimeError:
        return Path(os.devnull) / "hyped"


def verdicts(points: Sequence[EntryPoint]) -> list[Verdict]:
    """A verdict for each entry point, in order: from the cache, or of a child process each."""
    limits = Limits.from_environment()
    places = [_place(point) for point in points]
    stamps = [fingerprint(point, limits) for point in points]
    found = [_read(place, stamp) for place, stamp in zip(places, stamps)]
    missing = [i for i, verdict in enumerate(found) if verdict is None]
    for i, verdict in zip(missing, look([points[i] for i in missing], limits)):
        found[i] = verdict
        _write(places[i], stamps[i], verdict)
    return [verdict for verdict in found if verdict is not None]


def look(points: Sequence[EntryPoint], limits: Limits) -> list[Verdict]:
    """Import each plugin and ask its hooks in a child process; at most a few children at once.

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
            while waiting and len(running) < min(AT_ONCE, os.cpu_count() or 1):
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
                    sys.stderr.write(f"note: a first look at new plugins, each in a process of its own: {shown}\n")
                    sys.stderr.flush()
    finally:
        for child in running.values():
            child.end()
    return [found[number] for number in range(len(points))]


def fingerprint(point: EntryPoint, limits: Limits) -> str:
    """What a verdict depends on, as a hash: the plugin's files by their stat, the interpreter, what is installed."""
    distribution, version = owner_of(point)
    said = [FORMAT, __version__, sys.executable, sys.version, distribution, version, point.name, point.value]
    said += [limits.seconds, limits.memory_gb, sorted(_files(point)), _installed_stamp()]
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()


def _files(point: EntryPoint) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of every code file of the entry point's top-level package."""
    from hyped_core.plugins.sources import find_module

    try:
        found = find_module(point.value.partition(":")[0].partition(".")[0].strip())
    except Exception:  # noqa: BLE001  a stranger's finder may raise anything; the import will say what is wrong
        return
    if found is None:
        return
    places = [Path(place) for place in found.submodule_search_locations or ()]
    files: Iterable[Path] = (Path(found.origin),) if found.origin and not places else ()
    for place in places:
        files = [*files, *(Path(folder, name) for folder, names in _walk(place) for name in names)]
    for file in files:
        with contextlib.suppress(OSError):
            stat = file.stat()
            yield str(file), stat.st_size, stat.st_mtime_ns


def _walk(place: Path) -> Iterator[tuple[str, list[str]]]:
    for folder, inner, names in os.walk(place):
        inner[:] = [name for name in inner if name != "__pycache__" and not name.startswith(".")]
        yield folder, [name for name in names if name.endswith((".py", ".so", ".pyd", ".dylib"))]


def _installed_stamp() -> list[int]:
    """Times of change of the folders pip installs to: a library that came or went may change what a plugin does."""
    import sysconfig

    stamps = []
    for name in sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")} - {None}):
        with contextlib.suppress(OSError):
            stamps.append(Path(name).stat().st_mtime_ns)
    return stamps


def _place(point: EntryPoint) -> Path:
    """The file of a verdict: one for each plugin, interpreter and place it is imported from."""
    distribution = normal_name(owner_of(point)[0])
    where = json.dumps([sys.executable, point.name, point.value, sorted(_roots(point))])
    mark = hashlib.sha256(where.encode()).hexdigest()[:16]
    safe = "".join(c if c.isalnum() or c in "-." else "_" for c in distribution)[:60]
    return cache_folder() / "plugins" / f"{safe}-{mark}.json"


def _roots(point: EntryPoint) -> Iterator[str]:
    try:
        yield str(point.dist.locate_file(""))  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001  damaged metadata: it then shares a place with others of its name
        return


def forget() -> None:
    """Remove all verdicts, so that every plugin is looked at anew."""
    with contextlib.suppress(OSError):
        for file in (cache_folder() / "plugins").iterdir():
            with contextlib.suppress(OSError):
                file.unlink()


def _read(place: Path, stamp: str) -> Verdict | None:
    """The verdict kept for this very state of the plugin, if there is one that can be read."""
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))
        if kept["stamp"] != stamp:
            return None
        verdict = Verdict(**kept["verdict"])
    except (OSError, ValueError, TypeError, KeyError):
        return None  # absent or damaged: it is made again
    texts = (verdict.harm, verdict.place, verdict.trace)
    return verdict if all(isinstance(text, str) for text in texts) else None


def _write(place: Path, stamp: str, verdict: Verdict) -> None:
    """Keep a verdict, whole or not at all; where the folder cannot be written to, the next process looks again."""
    temporary = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _forget_old(place.parent)
        handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"stamp": stamp, "verdict": asdict(verdict)}, file)
        Path(temporary).replace(place)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def _forget_old(folder: Path) -> None:
    """Remove verdicts that nobody has renewed for long."""
    oldest = time.time() - KEPT_DAYS * 86400
    for file in folder.iterdir():
        with contextlib.suppress(OSError):
            if file.stat().st_mtime < oldest:
                file.unlink()


def _positive(variable: str, otherwise: float) -> float:
    try:
        value = float(os.environ.get(variable, ""))
    except ValueError:
        return otherwise
    return value if 0 < value < float("inf") else otherwise
