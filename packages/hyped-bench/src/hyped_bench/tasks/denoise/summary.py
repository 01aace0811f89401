"""From planes to the metrics file: means over planes, channels and fields of view, with intervals over the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hyped_bench.metrics.undefined import bootstrap_interval, mean_defined

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LEAST_UNITS = 3
"""Fewer fields of view give no interval."""
FEW_UNITS = 6
"""Fewer fields of view than this and the interval is said to rest on few."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a score was taken: what is known of it before any model ran."""

    source: str
    unit: str
    channel: str
    condition: str | None
    light: str | None
    primary: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Scores that are averaged together: ``suffix`` is what their keys end with, ``units`` the fields of view in it."""

    suffix: str
    column: str
    level: str | None
    units: int

    @property
    def primary_only(self) -> bool:
        """False where ``level`` alone says what belongs to it."""
        return self.column not in ("source", "light")

    def rows(self, table: pd.DataFrame, primary: Sequence[str]) -> pd.DataFrame:
        """Rows of ``table`` that belong to the group."""
        part = table[table["source"].isin(list(primary))] if self.primary_only else table
        return part[part[self.column] == self.level] if self.column else part


def groups(places: Sequence[Place]) -> list[Group]:
    """All primary places, and each source, share of light, channel and condition.

    A light, channel or condition that is the only one says nothing of its own and has no group.
    """

    def units(chosen: list[Place]) -> int:
        return len({p.unit for p in chosen})

    chosen = [p for p in places if p.primary]
    found = [Group("", "", None, units(chosen))]
    for column in ("source", "light", "channel", "condition"):
        among = list(places) if column in ("source", "light") else chosen
        levels = list(dict.fromkeys(getattr(p, column) for p in among))
        if column != "source" and len(levels) < 2:
            continue
        for level in (name for name in levels if name is not None):
            suffix = f"_{level}" if column == "source" else f"_{column}_{level}"
            found.append(Group(suffix, column, level, units([p for p in among if getattr(p, column) == level])))
    return found


def group_keys(keys: Sequence[str], headline: Sequence[str], found: Sequence[Group]) -> Iterator[str]:
    """Names of all means in the metrics file: ``headline`` keys for every group, the others over all primary places,
    each with its interval where there are fields of view enough for one."""
    for key in keys:
        for group in found if key in headline else found[:1]:
            yield f"{key}{group.suffix}"
            if _has_interval(group):
                yield from (f"{key}{group.suffix}_lo", f"{key}{group.suffix}_hi")


def _has_interval(group: Group) -> bool:
    return group.column != "source" and (group.units >= LEAST_UNITS or not group.suffix)


def field_means(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Rows of planes -> one row a field (a field of view in one channel); undefined where a plane is."""
    where = ["source", "unit", "field", "channel", "condition"]
    values = rows.assign(**{key: rows[key].astype(float) for key in keys})
    means = values.groupby(where, sort=False, dropna=False)[list(keys)].agg(lambda v: v.mean(skipna=False))
    return means.reset_index()


def summarise_fields(
    fields: pd.DataFrame,
    keys: Sequence[str],
    found: Sequence[Group],
    primary: Sequence[str],
    rng: Callable[..., np.random.Generator],
    draws: int,
) -> tuple[dict[str, float | None], list[dict[str, Any]], list[str]]:
    """Means of every group over its fields of view, with intervals by bootstrap over them.

    A field of view counts once, however many channels and frames of it were scored: these are no independent samples.
    Every key of a group is drawn with the same stream, so models are compared on the same draws.

    Parameters
    ----------
    fields : as `field_means` gives them.
    rng : makes the generator of a group from its name.

    Returns
    -------
    Means and ends of intervals by key; one row a group and key for the record; a warning for each key that is undefined
    in some but not all fields.
    """
    metrics: dict[str, float | None] = {}
    rows, warnings = [], []
    for group in found:
        part = group.rows(fields, primary)
        for key in keys:
            units = part.groupby("unit", sort=False)[key].agg(lambda v: v.mean(skipna=False))
            mean = mean_defined(units)
            low, high = bootstrap_interval(units, rng("bootstrap", group.suffix), draws=draws)
            metrics[f"{key}{group.suffix}"] = mean
            if _has_interval(group):
                metrics[f"{key}{group.suffix}_lo"], metrics[f"{key}{group.suffix}_hi"] = low, high
            rows.append(
                {
                    "group": group.column or "all", "level": group.level, "metric": key, "mean": mean, "lo": low,
                    "hi": high, "n_fields": len(units), "n_stacks": len(part),
                }
            )  # fmt: skip
            missing = int(units.isna().sum())
            if not group.column and 0 < missing < len(units):
                warnings.append(f"{key} is undefined in {missing} of {len(units)} fields, so its mean is undefined")
    return metrics, rows, warnings


def few_units(kind: str, found: Sequence[Group]) -> list[str]:
    """A warning where the means of a kind rest on few fields of view."""
    count = found[0].units
    if count >= FEW_UNITS:
        return []
    interval = "there is no interval" if count < LEAST_UNITS else "the interval rests on few units"
    return [f"{kind}: means are over {count} field(s) of view, fewer than {FEW_UNITS}: {interval}"]
