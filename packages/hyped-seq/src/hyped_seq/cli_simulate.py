"""`hyped seq simulate`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("simulate")
@click.argument("out_raw", type=click.Path(path_type=Path))
@click.argument("out_truth", type=click.Path(path_type=Path))
@click.option(
    "--screen", type=click.Path(path_type=Path), help="Write a perturb-seq screen to this h5ad too."
)
@click.option(
    "--screen-truth", type=click.Path(path_type=Path), help="Write the screen's truth to this h5ad."
)
@click.option(
    "--params", "params_ref", metavar="FILE#SECTION", help="Parameters (scale, difficulty, n_cells, ...)."
)
@click.option(
    "--design", "design_file", type=click.Path(path_type=Path), help="Design YAML (default: HYPED's own)."
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option("--dry-run", is_flag=True, help="Print an estimate of disk, time and memory; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def simulate(
    out_raw: Path,
    out_truth: Path,
    screen: Path | None,
    screen_truth: Path | None,
    params_ref: str | None,
    design_file: Path | None,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Simulate the design's sequencing pools into OUT_RAW and what is true of them into OUT_TRUTH.

    OUT_RAW/<pool>/ is laid out as EPI2ME wf-single-cell v3.1.0 does, with hashtags/counts.csv and
    hashtags/reads.fastq.gz inside; OUT_RAW/reference.gtf.gz names genes and transcripts. OUT_TRUTH gets
    cells.parquet, genes.parquet, transcripts.parquet, fractions.csv and simulation.json. Both folders
    are replaced.
    """
    import json

    from hyped_core.context import default_progress
    from hyped_core.design import read_design
    from hyped_core.errors import UsageError
    from hyped_core.params import load_params
    from hyped_seq.simulate.params import SeqSimulationParams

    if seed < 0:
        raise UsageError("a seed is 0 or larger", where=f"--seed {seed}", mend="give another seed")
    design = read_design(design_file)
    params = load_params(params_ref, SeqSimulationParams)
    from hyped_seq.simulate.run import estimate, simulate_sequencing

    if dry_run:
        record = estimate(design, params, screen is not None or screen_truth is not None)
        click.echo(
            json.dumps(record, sort_keys=True)
            if as_json
            else "\n".join(f"{k}: {v}" for k, v in record.items())
        )
        return
    record = simulate_sequencing(
        out_raw,
        out_truth,
        params,
        design,
        seed,
        screen=screen,
        screen_truth=screen_truth,
        progress=default_progress(),
    )
    if as_json:
        click.echo(json.dumps(record, sort_keys=True))
    pools = ", ".join(f"{name} {pool['barcodes']}" for name, pool in record["pools"].items())
    click.echo(f"barcodes: {pools}; wrote {out_raw} and {out_truth}", err=True)
