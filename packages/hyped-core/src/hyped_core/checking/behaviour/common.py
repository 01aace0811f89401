"""What holds for models of every task: they run, repeat themselves, keep to themselves, and say clearly what they lack.

Each check puts the model to work as the task's `Exercise` says. What one run shows is asked by several checks, so the
first run of a model is kept with it (`Maker.notes`).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hyped_core.checking import observe
from hyped_core.checking.behaviour import state
from hyped_core.checking.records import Check, CheckFailed, CheckSkipped, Exercise, Subject
from hyped_core.errors import HypedError, MissingDependencyError, MissingFileError, MissingHardwareError
from hyped_core.spec import TASKS

MANY = 3
"""Names listed before a message says how many there are."""


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
        except Exception as error:  # noqa: BLE001  a model may raise anything: `runs` says what
            notes["run"] = error
    run = notes["run"]
    if isinstance(run, Exception):
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


def must_agree(subject: Subject, a: Any, b: Any, said: str, *, mend: str) -> None:
    """Fail with ``said`` and the place where two outputs differ."""
    if found := compare(subject, a, b):
        raise CheckFailed(f"{said}: {found}", where=found.partition(":")[0], mend=mend)


def trained(model: Any) -> Any:
    """``model`` without its `fit`: what it has learned stays, its other methods are called."""
    return _Trained(model)


class _Trained:
    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._model, name)
        return (lambda *_, **__: None) if name == "fit" else value


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
        mend = error.mend or "" if isinstance(error, HypedError) else ""
        raise CheckFailed(said(error), where=place_of(error), mend=mend or "make it work on the tiny data") from error


def said(error: BaseException) -> str:
    """An error as type and text."""
    text = error.message if isinstance(error, HypedError) else str(error)
    return f"raises {type(error).__name__}: {text}" if text else f"raises {type(error).__name__}"


def place_of(error: BaseException) -> str:
    """The last frame of an error outside HYPED's core and the standard library: the author's own line."""
    import sysconfig
    import traceback

    core = str(Path(__file__).resolve().parents[2])
    outside = (core, sysconfig.get_paths()["stdlib"])
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(outside)]
    own = [f for f in frames if "site-packages" not in f.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name}" if own else ""


def inputs_unmodified(subject: Subject) -> None:
    """Inputs belong to the caller."""
    changed = observed(subject).changed
    if changed:
        raise CheckFailed(
            f"an input is not as it was: {changed}", where=changed.partition(":")[0], mend="change a copy of it"
        )


def unrepeated(subject: Subject) -> str:
    """Where two runs of one seed differ, in words; empty where they do not. Found out once for a model."""
    notes = getattr(subject.make, "notes", {})
    if "unrepeated" not in notes:
        first = observed(subject)
        states = observe.random_states()
        try:
            observe.shake_random(987_654)
            again = work(subject, subject.make(), 0)
        finally:
            observe.restore_random(states)
        notes["unrepeated"] = compare(subject, first.outputs, again) or ""
    return notes["unrepeated"]


def repeatable(subject: Subject) -> bool:
    """Whether two runs of one seed are the same, so that runs may be compared."""
    return subject.spec.deterministic and not unrepeated(subject)


def must_repeat(subject: Subject) -> None:
    """Skip a check that compares runs of a model whose runs differ anyhow."""
    if not subject.spec.deterministic:
        raise CheckSkipped("the model says that it is not deterministic")
    if unrepeated(subject):
        raise CheckSkipped("its results do not repeat: see the check 'seed_repeats'")


def seed_repeats(subject: Subject) -> None:
    """The same seed gives the same outputs, whatever the global generators hold."""
    if not subject.spec.deterministic:
        raise CheckSkipped("the model says that it is not deterministic")
    if found := unrepeated(subject):
        raise CheckFailed(
            f"two runs with one seed differ: {found}",
            where=found.partition(":")[0],
            mend="draw random numbers from context.rng(...) alone, or say deterministic=False in the ModelSpec",
        )


def seeded_as_said(subject: Subject) -> None:
    """A model that says ``seeded=False`` gives the same under another seed."""
    if subject.spec.seeded:
        raise CheckSkipped("the model says that its seed matters")
    first = observed(subject)
    must_repeat(subject)
    other = work(subject, subject.make(), 0, context=subject.context(seed=1))
    must_agree(
        subject, first.outputs, other, "another seed gives another result",
        mend="say seeded=True in the ModelSpec, so that it runs under several seeds",
    )  # fmt: skip


def instances_apart(subject: Subject) -> None:
    """What one instance learns does not change another."""
    first = observed(subject)
    must_repeat(subject)
    before = work(subject, trained(first.model), 0)
    work(subject, subject.make(), 1)
    after = work(subject, trained(first.model), 0)
    must_agree(
        subject, before, after, "its results changed after another instance had worked on other data",
        mend="keep state in the instance (self), not in the class or the module",
    )  # fmt: skip


def threads_agree(subject: Subject) -> None:
    """The number of threads does not change the result."""
    first = observed(subject)
    must_repeat(subject)
    other = work(subject, subject.make(), 0, context=subject.context(threads=2))
    must_agree(
        subject, first.outputs, other, "with two threads the result is another",
        mend="let each thread have its own random stream, context.rng('name', i), and add up in a fixed order",
    )  # fmt: skip


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
            mend="catch Exception, not BaseException",
        ) from error
    else:
        raise CheckFailed(
            "an interrupt in the loop reported as "
            f"{first.loops[0]!r} is swallowed: the call goes on",
            where="context.progress",
            mend="catch Exception, not BaseException or KeyboardInterrupt",
        )
    after = work(subject, model, 0)
    if repeatable(subject) and (found := compare(subject, first.outputs, after)):
        raise CheckFailed(
            f"after an interrupted call the same instance gives another result: {found}",
            where=found.partition(":")[0],
            mend="start each call from the arguments, or set state only when it is complete",
        )


def stdout_silent(subject: Subject) -> None:
    """Nothing is printed to stdout."""
    printed = observed(subject).printed
    if subject.remote:
        raise CheckSkipped("the model runs in a process of its own, whose stdout goes to stderr")
    if printed:
        raise CheckFailed(
            f"printed to stdout: {printed[:80]!r}", where="stdout", mend="report through context.progress or logging"
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
            mend="use context.rng(...); with torch a torch.Generator, or torch.random.fork_rng()",
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
                mend="write temporary files below context.scratch (tempfile: dir=context.scratch)",
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
            mend="let users fetch what the model needs beforehand: ModelSpec.weights and hyped models fetch",
        )


def process_untouched(subject: Subject) -> None:
    """Working folder, environment variables, numpy's error handling and threads are as they were."""
    observed(subject)
    if subject.remote:
        raise CheckSkipped("the model runs in a process of its own")
    if changed := settled(subject).process:
        raise CheckFailed("; ".join(changed), where="the process", mend="put back what a call changes")


