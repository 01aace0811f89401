"""Runs of many models under many seeds, each written when it is done and not run again while nothing changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyped_bench.records import RECORD, read_result, write_metrics, write_record
from hyped_bench.runner.jobs import Job, Result
from hyped_bench.runner.work import run_model
from hyped_bench.runs.keys import Hashes, changed_parts, key_parts
from hyped_bench.runs.seeds import differs_by_seed, merge_seeds
from hyped_bench.runs.strangers import find_provided, not_found, unusable
from hyped_bench.splits import LeakError
from hyped_core.errors import HypedError, InvalidDataError, MissingFileError, ParamsError
from hyped_core.io.atomic import remove, write_json
from hyped_core.plugins.host import PluginHost
from hyped_core.plugins.streams import listening, printed_note


@dataclass(frozen=True, slots=True)
class Done:
    """A model's result, where its record is, and whether it was there already."""

    result: Result
    record: Path
    reused: bool


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run's files are: ``metrics/``, ``records/``, ``timing/`` for a reader, ``keys/`` and ``seeds/`` for it.

    ``seeds/`` holds a record for each seed of a model that was run with several.
    """

    root: Path

    def of(self, kind: str, task: str, model: str, *more: str) -> Path:
        """A file or folder of a model."""
        return self.root.joinpath(kind, task, model.replace(":", "_"), *more)


def run_many(
    job: Job,
    names: Sequence[str],
    out: Path,
    *,
    seeds: Sequence[int] = (0,),
    host: PluginHost | None = None,
    timing: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Done]:
    """Run models on a job one after another, and give each when its record is written.

    A finished record in ``out`` whose key (`key_parts`) is equal is read instead; failed runs are tried again. The
    job's data are read when the first model needs them. A model that differs between seeds is run with each and gets
    one record of all (`merge_seeds`).

    Raises
    ------
    HypedError
        What is wrong with the data, the parameters or the task; models that fail are results.
    """
    places, hashes = Places(out), Hashes()
    for name in names:
        own = list(seeds) if differs_by_seed(job, name, host) else list(seeds)[:1]
        parts = [
            _one(job, name, seed, len(own) > 1, places, hashes, host=host, timing=timing, say=say) for seed in own
        ]
        if len(parts) == 1:
            yield parts[0]
            continue
        merged = merge_seeds([part.result for part in parts])
        record = places.of("records", job.name, name)
        write_record(record, job, merged)
        write_metrics(places.of("metrics", job.name, f"{name}.json"), merged)
        yield Done(merged, record, all(part.reused for part in parts))


def _one(
    job: Job,
    name: str,
    seed: int,
    several: bool,
    places: Places,
    hashes: Hashes,
    *,
    host: PluginHost | None,
    timing: bool,
    say: Callable[[str], None],
) -> Done:
    """One model with one seed."""
    kind, more = ("seeds", (str(seed),)) if several else ("records", ())
    record = places.of(kind, job.name, name, *more)
    key = places.of("keys", job.name, f"{name}-{seed}.json" if several else f"{name}.json")
    try:
        parts = key_parts(job, name, seed, hashes, host)
    except ParamsError as error:
        if not _is_strangers_fault(job, name, error, host):
            raise
        parts = None  # it fails below, and is recorded so
    called = f"{job.name}: {name}" + (f", seed {seed}" if several else "")
    found, why = _finished(record, key, parts)
    if found is not None:
        say(f"{called}: as it was run before")
        if not several:
            write_metrics(places.of("metrics", job.name, f"{name}.json"), found)
        return Done(found, record, True)
    say(f"{called}{why}")
    job.load()
    remove(key)  # until the new record stands, there is nothing to take up
    with listening() as heard:
        result = _run(job, name, seed, host)
    if note := printed_note(f"{job.name}/{name}", heard.lines):
        say(note)
    write_record(record, job, result, timing=timing)
    if not several:
        write_metrics(places.of("metrics", job.name, f"{name}.json"), result)
    spent = {k: round(v, 3) for k, v in result.timing.items()}
    write_json(places.of("timing", job.name, f"{name}-{seed}.json" if several else f"{name}.json"), spent)
    if parts is not None and result.status == "ok":
        write_json(key, parts)
    say(f"{called}: {result.status}, {_cost(result)}")
    return Done(result, record, False)


def _run(job: Job, name: str, seed: int, host: PluginHost | None) -> Result:
    """The model's result; a reference that these data do not allow is unavailable, which harms no other.

    Nor does a name that two plugins claim, or a stranger's model that refuses what nobody gave it, or gives what no
    task can score.
    """
    if (missing := not_found(job, name, seed, host)) is not None:
        return missing
    try:
        return run_model(job, name, host=host, seed=None if seed == job.task.context.seed else seed)
    except LeakError:
        raise
    except InvalidDataError as error:
        if name in job.references():
            made = unusable(job, name, str(error), seed, "unavailable")
            made.kind, made.distribution, made.exit_code = "reference", "hyped-bench", 5
            return made
        if not _is_strangers_fault(job, name, error, host):
            raise
        return unusable(job, name, str(error), seed, host=host)
    except Exception as error:
        if not _is_strangers_fault(job, name, error, host):
            raise
        said = f"what it gave cannot be scored: {type(error).__name__}: {error}"
        return unusable(job, name, said, seed, host=host)


def _is_strangers_fault(job: Job, name: str, error: Exception, host: PluginHost | None) -> bool:
    """Whether an error that would end the run is a stranger's model's: HYPED's own and what the user said are not."""
    provided = None if not job.task.needs_model else find_provided(job.name, name, host)
    if provided is None or provided.plugin.own:
        return False
    given = job.configs.get(name)
    return not (isinstance(error, ParamsError) and given and given != dict(provided.spec.quick))


def _finished(record: Path, key: Path, parts: dict[str, Any] | None) -> tuple[Result | None, str]:
    """The finished result with an equal key, or None and why it has to be run again."""
    if not (record / RECORD).is_file():
        return None, ""
    try:
        old = json.loads(key.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, ", again: it was not finished"
    if differing := changed_parts(old, json.loads(json.dumps(parts))):
        return None, f", again: other {', '.join(differing)}"
    try:
        return read_result(record), ""
    except (HypedError, MissingFileError):
        return None, ", again: its record is damaged"


def _cost(result: Result) -> str:
    said = [f"{result.timing['wall_s']:.1f} s"] if "wall_s" in result.timing else []
    if "peak_memory_mb" in result.timing:
        more = result.timing.get("added_memory_mb")
        added = "" if more is None else f" ({more:.0f} MB more than before)"
        said.append(f"{result.timing['peak_memory_mb']:.0f} MB at most{added}")
    if "peak_gpu_memory_mb" in result.timing:
        said.append(f"{result.timing['peak_gpu_memory_mb']:.0f} MB of the GPU's")
    return ", ".join(said) or "not run"
