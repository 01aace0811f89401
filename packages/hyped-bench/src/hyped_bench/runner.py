"""Runs models on a task: what fails is recorded with its reason and leaves the others unharmed."""

from __future__ import annotations

import copy
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hyped_bench.tasks.base import Scores, Task, clean_metrics
from hyped_core.context import Progress, RunContext, SilentProgress
from hyped_core.errors import (
    HypedError,
    MissingDependencyError,
    MissingHardwareError,
    ParamsError,
    PluginError,
    UsageError,
)
from hyped_core.params import build
from hyped_core.plugins.host import PluginHost, stdout_to_stderr
from hyped_core.plugins.registry import get_model, models, tasks
from hyped_core.spec import import_target

PIPELINE = "pipeline"
"""Name under which the pipeline's own output is scored."""

Status = Literal["ok", "failed", "unavailable"]


@dataclass(slots=True)
class Result:
    """One model on one task.

    Attributes
    ----------
    kind : ``model``, ``control``, ``reference`` or ``pipeline``.
    status : ``unavailable`` where a dependency or hardware is missing, ``failed`` where the model broke.
    metrics : 6 digits, None where undefined; all None where the status is not ``ok``.
    exit_code : what the command line gives it (0, 4 or 5).
    """

    task: str
    model: str
    kind: str
    distribution: str
    version: str
    status: Status
    reason: str
    metrics: dict[str, float | int | None]
    config: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    scores: Scores | None = None
    trace: list[str] = field(default_factory=list)
    exit_code: int = 0
    timing: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Job:
    """A task with its parameters, data loaded once, ready for models."""

    name: str
    task: Task
    section: dict[str, Any]
    configs: dict[str, dict[str, Any]]
    design: str | None = None

    def models(self, host: PluginHost | None = None) -> list[str]:
        """Models the parameters list, else all registered, controls first; ``pipeline`` where none runs."""
        if not self.task.needs_model:
            return [PIPELINE]
        if self.configs:
            return list(self.configs)
        own = [item.spec for item in models(host).items() if item.spec.task == self.name]
        return [spec.name for spec in sorted(own, key=lambda spec: (spec.role != "control", spec.name))]


def expand_sources(section: dict[str, Any]) -> dict[str, Any]:
    """Sources with a key ``scenes`` become one source a scene, ``{scene}`` filled in everywhere.

    >>> expand_sources({"sources": [{"name": "{scene}", "scenes": ["S0", "S1"], "movie": "m/{scene}.zarr"}]})
    {'sources': [{'name': 'S0', 'movie': 'm/S0.zarr'}, {'name': 'S1', 'movie': 'm/S1.zarr'}]}
    """
    sources = section.get("sources")
    if not isinstance(sources, list):
        return section
    wide = []
    for source in sources:
        scenes = source.get("scenes") if isinstance(source, dict) else None
        if not scenes:
            wide.append(source)
            continue
        rest = {key: value for key, value in source.items() if key != "scenes"}
        wide += [
            {k: v.replace("{scene}", str(scene)) if isinstance(v, str) else v for k, v in rest.items()}
            for scene in scenes
        ]
    return {**section, "sources": wide}


def prepare(
    name: str,
    section: dict[str, Any],
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    host: PluginHost | None = None,
    load: bool = True,
) -> Job:
    """Build a task from its section of the parameter file and read its data.

    The section holds the task's own parameters and, beside them, ``models``: a list of names or a mapping of
    name to config, and ``design``: the design file that fills what a model's config leaves open (names of
    channels; HYPED's own design where it is not given).

    Raises
    ------
    UnknownNameError, ParamsError, InvalidDataError
    """
    section = dict(section)
    listed = section.pop("models", None) or {}
    design = section.pop("design", None)
    if isinstance(listed, list):
        listed = dict.fromkeys(listed)
    if not isinstance(listed, dict) or not all(v is None or isinstance(v, dict) for v in listed.values()):
        raise ParamsError(
            "models must be a list of names or a mapping of name to config", where=f"{name}/models"
        )
    factory = import_target(tasks(host).get(name).target)
    params = build(factory.Params, expand_sources(section), where=name)
    context = RunContext(
        seed=seed,
        device=device,
        threads=max(1, int(os.environ.get("OMP_NUM_THREADS", "1") or 1)),
        progress=progress or SilentProgress(),
    )
    task = factory(params, context)
    if load:
        task.load()
    return Job(
        name, task, params.model_dump(mode="json"), {str(k): dict(v or {}) for k, v in listed.items()}, design
    )


def run_model(
    job: Job, name: str, *, host: PluginHost | None = None, config: dict[str, Any] | None = None
) -> Result:
    """Run one model (or reference, or ``pipeline``) on a prepared job and score it.

    A failing model gives a `Result` with the reason; errors of the data, the parameters or the task are raised.
    """
    task = copy.copy(job.task)
    task.warnings = list(job.task.warnings)
    started = time.perf_counter()
    result, work = _look_up(job, name, task, host, config)
    try:
        with stdout_to_stderr():
            scores = work()
    except (MissingDependencyError, MissingHardwareError) as error:
        _fail(result, task, "unavailable", str(error), error, 5)
    except _ScoringError as error:
        raise error.cause from error
    except ParamsError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's code may raise anything
        reason = str(error) if isinstance(error, HypedError) else f"{type(error).__name__}: {error}"
        _fail(result, task, "failed", reason, error, 4)
    else:
        result.scores = scores
        result.metrics = clean_metrics(scores.metrics)
        result.warnings = scores.warnings
        undefined = _undefined(result)
        result.warnings += [f"without a value: {', '.join(undefined)}"] if undefined else []
    result.facts = task.facts()
    result.timing = {
        "wall_s": time.perf_counter() - started,
        "peak_memory_mb": _peak_memory_mb(),
        **getattr(task, "timing", {}),
    }
    return result


