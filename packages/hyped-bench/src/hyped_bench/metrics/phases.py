"""Scores of called cell-cycle phases and of the fractions they add up to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_core.errors import InvalidDataError


def phase_accuracy(called: npt.ArrayLike, truth: npt.ArrayLike) -> float | None:
    """Share of cells whose phase is the true one; always calling the commonest phase scores its share.

    >>> phase_accuracy(["G1", "S"], ["G1", "G2M"])
    0.5
    """
    first, second = np.asarray(called, dtype=object), np.asarray(truth, dtype=object)
    if first.shape != second.shape:
        raise InvalidDataError(f"{first.size} phases called for {second.size} cells")
    return float(np.mean(first == second)) if first.size else None


def commonest_accuracy(truth: npt.ArrayLike) -> float | None:
    """What calling every cell the commonest true phase scores: the floor of `phase_accuracy`.

    >>> commonest_accuracy(["G1", "G1", "G1", "S"])
    0.75
    """
    phases = np.asarray(truth, dtype=object)
    return float(pd.Series(phases).value_counts(normalize=True).iloc[0]) if phases.size else None


def fraction_error(
    called: pd.DataFrame, truth: pd.DataFrame, by: list[str], phase: str = "phase"
) -> tuple[float | None, pd.DataFrame]:
    """Mean absolute difference between called and true phase fractions over groups and phases.

    Both tables have the columns ``by`` and ``phase``, one row a cell; they need not hold the same cells.
    Returns the mean and a table ``by..., phase, fraction, fraction_truth``. Groups that one of the two lacks
    count with fraction 0, so that losing cells costs.
    """
    left, right = _fractions(called, by, phase), _fractions(truth, by, phase)
    table = left.merge(right, on=[*by, "phase"], how="outer", suffixes=("", "_truth")).fillna(
        {"fraction": 0.0, "fraction_truth": 0.0}
    )
    table = table.sort_values([*by, "phase"], kind="stable").reset_index(drop=True)
    if table.empty:
        return None, table
    return float((table["fraction"] - table["fraction_truth"]).abs().mean()), table


def _fractions(cells: pd.DataFrame, by: list[str], phase: str) -> pd.DataFrame:
    plain = cells[[*by, phase]].astype({phase: str}).rename(columns={phase: "phase"})
    counts = plain.groupby([*by, "phase"], observed=True).size().rename("count").reset_index()
    counts["fraction"] = counts["count"] / counts.groupby(by, observed=True)["count"].transform("sum")
    return counts[[*by, "phase", "fraction"]]
