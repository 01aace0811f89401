"""``hyped plugins``: which plugins there are and their state, and the lock file of their code."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hyped_core.errors import HypedError
from hyped_core.plugins.hookspecs import HOOKS
from hyped_core.plugins.host import default_host


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout.")
@click.option("--verbose", is_flag=True, help="With the tracebacks of broken plugins, on stderr.")
@click.option(
    "--again",
    is_flag=True,
    expose_value=False,  # heeded before any plugin is loaded: hyped_core.cli.main
    help="Look anew at the plugins of others, also at those that did harm.",
)
def list_plugins(as_json: bool, verbose: bool) -> None:
    """List plugins with their state; a broken one with the reason and the command that mends it.

    broken: something of it could not be used; what is not named in the reason stays in use. A plugin of others is
    first looked at in a process of its own; one that does harm there is left out, for a day or until it changes.
    """
    from hyped_core.cli.tables import aligned

    host = default_host()
    plugins = host.check()
    counts = {id(plugin): {hook: 0 for hook in HOOKS} for plugin in plugins}
    for hook in HOOKS:
        for item in host.collect(hook):
            counts[id(item.plugin)][hook] += 1
    if as_json:
        rows = [
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "module": plugin.module,
                "folder": plugin.folder,
                "state": plugin.state,
                "reason": plugin.reason,
                "mend": plugin.mend,
                "note": plugin.note,
                "import_s": round(plugin.load_s, 4),
                "provides": {hook.removeprefix("hyped_"): n for hook, n in counts[id(plugin)].items() if n},
            }
            for plugin in plugins
        ]
        click.echo(json.dumps(rows, indent=2, sort_keys=True))
    else:
        rows = []
        for plugin in plugins:
            provides = ", ".join(
                f"{n} {hook.removeprefix('hyped_').replace('_', ' ')}"
                for hook, n in counts[id(plugin)].items()
                if n
            )
            rows.append(
                (plugin.name, plugin.distribution, plugin.version, plugin.state, provides or "nothing")
            )
        click.echo(aligned(("plugin", "package", "version", "state", "provides"), rows))
        for plugin in plugins:
            origin = f"from {plugin.folder}" if plugin.folder else ""
            if plugin.reason or plugin.note or origin:
                owner = f"{plugin.name} ({plugin.distribution} {plugin.version})"
                click.echo(f"\n{owner}: {'; '.join(filter(None, (origin, plugin.reason, plugin.note)))}")
            if plugin.mend:
                click.echo(f"  to mend: {plugin.mend}")
    if verbose:
        for plugin in plugins:
            if plugin.traceback:
                click.echo(f"--- {plugin.name} ({plugin.distribution})\n{plugin.traceback}", err=True)


@click.command("lock")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("plugins.lock.yaml"),
    show_default=True,
    help="File to write.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where the file is out of date.")
def lock_plugins(output: Path, check: bool) -> None:
    """Write each model's distribution, version and source hash to a file that DVC stages depend on.

    The same plugins give the same bytes, and an unchanged file is left untouched. A model that the dvc.yaml beside the
    file asks for and no plugin gives is listed with its state (broken, gone, ...), so that its stage can record it.
    """
    from hyped_core.io.atomic import write_text
    from hyped_core.plugins.lock import add_lost, lock_changes, lock_entries, lock_text

    host = default_host()
    entries, notes = lock_entries(host)
    notes += add_lost(entries, output, host)
    for plugin in host.broken:
        click.echo(f"note: plugin {plugin.name} is broken: {plugin.reason}", err=True)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    text = lock_text(entries)
    same = output.is_file() and output.read_bytes() == text.encode()
    changes = [] if same else lock_changes(output, entries)
    if check:
        if not same:
            raise HypedError(
                f"out of date: {'; '.join(changes) or 'not as hyped plugins lock writes it'}",
                where=output,
                mend=f"hyped plugins lock --output {output}",
            )
    elif not same:
        write_text(output, text)
    for change in changes:
        click.echo(change, err=True)
    count = sum(len(named) for named in entries["models"].values())
    click.echo(f"{output}: {count} models, {'unchanged' if same else 'written'}", err=True)
