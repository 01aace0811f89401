"""Learning: the published recipe on whole images, and the quick one on crops, which is watched and cannot run away."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hyped_core.context import RunContext
from hyped_imaging.denoise.fm2s.config import Fm2sConfig
from hyped_imaging.denoise.fm2s.constants import LEVEL_LIMITS, Constants
from hyped_imaging.denoise.fm2s.network import REACH_PX, make_network
from hyped_imaging.denoise.fm2s.noise import add_noise, block_levels
from hyped_imaging.denoise.fm2s.target import median_filter

LOG = logging.getLogger(__name__)

CHECKS = 6
"""Times that the network is held against crops it does not learn on."""
HELD_OUT = 6
"""Crops kept for that."""
WARM_UP = 20
"""Steps over which the rate rises."""
MOST_GRADIENT = 1.0
"""Norm that gradients are cut to."""
NOISE_LEFT = 0.25
"""A network is taken only if it leaves no more than this share of the made noise, or no more than the filter does."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training went; squared errors are on crops it did not learn on, in the network's units.

    Attributes
    ----------
    accepted : the network passed; otherwise the filtered image is the result.
    attempts : trainings tried.
    loss, filter_loss, noisy_loss : against the target, of the network, the target's own filter and doing nothing,
        on made noise.
    real_loss, real_noisy_loss : the same of the network and of doing nothing, on the image itself.
    reason : why no network was taken.
    """

    accepted: bool
    attempts: int
    loss: float
    filter_loss: float
    noisy_loss: float
    real_loss: float
    real_noisy_loss: float
    reason: str = ""

    def fault(self) -> str:
        """What is wrong with the network, or nothing."""
        if not np.isfinite([self.loss, self.real_loss]).all():
            return "its result is not finite"
        if self.loss > max(self.filter_loss, NOISE_LEFT * self.noisy_loss):
            return f"it leaves more noise ({self.loss:.3g}) than the filter ({self.filter_loss:.3g})"
        if self.real_loss > self.real_noisy_loss:
            return f"it is farther from the target ({self.real_loss:.3g}) than the image ({self.real_noisy_loss:.3g})"
        return ""


def generator_for(context: RunContext, device: torch.device | str, *stream: int | str) -> torch.Generator:
    """A generator on ``device`` for a stream under the context's seed."""
    seed = int(context.rng("fm2s", *stream).integers(2**63 - 1))
    return torch.Generator(device=device).manual_seed(seed)


def train_paper(
    image: npt.NDArray[np.float32], target: npt.NDArray[np.float32], constants: Constants, config: Fm2sConfig,
    context: RunContext, device: torch.device,
) -> nn.Sequential:  # fmt: skip
    """The published recipe: a few steps on the image itself, then steps on drawn noise, Adam at a constant rate.

    With ``config.crop_px`` each draw is on one random crop instead of the whole image.

    Parameters
    ----------
    image, target
        (y, x) in [0, 1].
    """
    network = make_network(constants.channels, generator_for(context, "cpu", "weights", 0)).to(device)
    generator = generator_for(context, device, "noise", 0)
    places = context.rng("fm2s", "places", 0)
    x, y = (torch.from_numpy(plane).to(device).expand(1, constants.channels, -1, -1) for plane in (image, target))
    levels = block_levels(y, constants.block_px)
    adam = torch.optim.Adam(network.parameters(), lr=config.learning_rate)

    def window() -> tuple[slice, slice]:
        sides = [min(config.crop_px or size, size) for size in image.shape]
        corner = [int(places.integers(size - side + 1)) for size, side in zip(image.shape, sides)]
        return slice(corner[0], corner[0] + sides[0]), slice(corner[1], corner[1] + sides[1])

    def step(noisy: torch.Tensor, clean: torch.Tensor) -> None:
        adam.zero_grad()
        nn.functional.mse_loss(network(noisy), clean).backward()
        adam.step()

    where = window()
    for _ in range(config.real_steps):
        step(x[..., *where], y[..., *where])
    for _ in context.progress.track(range(config.draws), "fm2s", config.draws):
        where = window()
        clean = y[..., *where]
        noisy = add_noise(clean, levels[..., *where], constants, generator)
        for _ in range(config.steps_per_draw):
            step(noisy, clean)
    return network


