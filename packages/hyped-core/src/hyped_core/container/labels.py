"""Labels of a movie on disk: OME-NGFF 0.5 labels, axes t, y, x, int32, zero is background."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.container import ngff
from hyped_core.container.planes import FrameReader, check_times
from hyped_core.container.writer import CHUNK_YX, FrameWriter
from hyped_core.errors import InvalidDataError, UnsupportedDataError

if TYPE_CHECKING:
    import dask.array
    import xarray


class Labels(FrameReader):
    """The labels of one scene, read lazily. A nucleus' ``label`` is its value in the frame's array."""

    kind = "labels image"

    @classmethod
    def open(cls, path: str | Path, *, interval_h: float | None = None) -> Labels:
        """Open a labels folder; nothing but metadata is read.

        Raises
        ------
        MissingFileError, CorruptFileError, UnsupportedDataError
            Naming the folder and what to do.
        """
        labels = cls._open(path, interval_h)
        if (
            not np.issubdtype(labels.dtype, np.integer)
            or labels.layout.hyped.get("kind", "labels") != "labels"
        ):
            raise UnsupportedDataError(
                f"is no labels image ({labels.dtype})",
                where=labels.path,
                mend="give the folder of the labels",
            )
        return labels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(t, y, x)."""
        axes, stored = self.layout.axes, self._array.shape
        t, y, x = (int(stored[axes.index(a)]) if a in axes else 1 for a in "tyx")
        return t, y, x

    @property
    def source(self) -> str:
        """Path of the movie these labels belong to, relative to the labels' folder; empty where unknown."""
        return str(self.layout.ome.get("image-label", {}).get("source", {}).get("image", ""))

    def frame(self, index: int) -> npt.NDArray[np.int32]:
        """Labels of one time point, (y, x) int32."""
        pixels = self._read(index, 0) if "c" in self.layout.axes else self._read(index)
        return pixels.astype(np.int32, copy=False)

    def window(self, y: slice, x: slice, frames: Iterable[int] | None = None) -> npt.NDArray[np.int32]:
        """A window over time, (t, height, width): of each of ``frames``, or of all of them."""
        chosen = range(self.n_frames) if frames is None else frames
        channel = 0 if "c" in self.layout.axes else None
        return np.stack([self._read(index, channel, y, x) for index in chosen]).astype(np.int32, copy=False)

    def lazy(self, index: int) -> dask.array.Array:
        """`frame` as a dask array (y, x) int32, read when it is computed."""
        return self._delayed(self.frame, index, self.shape[1:], np.dtype(np.int32))

    def dask(self) -> dask.array.Array:
        """The labels as a lazy dask array (t, y, x), a frame a block."""
        import dask.array as da

        blocks = tuple(1 if axis == "t" else -1 for axis in self.layout.axes)
        return da.from_array(self._array, chunks=blocks, name=False).reshape(self.shape)

    def xarray(self) -> xarray.DataArray:
        """The labels as a lazy DataArray with coordinates ``time_h``, ``y`` and ``x`` (micrometres)."""
        import xarray

        _, height, width = self.shape
        coords: dict[str, Any] = {
            "y": np.arange(height) * self.pixel_size_um,
            "x": np.arange(width) * self.pixel_size_um,
        }
        if self.has_times:
            coords["time_h"] = ("t", self.time_h)
        return xarray.DataArray(self.dask(), dims=("t", "y", "x"), coords=coords, name=self.name)


class LabelsWriter(FrameWriter):
    """Writes labels frame by frame, (y, x) of integers, none negative; they appear whole at the end of the
    ``with`` block or not at all.

    `FrameWriter` says how to write from several processes, to resume, and what a missing frame is.

    Parameters
    ----------
    shape : (t, y, x).
    time_h : hours of each frame, as the movie has them.
    source : the movie, relative to the labels' folder (``"../../movies/S0.zarr"``), or empty.
    attrs : further JSON-able notes (the segmenter's name and configuration, ...).
    resume : key of everything that decides the labels, to go on where a run with it was ended.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: Sequence[int],
        pixel_size_um: float,
        time_h: Sequence[float] | npt.NDArray,
        source: str = "",
        attrs: Mapping[str, Any] | None = None,
        chunk_yx: tuple[int, int] = CHUNK_YX,
        resume: str | None = None,
    ) -> None:
        path = Path(path)
        if len(shape) != 3:
            raise InvalidDataError(f"shape {tuple(shape)} must be (t, y, x)", where=path)
        times = check_times(time_h, shape[0], path)
        axes = ("t", "y", "x")
        ome = {
            "version": ngff.NGFF_VERSION,
            "multiscales": ngff.multiscales(path.stem, axes, float(pixel_size_um), times, shape),
            "image-label": {"version": ngff.NGFF_VERSION, "source": {"image": str(source)}},
        }
        hyped = {
            **(attrs or {}),
            "schema_version": ngff.MOVIE_SCHEMA,
            "kind": "labels",
            "pixel_size_um": float(pixel_size_um),
            "time_h": times.tolist(),
        }
        super().__init__(
            path,
            shape=shape,
            dtype=np.int32,
            chunk_yx=chunk_yx,
            codec="zstd",
            axes=axes,
            attrs={"ome": ome, "hyped": hyped},
            halving="nearest",
            resume=resume,
        )
