"""``hyped imaging phases``: cell-cycle phases along tracks."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("tracks", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--params", default=None, metavar="FILE#SECTION", help="Section of a YAML file.")
@click.option(
    "--design", type=click.Path(path_type=Path), default=None, help="Design YAML; HYPED's own by default."
)
@click.option(
    "--fractions",
    type=click.Path(path_type=Path),
    default=None,
    help="CSV of the shares of phases over time, with confidence intervals.",
)
@click.option(
    "--durations",
    "durations_file",
    type=click.Path(path_type=Path),
    default=None,
    help="CSV of how long phases and cycles last.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def phases(
    tracks: Path,
    out: Path,
    params: str | None,
    design: Path | None,
    fractions: Path | None,
    durations_file: Path | None,
    as_json: bool,
) -> None:
    """Call the phase (G1, G1S, S_G2M, dark, M) of every nucleus in TRACKS from its FUCCI reporters.

    TRACKS is a table, or a folder of Parquet tables (a scene each). OUT is the same table with ``phase``,
    ``phase_per_frame`` (True: the track was too short to smooth), ``g1_level``, ``sg2m_level``,
    ``cycle_position`` (0: just born, 1: divides) and ``cycle_position_by`` (what it rests on). Which channel
    reports what is the design's to say.

    Shares and durations are by condition and replicate, and over all replicates of a condition: give the
    scenes of an experiment together for these.
    """
    import json

    import pandas as pd

    from hyped_core.design import read_design
    from hyped_core.errors import InvalidDataError, MissingFileError
    from hyped_core.params import load_params
    from hyped_imaging.phases.durations import durations
    from hyped_imaging.phases.fractions import phase_fractions
    from hyped_imaging.phases.params import PhaseParams
    from hyped_imaging.phases.states import call_phases
    from hyped_imaging.track.step import read_table, write_table

    settings = load_params(params, PhaseParams)
    plan = read_design(design)
    files = sorted(tracks.glob("*.parquet")) if tracks.is_dir() else [tracks]
    if not files:
        raise MissingFileError(
            "the folder holds no .parquet", where=tracks, mend="give the one that the tracks were written to"
        )
    table = pd.concat([read_table(file) for file in files], ignore_index=True)
    scenes = [group for _, group in table.groupby("scene", sort=True)] if "scene" in table.columns else []
    called = pd.concat([call_phases(group, plan, settings) for group in scenes or [table]], ignore_index=True)
    lacking = [name for name in ("condition", "replicate") if name not in called.columns]
    if lacking and (fractions or durations_file):
        raise InvalidDataError(
            f"the table of tracks lacks {', '.join(lacking)}",
            where=tracks,
            mend="leave out --fractions and --durations, or name the scenes in the design and segment again",
        )
    write_table(called, out)
    if fractions is not None:
        write_table(phase_fractions(called, settings), fractions)
    if durations_file is not None:
        write_table(durations(called, settings), durations_file)
    counts = {name: int(n) for name, n in sorted(called["phase"].value_counts().items())}
    if as_json:
        click.echo(json.dumps({"nuclei": len(called), "phases": counts}))
    if plan.reporter("G1") is None and plan.reporter("S_G2M") is None:
        click.echo("the design names no reporter: phases are left empty", err=True)
    else:
        click.echo(
            f"{len(called)} nuclei: {', '.join(f'{k} {v}' for k, v in counts.items())} "
            f"(G1 by {plan.reporter('G1')}, S_G2M by {plan.reporter('S_G2M')})",
            err=True,
        )
