"""`hyped seq import-cells`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("import-cells")
@click.argument("h5ad", type=click.Path(path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option(
    "--design", "design_file", type=click.Path(path_type=Path), help="Design YAML (default: HYPED's own)."
)
@click.option(
    "--params", "params_ref", metavar="FILE#SECTION", help="Parameters: column names, filter, direction."
)
@click.option("--dry-run", is_flag=True, help="Print an estimate of disk and time as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def import_cells(
    h5ad: Path,
    out_dir: Path,
    design_file: Path | None,
    params_ref: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring a finished H5AD into OUT_DIR/rna.h5ad with the columns later steps expect.

    For the paper's release (assigned_condition), and for perturb-seq files as GEARS (condition: A+ctrl),
    scPerturb or PerturBench (perturbation) write them. Raw counts are taken from layers["counts"], raw.X or
    X; where there are none, X is checked and taken as log-normalised, and the file says so. A .csv of hashtag
    counts (or a MEX folder of them) becomes OUT_DIR/hto.h5ad instead. What `hyped seq release` wrote goes back to
    the {rna,isoform,hto}.h5ad it was made of, with the design it carries. Example parameters:

    \b
      filter: {dataset: norman19}
      without_perturbation: leave_out
    """
    import json

    from hyped_core.design import read_design
    from hyped_core.params import load_params
    from hyped_seq.ingest.import_cells import check_folder, estimate_import, write_imported
    from hyped_seq.ingest.import_cells import import_cells as run
    from hyped_seq.ingest.params import ImportCellsParams

    params = load_params(params_ref, ImportCellsParams)
    design = read_design(design_file)
    if dry_run:
        click.echo(json.dumps(estimate_import(h5ad, design, params), sort_keys=True))
        return
    check_folder(out_dir, h5ad)
    result = run(h5ad, design, params)
    write_imported(result, out_dir)
    if as_json:
        click.echo(json.dumps(result.record, sort_keys=True))
    record = result.record
    kind = next(key for key in ("perturbations", "tags", "conditions") if key in record)
    groups = f"{len(record[kind])} {kind}"
    click.echo(f"{record['cells']} cells, {groups}; counts: {record['counts']}", err=True)
    if record.get("direction_from", "").startswith("none"):
        click.echo(f"directions: {record['direction_from']} (parameter `direction`)", err=True)
