"""Scores a file of predictions as a model's are scored."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from hyped_bench.runner.jobs import Job, Result
from hyped_bench.tasks.base import clean_metrics
from hyped_core.errors import HypedError, UsageError


def of_source(job: Job, source: str | None = None) -> Job:
    """A loaded `expression` job with one source alone, as its primary one.

    Raises
    ------
    UsageError
        The job is another task, or it is not clear which source is meant.
    """
    from hyped_bench.tasks.expression import ExpressionTask

    task = copy.copy(job.task)
    if not isinstance(task, ExpressionTask):
        raise UsageError("only files of predicted expression can be scored")
    primary = [s.name for s in task.params.sources if s.primary]
    chosen = source or (primary[0] if len(primary) == 1 else "")
    if chosen not in task.data:
        raise UsageError(f"say which source the file predicts: {', '.join(task.data)}", mend="--source NAME")
    sources = tuple(s.model_copy(update={"primary": True}) for s in task.params.sources if s.name == chosen)
    task.params = task.params.model_copy(update={"sources": sources})
    task.data = {chosen: task.data[chosen]}
    task.warnings = list(task.data[chosen].remarks)
    return replace(job, task=task, section=task.params.model_dump(mode="json"))


def score_file(job: Job, path: str | Path, *, source: str | None = None, name: str | None = None) -> Result:
    """Score an .h5ad of predicted cells on a prepared `expression` job.

    Only the source the file predicts is scored; the keys of other sources are absent.

    Raises
    ------
    UsageError
        The job is another task, or it is not clear which source is predicted.
    InvalidDataError
        What is wrong with the file.
    """
    from hyped_bench.readers import read_cells, sha256_of
    from hyped_bench.tasks.expression import predictions_from_cells

    task = of_source(job, source).task
    [chosen] = task.data  # type: ignore[attr-defined]
    try:
        predictions, warnings = predictions_from_cells(read_cells(path), task, chosen)  # type: ignore[arg-type]
    except HypedError as error:
        error.where = f"{path}: {error.where}" if error.where and str(path) not in error.where else str(path)
        raise
    scores = task.score(predictions)
    made = Result(
        "expression", name or Path(path).stem, "model", "file", sha256_of(path)[:12], "ok", "", {}, {}
    )
    made.scores, made.metrics = scores, clean_metrics(scores.metrics)
    made.warnings = warnings + scores.warnings
    made.facts = task.facts()
    return made
