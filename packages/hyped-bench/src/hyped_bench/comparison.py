"""Two runs side by side: which numbers differ past tolerance, and what differs in how they were made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyped_bench.records import records_below
from hyped_bench.tolerances import Tolerances

_MADE = ("environment", "runner", "data", "config", "params", "seed", "seeds", "device", "version", "status")
"""Parts of a record that say how it was made."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric that differs: by how much, and whether that is past the tolerance."""

    record: str
    metric: str
    first: float | None
    second: float | None
    allowed: float

    @property
    def size(self) -> float:
        """|first - second|; infinite where one of them is undefined."""
        return float("inf") if self.first is None or self.second is None else abs(self.first - self.second)

    @property
    def past(self) -> bool:
        """True where the runs disagree."""
        return self.size > self.allowed


@dataclass(slots=True)
class Comparison:
    """What two runs have in common and what not."""

    n_metrics: int = 0
    """Metrics of both, of models that did not fail in both."""
    differences: list[Difference] = field(default_factory=list)
    only_first: list[str] = field(default_factory=list)
    only_second: list[str] = field(default_factory=list)
    environment: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    """Records of models that failed in both runs: they agree on nothing and are in no count."""

    @property
    def past(self) -> list[Difference]:
        """Differences beyond tolerance."""
        return [d for d in self.differences if d.past]

    @property
    def agrees(self) -> bool:
        """True where every metric of one is in the other and within tolerance, and there is one."""
        return self.n_metrics > 0 and not self.past and not self.only_first and not self.only_second

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "agrees": self.agrees,
            "n_metrics": self.n_metrics,
            "differences": [
                {
                    "record": d.record,
                    "metric": d.metric,
                    "a": d.first,
                    "b": d.second,
                    "allowed": d.allowed,
                    "past": d.past,
                }
                for d in self.differences
            ],
            "failed": self.failed,
            "only_a": self.only_first,
            "only_b": self.only_second,
            "environment": {k: list(v) for k, v in self.environment.items()},
        }


def compare_runs(
    first: str | Path,
    second: str | Path,
    *,
    absolute: float | None = None,
    relative: float | None = None,
    tolerances: Tolerances | None = None,
) -> Comparison:
    """Compare records, metrics files or folders of them by relative path.

    Values agree where |a - b| <= absolute + relative * max(|a|, |b|), or both are undefined. The tolerances are
    ``tolerances``' or, without it, ``absolute`` and ``relative`` for all metrics, where given, else what each metric
    declares. Numbers in metrics files have 6 digits, so a tolerance below 1e-6 asks for more than they hold. Models
    that failed in both runs are listed and not compared: that nothing is equal to nothing says nothing.
    """
    allowed = tolerances or Tolerances(absolute=absolute, relative=relative)
    left, right = records_below(first), records_below(second)
    result = Comparison(only_first=sorted(set(left) - set(right)), only_second=sorted(set(right) - set(left)))
    for name in sorted(set(left) & set(right)):
        a, b = left[name], right[name]
        for place, pair in _different({k: a.get(k) for k in _MADE}, {k: b.get(k) for k in _MADE}):
            result.environment.setdefault(place, pair)
        if _failed(a) and _failed(b):
            result.failed.append(name)
            continue
        task = a.get("task") or Path(first, name).absolute().parent.name  # of a metrics file: mini/track/lap.json
        _compare(name, task, a, b, allowed, result)
    return result


def _failed(record: dict[str, Any]) -> bool:
    """Whether the model has no numbers: by its record's status, or by a metrics file of nulls alone."""
    if "status" in record:
        return bool(record["status"] != "ok")
    return bool(record["metrics"]) and all(value is None for value in record["metrics"].values())


def _compare(
    name: str, task: str, first: dict[str, Any], second: dict[str, Any], allowed: Tolerances, result: Comparison
) -> None:
    a, b = first["metrics"], second["metrics"]
    joined = f"{name}:" if name else ""
    result.only_first += [joined + key for key in sorted(set(a) - set(b))]
    result.only_second += [joined + key for key in sorted(set(b) - set(a))]
    for key in sorted(set(a) & set(b)):
        x, y = a[key], b[key]
        absolute, relative = allowed.of(task, key)
        result.n_metrics += 1
        if x == y:
            continue
        size = max(abs(x or 0.0), abs(y or 0.0))
        result.differences.append(Difference(name, key, x, y, absolute + relative * size))


def _different(a: Any, b: Any, place: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Places at which two nested mappings differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(set(a) | set(b)):
            yield from _different(a.get(key), b.get(key), f"{place}/{key}" if place else str(key))
    elif a != b:
        yield place, (a, b)
