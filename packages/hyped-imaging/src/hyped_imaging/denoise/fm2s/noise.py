"""Noise made from a clean-enough image: Poisson and Gaussian by blocks, then Poisson over all."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from hyped_imaging.denoise.fm2s.constants import LEVEL_LIMITS, Constants


def block_levels(target: torch.Tensor, block_px: int) -> torch.Tensor:
    """Mean intensity of the block each pixel is in, held within `LEVEL_LIMITS`.

    Parameters
    ----------
    target
        (n, c, y, x) in [0, 1]. The image is padded with zeros to whole blocks, as the original does, so blocks at
        the lower and right edge are darker than their pixels.

    Returns
    -------
    (n, 1, y, x).
    """
    height, width = target.shape[-2:]
    padded = F.pad(target, (0, -width % block_px, 0, -height % block_px))
    means = F.avg_pool2d(padded, block_px).mean(1, keepdim=True).clamp(*LEVEL_LIMITS)
    means = means.repeat_interleave(block_px, -2).repeat_interleave(block_px, -1)
    return means[..., :height, :width]


def add_noise(
    target: torch.Tensor,
    levels: torch.Tensor,
    constants: Constants,
    generator: torch.Generator,
    limits: tuple[float, float] = (0.0, 1.0),
) -> torch.Tensor:
    """A noisy version of ``target``: independent in every pixel and channel, its strength constant in a block.

    Parameters
    ----------
    target
        (n, c, y, x), not negative.
    levels
        What `block_levels` says, same size or one that broadcasts to it.
    limits
        Values are clipped to these after each of the two stages: the camera's black and white.
    """
    low, high = limits
    photons = constants.k_p / levels
    noisy = torch.poisson(target * photons, generator=generator) / photons
    gauss = torch.randn(target.shape, generator=generator, device=target.device, dtype=target.dtype)
    noisy = (noisy + gauss * (levels * (constants.k_g / 255))).clamp(low, high)
    # Poisson counts cannot be negative: what lies below zero keeps its value
    below = noisy.clamp(max=0)
    counts = torch.poisson(noisy.clamp(min=0) * constants.lambda_p, generator=generator)
    return (counts / constants.lambda_p + below).clamp(low, high)
