"""``hyped imaging process`` and ``hyped imaging design``: a user's file from end to end, and a design to start from."""

from __future__ import annotations

from pathlib import Path

import click

from hyped_imaging.cli_options import reader_option
from hyped_imaging.parallel import Workers, worker_options


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--design", type=click.Path(path_type=Path), help="The experiment's design (YAML); needed.")
@click.option("--scene", "scenes", multiple=True, help="Only this scene of the design; may be given several times.")
@click.option("--params", "reference", help="FILE.yaml#section with a section for each step: stitch, import_movie, "
              "segment, track, phases, export.")  # fmt: skip
@reader_option
@click.option("--release", is_flag=True, help="Write every frame as an HDF5 file too (OUT/release).")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of models that draw random numbers.")
@worker_options
@click.option("--dry-run", is_flag=True, help="Do one frame, print disk and time as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def process(
    sources: tuple[Path, ...],
    out: Path,
    design: Path | None,
    scenes: tuple[str, ...],
    reference: str | None,
    reader: str,
    release: bool,
    seed: int,
    workers: Workers,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Process SOURCES (a CZI, or the files of one movie) into the folder OUT, from tiles to phases.

    OUT gets summary.html (counts, seams, phases, pictures), the container <OUT>.hyped with movies, labels and
    tables, a table a scene for nuclei, tracks and phases, tracks as GEFF for napari, and the phases' shares and
    durations as CSV. Run again after an interruption or with other parameters, it does what is left to do; tables
    changed by hand are kept and what follows is made from them.

    \b
    Example: hyped imaging process experiment.czi out/ --design design.yaml --workers 4
    """
    import json

    from hyped_core.context import RunContext, default_progress
    from hyped_core.design import read_design
    from hyped_core.errors import UsageError
    from hyped_core.params import load_params
    from hyped_core.plugins.streams import stdout_to_stderr
    from hyped_imaging.process.estimate import estimate
    from hyped_imaging.process.params import ProcessParams
    from hyped_imaging.process.run import Job, Layout
    from hyped_imaging.process.source import find_scenes

    if design is None:
        raise UsageError(
            "nobody said which scenes and channels these are", where=sources[0],
            mend=f"--design design.yaml; a start: hyped imaging design {sources[0]} > design.yaml",
        )  # fmt: skip
    plan = read_design(design)
    job = Job(
        find_scenes(sources, plan, scenes, reader), Layout(out), plan, load_params(reference, ProcessParams), workers,
        RunContext(seed=seed, progress=default_progress()), reader, release,
    )  # fmt: skip
    if dry_run:
        with stdout_to_stderr():
            record = estimate(job)
        click.echo(json.dumps(record, indent=2))
        if record["disk_mib"] > record["free_mib"]:
            click.echo(f"look: {record['disk_mib']} MiB wanted, {record['free_mib']} MiB are free", err=True)
        return
    for name in job.found.left_out:
        click.echo(f"scene {name} is not in the design: left out", err=True)
    with stdout_to_stderr():
        summary = job.run()
    if as_json:
        click.echo(json.dumps(summary, indent=2, sort_keys=True))
    for text in summary["alerts"]:
        click.echo(f"look: {text}", err=True)
    nuclei = sum(facts["nuclei"] for facts in summary["scenes"].values())
    tracks = sum(facts["tracks"] for facts in summary["scenes"].values())
    page = out / "summary.html"
    click.echo(f"{len(summary['scenes'])} scenes, {nuclei} nuclei, {tracks} tracks; see {page}", err=True)


@click.command("design")
@click.argument("source", type=click.Path(path_type=Path))
@reader_option
def design_command(source: Path, reader: str) -> None:
    """Print the start of a design for SOURCE: its scenes and channels, for you to say what they are.

    \b
    Example: hyped imaging design experiment.czi > design.yaml
    """
    from hyped_imaging.process.starter import starter_design

    click.echo(starter_design(source, reader), nl=False)
