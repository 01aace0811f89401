"""Tracking: detections in, tracks out, scored by the Cell Tracking Challenge's counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from hyped_bench.frames import LabelFrames
from hyped_bench.metrics.segmentation import overlaps
from hyped_bench.metrics.tracking import track_graph, tracking_scores
from hyped_bench.readers import read_json, read_table, require_columns
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
from hyped_core.errors import InvalidDataError, PluginError
from hyped_core.params import Params

KEYS = ("tra", "lnk", "det", "division_f1")
COUNTS = (
    "n_unassigned",
    "n_objects",
    "n_divisions",
    "n_divisions_found",
    "n_divisions_extra",
    "n_divisions_missed",
)


class TrackSource(Params):
    """One scene's detections and its true tracks."""

    name: str
    objects: Literal["truth", "segmented", "points"] = "truth"
    """``truth``: the tracker gets the true nuclei; ``segmented``: those the pipeline found, matched to the
    truth by overlap; ``points``: a plain table of detections with a JSON of true tracks (lists of rows)."""
    table: str
    """``truth``: true tracks (parquet); ``segmented``: nuclei (parquet); ``points``: CSV with t, x, y."""
    truth: str | None = None
    """``segmented``: true tracks (parquet); ``points``: JSON {track: [row, ...]}."""
    scene: str | None = None
    """Which scene of the true tracks; the source's name where None."""
    truth_labels: str | None = None
    labels: str | None = None
    """Labels of the true and of the segmented nuclei; needed for ``segmented``."""
    movie: str | None = None
    """Movie from which mean intensities of the true nuclei are taken (``truth`` with ``truth_labels``)."""
    give_labels: bool = False
    """Hand the label images to the tracker too."""
    interval_h: float = Field(1 / 3, gt=0)
    """Time between frames of ``points``."""
    primary: bool = True

    @model_validator(mode="after")
    def _complete(self) -> TrackSource:
        needed = {"truth": (), "segmented": ("truth", "truth_labels", "labels"), "points": ("truth",)}[
            self.objects
        ]
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"objects: {self.objects} needs {', '.join(missing)}")
        return self


class TrackParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[TrackSource, ...]
    division_tolerance: int = Field(1, ge=0)
    """Frames by which a division may be early or late."""


