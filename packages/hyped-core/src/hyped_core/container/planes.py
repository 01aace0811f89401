"""What movies and labels share: a zarr array written a frame at a time, and read a frame at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from hyped_core.container.extras import need
from hyped_core.container.ngff import Layout, open_array
from hyped_core.errors import CorruptFileError, InvalidDataError
from hyped_core.io.atomic import atomic_path

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

    def written(self) -> list[int]:
        """Indices of frames whose pixels are in the folder (all of them for a file not written by HYPED)."""
        if "time_h" not in self.layout.hyped:
            return list(range(self.n_frames))
        return stored_frames(self.path / "0", self.n_frames)

    def _read(self, frame: int, channel: int | None = None) -> npt.NDArray:
        """Pixels of one frame with the axes (c,) y, x; one plane where ``channel`` is given."""
        frame = self._index(frame)
        index: list[Any] = []
        for axis in self.layout.axes:
            if axis == "t":
                index.append(frame)
            elif axis == "z":
                index.append(0)
            elif axis == "c" and channel is not None:
                index.append(channel)
            else:
                index.append(slice(None))
        if (
            "time_h" in self.layout.hyped
            and not frame_file(self.path / "0", frame, self._array.ndim).is_file()
        ):
            raise CorruptFileError(
                f"pixels of frame {frame} are missing",
                where=self.path,
                mend="write it again, or fetch it again",
            )
        try:
            return np.asarray(self._array[tuple(index)])
        except Exception as error:
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


class FrameWriter:
    """Writes an array frame by frame beside its target and moves it over at the end; base of the writers.

    Leaving the block with frames unwritten is an error, and then nothing is left behind. ``write_frame`` may
    be called in any order and from several threads: each frame is a file of its own.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        chunk_yx: tuple[int, int],
        codec: Literal["lz4", "zstd"],
        axes: tuple[str, ...],
        attrs: Mapping[str, Any],
    ) -> None:
        self.path = Path(path)
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)
        if len(self.shape) != len(axes) or min(self.shape) < 1:
            raise InvalidDataError(
                f"shape {self.shape} must have sizes for {', '.join(axes)}", where=self.path
            )
        self._axes = axes
        self._attrs = attrs
        self._chunks = tuple(max(1, min(int(c), n)) for c, n in zip(chunk_yx, self.shape[-2:], strict=True))
        self._codec: Literal["lz4", "zstd"] = codec
        self._stack = ExitStack()
        self._temporary: Path | None = None
        self._array: zarr.Array | None = None

    def __enter__(self) -> Self:
        zarr = need("zarr", "writing movies")
        from zarr.codecs import BloscCodec, Crc32cCodec

        self._temporary = self._stack.enter_context(atomic_path(self.path))
        group = zarr.open_group(str(self._temporary), mode="w", zarr_format=3, attributes=dict(self._attrs))
        inner = (1,) * (len(self.shape) - 2) + self._chunks
        whole = tuple(-(-n // c) * c for n, c in zip(self.shape[-2:], self._chunks, strict=True))
        shards = (1, *self.shape[1:-2], *whole)
        blosc = BloscCodec(cname=self._codec, clevel=5 if self._codec == "lz4" else 1, shuffle="bitshuffle")
        self._array = group.create_array(
            "0",
            shape=self.shape,
            dtype=self.dtype,
            chunks=inner,
            shards=shards,
            compressors=[blosc, Crc32cCodec()],
            fill_value=0,
            dimension_names=self._axes,
            config={"write_empty_chunks": True},
        )
        return self

    def write_frame(self, index: int, array: npt.ArrayLike) -> None:
        """Write one frame, with the shape of the array without its time axis."""
        if self._array is None:
            raise InvalidDataError(
                "is not open for writing", where=self.path, mend="use it as a context manager"
            )
        values = np.asarray(array)
        if values.shape != self.shape[1:]:
            raise InvalidDataError(
                f"frame {index} has shape {values.shape}, expected {self.shape[1:]}", where=self.path
            )
        if not 0 <= index < self.shape[0]:
            raise InvalidDataError(f"there is no frame {index} among {self.shape[0]}", where=self.path)
        if values.dtype != self.dtype:
            converted = values.astype(self.dtype)
            if not np.can_cast(values.dtype, self.dtype, "safe") and not np.allclose(converted, values):
                raise InvalidDataError(
                    f"frame {index} holds {values.dtype} values that do not fit {self.dtype}", where=self.path
                )
            values = converted
        self._array[index] = values

    def written(self) -> list[int]:
        """Indices of the frames written so far."""
        return [] if self._temporary is None else stored_frames(self._temporary / "0", self.shape[0])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            absent = sorted(set(range(self.shape[0])) - set(self.written()))
            if absent:
                shown = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
                problem = InvalidDataError(
                    f"{len(absent)} of {self.shape[0]} frames were never written ({shown})", where=self.path
                )
                self._stack.__exit__(type(problem), problem, None)
                raise problem
        self._stack.__exit__(kind, error, trace)
        self._array = None


def frame_file(array: Path, frame: int, ndim: int) -> Path:
    """The shard that holds one frame."""
    return array.joinpath("c", str(frame), *["0"] * (ndim - 1))


def stored_frames(array: Path, frames: int) -> list[int]:
    """Frames whose folder of shards exists below a zarr array, sorted."""
    folder = array / "c"
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return [i for i in range(frames) if str(i) in names]
