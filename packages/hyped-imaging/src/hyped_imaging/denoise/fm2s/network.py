"""The network of FM2S: three convolutions, 3.5 to 8 thousand weights."""

from __future__ import annotations

import torch
from torch import nn

REACH_PX = 5
"""A pixel of the result depends on pixels at most this far away (receptive field 11 x 11)."""
SLOPE = 1e-3
"""Slope of the leaky rectifier below zero."""


def make_network(channels: int, generator: torch.Generator) -> nn.Sequential:
    """5x5 to 24 maps, 3x3 to 12, 5x5 back to ``channels``; zero padding, leaky rectifiers between.

    Weights and biases are uniform within 1 / sqrt(inputs), PyTorch's default, drawn from ``generator`` (on the
    CPU, so that a seed means the same weights on every device).
    """
    network = nn.Sequential(
        nn.utils.skip_init(nn.Conv2d, channels, 24, 5, padding=2),
        nn.LeakyReLU(SLOPE),
        nn.utils.skip_init(nn.Conv2d, 24, 12, 3, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.utils.skip_init(nn.Conv2d, 12, channels, 5, padding=2),
    )
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Conv2d):
                bound = layer.weight[0].numel() ** -0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
    return network
