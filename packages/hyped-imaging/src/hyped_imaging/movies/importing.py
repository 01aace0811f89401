"""Any movie a registered reader knows, into HYPED's movie: names, units and times settled once, then frame
by frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.context import Progress, SilentProgress
from hyped_core.errors import InvalidDataError, MissingFileError, UnsupportedDataError
from hyped_imaging.movies.params import ImportParams
from hyped_imaging.movies.source import MovieSource

if TYPE_CHECKING:
    from hyped_core.design import Design


def open_source(paths: Sequence[str | Path], params: ImportParams) -> MovieSource:
    """Read what the files say, by the reader registered for their suffix (a folder's: that of its files)."""
    from hyped_core.plugins.registry import readers
    from hyped_core.spec import import_target

    files = [Path(path) for path in paths]
    for path in files:
        if not path.exists():
            raise MissingFileError("no such file or folder", where=path, mend="check the path")
    specs = [item.spec for item in readers().items() if item.spec.kind == "movie"]
    suffix = _suffix(files[0], specs)
    for spec in specs:
        if suffix in spec.suffixes:
            spec.needs.check(spec.name)
            return import_target(spec.target)(files, params)
    known = sorted({known for spec in specs for known in spec.suffixes})
    raise UnsupportedDataError(
        f"no reader is registered for {suffix or 'a file without suffix'}",
        where=files[0],
        mend=f"suffixes read: {', '.join(known)}; a CZI: hyped imaging stitch",
    )


def _suffix(path: Path, specs: Sequence[Any]) -> str:
    """The path's suffix; for a folder that is no zarr, the commonest of its files that a reader knows."""
    if not path.is_dir() or path.suffix == ".zarr":
        return path.suffix.lower()
    if any((path / name).exists() for name in ("zarr.json", ".zattrs", ".zgroup")):
        return ".zarr"
    known = {suffix for spec in specs for suffix in spec.suffixes}
    inside = [item.suffix.lower() for item in path.iterdir() if item.suffix.lower() in known]
    return max(sorted(set(inside)), key=inside.count) if inside else ""


def import_movie(
    paths: Sequence[str | Path],
    out: str | Path,
    params: ImportParams,
    design: Design,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the movie ``out`` from ``paths`` and return what it is. It appears whole or not at all.

    Raises
    ------
    InvalidDataError
        Neither files nor parameters say how large a pixel is, when frames were taken, or what channels are
        called.
    """
    from hyped_core.container.movies import MovieWriter

    source = open_source(paths, params)
    frames, channels = source.shape[:2]
    names = settle_channels(source, params, design)
    pixel = params.pixel_size_um or source.pixel_size_um
    if pixel is None:
        raise InvalidDataError(
            "does not say how large a pixel is",
            where=source.where,
            mend="give --pixel-size-um or the parameter `pixel_size_um`",
        )
    times, time_source = settle_times(source, params, design)
    notes = {**source.notes, "source": Path(paths[0]).name, "time_source": time_source}
    reporter = progress or SilentProgress()
    with MovieWriter(
        out,
        shape=source.shape,
        dtype=source.dtype,
        channels=names,
        pixel_size_um=pixel,
        time_h=times,
        data_range=params.data_range or source.data_range,
        attrs=notes,
    ) as writer:
        for index in reporter.track(range(frames), f"import {Path(out).stem}", total=frames):
            frame = source.frame(index)
            if frame.dtype.kind == "f" and not np.isfinite(frame).all():
                raise InvalidDataError(
                    f"frame {index} holds NaN or infinite values",
                    where=source.where,
                    mend="replace them by measured values or leave the frame out",
                )
            writer.write_frame(index, frame)
    return {
        "movie": str(out),
        "source": [str(path) for path in paths],
        "shape": list(source.shape),
        "dtype": str(source.dtype),
        "channels": list(names),
        "pixel_size_um": pixel,
        "time_source": time_source,
        "time_first_h": round(float(times[0]), 6),
        "time_last_h": round(float(times[-1]), 6),
        "n_frames": frames,
        "n_channels": channels,
    }


def settle_channels(source: MovieSource, params: ImportParams, design: Design) -> tuple[str, ...]:
    """The parameter's names, else the file's (by the design's aliases), else ``C0``, ``C1``, ...

    Raises
    ------
    InvalidDataError
        As many names as channels are needed, each once.
    """
    count = source.shape[1]
    if params.channels:
        if len(params.channels) != count or len(set(params.channels)) != count:
            raise InvalidDataError(
                f"has {count} channels, the names given are {', '.join(params.channels)}",
                where=source.where,
                mend="give one distinct name a channel",
            )
        return params.channels
    named = source.channels or tuple(f"C{k}" for k in range(count))
    renamed = tuple(next((c.name for c in design.channels if name in c.aliases), name) for name in named)
    return renamed if len(set(renamed)) == count else tuple(f"C{k}" for k in range(count))


def settle_times(
    source: MovieSource, params: ImportParams, design: Design
) -> tuple[npt.NDArray[np.float64], str]:
    """Hours since release of each frame, gaps kept, and where they come from (``file``, ``parameter``,
    ``single``).

    Times of the file win over ``interval_min``. Those counted from the first frame, and all where
    ``start_h`` is given, are moved to begin at ``start_h`` or the design's ``imaging_start_h``.
    """
    frames = source.shape[0]
    start = design.timeline.imaging_start_h if params.start_h is None else params.start_h
    if source.hours is not None:
        if source.hours_since_release and params.start_h is None:
            return source.hours, "file"
        return np.round(source.hours - source.hours[0], 9) + start, "file"
    if params.interval_min is not None:
        return start + np.arange(frames) * (params.interval_min / 60.0), "parameter"
    if frames == 1:
        return np.array([float(start)]), "single"
    raise InvalidDataError(
        "does not say when its frames were taken",
        where=source.where,
        mend="give --interval-min or the parameter `interval_min`",
    )
