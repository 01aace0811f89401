"""Verdicts on the records of a run, in words for a terminal."""

from __future__ import annotations

from pathlib import Path

from hyped_core.errors import HypedError


def verdict_lines(records: Path, task: str) -> tuple[list[str], list[str]]:
    """Sentences on the models of a task, and notes on what could not be judged.

    Parameters
    ----------
    records
        Folder with ``<task>/<model>/record.json``.
    """
    from hyped_bench.judgement import declared, judge

    if not declared(task):
        return [], []
    try:
        found = judge(records, task)
    except HypedError as error:  # the table stands, whatever keeps verdicts from being given
        return [], [f"no verdicts: {error}"]
    general = [s for s in found.summaries if not s.metric]
    models = [s for s in general if s.kind == "model"]
    notes = [f"not scored, so nothing is held against it: {name}" for name in found.missing_controls]
    return [s.text for s in models or general], notes
