"""Scores as arrays paired over units.

A panel is one metric on one source (or on sources pooled because each is a single unit): units in rows, entries in
columns. Repeats of a unit (folds, seeds, phases, channels) are averaged first: they add no unit. A repeat that is
undefined, or a fold or seed that an entry lacks, leaves the unit undefined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_bench.judgement.entries import Entry
from hyped_bench.tasks.base import Judged
from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    import pandas as pd

POOLED = "all"
"""Name of the primary sources together, where each is one unit."""
FOLD = "fold"
"""Column that tells repeats of a unit apart which every entry has to have."""

Key = tuple[str, ...]
Array = npt.NDArray[np.float64]


@dataclass(slots=True)
class Panel:
    """Scores of one metric on one source.

    Attributes
    ----------
    source : its name; that of the pool where single-unit sources are taken together.
    units : ids, one a row of ``values``.
    values : (units, entries), NaN where undefined.
    own : name -> (units, entries): what each entry's own table says of a control (``<metric>_<name>``).
    draws : (draws, entries), means over the units in each draw of cells, NaN where an entry has none; None where
        no entry has any.
    folds : how many folds the units were scored in at most.
    idle : further controls that do nothing as far as this metric goes; entries are held against them too.
    """

    source: str
    judged: Judged
    entries: list[Entry]
    units: list[Key]
    values: Array
    own: dict[str, Array]
    draws: Array | None
    confounded: bool = False
    folds: int = 1
    idle: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """Its column."""
        return self.judged.metric

    @property
    def sign(self) -> float:
        """What a difference is multiplied by so that positive is better."""
        return -1.0 if self.judged.better == "lower" else 1.0

    @property
    def scores(self) -> Array:
        """Mean over units by entry; NaN where a unit is undefined."""
        return self.values.mean(axis=0)

    def at(self, name: str) -> int | None:
        """Column of an entry."""
        return next((i for i, entry in enumerate(self.entries) if entry.model == name), None)

    def has(self, name: str) -> bool:
        """Whether a control, reference or model of this name has a score here."""
        return self.at(name) is not None or name in self.own

    def against(self, name: str, column: int) -> tuple[Array, Array | None]:
        """Scores of ``name`` that the entry of ``column`` is held against: by unit, and by draw where there are."""
        at = self.at(name)
        if at is None:
            return self.own[name][:, column], None
        return self.values[:, at], None if self.draws is None else self.draws[:, at]


def panels(entries: Sequence[Entry], judged: Sequence[Judged]) -> list[Panel]:
    """All metrics on all sources where at least one entry has a value, metrics in their order.

    Raises
    ------
    InvalidDataError
        A table without a column that names its units.
    """
    scored = [entry for entry in entries if entry.units is not None]
    found: list[Panel] = []
    for unit in dict.fromkeys(item.unit for item in judged):
        items = [item for item in judged if item.unit == unit]
        extra = [f"{item.metric}{end}" for item in items for end in ("", f"_{item.nothing}", f"_{item.ceiling}")]
        folds = _folds(scored, unit)
        tables = [_by_unit(entry, "units", unit, extra, folds) for entry in scored]
        drawn = [_by_unit(entry, "draws", unit, extra, folds) for entry in scored]
        keys = list(dict.fromkeys(key for rows, _ in tables for key in rows))
        names = pool_names(keys, scored, drawn=any(rows for rows, _ in drawn))
        found += [
            panel
            for item in items
            for label in dict.fromkeys(names.values())
            if (panel := _panel(item, label, names, keys, scored, tables, drawn, folds)) is not None
        ]
    order = {item.metric: i for i, item in enumerate(judged)}
    return sorted(found, key=lambda panel: order[panel.metric])


def pool_names(keys: Iterable[Key], entries: Sequence[Entry], *, drawn: bool = False) -> dict[str, str]:
    """Source -> the name it is judged under.

    Sources with several units, or with draws, stand for themselves. Where each has a single unit they are taken
    together: `POOLED`; those named after another one (``S0_dim`` beside ``S0``) together under what is added
    (``dim``); what is not primary and named after none under ``further``.
    """
    counted: dict[str, int] = {}
    for key in keys:
        counted[key[0]] = counted.get(key[0], 0) + 1
    if drawn or len(counted) < 2 or max(counted.values(), default=0) > 1:
        return {source: source for source in counted}
    primary = {name: value for entry in entries for name, value in entry.primary.items()}
    found = {}
    for source in counted:
        base = max((b for b in counted if source.startswith(f"{b}_")), key=len, default="")
        rest = POOLED if primary.get(source, True) else "further"
        found[source] = source[len(base) + 1 :] if base else rest
    return found


def _panel(
    item: Judged,
    label: str,
    names: Mapping[str, str],
    keys: Sequence[Key],
    entries: Sequence[Entry],
    tables: Sequence[tuple[dict[Key, int], dict[str, Array]]],
    drawn: Sequence[tuple[dict[Key, int], dict[str, Array]]],
    folds: Mapping[Key, int],
) -> Panel | None:
    mine = [key for key in keys if names[key[0]] == label]

    def column(name: str) -> Array:
        found = np.full((len(mine), len(entries)), np.nan)
        for j, (rows, columns) in enumerate(tables):
            if name in columns:
                found[:, j] = [columns[name][rows[key]] if key in rows else np.nan for key in mine]
        return found

    values = column(item.metric)
    # a source on which no entry has a value (another kind of reference) is not judged by this metric
    there = {key[0] for key, row in zip(mine, values, strict=True) if np.isfinite(row).any()}
    kept = np.array([key[0] in there for key in mine], dtype=bool)
    if not kept.any():
        return None
    sources = {key[0] for key, keep in zip(mine, kept, strict=True) if keep}
    # an entry without a row on any of these sources was not scored here
    scored = [j for j, (rows, _) in enumerate(tables) if any(key[0] in sources for key in rows)]
    own = {}
    for name in (n for n in (item.nothing, item.ceiling) if n):
        told = column(f"{item.metric}_{name}")[kept][:, scored]
        if np.isfinite(told).any():
            own[name] = told
    chosen = [key for key, keep in zip(mine, kept, strict=True) if keep]
    confounded = any(entry.confounded.get(source, False) for entry in entries for source in sources)
    return Panel(
        label, item, [entries[j] for j in scored], chosen, values[kept][:, scored], own,
        _draws(item.metric, chosen, [drawn[j] for j in scored]), confounded,
        max(folds.get(key, 1) for key in chosen),
    )  # fmt: skip


def _draws(
    metric: str, units: Sequence[Key], drawn: Sequence[tuple[dict[Key, int], dict[str, Array]]]
) -> Array | None:
    """(draws, entries): means over the units in each draw; NaN columns for entries that lack a unit or the metric."""
    columns = []
    for rows, values in drawn:
        whole = metric in values and all(unit in rows for unit in units)
        columns.append(np.mean([values[metric][rows[unit]] for unit in units], axis=0) if whole else None)
    size = max((len(c) for c in columns if c is not None), default=0)
    if not size:
        return None
    blank = np.full(size, np.nan)
    return np.stack([c if c is not None and len(c) == size else blank for c in columns], axis=1)


def _folds(entries: Sequence[Entry], unit: Sequence[str]) -> dict[Key, int]:
    """Unit -> in how many folds any entry was scored on it; without those whose folds are not told apart."""
    found: dict[Key, set[str]] = {}
    ids = ["source", *unit]
    for entry in entries:
        table = entry.units
        if table is None or FOLD in unit or any(c not in table for c in (*ids, FOLD)):
            continue
        for *key, fold in table[[*ids, FOLD]].astype(str).drop_duplicates().itertuples(index=False, name=None):
            found.setdefault(tuple(key), set()).add(fold)
    return {key: len(folds) for key, folds in found.items()}


def _by_unit(
    entry: Entry, name: str, unit: Sequence[str], metrics: Sequence[str], folds: Mapping[Key, int]
) -> tuple[dict[Key, int], dict[str, Array]]:
    """Unit -> its row, and metric -> one value a row (units), or one array a row (draws); repeats averaged."""
    import pandas as pd

    table = getattr(entry, name)
    if table is None or not len(table):
        return {}, {}
    ids = ["source", *unit]
    missing = [c for c in ids if c not in table]
    if missing:
        raise InvalidDataError(
            f"{name} of {entry.model} has no column {', '.join(missing)}", mend="score the model again"
        )
    labels = [table[c].astype(str) for c in ids]
    codes, keys = pd.factorize(pd.MultiIndex.from_arrays(labels)) if len(labels) > 1 else pd.factorize(labels[0])
    rows = {(key if isinstance(key, tuple) else (key,)): i for i, key in enumerate(keys.tolist())}
    there = [metric for metric in dict.fromkeys(metrics) if metric in table]
    n, unit_of = len(rows), codes
    if "draw" in table:
        draw = table["draw"].to_numpy(dtype=np.int64)
        size = int(draw.max()) + 1
        codes, n = codes * size + draw, n * size
    counts = np.bincount(codes, minlength=n)
    short = _short(table, unit_of, rows, folds)
    found = {}
    for metric in there:
        values = pd.to_numeric(table[metric], errors="coerce").to_numpy(dtype=float)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.bincount(codes, weights=values, minlength=n) / counts
        means = means.reshape(len(rows), -1) if "draw" in table else means
        means[short] = np.nan  # a seed or fold that gave no score is not left out of the mean
        found[metric] = means
    return rows, found


def _short(
    table: pd.DataFrame, unit_of: npt.NDArray[np.int64], rows: Mapping[Key, int], folds: Mapping[Key, int]
) -> npt.NDArray[np.bool_]:
    """Which units lack a seed that others have, or a fold that another entry has."""
    import pandas as pd

    repeats = [c for c in ("seed", FOLD) if c in table]
    if not repeats:
        return np.zeros(len(rows), dtype=bool)
    there = pd.DataFrame({"unit": unit_of, **{c: table[c].to_numpy() for c in repeats}}).drop_duplicates()["unit"]
    wanted = np.full(len(rows), table["seed"].nunique() if "seed" in table else 1)
    if FOLD in table:
        wanted = wanted * np.array([folds.get(key, 1) for key in rows])
    return np.bincount(there, minlength=len(rows)) < wanted
