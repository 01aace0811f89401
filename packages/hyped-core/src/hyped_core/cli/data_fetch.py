"""``hyped data fetch`` and ``hyped data use``: get a dataset by its manifest, and add it to the pipeline."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hyped_core.cli.tables import about_text, size_text

if TYPE_CHECKING:
    from hyped_core.data.manifest import Manifest, ManifestFile


@click.command("fetch")
@click.argument("name")
@click.option(
    "--from", "source", type=click.Path(path_type=Path), help="Copy from this folder, use no network."
)
@click.option("--to", type=click.Path(path_type=Path), help="Folder to put it in [default: data/NAME/raw].")
@click.option(
    "--handle", metavar="OWNER/NAME[/versions/N]", help="Kaggle handle of a release that lists no files."
)
@click.option("--only", multiple=True, metavar="GLOB", help="Only files whose path matches; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Show licence and size, fetch nothing.")
@click.option("--json", "as_json", is_flag=True, help="The record of what was fetched on stdout.")
def fetch_data(
    name: str,
    source: Path | None,
    to: Path | None,
    handle: str | None,
    only: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fetch the dataset NAME by its manifest and verify every file's size and sha256.

    The manifest is data/NAME/manifest.yaml where the working folder has one, else the package's.

    Files that are already right are left alone, so an interrupted fetch goes on where it stopped.
    """
    run_fetch(name, source=source, to=to, only=only, handle=handle, dry_run=dry_run, as_json=as_json)


def run_fetch(
    name: str,
    *,
    source: Path | None,
    to: Path | None,
    only: tuple[str, ...],
    handle: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """What the fetch commands do: say licence and size, fetch, say what came."""
    from hyped_core.context import default_progress
    from hyped_core.data.fetch import chosen_files, fetch
    from hyped_core.data.manifest import find_manifest

    manifest, used = find_manifest(name)
    bare = name.rpartition(":")[2]
    to = to or Path("data") / bare / "raw"
    _introduce(manifest, used, only)
    if dry_run:
        files = [] if manifest.made_by else chosen_files(manifest, only)
        for file in files:
            click.echo(f"would fetch {file.path} ({_size(file)})", err=True)
        if files:
            click.echo(f"would fetch {_count(len(files))}: {_total(files)}", err=True)
        if as_json:
            record = {
                "dataset": name,
                "manifest": used,
                "to": str(to),
                "licences": manifest.licences(),
                "bytes": sum(file.bytes or 0 for file in files),
                "approx_bytes": sum(file.approx_bytes or 0 for file in files if file.bytes is None),
                "files": [file.path for file in files],
            }
            click.echo(json.dumps(record, indent=2, sort_keys=True))
        return
    done = fetch(manifest, to, source=source, handle=handle, only=only, progress=default_progress())
    for path, record in done.recorded.items():
        if path in done.fetched:
            click.echo(f"recorded {path}: {record['bytes']} bytes, sha256 {record['sha256']}", err=True)
    click.echo(f"{to}: {len(done.fetched)} fetched, {len(done.already)} already right", err=True)
    if as_json:
        record = {
            "dataset": name,
            "manifest": used,
            "to": str(to),
            "fetched": done.fetched,
            "already": done.already,
        }
        click.echo(json.dumps(record, indent=2, sort_keys=True))


def _size(file: ManifestFile) -> str:
    """``417.6 MB``, ``about 170 MB`` or ``size unknown``."""
    if file.bytes is None and file.approx_bytes is not None:
        return about_text(file.approx_bytes)
    return size_text(file.bytes)


def _count(number: int) -> str:
    return f"{number} file{'' if number == 1 else 's'}"


def _total(files: list[ManifestFile]) -> str:
    """``417.6 MB and about 12 MB and 2 of unknown size``; parts that are not there are left out."""
    known = [file.bytes for file in files if file.bytes is not None]
    about = [file.approx_bytes for file in files if file.bytes is None and file.approx_bytes is not None]
    unknown = len(files) - len(known) - len(about)
    parts = [size_text(sum(known))] if known else []
    parts += [about_text(sum(about))] if about else []
    parts += [f"{unknown} of unknown size"] if unknown and parts else []
    return " and ".join(parts) or size_text(None)


def _introduce(manifest: Manifest, used: str, only: tuple[str, ...]) -> None:
    from hyped_core.data.fetch import chosen_files

    click.echo(f"{manifest.name}: {manifest.title}", err=True)
    click.echo(f"  manifest {used}", err=True)
    if manifest.homepage:
        click.echo(f"  from     {manifest.homepage}", err=True)
    for licence, count in manifest.licences().items():
        click.echo(f"  licence  {licence}" + (f" ({_count(count)})" if count else ""), err=True)
    if manifest.citation:
        click.echo(f"  cite     {' '.join(manifest.citation.split())}", err=True)
    files = chosen_files(manifest, only)
    if files:
        open_hashes = sum(file.sha256 is None for file in files)
        click.echo(f"  size     {_count(len(files))}, {_total(files)}", err=True)
        if open_hashes:
            click.echo(
                f"  note     the sha256 of {open_hashes} of them is not known beforehand: "
                "it is recorded at the first fetch and held to afterwards",
                err=True,
            )
    elif manifest.release is not None:
        click.echo("  note     its files are not listed: what comes is recorded with its sha256", err=True)


@click.command("use")
@click.argument("name")
@click.option(
    "--params",
    type=click.Path(path_type=Path),
    default=Path("params.yaml"),
    show_default=True,
    help="The pipeline's parameter file.",
)
@click.option("--remove", is_flag=True, help="Take the dataset out again.")
def use_data(name: str, params: Path, remove: bool) -> None:
    """Add the dataset NAME to the pipeline: merge data/NAME/pipeline.yaml into params.yaml.

    Comments and order of the file are kept; a dataset that is already there changes nothing.
    """
    from hyped_core.data.use import remove_dataset, use_dataset

    outcome = remove_dataset(name, params) if remove else use_dataset(name, params)
    for group, key in outcome.kept:
        click.echo(
            f"kept {group}.{key} as it is in {params}, though data/{name}/pipeline.yaml differs "
            f"(hyped data use {name} --remove, then use it again, to take that one)",
            err=True,
        )
    for group, count in Counter(group for group, _ in outcome.changed).items():
        click.echo(f"{'removed' if remove else 'added'} {count} of {group}", err=True)
    if not outcome.changed:
        click.echo(
            f"{params}: nothing to {'remove' if remove else 'add'}, {name} is as it should be", err=True
        )
