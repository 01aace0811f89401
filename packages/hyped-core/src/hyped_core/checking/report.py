"""Records as text for people and as JSON: what failed with place, reason and mend, what was left out, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from textwrap import indent
from typing import Any

from hyped_core.checking.records import CheckRecord

_ORDER = ("failed", "stale", "expected", "skipped", "passed")
_TITLES = {
    "failed": "failed",
    "stale": "no longer fails, as was expected",
    "expected": "fails, as expected",
    "skipped": "not checked",
}


def as_json(what: str, records: Sequence[CheckRecord], seconds: float) -> dict[str, Any]:
    """One object: what was checked, whether all is well, counts, and every record."""
    return {
        "checked": what,
        "ok": not any(record.bad for record in records),
        "counts": dict(sorted(Counter(record.status for record in records).items())),
        "seconds": round(seconds, 1),
        "records": [record.as_dict() for record in records],
    }


def as_text(what: str, records: Sequence[CheckRecord], seconds: float, *, verbose: bool = False) -> str:
    """Lines for a terminal; of checks that passed only what is said of them is listed, all where ``verbose``."""
    count = len({record.model for record in records if "/" in record.model})
    lines = [f"{what}: {_count(count, 'model')}, {_count(len(records), 'check')}, {seconds:.0f} s"]
    for status in _ORDER:
        chosen = [record for record in records if record.status == status]
        if status == "passed" and not verbose:
            chosen = [record for record in chosen if record.reason]
        if not chosen:
            continue
        lines += ["", f"{_TITLES.get(status, status)}:"]
        lines += _skips(chosen) if status == "skipped" else [line for record in chosen for line in _lines(record)]
    counts = Counter(record.status for record in records)
    lines += ["", ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status]) or "nothing to check"]
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _lines(record: CheckRecord) -> Iterable[str]:
    head = f"  {record.model}  {record.check}"
    if record.status == "passed":
        yield head
        if record.reason:
            yield indent(record.reason, " " * 6)
        return
    yield f"{head}  {record.where}" if record.where else head
    yield indent(record.reason, " " * 6)
    if record.mend:
        yield indent(f"to mend: {record.mend}", " " * 6)


def _skips(records: Sequence[CheckRecord]) -> Iterable[str]:
    """One line a reason: many checks are left out for the same one."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for record in records:
        grouped.setdefault((record.model, record.reason), []).append(record.check)
    for (model, reason), checks in grouped.items():
        yield f"  {model}  {', '.join(checks)}: {reason}"
