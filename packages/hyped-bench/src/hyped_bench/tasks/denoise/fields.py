"""Reading the sources of the task `denoise`: planes of a field of view and channel, and what they are held against."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_bench.frames import LabelFrames, centre_crop, chosen_frames, open_frames
from hyped_bench.metrics.image import unit_range
from hyped_bench.readers import image_files
from hyped_bench.tasks.denoise.params import DenoiseSource
from hyped_core.contracts import ImageMeta
from hyped_core.errors import InvalidDataError


@dataclass(slots=True)
class Stack:
    """Planes of one field of view in one channel.

    Attributes
    ----------
    unit : the field of view: a scene, or the field of image files.
    field : the unit's name with the channel, for movies.
    noisy : (t, y, x), camera units.
    names : of the planes.
    movie : False for realisations of one field, which are no time series and are denoised one by one.
    clean, foreground : (t, y, x) where the kind of reference has them.
    """

    source: DenoiseSource
    unit: str
    field: str
    channel: str
    condition: str | None
    noisy: npt.NDArray
    meta: ImageMeta
    names: list[str]
    movie: bool
    clean: npt.NDArray | None = None
    foreground: npt.NDArray | None = None
    frames: list[int] = field(default_factory=list)

    def given(self) -> tuple[npt.NDArray, ImageMeta]:
        """What the model sees: camera units, or (``self``) each plane clipped and scaled to [0, 1]."""
        if self.source.reference != "self":
            return self.noisy, self.meta
        source = self.source
        scaled = [unit_range(plane, clip=source.clip, rule=source.clip_rule)[0] for plane in self.noisy]
        return np.stack(scaled).astype(np.float32), replace(self.meta, data_range=(0.0, 1.0), offset=0.0, gain=None)

    def calls(self) -> list[npt.NDArray]:
        """The stacks the model is called with, one after another."""
        planes, _ = self.given()
        return [planes] if self.movie else list(planes[:, None])


def read_source(source: DenoiseSource, rng: np.random.Generator) -> list[Stack]:
    """All stacks of a source; ``rng`` draws the noise of ``light`` below 1.

    Raises
    ------
    MissingFileError, InvalidDataError
        A file is not there; shapes differ; a frame or an image has no counterpart.
    """
    frames = open_frames(source.noisy)
    if hasattr(frames, "movie"):
        return _movie_stacks(source, frames, rng)
    if source.reference == "downstream":
        raise InvalidDataError(
            "images are no movie: nothing can be tracked",
            where=f"denoise source {source.name}, noisy {source.noisy}",
            mend="give a movie, or another kind of reference",
        )
    return _image_stacks(source, frames)


def _movie_stacks(source: DenoiseSource, frames: Any, rng: np.random.Generator) -> list[Stack]:
    picked = chosen_frames(source.frames, len(frames.names), source.noisy)
    clean = open_frames(source.clean) if source.clean else None
    labels = LabelFrames(source.labels) if source.labels else None
    condition = source.condition_name()
    foreground = None
    stacks = []
    for channel in source.channels or frames.channels():
        noisy = np.stack([frames.planes(i, (channel,))[0] for i in picked])
        rows, columns = centre_crop(source.crop, *noisy.shape[1:])
        noisy = noisy[:, rows, columns]
        meta = frames.meta((channel,))
        if source.light < 1:
            noisy = dimmed(noisy, source.light, source.gain or 1.0, meta.offset or 0.0, source.read_noise, rng)
        reference = None
        if clean is not None:
            reference = np.stack([clean.planes(i, (channel,))[0] for i in picked])[:, rows, columns]
            _same_shape(noisy, reference, source.clean)
        if labels is not None and foreground is None:
            foreground = np.stack([labels.frame(i) for i in picked])[:, rows, columns]
            _same_shape(noisy, foreground, source.labels)
        times = meta.time_h
        stacks.append(
            Stack(
                source, source.place(), f"{source.name}_{channel}", channel, condition, noisy,
                replace(meta, time_h=tuple(times[i] for i in picked) if times else None),
                [frames.names[i] for i in picked], True, reference, foreground, picked,
            )  # fmt: skip
        )
    return stacks


def _image_stacks(source: DenoiseSource, frames: Any) -> list[Stack]:
    if source.labels is not None:
        raise InvalidDataError(
            "labels of single images are not read", where=f"denoise source {source.name}", mend="leave `labels` out"
        )
    there = image_files(source.clean) if source.clean else {}
    references = open_frames(source.clean) if source.clean else None
    picked = chosen_frames(source.frames, len(frames.names), source.noisy)
    condition = source.condition_name()
    groups: dict[str, list[int]] = {}
    for i in picked:
        found = re.match(source.field_pattern, frames.names[i])
        groups.setdefault(found["field"] if found else frames.names[i], []).append(i)
    stacks = []
    for name, members in groups.items():
        planes = [frames.planes(i, ())[0] for i in members]
        if len({plane.shape for plane in planes}) > 1:
            raise InvalidDataError(f"images of field {name} differ in shape", where=source.noisy)
        rows, columns = centre_crop(source.crop, *planes[0].shape)
        noisy, reference = np.stack([plane[rows, columns] for plane in planes]), None
        names = [frames.names[i] for i in members]
        if references is not None:
            missing = [n for n in names if n not in there]
            if missing:
                raise InvalidDataError(f"has no clean image for {', '.join(missing)}", where=source.clean)
            pairs = [references.planes(references.names.index(n), ())[0] for n in names]
            if any(pair.shape != planes[0].shape for pair in pairs):
                raise InvalidDataError(f"images of field {name} differ in shape from the noisy", where=source.clean)
            reference = np.stack([pair[rows, columns] for pair in pairs])
        meta = frames.meta(frames.channels())
        stacks.append(
            Stack(source, name, name, meta.channel, condition, noisy, meta, names, False, reference, None, members)
        )
    return stacks


def _same_shape(noisy: npt.NDArray, other: npt.NDArray, where: object) -> None:
    if noisy.shape != other.shape:
        raise InvalidDataError(f"has planes {other.shape[1:]}, the movie {noisy.shape[1:]}", where=where)


def dimmed(
    stack: npt.NDArray, light: float, gain: float, offset: float, read_noise: float, rng: np.random.Generator
) -> npt.NDArray:
    """The frames as the same camera would have read them with a share ``light`` of the photons, at the same type.

    Scaling an exposure of s photo-electrons by p leaves p^2 of its variance; thinning would leave p. What lacks is
    drawn as normal noise of variance p (1 - p) gain (x - offset) + (1 - p^2) read_noise^2 in camera units. Intensities
    fall to the share p above the offset, so the ratio of signal to shot noise falls by sqrt(p).

    >>> import numpy as np
    >>> dimmed(np.full((1, 2, 2), 100, np.uint16), 0.5, 8.0, 100.0, 0.0, np.random.default_rng(0)).tolist()
    [[[100, 100], [100, 100]]]
    """
    signal = stack.astype(np.float64) - offset
    variance = light * (1 - light) * gain * np.maximum(signal, 0) + (1 - light**2) * read_noise**2
    drawn = offset + light * signal + np.sqrt(variance) * rng.standard_normal(stack.shape)
    return as_stored(drawn, stack.dtype)


def as_stored(stack: npt.NDArray, dtype: np.dtype) -> npt.NDArray:
    """Values as a movie of this type holds them: rounded and within the range of an integer type."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return np.clip(np.rint(stack), limits.min, limits.max).astype(dtype)
    return stack.astype(dtype)
