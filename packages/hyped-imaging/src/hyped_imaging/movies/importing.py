"""Any movie a registered reader knows, into HYPED's movie: names, units and times settled once, then frame
by frame."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.context import Progress, SilentProgress
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UnsupportedDataError
from hyped_imaging.movies.params import ImportParams
from hyped_imaging.movies.source import MovieSource
from hyped_imaging.parallel import Workers, run_frames

if TYPE_CHECKING:
    from hyped_core.container.partial import FrameHandle
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
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the movie ``out`` from ``paths`` and return what it is. It appears whole or not at all; the same
    import goes on where an earlier one was ended. A frame that cannot be read is recorded as missing.

    Raises
    ------
    CorruptFileError
        More than ``max_lost_frames`` of the frames cannot be read.
    InvalidDataError
        Neither files nor parameters say how large a pixel is, when frames were taken, or what channels are
        called.
    """
    from hyped_core.container.movies import MovieWriter

    source = open_source(paths, params)
    frames, channels = source.shape[:2]
    lost = {index: source.missing[index] for index in source.damaged}
    _check_lost(lost, source, params)
    names = settle_channels(source, params, design)
    pixel = params.pixel_size_um or source.pixel_size_um
    if pixel is None:
        raise InvalidDataError(
            "does not say how large a pixel is",
            where=source.where,
            mend="give --pixel-size-um, or `pixel_size_um` in the import's parameters",
        )
    times, time_source = settle_times(source, params, design)
    notes = {**source.notes, "source": Path(paths[0]).name, "time_source": time_source}
    limits = params.data_range or source.data_range
    key = _resume_key(paths, params, [names, pixel, times.tolist(), limits, notes, str(source.dtype)])
    with MovieWriter(
        out,
        shape=source.shape,
        dtype=source.dtype,
        channels=names,
        pixel_size_um=pixel,
        time_h=times,
        data_range=limits,
        attrs=notes,
        resume=key,
    ) as writer:
        for index, reason in source.missing.items():
            writer.write_missing(index, reason)
        done = {*writer.written(), *source.missing}
        job = ImportJob(tuple(str(Path(path).absolute()) for path in paths), params, writer.handle(), source)
        run = run_frames(
            job, [index for index in range(frames) if index not in done], workers or Workers(),
            progress=progress or SilentProgress(), description=f"import {Path(out).stem}",
        )  # fmt: skip
        with closing(run):
            for index, reason in run:
                if reason is not None:
                    lost[index] = reason
                    _check_lost(lost, source, params)
                    writer.write_missing(index, reason)
    missing = {**source.missing, **lost}
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
        "missing_frames": {str(index): reason for index, reason in sorted(missing.items())},
        "unreadable_frames": sorted(lost),
    }


def _check_lost(lost: dict[int, str], source: MovieSource, params: ImportParams) -> None:
    """Refuse a movie of which more frames than allowed cannot be read."""
    if len(lost) <= params.max_lost_frames * source.shape[0]:
        return
    first = min(lost)
    raise CorruptFileError(
        f"{len(lost)} of {source.shape[0]} frames cannot be read, the first one frame {first}: {lost[first]}",
        where=source.files[first] if source.files else source.where,
        mend="fetch the files again; or, to go on without them, raise `max_lost_frames` in the import's parameters",
    )


@dataclass(frozen=True)
class ImportJob:
    """Copies frames of the movie in ``paths`` through ``handle``; ``source`` is that movie, opened here."""

    paths: tuple[str, ...]
    params: ImportParams
    handle: FrameHandle
    source: MovieSource | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens the files itself."""
        return {**self.__dict__, "source": None}

    @contextmanager
    def open(self) -> Iterator[Callable[[int], str | None]]:
        """See `hyped_imaging.parallel.FrameJob`."""
        source = self.source or open_source(self.paths, self.params)

        def write(index: int) -> str | None:
            try:
                frame = source.frame(index)
            except CorruptFileError as error:
                return error.message
            if frame.dtype.kind == "f" and not np.isfinite(frame).all():
                raise InvalidDataError(
                    f"frame {index} holds NaN or infinite values",
                    where=source.files[index] if source.files else source.where,
                    mend="replace them by measured values or leave the frame out",
                )
            self.handle.write_frame(index, frame)
            return None

        yield write


def _resume_key(paths: Sequence[str | Path], params: ImportParams, settled: list[Any]) -> str:
    """What decides the pixels: the files (path, size, time of change), the parameters, what was settled from
    them, and this version."""
    files = []
    for path in map(Path, paths):
        inside = sorted(path.iterdir()) if path.is_dir() else []
        for file in (path, *inside):
            stat = file.stat()
            files.append([str(file.absolute()), stat.st_size, stat.st_mtime_ns])
    told = [files, params.model_dump(mode="json"), settled, version("hyped-imaging")]
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()


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
        mend="give --interval-min, or `interval_min` in the import's parameters",
    )
