"""The paper's release: one HDF5 file a frame with all channels and its metadata, and a summary beside them.

A file holds the dataset ``image`` (c, y, x) and the attributes ``channels, time_h, pixel_size_um, data_range,
scene, frame, axes, read_with``. ``release.json`` tells what cannot be said in a frame's own file: all times, and
which frames were lost before they were stored (they have no file).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.context import Progress, SilentProgress
from hyped_core.errors import StorageError, UsageError
from hyped_core.io.atomic import remove, replace, write_json
from hyped_imaging.movies.params import ExportParams
from hyped_imaging.parallel import Workers, run_frames

if TYPE_CHECKING:
    from hyped_core.container.movies import Movie

DATASET = "image"
SUMMARY = "release.json"
_PLAIN = "import h5py"
_PLUGIN = "pip install hdf5plugin; then in Python: import h5py, hdf5plugin"


def export_frames(
    movie: Movie,
    folder: str | Path,
    params: ExportParams,
    *,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Write every frame of ``movie`` as an HDF5 file into the new ``folder``; returns the file names.

    The folder appears when it is whole; until then its files wait in a hidden folder beside it, and the same
    export goes on from there. Equal movies give equal bytes, whatever the number of workers. A frame that the
    movie lacks has no file.

    Raises
    ------
    UsageError
        ``folder`` exists and is not an empty folder.
    CorruptFileError, StorageError
        A frame cannot be read; the disk is full or failing (files written so far are kept).
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("exists and is not an empty folder", where=folder, mend="name a new folder")
    missing = movie.missing_frames
    frames = [index for index in range(movie.n_frames) if index not in missing]
    names = [file_name(params, index) for index in frames]
    kept = folder.with_name(f".{folder.name}.{_key(movie, params)[:12]}.resume")
    for other in folder.parent.glob(f".{folder.name}.*.resume"):
        if other != kept:
            remove(other)
    with _storage_errors(folder):
        kept.mkdir(parents=True, exist_ok=True)
        todo = [index for index, name in zip(frames, names, strict=True) if not (kept / name).is_file()]
        job = ExportJob(str(movie.path.absolute()), str(kept.absolute()), params)
        run = run_frames(
            job, todo, workers or Workers(), progress=progress or SilentProgress(), description=f"export {movie.name}"
        )
        for _ in run:
            pass
        for path in kept.iterdir():
            if path.name not in names:
                remove(path)
        write_json(kept / SUMMARY, _summary(movie, params))
        replace(kept, folder)
    return names


def file_name(params: ExportParams, frame: int) -> str:
    """Name of a frame's file."""
    return f"{params.prefix}_{frame:05d}.h5"


@dataclass(frozen=True, slots=True)
class ExportJob:
    """Writes frames of the movie at ``path`` into ``folder``."""

    path: str
    folder: str
    params: ExportParams

    @contextmanager
    def open(self) -> Iterator[Callable[[int], None]]:
        """See `hyped_imaging.parallel.FrameJob`."""
        from hyped_core.container.movies import Movie

        movie = Movie.open(self.path)

        def write(frame: int) -> None:
            _write_frame(movie, frame, Path(self.folder, file_name(self.params, frame)), self.params)

        yield write


def _write_frame(movie: Movie, index: int, path: Path, params: ExportParams) -> None:
    """Write one file whole or not at all."""
    import h5py

    image = movie.frame(index)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    options = _options(params)
    chunks = (1, *(min(int(n), 512) for n in image.shape[1:])) if options else None
    with _storage_errors(path):
        with h5py.File(temporary, "w") as file:
            data = file.create_dataset(DATASET, data=image, chunks=chunks, track_times=False, **options)
            data.attrs["axes"] = "CYX"
            file.attrs["channels"] = list(movie.channels)
            file.attrs["time_h"] = float(movie.time_h[index])
            file.attrs["pixel_size_um"] = float(movie.pixel_size_um)
            file.attrs["data_range"] = [float(value) for value in movie.data_range]
            file.attrs["scene"] = movie.name
            file.attrs["frame"] = index
            file.attrs["read_with"] = _read_with(params)
        temporary.replace(path)


def _options(params: ExportParams) -> dict[str, Any]:
    if params.compression == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    if params.compression == "none":
        return {}
    import hdf5plugin

    level = 5 if params.compression == "lz4" else 1
    return dict(hdf5plugin.Blosc(cname=params.compression, clevel=level, shuffle=hdf5plugin.Blosc.BITSHUFFLE))


def _read_with(params: ExportParams) -> str:
    return _PLAIN if params.compression in ("gzip", "none") else _PLUGIN


def _summary(movie: Movie, params: ExportParams) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "scene": movie.name,
        "n_frames": movie.n_frames,
        "files": f"{params.prefix}_<frame, five digits>.h5",
        "channels": list(movie.channels),
        "pixel_size_um": float(movie.pixel_size_um),
        "data_range": [float(value) for value in movie.data_range],
        "time_h": [float(value) for value in movie.time_h],
        "missing_frames": {str(index): reason for index, reason in movie.missing_frames.items()},
        "compression": params.compression,
        "read_with": _read_with(params),
    }


def _key(movie: Movie, params: ExportParams) -> str:
    """The movie as it stands on disk (a movie is replaced as a whole), the parameters and this version."""
    stat = movie.path.stat()
    told = [
        str(movie.path.absolute()), stat.st_ino, stat.st_mtime_ns, _summary(movie, params), list(movie.shape),
        str(movie.dtype), params.model_dump(mode="json"), version("hyped-imaging"),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@contextmanager
def _storage_errors(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror or error}",
            where=where,
            mend="make room or choose another folder, then run the same command again: it goes on from there",
        ) from error
