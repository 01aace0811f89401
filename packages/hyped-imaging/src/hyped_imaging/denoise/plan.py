"""What is settled before a movie or an image is denoised: channels, frames, windows, the type of the result, and a
model for each channel, with what it has learnt."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.context import RunContext
from hyped_core.contracts import Denoiser, ImageMeta
from hyped_core.errors import DesignError, InvalidDataError, MissingFileError, UsageError
from hyped_core.io.atomic import atomic_path
from hyped_imaging.denoise.streams import streams
from hyped_imaging.denoise.windows import (
    Window,
    checked_plane,
    meta_of,
    neighbours_of,
    plan_windows,
    spread_frames,
    window_length,
)

if TYPE_CHECKING:
    from hyped_core.container.movies import Movie
    from hyped_core.design import Design

MEMORY_GB = 4.0
"""What a window may take."""


@dataclass(frozen=True, slots=True)
class DenoiseOptions:
    """How a movie or an image is denoised.

    Attributes
    ----------
    channels : names in the movie or the design; every one but brightfield where empty. The others are copied.
    frames : numbers of frames; None for all. The result holds only these.
    dtype : type of the result; None for the movie's own.
    weights : folder with a folder of weights a channel, as ``save_weights`` writes it; nothing is learnt then.
    save_weights : folder to write what the model learnt to, a folder a channel.
    memory_gb : about how much a window may take; nothing to models that go frame by frame.
    """

    channels: tuple[str, ...] = ()
    frames: Sequence[int] | None = None
    dtype: str | None = None
    weights: Path | None = None
    save_weights: Path | None = None
    memory_gb: float = MEMORY_GB


@dataclass(frozen=True, slots=True)
class Planes:
    """Planes by frame and channel, of a movie or an image file.

    Attributes
    ----------
    shape : (t, c, y, x).
    read : frame and channel index -> (y, x) as stored.
    meta : channel index -> what a model is told.
    missing : frames that are lost, and why.
    """

    where: Path
    shape: tuple[int, int, int, int]
    dtype: np.dtype
    channels: tuple[str, ...]
    data_range: tuple[float, float]
    read: Callable[[int, int], npt.NDArray]
    meta: Callable[[int], ImageMeta]
    missing: dict[int, str]

    @classmethod
    def of_movie(cls, movie: Movie) -> Planes:
        """Those of an OME-NGFF movie."""
        names = movie.channels
        return cls(
            movie.path, movie.shape, movie.dtype, names, movie.data_range,
            lambda frame, k: movie.plane(frame, names[k]), lambda k: movie.meta(names[k]), movie.missing_frames,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """The settled options.

    Attributes
    ----------
    channels : indices of the channels to denoise.
    frames : frames of the result.
    chosen : those of them that are there.
    missing : those that are lost, and why.
    present : all frames that are there, of the result or not.
    neighbours : how many frames on each side the model looks at.
    length : frames of results a window holds at most; 0 for a model that goes frame by frame.
    windows : none for a model that goes frame by frame.
    """

    channels: tuple[int, ...]
    frames: tuple[int, ...]
    chosen: tuple[int, ...]
    missing: dict[int, str]
    present: tuple[int, ...]
    dtype: np.dtype
    neighbours: int
    length: int
    windows: tuple[Window, ...]


def make_plan(planes: Planes, model: Denoiser, design: Design, options: DenoiseOptions) -> Plan:
    """Settle the options.

    Raises
    ------
    DesignError
        There is no channel of a name.
    InvalidDataError
        None of the frames is there.
    UsageError
        Numbers in [0, 1] cannot become integers.
    """
    total = planes.shape[0]
    channels = choose_channels(planes.channels, options.channels, design, planes.where)
    frames = tuple(sorted(range(total) if options.frames is None else options.frames))
    present = tuple(index for index in range(total) if index not in planes.missing)
    chosen = tuple(index for index in frames if index not in planes.missing)
    if not chosen:
        raise InvalidDataError("all these frames are missing", where=planes.where, mend="choose other frames")
    dtype = result_dtype(planes, options.dtype)
    near = neighbours_of(model)
    length, windows = 0, ()
    if not streams(model):
        size = max(planes.dtype.itemsize, dtype.itemsize)
        length = window_length(planes.shape, size, neighbours=near, memory_gb=options.memory_gb)
        length = min(length, len(present))
        windows = tuple(plan_windows(chosen, present, neighbours=near, length=length))
    return Plan(
        channels, frames, chosen, {index: planes.missing[index] for index in frames if index in planes.missing},
        present, dtype, near, length, windows,
    )  # fmt: skip


def choose_channels(
    names: Sequence[str], wanted: Sequence[str], design: Design, where: object
) -> tuple[int, ...]:
    """Indices of the channels to denoise: those named, as in the file or as in the design, else every one that the
    design does not call brightfield."""
    aliases = {other: c.name for c in design.channels for other in (c.name, *c.aliases)}
    own = {aliases.get(name, name): k for k, name in enumerate(names)} | {name: k for k, name in enumerate(names)}
    found = {name: own.get(name, own.get(aliases.get(name, name))) for name in wanted}
    unknown = [name for name, k in found.items() if k is None]
    if unknown:
        raise DesignError(
            f"there is no channel {', '.join(unknown)}", where=where, mend=f"channels there: {', '.join(names)}"
        )
    if wanted:
        return tuple(sorted({k for k in found.values() if k is not None}))
    dull = {c.name for c in design.channels if c.role == "brightfield"}
    bright = tuple(k for k, name in enumerate(names) if aliases.get(name) not in dull)
    return bright or tuple(range(len(names)))


def result_dtype(planes: Planes, wanted: str | None) -> np.dtype:
    """The type asked for, or the file's own (float32 for every float, and for integers of 64 bits)."""
    own, (low, high) = planes.dtype, planes.data_range
    if wanted is None:
        return np.dtype(np.float32) if own.kind == "f" or own.itemsize > 4 else own
    dtype = np.dtype(wanted)
    if dtype.kind in "ui" and own.kind == "f" and high - low <= 1:
        raise UsageError(
            f"pixels between {low:g} and {high:g} cannot be written as {dtype}",
            where=planes.where,
            mend="--dtype float32, or give an image in camera units",
        )
    return dtype


