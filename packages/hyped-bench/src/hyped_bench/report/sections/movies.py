"""One scene of each condition: a movie to scrub through, and a few still frames for print and papers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from hyped_bench.report.context import ReportContext, Table
from hyped_bench.report.inputs import Container
from hyped_bench.report.movie_data import BUDGET, MovieData, movie_data
from hyped_bench.report.movie_frames import MovieSource, Source, key_frame_sources, layers
from hyped_bench.report.movie_words import times_text
from hyped_bench.report.thumbnails import thumbnail
from hyped_core.errors import MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd

MAX_MOVIES = 12
MAX_SCENES = 24
FRAMES = 3


@dataclass(frozen=True, slots=True)
class Chosen:
    """A scene that is shown."""

    container: Container
    condition: str
    scene: str
    source: Source


def section(context: ReportContext) -> str:
    """Every condition of every container with movies or key frames."""
    parts: list[str] = []
    chosen: list[Chosen] = []
    for container in context.containers:
        try:
            found = list(scenes(container))
        except MissingDependencyError as error:
            parts.append(context.note(f"Key frames of container {container.name} are not shown: {error}"))
            continue
        chosen += found
        if not found and len(container.data.movies) == 0 and container.has("nuclei"):
            parts.append(context.note(f"Container {container.name} has nuclei but no frames to show."))
    if not chosen:
        return context.join([*parts, context.absent("No container holds movies: no frames are shown.")])
    parts += panel(context, chosen)
    with_stills = [item for item in chosen if item.scene in item.container.data.movies]
    stills = [strip(context, item) for item in with_stills[:MAX_SCENES]]
    if len(with_stills) > MAX_SCENES:
        stills.append(context.note(f"Only the first {MAX_SCENES} of {len(with_stills)} scenes are shown."))
    if stills:
        parts.append(context.fold("Still frames of all conditions, one below the other", stills))
    return context.join(parts)


def scenes(container: Container) -> Iterator[Chosen]:
    """The first scene of each condition, from its movie or, in a container without movies, its key frames."""
    data = container.data
    if len(data.movies):
        for condition, scene in first_scenes(container, list(data.movies)):
            source = MovieSource(data.movies[scene], data.labels.get(scene))
            if source.there:
                yield Chosen(container, condition, scene, source)
        return
    nuclei = data.table("nuclei").obs if container.has("nuclei") else None
    times: dict[str, dict[int, float]] = {}
    if nuclei is not None:
        for scene, rows in nuclei.groupby(nuclei["scene"].astype(str), sort=True):
            firsts = rows.drop_duplicates("frame")
            hours = zip(firsts["frame"].tolist(), firsts["time_h"].tolist(), strict=True)
            times[str(scene)] = {int(frame): float(hour) for frame, hour in hours}
    sources = key_frame_sources(data, times)
    for condition, scene in first_scenes(container, list(sources)):
        yield Chosen(container, condition, scene, sources[scene])


def first_scenes(container: Container, there: list[str]) -> list[tuple[str, str]]:
    """(condition, scene): the first scene of each condition, in the design's order; then unknown scenes."""
    design = container.data.design
    found = []
    for condition in design.conditions:
        scene = next((s.name for s in design.scenes if s.condition == condition.name and s.name in there), None)
        if scene is not None:
            found.append((condition.name, scene))
    known = {s.name for s in design.scenes}
    return found + [("condition not known", s) for s in there if s not in known]


