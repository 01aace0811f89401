"""A tiny movie with known truth: nuclei that wander, touch, divide, leave and enter the field, under camera noise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.contracts import ImageMeta

if TYPE_CHECKING:
    import pandas as pd

FRAMES, HEIGHT, WIDTH = 8, 96, 108
CHANNELS = ("Cy5", "mKate", "TagGFP")
"""The nuclear stain and the reporters of G1 and of S, G2 and M."""
PIXEL_SIZE_UM, INTERVAL_H = 1.2, 1 / 3
OFFSET, GAIN, READ_NOISE, WHITE = 100.0, 4.0, 10.0, 16383
"""Of the camera, in camera units (gain: units per photo-electron; 14 bits)."""
BACKGROUND, STAIN, REPORTER = 50.0, 220.0, 150.0
"""Photo-electrons a pixel: of the medium, on top of it of a nucleus' stain, and of a reporter at its brightest."""
DIVISION = 4
"""Frame in which the daughters of the dividing nucleus are first seen."""
LEAST_PX = 12
"""A nucleus of which fewer pixels lie in the field is not seen."""


@dataclass(frozen=True, slots=True)
class TinyMovie:
    """A movie of 8 frames of 96 x 108 pixels, what is true of it, and what models are given of it.

    Attributes
    ----------
    noisy : (t, c, y, x) uint16, camera units.
    clean : (t, c, y, x) float32, what the camera would show without noise, camera units.
    labels : (t, y, x) int32, true nuclei numbered 1..n in each frame by place; 0 is background.
    objects : what trackers are given: ``frame, time_h, y_um, x_um, label, area_um2`` and, for each channel,
        ``mean_<channel>`` and ``integrated_<channel>``; sorted by frame and label.
    tracks : the same rows with ``frame, label, track_id, parent_id``, the truth.
    meta : of all channels; `channel_meta` and `frame_meta` are what denoisers and segmenters are told.
    channels : names of the planes.
    """

    noisy: npt.NDArray[np.uint16]
    clean: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    objects: pd.DataFrame
    tracks: pd.DataFrame
    meta: ImageMeta
    channels: tuple[str, ...]

    def stack(self, channel: str = CHANNELS[0]) -> npt.NDArray[np.uint16]:
        """(t, y, x) uint16: one channel as denoisers are given it, new memory."""
        return np.ascontiguousarray(self.noisy[:, self.channels.index(channel)])

    def channel_meta(self, channel: str = CHANNELS[0]) -> ImageMeta:
        """What a denoiser is told of one channel."""
        return dataclasses.replace(self.meta, channel=channel, channels=(channel,))

    def frame_meta(self, frame: int) -> ImageMeta:
        """What a segmenter is told of one frame."""
        assert self.meta.time_h is not None
        return dataclasses.replace(self.meta, time_h=(self.meta.time_h[frame],))


@dataclass(frozen=True, slots=True)
class _Nucleus:
    """One track: its place in ``first`` (pixels), its way from frame to frame, and how far its cycle is (0 to 1)."""

    track: int
    parent: int
    first: int
    last: int
    place: tuple[float, float]
    step: tuple[float, float]
    radius: float
    cycle: float


def tiny_movie(seed: int = 0) -> TinyMovie:
    """The same movie for the same seed, different places, ways and noise for another; what happens in it stays.

    Two nuclei meet and touch, one divides in frame 4, one leaves the field to the right, one enters it from the left,
    four wander.
    """
    rng = np.random.default_rng([seed, 96])
    nuclei = _scene(rng)
    ways = {n.track: _way(n, rng) for n in nuclei}
    photons = np.full((FRAMES, len(CHANNELS), HEIGHT, WIDTH), BACKGROUND)
    labels = np.zeros((FRAMES, HEIGHT, WIDTH), np.int32)
    found = []
    for frame in range(FRAMES):
        there = [n for n in nuclei if n.first <= frame <= n.last]
        found += _draw(frame, there, ways, photons[frame], labels[frame])
    clean = (OFFSET + GAIN * photons).astype(np.float32)
    noisy = OFFSET + GAIN * rng.poisson(photons) + rng.normal(0, READ_NOISE, photons.shape)
    noisy = np.clip(np.rint(noisy), 0, WHITE).astype(np.uint16)
    objects, tracks = _tables(noisy, labels, found)
    meta = ImageMeta(
        channel="+".join(CHANNELS), data_range=(0.0, float(WHITE)), offset=OFFSET, gain=GAIN,
        pixel_size_um=PIXEL_SIZE_UM, time_h=tuple((np.arange(FRAMES) * INTERVAL_H).tolist()), channels=CHANNELS,
    )  # fmt: skip
    return TinyMovie(noisy, clean, labels, objects, tracks, meta, CHANNELS)


