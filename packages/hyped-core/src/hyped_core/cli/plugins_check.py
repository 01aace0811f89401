"""``hyped plugins check``: everything that is wrong with a plugin, at once."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

import click

from hyped_core.errors import MissingDependencyError, PluginError

if TYPE_CHECKING:
    from hyped_core.checking.records import CheckRecord


@click.command("check")
@click.argument("what", default=".", metavar="[DIR|NAME]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--only", multiple=True, metavar="CHECK", help="A check to run; may be given again. All by default.")
@click.option("--static", is_flag=True, help="Look at the package alone; its models are not put to work.")
@click.option("--install", is_flag=True, help="Have pip make environments that models ask for and that are not there.")
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=20.0, show_default=True, help="How long one check may take."
)
@click.option("--verbose", is_flag=True, help="List the checks that passed, too.")
def check_plugins(
    what: str, as_json: bool, only: tuple[str, ...], static: bool, install: bool, seconds: float, verbose: bool
) -> None:
    """Check a plugin: a source folder, or an installed plugin, package or model (TASK/NAME).

    Looks at the package, and puts each model to work on tiny data, on the CPU and without the network. Every problem
    is shown with its place, the reason and what mends it. Exit code 4 where there is one, 5 where a model could not be
    put to work because its environment is not made. An interrupt (130) shows what was found until then.
    """
    from hyped_core.checking.plugin import NOT_MADE, check_plugin, find_target
    from hyped_core.checking.report import as_json as json_of
    from hyped_core.checking.report import as_text

    target = find_target(what)
    started = time.monotonic()
    shown = f"{target.distribution} {target.version}"
    records: list[CheckRecord] = []
    coming = check_plugin(
        target,
        only=only,
        static=static,
        install=install,
        limit=seconds,
        say=lambda text: click.echo(f"checking {text}", err=True),
    )
    whole, interrupted = False, False
    try:
        with contextlib.closing(coming):
            for record in coming:
                records.append(record)
        whole = True
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        spent = time.monotonic() - started
        if as_json and (records or whole or interrupted):
            found = json_of(shown, records, spent)
            click.echo(json.dumps({**found, "ok": found["ok"] and whole}, indent=2))
        elif records or whole or interrupted:
            said = as_text(shown, records, spent, verbose=verbose)
            click.echo(said if whole else f"{said}\ninterrupted: the checks that follow were not run")
    bad = sum(record.bad for record in records)
    if bad:
        raise PluginError(
            f"{bad} problem{'' if bad == 1 else 's'} found", where=shown, mend="each is shown above, with what mends it"
        )
    unmade = [record.model for record in records if record.status == "skipped" and record.reason.startswith(NOT_MADE)]
    if unmade:
        raise MissingDependencyError(
            f"{', '.join(dict.fromkeys(unmade))} did not run: the environment is not made yet",
            where=shown,
            mend=f"hyped plugins check --install {what} (or --static, for the package alone)",
        )
