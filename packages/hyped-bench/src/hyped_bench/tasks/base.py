"""What every task has in common: its interface, its scores, and how units add up to one shallow mapping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from hyped_bench.metrics.undefined import FEW, LEAST, bootstrap_interval, mean_defined, rounded
from hyped_core.context import RunContext
from hyped_core.params import Params

if TYPE_CHECKING:
    import pandas as pd

ModelFactory = Callable[..., Any]
"""Gives a fresh instance of the model each time it is called; a mapping of models to parameters, where one is given,
is laid over the model's own (a source's ``configs``)."""


class TaskParams(Params):
    """Base of a task's parameters."""

    bootstrap: int = Field(1000, ge=10)
    """Draws for intervals."""


@dataclass(slots=True)
class Scores:
    """What a task says about a model.

    Attributes
    ----------
    metrics : key -> value; the same keys for every model of the task on the same data.
    tables : name -> table of units (written as CSV).
    details : name -> long table that lets one prediction be traced (written as parquet).
    warnings : what a reader of the numbers has to know.
    """

    metrics: dict[str, float | int | None]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    details: dict[str, pd.DataFrame] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Judged:
    """A metric that verdicts are given on, and what it is held against.

    Attributes
    ----------
    metric : column of the table of units.
    nothing : the control that does nothing; "" where the task has none.
    simple : simple models that a verdict names beside it.
    ceiling : the reference that stands for what can be measured at best; "" where there is none.
    unit : columns that identify a unit, beside ``source``; paired over models.
    unit_word : what a unit is called.
    """

    metric: str
    better: Literal["higher", "lower"]
    nothing: str = ""
    simple: tuple[str, ...] = ()
    ceiling: str = ""
    unit: tuple[str, ...] = ()
    unit_word: str = "unit"


class Task:
    """A benchmark task. Subclass it, or offer the same methods, and announce it by a `TaskSpec`.

    `load` reads what models may see, `run` lets one work, `score` reads the truth and compares. A model never
    gets an object through which the truth can be reached.
    """

    name: ClassVar[str]
    Params: ClassVar[type[TaskParams]] = TaskParams
    needs_model: ClassVar[bool] = True
    """False for tasks that score what the pipeline itself wrote."""
    reference_names: ClassVar[tuple[str, ...]] = ()
    """References the task knows; `references` are those that its sources allow. No model may have such a name."""
    judged: ClassVar[tuple[Judged, ...]] = ()
    """What verdicts are given on; none for tasks that compare no models."""

    def __init__(self, params: Any, context: RunContext) -> None:
        self.params = params
        self.context = context
        self.warnings: list[str] = []

    def inputs(self) -> list[str]:
        """Paths of all data this task reads; their hashes go into the record."""
        return []

    def facts(self) -> dict[str, Any]:
        """More for the record: hashes of splits, data ranges, units of inference."""
        return {}

    def load(self) -> None:
        """Read the data that models may see."""

    def run(self, make_model: ModelFactory) -> Any:
        """Let the model work and return its checked predictions."""
        raise TypeError(f"task {self.name} does not run models")

    def score(self, predictions: Any) -> Scores:
        """Compare predictions with the truth."""
        raise TypeError(f"task {self.name} has no scores")

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the references, which see the truth, that can be scored on these sources."""
        return ()

    def reference(self, name: str) -> Scores:
        """Scores of a reference."""
        raise TypeError(f"task {self.name} has no references")

    def metric_keys(self) -> list[str]:
        """All keys of the task's metrics file: what a failed model gets nulls for."""
        return []


def summary_keys(keys: Sequence[str], sources: Sequence[str], intervals: Iterable[str] = ()) -> list[str]:
    """``key``, ``key_<source>`` and ``key_lo``, ``key_hi`` in the order they are written."""
    named = [f"{key}{suffix}" for key in keys for suffix in ("", *(f"_{s}" for s in sources))]
    return named + [f"{key}{end}" for key in intervals for end in ("_lo", "_hi")]


def summarise(
    units: pd.DataFrame,
    keys: Sequence[str],
    sources: Sequence[str],
    primary: Sequence[str],
    *,
    intervals: Iterable[str] = (),
    rng: np.random.Generator | None = None,
    draws: int = 1000,
) -> tuple[dict[str, float | int | None], list[str]]:
    """Means over units: plain over the primary sources, ``<key>_<source>`` for each source.

    Parameters
    ----------
    units
        One row a unit, with a column ``source`` and one for each key.
    intervals
        Keys that get ``_lo`` and ``_hi`` by bootstrap over the primary units. Where units have a column
        ``perturbation``, over perturbations, several rows of one averaged, and from 8 of them on.

    Returns
    -------
    The metrics, and a warning for each key that is undefined in some but not all units of the primary
    sources (its mean is then undefined too: leaving units out would reward failing on them).
    """
    chosen = units[units["source"].isin(primary)]
    metrics: dict[str, float | int | None] = {}
    warnings: list[str] = []
    for key in keys:
        metrics[key] = mean_defined(chosen[key])
        missing = int(chosen[key].isna().sum())
        if 0 < missing < len(chosen):
            warnings.append(
                f"{key} is undefined in {missing} of {len(chosen)} units, so its mean is undefined"
            )
        for source in sources:
            metrics[f"{key}_{source}"] = mean_defined(units.loc[units["source"] == source, key])
    rng = rng if rng is not None else np.random.default_rng(0)
    perturbed = "perturbation" in chosen
    for key in intervals:
        values = chosen[key]
        if perturbed:
            values = chosen.groupby(["source", "perturbation"], sort=False)[key].agg(lambda v: v.mean(skipna=False))
        low, high = bootstrap_interval(values, rng, draws=draws, least=FEW if perturbed else LEAST)
        metrics[f"{key}_lo"], metrics[f"{key}_hi"] = low, high
    return metrics, warnings


def clean_metrics(metrics: Mapping[str, float | int | None]) -> dict[str, float | int | None]:
    """All values with 6 digits, undefined ones as None, keys sorted."""
    return {key: rounded(metrics[key]) for key in sorted(metrics)}


def check_sources(names: Sequence[str]) -> None:
    """Refuse sources without or with equal names: they become parts of metric keys."""
    from collections import Counter

    from hyped_core.errors import ParamsError

    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ParamsError(f"sources with the same name: {', '.join(twice)}", mend="name each source once")
    if not names:
        raise ParamsError("there are no sources", mend="list at least one under `sources`")
