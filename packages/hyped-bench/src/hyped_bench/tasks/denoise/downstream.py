"""What denoising is for: nuclei found and tracked in a denoised movie, scored as the tasks `segment` and `track` do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_bench.frames import LabelFrames
from hyped_bench.metrics.tracking import tracking_scores
from hyped_bench.tasks.denoise.fields import Stack, as_stored
from hyped_bench.tasks.denoise.params import DenoiseSource
from hyped_bench.tasks.denoise.summary import Group
from hyped_bench.tasks.segment import SegmentParams, SegmentSource, SegmentTask
from hyped_bench.tasks.track import TrackParams, TrackSource, TrackTask, covering, pooled_division_f1, scene_truth
from hyped_core.contracts import ImageMeta
from hyped_core.errors import InvalidDataError, UnknownNameError

if TYPE_CHECKING:
    from hyped_core.context import RunContext

SEGMENT_KEYS = ("f1_iou50", "seg")
TRACK_KEYS = ("tra", "lnk", "det", "division_f1")
DIVISION_KEY = "downstream_division_f1"
DOWNSTREAM_KEYS = tuple(f"downstream_{key}" for key in (*SEGMENT_KEYS, *TRACK_KEYS[:-1]))
"""Averaged over fields of view; divisions are few and are pooled over them instead (`DIVISION_KEY`)."""
COUNTS = ("n_objects", "n_divisions", "n_divisions_found", "n_divisions_extra", "n_divisions_missed")


def light_name(source: DenoiseSource) -> str:
    """The share of light in percent, as it stands in keys."""
    return f"{100 * source.light:g}"


class DenoisedFrames:
    """Denoised planes in place of a movie's, as `hyped_bench.frames.Frames`."""

    def __init__(self, stacks: list[Stack], results: list[npt.NDArray]) -> None:
        self._at = {frame: i for i, frame in enumerate(stacks[0].frames)}
        self._planes = {
            stack.channel: as_stored(result, stack.noisy.dtype) for stack, result in zip(stacks, results, strict=True)
        }
        self._meta = stacks[0].meta
        self.names = [str(i) for i in range(max(self._at) + 1)]

    def channels(self) -> tuple[str, ...]:
        """Names of the denoised channels."""
        return tuple(self._planes)

    def planes(self, index: int, channels: tuple[str, ...]) -> npt.NDArray:
        """(c, y, x) in camera units and of the movie's type, as a stored denoised movie would give them."""
        return np.stack([self._planes[channel][self._at[index]] for channel in channels])

    def meta(self, channels: tuple[str, ...]) -> ImageMeta:
        """What the movie says of its frames."""
        return replace(self._meta, channel="+".join(channels), channels=channels, time_h=None)


