"""A subject of checks made from a class, and what a check says of it."""

from __future__ import annotations

from hyped_core.checking.records import Check, CheckFailed, CheckSkipped, Subject
from hyped_core.spec import ModelSpec


def outcome(check: Check, task: str, make, scratch, **said) -> str:
    """``passed``, ``skipped``, or what failed with its place; ``said`` is of the spec.

    A failure without a place or a mend is an error here.
    """
    spec = ModelSpec(name="small", task=task, target="package.module:Small", **said)
    try:
        check.run(Subject(task, "small", spec, make, scratch))
    except CheckSkipped:
        return "skipped"
    except CheckFailed as failed:
        assert failed.where and failed.mend and failed.message
        return f"{failed.where}: {failed.message}"
    return "passed"
