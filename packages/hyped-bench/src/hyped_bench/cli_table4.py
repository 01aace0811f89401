"""``hyped bench table4``: the paper's Table 4 on your own movies."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("table4", short_help="The paper's Table 4 (denoising) on your own movies.")
@click.argument("movies", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MOVIE...")
@click.option(
    "--labels", "labels", multiple=True, type=click.Path(path_type=Path),
    help="Labels of the nuclei, for the SNR; one a movie, in the same order.",
)  # fmt: skip
@click.option("--segment", metavar="MODEL", help="Make labels by this segmenter instead (fast, paper, ...).")
@click.option("--models", help="Models, comma-separated; all controls come with them  [default: fm2s-series,photon]")
@click.option("--params", "reference", metavar="FILE#SECTION", help="Mapping of model to its parameters.")
@click.option("--channels", help="Only these, comma-separated.")
@click.option("--frames", metavar="A:B:STEP", help="Only these frames; neighbours among them are neighbours.")
@click.option("--crop", type=click.IntRange(16), help="Only the central square of this edge in pixels.")
@click.option("--clip", type=click.FloatRange(0, 100, min_open=True), default=98.0, show_default=True)
@click.option(
    "--clip-rule", type=click.Choice(["percentile", "share"]), default="percentile", show_default=True,
    help="What --clip is a percentage of: the pixels, or the maximum.",
)  # fmt: skip
@click.option(
    "--snr", type=click.Choice(["mean_over_std", "power"]), default="mean_over_std", show_default=True,
    help="Formula of the signal-to-noise ratio.",
)  # fmt: skip
@click.option("--design", type=click.Path(path_type=Path), help="Design YAML: names each scene's condition.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:0.")
@click.option("--json", "as_json", is_flag=True, help="Rows and sentences as JSON.")
@click.option("--csv", "want_csv", is_flag=True, help="Rows as CSV.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write to this file (.md, .csv or .json).")
def table4(
    movies: tuple[Path, ...],
    labels: tuple[Path, ...],
    segment: str | None,
    models: str | None,
    reference: str | None,
    channels: str | None,
    frames: str | None,
    crop: int | None,
    clip: float,
    clip_rule: str,
    snr: str,
    design: Path | None,
    seed: int,
    device: str,
    as_json: bool,
    want_csv: bool,
    out: Path | None,
) -> None:
    """Denoise MOVIEs by the paper's protocol and average as its Table 4 does.

    Planes are clipped and scaled to [0, 1] and the denoised ones are held against the noisy ones: that is fidelity,
    not quality, so every control stands beside the models, and the paper's own row below them. Movies that share a
    scene are one field of view; intervals need three.

    \b
    Example: hyped bench table4 movies/S0.zarr --labels labels/S0.zarr --frames 40:43 -o table4.md
    """
    import tempfile

    from hyped_bench import table4 as made
    from hyped_core.context import RunContext, default_progress
    from hyped_core.errors import UsageError
    from hyped_core.io.atomic import write_text
    from hyped_core.params import read_section
    from hyped_core.plugins.streams import stdout_to_stderr

    if segment and labels:
        raise UsageError("--segment makes the labels that --labels gives", mend="give one of them")
    if as_json and want_csv:
        raise UsageError("--json and --csv", mend="give one of them")
    kind = "json" if as_json else "csv" if want_csv else "md"
    if out is not None and not (as_json or want_csv) and out.suffix.lower() in (".csv", ".json"):
        kind = out.suffix.lower()[1:]
    protocol = made.Protocol(clip, clip_rule, snr)  # type: ignore[arg-type]
    picked = _frames(frames, movies)
    named = [name.strip() for name in (channels or "").split(",") if name.strip()]
    wanted = [name.strip() for name in (models or "").split(",") if name.strip()]
    progress = default_progress()
    given = list(labels)
    settled = {"channels": named, "frames": picked, "crop": crop, "design": design}
    sources = made.sources_of(movies, given, protocol, **settled)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        if segment:
            context = RunContext(seed=seed, device=device, progress=progress)
            with stdout_to_stderr():
                given = made.segmented(movies, segment, Path(folder), frames=picked, design=design, context=context)
            sources = made.sources_of(movies, given, protocol, **settled)  # type: ignore[arg-type]
        table = made.table4(
            sources, wanted, protocol=protocol, configs=read_section(reference) if reference else None, seed=seed,
            device=device, progress=progress,
        )  # fmt: skip
    if kind == "json":
        found = {
            "rows": made.as_records(table), "sentences": table.sentences, "failed": table.failed,
            "warnings": table.warnings,
        }  # fmt: skip
        text = json.dumps(found, indent=2, sort_keys=True) + "\n"
    else:
        text = made.as_csv(table) if kind == "csv" else made.as_markdown(table)
    if out is not None:
        write_text(out, text)
        click.echo(f"{out}: {len(table.overall())} rows", err=True)
    else:
        click.echo(text, nl=False)
    for model, reason in table.failed.items():
        click.echo(f"{model}: {reason}", err=True)


def _frames(text: str | None, movies: tuple[Path, ...]) -> list[int] | None:
    """Frames of ``first:last:step`` as Python slices read it, over the longest movie."""
    from hyped_core.container.movies import Movie
    from hyped_core.errors import UsageError

    if not text:
        return None
    total = max(Movie.open(path).n_frames for path in movies)
    try:
        parts = [int(part) if part else None for part in text.split(":")]
        if len(parts) == 1 and parts[0] is not None:
            chosen = [range(total)[parts[0]]]
        elif 2 <= len(parts) <= 3:
            chosen = list(range(total)[slice(*parts)])
        else:
            raise ValueError(text)
    except (ValueError, IndexError) as error:
        raise UsageError(
            f"--frames {text!r} is not first:last:step", mend=f"e.g. 0:{total}:10; there are {total} frames"
        ) from error
    if not chosen:
        raise UsageError(f"--frames {text!r} names no frame", mend=f"there are {total} frames")
    return chosen
