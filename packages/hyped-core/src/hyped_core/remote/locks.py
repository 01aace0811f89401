"""Who makes, uses and removes an environment: lock files that the system lets go of when a process ends, however."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from hyped_core.errors import PluginError

try:
    import fcntl
except ImportError:  # not a POSIX system: nobody waits, and what is open there cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

IN_USE = "hyped-in-use"
"""A file of an environment's layer: locked by those who run its interpreter, and changed last when one began."""


@contextlib.contextmanager
def alone(lock: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file alone; waits for who holds it."""
    if fcntl is None:
        yield
        return
    while True:
        with lock.open("a") as file:
            if not _locked(file, fcntl.LOCK_EX):
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(lock, file.fileno()):  # removed while this waited: others hold a new one
                continue
            yield
            return


@contextlib.contextmanager
def in_use(python: str | Path) -> Iterator[None]:
    """Keep the layer of an interpreter from being removed; any other interpreter is let be.

    Raises
    ------
    PluginError
        It is being removed.
    """
    place = Path(python).absolute().parent.parent / IN_USE
    note_use(place.parent)
    if fcntl is None or not place.is_file():
        yield
        return
    with place.open("rb") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        if not _is_at(place, file.fileno()):
            mend = "run it again: it is then made anew"
            raise PluginError("this environment was removed just now", where=place.parent, mend=mend)
        yield


@contextlib.contextmanager
def nobody_uses(layer: Path) -> Iterator[bool]:
    """Keep new users of a layer waiting; False where there are some already."""
    place = layer / IN_USE
    if fcntl is None or not place.is_file():
        yield True
        return
    with place.open("rb+") as file:
        yield _locked(file, fcntl.LOCK_EX)


def note_use(layer: Path) -> None:
    """Note that a layer is used now."""
    with contextlib.suppress(OSError):
        os.utime(layer / IN_USE)


def days_unused(layer: Path) -> float:
    """Days since a layer was last asked for."""
    try:
        return (time.time() - (layer / IN_USE).stat().st_mtime) / 86400
    except OSError:
        return float("inf")


def _locked(file: IO[bytes] | IO[str], kind: int) -> bool:
    """Whether a lock could be had without waiting."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(place: Path, opened: int) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(place.stat(), os.fstat(opened))
    return False
