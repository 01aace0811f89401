"""``hyped imaging export-tracks`` and ``import-tracks``: tracks to other tools and back."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export-tracks", short_help="Tracks as GEFF or as a Cell Tracking Challenge folder.")
@click.argument("tracks", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["geff", "ctc"]),
    help="Default: geff where OUT ends in .geff, else ctc.",
)
@click.option("--labels", type=click.Path(path_type=Path), help="Labels of the scene; ctc needs them.")
@click.option(
    "--layout",
    type=click.Choice(["res", "gt"]),
    default="res",
    show_default=True,
    help="ctc: a result (mask000.tif) or a ground truth (TRA and SEG).",
)
@click.option("--scene", help="Scene of the table, where it holds several.")
@click.option("--dry-run", is_flag=True, help="Check the input, estimate disk and time; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def export_tracks(
    tracks: Path,
    out: Path,
    form: str | None,
    labels: Path | None,
    layout: str,
    scene: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write the TRACKS of `hyped imaging track` (parquet or CSV) for other tools into the new folder OUT.

    geff is a graph that napari's plugins (napari-geff, napari-track-edit) open and correct; every column goes
    with it. ctc are 16-bit masks and the file of tracks of the Cell Tracking Challenge; objects without a
    track are left out of it.

    \b
    Example: hyped imaging export-tracks S0.parquet S0.geff --labels S0.zarr
    """
    import json

    from hyped_core.container.labels import Labels
    from hyped_core.context import default_progress
    from hyped_core.errors import UsageError
    from hyped_imaging.exchange.ctc import export_ctc, split_pieces
    from hyped_imaging.exchange.geff import export_geff, need_geff
    from hyped_imaging.exchange.graph import one_scene, table_edges
    from hyped_imaging.track.step import read_table

    form = form or ("geff" if out.suffix == ".geff" else "ctc")
    if form == "geff":
        need_geff()
    opened = Labels.open(labels) if labels is not None else None
    table = one_scene(read_table(tracks), scene, tracks)
    if form == "ctc" and opened is None:
        raise UsageError("masks need the labels of the scene", mend="give --labels LABELS.zarr")
    if dry_run:
        table_edges(table, tracks)
        # columns compress to about half; masks to about a thirtieth of their pixels
        size, seconds = 4.0 * table.size, 0.5 + 3e-6 * len(table)
        if form == "ctc" and opened is not None:
            split_pieces(table, tracks)
            t, y, x = opened.shape
            size, seconds = 2.0 * t * y * x / 30, t * (0.002 + 1.2e-7 * y * x)
        record = {"out": str(out), "format": form, "objects": len(table)}
        record.update(disk_mib=round(size / 2**20, 2), seconds=round(seconds, 1))
        click.echo(json.dumps(record, indent=2))
        return
    if form == "geff" or opened is None:
        counts = export_geff(table, out, labels=opened)
    else:
        progress, labels_frames = default_progress(), opened.n_frames
        counts = export_ctc(
            table,
            opened,
            out,
            layout="gt" if layout == "gt" else "res",
            progress=lambda frames: progress.track(frames, f"export {out.name}", labels_frames),
        )
    if as_json:
        click.echo(json.dumps({"out": str(out), "format": form, **counts}, indent=2, sort_keys=True))
    else:
        click.echo(
            f"{out}: {counts['objects']} objects in {counts['tracks']} tracks, {counts['divisions']} divisions; "
            f"{counts['unassigned']} in no track" + (" (left out)" if form == "ctc" else ""),
            err=True,
        )


