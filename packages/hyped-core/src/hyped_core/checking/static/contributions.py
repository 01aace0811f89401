"""What a plugin announces: that it loads, that its records can be taken, and that their names are free."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from hyped_core.checking.records import CheckSkipped
from hyped_core.checking.static import code
from hyped_core.checking.static.package import Package
from hyped_core.checking.static.records import PackageCheck
from hyped_core.errors import Problem
from hyped_core.plugins.discovery import normal_name
from hyped_core.plugins.hookspecs import HOOKS
from hyped_core.plugins.record import PluginRecord

_API = "api_version"


def entry_point(package: Package) -> Iterator[Problem]:
    """Every entry point can be imported and implements a hook."""
    if not package.points:
        where = package.place("entry-points.hyped", "entry_points.txt")
        yield Problem(where, "there is no entry point", f'{package.name} = "{package.name.replace("-", "_")}.plugin"')
    for plugin in package.host.check():
        where = f"entry point {plugin.name} = {plugin.module}"
        for reason in plugin.faults.get("load", ()):
            yield Problem(where, reason, _mend(plugin))
        if plugin.state == "active" and not plugin.hooks:
            yield Problem(where, "implements no hook", f"write one of {', '.join(HOOKS)}, marked with @hookimpl")


def contributions(package: Package) -> Iterator[Problem]:
    """Every record of every hook can be taken."""
    _loaded(package)
    for plugin in package.host.check():
        for place, reasons in plugin.faults.items():
            for reason in reasons:
                if place != "load" and _API not in reason:
                    yield Problem(f"{plugin.module}: {place}", reason, _mend(plugin))


def api_version(package: Package) -> Iterator[Problem]:
    """Models are written for contracts that this hyped-core offers."""
    _loaded(package)
    for plugin in package.host.check():
        for place, reasons in plugin.faults.items():
            for reason in reasons:
                if place != "load" and _API in reason:
                    yield Problem(f"{plugin.module}: {place}: {_API}", reason, _mend(plugin))


def names(package: Package) -> Iterator[Problem]:
    """Names are free: no other installed plugin has them; and a model's task is one that somebody registers."""
    from hyped_core.plugins.acceptance import KEYS
    from hyped_core.plugins.host import default_host
    from hyped_core.spec import TASKS

    _loaded(package)
    others = default_host()
    mine = normal_name(package.name)
    for hook, key in KEYS.items():
        here = [key(item.spec) for item in package.host.collect(hook)]
        for name in sorted({str(name) for name in here if here.count(name) > 1}):
            yield Problem(f"{hook}: {name}", f"is announced {here.count(name)} times", "give each a name of its own")
        taken = {
            key(item.spec): item.plugin.distribution
            for item in others.collect(hook)
            if normal_name(item.plugin.distribution) != mine
        }
        for name in dict.fromkeys(here):
            if name in taken:
                yield Problem(f"{hook}: {_shown(name)}", f"{taken[name]} has this name too", "choose another name")
    known = {*TASKS, *(item.spec.name for host in (others, package.host) for item in host.collect("hyped_tasks"))}
    for spec in package.models():
        if spec.task not in known:
            close = difflib.get_close_matches(spec.task, sorted(known), n=2)
            mend = f"did you mean {' or '.join(close)}?" if close else f"tasks: {', '.join(sorted(known))}"
            yield Problem(f"{spec.key}: task", f"nobody registers a task {spec.task!r}", mend)


def _shown(name: object) -> str:
    return " ".join(name) if isinstance(name, tuple) else str(name)


def _mend(plugin: PluginRecord) -> str:
    return "; ".join(dict.fromkeys(plugin.advice))


def _loaded(package: Package) -> None:
    if all("load" in plugin.faults for plugin in package.host.plugins):
        raise CheckSkipped("the plugin cannot be loaded: see the check 'entry_point'")


CHECKS = (
    PackageCheck("entry_point", "A plugin that cannot be imported offers nothing.", entry_point),
    PackageCheck("contributions", "A record that cannot be taken is left out: its model is not there.", contributions),
    PackageCheck("api_version", "A model for other contracts is refused.", api_version),
    PackageCheck("names", "Two models of one name: users get an error instead of either.", names),
    *code.LATER,
)
