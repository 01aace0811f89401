"""What a plugin announces: small frozen records holding import strings, so that listing imports nothing."""

from __future__ import annotations

import difflib
import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hyped_core.errors import HypedError, MissingDependencyError, PluginError, type_and_text

API_VERSION = 1
"""Version of the contracts in :mod:`hyped_core.contracts`; a plugin states the one it was written for."""

TASKS = ("expression", "embedding", "denoise", "segment", "track", "demultiplex")
"""Tasks that have a contract in core."""
_METHODS = {
    "expression": ("fit", "predict"),
    "embedding": ("embed", "embed_perturbed"),
    "denoise": ("denoise",),
    "segment": ("segment",),
    "track": ("track",),
    "demultiplex": ("assign",),
}
"""What a model of each task has to offer (see `hyped_core.contracts`)."""

_REPORT = "report it to the model's authors, or choose another model (hyped models list)"

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
"""Of all that plugins name; no dot, at which DVC splits the keys of the files it reads values from."""
_TARGET = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


def _check_name(kind: str, name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(
            f"{kind} name must be lower-case letters, digits, '_' or '-' and start with a letter",
            where=repr(name),
        )


def _check_target(kind: str, target: object) -> None:
    if not isinstance(target, str) or not _TARGET.match(target):
        raise PluginError(f"{kind} must be an import string 'package.module:Name'", where=repr(target))


def import_target(target: str) -> Any:
    """Import ``"package.module:Name"`` and return the object.

    Raises
    ------
    PluginError
        The module cannot be imported or lacks the name.
    """
    _check_target("target", target)
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise PluginError(
            f"cannot be imported: {error}", where=target, mend=f"pip install {error.name}"
        ) from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"fails on import: {type_and_text(error)}", where=target) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        close = difflib.get_close_matches(attribute, dir(module), n=1)
        mend = f"did you mean {module_name}:{close[0]}?" if close else None
        raise PluginError(f"module {module_name!r} has no {attribute!r}", where=target, mend=mend) from error


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package is absent or broken
        return False


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model needs beyond its package.

    Attributes
    ----------
    modules : import names that have to be importable (``("torch",)``).
    install : the command that installs them.
    gpu : True where the model refuses to run on a CPU.
    memory_gb : main memory at the paper's size, where known.
    """

    modules: tuple[str, ...] = ()
    install: str = ""
    gpu: bool = False
    memory_gb: float | None = None

    def missing(self) -> tuple[str, ...]:
        """Names in ``modules`` that are not installed; imports none of them."""
        return tuple(name for name in self.modules if not _is_installed(name))

    def check(self, who: str) -> None:
        """Raise `MissingDependencyError` with the install command where a module is missing."""
        absent = self.missing()
        if absent:
            raise MissingDependencyError(
                f"needs {', '.join(absent)}, which is not installed",
                where=who,
                mend=self.install or f"pip install {' '.join(absent)}",
            )


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as `hyped_models` announces it; neither ``target`` nor ``config`` is imported to list it.

    Attributes
    ----------
    name : unique within the task: lower-case letters, digits, ``_`` and ``-``, with a letter first.
    task : one of `TASKS`, or the name of a task that a plugin registered.
    target : ``"package.module:Class"``, called as ``Class(config)`` (``Class()`` without ``config``).
    config : ``"package.module:Config"``, a pydantic model with defaults for every field.
    role : ``"control"`` for a model that is there to be beaten, else ``"model"``.
    deterministic : False where the same seed may give other numbers.
    seeded : False where the seed changes nothing: one run then stands for all seeds.
    sources : further modules whose code is part of the model (hashed into ``plugins.lock.yaml``).
    weights : name of the dataset whose manifest lists its published weights (``hyped models fetch``).
    environment : requirements, in pip's words, of an environment of its own; where there are any, the model runs
        out of process in an environment that HYPED makes of them (`hyped_core.remote.environments`).
    expected_failures : conformance check -> why the model fails it; a check that then passes is reported as stale.
    quick : config values that make it small: the checks and ``hyped bench run --smoke`` put it to work with these, a
        benchmark never does. For models that take more than seconds on tiny data.
    """

    name: str
    task: str
    target: str
    config: str | None = None
    summary: str = ""
    role: Literal["model", "control"] = "model"
    api_version: int = API_VERSION
    needs: Needs = field(default_factory=Needs)
    deterministic: bool = True
    seeded: bool = True
    licence: str = ""
    citation: str = ""
    sources: tuple[str, ...] = ()
    weights: str = ""
    environment: tuple[str, ...] = ()
    expected_failures: Mapping[str, str] = field(default_factory=dict, hash=False)
    quick: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _check_name("model", self.name)
        _check_name("task", self.task)
        _check_target("target", self.target)
        if self.config is not None:
            _check_target("config", self.config)
        if self.role not in ("model", "control"):
            raise PluginError(f"role must be 'model' or 'control', not {self.role!r}", where=self.name)
        if not isinstance(self.api_version, int) or isinstance(self.api_version, bool):
            raise PluginError("api_version must be an integer", where=self.name)
        if not isinstance(self.needs, Needs):
            raise PluginError("needs must be a hyped_core.Needs", where=self.name)
        if not isinstance(self.environment, tuple) or not all(isinstance(line, str) for line in self.environment):
            raise PluginError("environment must be a tuple of requirements as text", where=self.name)
        if not isinstance(self.expected_failures, Mapping) or not all(self.expected_failures.values()):
            raise PluginError("expected_failures must map a check's name to the reason", where=self.name)
        if not isinstance(self.quick, Mapping) or not all(isinstance(key, str) for key in self.quick):
            raise PluginError("quick must map fields of the config to values", where=self.name)
        try:
            json.dumps(dict(self.quick), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PluginError(f"quick must hold values that JSON has: {error}", where=self.name) from error

    @property
    def key(self) -> str:
        """``"<task>/<name>"``, unique over all plugins."""
        return f"{self.task}/{self.name}"

    def load_config(self, values: dict[str, Any] | None = None) -> Any:
        """The model's config built from ``values`` (None where the model has no config).

        Raises
        ------
        ParamsError
            A key is unknown or a value is out of range.
        """
        from hyped_core.params import build

        if self.config is None:
            if values:
                raise PluginError(f"takes no parameters, got {sorted(values)}", where=self.key)
            return None
        config = import_target(self.config)
        if not hasattr(config, "model_validate"):
            raise PluginError("is not a pydantic model", where=f"{self.key}, config {self.config}", mend=_REPORT)
        return build(config, values or {}, where=self.key)

    def create(self, values: dict[str, Any] | None = None) -> Any:
        """Import the model and return a new instance with its config made from ``values``.

        Raises
        ------
        MissingDependencyError, ParamsError
            Something it needs is absent, or its parameters are wrong.
        PluginError
            It cannot be imported or made, or lacks a method of its task's contract.
        """
        self.needs.check(self.key)
        config = self.load_config(values)
        factory = import_target(self.target)
        where = f"{self.key}, target {self.target}"
        try:
            model = factory() if self.config is None else factory(config)
        except (HypedError, MemoryError):
            raise
        except Exception as error:
            said = type_and_text(error)
            raise PluginError(f"the model cannot be made: {said}", where=where, mend=_REPORT) from error
        lacking = [name for name in _METHODS.get(self.task, ()) if not callable(getattr(model, name, None))]
        if lacking:
            raise PluginError(f"the model has no method {lacking[0]!r}", where=where, mend=_REPORT)
        return model


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command of `hyped`: ``path`` is ``("imaging", "stitch")``, ``target`` imports a click command."""

    path: tuple[str, ...]
    target: str
    help: str

    def __post_init__(self) -> None:
        if not self.path or len(self.path) > 3:
            raise PluginError("a command path has one to three words", where=repr(self.path))
        for word in self.path:
            _check_name("command", word)
        _check_target("target", self.target)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A benchmark task: ``target`` imports the class that prepares, runs and scores it.

    ``exercise`` imports a `hyped_core.checking.records.Exercise`, which puts models of the task to work on tiny data:
    where there is one, they are checked for what holds for models of every task.
    """

    name: str
    target: str
    summary: str = ""
    metrics: tuple[str, ...] = ()
    exercise: str | None = None

    def __post_init__(self) -> None:
        _check_name("task", self.name)
        _check_target("target", self.target)
        if self.exercise is not None:
            _check_target("exercise", self.exercise)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric: a pure function, the direction that is better and what a do-nothing model scores."""

    name: str
    task: str
    target: str
    summary: str = ""
    better: Literal["higher", "lower", "none"] = "higher"
    perfect: float | None = None
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        _check_name("metric", self.name)
        _check_name("task", self.task)
        _check_target("target", self.target)


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A dataset: ``manifest`` is ``"package:relative/path.yaml"`` inside the package that registers it."""

    name: str
    manifest: str
    summary: str = ""

    def __post_init__(self) -> None:
        _check_name("dataset", self.name)
        if ":" not in self.manifest:
            raise PluginError("manifest must be 'package:path'", where=self.name)


@dataclass(frozen=True, slots=True)
class ReaderSpec:
    """A reader of movie or cell files, chosen by suffix; ``kind`` is ``"movie"`` or ``"cells"``."""

    name: str
    kind: Literal["movie", "cells"]
    suffixes: tuple[str, ...]
    target: str
    summary: str = ""
    needs: Needs = field(default_factory=Needs)

    def __post_init__(self) -> None:
        _check_name("reader", self.name)
        _check_target("target", self.target)


@dataclass(frozen=True, slots=True)
class ReportSectionSpec:
    """A section of the report: ``target(context) -> html`` placed by ``order``."""

    name: str
    title: str
    target: str
    order: int = 100

    def __post_init__(self) -> None:
        _check_name("report section", self.name)
        _check_target("target", self.target)


@dataclass(frozen=True, slots=True)
class HealthCheckSpec:
    """A check of `hyped doctor`: ``target() -> HealthResult``; ``required`` ones decide its exit code."""

    name: str
    target: str
    summary: str = ""
    required: bool = False

    def __post_init__(self) -> None:
        _check_name("health check", self.name)
        _check_target("target", self.target)


@dataclass(frozen=True, slots=True)
class HealthResult:
    """What a health check found: ``state`` is ``ok``, ``missing`` (optional) or ``broken``."""

    state: Literal["ok", "missing", "broken"]
    detail: str
    mend: str = ""
