"""A judgement as a value, and as files: ``judgement.json`` and a CSV for calibration, comparisons and verdicts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hyped_bench.judgement.calibration import Calibration
from hyped_bench.judgement.comparisons import Compared, Inference
from hyped_bench.judgement.rankings import Ranking
from hyped_bench.judgement.verdicts import Summary, Verdict
from hyped_bench.metrics.undefined import rounded
from hyped_core.errors import CorruptFileError, MissingFileError, UnsupportedDataError

SCHEMA = 1
FILE = "judgement.json"
TABLES = ("calibration", "comparisons", "verdicts", "strata")
"""Parts that are also written as CSV."""


@dataclass(slots=True)
class Judgement:
    """All that is said of a task's entries.

    Attributes
    ----------
    confounded : source -> whether condition and pool cannot be told apart.
    inference : source -> what its intervals speak of.
    rankings : entries by mean score, best first, for each metric and source; ``scores`` beside them.
    planted : where there is an oracle, whether the known order holds (see `rank_as_planted`).
    strata : comparisons within a cell-cycle phase; ``word`` only where significant.
    seeds : spread of the mean score over seeds.
    missing_controls : declared controls and ceilings that were not scored.
    failed : entries that did not run, with the reason.
    """

    task: str
    confounded: dict[str, bool] = field(default_factory=dict)
    inference: dict[str, Inference] = field(default_factory=dict)
    calibration: list[Calibration] = field(default_factory=list)
    comparisons: list[Compared] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    rankings: list[dict[str, Any]] = field(default_factory=list)
    planted: list[Ranking] = field(default_factory=list)
    strata: list[dict[str, Any]] = field(default_factory=list)
    seeds: list[dict[str, Any]] = field(default_factory=list)
    missing_controls: list[str] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form, numbers with 6 digits; the same values give the same bytes."""
        return {"schema": SCHEMA, **_plain(asdict(self))}

    def can_tell(self, source: str, metric: str) -> bool:
        """False where the metric was calibrated and cannot tell."""
        return all(c.can_tell for c in self.calibration if (c.source, c.metric) == (source, metric))


def write_judgement(folder: str | Path, judgement: Judgement) -> None:
    """Write `FILE` and the CSV tables, the folder whole or not at all."""
    from hyped_core.io.atomic import atomic_path, write_json, write_text

    values = judgement.as_dict()
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        write_json(temporary / FILE, values)
        for name in TABLES:
            if values[name] or name != "strata":
                write_text(temporary / f"{name}.csv", as_csv(values[name]))


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with equal keys as CSV; None is empty. No rows give an empty text."""
    if not rows:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def read_judgement(path: str | Path) -> dict[str, Any]:
    """``judgement.json`` (or its folder) as `Judgement.as_dict` gives it.

    Raises
    ------
    MissingFileError, CorruptFileError, UnsupportedDataError
    """
    source = Path(path)
    if source.is_dir():
        source = source / FILE
    if not source.is_file():
        raise MissingFileError("no such judgement", where=source, mend="make it: hyped bench judge --out DIR")
    try:
        value = json.loads(source.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"is not valid JSON: {error}", where=source) from error
    if not isinstance(value, dict) or "schema" not in value:
        raise CorruptFileError("is no judgement", where=source)
    if value["schema"] != SCHEMA:
        raise UnsupportedDataError(
            f"has schema {value['schema']}, this version reads {SCHEMA}", where=source, mend="judge again"
        )
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    return rounded(value)
