"""Where a model that a step or a command runs works: HYPED's own in this process, strangers' apart, within limits.

>>> from hyped_core.remote.placing import place
>>> model = place("track", "lap", {}, design).create()  # doctest: +SKIP
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hyped_core.context import Progress
from hyped_core.errors import HypedError, MissingHardwareError, PluginError, UsageError
from hyped_core.plugins.host import PluginHost
from hyped_core.plugins.record import PluginRecord, Provided
from hyped_core.plugins.registry import provided_model
from hyped_core.remote.host import RemoteModel
from hyped_core.remote.memory import machine_memory_gb
from hyped_core.remote.process import Runner
from hyped_core.spec import ModelSpec, import_target

if TYPE_CHECKING:
    from hyped_core.design import Design

SECONDS = 3600.0
"""How long a stranger's model may work where nothing else is said: on a task of the benchmark, in a call of a step."""
MEMORY_SHARE = 0.8
"""Share of the machine's memory that it may take where nothing else is said."""
SECONDS_VARIABLE = "HYPED_MODEL_SECONDS"
MEMORY_VARIABLE = "HYPED_MODEL_GB"


def works_apart(provided: Provided) -> bool:
    """Whether a model works in a process of its own: one of another package than HYPED's, or in its own environment."""
    return not provided.plugin.own or bool(provided.spec.environment)


def default_seconds() -> float:
    """`SECONDS`, or what ``HYPED_MODEL_SECONDS`` says."""
    return _said(SECONDS_VARIABLE) or SECONDS


def default_memory_gb() -> float | None:
    """`MEMORY_SHARE` of the machine's memory (10**9 bytes), or what ``HYPED_MODEL_GB`` says; None where unknown."""
    if (said := _said(MEMORY_VARIABLE)) is not None:
        return said
    found = machine_memory_gb()
    return None if found is None else round(MEMORY_SHARE * found, 1)


def _said(variable: str) -> float | None:
    text = os.environ.get(variable, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"must be a positive number, not {text!r}", where=variable)
    return value


@dataclass(frozen=True, slots=True)
class Placed:
    """A model that is looked up and configured, to be made as often as wanted.

    A process of its own ends with this and with the last model made of it, at the latest with the interpreter.

    Attributes
    ----------
    values : the parameters given, with what the config's ``for_design`` took from the design.
    config : all of them with defaults, JSON-able; None for a model without a config.
    """

    spec: ModelSpec
    plugin: PluginRecord
    values: dict[str, Any]
    config: dict[str, Any] | None
    remote: RemoteModel | None = None

    def create(self) -> Any:
        """A new instance, with the methods of its task's contract."""
        return self.spec.create(self.values) if self.remote is None else self.remote.create()


def place(task: str, name: str, values: dict[str, Any], design: Design, host: PluginHost | None = None) -> Placed:
    """The model ``name`` (or ``distribution:name``) of ``task``, where it is to work.

    One that works apart is imported there alone, its config too. What it prints goes to stderr, and its errors name the
    package and what removes it. `default_seconds` bounds each call, `default_memory_gb` the memory of its process with
    all that it starts.

    Raises
    ------
    UnknownNameError, NameClashError
        There is no such model, or it is not clear whose.
    MissingDependencyError, ParamsError
        Something it needs is not installed, or its environment cannot be made; its parameters are wrong.
    PluginError
        It cannot be imported, or its process crashes or takes too long.
    MissingHardwareError
        It takes more memory than it may.
    """
    provided = provided_model(task, name, host)
    spec: ModelSpec = provided.spec
    if works_apart(provided):
        remote = _RemoteStep(provided, values, design)
        config = remote.config if spec.config is not None else None
        return Placed(spec, provided.plugin, remote.values, config, remote)
    spec.needs.check(spec.key)
    fill = None if spec.config is None else getattr(import_target(spec.config), "for_design", None)
    filled = dict(values) if fill is None else fill(dict(values), design)
    loaded = spec.load_config(filled)
    return Placed(spec, provided.plugin, filled, None if loaded is None else loaded.model_dump(mode="json"))


class _RemoteStep(RemoteModel):
    """A model apart, whose errors say whose it is, and which has its time for each call anew."""

    def __init__(self, provided: Provided, values: dict[str, Any], design: Design) -> None:
        import yaml

        spec, self._plugin = provided.spec, provided.plugin
        runner = Runner(
            seconds=default_seconds(), memory_gb=default_memory_gb(), requirements=spec.environment
        )
        name = f"{self._plugin.distribution}:{spec.name}"
        with TemporaryDirectory(prefix="hyped-design-") as folder:
            file = Path(folder) / "design.yaml"
            file.write_text(yaml.safe_dump(design.model_dump(mode="json")), encoding="utf-8")
            try:
                super().__init__(spec.task, name, runner, values=values, design=file, provided=provided)
            except HypedError as error:
                self._own(error)
                raise
        weakref.finalize(self, self.process.close)

    def ask(self, request: dict[str, Any], progress: Progress | None = None) -> Any:
        """One request and its result."""
        self.process.spent_s = 0.0
        try:
            return super().ask(request, progress)
        except HypedError as error:
            self._own(error)
            raise

    def _own(self, error: HypedError) -> None:
        """Note in an error whose model it is; and in one that is the model's fault what removes it."""
        who = f"{self.who} ({self._plugin.distribution} {self._plugin.version})"
        if error.where is not None and error.where.startswith(who):
            return
        error.where = who if error.where in (None, self.who) else f"{who}, {error.where}"
        if isinstance(error, (PluginError, MissingHardwareError)):
            error.mend = "; ".join(filter(None, (error.mend, self._plugin.removal)))
