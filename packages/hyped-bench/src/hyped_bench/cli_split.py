"""``hyped bench split``: save the splits of a parameter file with hashes, or check saved ones against the cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hyped_bench.splits import SavedSplit


@click.command("split")
@click.argument("reference", metavar="REF")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--source", "names", multiple=True, help="Only this source; may be repeated.")
@click.option("--check", is_flag=True, help="Write nothing: check FOLDER's files against the cells (exit code 3).")
@click.option("--json", "as_json", is_flag=True, help="Sizes and hashes of the splits as JSON on stdout.")
@click.option("--dry-run", is_flag=True, help="Make the splits and say what they are, write nothing.")
def split_command(
    reference: str, folder: Path, names: tuple[str, ...], check: bool, as_json: bool, dry_run: bool
) -> None:
    """Write FOLDER/<source>.json for each source of REF, a FILE.yaml#SECTION of the task expression.

    A saved split names its folds and has the sha256 of the cells of each part. `split: {kind: saved, file: FILE}`
    of a source uses it, and refuses cells other than those it was made on. Sources of the protocol
    relabelled_control hold nothing out and have no split.
    """
    from hyped_bench.splits import load_split, make_split, save_split, verify_split
    from hyped_bench.splits.source import source_cells

    found: dict[str, SavedSplit] = {}
    for source in _sources(reference, names):
        cells = source_cells(source)
        path = folder / f"{source.name}.json"
        if check:
            found[source.name] = verify_split(load_split(path), cells)
            continue
        found[source.name] = make_split(cells, source.held_out, file=source.cells)
        if not dry_run:
            save_split(path, found[source.name])
    said = {name: _said(split) for name, split in found.items()}
    if as_json:
        click.echo(json.dumps(said, indent=2, sort_keys=True))
        return
    done = "checked" if check else "would write" if dry_run else "wrote"
    for name, facts in said.items():
        click.echo(
            f"{done} {(folder / f'{name}.json').as_posix()}: {facts['kind']}, {facts['folds']} folds, "
            f"{facts['perturbations']} perturbations scored, sha256 {facts['sha256'][:12]}",
            err=True,
        )


def _sources(reference: str, names: tuple[str, ...]) -> list[Any]:
    from hyped_bench.tasks.expression.params import RELABELLED, ExpressionSource
    from hyped_core.errors import ParamsError
    from hyped_core.params import build, read_section
    from hyped_core.plugins.registry import tasks

    last = reference.partition("#")[2].rpartition(".")[2]
    if last != "expression" and last in tasks().names():
        raise ParamsError(
            f"is a section of the task {last}: only expression has splits to save",
            where=reference,
            mend="give the section of the task expression; what other tasks held out is in their records",
        )
    listed = read_section(reference).get("sources")
    if not isinstance(listed, list) or not listed:
        raise ParamsError("lists no sources", where=reference, mend="give the section of the task expression")
    sources = [build(ExpressionSource, values, where=reference) for values in listed]
    there = [source.name for source in sources if source.protocol != RELABELLED]
    if missing := sorted(set(names) - set(there)):
        raise ParamsError(
            f"has no source {missing[0]!r} that is split", where=reference, mend=f"sources: {', '.join(there)}"
        )
    return [source for source in sources if source.name in (names or there)]


def _said(split: SavedSplit) -> dict[str, Any]:
    return {
        "kind": split.kind,
        "seed": split.seed,
        "folds": len(split.folds),
        "perturbations": len({name for fold in split.folds for name in fold.test}),
        "n_cells": split.source["n_cells"],
        "sha256": split.sha256,
    }
