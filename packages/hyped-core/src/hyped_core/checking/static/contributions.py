"""What a plugin announces: that it loads, that its records can be taken, and that their names are free."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint

from hyped_core.checking.records import CheckSkipped
from hyped_core.checking.static import code
from hyped_core.checking.static.announced import mend_of, written
from hyped_core.checking.static.package import Package
from hyped_core.checking.static.places import (
    defined,
    error_place,
    exit_place,
    module_place,
    spec_place,
    spec_places,
    trace_place,
)
from hyped_core.checking.static.records import PackageCheck
from hyped_core.checking.static.trial import Trial
from hyped_core.errors import Problem
from hyped_core.plugins.hookspecs import HOOKS
from hyped_core.plugins.probe import Verdict
from hyped_core.plugins.record import said
from hyped_core.spec import API_VERSION

_ANNOUNCE = "the module that the entry point names announces models, and does nothing else"
_API = re.compile(r"model (\S+/\S+) was written for api_version (\d+)")
_NAME = re.compile(r" raised PluginError: '([^']*)': \w+ name must be")
_FIELD = re.compile(r" (?:'(?P<name>[^']*)' )?whose \.?(?P<field>\S+?)(?: \.(?P<inner>\w+))? (?P<said>.*)")


def entry_point(package: Package) -> Iterator[Problem]:
    """Every entry point is there, can be imported without harm to what imports it, and implements a hook."""
    if package.problems:
        yield from (problem for problem in package.problems if "entry-points" in problem.where)
    elif not package.points:
        where = package.place("entry-points.hyped", "entry_points.txt")
        mend = f'[project.entry-points.hyped]\n{package.name} = "{package.name.replace("-", "_")}.plugin"'
        yield Problem(where, "there is no entry point of the group 'hyped', so nothing is found", mend)
    for point, failure in package.failures:
        if not any(package.point_place(point).startswith(problem.where) for problem in package.problems):
            yield from _failure(package, point, failure)
    for point, seen in package.looks:
        if isinstance(seen, Verdict) and seen.writes_stdout:
            reason = "writes to stdout, where data belong"
            yield Problem(module_place(package, point.module), reason, f"take it out: {_ANNOUNCE}")
    for plugin in package.host.check():
        module = plugin.module.partition(":")[0]
        for reason in plugin.faults.get("load", ()):
            hook = next((hook for hook in HOOKS if f"hook '{hook}'" in reason or f"{hook}(" in reason), "")
            where = hook and defined(package, module, hook) or module_place(package, module)
            if "Argument(s)" in reason:
                reason = f"{hook} takes arguments, and is called without"
            yield Problem(where, reason, f"def {hook or 'hyped_models'}():")
        if not plugin.hooks and not plugin.faults:
            mend = f"write one of {', '.join(HOOKS)}, marked with @hookimpl"
            yield Problem(module_place(package, module), "implements no hook", mend)


def _failure(package: Package, point: EntryPoint, failure: BaseException | Trial | Verdict) -> Iterator[Problem]:
    """Why an entry point cannot be loaded, told where it has to be mended."""
    if isinstance(failure, Trial):
        reason, mend = f"ends the process ({failure.fate})", "take out what ends it"
        if failure.fate == "hangs":
            reason, mend = f"does not end within {package.wait:g} s", "take out what waits or loops without end"
        where = exit_place(package, point.module, failure.hook)
        yield Problem(where, f"{failure.hook or 'its import'} {reason}", f"{mend}: {_ANNOUNCE}")
        return
    if isinstance(failure, Verdict):
        where = trace_place(package, failure.trace, "<module>") or module_place(package, point.module)
        yield Problem(where, failure.harm, f"take out what does so: {_ANNOUNCE}")
        return
    name = failure.name if isinstance(failure, ModuleNotFoundError) else None
    here = error_place(package, failure)
    if name and name.partition(".")[0] in {*package.tops, point.module.partition(".")[0]}:
        close = code.closest_module(package, name)
        mend = f"did you mean {close}?" if close else f"modules: {', '.join(package.modules) or 'none'}"
        where = here or package.point_place(point)
        yield Problem(where, f"there is no module {name}", mend)
    elif name:
        mend = f'add "{code.distribution_of(name)}" to dependencies and install it, or import it in the model\'s module'
        mend += code.name_guessed(name)
        yield Problem(here or package.point_place(point), f"imports {name}, which is not installed", mend)
    elif isinstance(failure, SyntaxError) and here:
        raise CheckSkipped(f"{here} is not Python: see the check 'syntax'")
    elif isinstance(failure, AttributeError) and point.attr and not here:
        yield Problem(package.point_place(point), str(failure), f'{point.name} = "{point.module}"')
    elif isinstance(failure, SystemExit):
        reason = f"ends the process on import ({said(failure)})"
        yield Problem(here or point.module, reason, f"take it out: {_ANNOUNCE}")
    else:
        mend = f"make the import work; {_ANNOUNCE}"
        yield Problem(here or point.module, f"fails on import: {said(failure)}", mend)


def contributions(package: Package) -> Iterator[Problem]:
    """Every record of every hook can be taken."""
    _loaded(package)
    fields = list(written(package))
    yield from (found.problem for found in fields)
    for plugin in package.host.check():
        module = plugin.module.partition(":")[0]
        for place, reasons in plugin.faults.items():
            for reason in reasons:
                if place == "load" or _API.search(reason) or any(found.words in reason for found in fields):
                    continue
                if place not in HOOKS:
                    yield _misspelt(package, module, place)
                else:
                    where = trace_place(package, plugin.traceback, place) if " raised " in reason else ""
                    where = where or defined(package, module, place) or module_place(package, module)
                    yield Problem(f"{where}: {place}", reason.removeprefix(f"{place} "), _mend(place, reason))
        if plugin.hooks and not plugin.faults and not any(map(package.host.collect, plugin.hooks)):
            hook = plugin.hooks[0]
            where = defined(package, module, hook) or module_place(package, module)
            yield Problem(f"{where}: {hook}", "gives no record", f"yield {HOOKS[hook].__name__}(...)")


def _misspelt(package: Package, module: str, name: str) -> Problem:
    """A function that looks like a hook and is none."""
    close = difflib.get_close_matches(name, HOOKS, n=1)
    mend = f"rename {name} to {close[0]}" if close else f"rename {name} to the hook that is meant: {', '.join(HOOKS)}"
    return Problem(defined(package, module, name) or module_place(package, module), f"there is no hook {name!r}", mend)


def _mend(hook: str, reason: str) -> str:
    """What a plugin's author does about the host's complaint of a hook."""
    record = HOOKS[hook].__name__
    if found := _NAME.search(reason):
        return mend_of("name", found[1])
    if found := _FIELD.search(reason):
        if record == "ModelSpec" and not found["inner"]:
            return mend_of(found["field"], None)
        _, _, words = found["said"].partition(", expected ")
        field = ".".join(filter(None, (found["field"], found["inner"])))
        return f"give {record}.{field} as {words}" if words else f"correct {record}.{field}: {found['said']}"
    if " yielded " in reason:
        return f"yield {record}(...)"
    if "yields more than" in reason:
        return "make it end: one record for each thing that the plugin offers"
    if " raised PluginError: " in reason:
        return f"correct the {record} there"
    return f"make {hook} work: it is called without arguments and yields {record} records"


def api_version(package: Package) -> Iterator[Problem]:
    """Models are written for contracts that this hyped-core offers."""
    _loaded(package)
    for plugin in package.host.check():
        for reason in plugin.faults.get("hyped_models", ()):
            if found := _API.search(reason):
                module = plugin.module.partition(":")[0]
                where = spec_place(package, found[1]) or module_place(package, module)
                late = int(found[2]) > API_VERSION
                upgrade = "pip install --upgrade hyped-core, or " if late else ""
                mend = f"{upgrade}keep to the contracts of api_version={API_VERSION} and say so"
                yield Problem(f"{where}: ModelSpec.api_version", reason, mend)


def names(package: Package) -> Iterator[Problem]:
    """Names and suffixes are free: no other installed plugin has them; and a model's task is one that is registered."""
    from hyped_core.plugins.acceptance import KEYS
    from hyped_core.spec import TASKS

    _loaded(package)
    for hook, key in KEYS.items():
        here = [key(item.spec) for item in package.host.collect(hook)]
        for name in sorted({str(name) for name in here if here.count(name) > 1}):
            where = ", ".join(spec_places(package, name)) if hook == "hyped_models" else ""
            reason = f"is announced {here.count(name)} times"
            yield Problem(f"{where or hook}: {name}", reason, "give each a name of its own")
        taken = {key(item.spec): item.plugin.distribution for item in package.others.collect(hook)}
        for name in dict.fromkeys(here):
            if name in taken:
                where = spec_place(package, name) if hook == "hyped_models" else ""
                shown = f"{where or hook}: {_shown(name)}"
                yield Problem(shown, f"{taken[name]} has this name too", "choose another name")
    yield from _taken_suffixes(package)
    plugins = {plugin.name: plugin.distribution for plugin in package.others.plugins}
    for point in package.points:
        if owner := plugins.get(point.name):
            mend = f"give the entry point a name of its own, like {package.name}"
            reason = f"{owner} calls its plugin {point.name!r} too: one is left out"
            yield Problem(package.point_place(point), reason, mend)
    hosts = (package.others, package.host)
    known = {*TASKS, *(item.spec.name for host in hosts for item in host.collect("hyped_tasks"))}
    for spec in package.models():
        if spec.task not in known:
            close = difflib.get_close_matches(spec.task, sorted(known), n=2)
            mend = f"did you mean {' or '.join(close)}?" if close else f"tasks: {', '.join(sorted(known))}"
            where = spec_place(package, spec.key) or spec.key
            yield Problem(f"{where}: ModelSpec.task", f"nobody registers a task {spec.task!r}", mend)


