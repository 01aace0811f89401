"""``hyped imaging track``: nuclei linked over time."""

from __future__ import annotations

from pathlib import Path

import click

DEFAULT_MODEL = "lap"


@click.command()
@click.argument("nuclei", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", default=None, help=f"Tracker; {DEFAULT_MODEL} by default.")
@click.option(
    "--params", default=None, metavar="FILE#SECTION", help="Section {model, config} of a YAML file."
)
@click.option(
    "--design", type=click.Path(path_type=Path), default=None, help="Design YAML; HYPED's own by default."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of models that draw random numbers."
)
@click.option("--dry-run", is_flag=True, help="Check the input, estimate time and disk, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def track(
    nuclei: Path,
    out: Path,
    model: str | None,
    params: str | None,
    design: Path | None,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Link the NUCLEI of `hyped imaging segment` (parquet or CSV) over time and find divisions.

    OUT is the same table with ``track_id`` (0: in no track, ``unassigned_reason`` says why) and
    ``parent_id`` (0: none). Positions count in micrometres and times in hours, gaps included.
    """
    import json

    from hyped_core.context import RunContext, default_progress
    from hyped_core.design import read_design
    from hyped_core.plugins.streams import stdout_to_stderr
    from hyped_imaging.modelstep import make_model, read_step
    from hyped_imaging.track.objects import check_objects
    from hyped_imaging.track.step import read_table, summary, track_table, write_table

    step = read_step(params, model, DEFAULT_MODEL)
    plan = read_design(design)
    table = read_table(nuclei)
    with stdout_to_stderr():
        tracker, spec, _ = make_model("track", step, plan)
    if dry_run:
        for _, objects in table.groupby("scene") if "scene" in table.columns else [("", table)]:
            check_objects(objects)
        record = {
            "objects": len(table),
            "seconds": round(2e-5 * len(table), 1),
            "megabytes": round(1e-4 * len(table), 1),
        }
        click.echo(
            json.dumps(record)
            if as_json
            else f"{len(table)} objects: about {record['seconds']} s with lap and {record['megabytes']} MB"
        )
        return
    with stdout_to_stderr():
        tracked = track_table(table, tracker, context=RunContext(seed=seed, progress=default_progress()))
    write_table(tracked, out)
    record = {"model": spec.name, **summary(tracked)}
    if as_json:
        click.echo(json.dumps(record))
    click.echo(
        f"{record['objects']} nuclei in {record['tracks']} tracks, {record['divisions']} divisions, "
        f"{record['unassigned']} unassigned by {spec.name}",
        err=True,
    )