@dataclass(frozen=True, slots=True)
class Crops:
    """Images to draw crops from, and the noise to put on them: all in the network's units."""

    images: Sequence[torch.Tensor]
    targets: Sequence[torch.Tensor]
    levels: Sequence[torch.Tensor]
    side: int

    @classmethod
    def of(
        cls, images: Sequence[npt.NDArray], targets: Sequence[npt.NDArray], constants: Constants, side: int,
        device: torch.device,
    ) -> Crops:  # fmt: skip
        """From planes (y, x) of any size; those smaller than a crop are mirrored up to it.

        Dark blocks are given at least half the mean block's noise: read noise does not fall with the light.
        """
        parts: list[list[torch.Tensor]] = [[], [], []]
        typical = float(np.clip(np.mean([target.mean() for target in targets]), 0.01, LEVEL_LIMITS[1]))
        side = side or max(max(image.shape) for image in images)
        for image, target in zip(images, targets):
            margins = [(0, max(side - size, 0)) for size in image.shape]
            planes = [np.pad(plane, margins, mode="symmetric") for plane in (image, np.maximum(target, 0))]
            x, y = (torch.from_numpy(np.ascontiguousarray(plane))[None, None].to(device) for plane in planes)
            levels = block_levels(y, min(constants.block_px, *y.shape[-2:])).clamp(min=typical / 2)
            for group, tensor in zip(parts, (x, y, levels)):
                group.append(tensor)
        return cls(*parts, side=side)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Image, target and levels of ``count`` crops, (count, 1, side, side) each."""
        found: list[list[torch.Tensor]] = [[], [], []]
        for _ in range(count):
            k = int(rng.integers(len(self.images)))
            height, width = self.images[k].shape[-2:]
            y, x = int(rng.integers(height - self.side + 1)), int(rng.integers(width - self.side + 1))
            for group, planes in zip(found, (self.images, self.targets, self.levels)):
                group.append(planes[k][..., y : y + self.side, x : x + self.side])
        image, target, levels = (torch.cat(group) for group in found)
        return image, target, levels


def smoothing_start(network: nn.Sequential, channels: int, sigma_px: float = 1.0) -> None:
    """Let the network begin as a Gaussian blur, its other maps random but hardly heard: far fewer steps are needed."""
    first, second, third = network[0], network[2], network[4]
    axis = torch.exp(-(torch.arange(-2, 3, dtype=torch.float32) ** 2) / (2 * sigma_px**2))
    blur = torch.outer(axis, axis) / axis.sum() ** 2
    with torch.no_grad():
        third.weight.mul_(0.1)
        third.bias.zero_()
        for c in range(channels):
            for layer in (first, second):
                layer.weight[c].zero_()
                layer.bias[c] = 0
            third.weight[c, :channels] = 0
            first.weight[c, c] = blur
            second.weight[c, c, 1, 1] = 1
            third.weight[c, c, 2, 2] = 1


class Watch:
    """Crops the network does not learn on, with noise of their own."""

    def __init__(
        self, crops: Crops, constants: Constants, limits: tuple[float, float], context: RunContext,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.image, self.target, levels = crops.draw(HELD_OUT, context.rng("fm2s", "watched"))
        generator = generator_for(context, device, "watched")
        self.noisy = add_noise(self.target, levels, constants, generator, limits)
        filtered = [median_filter(plane, constants.filter_px) for plane in self.noisy[:, 0].cpu().numpy()]
        self.filter_loss = self.error(torch.from_numpy(np.stack(filtered))[:, None].to(device))
        self.noisy_loss, self.real_noisy_loss = self.error(self.noisy), self.error(self.image)
        self.channels = constants.channels

    def error(self, result: torch.Tensor) -> float:
        """Mean squared distance from the target away from the crops' edges."""
        return float(nn.functional.mse_loss(inner(result), inner(self.target)))

    def judge(self, network: nn.Module, attempt: int) -> Outcome:
        """The network as it is now."""
        with torch.inference_mode():
            made, real = (
                self.error(network(part.expand(-1, self.channels, -1, -1)).float().mean(1, keepdim=True))
                for part in (self.noisy, self.image)
            )
        return Outcome(False, attempt, made, self.filter_loss, self.noisy_loss, real, self.real_noisy_loss)


