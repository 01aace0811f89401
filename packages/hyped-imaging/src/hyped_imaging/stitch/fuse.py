"""Tiles to one picture: illumination undone and overlaps blended in one multiplication a tile; and the
seams' error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hyped_imaging.stitch.flatfield import Flatfield
from hyped_imaging.stitch.register import Overlap


def feather(shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Distance of each pixel to the tile's edge in pixels (1 at the edge), (y, x)."""
    sides = [np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) for n in shape]
    return np.minimum(sides[0][:, None], sides[1][None, :]).astype(np.float32)


class Fuser:
    """Fuses the tiles of one frame after another onto the same canvas.

    Parameters
    ----------
    corners : (n, 2) integer y, x of each tile on the canvas.
    sizes : (n, 2) heights and widths.
    flats : a flat-field a channel, or None for none.
    mode : ``feather`` (weights fall towards a tile's edge) or ``last`` (the later tile wins).
    subtract_offset : whether the cameras' offset is taken off the result.
    canvas : (height, width) of the result, cut or filled with 0 at the bottom and right; the tiles' by
        default.
    """

    def __init__(
        self,
        corners: npt.NDArray,
        sizes: npt.NDArray,
        n_channels: int,
        flats: Sequence[Flatfield] | None,
        mode: str = "feather",
        subtract_offset: bool = False,
        canvas: tuple[int, int] | None = None,
    ) -> None:
        self.slices = [
            (slice(int(y), int(y + h)), slice(int(x), int(x + w)))
            for (y, x), (h, w) in zip(corners, sizes, strict=True)
        ]
        self.shape = (n_channels, *(int(n) for n in (corners + sizes).max(axis=0)))
        self.canvas = canvas or self.shape[1:]
        self.flats = flats
        self.mode = mode
        self._keep = 0.0 if subtract_offset else 1.0
        self._weights = self._tile_weights([True] * len(self.slices))
        self._plan = [self._factors(weight) for weight in self._weights]
        self._constant = self._constants(self._plan)

    def _tile_weights(self, present: Sequence[bool]) -> list[npt.NDArray[np.float32] | None]:
        """Weights (y, x) of the present tiles; on each covered pixel they add up to 1."""
        total = np.zeros(self.shape[1:], np.float32)
        raw: list[npt.NDArray[np.float32] | None] = [None] * len(self.slices)
        for index, where in enumerate(self.slices):
            if not present[index]:
                continue
            size = tuple(part.stop - part.start for part in where)
            if self.mode == "last":
                raw[index] = np.ones(size, np.float32)
                for other in range(index):
                    if raw[other] is not None:
                        _clear(raw[other], self.slices[other], where)
            else:
                raw[index] = feather(size)
                total[where] += raw[index]
        if self.mode == "last":
            return raw
        return [None if w is None else w / total[where] for w, where in zip(raw, self.slices, strict=True)]

    def _factors(self, weight: npt.NDArray | None) -> tuple[npt.NDArray, npt.NDArray] | None:
        """(factor, addend), each (c, y, x) or (1, y, x): the tile's share of the canvas is tile * factor +
        addend."""
        if weight is None:
            return None
        if self.flats is None:
            return weight[None], np.zeros((1, 1, 1), np.float32)
        factor = np.stack([weight / flat.flat for flat in self.flats])
        addend = np.stack([flat.offset * (self._keep * weight - weight / flat.flat) for flat in self.flats])
        return factor.astype(np.float32), addend.astype(np.float32)

    def _constants(self, plan: Sequence[tuple[npt.NDArray, npt.NDArray] | None]) -> npt.NDArray[np.float32]:
        canvas = np.zeros(self.shape, np.float32)
        for part, where in zip(plan, self.slices, strict=True):
            if part is not None:
                canvas[(slice(None), *where)] += part[1]
        return canvas

    def fuse(self, tiles: Sequence[npt.NDArray | None]) -> npt.NDArray[np.uint16]:
        """One frame (c, y, x) from its tiles (c, y, x); a None is left out. Uncovered pixels are 0."""
        plan, constant = self._plan, self._constant
        if any(tile is None for tile in tiles):
            weights = self._tile_weights([tile is not None for tile in tiles])
            plan = [self._factors(weight) for weight in weights]
            constant = self._constants(plan)
        canvas = constant.copy()
        for tile, part, where in zip(tiles, plan, self.slices, strict=True):
            if tile is not None and part is not None:
                canvas[(slice(None), *where)] += tile * part[0]
        np.rint(canvas, out=canvas)
        fused = np.clip(canvas, 0, 65535, out=canvas).astype(np.uint16)
        if self.canvas == self.shape[1:]:
            return fused
        out = np.zeros((len(fused), *self.canvas), np.uint16)
        height, width = np.minimum(self.canvas, self.shape[1:])
        out[:, :height, :width] = fused[:, :height, :width]
        return out

    def correct(self, tile: npt.NDArray) -> npt.NDArray[np.float32]:
        """One tile (c, y, x) with its illumination undone, float32, offset kept."""
        if self.flats is None:
            return tile.astype(np.float32)
        return np.stack(
            [
                (plane - flat.offset) / flat.flat + flat.offset
                for plane, flat in zip(tile, self.flats, strict=True)
            ]
        ).astype(np.float32)


def _clear(weight: npt.NDArray, own: tuple[slice, slice], other: tuple[slice, slice]) -> None:
    """Zero the part of ``weight`` that lies under a later tile."""
    where = tuple(
        slice(max(a.start, b.start) - a.start, max(min(a.stop, b.stop) - a.start, 0))
        for a, b in zip(own, other, strict=True)
    )
    weight[where] = 0.0


def seam_error(
    tiles: Sequence[npt.NDArray | None],
    corners: npt.NDArray,
    sizes: npt.NDArray,
    overlaps: Sequence[Overlap],
) -> npt.NDArray[np.float64]:
    """(c, 2): summed absolute difference of the overlaps over the channel's intensity scale, and pixels
    summed over.

    The scale is the 99.5th minus the 0.5th percentile of all overlap pixels of the channel. ``tiles`` are
    (c, y, x), corrected; ``corners`` integer; ``overlaps`` name the pairs.
    """
    first, second = [], []
    for pair in overlaps:
        i, j = pair.first, pair.second
        if tiles[i] is None or tiles[j] is None:
            continue
        low = np.maximum(corners[i], corners[j])
        high = np.minimum(corners[i] + sizes[i], corners[j] + sizes[j])
        if (high <= low).any():
            continue
        for index, parts in ((i, first), (j, second)):
            (y0, x0), (y1, x1) = low - corners[index], high - corners[index]
            parts.append(tiles[index][:, y0:y1, x0:x1].reshape(len(tiles[index]), -1))
    if not first:
        return np.zeros((1, 2))
    a, b = np.concatenate(first, axis=1), np.concatenate(second, axis=1)
    scale = np.subtract(*np.percentile(np.concatenate([a, b], axis=1), [99.5, 0.5], axis=1))
    total = np.abs(a - b).sum(axis=1, dtype=np.float64)
    return np.stack([np.divide(total, scale, out=np.zeros_like(total), where=scale > 0),
                     np.full(len(a), a.shape[1], float)], axis=1)  # fmt: skip
