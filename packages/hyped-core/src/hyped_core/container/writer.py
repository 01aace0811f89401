"""Writing movies and labels frame by frame: in one process or several, whole or not at all, resumed where a run
was killed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from hyped_core.container import partial
from hyped_core.container.extras import need
from hyped_core.container.partial import FrameHandle
from hyped_core.container.pyramid import Halving, level_shapes
from hyped_core.container.shards import ShardLayout
from hyped_core.errors import InvalidDataError, UsageError
from hyped_core.io.atomic import remove, replace, scratch_path

CHUNK_YX = (256, 256)
"""Inner chunks: a window over time reads few bytes, and a frame still costs what larger ones cost."""

_FORMAT = 1
"""Raised when the same pixels are stored in another way, so that no run resumes what an older one began."""


class FrameWriter:
    """Writes an array frame by frame beside its target and moves it over at the end; base of the writers.

    Leaving the block with frames neither written nor declared missing is an error. ``write_frame`` may be
    called in any order and from several threads; `handle` writes from other processes.

    With ``resume``, a key that stands for everything that decides the pixels, frames survive errors and kills
    in a hidden folder beside the target, and a later writer with the same key goes on from there: `written`
    lists what it found. Without it an error leaves nothing behind.
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
        halving: Halving = "mean",
        resume: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        if self.dtype.kind not in "uif":
            raise InvalidDataError(f"pixels must be integers or floats, not {self.dtype}", where=self.path)
        if len(self.shape) != len(axes) or min(self.shape) < 1:
            raise InvalidDataError(
                f"shape {self.shape} must have sizes for {', '.join(axes)}", where=self.path
            )
        self._axes = axes
        self._attrs = dict(attrs)
        self._notes: dict[str, Any] = {}
        self._resume = resume
        self._halving: Halving = halving
        self._layouts = tuple(
            ShardLayout(
                shape=shape[1:],
                dtype=self.dtype.str,
                chunk=tuple(max(1, min(int(c), n)) for c, n in zip(chunk_yx, shape[-2:], strict=True)),  # type: ignore[arg-type]
                codec=codec,
                clevel=5 if codec == "lz4" else 1,
            )
            for shape in level_shapes(self.shape)
        )
        self._stack = ExitStack()
        self._handle: FrameHandle | None = None

    def __enter__(self) -> Self:
        need("zarr", "writing movies")
        try:
            self._open()
        except OSError as error:
            self._stack.close()
            raise partial.storage_error(error, self.path, self.path.parent, kept=False) from error
        return self

    def _open(self) -> None:
        if self._resume is None:
            folder = self._stack.enter_context(scratch_path(self.path))
            self._create(folder)
        else:
            folder = self._kept_folder()
            partial.remove_other_resumes(self.path, folder)
            lock = partial.take_lock(folder) if folder.is_dir() else None
            if folder.is_dir() and lock is None:
                raise _held(self.path)
            if not (folder / partial.ARRAY / "zarr.json").is_file():
                if lock is not None:
                    lock.close()
                with scratch_path(folder) as fresh:
                    self._create(fresh)
                    replace(fresh, folder)
                lock = partial.take_lock(folder)
                if lock is None:  # another process began between the two
                    raise _held(self.path)
            if lock is not None:
                self._stack.enter_context(lock)
            partial.clear_partial(folder)
        self._handle = FrameHandle(
            str(self.path.absolute()), str(folder.absolute()), self._layouts, self._halving, self._resume is not None
        )
        if self._resume is not None:
            self._handle.drop_damaged(self.shape[0])

    def _kept_folder(self) -> Path:
        """The hidden sibling of the target that belongs to the key and to how the array is stored."""
        stored = [_FORMAT, self._resume, self.shape, [(x.dtype, x.chunk, x.codec, x.clevel) for x in self._layouts]]
        key = hashlib.sha256(json.dumps(stored).encode()).hexdigest()
        return self.path.with_name(f".{self.path.name}.{key[:12]}.resume")

    def _create(self, folder: Path) -> None:
        import zarr
        from zarr.codecs import BloscCodec, Crc32cCodec

        folder.mkdir(parents=True)
        partial.make_folders(folder)
        group = zarr.open_group(str(folder / partial.ARRAY), mode="w", zarr_format=3)
        for level, layout in enumerate(self._layouts):
            whole = tuple(n * c for n, c in zip(layout.grid[-2:], layout.chunk, strict=True))
            group.create_array(
                str(level),
                shape=(self.shape[0], *layout.shape),
                dtype=self.dtype,
                chunks=(*(1,) * (len(self.shape) - 2), *layout.chunk),
                shards=(1, *layout.shape[:-2], *whole),
                compressors=[
                    BloscCodec(
                        cname=layout.codec,  # type: ignore[arg-type]
                        clevel=layout.clevel,
                        shuffle="bitshuffle",
                        typesize=self.dtype.itemsize,
                    ),
                    Crc32cCodec(),
                ],
                fill_value=0,
                dimension_names=self._axes,
            )

    def handle(self) -> FrameHandle:
        """What writes frames in other processes; good until the block ends."""
        if self._handle is None:
            raise InvalidDataError(
                "is not open for writing", where=self.path, mend="use it as a context manager"
            )
        return self._handle

    def write_frame(self, index: int, array: npt.ArrayLike, note: bytes | None = None) -> None:
        """Write one frame, with the shape of the array without its time axis.

        ``note`` is kept beside the frame until the array is whole (`note` reads it): written before the
        pixels, so a frame that is there has its note.
        """
        self._check_index(index)
        self.handle().write_frame(index, array, note)

    def write_missing(self, index: int, reason: str) -> None:
        """Declare a frame lost: it is not stored, and readers find it and the reason in ``missing_frames``."""
        self._check_index(index)
        self.handle().write_missing(index, reason)

    def note(self, index: int) -> bytes | None:
        """The note a frame was written with."""
        return self.handle().note(index)

    def update_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Add JSON-able notes to the ``hyped`` attributes that are stored at the end."""
        try:
            self._notes.update(json.loads(json.dumps(dict(attrs))))
        except (TypeError, ValueError) as error:
            raise InvalidDataError(f"attributes are not JSON: {error}", where=self.path) from error

    def written(self) -> list[int]:
        """Indices of the frames whose pixels are written so far, those of earlier runs included."""
        return [] if self._handle is None else self._handle.written(self.shape[0])

    @property
    def missing_frames(self) -> dict[int, str]:
        """Frames declared lost so far, and why."""
        return {} if self._handle is None else self._handle.missing()

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.shape[0]:
            raise InvalidDataError(f"there is no frame {index} among {self.shape[0]}", where=self.path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            handle, self._handle = self.handle(), None
            folder = Path(handle.folder)
            try:
                if kind is None:
                    self._commit(handle)
            except OSError as problem:
                raise partial.storage_error(problem, self.path, folder, kept=handle.kept) from problem
            finally:
                if folder.is_dir() and not handle.written(self.shape[0]):
                    remove(folder)  # the end, or nothing to go on from

    def _commit(self, handle: FrameHandle) -> None:
        """Complete the metadata and move the array to its place."""
        import zarr

        missing = handle.missing()
        absent = sorted(set(range(self.shape[0])) - set(handle.written(self.shape[0])) - missing.keys())
        if absent:
            shown = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
            raise InvalidDataError(
                f"{len(absent)} of {self.shape[0]} frames were never written ({shown})", where=self.path
            )
        hyped = {**self._attrs["hyped"], **self._notes}
        if missing:
            hyped["missing_frames"] = {str(index): reason for index, reason in missing.items()}
        array = Path(handle.folder, partial.ARRAY)
        group = zarr.open_group(str(array), mode="r+")
        shown = next((index for index in range(self.shape[0]) if index not in missing), None)
        sample = None if shown is None else np.asarray(group[str(len(self._layouts) - 1)][shown])  # type: ignore[index]
        group.update_attributes({**self._finished_attrs(sample), "hyped": hyped})
        replace(array, self.path)

    def _finished_attrs(self, sample: npt.NDArray | None) -> dict[str, Any]:
        """The attributes as stored; ``sample`` is the first frame there is, at the coarsest level."""
        return self._attrs


def _held(path: Path) -> UsageError:
    return UsageError("another process writes it now", where=path, mend="wait for it, or end it")