@click.command("import-tracks", short_help="Tracks of other tools, or corrected by hand, as a table.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--original", type=click.Path(path_type=Path), help="geff: the exported table, where a viewer dropped columns."
)
@click.option("--movie", type=click.Path(path_type=Path), help="ctc: measure intensities on this movie.")
@click.option("--labels-out", type=click.Path(path_type=Path), help="ctc: write the masks as labels (OME-NGFF).")
@click.option("--pixel-size-um", type=float, help="Edge of a pixel, where the source does not say.")
@click.option("--interval-min", type=float, help="Minutes between frames, where the source does not say.")
@click.option("--start-h", type=float, default=0.0, show_default=True, help="Hours at frame 0, with --interval-min.")
@click.option("--axes", help="geff: node properties of time, y and x, comma-separated, where it does not say.")
@click.option("--scene", help="Name of the scene; with --design also its condition and replicate.")
@click.option("--design", type=click.Path(path_type=Path), help="The experiment's design (YAML).")
@click.option("--dry-run", is_flag=True, help="Check and count; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def import_tracks(
    source: Path,
    out: Path,
    original: Path | None,
    movie: Path | None,
    labels_out: Path | None,
    pixel_size_um: float | None,
    interval_min: float | None,
    start_h: float,
    axes: str | None,
    scene: str | None,
    design: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Read the tracks in SOURCE, a GEFF graph or a Cell Tracking Challenge folder, into the table OUT.

    Of a graph that `export-tracks` wrote, tracks and parents follow from the edges as they are now. Merges,
    three daughters and edges back in time are refused, all of them named.

    \b
    Example: hyped imaging import-tracks S0-corrected.geff S0.parquet
    """
    import json

    from hyped_core.container.movies import Movie
    from hyped_core.context import default_progress
    from hyped_core.errors import UsageError
    from hyped_imaging.exchange.ctc_import import import_ctc
    from hyped_imaging.exchange.geff_import import Hints, import_geff
    from hyped_imaging.exchange.graph import detect, one_scene
    from hyped_imaging.track.step import read_table, summary, write_table

    for value, option in ((pixel_size_um, "--pixel-size-um"), (interval_min, "--interval-min")):
        if value is not None and not value > 0:
            raise UsageError(f"{option} must be above 0, not {value:g}")
    form, folder = detect(source)
    foreign: dict[str, dict[str, object]] = {
        "geff": {"--movie": movie, "--labels-out": labels_out},
        "ctc": {"--original": original, "--axes": axes},
    }
    for option, path in foreign[form].items():
        if path is not None:
            raise UsageError(f"{option} has no meaning for {form}", where=folder, mend="leave it out")
    if form == "geff":
        names = tuple(name.strip() for name in axes.split(",")) if axes else None
        if names is not None and len(names) != 3:
            raise UsageError(f"--axes {axes!r} names {len(names)} properties", mend="give three: T,Y,X")
        kept = one_scene(read_table(original), scene, original) if original is not None else None
        imported = import_geff(folder, Hints(pixel_size_um, interval_min, start_h, names), kept)
    else:
        progress = default_progress()
        imported = import_ctc(
            folder,
            movie=Movie.open(movie) if movie is not None else None,
            labels_out=None if dry_run else labels_out,
            pixel_size_um=pixel_size_um,
            interval_min=interval_min,
            start_h=start_h,
            progress=lambda frames: progress.track(frames, f"import {folder.name}", None),
        )
    table = imported.table
    if scene is not None and original is None:
        if "scene" not in table.columns:
            table.insert(0, "scene", scene)
        table["scene"] = scene
        if design is not None:
            from hyped_core.design import read_design

            place = read_design(design).scene(scene)
            table["condition"], table["replicate"] = place.condition, place.replicate
    record = {"out": str(out), "format": form, **summary(table), **imported.record}
    if not dry_run:
        write_table(table, out)
    if as_json or dry_run:
        click.echo(json.dumps(record, indent=2, sort_keys=True))
        return
    edits = [f"{record[name]} {name}" for name in ("added", "deleted", "moved") if record.get(name)]
    click.echo(
        f"{out}: {record['objects']} objects in {record['tracks']} tracks, {record['divisions']} divisions, "
        f"{record['unassigned']} unassigned" + (f"; {', '.join(edits)}" if edits else ""),
        err=True,
    )
