"""The step ``segment``: a movie in, labels and the table of nuclei out, frame by frame."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta, Segmenter
from hyped_core.errors import CorruptFileError, InvalidDataError, UsageError
from hyped_core.io.atomic import atomic_path
from hyped_imaging.modelstep import ModelStep, make_model, place_model
from hyped_imaging.parallel import Workers, run_frames
from hyped_imaging.segment.planes import check_finite

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.container.movies import LabelsWriter, Movie
    from hyped_core.container.partial import FrameHandle
    from hyped_core.design import Design
    from hyped_core.remote.placing import Placed


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """What was found.

    Attributes
    ----------
    frames : frames with labels; those missing and those left out do not count.
    nuclei : rows of the table.
    missing : chosen frames that are missing in the movie or damaged.
    kept : frames that an earlier run had done.
    """

    frames: int
    nuclei: int
    missing: int = 0
    kept: int = 0


def parse_frames(text: str | None, total: int) -> range:
    """``"a:b:step"`` as Python slices read it, or every frame."""
    if not text:
        return range(total)
    try:
        parts = [int(part) if part else None for part in text.split(":")]
        if not 1 <= len(parts) <= 3:
            raise ValueError(text)
        chosen = (
            range(total)[parts[0] : parts[0] + 1 or None] if len(parts) == 1 else range(total)[slice(*parts)]
        )
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"--frames {text!r} is not first:last:step", mend=f"e.g. 0:{total}:10; there are {total} frames"
        ) from error
    if not chosen:
        raise UsageError(f"--frames {text!r} names no frame", mend=f"there are {total} frames")
    return chosen


def canonical_channels(channels: Sequence[str], design: Design) -> tuple[str, ...]:
    """The design's names for a movie's channels; names the design does not know stay."""
    names = []
    for name in channels:
        known = next((c.name for c in design.channels if name == c.name or name in c.aliases), name)
        names.append(known)
    if len(set(names)) < len(names):
        raise InvalidDataError(
            f"channels {', '.join(channels)} become {', '.join(names)}",
            where="design",
            mend="correct the aliases",
        )
    return tuple(names)


def segment_movie(
    movie: Movie,
    labels_path: str | Path,
    table_path: str | Path,
    model: ModelStep | Segmenter,
    *,
    design: Design,
    scene: str,
    context: RunContext,
    frames: range | None = None,
    attrs: dict[str, Any] | None = None,
    workers: Workers | None = None,
    skip_damaged: bool = False,
) -> SegmentResult:
    """Segment and measure ``movie``; labels of frames left out are empty, so that frame numbers stay the
    movie's. Frames that the movie misses are missing in the labels and have no rows.

    Both outputs appear whole, the labels last. With a `ModelStep` each worker makes the model for itself, and
    a run that was ended goes on where it was: finished frames are kept beside the labels as long as movie,
    model, its parameters, its code and the libraries stay the same. A ready segmenter is used as it is (and
    pickled for workers); nobody can tell when two are the same, so such a run begins anew.

    Parameters
    ----------
    skip_damaged : record a frame that cannot be read as missing, with the reason, instead of ending there.

    Raises
    ------
    DesignError
        The design does not know the scene, or the movie lacks a channel the segmenter wants.
    CorruptFileError
        A frame cannot be read, and ``skip_damaged`` is not set.
    InvalidDataError
        A frame holds NaN, or the segmenter's labels do not have the frame's shape.
    StorageError
        The disk is full; frames done by then are kept.
    """
    from hyped_core.container.movies import LabelsWriter

    workers = workers or Workers()
    place = design.scene(scene)
    total, _, height, width = movie.shape
    chosen = sorted(range(total) if frames is None else frames)
    channels = canonical_channels(movie.channels, design)
    noted = dict(attrs or {})
    resume = None
    if isinstance(model, ModelStep):
        placed = place_model("segment", model, design)
        made = placed.create()
        noted = {"model": placed.spec.name, "config": json.loads(json.dumps(placed.values)), **noted}
        resume = _resume_key(movie, placed, design, scene, chosen, context.seed)
        model = made if workers == Workers() else model
        del placed, made  # workers make their own
    if len(chosen) < total:
        noted["frames"] = chosen
    writer = LabelsWriter(
        labels_path,
        shape=(total, height, width),
        pixel_size_um=movie.pixel_size_um,
        time_h=movie.time_h,
        source=Path(os.path.relpath(movie.path, labels_path)).as_posix(),
        attrs=noted,
        resume=resume,
    )
    with writer:
        done = {index for index in writer.written() if index not in chosen or writer.note(index) is not None}
        for index, reason in movie.missing_frames.items():
            writer.write_missing(index, reason)
        for index in set(range(total)).difference(chosen, done, movie.missing_frames):
            writer.write_frame(index, np.zeros((height, width), np.int32))
        left = [index for index in chosen if index not in done and index not in movie.missing_frames]
        kept = len(chosen) - len(left) - len(set(chosen) & movie.missing_frames.keys())
        job = SegmentJob(
            str(movie.path.absolute()), tuple(movie.time_h.tolist()), channels, model, design,
            (context.seed, context.device, context.threads), writer.handle(), skip_damaged,
        )  # fmt: skip
        said = f"segment {scene}" + (f", {kept} frames done before" if kept else "")
        for _ in run_frames(job, left, workers, progress=context.progress, description=said):
            pass
        nuclei = _table(writer, chosen, channels)
        nuclei.insert(0, "scene", scene)
        nuclei.insert(3, "condition", place.condition)
        nuclei.insert(4, "replicate", place.replicate)
        missing = len(set(chosen) & writer.missing_frames.keys())
        with atomic_path(table_path) as part:
            nuclei.to_parquet(part, index=False)
    return SegmentResult(frames=len(chosen) - missing, nuclei=len(nuclei), missing=missing, kept=kept)


@dataclass(frozen=True, slots=True)
class SegmentJob:
    """Segments and measures frames of one movie in whichever process it is opened in.

    Labels go to the labels being written, a frame's table is their note; the result is the number of nuclei,
    None for a frame that was found damaged.
    """

    movie: str
    time_h: tuple[float, ...]
    channels: tuple[str, ...]
    model: ModelStep | Segmenter
    design: Design
    run: tuple[int, str, int]
    """Seed, device and threads of the context."""
    labels: FrameHandle
    skip_damaged: bool

    @contextmanager
    def open(self) -> Iterator[Callable[[int], int | None]]:
        """Open the movie and make the model, once a worker."""
        from hyped_core.container.movies import Movie

        movie = Movie.open(self.movie)
        seed, device, threads = self.run
        context = RunContext(seed=seed, device=device, threads=threads)
        model = self.model
        if isinstance(model, ModelStep):
            model, _, _ = make_model("segment", model, self.design)
        yield lambda index: self._frame(movie, model, context, index)

    def _frame(self, movie: Movie, model: Segmenter, context: RunContext, index: int) -> int | None:
        try:
            planes = movie.frame(index)
        except CorruptFileError as error:
            if not self.skip_damaged:
                raise CorruptFileError(
                    error.message,
                    where=error.where,
                    mend=f"{error.mend}; or go on without it: --skip-damaged",
                ) from error
            self.labels.write_missing(index, error.message)
            return None
        check_finite(planes, f"{movie.path}, frame {index}")
        meta = ImageMeta(
            channel="+".join(self.channels),
            data_range=movie.data_range,
            pixel_size_um=movie.pixel_size_um,
            time_h=(self.time_h[index],),
            channels=self.channels,
        )
        labels = checked_labels(model.segment(planes, meta, context=context), movie.shape[2:], index)
        table = measure_frame(labels, planes, self.channels, movie.pixel_size_um)
        table.insert(0, "frame", index)
        table.insert(1, "time_h", self.time_h[index])
        self.labels.write_frame(index, labels, _to_bytes(table))
        return len(table)


def _to_bytes(table: pd.DataFrame) -> bytes:
    """A table as an Arrow stream: read back ten times as fast as parquet."""
    import pyarrow as pa

    rows = pa.Table.from_pandas(table, preserve_index=False)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()


def _table(writer: LabelsWriter, frames: Sequence[int], channels: tuple[str, ...]) -> pd.DataFrame:
    """The rows of all frames in their order, from the notes they were written with."""
    import pyarrow as pa

    missing = writer.missing_frames
    notes = (writer.note(index) for index in frames if index not in missing)
    parts = [pa.ipc.open_stream(note).read_all() for note in notes if note is not None]
    if not parts:  # no frame is left: no rows, but their columns
        blank = np.zeros((1 + len(channels), 1, 1), np.int32)
        empty = measure_frame(blank[0], blank[1:], channels, 1.0)
        empty.insert(0, "frame", np.zeros(0, np.int64))
        empty.insert(1, "time_h", np.zeros(0))
        return empty
    return pa.concat_tables(parts, promote_options="permissive").to_pandas()


def _resume_key(
    movie: Movie, placed: Placed, design: Design, scene: str, frames: list[int], seed: int
) -> str:
    """Stands for all that decides the labels and the table: the movie's files by size and time of change, the
    model with its parameters and code, the libraries, the design, the frames and the seed."""
    from hyped_core.io.hashing import files_below
    from hyped_core.plugins.sources import model_modules, source_hash
    from hyped_core.provenance import LIBRARIES, versions

    files = [(file.relative_to(movie.path).as_posix(), file.stat()) for file in files_below(movie.path)]
    spec = placed.spec
    facts = {
        "movie": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in files],
        "time_h": movie.time_h.tolist(),
        "model": [spec.key, spec.target, placed.config],
        "code": source_hash(["hyped_imaging.segment", "hyped_imaging.modelstep", *model_modules(spec)]),
        "libraries": versions(["hyped-core", "hyped-imaging", *LIBRARIES]),
        "design": design.model_dump(mode="json"),
        "scene": scene,
        "frames": frames,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def measure_frame(
    labels: np.ndarray, planes: np.ndarray, channels: tuple[str, ...], pixel_size_um: float
) -> pd.DataFrame:
    """`measure` with blocks for the background of about 60 micrometres, at least 32 pixels."""
    from hyped_imaging.segment.measure import measure

    return measure(labels, planes, channels, pixel_size_um, block_px=max(32, round(60 / pixel_size_um)))


def checked_labels(labels: Any, shape: tuple[int, int], frame: int) -> np.ndarray:
    """A segmenter's answer, if it is what the contract says."""
    labels = np.asarray(labels)
    if labels.shape != shape or labels.dtype.kind not in "iu":
        raise InvalidDataError(
            f"the segmenter gave {labels.dtype} {labels.shape}, expected integers {shape}",
            where=f"frame {frame}",
            mend="correct the segmenter",
        )
    return labels.astype(np.int32, copy=False)


def estimate(
    movie: Movie,
    model: Segmenter,
    design: Design,
    scene: str,
    frames: range,
    context: RunContext,
    processes: int = 1,
) -> dict[str, Any]:
    """Time and disk of segmenting ``frames``, from the middle one that is there; writes nothing."""
    import time
    import zlib

    design.scene(scene)
    there = [index for index in frames if index not in movie.missing_frames]
    if not there:
        raise InvalidDataError("all these frames are missing", where=movie.path, mend="choose other frames")
    index = there[len(there) // 2]
    channels = canonical_channels(movie.channels, design)
    planes = movie.frame(index)
    start = time.perf_counter()
    meta = ImageMeta(pixel_size_um=movie.pixel_size_um, data_range=movie.data_range, channels=channels)
    labels = checked_labels(model.segment(planes, meta, context=context), movie.shape[2:], index)
    table = measure_frame(labels, planes, channels, movie.pixel_size_um)
    seconds = (time.perf_counter() - start) * len(there) / processes
    size = (len(zlib.compress(labels.tobytes(), 1)) + table.memory_usage().sum()) * len(there)
    return {"frames": len(there), "seconds": round(seconds, 1), "megabytes": round(float(size) / 1e6, 3)}