class TrackTask(Task):
    """Model: `hyped_core.contracts.Tracker`. Unit: a scene."""

    name: ClassVar[str] = "track"
    Params: ClassVar[type[TaskParams]] = TrackParams
    judged: ClassVar[tuple[Judged, ...]] = tuple(
        Judged(metric, "higher", unit_word="scene") for metric in ("tra", "lnk", "division_f1")
    )

    def __init__(self, params: TrackParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: TrackParams = params
        check_sources([s.name for s in params.sources])
        self.objects: dict[str, pd.DataFrame] = {}

    def inputs(self) -> list[str]:
        """Tables, labels and movies."""
        return [
            p for s in self.params.sources for p in (s.table, s.truth, s.truth_labels, s.labels, s.movie) if p
        ]

    def facts(self) -> dict[str, Any]:
        """Unit of inference."""
        return {"unit": "scene", "division_tolerance": self.params.division_tolerance}

    def load(self) -> None:
        """Read detections, without anything that tells tracks."""
        for source in self.params.sources:
            self.objects[source.name] = _detections(source)

    def run(self, make_model: ModelFactory) -> dict[str, pd.DataFrame]:
        """Track every scene."""
        found = {}
        for source in self.context.progress.track(self.params.sources, "track"):
            objects = self.objects[source.name]
            labels = _label_stack(source, objects) if source.give_labels else None
            result = make_model().track(objects.copy(), labels, context=self.context)
            found[source.name] = _checked(result, objects, source.name)
        return found

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        names = [s.name for s in self.params.sources]
        counts = [f"{key}{end}" for key in COUNTS for end in ("", *(f"_{n}" for n in names))]
        return summary_keys(KEYS, names, ("tra", "lnk")) + counts

    def score(self, predictions: dict[str, pd.DataFrame]) -> Scores:
        """Score every scene and average; divisions are pooled over scenes."""
        rows, details = [], []
        for source in self.params.sources:
            result = predictions[source.name]
            truth, matches = _truth(source)
            scores = tracking_scores(result, truth, matches, self.params.division_tolerance)
            rows.append({"source": source.name, **{key: scores.get(key) for key in (*KEYS, *COUNTS)}})
            details.append(
                result.assign(source=source.name)[["source", "frame", "label", "track_id", "parent_id"]]
            )
        units = pd.DataFrame(rows)
        units[list(COUNTS)] = units[list(COUNTS)].fillna(0).astype(int)
        units[list(KEYS)] = units[list(KEYS)].astype(float)
        primary = [s.name for s in self.params.sources if s.primary]
        names = [s.name for s in self.params.sources]
        metrics, warnings = summarise(
            units,
            KEYS,
            names,
            primary,
            intervals=("tra", "lnk"),
            rng=self.context.rng("track", "bootstrap"),
            draws=self.params.bootstrap,
        )
        chosen = units[units["source"].isin(primary)]
        for key in COUNTS:
            metrics[key] = int(chosen[key].sum())
            metrics.update({f"{key}_{row['source']}": int(row[key]) for row in units.to_dict("records")})
        metrics["division_f1"] = pooled_division_f1(chosen)
        warnings = [w for w in warnings if not w.startswith("division_f1")]
        return Scores(metrics, {"units": units}, {"tracks": pd.concat(details, ignore_index=True)}, warnings)


def pooled_division_f1(units: pd.DataFrame) -> float | None:
    """F1 over the divisions of all scenes together; None where there is none in the truth."""
    if units["n_divisions"].sum() == 0:
        return None
    hits = units["n_divisions_found"].sum()
    missed = units["n_divisions"].sum() - hits
    return float(2 * hits / (2 * hits + units["n_divisions_extra"].sum() + missed))


def scene_truth(path: str, source: TrackSource) -> pd.DataFrame:
    """The rows of a table of true tracks that are of the source's scene."""
    table = read_table(path)
    require_columns(table, ["scene", "frame", "label", "track_id", "parent_id", "y_um", "x_um"], path)
    chosen = table[table["scene"].astype(str) == (source.scene or source.name)]
    return chosen.sort_values(["frame", "label"], kind="stable").reset_index(drop=True)


def _detections(source: TrackSource) -> pd.DataFrame:
    """What the tracker sees: position, time, label, area and intensities."""
    if source.objects == "points":
        table = read_table(source.table)
        require_columns(table, ["t", "x", "y"], source.table)
        return pd.DataFrame(
            {
                "frame": table["t"].astype(np.int64),
                "time_h": table["t"] * source.interval_h,
                "y_um": table["y"].astype(float),
                "x_um": table["x"].astype(float),
                "label": np.arange(len(table), dtype=np.int64),
                "area_um2": 1.0,
            }
        )
    if source.objects == "segmented":
        table = read_table(source.table)
        require_columns(table, ["frame", "time_h", "y_um", "x_um", "label", "area_um2"], source.table)
        hidden = {"track_id", "parent_id", "phase", "unassigned_reason"}
        return table[[c for c in table.columns if c not in hidden]].reset_index(drop=True)
    table = scene_truth(source.table, source)
    objects = table[["frame", "time_h", "y_um", "x_um", "label"]].copy()
    objects["area_um2"] = 1.0
    return _measured(source, objects) if source.truth_labels else objects


def _measured(source: TrackSource, objects: pd.DataFrame) -> pd.DataFrame:
    """Areas, and where a movie is given intensities over the frame's background, of the true nuclei."""
    labels = LabelFrames(source.truth_labels)  # type: ignore[arg-type]
    movie = None
    pixel = 1.0
    if source.movie:
        from hyped_core.container.movies import Movie

        movie = Movie.open(source.movie)
        pixel = movie.pixel_size_um
    columns: dict[str, npt.NDArray] = {"area_um2": np.zeros(len(objects))}
    for channel in movie.channels if movie is not None else ():
        columns[f"mean_{channel}"] = np.zeros(len(objects))
        columns[f"integrated_{channel}"] = np.zeros(len(objects))
    for frame, rows in objects.groupby("frame").indices.items():
        plane = labels.frame(int(frame)).ravel()
        wanted = objects["label"].to_numpy()[rows]
        size = int(max(plane.max(initial=0), wanted.max(initial=0))) + 1
        area = np.bincount(plane, minlength=size)
        columns["area_um2"][rows] = area[wanted] * pixel**2
        if movie is not None:
            for channel, pixels in zip(movie.channels, movie.frame(int(frame)), strict=True):
                outside = pixels.ravel()[plane == 0]
                background = float(np.median(outside)) if outside.size else 0.0
                total = np.bincount(plane, weights=pixels.ravel(), minlength=size) - background * area
                columns[f"mean_{channel}"][rows] = total[wanted] / np.maximum(area[wanted], 1)
                columns[f"integrated_{channel}"][rows] = total[wanted]
    return objects.assign(**columns)


def _truth(source: TrackSource) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """True tracks, and which detections are which true objects (None: equal labels)."""
    if source.objects == "points":
        table, rows = _detections(source), read_json(source.truth)  # type: ignore[arg-type]
        track = np.zeros(len(table), dtype=np.int64)
        for name, members in sorted(rows.items(), key=lambda item: str(item[0])):
            track[np.asarray(members, dtype=np.int64)] = int(name)
        return table.assign(track_id=track, parent_id=0), None
    if source.objects == "truth":
        return scene_truth(source.table, source), None
    truth = scene_truth(source.truth, source)  # type: ignore[arg-type]
    frames, found = sorted(int(f) for f in truth["frame"].unique()), LabelFrames(source.labels)  # type: ignore[arg-type]
    true_labels = LabelFrames(source.truth_labels)  # type: ignore[arg-type]
    return truth, covering(((frame, found.frame(frame)) for frame in frames), true_labels)


def covering(found: Iterable[tuple[int, npt.NDArray]], truth: LabelFrames) -> pd.DataFrame:
    """Each true object with the found one that covers more than half of it (the Challenge's rule), by frame."""
    parts = []
    for frame, labels in found:
        table = overlaps(labels, truth.frame(frame))
        covered = 2 * table.shared > table.areas[0]
        parts.append(
            pd.DataFrame({"frame": frame, "label_truth": table.truth[covered], "label": table.predicted[covered]})
        )
    return pd.concat(parts, ignore_index=True)


def _label_stack(source: TrackSource, objects: pd.DataFrame) -> npt.NDArray | None:
    path = source.labels if source.objects == "segmented" else source.truth_labels
    if path is None:
        return None
    labels = LabelFrames(path)
    return np.stack([labels.frame(i) for i in range(int(objects["frame"].max()) + 1)])


def _checked(result: Any, objects: pd.DataFrame, where: str) -> pd.DataFrame:
    """Refuse results that are not the given rows with two columns more."""
    if not isinstance(result, pd.DataFrame) or not {"track_id", "parent_id"} <= set(result.columns):
        raise PluginError("a tracker returns a DataFrame with track_id and parent_id", where=where)
    same = len(result) == len(objects) and all(
        np.array_equal(result[c].to_numpy(), objects[c].to_numpy()) for c in ("frame", "label")
    )
    if not same:
        raise PluginError("a tracker returns every object once, in the order given", where=where)
    ids = result[["track_id", "parent_id"]]
    if ids.isna().any().any() or (ids.to_numpy() < 0).any():
        raise PluginError("track_id and parent_id must be integers from 0 up", where=where)
    tracks = objects[["frame", "label"]].assign(
        track_id=result["track_id"].to_numpy().astype(np.int64),
        parent_id=result["parent_id"].to_numpy().astype(np.int64),
    )
    try:
        track_graph(tracks, np.unique(tracks["frame"]))
    except InvalidDataError as error:
        raise PluginError(error.message, where=where, mend=error.mend) from error
    return tracks