def missing_library_named(subject: Subject) -> None:
    """Without the libraries in ``needs`` the model says which is missing and how to install it."""
    needed = subject.spec.needs.modules
    if not needed:
        raise CheckSkipped("the model needs no library beyond its package's own")
    if subject.remote:
        raise CheckSkipped("the model's libraries are those of its own environment")
    top = subject.spec.target.partition(":")[0].partition(".")[0]
    for name in needed:
        with _hidden(name, top):
            try:
                subject.make()
            except MissingDependencyError as error:
                if not error.mend:
                    raise CheckFailed(
                        f"without {name} it does not say how to install it",
                        where="needs.install",
                        mend="Needs(modules=..., install=\"pip install 'my-model[extra]'\")",
                    ) from error
            except Exception as error:
                raise CheckFailed(
                    f"without {name} it {said(error)}, expected MissingDependencyError",
                    where=f"needs.modules: {name}",
                    mend="name every optional library in needs.modules, and import it when the model is made or used",
                ) from error
            else:
                raise CheckFailed(
                    f"needs.modules names {name}, and without it the model is made all the same",
                    where=f"needs.modules: {name}",
                    mend="leave out of needs what the model does not need",
                )


@contextlib.contextmanager
def _hidden(module: str, package: str) -> Iterator[None]:
    """``module`` cannot be imported, and ``package``, the model's own, is imported anew."""
    names = [n for n in sys.modules if n.partition(".")[0] == package or n == module or n.startswith(f"{module}.")]
    saved = {name: sys.modules.pop(name) for name in names if package != "hyped_core"}
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in [n for n in sys.modules if n.partition(".")[0] == package and n not in saved]:
            del sys.modules[name]
        del sys.modules[module]
        sys.modules.update(saved)


