"""``hyped imaging import-movie`` and ``export``: movies in and out."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hyped_imaging.parallel import Workers, worker_options


@click.command("import-movie", short_help="TIFF, HDF5 frames or OME-NGFF into a movie.")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("out_movie", type=click.Path(path_type=Path))
@click.option("--channels", help="Names of the channels, comma-separated, in the order of the files.")
@click.option("--pixel-size-um", type=float, help="Edge of a pixel, where the files do not say.")
@click.option("--interval-min", type=float, help="Minutes between frames, where the files do not say.")
@click.option("--start-h", type=float, help="Hours since release at the first frame (default: the design's).")
@click.option("--params", "reference", help="FILE.yaml#section with the parameters of the import.")
@click.option(
    "--design", type=click.Path(path_type=Path), help="The experiment's design (YAML); HYPED's own if absent."
)
@worker_options
@click.option("--dry-run", is_flag=True, help="Print what the files hold as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def import_movie_command(
    sources: tuple[Path, ...],
    out_movie: Path,
    channels: str | None,
    pixel_size_um: float | None,
    interval_min: float | None,
    start_h: float | None,
    reference: str | None,
    design: Path | None,
    workers: Workers,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import the movie in SOURCES into OUT_MOVIE (OME-NGFF, axes t, c, y, x).

    SOURCES: a TIFF (several are channels), a folder of TIFFs or HDF5 files (each a frame), or an OME-NGFF
    movie. The same command goes on where a run was ended.

    \b
    Example: hyped imaging import-movie red.tif green.tif S0.zarr --channels mKate,TagGFP
    """
    from hyped_core.context import default_progress
    from hyped_core.design import read_design
    from hyped_core.params import load_params
    from hyped_imaging.movies.importing import import_movie, open_source, settle_channels, settle_times
    from hyped_imaging.movies.params import ImportParams

    names = [name.strip() for name in channels.split(",")] if channels else None
    params = load_params(
        reference,
        ImportParams,
        channels=names,
        pixel_size_um=pixel_size_um,
        interval_min=interval_min,
        start_h=start_h,
    )
    experiment = read_design(design)
    if dry_run:
        source = open_source(sources, params)
        times, time_source = settle_times(source, params, experiment)
        size = source.dtype.itemsize
        for n in source.shape:
            size *= n
        click.echo(
            json.dumps(
                {
                    "out": str(out_movie),
                    "shape": list(source.shape),
                    "dtype": str(source.dtype),
                    "channels": list(settle_channels(source, params, experiment)),
                    "pixel_size_um": params.pixel_size_um or source.pixel_size_um,
                    "time_source": time_source,
                    "time_first_h": float(times[0]),
                    "time_last_h": float(times[-1]),
                    "missing_frames": {str(index): reason for index, reason in source.missing.items()},
                    "disk_mib": round(size / 2**20, 1),
                    "seconds": round(1 + size / 1e8, 1),
                },
                indent=2,
            )
        )
        return
    record = import_movie(
        sources, out_movie, params, experiment, workers=workers, progress=default_progress()
    )
    if as_json:
        click.echo(json.dumps(record, indent=2, sort_keys=True))
    else:
        click.echo(
            f"{out_movie}: {record['n_frames']} frames, channels {', '.join(record['channels'])}, "
            f"{record['time_first_h']:g} to {record['time_last_h']:g} h"
            + (f", {len(record['missing_frames'])} frames missing" if record["missing_frames"] else "")
            + (f" ({len(record['unreadable_frames'])} unreadable)" if record["unreadable_frames"] else ""),
            err=True,
        )


@click.command("export", short_help="A movie as one HDF5 file per frame.")
@click.argument("movie", type=click.Path(path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option(
    "--compression",
    type=click.Choice(["lz4", "zstd", "gzip", "none"]),
    help="lz4 and zstd need hdf5plugin to be read; gzip and none need h5py alone. Default: zstd.",
)
@click.option("--params", "reference", help="FILE.yaml#section with the parameters of the export.")
@worker_options
@click.option("--dry-run", is_flag=True, help="Print what it would write as JSON; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def export(
    movie: Path,
    out_dir: Path,
    compression: str | None,
    reference: str | None,
    workers: Workers,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write every frame of MOVIE as an HDF5 file with all channels into the new folder OUT_DIR.

    The files hold the dataset ``image`` (c, y, x) and its metadata as attributes; release.json beside them
    lists times and lost frames and says how to read them. The same command goes on where a run was ended.

    \b
    Example: hyped imaging export S0.zarr release/S0 --compression gzip
    """
    from hyped_core.container.movies import Movie
    from hyped_core.context import default_progress
    from hyped_core.params import load_params
    from hyped_imaging.movies.params import ExportParams
    from hyped_imaging.movies.release import export_frames

    params = load_params(reference, ExportParams, compression=compression)
    opened = Movie.open(movie)
    if dry_run:
        size = opened.dtype.itemsize
        for n in opened.shape:
            size *= n
        click.echo(
            json.dumps(
                {
                    "out": str(out_dir),
                    "files": opened.n_frames - len(opened.missing_frames),
                    "disk_mib": round(size / 2**20, 1),
                    "seconds": round(1 + size / 1e8, 1),
                },
                indent=2,
            )
        )
        return
    names = export_frames(opened, out_dir, params, workers=workers, progress=default_progress())
    if as_json:
        record = {
            "out": str(out_dir),
            "files": names,
            "missing_frames": {str(k): reason for k, reason in opened.missing_frames.items()},
            "channels": list(opened.channels),
            "n_frames": opened.n_frames,
            "pixel_size_um": opened.pixel_size_um,
            "data_range": [float(value) for value in opened.data_range],
            "time_first_h": float(opened.time_h[0]),
            "time_last_h": float(opened.time_h[-1]),
            "compression": params.compression,
        }
        click.echo(json.dumps(record, indent=2, sort_keys=True))
    else:
        click.echo(f"{out_dir}: {len(names)} files" + (f", {names[0]} to {names[-1]}" if names else ""), err=True)
