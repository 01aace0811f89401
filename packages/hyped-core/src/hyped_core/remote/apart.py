"""A function of a plugin asked in a process of its own, within limits: what it does there harms nothing here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hyped_core.errors import HypedError, PluginError
from hyped_core.plugins.record import plain
from hyped_core.remote.process import Runner, WorkerProcess


def ask_apart(
    target: str, given: dict[str, Any], who: str, *, seconds: float, memory_gb: float | None, more: str
) -> Any:
    """What the function ``target`` gives for ``given``, called in a process of this Python that works in this folder.

    Parameters
    ----------
    target
        As in a record: ``"module:function"``.
    given
        Its arguments by name; these and what it gives pass as JSON.
    seconds, memory_gb
        How long the process may take, its start included, and how much memory with all that it starts.
    more
        How to raise the limits, for the error.

    Raises
    ------
    PluginError
        In one line: what the function raised, how the process ended, or which limit it reached.
    """
    paths = [str(Path(place).absolute()) for place in sys.path]
    request = {"do": "function", "drop": [], "target": target, "given": given}
    try:
        with WorkerProcess(Runner(seconds=seconds, memory_gb=memory_gb), who) as worker:
            return worker.ask({**request, "paths": paths, "folder": str(Path.cwd())}, lambda message: None)
    except HypedError as error:
        fate = error.where == who  # of the process; else the function's own error
        said = error.message.partition("; the last it wrote")[0] if fate else str(error)  # stderr has the rest
        mend = more if fate and error.mend else None  # an error of limits alone has advice, on models
        raise PluginError(" ".join(plain(said).split()), where=who, mend=mend) from error
