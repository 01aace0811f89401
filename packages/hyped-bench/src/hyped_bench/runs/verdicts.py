"""Verdicts on the records of a run, in words for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from hyped_core.errors import HypedError

if TYPE_CHECKING:
    from hyped_bench.judgement.files import Judgement
    from hyped_bench.judgement.verdicts import Summary

_WORDS = ("better", "worse", "indistinguishable", "cannot tell")
_COUNTED = {"nothing": "doing nothing", "best_control": "the best control"}
"""Roles of what a trial's entries are held against, in words."""


def verdict_lines(
    records: Path, task: str, models: Collection[str] | None = None, *, short: bool = False
) -> tuple[list[str], list[str]]:
    """Sentences on the models of a task, each with the source it is about, and notes on what could not be judged.

    Parameters
    ----------
    records
        Folder with ``<task>/<model>/record.json``.
    models
        What this run was about: records of others that lie there too, from other parameters maybe, are left out.
        All where None.
    short
        For a trial's tiny data: what each source is, and on how many metrics each word holds, not on which.
    """
    from hyped_bench.judgement import declared, judge_entries, read_entries

    judged = declared(task)
    if not judged:
        return [], []
    wanted = None if models is None else {name.replace(":", "_"): name for name in models}  # folder: name
    try:
        entries = [e for e in read_entries(records / task) if wanted is None or e.model in wanted]
        for entry in entries:
            entry.model = entry.model if wanted is None else wanted[entry.model]
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
        if not short:
            lines.append(f"{summary.source}: {summary.text}")
        else:
            if (head := _headed(task, summary.source)) not in lines:
                lines.append(head)
            lines += _counted(found, summary)
        for why, keys in _reasons(found, summary, counted=short).items():
            lines.append(f"  cannot tell {', '.join(keys)}: {_plain(why) if short else why}")
    return lines, notes


def _headed(task: str, source: str) -> str:
    """A source of a trial and what it is."""
    from hyped_bench.smoke import SOURCES

    what = SOURCES.get((task, source), "")
    return f"{source}: {what}" if what else f"{source}:"


def _counted(found: Judgement, summary: Summary) -> list[str]:
    """On how many metrics each word holds of an entry on a source, against doing nothing and the best control.

    What does nothing by one metric is held against what does by another, by its name.
    """
    from hyped_bench.judgement.verdicts import returning

    if (summary.source, summary.model) in returning(found.comparisons):
        return [f"  {summary.text}"]
    lines = []
    idle = {row.against for row in found.comparisons if row.role == "nothing"}
    for role, against in _COUNTED.items():
        words: dict[str, str] = {}
        others: dict[str, None] = {}
        for one in found.verdicts:
            if (one.source, one.model, one.role) == (summary.source, summary.model, role):
                words.setdefault(one.metric, one.word)
                others[one.against] = None
        held = Counter(words.values())
        told = [f"{word} on {held[word]}" for word in _WORDS if held[word]]
        if told:
            named = " and ".join(others) if role == "nothing" and summary.model in idle else against
            of = f"{len(words)} metric{'' if len(words) == 1 else 's'}"
            lines.append(f"  {summary.model} against {named}, of {of}: {', '.join(told)}")
    return lines


def _plain(why: str) -> str:
    """A reason without the words of who keeps records."""
    count, few, _ = why.partition(", and no redrawn cells in the records")
    return f"{count}, too few for an interval" if few else why


def _reasons(found: Judgement, summary: Summary, *, counted: bool) -> dict[str, list[str]]:
    """Why nothing can be told of an entry on a source: reason -> metrics; of what `_counted` speaks of, or of all."""
    words = {(v.source, v.metric, v.model, v.against): v.word for v in found.verdicts}
    unable = {(c.source, c.metric): c.reason for c in found.calibration if not c.can_tell}
    reasons: dict[str, list[str]] = {}
    for row in found.comparisons:
        if (row.source, row.model) != (summary.source, summary.model) or (counted and row.role not in _COUNTED):
            continue
        if words.get((row.source, row.metric, row.model, row.against)) != "cannot tell":
            continue
        why = unable.get((row.source, row.metric)) or row.reason or "there is no interval"
        if row.metric not in (keys := reasons.setdefault(why, [])):
            keys.append(row.metric)
    return reasons
