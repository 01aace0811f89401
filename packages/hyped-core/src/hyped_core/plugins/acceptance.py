"""Whether what a plugin gives can be taken: hooks that are there, records whose every field is of its type."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hyped_core.plugins.compatibility import api_note, api_refusal
from hyped_core.plugins.hookspecs import HOOKS, PROJECT
from hyped_core.plugins.record import PluginRecord, Provided
from hyped_core.spec import ModelSpec, Needs

MOST_RECORDS = 10_000
"""More than this from one hook of one plugin is taken for one that never ends."""
LONGEST_TEXT = 10_000
"""Characters of a record's text: it is shown in tables."""

KEYS: dict[str, Callable[[Any], Any]] = {
    "hyped_models": lambda spec: spec.key,
    "hyped_commands": lambda spec: spec.path,
    "hyped_tasks": lambda spec: spec.name,
    "hyped_metrics": lambda spec: f"{spec.task}/{spec.name}",
    "hyped_datasets": lambda spec: spec.name,
    "hyped_readers": lambda spec: f"{spec.kind}/{spec.name}",
    "hyped_report_sections": lambda spec: spec.name,
    "hyped_health_checks": lambda spec: spec.name,
}
"""Hook name -> what makes its records unique."""


def misspelt_hooks(module: Any) -> Iterator[tuple[str, str]]:
    """Hook implementations that no hook is waiting for, each with a complaint."""
    for name in dir(module):
        if name in HOOKS:
            continue
        try:
            value = inspect.getattr_static(module, name)
        except AttributeError:
            continue
        close = difflib.get_close_matches(name, HOOKS, n=1)
        marked = isinstance(getattr(value, f"{PROJECT}_impl", None), dict) if inspect.isroutine(value) else False
        unmarked = name.startswith("hyped_") and inspect.isfunction(value) and close
        if marked or unmarked and value.__module__ == getattr(module, "__name__", ""):
            hint = f"did you mean {close[0]!r}?" if close else f"hooks: {', '.join(HOOKS)}"
            yield name, f"there is no hook {name!r}; {hint}"


def take(hook: str, spec: Any, record: PluginRecord) -> tuple[str, str] | None:
    """Why a contribution cannot be taken and what mends it, or None where it can be.

    Notes on the plugin's record what is worth saying of one that is taken.
    """
    expected = HOOKS[hook]
    if type(spec) is not expected:
        return f"{hook} yielded {type(spec).__name__}, expected {expected.__name__}", ""
    for field in dataclasses.fields(spec):
        wrong = _wrong(str(field.type), getattr(spec, field.name))
        if wrong:
            name = getattr(spec, "name", "")
            called = repr(name) if _is_text(name) else ""
            return f"{hook} yielded a {expected.__name__} {called} whose {field.name} {wrong}", ""
    if isinstance(spec, ModelSpec):
        refusal = api_refusal(spec.api_version, record.distribution)
        if refusal is not None:
            return f"model {spec.key} {refusal.reason}", refusal.mend
        note = api_note(spec.api_version)
        if note:
            record.notes.append(f"model {spec.key}: {note}")
    return None


def _is_text(value: Any) -> bool:
    return type(value) is str


