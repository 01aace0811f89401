"""Verdicts on the records of a run, in words for a terminal."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hyped_core.errors import HypedError


def verdict_lines(records: Path, task: str, models: Collection[str] | None = None) -> tuple[list[str], list[str]]:
    """Sentences on the models of a task, each with the source it is about, and notes on what could not be judged.

    Parameters
    ----------
    records
        Folder with ``<task>/<model>/record.json``.
    models
        What this run was about: records of others that lie there too, from other parameters maybe, are left out.
        All where None.
    """
    from hyped_bench.judgement import declared, judge_entries, read_entries

    judged = declared(task)
    if not judged:
        return [], []
    wanted = None if models is None else {name.replace(":", "_") for name in models}
    try:
        entries = [e for e in read_entries(records / task) if wanted is None or e.model in wanted]
        found = judge_entries(entries, task, judged)
    except HypedError as error:  # the table stands, whatever keeps verdicts from being given
        return [], [f"no verdicts: {error}"]
    except Exception as error:  # noqa: BLE001  a stranger's scores may be what no judge has seen
        return [], [f"no verdicts: {type(error).__name__}: {error}".rstrip(": ")]
    general = [s for s in found.summaries if not s.metric]
    chosen = [s for s in general if s.kind == "model"]
    notes = [f"not scored, so nothing is held against it: {name}" for name in found.missing_controls]
    return [f"{s.source}: {s.text}" for s in chosen or general], notes
