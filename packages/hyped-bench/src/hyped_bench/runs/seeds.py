"""One model under several seeds: means and spread, tables of units one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_bench.metrics.undefined import rounded
from hyped_bench.runner.jobs import Job, Result
from hyped_bench.tasks.base import Scores
from hyped_core.plugins.host import PluginHost
from hyped_core.plugins.registry import models

if TYPE_CHECKING:
    import pandas as pd


def differs_by_seed(job: Job, name: str, host: PluginHost | None = None) -> bool:
    """False for controls, references, the pipeline, and models whose result no seed changes (`ModelSpec.seeded`)."""
    bare = name.rpartition(":")[2]
    specs = [i.spec for i in models(host).items() if i.spec.task == job.name and i.spec.name == bare]
    if not specs:  # a reference, the pipeline, or a model that only its own process knows
        return name in job.runners
    return any(spec.seeded and spec.role != "control" for spec in specs)


def merge_seeds(results: Sequence[Result]) -> Result:
    """One result of a model's runs under several seeds, in that order.

    Metrics (ends of intervals too) are means over seeds and undefined where one of them is; `Result.spread` is their
    standard deviation (n - 1). Tables get a column ``seed``. A model that failed under one seed has failed: the
    mean over the seeds that it survived would be a better score than it has.
    """
    first = results[0]
    seeds = tuple(int(r.seed) for r in results if r.seed is not None)
    merged = Result(
        first.task, first.model, first.kind, first.distribution, first.version, "ok", "", {}, first.config
    )
    merged.facts, merged.runner, merged.seed, merged.seeds = first.facts, first.runner, first.seed, seeds
    merged.timing = {
        key: sum(values) if key.endswith("_s") else max(values)
        for key in first.timing
        if (values := [r.timing[key] for r in results if key in r.timing])
    }
    if (bad := next((r for r in results if r.status != "ok"), None)) is not None:
        merged.status, merged.exit_code, merged.trace = bad.status, bad.exit_code, bad.trace
        merged.reason = f"with seed {bad.seed}: {bad.reason}"
        merged.metrics = dict.fromkeys(bad.metrics)
        return merged
    for key in first.metrics:
        values = [r.metrics.get(key) for r in results]
        merged.metrics[key], merged.spread[key] = _mean_and_spread(values)
    said = [(r.seed, warning) for r in results for warning in r.warnings]
    shared = [w for w in first.warnings if all(w in r.warnings for r in results)]
    merged.warnings = shared + [f"seed {seed}: {warning}" for seed, warning in said if warning not in shared]
    scores = [r.scores for r in results if r.scores is not None]
    merged.scores = Scores(merged.metrics, warnings=merged.warnings)
    for name in scores[0].tables:
        merged.scores.tables[name] = _below_one_another([s.tables[name] for s in scores], seeds)
    for name in scores[0].details:
        merged.scores.details[name] = _below_one_another([s.details[name] for s in scores], seeds)
    return merged


def _mean_and_spread(values: Sequence[Any]) -> tuple[float | int | None, float | None]:
    if any(v is None for v in values):
        return None, None
    if len(set(values)) == 1:
        return values[0], 0.0
    array = np.asarray(values, dtype=float)
    mean, spread = rounded(array.mean()), rounded(array.std(ddof=1))
    return mean, None if spread is None else float(spread)


def _below_one_another(tables: Sequence[pd.DataFrame], seeds: Sequence[int]) -> pd.DataFrame:
    import pandas as pd

    marked = []
    for table, seed in zip(tables, seeds, strict=True):
        own = table.copy()
        own.insert(1 if "source" in table.columns[:1] else 0, "seed", seed)
        marked.append(own)
    return pd.concat(marked, ignore_index=True)
