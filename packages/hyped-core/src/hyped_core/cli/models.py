"""``hyped models``: what is registered, what one model is and needs, and its published weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hyped_core.errors import UnknownNameError, UsageError
from hyped_core.plugins.host import Provided, default_host
from hyped_core.plugins.registry import Registry, models

if TYPE_CHECKING:
    from hyped_core.spec import ModelSpec


def _record(item: Provided, registry: Registry[ModelSpec]) -> dict[str, Any]:
    spec: ModelSpec = item.spec
    missing = list(spec.needs.missing())
    return {
        "name": registry.handle(item, spec.name),
        "task": spec.task,
        "role": spec.role,
        "summary": spec.summary,
        "package": item.plugin.distribution,
        "version": item.plugin.version,
        "needs": {
            "modules": list(spec.needs.modules),
            "install": spec.needs.install,
            "gpu": spec.needs.gpu,
            "memory_gb": spec.needs.memory_gb,
        },
        "missing": missing,
        "installed": not missing,
        "deterministic": spec.deterministic,
        "seeded": spec.seeded,
        "licence": spec.licence,
        "citation": spec.citation,
        "target": spec.target,
        "config": spec.config,
        "weights": spec.weights,
        "api_version": spec.api_version,
        "environment": list(spec.environment),
        "expected_failures": dict(spec.expected_failures),
        "quick": dict(spec.quick),
    }


def _installed_text(record: dict[str, Any]) -> str:
    """Whether what it needs is here; a model with an environment of its own needs nothing here."""
    return "in its own" if record["environment"] else "yes" if record["installed"] else "no"


def _needs_text(record: dict[str, Any]) -> str:
    needs = record["needs"]
    parts = [*needs["modules"], *(["a GPU"] if needs["gpu"] else [])]
    if needs["memory_gb"]:
        parts.append(f"{needs['memory_gb']:g} GB of memory")
    return ", ".join(parts) or "-"


@click.command("list")
@click.option("--task", help="Only models of this task.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout.")
def list_models(task: str | None, as_json: bool) -> None:
    """List registered models; imports none of them."""
    from hyped_core.cli.tables import aligned
    from hyped_core.spec import TASKS

    host = default_host()
    registry = models(host)
    records = [_record(item, registry) for item in registry.items()]
    tasks = {record["task"] for record in records}
    if task is not None:
        known = sorted({*TASKS, *tasks, *(item.spec.name for item in host.collect("hyped_tasks"))})
        if task not in known:
            raise UnknownNameError(f"there is no task called {task!r}", mend=f"tasks: {', '.join(known)}")
        records = [record for record in records if record["task"] == task]
    if as_json:
        click.echo(json.dumps(records, indent=2, sort_keys=True))
    else:
        rows = [
            (
                record["task"],
                record["name"],
                record["role"],
                record["package"],
                record["version"],
                _needs_text(record),
                _installed_text(record),
            )
            for record in records
        ]
        click.echo(aligned(("task", "name", "role", "package", "version", "needs", "installed"), rows))
    for plugin in host.broken:
        click.echo(f"note: plugin {plugin.name} is broken, see hyped plugins list", err=True)


def find_model(name: str) -> Provided:
    """A model by ``task/name``, or by ``name`` where only one task has it; ``distribution:`` may precede.

    Raises
    ------
    UnknownNameError, NameClashError
        No model has the name, or more than one distribution claims it.
    UsageError
        Models of several tasks have it.
    """
    registry = models()
    distribution, _, bare = name.rpartition(":")
    if "/" not in bare:
        keys = [key for key in registry.names() if key.partition("/")[2] == bare]
        if len(keys) > 1:
            raise UsageError(f"{bare!r} is a model of several tasks", mend=f"say which: {' or '.join(keys)}")
        if keys:
            bare = keys[0]
        else:
            _raise_unknown(name, bare, registry.names())
    return registry.provided(f"{distribution}:{bare}" if distribution else bare)


def _raise_unknown(name: str, bare: str, keys: list[str]) -> None:
    import difflib

    by_name: dict[str, list[str]] = {}
    for key in keys:
        by_name.setdefault(key.partition("/")[2], []).append(key)
    close = [key for hit in difflib.get_close_matches(bare, by_name, n=3) for key in by_name[hit]]
    mend = f"did you mean {' or '.join(close)}?" if close else "hyped models list shows all"
    if broken := models().broken:
        mend += f"; or mend the broken plugin {', '.join(broken)} (hyped plugins list says what ails it)"
    raise UnknownNameError(f"there is no model called {name!r}", mend=mend)


@click.command("info")
@click.argument("name")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON record on stdout, with the config's JSON schema."
)
def model_info(name: str, as_json: bool) -> None:
    """Describe the model NAME (task/name, or name): its config with defaults, licence, citation and needs."""
    from hyped_core.cli.tables import aligned
    from hyped_core.plugins.configs import shown_config

    item = find_model(name)
    record = _record(item, models())
    found: dict[str, Any] = {} if item.spec.config is None else shown_config(item)
    if "note" in found:
        click.echo(f"note: its config cannot be shown: {found['note']}", err=True)
    fields, schema = found.get("fields", []), found.get("schema")
    if as_json:
        click.echo(
            json.dumps({**record, "fields": fields, "schema": schema}, indent=2, sort_keys=True)
        )
        return
    there = f"in an environment of its own: {', '.join(record['environment'])}" if record["environment"] else "yes"
    if record["missing"] and not record["environment"]:
        there = f"no, missing {', '.join(record['missing'])}"
    lines = [
        f"{record['task']}/{record['name']}  ({record['role']}, {record['package']} {record['version']})",
        record["summary"],
        "",
        f"licence        {record['licence'] or 'not stated'}",
        f"citation       {record['citation'] or 'not stated'}",
        f"needs          {_needs_text(record)}",
        f"installed      {there}",
        f"deterministic  {'yes' if record['deterministic'] else 'no'}",
        f"target         {record['target']}",
    ]
    if record["missing"] and record["needs"]["install"] and not record["environment"]:
        lines.append(f"install with   {record['needs']['install']}")
    lines += [f"fails          {check}: {why}" for check, why in record["expected_failures"].items()]
    if record["quick"]:
        lines.append(f"quick          {json.dumps(record['quick'])} in checks and --smoke")
    if record["weights"]:
        lines.append(f"weights        hyped models fetch {record['task']}/{record['name']}")
    click.echo("\n".join(lines))
    if fields:
        rows = [(f["name"], f["type"], f["default"], f["description"]) for f in fields]
        click.echo("\nconfig\n" + aligned(("name", "type", "default", "what it does"), rows))
    else:
        click.echo("\nconfig         none" if item.spec.config is None else "")


@click.command("fetch")
@click.argument("name")
@click.option(
    "--from", "source", type=click.Path(path_type=Path), help="Copy from this folder, use no network."
)
@click.option(
    "--to", type=click.Path(path_type=Path), help="Folder to put them in [default: data/<dataset>/raw]."
)
@click.option("--only", multiple=True, metavar="GLOB", help="Only files whose path matches; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Show licence and size, fetch nothing.")
@click.option("--json", "as_json", is_flag=True, help="The record of what was fetched on stdout.")
def fetch_model(
    name: str, source: Path | None, to: Path | None, only: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """Fetch the published weights of the model NAME, as its manifest lists them.

    NAME is a registered model that names a manifest, or a manifest of weights itself (geneformer).
    """
    from hyped_core.cli.data_fetch import run_fetch
    from hyped_core.plugins.registry import datasets

    try:
        spec = find_model(name).spec
    except UnknownNameError:
        if name not in datasets().names():
            raise
        dataset = name
    else:
        dataset = spec.weights
        if not dataset:
            raise UsageError(
                "has no published weights: it needs none, or is trained here",
                where=spec.key,
                mend="hyped models info shows what a model needs",
            )
    run_fetch(dataset, source=source, to=to, only=only, handle=None, dry_run=dry_run, as_json=as_json)
