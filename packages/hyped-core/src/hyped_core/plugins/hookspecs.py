"""The hooks a plugin may implement: each returns records of :mod:`hyped_core.spec`, imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from hyped_core.spec import (
    CommandSpec,
    DatasetSpec,
    HealthCheckSpec,
    MetricSpec,
    ModelSpec,
    ReaderSpec,
    ReportSectionSpec,
    TaskSpec,
)

PROJECT = "hyped"
"""pluggy project name and entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class HypedHooks:
    """The hooks, one a kind of contribution."""

    @hookspec
    def hyped_models(self) -> Iterable[ModelSpec]:
        """Models for any task.

        Example, the whole module named by the entry point ``[project.entry-points.hyped]``::

            from hyped_core import ModelSpec, hookimpl

            @hookimpl
            def hyped_models():
                yield ModelSpec(
                    name="halfway", task="expression", target="my_model.model:Halfway",
                    summary="Half the additive change", licence="BSD-3-Clause",
                )
        """
        yield from ()

    @hookspec
    def hyped_commands(self) -> Iterable[CommandSpec]:
        """Commands of ``hyped``.

        Example::

            @hookimpl
            def hyped_commands():
                yield CommandSpec(("mylab", "convert"), "mylab.cli:convert", "Convert our files")
        """
        yield from ()

    @hookspec
    def hyped_tasks(self) -> Iterable[TaskSpec]:
        """Benchmark tasks.

        Example::

            @hookimpl
            def hyped_tasks():
                yield TaskSpec("motility", "mylab.task:Motility", "Speed of nuclei", ("speed_error",))
        """
        yield from ()

    @hookspec
    def hyped_metrics(self) -> Iterable[MetricSpec]:
        """Metrics of a task.

        Example::

            @hookimpl
            def hyped_metrics():
                yield MetricSpec("rmse_delta", "expression", "mylab.metrics:rmse_delta", better="lower")
        """
        yield from ()

    @hookspec
    def hyped_datasets(self) -> Iterable[DatasetSpec]:
        """Datasets that ``hyped data fetch`` knows.

        Example::

            @hookimpl
            def hyped_datasets():
                yield DatasetSpec("mylab-2026", "mylab:data/manifest.yaml", "Our movies")
        """
        yield from ()

    @hookspec
    def hyped_readers(self) -> Iterable[ReaderSpec]:
        """Readers of movie or cell files.

        Example::

            @hookimpl
            def hyped_readers():
                yield ReaderSpec("nd2", "movie", (".nd2",), "mylab.nd2:read")
        """
        yield from ()

    @hookspec
    def hyped_report_sections(self) -> Iterable[ReportSectionSpec]:
        """Sections of the report.

        Example::

            @hookimpl
            def hyped_report_sections():
                yield ReportSectionSpec("motility", "Motility", "mylab.report:section", order=60)
        """
        yield from ()

    @hookspec
    def hyped_health_checks(self) -> Iterable[HealthCheckSpec]:
        """Checks of ``hyped doctor``.

        Example::

            @hookimpl
            def hyped_health_checks():
                yield HealthCheckSpec("nd2", "mylab.doctor:check_nd2", "ND2 reader")
        """
        yield from ()


HOOKS: dict[str, type] = {
    "hyped_models": ModelSpec,
    "hyped_commands": CommandSpec,
    "hyped_tasks": TaskSpec,
    "hyped_metrics": MetricSpec,
    "hyped_datasets": DatasetSpec,
    "hyped_readers": ReaderSpec,
    "hyped_report_sections": ReportSectionSpec,
    "hyped_health_checks": HealthCheckSpec,
}
"""Hook name -> the record it has to yield."""
