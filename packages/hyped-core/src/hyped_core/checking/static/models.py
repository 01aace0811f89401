"""What is said of each model: texts, the class and its methods, what it needs, and the modules that are its code."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hyped_core.checking.records import CheckSkipped
from hyped_core.checking.static.code import closest_module, distribution_of, libraries_declared, name_guessed
from hyped_core.checking.static.config import config_problems
from hyped_core.checking.static.package import Package
from hyped_core.checking.static.places import error_place
from hyped_core.checking.static.records import ModelCheck
from hyped_core.errors import PluginError, Problem
from hyped_core.spec import ModelSpec, import_target

LONGEST_LICENCE = 100
"""Characters of a licence's name; more are its text."""


def described(package: Package, spec: ModelSpec) -> Iterator[Problem | str]:
    """A model has a summary and the name of a licence; where that is not its package's, this is said."""
    if not spec.summary.strip():
        yield Problem("ModelSpec.summary", "is empty", "say in one line what the model does")
    licence, stated = spec.licence.strip(), package.distribution.metadata.get("License-Expression") or ""
    if not licence:
        mend = 'licence="BSD-3-Clause", and that of its weights where they differ'
        yield Problem("ModelSpec.licence", "is empty", mend)
    elif "\n" in licence or len(licence) > LONGEST_LICENCE:
        mend = 'give its name, licence="BSD-3-Clause", and put the text into the file LICENSE'
        yield Problem("ModelSpec.licence", f"is a text of {len(licence)} characters", mend)
    elif stated.lower() not in licence.lower() and licence.lower() not in re.split(r"[\s()]+", stated.lower()):
        yield (
            f"its licence {licence} is not that of its package ({stated}): right where weights or another's code have "
            "one of their own, and then the README says what is under which"
        )


def target(package: Package, spec: ModelSpec) -> Iterator[Problem]:
    """The target can be imported, and its methods take what the contract gives."""
    from hyped_core.contracts import PROTOCOLS, REQUIRED_METHODS

    made = imported(package, spec, spec.target, "ModelSpec.target")
    if isinstance(made, Problem):
        yield made
        return
    if not callable(made):
        mend = f"name a class with {', '.join(REQUIRED_METHODS.get(spec.task, ()))}".removesuffix(" with ")
        reason = f"is of the type {type(made).__name__}, expected a class"
        yield Problem(f"ModelSpec.target: {spec.target}", reason, mend)
        return
    yield from _constructor(made, spec)
    protocol = PROTOCOLS.get(spec.task)
    if protocol is None or not inspect.isclass(made):
        return
    for name in REQUIRED_METHODS[spec.task]:
        method = getattr(made, name, None)
        where = f"{spec.target}.{name}"
        if not callable(method):
            yield Problem(where, "is not there", f"def {name}{_signature(getattr(protocol, name))}")
        elif found := _misfit(method, getattr(protocol, name)):
            yield Problem(where, found, f"def {name}{_signature(getattr(protocol, name))}")
    for name in ("fit", "denoise_frames"):
        wanted = getattr(protocol, name, None) or _OPTIONAL.get((spec.task, name))
        method = getattr(made, name, None)
        if name not in REQUIRED_METHODS[spec.task] and callable(method) and wanted is not None:
            if found := _misfit(method, wanted):
                yield Problem(f"{spec.target}.{name}", found, f"def {name}{_signature(wanted)}")


class _Optional:
    """Signatures of what the contracts leave open."""

    def embedding_fit(self, train, *, context): ...  # noqa: ANN001, ANN202

    def denoise_fit(self, stack, meta, *, context): ...  # noqa: ANN001, ANN202

    def denoise_frames(self, read, count, meta, *, context, frames=None): ...  # noqa: ANN001, ANN202


_OPTIONAL: dict[tuple[str, str], Callable[..., Any]] = {
    ("embedding", "fit"): _Optional.embedding_fit,
    ("denoise", "fit"): _Optional.denoise_fit,
    ("denoise", "denoise_frames"): _Optional.denoise_frames,
}


