"""``hyped plugins environments``: what HYPED made for models that ask for libraries of their own, and its removal."""

from __future__ import annotations

import json

import click


@click.command("environments")
@click.option("--remove", "names", multiple=True, metavar="NAME", help="Delete this environment; may be repeated.")
@click.option("--clean", is_flag=True, help="Delete all of them; those that are asked for again are made again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout.")
def list_environments(names: tuple[str, ...], clean: bool, as_json: bool) -> None:
    """List the environments that HYPED made of models' requirements, with their sizes.

    They are made when a model first runs, kept in HYPED_CACHE (default: ~/.cache/hyped), and hold nothing that cannot
    be made again.
    """
    from hyped_core.cli.tables import aligned, size_text
    from hyped_core.remote.environments import environments, environments_folder, remove_environment

    found = environments()
    doomed = [one.name for one in found] if clean else list(dict.fromkeys(names))
    for name in doomed:
        remove_environment(name)
        click.echo(f"removed {name}", err=True)
    found = [one for one in found if one.name not in doomed]
    if as_json:
        rows = [
            {
                "name": one.name,
                "folder": str(one.folder),
                "requirements": list(one.requirements),
                "python": one.version,
                "bytes": one.size,
                "finished": one.finished,
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
        table.append((one.name, one.version or "-", size_text(one.size), asked))
    click.echo(aligned(("environment", "python", "size", "made for"), table))
    click.echo("to remove one: hyped plugins environments --remove NAME; all: --clean", err=True)
