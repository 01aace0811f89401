"""hyped-core's own contributions, through the same door as everyone else's."""

from __future__ import annotations

from collections.abc import Iterable

from hyped_core.plugins.hookspecs import hookimpl
from hyped_core.spec import CommandSpec


@hookimpl
def hyped_commands() -> Iterable[CommandSpec]:
    """The commands that need no other package."""
    cli = "hyped_core.cli"
    yield CommandSpec(("models", "list"), f"{cli}.models:list_models", "List registered models.")
