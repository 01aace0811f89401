"""``hyped plugins environments``: what HYPED made for models that ask for libraries of their own, and its removal."""

from __future__ import annotations

import json

import click


@click.command("environments")
@click.option("--remove", "names", multiple=True, metavar="NAME", help="Delete this environment; may be repeated.")
@click.option("--clean", is_flag=True, help="Delete all of them; those that are asked for again are made again.")
@click.option(
    "--unused",
    "days",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Delete what no model ran in for DAYS days: environments, and copies of code in the others.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout.")
def list_environments(names: tuple[str, ...], clean: bool, days: float | None, as_json: bool) -> None:
    """List the environments that HYPED made of models' requirements, with their sizes.

    They are made when a model first runs, kept in HYPED_CACHE (default: ~/.cache/hyped), and hold nothing that cannot
    be made again. One that a model runs in now is not deleted.
    """
    from hyped_core.cli.tables import aligned, size_text
    from hyped_core.errors import UsageError
    from hyped_core.remote.cache import environments, environments_folder, remove_environment, remove_unused

    busy: list[UsageError] = []
    for name in [one.name for one in environments()] if clean else list(dict.fromkeys(names)):
        try:
            remove_environment(name)
        except UsageError as error:  # the others go all the same
            busy.append(error)
        else:
            click.echo(f"removed {name}", err=True)
    for name in [] if days is None else remove_unused(days):
        click.echo(f"removed {name}", err=True)
    if busy:
        where = ", ".join(str(error.where) for error in busy)
        raise UsageError(busy[0].message, where=where, mend=busy[0].mend)
    found = environments()
    if as_json:
        rows = [
            {
                "name": one.name,
                "folder": str(one.folder),
                "requirements": list(one.requirements),
                "python": one.version,
                "bytes": one.size,
                "finished": one.finished,
                "layers": one.layers,
                "days_unused": round(one.days_unused, 3),
            }
            for one in found
        ]
        click.echo(json.dumps(rows, indent=2, sort_keys=True))
        return
    if not found:
        click.echo(f"no environments in {environments_folder()}", err=True)
        return
    table = []
    for one in found:
        asked = ", ".join(one.requirements) if one.finished else "unfinished"
        used = f"{one.days_unused:.0f} d ago" if one.days_unused >= 1 else "today"
        table.append((one.name, one.version or "-", size_text(one.size), used, asked))
    click.echo(aligned(("environment", "python", "size", "last used", "made for"), table))
    ways = "one: hyped plugins environments --remove NAME; old ones: --unused DAYS; all: --clean"
    click.echo(f"to remove {ways}", err=True)
