"""A trial of a model in under a minute: tiny simulated data for each task, and its place among the controls."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.errors import PluginError, UnknownNameError, UsageError
from hyped_core.spec import TASKS

if TYPE_CHECKING:
    from hyped_bench.runner import Job, Result
    from hyped_core.plugins.registry import Provided

CAUTION = "These data are simulated and tiny: the place says that the model works, nothing about its real worth."
DATA = "smoke-data"
"""Folder of these data in the folder of results."""
_MARKER = ".made-by-hyped-smoke"
_DEMO = ("denoise", "segment", "track", "demultiplex")
"""Tasks whose data are those of `hyped demo`; the others have a tiny screen."""
UNSEEN = "unseen"
"""Source of the task expression that asks for genes which no cell the model learns from has perturbed."""
SOURCES = {
    ("expression", "screen"): "combinations of genes seen alone",
    ("expression", UNSEEN): "genes never seen perturbed",
}
"""What is asked for on a source of a task, where its name does not say it."""


def new_data_folder(out: Path) -> Path:
    """An empty folder for the data in ``out``, in place of the one that an earlier trial made there.

    Raises
    ------
    UsageError
        Something that no trial made has its name.
    """
    from hyped_core.io.atomic import remove

    folder = out / DATA
    if (folder / _MARKER).is_file():
        remove(folder)
    elif folder.exists():
        raise UsageError("is no folder that --smoke made", where=folder, mend="move it away, or give another --out")
    folder.mkdir(parents=True)
    (folder / _MARKER).touch()
    return folder


def smoke_sections(folder: Path, names: Sequence[str] = TASKS, seed: int = 0) -> dict[str, Any]:
    """Write tiny data for the tasks named into ``folder``; returns the benchmark's parameters for them, by task.

    The same seed gives the same data. Needs no more than hyped-core and hyped-bench.

    Raises
    ------
    UsageError
        There are no such data for a task.
    """
    odd = [name for name in names if name not in TASKS]
    if odd:
        mend = f"{_closest(odd[0], TASKS)}--smoke has {', '.join(TASKS)}"
        raise UsageError(f"there are no small data for the task {odd[0]}", mend=mend)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    if set(names) & set(_DEMO):
        from hyped_bench.demo_data import write_demo

        found = write_demo(folder, seed)
    if not set(names) <= set(_DEMO):
        from hyped_core.checking.tiny.screen import HELD_OUT, tiny_perturbseq
        from hyped_core.checking.tiny.screen import UNSEEN as GENES

        screen = tiny_perturbseq(seed)
        cells = screen.cells.copy()
        for key in ("perturbations", "asked_genes"):  # names say all of it here
            del cells.uns[key]
        cells.write_h5ad(folder / "screen.h5ad")
        asked = [name for name in HELD_OUT if set(name.split("+")) & set(GENES)]
        found["expression"] = {
            "sources": [
                {"name": "screen", "cells": f"{folder}/screen.h5ad"},
                {
                    "name": UNSEEN,
                    "cells": f"{folder}/screen.h5ad",
                    "split": {"kind": "listed", "held_out": asked},
                    "primary": False,  # a model may refuse genes that it knows nothing of
                },
            ]
        }
        del cells.obs["phase"]  # too few cells to go phase by phase
        cells.write_h5ad(folder / "counts.h5ad")
        source = {"name": "screen", "cells": f"{folder}/counts.h5ad", "kind": "screen"}
        found["embedding"] = {"sources": [source], "null_draws": 3, "half_draws": 5}
    return {name: found[name] for name in names}


def use_plugin(folder: Path) -> list[Provided]:
    """Let a plugin's source folder count as installed, in this process and those it starts; its models.

    Where there is no such folder, the installed plugin or distribution of that name is meant.

    Raises
    ------
    UnknownNameError
        There is neither; the closest names are given.
    PluginError
        There is no ``pyproject.toml`` that declares a plugin, or it is broken, or has no models.
    """
    from hyped_core.plugins.discovery import normal_name
    from hyped_core.plugins.folder import use_folder
    from hyped_core.plugins.host import default_host
    from hyped_core.plugins.registry import models

    if folder.is_file():
        raise PluginError("is a file, expected a folder", where=folder, mend=f"--plugin {folder.parent}")
    if folder.exists():
        name = normal_name(str(use_folder(folder).metadata["Name"]))
    else:
        name = _installed(folder)
    host = default_host()
    found = [item for item in models(host).items() if normal_name(item.plugin.distribution) == name]
    records = [plugin for plugin in host.plugins if normal_name(plugin.distribution) == name]
    if found:
        return found
    for record in records:
        if record.reason:
            raise PluginError(
                f"the plugin {record.name} is {record.state}: {record.reason}",
                where=folder,
                mend="; ".join([*record.advice, f"hyped plugins check {folder} names all that is wrong"]),
            )
    raise PluginError(
        f"the plugin {name} registers no models",
        where=folder,
        mend="yield a hyped_core.ModelSpec from hyped_models in the module that its entry point names",
    )


def _installed(named: Path) -> str:
    """The distribution of an installed plugin that is called by its own or its distribution's name."""
    from hyped_core.plugins.discovery import normal_name
    from hyped_core.plugins.host import default_host

    plugins = default_host().plugins
    for plugin in plugins:
        if normal_name(str(named)) in (normal_name(plugin.name), normal_name(plugin.distribution)):
            return normal_name(plugin.distribution)
    folders = [str(file.parent) for file in named.parent.glob("*/pyproject.toml")]
    names = {name for plugin in plugins if not plugin.own for name in (plugin.name, plugin.distribution)}
    close = _closest(str(named), [*folders, *sorted(names)])
    raise UnknownNameError(
        f"there is no folder, plugin or distribution called {str(named)!r}",
        mend=f"{close}name a folder with a plugin's pyproject.toml, or a plugin that hyped plugins list shows",
    )


