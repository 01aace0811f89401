"""Tiles to one picture: illumination undone and overlaps blended in one pass over the canvas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hyped_imaging.stitch.kernels import extremes, fuse_rows

NO_GAINS = np.ones((0, 0, 0), np.float32)
"""In place of gains: the illumination is left as it is."""


class Pixels:
    """The tiles of one frame as one 1-D array, which the compiled kernels read without a copy where they can.

    Attributes
    ----------
    flat : pixels; ``starts`` : (m, c) where each plane begins; ``present`` : (m,) whether the tile is there.
    """

    def __init__(self, tiles: Sequence[npt.NDArray | None]) -> None:
        self.present = np.array([tile is not None for tile in tiles], bool)
        there = [tile for tile in tiles if tile is not None]
        channels = there[0].shape[0] if there else 1
        self.starts = np.zeros((len(tiles), channels), np.int64)
        base = _shared_base(there)
        if base is None:
            dtype = np.result_type(*there) if there else np.dtype(np.uint16)
            base = np.concatenate([np.ravel(tile) for tile in there] or [np.zeros(1, dtype)])
            sizes = np.array([0 if tile is None else tile.size for tile in tiles])
            planes = np.where(self.present, sizes // channels, 0)
            self.starts[:] = (np.cumsum(sizes) - sizes)[:, None] + planes[:, None] * np.arange(channels)
        else:
            origin = base.__array_interface__["data"][0]
            for index, tile in enumerate(tiles):
                if tile is not None:
                    begin = (tile.__array_interface__["data"][0] - origin) // base.itemsize
                    self.starts[index] = begin + tile.strides[0] // base.itemsize * np.arange(channels)
        self.flat = base.reshape(-1)


def _shared_base(tiles: Sequence[npt.NDArray]) -> npt.NDArray | None:
    """The contiguous array that all of the tiles are views of, plane by plane; None where there is none."""
    bases = []
    for tile in tiles:
        base = tile
        while isinstance(base.base, np.ndarray):
            base = base.base
        plain = tile.strides[-1] == tile.itemsize and tile.strides[-2] == tile.itemsize * tile.shape[-1]
        if base.dtype != tile.dtype or not base.flags.c_contiguous or not plain:
            return None
        bases.append(base)
    return bases[0] if bases and all(base is bases[0] for base in bases) else None


class Fuser:
    """Fuses the tiles of one frame after another onto the same canvas.

    Parameters
    ----------
    corners : (n, 2) integer y, x of each tile on the canvas.
    sizes : (n, 2) heights and widths.
    gains : (c, h, w) float32, one over the flat-field of each channel; of size 0 where there is none.
    offset : (c,) camera offset of each channel.
    mode : ``feather`` (a tile weighs by the distance to its edge) or ``last`` (the later tile wins).
    subtract_offset : whether the camera's offset is taken off the result.
    canvas : (height, width) of the result, cut or filled with 0 at the bottom and right; the tiles' by
        default.
    top : largest value of the result, what the camera can give.
    """

    def __init__(
        self,
        corners: npt.NDArray,
        sizes: npt.NDArray,
        n_channels: int,
        gains: npt.NDArray[np.float32] = NO_GAINS,
        offset: npt.NDArray | Sequence[float] = (),
        mode: str = "feather",
        subtract_offset: bool = False,
        canvas: tuple[int, int] | None = None,
        top: int = 65535,
    ) -> None:
        self.corners = np.ascontiguousarray(corners, np.int64)
        self.sizes = np.ascontiguousarray(sizes, np.int64)
        height, width = (int(n) for n in (self.corners + self.sizes).max(axis=0))
        self.canvas = canvas or (height, width)
        self.n_channels = n_channels
        self.gains = np.ascontiguousarray(gains, np.float32)
        self.offset = np.asarray(offset if len(offset) else np.zeros(n_channels), np.float32)
        self.mode = mode
        self.top = int(top)
        self._keep = 0.0 if subtract_offset else 1.0

    def fuse(
        self, tiles: Sequence[npt.NDArray | None] | Pixels, shift: tuple[int, int] = (0, 0)
    ) -> npt.NDArray[np.uint16]:
        """One frame (c, y, x) from its tiles (c, y, x); a None is left out. Uncovered pixels are 0.

        ``shift`` (y, x) moves every tile: what leaves the canvas is cut, what it leaves empty is 0.
        """
        pixels = tiles if isinstance(tiles, Pixels) else Pixels(tiles)
        out = np.empty((self.n_channels, *self.canvas), np.uint16)
        if not pixels.present.any():
            out[:] = 0
            return out
        fuse_rows(
            pixels.flat, pixels.starts, pixels.present, self.corners + np.asarray(shift, np.int64), self.sizes,
            self.gains, self.offset, self._keep, self.mode == "feather", float(self.top), out,
        )  # fmt: skip
        return out

    def levels(self, pixels: Pixels) -> npt.NDArray[np.int64]:
        """(c, 3) of the raw tiles: saturated pixels, smallest and largest value."""
        return extremes(pixels.flat, pixels.starts, pixels.present, self.sizes, self.top)

    def correct(self, tile: npt.NDArray, where: tuple[slice, slice]) -> npt.NDArray[np.float32]:
        """A part (y, x slices) of one tile (c, y, x) with its illumination undone, float32, offset kept."""
        part = tile[(slice(None), *where)].astype(np.float32)
        if self.gains.size:
            dark = self.offset[:, None, None]
            part -= dark
            part *= self.gains[(slice(None), *where)]
            part += dark
        return part
