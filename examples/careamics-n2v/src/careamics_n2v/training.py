"""Noise2Void by CAREamics: its own configuration, trainer and network, with its files in a folder of scratch."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from careamics_n2v.network import Network
from hyped_core import RunContext

if TYPE_CHECKING:
    from careamics_n2v.model import CareamicsN2VConfig


def train(
    stack: npt.NDArray[np.float32], config: "CareamicsN2VConfig", folder: Path, seed: int, context: RunContext
) -> Network:
    """A network trained on ``stack`` (t, y, x), which has some contrast; what CAREamics writes goes to ``folder``."""
    from careamics import CAREamist
    from careamics.config.factories import create_advanced_n2v_config

    mean, std = float(stack.mean(dtype=np.float64)), float(stack.std(dtype=np.float64))
    frames = _enough(stack, config)
    steps = config.epochs * config.steps_per_epoch
    gpu = context.device.startswith("cuda")
    made = create_advanced_n2v_config(
        experiment_name="n2v",
        data_type="array",
        axes="SYX",
        patch_size=[config.patch, config.patch],
        batch_size=config.batch_size,
        num_epochs=config.epochs,
        num_steps=config.steps_per_epoch,
        num_workers=0,
        normalization="mean_std",
        normalization_params={"input_means": [mean], "input_stds": [std]},
        use_n2v2=config.n2v2,
        roi_size=config.roi,
        masked_pixel_percentage=config.masked_percent,
        model_params={"depth": config.depth, "num_channels_init": config.channels},
        optimizer_params={"lr": config.learning_rate},
        trainer_params={
            "accelerator": "gpu" if gpu else "cpu",
            "devices": [int(context.device.partition(":")[2] or 0)] if gpu else 1,
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,
        },
        checkpoint_params={"save_top_k": 0, "save_last": False},
        logger="none",
        seed=seed,
    )
    trainer = CAREamist(made, work_dir=folder, callbacks=[_progress(context, steps)], enable_progress_bar=False)
    trainer.train(train_data=frames, val_data=frames[:1, : config.patch, : config.patch])
    tensors = {name: value.detach().cpu().clone() for name, value in trainer.model.model.state_dict().items()}
    return Network(mean, std, made.algorithm_config.model.model_dump(mode="json"), tensors)


def _enough(stack: npt.NDArray[np.float32], config: "CareamicsN2VConfig") -> npt.NDArray[np.float32]:
    """Frames no smaller than a patch, as often as it takes to give an epoch all its batches."""
    short = [max(0, config.patch - edge) for edge in stack.shape[1:]]
    frames = np.pad(stack, ((0, 0), (0, short[0]), (0, short[1])), mode="reflect") if any(short) else stack
    patches = len(frames) * math.prod(math.ceil(edge / config.patch) for edge in frames.shape[1:])
    return np.concatenate([frames] * math.ceil(config.steps_per_epoch * config.batch_size / patches))


def _progress(context: RunContext, steps: int) -> Any:
    """A callback of Lightning's that reports each step to the context."""
    from lightning.pytorch.callbacks import Callback

    class Told(Callback):
        def __init__(self) -> None:
            self.bar = iter(context.progress.track(range(steps), "careamics-n2v train", steps))

        def on_train_batch_start(self, *_: Any) -> None:
            next(self.bar, None)

        def on_train_end(self, *_: Any) -> None:
            next(self.bar, None)

    return Told()
