"""One way to look at images for the tasks: a movie of a container, a folder of images or a TIFF stack."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hyped_bench.readers import existing, image_files, read_image, stack_first
from hyped_core.contracts import ImageMeta
from hyped_core.errors import InvalidDataError


class Frames(Protocol):
    """Frames by index, with the names they go by in tables."""

    names: list[str]

    def planes(self, index: int, channels: tuple[str, ...]) -> npt.NDArray:
        """(c, y, x) in camera units."""
        ...

    def meta(self, channels: tuple[str, ...]) -> ImageMeta:
        """What a model is told."""
        ...

    def channels(self) -> tuple[str, ...]:
        """Names of all channels."""
        ...


class MovieFrames:
    """Frames of an OME-NGFF movie."""

    def __init__(self, path: str | Path) -> None:
        from hyped_core.container.movies import Movie

        self.movie = Movie.open(existing(path))
        self.names = [str(i) for i in range(self.movie.shape[0])]

    def channels(self) -> tuple[str, ...]:
        """Names of all channels."""
        return tuple(self.movie.channels)

    def planes(self, index: int, channels: tuple[str, ...]) -> npt.NDArray:
        """(c, y, x) in camera units."""
        return np.stack([self.movie.plane(index, channel) for channel in channels])

    def meta(self, channels: tuple[str, ...]) -> ImageMeta:
        """What a model is told."""
        return self.movie.meta(*channels)


class ImageFrames:
    """Single-channel images of a folder, or the planes of one TIFF stack (time first or last)."""

    def __init__(self, path: str | Path, channel: str, pixel_size_um: float) -> None:
        source = existing(path)
        self._channel = channel
        self._pixel_size_um = pixel_size_um
        if source.is_dir():
            files = image_files(source)
            self.names = list(files)
            self._files: list[Path] | None = list(files.values())
            self._stack = None
            self._dtype = read_image(self._files[0]).dtype
        else:
            self._files = None
            self._stack = stack_first(read_image(source))
            self.names = [str(i) for i in range(len(self._stack))]
            self._dtype = self._stack.dtype

    def channels(self) -> tuple[str, ...]:
        """The one channel's name."""
        return (self._channel,)

    def planes(self, index: int, channels: tuple[str, ...]) -> npt.NDArray:
        """(1, y, x) in camera units."""
        plane = self._stack[index] if self._stack is not None else read_image(self._files[index])  # type: ignore[index]
        if plane.ndim != 2:
            raise InvalidDataError(
                f"an image has shape {plane.shape}", where=self.names[index], mend="give grey images"
            )
        return plane[None]

    def meta(self, channels: tuple[str, ...]) -> ImageMeta:
        """What a model is told: the range of the stored type, nothing on gain or times."""
        high = float(np.iinfo(self._dtype).max) if np.issubdtype(self._dtype, np.integer) else 1.0
        return ImageMeta(
            channel=self._channel,
            data_range=(0.0, high),
            pixel_size_um=self._pixel_size_um,
            channels=(self._channel,),
        )


class LabelFrames:
    """Labels or annotations: an OME-NGFF labels folder, a folder of images or a TIFF stack."""

    def __init__(self, path: str | Path) -> None:
        source = existing(path)
        self._labels = None
        self._images: ImageFrames | None = None
        if source.is_dir() and (source / "zarr.json").is_file():
            from hyped_core.container.movies import Labels

            self._labels = Labels.open(source)
            self.names = [str(i) for i in range(self._labels.shape[0])]
        else:
            self._images = ImageFrames(source, "labels", 1.0)
            self.names = self._images.names

    def frame(self, index: int) -> npt.NDArray[np.int32]:
        """(y, x) int32."""
        if self._labels is not None:
            return self._labels.frame(index)
        return self._images.planes(index, ("labels",))[0].astype(np.int32)  # type: ignore[union-attr]


def open_frames(path: str | Path, channel: str = "nuclei", pixel_size_um: float = 1.0) -> Frames:
    """A movie where ``path`` is a zarr folder, else images; ``channel`` and pixel size are for the latter."""
    source = existing(path)
    if source.is_dir() and (source / "zarr.json").is_file():
        return MovieFrames(source)
    return ImageFrames(source, channel, pixel_size_um)


def chosen_frames(wanted: tuple[int, ...] | None, count: int, where: object) -> list[int]:
    """``wanted`` frames (negative counts from the end), all where None; out of range is an error."""
    if wanted is None:
        return list(range(count))
    picked = [i + count if i < 0 else i for i in wanted]
    wrong = [i for i in picked if not 0 <= i < count]
    if wrong:
        raise InvalidDataError(f"has {count} frames, asked for {wrong}", where=where, mend="correct `frames`")
    return picked


def centre_crop(size: int | None, height: int, width: int) -> tuple[slice, slice]:
    """Slices of the central ``size`` x ``size`` pixels (the whole plane where it is None or smaller)."""
    if size is None:
        return slice(0, height), slice(0, width)
    top, left = max(0, (height - size) // 2), max(0, (width - size) // 2)
    return slice(top, top + min(size, height)), slice(left, left + min(size, width))
