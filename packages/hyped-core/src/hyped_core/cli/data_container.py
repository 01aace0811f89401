"""``hyped data assemble``, ``info`` and ``validate``: containers, movies and labels on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


@click.command("assemble")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the dataset [default: the folder's].")
@click.option(
    "--design", "design_file", type=click.Path(path_type=Path), help="Design YAML [default: HYPED's own]."
)
@click.option(
    "--movies", type=click.Path(path_type=Path), help="Folder of <scene>.zarr [default: OUT/movies]."
)
@click.option(
    "--labels", type=click.Path(path_type=Path), help="Folder of <scene>.zarr [default: OUT/labels]."
)
@click.option("--phases", type=click.Path(path_type=Path), help="Folder of nuclei tables, <scene>.parquet.")
@click.option("--cells", type=click.Path(path_type=Path), help="Folder of rna.h5ad, isoform.h5ad, hto.h5ad.")
@click.option(
    "--summary",
    "summary_file",
    type=click.Path(path_type=Path),
    help="Write the container's summary and its manifest's sha256 here (JSON): changes with any part.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the container's summary as JSON.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be assembled and how large it is; write nothing."
)
def assemble_command(
    out: Path,
    name: str | None,
    design_file: Path | None,
    movies: Path | None,
    labels: Path | None,
    phases: Path | None,
    cells: Path | None,
    summary_file: Path | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Make OUT.hyped a container: tables and key frames, then the manifest that commits it.

    Movies and labels that lie in OUT already stay where they are. Any subset of parts is a valid container.
    """
    from hyped_core.design import read_design
    from hyped_core.errors import MissingFileError

    nuclei: list[Path] = []
    if phases is not None:
        nuclei = sorted(phases.glob("*.parquet")) if phases.is_dir() else []
        if not nuclei:
            raise MissingFileError(
                "holds no <scene>.parquet",
                where=phases,
                mend="run `hyped imaging phases`, or give the right folder",
            )
    design = read_design(design_file)
    if dry_run:
        _estimate(out, movies or out / "movies", labels or out / "labels", nuclei, cells)
        return
    from hyped_core.container import assemble

    hd = assemble(out, design=design, name=name, movies=movies, labels=labels, nuclei=nuclei, cells=cells)
    if summary_file is not None:
        from hyped_core.io.atomic import write_json
        from hyped_core.io.hashing import sha256_file

        write_json(summary_file, {**hd.summary(), "manifest_sha256": sha256_file(out / "manifest.json")})
    if as_json:
        _print_json(hd.summary())
    else:
        click.echo(
            f"{out}: {len(hd.movies)} movies, {len(hd.labels)} labels, tables {_listed(hd.table_names)}",
            err=True,
        )


@click.command("info")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def info_command(path: Path, as_json: bool) -> None:
    """Describe a container, a movie or labels folder (.zarr), or a release of cells (.h5ad)."""
    from hyped_core.container.cells_summary import describe_cells, summary_lines
    from hyped_core.container.summary import describe_path

    found = describe_cells(path) if _is_cells_file(path) else describe_path(path)
    if as_json:
        _print_json(found)
    elif found["kind"] == "cells":
        click.echo("\n".join(summary_lines(found)))
    elif found["kind"] == "container":
        _print_container(found)
    else:
        _print_frames(found)


@click.command("validate")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Skip the hashes of the parts (of a release: the values of its matrices).")
@click.option("--deep", is_flag=True, help="Compare the labels of every frame with the nuclei table.")
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
@click.pass_context
def validate_command(context: click.Context, path: Path, quick: bool, deep: bool, as_json: bool) -> None:
    """Check a container or a release of cells (.h5ad): every problem with its place and its mend.

    Exit code 3 where there are any.
    """
    from dataclasses import asdict

    from hyped_core.container.validate import validate_container
    from hyped_core.errors import HypedError, Problem, ValidationError

    said: dict[str, Any] = {"valid": True, "problems": []}
    warnings: tuple[Problem, ...] = ()
    try:
        if _is_cells_file(path):
            from hyped_core.container.cells_validate import validate_cells

            cells = validate_cells(path, quick=quick)
            warnings = cells.warnings
            said.update(cells=cells.cells, genes=cells.genes, warnings=[asdict(item) for item in warnings])
            checked = f"{cells.cells} cells{', values of matrices not read' if quick else ''}"
        else:
            manifest = validate_container(path, quick=quick, deep=deep)
            said.update(name=manifest.name, parts=len(manifest.parts))
            checked = f"{len(manifest.parts)} parts{', hashes not checked' if quick else ''}"
    except HypedError as error:
        if not as_json:
            raise
        whole = [Problem(error.where or str(path), error.message, error.mend or "")]
        problems = list(error.problems) if isinstance(error, ValidationError) else whole
        _print_json({"valid": False, "problems": [asdict(problem) for problem in problems]})
        context.exit(error.exit_code)
    if as_json:
        _print_json(said)
        return
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{path}: valid ({checked})", err=True)


def _is_cells_file(path: Path) -> bool:
    """A file, or the name of one: containers, movies and labels are folders."""
    return path.is_file() or (path.suffix == ".h5ad" and not path.is_dir())


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, sort_keys=True))


def _listed(names: Any) -> str:
    return ", ".join(names) or "none"


def _print_container(found: dict[str, Any]) -> None:
    size = found["n_bytes"]
    click.echo(f"{found['name']}  schema {found['schema_version']}  {_megabytes(size or 0)}")
    click.echo(f"design   {found['design']['name']}: {_listed(found['design']['conditions'])}")
    for pair in found["design"]["confounded"]:
        click.echo(f"  beware {pair[0]} and {pair[1]} cannot be told apart")
    for scene, entry in found["scenes"].items():
        parts = [part for part in ("movie", "labels") if part in entry]
        first = entry[parts[0]]
        where = f"{entry['condition'] or 'condition unknown'}, replicate {entry['replicate'] or '?'}"
        hours = "{:g}-{:g} h".format(*first["time_h"]) if "time_h" in first else "times unknown"
        shape = " x ".join(map(str, first["shape"]))
        click.echo(f"scene    {scene}: {where}, {' + '.join(parts)}, {shape}, {hours}")
    for name, table in found["tables"].items():
        layers = f", layers {_listed(table['layers'])}" if table["layers"] else ""
        click.echo(f"table    {name}: {table['n_obs']} x {table['n_vars']}{layers}")
    for link in found["links"]:
        click.echo(f"link     {link['by']}: {link['how']}")
    click.echo(f"absent   {_listed(found['absent'])}")


def _print_frames(found: dict[str, Any]) -> None:
    for key, value in found.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        click.echo(f"{key:<16} {shown}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _estimate(out: Path, movies: Path, labels: Path, nuclei: list[Path], cells: Path | None) -> None:
    copied = sum(_size(f) for f in (movies, labels) if f.is_dir() and f.parent.absolute() != out.absolute())
    held = sum(_size(f) for f in (movies, labels) if f.is_dir())
    tables = sum(path.stat().st_size for path in nuclei) + (_size(cells) if cells else 0)
    writes = copied + 4 * tables
    click.echo(
        f"{out}: {_megabytes(held)} of movies and labels ({_megabytes(copied)} to copy), "
        f"{_megabytes(tables)} of tables",
        err=True,
    )
    click.echo(f"would write about {_megabytes(writes)} in about {3 + (held + writes) / 3e8:.0f} s", err=True)


def _size(folder: Path) -> int:
    from hyped_core.io.hashing import files_below

    return sum(path.stat().st_size for path in files_below(folder))
