"""Frames of one scene as the movie panel draws them: which part, how much smaller, how bright; read one at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from hyped_bench.report.charts import PALETTE, PHASE_COLOURS

if TYPE_CHECKING:
    from hyped_core.container import HypedData, Labels, Movie
    from hyped_core.design import Design

TARGET_UM = 1.3
"""Micrometres a shown pixel may cover: a nucleus of 15 um is then at least 11 pixels wide."""
PIXEL_UM = (1e-3, 1e3)
"""Least and largest edge of a pixel that is believed: beyond electrons at one end, beyond a well at the other."""
CONTRAST = (30.0, 99.8)
"""Percentiles of black and white in fluorescence: the 30th is ground where nuclei are sparse."""
BRIGHTFIELD_CONTRAST = (0.5, 99.5)
NUCLEI_COLOUR = PALETTE[0]
OTHER_COLOURS = (PALETTE[4], PALETTE[2], PALETTE[1], PALETTE[6])


class Source(Protocol):
    """Where frames come from: a movie, or the key frames a container keeps."""

    shape: tuple[int, int]
    channels: tuple[str, ...]
    pixel_size_um: float
    n_frames: int
    there: list[int]
    time_h: npt.NDArray[np.float64] | None
    segmented: bool

    def pixels(self, index: int, y: slice, x: slice) -> npt.NDArray:
        """A window of one frame, (c, height, width)."""

    def labels(self, index: int, y: slice, x: slice) -> npt.NDArray | None:
        """The labels of the window, (height, width)."""


class MovieSource:
    """Frames of a stored movie; those that were lost or never written are not among ``there``."""

    def __init__(self, movie: Movie, labels: Labels | None) -> None:
        self._movie = movie
        self._labels = labels if labels is not None and labels.shape[1:] == movie.shape[2:] else None
        self.shape = (movie.shape[2], movie.shape[3])
        self.channels = movie.channels
        self.pixel_size_um = known_pixel_size(movie.pixel_size_um)
        self.n_frames = movie.n_frames
        self.there = [index for index in movie.written() if index not in movie.missing_frames]
        self.time_h = movie.time_h if movie.has_times else None
        self.segmented = self._labels is not None
        known = set(self._labels.written()) if self._labels is not None else set()
        self._known = known

    def pixels(self, index: int, y: slice, x: slice) -> npt.NDArray:
        """A window of one frame, (c, height, width); only chunks that meet it are read."""
        return self._movie.window(y, x, [index])[0]

    def labels(self, index: int, y: slice, x: slice) -> npt.NDArray | None:
        """The labels of the window, None where the frame has none."""
        if self._labels is None or index not in self._known:
            return None
        return self._labels.window(y, x, [index])[0]


class KeyFrameSource:
    """Frames that a container keeps as SpatialData where it holds no movie of the scene."""

    def __init__(self, images: dict[int, Any], masks: dict[int, Any], times: dict[int, float]) -> None:
        first = images[min(images)]
        self._images, self._masks = images, masks
        self.shape = (int(first.sizes["y"]), int(first.sizes["x"]))
        self.channels = tuple(str(c) for c in first.coords["c"].values)
        self.pixel_size_um = _pixel_size(first)
        self.there = sorted(images)
        self.n_frames = max(images) + 1
        self.time_h = None
        if set(images) <= set(times):
            self.time_h = np.array([times.get(k, np.nan) for k in range(self.n_frames)])
        self.segmented = bool(masks)

    def pixels(self, index: int, y: slice, x: slice) -> npt.NDArray:
        """A window of one frame, (c, height, width)."""
        return np.asarray(self._images[index].transpose("c", "y", "x")[:, y, x].values)

    def labels(self, index: int, y: slice, x: slice) -> npt.NDArray | None:
        """The labels of the window, None where the frame has none."""
        mask = self._masks.get(index)
        return None if mask is None else np.asarray(mask[y, x].values)


def _pixel_size(image: Any) -> float:
    from spatialdata.transformations import Scale, get_transformation

    found = get_transformation(image)
    return known_pixel_size(found.to_scale_vector(("y",))[0]) if isinstance(found, Scale) else 0.0


def known_pixel_size(value: float | None) -> float:
    """A pixel's edge in micrometres; 0 (not known) where a file has none, or one that no microscope of cells has.

    >>> known_pixel_size(0.65), known_pixel_size(None), known_pixel_size(2e-309), known_pixel_size(float("nan"))
    (0.65, 0.0, 0.0, 0.0)
    """
    size = float(value or 0.0)
    return size if PIXEL_UM[0] <= size <= PIXEL_UM[1] else 0.0


def key_frame_sources(data: HypedData, times: dict[str, dict[int, float]]) -> dict[str, KeyFrameSource]:
    """Scene -> its key frames, of a container without movies; ``times`` are hours by scene and frame.

    Empty where the container keeps none. Raises `MissingDependencyError` where SpatialData is not installed.
    """
    if data.path is None or not (data.path / "spatial.zarr" / "images").exists():
        return {}
    stored = data.sdata
    images: dict[str, dict[int, Any]] = {}
    masks: dict[str, dict[int, Any]] = {}
    for elements, found in ((stored.images, images), (stored.labels, masks)):
        for name, element in elements.items():
            match = re.fullmatch(r"(.+)_f(\d+)(_labels)?", name)
            if match:
                found.setdefault(match[1], {})[int(match[2])] = element
    return {s: KeyFrameSource(images[s], masks.get(s, {}), times.get(s, {})) for s in sorted(images)}


@dataclass(frozen=True, slots=True)
class View:
    """The part of a frame that is shown: ``y`` and ``x`` of it, ``factor`` frame pixels to a shown pixel."""

    y: slice
    x: slice
    factor: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as shown."""
        return (self.y.stop - self.y.start) // self.factor, (self.x.stop - self.x.start) // self.factor

    def whole(self, shape: tuple[int, int]) -> bool:
        """True where nothing but a remainder of ``factor`` is left out."""
        return all(
            edge - (part.stop - part.start) < self.factor
            for edge, part in zip(shape, (self.y, self.x), strict=True)
        )


