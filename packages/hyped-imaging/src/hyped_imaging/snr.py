"""Signal-to-noise ratio of nuclei in a plane: HYPED's definition and the paper's, by name.

HYPED's (`snr`): (mean of the nuclei - mean of the background) / standard deviation of the background, in
decibel 20 log10. The background is all pixels farther than a halo from any label, so that the blur around
nuclei counts on neither side. It does not change when the camera's offset or gain does.

The paper's (`paper_snr`): "segments are foreground, everything else is noise", on planes clipped at 98 % and
scaled to [0, 1]; it gives neither formula nor unit. Taken as mean of the foreground over the standard deviation
of all other pixels it depends on the offset, and its gain of 14.082 -> 15.051 is 0.97 dB if the numbers are
decibel, and 6.9 % (0.58 dB) if they are ratios. Both readings are therefore reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.container.labels import Labels
    from hyped_core.container.movies import Movie

Formula = Literal["mean_over_std", "power"]

HALO_PX = 5
"""Pixels around nuclei that are neither nucleus nor background; more than the blur of a 20x/0.7 objective."""

MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation of a normal distribution."""


_COLUMNS = (
    "frame", "time_h", "channel", "snr", "snr_db", "signal", "background", "noise", "nucleus_px", "background_px",
    "reason", "paper_snr", "paper_snr_db",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Snr:
    """A ratio with what it was made from.

    Attributes
    ----------
    ratio : amplitude ratio; NaN where it is undefined, and then ``reason`` says why.
    db : the ratio in decibel; NaN for a ratio not above 0.
    signal : mean of the nuclei, in units of the plane.
    background : mean (robust: median) of the background.
    noise : standard deviation (robust: 1.4826 times the median absolute deviation) of the background.
    nucleus_px, background_px : numbers of pixels.
    reason : empty where the ratio is defined.
    """

    ratio: float
    db: float
    signal: float
    background: float
    noise: float
    nucleus_px: int
    background_px: int
    reason: str = ""


def decibel(ratio: float, formula: Formula = "mean_over_std") -> float:
    """20 log10 of an amplitude ratio, 10 log10 of a ratio of powers; NaN for NaN and for ratios not above 0.

    >>> round(decibel(10.0), 1), round(decibel(10.0, "power"), 1)
    (20.0, 10.0)
    """
    if not ratio > 0 or math.isinf(ratio):
        return math.nan
    return (10.0 if formula == "power" else 20.0) * math.log10(ratio)


def background_mask(labels: npt.ArrayLike, halo_px: int = HALO_PX) -> npt.NDArray[np.bool_]:
    """Pixels (y, x) farther than ``halo_px`` (Euclidean) from any label."""
    import cv2

    nuclei = (np.asarray(labels) > 0).astype(np.uint8)
    if halo_px <= 0:
        return nuclei == 0
    y, x = np.ogrid[-halo_px : halo_px + 1, -halo_px : halo_px + 1]
    disk = (y * y + x * x <= halo_px * halo_px).astype(np.uint8)
    return cv2.dilate(nuclei, disk, borderType=cv2.BORDER_CONSTANT, borderValue=0) == 0


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Pixels as values with how often each is there; a 14-bit plane has few values and many pixels."""

    values: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64] | None

    @classmethod
    def of(cls, plane: npt.NDArray, mask: npt.NDArray[np.uint8] | None) -> _Pixels:
        """Pixels of ``plane`` where ``mask`` is not 0 (all of them without one)."""
        import cv2

        if plane.dtype not in (np.uint8, np.uint16):
            chosen = plane if mask is None else plane[mask > 0]
            return cls(chosen.ravel().astype(np.float64), None)
        levels = int(np.iinfo(plane.dtype).max) + 1
        if mask is None or plane.size >= 2**24:  # OpenCV counts in float32
            counts = np.bincount((plane if mask is None else plane[mask > 0]).ravel(), minlength=levels)
        else:
            counts = cv2.calcHist([plane], [0], mask, [levels], [0, levels]).ravel().astype(np.int64)
        there = np.flatnonzero(counts)
        return cls(there.astype(np.float64), counts[there].astype(np.int64))

    def __len__(self) -> int:
        return len(self.values) if self.counts is None else int(self.counts.sum())

    def map(self, change: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> _Pixels:
        """The pixels with other values."""
        return _Pixels(change(self.values), self.counts)

    def mean(self) -> float:
        """Mean of all pixels."""
        return float(np.average(self.values, weights=self.counts))

    def std(self) -> float:
        """Over N."""
        mean = self.mean()
        return math.sqrt(float(np.average((self.values - mean) ** 2, weights=self.counts)))

    def quantile(self, share: float) -> float:
        """With linear interpolation, as numpy's default."""
        if self.counts is None:
            return float(np.quantile(self.values, share))
        order = np.argsort(self.values)
        reached = np.cumsum(self.counts[order])
        position = (int(reached[-1]) - 1) * share
        low, high = (
            float(self.values[order][np.searchsorted(reached, rank, side="right")])
            for rank in (math.floor(position), math.ceil(position))
        )
        return low + (high - low) * (position - math.floor(position))


def snr(plane: npt.ArrayLike, labels: npt.ArrayLike, *, halo_px: int = HALO_PX, robust: bool = False) -> Snr:
    """HYPED's signal-to-noise ratio of one plane.

        ratio = (mean(nuclei) - mean(background)) / std(background),   dB = 20 log10(ratio)

    with std over N, not N - 1. ``robust`` takes the median of the background for its mean and 1.4826 times its
    median absolute deviation for its standard deviation: bright dust and nuclei that were missed then count
    little.

    Parameters
    ----------
    plane : (y, x) pixels of one channel, any unit.
    labels : (y, x), above 0 in nuclei.
    halo_px : distance from any label up to which a pixel is not background.

    Returns
    -------
    `Snr`; ratio NaN with a reason where there is no nucleus, no background, or no variance in it.

    Raises
    ------
    InvalidDataError
        Shapes differ, or pixels are NaN or infinite.
    """
    array, mask = _pair(plane, labels)
    return _snr(array, mask, background_mask(mask, halo_px), robust)


def paper_snr(
    plane: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    formula: Formula = "mean_over_std",
    clip: float = 98.0,
    rule: Literal["percentile", "share"] = "percentile",
) -> float:
    """The paper's ratio of one plane (section "Imaging", Table 4), NaN where it is undefined.

        mean_over_std: mean(nuclei) / std(everything else);   power: mean(nuclei^2) / mean(everything else^2)

    on the plane scaled to [0, 1] from its minimum to its 98th percentile (``share``: to 98 % of its maximum)
    and clipped. The paper names neither formula nor unit; `decibel` gives the other reading.

    Raises
    ------
    InvalidDataError
        Shapes differ, or pixels are NaN or infinite.
    """
    array, mask = _pair(plane, labels)
    return _paper(array, mask, formula, clip, rule)


def _paper(array: npt.NDArray, mask: npt.NDArray[np.uint8], formula: str, clip: float, rule: str) -> float:
    whole, inside, outside = (_Pixels.of(array, part) for part in (None, mask, 1 - mask))
    if not len(inside) or not len(outside):
        return math.nan
    low, top = float(whole.values.min()), float(whole.values.max())
    high = whole.quantile(clip / 100.0) if rule == "percentile" else top * clip / 100.0
    if high <= low:
        high = low + 1.0
    signal, noise = (part.map(lambda v: np.clip((v - low) / (high - low), 0.0, 1.0)) for part in (inside, outside))
    if formula == "power":
        below = noise.map(np.square).mean()
        return signal.map(np.square).mean() / below if below > 0 else math.nan
    spread = noise.std()
    return signal.mean() / spread if spread > 0 else math.nan


def _pair(plane: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[npt.NDArray, npt.NDArray[np.uint8]]:
    array, mask = np.asarray(plane), (np.asarray(labels) > 0).astype(np.uint8)
    if array.ndim != 2 or array.shape != mask.shape:
        raise InvalidDataError(
            f"plane {array.shape} and labels {mask.shape} do not fit", where="snr", mend="give one frame of each"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidDataError("pixels are NaN or infinite", where="snr", mend="write the frame again")
    return array, mask


def _snr(array: npt.NDArray, nuclei: npt.NDArray[np.uint8], background: npt.NDArray[np.bool_], robust: bool) -> Snr:
    inside, free = _Pixels.of(array, nuclei), _Pixels.of(array, background.view(np.uint8))
    signal = inside.mean() if len(inside) else math.nan
    middle = spread = math.nan
    if len(free) and robust:
        middle = free.quantile(0.5)
        spread = MAD_TO_SIGMA * free.map(lambda v: np.abs(v - middle)).quantile(0.5)
    elif len(free):
        middle, spread = free.mean(), free.std()
    reason = ""
    if not len(inside):
        reason = "no nucleus"
    elif not len(free):
        reason = "no background"
    elif not spread > 0:
        reason = "background without variance"
    ratio = (signal - middle) / spread if not reason else math.nan
    if not reason and not ratio > 0:
        reason = "nuclei are no brighter than the background"
    return Snr(ratio, decibel(ratio), signal, middle, spread, len(inside), len(free), reason)


def snr_table(
    movie: Movie,
    labels: Labels,
    frames: Sequence[int] | None = None,
    *,
    halo_px: int = HALO_PX,
    robust: bool = False,
    channels: Sequence[str] | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> pd.DataFrame:
    """One row a frame and channel.

    Columns: ``frame, time_h, channel, snr, snr_db, signal, background, noise, nucleus_px, background_px, reason``
    by `snr`, and ``paper_snr, paper_snr_db`` by `paper_snr`.

    Raises
    ------
    InvalidDataError, DesignError
        Movie and labels differ in frames or size; there is no such channel.
    """
    import pandas as pd

    total, _, height, width = movie.shape
    if labels.shape != (total, height, width):
        raise InvalidDataError(
            f"labels {labels.shape} do not fit the movie's {(total, height, width)}",
            where=labels.path,
            mend="give the labels of this movie",
        )
    names = list(channels or movie.channels)
    at = [movie.channel_index(name) for name in names]
    lost = set(getattr(movie, "missing_frames", {})) | set(getattr(labels, "missing_frames", {}))
    rows: list[dict[str, Any]] = []
    for index in progress([i for i in (range(total) if frames is None else frames) if i not in lost]):
        nuclei = (labels.frame(index) > 0).astype(np.uint8)
        background = background_mask(nuclei, halo_px)
        planes = movie.frame(index)
        for name, k in zip(names, at, strict=True):
            array, mask = _pair(planes[k], nuclei)
            found = _snr(array, mask, background, robust)
            paper = _paper(array, mask, "mean_over_std", 98.0, "percentile")
            rows.append(
                {
                    "frame": index,
                    "time_h": float(movie.time_h[index]) if movie.has_times else math.nan,
                    "channel": name,
                    "snr": found.ratio,
                    "snr_db": found.db,
                    "signal": found.signal,
                    "background": found.background,
                    "noise": found.noise,
                    "nucleus_px": found.nucleus_px,
                    "background_px": found.background_px,
                    "reason": found.reason,
                    "paper_snr": paper,
                    "paper_snr_db": decibel(paper),
                }
            )
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def summarise(table: pd.DataFrame) -> list[dict[str, Any]]:
    """For each channel the median over frames, how many frames are defined, and why others are not.

    Undefined medians are None, so that the result is JSON.
    """
    found = []
    for channel, group in table.groupby("channel", sort=False):
        known = {name: group[name].dropna() for name in ("snr", "snr_db", "paper_snr", "paper_snr_db")}
        medians = {name: round(float(values.median()), 6) if len(values) else None for name, values in known.items()}
        reasons = group.loc[group["reason"] != "", "reason"].value_counts().to_dict()
        found.append(
            {
                "channel": str(channel),
                "frames": len(group),
                "defined": int(group["snr_db"].notna().sum()),
                **medians,
                "undefined": {str(reason): int(count) for reason, count in sorted(reasons.items())},
            }
        )
    return found
