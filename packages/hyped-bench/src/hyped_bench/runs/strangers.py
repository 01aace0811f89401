"""Where each model of a run works: strangers' in processes of their own with limits, HYPED's own in this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hyped_bench.runner.jobs import Job, Result, Status
from hyped_core.errors import HypedError
from hyped_core.plugins.folder import FOLDERS_VARIABLE
from hyped_core.plugins.host import BLOCK_VARIABLE, PluginHost
from hyped_core.plugins.lost import lost_model
from hyped_core.plugins.registry import Provided, get_model, models, provided_model
from hyped_core.remote.process import LONGER
from hyped_core.spec import ModelSpec

_FOR_USERS = ("reinstall the package", "report it to the model's authors")
"""How advice begins that is of no use to a model's author."""
_PARAMETERS = "correct the keys named above in the parameter file"
_DEFAULTS = "give each field of the config a default"
_QUICK = "correct what ModelSpec.quick names, and give each other field of the config a default"
_SHORTER = "raise --time-limit, or give it less to do: ModelSpec.quick names values of the config for small trials"
"""What an author is told in place of `_PARAMETERS`, and in a trial of `LONGER`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the command line says of models in processes of their own.

    Attributes
    ----------
    seconds, memory_gb : bounds for each of them; what the parameter file or the defaults say where None.
    here : strangers' models run in this process, where the parameter file does not say otherwise.
    """

    seconds: float | None = None
    memory_gb: float | None = None
    here: bool = False


def place_models(job: Job, names: Sequence[str], limits: Limits, host: PluginHost | None = None) -> None:
    """Fill ``job.runners`` for the models named: who runs in a process of its own, where, and with which bounds.

    A model of a distribution other than HYPED's own does, and one whose spec asks for an environment. What the
    parameter file says of a model goes before, ``runner: here`` too; bounds of the command line go before its.
    """
    from hyped_core.remote.host import read_runner
    from hyped_core.remote.placing import default_memory_gb, default_seconds

    for name in names:
        if not job.task.needs_model or name in job.task.reference_names:
            continue
        said = job.runners.get(name)
        runner = None if said is None else read_runner(said, f"{job.name}/runners/{name}")
        if runner is not None and runner.runner == "here":
            del job.runners[name]
            continue
        provided = find_provided(job.name, name, host)
        asked = () if provided is None else provided.spec.environment
        stranger = provided is not None and not provided.plugin.own
        if runner is None and not asked and (limits.here or not stranger):
            continue
        settled: dict[str, Any] = dict(said or {})
        if asked and "python" not in settled and "requirements" not in settled:
            settled["requirements"] = list(asked)
        bounded = stranger or runner is None
        for key, given, otherwise in (
            ("seconds", limits.seconds, default_seconds() if bounded else None),
            ("memory_gb", limits.memory_gb, default_memory_gb() if bounded else None),
        ):
            value = given if given is not None else settled.get(key) or otherwise
            if value is not None:
                settled[key] = value
        job.runners[name] = settled


def find_provided(task: str, name: str, host: PluginHost | None = None) -> Provided | None:
    """The model as it is registered here; None where it is not, or where two strangers claim the name."""
    try:
        return provided_model(task, name, host)
    except HypedError:
        return None


def clashing_apart(task: str, names: Sequence[str], host: PluginHost | None = None) -> list[str]:
    """The names, with ``distribution:name`` where strangers claim one: for each of them, or beside HYPED's own."""
    claims: dict[str, list[Provided]] = {}
    for item in models(host).items():
        if item.spec.task == task:
            claims.setdefault(item.spec.name, []).append(item)
    apart: list[str] = []
    for name in names:
        items = claims.get(name, [])
        if len(items) < 2 or len({item.plugin.distribution for item in items}) < 2:
            apart.append(name)
            continue
        apart += [name] if any(item.plugin.own for item in items) else []
        apart += [f"{item.plugin.distribution}:{name}" for item in items if not item.plugin.own]
    return list(dict.fromkeys(apart))


