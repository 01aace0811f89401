"""Small pictures of movie frames: channels as colours, outlines of nuclei, as data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_bench.report.charts import PHASE_COLOURS
from hyped_bench.report.movie_frames import known_pixel_size

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.container import Labels, Movie
    from hyped_core.design import Design

EDGE_PX = 384
"""Larger frames are cut to a square of this edge around their centre: outlines stay visible."""
SHOWN_PX = 512
"""Smaller pictures are enlarged up to this edge, so that outlines are thin."""
OUTLINE = (255, 214, 10)
"""Colour of nuclei without a phase."""
TINTS = {
    "nuclei": (0.22, 0.25, 0.5),
    "G1": (0.7, 0.15, 0.1),
    "S_G2M": (0.05, 0.6, 0.2),
    "other": (0.6, 0.6, 0.6),
}


@dataclass(frozen=True, slots=True)
class Strip:
    """Pictures of one scene.

    Attributes
    ----------
    images : frame index, data URI, nuclei outlined.
    shown : which channel has which colour, in words.
    part : which part of the frame is shown. ``edge_um`` : its height and width.
    """

    images: list[tuple[int, str, int]]
    shown: str
    part: str
    edge_um: tuple[float, float]


def thumbnail(
    movie: Movie, labels: Labels | None, nuclei: pd.DataFrame | None, frames: list[int], design: Design
) -> Strip:
    """Draw frames of a movie, contrast set over all of them together."""
    height, width = movie.shape[-2:]
    rows, columns = _centre(height), _centre(width)
    layers = _layers(movie.channels, design)
    stacks = {
        channel: [np.asarray(movie.plane(i, channel))[rows, columns] for i in frames] for channel, _ in layers
    }
    limits = {channel: _limits(np.stack(planes)) for channel, planes in stacks.items()}
    scale = max(1, SHOWN_PX // max(stacks[layers[0][0]][0].shape))
    images = []
    for k, index in enumerate(frames):
        picture = np.zeros((*stacks[layers[0][0]][0].shape, 3))
        for channel, tint in layers:
            low, high = limits[channel]
            scaled = np.clip((stacks[channel][k] - low) / max(high - low, 1e-9), 0, 1)
            picture += scaled[..., None] * np.asarray(TINTS[tint])
        pixels = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
        count = 0
        if labels is not None:
            mask = np.asarray(labels.frame(index))[rows, columns]
            count = len(np.unique(mask[mask > 0]))
            pixels, mask = (
                np.kron(a, np.ones((scale, scale, *([1] * (a.ndim - 2))), a.dtype)) for a in (pixels, mask)
            )
            _outline(pixels, mask, None if nuclei is None else nuclei[nuclei["frame"] == index])
        images.append((index, data_uri(pixels), count))
    words = {"nuclei": "blue", "G1": "red (G1)", "S_G2M": "green (S/G2/M)", "other": "grey"}
    shown = ", ".join(f"{channel} {words[tint]}" for channel, tint in layers)
    whole = height <= EDGE_PX and width <= EDGE_PX
    part = "the whole frame" if whole else "the centre of the frame"
    pixel = known_pixel_size(movie.pixel_size_um)
    return Strip(
        images, shown, part, ((rows.stop - rows.start) * pixel, (columns.stop - columns.start) * pixel)
    )


def _limits(planes: npt.NDArray) -> npt.NDArray[np.float64]:
    """Black and white: the 30th percentile, which is ground where nuclei are sparse, and the 99.8th.

    Pixels no tile covers are 0 and left out.
    """
    covered = planes[planes > 0]
    return np.percentile(covered if covered.size else planes, [30.0, 99.8])


def _centre(size: int) -> slice:
    edge = min(size, EDGE_PX)
    return slice((size - edge) // 2, (size - edge) // 2 + edge)


def _layers(channels: tuple[str, ...], design: Design) -> list[tuple[str, str]]:
    """(channel, tint): nuclei and reporters; a single channel in grey, the first where none is known."""
    found = []
    for name in channels:
        known = next((c for c in design.channels if name == c.name or name in c.aliases), None)
        if known is not None and known.reports:
            found.append((name, str(known.reports)))
        elif known is not None and known.role == "nuclei":
            found.append((name, "nuclei"))
    if len(found) == 1:
        return [(found[0][0], "other")]
    return found or [(channels[0], "other")]


def _outline(pixels: npt.NDArray[np.uint8], mask: npt.NDArray, nuclei: pd.DataFrame | None) -> None:
    """Paint, in place, the inner rim of every label."""
    rim = np.zeros(mask.shape, bool)
    for axis in (0, 1):
        differs = np.diff(mask, axis=axis) != 0
        before: list[Any] = [slice(None), slice(None)]
        after: list[Any] = [slice(None), slice(None)]
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        rim[tuple(before)] |= differs
        rim[tuple(after)] |= differs
    rim &= mask > 0
    colours = np.tile(np.array(OUTLINE, np.uint8), (int(mask.max()) + 1, 1))
    if nuclei is not None and "phase" in nuclei:
        for label, phase in zip(nuclei["label"], nuclei["phase"].astype(str), strict=True):
            if phase in PHASE_COLOURS and 0 < int(label) < len(colours):
                text = PHASE_COLOURS[phase]
                colours[int(label)] = [(int(text[i : i + 2], 16) + 255) // 2 for i in (1, 3, 5)]
    pixels[rim] = colours[mask[rim]]


def data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """An RGB picture (y, x, 3) as lossy WebP in a data URI; equal pixels give equal bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="WEBP", quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
