"""What decides a number: where none of it changed, a finished run need not be run again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from hyped_bench.readers import sha256_of
from hyped_bench.runner.jobs import Job
from hyped_bench.runner.work import filled_config, full_config
from hyped_core.errors import HypedError, ParamsError
from hyped_core.plugins.host import PluginHost
from hyped_core.plugins.registry import models, tasks
from hyped_core.plugins.sources import model_modules, source_hash
from hyped_core.remote.determinism import VARIABLE

KEY_SCHEMA = 1
LOOK_S = 120.0
"""How long a process of its own may take to say which model it has and how that is configured."""
_TASK_CODE = ("tasks", "metrics", "splits", "references", "readers", "frames")
"""Parts of hyped-bench that decide what a task's numbers are."""
_CORE_CODE = ("hyped_core.splits",)
"""What of hyped-core does."""


class Hashes:
    """Hashes of files and folders, each taken once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, path: str) -> str:
        """sha256 of a file or folder."""
        if path not in self._known:
            self._known[path] = sha256_of(path)
        return self._known[path]


def key_parts(
    job: Job, name: str, seed: int, hashes: Hashes, host: PluginHost | None = None
) -> dict[str, Any] | None:
    """All that decides a run's numbers, JSON-able; None where it cannot be told (the model cannot be looked at).

    Task with the hash of its code, parameters, hashes of the data and of what the model's config names, config, the
    model's distribution, version and source, seed, device, and whether torch is held to determinism. Libraries are
    left out, as they are by the pipeline: their versions stand in each record.
    """
    try:
        model = _model_parts(job, name, host)
    except ParamsError:
        raise
    except (HypedError, OSError, SyntaxError):
        return None
    named = [*job.task.inputs(), *_paths(model.get("config")), *_paths(job.section)]
    return {
        "schema": KEY_SCHEMA,
        "task": job.name,
        "task code": task_code(job.name, host),
        "params": job.section,
        "data": {path: hashes.of(path) for path in sorted(set(named)) if Path(path).exists()},
        **model,
        "seed": seed,
        "device": job.task.context.device,
        "deterministic": bool(os.environ.get(VARIABLE)),
    }


def task_code(task: str, host: PluginHost | None = None) -> str:
    """Hash of the code that decides a task's numbers: parts of hyped-bench, or a plugin's whole package."""
    top = tasks(host).get(task).target.partition(":")[0].partition(".")[0]
    own = [*(f"hyped_bench.{part}" for part in _TASK_CODE), *_CORE_CODE]
    return source_hash(own if top == "hyped_bench" else [top, *own])


def changed_parts(old: Any, new: dict[str, Any] | None) -> list[str]:
    """Names of the parts that differ; empty where none does."""
    if not isinstance(old, dict) or new is None:
        return ["what decides it"]
    return [part for part in sorted({*old, *new}) if old.get(part) != new.get(part)]


def _model_parts(job: Job, name: str, host: PluginHost | None) -> dict[str, Any]:
    if not job.task.needs_model or name in job.task.reference_names:
        return {"model": name}
    prefix = name.rpartition(":")
    registered = f"{prefix[0]}{prefix[1]}{job.name}/{prefix[2]}"
    values = job.configs.get(name, {})
    if name in job.runners:
        return _remote_parts(job, name, values, registered, host)
    provided = models(host).provided(registered)
    spec = provided.spec
    return {
        "model": name,
        "config": full_config(spec, filled_config(spec, values, job.design)),
        "distribution": provided.plugin.distribution,
        "version": provided.plugin.version,
        "source": source_hash(model_modules(spec)),
    }


def _remote_parts(
    job: Job, name: str, values: dict[str, Any], registered: str, host: PluginHost | None
) -> dict[str, Any]:
    from hyped_core.errors import UnknownNameError
    from hyped_core.remote.host import RemoteModel, read_runner
    from hyped_core.remote.requirements import local_state

    try:
        provided = models(host).provided(registered)
    except UnknownNameError:
        provided = None
    runner = read_runner(job.runners[name], f"{job.name}/runners/{name}")
    asked: dict[str, Any] = {"requirements": list(runner.requirements)} if runner.requirements else {}
    if local := local_state(runner.requirements):
        asked["files of requirements"] = local
    if runner.seconds is None or runner.seconds > LOOK_S:
        runner = replace(runner, seconds=LOOK_S)  # it is looked at, not run: a hang is found soon
    with RemoteModel(job.name, name, runner, values=values, design=job.design, provided=provided) as remote:
        return {
            "model": name,
            "config": remote.config,
            "distribution": remote.distribution,
            "version": remote.version,
            "source": remote.sha256,
            "python": runner.python,
            **asked,
        }


def _paths(value: Any) -> list[str]:
    """Every text in nested parameters that names a file or folder, but for the working folder and those above it."""
    if isinstance(value, dict):
        return [path for inner in value.values() for path in _paths(inner)]
    if isinstance(value, (list, tuple)):
        return [path for inner in value for path in _paths(inner)]
    if not isinstance(value, str) or not ("/" in value or "." in value) or not Path(value).exists():
        return []
    here = Path.cwd()
    return [] if Path(value).resolve() in (here, *here.parents) else [value]
