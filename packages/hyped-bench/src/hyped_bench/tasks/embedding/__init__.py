"""The task `embedding`: in-silico perturbation as the paper's Algorithm 1, and what says whether it means anything."""

from hyped_bench.tasks.embedding.params import EmbeddingParams, EmbeddingSource
from hyped_bench.tasks.embedding.task import EmbeddingTask

__all__ = ["EmbeddingParams", "EmbeddingSource", "EmbeddingTask"]
