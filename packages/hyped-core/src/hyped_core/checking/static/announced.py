"""What is written in the calls of ``ModelSpec``, field by field: a plugin that runs tells of the first alone."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from hyped_core.checking.static.package import Package
from hyped_core.checking.static.places import calls_of
from hyped_core.errors import PluginError, Problem
from hyped_core.plugins.acceptance import take
from hyped_core.plugins.compatibility import SUPPORTED_API_VERSIONS
from hyped_core.plugins.record import PluginRecord
from hyped_core.spec import API_VERSION, TASKS, ModelSpec

_GOOD = {"name": "a", "task": TASKS[0], "target": "a:B"}
_NAMES = [field.name for field in fields(ModelSpec)]
_TYPES = {field.name: str(field.type) for field in fields(ModelSpec)}


@dataclass(frozen=True, slots=True)
class Written:
    """A problem, and words that the host's complaint of the same has."""

    problem: Problem
    words: str


def written(package: Package) -> Iterator[Written]:
    """Every field that cannot be taken, of each ``ModelSpec`` whose value stands in the source."""
    for file, call in calls_of(package, ModelSpec.__name__):
        given = dict(zip(_NAMES, call.args)) | {word.arg: word.value for word in call.keywords if word.arg}
        for name, node in given.items():
            where = f"{file}:{node.lineno}: ModelSpec.{name}"
            if name not in _NAMES:
                close = difflib.get_close_matches(name, _NAMES, n=1)
                mend = f"did you mean {close[0]}?" if close else f"fields: {', '.join(_NAMES)}"
                yield Written(Problem(where, "there is no such field", mend), f"keyword argument '{name}'")
                continue
            try:
                value = ast.literal_eval(node)
            except (ValueError, TypeError, SyntaxError):
                continue
            if said := _refused(name, value):
                yield Written(Problem(where, said, mend_of(name, value)), said)
        unpacked = any(word.arg is None for word in call.keywords) or any(isinstance(a, ast.Starred) for a in call.args)
        for name in _GOOD if not unpacked else ():
            if name not in given:
                where = f"{file}:{call.lineno}: ModelSpec.{name}"
                yield Written(Problem(where, "is not given", mend_of(name, None)), f"argument: '{name}'")


def meant(package: Package) -> Iterator[ModelSpec]:
    """The models of those calls of ``ModelSpec`` that can be read, with wrong fields put right or left out."""
    for _, call in calls_of(package, ModelSpec.__name__):
        given = dict(zip(_NAMES, call.args)) | {str(word.arg): word.value for word in call.keywords}
        values = {}
        try:
            for name, node in given.items():
                field = name if name in _NAMES else "".join(difflib.get_close_matches(name, _NAMES, n=1))
                value = ast.literal_eval(node)
                if field and _refused(field, value):
                    value = _better(field, value)
                if field and value is not None and not _refused(field, value):
                    values[field] = value
            spec = ModelSpec(**values)
        except (ValueError, TypeError, SyntaxError, PluginError):
            continue  # a value that is computed, or no target: nothing is known of what was meant
        if spec.api_version in SUPPORTED_API_VERSIONS:
            yield spec


def _refused(name: str, value: Any) -> str:
    """Why a field cannot have a value; empty where it can, and of an ``api_version``, which has a check of its own."""
    try:
        spec = ModelSpec(**{**_GOOD, name: value})
    except PluginError as error:
        return error.message
    if name == "api_version":
        return ""
    refusal = take("hyped_models", spec, PluginRecord("", "", "", ""))
    return refusal[0].partition(" whose ")[2] if refusal else ""


def mend_of(name: str, value: Any) -> str:
    """What to write for a field instead of a value that it cannot have."""
    text = value if isinstance(value, str) else ""
    if name == "task":
        close = difflib.get_close_matches(text.lower(), TASKS, n=1)
        return f'task="{close[0]}"' if close else f"task: one of {', '.join(TASKS)}"
    if name in ("name", "target", "config"):
        return f'{name}="{_better(name, value) or ("my-model" if name == "name" else "my_model.model:MyModel")}"'
    if name == "role":
        return 'role="model", or role="control" for one that is there to be beaten'
    if name == "needs":
        return 'needs=Needs(modules=("torch",), install="pip install torch")'
    if name == "expected_failures":
        return 'expected_failures={"sparse_input": "dense matrices only"}'
    if name == "api_version":
        return f"api_version={API_VERSION}, or leave it out"
    if _TYPES[name].startswith("Mapping"):
        return f"{name}={{...}}, with keys of text"
    if _TYPES[name] == "bool":
        return f"{name}=True or {name}=False"
    if _TYPES[name].startswith("tuple"):
        items = _better(name, value) or ("...",)
        listed = ", ".join(f'"{item}"' for item in items)
        return f"{name}=({listed}{',' if len(items) < 2 else ''})"
    return f'{name}="..."'


def _better(name: str, value: Any) -> Any:
    """What was probably meant by a value that a field cannot have; None where that cannot be told."""
    text = value if isinstance(value, str) else ""
    if name == "name":
        return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).lstrip("0123456789_-").rstrip("-") or None
    if name in ("target", "config"):
        module, _, attribute = re.sub(r"\.py\b", "", text.replace("/", ".")).replace(":", ".").rpartition(".")
        good = re.fullmatch(r"[A-Za-z_][\w.]*", module) and attribute.isidentifier()
        return f"{module}:{attribute}" if good else None
    if _TYPES[name].startswith("tuple"):
        items = [text] if text else value if isinstance(value, list) else []
        return tuple(item for item in items if isinstance(item, str)) or None
    return None
