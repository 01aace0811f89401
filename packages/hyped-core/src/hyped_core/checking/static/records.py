"""What a static check is: one question to a package, or to each model it announces, with every problem at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hyped_core.checking.child import failed
from hyped_core.checking.records import CheckRecord, CheckSkipped
from hyped_core.checking.static.package import Package
from hyped_core.errors import Problem
from hyped_core.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class PackageCheck:
    """One question to a package.

    Attributes
    ----------
    name, why : as of `hyped_core.checking.records.Check`.
    run : yields every problem; raises `CheckSkipped` where it does not apply.
    """

    name: str
    why: str
    run: Callable[[Package], Iterable[Problem]]

    def records(self, package: Package, models: list[str] | None = None) -> Iterator[CheckRecord]:
        """A record for each problem, or one that says that there is none."""
        yield from _records(package.name, self.name, lambda: self.run(package))


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """One question to what a package says of each of its models."""

    name: str
    why: str
    run: Callable[[Package, ModelSpec], Iterable[Problem]]

    def records(self, package: Package, models: list[str] | None = None) -> Iterator[CheckRecord]:
        """The records of every model, or of the ``models`` named ``task/name``."""
        for spec in package.models():
            if models is None or spec.key in models:
                yield from _records(spec.key, self.name, lambda spec=spec: self.run(package, spec))


def _records(who: str, check: str, run: Callable[[], Iterable[Problem]]) -> Iterator[CheckRecord]:
    started = time.perf_counter()
    found: list[CheckRecord] = []
    try:
        for problem in run():
            spent = time.perf_counter() - started
            found.append(failed(who, check, problem.where, problem.message, problem.mend, spent))
    except CheckSkipped as skipped:
        found.append(CheckRecord(who, check, "skipped", reason=skipped.reason))
    except (Exception, SystemExit) as error:  # noqa: BLE001  a plugin's code may raise anything
        from hyped_core.checking.behaviour.common import place_of, said

        found.append(failed(who, check, place_of(error), said(error), "", time.perf_counter() - started))
    yield from found or [CheckRecord(who, check, "passed", seconds=round(time.perf_counter() - started, 3))]
