"""OME-NGFF movies (0.4 and 0.5) of this project or another's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hyped_core.errors import InvalidDataError
from hyped_imaging.movies.params import ImportParams
from hyped_imaging.movies.source import MovieSource


def read_ngff(paths: Sequence[Path], params: ImportParams) -> MovieSource:
    """See `MovieSource`. A foreign file's times are its time axis' scale, where that has a unit."""
    from hyped_core.container.movies import Movie

    if len(paths) != 1:
        raise InvalidDataError(
            "an NGFF movie is imported alone", where=paths[1], mend="run one import a movie"
        )
    movie = Movie.open(paths[0])
    own = "time_h" in movie.attrs
    hours = movie.time_h if own else None
    if hours is None and movie.layout.interval_h and movie.n_frames > 1:
        hours = np.arange(movie.n_frames) * movie.layout.interval_h
    named = bool(movie.attrs.get("channels") or movie.layout.channels)
    scaled = movie.pixel_size_um if own or movie.pixel_size_um != 1.0 else None
    derived = ("channels", "time_h", "pixel_size_um", "data_range", "schema_version", "kind", "missing_frames")
    return MovieSource(
        Path(paths[0]), movie.shape, movie.dtype, movie.frame, movie.channels if named else (), scaled, hours,
        hours_since_release=own, data_range=movie.data_range if own else None,
        notes={key: value for key, value in movie.attrs.items() if key not in derived},
        missing=movie.missing_frames if own else {},
    )  # fmt: skip
