"""The table of calls that every demultiplexer returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from hyped_core.design import Design

DOUBLET = "Doublet"
NEGATIVE = "Negative"
KINDS = ("singlet", "doublet", "negative")
CALL_COLUMNS = ("call", "kind", "probability", "tags")
FURTHER_COLUMNS = ("forced_call", "doublet_probability", "margin")
"""What a demultiplexer may say beside its calls: the best tag without doublets or abstaining ("" for a cell without
counts), the probability that the cell is a doublet, how far the best tag is ahead (in the model's own unit)."""


def call_table(
    index: Sequence[str], call: Sequence[str], probability: np.ndarray, tags: Sequence[str]
) -> pd.DataFrame:
    """Calls with their kind: ``call``, ``kind``, ``probability`` (6 digits, in [0, 1]), ``tags``."""
    call = np.asarray(call, dtype=object)
    kind = np.where(call == DOUBLET, "doublet", np.where(call == NEGATIVE, "negative", "singlet"))
    return pd.DataFrame(
        {
            "call": call,
            "kind": kind,
            "probability": np.clip(np.asarray(probability, dtype=float), 0, 1).round(6),
            "tags": np.asarray(tags, dtype=object),
        },
        index=pd.Index(index, name="cell"),
    )


def check_against_design(calls: pd.DataFrame, design: Design, where: str | Path) -> None:
    """Refuse calls that were edited, or made with another design, so that they contradict ``design``.

    A singlet's ``call`` is a tag of its pool, its ``condition`` and ``phase`` are that tag's; other cells have
    neither, and no tag as their call. Cells of a pool without hashtags in the design may have no call and a condition
    of the pool; those of a pool that the design lacks have no condition.

    Parameters
    ----------
    calls : a row a cell, named by the index: ``pool``, ``call``, ``kind``, ``condition``, ``phase``.

    Raises
    ------
    InvalidDataError
        With the first row that is wrong, its field, and what it has to be.
    """
    meaning = {(tag.pool, tag.tag): (tag.condition, tag.phase or "") for tag in design.hashtags}
    hashed = {pool for pool, _ in meaning}
    pools = {pool.name: pool.conditions for pool in design.pools}
    columns = ["pool", "call", "kind", "condition", "phase"]
    values = calls[columns].astype(str)
    for row in values.drop_duplicates().itertuples(index=False):
        wrong = _contradiction(*row, meaning, hashed, pools)
        if wrong is not None:
            column, expected, mend = wrong
            first = int((values == list(row)).all(axis=1).to_numpy().argmax())
            kind = f"{row.kind} of pool {row.pool!r}"
            raise InvalidDataError(
                f"row {first + 1}, cell {calls.index[first]!r}, {kind} with call {row.call!r}: {column} is "
                f"{getattr(row, column)!r}, expected {expected}",
                where=where,
                mend=mend,
            )


def _contradiction(
    pool: str,
    call: str,
    kind: str,
    condition: str,
    phase: str,
    meaning: dict[tuple[str, str], tuple[str, str]],
    hashed: set[str],
    pools: dict[str, tuple[str, ...]],
) -> tuple[str, str, str] | None:
    """(column, what is expected there, mend) of a call that the design contradicts."""
    mend = "correct the row: condition and phase follow from pool and call by the design"
    if kind == "singlet" and pool in hashed:
        if (pool, call) not in meaning:
            return "call", f"one of {', '.join(tag for other, tag in meaning if other == pool)}", mend
        allowed = [[value] for value in meaning[pool, call]]
    elif kind == "singlet" and pool in pools:
        allowed = [["", *pools[pool]], [""]]
    else:
        if (pool, call) in meaning:
            return "call", f"no tag, as the kind is {kind!r}", mend
        allowed = [[""], [""]]
    if pool not in pools:
        mend = f"give the design that has pool {pool!r} (--design), or leave the field empty"
    for column, value, known in zip(("condition", "phase"), (condition, phase), allowed, strict=True):
        if value not in known:
            return column, " or ".join(repr(name) for name in known), mend
    return None


def dense_counts(hto: AnnData) -> np.ndarray:
    """Raw hashtag counts as (cells, tags) float64.

    Raises
    ------
    InvalidDataError
        There are no tags or cells, or a count is negative, not whole or not finite.
    """
    counts = hto.layers["counts"] if "counts" in hto.layers else hto.X
    counts = counts.toarray() if sp.issparse(counts) else np.asarray(counts)
    counts = counts.astype(np.float64)
    if counts.ndim != 2 or 0 in counts.shape:
        raise InvalidDataError(
            f"hashtag counts have shape {counts.shape}",
            where="hto",
            mend="give at least one cell and one tag",
        )
    wrong = ~np.isfinite(counts) | (counts < 0) | (counts != np.round(counts))
    if wrong.any():
        cell, tag = np.argwhere(wrong)[0]
        raise InvalidDataError(
            f"the count of tag {str(hto.var_names[tag])!r} in cell {str(hto.obs_names[cell])!r} is "
            f"{counts[cell, tag]}: negative, not whole or not finite",
            where="hto",
            mend="give raw counts",
        )
    return counts


def centred_log_ratios(counts: np.ndarray) -> np.ndarray:
    """(cells, tags) ln(1 + count) minus the cell's mean of it over tags."""
    logs = np.log1p(counts)
    return logs - logs.mean(axis=1, keepdims=True)
