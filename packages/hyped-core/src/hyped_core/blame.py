"""Errors that models raise: in words, with the author's own line, and refusals of data told from crashes.

Those of a model in a process of its own are said as they would be here.
"""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path

from hyped_core.errors import HypedError, PluginError, type_and_text

_CORE = str(Path(__file__).resolve().parent)
_HEADER = "(most recent call first)"
"""Words with which `faulthandler` begins the frames of a thread."""
_FRAME = re.compile(r'\s*File "(.+)", line (\d+) in (.+)')
_NOISE = ("Extension modules:", "<no Python frame>", "...")


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
        return str(getattr(error, "place", "") or there[-1])
    return _own_frame([(f.filename, f.lineno, f.name) for f in traceback.extract_tb(error.__traceback__)])


def place_in_dump(lines: Sequence[str]) -> str:
    """The author's own line in the last of the stacks that `faulthandler` wrote, empty where it has none."""
    starts = [i for i, text in enumerate(lines) if _HEADER in text]
    found = [_FRAME.fullmatch(text) for text in lines[starts[-1] + 1 :]] if starts else []
    return _own_frame([(one[1], one[2], one[3]) for one in reversed(found) if one])


def without_dumps(lines: Sequence[str]) -> list[str]:
    """The lines that `faulthandler` did not write as stacks and lists of modules, and that are not empty."""
    return [
        text
        for text in lines
        if text and _HEADER not in text and not _FRAME.fullmatch(text) and not text.strip().startswith(_NOISE)
    ]


def frame_place(file: str, line: object, function: str) -> str:
    """A frame in words, its file named from its package on: ``package/module.py:30 in fit``."""
    path = Path(file)
    top = path.parent
    while top != top.parent and (top / "__init__.py").is_file():
        top = top.parent
    return f"{path.relative_to(top).as_posix()}:{line} in {function}"


def _own_frame(frames: Sequence[tuple[str, object, str]]) -> str:
    """The innermost, so last, of the frames that is the author's."""
    outside = (_CORE, sysconfig.get_paths()["stdlib"], "<")
    frames = [frame for frame in frames if not frame[0].startswith(outside)]
    own = [frame for frame in frames if "site-packages" not in frame[0]] or frames
    return frame_place(*own[-1]) if own else ""


def is_refusal(error: BaseException) -> bool:
    """Whether a model refuses its data with a typed error; a `PluginError` is about the model itself, so a crash."""
    return isinstance(error, HypedError) and not isinstance(error, PluginError)
