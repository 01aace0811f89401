"""A plugin's module tried in a process of its own: how long its import takes, what it brings, how it and hooks end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache

from hyped_core.plugins.acceptance import MOST_RECORDS
from hyped_core.plugins.record import PROBING_VARIABLE, SLOW_IMPORT_S
from hyped_core.remote.memory import signal_name

TRIES = 3
WAIT_S, ENOUGH_S = 15.0, 4.0
"""Seconds after which a try is ended, and seconds of imports after which there is no other try."""

_CODE = """
import json, os, sys, time
sys.path[:] = json.loads(sys.argv[2])
import hyped_core.cli.main, hyped_core.plugins.registry, hyped_core.plugins.hookspecs
from hyped_core.plugins.probe_strays import ended_strays
from hyped_core.remote.memory import adopt
adopt()
before, started = set(sys.modules), time.perf_counter()
raised, mine = False, os.getpid()
try:
    __import__(sys.argv[1])
except BaseException:
    raised = True
if os.getpid() != mine:
    os._exit(0)
spent = time.perf_counter() - started
tops = sorted({name.partition('.')[0] for name in set(sys.modules) - before})
say = open(sys.argv[3], "w", buffering=1)
say.write(json.dumps({"seconds": spent, "tops": tops, "raised": raised}) + "\\n")
from itertools import islice
for name in [] if raised else hyped_core.plugins.hookspecs.HOOKS:
    hook = getattr(sys.modules[sys.argv[1]], name, None)
    if hook is not None:
        say.write(name + "\\n")
        try:
            list(islice(hook() or (), int(sys.argv[4])))
        except BaseException:
            pass
        if os.getpid() != mine:
            os._exit(0)
say.write("end\\n")
ended_strays(0)
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """How it went.

    Attributes
    ----------
    seconds : that the import takes, waits among them, in a process that has what ``hyped`` itself imports; the best of
        the tries.
    tops : top-level modules that it adds.
    raised : it ends with an error.
    fate : how it takes its process along (``exit code 0``, ``signal SIGSEGV``, ``hangs``); empty where it does not.
    hook : the hook that does so; empty where the import does.
    """

    seconds: float = 0.0
    tops: tuple[str, ...] = ()
    raised: bool = False
    fate: str = ""
    hook: str = ""


@cache
def tried(module: str, wait: float = WAIT_S) -> Trial:
    """The trial of ``module``, made once; a try is ended after ``wait`` seconds, and a slow one is made again."""
    best: Trial | None = None
    spent = 0.0
    for _ in range(TRIES):
        found = _try(module, wait)
        if found.fate or found.raised:
            return best or found
        spent += found.seconds
        if best is None or found.seconds < best.seconds:
            best = found
        if best.seconds <= SLOW_IMPORT_S or spent > ENOUGH_S:
            break
    return best or Trial()


def _try(module: str, wait: float) -> Trial:
    with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
        command = [sys.executable, "-c", _CODE, module, json.dumps(sys.path), file.name, str(MOST_RECORDS)]
        quiet, inside = subprocess.DEVNULL, {**os.environ, PROBING_VARIABLE: module}
        try:
            code = subprocess.run(
                command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=wait, env=inside
            ).returncode
        except subprocess.TimeoutExpired:
            fate = "hangs"
        else:
            fate = f"exit code {code}" if code >= 0 else f"signal {signal_name(code)}"
        said = file.read().splitlines()
    if not said:
        return Trial(fate=fate)
    found, last = json.loads(said[0]), said[-1]
    done = last == "end" or found["raised"]
    hook = "" if done or len(said) == 1 else last
    return Trial(found["seconds"], tuple(found["tops"]), found["raised"], "" if done else fate, hook)
