"""Outputs that appear whole or not at all: written beside the target, then moved over it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hyped_core.errors import UsageError


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Give a temporary sibling of ``target`` to write a file or a folder to; move it over at the end.

    Where the block raises, the temporary is removed and what stood at ``target`` is left as it was. What a
    killed process of this machine left behind for the same target is removed first.

    Raises
    ------
    UsageError
        A folder was written and a file stands at ``target``, or the other way round.
    """
    target = Path(target)
    with scratch_path(target) as temporary:
        yield temporary
        if target.exists() and target.is_dir() != temporary.is_dir():
            there, made = ("folder", "file") if target.is_dir() else ("file", "folder")
            raise UsageError(f"is a {there}, which no {made} replaces", where=target, mend="give a new name")
        replace(temporary, target)


@contextmanager
def scratch_path(target: str | Path) -> Iterator[Path]:
    """Give a free name beside ``target``, on the same disk; what is there at the end is removed.

    Raises
    ------
    UsageError
        ``target`` is the working folder, the root or ``..``: nothing can stand beside it.
    """
    target = Path(target)
    if target.name in ("", ".."):
        raise UsageError("is a folder that cannot be replaced", where=target, mend="give a new name")
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    temporary = target.with_name(f".{target.name}.{_writer()}-{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
    finally:
        remove(temporary)


def _writer(pid: int | None = None) -> str:
    """This machine and process, as they stand in the name of a temporary."""
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
    return f"{host}-{os.getpid() if pid is None else pid}"


def _remove_leftovers(target: Path) -> None:
    """Remove temporaries for ``target`` whose process on this machine is gone."""
    host = _writer(0).rpartition("-")[0]
    for path in target.parent.glob(f".{target.name}.{host}-*.part"):
        pid = path.name[len(f".{target.name}.{host}-") :].partition("-")[0]
        if pid.isdigit() and not _alive(int(pid)):
            remove(path)


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for (a zombie) does not."""
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return False
    except (OSError, IndexError):
        pass  # no /proc here, or no such process: the signal tells
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def replace(source: Path, target: Path) -> None:
    """Move ``source`` over ``target``, a file or a folder; the old one is gone only once the new one stands."""
    if source.is_dir() and target.exists():
        old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
        target.rename(old)
        try:
            source.rename(target)
        except OSError:
            old.rename(target)
            raise
        remove(old)
    elif target.is_dir():
        shutil.rmtree(target)
        source.rename(target)
    else:
        source.replace(target)


def remove(path: Path) -> None:
    """Delete a file or a folder where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically (UTF-8, ``\\n`` line ends)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically with sorted keys and two spaces, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")
