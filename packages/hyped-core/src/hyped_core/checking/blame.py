"""Errors that models raise: in words, with the author's own line, and refusals of data told from crashes.

Those of a model in a process of its own are said as they would be here.
"""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from hyped_core.errors import HypedError, PluginError, type_and_text

_CORE = str(Path(__file__).resolve().parents[1])


def said(error: BaseException) -> str:
    """An error as type and text."""
    from hyped_core.remote.process import RemoteError

    if isinstance(error, RemoteError):  # its text begins with the type that it has over there
        return f"raises {error.message}"
    if isinstance(error, HypedError):
        return f"raises {type(error).__name__}: {error.message}"
    return f"raises {type_and_text(error)}"


def place_of(error: BaseException) -> str:
    """The last frame of an error outside HYPED's core and the standard library: the author's own line."""
    if there := getattr(error, "frames", None):  # of a process of its own
        return str(there[-1])
    outside = (_CORE, sysconfig.get_paths()["stdlib"])
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(outside)]
    own = [f for f in frames if "site-packages" not in f.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name}" if own else ""


def is_refusal(error: BaseException) -> bool:
    """Whether a model refuses its data with a typed error; a `PluginError` is about the model itself, so a crash."""
    return isinstance(error, HypedError) and not isinstance(error, PluginError)
