"""``hyped imaging stitch``: tiles of a CZI to a movie."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hyped_imaging.cli_options import reader_option
from hyped_imaging.parallel import Workers, worker_options


@click.command("stitch", short_help="Tiles of a CZI's scene into one movie.")
@click.argument("czi", type=click.Path(path_type=Path))
@click.argument("out_movie", type=click.Path(path_type=Path))
@click.option("--scene", default="0", show_default=True, help="Name of the scene, S<index> or index.")
@click.option(
    "--qc", type=click.Path(path_type=Path), help="Write the record of seams and positions here (JSON)."
)
@click.option("--params", "reference", help="FILE.yaml#section with the parameters of stitching.")
@click.option(
    "--design", type=click.Path(path_type=Path), help="The experiment's design (YAML); HYPED's own if absent."
)
@reader_option
@worker_options
@click.option("--dry-run", is_flag=True, help="Print what it would make and cost as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def stitch(
    czi: Path,
    out_movie: Path,
    scene: str,
    qc: Path | None,
    reference: str | None,
    design: Path | None,
    reader: str,
    workers: Workers,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Stitch one scene of the file CZI into the movie OUT_MOVIE (OME-NGFF, axes t, c, y, x).

    Tile positions come from the stage, refined by correlation of the overlaps; uneven illumination is
    corrected; every frame keeps its time of acquisition in hours since release. The same command goes on
    where a run was ended. Frames that cannot be read are recorded and left out.

    \b
    Example: hyped imaging stitch experiment.czi S0.zarr --scene S0 --qc S0.json --params params.yaml#stitch
    """
    from hyped_core.context import default_progress
    from hyped_core.design import read_design
    from hyped_core.params import load_params
    from hyped_imaging.readers.czi import open_czi
    from hyped_imaging.stitch import StitchParams, plan_scene, stitch_scene

    settings = load_params(reference, StitchParams)
    experiment = read_design(design)
    with open_czi(czi, reader=reader, select=settings.select) as file:
        plan = plan_scene(file, scene, settings, experiment, strict=design is not None)
        if dry_run:
            click.echo(
                json.dumps({"out": str(out_movie), "reader": file.reader, **plan.estimate(workers.processes)}, indent=2)
            )
            return
        record = stitch_scene(
            file, plan, out_movie, settings, workers=workers, qc=qc, progress=default_progress()
        )
    if as_json:
        click.echo(json.dumps(record, indent=2, sort_keys=True))
    else:
        click.echo(
            f"{record['scene']}: {record['n_frames']} frames of {record['n_tiles']} tiles, seam error "
            f"{record['seam_error_before']:.4f} -> {record['seam_error']:.4f}, "
            f"residual {record['residual_px']:.2f} px, drift {record['drift']['max_px']:.1f} px"
            + (f", {len(record['missing_frames'])} frames lost" if record["missing_frames"] else ""),
            err=True,
        )
