"""Loads every plugin on its own, keeps what broke and why, and drains each hook plugin by plugin."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from typing import Any, Literal

import pluggy

from hyped_core.errors import PluginError
from hyped_core.plugins.discovery import find_points, normal_name, owner_of, precedence
from hyped_core.plugins.hookspecs import HOOKS, PROJECT, HypedHooks
from hyped_core.spec import API_VERSION, ModelSpec

BLOCK_VARIABLE = "HYPED_BLOCK_PLUGINS"
STRICT_VARIABLE = "HYPED_STRICT_PLUGINS"
SLOW_IMPORT_S = 0.3
"""A plugin module that takes longer than this to import is noted as slow: every command pays for it."""


@dataclass(slots=True)
class PluginRecord:
    """A plugin as the host sees it.

    Attributes
    ----------
    name : the entry point's name.
    distribution, version : the package that declares it.
    module : the module the entry point names.
    blocked : why it was left out on purpose, or empty.
    faults : what could not be used: place (``load`` or a hook's name) -> reasons. All else stays in use.
    traceback : of its failures, for ``hyped plugins list --verbose``.
    load_s : seconds its import took.
    hooks : names of the hooks it implements.
    """

    name: str
    distribution: str
    version: str
    module: str
    blocked: str = ""
    faults: dict[str, list[str]] = field(default_factory=dict)
    traceback: str = ""
    load_s: float = 0.0
    hooks: tuple[str, ...] = ()

    @property
    def state(self) -> Literal["active", "broken", "blocked"]:
        """``broken`` where anything of it could not be used, whichever hook was asked first."""
        if self.blocked:
            return "blocked"
        return "broken" if self.faults else "active"

    @property
    def reason(self) -> str:
        """Why it is blocked, or everything that could not be used; the same whatever was asked for first."""
        order = ["load", *HOOKS]
        places = sorted(self.faults, key=lambda place: (order.index(place) if place in order else 99, place))
        return self.blocked or "; ".join(reason for place in places for reason in self.faults[place])

    @property
    def mend(self) -> str:
        """The command that gets rid of a broken plugin."""
        if self.state != "broken":
            return ""
        return f"pip uninstall {self.distribution}, or set {BLOCK_VARIABLE}={self.name}"

    @property
    def note(self) -> str:
        """What is worth saying about a plugin that works."""
        notes = []
        if self.state == "active" and not self.hooks:
            notes.append("implements no hook of HYPED")
        if self.load_s > SLOW_IMPORT_S:
            notes.append(f"slow: its import takes {self.load_s:.2f} s, which every command pays")
        return "; ".join(notes)


@dataclass(frozen=True, slots=True)
class Provided:
    """One contribution and the plugin it came from."""

    spec: Any
    plugin: PluginRecord


class PluginHost:
    """All plugins of one environment.

    A plugin that fails in one hook loses what that hook would have given and keeps its other contributions;
    its record is ``broken`` and says why. Which hook is asked first makes no difference.

    Parameters
    ----------
    points
        Entry points to load; those of the group ``hyped`` where None.
    path
        Folders to look for distributions in, instead of ``sys.path``.
    block
        Names of entry points or distributions to leave out (default: ``HYPED_BLOCK_PLUGINS``, commas).
    strict
        Raise on the first broken plugin instead of recording it (default: ``HYPED_STRICT_PLUGINS``).
    """

    def __init__(
        self,
        points: Iterable[EntryPoint] | None = None,
        *,
        path: list[str] | None = None,
        block: Iterable[str] | None = None,
        strict: bool | None = None,
    ) -> None:
        if block is None:
            block = os.environ.get(BLOCK_VARIABLE, "").split(",")
        self._block = {normal_name(name) for name in block if name.strip()}
        self._strict = os.environ.get(STRICT_VARIABLE, "") not in ("", "0") if strict is None else strict
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(HypedHooks)
        self._collected: dict[str, list[Provided]] = {}
        self._usable: list[PluginRecord] = []
        self.plugins: list[PluginRecord] = []
        unreadable: list[tuple[str, Exception]] = []
        if points is None:
            points, unreadable = find_points(path)
        for name, error in unreadable:
            record = PluginRecord(name, name, "unknown", "")
            self.plugins.append(record)
            self.refuse(record, "load", f"its entry points cannot be read: {_said(error)}", error)
        for point in sorted(points, key=precedence):
            self._load(point)

    def register(self, module: Any, name: str, distribution: str = "", version: str = "0") -> PluginRecord:
        """Register an object with hook implementations, as an entry point of ``distribution`` would be."""
        record = PluginRecord(name, distribution or name, version, getattr(module, "__name__", name))
        self.plugins.append(record)
        self._collected.clear()
        self._register(module, record)
        return record

    def record(self, name: str) -> PluginRecord | None:
        """The plugin called ``name``, if there is one."""
        return next((plugin for plugin in self.plugins if plugin.name == name), None)

    @property
    def broken(self) -> list[PluginRecord]:
        """Plugins of which something could not be used, as far as hooks were asked (see `check`)."""
        return [plugin for plugin in self.plugins if plugin.state == "broken"]

    def check(self) -> list[PluginRecord]:
        """Ask every hook of every plugin and return all records with their final states."""
        for hook in HOOKS:
            self.collect(hook)
        return self.plugins

    def collect(self, hook: str) -> list[Provided]:
        """Everything the usable plugins contribute to ``hook``, in the order of the plugins' names.

        A plugin that raises or yields something that is not the hook's record loses the contributions
        in question; the others are untouched.
        """
        if hook not in HOOKS:
            raise PluginError(f"there is no hook {hook!r}", mend=f"hooks: {', '.join(HOOKS)}")
        if hook not in self._collected:
            self._collected[hook] = [
                provided for record in list(self._usable) for provided in self._drain(hook, record)
            ]
        return self._collected[hook]

    def refuse(
        self, record: PluginRecord, hook: str, reason: str, error: BaseException | None = None
    ) -> None:
        """Note that something of a plugin cannot be used (raises where the host is strict)."""
        reasons = record.faults.setdefault(hook, [])
        if reason not in reasons:
            reasons.append(reason)
            if error is not None:
                record.traceback += "".join(traceback.format_exception(error))
        if self._strict:
            raise PluginError(
                reason, where=f"{record.name} ({record.distribution})", mend=record.mend
            ) from error

    def _load(self, point: EntryPoint) -> None:
        distribution, version = owner_of(point)
        record = PluginRecord(point.name, distribution, version, point.value)
        self.plugins.append(record)
        if {normal_name(point.name), normal_name(distribution)} & self._block:
            record.blocked = f"named in {BLOCK_VARIABLE}"
            return
        started = time.perf_counter()
        try:
            with stdout_to_stderr():
                module = point.load()
        except (Exception, SystemExit) as error:
            self.refuse(record, "load", f"fails on import: {_said(error)}", error)
            return
        record.load_s = time.perf_counter() - started
        self._register(module, record)

    def _register(self, module: Any, record: PluginRecord) -> None:
        if self._manager.has_plugin(record.name):
            first = self.record(record.name)
            other = first.distribution if first else record.distribution
            said = f"two distributions call their plugin {record.name!r}: {other} and {record.distribution}"
            if other == record.distribution:
                said = f"{other} names two plugins {record.name!r}"
            self.refuse(record, "load", said)
            return
        for name, complaint in _misspelt_hooks(module):
            self.refuse(record, name, complaint)
        try:
            self._manager.register(module, name=record.name)
        except Exception as error:
            if self._manager.has_plugin(record.name):
                self._manager.unregister(name=record.name)
            self.refuse(record, "load", " ".join(_said(error).split()), error)
            return
        record.hooks = tuple(hook for hook in HOOKS if getattr(module, hook, None) is not None)
        self._usable.append(record)

    def _drain(self, hook: str, record: PluginRecord) -> list[Provided]:
        implementation = getattr(self._manager.get_plugin(record.name), hook, None)
        if implementation is None:
            return []
        try:
            with stdout_to_stderr():
                result = implementation()
                specs = [] if result is None else list(result)
        except (Exception, SystemExit) as error:
            self.refuse(record, hook, f"{hook} raised {_said(error)}", error)
            return []
        kept = []
        for spec in specs:
            refusal = _refusal(hook, spec)
            if refusal is None:
                kept.append(Provided(spec, record))
            else:
                self.refuse(record, hook, refusal)
        return kept


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """While a plugin's code is imported, what it prints goes to stderr: stdout is data."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _misspelt_hooks(module: Any) -> Iterator[tuple[str, str]]:
    """Hook implementations that no hook is waiting for, each with a complaint."""
    for name in dir(module):
        if name in HOOKS:
            continue
        try:
            value = inspect.getattr_static(module, name)
        except AttributeError:
            continue
        close = difflib.get_close_matches(name, HOOKS, n=1)
        marked = isinstance(getattr(value, f"{PROJECT}_impl", None), dict)
        unmarked = name.startswith("hyped_") and inspect.isfunction(value) and close
        if marked or unmarked and value.__module__ == getattr(module, "__name__", ""):
            hint = f"did you mean {close[0]!r}?" if close else f"hooks: {', '.join(HOOKS)}"
            yield name, f"there is no hook {name!r}; {hint}"


def _refusal(hook: str, spec: Any) -> str | None:
    """Why a contribution cannot be taken, or None where it can."""
    expected = HOOKS[hook]
    if not isinstance(spec, expected):
        return f"{hook} yielded {type(spec).__name__}, expected {expected.__name__}"
    if isinstance(spec, ModelSpec) and spec.api_version != API_VERSION:
        return (
            f"model {spec.key} was written for api_version {spec.api_version}, "
            f"this hyped-core offers {API_VERSION}"
        )
    return None


@functools.cache
def default_host() -> PluginHost:
    """The host of this process, loaded once."""
    return PluginHost()
