"""``plugins.lock.yaml``: each model's distribution, version and source hash, for DVC to depend on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from hyped_core.errors import HypedError
from hyped_core.plugins.host import PluginHost
from hyped_core.plugins.record import plain
from hyped_core.plugins.registry import models
from hyped_core.plugins.sources import model_modules, source_hash, undeclared_modules
from hyped_core.spec import ModelSpec

LOCK_FILE = "plugins.lock.yaml"
HEADER = "# Written by `hyped plugins lock`: a stage of dvc.yaml depends on its model's entry here.\n"


def lock_entries(host: PluginHost | None = None) -> tuple[dict[str, Any], list[str]]:
    """``{"models": {task: {model: {distribution, version, sha256}}}}`` and what had to be left out.

    A name that two distributions claim is listed once for each, as ``distribution:name``.
    A model whose source cannot be found is left out with a note; nothing is fatal. A model that imports
    modules of its package without naming them is noted, since a change in them goes unseen.
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
                "does not name as sources: a change there will not rerun it"
            )
        tasks.setdefault(spec.task, {})[registry.handle(item, spec.name)] = {
            "distribution": item.plugin.distribution,
            "version": item.plugin.version,
            "sha256": digest,
        }
    return {"models": tasks}, notes


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
            changes.append(f"{key} changed")
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
