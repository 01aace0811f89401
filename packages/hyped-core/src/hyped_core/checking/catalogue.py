"""All checks of a model's behaviour by task: those of every task, and the task's own. Imported when asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from hyped_core.checking.records import Check, Exercise
from hyped_core.errors import PluginError
from hyped_core.spec import TASKS, import_target

_MODULE = "hyped_core.checking.behaviour"


def exercise_of(task: str) -> Exercise:
    """How a model of ``task`` is put to work: as core says, or as the plugin that registers the task does.

    Raises
    ------
    PluginError
        Nobody says it, so nothing is known of what models of the task do; or what is said is no exercise.
    """
    if task in TASKS:
        return import_module(f"{_MODULE}.{task}").EXERCISE
    from hyped_core.plugins.registry import tasks

    registry = tasks()
    target = registry.get(task).exercise if task in registry.names() else None
    if target is None:
        raise PluginError(
            "nothing says how models of this task are put to work, so they cannot be checked",
            where=task,
            mend=f"tasks of core: {', '.join(TASKS)}; for another, TaskSpec(exercise='package.module:NAME')",
        )
    found = import_target(target)
    if not isinstance(found, Exercise):
        raise PluginError(f"is {type(found).__name__}, expected a hyped_core.checking.records.Exercise", where=target)
    return found


@cache
def checks_of(task: str) -> tuple[Check, ...]:
    """Every check of a model of ``task``, in the order in which they run; raises as `exercise_of`.

    Of a plugin's task those of every task.
    """
    common = import_module(f"{_MODULE}.common")
    if task not in TASKS:
        exercise_of(task)
        return (*common.CHECKS, *common.LAST)
    own = import_module(f"{_MODULE}.{task}").CHECKS
    return tuple(check for check in (*common.CHECKS, *own, *common.LAST) if task in check.tasks)


def all_checks() -> tuple[Check, ...]:
    """Every check of every task, each once, in order."""
    found: dict[str, Check] = {}
    for task in TASKS:
        for check in checks_of(task):
            known = found.setdefault(check.name, check)
            if known is not check:
                raise PluginError(f"two checks are called {check.name!r}", where=f"{_MODULE}.{task}")
    return tuple(found.values())

