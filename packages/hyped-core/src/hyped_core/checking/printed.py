"""What is printed to stdout meanwhile: by Python code, and by C code or through a handle that was kept."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


class _Echo(io.StringIO):
    """Text that is kept and goes on to stderr."""

    def write(self, text: str) -> int:
        if sys.stderr is not None:
            sys.stderr.write(text)
        return super().write(text)


@contextlib.contextmanager
def heard() -> Iterator[io.StringIO]:
    """What Python code prints; it goes on to stderr at once, so that it is seen even where the process dies."""
    with contextlib.redirect_stdout(_Echo()) as text:
        yield text


@contextlib.contextmanager
def captured() -> Iterator[Callable[[], str]]:
    """All that reaches stdout, as a function to call at the end."""
    text = io.StringIO()
    saved, said = None, {"c": ""}
    with tempfile.TemporaryFile() as file:
        with contextlib.suppress(OSError):
            saved = os.dup(1)
            _flush()  # what was printed before is not of this stretch
            os.dup2(file.fileno(), 1)
        try:
            with contextlib.redirect_stdout(text):
                yield lambda: text.getvalue() + said["c"]
        finally:
            if saved is not None:
                _flush()
                os.dup2(saved, 1)
                os.close(saved)
                file.seek(0)
                said["c"] = file.read().decode(errors="replace")


def _flush() -> None:
    """Write what Python's own handles and the C library still hold back."""
    for stream in {id(one): one for one in (sys.stdout, sys.__stdout__)}.values():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    with contextlib.suppress(ImportError, OSError, AttributeError, TypeError):  # TypeError: not a POSIX system
        import ctypes

        ctypes.CDLL(None).fflush(None)
