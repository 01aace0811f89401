"""``hyped imaging segment``: nuclei of a movie."""

from __future__ import annotations

from pathlib import Path

import click

from hyped_imaging.parallel import Workers, worker_options

DEFAULT_MODEL = "fast"


@click.command()
@click.argument("movie", type=click.Path(path_type=Path))
@click.argument("labels", type=click.Path(path_type=Path))
@click.argument("nuclei", type=click.Path(path_type=Path))
@click.option("--model", default=None, help=f"Segmenter; {DEFAULT_MODEL} by default.")
@click.option(
    "--params", default=None, metavar="FILE#SECTION", help="Section {model, config} of a YAML file."
)
@click.option(
    "--design", type=click.Path(path_type=Path), default=None, help="Design YAML; HYPED's own by default."
)
@click.option("--scene", default=None, help="Scene of the design [default: the one the movie carries, else its name].")
@click.option(
    "--frames", default=None, metavar="A:B:STEP", help="Only these frames; labels of others stay empty."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of models that draw random numbers."
)
@click.option(
    "--skip-damaged", is_flag=True, help="Record frames that cannot be read as missing, instead of ending there."
)
@worker_options
@click.option("--dry-run", is_flag=True, help="Segment one frame, estimate time and disk, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def segment(
    movie: Path,
    labels: Path,
    nuclei: Path,
    model: str | None,
    params: str | None,
    design: Path | None,
    scene: str | None,
    frames: str | None,
    seed: int,
    skip_damaged: bool,
    workers: Workers,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Find and measure the nuclei of MOVIE (OME-NGFF), frame by frame.

    LABELS is written as OME-NGFF labels (t, y, x), NUCLEI as a parquet table with a row a nucleus: place in
    pixels and micrometres, area, shape, and background-corrected intensity in every channel. Frames are kept
    as they are done: after an interruption the same command goes on where it was.
    """
    import json

    from hyped_core.container.movies import Movie
    from hyped_core.context import RunContext, default_progress
    from hyped_core.design import read_design
    from hyped_core.plugins.streams import stdout_to_stderr
    from hyped_imaging.modelstep import make_model, read_step
    from hyped_imaging.segment.step import estimate, parse_frames, segment_movie

    step = read_step(params, model, DEFAULT_MODEL)
    plan = read_design(design)
    source = Movie.open(movie)
    carried = str(source.attrs.get("scene", ""))
    name = scene or (carried if carried in {item.name for item in plan.scenes} else source.name)
    chosen = parse_frames(frames, source.n_frames)
    context = RunContext(seed=seed, progress=default_progress())
    if dry_run:
        with stdout_to_stderr():
            segmenter, _, _ = make_model("segment", step, plan)
            record = estimate(source, segmenter, plan, name, chosen, context, workers.processes)
        said = f"{name}: {record['frames']} frames, {record['seconds']} s and {record['megabytes']} MB"
        click.echo(json.dumps(record) if as_json else said)
        return
    click.echo(f"{movie}: scene {name} of design {plan.name!r}", err=True)
    with stdout_to_stderr():
        done = segment_movie(
            source,
            labels,
            nuclei,
            step,
            design=plan,
            scene=name,
            context=context,
            frames=chosen,
            workers=workers,
            skip_damaged=skip_damaged,
        )
    if as_json:
        click.echo(
            json.dumps(
                {
                    "scene": name,
                    "model": step.model,
                    "frames": done.frames,
                    "frames_missing": done.missing,
                    "nuclei": done.nuclei,
                }
            )
        )
    said = f"{name}: {done.nuclei} nuclei in {done.frames} frames by {step.model}"
    said += f", {done.kept} of them done before" if done.kept else ""
    click.echo(said + (f", {done.missing} frames missing" if done.missing else ""), err=True)