def _are_texts(value: Any) -> bool:
    return type(value) is tuple and all(map(_is_text, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (_is_text, "text"),
    "str | None": (lambda value: value is None or _is_text(value), "text or None"),
    "bool": (lambda value: type(value) is bool, "True or False"),
    "int": (lambda value: type(value) is int, "an integer"),
    "float": (_is_number, "a number"),
    "float | None": (lambda value: value is None or _is_number(value), "a number or None"),
    "tuple[str, ...]": (_are_texts, "a tuple of text"),
    "Needs": (lambda value: type(value) is Needs, "a hyped_core.Needs"),
    "Mapping[str, str]": (
        lambda value: isinstance(value, Mapping) and all(_is_text(v) for pair in value.items() for v in pair),
        "a mapping of text to text",
    ),
    "Mapping[str, Any]": (
        lambda value: isinstance(value, Mapping) and all(map(_is_text, value)),
        "a mapping of text to values",
    ),
}


def _wrong(kind: str, value: Any) -> str:
    """What is wrong with a field's value, in words; empty where nothing is."""
    if kind.startswith("Literal["):
        allowed = _choices(kind)
        return "" if _is_text(value) and value in allowed else f"is none of {', '.join(allowed)}"
    fits, words = _TYPES[kind]
    if not fits(value):
        return f"is {type(value).__name__}, expected {words}"
    if isinstance(value, Needs):
        for field in dataclasses.fields(value):
            wrong = _wrong(str(field.type), getattr(value, field.name))
            if wrong:
                return f".{field.name} {wrong}"
    for text in (value,) if _is_text(value) else value if _are_texts(value) else ():
        if len(text) > LONGEST_TEXT:
            return f"has {len(text):,} characters, more than {LONGEST_TEXT:,}"
        if not text.isprintable() and not text.replace("\n", "").replace("\t", "").isprintable():
            return "holds control characters"
    return ""


@functools.cache
def _choices(kind: str) -> tuple[str, ...]:
    """The values of an annotation such as ``Literal["model", "control"]``."""
    return tuple(part.strip().strip("\"'") for part in kind[len("Literal[") : -1].split(","))


def clashes(hook: str, provided: list[Provided]) -> Iterator[tuple[Provided, str, Provided | None]]:
    """Contributions of strangers under a name of HYPED's own packages: what to say, and what to take in their place.

    The name stays with its owner. A stranger's model of that name can still be asked for as ``distribution:name``;
    anything else is left out. Strangers that clash with one another are left in: their records get a note, and who
    asks for the bare name gets an error that names both.
    """
    key = KEYS[hook]
    kind = hook.removeprefix("hyped_").removesuffix("s").replace("_", " ")
    claims: dict[Any, list[Provided]] = {}
    for item in provided:
        claims.setdefault(key(item.spec), []).append(item)
    commands = [item.spec.path for item in provided if item.plugin.own] if hook == "hyped_commands" else []
    for name, items in claims.items():
        words = " ".join(name) if isinstance(name, tuple) else name
        owner = next((item.plugin.distribution for item in items if item.plugin.own), None)
        for item in items:
            if item.plugin.own:
                continue
            if owner and hook == "hyped_models":
                handle = f"{item.plugin.distribution}:{item.spec.name}"
                yield item, f"the {kind} {words!r} belongs to {owner}; ask for this one as {handle}", item
            elif owner:
                yield item, f"the {kind} {words!r} belongs to {owner}", None
            elif any(path[: len(name)] == name for path in commands):
                yield item, f"the {kind} {words!r} is a group of other commands", None
            elif any(name[: len(path)] == path for path in commands):
                yield item, f"the {kind} {words!r} lies below a command of HYPED's own", None
            elif len(items) > 1:
                others = sorted({other.plugin.distribution for other in items if other is not item})
                item.plugin.notes.append(f"the {kind} {words!r} is registered by {' and by '.join(others)} too")


def taken_suffixes(hook: str, provided: list[Provided]) -> Iterator[tuple[Provided, str, Provided | None]]:
    """The same of strangers' readers for suffixes that HYPED's own readers of their kind read: they lose these.

    Of strangers' readers of one suffix the first by name is asked; the records of the others get a note.
    """
    if hook != "hyped_readers":
        return
    first: dict[tuple[str, str], Provided] = {}
    for item in sorted(provided, key=lambda item: (not item.plugin.own, KEYS[hook](item.spec))):
        for suffix in item.spec.suffixes:
            other = first.setdefault((item.spec.kind, suffix), item)
            if not other.plugin.own and other.plugin is not item.plugin:
                name, asked = KEYS[hook](item.spec), KEYS[hook](other.spec)
                who = f"{asked!r} of {other.plugin.distribution}"
                item.plugin.notes.append(f"the reader {name!r} is not asked for {suffix}: {who} comes before it")
    owners = {(i.spec.kind, s): i.plugin.distribution for i in provided if i.plugin.own for s in i.spec.suffixes}
    for item in provided:
        kind, taken = item.spec.kind, [s for s in item.spec.suffixes if (item.spec.kind, s) in owners]
        if taken and not item.plugin.own:
            rest = dataclasses.replace(item.spec, suffixes=tuple(s for s in item.spec.suffixes if s not in taken))
            shown = f"the reader '{kind}/{item.spec.name}' is not asked for {', '.join(taken)}"
            yield item, f"{shown}: {owners[kind, taken[0]]} reads these", Provided(rest, item.plugin)
