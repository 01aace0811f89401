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
    run : yields every problem, and as text what is to be said though it holds; raises `CheckSkipped` where it does not
        apply.
    """

    name: str
    why: str
    run: Callable[[Package], Iterable[Problem | str]]

    def records(self, package: Package, models: list[str] | None = None) -> Iterator[CheckRecord]:
        """A record for each problem, or one that says that there is none."""
        yield from _records(package.name, self.name, lambda: self.run(package))


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """One question to what a package says of each of its models."""

    name: str
    why: str
    run: Callable[[Package, ModelSpec], Iterable[Problem | str]]

    def records(self, package: Package, models: list[str] | None = None) -> Iterator[CheckRecord]:
        """The records of every model, or of the ``models`` named ``task/name``; one to say that there is none."""
        from hyped_core.checking.static.places import placed

        specs = package.models()
        for spec in specs:
            if models is None or spec.key in models:
                yield from _records(
                    spec.key,
                    self.name,
                    lambda spec=spec: self.run(package, spec),
                    lambda where, spec=spec: placed(package, spec, where),
                )
        if not specs:
            reason = "no model is announced"
            if all("load" in plugin.faults for plugin in package.host.plugins):
                reason = "the plugin cannot be loaded: see the check 'entry_point'"
            elif any("hyped_models" in plugin.faults for plugin in package.host.plugins):
                reason = "no model can be taken: see the checks 'contributions' and 'api_version'"
            yield CheckRecord(package.name, self.name, "skipped", reason=reason)


def _records(
    who: str, check: str, run: Callable[[], Iterable[Problem | str]], at: Callable[[str], str] = lambda where: where
) -> Iterator[CheckRecord]:
    started = time.perf_counter()
    found: list[CheckRecord] = []
    notes: list[str] = []
    try:
        for problem in run():
            if isinstance(problem, str):
                notes.append(problem)
                continue
            spent = time.perf_counter() - started
            found.append(failed(who, check, at(problem.where), problem.message, problem.mend, spent))
    except CheckSkipped as skipped:
        found.append(CheckRecord(who, check, "skipped", reason=skipped.reason))
    except (Exception, SystemExit) as error:  # noqa: BLE001  a plugin's code may raise anything
        from hyped_core.blame import place_of, said

        found.append(failed(who, check, place_of(error), said(error), "", time.perf_counter() - started))
    spent = round(time.perf_counter() - started, 3)
    yield from found or [CheckRecord(who, check, "passed", reason="; ".join(notes), seconds=spent)]
