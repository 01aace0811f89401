"""What a package's source imports and calls, read from its syntax trees; nothing of it runs."""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Iterator
from functools import cache

from hyped_core.checking.static.package import Package
from hyped_core.checking.static.records import PackageCheck
from hyped_core.errors import Problem
from hyped_core.plugins.discovery import normal_name

FAMILY = ("hyped_imaging", "hyped_seq", "hyped_bench")
"""Packages of HYPED that a plugin does without."""
PICKLERS = ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve")
"""Modules that are there to pickle."""
CALLS = {
    "read_pickle": "read tables from Parquet or HDF5",
    "to_pickle": "write tables as Parquet or HDF5",
    "joblib.load": "read arrays with numpy.load(..., allow_pickle=False) or safetensors",
    "joblib.dump": "write arrays with numpy.save or safetensors",
    "torch.save": "write weights with safetensors.torch.save_file",
}
"""Calls that read or write pickles, and what to do instead; `torch.load` is looked at by its arguments."""
ALONG = ("numpy", "pandas", "anndata", "scipy", "pydantic")
"""Libraries that hyped-core brings: what it hands to models is made of them."""


def syntax(package: Package) -> Iterator[Problem]:
    """Every file can be read as Python."""
    for name, (_, tree) in package.trees.items():
        if isinstance(tree, SyntaxError):
            here = f"{sys.version_info[0]}.{sys.version_info[1]}"
            mend = "correct the line, or what stands before it"
            yield Problem(f"{name}:{tree.lineno or 1}", f"is not Python {here}: {tree.msg}", mend)


def hyped_imports(package: Package) -> Iterator[Problem]:
    """Of HYPED's packages only hyped_core is imported."""
    for name, node, module in _imports(package):
        top = module.partition(".")[0]
        if top in FAMILY and top not in package.tops:
            yield Problem(
                f"{name}:{node.lineno}", f"imports {module}", "use hyped_core alone, and copy or write what you need"
            )


def pickle_use(package: Package) -> Iterator[Problem]:
    """Nothing is pickled or unpickled."""
    if normal_name(package.name) == "hyped-core":
        return  # it holds the one loader that reads pickles by an allow-list
    for name, node, module in _imports(package):
        if module.partition(".")[0] in PICKLERS:
            yield Problem(f"{name}:{node.lineno}", f"imports {module}", "save with safetensors, numpy or JSON")
    for name, (_, tree) in package.trees.items():
        for node in ast.walk(tree) if isinstance(tree, ast.Module) else ():
            if isinstance(node, ast.Call) and (found := _pickling(node)):
                yield Problem(f"{name}:{node.lineno}", *found)


def _pickling(call: ast.Call) -> tuple[str, str] | None:
    """What a call does with pickles, and what to do instead."""
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    allow = named.get("allow_pickle")
    if allow is not None and not (isinstance(allow, ast.Constant) and allow.value is False):
        return "allows pickles: allow_pickle", "allow_pickle=False"
    if not isinstance(call.func, ast.Attribute):
        return None
    owner = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
    full = f"{owner}.{call.func.attr}"
    if full == "torch.load":
        only = named.get("weights_only")
        if not (isinstance(only, ast.Constant) and only.value is True):
            return "torch.load runs what a file holds", "torch.load(..., weights_only=True), or safetensors"
        return None
    mend = CALLS.get(full) or CALLS.get(call.func.attr)
    return (f"calls {full if owner else call.func.attr}, which pickles", mend) if mend else None


def libraries_declared(package: Package) -> Iterator[Problem]:
    """Every library that is imported comes with a dependency, or is named in a model's ``needs`` or ``environment``."""
    known: set[str] | None = None
    seen = {error.name for _, error in package.failures if isinstance(error, ModuleNotFoundError)}  # told there
    for name, node, module in _imports(package, guarded=False):
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top in (*package.tops, *ALONG, *FAMILY, "hyped_core") or top in seen:
            continue
        seen.add(top)
        if known is None:
            known = _required(package)
        providers = {normal_name(owner) for owner in _providers().get(top, [])} or {normal_name(top)}
        if not providers & known and normal_name(package.name) not in providers:
            yield Problem(
                f"{name}:{node.lineno}",
                f"imports {top}, which nothing that the package requires brings",
                f'add "{distribution_of(top)}" to dependencies, or to an extra and to needs.modules of the model'
                f"{name_guessed(top)}",
            )


