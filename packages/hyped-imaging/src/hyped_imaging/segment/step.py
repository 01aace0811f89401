"""The step ``segment``: a movie in, labels and the table of nuclei out, frame by frame."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta, Segmenter
from hyped_core.errors import InvalidDataError, UsageError
from hyped_core.io.atomic import atomic_path
from hyped_imaging.segment.planes import check_finite

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.container.movies import Movie
    from hyped_core.design import Design


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """What was found."""

    frames: int
    nuclei: int


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
    model: Segmenter,
    *,
    design: Design,
    scene: str,
    context: RunContext,
    frames: range | None = None,
    attrs: dict[str, Any] | None = None,
) -> SegmentResult:
    """Segment and measure ``movie``; labels of frames left out are empty, so that frame numbers stay the
    movie's.

    Both outputs appear whole, the table last.

    Raises
    ------
    DesignError
        The design does not know the scene, or the movie lacks a channel the segmenter wants.
    InvalidDataError
        A frame holds NaN, or the segmenter's labels do not have the frame's shape.
    """
    import pandas as pd

    from hyped_core.container.movies import LabelsWriter

    place = design.scene(scene)
    total, _, height, width = movie.shape
    chosen = set(range(total) if frames is None else frames)
    channels = canonical_channels(movie.channels, design)
    times = movie.time_h
    tables: list[pd.DataFrame] = []
    writer = LabelsWriter(
        labels_path,
        shape=(total, height, width),
        pixel_size_um=movie.pixel_size_um,
        time_h=times,
        source=Path(os.path.relpath(movie.path, labels_path)).as_posix(),
        attrs={**(attrs or {}), "frames": sorted(chosen)} if len(chosen) < total else attrs,
    )
    with writer:
        for index in context.progress.track(range(total), f"segment {scene}", total):
            if index not in chosen:
                writer.write_frame(index, np.zeros((height, width), np.int32))
                continue
            planes = movie.frame(index)
            check_finite(planes, f"{movie.path}, frame {index}")
            meta = ImageMeta(
                channel="+".join(channels),
                data_range=movie.data_range,
                pixel_size_um=movie.pixel_size_um,
                time_h=(float(times[index]),),
                channels=channels,
            )
            labels = checked_labels(model.segment(planes, meta, context=context), (height, width), index)
            writer.write_frame(index, labels)
            table = measure_frame(labels, planes, channels, movie.pixel_size_um)
            table.insert(0, "frame", index)
            table.insert(1, "time_h", float(times[index]))
            tables.append(table)
    nuclei = pd.concat(tables, ignore_index=True)
    nuclei.insert(0, "scene", scene)
    nuclei.insert(3, "condition", place.condition)
    nuclei.insert(4, "replicate", place.replicate)
    with atomic_path(table_path) as part:
        nuclei.to_parquet(part, index=False)
    return SegmentResult(frames=len(chosen), nuclei=len(nuclei))


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
    movie: Movie, model: Segmenter, design: Design, scene: str, frames: range, context: RunContext
) -> dict[str, Any]:
    """Time and disk of segmenting ``frames``, from the middle one of them; writes nothing."""
    import time
    import zlib

    design.scene(scene)
    index = frames[len(frames) // 2]
    channels = canonical_channels(movie.channels, design)
    planes = movie.frame(index)
    start = time.perf_counter()
    meta = ImageMeta(pixel_size_um=movie.pixel_size_um, data_range=movie.data_range, channels=channels)
    labels = checked_labels(model.segment(planes, meta, context=context), movie.shape[2:], index)
    table = measure_frame(labels, planes, channels, movie.pixel_size_um)
    seconds = (time.perf_counter() - start) * len(frames)
    size = len(zlib.compress(labels.tobytes(), 1)) * len(frames) + table.memory_usage().sum() * len(frames)
    return {"frames": len(frames), "seconds": round(seconds, 1), "megabytes": round(float(size) / 1e6, 3)}
