"""While a plugin's code runs, stdout is not its own: what it writes there goes to stderr, and is counted."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

_listening: list[Heard] = []


class Heard:
    """How much was written to stdout."""

    def __init__(self) -> None:
        self._ended = True
        self._lines = 0

    @property
    def lines(self) -> int:
        """Lines, one that was begun among them."""
        return self._lines + (not self._ended)

    def note(self, text: str) -> None:
        """Count text that was written."""
        self._lines += text.count("\n")
        self._ended = text.endswith("\n") if text else self._ended


def printed_note(who: str, lines: int) -> str:
    """A note that ``who`` wrote to stdout; empty for no lines."""
    if not lines:
        return ""
    return f"note: {who} wrote {lines:,} line{'' if lines == 1 else 's'} to stdout; sent to stderr, for stdout is data"


class Counted:
    """Stderr in the place of stdout, with a count of what is written."""

    def __init__(self, *heard: Heard) -> None:
        self._heard = heard
        self._stream = sys.stderr

    def write(self, text: str) -> int:
        """Write to stderr."""
        for heard in self._heard:
            heard.note(text)
        return len(text) if self._stream is None else self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for text in lines:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # of a copy that was not made by __init__
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """While a plugin's code runs, what it prints goes to stderr: stdout is data."""
    with contextlib.redirect_stdout(Counted(*_listening)):  # type: ignore[type-var]  it does what a text stream does
        yield


@contextlib.contextmanager
def listening() -> Iterator[Heard]:
    """What `stdout_to_stderr` sends on meanwhile."""
    heard = Heard()
    _listening.append(heard)
    try:
        yield heard
    finally:
        _listening.remove(heard)


@contextlib.contextmanager
def descriptor_to_stderr(buffered: bool) -> Iterator[None]:
    """What is written to the file descriptor of stdout itself goes to stderr too; also what C code still buffers."""
    try:
        kept = os.dup(1)
    except OSError:  # there is no stdout
        yield
        return
    try:
        with contextlib.suppress(OSError):
            os.dup2(2, 1)
        yield
        if buffered:
            import ctypes

            ctypes.CDLL(None).fflush(None)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
