"""Denoising an image file: a TIFF of one plane, a stack over time or channels, or a PNG; the result is a TIFF."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.container.movies import dtype_range
from hyped_core.context import RunContext
from hyped_core.contracts import Denoiser, ImageMeta
from hyped_core.errors import CorruptFileError, InvalidDataError, UnsupportedDataError, UsageError
from hyped_core.io.atomic import atomic_path
from hyped_imaging.denoise.plan import DenoiseOptions, Planes, make_plan, models_for
from hyped_imaging.denoise.step import noise_record, noted, ready_model
from hyped_imaging.denoise.streams import denoise_streams, spool_beside
from hyped_imaging.denoise.windows import Change, denoise_windows
from hyped_imaging.modelstep import ModelStep
from hyped_imaging.movies.importing import open_source
from hyped_imaging.movies.params import ImportParams
from hyped_imaging.movies.source import MovieSource

if TYPE_CHECKING:
    from hyped_core.design import Design

SUFFIXES = (".tif", ".tiff", ".png")
"""Image files that are denoised as they are; everything else has to be a movie."""

_IMAGEJ = ("uint8", "uint16", "float32")


def is_image(path: Path) -> bool:
    """True for a file by its suffix; folders and zarr are movies."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def open_image(path: Path) -> tuple[Planes, MovieSource]:
    """The planes of an image file, and what the file says of itself.

    Raises
    ------
    MissingFileError, CorruptFileError, UnsupportedDataError
        Absent, damaged, in colour.
    """
    if path.suffix.lower() == ".png" and path.is_file():
        source = _png(path)
    else:
        source = open_source([path], ImportParams())
    names = source.channels or tuple(f"C{k}" for k in range(source.shape[1]))
    limits = source.data_range or dtype_range(source.dtype)
    last: dict[int, npt.NDArray] = {}

    def read(frame: int, k: int) -> npt.NDArray:
        if frame not in last:
            last.clear()
            last[frame] = source.frame(frame)
        return last[frame][k]

    def meta(k: int) -> ImageMeta:
        times = None if source.hours is None else tuple(source.hours.tolist())
        size = source.pixel_size_um or 1.0
        return ImageMeta(names[k], limits, pixel_size_um=size, time_h=times, channels=(names[k],))

    planes = Planes(path, source.shape, source.dtype, names, limits, read, meta, dict(source.missing))
    return planes, source


def _png(path: Path) -> MovieSource:
    """A grey PNG of 8 or 16 bits as a movie of one frame."""
    import cv2

    stored = np.frombuffer(path.read_bytes(), np.uint8)
    pixels = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED) if stored.size else None
    if pixels is None:
        raise CorruptFileError("is not a readable PNG", where=path, mend="copy the file again from its source")
    if pixels.ndim == 3:
        raise UnsupportedDataError("holds colour pixels", where=path, mend="give one grey channel a file")
    return MovieSource(path, (1, 1, *pixels.shape), pixels.dtype, lambda _: pixels[None])


