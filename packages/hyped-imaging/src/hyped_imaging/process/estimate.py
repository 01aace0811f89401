"""What processing will take, from doing one frame of it: disk, time and memory. Nothing is written."""

from __future__ import annotations

import shutil
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.contracts import ImageMeta
from hyped_imaging.modelstep import make_model

if TYPE_CHECKING:
    from hyped_imaging.process.run import Job

_TRACK_S = 5e-5
_ROW_BYTES = 260
"""Of a nucleus in the tables of nuclei, tracks and phases together."""
_PYRAMID = 4 / 3
_BASE_MIB = 350
"""Of a process before it holds a frame."""
_REGISTER_S = 1.5e-8
"""A pixel of a frame that shifts and illumination are estimated from."""


def estimate(job: Job) -> dict[str, Any]:
    """Frames, disk (MiB) and seconds of every scene and in all, by doing the middle frame of the first scene.

    Also memory of a process (MiB), roughly, and what is free where the folder will be.

    Raises
    ------
    HypedError
        What processing would raise before its first frame: no times, no pixel size, a missing channel.
    """
    job.check_design()
    scenes = _shapes(job)
    first = next(iter(scenes))
    _one_frame(job, first)  # compiling and imports are paid once, so the second time counts
    start = time.perf_counter()
    frame, meta = _one_frame(job, first)
    read = time.perf_counter() - start
    packed = _packed_share(frame)
    model, _, _ = make_model("segment", job.params.section("segment"), job.design)
    model.segment(frame, meta, context=job.context)
    start = time.perf_counter()
    labels = model.segment(frame, meta, context=job.context)
    segment = time.perf_counter() - start
    one = _Frame(frame.shape, frame.dtype.itemsize, read, segment, len(np.unique(labels)) - 1, packed,
                 len(zlib.compress(labels.tobytes(), 1)), job.release)  # fmt: skip
    parts = {name: _scene(shape, one) for name, shape in scenes.items()}
    if job.found.kind == "czi":
        for name, shape in scenes.items():
            sampled = min(shape[0], job.params.stitch.registration_frames)
            spent = sampled * (read + _REGISTER_S * float(np.prod(shape[1:])))
            parts[name]["seconds"] = round(parts[name]["seconds"] + spent, 1)
    seconds = sum(part["seconds"] for part in parts.values())
    return {
        "out": str(job.layout.out),
        "scenes": parts,
        "nuclei_in_one_frame": one.nuclei,
        "disk_mib": round(sum(part["disk_mib"] for part in parts.values()), 1),
        "free_mib": round(_free(job.layout.out) / 2**20, 1),
        "memory_mib": round(_BASE_MIB + 6 * frame.nbytes / 2**20, 1),
        "seconds": round(seconds / job.workers.processes, 1),
        "workers": job.workers.scheduler or job.workers.processes,
    }


@dataclass(frozen=True, slots=True)
class _Frame:
    """What one frame took: (c, y, x), bytes a pixel, seconds to read and to segment, nuclei, share of its size that
    is left when compressed, bytes of its compressed labels; and whether it is released too."""

    shape: tuple[int, ...]
    itemsize: int
    read: float
    segment: float
    nuclei: int
    packed: float
    labels: int
    release: bool


def _free(path: Path) -> int:
    """Bytes free where ``path`` will be."""
    there = next(parent for parent in [path.absolute(), *path.absolute().parents] if parent.exists())
    return shutil.disk_usage(there).free


def _scene(shape: tuple[int, int, int, int], one: _Frame) -> dict[str, Any]:
    frames = shape[0]
    area = shape[2] * shape[3] / (one.shape[1] * one.shape[2])
    pixels = float(np.prod(shape, dtype=float)) * one.itemsize * one.packed
    found = one.nuclei * area * frames
    disk = pixels * (_PYRAMID + one.release) + frames * area * one.labels * _PYRAMID + found * _ROW_BYTES
    return {
        "shape": list(shape),
        "disk_mib": round(disk / 2**20, 1),
        "seconds": round(frames * area * (2 * one.read + 1.5 * one.segment) + found * _TRACK_S, 1),
    }


def _shapes(job: Job) -> dict[str, tuple[int, int, int, int]]:
    """(t, c, y, x) of the movie that each scene will become; the files are opened once."""
    if job.found.kind == "czi":
        from hyped_imaging.readers.czi import open_czi
        from hyped_imaging.stitch import plan_scene

        with open_czi(job.found.paths[0], reader=job.reader, select=job.params.stitch.select) as czi:
            return {
                name: plan_scene(czi, held, job.params.stitch, job.design, strict=True).shape
                for name, held in job.found.scenes.items()
            }
    from hyped_imaging.movies.importing import open_source, settle_times

    source = open_source(job.found.paths, job.params.import_movie)
    settle_times(source, job.params.import_movie, job.design)
    return dict.fromkeys(job.found.scenes, source.shape)


def _one_frame(job: Job, scene: str) -> tuple[npt.NDArray, ImageMeta]:
    """The middle frame (c, y, x) of a scene, tiles as the stage has them, and what a segmenter is told of it."""
    from hyped_imaging.segment.step import canonical_channels

    if job.found.kind == "czi":
        from hyped_imaging.readers.czi import open_czi
        from hyped_imaging.stitch import plan_scene
        from hyped_imaging.stitch.fuse import Fuser

        with open_czi(job.found.paths[0], reader=job.reader, select=job.params.stitch.select) as czi:
            plan = plan_scene(czi, job.found.scenes[scene], job.params.stitch, job.design, strict=True)
            tiles = czi.read_tiles(plan.scene.index, plan.shape[0] // 2)
            flat = [None if tile is None else tile.max(axis=1) for tile in tiles]
            frame = Fuser(plan.corners, plan.sizes, len(plan.channels)).fuse(flat)
            names, pixel, limits = plan.channels, plan.pixel_size_um, (0.0, float(2**czi.bits - 1))
    else:
        from hyped_imaging.movies.importing import open_source, settle_channels

        source = open_source(job.found.paths, job.params.import_movie)
        frame = source.frame(source.shape[0] // 2)
        names = settle_channels(source, job.params.import_movie, job.design)
        pixel = job.params.import_movie.pixel_size_um or source.pixel_size_um or 1.0
        limits = source.data_range or (0.0, 65535.0)
    channels = canonical_channels(names, job.design)
    return frame, ImageMeta(pixel_size_um=pixel, data_range=limits, channels=channels)


def _packed_share(frame: npt.NDArray) -> float:
    """Size of a frame as movies are compressed, over its size in memory."""
    from numcodecs import Blosc

    codec = Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE)
    plane = np.ascontiguousarray(frame)
    return len(codec.encode(plane)) / plane.nbytes
