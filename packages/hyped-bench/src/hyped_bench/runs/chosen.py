"""Which models `hyped bench run` runs of a task, from what was named."""

from __future__ import annotations

from collections.abc import Sequence

from hyped_bench.runner.jobs import Job
from hyped_bench.runs.strangers import clashing_apart
from hyped_core.errors import UnknownNameError, UsageError
from hyped_core.plugins.lost import lost_model
from hyped_core.plugins.registry import get_model, models


def chosen_names(job: Job, names: Sequence[str], *, alone: bool, smoke: bool = False) -> list[str]:
    """What is run of a task: the models named or all, and the controls and references.

    Strangers' models that share a name are told apart by their distributions.
    """
    if alone or not job.task.needs_model:
        return list(names) or job.models()
    if smoke:
        from hyped_bench.smoke import controls_of_bench, strangers_of

        own = [name for name in names if name in {*_registered(job), *_handles(job)}] if names else strangers_of(job)
        rest = [name for name in (*controls_of_bench(job), *own, *job.references())]
        return list(dict.fromkeys(rest)) if own or not names else []
    if not names:
        return [*clashing_apart(job.name, job.models()), *job.references()]
    known = {*_registered(job), *job.references(), *job.runners}
    own = [name for name in names if name.rpartition(":")[2] in known or name in known]
    if not own:
        return []
    rest = [name for name in (*job.controls(), *job.references()) if name not in own]
    controls = [name for name in rest if name in job.controls()]
    return [*controls, *own, *(name for name in rest if name not in controls)]


def _registered(job: Job) -> list[str]:
    return [i.spec.name for i in models().items() if i.spec.task == job.name]


def _handles(job: Job) -> list[str]:
    items = [i for i in models().items() if i.spec.task == job.name]
    return [f"{i.plugin.distribution}:{i.spec.name}" for i in items]


def check_names(
    jobs: Sequence[Job], names: Sequence[str], chosen: dict[str, list[str]], *, keep_going: bool = False
) -> None:
    """Refuse a name that no task knows, and choose one that is lost with its plugin: it fails beside the others.

    Where no other model was named, and nothing is to keep going, that is the error that ends the run.
    """
    missing = [name for name in names if not any(name in own for own in chosen.values())]
    for name in missing:
        if any(name in job.task.reference_names for job in jobs):
            mend = "it needs sources with a simulated truth: name that in the parameters"
            raise UsageError(f"{name} cannot be scored on these sources", mend=mend)
        takers = [job for job in jobs if job.task.needs_model and lost_model(job.name, name) is not None]
        if takers and (keep_going or len(missing) < len(names)):
            for job in takers:
                chosen[job.name].append(name)
            continue
        if len(jobs) == 1 and jobs[0].task.needs_model:
            get_model(jobs[0].name, name)  # says what is close
        raise UnknownNameError(f"no task chosen has a model called {name!r}", mend="hyped models list")
