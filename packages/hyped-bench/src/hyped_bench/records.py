"""What a run leaves behind: one small JSON of metrics, and a folder that says how each number came about.

``record.json`` holds task, model with distribution and version, full config and parameters, seed, device,
hashes of all data, splits with hashes, warnings, metrics and the environment; beside it lie one CSV a table
of units and one parquet a table of single predictions. No times: equal runs give equal bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hyped_bench.environment import run_environment
from hyped_bench.metrics.undefined import rounded
from hyped_bench.readers import sha256_of
from hyped_bench.runner.jobs import Job, Result
from hyped_bench.tasks.base import Scores
from hyped_core.errors import CorruptFileError, MissingFileError
from hyped_core.io.atomic import atomic_path, write_json

SCHEMA = 1
RECORD = "record.json"


def record_of(job: Job, result: Result) -> dict[str, Any]:
    """The record as JSON-able values."""
    context = job.task.context
    scores = result.scores
    return {
        "schema": SCHEMA,
        "task": result.task,
        "model": result.model,
        "kind": result.kind,
        "distribution": result.distribution,
        "version": result.version,
        "status": result.status,
        "reason": result.reason,
        "trace": result.trace,
        "config": result.config,
        "params": job.section,
        "seed": context.seed if result.seed is None else result.seed,
        "device": context.device,
        "data": {path: sha256_of(path) for path in sorted(set(job.task.inputs())) if Path(path).exists()},
        "facts": result.facts,
        "split_sha256": result.facts.get("split_sha256"),
        "warnings": result.warnings,
        "metrics": result.metrics,
        "tables": {
            **({} if scores is None else {f"{n}.csv": len(t) for n, t in sorted(scores.tables.items())}),
            **({} if scores is None else {f"{n}.parquet": len(t) for n, t in sorted(scores.details.items())}),
        },
        "environment": run_environment(context.threads),
        **({"seeds": list(result.seeds), "spread": result.spread} if result.seeds else {}),
        **({"runner": result.runner} if result.runner else {}),
    }


def write_metrics(path: str | Path, result: Result) -> None:
    """The metrics file: shallow, sorted, floats with 6 digits, null where undefined."""
    write_json(path, result.metrics)


def write_record(
    folder: str | Path, job: Job, result: Result, *, timing: bool = False, root: str | Path | None = None
) -> None:
    """Write the record's folder whole or not at all; ``timing.json`` only on request, because times differ.

    Paths below ``root`` are recorded relative to it.
    """
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        write_json(temporary / RECORD, _plain(record_of(job, result), "" if root is None else f"{root}/"))
        if result.scores is not None:
            for name, table in sorted(result.scores.tables.items()):
                _write_csv(temporary / f"{name}.csv", table)
            for name, table in sorted(result.scores.details.items()):
                table.to_parquet(temporary / f"{name}.parquet", index=False)
        for source, split in (result.facts.get("split") or {}).items():
            write_json(temporary / f"split_{source}.json", split)
        if timing:
            write_json(temporary / "timing.json", {k: round(v, 3) for k, v in result.timing.items()})


def _write_csv(path: Path, table: Any) -> None:
    plain = table.copy()
    for name in plain.select_dtypes("floating").columns:
        plain[name] = [rounded(value) for value in plain[name]]
    plain.to_csv(path, index=False, lineterminator="\n")


def _plain(value: Any, prefix: str = "") -> Any:
    """JSON-able copy: numbers rounded, tuples as lists, NaN as null, ``prefix`` taken off strings."""
    if isinstance(value, dict):
        return {_plain(str(k), prefix): _plain(v, prefix) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, prefix) for v in value]
    if isinstance(value, str):
        return value.replace(prefix, "") if prefix else value
    if value is None or isinstance(value, bool):
        return value
    return rounded(value)


def read_record(path: str | Path) -> dict[str, Any]:
    """A record (its folder or its file), or a bare metrics file as ``{"metrics": ...}``.

    Raises
    ------
    MissingFileError, CorruptFileError
    """
    source = Path(path)
    if source.is_dir():
        source = source / RECORD
    if not source.is_file():
        raise MissingFileError(
            "no such record or metrics file", where=source, mend="run `hyped bench run` first"
        )
    try:
        value = json.loads(source.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"is not valid JSON: {error}", where=source) from error
    if not isinstance(value, dict):
        raise CorruptFileError("holds no mapping", where=source)
    return value if "metrics" in value and isinstance(value["metrics"], dict) else {"metrics": value}


def read_result(path: str | Path) -> Result:
    """The `Result` that a record was written of, its tables included; writing it again gives the same bytes.

    Raises
    ------
    MissingFileError, CorruptFileError
        The record, or a table that it names, is not there or not whole.
    """
    import pandas as pd

    folder = Path(path)
    record = read_record(folder)
    scores = Scores(record["metrics"], warnings=list(record.get("warnings", [])))
    for name in record.get("tables") or {}:
        file = folder / name
        try:
            if name.endswith(".csv"):
                scores.tables[file.stem] = pd.read_csv(file, keep_default_na=False, na_values=[""])
            else:
                scores.details[file.stem] = pd.read_parquet(file)
        except pd.errors.EmptyDataError:
            scores.tables[file.stem] = pd.DataFrame()
        except (OSError, ValueError) as error:
            raise CorruptFileError(f"a table of the record cannot be read: {error}", where=file) from error
    try:
        fields = {k: record[k] for k in ("task", "model", "kind", "distribution", "version", "status", "reason")}
        made = Result(**fields, metrics=record["metrics"], config=record["config"])
    except KeyError as error:
        raise CorruptFileError(f"lacks {error}", where=folder / RECORD) from error
    made.facts, made.warnings, made.trace = record["facts"], record["warnings"], record["trace"]
    made.scores = scores if made.status == "ok" else None
    made.seed, made.runner = record.get("seed"), record.get("runner", {})
    made.seeds, made.spread = tuple(record.get("seeds", ())), record.get("spread", {})
    made.exit_code = {"ok": 0, "failed": 4, "unavailable": 5}[made.status]
    return made


def records_below(path: str | Path) -> dict[str, dict[str, Any]]:
    """All records, else all metrics files, under a folder by relative path; one record for a single one."""
    root = Path(path)
    if root.is_file() or (root / RECORD).is_file():
        return {"": read_record(root)}
    if not root.is_dir():
        raise MissingFileError(
            "no such folder", where=root, mend="give a record, a metrics file or a folder of them"
        )
    records = sorted(root.rglob(RECORD))
    if records:
        return {p.parent.relative_to(root).as_posix(): read_record(p) for p in records}
    files = sorted(root.rglob("*.json"))
    if not files:
        raise MissingFileError("holds no records and no metrics", where=root)
    return {p.relative_to(root).with_suffix("").as_posix(): read_record(p) for p in files}
