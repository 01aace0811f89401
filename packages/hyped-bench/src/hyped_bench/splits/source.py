"""Every cell of a source of the expression task as splits see it: names, perturbations, phases and replicates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hyped_bench.readers import read_obs
from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    from hyped_bench.tasks.expression.params import ExpressionSource


def source_cells(source: ExpressionSource) -> pd.DataFrame:
    """Cells that ``where`` keeps and that have a perturbation, before any are drawn; only ``obs`` is read.

    Returns
    -------
    pandas.DataFrame
        Index the cells' names; ``perturbation`` (``control`` for control), ``phase`` and ``replicate`` (empty text
        where unknown).

    Raises
    ------
    InvalidDataError
        A column is not there, or no cell is left.
    """
    from hyped_bench.tasks.expression.data import condition_labels, obs_column, screen_labels

    obs = read_obs(source.cells)
    keep = np.ones(len(obs), dtype=bool)
    for column, value in source.where.items():
        if column not in obs:
            raise InvalidDataError(f"has no obs column {column!r}", where=source.cells, mend="correct `where`")
        keep &= (obs[column].astype(str) == value).to_numpy()
    if source.kind == "conditions":
        labels, _, kept = condition_labels(obs, source)
        keep &= kept
    else:
        labels, _ = screen_labels(SimpleNamespace(obs=obs, uns={}), source)
        keep &= obs[source.perturbation].notna().to_numpy()
    if not keep.any():
        raise InvalidDataError("no cell is left to split", where=source.cells, mend="correct `where`")
    columns = {"perturbation": labels, "phase": obs_column(obs, "phase"), "replicate": obs_column(obs, "replicate")}
    return pd.DataFrame(columns, index=pd.Index(obs.index.astype(str)))[keep]
