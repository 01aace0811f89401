"""Checks of what a model does to the process that it works in: interrupts, stdout, random state, files, network."""

from __future__ import annotations

from hyped_core.blame import place_of, said
from hyped_core.checking import observe
from hyped_core.checking.behaviour.working import must_agree, observed, repeatable, settled, work
from hyped_core.checking.records import CheckFailed, CheckSkipped, Subject

MANY = 3
"""Names listed before a message says how many there are."""


def interrupt_gets_out(subject: Subject) -> None:
    """Ctrl-C while the model reports progress ends the call, and the instance can be used again."""
    first = observed(subject)
    if subject.remote:
        raise CheckSkipped("the model runs in a process of its own, which ends with the interrupt")
    if not first.loops:
        raise CheckSkipped("the model reports no progress")
    model = subject.make()
    try:
        work(subject, model, 0, context=subject.context(progress=observe.Told(interrupt=True)))
    except KeyboardInterrupt:
        pass
    except Exception as error:
        raise CheckFailed(
            f"KeyboardInterrupt became another error: {said(error)}",
            where=place_of(error),
            mend="let KeyboardInterrupt through: catch Exception, not BaseException, around loops of "
            "context.progress.track",
        ) from error
    else:
        raise CheckFailed(
            f"an interrupt in the loop reported as {first.loops[0]!r} is swallowed: the call goes on",
            where="context.progress",
            mend="let KeyboardInterrupt through: catch Exception, neither BaseException nor KeyboardInterrupt, around "
            "loops of context.progress.track",
        )
    after = work(subject, model, 0)
    if repeatable(subject):
        must_agree(
            subject, first.outputs, after, "after an interrupted call the same instance gives another result",
            mend="set self's attributes at the end of a call, when all are known, or undo in `finally` what was set "
            "before",
        )  # fmt: skip


def stdout_silent(subject: Subject) -> None:
    """Nothing is printed to stdout: in fit, predict and all else that was called while the other checks ran."""
    printed = observed(subject).printed
    if subject.remote:
        raise CheckSkipped("the model runs in a process of its own, whose stdout goes to stderr")
    during = {"": printed} if printed else getattr(subject.make, "printed", {})
    for check, text in during.items():
        told = f"printed to stdout while the check {check!r} ran" if check else "printed to stdout"
        raise CheckFailed(
            f"{told}: {text[:80]!r}",
            where="stdout",
            mend="leave print out: steps go to context.progress.track(items, 'what is done'), all else to "
            "logging.getLogger(__name__); silence a library that prints (verbose=False, "
            "contextlib.redirect_stdout(sys.stderr))",
        )


def random_state_untouched(subject: Subject) -> None:
    """The global random generators are as they were."""
    observed(subject)
    if subject.remote:
        raise CheckSkipped("the model runs in a process of its own")
    drawn = settled(subject).random
    if drawn:
        raise CheckFailed(
            f"the global random state of {', '.join(drawn)} changed",
            where=drawn[0],
            mend="draw from context.rng('name'), never from numpy.random.* or random.*; with torch from a "
            "torch.Generator, "
            "or within torch.random.fork_rng(); give libraries a number drawn by context.rng as random_state",
        )


def scratch_alone_written(subject: Subject) -> None:
    """Files are written in ``context.scratch`` alone."""
    observed(subject)
    if subject.remote:
        raise CheckSkipped("the model runs in a process of its own, in a folder of its own")
    first = settled(subject)
    for what, paths in (("written", first.written), ("removed", first.removed)):
        if paths:
            more = f" and {len(paths) - MANY} more" if len(paths) > MANY else ""
            raise CheckFailed(
                f"{what} outside context.scratch: {', '.join(paths[:MANY])}{more}",
                where=paths[0],
                mend="write below context.scratch alone, which is removed after the run: "
                "tempfile.TemporaryDirectory(dir=context.scratch), and the library's cache or log folder there",
            )


def network_unused(subject: Subject) -> None:
    """No other machine is contacted."""
    first = observed(subject)
    if subject.remote:
        raise CheckSkipped("the model runs in a process of its own, whose network is not watched")
    if first.contacted:
        raise CheckFailed(
            f"tried to reach {', '.join(first.contacted[:MANY])}",
            where=first.contacted[0],
            mend="leave downloads out of the model: name the weights in ModelSpec.weights, so that users run hyped "
            "models fetch, and turn a library's update check or telemetry off",
        )


def process_untouched(subject: Subject) -> None:
    """Working folder, variables, numpy's errors, filters of warnings, loggers, options of pandas are as they were.

    No thread or process of the model's own still runs.
    """
    observed(subject)
    if subject.remote:
        raise CheckSkipped("the model runs in a process of its own")
    if changed := settled(subject).process:
        raise CheckFailed(
            "; ".join(changed),
            where="the process",
            mend="leave it as it was when the call returns: with numpy.errstate(...) in place of numpy.seterr, "
            "warnings.catch_warnings() around a filter and pandas.option_context around an option; absolute paths in "
            "place of os.chdir, logging.getLogger(__name__) alone, threads joined and processes waited for, the rest "
            "put back in `finally`",
        )
