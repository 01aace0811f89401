"""All checks of a model's behaviour by task: those of every task, then the task's own. Imported when asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from hyped_core.checking.records import Check, Exercise
from hyped_core.errors import PluginError
from hyped_core.spec import TASKS

_MODULE = "hyped_core.checking.behaviour"


def exercise_of(task: str) -> Exercise:
    """How a model of ``task`` is put to work.

    Raises
    ------
    PluginError
        The task has no contract in core, so nothing is known of what its models do.
    """
    return _module(task).EXERCISE


@cache
def checks_of(task: str) -> tuple[Check, ...]:
    """Every check of a model of ``task``, in the order in which they run."""
    own = _module(task).CHECKS
    common = import_module(f"{_MODULE}.common").CHECKS
    return tuple(check for check in (*common, *own) if task in check.tasks)


def all_checks() -> tuple[Check, ...]:
    """Every check of every task, each once, in order."""
    found: dict[str, Check] = {}
    for task in TASKS:
        for check in checks_of(task):
            known = found.setdefault(check.name, check)
            if known is not check:
                raise PluginError(f"two checks are called {check.name!r}", where=f"{_MODULE}.{task}")
    return tuple(found.values())


def _module(task: str):  # noqa: ANN202  a module whose names are checked by tests
    if task not in TASKS:
        raise PluginError(
            "core has no contract for this task, so its models cannot be checked",
            where=task,
            mend=f"tasks with a contract: {', '.join(TASKS)}",
        )
    return import_module(f"{_MODULE}.{task}")
