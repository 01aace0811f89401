r"""Uneven illumination and camera offset, estimated from many tiles of a scene.

Model (as in BaSiC: Peng et al., Nature Communications 2017): :math:`I_k(y, x) = D + F(y, x) S_k(y, x)` with
camera offset ``D``, a smooth flat-field ``F`` of mean 1 and the specimen ``S``. Cells cover and leave every
place in time, so over many tiles the dark part of ``S`` (the background) is the same everywhere, and its
profile is ``D + F`` times a constant. ``D`` comes from the noise: shot noise grows in proportion to ``I -
D`` (the photon transfer curve), so the line of noise variance against intensity meets zero at ``D``, short
of it by (read noise)^2 / gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_BLOCKS = 16
"""Blocks along a tile's side in which the profiles are taken."""
_DARK = (0.1, 0.4)
"""Share of tiles, by brightness of a block, whose mean is the background's profile there."""
_RANGE = (0.2, 5.0)
_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_LAPLACIAN_POWER = 36.0
"""Variance of the Laplacian's response to white noise of variance 1 (Immerkaer 1996)."""


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


def block_noise(tile: npt.NDArray) -> npt.NDArray[np.float32]:
    """Noise variance of the (c, y, x) tile in the blocks of `block_means`."""
    import cv2

    rows, columns = block_edges(tile.shape[-2]), block_edges(tile.shape[-1])
    height, width = int(np.diff(rows).min()), int(np.diff(columns).min())
    where = np.ix_(
        (rows[:-1, None] + np.arange(height)).ravel(), (columns[:-1, None] + np.arange(width)).ravel()
    )
    out = []
    for plane in tile:
        response = np.abs(
            cv2.filter2D(plane.astype(np.float32), -1, _LAPLACIAN, borderType=cv2.BORDER_REFLECT_101)
        )
        blocks = response[where].reshape(len(rows) - 1, height, len(columns) - 1, width)
        out.append(
            np.median(blocks.transpose(0, 2, 1, 3).reshape(len(rows) - 1, len(columns) - 1, -1), axis=-1)
        )
    return np.square(1.4826 * np.stack(out)) / _LAPLACIAN_POWER


def block_edges(length: int) -> npt.NDArray[np.int64]:
    """Edges of the blocks along a side of ``length`` pixels."""
    return np.linspace(0, length, min(_BLOCKS, length) + 1).astype(np.int64)


def estimate_offset(means: Sequence[npt.NDArray], noise: Sequence[npt.NDArray]) -> float:
    """Camera offset from block means and noise variances, (tiles, by, bx) each, a pair a channel.

    Each channel's line is fitted, at every place, to the darkest tiles there, in which texture does not pass
    for noise; the channels, seen by one camera, count by how well their line fixes the offset. Bounded to
    [0, darkest block]; 0 where noise grows with intensity in no channel.
    """
    found = [_photon_transfer(x, y) for x, y in zip(means, noise, strict=True)]
    usable = [(offset, error) for offset, error in found if np.isfinite(error)]
    if not usable:
        return 0.0
    weights = np.array([1.0 / max(error, 1e-3) ** 2 for _, error in usable])
    combined = float(weights @ np.array([offset for offset, _ in usable]) / weights.sum())
    return float(np.clip(combined, 0.0, max(min(float(x.min()) for x in means), 0.0)))


def _photon_transfer(means: npt.NDArray, noise: npt.NDArray) -> tuple[float, float]:
    """Where the line of noise variance over intensity meets zero, and its standard error (infinite: no
    line)."""
    dark = np.argsort(means, axis=0, kind="stable")[: max(int(_DARK[1] * len(means)), 1)]
    bx, by = (
        np.take_along_axis(part, dark, axis=0).mean(axis=0).ravel().astype(float) for part in (means, noise)
    )
    spread = float(np.square(bx - bx.mean()).sum())
    if len(bx) < 4 or spread <= 1e-9 * max(float(np.square(bx).sum()), 1e-9):
        return 0.0, np.inf
    slope = float((bx - bx.mean()) @ by) / spread
    if slope <= 1e-9:
        return 0.0, np.inf
    offset = float(bx.mean() - by.mean() / slope)
    scatter = float(np.square(by - by.mean() - slope * (bx - bx.mean())).sum()) / (len(bx) - 2)
    error = np.sqrt(scatter * (1.0 / len(bx) + (offset - bx.mean()) ** 2 / spread)) / slope
    return offset, max(float(error), 1e-3)


def estimate_flatfield(
    blocks: npt.NDArray, shape: tuple[int, int], *, degree: int = 4, offset: float = 0.0
) -> Flatfield:
    """Flat-field of one channel from ``blocks`` (n, by, bx), the `block_means` of n tiles of ``shape``.

    A channel without background above ``offset`` is profiled by its mean; one without any signal gets 1.
    """
    rows, columns = block_edges(shape[0]), block_edges(shape[1])
    centres = [(edges[:-1] + edges[1:]) / 2 for edges in (rows, columns)]
    basis = _polynomials(centres[0], centres[1], shape, degree)
    ordered = np.sort(blocks.astype(np.float64), axis=0)
    low, high = (
        int(_DARK[0] * len(ordered)),
        max(int(_DARK[1] * len(ordered)), int(_DARK[0] * len(ordered)) + 1),
    )
    dark, mean = ordered[low:high].mean(axis=0) - offset, ordered.mean(axis=0) - offset
    profile = dark if dark.min() > 0.05 * max(float(mean.mean()), 0.0) else mean
    fit = np.linalg.lstsq(basis, profile.ravel(), rcond=None)[0]
    full = _polynomials(np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5, shape, degree) @ fit
    if profile.mean() <= 1e-6 * max(abs(offset), 1.0) or full.mean() <= 0:
        return Flatfield(np.ones(shape, np.float32), float(offset), len(blocks))
    flat = np.clip(full.reshape(shape) / full.mean(), *_RANGE)
    return Flatfield((flat / flat.mean()).astype(np.float32), float(offset), len(blocks))


def _polynomials(
    y: npt.NDArray, x: npt.NDArray, shape: tuple[int, int], degree: int
) -> npt.NDArray[np.float64]:
    """Legendre polynomials in y and x up to total ``degree``, (len(y) * len(x), terms)."""
    from numpy.polynomial.legendre import legvander

    by, bx = legvander(2 * y / shape[0] - 1, degree), legvander(2 * x / shape[1] - 1, degree)
    terms = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    return np.stack([np.outer(by[:, i], bx[:, j]).ravel() for i, j in terms], axis=1)
