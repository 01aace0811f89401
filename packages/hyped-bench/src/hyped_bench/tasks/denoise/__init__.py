"""The task `denoise`: three kinds of reference (`clean`, `self`, `downstream`), scored apart and never mixed."""

from hyped_bench.tasks.denoise.params import DenoiseParams, DenoiseSource
from hyped_bench.tasks.denoise.task import DenoiseTask

__all__ = ["DenoiseParams", "DenoiseSource", "DenoiseTask"]
