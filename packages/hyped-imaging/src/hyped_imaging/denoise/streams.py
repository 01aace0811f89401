"""Denoising a movie frame after frame, with models that offer it: one channel after another, each frame worked on once
and few in memory, however long the movie. Of all channels but the last the result waits on the disk."""

from __future__ import annotations

import dataclasses
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hyped_core.container.partial import storage_error
from hyped_core.context import RunContext, SilentProgress
from hyped_core.contracts import Denoiser, ImageMeta
from hyped_core.io.atomic import atomic_path, remove, scratch_path
from hyped_imaging.denoise.windows import (
    Change,
    Done,
    ReadPlane,
    changed_plane,
    checked_plane,
    checked_result,
    meta_of,
    to_dtype,
)


def streams(model: Denoiser) -> bool:
    """Whether the model offers ``denoise_frames(read, count, meta, *, context, frames=None)``.

    ``read`` gives the frame (y, x) of a number in 0 .. ``count`` - 1 and may be asked for one more than once. Yielded
    are the frames of the numbers ``frames``, ascending (all where None), in that order: (y, x) float32, the same
    pixels that ``denoise`` of the whole movie gives, whichever frames are asked for.
    """
    return callable(getattr(model, "denoise_frames", None))


class Spool:
    """Planes that are done and wait for those of the other channels, uncompressed in a folder that is made with the
    first of them."""

    def __init__(self, folder: Path, kept: bool) -> None:
        self.folder, self._kept = folder, kept

    def put(self, channel: int, frame: int, pixels: npt.NDArray, change: Change) -> None:
        """Keep a plane and what was done to it.

        Raises
        ------
        StorageError
            The disk is full, or the folder cannot be written to.
        """
        stored = io.BytesIO()
        np.save(stored, pixels)
        facts = json.dumps([zlib.crc32(stored.getbuffer()), *dataclasses.astuple(change)]).encode()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._path(channel, frame)) as part:
                part.write_bytes(facts + b"\n" + stored.getbuffer())
        except OSError as error:
            raise storage_error(error, self.folder, self.folder.parent, kept=self._kept) from error

    def get(self, channel: int, frame: int) -> tuple[npt.NDArray, Change] | None:
        """The plane as it was put; None where there is none, or it is damaged."""
        try:
            facts, _, stored = self._path(channel, frame).read_bytes().partition(b"\n")
            check, *values = json.loads(facts)
        except (FileNotFoundError, ValueError):
            return None
        return (np.load(io.BytesIO(stored)), Change(*values)) if zlib.crc32(stored) == check else None

    def drop(self, channel: int, frame: int) -> None:
        """Forget a plane."""
        self._path(channel, frame).unlink(missing_ok=True)

    def _path(self, channel: int, frame: int) -> Path:
        return self.folder / f"{channel}-{frame}.plane"


@contextmanager
def spool_beside(out: Path, key: str | None) -> Iterator[Spool]:
    """A spool on the disk of ``out``, gone at the end; with a ``key`` it outlives errors and kills, and is found again
    under the same key alone."""
    if key is None:
        with scratch_path(out.with_name(f"{out.name}.channels")) as folder:
            yield Spool(folder, kept=False)
        return
    own = out.with_name(f".{out.name}.{key[:12]}.channels")
    for other in out.parent.glob(f".{out.name}.*.channels"):
        if other != own:
            remove(other)
    yield Spool(own, kept=True)
    remove(own)


def denoise_streams(
    present: Sequence[int],
    left: Sequence[int],
    read: ReadPlane,
    models: Mapping[int, Denoiser],
    meta: Callable[[int], ImageMeta],
    *,
    shape: tuple[int, int, int, int],
    dtype: np.dtype,
    where: object,
    context: RunContext,
    spool: Spool,
) -> Iterator[list[Done]]:
    """The frames ``left`` of a movie whose frames ``present`` are there, in order: a list after each frame and channel
    with a model, empty but for the last channel, which goes with what the spool has of the others. Channels without
    a model are copied.

    Raises
    ------
    InvalidDataError
        A frame holds NaN or infinite pixels.
    PluginError
        A model broke its contract.
    StorageError
        The disk is full.
    """
    quiet = dataclasses.replace(context, progress=SilentProgress())
    place = {frame: at for at, frame in enumerate(present)}
    *others, last = sorted(models)
    for k in (*others, last):
        lacking = [frame for frame in left if k == last or spool.get(k, frame) is None]
        yield from ([] for _ in range(len(left) - len(lacking)))
        told = meta_of(meta(k), present)

        def plane_at(at: int, k: int = k) -> npt.NDArray:
            return checked_plane(read(present[at], k), present[at], where)

        run = models[k].denoise_frames(  # type: ignore[attr-defined]
            plane_at, len(present), told, context=quiet, frames=[place[frame] for frame in lacking]
        )
        for frame, result in zip(lacking, run, strict=True):
            noisy = plane_at(place[frame])
            result = checked_result(result, noisy.shape, f"{where}, frame {frame}, {told.channel}")
            pixels, change = changed_plane(result, noisy, dtype)
            if k != last:
                spool.put(k, frame, pixels, change)
                yield []
                continue
            planes, changes = np.empty(shape[1:], dtype), {}
            for c in range(shape[1]):
                if c == last:
                    planes[c], changes[c] = pixels, change
                elif c in models:
                    found = spool.get(c, frame)
                    assert found is not None, "every channel before the last was put there"
                    planes[c], changes[c] = found
                else:
                    planes[c] = to_dtype(read(frame, c), dtype)[0]
            yield [(frame, planes, changes)]
            for c in others:
                spool.drop(c, frame)
