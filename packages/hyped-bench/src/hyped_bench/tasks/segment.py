"""Segmentation of nuclei: labels against true labels, or against sparse annotations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_bench.frames import LabelFrames, chosen_frames, open_frames
from hyped_bench.metrics import segmentation as measure
from hyped_bench.tasks.base import (
    Judged,
    ModelFactory,
    Scores,
    Task,
    TaskParams,
    check_sources,
    summarise,
    summary_keys,
)
from hyped_core.contracts import ImageMeta
from hyped_core.errors import InvalidDataError, PluginError
from hyped_core.params import Params

INSTANCE_KEYS = ("f1_iou50", "ap_iou50", "seg", "count_error")
INTERVALS = ("f1_iou50", "seg")
KEYS = (*INSTANCE_KEYS, "foreground_recall", "background_rejection")


class SegmentSource(Params):
    """Images and what is known about their nuclei."""

    name: str
    movie: str
    """Movie folder (zarr), TIFF stack or folder of images."""
    truth: str
    """Labels folder (zarr), TIFF stack or folder of images with the same names."""
    sparse: bool = False
    """The truth is an annotation of some pixels (see the two values below), not of nuclei."""
    foreground_value: int = 2
    background_value: int = 1
    frames: tuple[int, ...] | None = None
    channels: tuple[str, ...] | None = None
    """Planes given to the model, in order; all where None."""
    channels_as: tuple[str, ...] | None = None
    """Names under which the model gets them, where sources with other names share one model's config."""
    channel_name: str = "nuclei"
    """Name of the one channel of image files."""
    pixel_size_um: float = Field(1.0, gt=0)
    """For image files only."""
    configs: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Model -> parameters for this source, laid over the model's own. State where they come from: parameters chosen on
    the labels they are scored on flatter the model."""
    primary: bool = True


class SegmentParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[SegmentSource, ...]


def _renamed(meta: ImageMeta, source: SegmentSource) -> ImageMeta:
    """``meta`` with the names of ``channels_as``."""
    if source.channels_as is None:
        return meta
    if len(source.channels_as) != len(meta.channels):
        raise InvalidDataError(
            f"channels_as has {len(source.channels_as)} names for {len(meta.channels)} channels",
            where=f"segment source {source.name}",
            mend="give one name a channel",
        )
    return replace(meta, channel="+".join(source.channels_as), channels=source.channels_as)


class SegmentTask(Task):
    """Model: `hyped_core.contracts.Segmenter`. Unit: a source, its frames pooled."""

    name: ClassVar[str] = "segment"
    Params: ClassVar[type[TaskParams]] = SegmentParams
    judged: ClassVar[tuple[Judged, ...]] = tuple(
        Judged(metric, "higher", unit_word="scene") for metric in ("f1_iou50", "seg", "foreground_recall")
    )

    def __init__(self, params: SegmentParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: SegmentParams = params
        check_sources([s.name for s in params.sources])
        self.frames: dict[str, Any] = {}
        self.picked: dict[str, list[int]] = {}

    def inputs(self) -> list[str]:
        """Movies and true labels."""
        return [p for s in self.params.sources for p in (s.movie, s.truth)]

    def facts(self) -> dict[str, Any]:
        """Frames used."""
        return {"unit": "source", "frames": {k: v for k, v in self.picked.items() if len(v) <= 50}}

    def load(self) -> None:
        """Open the movies and settle which frames are used."""
        for source in self.params.sources:
            frames = open_frames(source.movie, source.channel_name, source.pixel_size_um)
            self.frames[source.name] = frames
            self.picked[source.name] = chosen_frames(source.frames, len(frames.names), source.movie)

    def run(self, make_model: ModelFactory) -> dict[tuple[str, int], npt.NDArray[np.int32]]:
        """Segment every chosen frame."""
        shared = make_model()
        own = {s.name: make_model(s.configs) if s.configs else shared for s in self.params.sources}
        found = {}
        work = [(s, i) for s in self.params.sources for i in self.picked[s.name]]
        for source, index in self.context.progress.track(work, "segment"):
            frames = self.frames[source.name]
            channels = source.channels or frames.channels()
            planes = frames.planes(index, channels)
            meta = _renamed(frames.meta(channels), source)
            labels = np.asarray(own[source.name].segment(planes, meta, context=self.context))
            if labels.shape != planes.shape[1:]:
                raise PluginError(
                    f"returned shape {labels.shape} for planes {planes.shape}", where=source.name
                )
            if not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
                raise PluginError("labels must be integers from 0 up", where=source.name)
            found[source.name, index] = labels.astype(np.int32)
        return found

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        return [
            *summary_keys(KEYS, [s.name for s in self.params.sources], INTERVALS),
            "n_frames",
            "n_nuclei",
        ]

    def score(self, predictions: dict[tuple[str, int], npt.NDArray[np.int32]]) -> Scores:
        """Score frames, pool them by source, average sources."""
        import pandas as pd

        rows = []
        for source in self.params.sources:
            truth = LabelFrames(source.truth)
            names = self.frames[source.name].names
            for index in self.picked[source.name]:
                if source.sparse and names[index] not in truth.names:
                    raise InvalidDataError(f"has no annotation of {names[index]}", where=source.truth)
                at = truth.names.index(names[index]) if names[index] in truth.names else index
                rows.append(
                    {
                        "source": source.name,
                        "frame": names[index],
                        **_frame_counts(predictions[source.name, index], truth.frame(at), source),
                    }
                )
        frames = pd.DataFrame(rows)
        units = pd.DataFrame([_pooled(s, frames[frames["source"] == s.name]) for s in self.params.sources])
        names = [s.name for s in self.params.sources]
        metrics: dict[str, float | int | None] = {}
        warnings: list[str] = []
        for keys, sparse in (
            (INSTANCE_KEYS, False),
            (("foreground_recall",), None),
            (("background_rejection",), True),
        ):
            primary = [
                s.name for s in self.params.sources if s.primary and (sparse is None or s.sparse is sparse)
            ]
            intervals = tuple(k for k in keys if k in INTERVALS)
            found, said = summarise(
                units,
                keys,
                names,
                primary,
                intervals=intervals,
                rng=self.context.rng("segment", "bootstrap"),
                draws=self.params.bootstrap,
            )
            metrics.update(found)
            warnings += said
        metrics["n_frames"] = len(frames)
        metrics["n_nuclei"] = int(frames["n_truth"].sum())
        return Scores(metrics, {"units": units, "frames": frames}, {}, warnings)


def _frame_counts(labels: npt.NDArray, truth: npt.NDArray, source: SegmentSource) -> dict[str, Any]:
    """Everything that can be counted in one frame."""
    value = source.foreground_value if source.sparse else None
    recalled, foreground = measure.foreground_counts(labels, truth, value)
    counts: dict[str, Any] = {
        "n_predicted": int(np.count_nonzero(np.bincount(labels.ravel())[1:])),
        "n_truth": 0,
        "foreground_recalled": recalled,
        "foreground": foreground,
    }
    if source.sparse:
        kept, background = measure.foreground_counts(labels == 0, truth, source.background_value)
        return {**counts, "background_kept": kept, "background": background}
    hits, extra, missed = measure.match_counts(labels, truth)
    values = measure.seg_values(labels, truth)
    counts.update(n_truth=len(values), hits=hits, extra=extra, missed=missed, seg_sum=float(values.sum()))
    return {**counts, "f1_iou50": measure.f1_from_counts(hits, extra, missed)}


def _pooled(source: SegmentSource, frames: Any) -> dict[str, Any]:
    """Scores of one source over its frames."""
    total = frames.drop(columns=["source", "frame"]).sum(numeric_only=True)
    result: dict[str, Any] = {
        "source": source.name,
        "n_frames": len(frames),
        "n_truth": int(total["n_truth"]),
        "foreground_recall": total["foreground_recalled"] / total["foreground"]
        if total["foreground"]
        else np.nan,
        **dict.fromkeys((*INSTANCE_KEYS, "background_rejection"), np.nan),
    }
    if source.sparse:
        result["background_rejection"] = (
            total["background_kept"] / total["background"] if total["background"] else np.nan
        )
        return result
    f1 = measure.f1_from_counts(int(total["hits"]), int(total["extra"]), int(total["missed"]))
    result["f1_iou50"] = np.nan if f1 is None else f1
    objects = total["hits"] + total["extra"] + total["missed"]
    result["ap_iou50"] = total["hits"] / objects if objects else np.nan
    if total["n_truth"]:
        result["seg"] = total["seg_sum"] / total["n_truth"]
        result["count_error"] = float(
            (frames["n_predicted"] - frames["n_truth"]).abs().sum() / total["n_truth"]
        )
    return result
