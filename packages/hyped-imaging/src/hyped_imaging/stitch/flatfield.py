r"""Uneven illumination, estimated from many tiles of a scene.

Model (as in BaSiC: Peng et al., Nature Communications 2017): :math:`I_k(y, x) = D + F(y, x) S_k(y, x)` with
camera offset ``D`` (`hyped_imaging.stitch.offset`), a smooth flat-field ``F`` of mean 1 and the specimen
``S``. Cells cover and leave every place in time, so over many tiles the dark part of ``S`` (the background)
is the same everywhere, and its profile is ``D + F`` times a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_BLOCKS = 16
"""Blocks along a tile's side in which the profiles are taken."""
_DARK = (0.1, 0.4)
"""Share of tiles, by brightness of a block, whose mean is the background's profile there."""
_RANGE = (0.2, 5.0)


@dataclass(frozen=True, slots=True)
class Flatfield:
    """``flat`` (y, x) float32 of mean 1, ``offset`` in camera units; corrected = (image - offset) / flat."""

    flat: npt.NDArray[np.float32]
    offset: float
    n_tiles: int

    @property
    def unevenness(self) -> float:
        """(brightest - darkest) / mean of the flat-field."""
        return float(self.flat.max() - self.flat.min())


def block_means(tile: npt.NDArray) -> npt.NDArray[np.float32]:
    """Means of the (c, y, x) tile over blocks, (c, <=16, <=16)."""
    rows, columns = block_edges(tile.shape[-2]), block_edges(tile.shape[-1])
    summed = np.add.reduceat(tile, rows[:-1], axis=-2, dtype=np.float32)
    summed = np.add.reduceat(summed, columns[:-1], axis=-1)
    return summed / (np.diff(rows)[:, None] * np.diff(columns)[None, :]).astype(np.float32)


def block_edges(length: int) -> npt.NDArray[np.int64]:
    """Edges of the blocks along a side of ``length`` pixels."""
    return np.linspace(0, length, min(_BLOCKS, length) + 1).astype(np.int64)


def background_profile(
    blocks: npt.NDArray, shape: tuple[int, int], *, degree: int = 4
) -> npt.NDArray[np.float64]:
    """Smooth profile (y, x) of the background of one channel, offset included, in camera units.

    ``blocks`` (n, by, bx) are the `block_means` of n tiles of ``shape``.
    """
    dark, _ = _profiles(blocks)
    return _smooth(dark, shape, degree)


def estimate_flatfield(
    blocks: npt.NDArray, shape: tuple[int, int], *, degree: int = 4, offset: float = 0.0
) -> Flatfield:
    """Flat-field of one channel from ``blocks`` (n, by, bx), the `block_means` of n tiles of ``shape``.

    A channel without background above ``offset`` is profiled by its mean; one without any signal gets 1.
    """
    dark, mean = (profile - offset for profile in _profiles(blocks))
    profile = dark if dark.min() > 0.05 * max(float(mean.mean()), 0.0) else mean
    full = _smooth(profile, shape, degree)
    if profile.mean() <= 1e-6 * max(abs(offset), 1.0) or full.mean() <= 0:
        return Flatfield(np.ones(shape, np.float32), float(offset), len(blocks))
    flat = np.clip(full / full.mean(), *_RANGE)
    return Flatfield((flat / flat.mean()).astype(np.float32), float(offset), len(blocks))


def _profiles(blocks: npt.NDArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(by, bx) means over the dark tiles of each place, and over all."""
    ordered = np.sort(blocks.astype(np.float64), axis=0)
    low = int(_DARK[0] * len(ordered))
    high = max(int(_DARK[1] * len(ordered)), low + 1)
    return ordered[low:high].mean(axis=0), ordered.mean(axis=0)


def _smooth(profile: npt.NDArray, shape: tuple[int, int], degree: int) -> npt.NDArray[np.float64]:
    """The polynomial that fits the blocks' ``profile`` best, at every pixel."""
    rows, columns = block_edges(shape[0]), block_edges(shape[1])
    centres = [(edges[:-1] + edges[1:]) / 2 for edges in (rows, columns)]
    fit = np.linalg.lstsq(_polynomials(*centres, shape, degree), profile.ravel(), rcond=None)[0]
    return (_polynomials(np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5, shape, degree) @ fit).reshape(shape)


def _polynomials(
    y: npt.NDArray, x: npt.NDArray, shape: tuple[int, int], degree: int
) -> npt.NDArray[np.float64]:
    """Legendre polynomials in y and x up to total ``degree``, (len(y) * len(x), terms)."""
    from numpy.polynomial.legendre import legvander

    by, bx = legvander(2 * y / shape[0] - 1, degree), legvander(2 * x / shape[1] - 1, degree)
    terms = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    return np.stack([np.outer(by[:, i], bx[:, j]).ravel() for i, j in terms], axis=1)
