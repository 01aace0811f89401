"""Movies and their labels on disk: OME-NGFF 0.5 in zarr v3, a shard a frame, a chunk a plane tile.

Times are hours from the file's acquisition times, one a frame, gaps included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.container import ngff
from hyped_core.container.labels import Labels, LabelsWriter
from hyped_core.container.planes import FrameReader, check_times
from hyped_core.container.writer import CHUNK_YX, FrameWriter
from hyped_core.contracts import ImageMeta
from hyped_core.errors import CorruptFileError, DesignError, InvalidDataError, UnsupportedDataError

if TYPE_CHECKING:
    import dask.array
    import xarray

__all__ = ["Labels", "LabelsWriter", "Movie", "MovieWriter", "write_movie"]


class Movie(FrameReader):
    """A movie of one scene, read lazily.

    >>> movie = Movie.open("movies/S0.zarr")  # doctest: +SKIP
    >>> movie.plane(0, "Cy5").shape           # doctest: +SKIP
    (2826, 3245)
    """

    kind = "movie"

    @classmethod
    def open(cls, path: str | Path, *, interval_h: float | None = None) -> Movie:
        """Open a movie folder; nothing but metadata is read.

        ``interval_h`` is used only for a foreign NGFF movie (0.4 or 0.5), which has no times of its own.

        Raises
        ------
        MissingFileError, CorruptFileError, UnsupportedDataError
            Naming the folder and what to do.
        """
        movie = cls._open(path, interval_h)
        if movie.layout.hyped.get("kind", "movie") != "movie":
            raise UnsupportedDataError(
                f"is no movie but {movie.layout.hyped['kind']}",
                where=movie.path,
                mend="give the folder of the movie",
            )
        if len(movie.channels) != movie.shape[1]:
            raise CorruptFileError(
                f"names {len(movie.channels)} channels, the array has {movie.shape[1]}",
                where=movie.path,
                mend="write the file again",
            )
        return movie

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(t, c, y, x); axes that a foreign file lacks count one."""
        axes, stored = self.layout.axes, self._array.shape
        t, c, y, x = (int(stored[axes.index(a)]) if a in axes else 1 for a in "tcyx")
        return t, c, y, x

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        named = self.layout.hyped.get("channels") or self.layout.channels
        return tuple(named) if named else tuple(f"channel_{k}" for k in range(self.shape[1]))

    @property
    def data_range(self) -> tuple[float, float]:
        """(lowest, highest) value the camera can give; the range of the dtype where nobody stated it."""
        stated = self.layout.hyped.get("data_range")
        return (float(stated[0]), float(stated[1])) if stated else dtype_range(self.dtype)

    def channel_index(self, name: str) -> int:
        """Position of the channel called ``name``."""
        if name not in self.channels:
            raise DesignError(
                f"there is no channel {name!r}",
                where=self.path,
                mend=f"channels there: {', '.join(self.channels)}",
            )
        return self.channels.index(name)

    def frame(self, index: int) -> npt.NDArray:
        """All channels of one time point, (c, y, x)."""
        pixels = self._read(index)
        return pixels if pixels.ndim == 3 else pixels[None]

    def lazy(self, index: int) -> dask.array.Array:
        """`frame` as a dask array (c, y, x), read when it is computed."""
        return self._delayed(self.frame, index, self.shape[1:], self.dtype)

    def plane(self, index: int, channel: str) -> npt.NDArray:
        """One channel of one time point, (y, x)."""
        return self._read(index, self.channel_index(channel))

    def window(self, y: slice, x: slice, frames: Iterable[int] | None = None) -> npt.NDArray:
        """A window over time, (t, c, height, width): of each of ``frames``, or of all of them.

        Reads only the chunks that meet the window. A missing frame gives zeros.
        """
        chosen = range(self.n_frames) if frames is None else frames
        parts = [self._read(index, None, y, x) for index in chosen]
        return np.stack([part if part.ndim == 3 else part[None] for part in parts])

    def meta(self, *channels: str) -> ImageMeta:
        """What a denoiser or a segmenter is told about these channels (all of them where none is named)."""
        named = channels or self.channels
        for name in named:
            self.channel_index(name)
        noted = self.layout.hyped
        return ImageMeta(
            channel="+".join(named),
            data_range=self.data_range,
            offset=noted.get("offset"),
            gain=noted.get("gain"),
            pixel_size_um=self.pixel_size_um,
            time_h=tuple(self.time_h.tolist()) if self.has_times else None,
            channels=tuple(named),
        )

    def dask(self) -> dask.array.Array:
        """The movie as a lazy dask array (t, c, y, x), a frame a block."""
        import dask.array as da

        array = self._array
        blocks = tuple(1 if axis == "t" else -1 for axis in self.layout.axes)
        return da.from_array(array, chunks=blocks, name=False).reshape(self.shape)

    def xarray(self) -> xarray.DataArray:
        """The movie as a lazy DataArray with coordinates ``time_h``, ``c``, ``y`` and ``x`` (micrometres)."""
        import xarray

        _, _, height, width = self.shape
        coords: dict[str, Any] = {
            "c": list(self.channels),
            "y": np.arange(height) * self.pixel_size_um,
            "x": np.arange(width) * self.pixel_size_um,
        }
        if self.has_times:
            coords["time_h"] = ("t", self.time_h)
        return xarray.DataArray(self.dask(), dims=("t", "c", "y", "x"), coords=coords, name=self.name)


