"""The model and its config. CAREamics is imported when the model learns or denoises."""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from careamics_n2v.network import Network, read_network
from careamics_n2v.process import apart
from hyped_core import Params, RunContext
from hyped_core.contracts import ImageMeta
from hyped_core.errors import UsageError
from hyped_core.stacks import check_stack

TRAINING_THREADS = 1
"""Sums in another order are rounded otherwise, and training magnifies that; one thread is the same anywhere."""


class CareamicsN2VConfig(Params):
    """Parameters of Noise2Void. Few steps, so that a try is quick; a movie deserves 30 epochs of 200."""

    epochs: int = Field(2, ge=1)
    steps_per_epoch: int = Field(40, ge=1)
    batch_size: int = Field(4, ge=1)
    patch: int = Field(32, ge=16)
    """Edge of the patches it learns from, in pixels: a power of 2."""
    depth: int = Field(2, ge=1, le=4)
    """Levels of the U-Net."""
    channels: int = Field(8, ge=8)
    """Channels of its finest level: a power of 2."""
    learning_rate: float = Field(5e-3, gt=0)
    roi: int = Field(11, ge=3)
    """Edge of the neighbourhood that a masked pixel's replacement is drawn from: odd."""
    masked_percent: float = Field(3.0, gt=0, le=20)
    """Percentage of the pixels of a patch that are masked."""
    n2v2: bool = False
    """N2V2's network and masking, against chequered artefacts."""

    @field_validator("patch", "channels")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("must be a power of 2")
        return value

    @field_validator("roi")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value


class CareamicsN2V:
    """Noise2Void: learns from noisy frames alone. Without `fit` it learns from each stack that it denoises."""

    def __init__(self, config: CareamicsN2VConfig) -> None:
        self.config = config
        self.network: Network | None = None

    def fit(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> None:
        """Learn a channel from some of its frames (t, y, x)."""
        self.network = self._learned(check_stack(stack), context)

    def denoise(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.float32]:
        """(t, y, x) in camera units -> the same shape, float32; a stack without contrast comes back as it is."""
        values = np.array(check_stack(stack), dtype=np.float32)
        if values.size == 0 or values.min() == values.max():
            return values
        network = self.network or self._learned(values, context)
        if network.std == 0:  # fitted to frames without contrast
            return values
        net = network.build(context.device)
        frames = context.progress.track(range(len(values)), "careamics-n2v denoise", len(values))
        for number in frames:
            values[number] = network.denoise(values[number], net, context.device)
        return values

    def _learned(self, stack: npt.NDArray, context: RunContext) -> Network:
        from careamics_n2v.training import train

        values = np.array(stack, dtype=np.float32)
        if values.size == 0 or values.min() == values.max():
            return Network(0.0, 0.0, {}, {})
        context.scratch.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=context.scratch) as place,
            apart(context, Path(place), TRAINING_THREADS) as seed,
        ):
            return train(values, self.config, Path(place), seed, context)

    def save(self, folder: Path) -> None:
        """Write the network to ``folder`` as safetensors and JSON."""
        if self.network is None:
            raise UsageError("save before fit", where="denoise/careamics-n2v", mend="call fit(stack, meta)")
        self.network.write(folder)

    def load(self, folder: Path) -> None:
        """Read a network that `save` wrote."""
        self.network = read_network(folder)
