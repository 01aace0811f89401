"""Denoising a movie in pieces that fit into memory, with models that want a stack: which frames go to the model
together, and the pieces' results put back in order. Reads planes through a function and writes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_core.context import RunContext, SilentProgress
from hyped_core.contracts import Denoiser, ImageMeta
from hyped_core.errors import InvalidDataError, PluginError
from hyped_imaging.segment.planes import check_finite

FIT_FRAMES = 8
"""Frames a model learns a channel from, spread over the movie."""

MODEL_COPIES = 6
"""Float copies of the stack that a model is reckoned to hold beside its input and output."""

Done = tuple[int, npt.NDArray, "dict[int, Change]"]
"""A frame's number, its pixels (c, y, x), and channel index -> what was done to it."""

ReadPlane = Callable[[int, int], npt.NDArray]
"""Frame and channel index -> (y, x) as stored."""


@dataclass(frozen=True, slots=True)
class Window:
    """Frames that go to the model together.

    Attributes
    ----------
    given : what the model sees, in order.
    kept : those of them whose result is used; the others are their neighbours.
    """

    given: tuple[int, ...]
    kept: tuple[int, ...]


@dataclass(slots=True)
class Change:
    """What denoising did to one plane; adds up over planes.

    Attributes
    ----------
    pixels : number of pixels.
    shift : sum of denoised minus noisy: a denoiser that keeps the mean has one near 0.
    squares : sum of the squares of that.
    clipped : pixels that left the range of the written type.
    """

    pixels: int = 0
    shift: float = 0.0
    squares: float = 0.0
    clipped: int = 0

    def __add__(self, other: Change) -> Change:
        return Change(
            self.pixels + other.pixels, self.shift + other.shift, self.squares + other.squares,
            self.clipped + other.clipped,
        )  # fmt: skip

    def record(self) -> dict[str, Any]:
        """``removed_rms`` and ``mean_shift`` in camera units, and the count of clipped pixels."""
        count = max(1, self.pixels)
        return {
            "removed_rms": round((self.squares / count) ** 0.5, 4),
            "mean_shift": round(self.shift / count, 4),
            "clipped_pixels": self.clipped,
        }


def neighbours_of(model: Denoiser) -> int:
    """Frames on each side that the result of a frame depends on: the model's attribute ``neighbours``, else its
    config's, else 0."""
    told = getattr(model, "neighbours", None)
    if told is None:
        told = getattr(getattr(model, "config", None), "neighbours", 0)
    return max(0, int(told or 0))


def plan_windows(
    chosen: Sequence[int], present: Sequence[int], *, neighbours: int, length: int
) -> list[Window]:
    """Windows of at most ``length`` consecutive frames and ``neighbours`` more on each side.

    Frames that are missing are passed over: the neighbours of a frame are the nearest ones that are there.

    >>> plan_windows([0, 1, 2, 3], [0, 1, 2, 3, 5], neighbours=1, length=2)
    [Window(given=(0, 1, 2), kept=(0, 1)), Window(given=(1, 2, 3, 5), kept=(2, 3))]
    """
    place = {frame: at for at, frame in enumerate(present)}
    runs: list[list[int]] = []
    for at in sorted(place[frame] for frame in chosen):
        near = runs and at - runs[-1][-1] <= 2 * neighbours + 1 and at - runs[-1][0] < length
        if near:
            runs[-1].append(at)
        else:
            runs.append([at])
    windows = []
    for run in runs:
        low, high = max(0, run[0] - neighbours), min(len(present), run[-1] + neighbours + 1)
        windows.append(Window(tuple(present[low:high]), tuple(present[at] for at in run)))
    return windows


