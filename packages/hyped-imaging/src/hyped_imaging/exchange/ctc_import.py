"""Folders of the Cell Tracking Challenge read as tables of tracks, measured on the masks and the movie."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hyped_core.errors import InvalidDataError, Problem, UsageError, ValidationError
from hyped_imaging.exchange import graph as exchange
from hyped_imaging.exchange.ctc import check_lines, join_pieces, open_folder, settle

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.container.movies import Movie


def import_ctc(
    source: str | Path,
    *,
    movie: Movie | None = None,
    labels_out: str | Path | None = None,
    pixel_size_um: float | None = None,
    interval_min: float | None = None,
    start_h: float = 0.0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> exchange.Imported:
    """The table of tracks of a folder with masks: a row an object, its label the one in the mask.

    Parameters
    ----------
    source : the folder with ``mask000.tif`` or ``man_track000.tif`` and the file of tracks.
    movie : the scene's movie; intensities are measured on it as `segment` does, and it gives pixel and times.
    labels_out : write the masks as a labels container (OME-NGFF) here.
    pixel_size_um, interval_min, start_h : for folders of other tools, without a movie.
    progress : wraps the frames as they are read.

    Raises
    ------
    ValidationError
        The file of tracks is no lineage, or names labels that no mask holds, or masks hold labels that it does
        not name: every one of them.
    CorruptFileError, InvalidDataError, UnsupportedDataError, UsageError
        Damaged, incomplete or three-dimensional masks; shapes that differ; pixel size or times unknown.
    """
    import pandas as pd

    from hyped_core.container.movies import LabelsWriter
    from hyped_imaging.segment.measure import measure

    folder = open_folder(source)
    check_lines(folder.lines, folder.path)
    frames = len(folder.masks)
    shape = folder.mask(0).shape
    if movie is not None:
        if (movie.n_frames, *movie.shape[2:]) != (frames, *shape):
            raise InvalidDataError(
                f"{frames} masks of {shape} do not fit the movie's {movie.n_frames} frames of {movie.shape[2:]}",
                where=folder.path,
                mend="give the movie of this scene",
            )
        pixel, hours = pixel_size_um or movie.pixel_size_um, movie.time_h
        if interval_min is not None:
            raise UsageError("--interval-min with a movie", mend="the movie has its times: leave one out")
    else:
        pixel, hours = settle(folder, pixel_size_um, interval_min, start_h)
    noted = folder.notes.get("missing_frames", {})
    lost = dict(movie.missing_frames) if movie is not None else {int(i): str(why) for i, why in noted.items()}
    channels = movie.channels if movie is not None else ()
    block = max(32, round(60 / pixel))
    tables = []
    with ExitStack() as stack:
        writer = None
        if labels_out is not None:
            link = Path(os.path.relpath(movie.path, labels_out)).as_posix() if movie is not None else ""
            writer = stack.enter_context(
                LabelsWriter(
                    labels_out, shape=(frames, *shape), pixel_size_um=pixel, time_h=hours, source=link,
                    attrs={"model": "cell-tracking-challenge"},
                )
            )  # fmt: skip
        for index in progress(range(frames)):
            mask = folder.mask(index).astype(np.int32)
            if mask.shape != shape:
                raise InvalidDataError(
                    f"is {mask.shape}, the first mask {shape}", where=folder.masks[index], mend="copy it again"
                )
            planes = movie.frame(index) if movie is not None else np.zeros((0, *shape), np.uint16)
            # without a movie there is no background to keep clear of
            halo = {} if movie is not None else {"halo_px": 0}
            measured = measure(mask, planes, channels, pixel, block_px=block, **halo)
            measured.insert(0, "frame", index)
            measured.insert(1, "time_h", float(hours[index]))
            if index in lost:  # there were no pixels to measure on
                measured[[c for c in measured if c.startswith(("mean_", "integrated_"))]] = np.nan
            tables.append(measured)
            if writer is not None and index in lost and not mask.any():
                writer.write_missing(index, lost[index])
            elif writer is not None:
                writer.write_frame(index, mask)
        table = pd.concat(tables, ignore_index=True)
        _check_masks(table, folder.lines, folder.path)
    known = folder.notes.get("track_of_label")
    track_of, parent_of = join_pieces(
        folder.lines, None if known is None else {int(name): int(track) for name, track in known.items()}
    )
    track = table["label"].map(track_of).astype(np.int64)
    table["track_id"] = track
    table["parent_id"] = track.map(parent_of).astype(np.int64)
    table["unassigned_reason"] = ""
    return exchange.Imported(
        table, {"origin": "hyped" if folder.notes else "foreign", "frames": frames, "pieces": len(folder.lines)}
    )


def _check_masks(table: pd.DataFrame, lines: np.ndarray, where: Path) -> None:
    """Labels of masks and lines have to name one another, first and last frame included."""
    problems = []
    seen = table.groupby("label")["frame"].agg(["min", "max"])
    named = {label: (begin, end) for label, begin, end, _ in lines.tolist()}
    for label in sorted(set(seen.index.tolist()) - set(named)):
        problems.append(
            Problem(f"label {label}", f"is in the mask of frame {seen.loc[label, 'min']} and has no line", "add one")
        )
    for label, (begin, end) in named.items():
        if label not in seen.index:
            problems.append(Problem(f"label {label}", "has a line and is in no mask", "delete the line"))
        elif (int(seen.loc[label, "min"]), int(seen.loc[label, "max"])) != (begin, end):
            low, high = seen.loc[label, "min"], seen.loc[label, "max"]
            problems.append(
                Problem(
                    f"label {label}",
                    f"its line says frames {begin} to {end}, masks hold it from {low} to {high}",
                    "correct the line",
                )
            )
    if problems:
        raise ValidationError("masks and file of tracks do not agree", exchange.shorten(problems), where=where)
