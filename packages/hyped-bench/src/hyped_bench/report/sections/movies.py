"""A few frames of one scene of each condition, with the outlines of its nuclei in the colour of their phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyped_bench.report.context import ReportContext
from hyped_bench.report.inputs import Container
from hyped_bench.report.thumbnails import thumbnail

if TYPE_CHECKING:
    from hyped_core.container import Movie

MAX_SCENES = 24
FRAMES = 3


def section(context: ReportContext) -> str:
    """Every condition of every container with movies."""
    with_movies = [c for c in context.containers if len(c.data.movies)]
    if not with_movies:
        return context.absent("No container holds movies: no frames are shown.")
    chosen = [(c, condition, scene) for c in with_movies for condition, scene in first_scenes(c)]
    parts: list[str] = [strip(context, *item) for item in chosen[:MAX_SCENES]]
    if len(chosen) > MAX_SCENES:
        parts.append(context.note(f"Only the first {MAX_SCENES} of {len(chosen)} scenes are shown."))
    return context.join(parts)


def first_scenes(container: Container) -> list[tuple[str, str]]:
    """(condition, scene): the first scene of each condition, in the design's order; then unknown scenes."""
    design = container.data.design
    movies = container.data.movies
    found = []
    for condition in design.conditions:
        scene = next(
            (s.name for s in design.scenes if s.condition == condition.name and s.name in movies), None
        )
        if scene is not None:
            found.append((condition.name, scene))
    known = {s.name for s in design.scenes}
    return found + [("condition not known", s) for s in movies if s not in known]


def chosen_frames(movie: Movie, harvest: float | None) -> list[int]:
    """First, middle and last frame; the frame at harvest as the last where the movie reaches it."""
    import numpy as np

    last = movie.n_frames - 1
    if harvest is not None and movie.has_times and movie.time_h[0] < harvest < movie.time_h[-1]:
        last = int(np.argmin(np.abs(movie.time_h - harvest)))
    return sorted({0, last // 2, last})


def hour_text(movie: Movie, index: int) -> str:
    """When a frame was taken: minutes in movies shorter than three hours."""
    if not movie.has_times or movie.n_frames == 1:
        return f"frame {index}"
    hour = float(movie.time_h[index])
    return f"{hour * 60:.3g} min" if movie.time_h[-1] - movie.time_h[0] < 3 else f"{hour:.1f} h"


def strip(context: ReportContext, container: Container, condition: str, scene: str) -> str:
    """The frames of one scene."""
    data = container.data
    movie, labels = data.movies[scene], data.labels.get(scene)
    nuclei = data.table("nuclei").obs if container.has("nuclei") else None
    own = None if nuclei is None else nuclei[nuclei["scene"].astype(str) == scene]
    made = thumbnail(
        movie, labels, own, chosen_frames(movie, data.design.timeline.time_of("harvest")), data.design
    )
    images = []
    for index, uri, count in made.images:
        when = hour_text(movie, index)
        noun = "nucleus" if count == 1 else "nuclei"
        outlined = f"{count} {noun} outlined" if labels is not None else "not segmented"
        images.append(
            (uri, f"{condition}, scene {scene} at {when}: {made.shown}, {outlined}", f"{when}, {outlined}")
        )
    where = f"container {container.name}, " if len(context.containers) > 1 else ""
    size = f"{made.edge_um[1]:.0f} x {made.edge_um[0]:.0f} um" if movie.pixel_size_um else "size not known"
    title = f"{condition}: {where}scene {scene}, {made.shown}; {made.part} ({size})"
    several = sum(len(c.data.movies) > 0 for c in context.containers) > 1
    heading = f"{container.name}: {condition}" if several else condition
    return context.heading(heading) + context.images(images, title)
