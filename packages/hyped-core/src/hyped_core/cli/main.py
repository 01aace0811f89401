"""Entry of the ``hyped`` command: a tree of lazily imported commands, and errors turned into exit codes."""

from __future__ import annotations

import contextlib
import difflib
import errno
import faulthandler
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hyped_core import __version__
from hyped_core.errors import (
    HypedError,
    InvalidDataError,
    MissingHardwareError,
    NameClashError,
    PluginError,
    StorageError,
    UsageError,
)
from hyped_core.plugins.host import (
    BLOCK_VARIABLE,
    STRICT_VARIABLE,
    PluginHost,
    Provided,
    default_host,
    stdout_to_stderr,
)
from hyped_core.spec import import_target

OWN_DISTRIBUTION = "hyped-core"
DEBUG_VARIABLE = "HYPED_DEBUG"
"""Set it to see the traceback of an error of the file system."""

GROUPS = {
    "data": "Datasets and containers: fetch, use, assemble, info, validate.",
    "models": "Registered models: list, info, fetch.",
    "plugins": "Plugins: new, check, list, lock, environments.",
    "imaging": "Movies: CZI to frames, nuclei, tracks and phases.",
    "seq": "Counts: matrices and hashtags to annotated cells.",
    "bench": "The benchmark: run, score, compare, report.",
}


PACKAGES = {"imaging": "hyped-imaging", "seq": "hyped-seq", "bench": "hyped-bench", "demo": "hyped-bench"}
"""Which package of the family brings a group, for who has not installed it."""


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
        if not leaves:
            return LazyGroup(
                name=cmd_name, help=GROUPS.get(cmd_name, ""), depth=self._depth + 1, provided=matching
            )
        if len(leaves) > 1:
            owners = [f"{item.plugin.distribution} {item.plugin.version}" for item in leaves]
            raise NameClashError(
                f"the command {' '.join(leaves[0].spec.path)!r} is registered by {' and by '.join(owners)}",
                mend=f"uninstall one of them, or set {BLOCK_VARIABLE}={leaves[-1].plugin.name}",
            )
        return _import_command(leaves[0])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant; for an unknown one the closest names are given."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.list_commands(ctx):
            close = difflib.get_close_matches(name, self.list_commands(ctx), n=3)
            hint = f"Did you mean {' or '.join(close)}?" if close else f"Try '{ctx.command_path} --help'."
            if self._depth == 0 and name in PACKAGES:
                hint = f"It comes with {PACKAGES[name]}, which is not installed here."
            ctx.fail(f"No such command {name!r}. {hint}")
        return super().resolve_command(ctx, args)

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


def _import_command(item: Provided) -> click.Command:
    with stdout_to_stderr():
        command = import_target(item.spec.target)
    if not isinstance(command, click.Command):
        raise PluginError(
            f"is not a click command but {type(command).__name__}",
            where=item.spec.target,
            mend=item.plugin.mend or f"report it to the authors of {item.plugin.distribution}",
        )
    return command


def usable_commands(host: PluginHost) -> list[Provided]:
    """The commands of all plugins, less those that would hide others: these become faults of their plugin.

    A command may not stand where other commands have a group, and HYPED's own commands cannot be taken over,
    so that those which show and mend a broken plugin always work.
    """
    provided = host.collect("hyped_commands")
    groups = {item.spec.path[:depth] for item in provided for depth in range(1, len(item.spec.path))}
    own = {item.spec.path for item in provided if item.plugin.distribution == OWN_DISTRIBUTION}
    kept = []
    for item in provided:
        words = " ".join(item.spec.path)
        if item.spec.path in groups:
            host.refuse(item.plugin, "hyped_commands", f"the command {words!r} is a group of other commands")
        elif item.spec.path in own and item.plugin.distribution != OWN_DISTRIBUTION:
            host.refuse(item.plugin, "hyped_commands", f"the command {words!r} belongs to {OWN_DISTRIBUTION}")
        else:
            kept.append(item)
    return kept


def root() -> click.Group:
    """The ``hyped`` command with everything the installed plugins contribute."""
    group = LazyGroup(
        name="hyped",
        help="HYPED: movies and counts of perturbed cells into one container, and models scored against it.",
        provided=usable_commands(default_host()),
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    return click.version_option(__version__, prog_name="hyped")(group)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 ok, 1 failed, 2 usage, 3 data, 4 plugin, 5 missing, 6 regression."""
    with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):  # stderr is none, or no file
        faulthandler.enable()  # a crash shows whose code it came of
    signal.signal(signal.SIGTERM, _interrupt)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, _interrupt)
    if list(sys.argv[1:] if arguments is None else arguments)[:2] == ["plugins", "check"]:
        os.environ.pop(STRICT_VARIABLE, None)  # the command that says what is wrong has to run
    sys.exit(run(arguments))


def _interrupt(*_: object) -> None:
    """A polite kill, or a terminal that closes, is treated as an interrupt, so that temporaries are removed."""
    raise KeyboardInterrupt


def _look_anew(words: Sequence[str]) -> None:
    """Forget what ``hyped plugins``, which shows and mends what is broken, is not to load plugins on."""
    if words[:1] == ["plugins"]:
        from hyped_core.plugins import kept, probe

        if words[1:2] == ["list"] and "--again" in words:
            kept.forget()
        else:
            probe.doubt()


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors go to stderr."""
    try:
        _look_anew(list(sys.argv[1:] if arguments is None else arguments))
        result = root().main(args=arguments, prog_name="hyped", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.BadParameter as error:
        error.show()
        named_file = error.param is not None and isinstance(error.param.type, (click.Path, click.File))
        given = not isinstance(error, click.MissingParameter)
        return InvalidDataError.exit_code if named_file and given else UsageError.exit_code
    except click.FileError as error:
        error.show()
        return InvalidDataError.exit_code
    except click.ClickException as error:
        error.show()
        return UsageError.exit_code
    except HypedError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        with contextlib.suppress(OSError):  # a terminal that closed takes no words
            click.echo(
                "interrupted; outputs that were finished stand whole, and nothing half-written is left", err=True
            )
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        click.echo(
            "error: not enough memory\n  to mend: fewer threads, smaller chunks or a larger machine", err=True
        )
        return MissingHardwareError.exit_code
    except OSError as error:
        if os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
            raise
        if (refused := _refused(error)) is not None:
            click.echo(f"error: {refused}", err=True)
            return refused.exit_code
        click.echo(f"error: {error} (set {DEBUG_VARIABLE}=1 for the traceback)", err=True)
        return InvalidDataError.exit_code if isinstance(error, FileNotFoundError) else HypedError.exit_code


def _refused(error: OSError) -> HypedError | None:
    """What the system did not let be read or written, under the name that the user gave."""
    from hyped_core.container.partial import storage_error

    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if error.errno not in (*full, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return None
    if not isinstance(error.filename, (str, bytes)):
        return storage_error(error, "the output", ".", kept=False) if error.errno in full else None
    path = Path(os.fsdecode(error.filename))
    if os.access(path, os.F_OK) and not os.access(path, os.R_OK):
        return StorageError("may not be read", where=path, mend="change its rights")
    parts = [re.sub(r"^\.(.+)\.[0-9a-f]{6}-\d+-[0-9a-f]{8}\.part$", r"\1", part) for part in path.parts]
    return storage_error(error, Path(*parts), path.parent, kept=False)


if __name__ == "__main__":
    main()
