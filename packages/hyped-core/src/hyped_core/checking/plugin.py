"""Everything about one plugin: its package and then each of its models, each in processes of their own."""

from __future__ import annotations

import contextlib
import difflib
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyped_core.checking.children import LIMIT_S, Results, run_checks
from hyped_core.checking.expected import Expected, all_expected, known_check, settled
from hyped_core.checking.records import CheckRecord
from hyped_core.checking.told import ToldOnce
from hyped_core.errors import MissingFileError, PluginError, UnknownNameError
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
    from hyped_core.checking.static.source import read_source

    if Path(named).is_file():
        raise PluginError("is a file, expected a folder", where=named, mend=f"hyped plugins check {Path(named).parent}")
    if Path(named).is_dir() or named.startswith((".", os.sep, "~")):
        found, _ = read_source(Path(named))
        return Target(named, found.metadata["Name"], found.version, found.folder)
    return _model(named) if "/" in named else _installed(named)


def _model(named: str) -> Target:
    from hyped_core.plugins.host import default_host
    from hyped_core.plugins.registry import models

    host = default_host()
    registry = models(host)
    key = named.rpartition(":")[2]
    task = key.partition("/")[0]
    if key not in registry.names():
        same = [name for name in registry.names() if name.startswith(f"{task}/")]
        close = difflib.get_close_matches(key, registry.names(), n=3)
        ways = [f"did you mean {' or '.join(close)}?"] if close else []
        if not close:
            ways = [f"models of {task}: {', '.join(same)}" if same else f"tasks with a contract: {', '.join(TASKS)}"]
        broken = [f"hyped plugins check {plugin.distribution}" for plugin in host.broken]
        ways += [f"it may be of a broken plugin: {' or '.join(broken)}"] if broken else []
        raise UnknownNameError(f"there is no folder and no model called {named!r}", mend="; ".join(ways))
    owner = registry.provided(named).plugin
    return Target(named, owner.distribution, owner.version, Path(owner.folder) if owner.folder else None, (key,))


def _installed(named: str) -> Target:
    from hyped_core.plugins.discovery import find_points, owner_of
    from hyped_core.plugins.folder import FolderDistribution, plugin_folders
    from hyped_core.plugins.host import default_host
    from hyped_core.plugins.registry import models

    points, _ = find_points(folders=plugin_folders())
    wanted = normal_name(named)
    for point in sorted(points, key=lambda point: normal_name(owner_of(point)[0]) != wanted):  # the distribution first
        distribution, version = owner_of(point)
        if wanted in (normal_name(point.name), normal_name(distribution)):
            folder = point.dist.folder if isinstance(point.dist, FolderDistribution) else None
            return Target(named, distribution, version, folder)
    for plugin in default_host().broken:
        if wanted in (normal_name(plugin.name), normal_name(plugin.distribution)):
            mend = f"hyped plugins check {plugin.folder}" if plugin.folder else "install it anew"
            raise PluginError(plugin.reason, where=plugin.distribution, mend=mend)
    names = sorted({name for point in points for name in (point.name, owner_of(point)[0])})
    keys = [key for key in models().names() if normal_name(key.partition("/")[2]) == wanted]
    close = keys or difflib.get_close_matches(wanted, names, n=3)
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
) -> Generator[CheckRecord, None, None]:
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
    told, failures, once = set(), [], ToldOnce()
    for record in _static(target, _needed(static_names, only), limit, results):
        if record.bad:
            failures.append((record.check, record.model, record.where))
        once.note(record)
        if record.bad or not only or record.check in only:
            yield record
    asked = [name for name in only if name not in static_names]
    if static or only and not asked:
        return
    models = [m for m in results.models if target.models is None or f"{m['task']}/{m['name']}" in target.models]
    with contextlib.closing(_abreast(models, target, only, install, limit, say)) as records:
        for record in map(once.again, records):
            told.add(record.check)
            if (record.check, record.model, record.where) not in failures:
                yield record
    for name in asked:
        if name not in told and not any(check in GATES for check, *_ in failures):
            yield CheckRecord(target.distribution, name, "skipped", reason=_unasked(name, results))


ABREAST = 4
"""Models whose behaviour is checked at a time, at most."""
GATES = ("syntax", "entry_point")
"""The static checks that say why a plugin cannot be loaded, so that nothing is known of what it announces."""


def _needed(names: list[str], only: Sequence[str]) -> list[str]:
    """The static checks to run for those in ``only``: themselves, and `GATES` where they need the plugin loaded."""
    from hyped_core.checking.static import code, metadata

    without = {check.name for check in (*metadata.CHECKS, *code.CHECKS)}
    loads = any(name not in without for name in only)
    return [name for name in names if not only or name in only or loads and name in GATES]


