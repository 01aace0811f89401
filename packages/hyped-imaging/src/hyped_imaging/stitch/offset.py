r"""The camera's offset: what it reads in the dark, without a picture taken in the dark.

Two sources. *Overlaps*: the same specimen seen in two places of the tile, :math:`I_1 = D + F_1 S` and
:math:`I_2 = D + F_2 S`. The background's profile ``P`` is ``D + F`` times a constant, so
:math:`(I_1 - D)(P_2 - D) = (I_2 - D)(P_1 - D)`, which is linear in ``D``. *Photon transfer*: shot noise grows
in proportion to ``I - D``; the line of noise variance against intensity meets zero at ``D``, short of it by
(read noise)^2 / gain, which one exposure cannot tell apart. The overlaps have no such bias; the photon
transfer stands in where overlaps say little (even light, an empty field).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hyped_imaging.stitch.flatfield import _DARK, block_edges

_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_LAPLACIAN_POWER = 36.0
"""Variance of the Laplacian's response to white noise of variance 1 (Immerkaer 1996)."""
_CELL = 4
"""Overlaps are compared in squares of this many pixels, which average noise and small errors of position."""
_READ_NOISE_SHARE = 0.25
"""How far the photon transfer is trusted at best: read noise may take this share of the offset off."""

Estimate = tuple[float, float]
"""An offset and its standard error, which is infinite where nothing was found."""


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


def photon_transfer(means: npt.NDArray, noise: npt.NDArray) -> Estimate:
    """Where the line of noise variance over intensity meets zero; (tiles, by, bx) block means and variances.

    The line is fitted, at every place, to the darkest tiles there, in which texture does not pass for noise.
    """
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


def overlap_terms(
    first: npt.NDArray, second: npt.NDArray, first_light: npt.NDArray, second_light: npt.NDArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(c,) numerator and denominator that one overlap adds to the estimate of the offset.

    ``first`` and ``second`` (c, y, x) show the same specimen; ``first_light`` and ``second_light`` are the
    background's profiles at these pixels. Squares count by how much brighter than background they are and by
    how different the light is: what weighs is free of the noise of the difference, so the ratio is unbiased.
    """
    i1, i2, p1, p2 = (_cells(part) for part in (first, second, first_light, second_light))
    weight = (p1 - p2) * np.maximum(0.5 * (i1 + i2 - p1 - p2), 0.0)
    return (weight * (i1 * p2 - i2 * p1)).sum(axis=(1, 2)), (weight * (i1 + p2 - i2 - p1)).sum(axis=(1, 2))


def _cells(image: npt.NDArray) -> npt.NDArray[np.float64]:
    height, width = (max(n // _CELL, 0) for n in image.shape[-2:])
    cut = image[..., : height * _CELL, : width * _CELL].astype(np.float64)
    return cut.reshape(*image.shape[:-2], height, _CELL, width, _CELL).mean(axis=(-3, -1))


def from_overlaps(numerators: npt.NDArray, denominators: npt.NDArray) -> Estimate:
    """The offset from the `overlap_terms` (n, c) of n overlaps; a channel counts by how well it fixes it."""
    found = []
    for top, bottom in zip(numerators.T, denominators.T, strict=True):
        total = float(bottom.sum())
        if total <= 0 or len(top) < 3:
            continue
        offset = float(top.sum()) / total
        found.append((offset, max(float(np.sqrt(np.square(top - offset * bottom).sum())) / total, 1e-3)))
    return combine(found)


def combine(found: Sequence[Estimate]) -> Estimate:
    """Mean of the estimates, each weighing by one over its squared error."""
    usable = [(offset, error) for offset, error in found if np.isfinite(error)]
    if not usable:
        return 0.0, np.inf
    weights = np.array([1.0 / error**2 for _, error in usable])
    return float(weights @ np.array([offset for offset, _ in usable]) / weights.sum()), float(weights.sum() ** -0.5)


def estimate_offset(
    means: Sequence[npt.NDArray], noise: Sequence[npt.NDArray], overlaps: Estimate = (0.0, np.inf)
) -> float:
    """Camera offset from block means and noise variances, (tiles, by, bx) each, a pair a channel, and from
    overlaps.

    The channels are seen by one camera. Bounded to [0, darkest block]; 0 where neither source knows it.
    """
    transfer, error = combine([photon_transfer(x, y) for x, y in zip(means, noise, strict=True)])
    biased = transfer, max(error, _READ_NOISE_SHARE * abs(transfer))
    found, error = combine([biased, overlaps])
    if not np.isfinite(error):
        return 0.0
    return float(np.clip(found, 0.0, max(min(float(x.min()) for x in means), 0.0)))
