"""``hyped imaging snr``: signal-to-noise ratio of a movie's channels."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("snr", short_help="Signal-to-noise ratio of nuclei, by channel and over time.")
@click.argument("movie", type=click.Path(path_type=Path))
@click.argument("labels", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write a row a frame and channel (parquet or CSV).")
@click.option("--channels", help="Only these, comma-separated.")
@click.option("--frames", default=None, metavar="A:B:STEP", help="Only these frames.")
@click.option(
    "--halo-px", type=click.IntRange(0), default=5, show_default=True, help="Pixels around nuclei left out."
)
@click.option("--robust", is_flag=True, help="Median and median deviation of the background.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def snr_command(
    movie: Path,
    labels: Path,
    out: Path | None,
    channels: str | None,
    frames: str | None,
    halo_px: int,
    robust: bool,
    as_json: bool,
) -> None:
    """Signal-to-noise ratio of the nuclei (LABELS) in every channel of MOVIE, median over frames.

    snr is (mean of nuclei - mean of background) / standard deviation of the background, in dB 20 log10;
    background is farther than --halo-px from any nucleus. paper_snr is the paper's: mean of nuclei over the
    standard deviation of all else, on planes clipped at 98 % and scaled to [0, 1]; its unit is not stated
    there, so ratio and dB are both given.

    \b
    Example: hyped imaging snr movies/S0.zarr labels/S0.zarr --out S0-snr.csv
    """
    import json

    from hyped_core.container.labels import Labels
    from hyped_core.container.movies import Movie
    from hyped_core.context import default_progress
    from hyped_imaging.segment.step import parse_frames
    from hyped_imaging.snr import snr_table, summarise
    from hyped_imaging.track.step import write_table

    source = Movie.open(movie)
    chosen = parse_frames(frames, source.n_frames)
    names = [name.strip() for name in channels.split(",")] if channels else None
    progress = default_progress()
    table = snr_table(
        source,
        Labels.open(labels),
        chosen,
        halo_px=halo_px,
        robust=robust,
        channels=names,
        progress=lambda items: progress.track(items, f"snr {source.name}"),
    )
    if out is not None:
        write_table(table, out)
    found = summarise(table)
    if as_json:
        record = {"movie": str(movie), "halo_px": halo_px, "robust": robust, "channels": found}
        click.echo(json.dumps(record, indent=2, sort_keys=True))
        return
    click.echo(f"{'channel':<12}{'frames':>8}{'snr':>10}{'snr dB':>10}{'paper':>10}{'paper dB':>10}")
    for item in found:
        values = [item[key] for key in ("snr", "snr_db", "paper_snr", "paper_snr_db")]
        shown = "".join(f"{'-':>10}" if value is None else f"{value:>10.2f}" for value in values)
        click.echo(f"{item['channel']:<12}{item['defined']:>4}/{item['frames']:<3}{shown}")
