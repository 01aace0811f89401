"""From a clean plane to what the camera saw of it: tiles, uneven light, shot noise, read noise, offset."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hyped_imaging.simulate.params import MosaicParams, OpticsParams


def illumination(
    mosaic: MosaicParams, optics: OpticsParams, n_channels: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Light that falls on each pixel of a tile, (c, y, x) float32, mean 1 in every channel."""
    y = np.linspace(-1, 1, mosaic.tile_height_px)[:, None]
    x = np.linspace(-1, 1, mosaic.tile_width_px)[None, :]
    fields = []
    for _ in range(n_channels):
        cy, cx = rng.uniform(-0.35, 0.35, 2)
        squared = (y - cy) ** 2 + (x - cx) ** 2
        field = 1.0 - optics.vignette * squared / squared.max()
        fields.append(field / field.mean())
    return np.stack(fields).astype(np.float32)


def tile_layout(mosaic: MosaicParams, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """One row a tile in the order of its index: row, column, nominal x, y and true x, y in pixels.

    Pixels of the stitched frame. Tile 0 is where it should be, no tile of the first column lies left of the
    frame and none of the first row above it: the mosaic's bounding box and tile 0 start at the same pixel.
    """
    rows = []
    jitter = mosaic.jitter_px
    for row in range(mosaic.rows):
        for column in range(mosaic.columns):
            dx, dy = rng.integers(-jitter, jitter + 1, 2)
            dx = 0 if row == column == 0 else abs(dx) if column == 0 else dx
            dy = 0 if row == column == 0 else abs(dy) if row == 0 else dy
            x, y = column * mosaic.step_x_px, row * mosaic.step_y_px
            rows.append((row, column, x, y, x + dx, y + dy))
    return np.array(rows, dtype=np.int64)


def expected(
    clean: npt.NDArray[np.float32], light: npt.NDArray[np.float32], optics: OpticsParams
) -> npt.NDArray[np.float32]:
    """Mean reading of the camera under ``light``, where ``clean`` is the reading under even light."""
    return (clean - np.float32(optics.offset)) * light + np.float32(optics.offset)


def expose(
    mean: npt.NDArray[np.float32], optics: OpticsParams, rng: np.random.Generator
) -> npt.NDArray[np.uint16]:
    """One exposure: photo-electrons, gain, read noise, offset, clipped to the camera's bits.

    Photo-electrons are drawn as ``m + sqrt(m) z + (z^2 - 1) / 6`` (second order Cornish-Fisher expansion of
    Poisson's law), rounded: mean, variance and skewness are Poisson's, ten times faster.
    """
    electrons = np.maximum((mean - np.float32(optics.offset)) / np.float32(optics.gain), 0)
    z = rng.standard_normal(mean.shape, dtype=np.float32)
    drawn = np.rint(electrons + np.sqrt(electrons) * z + (z * z - 1) / 6)
    counts = np.maximum(drawn, 0, out=drawn) * np.float32(optics.gain) + np.float32(optics.offset)
    counts += np.float32(optics.read_noise) * rng.standard_normal(mean.shape, dtype=np.float32)
    return np.clip(np.rint(counts), 0, 2**optics.bits - 1).astype(np.uint16)
