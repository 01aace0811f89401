"""Pictures of frames for the summary: channels as colours, nuclei outlined by phase, tracks with their tails."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.container.movies import Labels, Movie
    from hyped_core.design import Design

COLOURS = {
    "G1": (255, 176, 128),
    "G1S": (255, 214, 90),
    "S_G2M": (150, 255, 205),
    "M": (255, 170, 225),
    "dark": (225, 225, 225),
    "": (255, 214, 10),
}
"""Outlines by phase, RGB; yellow where there is no phase."""
EDGE_PX = 320
"""Side of the part of a frame that is shown at full resolution."""
ZOOMED_PX = 640
"""Side of the picture of such a part."""
WHOLE_PX = 1000
"""Longer side of the picture of a whole frame, at most."""
PLAIN_BELOW = 0.5
"""Pictures made smaller than this show no outlines and tails: they would hide the nuclei."""
TAIL_H = 6.0
"""Hours of a track that are drawn behind a nucleus."""
_TINTS = {"nuclei": (0.3, 0.34, 0.62), "G1": (0.8, 0.18, 0.1), "S_G2M": (0.05, 0.7, 0.25), "grey": (0.75, 0.75, 0.75)}

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a frame: its slices, and pixels of the picture a pixel of the frame."""

    rows: slice
    columns: slice
    scale: float

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Window:
        """All of a frame, made small enough."""
        return cls(slice(0, shape[0]), slice(0, shape[1]), min(1.0, WHOLE_PX / max(shape)))

    @classmethod
    def centre(cls, shape: tuple[int, int]) -> Window:
        """A square in the middle, made large enough for thin outlines."""
        edge = min(EDGE_PX, *shape)
        low = [(n - edge) // 2 for n in shape]
        return cls(slice(low[0], low[0] + edge), slice(low[1], low[1] + edge), max(1.0, round(ZOOMED_PX / edge)))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture."""
        height, width = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        return max(1, round(width * self.scale)), max(1, round(height * self.scale))


def layers(channels: Sequence[str], design: Design) -> list[tuple[int, tuple[float, float, float]]]:
    """(index of the channel, colour): nuclei and reporters, else the first channel in grey."""
    found = []
    for index, name in enumerate(channels):
        known = next((c for c in design.channels if name == c.name or name in c.aliases), None)
        tint = None if known is None else known.reports or ("nuclei" if known.role == "nuclei" else None)
        if tint in _TINTS:
            found.append((index, _TINTS[tint]))
    if len(found) == 1:
        return [(found[0][0], _TINTS["grey"])]
    return found or [(0, _TINTS["grey"])]


def limits(planes: npt.NDArray) -> list[tuple[float, float]]:
    """Black and white of each plane (c, y, x); pixels that no tile covers (0) are left out."""
    found = []
    for plane in planes:
        sample = plane[::4, ::4] if min(plane.shape) > 1000 else plane
        covered = sample[sample > 0]
        low, high = np.percentile(covered if covered.size else sample, [30.0, 99.8])
        found.append((float(low), float(max(high, low + 1e-6))))
    return found


def draw(
    movie: Movie, labels: Labels | None, nuclei: pd.DataFrame, frame: int, design: Design, window: Window
) -> Image:
    """One frame (height, width, 3) RGB with outlines and tails."""
    import cv2

    shown = layers(movie.channels, design)
    planes = movie.frame(frame)[[index for index, _ in shown]]
    picture = np.zeros((*planes.shape[1:], 3), np.float32)[window.rows, window.columns]
    for plane, (low, high), (_, tint) in zip(planes, limits(planes), shown, strict=True):
        part = plane[window.rows, window.columns].astype(np.float32)
        picture += np.clip((part - low) / (high - low), 0, 1)[..., None] * np.array(tint, np.float32)
    shrink = cv2.INTER_AREA if window.scale < 1 else cv2.INTER_CUBIC
    pixels = (np.clip(cv2.resize(picture, window.size, interpolation=shrink), 0, 1) * 255).astype(np.uint8)
    if window.scale < PLAIN_BELOW:
        return pixels
    here = nuclei[nuclei["frame"] == frame]
    if labels is not None:
        mask = labels.frame(frame)[window.rows, window.columns]
        _outline(pixels, cv2.resize(mask.astype(np.float32), window.size, interpolation=cv2.INTER_NEAREST), here)
    _tails(pixels, nuclei, here, window)
    return pixels


def _outline(pixels: Image, mask: npt.NDArray, here: pd.DataFrame) -> None:
    """Paint the inner rim of every label, two pixels wide, in the colour of its phase, in place."""
    import cv2

    mask = mask.astype(np.int64)
    rim = np.zeros(mask.shape, bool)
    rim[:-1] |= mask[:-1] != mask[1:]
    rim[1:] |= mask[:-1] != mask[1:]
    rim[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    rim[:, 1:] |= mask[:, :-1] != mask[:, 1:]
    rim = cv2.dilate(rim.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & (mask > 0)
    colours = np.tile(np.array(COLOURS[""], np.uint8), (int(mask.max(initial=0)) + 1, 1))
    if "phase" in here:
        for label, phase in zip(here["label"].tolist(), here["phase"].astype(str), strict=True):
            if label < len(colours):
                colours[label] = COLOURS.get(phase, COLOURS[""])
    pixels[rim] = colours[mask[rim]]


def _tails(pixels: Image, nuclei: pd.DataFrame, here: pd.DataFrame, window: Window) -> None:
    """Draw where the tracked nuclei of the frame came from, in place."""
    import cv2

    tracked = here[here["track_id"] > 0] if "track_id" in here else here[:0]
    if tracked.empty:
        return
    now = float(tracked["time_h"].iloc[0])
    recent = nuclei[nuclei["track_id"].isin(tracked["track_id"]) & nuclei["time_h"].between(now - TAIL_H, now)]
    corner = np.array([window.columns.start, window.rows.start])
    for _, rows in recent.sort_values("time_h").groupby("track_id", sort=True):
        points = (rows[["x_px", "y_px"]].to_numpy() - corner + 0.5) * window.scale
        line = np.rint(points * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(pixels, [line], False, (255, 255, 255), 1, cv2.LINE_AA, shift=4)


def data_uri(pixels: Image) -> str:
    """An RGB picture as JPEG in a data URI; equal pixels give equal bytes."""
    import cv2

    encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 86])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