class MovieWriter(FrameWriter):
    """Writes a movie frame by frame; it appears whole at the end of the ``with`` block or not at all.

    `FrameWriter` says how to write from several processes, to resume, and what a missing frame is.

    Parameters
    ----------
    shape : (t, c, y, x).
    channels : one name a channel.
    time_h : hours of each frame since the experiment's zero, increasing.
    data_range : (lowest, highest) value the camera can give; the range of ``dtype`` by default.
    attrs : further JSON-able notes kept in the ``hyped`` attributes (``offset``, ``gain``, ``reader``, ...).
    resume : key of everything that decides the pixels, to go on where a run with it was ended.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        channels: Sequence[str],
        pixel_size_um: float,
        time_h: Sequence[float] | npt.NDArray,
        data_range: tuple[float, float] | None = None,
        attrs: Mapping[str, Any] | None = None,
        chunk_yx: tuple[int, int] = CHUNK_YX,
        resume: str | None = None,
    ) -> None:
        path = Path(path)
        names = [str(name) for name in channels]
        if len(shape) != 4 or len(names) != shape[1] or len(set(names)) != len(names):
            raise InvalidDataError(
                f"shape {tuple(shape)} must be (t, c, y, x) with one distinct name a channel, got {names}",
                where=path,
            )
        if not np.isfinite(pixel_size_um) or pixel_size_um <= 0:
            raise InvalidDataError(f"pixel_size_um must be positive, not {pixel_size_um}", where=path)
        times = check_times(time_h, shape[0], path)
        low, high = data_range if data_range is not None else dtype_range(np.dtype(dtype))
        limits = (float(low), float(high))
        self._shown_as_seen = data_range is None
        ome = {
            "version": ngff.NGFF_VERSION,
            "multiscales": ngff.multiscales(path.stem, ("t", "c", "y", "x"), float(pixel_size_um), times, shape),
            "omero": ngff.omero(names, limits),
        }
        hyped = {
            **(attrs or {}),
            "schema_version": ngff.MOVIE_SCHEMA,
            "kind": "movie",
            "channels": names,
            "pixel_size_um": float(pixel_size_um),
            "time_h": times.tolist(),
            "data_range": list(limits),
        }
        super().__init__(
            path,
            shape=shape,
            dtype=dtype,
            chunk_yx=chunk_yx,
            codec="lz4",
            axes=("t", "c", "y", "x"),
            attrs={"ome": ome, "hyped": hyped},
            resume=resume,
        )

    def _finished_attrs(self, sample: npt.NDArray | None) -> dict[str, Any]:
        """Where nobody stated a data range, the first frame says what viewers show: a window as wide as the
        type would show an int32 or float movie as black."""
        if not self._shown_as_seen or sample is None:
            return self._attrs
        names, limits = self._attrs["hyped"]["channels"], self._attrs["hyped"]["data_range"]
        windows = [_seen(plane, limits) for plane in sample]
        return {**self._attrs, "ome": {**self._attrs["ome"], "omero": ngff.omero(names, tuple(limits), windows)}}


def _seen(plane: npt.NDArray, limits: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest finite value; ``limits`` where these are one."""
    values = plane[np.isfinite(plane)]
    if not values.size or values.min() == values.max():
        return float(limits[0]), float(limits[1])
    return float(values.min()), float(values.max())


def write_movie(
    path: str | Path,
    frames: npt.NDArray | Iterable[npt.NDArray],
    *,
    channels: Sequence[str],
    pixel_size_um: float,
    time_h: Sequence[float] | npt.NDArray,
    data_range: tuple[float, float] | None = None,
    attrs: Mapping[str, Any] | None = None,
    chunk_yx: tuple[int, int] = CHUNK_YX,
) -> Path:
    """Write a movie from an array (t, c, y, x) or from frames (c, y, x) in turn; returns its path."""
    source = iter(frames)
    first = next(source, None)
    if first is None:
        raise InvalidDataError("there are no frames to write", where=path)
    first = np.asarray(first)
    writer = MovieWriter(
        path,
        shape=(len(time_h), *first.shape),
        dtype=first.dtype,
        channels=channels,
        pixel_size_um=pixel_size_um,
        time_h=time_h,
        data_range=data_range,
        attrs=attrs,
        chunk_yx=chunk_yx,
    )
    with writer:
        writer.write_frame(0, first)
        for index, frame in enumerate(source, start=1):
            writer.write_frame(index, frame)
    return Path(path)


def dtype_range(dtype: np.dtype) -> tuple[float, float]:
    """(lowest, highest) value of an integer dtype; (0, 1) for floats."""
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return float(info.min), float(info.max)
    return 0.0, 1.0
