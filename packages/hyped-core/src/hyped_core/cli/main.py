"""Entry of the ``hyped`` command: a tree of lazily imported commands, and errors turned into exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from hyped_core import __version__
from hyped_core.errors import HypedError
from hyped_core.plugins.host import Provided, default_host
from hyped_core.spec import import_target

GROUPS = {
    "data": "Datasets and containers: fetch, use, assemble, info, validate.",
    "models": "Registered models: list, info, fetch.",
    "plugins": "Plugins and their state: list, lock.",
    "imaging": "Movies: CZI to frames, nuclei, tracks and phases.",
    "seq": "Counts: matrices and hashtags to annotated cells.",
    "bench": "The benchmark: run, score, compare, report.",
}


class LazyGroup(click.Group):
    """A group whose commands are known by name and help and imported only when they are called."""

    def __init__(self, *args: Any, depth: int = 0, provided: Sequence[Provided] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._depth = depth
        self._provided = list(provided)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, sorted."""
        return sorted({item.spec.path[self._depth] for item in self._provided})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        matching = [item for item in self._provided if item.spec.path[self._depth] == cmd_name]
        if not matching:
            return None
        leaves = [item for item in matching if len(item.spec.path) == self._depth + 1]
        if leaves:
            return import_target(leaves[0].spec.target)
        return LazyGroup(
            name=cmd_name, help=GROUPS.get(cmd_name, ""), depth=self._depth + 1, provided=matching
        )

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Help lines straight from the records, without importing the commands."""
        rows = []
        for name in self.list_commands(ctx):
            matching = [item for item in self._provided if item.spec.path[self._depth] == name]
            leaf = next((i for i in matching if len(i.spec.path) == self._depth + 1), None)
            rows.append((name, leaf.spec.help if leaf else GROUPS.get(name, "")))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def root() -> click.Group:
    """The ``hyped`` command with everything the installed plugins contribute."""
    group = LazyGroup(
        name="hyped",
        help="HYPED: movies and counts of perturbed cells into one container, and models scored against it.",
        provided=default_host().collect("hyped_commands"),
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    return click.version_option(__version__, prog_name="hyped")(group)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 ok, 1 failed, 2 usage, 3 data, 4 plugin, 5 missing, 6 regression."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors go to stderr."""
    try:
        result = root().main(args=arguments, prog_name="hyped", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except HypedError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing half-written was left behind", err=True)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    main()