def denoise_image(
    path: Path,
    out: Path,
    model: ModelStep | Denoiser,
    *,
    design: Design,
    context: RunContext,
    options: DenoiseOptions | None = None,
) -> dict[str, Any]:
    """Write the TIFF ``out``: the planes of the image ``path`` with less noise, with its axes, pixel size, times
    between frames and names of channels (ImageJ's format, OME where the image is OME or ``out`` ends in
    ``.ome.tif``).

    Returns
    -------
    JSON-able record, as `hyped_imaging.denoise.step.denoise_movie` gives it.

    Raises
    ------
    UsageError
        ``out`` is no TIFF, or the image itself.
    InvalidDataError, PluginError
        As for a movie.
    """
    started = time.perf_counter()
    options = options or DenoiseOptions()
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise UsageError("the result of an image is a TIFF", where=out, mend=f"call it {out.stem}.tif")
    if out.resolve() == path.resolve():
        raise UsageError("the result would replace the image", where=out, mend="give another name")
    planes, source = open_image(path)
    made, placed = ready_model(model, design)
    plan = make_plan(planes, made, design, options)
    if plan.missing:
        raise InvalidDataError(
            f"frames {', '.join(map(str, plan.missing))} are lost", where=path, mend="leave them out: --frames"
        )
    models = models_for(planes, made, plan, options, context)
    learnt = time.perf_counter()
    changed = {k: Change() for k in plan.channels}

    def frames() -> Iterator[npt.NDArray]:
        given = (planes.read, models, planes.meta)
        common: dict[str, Any] = {"shape": planes.shape, "dtype": plan.dtype, "where": path, "context": context}
        if plan.length:
            run = denoise_windows(plan.windows, *given, **common)
        else:
            run = denoise_streams(plan.present, plan.chosen, *given, **common, spool=spool)
        count = len(plan.windows or plan.chosen) * len(plan.channels)
        for ready in context.progress.track(run, f"denoise {path.name}", count):
            for _, pixels, changes in ready:
                for k, change in changes.items():
                    changed[k] += change
                yield from pixels

    with atomic_path(out) as part, spool_beside(out, None) as spool:
        _write(part, out.name, frames(), source, planes, len(plan.chosen), plan.dtype)
    count = len(plan.chosen) * len(plan.channels)
    worked = time.perf_counter()
    return {
        "image": str(path),
        "out": str(out),
        **noted(made, placed, planes, plan),
        "frames": len(plan.chosen),
        "dtype": str(plan.dtype),
        "window_frames": plan.length,
        "neighbours": plan.neighbours,
        "noise": noise_record(planes, plan),
        "changes": {planes.channels[k]: change.record() for k, change in changed.items()},
        "seconds": {
            "learn": round(learnt - started, 3),
            "a_plane": round((worked - learnt) / count, 4),
            "all": round(worked - started, 3),
        },
    }


def _write(
    part: Path,
    name: str,
    planes: Iterator[npt.NDArray],
    source: MovieSource,
    read: Planes,
    frames: int,
    dtype: np.dtype,
) -> None:
    """Planes in the order of time and channel, one after another, into ``part``."""
    import tifffile

    _, channels, height, width = read.shape
    lead = [(axis, n) for axis, n in (("T", frames), ("C", channels)) if n > 1]
    shape = (*(n for _, n in lead), height, width)
    notes: dict[str, Any] = {"axes": "".join(axis for axis, _ in lead) + "YX"}
    size = source.pixel_size_um
    step = None
    if source.hours is not None and len(source.hours) > 1:
        step = float(np.diff(source.hours).mean() * 3600)
    ome = name.lower().endswith((".ome.tif", ".ome.tiff")) or _is_ome(source.where)
    if ome:
        notes["Channel"] = {"Name": list(read.channels)}
        notes |= {} if size is None else {"PhysicalSizeX": size, "PhysicalSizeY": size}
        notes |= {} if step is None else {"TimeIncrement": step, "TimeIncrementUnit": "s"}
        if "T" in notes["axes"] and "C" not in notes["axes"]:
            notes["Channel"] = {"Name": list(read.channels)[:1]}
    elif dtype.name in _IMAGEJ:
        notes |= {} if size is None else {"unit": "um"}
        notes |= {} if step is None else {"finterval": step, "tunit": "s"}
    tifffile.imwrite(
        part, planes, shape=shape, dtype=dtype, photometric="minisblack", ome=ome,
        imagej=not ome and dtype.name in _IMAGEJ, metadata=notes,
        resolution=None if size is None else (1.0 / size, 1.0 / size),
    )  # fmt: skip


def _is_ome(path: Path) -> bool:
    import tifffile

    if path.suffix.lower() == ".png":
        return False
    with tifffile.TiffFile(path) as file:
        return bool(file.is_ome)
