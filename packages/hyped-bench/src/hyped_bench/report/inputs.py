"""What the report is made from: metrics, records and containers of one dataset, read and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_bench.readers import read_table
from hyped_bench.records import RECORD
from hyped_bench.report.verdicts import Judged
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.container import HypedData

JUDGEMENT = "judgement"
"""Folder beside the tasks' records that holds what was judged, a folder a task."""
CARDS = ("card.md", "croissant.json")
AGAIN = "score the model again: hyped bench run --task {task} --model {model}"


@dataclass(slots=True)
class Entry:
    """One model on one task: its metrics, and its record where it was kept.

    Attributes
    ----------
    kind : ``model``, ``control``, ``reference`` or ``pipeline``; ``unknown`` without a record.
    status : ``ok``, ``failed`` or ``unavailable``.
    folder : of the record, None where there is none.
    """

    task: str
    model: str
    kind: str
    status: str
    reason: str
    metrics: dict[str, float | int | None]
    record: dict[str, Any] | None = None
    folder: Path | None = None

    def table(self, name: str = "units") -> pd.DataFrame | None:
        """A CSV table of the record, None where it holds none of this name."""
        if self.folder is None or not (self.folder / f"{name}.csv").is_file():
            return None
        return read_table(self.folder / f"{name}.csv")

    @property
    def sources(self) -> list[dict[str, Any]]:
        """The task's sources as the record has them."""
        params = (self.record or {}).get("params") or {}
        return list(params.get("sources") or [])