def _unasked(check: str, results: Results) -> str:
    """Why a check of behaviour was asked of no model."""
    from hyped_core.checking.catalogue import all_checks

    if not results.models:
        return "no model is announced that can be taken (hyped plugins check --static says why)"
    return f"is asked of models of {', '.join(next(c.tasks for c in all_checks() if c.name == check))} alone"


def _static(target: Target, names: list[str], limit: float, results: Results) -> Iterator[CheckRecord]:
    job = {
        "kind": "static",
        "checks": names,
        "folder": None if target.folder is None else str(target.folder),
        "distribution": target.distribution,
        "models": target.models,
        "limit": limit,
        "target": f"hooks of {target.distribution}",
    }
    yield from run_checks(job, target.distribution, limit=limit, results=results)


def _abreast(models: Sequence[dict[str, Any]], *how: Any) -> Generator[CheckRecord, None, None]:
    """The records of each model, in their order; as many are checked at a time as there are cores, up to `ABREAST`."""
    if not models:
        return
    stop, found = threading.Event(), [queue.SimpleQueue[CheckRecord | BaseException | None]() for _ in models]
    abreast = min(len(models), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, ABREAST)

    def feed(model: dict[str, Any], into: queue.SimpleQueue[CheckRecord | BaseException | None]) -> None:
        try:
            for record in _behaviour(model, *how, abreast, stop):
                into.put(record)
            into.put(None)
        except BaseException as error:  # noqa: BLE001  raised where the records are asked for
            into.put(error)

    with ThreadPoolExecutor(abreast) as pool:
        try:
            for model, into in zip(models, found, strict=True):
                pool.submit(feed, model, into)
            for into in found:
                while (item := into.get()) is not None:
                    if isinstance(item, BaseException):
                        raise item
                    yield item
        except KeyboardInterrupt:  # what others have found meanwhile is shown too
            stop.set()
            pool.shutdown(cancel_futures=True)
            while any(not into.empty() for into in found):
                item = next(into for into in found if not into.empty()).get()
                if isinstance(item, CheckRecord):
                    yield item
            raise
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _behaviour(
    model: dict[str, Any],
    target: Target,
    only: Sequence[str],
    install: bool,
    limit: float,
    say: Callable[[str], None],
    abreast: int,
    stop: threading.Event,
) -> Iterator[CheckRecord]:
    from hyped_core.checking.catalogue import checks_of
    from hyped_core.plugins.folder import use_folder
    from hyped_core.remote.worker import spec_in

    spec = spec_in(model)
    try:
        if spec.task not in TASKS and target.folder is not None:
            use_folder(target.folder)  # the task may be its own
        checks = checks_of(spec.task)
    except PluginError as error:
        yield CheckRecord(spec.key, "runs", "skipped", error.where or "", error.message, error.mend or "")
        return
    names = [check.name for check in checks if not only or check.name in only]
    if not names:
        return
    say(spec.key)
    try:
        expected = all_expected(spec, target.folder)
    except PluginError as error:
        yield CheckRecord(spec.key, "expected_failures", "failed", error.where or "", error.message, error.mend or "")
        expected = Expected()
    try:
        python = _interpreter(spec, target, install)
    except (PluginError, MissingFileError) as error:
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
    for record in run_checks(job, spec.key, limit=limit, abreast=abreast, stop=stop):
        yield settled(record, expected)


NOT_MADE = "its environment"
"""How the reason begins for which a model is not put to work."""


class _NotMade(Exception):
    """The environment of a model is not there."""


def _interpreter(spec: ModelSpec, target: Target, install: bool) -> str | None:
    """The Python of the model's own environment; None where it works in the one of its package."""
    if not spec.environment:
        return None
    from hyped_core.plugins.folder import folder_distribution, use_folder
    from hyped_core.remote.environments import environment_for, is_made

    if target.folder is not None:
        try:
            folder_distribution(target.folder)
        except PluginError as error:
            raise _NotMade("needs a package that can be installed: see 'metadata' and 'entry_point'") from error
        use_folder(target.folder)  # the environment gets a copy of its package, which has to be found
    if not install and not is_made(spec.environment, spec, target.distribution):
        raise _NotMade(
            f"{NOT_MADE} ({', '.join(spec.environment)}) is not made yet: hyped plugins check --install"
            f" {target.shown} has pip make it"
        )
    return str(environment_for(spec.environment, spec, target.distribution))