def imported(package: Package, spec: ModelSpec, name: str, field: str) -> Any:
    """What an import string names, or the problem with it; skips where a library the model needs is absent, and where
    another check or field says the same."""
    absent = spec.needs.missing()
    if spec.environment:
        raise CheckSkipped("the model's libraries are those of its own environment")
    try:
        return import_target(name)
    except PluginError as error:
        if absent:
            raise CheckSkipped(f"needs {', '.join(absent)}, which is not installed") from error
        return _unimportable(package, spec, name, field, error)


def _unimportable(package: Package, spec: ModelSpec, name: str, field: str, error: PluginError) -> Problem:
    """The problem with an import string, where it has to be mended."""
    where, cause = f"{field}: {name}", error.__cause__
    module, _, attribute = name.partition(":")
    here = error_place(package, cause)
    if isinstance(cause, AttributeError) and not here:
        offered = [key for key, value in vars(sys.modules[module]).items() if inspect.isclass(value)]
        close = difflib.get_close_matches(attribute, offered, n=1)
        own = [key for key in offered if getattr(sys.modules[module], key).__module__ == module]
        mend = f"did you mean {module}:{close[0]}?" if close else f"classes of {module}: {', '.join(own) or 'none'}"
        return Problem(where, f"{module} has no {attribute!r}", mend)
    if field != "ModelSpec.target" and module == spec.target.partition(":")[0]:
        raise CheckSkipped(f"{module} cannot be imported: see the check 'target'") from error
    if isinstance(cause, SyntaxError) and here:
        raise CheckSkipped(f"{here} is not Python: see the check 'syntax'") from error
    absent = cause.name if isinstance(cause, ModuleNotFoundError) else None
    top = (absent or "").partition(".")[0]
    if absent and (top in package.tops or not here and top == module.partition(".")[0]):
        absent = absent if here else module
        rest = absent.partition(".")[2]
        moved = next((f"{own}.{rest}" for own in package.tops if f"{own}.{rest}" in package.modules), "")
        close = moved or closest_module(package, absent)
        mend = f"did you mean {close}?" if close else f"modules: {', '.join(package.modules)}"
        return Problem(f"{here}: {absent}" if here else where, f"there is no module {absent}", mend)
    if absent:
        if any(problem.message.startswith(f"imports {top},") for problem in libraries_declared(package)):
            raise CheckSkipped(f"{absent} is not installed: see the check 'libraries_declared'") from error
        mend = f"pip install {distribution_of(absent)}{name_guessed(absent)}; where users may lack it, name it in "
        mend += "needs.modules"
        return Problem(here or where, f"imports {absent}, which is not installed", mend)
    return Problem(here or where, error.message, "make its import work")


def _constructor(made: Any, spec: ModelSpec) -> Iterator[Problem]:
    try:
        signature = inspect.signature(made)
    except (ValueError, TypeError):
        return  # written in C: making it will tell
    given = () if spec.config is None else (None,)
    try:
        signature.bind(*given)
    except TypeError as error:
        called, mend = "with the config", "def __init__(self, config)"
        if spec.config is None:
            called, mend = "without arguments", 'def __init__(self), or config="package.module:Config" in the ModelSpec'
        yield Problem(f"{spec.target}{signature}", f"cannot be called {called}: {error}", mend)


def _misfit(method: Any, wanted: Any) -> str:
    """How a method cannot be called as the contract calls it; empty where it can."""
    try:
        offered = inspect.signature(method)
    except (ValueError, TypeError):
        return ""
    parameters = list(inspect.signature(wanted).parameters.values())[1:]
    must = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    may = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty]
    named = {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY}
    here: tuple[Any, ...] = () if isinstance(inspect.getattr_static(method, "__self__", None), type) else (None,)
    for count in (len(must), len(must) + len(may)):
        try:
            offered.bind(*here, *[None] * count, **named)
        except TypeError as error:
            shown = ", ".join([*(must + may)[:count], *(f"{name}=..." for name in named)])
            return f"cannot be called as ({shown}): {error}"
    return ""


