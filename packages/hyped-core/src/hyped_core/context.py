"""What every call of a model is given: seed, device, threads, scratch folder and a place to report progress."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

T = TypeVar("T")


class Progress(Protocol):
    """Anything that wants to know how far a loop has come."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield ``items`` unchanged and report each."""
        ...


class SilentProgress:
    """Reports nothing."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield ``items``."""
        yield from items


class LineProgress:
    """One line on stderr every ``interval_s`` seconds: for logs and pipes."""

    def __init__(self, interval_s: float = 5.0) -> None:
        self.interval_s = interval_s

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield ``items`` and print the count now and then."""
        if total is None and hasattr(items, "__len__"):
            total = len(items)  # type: ignore[arg-type]
        last = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - last >= self.interval_s:
                last = now
                sys.stderr.write(f"{description}: {done}/{total if total is not None else '?'}\n")


class RichProgress:
    """A progress bar on a terminal's stderr."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield ``items`` under a bar."""
        from rich.console import Console
        from rich.progress import track

        if total is None and hasattr(items, "__len__"):
            total = len(items)  # type: ignore[arg-type]
        yield from track(items, description, total=total, console=Console(stderr=True), transient=True)


def default_progress() -> Progress:
    """A bar where stderr is a terminal, plain lines elsewhere."""
    return RichProgress() if sys.stderr.isatty() else LineProgress()


@dataclass(frozen=True, slots=True)
class RunContext:
    """How a model is to run.

    Attributes
    ----------
    seed : all randomness comes from it, through `rng`.
    device : ``"cpu"``, ``"cuda"`` or ``"cuda:0"``.
    threads : how many threads a call may use.
    scratch : a folder for temporary files.
    progress : where loops report.
    """

    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    scratch: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    progress: Progress = field(default_factory=SilentProgress)

    def rng(self, *stream: int | str) -> np.random.Generator:
        """An independent generator for ``stream`` under this seed (the same names give the same numbers)."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, *map(_word, stream)]))


def _word(part: int | str) -> int:
    """A stable non-negative integer for one part of a stream's name."""
    if isinstance(part, str):
        return int.from_bytes(part.encode(), "little")
    return int(part)