class Chain:
    """The segmenter and the tracker of one source, as registered, with their configs filled from its design.

    Raises
    ------
    UnknownNameError
        Nothing of that name is registered.
    MissingDependencyError, ParamsError
        What it needs is not installed; its config is wrong.
    """

    def __init__(self, source: DenoiseSource) -> None:
        self.source = source
        self.facts: dict[str, Any] = {}
        self._make = {
            "segment": self._factory("segment", source.segmenter, source.segmenter_config),
            "track": self._factory("track", source.tracker, source.tracker_config),
        }

    def _factory(self, task: str, name: str, values: dict[str, Any]) -> Any:
        from hyped_core.design import read_design
        from hyped_core.remote.placing import place

        try:
            placed = place(task, name, values, read_design(self.source.design))
        except UnknownNameError as error:
            error.where = error.where or f"denoise source {self.source.name}, {task}er"
            raise
        placed.create()
        self.facts[task] = {
            "model": name,
            "distribution": placed.plugin.distribution,
            "version": placed.plugin.version,
            "config": placed.config or {},
        }
        return lambda configs=None: placed.create()

    def score(
        self, stacks: list[Stack], results: list[npt.NDArray], tolerance: int, context: RunContext
    ) -> dict[str, Any]:
        """Scores of one movie whose channels were denoised.

        Parameters
        ----------
        stacks, results : one a channel, of the same frames.
        tolerance : frames by which a division may be early or late.
        """
        source, frames = self.source, stacks[0].frames
        movie = DenoisedFrames(stacks, results)
        segment = SegmentTask(
            SegmentParams(sources=(SegmentSource(name=source.name, movie=source.noisy, truth=source.labels),)),  # type: ignore[arg-type]
            context,
        )
        segment.frames, segment.picked = {source.name: movie}, {source.name: frames}
        found = segment.run(self._make["segment"])
        row = {f"downstream_{key}": segment.score(found).metrics[key] for key in SEGMENT_KEYS}
        labels = {frame: found[source.name, frame] for frame in frames}
        tracked = self._tracked(measured(labels, movie, stacks[0].meta), context)
        truth = true_tracks(source, frames)
        scores = tracking_scores(tracked, truth, covering(labels.items(), LabelFrames(source.labels)), tolerance)  # type: ignore[arg-type]
        row.update({f"downstream_{key}": scores[key] for key in TRACK_KEYS})
        row.update({key: int(scores.get(key) or 0) for key in COUNTS})
        return {
            "source": source.name, "unit": stacks[0].unit, "field": source.name, "channel": "+".join(movie.channels()),
            "condition": stacks[0].condition, "light": light_name(source), **row,
        }  # fmt: skip

    def _tracked(self, objects: pd.DataFrame, context: RunContext) -> pd.DataFrame:
        if objects.empty:  # nothing was found: the score is 0, and no tracker has to cope with it
            return objects.assign(track_id=np.zeros(0, np.int64), parent_id=np.zeros(0, np.int64))
        task = TrackTask(
            TrackParams(sources=(TrackSource(name=self.source.name, table=str(self.source.tracks)),)), context
        )
        task.objects = {self.source.name: objects}
        return task.run(self._make["track"])[self.source.name]


def measured(labels: dict[int, npt.NDArray], movie: DenoisedFrames, meta: ImageMeta) -> pd.DataFrame:
    """Place, area and intensities over the frame's background of labelled nuclei: what trackers read.

    Returns
    -------
    One row a nucleus: ``frame, time_h, label, y_um, x_um, area_um2``, and ``mean_<channel>``, ``integrated_<channel>``
    (camera units) for every channel. Times are hours, 1 a frame where the movie has none.
    """
    parts = []
    for at, (frame, plane) in enumerate(labels.items()):
        area = np.bincount(plane.ravel())
        present = np.flatnonzero(area[1:]) + 1
        where = np.indices(plane.shape)
        centre = [np.bincount(plane.ravel(), weights=axis.ravel())[present] / area[present] for axis in where]
        time = meta.time_h[at] if meta.time_h else float(frame)
        part = pd.DataFrame({"frame": np.full(len(present), frame, np.int64), "time_h": time, "label": present})
        part["y_um"], part["x_um"] = (axis * meta.pixel_size_um for axis in centre)
        part["area_um2"] = area[present] * meta.pixel_size_um**2
        for channel in movie.channels():
            pixels = movie.planes(frame, (channel,))[0].astype(np.float64)
            outside = pixels[plane == 0]
            background = float(np.median(outside)) if outside.size else 0.0
            total = np.bincount(plane.ravel(), weights=pixels.ravel())[present] - background * area[present]
            part[f"mean_{channel}"], part[f"integrated_{channel}"] = total / area[present], total
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def true_tracks(source: DenoiseSource, frames: list[int]) -> pd.DataFrame:
    """True tracks within the frames; a track whose parent ended before them has none."""
    table = scene_truth(source.tracks, TrackSource(name=source.place(), table=str(source.tracks)))  # type: ignore[arg-type]
    table = table[table["frame"].isin(frames)].reset_index(drop=True)
    if table.empty:
        raise InvalidDataError(
            f"has no tracks of scene {source.place()} in frames {frames[0]} to {frames[-1]}",
            where=source.tracks,
            mend="correct `scene` or `frames`",
        )
    parents = table["parent_id"].where(table["parent_id"].isin(table["track_id"]), 0)
    return table.assign(parent_id=parents.astype(np.int64))


def division_f1(rows: pd.DataFrame, found: list[Group], primary: list[str]) -> dict[str, float | None]:
    """F1 of the divisions of each group's movies together; None where their truth has none."""
    return {f"{DIVISION_KEY}{group.suffix}": pooled_division_f1(group.rows(rows, primary)) for group in found}
