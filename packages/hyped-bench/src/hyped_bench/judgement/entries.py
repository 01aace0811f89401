"""The scored entries of a task: read from its records, or taken from results in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.errors import CorruptFileError, MissingFileError

if TYPE_CHECKING:
    import pandas as pd

    from hyped_bench.runner import Result


@dataclass(slots=True)
class Entry:
    """One scored model, control or reference of a task.

    Attributes
    ----------
    kind : ``model``, ``control``, ``reference``.
    units : one row a unit, with ``source`` and the metrics; None where it failed.
    draws : the same with a column ``draw``, cells redrawn; None where there are none.
    strata : the same with a column ``phase``; None where there are none.
    confounded : source -> whether condition and pool are the same there.
    primary : source -> whether it counts as primary.
    """

    model: str
    kind: str
    status: str = "ok"
    reason: str = ""
    units: pd.DataFrame | None = None
    draws: pd.DataFrame | None = None
    strata: pd.DataFrame | None = None
    confounded: dict[str, bool] = field(default_factory=dict)
    primary: dict[str, bool] = field(default_factory=dict)


def plural(word: str) -> str:
    """The plural of a unit's word.

    >>> plural("held-out perturbation"), plural("field of view")
    ('held-out perturbations', 'fields of view')
    """
    head, of, rest = word.partition(" of ")
    return f"{head}s{of}{rest}"


def read_entries(folder: str | Path) -> list[Entry]:
    """The entries below a task's folder of records, by name.

    Raises
    ------
    MissingFileError
        There is no record there.
    CorruptFileError, InvalidDataError
        A record or a table that cannot be read.
    """
    from hyped_bench.records import RECORD, read_record

    root = Path(folder)
    found = [path.parent for path in sorted(root.glob(f"*/{RECORD}"))] if root.is_dir() else []
    if not found:
        raise MissingFileError("holds no records", where=root, mend="score models first: hyped bench run")
    return [_entry(path, read_record(path)) for path in found]


def entries_of(results: Iterable[Result], params: Mapping[str, Any]) -> list[Entry]:
    """The entries of results in memory; ``params`` is the task's section of parameters (`Job.section`)."""
    found = []
    for result in results:
        entry = Entry(result.model, result.kind, result.status, result.reason, primary=primary_sources(params))
        entry.confounded = {str(k): bool(v) for k, v in (result.facts.get("confounded") or {}).items()}
        if result.status == "ok" and result.scores is not None:
            entry.units = _as_written(result.scores.tables.get("units"))
            entry.strata = _as_written(result.scores.tables.get("strata"))
            entry.draws = result.scores.details.get("draws")
        found.append(entry)
    return found


def _as_written(table: pd.DataFrame | None) -> pd.DataFrame | None:
    """A table with the digits that its file keeps, so that both are judged alike."""
    from hyped_bench.metrics.undefined import rounded

    if table is None:
        return None
    plain = table.copy()
    for name in plain.select_dtypes("floating").columns:
        plain[name] = [float("nan") if (v := rounded(value)) is None else v for value in plain[name]]
    return plain


def _entry(folder: Path, record: Mapping[str, Any]) -> Entry:
    status = str(record.get("status", "ok"))
    entry = Entry(folder.name, str(record.get("kind", "model")), status, str(record.get("reason", "")))
    facts = record.get("facts") or {}
    entry.confounded = {str(k): bool(v) for k, v in (facts.get("confounded") or {}).items()}
    entry.primary = primary_sources(record.get("params") or {})
    if status == "ok":
        entry.units = _table(folder / "units.csv")
        entry.strata = _table(folder / "strata.csv")
        entry.draws = _table(folder / "draws.parquet")
    return entry


def primary_sources(params: Mapping[str, Any]) -> dict[str, bool]:
    """Source -> whether it is primary, from a task's parameters as a record holds them."""
    sources = params.get("sources") or []
    return {str(s["name"]): bool(s.get("primary", True)) for s in sources if isinstance(s, Mapping) and "name" in s}


def _table(path: Path) -> pd.DataFrame | None:
    """A table of a record, None where it has none; names and labels stay text."""
    import pandas as pd

    if not path.is_file():
        return None
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        names = dict.fromkeys(("source", "fold", "perturbation", "phase", "unit", "condition"), str)
        # "NA" may be somebody's name; what is undefined is empty
        return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])
    except (ValueError, OSError) as error:
        raise CorruptFileError(f"cannot be read: {error}", where=path) from error
