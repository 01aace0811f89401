"""What movies and labels share in reading: an NGFF array whose first axis is time, a frame at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from hyped_core.container.ngff import Layout, open_array
from hyped_core.container.partial import FrameHandle, frame_file, stored_frames
from hyped_core.container.shards import ShardLayout, layout_of, read
from hyped_core.container.writer import FrameWriter
from hyped_core.errors import CorruptFileError, InvalidDataError

__all__ = ["FrameHandle", "FrameReader", "FrameWriter", "check_times"]

if TYPE_CHECKING:
    import dask.array
    import zarr


def check_times(time_h: Sequence[float] | npt.NDArray, frames: int, where: object) -> npt.NDArray[np.float64]:
    """Hours as float64, one a frame, finite and increasing; else `InvalidDataError`."""
    times = np.asarray(time_h, dtype=np.float64)
    if times.shape != (frames,):
        raise InvalidDataError(
            f"time_h has shape {times.shape}, the array has {frames} frames",
            where=where,
            mend="one time a frame",
        )
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise InvalidDataError(
            "time_h must be finite and increase from frame to frame", where=where, mend="sort frames by time"
        )
    return times


class FrameReader:
    """Lazy reading of an NGFF array whose first axis is time; base of ``Movie`` and ``Labels``."""

    kind = "image"

    def __init__(
        self, path: Path, array: zarr.Array, layout: Layout, time_h: npt.NDArray[np.float64] | None
    ) -> None:
        self.path = path
        self.layout = layout
        self._array = array
        self._time_h = time_h
        self._shards: ShardLayout | None = layout_of(array) if "time_h" in layout.hyped else None

    @classmethod
    def _open(cls, path: str | Path, interval_h: float | None) -> Self:
        path = Path(path)
        array, layout = open_array(path, cls.kind)
        frames = array.shape[layout.axes.index("t")] if "t" in layout.axes else 1
        times: npt.NDArray[np.float64] | None = None
        if "time_h" in layout.hyped:
            try:
                times = np.asarray(layout.hyped["time_h"], dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise CorruptFileError(
                    "attribute hyped/time_h is not a list of hours", where=path, mend="write the file again"
                ) from error
        elif interval_h is not None:
            times = np.arange(frames, dtype=np.float64) * interval_h
        elif frames == 1:
            times = np.zeros(1)
        return cls(path, array, layout, times)

    @property
    def name(self) -> str:
        """The folder's name without its suffix: the scene."""
        return self.path.stem

    @property
    def data(self) -> zarr.Array:
        """The stored array, lazy, with its own axes."""
        return self._array

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels."""
        return np.dtype(self._array.dtype)

    @property
    def pixel_size_um(self) -> float:
        """Edge of a pixel in micrometres."""
        return self.layout.pixel_size_um

    @property
    def n_frames(self) -> int:
        """Number of time points."""
        axes = self.layout.axes
        return int(self._array.shape[axes.index("t")]) if "t" in axes else 1

    @property
    def has_times(self) -> bool:
        """False for a foreign file whose times nobody stated."""
        return self._time_h is not None

    @property
    def time_h(self) -> npt.NDArray[np.float64]:
        """Hours of each frame since the experiment's zero, (t,)."""
        if self._time_h is None:
            raise InvalidDataError(
                "does not say when its frames were taken",
                where=self.path,
                mend="open it with interval_h=<hours>",
            )
        return self._time_h

    @property
    def attrs(self) -> dict[str, Any]:
        """HYPED's attributes of the file: what the writing step noted there."""
        return dict(self.layout.hyped)

    @property
    def missing_frames(self) -> dict[int, str]:
        """Frames that were lost before they were stored, and why; they read as zeros."""
        try:
            noted = {int(k): str(v) for k, v in dict(self.layout.hyped.get("missing_frames", {})).items()}
        except (TypeError, ValueError) as error:
            raise CorruptFileError(
                "attribute hyped/missing_frames does not name frames and reasons",
                where=self.path,
                mend="write the file again",
            ) from error
        return {index: noted[index] for index in sorted(noted)}

    @property
    def levels(self) -> tuple[str, ...]:
        """Paths of the arrays of the pyramid inside the folder, the full size first."""
        return tuple(str(level["path"]) for level in self.layout.ome["multiscales"][0]["datasets"])

    def written(self) -> list[int]:
        """Indices of frames whose pixels are in the folder (all of them for a file not written by HYPED)."""
        if "time_h" not in self.layout.hyped:
            return list(range(self.n_frames))
        return stored_frames(self.path / "0", self.n_frames, self._array.ndim)

    def _read(
        self, frame: int, channel: int | None = None, y: slice = slice(None), x: slice = slice(None)
    ) -> npt.NDArray:
        """Pixels of one frame with the axes (c,) y, x: one plane where ``channel`` is given, a part of it
        where slices are."""
        frame = self._index(frame)
        shape = dict(zip(self.layout.axes, self._array.shape, strict=True))
        parts: dict[str, int | slice] = {"t": frame, "z": 0}
        parts["c"] = slice(0, shape.get("c", 1)) if channel is None else channel
        for axis, part in (("y", y), ("x", x)):
            start, stop, step = part.indices(shape[axis])
            if step != 1 or stop <= start:
                raise InvalidDataError(
                    f"{axis}={part} names no window of {shape[axis]} pixels", where=self.path
                )
            parts[axis] = slice(start, stop)
        index = tuple(parts[axis] for axis in self.layout.axes)
        shard = frame_file(self.path / "0", frame, self._array.ndim)
        if "time_h" in self.layout.hyped and not shard.is_file():
            if frame in self.missing_frames:
                return np.zeros([p.stop - p.start for p in index if isinstance(p, slice)], self.dtype)
            raise CorruptFileError(
                f"pixels of frame {frame} are missing",
                where=self.path,
                mend="write it again, or fetch it again",
            )
        try:
            if self._shards is not None:
                return read(shard, self._shards, index[1:])
            return np.asarray(self._array[index])
        except Exception as error:  # whatever zarr, a codec or the disk says: the frame cannot be read
            raise CorruptFileError(
                f"frame {frame} cannot be read: {type(error).__name__}: {error}",
                where=self.path,
                mend="write it again, or fetch it again",
            ) from error

    def _delayed(
        self, read: Callable[[int], npt.NDArray], frame: int, shape: tuple[int, ...], dtype: np.dtype
    ) -> dask.array.Array:
        import dask
        import dask.array as da

        return da.from_delayed(dask.delayed(read)(self._index(frame)), shape, dtype)

    def _index(self, frame: int) -> int:
        position = int(frame) + (self.n_frames if frame < 0 else 0)
        if not 0 <= position < self.n_frames:
            raise InvalidDataError(
                f"has no frame {frame}", where=self.path, mend=f"frames go from 0 to {self.n_frames - 1}"
            )
        return position

    def __len__(self) -> int:
        return self.n_frames