def _taken_suffixes(package: Package) -> Iterator[Problem]:
    """Suffixes of its readers that another package's reader of that kind reads; HYPED's own share theirs."""
    hook = "hyped_readers"
    taken = {(i.spec.kind, s): i.plugin for i in package.others.collect(hook) for s in i.spec.suffixes}
    for item in package.host.collect(hook):
        for suffix in () if item.plugin.own else item.spec.suffixes:
            if owner := taken.get((item.spec.kind, suffix)):
                asked = "this reader is not asked for it" if owner.own else "the first of both by name is asked for it"
                where = f"{hook}: {item.spec.kind}/{item.spec.name}: ReaderSpec.suffixes"
                mend = f"leave {suffix!r} out, and give the files a suffix of their own"
                yield Problem(where, f"{owner.distribution} reads {suffix}: {asked}", mend)


def _shown(name: object) -> str:
    return " ".join(name) if isinstance(name, tuple) else str(name)


def _loaded(package: Package) -> None:
    if all("load" in plugin.faults for plugin in package.host.plugins):
        raise CheckSkipped("the plugin cannot be loaded: see the check 'entry_point'")


CHECKS = (
    PackageCheck("entry_point", "A plugin that cannot be imported offers nothing.", entry_point),
    PackageCheck("contributions", "A record that cannot be taken is left out: its model is not there.", contributions),
    PackageCheck("api_version", "A model for other contracts is refused.", api_version),
    PackageCheck("names", "Of two models of one name users get neither, of two readers of one suffix one.", names),
    *code.LATER,
)
