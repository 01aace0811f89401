"""How well neighbouring tiles agree where they overlap: the seams' error, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_imaging.stitch.fuse import Fuser
from hyped_imaging.stitch.register import Overlap

_SCALE_STEP = 7
"""The intensity scale is taken from every seventh pixel of the overlaps."""


@dataclass(slots=True)
class Seams:
    """Sums over frames of the overlaps' differences at one layout.

    Attributes
    ----------
    total : (pairs,) summed absolute difference as a share of the channel's intensity scale, over channels
        and pixels.
    pixels : (pairs,) how many values were summed.
    """

    total: npt.NDArray[np.float64]
    pixels: npt.NDArray[np.float64]

    @classmethod
    def none(cls, pairs: int) -> Seams:
        """Nothing summed yet."""
        return cls(np.zeros(pairs), np.zeros(pairs))

    @property
    def error(self) -> float:
        """Mean absolute difference over all overlaps, share of the intensity scale; 0 where there are none."""
        return float(self.total.sum() / max(self.pixels.sum(), 1.0))

    @property
    def by_pair(self) -> npt.NDArray[np.float64]:
        """The same of each pair, NaN where none of its pixels was seen."""
        return np.divide(self.total, self.pixels, out=np.full(len(self.total), np.nan), where=self.pixels > 0)

    def add(
        self,
        tiles: Sequence[npt.NDArray | None],
        corners: npt.NDArray,
        overlaps: Sequence[Overlap],
        fuser: Fuser,
        scale: npt.NDArray,
    ) -> None:
        """Add one frame: tiles (c, y, x) at the integer ``corners``, corrected by ``fuser``."""
        for k, pair in enumerate(overlaps):
            parts = shared_parts(tiles, corners, fuser, pair)
            if parts is None:
                continue
            difference = np.abs(parts[0] - parts[1]).sum(axis=(1, 2), dtype=np.float64)
            known = scale > 0
            self.total[k] += float((difference[known] / scale[known]).sum())
            self.pixels[k] += parts[0].size


def shared_parts(
    tiles: Sequence[npt.NDArray | None], corners: npt.NDArray, fuser: Fuser, pair: Overlap
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    """What the two tiles of a pair show of the pixels they share at ``corners``, (c, y, x) each, corrected."""
    i, j = pair.first, pair.second
    if tiles[i] is None or tiles[j] is None:
        return None
    low = np.maximum(corners[i], corners[j])
    high = np.minimum(corners[i] + fuser.sizes[i], corners[j] + fuser.sizes[j])
    if (high <= low).any():
        return None
    cuts = []
    for k in (i, j):
        (y0, x0), (y1, x1) = low - corners[k], high - corners[k]
        cuts.append(fuser.correct(tiles[k], (slice(int(y0), int(y1)), slice(int(x0), int(x1)))))
    return cuts[0], cuts[1]


def intensity_scale(
    tiles: Sequence[npt.NDArray | None], corners: npt.NDArray, overlaps: Sequence[Overlap], fuser: Fuser
) -> npt.NDArray[np.float64]:
    """(c,) the 99.5th minus the 0.5th percentile of what the overlaps show."""
    parts = [shared_parts(tiles, corners, fuser, pair) for pair in overlaps]
    seen = [part.reshape(len(part), -1)[:, ::_SCALE_STEP] for both in parts if both is not None for part in both]
    if not seen:
        return np.zeros(fuser.n_channels)
    return np.subtract(*np.percentile(np.concatenate(seen, axis=1), [99.5, 0.5], axis=1)).astype(float)
