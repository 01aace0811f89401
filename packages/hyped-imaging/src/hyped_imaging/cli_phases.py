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
    help="CSV of the shares of phases over time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def phases(
    tracks: Path, out: Path, params: str | None, design: Path | None, fractions: Path | None, as_json: bool
) -> None:
    """Call the phase (G1, G1S, S_G2M, dark, M) of every nucleus in TRACKS from its FUCCI reporters.

    OUT is the same table with ``phase``, ``phase_per_frame`` (True: the track was too short to smooth),
    ``g1_level`` and ``sg2m_level``. Which channel reports what is the design's to say.
    """
    import json

    import pandas as pd

    from hyped_core.design import read_design
    from hyped_core.params import load_params
    from hyped_imaging.phases.fractions import phase_fractions
    from hyped_imaging.phases.params import PhaseParams
    from hyped_imaging.phases.states import call_phases
    from hyped_imaging.track.step import read_table, write_table

    settings = load_params(params, PhaseParams)
    plan = read_design(design)
    table = read_table(tracks)
    scenes = [group for _, group in table.groupby("scene", sort=True)] if "scene" in table.columns else []
    called = pd.concat([call_phases(group, plan, settings) for group in scenes or [table]], ignore_index=True)
    write_table(called, out)
    if fractions is not None:
        write_table(phase_fractions(called), fractions)
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
