"""While a plugin's code runs, stdout is not its own: what it writes there goes to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """While a plugin's code is imported, what it prints goes to stderr: stdout is data."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


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
