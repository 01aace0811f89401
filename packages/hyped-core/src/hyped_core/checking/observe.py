"""One run of a model with everything watched that a caller would notice: prints, files, network, random state, threads.

Files and network are seen through Python's audit events, so what a C library or another process does on its own is
seen only where it leaves a file in the working folder, or beside the scratch folder. This is a help for authors, no
sandbox.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyped_core.checking.printed import captured
from hyped_core.checking.records import Exercise
from hyped_core.checking.surroundings import Surroundings, random_states, restore_random, same_state

NO_NETWORK = "the network may not be used while a model is checked"
_LOCAL = {"localhost", "127.0.0.1", "::1", "", None}
_FREE = ("/dev/", "/proc/")
"""Not files of anybody."""
_LIBRARIES = ("__pycache__", "pymp-", "joblib_memmapping_folder")
"""Parts of the names of what Python, numba, multiprocessing and joblib write on their own."""


@dataclass(slots=True)
class Watch:
    """What audit events told while it was armed."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    contacted: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Observation:
    """What one run did beside giving outputs.

    Attributes
    ----------
    model, outputs : the instance and what its work gave.
    changed : how an input differs from before, in words; empty where none does.
    printed : what went to stdout.
    written, removed, contacted : files outside the scratch folder, and hosts, that were asked for.
    random : names of the global random generators that are not as they were.
    process : what else of the process is not as it was, in words.
    loops : descriptions of the loops that reported progress.
    imported : True where libraries were imported during the run: they may change things once, and torch's random state
        could not be compared.
    """

    model: Any
    outputs: dict[str, Any]
    changed: str = ""
    printed: str = ""
    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    contacted: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    process: tuple[str, ...] = ()
    loops: tuple[str, ...] = ()
    imported: bool = False


class Told:
    """Progress that notes which loops report; ``interrupt`` raises `KeyboardInterrupt` in the first of them."""

    def __init__(self, interrupt: bool = False) -> None:
        self.interrupt = interrupt
        self.loops: list[str] = []

    def track(self, items: Any, description: str, total: int | None = None) -> Iterator[Any]:
        """Yield ``items``."""
        self.loops.append(str(description))
        for item in items:
            yield item
            if self.interrupt:
                raise KeyboardInterrupt


_watches: list[Watch] = []
_state = {"installed": False, "blocked": False}


def block_network() -> None:
    """From now on nothing in this process reaches another machine through Python's sockets."""
    _install()
    _state["blocked"] = True


def _install() -> None:
    if not _state["installed"]:
        _state["installed"] = True
        sys.addaudithook(_hook)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    """Audit hooks cannot be taken away, so this one does nothing while nobody watches."""
    if not _watches and not _state["blocked"]:
        return
    if event.startswith("socket."):
        host = _host(event, args)
        if host is not None:
            for watch in _watches:
                watch.contacted.append(host)
            raise OSError(f"{NO_NETWORK} ({host})")
    elif not _watches:
        return
    elif event == "open":
        path, mode, flags = args
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else False
        if writes or isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            _note("written", path)
    elif event in ("os.mkdir", "os.truncate", "sqlite3.connect"):
        _note("written", args[0])
    elif event in ("os.rename", "os.link", "os.symlink"):
        _note("written", args[1])
    elif event in ("os.remove", "os.rmdir"):
        _note("removed", args[0])


def _host(event: str, args: tuple[Any, ...]) -> str | None:
    """The machine an event of the network is about; None of this one and of sockets that are files."""
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    elif event in ("socket.connect", "socket.sendto"):
        host = args[1][0] if isinstance(args[1], tuple) else None
    else:
        return None
    host = host.decode(errors="replace") if isinstance(host, bytes) else host
    return None if host in _LOCAL else str(host)


def _note(kind: str, path: Any) -> None:
    if isinstance(path, int):
        return
    with contextlib.suppress(TypeError, ValueError, OSError):  # OSError: the working folder is gone
        name = str(Path(os.fsdecode(path)).absolute())
        for watch in _watches:
            getattr(watch, kind).append(name)


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    """Files and hosts that are asked for meanwhile; hosts are refused."""
    _install()
    watch = Watch()
    _watches.append(watch)
    try:
        yield watch
    finally:
        _watches.remove(watch)


@functools.cache
def _pristine(exercise: Exercise, seed: int) -> dict[str, Any]:
    return exercise.inputs(seed)


def inputs_of(exercise: Exercise, seed: int) -> dict[str, Any]:
    """The exercise's inputs as copies of one's own: they are made once."""
    from hyped_core.checking.compare import copy_of

    return copy_of(_pristine(exercise, seed))


def observe(make: Any, exercise: Exercise, context: Any, cwd: Path) -> Observation:
    """Make a model and put it to work on the exercise's inputs of seed 0, in the empty folder ``cwd``.

    Whatever the model raises gets out; the process is then as it was.
    """
    from hyped_core.checking.compare import copy_of, difference

    model = make()
    inputs, before = inputs_of(exercise, 0), inputs_of(exercise, 0)
    told = Told()
    cwd.mkdir(parents=True, exist_ok=True)
    found = Observation(model, {})
    modules, beside = set(sys.modules), _beside(context.scratch)
    with captured() as printed, _kept(cwd) as kept, watched() as watch:
        found.outputs = exercise.work(model, inputs, _with(context, told))
        found.random, found.process = kept()
    found.outputs = copy_of(found.outputs)
    found.changed = difference(before, inputs) or ""
    found.printed = printed()
    left = sorted(_beside(context.scratch) - beside)
    found.written = _foreign(watch.written, context.scratch) or _foreign(left, context.scratch)
    found.removed = _foreign(watch.removed, context.scratch)
    found.contacted = tuple(dict.fromkeys(watch.contacted))
    found.loops = tuple(told.loops)
    found.imported = not set(sys.modules) <= modules
    return found


def _with(context: Any, progress: Any) -> Any:
    from dataclasses import replace

    return replace(context, progress=progress)


def _beside(scratch: Path) -> set[str]:
    """What lies in the check's own folder: the scratch folder, the working folder and what nobody asked for."""
    return {str(path) for path in scratch.parent.rglob("*")}


def _foreign(paths: list[str], scratch: Path) -> tuple[str, ...]:
    """Those that lie outside the scratch folder and are not a library's own."""
    own = scratch.resolve()
    kept = []
    for path in dict.fromkeys(paths):
        real = Path(path).parent.resolve() / Path(path).name
        if path.startswith(_FREE) or any(part in path for part in _LIBRARIES):
            continue
        if own != real and own not in real.parents:
            kept.append(path)
    return tuple(kept)


@contextlib.contextmanager
def process_kept() -> Iterator[None]:
    """The process is put back at the end (`Surroundings.restore`), its global random generators too."""
    states, before = random_states(), Surroundings()
    try:
        yield
    finally:
        before.restore()
        restore_random(states)


@contextlib.contextmanager
def _kept(cwd: Path) -> Iterator[Any]:
    """`process_kept`, in the folder ``cwd``; yields a function that says what is not as it was."""
    with process_kept():
        os.chdir(cwd)
        states, before = random_states(), Surroundings()

        def changes() -> tuple[tuple[str, ...], tuple[str, ...]]:
            now = random_states()
            drawn = tuple(name for name, state in states.items() if not same_state(state, now[name]))
            return drawn, tuple(before.changes())

        yield changes
