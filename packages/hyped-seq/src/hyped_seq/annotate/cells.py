"""The columns of annotated cells: calls, condition and perturbation by the design, categories in a stated order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from hyped_core.design import Design, Perturbation
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError
from hyped_seq.annotate.phases import PHASES
from hyped_seq.demultiplex.calls import check_against_design

FURTHER = ("forced_call", "doublet_probability", "margin")
"""Columns of the table of calls that go to ``obs`` as they are, where a demultiplexer gave them."""


def match_calls(calls: pd.DataFrame | None, obs: pd.DataFrame, design: Design, where: str | Path) -> pd.DataFrame:
    """Calls in the order of the rows of ``obs`` (with the column ``pool``); every cell has to have one.

    Cells of a pool without hashtags in the design need none, and without a table (None) no cell does. If such a pool
    has one condition its cells count as singlets of it: that two share a droplet is for the expression to tell.
    Their ``call`` is empty and their ``probability`` not known.

    Raises
    ------
    InvalidDataError
        A cell has no call, its call is for another pool, or the design contradicts it
        (`hyped_seq.demultiplex.calls.check_against_design`).
    """
    pools = obs["pool"].astype(str)
    made = _without_hashtags(pools, design)
    if calls is None:
        return made
    hashed = {tag.pool for tag in design.hashtags} | (set(pools) - {pool.name for pool in design.pools})
    known = obs.index.isin(calls.index)
    absent = ~known & pools.isin(hashed).to_numpy()
    if absent.any():
        raise InvalidDataError(
            f"has no call for {int(absent.sum())} of {len(obs)} cells, first {obs.index[absent][0]!r}",
            where=where,
            mend="demultiplex the hto.h5ad of the same ingest",
        )
    found = calls.loc[obs.index[known]]
    elsewhere = (found["pool"].astype(str) != pools[known]).to_numpy()
    if elsewhere.any():
        cell = found.index[elsewhere][0]
        raise InvalidDataError(
            f"says that cell {cell!r} is of pool {found['pool'].loc[cell]!r}, the matrix says {pools.loc[cell]!r}",
            where=where,
            mend="demultiplex the hto.h5ad of the same ingest",
        )
    check_against_design(calls, design, where)
    if known.all():
        return found
    return pd.concat([found, made[~known]]).loc[obs.index]


def _without_hashtags(pools: pd.Series, design: Design) -> pd.DataFrame:
    condition = pools.map(single_conditions(design)).fillna("")
    return pd.DataFrame(
        {
            "pool": pools,
            "call": "",
            "kind": np.where(condition != "", "singlet", ""),
            "probability": np.nan,
            "tags": "",
            "condition": condition,
            "phase": "",
        },
        index=pools.index,
    )


def single_conditions(design: Design) -> dict[str, str]:
    """Pool -> its condition, of the pools that have one."""
    return {pool.name: pool.conditions[0] for pool in design.pools if len(pool.conditions) == 1}


def cell_table(obs: pd.DataFrame, figures: pd.DataFrame, calls: pd.DataFrame, design: Design) -> pd.DataFrame:
    """``obs`` with quality figures, calls, condition and perturbation; still plain text columns.

    ``condition`` is ``assigned_condition``, or that of the pool where the pool has one.
    """
    table = obs.copy()
    table["pool"] = table["pool"].astype(str)
    for column in figures.columns:
        table[column] = figures[column]
    table["hashtag_call"] = calls["call"].astype(str)
    table["hashtag_kind"] = calls["kind"].astype(str)
    table["hashtag_probability"] = calls["probability"].astype(np.float32)
    table["hashtags"] = calls["tags"].astype(str)
    for column in FURTHER:
        if column in calls:
            given = calls[column]
            table[column] = given.fillna("").astype(str) if column == "forced_call" else given.astype(np.float32)
    table["assigned_condition"] = calls["condition"].astype(str)
    from_pool = table["pool"].map(single_conditions(design)).fillna("")
    table["condition"] = table["assigned_condition"].where(table["assigned_condition"] != "", from_pool)
    table["perturbation"] = table["condition"].map(perturbation_names(design)).fillna("")
    table["assigned_phase"] = calls["phase"].astype(str)
    return table


def perturbation_names(design: Design) -> dict[str, str]:
    """Condition -> ``"control"``, ``"GENE"`` or ``"GENE1+GENE2"``."""
    return {
        item.name: "+".join(change.gene for change in item.perturbation) or CONTROL
        for item in design.conditions
    }


def perturbations_json(design: Design) -> str:
    """The perturbations by the names of `perturbation_names`, as JSON."""
    names = perturbation_names(design)
    records = {
        names[item.name]: Perturbation(name=names[item.name], changes=item.perturbation).model_dump(mode="json")
        for item in design.conditions
    }
    return json.dumps(records, sort_keys=True)


def as_categories(obs: pd.DataFrame, design: Design) -> None:
    """Text columns with few values become categoricals in a stated order."""
    conditions = [item.name for item in design.conditions]
    orders = {
        "hashtag_kind": ["singlet", "doublet", "negative"],
        "assigned_condition": conditions,
        "condition": conditions,
        "assigned_phase": list(PHASES),
        "phase": list(PHASES),
        "phase_classifier": list(PHASES),
        "phase_score": list(PHASES),
    }
    for column in ("pool", "hashtag_call", "hashtags", "forced_call", "perturbation", "phase_source", *orders):
        if column not in obs:
            continue
        values = obs[column].astype(str)
        order = list(dict.fromkeys([*orders.get(column, ()), *sorted(set(values))]))
        present = set(values)
        obs[column] = pd.Categorical(values, categories=[name for name in order if name in present])


def tally(obs: pd.DataFrame, column: str) -> dict[str, int]:
    """Cells of each value of ``column`` that is not empty, sorted by value."""
    values = obs[column].astype(str)
    return {str(name): int(count) for name, count in values[values != ""].value_counts().sort_index().items()}
