"""What of a process a model may not leave changed, how it was before, and how it is put back."""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hyped_core.remote.memory import children

GRACE_S = 0.5
"""Seconds that threads and processes that are about to end have for it."""
POOLS = (
    "concurrent", "dask", "distributed", "fsspec", "joblib", "lightning", "multiprocessing", "numba", "numcodecs",
    "pytorch_lightning", "torch", "tqdm", "zarr",
)  # fmt: skip
"""Libraries that keep threads for their next call."""
NAMED_POOLS = ("asyncio_", "fsspec", "zarr", "ThreadPoolExecutor")
"""Begins of the names of threads that libraries keep, where their code is Python's."""
WORKERS = (b"joblib", b"loky", b"resource_tracker", b"forkserver", b"torch._inductor")
"""Parts of the command lines of processes that libraries keep for their next call."""


@dataclass(slots=True)
class Surroundings:
    """The process as it was when this was made; random states are told apart, since checks change them too."""

    folder: Path = field(default_factory=Path.cwd)
    variables: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    errors: dict[str, str] = field(default_factory=lambda: dict(np.geterr()))
    filters: list[Any] = field(default_factory=lambda: list(warnings.filters))
    disabled: int = field(default_factory=lambda: logging.root.manager.disable)
    level: int = field(default_factory=lambda: logging.root.level)
    handlers: list[logging.Handler] = field(default_factory=lambda: list(logging.root.handlers))
    loggers: dict[str, bool] = field(default_factory=lambda: _loggers())
    options: dict[str, Any] = field(default_factory=lambda: _pandas_options())
    threads: set[threading.Thread] = field(default_factory=lambda: set(threading.enumerate()))
    children: set[int] = field(default_factory=lambda: set(_children()))

    def changes(self) -> Iterator[str]:
        """What is not as it was, in words."""
        if Path.cwd().resolve() != self.folder.resolve():
            yield f"the working folder is now {Path.cwd()}"
        if names := _unequal(self.variables, os.environ):
            yield f"the environment variables {', '.join(names)} changed"
        if np.geterr() != self.errors:
            yield "numpy's handling of floating-point errors changed (np.seterr)"
        yield from self._filters()
        if logging.root.manager.disable != self.disabled:
            yield f"logging is disabled up to level {logging.root.manager.disable} (logging.disable)"
        if logging.root.level != self.level or logging.root.handlers != self.handlers:
            yield "the root logger has another level or other handlers (logging.basicConfig)"
        if names := _unequal(self.loggers, {k: v for k, v in _loggers().items() if k in self.loggers}):
            yield f"the loggers {', '.join(names[:3])} are disabled, or no longer"
        now = _pandas_options()
        if self.options and (names := _unequal(self.options, now)):
            yield f"the options {', '.join(names)} of pandas changed"
        if left := self._left():
            yield left

    def _filters(self) -> Iterator[str]:
        now = list(warnings.filters)
        if gone := [one for one in self.filters if one not in now]:
            yield f"{len(gone)} of the filters of warnings are gone (warnings.resetwarnings, warnings.simplefilter)"
        for one in now:
            action, message, kind, module, line = one
            everything = not (message or module or line) and issubclass(Warning, kind)
            moved = one not in self.filters or one is now[0] and one != self.filters[0]
            if action in ("error", "ignore") and everything and moved:
                yield f"every warning now has the action {action!r} (warnings.simplefilter)"

    def _left(self) -> str:
        """Threads and processes that were not there before and still are, once those about to end have ended."""
        until = time.monotonic() + GRACE_S
        while True:
            threads = [t for t in threading.enumerate() if t not in self.threads and t.is_alive() and not _pooled(t)]
            left = [pid for pid in _children() if pid not in self.children]
            if not threads and not left or time.monotonic() > until:
                break
            time.sleep(0.02)
        said = [f"threads still run: {', '.join(sorted(t.name for t in threads))}"] if threads else []
        said += [f"processes still run: {', '.join(map(_command, left))}"] if left else []
        return "; ".join(said)

    def restore(self) -> None:
        """Put back all but threads and processes."""
        os.chdir(self.folder)
        np.seterr(**self.errors)  # type: ignore[arg-type]
        if list(warnings.filters) != self.filters:
            warnings.filters[:] = self.filters  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]  # those that were seen are looked at anew
        if logging.root.manager.disable != self.disabled:
            logging.disable(self.disabled)
        logging.root.setLevel(self.level)
        logging.root.handlers[:] = self.handlers
        changed = _unequal(self.loggers, {k: v for k, v in _loggers().items() if k in self.loggers})
        for name in changed:
            logging.getLogger(name).disabled = self.loggers[name]
        now = _pandas_options()
        for name in _unequal(self.options, now) if self.options else ():
            sys.modules["pandas"].set_option(name, self.options[name])
        for name in _unequal(self.variables, os.environ):
            if name in self.variables:
                os.environ[name] = self.variables[name]
            else:
                del os.environ[name]


def _unequal(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names whose value is another one, or is there once only."""
    lacks = object()
    return sorted(k for k in {*before, *now} if not _equal(before.get(k, lacks), now.get(k, lacks)))


def _equal(a: Any, b: Any) -> bool:
    return a is b or type(a) is type(b) and bool(a == b)


def _loggers() -> dict[str, bool]:
    """Which of the loggers are disabled; their levels are the libraries' own."""
    known = dict(logging.root.manager.loggerDict)
    return {name: one.disabled for name, one in known.items() if isinstance(one, logging.Logger)}


def _pandas_options() -> dict[str, Any]:
    """Full name -> value; empty where pandas is not imported."""
    options = getattr(sys.modules.get("pandas"), "options", None)
    found: dict[str, Any] = {}

    def walk(part: Any, at: str) -> None:
        for name, value in part.items():
            walk(value, f"{at}{name}.") if isinstance(value, dict) else found.update({at + name: value})

    walk(getattr(options, "d", {}), "")
    return found


def _pooled(thread: threading.Thread) -> bool:
    code = (type(thread).__module__, getattr(getattr(thread, "_target", None), "__module__", None) or "")
    known = any(name.partition(".")[0] in POOLS for name in code)
    return known or thread.daemon and thread.name.startswith(NAMED_POOLS)


def _children() -> list[int]:
    """Ids of this process' children that run, but for workers of libraries."""
    return [pid for pid in children() if (said := _arguments(pid)) and not any(name in said for name in WORKERS)]


def _arguments(pid: int) -> bytes:
    """The command line; empty of what has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _command(pid: int) -> str:
    program, *given = _arguments(pid).decode(errors="replace").rstrip("\0").split("\0")
    return f"{' '.join((Path(program).name, *given))[:60]} ({pid})"


def random_states() -> dict[str, Any]:
    """The global generators of the libraries that are loaded."""
    states: dict[str, Any] = {"random": random.getstate(), "numpy.random": np.random.get_state()}  # noqa: NPY002
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "random"):
        states["torch"] = torch.random.get_rng_state()
    return states


def restore_random(states: dict[str, Any]) -> None:
    """Put the global generators back."""
    random.setstate(states["random"])
    np.random.set_state(states["numpy.random"])  # noqa: NPY002
    if "torch" in states:
        sys.modules["torch"].random.set_rng_state(states["torch"])


def shake_random(number: int) -> None:
    """Seed the global generators, so that who draws from them draws something else than before."""
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "random"):
        torch.random.manual_seed(number)


def same_state(a: Any, b: Any) -> bool:
    """Whether two states of one generator are equal."""
    if isinstance(a, tuple):
        return all(same_state(x, y) for x, y in zip(a, b, strict=True))
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))
