"""How checks of every task put a model to work as its task's `Exercise` says, and compare what it gives.

What one run shows is asked by several checks, so the first run of a model is kept with it (`Maker.notes`).
"""

from __future__ import annotations

from typing import Any

from hyped_core.checking import observe, surroundings
from hyped_core.checking.records import CheckFailed, CheckSkipped, Exercise, Subject, asked_by

comparing = asked_by("inputs_unmodified", "seed_repeats", "calls_repeat", "instances_apart")
"""Decorates what compares two results of a model: where they differ for another reason, that one is told."""


def exercise(subject: Subject) -> Exercise:
    """How models of the subject's task are put to work."""
    from hyped_core.checking.catalogue import exercise_of

    return exercise_of(subject.task)


def observed(subject: Subject) -> observe.Observation:
    """The first run of the model, made once; every check that reads it shares it.

    Raises
    ------
    CheckSkipped
        The model cannot run here (a library, hardware or published weights are absent), or did not run at all, which
        the check ``runs`` reports.
    """
    notes = getattr(subject.make, "notes", {})
    if "run" not in notes:
        try:
            notes["run"] = observe.observe(
                subject.make, exercise(subject), subject.context(), subject.scratch / "working-folder"
            )
        except (Exception, SystemExit) as error:  # noqa: BLE001  a model may raise anything: `runs` says what
            notes["run"] = error
    run = notes["run"]
    if isinstance(run, BaseException):
        raise CheckSkipped("the model does not run: see the check 'runs'") from run
    return run


def settled(subject: Subject) -> observe.Observation:
    """A run in which no library is imported any more: what libraries do then, once, is not the model's doing."""
    first = observed(subject)
    if not first.imported:
        return first
    notes = getattr(subject.make, "notes", {})
    if "settled" not in notes:
        notes["settled"] = observe.observe(
            subject.make, exercise(subject), subject.context(), subject.scratch / "working-folder-2"
        )
    return notes["settled"]


def compare(subject: Subject, a: Any, b: Any) -> str | None:
    """Where two outputs of one seed differ by more than the exercise allows, in words."""
    from hyped_core.checking.compare import difference

    task = exercise(subject)
    return difference(a, b, task.rtol, task.atol)


@comparing
def must_agree(subject: Subject, a: Any, b: Any, said: str, *, mend: str, where: str = "") -> None:
    """Fail with ``said`` and the place where two outputs differ."""
    if found := compare(subject, a, b):
        raise CheckFailed(f"{said}: {found}", where=where or found.partition(":")[0], mend=mend)


def again(subject: Subject) -> tuple[dict[str, Any], str]:
    """What the first run's model gives when it is asked once more, and where that differs from the time before.

    What it has learned stays; found out once for a model, which has then been asked three times.
    """
    notes = getattr(subject.make, "notes", {})
    if "again" not in notes:
        model = trained(observed(subject).model)
        before, after = work(subject, model, 0), work(subject, model, 0)
        notes["again"] = after, compare(subject, before, after) or ""
    return notes["again"]


def trained(model: Any) -> Any:
    """``model`` without its `fit`: what it has learned stays, its other methods are called."""
    return _Trained(model)


class _Trained:
    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._model, name)
        return (lambda *_, **__: None) if name == "fit" else value


def work(subject: Subject, model: Any, inputs: int, *, context: Any = None) -> dict[str, Any]:
    """The outputs of ``model`` on the exercise's inputs of seed ``inputs``, as copies."""
    from hyped_core.checking.compare import copy_of

    given = observe.inputs_of(exercise(subject), inputs)
    return copy_of(exercise(subject).work(model, given, context or subject.context()))


def unrepeated(subject: Subject) -> str:
    """Where two runs of one seed differ, in words; empty where they do not. Found out once for a model."""
    notes = getattr(subject.make, "notes", {})
    if "unrepeated" not in notes:
        first = observed(subject)
        states = surroundings.random_states()
        try:
            surroundings.shake_random(987_654)
            again = work(subject, subject.make(), 0)
        finally:
            surroundings.restore_random(states)
        notes["unrepeated"] = compare(subject, first.outputs, again) or ""
    return notes["unrepeated"]


def repeatable(subject: Subject) -> bool:
    """Whether two runs of one seed are the same, so that runs may be compared."""
    return subject.spec.deterministic and not unrepeated(subject)


def must_repeat(subject: Subject) -> None:
    """Skip a check that compares runs of a model whose runs differ anyhow."""
    if not subject.spec.deterministic:
        raise CheckSkipped("the model says that one seed may give other numbers (deterministic=False)")
    if unrepeated(subject):
        raise CheckSkipped("its results do not repeat: see the check 'seed_repeats'")