def distribution_of(module: str) -> str:
    """The distribution to require for a module: one that has it here, else one of its name."""
    top = module.partition(".")[0]
    return min(map(normal_name, _providers().get(top, [top])))


def name_guessed(module: str) -> str:
    """Words to add where the name by `distribution_of` is only the module's."""
    top = module.partition(".")[0]
    return "" if top in _providers() else f" (the distribution that has {top} may be called otherwise)"


def closest_module(package: Package, name: str) -> str:
    """The module of a package whose name is closest to one that is not there; empty where none is close."""
    close = difflib.get_close_matches(name, list(package.modules), n=1, cutoff=0.7)
    return close[0] if close else ""


def _required(package: Package) -> set[str]:
    """Names of distributions that come with it: what its metadata require, extras included, and what that requires in
    turn as far as it is installed; with what its models name."""
    waiting = list(package.distribution.metadata.get_all("Requires-Dist") or [])
    known = {"hyped-core"}
    for spec in package.models():
        waiting += spec.environment
        for module in spec.needs.modules:
            known |= {normal_name(module), *map(normal_name, _providers().get(module.partition(".")[0], []))}
    return known | _closure(waiting)


def _closure(waiting: list[str]) -> set[str]:
    """Normalised names of requirements and of theirs, each extra once."""
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import InvalidRequirement, Requirement

    first, known, done = set(waiting), set(), set()
    while waiting:
        text = waiting.pop()
        try:
            requirement = Requirement(text)
            extras = ["", *sorted(requirement.extras)]
            if requirement.marker and text not in first and not requirement.marker.evaluate({"extra": ""}):
                continue
        except (InvalidRequirement, ValueError):
            continue
        name = normal_name(requirement.name)
        known.add(name)
        if (name, tuple(extras)) in done:
            continue
        done.add((name, tuple(extras)))
        try:
            further = requires(requirement.name) or []
        except PackageNotFoundError:
            continue
        for line in further:
            bare, _, marker = line.partition(";")
            if "extra" not in marker:
                waiting.append(line)
            elif any(f"{quote}{extra}{quote}" in marker for extra in extras[1:] for quote in "\"'"):
                waiting.append(bare)
    return known


@cache
def _providers() -> dict[str, list[str]]:
    """Import name -> distributions that have it."""
    from importlib.metadata import packages_distributions

    return dict(packages_distributions())


def _imports(package: Package, *, guarded: bool = True) -> Iterator[tuple[str, ast.stmt, str]]:
    """File, statement and module of every import; ``guarded=False`` leaves those out that may fail or never run."""
    for name, (_, tree) in package.trees.items():
        if not isinstance(tree, ast.Module):
            continue
        waiting: list[ast.AST] = [tree]
        while waiting:
            node = waiting.pop(0)
            if not guarded and isinstance(node, ast.Try) and _catches_import(node):
                waiting += [*node.orelse, *node.finalbody]
                continue
            if not guarded and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                waiting += node.orelse
                continue
            waiting += ast.iter_child_nodes(node)
            if isinstance(node, ast.Import):
                yield from ((name, node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield name, node, node.module


def _catches_import(node: ast.Try) -> bool:
    return any(handler.type is None or "Import" in ast.dump(handler.type) or "ModuleNotFound" in ast.dump(handler.type)
               for handler in node.handlers)  # fmt: skip


CHECKS = (
    PackageCheck("syntax", "A file that is not Python fails when somebody first needs it.", syntax),
    PackageCheck(
        "hyped_imports",
        "Users of the model would have to install, and keep at one version, packages that it has no need of.",
        hyped_imports,
    ),
    PackageCheck("pickle_use", "A pickle from somebody else runs that person's code when it is read.", pickle_use),
)
LATER = (
    PackageCheck(
        "libraries_declared",
        "A library that happens to be installed here is missing elsewhere, and the model fails there.",
        libraries_declared,
    ),
)
"""Of those, the ones that need to know the models."""