class _ScoringError(Exception):
    """An error of the task, not of the model."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _scored(make: Callable[[], Scores]) -> Scores:
    try:
        return make()
    except Exception as error:
        raise _ScoringError(error) from error


def _look_up(
    job: Job, name: str, task: Task, host: PluginHost | None, config: dict[str, Any] | None
) -> tuple[Result, Callable[[], Scores]]:
    """The result to fill, and the work that gives its scores."""
    from hyped_bench import __version__
    from hyped_bench.references import REFERENCES, score_reference

    def blank(kind: str, distribution: str, version: str, values: dict[str, Any]) -> Result:
        return Result(job.name, name, kind, distribution, version, "ok", "", {}, values)

    if not task.needs_model:
        if name != PIPELINE:
            raise UsageError(
                f"task {job.name} scores the pipeline's own output", mend=f"say --model {PIPELINE}"
            )
        return blank("pipeline", "hyped-bench", __version__, {}), lambda: _scored(lambda: task.score(None))
    if job.name == "expression" and name in REFERENCES:
        made = blank("reference", "hyped-bench", __version__, {})
        return made, lambda: _scored(lambda: score_reference(name, task))  # type: ignore[arg-type]
    prefix = name.rpartition(":")
    provided = models(host).provided(f"{prefix[0]}{prefix[1]}{job.name}/{prefix[2]}")
    spec = get_model(job.name, name, host)
    values = config if config is not None else job.configs.get(name, {})
    made = blank(spec.role, provided.plugin.distribution, provided.plugin.version, values)

    def work() -> Scores:
        spec.needs.check(spec.key)
        filled = filled_config(spec, values, job.design)
        made.config = full_config(spec, filled)

        def make(configs: Mapping[str, dict[str, Any]] | None = None) -> Any:
            return spec.create({**filled, **(configs or {}).get(spec.name, {})})

        predictions = task.run(make)
        return _scored(lambda: task.score(predictions))

    return made, work


def filled_config(spec: Any, values: dict[str, Any], design: str | None) -> dict[str, Any]:
    """Config values, and what ``for_design`` of the model's config adds to them where it is offered."""
    from hyped_core.design import read_design

    fill = None if spec.config is None else getattr(import_target(spec.config), "for_design", None)
    return values if fill is None else fill(dict(values), read_design(design))


def full_config(spec: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The config with its defaults written out."""
    loaded = spec.load_config(values)
    return {} if loaded is None else loaded.model_dump(mode="json")


def _fail(result: Result, task: Task, status: Status, reason: str, error: BaseException, code: int) -> None:
    result.status, result.reason, result.exit_code = status, reason, code
    result.metrics = dict.fromkeys(sorted(task.metric_keys()))
    result.trace = [
        f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-8:]
    ]


def _undefined(result: Result) -> list[str]:
    """Keys without a value that are no ends of intervals."""
    return [k for k, v in result.metrics.items() if v is None and not k.endswith(("_lo", "_hi"))]


def _peak_memory_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def raise_for(result: Result, record: Path | None = None) -> None:
    """Raise the error a single failed model ends with (exit code 4 or 5).

    ``record`` is the folder its record was written to, if one was.
    """
    said, _, own = result.reason.partition("\n  to mend: ")
    if result.status == "unavailable":
        raise MissingDependencyError(said, where=f"{result.task}/{result.model}", mend=own or None)
    if result.status == "failed":
        trace = f"see {(record / 'record.json').as_posix()} for where it broke" if record is not None else ""
        raise PluginError(
            f"the model failed: {said}",
            where=f"{result.task}/{result.model} ({result.distribution} {result.version})",
            mend="; ".join(filter(None, (own, trace))) or None,
        )


def run_all(job: Job, names: Sequence[str], *, host: PluginHost | None = None) -> list[Result]:
    """Run several models one after another; each on its own."""
    return [run_model(job, name, host=host) for name in names]


def score_file(job: Job, path: str | Path, *, source: str | None = None, name: str | None = None) -> Result:
    """Score an .h5ad of predicted cells on a prepared `expression` job.

    Only the source the file predicts is scored; the keys of other sources are absent.

    Raises
    ------
    UsageError
        The job is another task, or it is not clear which source is predicted.
    InvalidDataError
        What is wrong with the file.
    """
    from hyped_bench.readers import read_cells, sha256_of
    from hyped_bench.tasks.expression import ExpressionTask, predictions_from_cells

    task = copy.copy(job.task)
    if not isinstance(task, ExpressionTask):
        raise UsageError("only files of predicted expression can be scored")
    primary = [s.name for s in task.params.sources if s.primary]
    chosen = source or (primary[0] if len(primary) == 1 else "")
    if chosen not in task.data:
        raise UsageError(f"say which source the file predicts: {', '.join(task.data)}", mend="--source NAME")
    sources = tuple(s.model_copy(update={"primary": True}) for s in task.params.sources if s.name == chosen)
    task.params = task.params.model_copy(update={"sources": sources})
    task.data = {chosen: task.data[chosen]}
    task.warnings = []
    try:
        predictions, warnings = predictions_from_cells(read_cells(path), task, chosen)
    except HypedError as error:
        error.where = f"{path}: {error.where}" if error.where and str(path) not in error.where else str(path)
        raise
    scores = task.score(predictions)
    made = Result(
        "expression", name or Path(path).stem, "model", "file", sha256_of(path)[:12], "ok", "", {}, {}
    )
    made.scores, made.metrics = scores, clean_metrics(scores.metrics)
    made.warnings = warnings + scores.warnings
    made.facts = task.facts()
    return made
