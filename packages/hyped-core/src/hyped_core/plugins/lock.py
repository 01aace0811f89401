"""``plugins.lock.yaml``: each model's distribution, version and source hash, for DVC to depend on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from hyped_core.errors import HypedError
from hyped_core.plugins.host import PluginHost, default_host
from hyped_core.plugins.lost import asked_models, locked_entry, lost_model
from hyped_core.plugins.record import plain
from hyped_core.plugins.registry import models, provided_model
from hyped_core.plugins.sources import model_modules, source_hash, undeclared_modules
from hyped_core.spec import ModelSpec

HEADER = "# Written by `hyped plugins lock`: a stage of dvc.yaml depends on its model's entry here.\n"


def lock_entries(host: PluginHost | None = None) -> tuple[dict[str, Any], list[str]]:
    """``{"models": {task: {model: {distribution, version, sha256}}}}`` and what had to be left out.

    A name that two distributions claim is listed once for each, as ``distribution:name``; a dot in the
    distribution's name is ``-`` there, since DVC splits keys at dots.
    A model whose source cannot be found is left out with a note; nothing is fatal. A model that imports
    modules of its package without naming them is noted: they are hashed with it as far as imports can be read.
    """
    registry = models(host)
    tasks: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for item in registry.items():
        spec = item.spec
        try:
            digest = _digest(spec)
            unseen = undeclared_modules(spec)
        except (HypedError, OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            # ValueError: null bytes; the last two: nesting without end. A stranger's source may hold anything
            notes.append(f"{spec.key} of {item.plugin.distribution} left out: {plain(str(error))}")
            continue
        if unseen:
            notes.append(
                f"{spec.key} of {item.plugin.distribution} imports {', '.join(unseen)}, which its spec "
                "does not name as sources: it is taken for part of the model"
            )
        tasks.setdefault(spec.task, {})[registry.handle(item, spec.name).replace(".", "-")] = {
            "distribution": item.plugin.distribution,
            "version": item.plugin.version,
            "sha256": digest,
        }
    return {"models": tasks}, notes


def add_lost(entries: dict[str, Any], lock: Path, host: PluginHost | None = None) -> list[str]:
    """Add an entry for each model that the ``dvc.yaml`` beside ``lock`` asks for and ``entries`` lacks; notes on them.

    DVC ends a run where a key is missing. An entry that says ``state`` in place of the hash lets the stage run, which
    records that its model cannot be used and leaves the others unharmed.
    """
    host = host or default_host()
    notes = []
    for task, name in asked_models(lock.parent):
        named = entries["models"].get(task, {})
        if name in named:
            continue
        made = _without_hash(task, name, lock, named, host)
        entries["models"].setdefault(task, {})[name] = made
        if "state" in made:
            why = made.get("reason", "dvc.yaml asks for it, and no plugin here has it")
            notes.append(f"{task}/{name} is {made['state']}: {why}")
    return notes


def _without_hash(
    task: str, name: str, lock: Path, named: dict[str, Any], host: PluginHost
) -> dict[str, Any]:
    """The entry of a model that has none under the name it is asked for by."""
    old = locked_entry(lock, task, name)
    if (lost := lost_model(task, name, host, old)) is not None:
        owner = {"distribution": lost.distribution, "version": lost.version}
        return {**owner, "state": lost.state, "reason": lost.reason.partition("\n")[0]}
    try:
        item = provided_model(task, name, host)
    except HypedError:
        return {"state": "unknown"}
    if (same := named.get(models(host).handle(item, item.spec.name))) is not None:
        return dict(same)  # asked for with its distribution, which its name does not need
    return {"distribution": item.plugin.distribution, "version": item.plugin.version, "state": "unread"}


def _digest(spec: ModelSpec) -> str:
    """Hash of what decides on results: the sources, the classes named in them, the environment asked for."""
    said = (source_hash(model_modules(spec)), spec.target, spec.config or "", *spec.environment)
    return hashlib.sha256("\0".join(said).encode()).hexdigest()


def lock_text(entries: dict[str, Any]) -> str:
    """The file's content: sorted keys, so that equal plugins give equal bytes."""
    return HEADER + yaml.safe_dump(entries, sort_keys=True, default_flow_style=False, width=4096)


def lock_changes(path: Path, entries: dict[str, Any]) -> list[str]:
    """What differs between a lock file and the installed plugins, one line a model; empty where nothing."""
    try:
        old = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError):
        return [f"{path} is not valid YAML"]
    before, after = _flat(old), _flat(entries)
    changes = [f"{key} is new" for key in sorted(after.keys() - before.keys())]
    changes += [f"{key} is gone" for key in sorted(before.keys() - after.keys())]
    for key in sorted(before.keys() & after.keys()):
        if before[key] != after[key]:
            state = after[key].get("state") if isinstance(after[key], dict) else None
            changes.append(f"{key} is {state}" if state else f"{key} changed")
    return changes


def _flat(entries: Any) -> dict[str, Any]:
    tasks = entries.get("models") if isinstance(entries, dict) else None
    if not isinstance(tasks, dict):
        return {}
    return {
        f"{task}/{name}": value
        for task, named in tasks.items()
        if isinstance(named, dict)
        for name, value in named.items()
    }