def inner(planes: torch.Tensor) -> torch.Tensor:
    """Pixels that the padding at the edges does not reach (all of them in crops too small to have any)."""
    if min(planes.shape[-2:]) < 4 * REACH_PX:
        return planes
    return planes[..., REACH_PX:-REACH_PX, REACH_PX:-REACH_PX]


def train_crops(
    crops: Crops, constants: Constants, config: Fm2sConfig, context: RunContext, device: torch.device,
    limits: tuple[float, float],
) -> tuple[nn.Sequential | None, Outcome]:  # fmt: skip
    """Learn on random crops; the best network seen on watched crops, or None if no attempt gave a sound one.

    An attempt ends early when a loss is not finite. The next has other random numbers and a third of the rate.
    """
    watch = Watch(crops, constants, limits, context, device)
    outcome = None
    for attempt in range(config.attempts):
        network, outcome = _attempt(crops, constants, config, context, device, limits, watch, attempt)
        fault = outcome.fault()
        if not fault:
            return network, _settled(outcome, accepted=True)
        LOG.warning("fm2s: training %d of %d is discarded: %s", attempt + 1, config.attempts, fault)
    LOG.warning("fm2s: no training was sound; the median-filtered image is the result")
    return None, _settled(outcome, accepted=False, reason=fault)


def _settled(outcome: Outcome, *, accepted: bool, reason: str = "") -> Outcome:
    return replace(outcome, accepted=accepted, reason=reason)


def _attempt(
    crops: Crops, constants: Constants, config: Fm2sConfig, context: RunContext, device: torch.device,
    limits: tuple[float, float], watch: Watch, attempt: int,
) -> tuple[nn.Sequential, Outcome]:  # fmt: skip
    network = make_network(constants.channels, generator_for(context, "cpu", "weights", attempt))
    smoothing_start(network, constants.channels)
    network = network.to(device, memory_format=torch.channels_last)
    generator = generator_for(context, device, "noise", attempt)
    places = context.rng("fm2s", "places", attempt)
    rate = config.learning_rate / 3**attempt
    adam = torch.optim.Adam(network.parameters(), lr=rate)
    steps = config.draws * config.steps_per_draw
    bf16 = config.precision == "bf16"
    every = max(config.draws // CHECKS, 1)
    best, kept, step = watch.judge(network, attempt + 1), _copy(network), 0
    for draw in context.progress.track(range(config.draws), "fm2s", config.draws):
        _, target, levels = crops.draw(config.crops, places)
        target, levels = (part.expand(-1, constants.channels, -1, -1) for part in (target, levels))
        noisy = add_noise(target, levels, constants, generator, limits).contiguous(memory_format=torch.channels_last)
        for _ in range(config.steps_per_draw):
            for group in adam.param_groups:
                group["lr"] = rate * min((step + 1) / WARM_UP, 1) * (1 + np.cos(np.pi * step / steps)) / 2
            adam.zero_grad()
            with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
                result = network(noisy)
            loss = nn.functional.mse_loss(inner(result.float()), inner(target))
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), MOST_GRADIENT)
            adam.step()
            step += 1
        if (draw + 1) % every == 0 or draw + 1 == config.draws:
            now = watch.judge(network, attempt + 1)
            if not np.isfinite(now.loss):
                break
            if now.loss < best.loss:
                best, kept = now, _copy(network)
    network.load_state_dict(kept)
    return network, best


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
