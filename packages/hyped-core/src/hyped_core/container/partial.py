"""The folder in which a movie or labels grow frame by frame, and the handle that writes frames to it from any
process. Nothing here is seen by readers: when whole, the array is moved to its place."""

from __future__ import annotations

import errno
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from hyped_core.container.pyramid import Halving, halve
from hyped_core.container.shards import ShardLayout, encode, is_whole
from hyped_core.errors import InvalidDataError, StorageError, UsageError
from hyped_core.io.atomic import remove

ARRAY, NOTES, MISSING, PARTIAL, LOCK = "array.zarr", "notes", "missing", "partial", "lock"
"""What is in the folder: the array to be, a file a note, a file a lost frame, files being written, the lock."""


@dataclass(frozen=True, slots=True)
class FrameHandle:
    """Writes frames of one movie or labels from any process that sees the same disk; small, and pickled.

    Attributes
    ----------
    target : the movie or labels to be; for messages.
    folder : where it grows.
    layouts : one a level of the pyramid, the full size first.
    halving : how a level is made of the one before.
    kept : whether frames written so far survive an error.
    """

    target: str
    folder: str
    layouts: tuple[ShardLayout, ...]
    halving: Halving
    kept: bool

    def write_frame(self, index: int, array: npt.ArrayLike, note: bytes | None = None) -> None:
        """Write one frame, with the shape of the array without its time axis, and its note before it.

        Frames come in any order, from several processes and threads at once; a frame written twice is the
        last one written.

        Raises
        ------
        InvalidDataError
            Wrong shape, or values that do not fit the type.
        StorageError
            The disk is full, fails, or may not be written to.
        """
        frame = self._checked(index, array)
        with self._storage_errors():
            if note is not None:
                self._put(Path(self.folder, NOTES, str(index)), [note, zlib.crc32(note).to_bytes(4, "little")])
            shards = []
            for level, layout in enumerate(self.layouts):
                frame = halve(frame, self.halving) if level else frame
                shards.append(encode(frame, layout))
            for level in reversed(range(len(shards))):  # full size last: where it is, the frame is whole
                self._put(self._shard(level, index), shards[level])
            Path(self.folder, MISSING, str(index)).unlink(missing_ok=True)

    def write_missing(self, index: int, reason: str) -> None:
        """Record that a frame is lost, and why; it is not stored, and reads as zeros."""
        self._check_index(index)
        if not reason:
            raise UsageError("a missing frame needs a reason", where=self.target)
        with self._storage_errors():
            self._put(Path(self.folder, MISSING, str(index)), [reason.encode()])

    def note(self, index: int) -> bytes | None:
        """The note of a frame; None where it has none, or none that is whole."""
        path = Path(self.folder, NOTES, str(index))
        stored = path.read_bytes() if path.is_file() else b""
        whole = len(stored) >= 4 and zlib.crc32(stored[:-4]).to_bytes(4, "little") == stored[-4:]
        return stored[:-4] if whole else None

    def written(self, frames: int) -> list[int]:
        """Which of so many frames are there."""
        return stored_frames(Path(self.folder, ARRAY, "0"), frames, len(self.layouts[0].shape) + 1)

    def missing(self) -> dict[int, str]:
        """Lost frames that were not written after all, and why they are lost."""
        found = {}
        for path in sorted(Path(self.folder, MISSING).iterdir(), key=lambda path: int(path.name)):
            if not self._shard(0, int(path.name)).is_file():
                found[int(path.name)] = path.read_text(encoding="utf-8")
        return found

    def drop_damaged(self, frames: int) -> None:
        """Remove frames of which a file is not whole: a machine that lost power may leave such."""
        for index in self.written(frames):
            levels = enumerate(self.layouts)
            whole = all(is_whole(self._shard(level, index), layout) for level, layout in levels)
            if not whole or (Path(self.folder, NOTES, str(index)).exists() and self.note(index) is None):
                remove(self._shard(0, index))

    def _shard(self, level: int, index: int) -> Path:
        array = Path(self.folder, ARRAY, str(level))
        return frame_file(array, index, len(self.layouts[0].shape) + 1)

    def _put(self, path: Path, parts: Sequence[bytes]) -> None:
        """Write a file whole or not at all. The folder itself is never made again: who comes after the end
        of the run fails."""
        temporary = Path(self.folder, PARTIAL, uuid.uuid4().hex)
        try:
            with temporary.open("wb") as file:
                file.writelines(parts)
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _check_index(self, index: int) -> None:
        if index < 0:
            raise InvalidDataError(f"there is no frame {index}", where=self.target)

    def _checked(self, index: int, array: npt.ArrayLike) -> npt.NDArray:
        self._check_index(index)
        layout = self.layouts[0]
        values, dtype = np.asarray(array), np.dtype(layout.dtype)
        if values.shape != layout.shape:
            raise InvalidDataError(
                f"frame {index} has shape {values.shape}, expected {layout.shape}", where=self.target
            )
        if self.halving == "nearest" and (
            not np.issubdtype(values.dtype, np.integer) or (values.size and values.min() < 0)
        ):
            raise InvalidDataError(
                f"labels of frame {index} must be non-negative integers, got {values.dtype}",
                where=self.target,
            )
        if values.dtype != dtype:
            converted = values.astype(dtype)
            if not np.can_cast(values.dtype, dtype, "safe") and not np.allclose(converted, values):
                raise InvalidDataError(
                    f"frame {index} holds {values.dtype} values that do not fit {dtype}", where=self.target
                )
            values = converted
        return values

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(error, self.target, self.folder, kept=self.kept) from error


