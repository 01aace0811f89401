"""Scales of an image: smaller copies by cutting its DCT, what the noise becomes in them, and putting the denoised
copies together again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hyped_imaging.denoise.physics import PATCH, NoisePhysics


def halve(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(y, x) -> (y // 2, x // 2): the lower half of the frequencies, the mean kept; white noise stays white."""
    from scipy.fft import dctn, idctn

    height, width = plane.shape[0] // 2, plane.shape[1] // 2
    kept = dctn(plane, norm="ortho")[:height, :width] * np.float32(np.sqrt(height * width / plane.size))
    return idctn(kept, norm="ortho").astype(np.float32)


def halved_noise(physics: NoisePhysics) -> NoisePhysics:
    """The noise of `halve`'s result: a quarter of the power, at frequencies twice as high.

    It is computed rather than looked at in the smaller image, where structures fill the patches and pass for noise.
    """
    at = np.arange(PATCH) / 2
    below = at.astype(int)
    share = (at - below)[:, None]
    power = np.log(np.maximum(physics.spectrum.astype(np.float64), 1e-6))
    for _ in range(2):  # linear in the logarithm along one axis, then the other
        power = (power[below] * (1 - share) + power[below + 1] * share).T
    spectrum = np.exp(power)
    total = float(spectrum.mean())
    return replace(physics.scaled(total / 4), spectrum=(spectrum / total).astype(np.float32))


def fuse(
    fine: npt.NDArray[np.float32], coarse: npt.NDArray[np.float32], low: float, high: float
) -> npt.NDArray[np.float32]:
    """``fine`` with its low frequencies from ``coarse``, which is `halve`'s size.

    Below ``low`` of the frequencies that ``coarse`` has they are its own, above ``high`` those of ``fine``, with a
    cosine between.
    """
    from scipy.fft import dctn, idctn

    height, width = coarse.shape
    spectrum = dctn(fine, norm="ortho")
    other = dctn(coarse, norm="ortho") * np.float32(np.sqrt(fine.size / coarse.size))
    rows, columns = (np.clip((high - (np.arange(n) + 0.5) / n) / (high - low), 0, 1) for n in (height, width))
    share = (0.5 - 0.5 * np.cos(np.pi * np.minimum.outer(rows, columns))).astype(np.float32)
    spectrum[:height, :width] += share * (other - spectrum[:height, :width])
    return idctn(spectrum, norm="ortho").astype(np.float32)