def choose_view(shape: tuple[int, int], pixel_size_um: float, edge: int) -> View:
    """The centre of the frame, at most ``edge`` shown pixels high and wide; nuclei stay large enough to see.

    >>> choose_view((2700, 3900), 0.65, 320)
    View(y=slice(1030, 1670, None), x=slice(1630, 2270, None), factor=2)
    >>> choose_view((256, 200), 1.0, 320)
    View(y=slice(0, 256, None), x=slice(0, 200, None), factor=1)
    """
    most = min(shape)
    pixel = known_pixel_size(pixel_size_um)
    factor = max(1, int(min(TARGET_UM / pixel + 1e-9, most))) if pixel else 1
    parts = []
    for size in shape:
        taken = min(size // factor, edge) * factor
        start = (size - taken) // 2
        parts.append(slice(start, start + taken))
    return View(parts[0], parts[1], factor)


def smaller(planes: npt.NDArray, factor: int) -> npt.NDArray[np.float32]:
    """Mean of each block of ``factor`` x ``factor`` pixels of (c, y, x); both sides are multiples of it."""
    if factor == 1:
        return planes.astype(np.float32)
    count, height, width = planes.shape
    blocks = planes.reshape(count, height // factor, factor, width // factor, factor)
    return blocks.mean(axis=(2, 4), dtype=np.float32)


def smaller_labels(mask: npt.NDArray, factor: int) -> npt.NDArray:
    """The middle pixel of each block: no label is invented."""
    return mask[factor // 2 :: factor, factor // 2 :: factor]


@dataclass(frozen=True, slots=True)
class Layer:
    """How a channel is shown.

    Attributes
    ----------
    what : in words. ``colour`` : at its brightest. ``strength`` : how much of it is added (0 to 1).
    on : shown at first. ``brightfield`` : grey, contrast by other percentiles.
    """

    name: str
    what: str
    colour: str
    strength: float
    on: bool
    brightfield: bool = False


def layers(channels: Sequence[str], design: Design) -> list[Layer]:
    """Nuclei in blue, reporters in the colours of their phases, bright field in grey and off where others show."""
    found: list[Layer] = []
    spare = iter(OTHER_COLOURS * len(channels))
    known = {name: channel for channel in design.channels for name in (channel.name, *channel.aliases)}
    reporters = any(name in known and known[name].reports for name in channels)
    fluorescent = any(name in known and known[name].role in ("nuclei", "reporter") for name in channels)
    for name in channels:
        channel = known.get(name)
        if channel is not None and channel.reports:
            phase = str(channel.reports)
            found.append(Layer(name, f"reports {phase_word(phase)}", PHASE_COLOURS[phase], 1.0, True))
        elif channel is not None and channel.role == "nuclei":
            found.append(Layer(name, "nuclei", NUCLEI_COLOUR, 0.6 if reporters else 1.0, True))
        elif channel is not None and channel.role == "brightfield":
            found.append(Layer(name, "bright field", "#ffffff", 0.8, not fluorescent, True))
        else:
            alone = len(channels) == 1
            colour = "#ffffff" if alone else next(spare)
            found.append(Layer(name, "not described by the design", colour, 1.0, not fluorescent))
    return found


def phase_word(phase: str) -> str:
    """A phase's name as biologists write it.

    >>> phase_word("S_G2M"), phase_word("G1S"), phase_word("dark")
    ('S/G2/M', 'G1/S', 'dark')
    """
    return {"S_G2M": "S/G2/M", "G1S": "G1/S", "G2M": "G2/M"}.get(phase, phase)


def contrast(samples: Sequence[npt.NDArray], layer_list: Sequence[Layer]) -> npt.NDArray[np.float64]:
    """Black and white of each channel over frames (c, y, x) of the whole movie, (c, 2).

    Pixels that no tile covers are 0 and left out.
    """
    limits = np.zeros((len(layer_list), 2))
    for k, layer in enumerate(layer_list):
        values = np.concatenate([sample[k].ravel() for sample in samples])
        values = values[np.isfinite(values)]
        covered = values[values > 0]
        values = covered if covered.size else values
        ends = BRIGHTFIELD_CONTRAST if layer.brightfield else CONTRAST
        limits[k] = np.percentile(values, ends) if values.size else (0.0, 1.0)
    return limits


def to_bytes(planes: npt.NDArray, limits: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Planes (c, y, x) as uint8, black and white at ``limits``; what is not a number is black."""
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    scaled = (np.nan_to_num(planes, nan=0.0) - low) / np.maximum(high - low, 1e-9)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
