"""The denoiser ``fm2s``: learns a small network on the image or movie itself and applies it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_core.errors import MissingHardwareError, UsageError
from hyped_core.stacks import check_stack
from hyped_imaging.denoise.fm2s.config import Fm2sConfig
from hyped_imaging.denoise.fm2s.constants import Constants, published

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hyped_core.context import RunContext
    from hyped_core.contracts import ImageMeta
    from hyped_imaging.denoise.fm2s.estimate import Scaling
    from hyped_imaging.denoise.fm2s.training import Outcome

WINDOW_PX = 512
"""Larger images are learnt from in windows of this side."""
WINDOWS = 4
"""Windows of a larger image: the brighter half of twice as many chosen at random."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A network with what it needs; no network where none was sound: then the filter alone is applied."""

    network: nn.Sequential | None
    constants: Constants
    scaling: Scaling


class Fm2s:
    """FM2S in three modes (`Fm2sConfig.mode`): each image by itself, quickly or as published, or a movie at once.

    Attributes
    ----------
    outcomes : how each training of the last call went; empty in ``paper``, with loaded weights, and for images that
        need none (constant, or without noise).
    """

    def __init__(self, config: Fm2sConfig | None = None) -> None:
        self.config = (config or Fm2sConfig()).with_defaults()
        self.outcomes: tuple[Outcome, ...] = ()
        self._learned: Learned | None = None
        self._keep = False
        if self.config.weights:
            self.load(Path(self.config.weights))

    def fit(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> None:
        """In ``series``: learn from frames of (t, y, x); `denoise` then learns nothing more.

        Does nothing in the other modes, where every image is learnt from alone. Raises as `denoise` does.
        """
        planes = check_stack(stack, where="fm2s")
        self._device(context)
        if self.config.mode != "series":
            return
        self.outcomes = ()
        self._learned = self._learn(planes, meta, context)
        self._keep = self._learned is not None

    def denoise(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.float32]:
        """(t, y, x) in camera units -> the same shape, float32.

        Each frame stays within the range of its own values; learnt as published (``paper``), within the camera's range
        instead, to which it is clipped first: 0 to 255 for 8 bits, else ``meta.data_range``.

        Raises
        ------
        InvalidDataError
            Not (t, y, x), or NaN.
        MissingHardwareError
            ``context.device`` is not here, or has no ``bf16``.
        """
        planes = check_stack(stack, where="fm2s")
        self._device(context)
        if not self._keep:
            self.outcomes, self._learned = (), None
            if self.config.mode == "series":
                self._learned = self._learn(planes, meta, context)
        out = np.empty(planes.shape, np.float32)
        if self.config.mode == "paper" and not self._keep:
            bright = _white(np.asarray(stack), meta)
            for k, plane in enumerate(planes):
                out[k] = self._paper(plane, bright, context)
            return out
        for k, plane in enumerate(planes):
            learned = self._learned
            if not self._keep and self.config.mode == "fast":
                learned = self._learned = self._learn(plane[None], meta, context)
            out[k] = plane if learned is None else self._apply(plane, learned, context)
        return out

    def save(self, folder: Path) -> None:
        """Write the network last learnt or loaded: ``weights.safetensors`` and ``fm2s.json``.

        Raises
        ------
        UsageError
            Nothing was learnt, or no training was sound.
        """
        from hyped_imaging.denoise.fm2s.weights import save_weights

        if self._learned is None or self._learned.network is None:
            raise UsageError(
                "there are no weights to save: nothing was learnt", where="fm2s",
                mend="denoise an image or movie first; for weights of a whole movie use mode series",
            )  # fmt: skip
        save_weights(Path(folder), self._learned.network, self._learned.constants, self._learned.scaling)

    def load(self, folder: Path) -> None:
        """Use saved weights from now on, learning nothing. Raises as `load_weights` does."""
        from hyped_imaging.denoise.fm2s.weights import load_weights

        self._learned = Learned(*load_weights(Path(folder)))
        self._keep, self.outcomes = True, ()

    def _device(self, context: RunContext) -> torch.device:
        """Where to compute; refuses what the device cannot do."""
        from hyped_imaging.denoise.fm2s.inference import device_of

        device = device_of(context.device)
        if self.config.precision == "bf16" and device.type != "cuda":
            raise MissingHardwareError(
                f"bf16 is for a GPU, and the device is {context.device}", where="fm2s, precision",
                mend="use --device cuda, or precision fp32",
            )  # fmt: skip
        return device

    def _paper(self, plane: npt.NDArray[np.float32], white: tuple[float, float], context: RunContext) -> npt.NDArray:
        """One image as published: [0, 1] by the camera's range, whole-image steps, 8-bit levels."""
        from hyped_imaging.denoise.fm2s.estimate import Scaling
        from hyped_imaging.denoise.fm2s.inference import apply_network, threads
        from hyped_imaging.denoise.fm2s.target import median_filter
        from hyped_imaging.denoise.fm2s.training import train_paper

        config, device = self.config, self._device(context)
        constants = replace(published(config.microscope, config.average), **config.given_constants())
        scaling = Scaling(white[0], white[1] - white[0], (0.0, 1.0))
        target = scaling.apply(median_filter(plane, constants.filter_px)).clip(0, 1)
        image = scaling.apply(plane).clip(0, 1)
        with threads(context.threads):
            network = train_paper(image, target, constants, config, context, device)
            out = apply_network(network, image, constants.channels, device=device, tile_px=config.tile_px).clip(0, 1)
        self._learned = Learned(network, constants, scaling)
        if config.truncate:
            out = np.floor(out * np.float32(255)) / np.float32(255)
        return scaling.undo(out)

    def _learn(self, planes: npt.NDArray[np.float32], meta: ImageMeta, context: RunContext) -> Learned | None:
        """A network from the planes; None where there is nothing to remove."""
        from hyped_imaging.denoise.fm2s.estimate import estimate_constants, scale_of
        from hyped_imaging.denoise.fm2s.inference import threads
        from hyped_imaging.denoise.fm2s.target import median_filter
        from hyped_imaging.denoise.fm2s.training import Crops, train_crops
        from hyped_imaging.denoise.physics import estimate_noise

        config, device = self.config, self._device(context)
        count = min(config.frames, len(planes))
        chosen = planes[np.linspace(0, len(planes) - 1, count).round().astype(int)]
        if np.ptp(chosen) <= 0:
            return None
        noise = estimate_noise(chosen[0] if count == 1 else chosen, gain=meta.gain)
        if noise.floor <= 0 and noise.gain <= 0 and noise.offset <= 0:
            return None
        given = config.given_constants()
        if config.microscope != "estimate":
            given = {**published(config.microscope, config.average).as_dict(), **given}
        width = int(given.get("filter_px", estimate_constants([chosen[0]], noise, {}).filter_px))
        rng = context.rng("fm2s", "windows")
        images = [window for plane in chosen for window in windows_of(plane, rng)]
        targets = [median_filter(image, width) for image in images]
        scaling = scale_of(images, targets, noise)
        images, targets = [scaling.apply(p) for p in images], [scaling.apply(p) for p in targets]
        constants = estimate_constants(targets, noise.of_units(scaling.zero, scaling.unit), given)
        # one thread: with several, sums in the gradients would depend on how many there are
        with threads(1):
            crops = Crops.of(images, targets, constants, config.crop_px, device)
            network, outcome = train_crops(crops, constants, config, context, device, scaling.limits)
        self.outcomes += (outcome,)
        return Learned(network, constants, scaling)

    def _apply(self, plane: npt.NDArray[np.float32], learned: Learned, context: RunContext) -> npt.NDArray[np.float32]:
        from hyped_imaging.denoise.fm2s.inference import apply_mirrored, threads
        from hyped_imaging.denoise.fm2s.target import median_filter

        low, high = plane.min(), plane.max()
        if low == high:
            return plane
        if learned.network is None:
            return median_filter(plane, learned.constants.filter_px)
        device = self._device(context)
        with threads(context.threads):
            result = apply_mirrored(
                channels_last(learned.network, device), learned.scaling.apply(plane), learned.constants.channels,
                device=device, tile_px=self.config.tile_px, bf16=self.config.precision == "bf16",
            )  # fmt: skip
        return np.clip(learned.scaling.undo(result), low, high)


def channels_last(network: nn.Sequential, device: torch.device) -> nn.Sequential:
    """The network on ``device`` with its weights laid out for the quicker convolutions."""
    import torch

    return network.to(device, memory_format=torch.channels_last)


def windows_of(plane: npt.NDArray[np.float32], rng: np.random.Generator) -> list[npt.NDArray[np.float32]]:
    """What to learn from of a plane: all of a small one, else its `WINDOWS` brighter ones of random windows."""
    if max(plane.shape) <= 2 * WINDOW_PX:
        return [plane]
    found = []
    for _ in range(2 * WINDOWS):
        y, x = (int(rng.integers(max(size - WINDOW_PX, 0) + 1)) for size in plane.shape)
        found.append(plane[y : y + WINDOW_PX, x : x + WINDOW_PX])
    found.sort(key=lambda window: -float(window.mean(dtype=np.float64)))
    return found[:WINDOWS]


def _white(stack: npt.NDArray, meta: ImageMeta) -> tuple[float, float]:
    """Camera units that are 0 and 1 in ``paper``: 0 and 255 for 8 bits, else the camera's range."""
    if stack.dtype == np.uint8:
        return 0.0, 255.0
    low, high = meta.data_range
    return float(low), float(max(high, low + 1))