def _closest(name: str, known: Sequence[str]) -> str:
    """``did you mean ...?; `` for what is close, else nothing."""
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(close)}?; " if close else ""


def chosen_of(found: Sequence[Provided], tasks: Sequence[str], folder: Path) -> tuple[list[str], list[str]]:
    """The task and the names of a plugin's models that are to be run, from what was asked for.

    Raises
    ------
    UsageError
        It is not clear which task is meant.
    PluginError
        The plugin has no model of a task that was named, or nobody registers the task that its model names.
    """
    from hyped_core.plugins.registry import models
    from hyped_core.plugins.registry import tasks as registered

    known = registered().names()
    strays = [item.spec for item in found if item.spec.task not in known]
    theirs = list(dict.fromkeys(item.spec.task for item in found))
    if not tasks and len(theirs) > 1:
        raise UsageError(f"the plugin has models of {', '.join(theirs)}", mend="--task NAME says which are meant")
    there = [task for task in theirs if task in known]
    wanted = list(tasks) or theirs
    for task in wanted:
        if task in there:
            continue
        close = _closest(task, there)
        if strays and not close:
            said = f"its model {strays[0].name} names the task {strays[0].task}, which nobody registers"
            mend = f"{_closest(strays[0].task, known)}known: {', '.join(known)}"
            raise PluginError(said, where=folder, mend=mend)
        mend = f"{close}it has some of {', '.join(there)}"
        raise PluginError(f"the plugin has no model of the task {task}", where=folder, mend=mend)
    registry = models()
    names = [registry.handle(item, item.spec.name) for item in found if item.spec.task in wanted]
    return wanted, list(dict.fromkeys(names))


def controls_of_bench(job: Job) -> list[str]:
    """Names of the controls that need hyped-core and hyped-bench alone."""
    from hyped_core.plugins.registry import models

    items = [item for item in models().items() if item.spec.task == job.name and item.spec.role == "control"]
    return [item.spec.name for item in items if item.plugin.distribution == "hyped-bench"]


def use_quick(job: Job, names: Sequence[str]) -> None:
    """Let models work with the config values that their specs name for small trials (`ModelSpec.quick`)."""
    from hyped_bench.runs.strangers import find_provided

    for name in names:
        provided = find_provided(job.name, name)
        if provided is not None and provided.spec.quick:
            job.configs[name] = dict(provided.spec.quick)


def strangers_of(job: Job) -> list[str]:
    """Names of a task's installed models that are not HYPED's own."""
    from hyped_core.plugins.registry import models

    registry = models()
    found = [item for item in registry.items() if item.spec.task == job.name and not item.plugin.own]
    return [registry.handle(item, item.spec.name) for item in found]


def place_lines(results: Sequence[Result]) -> list[str]:
    """What is said below a trial's table: of genes never seen, what it is worth, and last each model's place.

    The place is that among the controls and models, by the task's first metric.
    """
    from hyped_core.plugins.registry import metrics, tasks

    if not results:
        return []
    task = results[0].task
    key = tasks().get(task).metrics[0]
    better = metrics().get(f"{task}/{key}").better
    sign = -1 if better == "lower" else 1
    ranked = [r for r in results if r.kind != "reference" and r.metrics.get(key) is not None]
    ranked.sort(key=lambda r: -sign * float(r.metrics[key] or 0.0))
    models = [result for result in results if result.kind == "model"]
    lines = [line for result in models for line in _unseen(result, results, key)]
    lines.append(CAUTION)
    for result in models:
        if result.status != "ok":
            lines.append(f"{result.model} has no place: it {_why(result)}.")
        elif result.metrics.get(key) is None:
            lines.append(f"{result.model} has no place: its {key} is undefined.")
        else:
            lines.append(_place(result, ranked, key, sign))
    return lines


def _unseen(result: Result, results: Sequence[Result], key: str) -> list[str]:
    """What became of the genes that no cell the model learned from has perturbed, where it was asked for them."""
    own = f"{key}_{UNSEEN}"
    if result.status != "ok" or own not in result.metrics:
        return []
    if (value := result.metrics[own]) is None:
        said = next((text for text in result.warnings if text.startswith(f"{UNSEEN}: ")), f"{own} is undefined")
        return [f"{result.model} on genes never seen perturbed: {said.removeprefix(f'{UNSEEN}: ')}."]
    others = [
        f"{r.model} {float(v):.4g}" for r in results if r.kind == "control" and (v := r.metrics.get(own)) is not None
    ]
    return [f"{result.model} on genes never seen perturbed: {key} {float(value):.4g} ({', '.join(others)})."]


def _why(result: Result) -> str:
    return "failed" if result.status == "failed" else "could not be run here"


def _place(result: Result, ranked: Sequence[Result], key: str, sign: int) -> str:
    own = float(result.metrics[key] or 0.0)
    values = {r.model: sign * float(r.metrics[key] or 0.0) for r in ranked if r is not result}
    above = [name for name, value in values.items() if value > sign * own]
    level = [name for name, value in values.items() if value == sign * own]
    below = [name for name, value in values.items() if value < sign * own]
    said = [f"{word} {', '.join(names)}" for word, names in (("behind", above), ("level with", level)) if names]
    said += [f"ahead of {', '.join(below)}"] if below else []
    words = "; ".join(said) or "alone"
    number = f"{own:.4g}, {'lower' if sign < 0 else 'higher'} is better"
    return f"{result.model}: place {len(above) + 1} of {len(ranked)} by {key} ({number}), {words}."