def ways_out(task: str, name: str, mend: str, host: PluginHost | None = None, *, smoke: bool = False) -> str:
    """``mend`` and, for a stranger's model, what gets rid of it; for one in a source folder how its author corrects it.

    Who runs a folder is its author: what tells users to install it again, or to write to its author, is left out. A
    trial (``smoke``) has no parameter file, and a limit of time of its own.
    """
    provided = find_provided(task, name, host)
    if provided is None or provided.plugin.own:
        return mend
    plugin, spec = provided.plugin, provided.spec
    if not plugin.folder:
        mend = mend.replace(LONGER, "raise --time-limit") if smoke else mend
        remove = f"pip uninstall {plugin.distribution}, or set {BLOCK_VARIABLE}={plugin.name}"
        return "; ".join(filter(None, (mend, remove)))
    for_users = (f"pip install {_package(spec)}", *_FOR_USERS)
    own = [part for part in mend.split("; ") if part and not part.startswith(for_users)]
    instead = {_PARAMETERS: _QUICK if spec.quick else _DEFAULTS}  # what a parameter file says wrong ends the run before
    instead |= {LONGER: _SHORTER} if smoke else {}
    own = [instead.get(part, part) for part in own]
    correct = f"correct it in {plugin.folder} (hyped plugins check {plugin.folder} names all that is wrong)"
    return "; ".join([*own, f"{correct}, or leave that folder out (--plugin, {FOLDERS_VARIABLE})"])


def _package(spec: ModelSpec) -> str:
    return spec.target.partition(":")[0].partition(".")[0]


def own_place(result: Result, host: PluginHost | None = None) -> str:
    """The last line of the plugin's own that a failed model went through, said to the author of a source folder.

    Begins with a line break; empty for others, and where no such line is known.
    """
    provided = find_provided(result.task, result.model, host)
    if provided is None or not provided.plugin.folder:
        return ""
    package = _package(provided.spec)
    own = [frame for frame in result.trace if frame.startswith((f"{package}/", f"{package}.py:"))]
    return f"\n  at {own[-1]}" if own else ""


def complaint(result: Result, host: PluginHost | None = None, *, smoke: bool = False) -> str:
    """What is said of a model without a score: whose it is, why and where, and how to get rid of a stranger's."""
    said, _, mend = result.reason.partition("\n  to mend: ")
    owner = f" ({result.distribution} {result.version})" if result.distribution else ""
    said += own_place(result, host)
    ways = ways_out(result.task, result.model, mend, host, smoke=smoke)
    return f"{result.model}{owner}: {result.status}: {said}" + (f"\n  to mend: {ways}" if ways else "")


def unknown(job: Job, name: str, host: PluginHost | None = None) -> HypedError | None:
    """Why a model cannot be looked up: two strangers claim its name, or nobody does; None where it can."""
    if not job.task.needs_model or name in job.task.reference_names or name in job.runners:
        return None
    try:
        get_model(job.name, name, host)
    except HypedError as error:
        return error
    return None


def not_found(job: Job, name: str, seed: int, host: PluginHost | None = None) -> Result | None:
    """The result of a model that cannot be looked up, with whose it was where that is known; None where it can."""
    if (error := unknown(job, name, host)) is None:
        return None
    lost = lost_model(job.name, name, host)
    made = unusable(job, name, str(lost or error), seed, host=host)
    if lost is not None:
        made.distribution, made.version = lost.distribution, lost.version
    return made


def unusable(
    job: Job, name: str, reason: str, seed: int, status: Status = "failed", *, host: PluginHost | None = None
) -> Result:
    """A result without a score for what could not even be run, so that the others go on."""
    provided = find_provided(job.name, name, host)
    owner = ("", "") if provided is None else (provided.plugin.distribution, provided.plugin.version)
    blank: dict[str, Any] = dict.fromkeys(sorted(job.task.metric_keys()))
    made = Result(job.name, name, "model", *owner, status, reason, blank, {})
    made.exit_code, made.seed = 4, seed
    return made
