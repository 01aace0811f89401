"""Everything about one plugin: its package and then each of its models, each in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyped_core.checking.children import LIMIT_S, Results, run_checks
from hyped_core.checking.expected import all_expected, known_check, settled
from hyped_core.checking.records import CheckRecord
from hyped_core.errors import PluginError, UnknownNameError
from hyped_core.plugins.discovery import normal_name
from hyped_core.spec import TASKS, ModelSpec


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be checked.

    Attributes
    ----------
    shown : how it was named.
    distribution, version : the package.
    folder : its source folder, None for an installed one.
    models : keys ``task/name`` of the models to check, all where None.
    """

    shown: str
    distribution: str
    version: str
    folder: Path | None = None
    models: tuple[str, ...] | None = None


def find_target(named: str) -> Target:
    """The plugin that a folder, or the name of a plugin, distribution or model (``task/name``) means.

    Raises
    ------
    PluginError
        The folder is not the source of a plugin.
    UnknownNameError
        Nothing installed has the name; the closest names are given.
    """
    from hyped_core.plugins.folder import folder_distribution

    prefix = named.rpartition(":")[2].partition("/")[0]
    if Path(named).is_dir() or named.startswith((".", os.sep, "~")):
        found = folder_distribution(Path(named))
        return Target(named, found.metadata["Name"], found.version, found.folder)
    if "/" in named and (prefix in TASKS or not Path(named).exists()):
        from hyped_core.plugins.registry import models

        owner = models().provided(named).plugin
        key = named.rpartition(":")[2]
        folder = Path(owner.folder) if owner.folder else None
        return Target(named, owner.distribution, owner.version, folder, (key,))
    return _installed(named)


def _installed(named: str) -> Target:
    import difflib

    from hyped_core.plugins.discovery import find_points, owner_of
    from hyped_core.plugins.folder import FolderDistribution, plugin_folders

    points, _ = find_points(folders=plugin_folders())
    wanted = normal_name(named)
    for point in points:
        distribution, version = owner_of(point)
        if wanted in (normal_name(point.name), normal_name(distribution)):
            folder = point.dist.folder if isinstance(point.dist, FolderDistribution) else None
            return Target(named, distribution, version, folder)
    names = sorted({name for point in points for name in (point.name, owner_of(point)[0])})
    close = difflib.get_close_matches(named, names, n=3)
    mend = f"did you mean {' or '.join(close)}?" if close else f"installed: {', '.join(names) or 'none'}"
    raise UnknownNameError(
        f"there is no plugin, distribution or folder called {named!r}",
        mend=f"{mend} (a folder: hyped plugins check ./DIR)",
    )


def check_plugin(
    target: Target,
    *,
    only: Sequence[str] = (),
    static: bool = False,
    install: bool = False,
    limit: float = LIMIT_S,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[CheckRecord]:
    """Every record of a plugin, as they come.

    Parameters
    ----------
    only
        Names of checks; all where empty.
    static
        Leave the models' behaviour out.
    install
        Make environments that models ask for and that are not there yet: pip installs then.
    limit
        Seconds a check may take.
    say
        Told what is looked at now.

    Raises
    ------
    PluginError
        ``only`` names a check that there is not.
    """
    from hyped_core.checking.expected import check_names
    from hyped_core.checking.static import all_static

    static_names = [check.name for check in all_static()]
    for name in only:
        known_check(name, [*static_names, *check_names()])
    results = Results()
    say(f"{target.distribution} {target.version}")
    for record in _static(target, static_names, limit, results):
        if not only or record.check in only:
            yield record
    if static or only and not set(only) - set(static_names):
        return
    for model in results.models:
        yield from _behaviour(model, target, only, install, limit, say)


def _static(target: Target, names: list[str], limit: float, results: Results) -> Iterator[CheckRecord]:
    job = {
        "kind": "static",
        "checks": names,
        "folder": None if target.folder is None else str(target.folder),
        "distribution": target.distribution,
        "models": target.models,
    }
    yield from run_checks(job, target.distribution, limit=limit, results=results)


def _behaviour(
    model: dict[str, Any], target: Target, only: Sequence[str], install: bool, limit: float, say: Callable[[str], None]
) -> Iterator[CheckRecord]:
    from hyped_core.checking.catalogue import checks_of
    from hyped_core.remote.worker import spec_in

    spec = spec_in(model)
    if target.models is not None and spec.key not in target.models:
        return
    if spec.task not in TASKS:
        reason = f"core has no contract for the task {spec.task}, so nothing is known of what its models do"
        yield CheckRecord(spec.key, "runs", "skipped", reason=reason)
        return
    names = [check.name for check in checks_of(spec.task) if not only or check.name in only]
    if not names:
        return
    say(spec.key)
    try:
        python = _interpreter(spec, target, install)
        expected = all_expected(spec, target.folder)
    except PluginError as error:
        yield CheckRecord(spec.key, "runs", "failed", error.where or "", error.message, error.mend or "")
        return
    except _NotMade as missing:
        yield from (CheckRecord(spec.key, name, "skipped", reason=str(missing)) for name in names)
        return
    job = {
        "kind": "behaviour",
        "checks": names,
        "spec": model,
        "target": spec.target,
        "python": python,
        "distribution": target.distribution,
        "version": target.version,
        "folder": None if target.folder is None else str(target.folder),
    }
    for record in run_checks(job, spec.key, limit=limit):
        yield settled(record, expected)


NOT_MADE = "its environment"
"""How the reason begins for which a model is not put to work."""


class _NotMade(Exception):
    """The environment of a model is not there."""


def _interpreter(spec: ModelSpec, target: Target, install: bool) -> str | None:
    """The Python of the model's own environment; None where it works in the one of its package."""
    if not spec.environment:
        return None
    from hyped_core.plugins.folder import use_folder
    from hyped_core.remote.environments import environment_for, is_made

    if target.folder is not None:
        use_folder(target.folder)  # the environment gets a copy of its package, which has to be found
    if not install and not is_made(spec.environment, spec, target.distribution):
        raise _NotMade(
            f"{NOT_MADE} ({', '.join(spec.environment)}) is not made yet: hyped plugins check --install"
            f" {target.shown} has pip make it"
        )
    return str(environment_for(spec.environment, spec, target.distribution))

