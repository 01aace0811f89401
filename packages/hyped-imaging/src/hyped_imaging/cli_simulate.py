"""``hyped imaging simulate``: make the simulated movies and their truth."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("simulate")
@click.argument("out_raw", type=click.Path(path_type=Path))
@click.argument("out_truth", type=click.Path(path_type=Path))
@click.option("--params", "params_ref", metavar="FILE#SECTION", help="Parameters of the simulator.")
@click.option("--design", "design_file", metavar="FILE", help="The design; HYPED's own if not given.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same bytes.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes (wins over the parameter file).")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@click.option("--dry-run", is_flag=True, help="Print an estimate of disk and time and write nothing.")
def simulate_command(
    out_raw: Path,
    out_truth: Path,
    params_ref: str | None,
    design_file: str | None,
    seed: int,
    workers: int | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Simulate the imaging experiment: OUT_RAW/<name>.czi, and its truth in OUT_TRUTH.

    Nuclei move, touch, divide and die in every scene of the design; a microscope with uneven light, a stage
    that jitters and a noisy camera takes a mosaic time series of them. OUT_TRUTH gets tiles.csv,
    illumination.npy, frames/, labels/, tracks.parquet and fractions.csv, and is replaced as a whole.
    """
    from hyped_core.context import RunContext, default_progress
    from hyped_core.design import read_design
    from hyped_core.params import load_params
    from hyped_imaging.simulate.params import SimulateParams
    from hyped_imaging.simulate.run import plan, simulate

    design = read_design(design_file)
    params = load_params(params_ref, SimulateParams, workers=workers)
    if dry_run:
        record: dict[str, object] = dict(plan(design, params, seed).estimate())
    else:
        context = RunContext(seed=seed, progress=default_progress())
        record = dict(simulate(out_raw, out_truth, design, params, context))
    if as_json:
        click.echo(json.dumps(record, sort_keys=True))
    else:
        for key, value in record.items():
            click.echo(f"{key}: {value}")