def storage_error(error: OSError, target: str | Path, folder: str | Path, *, kept: bool) -> StorageError:
    """What an `OSError` while writing means and what to do about it."""
    after = "; finished frames are kept: then run the same command again" if kept else ""
    if error.errno == errno.ENOENT and not Path(folder).is_dir():
        return StorageError(
            f"the folder it is written to is gone: {folder}",
            where=target,
            mend="every worker must see the same disk under the same path, and one run at a time writes a target",
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what, mend = "there is no space left", f"free space on the disk of {Path(target).parent}"
    elif error.errno == errno.EFBIG:
        what, mend = "a file grew over the limit of this account or disk", "raise the limit (ulimit -f)"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        what, mend = "the folder may not be written to", "choose another folder or change its rights"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        what, mend = "a file is where a folder has to be", "choose another folder, or move that file"
    else:
        what, mend = f"writing failed: {error.strerror or error}", "check the disk"
    return StorageError(what, where=target, mend=mend + after)


def frame_file(array: Path, frame: int, ndim: int) -> Path:
    """The shard that holds one frame."""
    return array.joinpath("c", str(frame), *["0"] * (ndim - 1))


def stored_frames(array: Path, frames: int, ndim: int) -> list[int]:
    """Frames whose shard exists below a zarr array, sorted."""
    folder = array / "c"
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return [i for i in range(frames) if str(i) in names and frame_file(array, i, ndim).is_file()]


def take_lock(folder: Path) -> IO[bytes] | None:
    """Hold a folder as long as the file that is returned is open; None where another process holds it.

    Where the system knows no such locks (Windows, some network disks) it is always given.
    """
    file = (folder / LOCK).open("ab")
    try:
        import fcntl
    except ModuleNotFoundError:
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        pass  # this disk has no locks
    return file


def remove_other_resumes(target: Path, keep: Path) -> None:
    """Delete folders that earlier runs with other keys left for the same target, unless a run holds one."""
    for folder in target.parent.glob(f".{target.name}.*.resume"):
        if folder == keep or not folder.is_dir():
            continue
        with suppress(OSError):
            lock = take_lock(folder)
            if lock is not None:
                remove(folder)
                lock.close()


def clear_partial(folder: Path) -> None:
    """Remove what processes that were killed left half written."""
    for path in Path(folder, PARTIAL).iterdir():
        with suppress(OSError):
            path.unlink()


def make_folders(folder: Path) -> None:
    """The inside of a new folder."""
    for name in (NOTES, MISSING, PARTIAL):
        (folder / name).mkdir(parents=True)