def gpu_agrees(subject: Subject) -> None:
    """The GPU gives what the CPU gives, within a thousandth of the largest value."""
    if not Path("/dev/nvidiactl").exists() and not os.environ.get("CUDA_VISIBLE_DEVICES"):
        raise CheckSkipped("this machine has no NVIDIA GPU")
    first = observed(subject)
    torch = sys.modules.get("torch")
    if torch is not None and not subject.remote and not torch.cuda.is_available():
        raise CheckSkipped("torch finds no GPU here")
    before = work(subject, trained(first.model), 0)
    try:
        after = work(subject, trained(first.model), 0, context=subject.context(device="cuda"))
    except MissingHardwareError as error:
        raise CheckSkipped(f"cannot use the GPU here: {error.message}") from error
    if found := loosely(before, after):
        raise CheckFailed(
            f"on the GPU the result is another: {found}",
            where=found.partition(":")[0],
            mend="compute in float32 or more, without TF32, and draw random numbers on the CPU",
        )
    work(subject, subject.make(), 0, context=subject.context(device="cuda"))


def loosely(a: Any, b: Any) -> str | None:
    """Where outputs differ by more than a thousandth of the largest value of the same array."""
    import numpy as np

    from hyped_core.checking.compare import dense, difference

    if isinstance(a, dict):
        return next((f"{key}: {found}" for key in a if (found := loosely(a[key], b[key]))), None)
    first = a.X if hasattr(a, "obs_names") else a
    if getattr(first, "dtype", None) is None or not np.issubdtype(first.dtype, np.floating):
        return difference(a, b, 1e-3, 1e-3)
    values = dense(first)
    size = float(np.nanmax(np.abs(values))) if values.size and np.isfinite(values).any() else 0.0
    return difference(a, b, 1e-3, 1e-3 * size)


def work(
    subject: Subject, model: Any, inputs: int, *, context: Any = None
) -> dict[str, Any]:
    """The outputs of ``model`` on the exercise's inputs of seed ``inputs``, as copies; stdout goes to stderr."""
    from hyped_core.checking.compare import copy_of

    given = observe.inputs_of(exercise(subject), inputs)
    with contextlib.redirect_stdout(sys.stderr):
        return copy_of(exercise(subject).work(model, given, context or subject.context()))


def _check(name: str, why: str, run: Callable[[Subject], None]) -> Check:
    return Check(name, TASKS, why, run)


CHECKS: tuple[Check, ...] = (
    _check("runs", "A model that fails on small, regular data fails everywhere.", runs),
    _check(
        "inputs_unmodified",
        "Data changed by one model are wrong data for every step and model after it, without any error.",
        inputs_unmodified,
    ),
    _check("seed_repeats", "Results that nobody can repeat cannot be compared, published or debugged.", seed_repeats),
    _check(
        "seeded_as_said",
        "The benchmark runs an unseeded model once; if its seed matters, its spread is hidden.",
        seeded_as_said,
    ),
    _check(
        "instances_apart",
        "The benchmark makes an instance for each fold: shared state lets one fold see the data of another.",
        instances_apart,
    ),
    _check("threads_agree", "Results would depend on the machine's number of cores.", threads_agree),
    _check("saves_and_loads", "What was trained for hours cannot be used again, or is used and gives other results.",
           state.saves_and_loads),
    _check("no_pickle_saved", "Whoever loads a pickle from somebody else runs that person's code.",
           state.no_pickle_saved),
    _check("damaged_state_refused", "A file cut off by a full disk or a broken download gives wrong results silently.",
           state.damaged_state_refused),
    _check("config_pickles", "Steps that work in parallel send the config to other processes.", state.config_pickles),
    _check("model_pickles", "Steps that work in parallel send the model to other processes.", state.model_pickles),
    _check("interrupt_gets_out", "A run that cannot be stopped with Ctrl-C has to be killed.", interrupt_gets_out),
    _check("stdout_silent", "stdout is data: a printed line breaks whoever pipes a result into a file.", stdout_silent),
    _check(
        "random_state_untouched",
        "Whoever uses the model in a script gets other random numbers in code that has nothing to do with it.",
        random_state_untouched,
    ),
    _check(
        "scratch_alone_written",
        "Files left elsewhere fill disks, collide in parallel runs and fail where the folder is read-only.",
        scratch_alone_written,
    ),
    _check("network_unused", "On a cluster's nodes there is no network, and a run must not change with a server.",
           network_unused),
    _check("process_untouched", "Other models of the same run work in the same process.", process_untouched),
    _check(
        "missing_library_named",
        "Users without an optional library need the command that installs it, not a traceback.",
        missing_library_named,
    ),
    _check("gpu_agrees", "Results would depend on which machine was free.", gpu_agrees),
)  # fmt: skip
