"""Demultiplex capture by capture, and derive condition and sorted phase from the design."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hyped_core.design import Design
from hyped_core.errors import CorruptFileError, DesignError, InvalidDataError, MissingFileError, PluginError
from hyped_core.io.atomic import atomic_path
from hyped_seq.demultiplex.calls import CALL_COLUMNS, FURTHER_COLUMNS, KINDS
from hyped_seq.readers.matrix import as_counts

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_core.contracts import Demultiplexer

COLUMNS = ("cell", "pool", "call", "kind", "probability", "tags", "condition", "phase")
"""Columns of the table of calls; ``condition`` and ``phase`` are empty where the design says nothing. Those of
`FURTHER_COLUMNS` that the model gives stand behind them."""


def demultiplex(hto: AnnData, model: Demultiplexer, design: Design, *, context: RunContext) -> pd.DataFrame:
    """Calls of all pools, rows as in ``hto``.

    Parameters
    ----------
    hto : cells x tags raw counts with ``obs["pool"]``.

    Raises
    ------
    InvalidDataError, DesignError
        No column ``pool``, counts that are none, or the design and the matrix name different tags.
    PluginError
        The model breaks its contract.
    """
    if "pool" not in hto.obs:
        raise InvalidDataError(
            "obs has no column 'pool'", where="hto", mend="make the file with `hyped seq ingest`"
        )
    as_counts(hto.layers["counts"] if "counts" in hto.layers else hto.X, "hto")
    pools = hto.obs["pool"].astype(str)
    parts = []
    for pool in context.progress.track(list(dict.fromkeys(pools)), "demultiplexing pools"):
        member = (pools == pool).to_numpy()
        tags = pool_tags(hto, pool, design)
        part = hto[member, tags].copy()
        calls = checked_calls(model.assign(part, context=context), part)
        calls.insert(0, "pool", pool)
        parts.append(calls)
    table = pd.concat(parts).reindex(hto.obs_names)
    table.index.name = "cell"
    return add_design(table, design)


def pool_tags(hto: AnnData, pool: str, design: Design) -> list[str]:
    """The columns of ``hto`` that belong to a pool: its tags in the design, or all where the design lacks it.

    Raises
    ------
    DesignError
        The matrix lacks a tag that the design names, or has counts of none of its tags.
    """
    if pool not in {item.name for item in design.pools}:
        return list(hto.var_names)
    tags = [hashtag.tag for hashtag in design.pool_hashtags(pool)]
    known = set(hto.var_names)
    absent = [tag for tag in tags if tag not in known]
    if absent or not tags:
        what = f"tag {absent[0]!r}, which the matrix lacks" if absent else "no tag"
        raise DesignError(
            f"names {what} (it holds {', '.join(map(str, hto.var_names))})",
            where=f"design {design.name!r}, pool {pool!r}",
            mend="correct the design's hashtags",
        )
    return tags


def checked_calls(calls: pd.DataFrame, part: AnnData) -> pd.DataFrame:
    """What a model returned, after checking that it keeps the contract."""
    where = "demultiplexer"
    absent = [name for name in CALL_COLUMNS if name not in calls.columns]
    if absent:
        raise PluginError(f"returned no column {', '.join(absent)}", where=where)
    if list(calls.index) != list(part.obs_names):
        raise PluginError("did not return one row a cell, in order", where=where)
    unknown = set(calls["kind"]) - set(KINDS)
    if unknown:
        raise PluginError(
            f"returned kind {sorted(map(str, unknown))[0]!r}, known: {', '.join(KINDS)}", where=where
        )
    probability = calls["probability"].to_numpy(dtype=float)
    if not ((probability >= 0) & (probability <= 1)).all():
        raise PluginError("returned probabilities outside [0, 1]", where=where)
    singlets = calls.loc[calls["kind"] == "singlet", "call"]
    strange = set(singlets) - set(part.var_names)
    if strange:
        raise PluginError(f"called a singlet {sorted(map(str, strange))[0]!r}, which is no tag", where=where)
    further = [name for name in FURTHER_COLUMNS if name in calls.columns]
    return calls.loc[:, [*CALL_COLUMNS, *further]].copy()


def add_design(calls: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Add ``condition`` and ``phase`` of singlets from (pool, tag); "" elsewhere."""
    meaning = {(tag.pool, tag.tag): (tag.condition, tag.phase or "") for tag in design.hashtags}
    pairs = [
        meaning.get((pool, call), ("", "")) if kind == "singlet" else ("", "")
        for pool, call, kind in zip(calls["pool"], calls["call"], calls["kind"], strict=True)
    ]
    known = calls.assign(condition=[pair[0] for pair in pairs], phase=[pair[1] for pair in pairs])
    further = [name for name in FURTHER_COLUMNS if name in known.columns]
    return known[[name for name in known.columns if name not in further] + further]


def write_calls(calls: pd.DataFrame, path: str | Path) -> None:
    """Write the table of calls as CSV, columns `COLUMNS` and what there is of the further ones, whole or not at all."""
    columns = [*COLUMNS, *(name for name in FURTHER_COLUMNS if name in calls.columns)]
    with atomic_path(path) as temporary:
        calls.reset_index()[columns].to_csv(temporary, index=False, lineterminator="\n")


def read_calls(path: str | Path) -> pd.DataFrame:
    """Read a table of calls back, indexed by cell.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file, no CSV, a column is absent, a cell occurs twice, or a kind or probability is none.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="make it with `hyped seq demultiplex`")
    try:
        table = pd.read_csv(
            path,
            dtype={name: str for name in (*COLUMNS, "forced_call") if name != "probability"},
            keep_default_na=False,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"is no table: {error}", where=path, mend="make it again") from error
    absent = [name for name in COLUMNS if name not in table.columns]
    if absent:
        raise InvalidDataError(
            f"has no column {', '.join(absent)}", where=path, mend="make it with `hyped seq demultiplex`"
        )
    if table["cell"].duplicated().any():
        raise InvalidDataError(
            f"cell {table['cell'][table['cell'].duplicated()].iloc[0]!r} occurs twice",
            where=path,
            mend="make it again",
        )
    _check_values(table, path)
    table["probability"] = pd.to_numeric(table["probability"], errors="coerce").fillna(0.0).astype(np.float64)
    for name in ("doublet_probability", "margin"):
        if name in table:
            table[name] = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
    return table.set_index("cell")


def _check_values(table: pd.DataFrame, path: Path) -> None:
    """Refuse rows that no demultiplexer writes: cut short, shifted, or with another kind or probability."""
    probability = table["probability"].astype(str)
    number = pd.to_numeric(probability, errors="coerce")
    checks = (
        (table["cell"] == "", "cell", table["cell"], "a cell"),
        (~table["kind"].isin(KINDS), "kind", table["kind"], " or ".join(KINDS)),
        (
            (probability != "") & ~number.between(0, 1),
            "probability",
            probability,
            "a number from 0 to 1",
        ),
    )
    for wrong, column, values, expected in checks:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InvalidDataError(
                f"row {row + 1} has {column} {values.iloc[row]!r}, expected {expected}",
                where=path,
                mend="make it again with `hyped seq demultiplex`",
            )