@dataclass
class Container:
    """One container of the dataset; ``name`` is its path below the containers' folder without suffix."""

    name: str
    path: Path

    @cached_property
    def data(self) -> HypedData:
        """The container, opened when it is asked for."""
        from hyped_core.container import HypedData

        return HypedData.read(self.path)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`HypedData.summary`."""
        return self.data.summary()

    def has(self, table: str) -> bool:
        """True where the container has this table."""
        return table in self.data.table_names


@dataclass
class ReportInputs:
    """Everything a report reads.

    Attributes
    ----------
    judgements : task -> what `hyped bench judge` wrote; tasks that were not judged are left out.
    cards : data card (``card.md``) and Croissant metadata (``croissant.json``) of the dataset, where they are there.
    """

    dataset: str
    settings: dict[str, Any]
    results: dict[str, list[Entry]]
    containers: list[Container] = field(default_factory=list)
    judgements: dict[str, Judged] = field(default_factory=dict)
    cards: list[Path] = field(default_factory=list)

    @property
    def entries(self) -> list[Entry]:
        """All entries, by task and model."""
        return [entry for task in self.results.values() for entry in task]


def read_inputs(
    dataset: str,
    settings: dict[str, Any],
    *,
    metrics: str | Path,
    records: str | Path,
    containers: str | Path,
) -> ReportInputs:
    """Read metrics and records, and list the containers.

    Parameters
    ----------
    settings
        The dataset's section of the parameter file (``bench`` says which tasks there should be).

    Raises
    ------
    MissingFileError
        Nothing is there, or tasks are set but nothing was scored; a record whose metrics are gone.
    CorruptFileError
        A metrics file or record that is no JSON, or not what a run writes.
    """
    results = read_results(Path(metrics), Path(records))
    wanted = settings.get("bench")
    if not isinstance(wanted, dict | None):
        raise InvalidDataError("bench must be a mapping of tasks", where=f"datasets.{dataset}.bench")
    if wanted and not results:
        raise MissingFileError(
            f"holds no metrics, though the parameters list {', '.join(wanted)}",
            where=metrics,
            mend="score the models first: hyped bench run, or make repro",
        )
    found = find_containers(Path(containers))
    if not results and not found:
        raise MissingFileError(
            f"neither metrics nor a container of dataset {dataset!r} are here",
            where=metrics,
            mend="correct --dataset, score models first (hyped bench run), or make repro",
        )
    judgements = read_judgements(Path(records) / JUDGEMENT, set(results))
    beside = Path(containers).parent
    cards = [path for name in CARDS if (path := beside / name).is_file()]
    return ReportInputs(dataset, settings, results, found, judgements, cards)


def read_judgements(folder: Path, scored: set[str]) -> dict[str, Judged]:
    """Task -> judgement, from ``<folder>/<task>/judgement.json``, of the tasks that were scored."""
    found = {}
    for path in sorted(folder.glob("*/judgement.json")):
        mend = f"judge again: hyped bench judge RECORDS --task {path.parent.name} --out {path.parent.as_posix()}"
        values = _read_json(path, mend)
        if values.get("schema") != 1 or not all(isinstance(values.get(k), list) for k in ("calibration", "verdicts")):
            raise CorruptFileError("is no judgement of schema 1", where=path, mend=mend)
        if path.parent.name in scored:
            found[path.parent.name] = Judged(values)
    return found


def find_containers(folder: Path) -> list[Container]:
    """Every ``<name>.hyped`` in the folder or one below it, by path."""
    found = sorted({*folder.glob("*.hyped"), *folder.glob("*/*.hyped")})
    found = [path for path in found if path.is_dir() and path.parent.suffix != ".hyped"]
    return [Container(p.relative_to(folder).with_suffix("").as_posix(), p) for p in found]


def read_results(metrics: Path, records: Path) -> dict[str, list[Entry]]:
    """Task -> entries by model, from ``<metrics>/<task>/<model>.json`` and ``<records>/<task>/<model>/``."""
    files = {(p.parent.name, p.stem): p for p in sorted(metrics.glob("*/*.json"))}
    folders = {(p.parent.parent.name, p.parent.name): p.parent for p in sorted(records.glob(f"*/*/{RECORD}"))}
    bare = sorted(
        p
        for p in records.glob("*/*")
        if p.is_dir() and p.parent.name != JUDGEMENT and (p.parent.name, p.name) not in folders
    )
    if bare:
        raise MissingFileError(
            "the record's folder holds no record.json",
            where=bare[0] / RECORD,
            mend=AGAIN.format(task=bare[0].parent.name, model=bare[0].name),
        )
    results: dict[str, list[Entry]] = {}
    for task, model in sorted({*files, *folders}):
        mend = AGAIN.format(task=task, model=model)
        path = files.get((task, model))
        if path is None:
            raise MissingFileError(
                "there is a record, but no metrics", where=metrics / task / f"{model}.json", mend=mend
            )
        folder = folders.get((task, model))
        entry = _entry(task, model, _read_metrics(path, mend), folder, mend)
        results.setdefault(task, []).append(entry)
    return results


def _entry(
    task: str, model: str, metrics: dict[str, float | int | None], folder: Path | None, mend: str
) -> Entry:
    if folder is None:
        status = "ok" if any(value is not None for value in metrics.values()) else "failed"
        reason = "" if status == "ok" else "all metrics are undefined and no record says why"
        return Entry(task, model, "unknown", status, reason, metrics)
    record = _read_json(folder / RECORD, mend)
    lacking = [key for key in ("task", "model", "kind", "status", "environment") if key not in record]
    if lacking:
        raise CorruptFileError(
            f"is no record of a run: it lacks {', '.join(lacking)}", where=folder / RECORD, mend=mend
        )
    if (record.get("metrics") or {}) != metrics:
        raise InvalidDataError(
            "the record's metrics are not those of the metrics file", where=folder / RECORD, mend=mend
        )
    return Entry(
        task, model, record["kind"], record["status"], record.get("reason") or "", metrics, record, folder
    )


def _read_metrics(path: Path, mend: str) -> dict[str, float | int | None]:
    values = _read_json(path, mend)
    wrong = [key for key, v in values.items() if not (v is None or isinstance(v, int | float))]
    if wrong:
        raise CorruptFileError(f"holds no numbers under {', '.join(wrong[:3])}", where=path, mend=mend)
    return values


def _read_json(path: Path, mend: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"is not valid JSON: {error}", where=path, mend=mend) from error
    if not isinstance(value, dict):
        raise CorruptFileError("holds no mapping", where=path, mend=mend)
    return value
