"""``hyped imaging denoise``: a movie or an image with less noise."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import click

DEFAULT_MODEL = "photon"
MUCH = 2.5
"""Taking away this many times the noise is worth a word."""


@click.command("denoise", short_help="A movie or an image with less noise.")
@click.argument("source", type=click.Path(path_type=Path), metavar="MOVIE")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", default=None, help=f"Denoiser; {DEFAULT_MODEL} by default.")
@click.option("--params", default=None, metavar="FILE#SECTION", help="Section {model, config} of a YAML file.")
@click.option("--design", type=click.Path(path_type=Path), help="Design YAML; HYPED's own by default.")
@click.option(
    "--channels", help="Only these, comma-separated; others are copied  [default: all but brightfield]"
)
@click.option("--frames", default=None, metavar="A:B:STEP", help="Only these frames; OUT holds no others.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of models that draw random numbers.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:0.")
@click.option("--threads", type=click.IntRange(1), help="Threads the model may use  [default: all cores]")
@click.option("--weights", type=click.Path(path_type=Path), help="Learn nothing, take what is in this folder.")
@click.option("--save-weights", type=click.Path(path_type=Path), help="Keep what was learnt, a folder a channel.")
@click.option("--labels", type=click.Path(path_type=Path), help="Labels of MOVIE: SNR before and after.")
@click.option(
    "--dtype", type=click.Choice(["uint8", "uint16", "float32"]), help="Type of OUT  [default: that of MOVIE]"
)
@click.option(
    "--memory-gb", type=click.FloatRange(min=0, min_open=True), default=4.0, show_default=True,
    help="About how much frames given to a model together may take; nothing to models that go frame by frame (photon).",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Denoise one frame, estimate time and disk, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def denoise(
    source: Path,
    out: Path,
    model: str | None,
    params: str | None,
    design: Path | None,
    channels: str | None,
    frames: str | None,
    seed: int,
    device: str,
    threads: int | None,
    weights: Path | None,
    save_weights: Path | None,
    labels: Path | None,
    dtype: str | None,
    memory_gb: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write OUT: the frames of MOVIE (OME-NGFF) with less noise, and all else as it was.

    MOVIE may be an image too (TIFF of one plane or a stack, PNG); OUT is a TIFF then. A model that learns does
    so once a channel, from frames spread over the movie. Integers are rounded, never cut. After an interruption
    the same command goes on where it was. Until the last channel, planes of the others wait uncompressed in a
    hidden folder beside OUT.

    \b
    Example: hyped imaging denoise movies/S0.zarr denoised/S0.zarr --labels labels/S0.zarr
             hyped imaging denoise image.tif out.tif
    """
    from hyped_core.context import RunContext, default_progress
    from hyped_core.design import read_design
    from hyped_core.errors import UsageError
    from hyped_core.plugins.streams import stdout_to_stderr
    from hyped_imaging.denoise.images import denoise_image, is_image, open_image
    from hyped_imaging.denoise.plan import DenoiseOptions, Planes
    from hyped_imaging.denoise.step import denoise_movie, estimate, ready_model
    from hyped_imaging.modelstep import read_step
    from hyped_imaging.segment.step import parse_frames

    step = read_step(params, model, DEFAULT_MODEL)
    plan = read_design(design)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    context = RunContext(seed=seed, device=device, threads=threads or cores, progress=default_progress())
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError(f"there is no device {device}", where="--device", mend="cpu, cuda or cuda:0")
    image = is_image(source)
    if source.is_file() and not image:
        raise UsageError(
            "is neither a movie nor a TIFF or PNG", where=source,
            mend="a CZI file: hyped imaging stitch first; other files: hyped imaging import-movie",
        )  # fmt: skip
    if not image and out.suffix.lower() in (".tif", ".tiff", ".png"):
        raise UsageError("a movie's result is a movie", where=out, mend="name a folder, for example out.zarr")
    if image and labels is not None:
        raise UsageError("--labels are for movies", mend="import the image first: hyped imaging import-movie")
    if image:
        planes = open_image(source)[0]
    else:
        from hyped_core.container.movies import Movie

        movie = Movie.open(source)
        planes = Planes.of_movie(movie)
    options = DenoiseOptions(
        tuple(name.strip() for name in channels.split(",")) if channels else (),
        parse_frames(frames, planes.shape[0]) if frames else None,
        dtype, weights, save_weights, memory_gb,
    )  # fmt: skip
    if dry_run:
        with stdout_to_stderr():
            made, _ = ready_model(step, plan)
            found = estimate(planes, made, plan, options, context)
        said = (
            f"{source.name}: {found['frames']} frames, {', '.join(found['channels'])}: {found['seconds']} s, "
            f"{found['megabytes']} MB"
        )
        click.echo(json.dumps(found) if as_json else said)
        return
    if image:
        with stdout_to_stderr():
            record = denoise_image(source, out, step, design=plan, context=context, options=options)
    else:
        from hyped_core.container.labels import Labels

        nuclei = None if labels is None else Labels.open(labels)
        with stdout_to_stderr():
            record = denoise_movie(
                movie, out, step, design=plan, context=context, options=options, labels=nuclei
            )
    if as_json:
        click.echo(json.dumps(record, indent=2, sort_keys=True))
    for line in summary_lines(record):
        click.echo(line, err=True)


def summary_lines(record: dict[str, Any]) -> list[str]:
    """What a person wants to know of a record."""
    lines = [
        f"{record['out']}: {record['frames']} frames by {record['model']} in {record['seconds']['all']:.1f} s"
        + (f", {record['frames_done_before']} of them done before" if record.get("frames_done_before") else "")
        + (f", {record['frames_missing']} frames missing" if record.get("frames_missing") else "")
    ]
    for channel, change in record["changes"].items():
        noise = record["noise"][channel]["rms"]
        line = f"  {channel}: noise of about {noise:.4g}, took away {change['removed_rms']:.4g} (RMS, camera units)"
        if change["removed_rms"] > MUCH * max(noise, 1e-12) and change["removed_rms"] > 0:
            line += ": far more than the noise; look at the result (weights of another camera?)"
        if change["clipped_pixels"]:
            line += f", {change['clipped_pixels']} pixels clipped to {record['dtype']}"
        snr = record.get("snr", {}).get(channel)
        if snr and snr["snr_db_before"] is not None and snr["snr_db_after"] is not None:
            line += f", SNR {snr['snr_db_before']:.2f} to {snr['snr_db_after']:.2f} dB"
        lines.append(line)
    return lines
