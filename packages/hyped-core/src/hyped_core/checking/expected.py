"""Failures that a model's author expects, with the reason: told apart from others, and reported when they are stale."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hyped_core.checking.records import CheckRecord, Expected
from hyped_core.errors import PluginError, Problem
from hyped_core.spec import ModelSpec

__all__ = ["Expected", "all_expected", "expected_in", "known_check", "settled", "unknown_names"]

TABLE = "tool.hyped.expected-failures"
"""Table of a plugin's pyproject.toml: ``"task/name" = {check = "reason"}``."""


def settled(record: CheckRecord, expected: Expected) -> CheckRecord:
    """The record in the light of what was expected: a failure becomes ``expected``, a pass ``stale``."""
    reason = expected.reasons.get(record.check)
    if reason is None:
        return record
    if record.status == "failed":
        return replace(record, status="expected", reason=f"{record.reason}; expected: {reason}", mend="")
    if record.status == "passed":
        return replace(
            record,
            status="stale",
            where=expected.place_of(record.check),
            reason=f"was expected to fail ({reason}) and passes",
            mend=f"take {record.check!r} out of {expected.place_of(record.check)}",
        )
    return record


def check_names() -> list[str]:
    """The names of every check of behaviour, of whatever task."""
    from hyped_core.checking.catalogue import all_checks

    return [check.name for check in all_checks()]


def known_check(name: str, names: Iterable[str] | None = None) -> str:
    """``name`` where there is such a check.

    Raises
    ------
    PluginError
        There is none; the closest names are given.
    """
    known = list(names if names is not None else check_names())
    if name in known:
        return name
    raise PluginError(f"there is no check {name!r}", mend=_hint(name, known))


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=2)
    return f"did you mean {' or '.join(close)}?" if close else f"checks: {', '.join(known)}"


def unknown_names(spec: ModelSpec, expected: Expected) -> list[Problem]:
    """A problem for each expected failure of a check that the model's task does not have."""
    from hyped_core.checking.catalogue import checks_of

    known = [check.name for check in checks_of(spec.task)]
    return [
        Problem(f"{expected.place_of(name)}: {name}", f"the task {spec.task} has no such check", _hint(name, known))
        for name in expected.reasons
        if name not in known
    ]


def all_expected(spec: ModelSpec, folder: Path | None) -> Expected:
    """What the spec says, and over it what the source folder's pyproject.toml says of the model.

    Raises
    ------
    PluginError
        As `expected_in`.
    """
    said = Expected(dict(spec.expected_failures))
    more = expected_in(folder).get(spec.key) if folder is not None else None
    if more is None:
        return said
    places = {name: more.where for name in more.reasons}
    return Expected({**said.reasons, **more.reasons}, said.where, places)


def expected_in(folder: Path) -> dict[str, Expected]:
    """``"task/name"`` -> expected failures, of the table ``tool.hyped.expected-failures`` of a source folder.

    Raises
    ------
    PluginError
        The table does not map models to checks with reasons.
    """
    import tomllib

    file = folder / "pyproject.toml"
    try:
        content: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}
    for key in TABLE.split("."):
        content = content.get(key, {}) if isinstance(content, dict) else {}
    found = {}
    for model, reasons in content.items() if isinstance(content, Mapping) else ():
        place = f'{file.name} [{TABLE}] "{model}"'
        good = isinstance(reasons, Mapping) and all(isinstance(r, str) and r.strip() for r in reasons.values())
        if not good:
            raise PluginError("must map checks to the reasons why they fail", where=place,
                              mend=f'[{TABLE}]\n"expression/my-model" = {{ sparse_input = "dense matrices only" }}')
        found[str(model)] = Expected(dict(reasons), place)
    return found
