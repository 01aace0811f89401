"""What holds for models of every task, as one list: that they run, and the checks of the modules beside."""

from __future__ import annotations

from collections.abc import Callable

from hyped_core.blame import place_of, said
from hyped_core.checking.behaviour import libraries, process, repeats, state
from hyped_core.checking.behaviour.working import observed
from hyped_core.checking.records import Check, CheckFailed, CheckSkipped, Subject
from hyped_core.errors import (
    HypedError,
    MissingDependencyError,
    MissingFileError,
    MissingHardwareError,
    ParamsError,
)
from hyped_core.spec import TASKS


def runs(subject: Subject) -> None:
    """The model can be made and works through tiny data."""
    try:
        observed(subject)
    except CheckSkipped as skipped:
        error = skipped.__cause__
        if isinstance(error, (MissingDependencyError, MissingHardwareError)) or (
            subject.spec.weights and isinstance(error, MissingFileError)
        ):
            mend = f" (to mend: {error.mend})" if error.mend else ""
            raise CheckSkipped(f"cannot run here: {error.message}{mend}") from error
        if error is None:
            raise
        if getattr(subject.make, "quick", False) and (isinstance(error, ParamsError) or subject.spec.config is None):
            raise CheckFailed(
                f"the config does not take it: {error.message}",  # type: ignore[attr-defined]
                where="ModelSpec.quick",
                mend="map fields of the config to values that it takes, or leave quick out",
            ) from error
        mend = error.mend or "" if isinstance(error, HypedError) else ""
        raise CheckFailed(
            said(error),
            where=place_of(error) or subject.spec.target,
            mend=mend
            or f"correct that line: it was given ordinary data of the task {subject.spec.task}, as "
            "hyped_core.contracts says (a test with hyped_core.testing stops there in a debugger)",
        ) from error


def inputs_unmodified(subject: Subject) -> None:
    """Inputs belong to the caller."""
    changed = observed(subject).changed
    if changed:
        name = changed.partition(":")[0]
        raise CheckFailed(
            f"an input is not as it was: {changed}",
            where=name,
            mend=f"make a copy of {name.partition('/')[0]} before the first change of it, and change the copy: no "
            "-=, out=, or assignment to a part of what was given",
        )


def _check(name: str, why: str, run: Callable[[Subject], None]) -> Check:
    return Check(name, TASKS, why, run)


CHECKS: tuple[Check, ...] = (
    _check("runs", "A model that fails on small, regular data fails everywhere.", runs),
    _check(
        "inputs_unmodified",
        "Data changed by one model are wrong data for every step and model after it, without any error.",
        inputs_unmodified,
    ),
    _check(
        "seed_repeats",
        "Results that nobody can repeat cannot be compared, published or debugged.",
        repeats.seed_repeats,
    ),
    _check(
        "seeded_as_said",
        "The benchmark runs an unseeded model once; if its seed matters, its spread is hidden.",
        repeats.seeded_as_said,
    ),
    _check(
        "calls_repeat",
        "A result that depends on what the model was asked before is another one in each script, order and rerun.",
        repeats.calls_repeat,
    ),
    _check(
        "instances_apart",
        "The benchmark makes an instance for each fold: shared state lets one fold see the data of another.",
        repeats.instances_apart,
    ),
    _check("threads_agree", "Results would depend on the machine's number of cores.", repeats.threads_agree),
    _check("saves_and_loads", "What was trained for hours cannot be used again, or is used and gives other results.",
           state.saves_and_loads),
    _check("no_pickle_saved", "Whoever loads a pickle from somebody else runs that person's code.",
           state.no_pickle_saved),
    _check("damaged_state_refused", "A file cut off by a full disk or a broken download gives wrong results silently.",
           state.damaged_state_refused),
    _check("config_pickles", "Steps that work in parallel send the config to other processes.", state.config_pickles),
    _check("model_pickles", "Steps that work in parallel send the model to other processes.", state.model_pickles),
    _check(
        "interrupt_gets_out",
        "A run that cannot be stopped with Ctrl-C has to be killed.",
        process.interrupt_gets_out,
    ),
    _check(
        "random_state_untouched",
        "Whoever uses the model in a script gets other random numbers in code that has nothing to do with it.",
        process.random_state_untouched,
    ),
    _check(
        "scratch_alone_written",
        "Files left elsewhere fill disks, collide in parallel runs and fail where the folder is read-only.",
        process.scratch_alone_written,
    ),
    _check("network_unused", "On a cluster's nodes there is no network, and a run must not change with a server.",
           process.network_unused),
    _check("process_untouched", "Other models of the same run work in the same process.", process.process_untouched),
    _check(
        "missing_library_named",
        "Users without an optional library need the command that installs it, not a traceback.",
        libraries.missing_library_named,
    ),
    _check("gpu_agrees", "Results would depend on which machine was free.", repeats.gpu_agrees),
)  # fmt: skip
LAST: tuple[Check, ...] = (
    _check(
        "stdout_silent",
        "stdout is data: a printed line breaks whoever pipes a result into a file.",
        process.stdout_silent,
    ),
)
"""Asked after those of the task: it goes by what was seen while all others ran."""