def _signature(wanted: Any) -> str:
    """The contract's signature without types."""
    signature = inspect.signature(wanted)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def needs(package: Package, spec: ModelSpec) -> Iterator[Problem]:
    """What a model needs is named by import names, with the command that installs it; its environment can be read."""
    from packaging.requirements import InvalidRequirement, Requirement

    for name in spec.needs.modules:
        if not all(part.isidentifier() for part in name.split(".")):
            mend = "give import names: 'sklearn', not 'scikit-learn'"
            yield Problem("ModelSpec.needs.modules", f"{name!r} is no name of a module", mend)
    if spec.needs.modules and not spec.needs.install.strip():
        mend = f"install=\"pip install '{package.name}[extra]'\""
        yield Problem("ModelSpec.needs.install", "is empty, so users are not told what to type", mend)
    for text in spec.environment:
        if text.strip().startswith(("-", "#")) or not text.strip():
            continue  # options of pip and comments
        try:
            Requirement(text.partition(" #")[0].strip())
        except InvalidRequirement as error:
            if not text.startswith((".", "/", "git+", "http")):
                said = str(error).splitlines()[0]
                yield Problem("ModelSpec.environment", f"{text!r} cannot be read: {said}", "write it as pip takes it")


def sources(package: Package, spec: ModelSpec) -> Iterator[Problem]:
    """Modules of the package that the model's code imports are named as ``sources``."""
    from hyped_core.plugins.sources import undeclared_modules

    try:
        found = undeclared_modules(spec)
    except PluginError as error:
        absent = str(error.where)
        for field in ("target", "config"):
            if (getattr(spec, field) or "").partition(":")[0] == absent:
                raise CheckSkipped(f"there is no module {absent}: see the check {field!r}") from error
        close = closest_module(package, absent)
        mend = f"did you mean {close}?" if close else "name modules of the package by their dotted names"
        yield Problem(f"ModelSpec.sources: {absent}", error.message, mend)
        return
    except SyntaxError as error:
        raise CheckSkipped("a file is not Python: see the check 'syntax'") from error
    if found:
        listed = ", ".join(f'"{name}"' for name in found)
        yield Problem("ModelSpec.sources", f"{', '.join(found)} not named", f"sources=({listed},)")


def config(package: Package, spec: ModelSpec) -> Iterator[Problem]:
    """Every field has a default and a description, unknown keys are refused, and JSON takes it there and back."""
    if spec.config is None:
        raise CheckSkipped("the model has no config")
    made = imported(package, spec, spec.config, "ModelSpec.config")
    if isinstance(made, Problem):
        yield made
    else:
        yield from config_problems(made, spec, spec.config)


def expected_failures(package: Package, spec: ModelSpec) -> Iterator[Problem]:
    """Failures that are expected are of checks that there are."""
    from hyped_core.checking.catalogue import checks_of
    from hyped_core.checking.expected import all_expected, unknown_names

    try:
        checks_of(spec.task)
    except PluginError as error:
        if spec.expected_failures:
            yield Problem("ModelSpec.expected_failures", f"there are no checks: {error.message}", "leave it empty")
        return
    try:
        expected = all_expected(spec, package.folder)
    except PluginError as error:
        yield Problem(error.where or "", error.message, error.mend or "")
    else:
        yield from unknown_names(spec, expected)


CHECKS = (
    ModelCheck("described", "Users choose a model by its summary, and may use it by its licence.", described),
    ModelCheck("target", "A model whose methods cannot be called as the contract says fails at its first use.", target),
    ModelCheck("config", "Users set parameters by name in YAML: each needs a default, a type and a sentence, and a "
               "misspelt one has to be an error.", config),
    ModelCheck("needs", "Users without an optional library need the command that installs it.", needs),
    ModelCheck("sources", "Old results stay where what changed is neither named nor found by its imports.", sources),
    ModelCheck("expected_failures", "An excuse for a check that does not exist excuses nothing.", expected_failures),
)  # fmt: skip
