"""Scores of called cell-cycle phases, of positions in the cycle, and of the fractions phases add up to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_core.errors import InvalidDataError


def phase_accuracy(called: npt.ArrayLike, truth: npt.ArrayLike) -> float | None:
    """Share of cells whose phase is the true one; None of no cells.

    Always calling the commonest phase scores its share: `commonest_accuracy`.

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


def away_from_transitions(truth: pd.DataFrame, hours: float) -> npt.NDArray[np.bool_]:
    """Rows of true tracks with no other phase of the same cell, mother or daughter within ``hours``.

    A frame either side of a change of phase shows the next phase or the last one as well as its own, and which
    of the two is right is a matter of minutes that no frame shows. Columns ``scene, track_id, time_h, phase``,
    and ``parent_id`` where a track that begins with a division names its mother's.
    """
    rows = pd.DataFrame(
        {
            "track": truth["scene"].astype(str) + "/" + truth["track_id"].astype(str),
            "time": truth["time_h"].to_numpy(float),
            "phase": truth["phase"].astype(str).to_numpy(),
        }
    ).reset_index(drop=True)
    rows = rows.sort_values(["track", "time"], kind="stable")
    track, time, phase = (rows[name].to_numpy() for name in ("track", "time", "phase"))
    first = np.append(True, track[1:] != track[:-1])[: len(rows)]
    begins = first.copy()
    begins[1:] |= phase[1:] != phase[:-1]
    before = np.where(first, -np.inf, np.append(-np.inf, time[:-1])[: len(rows)])
    last = np.append(first[1:], True)[: len(rows)]
    after = np.where(last, np.inf, np.append(time[1:], np.inf)[: len(rows)])
    if "parent_id" in truth.columns and len(rows):
        parent = truth["parent_id"].to_numpy()[rows.index]
        mother = truth["scene"].astype(str).to_numpy()[rows.index] + "/" + parent.astype(str).astype(object)
        born = first & (parent > 0)
        ends = pd.Series(time[last], index=track[last])
        before[born] = ends.reindex(mother[born]).fillna(-np.inf).to_numpy()
        births = pd.Series(time[born], index=mother[born]).groupby(level=0).min()
        after[last] = births.reindex(track[last]).fillna(np.inf).to_numpy()
    run = np.cumsum(begins) - 1
    start, stop = np.flatnonzero(begins), np.append(np.flatnonzero(begins)[1:], len(rows)) - 1
    gap = np.minimum(time - before[start][run], after[stop][run] - time) if len(rows) else np.zeros(0)
    out = np.empty(len(rows), bool)
    out[rows.index.to_numpy()] = gap > hours + 1e-9
    return out


def recall_precision(
    called: npt.ArrayLike, truth: npt.ArrayLike, phase: str
) -> tuple[float | None, float | None]:
    """Share of the cells in ``phase`` that are called so, and of those called so that are; None of no cells.

    Never calling it scores 0 and None, calling it always 1 and its share of the cells.

    >>> recall_precision(["M", "M", "G1"], ["M", "G1", "G1"], "M")
    (1.0, 0.5)
    """
    first, second = (np.asarray(v, dtype=object) == phase for v in (called, truth))
    both = int((first & second).sum())
    return (both / int(second.sum()) if second.any() else None, both / int(first.sum()) if first.any() else None)


def circular_error(position: npt.ArrayLike, truth: npt.ArrayLike, unknown: float = np.nan) -> float | None:
    """Mean distance round the cycle min(d, 1 - d), d = |p - t| mod 1: at most 0.5; None of no cells.

    A random guess scores 0.25 on average; one position for all what `best_constant` finds, 0.25 where the true ones
    are spread evenly. Positions that are NaN count as ``unknown`` (what is guessed of those of which nothing is known).

    >>> round(circular_error([0.95, 0.5], [0.05, 0.4]), 6)
    0.1
    """
    first, second = np.asarray(position, dtype=float), np.asarray(truth, dtype=float)
    if first.shape != second.shape:
        raise InvalidDataError(f"{first.size} positions for {second.size} cells")
    apart = np.abs(np.where(np.isnan(first), unknown, first) - second) % 1.0
    return float(np.minimum(apart, 1.0 - apart).mean()) if first.size else None


def best_constant(truth: npt.ArrayLike, steps: int = 200) -> float:
    """The one position that, said of every cell, has the least `circular_error`: the floor to beat."""
    true = np.asarray(truth, dtype=float)
    guesses = np.arange(steps) / steps
    errors = [circular_error(np.full(true.shape, guess), true) or 0.0 for guess in guesses]
    return float(guesses[int(np.argmin(errors))])


def fraction_error(
    called: pd.DataFrame, truth: pd.DataFrame, by: list[str], phase: str = "phase"
) -> tuple[float | None, pd.DataFrame]:
    """Mean absolute difference between called and true phase fractions over groups and phases.

    mean |f - t| over the groups and phases that either table has. Calling every cell one phase, of k phases with equal
    fractions, scores 2 (k - 1) / k^2; None where there are no cells at all.

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


def lineages(nuclei: pd.DataFrame) -> np.ndarray:
    """Text that names each nucleus' lineage: scene and first track. Untracked nuclei are lineages of one."""
    scene = nuclei["scene"].astype(str).to_numpy(object)
    track, parent = (nuclei[name].to_numpy(np.int64) for name in ("track_id", "parent_id"))
    mother = {(s, t): (s, p) for s, t, p in zip(scene, track, parent, strict=True) if p > 0}

    def first(node: tuple[str, int]) -> tuple[str, int]:
        passed = {node}
        while node in mother and mother[node] not in passed:
            node = mother[node]
            passed.add(node)
        return node

    found = {node: f"{first(node)[0]}/{first(node)[1]}" for node in set(zip(scene, track, strict=True))}
    nodes = zip(scene, track, strict=True)
    return np.array([found[n] if n[1] > 0 else f"{n[0]}/object {i}" for i, n in enumerate(nodes)], dtype=object)
