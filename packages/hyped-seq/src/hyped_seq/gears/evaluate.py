"""How near predicted means come to those of cells: one row a condition, with the original's definitions.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
import torch

if TYPE_CHECKING:
    from hyped_seq.gears.data import Ints, TrainingCells
    from hyped_seq.gears.network import GearsNetwork

Floats = npt.NDArray[np.float64]
STATE_CELLS = 256
"""Control cells that a change is averaged over where it depends on their state."""
METRICS = ("mse", "mse_de", "pearson", "pearson_de", "pearson_change")


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Cells to evaluate on, summed up once: predictions are means, so nothing of a cell is needed again.

    Attributes
    ----------
    conditions : (n,) numbers of the conditions with cells, rising.
    counts : (n,) cells.
    base, truth : (n, genes) mean of the control cells a prediction starts from, and of the cells themselves.
    firsts : (n,) share of the cells that stand first in a batch where batches follow the order of conditions: these
        alone see the co-expression graph in mode ``reference``. A stand-in without chance: the original shuffles the
        training and validation cells it evaluates, and leaves only the test cells in order.
    states : (cells, k) states of control cells that changes are averaged over, or None.
    """

    conditions: Ints
    counts: Ints
    base: Floats
    truth: Floats
    firsts: Floats
    states: npt.NDArray[np.float32] | None


def evaluation_set(data: TrainingCells, rows: Ints, *, reference: bool, batch_cells: int) -> EvaluationSet:
    """Sum up the cells ``rows`` of ``data``.

    In mode ``reference`` a prediction starts from the control cells paired at the start, as the original's does; else
    from all control cells, as `predict` of given control cells does.
    """
    rows = rows[np.argsort(data.condition[rows], kind="stable")]
    conditions, start, counts = np.unique(data.condition[rows], return_index=True, return_counts=True)
    member = np.repeat(np.arange(len(conditions)), counts)
    truth = _means(data.x, member, rows, len(conditions))
    if reference:
        base = _means(data.x, member, data.pairs[rows], len(conditions))
    else:
        base = np.repeat(np.asarray(data.x[data.control].mean(axis=0, dtype=np.float64)), len(conditions), axis=0)
    first = np.arange(len(rows)) % batch_cells == 0
    firsts = np.add.reduceat(first, start).astype(np.float64) / counts if len(rows) else np.zeros(0)
    states = None
    if not reference and data.cell_states is not None:
        # evenly spaced rows: a choice that needs no seed and is the same in every epoch
        chosen = np.linspace(0, len(data.control) - 1, min(STATE_CELLS, len(data.control))).round().astype(np.int64)
        states = data.cell_states[data.control[chosen]]
    return EvaluationSet(conditions, counts, base, truth, firsts, states)


def _means(x: sp.csr_matrix, member: Ints, rows: Ints, groups: int) -> Floats:
    share = 1.0 / np.bincount(member, minlength=groups)[member] if len(member) else np.zeros(0)
    return np.asarray((sp.csr_matrix((share, (member, rows)), shape=(groups, x.shape[0])) @ x).todense())


def predicted_means(
    network: GearsNetwork,
    cells: EvaluationSet,
    sets: Sequence[tuple[int, ...]],
    signs: Sequence[tuple[float, ...]] | None,
) -> Floats:
    """(conditions, genes) predicted mean of each condition of ``cells``; ``sets`` and ``signs`` are of all conditions.

    Raw, as the network gives it: nothing is floored at zero.
    """
    chosen = [sets[i] for i in cells.conditions]
    signed = None if signs is None else [signs[i] for i in cells.conditions]
    architecture = network.architecture
    if architecture.mode == "reference":
        rest = _array(network.changes(chosen, signed))
        first = _array(network.changes(chosen, signed, first=True))
        share = cells.firsts[:, None]
        return cells.base + share * first + (1 - share) * rest
    if architecture.state and cells.states is not None:
        states = torch.from_numpy(cells.states).to(next(network.parameters()).device)
        return cells.base + _array(network.changes(chosen, signed, state=states))
    return cells.base + _array(network.changes(chosen, signed))


def _array(values: torch.Tensor) -> Floats:
    return values.detach().cpu().numpy().astype(np.float64)


def scores(
    predicted: Floats, cells: EvaluationSet, de_genes: Ints, control_mean: npt.NDArray, names: Sequence[str]
) -> pd.DataFrame:
    """A row a condition: ``perturbation, cells`` and `METRICS`.

    ``mse`` and ``pearson`` compare predicted and true means over all genes, ``mse_de`` and ``pearson_de`` over the
    condition's most different genes (NaN for control, which has none), ``pearson_change`` their changes from the
    control mean. A correlation of something constant is 0, as in the original.
    """
    rows = []
    for i, number in enumerate(cells.conditions):
        guess, truth, top = predicted[i], cells.truth[i], de_genes[number]
        row = {"perturbation": names[number], "cells": int(cells.counts[i])}
        row |= {"mse": float(((guess - truth) ** 2).mean()), "mse_de": float(((guess - truth)[top] ** 2).mean())}
        row |= {"pearson": _pearson(guess, truth), "pearson_de": _pearson(guess[top], truth[top])}
        row["pearson_change"] = _pearson(guess - control_mean, truth - control_mean)
        if number == 0:
            row |= dict.fromkeys(("mse_de", "pearson_de", "pearson_change"), np.nan)
        rows.append(row)
    return pd.DataFrame(rows, columns=["perturbation", "cells", *METRICS])


def summary(table: pd.DataFrame) -> Mapping[str, float]:
    """Mean of each metric over conditions (the control's ``mse`` and ``pearson`` count where it is there)."""
    return {name: float(table[name].mean()) for name in METRICS}


def _pearson(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    value = float(a @ b) / size if size > 0 else 0.0
    return value if np.isfinite(value) else 0.0
