"""Models that a pipeline asks for and no plugin gives: which they are, whose they were, and why they cannot be used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from hyped_core.errors import HypedError, NameClashError
from hyped_core.plugins.discovery import normal_name
from hyped_core.plugins.host import PluginHost, default_host
from hyped_core.plugins.record import PluginRecord, plain
from hyped_core.plugins.registry import provided_model
from hyped_core.provenance import LOCK_FILE

_ASKED = re.compile(r"models\.([^.]+)\.([^.]+)")
_FIELD = re.compile(r"\$\{item(?:\.(\w+))?\}")


@dataclass(frozen=True, slots=True)
class Lost:
    """A model that was there, or may be that of a plugin which is broken, and cannot be used now.

    Attributes
    ----------
    distribution, version : whose it is or was; empty where that is not known.
    state : of its plugin; ``gone`` where that is not installed, or has it no more; ``clashing`` where several claim it.
    reason, mend : why, and what helps.
    """

    distribution: str
    version: str
    state: Literal["broken", "blocked", "gone", "clashing"]
    reason: str
    mend: str

    def __str__(self) -> str:
        return self.reason + (f"\n  to mend: {self.mend}" if self.mend else "")


def lost_model(
    task: str, name: str, host: PluginHost | None = None, entry: Mapping[str, Any] | None = None
) -> Lost | None:
    """Why a model is lost; None where it is found, and where nothing speaks for it ever having been there.

    Parameters
    ----------
    entry
        What ``plugins.lock.yaml`` says of it; that of the current folder where None.
    """
    host = host or default_host()
    try:
        provided_model(task, name, host)
        return None
    except NameClashError as error:
        return Lost("", "", "clashing", error.message, error.mend or "")
    except HypedError as error:
        unknown = error
    entry = locked_entry(Path(LOCK_FILE), task, name) if entry is None else entry
    owner = name.rpartition(":")[0] or str(entry.get("distribution") or "")
    if not owner:
        return _of_any(unknown, host.broken)
    theirs = [p for p in host.plugins if normal_name(p.distribution) == normal_name(owner)]
    for plugin in theirs:
        if plugin.state == "broken":
            return Lost(plugin.distribution, plugin.version, "broken", _first(plugin.reason), plugin.mend)
    version = str(entry.get("version") or "")
    mend = f"pip install {owner} in a version that has it, or take its line out of params.yaml"
    if not theirs:
        return Lost(owner, version, "gone", f"its package {owner} is not installed", mend)
    plugin = theirs[0]
    if plugin.state == "blocked":
        return Lost(plugin.distribution, plugin.version, "blocked", f"its plugin is left out: {plugin.reason}", "")
    return Lost(plugin.distribution, plugin.version, "gone", f"{owner} {plugin.version} has no such model", mend)


def _of_any(unknown: HypedError, broken: list[PluginRecord]) -> Lost | None:
    """A name that nothing says the owner of: it may be that of a plugin which is broken."""
    if not broken:
        return None
    if len(broken) == 1:
        (plugin,) = broken
        said = f"{unknown.message}; it may be that of {plugin.name}, which is broken: {_first(plugin.reason)}"
        return Lost(plugin.distribution, plugin.version, "broken", said, plugin.mend)
    names = ", ".join(plugin.name for plugin in broken)
    said = f"{unknown.message}; it may be that of one of the broken plugins {names}"
    return Lost("", "", "broken", said, "hyped plugins list says what ails them and what gets rid of them")


def _first(reason: str) -> str:
    return plain(reason.partition("\n")[0])


def locked_entry(lock: Path, task: str, name: str) -> dict[str, Any]:
    """What a lock file says of a model; empty where it says nothing, or cannot be read."""
    value = _mapping(lock)
    for key in ("models", task, name):
        value = value.get(key)
        if not isinstance(value, dict):
            return {}
    return value


def asked_models(folder: Path) -> list[tuple[str, str]]:
    """Task and name of each model on whose entry a stage of the ``dvc.yaml`` in ``folder`` depends, sorted.

    Stages over the items of a section of ``params.yaml`` (``foreach: ${section}``) are followed; no other is guessed.
    """
    stages, params = _mapping(folder / "dvc.yaml").get("stages"), _mapping(folder / "params.yaml")
    found: set[tuple[str, str]] = set()
    for stage in stages.values() if isinstance(stages, dict) else ():
        if not isinstance(stage, dict):
            continue
        items: Any = [None]
        if isinstance(over := stage.get("foreach"), str):
            section = params.get(over.strip("${}"))
            items = section.values() if isinstance(section, dict) else section if isinstance(section, list) else ()
            stage = stage.get("do")
        for key in _keys(stage):
            for item in items:
                if match := _ASKED.fullmatch(_filled(key, item)):
                    found.add((match[1], match[2]))
    return sorted(found)


def _keys(stage: Any) -> list[str]:
    """The keys of the lock file that a stage depends on, as they are written."""
    params = stage.get("params") if isinstance(stage, dict) else None
    files = [entry for entry in params if isinstance(entry, dict)] if isinstance(params, list) else []
    return [key for entry in files for key in entry.get(LOCK_FILE) or () if isinstance(key, str)]


def _filled(key: str, item: Any) -> str:
    """A key with the values of an item put in; where the item lacks one, the key is that of no model."""

    def value(match: re.Match[str]) -> str:
        found = item if match[1] is None else item.get(match[1]) if isinstance(item, dict) else None
        return found if isinstance(found, str) else "."

    return _FIELD.sub(value, key)


def _mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; empty where it does not, or cannot be read."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return value if isinstance(value, dict) else {}