def models_for(
    planes: Planes, model: Denoiser, plan: Plan, options: DenoiseOptions, context: RunContext
) -> dict[int, Denoiser]:
    """Channel index -> the model that is to denoise it.

    A model that offers ``fit(stack, meta)`` learns each channel by itself, from frames spread over the whole
    movie, whichever frames are asked for; with ``weights`` it loads what it learnt before.
    """
    check_weights(planes, model, plan, options)
    ready: dict[int, Denoiser] = {}
    for k in plan.channels:
        name, own = planes.channels[k], model
        if options.weights is not None:
            own = copy.deepcopy(model)
            own.load(weights_of(options.weights, name))  # type: ignore[attr-defined]
        elif hasattr(model, "fit"):
            own = copy.deepcopy(model)
            frames = spread_frames(plan.present)
            stack = np.stack([checked_plane(planes.read(index, k), index, planes.where) for index in frames])
            own.fit(stack, meta_of(planes.meta(k), frames), context=context)  # type: ignore[attr-defined]
        if options.save_weights is not None:
            with atomic_path(weights_of(options.save_weights, name)) as folder:
                own.save(folder)  # type: ignore[attr-defined]
        ready[k] = own
    return ready


def weights_of(folder: Path, channel: str) -> Path:
    """The folder of a channel's weights."""
    return folder / channel.replace("/", "_")


def check_weights(planes: Planes, model: Any, plan: Plan, options: DenoiseOptions) -> None:
    """Refuse weights where the model has none, and a folder that lacks those of a channel."""
    for folder, method in ((options.weights, "load"), (options.save_weights, "save")):
        if folder is not None and not (hasattr(model, method) and hasattr(model, "fit")):
            raise UsageError(
                f"{type(model).__name__} has no weights to {method}",
                where=folder,
                mend="leave the weights out, or choose a model that learns",
            )
    config = getattr(model, "config", None)
    each = getattr(config, "mode", "series") != "series" and not getattr(config, "weights", None)
    if options.save_weights is not None and options.weights is None and each:
        raise UsageError(
            f"{type(model).__name__} learns on each image anew in mode {config.mode}: no weights are a channel's",  # type: ignore[union-attr]
            where=options.save_weights,
            mend="leave --save-weights out, or learn each channel once: --model fm2s-series",
        )
    if options.weights is None:
        return
    names = [planes.channels[k] for k in plan.channels]
    lacking = [name for name in names if not weights_of(options.weights, name).is_dir()]
    if lacking:
        there = sorted(path.name for path in options.weights.glob("*/")) if options.weights.is_dir() else []
        raise MissingFileError(
            f"holds no weights of {', '.join(lacking)}",
            where=options.weights,
            mend=f"it has {', '.join(there) or 'none'}; --channels, or learn them: --save-weights",
        )
