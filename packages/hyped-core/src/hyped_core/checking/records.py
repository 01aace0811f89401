"""What a check is, what it is given and what it leaves behind; the checks are in `behaviour` and `static`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hyped_core.context import RunContext
from hyped_core.spec import ModelSpec

Status = Literal["passed", "failed", "skipped", "expected", "stale"]
"""``expected``: failed, as the model says with a reason; ``stale``: expected to fail, and passed."""

BAD: tuple[Status, ...] = ("failed", "stale")
"""The states that make `hyped plugins check` end with exit code 4."""


class CheckFailed(Exception):
    """A model does not do what a check asks.

    Parameters
    ----------
    message
        What was found and what was expected.
    where
        The method, argument, field or file it is about.
    mend
        What the model's author does about it.

    Attributes
    ----------
    asked_by : the checks whose own question this is (see `asked_by`).
    """

    def __init__(self, message: str, *, where: str = "", mend: str = "") -> None:
        self.message, self.where, self.mend = message, where, mend
        self.asked_by: tuple[str, ...] = ()
        super().__init__(message)


@contextmanager
def asked_by(*checks: str) -> Iterator[None]:
    """What fails meanwhile, or in a function decorated so, is what ``checks`` ask.

    Where one of them has failed, another check that comes to the same failure does not tell it again: it is skipped
    with the name of the one that does. One that raises something of its own is told.
    """
    try:
        yield
    except CheckFailed as failed:
        failed.asked_by += checks
        raise


class CheckSkipped(Exception):
    """A check does not apply to this model or this machine, for the reason given."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(slots=True)
class Subject:
    """A model under check.

    Attributes
    ----------
    task, name : as in the registry.
    spec : what the plugin says of it.
    make : ``make()`` or ``make(values)`` gives a fresh instance; a `hyped_core.checking.run.Maker` also keeps notes.
    scratch : an empty folder of this check.
    remote : True where the model works in a process of its own, so that nothing of it can be seen but its outputs.
    """

    task: str
    name: str
    spec: ModelSpec
    make: Callable[..., Any]
    scratch: Path
    remote: bool = False

    def context(self, seed: int = 0, **changes: Any) -> RunContext:
        """A context on the CPU with one thread, a scratch folder inside the check's own; ``changes`` override it."""
        folder = self.scratch / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return RunContext(**{"seed": seed, "device": "cpu", "threads": 1, "scratch": folder, **changes})


@dataclass(frozen=True, slots=True)
class Check:
    """One question to a model.

    Attributes
    ----------
    name : lower-case words joined by ``_``, as in ``expected_failures``.
    tasks : the tasks it is asked of.
    why : one sentence: what users of the model suffer where it does not hold.
    run : returns where all is well; raises `CheckFailed` or `CheckSkipped`, and anything else it raises is a failure.
    """

    name: str
    tasks: tuple[str, ...]
    why: str
    run: Callable[[Subject], None]


@dataclass(frozen=True, slots=True)
class Exercise:
    """How a model of one task is put to work on tiny data.

    Attributes
    ----------
    task : one of `hyped_core.spec.TASKS`, or one that a plugin registers (`TaskSpec.exercise`).
    inputs : seed -> fresh inputs by name, equal for equal seeds.
    work : (model, inputs, context) -> outputs by name (arrays, tables, AnnData); fits where the contract has `fit`,
        calls every method of the contract once.
    rtol, atol : within which two runs of one seed are the same.
    """

    task: str
    inputs: Callable[[int], dict[str, Any]]
    work: Callable[[Any, dict[str, Any], RunContext], dict[str, Any]]
    rtol: float = 1e-5
    atol: float = 1e-6


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """What one check of one model, or of the package (then ``model`` is the distribution), came to.

    Attributes
    ----------
    model : ``"task/name"``, or the distribution's name.
    where : the file, field, method or argument it is about.
    reason : what was found; of an expected failure also why it is expected; of a skipped one why.
    mend : what to do about it.
    """

    model: str
    check: str
    status: Status
    where: str = ""
    reason: str = ""
    mend: str = ""
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        """True where somebody has to do something."""
        return self.status in BAD

    def as_dict(self) -> dict[str, Any]:
        """Every field, JSON-able."""
        return asdict(self)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> CheckRecord:
        """The record that `as_dict` was called on."""
        return cls(**value)


@dataclass(frozen=True, slots=True)
class Expected:
    """Failures that are expected of one model: check -> reason, the place where they are said, and other places."""

    reasons: Mapping[str, str] = field(default_factory=dict)
    where: str = "ModelSpec.expected_failures"
    places: Mapping[str, str] = field(default_factory=dict)

    def place_of(self, check: str) -> str:
        """Where the failure of ``check`` is said to be expected."""
        return self.places.get(check, self.where)