def _scene(rng: np.random.Generator) -> list[_Nucleus]:
    """The script: who is there from when to when, and where they go."""
    end = FRAMES - 1
    angle = rng.uniform(-0.4, 0.4)
    mother = np.array([48.0, 52.0]) + rng.uniform(-1.5, 1.5, 2)
    apart = np.array([np.sin(angle), np.cos(angle)])
    parts = [
        (0, 0, end, (16.0, 20.0), (0.0, 1.1), 7.0, 0.3),  # these two meet
        (0, 0, end, (16.0, 44.0), (0.0, -1.1), 7.0, 0.7),
        (0, 0, DIVISION - 1, tuple(mother), (0.0, 0.0), 8.0, 0.97),
        (3, DIVISION, end, tuple(mother - 6.5 * apart), tuple(-1.5 * apart), 5.5, 0.02),
        (3, DIVISION, end, tuple(mother + 6.5 * apart), tuple(1.5 * apart), 5.5, 0.02),
        (0, 0, end, (46.0, 94.0), (0.0, 4.0), 7.0, 0.5),  # leaves
        (0, 0, end, (78.0, -13.0), (0.0, 4.0), 7.0, 0.2),  # enters
        (0, 0, end, (17.0, 84.0), (0.5, -0.5), 7.5, 0.8),
        (0, 0, end, (46.0, 17.0), (0.6, 0.0), 6.5, 0.1),
        (0, 0, end, (80.0, 48.0), (-0.4, 0.4), 7.0, 0.6),
        (0, 0, end, (77.0, 82.0), (0.3, -0.6), 7.5, 0.4),
    ]
    scripted = (3, 4, 5)
    return [
        _Nucleus(
            track, parent, first, last,
            place if track in scripted else tuple(np.add(place, rng.uniform(-1.5, 1.5, 2))), step,
            radius * rng.uniform(0.96, 1.04), cycle,
        )
        for track, (parent, first, last, place, step, radius, cycle) in enumerate(parts, start=1)
    ]  # fmt: skip


def _way(nucleus: _Nucleus, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(frames, 2) places in pixels, a little unsteady; only the nucleus' own frames count."""
    frames = np.arange(FRAMES)[:, None] - nucleus.first
    return np.array(nucleus.place) + frames * np.array(nucleus.step) + rng.normal(0, 0.35, (FRAMES, 2))


def _draw(
    frame: int,
    nuclei: list[_Nucleus],
    ways: dict[int, npt.NDArray[np.float64]],
    photons: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int32],
) -> list[tuple[int, int, int, int]]:
    """Add the light of a frame's nuclei to ``photons`` (c, y, x) and number them in ``labels``.

    Returns (frame, label, track, parent) of those that are seen, by label.
    """
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    away = np.stack([np.hypot(rows - y, columns - x) / n.radius for n in nuclei for y, x in [ways[n.track][frame]]])
    for nucleus, distance in zip(nuclei, away, strict=True):
        body = 1 / (1 + np.exp((distance - 1) * 10))
        levels = (STAIN, REPORTER * (nucleus.cycle < 0.55), REPORTER * (nucleus.cycle > 0.45))
        for channel, level in enumerate(levels):
            np.maximum(photons[channel], BACKGROUND + level * body, out=photons[channel])
    nearest = np.where(away.min(axis=0) < 1, away.argmin(axis=0), -1)
    seen = [i for i in range(len(nuclei)) if np.count_nonzero(nearest == i) >= LEAST_PX]
    seen.sort(key=lambda i: tuple(np.argwhere(nearest == i)[0]))  # by place: a label says nothing of the track
    for label, i in enumerate(seen, start=1):
        labels[nearest == i] = label
    return [(frame, label, nuclei[i].track, nuclei[i].parent) for label, i in enumerate(seen, start=1)]


def _tables(
    noisy: npt.NDArray[np.uint16], labels: npt.NDArray[np.int32], found: list[tuple[int, int, int, int]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Objects as they are measured, and their true tracks."""
    import pandas as pd

    rows = []
    for frame, label, _, _ in found:
        mine = labels[frame] == label
        y, x = np.nonzero(mine)
        row = {
            "frame": frame, "time_h": frame * INTERVAL_H, "y_um": float(y.mean()) * PIXEL_SIZE_UM,
            "x_um": float(x.mean()) * PIXEL_SIZE_UM, "label": label, "area_um2": len(y) * PIXEL_SIZE_UM**2,
        }  # fmt: skip
        light = noisy[frame][:, mine].astype(np.float64)
        dark = np.median(noisy[frame][:, labels[frame] == 0], axis=1)
        for name, over in zip(CHANNELS, light - dark[:, None], strict=True):
            row |= {f"mean_{name}": float(over.mean()), f"integrated_{name}": float(over.sum())}
        rows.append(row)
    tracks = pd.DataFrame(found, columns=["frame", "label", "track_id", "parent_id"])
    return pd.DataFrame(rows), tracks.astype("int64")
