"""Options that `hyped bench run --cells` and `hyped bench score --truth` share: which cells of the file are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def plain_options(file_option: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--max-cells`` (``max_cells``) and ``--where`` (``kept``), which go with the option that names the file."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--where", "kept", multiple=True, metavar="COLUMN=VALUE",
            help=f"With {file_option}: keep only cells with this value in this obs column; may be repeated.",
        )(command)  # fmt: skip
        return click.option(
            "--max-cells", type=click.IntRange(min=10),
            help=f"With {file_option}: cells of each perturbation, and of control, that are used (default: 500, drawn "
            "with the seed).",
        )(command)  # fmt: skip

    return add
