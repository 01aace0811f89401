"""Runs a model on a task: what fails is recorded with its reason and leaves the others unharmed."""

from __future__ import annotations

import copy
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_bench.runner.jobs import PIPELINE, Job, Result, Status
from hyped_bench.splits import LeakError
from hyped_bench.tasks.base import Scores, Task, clean_metrics
from hyped_core.errors import (
    HypedError,
    MissingDependencyError,
    MissingHardwareError,
    ParamsError,
    PluginError,
    UnknownNameError,
    UsageError,
)
from hyped_core.plugins.host import PluginHost
from hyped_core.plugins.registry import get_model, models
from hyped_core.plugins.streams import descriptor_to_stderr, stdout_to_stderr
from hyped_core.remote.memory import peak_memory_mb, reset_peak, resident_memory_mb
from hyped_core.spec import import_target

if TYPE_CHECKING:
    from hyped_core.remote.host import RemoteModel


def run_model(
    job: Job,
    name: str,
    *,
    host: PluginHost | None = None,
    config: dict[str, Any] | None = None,
    seed: int | None = None,
) -> Result:
    """Run one model (or reference, or ``pipeline``) on a prepared job and score it.

    A failing model gives a `Result` with the reason; errors of the data, the parameters or the task are raised, and
    so is a `LeakError`: where a model could see what it is scored on, no score of the run counts.
    With ``seed`` the model is given that seed; what is drawn of the data stays that of the job.
    """
    task = copy.copy(job.task)
    task.warnings = list(job.task.warnings)
    with _Measured() as measured:
        result, work, remote = _look_up(job, name, task, host, config, seed)
        result.seed = job.task.context.seed if seed is None else seed
        try:
            with stdout_to_stderr(), descriptor_to_stderr(buffered=True):
                scores = work()
        except (MissingDependencyError, MissingHardwareError) as error:
            _fail(result, task, "unavailable", str(error), error, 5)
        except _ScoringError as error:
            raise error.cause from error
        except (ParamsError, LeakError):
            raise
        except MemoryError as error:
            _fail(result, task, "unavailable", f"not enough memory: {error}".rstrip(": "), error, 5)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's code may raise anything
            reason = str(error) if isinstance(error, HypedError) else f"{type(error).__name__}: {error}"
            _fail(result, task, "failed", reason, error, 4)
        else:
            result.scores = scores
            result.metrics = clean_metrics(scores.metrics)
            result.warnings = scores.warnings
            undefined = _undefined(result)
            result.warnings += [f"without a value: {', '.join(undefined)}"] if undefined else []
        finally:
            if remote:
                remote[0].close()
    result.facts = task.facts()
    result.timing = {**measured.found(), **getattr(task, "timing", {})}
    if remote:
        result.timing["peak_memory_mb"] = remote[0].process.peak_memory_mb
        result.timing.pop("added_memory_mb", None)
        if (gpu := remote[0].process.peak_gpu_memory_mb) is not None:
            result.timing["peak_gpu_memory_mb"] = gpu
    return result


class _Measured:
    """Seconds and memory of a stretch of work in this process."""

    def __enter__(self) -> _Measured:
        self.started = time.perf_counter()
        self.own = reset_peak()
        self.before = resident_memory_mb()
        if (cuda := _cuda()) is not None:
            for i in range(cuda.device_count()):
                cuda.reset_peak_memory_stats(i)
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self.started
        self.peak_mb = peak_memory_mb()

    def found(self) -> dict[str, float]:
        """As it stands in `Result.timing`."""
        found = {"wall_s": self.wall_s, "peak_memory_mb": self.peak_mb}
        if self.own:
            found["added_memory_mb"] = max(0.0, self.peak_mb - self.before)
        if (cuda := _cuda()) is not None:
            peak = sum(cuda.max_memory_allocated(i) for i in range(cuda.device_count())) / 2**20
            found |= {"peak_gpu_memory_mb": peak} if peak else {}
        return found


