"""Validation of a container on disk: every problem with its place and its mend, raised together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hyped_core.container.labels import Labels
from hyped_core.container.manifest import CELL_TABLES, REMAKE, SPATIAL, TABLES, Manifest, read_manifest
from hyped_core.container.movies import Movie
from hyped_core.container.validate_tables import cell_problems, name_problems, nuclei_problems, track_problems
from hyped_core.errors import HypedError, Problem, ValidationError
from hyped_core.io.hashing import digest

_TIME_TOLERANCE_H = 1e-3


def validate_container(path: str | Path, *, quick: bool = False, deep: bool = False) -> Manifest:
    """Check everything a container promises; ``quick`` skips hashes, ``deep`` reads every frame of labels.

    Raises
    ------
    MissingFileError, CorruptFileError, UnsupportedDataError
        It cannot be opened at all.
    ValidationError
        With every problem found.
    """
    path = Path(path)
    manifest = read_manifest(path)
    problems = find_problems(path, manifest, quick=quick, deep=deep)
    if problems:
        raise ValidationError("the container is not valid", problems, where=path)
    return manifest


def find_problems(
    path: Path, manifest: Manifest, *, quick: bool = False, deep: bool = False
) -> list[Problem]:
    """The problems of an opened container, in the order parts, movies, labels, tables."""
    found = [] if quick else list(_hash_problems(path, manifest))
    found += _presence_problems(path, manifest) if quick else []
    gone = {problem.where for problem in found if problem.message.startswith("is gone")}
    movies: dict[str, Movie] = {}
    labels: dict[str, Labels] = {}
    for scene, part in manifest.of_kind("movie").items():
        if part.path not in gone:
            try:
                movies[scene] = Movie.open(path / part.path)
            except HypedError as error:
                found.append(Problem(part.path, error.message, error.mend or REMAKE))
    for scene, part in manifest.of_kind("labels").items():
        if part.path not in gone:
            try:
                labels[scene] = Labels.open(path / part.path)
            except HypedError as error:
                found.append(Problem(part.path, error.message, error.mend or REMAKE))
    for scene, movie in movies.items():
        found += _movie_problems(scene, movie, manifest)
    for scene, mask in labels.items():
        found += _labels_problems(scene, mask, movies.get(scene))
    if manifest.has_spatial and SPATIAL not in gone:
        found += _table_problems(path, manifest, movies, labels, deep)
    return found


def _presence_problems(path: Path, manifest: Manifest) -> Iterator[Problem]:
    for part in manifest.parts:
        if not (path / part.path).exists():
            yield Problem(part.path, "is gone: the manifest lists it", REMAKE)


def _hash_problems(path: Path, manifest: Manifest) -> Iterator[Problem]:
    for part in manifest.parts:
        target = path / part.path
        if not target.exists():
            yield Problem(part.path, "is gone: the manifest lists it", REMAKE)
            continue
        now = digest(target)
        if now.sha256 != part.sha256:
            sizes = f"{part.n_files} files, {part.n_bytes} bytes then; {now.n_files}, {now.n_bytes} now"
            yield Problem(part.path, f"is not what was assembled: its sha256 differs ({sizes})", REMAKE)


def _time_problems(where: str, source: Movie | Labels) -> Iterator[Problem]:
    if not source.has_times:
        yield Problem(
            f"{where}/time_h", "the frames have no times", "write the movie with HYPED's import-movie"
        )
        return
    times = source.time_h
    if times.shape != (source.n_frames,):
        yield Problem(f"{where}/time_h", f"has {times.size} times for {source.n_frames} frames", REMAKE)
    elif not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        yield Problem(f"{where}/time_h", "does not increase from frame to frame", "sort the frames by time")


def _frames_problems(where: str, source: Movie | Labels) -> Iterator[Problem]:
    lost = set(source.missing_frames)
    beyond = sorted(lost - set(range(source.n_frames)))
    if beyond:
        yield Problem(f"{where}/missing_frames", f"names frames {beyond} of {source.n_frames}", REMAKE)
    absent = source.n_frames - len(lost.union(source.written()) - set(beyond))
    if absent:
        yield Problem(where, f"the pixels of {absent} of {source.n_frames} frames are missing", REMAKE)


def _movie_problems(scene: str, movie: Movie, manifest: Manifest) -> Iterator[Problem]:
    where = f"movies/{scene}.zarr"
    design = manifest.design
    yield from _time_problems(where, movie)
    yield from _frames_problems(where, movie)
    if design.scenes and scene not in {s.name for s in design.scenes}:
        known = ", ".join(s.name for s in design.scenes)
        yield Problem(
            where, f"the design knows no scene {scene!r}", f"add it to the design; scenes there: {known}"
        )
    if design.channels:
        names = {n for channel in design.channels for n in (channel.name, *channel.aliases)}
        for name in movie.channels:
            if name not in names:
                known = ", ".join(channel.name for channel in design.channels)
                yield Problem(
                    f"{where}/channels",
                    f"the design knows no channel {name!r}",
                    f"add it to the design (or as an alias); channels there: {known}",
                )


def _labels_problems(scene: str, labels: Labels, movie: Movie | None) -> Iterator[Problem]:
    where = f"labels/{scene}.zarr"
    yield from _time_problems(where, labels)
    yield from _frames_problems(where, labels)
    if movie is None:
        return
    t, _, y, x = movie.shape
    if labels.shape != (t, y, x):
        yield Problem(
            where, f"has shape {labels.shape}, its movie has (t, y, x) = {(t, y, x)}", "segment it again"
        )
    elif labels.has_times and movie.has_times and labels.time_h.shape == movie.time_h.shape:
        if np.abs(labels.time_h - movie.time_h).max() > _TIME_TOLERANCE_H:
            yield Problem(f"{where}/time_h", "is not the movie's", "segment it again")
    if labels.source and (labels.path / labels.source).resolve().name != movie.path.name:
        yield Problem(f"{where}/source", f"names {labels.source!r}, not movie {scene}", "segment it again")


def _table_problems(
    path: Path, manifest: Manifest, movies: dict[str, Movie], labels: dict[str, Labels], deep: bool
) -> list[Problem]:
    from hyped_core.io.tables import read_table_zarr

    found: list[Problem] = []
    names: dict[str, object] = {}
    for name in (table for table in TABLES if table in manifest.tables):
        info = manifest.tables[name]
        where = f"{SPATIAL}/tables/{name}"
        try:
            table = read_table_zarr(path / where)
        except HypedError as error:
            found.append(Problem(where, error.message, error.mend or REMAKE))
            continue
        if table.shape != (info.n_obs, info.n_vars):
            found.append(
                Problem(
                    where, f"has shape {table.shape}, the manifest says {(info.n_obs, info.n_vars)}", REMAKE
                )
            )
        names[name] = table.obs_names
        if name in CELL_TABLES:
            found += cell_problems(where, table, manifest.design)
        elif name == "nuclei":
            found += nuclei_problems(where, table, manifest.design, movies, labels, deep=deep)
        else:
            found += track_problems(where, table)
    found += name_problems(names)
    return found
