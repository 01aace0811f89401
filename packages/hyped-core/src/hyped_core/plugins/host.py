"""Loads every plugin on its own, keeps what broke and why, and drains each hook plugin by plugin."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from hyped_core.errors import HypedError, PluginError
from hyped_core.plugins.acceptance import MOST_RECORDS, clashes, misspelt_hooks, take, taken_suffixes
from hyped_core.plugins.compatibility import hook_note, requirement_refusals
from hyped_core.plugins.discovery import find_points, normal_name, owner_of, precedence
from hyped_core.plugins.folder import FolderDistribution, plugin_folders
from hyped_core.plugins.hookspecs import HOOKS, PROJECT, HypedHooks
from hyped_core.plugins.record import (
    BLOCK_VARIABLE,
    PROBING_VARIABLE,
    SLOW_IMPORT_S,
    PluginRecord,
    Provided,
    plain,
    said,
)
from hyped_core.plugins.streams import descriptor_to_stderr, stdout_to_stderr

__all__ = [
    "BLOCK_VARIABLE", "PROBING_VARIABLE", "SLOW_IMPORT_S", "STRICT_VARIABLE", "PluginHost", "PluginRecord", "Provided",
    "default_host", "stdout_to_stderr",
]  # fmt: skip

STRICT_VARIABLE = "HYPED_STRICT_PLUGINS"
LOOK_AGAIN = "once its cause is gone, hyped plugins list --again"
"""The verdict on a plugin that did harm is kept, also where the harm came of something outside its files."""


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
    folders
        Source folders of plugins that count as installed (see `hyped_core.plugins.folder`).
    block
        Names of entry points or distributions to leave out (default: ``HYPED_BLOCK_PLUGINS``, commas).
    strict
        Raise on the first broken plugin instead of recording it (default: ``HYPED_STRICT_PLUGINS``).
    probe
        Look at strangers' plugins in a process of their own before they are imported in this one, and leave out
        those that did harm there (see `hyped_core.plugins.probe`).
    guard
        Keep stdout from plugins' code while it is imported and asked.
    """

    def __init__(
        self,
        points: Iterable[EntryPoint] | None = None,
        *,
        path: list[str] | None = None,
        folders: Sequence[Path] = (),
        block: Iterable[str] | None = None,
        strict: bool | None = None,
        probe: bool = False,
        guard: bool = True,
    ) -> None:
        if block is None:
            block = os.environ.get(BLOCK_VARIABLE, "").split(",")
        self._block = {normal_name(name) for name in block if name.strip()}
        self._strict = os.environ.get(STRICT_VARIABLE, "") not in ("", "0") if strict is None else strict
        self._guard = guard
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(HypedHooks)
        self._collected: dict[str, list[Provided]] = {}
        self._usable: list[PluginRecord] = []
        self.plugins: list[PluginRecord] = []
        unreadable: list[tuple[str, Exception]] = []
        if points is None:
            points, unreadable = find_points(path, folders)
        for name, error in unreadable:
            self._note_unreadable(name, error)
        waiting = [(self._announce(point, probe), point) for point in sorted(points, key=precedence)]
        if probe:
            self._probe([(record, point) for record, point in waiting if record.state == "active" and not record.own])
        for record, point in waiting:
            if record.state == "active" or record.writes_stdout:
                self._load(record, point)

    def register(self, module: Any, name: str, distribution: str = "", version: str = "0") -> PluginRecord:
        """Register an object with hook implementations, as an entry point of ``distribution`` would be."""
        record = PluginRecord(name, distribution or name, version, getattr(module, "__name__", name))
        self._check_name(record)
        self.plugins.append(record)
        self._collected.clear()
        if record.state == "active":
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
        in question; the others are untouched. What HYPED's own packages contribute is displaced by nobody
        (`hyped_core.plugins.acceptance.clashes`).
        """
        if hook not in HOOKS:
            raise PluginError(f"there is no hook {hook!r}", mend=f"hooks: {', '.join(HOOKS)}")
        if hook not in self._collected:
            provided = [item for record in list(self._usable) for item in self._drain(hook, record)]
            for rule in (clashes, taken_suffixes):
                for item, reason, instead in list(rule(hook, provided)):
                    self.refuse(item.plugin, hook, reason)
                    held = [instead if other is item else other for other in provided]
                    provided = [other for other in held if other is not None]
            self._collected[hook] = provided
        return self._collected[hook]

    def refuse(
        self, record: PluginRecord, hook: str, reason: str, error: BaseException | None = None, advice: str = ""
    ) -> None:
        """Note that something of a plugin cannot be used (raises where the host is strict)."""
        record.fault(hook, reason, error, advice)
        if self._strict:
            raise PluginError(
                reason, where=f"{record.name} ({record.distribution})", mend=record.mend
            ) from error

    def _note_unreadable(self, name: str, error: Exception) -> None:
        """A distribution, or a source folder by its path, whose entry points could not be read."""
        is_folder = os.sep in name
        shown = Path(name).name if is_folder else name
        record = PluginRecord(plain(shown), plain(shown), "unknown", "", folder=plain(name) if is_folder else "")
        self.plugins.append(record)
        if isinstance(error, HypedError):
            self.refuse(record, "load", f"{error.where}: {error.message}", error, (error.mend or "").partition("\n")[0])
        else:
            self.refuse(record, "load", f"its entry points cannot be read: {said(error)}", error)

    def _announce(self, point: EntryPoint, probe: bool) -> PluginRecord:
        """The record of a plugin that is not yet imported, with what already speaks against it."""
        distribution, version = owner_of(point)
        folder = str(point.dist.folder) if isinstance(point.dist, FolderDistribution) else ""
        record = PluginRecord(*map(plain, (point.name, distribution, version, point.value)), folder=folder)
        if {normal_name(point.name), normal_name(distribution)} & self._block:
            record.blocked = f"named in {BLOCK_VARIABLE}"
        elif probe and not record.own and os.environ.get(PROBING_VARIABLE):
            record.blocked = f"{plain(os.environ[PROBING_VARIABLE])} started this command while it was being loaded"
        else:
            self._check_name(record)
            if record.state == "active" and not record.own and point.dist is not None:
                self._check_requirements(record, point)
        self.plugins.append(record)
        return record

    def _check_name(self, record: PluginRecord) -> None:
        first = next((p for p in self.plugins if p.name == record.name and p.state == "active"), None)
        if first is not None:
            owners = f"two distributions call their plugin {record.name!r}: {first.distribution} and "
            complaint = f"{owners}{record.distribution}"
            if first.distribution == record.distribution:
                complaint = f"{first.distribution} names two plugins {record.name!r}"
            self.refuse(record, "load", complaint)

    def _check_requirements(self, record: PluginRecord, point: EntryPoint) -> None:
        assert point.dist is not None
        try:
            refusals = requirement_refusals(point.dist)
        except Exception:
            record.notes.append("its metadata cannot be read")
            return
        for refusal in refusals:
            self.refuse(record, "load", refusal.reason, advice=refusal.mend)

    def _probe(self, waiting: list[tuple[PluginRecord, EntryPoint]]) -> None:
        """Leave out strangers that do harm, before any of them is imported here."""
        if not waiting:
            return
        from hyped_core.plugins.probe import verdicts

        for (record, _), verdict in zip(waiting, verdicts([point for _, point in waiting])):
            record.writes_stdout = verdict.writes_stdout
            if verdict.harm:
                record.traceback = verdict.trace
                self.refuse(record, verdict.place, verdict.harm, advice=LOOK_AGAIN)
            elif verdict.writes_stdout:
                self.refuse(record, "load", "writes to stdout, where data belong; it is sent to stderr")

    def _load(self, record: PluginRecord, point: EntryPoint) -> None:
        started = time.perf_counter()
        before = set() if record.own else set(sys.modules)
        try:
            with self._kept_apart(record):
                module = point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.refuse(record, "load", f"fails on import: {said(error)}", error)
            return
        finally:
            if not record.own:
                _forget_impostors(before)
        record.load_s = time.perf_counter() - started
        self._register(module, record)

    def _register(self, module: Any, record: PluginRecord) -> None:
        try:
            with self._kept_apart(record):
                complaints = list(misspelt_hooks(module))
                self._manager.register(module, name=record.name)
                hooks = tuple(hook for hook in HOOKS if getattr(module, hook, None) is not None)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self._manager.has_plugin(record.name):
                self._manager.unregister(name=record.name)
            self.refuse(record, "load", " ".join(said(error).split()), error)
            return
        for name, complaint in complaints:
            self.refuse(record, name, complaint)
        record.hooks = hooks
        record.notes += filter(None, map(hook_note, hooks))
        self._usable.append(record)

    def _drain(self, hook: str, record: PluginRecord) -> list[Provided]:
        if hook not in record.hooks:
            return []
        kept: list[Provided] = []
        refused: list[tuple[str, str]] = []
        try:
            with self._kept_apart(record):
                result = getattr(self._manager.get_plugin(record.name), hook)()
                specs = [] if result is None else list(itertools.islice(result, MOST_RECORDS + 1))
                for spec in specs:
                    refusal = take(hook, spec, record)
                    if refusal is None:
                        kept.append(Provided(spec, record))
                    else:
                        refused.append(refusal)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.refuse(record, hook, f"{hook} raised {said(error)}", error)
            return []
        if len(specs) > MOST_RECORDS:
            self.refuse(record, hook, f"{hook} yields more than {MOST_RECORDS:,} records")
            return []
        for reason, advice in refused:
            self.refuse(record, hook, plain(reason), advice=advice)
        return kept

    @contextlib.contextmanager
    def _kept_apart(self, record: PluginRecord) -> Iterator[None]:
        """While a plugin's code runs: what it prints goes to stderr, and a ``hyped`` it starts loads no strangers."""
        if not self._guard:
            yield
            return
        with stdout_to_stderr():
            if record.own:
                yield
                return
            before = os.environ.get(PROBING_VARIABLE)
            os.environ[PROBING_VARIABLE] = record.name
            try:
                with descriptor_to_stderr(record.writes_stdout):
                    yield
            finally:
                if before is None:
                    os.environ.pop(PROBING_VARIABLE, None)
                else:
                    os.environ[PROBING_VARIABLE] = before


def _forget_impostors(before: set[str]) -> None:
    """Drop what a plugin put into ``sys.modules`` that is no module: who looks through it expects modules."""
    for name in set(sys.modules) - before:
        if ModuleType not in type(sys.modules[name]).__mro__:
            del sys.modules[name]


@functools.cache
def default_host() -> PluginHost:
    """The host of this process, loaded once: everything installed, and the folders in ``HYPED_PLUGIN_FOLDERS``."""
    return PluginHost(folders=plugin_folders(), probe=True)
