"""A scene's movie as the page holds it: frames, size and quality chosen to fit a budget, then one JSON text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_bench.report.charts import PHASE_COLOURS
from hyped_bench.report.movie_frames import (
    Layer,
    Source,
    View,
    choose_view,
    contrast,
    layers,
    phase_word,
    smaller,
    smaller_labels,
    to_bytes,
)
from hyped_bench.report.movie_outlines import UNIT, nuclei_of_frame
from hyped_bench.report.movie_sheets import BRIGHTFIELD_SHRINK, encode, sheet_layout
from hyped_bench.report.movie_words import facts, frame_text, times_text

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.design import Design

BUDGET = 6_000_000
"""Characters of the page that all movies together may take."""
EDGE = 320
"""Shown pixels of the larger side, at most; less where the budget asks for it."""
LEAST_EDGE = 96
QUALITIES = (60, 45, 30)
ENOUGH_FRAMES = 60
"""Frames are left out before the picture gets smaller, down to this many."""
SAMPLES = 6
FRAME_TEXT = 130
"""Characters of a frame's words and times, about."""
UNPHASED = "#ffd60a"
PHASE_LEGEND = {"dark": "dark (neither reporter)"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What fits: every ``step``-th frame, at ``view``, with WebP ``quality``."""

    view: View
    step: int
    quality: int


@dataclass(frozen=True, slots=True)
class MovieData:
    """One scene for the page.

    Attributes
    ----------
    payload : what the script draws, JSON-able.
    rows : frame, hours, nuclei drawn, nuclei by phase: a row a frame shown.
    facts : what is shown and what was left out, in sentences.
    outlines_reason, tracks_reason : why there are none, "" where there are.
    """

    payload: dict[str, Any]
    rows: list[list[Any]]
    facts: str
    outlines_reason: str
    tracks_reason: str

    @property
    def text(self) -> str:
        """The payload as it stands in a script element."""
        return json.dumps(self.payload, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")


@dataclass(slots=True)
class _Scene:
    """Everything that reading a frame needs."""

    source: Source
    nuclei: dict[int, pd.DataFrame] | None
    phases: list[str]
    layers: list[Layer]
    view: View
    limits: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))

    def planes(self, index: int) -> npt.NDArray[np.float32]:
        return smaller(self.source.pixels(index, self.view.y, self.view.x), self.view.factor)

    def entries(self, index: int) -> list[list[int]]:
        mask = self.source.labels(index, self.view.y, self.view.x)
        if mask is not None:
            mask = smaller_labels(mask, self.view.factor)
        rows = None
        if self.nuclei is not None:
            empty = next(iter(self.nuclei.values())).iloc[:0] if self.nuclei else None
            rows = self.nuclei.get(index, empty)
        return nuclei_of_frame(mask, rows, self.view, self.source.pixel_size_um, self.phases)


def movie_data(
    source: Source, nuclei: pd.DataFrame | None, design: Design, names: dict[str, str], budget: int = BUDGET
) -> MovieData | None:
    """The movie of one scene in at most ``budget`` characters; None where no frame is there.

    Parameters
    ----------
    nuclei
        Rows of the nuclei table of this scene, None where there is no table.
    names
        ``condition``, ``scene`` and ``container``, as the page calls them.
    """
    if not source.there:
        return None
    scene = _Scene(
        source,
        None if nuclei is None else {int(k): rows for k, rows in nuclei.groupby("frame", sort=True)},
        _phases(nuclei),
        layers(source.channels, design),
        choose_view(source.shape, source.pixel_size_um, EDGE),
    )
    options = _options(scene, budget)
    plan, sheets, frames, entries = next(options)
    while _length(sheets, entries) > budget:  # the sample was kinder than the movie
        following = next(options, None)
        if following is None:
            break
        plan, sheets, frames, entries = following
    return _described(scene, plan, sheets, frames, entries, design, names)


def _phases(nuclei: pd.DataFrame | None) -> list[str]:
    """Phases that are there, in the order of their colours."""
    there = set() if nuclei is None else {str(p) for p in nuclei["phase"].unique()}
    return [name for name in PHASE_COLOURS if name in there]


def _options(
    scene: _Scene, budget: int
) -> Iterator[tuple[Plan, list[list[str]], list[int], list[list[list[int]]]]]:
    """Plans that should fit, best first, carried out."""
    edge = max(scene.view.size)
    there = scene.source.there
    while True:
        scene.view = choose_view(scene.source.shape, scene.source.pixel_size_um, edge)
        samples = [there[k] for k in np.unique(np.linspace(0, len(there) - 1, SAMPLES).round().astype(int))]
        planes = [scene.planes(index) for index in samples]
        scene.limits = contrast(planes, scene.layers)
        tiles = np.stack([to_bytes(plane, scene.limits) for plane in planes])
        entries = [scene.entries(index) for index in samples]
        costs = {q: _length(encode(tiles, scene.layers, q), entries) / len(samples) for q in QUALITIES}
        smallest = edge * 0.8 < LEAST_EDGE
        read, frames = 0, samples
        for step, quality in affordable(len(there), costs, budget, at_any_price=smallest):
            plan = Plan(scene.view, step, quality)
            if plan.step != read:
                read, frames = plan.step, chosen_frames(there, step)
                tiles, entries = _streamed(scene, frames)
            yield plan, encode(tiles, scene.layers, quality), frames, entries
        if smallest:
            return
        edge = int(edge * 0.8)


def _streamed(scene: _Scene, frames: Sequence[int]) -> tuple[npt.NDArray[np.uint8], list[list[list[int]]]]:
    """Tiles (t, c, y, x) as they are shown, and the nuclei: one full frame in memory at a time."""
    tiles = np.empty((len(frames), len(scene.layers), *scene.view.size), np.uint8)
    entries = []
    for k, index in enumerate(frames):
        tiles[k] = to_bytes(scene.planes(index), scene.limits)
        entries.append(scene.entries(index))
    return tiles, entries


def affordable(
    frames: int, costs: dict[int, float], budget: int, *, at_any_price: bool = False
) -> Iterator[tuple[int, int]]:
    """(step, quality) that fit the budget, best first: all frames before quality, quality before half the frames.

    Parameters
    ----------
    costs
        Characters a frame takes, by quality.
    at_any_price
        Go on below `ENOUGH_FRAMES`, down to one frame at the lowest quality.

    >>> list(affordable(200, {60: 10.0, 30: 5.0}, 1200))[:3]
    [(1, 30), (2, 60), (2, 30)]
    >>> list(affordable(100, {60: 10.0, 30: 5.0}, 100))
    []
    """
    step = 1
    while step == 1 or at_any_price or math.ceil(frames / step) >= ENOUGH_FRAMES:
        for quality, cost in costs.items():
            if math.ceil(frames / step) * cost <= budget:
                yield step, quality
        if step >= frames:
            if at_any_price:
                yield step, min(costs)
            return
        step += 1


def chosen_frames(there: Sequence[int], step: int) -> list[int]:
    """Every ``step``-th of the frames that are there, the first among them.

    >>> chosen_frames([0, 1, 2, 5, 6, 7], 2)
    [0, 2, 6]
    """
    return list(there[::step])


def _length(sheets: list[list[str]], entries: list[list[list[int]]]) -> int:
    """Characters that frames take: pictures, nuclei, words."""
    drawn = len(json.dumps(entries, separators=(",", ":")))
    return sum(len(uri) for sheet in sheets for uri in sheet) + drawn + FRAME_TEXT * len(entries)


def _described(
    scene: _Scene,
    plan: Plan,
    sheets: list[list[str]],
    frames: list[int],
    entries: list[list[list[int]]],
    design: Design,
    names: dict[str, str],
) -> MovieData:
    source, view, phases = scene.source, plan.view, scene.phases
    whole = view.whole(source.shape)
    countable = source.segmented or scene.nuclei is not None
    times = times_text(source.time_h, frames)
    says, rows = [], []
    for k, index in enumerate(frames):
        counts = None
        if countable:
            counts = {name: sum(e[1] == p for e in entries[k]) for p, name in enumerate(phases)}
            counts[""] = len(entries[k]) - sum(counts.values())
        says.append(frame_text(times[k], k + 1, len(frames), counts, whole))
        hour = None if source.time_h is None else float(source.time_h[index])
        shown = {name: None if counts is None else counts.get(name, 0) for name in [*phases, ""]}
        total = None if counts is None else sum(counts.values())
        rows.append([index, hour, total, {name: shown[name] for name in phases}])
    tracked = scene.nuclei is not None and any(e[0] > 0 for found in entries for e in found)
    outlined = any(len(e) > 4 for found in entries for e in found)
    outlines_reason = "" if outlined else "no nuclei here" if source.segmented else "not segmented"
    tracks_reason = "" if tracked else "no nuclei table" if scene.nuclei is None else "not tracked"
    height, width = view.size
    columns, sheet_rows = sheet_layout(height, width)
    pixel = source.pixel_size_um * view.factor
    coarser = any(layer.brightfield for layer in scene.layers)
    said = facts(source, view, plan.step, plan.quality, frames, coarser=coarser)
    payload = {
        **names,
        "height": height,
        "width": width,
        "pixel_um": round(pixel, 6) or None,
        "unit": UNIT,
        "columns": columns,
        "per_sheet": columns * sheet_rows,
        "frames": frames,
        "hours": None if source.time_h is None else [round(float(source.time_h[i]), 4) for i in frames],
        "times": times,
        "says": says,
        "events": _events(design, source, frames),
        "channels": [
            {"name": layer.name, "shrink": BRIGHTFIELD_SHRINK if layer.brightfield else 1, "sheets": sheets[k]}
            for k, layer in enumerate(scene.layers)
        ],
        "phases": [[PHASE_LEGEND.get(p) or phase_word(p), lighter(PHASE_COLOURS[p])] for p in phases],
        "unphased": UNPHASED,
        "nuclei": entries,
        "parents": _parents(scene, frames),
        "outlines": outlines_reason,
        "tracks": tracks_reason,
        "facts": said,
    }
    return MovieData(payload, rows, said, outlines_reason, tracks_reason)


def lighter(colour: str) -> str:
    """A colour half way to white: outlines stand out from channels of the same colour, on black.

    >>> lighter("#d55e00")
    '#eaaf80'
    """
    return "#" + "".join(f"{(int(colour[i : i + 2], 16) + 256) // 2:02x}" for i in (1, 3, 5))


def _events(design: Design, source: Source, frames: list[int]) -> list[list[Any]]:
    """Events of the timeline within the movie: name, hours, position of the nearest frame shown."""
    if source.time_h is None or len(frames) < 2:
        return []
    hours = source.time_h[frames]
    return [
        [event.name, event.time_h, int(np.argmin(np.abs(hours - event.time_h)))]
        for event in design.timeline.events
        if hours[0] <= event.time_h <= hours[-1]
    ]


def _parents(scene: _Scene, frames: list[int]) -> dict[str, int]:
    """Track -> the track it was born from, of tracks in the frames shown."""
    if scene.nuclei is None:
        return {}
    found = {}
    for index in frames:
        rows = scene.nuclei.get(index)
        if rows is not None:
            born = rows[(rows["parent_id"] > 0) & (rows["track_id"] > 0)]
            found.update(zip(born["track_id"].tolist(), born["parent_id"].tolist(), strict=True))
    return {str(track): int(parent) for track, parent in sorted(found.items())}
