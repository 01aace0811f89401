"""Groups of options: which cells of a file are used (`bench run`, `bench score`), and where strangers' models run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class SeedCount(click.IntRange):
    """How many seeds; what lists seeds is told so."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(
                f"{value!r} is no number of seeds: say how many, e.g. 3 for --seed, --seed + 1 and --seed + 2.",
                param,
                ctx,
            )


def plain_options(file_option: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--perturbation``, ``--max-cells`` and ``--where`` (``kept``), which go with the option of a file."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--where", "kept", multiple=True, metavar="COLUMN=VALUE",
            help=f"With {file_option}: keep only cells with this value in this obs column; may be repeated.",
        )(command)  # fmt: skip
        command = click.option(
            "--max-cells", type=click.IntRange(min=10),
            help=f"With {file_option}: cells of each perturbation, and of control, that are used (default: 500, drawn "
            "with the seed).",
        )(command)  # fmt: skip
        return click.option(
            "--perturbation", metavar="COLUMN",
            help=f"With {file_option}: obs column of perturbations (default: found).",
        )(command)  # fmt: skip

    return add


def trial_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--plugin`` (``plugin``) and ``--smoke`` (``smoke``)."""
    command = click.option(
        "--smoke", is_flag=True,
        help="Instead, for a first trial: tiny simulated data of each task, under a minute, and the model's place "
        "among the controls. Without --model or --plugin: every installed model that is not HYPED's own.",
    )(command)  # fmt: skip
    return click.option(
        "--plugin", type=click.Path(path_type=Path), metavar="DIR|NAME",
        help="Use the plugin whose source (with pyproject.toml) is in this folder, or the installed one of this name; "
        "run its models.",
    )(command)  # fmt: skip


def process_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--time-limit`` (``time_limit``), ``--memory-limit`` (``memory_limit``) and ``--here`` (``here``)."""
    command = click.option(
        "--here", is_flag=True, help="Run strangers' models in this process, without limits: for a debugger."
    )(command)
    command = click.option(
        "--memory-limit", type=click.FloatRange(min=0, min_open=True), metavar="GB",
        help="Memory that a model in a process of its own may take. Default for strangers: 80 % of the machine's.",
    )(command)  # fmt: skip
    return click.option(
        "--time-limit", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
        help="Longest work of a model in a process of its own on a task. Default for strangers: 3600; of --smoke 300.",
    )(command)  # fmt: skip
