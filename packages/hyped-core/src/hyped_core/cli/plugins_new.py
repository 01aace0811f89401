"""``hyped plugins new``: a small complete package of a model, from the kept template."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import click

from hyped_core.errors import HypedError, UsageError
from hyped_core.spec import TASKS
from hyped_core.templates.names import check_author, check_distribution, check_model, module_of
from hyped_core.templates.render import CAN_LEARN, CI, LEARNS_BY_DEFAULT, LICENCES, Choice, check_free, rendered


@click.command("new")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--task", type=click.Choice(TASKS), help="What the model does.")
@click.option("--name", help="What HYPED calls the model [default: the folder's name, with '_' for '-'].")
@click.option("--licence", type=click.Choice(LICENCES), help="Licence of the package [default: BSD-3-Clause].")
@click.option("--author", help="Who the licence and the citation name [default: the authors of DIR].")
@click.option("--ci", type=click.Choice(CI), help="Workflow file that checks and tests it [default: github].")
@click.option(
    "--learns/--no-learns", default=None,
    help="For expression, embedding and denoise: with fit, save and load [default: for expression].",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="List the files, write nothing.")
def new_plugin(
    folder: Path,
    task: str | None,
    name: str | None,
    licence: str | None,
    author: str | None,
    ci: str | None,
    learns: bool | None,
    dry_run: bool,
) -> None:
    """Write the package of a working model into the new folder DIR, ready for pip install -e.

    It holds the model, its config, the entry point, a test with HYPED's checks, README, licence, citation and a
    workflow. What is left out is asked for on a terminal, and takes its default elsewhere (a task has none).

    The files' paths are on stdout, the next commands on stderr.
    """
    check_free(folder)
    distribution = check_distribution(folder.name)
    asks = sys.stdin.isatty() and sys.stderr.isatty()
    if task is None and not asks:
        raise UsageError("which task?", where="--task", mend=f"one of {', '.join(TASKS)}")
    task = task or _asked("Task", TASKS, "expression")
    default_name, default_author = module_of(distribution), f"the authors of {distribution}"
    if asks:
        name = name or click.prompt("Name of the model", default_name, err=True, value_proc=check_model)
        licence = licence or _asked("Licence", LICENCES, LICENCES[0])
        author = author or click.prompt("Author", default_author, err=True, value_proc=check_author)
        ci = ci or _asked("Workflow file", CI, CI[0])
        if learns is None and task in CAN_LEARN:
            learns = click.confirm("Does it learn from data?", task in LEARNS_BY_DEFAULT, err=True)
    choice = Choice(
        distribution=distribution,
        task=task,
        model=default_name if name is None else name,
        author=default_author if author is None else check_author(author),
        licence=licence or LICENCES[0],
        ci=ci or CI[0],
        learns=task in LEARNS_BY_DEFAULT if learns is None else learns,
        year=date.today().year,
    )
    _warn_of_taken(choice)
    if dry_run:
        places = list(rendered(choice))
    else:
        from hyped_core.templates.render import write_plugin

        places = write_plugin(folder, choice)
    for place in places:
        click.echo((folder / place).as_posix())
    if not dry_run:
        click.echo(_next(folder, task), err=True)


def _asked(what: str, known: tuple[str, ...], default: str) -> str:
    return click.prompt(what, default, type=click.Choice(known), err=True)


def _warn_of_taken(choice: Choice) -> None:
    """Say where a model of the task has the name already, and how this one is asked for then."""
    from hyped_core.plugins.host import default_host
    from hyped_core.plugins.registry import models

    try:
        owners = {
            item.plugin.distribution: item.plugin.own
            for item in models(default_host()).items()
            if item.spec.task == choice.task
            and item.spec.name == choice.model
            and item.plugin.distribution != choice.distribution
        }
    except HypedError as error:
        click.echo(f"note: the names of other models could not be read: {error.message}", err=True)
        return
    if not owners:
        return
    asked = f"each is only found as DISTRIBUTION:{choice.model}"
    if own := [name for name, is_own in owners.items() if is_own]:
        asked = f"the bare name stays with {own[0]}, and this one is asked for as {choice.distribution}:{choice.model}"
    click.echo(
        f"warning: {choice.task}/{choice.model} is the name of a model of {', '.join(sorted(owners))}: "
        f"installed together, {asked}\n  to mend: another --name",
        err=True,
    )


def _next(folder: Path, task: str) -> str:
    place = folder.as_posix()
    quoted = place if place.replace("/", "").replace("-", "").replace("_", "").isalnum() else f"'{place}'"
    return (
        f"next:\n  pip install -e {quoted}\n  hyped plugins check {quoted}\n"
        f"  hyped bench run --plugin {quoted} --task {task} --smoke"
    )