def _cuda() -> Any:
    """``torch.cuda`` where a model has loaded torch and there is a GPU; torch is not loaded for this."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None


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


Found = tuple[Result, Callable[[], Scores], "list[RemoteModel]"]
"""The result to fill, the work that gives its scores, and the process to end, once there is one."""


def _look_up(
    job: Job, name: str, task: Task, host: PluginHost | None, config: dict[str, Any] | None, seed: int | None
) -> Found:
    from hyped_bench import __version__

    def blank(kind: str, distribution: str, version: str, values: dict[str, Any]) -> Result:
        return Result(job.name, name, kind, distribution, version, "ok", "", {}, values)

    if not task.needs_model:
        if name != PIPELINE:
            raise UsageError(
                f"task {job.name} scores the pipeline's own output", mend=f"say --model {PIPELINE}"
            )
        return blank("pipeline", "hyped-bench", __version__, {}), lambda: _scored(lambda: task.score(None)), []
    if name in task.reference_names:
        return blank("reference", "hyped-bench", __version__, {}), lambda: _scored(lambda: task.reference(name)), []
    values = config if config is not None else job.configs.get(name, {})
    if name in job.runners:
        return _look_up_remote(job, name, task, host, values, seed)
    prefix = name.rpartition(":")
    provided = models(host).provided(f"{prefix[0]}{prefix[1]}{job.name}/{prefix[2]}")
    spec = get_model(job.name, name, host)
    made = blank(spec.role, provided.plugin.distribution, provided.plugin.version, values)

    def work() -> Scores:
        spec.needs.check(spec.key)
        filled = filled_config(spec, values, job.design)
        made.config = full_config(spec, filled)

        def make(configs: Mapping[str, dict[str, Any]] | None = None) -> Any:
            return _seeded(spec.create({**filled, **(configs or {}).get(spec.name, {})}), seed)

        predictions = task.run(make)
        return _scored(lambda: task.score(predictions))

    return made, work, []


def _look_up_remote(
    job: Job, name: str, task: Task, host: PluginHost | None, values: dict[str, Any], seed: int | None
) -> Found:
    """The same for a model that runs in a process of its own."""
    from hyped_core.remote.host import RemoteModel, read_runner

    prefix = name.rpartition(":")
    try:
        provided = models(host).provided(f"{prefix[0]}{prefix[1]}{job.name}/{prefix[2]}")
    except UnknownNameError:  # it may be known over there alone
        provided = None
    spec, plugin = (None, None) if provided is None else (provided.spec, provided.plugin)
    made = Result(job.name, name, "model", "", "", "ok", "", {}, values)
    if spec is not None and plugin is not None:
        made.kind, made.distribution, made.version = spec.role, plugin.distribution, plugin.version
    opened: list[RemoteModel] = []

    def work() -> Scores:
        runner = read_runner(job.runners[name], f"{job.name}/runners/{name}")
        remote = RemoteModel(job.name, name, runner, values=values, design=job.design, provided=provided)
        opened.append(remote)
        made.kind, made.distribution, made.version = remote.spec.role, remote.distribution, remote.version
        made.config = remote.config

        def make(configs: Mapping[str, dict[str, Any]] | None = None) -> Any:
            return _seeded(remote.create((configs or {}).get(remote.spec.name)), seed)

        predictions = task.run(make)
        made.runner = {"sha256": remote.sha256, "environment": remote.environment()}
        remote.close()
        return _scored(lambda: task.score(predictions))

    return made, work, opened


class _Seeded:
    """A model whose calls get another seed than the task's."""

    def __init__(self, model: Any, seed: int) -> None:
        self._model, self._seed = model, seed

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if not callable(found):
            return found

        def call(*args: Any, **named: Any) -> Any:
            if (context := named.get("context")) is not None:
                named["context"] = replace(context, seed=self._seed)
            return found(*args, **named)

        return call


def _seeded(model: Any, seed: int | None) -> Any:
    return model if seed is None else _Seeded(model, seed)


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
    frames = getattr(error, "frames", None)  # of a process of its own
    result.trace = frames or [
        f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-8:]
    ]


def _undefined(result: Result) -> list[str]:
    """Keys without a value that are no ends of intervals."""
    return [k for k, v in result.metrics.items() if v is None and not k.endswith(("_lo", "_hi"))]


def raise_for(result: Result, record: Path | None = None) -> None:
    """Raise the error a single failed model ends with (exit code 4 or 5).

    ``record`` is the folder its record was written to, if one was.
    """
    said, _, own = result.reason.partition("\n  to mend: ")
    if result.status == "unavailable":
        raise MissingDependencyError(said, where=f"{result.task}/{result.model}", mend=own or None)
    if result.status == "failed":
        owner = f" ({result.distribution} {result.version})" if result.distribution else ""
        trace = f"see {(record / 'record.json').as_posix()} for where it broke" if record is not None else ""
        raise PluginError(
            f"the model failed: {said}",
            where=f"{result.task}/{result.model}{owner}",
            mend="; ".join(filter(None, (own, trace))) or None,
        )
