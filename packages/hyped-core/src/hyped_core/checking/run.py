"""Runs checks of behaviour on one model in this process; `children` does so in processes that may hang or crash."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hyped_core.blame import place_of, said
from hyped_core.checking.catalogue import checks_of
from hyped_core.checking.expected import Expected, settled
from hyped_core.checking.observe import process_kept
from hyped_core.checking.printed import heard
from hyped_core.checking.records import Check, CheckFailed, CheckRecord, CheckSkipped, Subject
from hyped_core.errors import HypedError
from hyped_core.spec import ModelSpec

GATE = "runs"
"""Where this check fails, the others would only say so again."""
ALONE = (GATE, "config_pickles", "missing_library_named")
"""Checks that ask something of a model that does not run, too."""
UNTOLD = "correct that line, or raise a HypedError of hyped_core.errors where the data are at fault"
"""What to do about an error that a check did not expect."""


class Maker:
    """Makes instances of one model, and keeps what its checks share.

    Attributes
    ----------
    values : the parameters of every instance, unless others are given.
    quick : True where they are those of `ModelSpec.quick`.
    notes : results that several checks of this model read, by name.
    told : check that failed, or came to the failure of another -> the check that tells of it.
    printed : check -> what the model printed to stdout while it ran.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        values: Mapping[str, Any] | None = None,
        quick: Mapping[str, Any] | None = None,
    ) -> None:
        self._make = make
        self.notes: dict[str, Any] = {}
        self.told: dict[str, str] = {}
        self.printed: dict[str, str] = {}
        self.quick = values is None and bool(quick)
        self.values = dict((quick if values is None else values) or {})

    def __call__(self, values: Mapping[str, Any] | None = None) -> Any:
        """A fresh instance with the maker's values, ``values`` over them."""
        together = {**self.values, **(values or {})}
        return self._make(together) if together else self._make()

    def use(self, values: Mapping[str, Any]) -> None:
        """Make instances with ``values`` from now on."""
        self.values, self.quick = dict(values), False

    def how(self) -> str:
        """With which values that no user would have, for a report; empty where with the usual ones."""
        return f"exercised with ModelSpec.quick: {json.dumps(self.values)}" if self.quick else ""


def check_model(
    spec: ModelSpec,
    make: Callable[..., Any] | None = None,
    *,
    only: Iterable[str] | None = None,
    remote: bool = False,
    values: Mapping[str, Any] | None = None,
    expected: Expected | None = None,
) -> list[CheckRecord]:
    """Every check of the model's task, in this process.

    Parameters
    ----------
    make
        ``make()`` or ``make(values)`` gives a fresh instance; ``spec.create`` where None.
    only
        Names of the checks to run; all where None.
    remote
        The instances work in a process of their own.
    values
        Parameters of every instance; the spec's ``quick`` where None.
    expected
        Failures that are expected; those of the spec where None.

    Raises
    ------
    PluginError
        Nothing says how models of the task are put to work, or ``only`` names a check it does not have.
    """
    maker = make if isinstance(make, Maker) else Maker(make or spec.create, values, spec.quick)
    wanted = expected or Expected(dict(spec.expected_failures))
    return [settled(record, wanted) for record in raw_records(spec, maker, only=only, remote=remote)]


def raw_records(
    spec: ModelSpec, make: Maker, *, only: Iterable[str] | None = None, remote: bool = False
) -> Iterator[CheckRecord]:
    """The records one by one, expected failures not yet told from others."""
    for check in chosen(spec.task, only):
        yield run_check(check, spec, make, remote=remote)


def chosen(task: str, only: Iterable[str] | None) -> tuple[Check, ...]:
    """The checks of a task that are called for.

    Raises
    ------
    PluginError
        ``only`` names a check that no task has; the closest names are given.
    """
    from hyped_core.checking.expected import known_check

    checks = checks_of(task)
    if only is None:
        return checks
    names = set(only)
    for name in names - {check.name for check in checks}:
        known_check(name)
    return tuple(check for check in checks if check.name in names)


def run_check(check: Check, spec: ModelSpec, make: Callable[..., Any], *, remote: bool = False) -> CheckRecord:
    """One check in an empty folder that is removed afterwards."""
    started = time.perf_counter()
    maker = make if isinstance(make, Maker) else Maker(make)
    if check.name not in ALONE and isinstance(maker.notes.get("run"), BaseException):
        return CheckRecord(spec.key, check.name, "skipped", reason=f"the model does not run: see the check {GATE!r}")
    with tempfile.TemporaryDirectory(prefix="hyped-check-", ignore_cleanup_errors=True) as folder:
        subject = Subject(spec.task, spec.name, spec, maker, Path(folder).resolve(), remote)
        with process_kept(), heard() as printed:
            status, where, reason, mend = _outcome(check, subject, maker)
    if text := printed.getvalue():
        maker.printed[check.name] = text
    if check.name == GATE and maker.quick:
        reason = f"{reason}; {maker.how()}" if reason else maker.how()
    seconds = round(time.perf_counter() - started, 3)
    return CheckRecord(spec.key, check.name, status, where, reason, mend, seconds)


def _outcome(check: Check, subject: Subject, maker: Maker) -> tuple[Any, str, str, str]:
    try:
        check.run(subject)
    except CheckFailed as failed:
        teller = next((maker.told[name] for name in failed.asked_by if name in maker.told), check.name)
        maker.told[check.name] = teller
        if teller != check.name:
            return "skipped", "", f"fails by what is told already: see the check {teller!r}", ""
        return "failed", failed.where or subject.spec.target, failed.message, failed.mend
    except CheckSkipped as skipped:
        return "skipped", "", skipped.reason, ""
    except (Exception, SystemExit) as error:  # noqa: BLE001  a model may raise anything
        maker.told[check.name] = check.name
        mend = error.mend or "" if isinstance(error, HypedError) else ""
        return "failed", place_of(error) or subject.spec.target, said(error), mend or UNTOLD
    return "passed", "", "", ""
