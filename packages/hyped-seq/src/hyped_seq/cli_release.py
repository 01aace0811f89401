"""`hyped seq release`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("release")
@click.argument("cells_dir", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.h5ad")
@click.option(
    "--design", "design_file", type=click.Path(path_type=Path), help="Design YAML (default: the one in the cells)."
)
@click.option("--without-isoforms", is_flag=True, help="Leave the counts of transcripts out: a smaller file.")
@click.option("--dry-run", is_flag=True, help="Print an estimate of disk and time as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what the file holds as JSON.")
def release(
    cells_dir: Path, out: Path, design_file: Path | None, without_isoforms: bool, dry_run: bool, as_json: bool
) -> None:
    """Put the annotated cells of CELLS_DIR into one OUT.h5ad that is read without HYPED.

    CELLS_DIR holds what `hyped seq annotate` or `hyped seq import-cells` wrote. X is ln(1 + counts per 10,000),
    layers["counts"] the raw counts, obsm["hashtag_counts"] and obsm["isoform_counts"] the other modalities;
    uns["hyped"]["columns"] says what every column means. `hyped data validate OUT.h5ad` checks the file,
    `hyped data info` describes it, `hyped seq import-cells OUT.h5ad CELLS_DIR` goes back.
    """
    import json

    from hyped_core.container.cells_summary import describe_cells
    from hyped_seq.release.build import build_release
    from hyped_seq.release.cells import design_of, estimate_release, read_cells
    from hyped_seq.release.write import check_name, write_release

    check_name(out)
    left_out = ("isoform",) if without_isoforms and (cells_dir / "isoform.h5ad").is_file() else ()
    if dry_run:
        click.echo(json.dumps(estimate_release(cells_dir, left_out) | {"outputs": [out.name]}, sort_keys=True))
        return
    cells = read_cells(cells_dir, left_out)
    write_release(build_release(cells, design_of(cells, cells_dir, design_file), left_out=left_out), out)
    found = describe_cells(out)
    if as_json:
        click.echo(json.dumps(found, sort_keys=True))
    features = ", ".join(f"{n} {kind}" for kind, n in found["features"].items())
    click.echo(f"{out}: {found['cells']} cells, {features}, {found['n_bytes'] / 1e6:.1f} MB", err=True)
