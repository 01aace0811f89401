"""Runs models on a task, one at a time: what a stage of the pipeline does, and what `hyped_bench.runs` does many of."""

from hyped_bench.runner.files import of_source, score_file
from hyped_bench.runner.jobs import PIPELINE, Job, Result, Status, controls_of, expand_sources, prepare
from hyped_bench.runner.work import filled_config, full_config, raise_for, run_model

__all__ = [
    "PIPELINE",
    "Job",
    "Result",
    "Status",
    "controls_of",
    "expand_sources",
    "filled_config",
    "full_config",
    "of_source",
    "prepare",
    "raise_for",
    "run_model",
    "score_file",
]
