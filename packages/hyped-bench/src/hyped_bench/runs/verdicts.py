"""Verdicts on the records of a run, in words for a terminal."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from hyped_core.errors import HypedError

if TYPE_CHECKING:
    from hyped_bench.judgement.files import Judgement
    from hyped_bench.judgement.verdicts import Summary


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
    lines = []
    for summary in chosen or general:
        lines.append(f"{summary.source}: {summary.text}")
        lines += [f"  cannot tell {', '.join(keys)}: {why}" for why, keys in _reasons(found, summary).items()]
    return lines, notes


def _reasons(found: Judgement, summary: Summary) -> dict[str, list[str]]:
    """Why nothing can be told of an entry on a source: reason -> metrics."""
    words = {(v.source, v.metric, v.model, v.against): v.word for v in found.verdicts}
    unable = {(c.source, c.metric): c.reason for c in found.calibration if not c.can_tell}
    reasons: dict[str, list[str]] = {}
    for row in found.comparisons:
        if (row.source, row.model) != (summary.source, summary.model):
            continue
        if words.get((row.source, row.metric, row.model, row.against)) != "cannot tell":
            continue
        why = unable.get((row.source, row.metric)) or row.reason or "there is no interval"
        if row.metric not in (keys := reasons.setdefault(why, [])):
            keys.append(row.metric)
    return reasons
