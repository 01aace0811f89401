"""What was found out about strangers' code, kept in HYPED's cache folder for as long as that code is as it was."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from hyped_core import __version__

CACHE_VARIABLE = "HYPED_CACHE"
VARIABLES = ("PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH")
"""Variables that decide what an import finds; another value is another state of the code."""
KEPT_DAYS = 90
CODE = (".py", ".so", ".pyd", ".dll", ".dylib")
MOST_BESIDE = 5000
"""Files of code beside a plugin's package that count, at most: the look at them is part of every command."""


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


def stamp_of(target: str, names: Iterable[str], *more: Any) -> str:
    """The state of an import string's code, as a hash.

    Its package's files by their stat, data among them; the interpreter; what is installed; the variables in
    `VARIABLES`, and those that begin with one of ``names`` (the plugin's, its distribution's) or the package's;
    and whatever else is given.
    """
    top = _top(target)
    said = [__version__, sys.executable, sys.version, target, _variables([top, *names]), sorted(_files(top))]
    return _hash([*said, _installed_stamp(), *more])


def code_beside(target: str, distribution: Distribution | None) -> list[tuple[str, int, int]]:
    """Path, size and time of change of a plugin's code outside its package, none of it imported.

    That is what its distribution installed, and where the package lies in a source folder, its neighbours there.
    """
    from hyped_core.plugins.folder import FolderDistribution

    found = _module(_top(target))
    if found is None or distribution is None:
        return []
    try:
        root = os.fspath(distribution.locate_file(""))  # type: ignore[call-overload]
        record = csv.reader((distribution.read_text("RECORD") or "").splitlines())
        named = [Path(root, row[0]) for row in record if row and row[0].endswith(CODE)]
        home = Path(next(iter(found.submodule_search_locations or ()), found.origin or "")).parent
    except Exception:  # noqa: BLE001  damaged metadata, or a stranger's finder: then its package alone counts
        return []
    in_source = home.is_absolute() and (isinstance(distribution, FolderDistribution) or not _is_same(home, root))
    files = itertools.chain(_stated(named), _neighbours(home) if in_source else ())
    return sorted(itertools.islice(files, MOST_BESIDE))


def place_of(kind: str, distribution: str, *where: Any) -> Path:
    """The file for what is kept: one for each plugin, interpreter and whatever tells two of them apart."""
    safe = "".join(c if c.isalnum() or c in "-." else "_" for c in distribution)[:60]
    return _folder() / f"{safe}-{_hash([kind, sys.executable, *where])[:16]}.json"


def read(place: Path, stamp: str, most_days: float = KEPT_DAYS) -> Any:
    """What was kept for this very state; None where there is none that can be read, or it is older than that."""
    try:
        if abs(time.time() - place.stat().st_mtime) > most_days * 86400:
            return None
        kept = json.loads(place.read_text(encoding="utf-8"))
        return kept["found"] if kept["stamp"] == stamp else None
    except (OSError, ValueError, TypeError, KeyError):
        return None  # absent or damaged: it is made again


def write(place: Path, stamp: str, found: Any) -> None:
    """Keep something JSON-able, whole or not at all; where the folder cannot be written to, it is made again."""
    temporary = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _forget_old(place.parent)
        handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"stamp": stamp, "found": found}, file)
        Path(temporary).replace(place)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def forget(which: Callable[[Any], bool] = lambda found: True) -> None:
    """Remove what is kept, or that of it which ``which`` says yes to, so that it is found out anew."""
    with contextlib.suppress(OSError):
        for file in _folder().glob("*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                if which(json.loads(file.read_text(encoding="utf-8"))["found"]):
                    file.unlink()


def _folder() -> Path:
    return cache_folder() / "plugins"


def _hash(said: list[Any]) -> str:
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()


def _variables(names: Iterable[str]) -> list[tuple[str, str]]:
    """Environment variables that a plugin of one of these names may be expected to read."""
    heads = {"".join(c if c.isalnum() else "_" for c in name.upper()) for name in names if name}
    return sorted(
        (key, value)
        for key, value in os.environ.items()
        if key in VARIABLES or key in heads or any(key.startswith(f"{head}_") for head in heads)
    )


def _top(target: str) -> str:
    return target.partition(":")[0].partition(".")[0].strip()


def _module(top: str) -> ModuleSpec | None:
    from hyped_core.plugins.sources import find_module

    try:
        return find_module(top)
    except Exception:  # noqa: BLE001  a stranger's finder may raise anything; the import will say what is wrong
        return None


def _files(top: str) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of every file of a top-level package, or of the one file of a module."""
    found = _module(top)
    if found is None:
        return
    places = list(found.submodule_search_locations or ())
    for place in places:
        yield from _below(place)
    if found.origin and not places:
        yield from _stated([Path(found.origin)])


def _stated(files: Iterable[Path]) -> Iterator[tuple[str, int, int]]:
    """The same of the files that are there."""
    for file in files:
        with contextlib.suppress(OSError):
            stat = file.stat()
            yield str(file), stat.st_size, stat.st_mtime_ns


def _neighbours(folder: Path) -> Iterator[tuple[str, int, int]]:
    """The same of the code in a folder and in those below it that hold some, as packages do."""
    with contextlib.suppress(OSError):
        for place in folder.iterdir():
            if place.suffix in CODE:
                yield from _stated([place])
            elif _holds_code(place):
                yield from _below(str(place), CODE)


def _holds_code(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(name.endswith(CODE) for name in os.listdir(folder))  # noqa: PTH208  no more than names
    return False


def _is_same(one: Path, other: str) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return False


def _below(folder: str, suffixes: tuple[str, ...] = ("",)) -> Iterator[tuple[str, int, int]]:
    """The same of every file in a folder; what begins with a dot, and compiled code, is left out."""
    waiting = [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name == "__pycache__" or entry.name.startswith("."):
                    continue
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.name.endswith(suffixes):
                        stat = entry.stat()
                        yield entry.path, stat.st_size, stat.st_mtime_ns


def _installed_stamp() -> list[int]:
    """Times of change of the folders pip installs to: a library that came or went may change what a plugin does."""
    import sysconfig

    stamps = []
    for name in sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")} - {None}):
        with contextlib.suppress(OSError):
            stamps.append(Path(name).stat().st_mtime_ns)
    return stamps


def _forget_old(folder: Path) -> None:
    """Remove what nobody has renewed for long."""
    oldest = time.time() - KEPT_DAYS * 86400
    for file in folder.iterdir():
        with contextlib.suppress(OSError):
            if file.stat().st_mtime < oldest:
                file.unlink()