def panel(context: ReportContext, chosen: list[Chosen]) -> list[str]:
    """The movies in one player, and a table of what they show."""
    several = len({item.container.name for item in chosen}) > 1
    made: list[tuple[Chosen, str, MovieData]] = []
    budget = BUDGET // min(len(chosen), MAX_MOVIES)
    for item in chosen[:MAX_MOVIES]:
        label = f"{item.container.name}: {item.condition}" if several else item.condition
        names = {"condition": label, "scene": item.scene, "container": item.container.name}
        data = movie_data(item.source, _nuclei(item), item.container.data.design, names, budget)
        if data is not None:
            made.append((item, label, data))
    notes = []
    if len(chosen) > MAX_MOVIES:
        notes.append(context.note(f"Only the first {MAX_MOVIES} of {len(chosen)} scenes are in the player."))
    context.style("movie.css")
    context.script("movie.js")
    html = context.environment.get_template("movie.html.j2").render(
        movies=[
            {"label": label, "scene": item.scene, "payload": Markup(data.text), "data": data}
            for item, label, data in made
        ],
        channels=_channels(made),
        first=made[0][2],
    )
    table = frame_table([(item, data) for item, _, data in made])
    link = context.attach("movie_frames", table, "Frames of the player with their nuclei and phases, as CSV")
    return [*notes, Markup(html), link]


def _channels(made: list[tuple[Chosen, str, MovieData]]) -> list[Any]:
    """Channels of all movies, each once, in order."""
    found = {}
    for item, _, _ in made:
        for layer in layers(item.source.channels, item.container.data.design):
            found.setdefault(layer.name, layer)
    return list(found.values())


def frame_table(made: list[tuple[Chosen, MovieData]]) -> Table:
    """A row a frame of the player: what a reader sees there, in numbers."""
    phases = list(dict.fromkeys(name for _, data in made for row in data.rows for name in row[3]))
    heads = ["container", "condition", "scene", "frame", "time_h", "n_nuclei", *phases]
    rows = [
        [item.container.name, item.condition, item.scene, frame, hour, total, *(by.get(p) for p in phases)]
        for item, data in made
        for frame, hour, total, by in data.rows
    ]
    return Table("Frames shown in the player", heads, rows)


def _nuclei(item: Chosen) -> pd.DataFrame | None:
    if not item.container.has("nuclei"):
        return None
    nuclei = item.container.data.table("nuclei").obs
    return nuclei[nuclei["scene"].astype(str) == item.scene]


def chosen_frames(source: Source, harvest: float | None) -> list[int]:
    """First, middle and last frame of those there; the frame at harvest as the last where the movie reaches it."""
    import numpy as np

    there, last = source.there, len(source.there) - 1
    if harvest is not None and source.time_h is not None:
        hours = source.time_h[there]
        if hours[0] < harvest < hours[-1]:
            last = int(np.argmin(np.abs(hours - harvest)))
    return [there[k] for k in sorted({0, last // 2, last})]


def strip(context: ReportContext, item: Chosen) -> str:
    """Still frames of one scene."""
    container, condition, scene = item.container, item.condition, item.scene
    data = container.data
    movie, labels = data.movies[scene], data.labels.get(scene)
    harvest = data.design.timeline.time_of("harvest")
    made = thumbnail(movie, labels, _nuclei(item), chosen_frames(item.source, harvest), data.design)
    times = movie.time_h if movie.has_times and movie.n_frames > 1 else None
    images = []
    for index, uri, count in made.images:
        when = times_text(times, [index])[0]
        noun = "nucleus" if count == 1 else "nuclei"
        outlined = f"{count} {noun} outlined" if labels is not None else "not segmented"
        alt = f"{condition}, scene {scene} at {when}: {made.shown}, {outlined}"
        images.append((uri, alt, f"{when}, {outlined}"))
    where = f"container {container.name}, " if len(context.containers) > 1 else ""
    size = f"{made.edge_um[1]:.0f} x {made.edge_um[0]:.0f} \N{MICRO SIGN}m" if made.edge_um[0] > 0 else "size not known"
    title = f"{condition}: {where}scene {scene}, {made.shown}; {made.part} ({size})"
    several = sum(len(c.data.movies) > 0 for c in context.containers) > 1
    heading = f"{container.name}: {condition}" if several else condition
    return context.heading(heading) + context.images(images, title)


