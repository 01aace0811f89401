"""What a child process does to look at one plugin: import it, ask every hook, see what it changed, tell.

Also to look at a model's config, where that is asked.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

from hyped_core.plugins.host import PluginHost
from hyped_core.plugins.record import said

GRACE_S = 1.0
"""Seconds that threads started by the plugin have to end."""
GUARDED = (
    "builtins", "click", "importlib", "importlib.metadata", "io", "json", "os", "os.path", "pathlib", "pluggy",
    "subprocess", "tempfile", "threading", "time",
)  # fmt: skip
"""Modules whose public names every command relies on, beside all of hyped_core: a plugin leaves them as they are."""
_SYS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__", "exit", "modules", "excepthook")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATH: list[str] = []


def main(given: dict[str, Any]) -> None:
    """Look at the entry point ``given`` and write one line of JSON to the file descriptor ``given["report"]``."""
    pid = os.getpid()
    sys.argv[:] = ["hyped"]
    _no_core_files()
    report = os.fdopen(given["report"], "wb", buffering=0)
    if given["job"] == "config":
        from hyped_core.plugins.configs import describe

        report.write(json.dumps({"found": describe(given["value"])}).encode() + b"\n")
        os._exit(0)  # nothing that the module started holds up the answer
    point, dumps = EntryPoint(given["name"], given["value"], "hyped"), json.dumps
    for name in GUARDED:
        importlib.import_module(name)
    before = _state()
    _PATH[:] = dict.fromkeys(sys.path)
    told: dict[str, Any] = {}
    try:
        PluginHost([point], block=(), strict=False, guard=False).check()
    except BaseException as error:  # noqa: BLE001  whatever it raises past the host would end a command
        changed = _changed(before)
        told = {"harm": changed or f"raises {said(error)}, which ends a command", "trace": _trace(error)}
    if os.getpid() != pid:
        told = {"harm": "forks the interpreter: two processes would go on"}
    told = told or {"harm": _changed(before) or _threads()}
    report.write(dumps(told).encode() + b"\n")
    if told["harm"]:
        os._exit(0)


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))[-2000:]
    except BaseException:  # noqa: BLE001  a stranger's error may raise anything when it is asked
        return ""


def _threads() -> str:
    """Which threads go on; empty where all end soon."""
    end = time.monotonic() + GRACE_S
    while others := [t for t in threading.enumerate() if t is not threading.main_thread() and t.is_alive()]:
        if time.monotonic() > end:
            return f"starts a thread that does not end ({others[0].name})"
        time.sleep(0.01)
    return ""


def _state() -> dict[str, Any]:
    """What a plugin has to leave as it is, by a name to show."""
    return dict(_parts())


def _parts() -> Iterator[tuple[str, Any]]:
    for name in _SYS:
        yield f"sys.{name}", getattr(sys, name, None)
    for name in ("stdin", "stdout", "stderr"):
        yield f"whether sys.{name} is open", not getattr(getattr(sys, name, None), "closed", True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        yield f"the file descriptor of {name}", _file(number)
    yield "the working folder", _folder()
    yield "os.environ", os.environ
    yield "the recursion limit", str(sys.getrecursionlimit())
    for name, value in os.environ.items():
        yield f"the variable {name}", value
    for number in _SIGNALS:
        yield f"the handler of {number.name}", signal.getsignal(number)
    own = [name for name in sys.modules if name.partition(".")[0] == "hyped_core" and "probe" not in name]
    for name in sorted({*GUARDED, *own}):
        module = sys.modules.get(name)
        yield f"the module {name}", module
        for key, value in list(vars(module).items()) if module is not None else ():
            if key.startswith("_"):
                continue
            yield f"{name}.{key}", value
            if isinstance(value, type) and value.__module__ == name and name.startswith("hyped_core"):
                for attribute, held in list(vars(value).items()):
                    if not attribute.startswith("__") or attribute in ("__init__", "__post_init__"):
                        yield f"{name}.{key}.{attribute}", held


def _changed(before: dict[str, Any]) -> str:
    """The first thing that is no longer what it was, in words; empty where all is."""
    try:
        after = _state()
    except BaseException as error:  # noqa: BLE001  what it left behind may raise anything
        return f"leaves an interpreter that cannot be looked at ({said(error)})"
    for name in after:
        if name.startswith("the variable HYPED_") and name not in before:
            return f"sets {name.removeprefix('the ')}"
    if [place for place in dict.fromkeys(sys.path) if place in _PATH] != _PATH:
        return "changes sys.path: what was importable no longer is"
    for name, value in before.items():
        if name not in after or not _same(value, after[name]):
            if name.startswith("whether "):
                return f"closes {name.removeprefix('whether ').removesuffix(' is open')}"
            return f"changes {name} of the interpreter that runs it"
    return ""


def _same(a: Any, b: Any) -> bool:
    return a is b or type(a) in (bool, str, tuple) and type(b) is type(a) and a == b


def _file(number: int) -> tuple[int, ...]:
    try:
        found = os.fstat(number)
    except OSError:
        return ()
    return found.st_dev, found.st_ino


def _folder() -> str:
    with contextlib.suppress(OSError):
        return os.getcwd()  # noqa: PTH109  the text, compared
    return ""


def _no_core_files() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
