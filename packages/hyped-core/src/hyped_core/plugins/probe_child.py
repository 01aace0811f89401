"""What a child process does to look at one plugin: import it, ask every hook, see what it changed, tell.

Also to look at a model's config, where that is asked.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

from hyped_core.plugins.compatibility import FAMILY
from hyped_core.plugins.host import PluginHost
from hyped_core.plugins.probe_strays import ended_strays
from hyped_core.plugins.record import said
from hyped_core.remote.memory import adopt

GRACE_S = 1.0
"""Seconds that threads started by the plugin have to end."""
GUARDED = (
    "builtins", "click", "importlib", "importlib.metadata", "io", "json", "os", "os.path", "pathlib", "pluggy",
    "subprocess", "tempfile", "threading", "time",
)  # fmt: skip
"""Modules whose public names every command relies on, beside all of hyped_core: a plugin leaves them as they are."""
_SYS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__", "exit", "modules", "excepthook")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OWN = tuple(name.replace("-", "_") for name in FAMILY)
_PATH: list[str] = []
_LIMITS: dict[str, tuple[int, int]] = {}
_FILTERS: list[Any] = []


def main(given: dict[str, Any]) -> None:
    """Look at the entry point ``given`` and write one line of JSON to the file descriptor ``given["report"]``."""
    pid = os.getpid()
    sys.argv[:] = ["hyped"]
    _no_core_files()
    adopt()
    report = os.fdopen(given["report"], "wb", buffering=0)
    if given["job"] == "config":
        from hyped_core.plugins.configs import describe

        report.write(json.dumps({"found": describe(given["value"])}).encode() + b"\n")
        os._exit(0)  # nothing that the module started holds up the answer
    point, dumps = EntryPoint(given["name"], given["value"], "hyped"), json.dumps
    for name in GUARDED:
        importlib.import_module(name)
    for name in _OWN:
        with contextlib.suppress(ImportError):
            importlib.import_module(f"{name}.plugin")  # a command has imported those that are installed
    tempfile.gettempdir()  # it keeps what it finds
    before = _state()
    _LIMITS.update(_resources())
    _FILTERS[:] = warnings.filters
    _PATH[:] = dict.fromkeys(sys.path)
    told: dict[str, Any] = {}
    try:
        PluginHost([point], block=(), strict=False, guard=False).check()
    except BaseException as error:  # noqa: BLE001  whatever it raises past the host would end a command
        changed = _changed(before)
        told = {"harm": changed or f"raises {said(error)}, which ends a command", "trace": _trace(error)}
    if os.getpid() != pid:
        told = {"harm": "forks the interpreter: two processes would go on"}
    told = told or {"harm": _changed(before) or _threads() or ended_strays(GRACE_S)}
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
    yield "what logging leaves out (logging.disable)", str(logging.root.manager.disable)
    umask = os.umask(0o077)
    os.umask(umask)
    yield "the umask", str(umask)
    for name, value in os.environ.items():
        yield f"the variable {name}", value
    for number in _SIGNALS:
        yield f"the handler of {number.name}", signal.getsignal(number)
    own = [name for name in sys.modules if name.partition(".")[0] in _OWN and "probe" not in name]
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
    if found := _impostor() or _warns() or _times() or _limits() or _numbers():
        return found
    if [place for place in dict.fromkeys(sys.path) if place in _PATH] != _PATH:
        return "changes sys.path: what was importable no longer is"
    for name, value in before.items():
        if name not in after or not _same(value, after[name]):
            if name.startswith("whether "):
                return f"closes {name.removeprefix('whether ').removesuffix(' is open')}"
            return f"changes {name} of the interpreter that runs it"
    return ""


def _impostor() -> str:
    """A module of HYPED's own that cannot be imported any more, or is another."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _OWN:
            spec = getattr(module, "__spec__", None) if isinstance(module, ModuleType) else None
            if getattr(spec, "name", "") != name:
                return f"replaces the module {name} in sys.modules"
    return ""


def _warns() -> str:
    """Python's own warnings made errors, whoever gives them; libraries that silence some, or mind their own, may."""
    for action, message, category, module, _ in [held for held in warnings.filters if held not in _FILTERS]:
        of_python = getattr(category, "__module__", "") == "builtins"
        if action == "error" and message is None and module is None and of_python:
            return f"makes errors of all warnings ({category.__name__}), those of other code too"
    return ""


def _times() -> str:
    timers = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    running = any(signal.getitimer(timer)[0] for timer in timers)
    return "sets a timer (signal.alarm or signal.setitimer) that may end the command" if running else ""


def _limits() -> str:
    """The first limit of the process that is lower than it was."""
    for name, before in _LIMITS.items():
        now = _resources().get(name, before)
        if any(0 <= new and (old < 0 or new < old) for old, new in zip(before, now)):
            return f"lowers {name} of the interpreter that runs it"
    return ""


def _resources() -> dict[str, tuple[int, int]]:
    """The limits of this process; -1 is none."""
    try:
        import resource
    except ImportError:
        return {}
    names = [name for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_CORE"]
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def _numbers() -> str:
    numpy = sys.modules.get("numpy")
    raises = numpy is not None and "raise" in numpy.geterr().values()
    return "makes NumPy raise where it warns (numpy.seterr), in other code too" if raises else ""


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
