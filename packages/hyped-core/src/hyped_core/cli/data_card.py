"""``hyped data card``: a dataset's card and its Croissant metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hyped_core.data.manifest import Manifest


@click.command("card")
@click.argument("name", metavar="NAME_OR_PATH")
@click.option(
    "--container",
    "containers",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Count what this container holds; may be repeated.",
)
@click.option(
    "--manifest",
    "manifest_file",
    type=click.Path(path_type=Path),
    help="Manifest that answers the questions, for a container of your own.",
)
@click.option(
    "--fetched",
    type=click.Path(path_type=Path),
    help="Folder of a fetch: take sizes and sha256 from its receipt where the manifest has none.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write card.md, croissant.json and tables here.")
@click.option("--json", "as_json", is_flag=True, help="What was counted and what is not known, as JSON.")
def card_command(
    name: str,
    containers: tuple[Path, ...],
    manifest_file: Path | None,
    fetched: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make the card of a dataset: a datasheet and Croissant metadata.

    NAME_OR_PATH is a registered dataset, the path of a manifest (.yaml), or a container. Without --out the card
    goes to stdout.

    What only people know comes from `datasheet` in the manifest; what is not answered there is said to be unknown.
    Without --container nothing is counted but the manifest's files, so that the card is the same on every machine.
    """
    from hyped_core.data.card import make_card

    manifest, counted = _subject(name, manifest_file)
    card = make_card(manifest, (*counted, *containers), fetched=fetched)
    written = card.write(out) if out is not None else []
    if as_json:
        said = {"dataset": manifest.name, "facts": card.facts, "unknown": card.unknown, "written": []}
        said["written"] = [path.as_posix() for path in written]
        click.echo(json.dumps(said, indent=2, sort_keys=True))
    elif out is None:
        click.echo(card.markdown, nl=False)
    else:
        unknown = f"; not known: {', '.join(card.unknown)}" if card.unknown else ""
        click.echo(f"{manifest.name}: {', '.join(path.as_posix() for path in written)}{unknown}", err=True)


def _subject(name: str, manifest_file: Path | None) -> tuple[Manifest, list[Path]]:
    """The manifest to tell of, and the container where the argument is one."""
    from hyped_core.data.card import manifest_of_container
    from hyped_core.data.manifest import find_manifest, read_manifest_file
    from hyped_core.errors import UsageError

    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if manifest_file is not None:
            raise UsageError("a manifest was given twice", where="--manifest", mend="leave one of them out")
        return read_manifest_file(path), []
    if path.suffix == ".hyped" or len(path.parts) > 1 or (path / "manifest.json").is_file():
        found = read_manifest_file(manifest_file) if manifest_file is not None else manifest_of_container(path)
        return found, [path]
    if manifest_file is not None:
        raise UsageError("a registered dataset has its manifest", where="--manifest", mend="give the manifest's path")
    return find_manifest(name)[0], []
