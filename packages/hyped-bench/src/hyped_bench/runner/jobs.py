"""A task with its parameters and data, ready for models; and what comes of running one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from hyped_core.errors import ParamsError
from hyped_core.plugins.host import PluginHost
from hyped_core.plugins.registry import models, tasks
from hyped_core.spec import import_target

if TYPE_CHECKING:
    from hyped_bench.tasks.base import Scores, Task
    from hyped_core.context import Progress

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
    timing : ``wall_s``; ``peak_memory_mb``, the most the process held while the model ran; ``added_memory_mb``, by how
        much that is more than before it; ``peak_gpu_memory_mb`` where the model used a GPU.
    seeds : what the model was run with, for a model that differs between seeds and was run with several.
    spread : standard deviation of each metric over those seeds.
    runner : what the process of its own ran on, for a model that had one.
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
    seed: int | None = None
    seeds: tuple[int, ...] = ()
    spread: dict[str, float | None] = field(default_factory=dict)
    runner: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Job:
    """A task with its parameters, data loaded once, ready for models."""

    name: str
    task: Task
    section: dict[str, Any]
    configs: dict[str, dict[str, Any]]
    design: str | None = None
    runners: dict[str, dict[str, Any]] = field(default_factory=dict)
    loaded: bool = True

    def load(self) -> None:
        """Read the data, once."""
        if not self.loaded:
            self.task.load()
            self.loaded = True

    def models(self, host: PluginHost | None = None) -> list[str]:
        """All controls, then the models that the parameters list, else all registered; ``pipeline`` where none runs.

        Parameters cannot leave a control out: without it a score says nothing.
        """
        if not self.task.needs_model:
            return [PIPELINE]
        own = sorted({i.spec.name for i in models(host).items() if i.spec.task == self.name})
        controls = self.controls(host)
        return [*controls, *(name for name in list(self.configs) or own if name not in controls)]

    def controls(self, host: PluginHost | None = None) -> list[str]:
        """Names of the task's controls."""
        return controls_of(self.name, host)

    def references(self) -> list[str]:
        """Names of the references that see the truth and can be scored on these sources."""
        return list(self.task.references)


def controls_of(task: str, host: PluginHost | None = None) -> list[str]:
    """Names of a task's registered controls, sorted."""
    found = {i.spec.name for i in models(host).items() if i.spec.task == task and i.spec.role == "control"}
    return sorted(found)


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
    name to config; ``design``: the design file that fills what a model's config leaves open (names of
    channels; HYPED's own design where it is not given); and ``runners``: a mapping of names to processes of their own
    (`hyped_core.remote.host.Runner`).

    Raises
    ------
    UnknownNameError, ParamsError, InvalidDataError
    """
    from hyped_core.context import RunContext, SilentProgress
    from hyped_core.params import build

    section = dict(section)
    listed = section.pop("models", None) or {}
    design = section.pop("design", None)
    runners = section.pop("runners", None) or {}
    if isinstance(listed, list):
        listed = dict.fromkeys(listed)
    if not isinstance(listed, dict) or not all(v is None or isinstance(v, dict) for v in listed.values()):
        raise ParamsError(
            "models must be a list of names or a mapping of name to config", where=f"{name}/models"
        )
    if not isinstance(runners, dict):
        raise ParamsError("runners must be a mapping of model to runner", where=f"{name}/runners")
    if runners:
        from hyped_core.remote.host import read_runner

        for model, value in runners.items():
            read_runner(value, f"{name}/runners/{model}")
    factory = import_target(tasks(host).get(name).target)
    params = build(factory.Params, expand_sources(section), where=name)
    context = RunContext(
        seed=seed,
        device=device,
        threads=max(1, int(os.environ.get("OMP_NUM_THREADS", "1") or 1)),
        progress=progress or SilentProgress(),
    )
    task = factory(params, context)
    configs = {str(k): dict(v or {}) for k, v in listed.items()}
    own = {str(k): v for k, v in runners.items()}
    job = Job(name, task, params.model_dump(mode="json"), configs, design, own, loaded=False)
    if load:
        job.load()
    return job
