"""The environments in the cache: listed, and removed where no model runs in them."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyped_core.errors import StorageError, UnknownNameError, UsageError
from hyped_core.io.atomic import remove
from hyped_core.plugins.kept import CACHE_VARIABLE, cache_folder
from hyped_core.remote.locks import alone, days_unused, nobody_uses
from hyped_core.remote.making import MARKER

LAYERS = "layers"
"""The folder below an environment that holds its layers."""


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment in the cache.

    Attributes
    ----------
    name : its folder's name, a hash of what it is made of.
    requirements : what it was made for, in pip's words.
    size : bytes on disk.
    finished : False for what an interrupted maker left.
    layers : how many copies of code lie over its libraries.
    days_unused : days since a model was last to run in it.
    """

    name: str
    folder: Path
    requirements: tuple[str, ...]
    version: str
    size: int
    finished: bool
    layers: int
    days_unused: float


def environments_folder() -> Path:
    """Where environments are kept."""
    return cache_folder() / "environments"


def environments() -> list[Environment]:
    """Those in the cache, by name."""
    root, found = environments_folder(), []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        said: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            said = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        asked = tuple(str(line) for line in said.get("requirements", ()))
        python, size, layers = str(said.get("python", "")), _size(folder), len(_layers(folder))
        found.append(Environment(folder.name, folder, asked, python, size, bool(said), layers, _days_unused(folder)))
    return found


def remove_environment(name: str) -> None:
    """Delete an environment from the cache; a maker that is at work is waited for.

    Raises
    ------
    UnknownNameError
        There is none of this name.
    UsageError
        A model runs in it.
    StorageError
        It cannot be deleted.
    """
    folder = environments_folder() / name
    if name != Path(name).name or name.startswith(".") or not folder.is_dir():
        known = ", ".join(one.name for one in environments()) or "there is none"
        raise UnknownNameError(f"there is no environment {name!r}", where=environments_folder(), mend=f"known: {known}")
    with kept_there(folder), alone(folder.with_suffix(".lock"), lambda: None):
        _remove(folder)


def remove_unused(days: float) -> list[str]:
    """Delete what no model was to run in for ``days`` days, and none runs in now; what was deleted, by name.

    These are whole environments, and of the others the layers (``NAME/layers/LAYER``): they are made again in a second.

    Raises
    ------
    StorageError
        Something cannot be deleted.
    """
    gone = []
    for one in environments():
        with kept_there(one.folder), alone(one.folder.with_suffix(".lock"), lambda: None):
            if one.folder.is_dir() and _days_unused(one.folder) >= days:
                with contextlib.suppress(UsageError):
                    _remove(one.folder)
                    gone.append(one.name)
                    continue
            gone += [f"{one.name}/{LAYERS}/{layer}" for layer in thin_out(one.folder, days)]
    return gone


def _remove(folder: Path) -> None:
    """Delete an environment, whose lock this process holds."""
    with contextlib.ExitStack() as held:
        if not all(held.enter_context(nobody_uses(layer)) for layer in _layers(folder)):
            mend = "wait until it has ended, or end that command"
            raise UsageError("a model runs in this environment now", where=folder, mend=mend)
        (folder / MARKER).unlink(missing_ok=True)  # first: what an interrupt leaves is known as unfinished
        remove(folder)
        folder.with_suffix(".lock").unlink(missing_ok=True)


def thin_out(folder: Path, days: float) -> list[str]:
    """Delete layers that nobody uses, nor did for ``days`` days; their names. This process holds the lock."""
    gone = []
    for layer in _layers(folder):
        with nobody_uses(layer) as free:
            if free and days_unused(layer) >= days:
                doomed = layer.with_name(f".{layer.name}.{uuid.uuid4().hex[:8]}.old")
                layer.rename(doomed)
                gone.append(layer.name)
    for left in (folder / LAYERS).glob(".*"):  # these, and what an interrupted process left
        remove(left)
    return gone


def _layers(folder: Path) -> list[Path]:
    place = folder / LAYERS
    return sorted(one for one in place.iterdir() if not one.name.startswith(".")) if place.is_dir() else []


def _days_unused(folder: Path) -> float:
    """Days since a model was last to run in an environment; since its making where there was none."""
    made = folder / MARKER if (folder / MARKER).is_file() else folder
    since = float("inf")
    with contextlib.suppress(OSError):
        since = (time.time() - made.stat().st_mtime) / 86400
    return max(0.0, min([since, *(days_unused(layer) for layer in _layers(folder))]))


def _size(folder: Path) -> int:
    """Bytes on disk; what goes meanwhile counts nothing."""
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                total += Path(place, file).lstat().st_size
    return total


@contextlib.contextmanager
def kept_there(folder: Path) -> Iterator[None]:
    """Say what to do where the system refuses something below the cache."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"an environment cannot be kept there: {error.strerror or error}",
            where=error.filename or folder,
            mend=f"free some space, or set {CACHE_VARIABLE} to a folder on another disk",
        ) from error