def window_length(
    shape: tuple[int, int, int, int], itemsize: int, *, neighbours: int, memory_gb: float
) -> int:
    """Frames of results a window holds so that it takes about ``memory_gb``; depends on nothing of the machine, since
    where windows end may change the pixels: a model takes what it knows of the light and the noise from its window.

    It is never below twice the neighbours, so that at most two frames are worked on for one that is kept.

    ``itemsize`` is that of a stored pixel, in or out, whichever is larger.
    """
    _, channels, height, width = shape
    plane = height * width
    given = plane * (itemsize + 4 + 4 * MODEL_COPIES)
    kept = plane * itemsize * channels
    left = memory_gb * 1e9 - 2 * neighbours * given
    return max(1, 2 * neighbours, int(left // (given + kept)))


def spread_frames(present: Sequence[int], count: int = FIT_FRAMES) -> list[int]:
    """At most ``count`` frames from the middles of as many equal parts of the movie."""
    count = min(count, len(present))
    return [present[int((k + 0.5) * len(present) / count)] for k in range(count)]


def to_dtype(result: npt.NDArray, dtype: np.dtype) -> tuple[npt.NDArray, int]:
    """``result`` as ``dtype`` and how many pixels had to be clipped to its range.

    Integers are rounded to the nearest (halves to even), not cut, so that the mean stays.
    """
    if dtype.kind == "f":
        return result.astype(dtype, copy=False), 0
    limits = np.iinfo(dtype)
    whole = np.rint(result.astype(np.float64) if dtype.itemsize > 2 else result)
    clipped = int(np.count_nonzero((whole < limits.min) | (whole > limits.max)))
    return np.clip(whole, limits.min, limits.max).astype(dtype), clipped


def run_model(
    model: Denoiser, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext, where: str
) -> npt.NDArray[np.float32]:
    """The model's answer for ``stack`` (t, y, x), if it is what the contract says.

    Raises
    ------
    PluginError
        Another shape, or pixels that are not finite.
    """
    return checked_result(model.denoise(stack, meta, context=context), stack.shape, where)


def checked_result(result: npt.ArrayLike, shape: tuple[int, ...], where: str) -> npt.NDArray[np.float32]:
    """A model's answer, if it has this shape and finite pixels; else a `PluginError`."""
    result = np.asarray(result)
    if result.shape != shape:
        raise PluginError(f"the denoiser returned {result.shape} for {shape}", where=where, mend="correct the denoiser")
    if not np.isfinite(result).all():
        raise PluginError("the denoiser returned NaN or infinite pixels", where=where, mend="correct the denoiser")
    return result


def changed_plane(result: npt.NDArray, noisy: npt.NDArray, dtype: np.dtype) -> tuple[npt.NDArray, Change]:
    """A denoised plane as it is written, and what was done to it."""
    pixels, clipped = to_dtype(result, dtype)
    moved = pixels.astype(np.float64) - noisy
    return pixels, Change(moved.size, float(moved.sum()), float((moved**2).sum()), clipped)


def meta_of(meta: ImageMeta, frames: Sequence[int]) -> ImageMeta:
    """What a model is told about these frames of the movie that ``meta`` describes."""
    times = None if meta.time_h is None else tuple(meta.time_h[index] for index in frames)
    return dataclasses.replace(meta, time_h=times)


def denoise_windows(
    windows: Sequence[Window],
    read: ReadPlane,
    models: Mapping[int, Denoiser],
    meta: Callable[[int], ImageMeta],
    *,
    shape: tuple[int, int, int, int],
    dtype: np.dtype,
    where: object,
    context: RunContext,
) -> Iterator[list[Done]]:
    """Frames that are done, in order: a list after each window and channel with a model, empty but for the last
    channel of a window. Channels without a model are copied.

    Raises
    ------
    InvalidDataError
        A frame holds NaN or infinite pixels.
    PluginError
        A model broke its contract.
    """
    _, channels, height, width = shape
    quiet = dataclasses.replace(context, progress=SilentProgress())
    for window in windows:
        frames = np.empty((len(window.kept), channels, height, width), dtype)
        changes: list[dict[int, Change]] = [{} for _ in window.kept]
        for k in range(channels):
            if k not in models:
                for i, index in enumerate(window.kept):
                    frames[i, k] = to_dtype(read(index, k), dtype)[0]
        for k in sorted(models):
            stack = np.stack([checked_plane(read(index, k), index, where) for index in window.given])
            told = meta_of(meta(k), window.given)
            said = f"{where}, frames {window.given[0]} to {window.given[-1]}, {told.channel}"
            result = run_model(models[k], stack, told, context=quiet, where=said)
            for i, index in enumerate(window.kept):
                at = window.given.index(index)
                frames[i, k], changes[i][k] = changed_plane(result[at], stack[at], dtype)
            whole = k == max(models)
            yield list(zip(window.kept, frames, changes, strict=True)) if whole else []


def checked_plane(plane: npt.NDArray, index: int, where: object) -> npt.NDArray:
    """The plane, if it holds finite numbers."""
    if plane.dtype.kind not in "uif":
        raise InvalidDataError(f"pixels are {plane.dtype}", where=f"{where}, frame {index}", mend="give numbers")
    check_finite(plane, f"{where}, frame {index}")
    return plane
