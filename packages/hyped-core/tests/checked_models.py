"""A subject of checks made from a class, what a check says of it, and which checks of all fail."""

from __future__ import annotations

from hyped_core.checking.records import Check, CheckFailed, CheckRecord, CheckSkipped, Subject
from hyped_core.checking.run import check_model
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


def failing(task: str, make, **said) -> dict[str, CheckRecord]:
    """The checks that a model fails, of all that its task has; one that is skipped as told names one that failed."""
    spec = ModelSpec(**{"name": "small", "task": task, "target": "package.module:Small", **said})
    records = check_model(spec, lambda values=None: make())
    failed = {record.check: record for record in records if record.status == "failed"}
    for record in records:
        assert record.status != "failed" or record.where and record.mend and record.reason, record
        if record.status == "skipped" and "told already" in record.reason:
            assert record.reason.split("'")[1] in failed, record
    return failed


def sendable(made: type, names: dict) -> type:
    """A class made in a function, under a name of its own in its module: so it can be sent to another process."""
    made.__name__ = made.__qualname__ = f"Made{len(names)}"
    names[made.__name__] = made
    return made
