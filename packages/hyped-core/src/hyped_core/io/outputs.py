"""What an output may replace: nothing that a command reads, and nothing but what the same command wrote before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hyped_core.errors import UsageError

_MEND = "give a new name"


def check_output(
    out: str | Path,
    *,
    kind: Literal["file", "folder"],
    inputs: Sequence[str | Path] = (),
    marks: Sequence[str] = (),
) -> None:
    """Refuse an output that would take something else away; call it before any work.

    Paths are compared with links followed, so that another spelling of a path is no way around.

    Parameters
    ----------
    kind
        What is written at ``out``. A folder is replaced as a whole.
    inputs
        Files and folders that are read; they need not exist.
    marks
        Names of files, one of which is in every folder that the command wrote: with it the folder may be replaced, an
        empty folder may without.

    Raises
    ------
    UsageError
        ``out`` is an input or holds one, is the working folder or lies above it, lies below a file, is a folder where
        a file is written or the other way round, or is a folder with something else in it.
    """
    place = Path(os.path.realpath(out))
    here = Path(os.path.realpath(os.curdir))
    if here == place or here.is_relative_to(place):
        raise UsageError("is the folder you are in, or lies above it", where=out, mend=_MEND)
    for path in inputs:
        read = Path(os.path.realpath(path))
        if read == place:
            raise UsageError("is read by this command, and would be replaced by what it writes", where=out, mend=_MEND)
        if read.is_relative_to(place):
            raise UsageError(f"holds {path}, which is read, and would be replaced", where=out, mend=_MEND)
    if kind == "file":
        if place.is_dir():
            raise UsageError("is a folder, where a file is to be written", where=out, mend=_MEND)
    elif place.is_dir():
        there = {entry.name for entry in place.iterdir()}
        if there and there.isdisjoint(marks):
            some = ", ".join(sorted(there)[:3]) + (", ..." if len(there) > 3 else "")
            raise UsageError(
                f"is a folder with something else in it ({some})", where=out, mend=f"{_MEND}, or an empty folder"
            )
    elif place.exists():
        raise UsageError("is a file, where a folder is to be written", where=out, mend=f"{_MEND}, or remove the file")
    above = next(folder for folder in place.parents if folder.exists())
    if not above.is_dir():
        raise UsageError(f"lies below {above}, which is a file", where=out, mend=_MEND)
