"""Batch normalisation of rows that each stand for several equal ones, and the two-layer blocks built with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOMENTUM, EPSILON = 0.1, 1e-5
"""Of torch's ``BatchNorm1d``, which the original uses everywhere."""


class WeightedBatchNorm(nn.Module):
    """``torch.nn.BatchNorm1d`` over rows repeated ``weights`` times, computed on one copy of each.

    Parameters and buffers carry ``BatchNorm1d``'s names. Statistics, gradient and running statistics are those of
    the repeated rows; the running variance is the unbiased one of ``sum(weights)`` rows.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    @torch.no_grad()
    def track(self, mean: Tensor, variance: Tensor, count: float) -> None:
        """Take a batch's mean and (biased) variance over ``count`` rows into the running ones."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.detach(), MOMENTUM)
        self.running_var.lerp_(variance.detach() * (count / max(count - 1.0, 1.0)), MOMENTUM)

    def affine(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """The normalisation as ``x * scale + shift``: (scale, shift), both (features,)."""
        scale = self.weight * torch.rsqrt(variance + EPSILON)
        return scale, self.bias - mean * scale

    def forward(self, rows: Tensor, weights: Tensor | None = None, count: float = 0.0) -> Tensor:
        """Normalise ``rows`` (n, features); ``weights`` (n,) say how many each stands for and ``count`` their sum.

        ``weights`` None: all alike, ``count / n`` each.
        """
        if not self.training:
            scale, shift = self.affine(self.running_mean, self.running_var)
            return torch.addcmul(shift, rows, scale)
        mean = rows.mean(0) if weights is None else (weights / count) @ rows
        centred = rows - mean
        square = centred * centred
        variance = square.mean(0) if weights is None else (weights / count) @ square
        self.track(mean, variance, count)
        scale = self.weight * torch.rsqrt(variance + EPSILON)
        return torch.addcmul(self.bias, centred, scale)


class Block(nn.Module):
    """Linear, norm, ReLU, ..., Linear, norm: every Linear is followed by a norm, the last by no ReLU.

    Layers are named as in a checkpoint of the original: ``network.0`` Linear, ``network.1`` norm, ``network.3`` ...
    """

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(before, after), WeightedBatchNorm(after), nn.ReLU()]
        self.network = nn.Sequential(*layers[:-1])

    def forward(self, rows: Tensor, weights: Tensor | None = None, count: float = 0.0) -> Tensor:
        """Rows (n, first size) to (n, last size); weights as for :class:`WeightedBatchNorm`."""
        for layer in self.network:
            rows = layer(rows, weights, count) if isinstance(layer, WeightedBatchNorm) else layer(rows)
        return rows
