"""Doublets as expression shows them: cells of a pool that look like the sum of two cells of that pool.

Hashtags see pairs of cells with different tags; a pair with one tag is a singlet to them. Expression sees both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hyped_seq.annotate.embedding import fit_components
from hyped_seq.annotate.normalise import cell_totals, log_normalised, variable_genes
from hyped_seq.annotate.params import DoubletParams

_ROWS = 1000
"""Made-up doublets that are summed at a time."""
_NEIGHBORS = 100
_PENALTY = 0.01
_FOLDS = 5
_LEAST = 20
"""With fewer hashtag doublets the score is not compared with them."""


@dataclass(frozen=True, slots=True)
class Doublets:
    """Doublet evidence of all cells.

    Attributes
    ----------
    score : (cells,) probability that the barcode holds two cells, by expression alone; NaN where there is none.
    predicted : (cells,) whether the score reaches the threshold.
    record : pool -> numbers behind it (`find_doublets`).
    """

    score: npt.NDArray[np.float32]
    predicted: npt.NDArray[np.bool_]
    record: dict[str, dict[str, Any]]


def find_doublets(
    counts: sp.csr_matrix, calls: pd.DataFrame, params: DoubletParams, *, seed: int = 0, target_sum: float = 1e4
) -> Doublets:
    """Score every cell of ``counts`` (cells, genes), pool by pool.

    Parameters
    ----------
    calls : a row a cell: ``pool``, ``hashtag_kind`` ("" where there are no hashtags), ``hashtag_call`` and, where the
        demultiplexer gave it, ``doublet_probability``.

    Doublets are made up by summing two random cells (Wolock et al. 2019, doi:10.1016/j.cels.2018.11.005). A logistic
    regression tells them from the cells by the share of made-up doublets among the nearest neighbours (in principal
    components and number of molecules), by the number of molecules and by the components' squares; cells are scored
    by regressions that have not seen them. With f1 the density of doublets and f that of the pool's barcodes, the
    probability is
    ``share * f1 / f``, where f1 / f is what the regression estimates and ``share`` the pool's share of doublets:
    from the hashtags (`expected_doublets`), else ``params.share_per_1000``.

    ``record`` says per pool: ``share`` and where it comes from, ``expected_within_tag`` (doublets that hashtags cannot
    see), ``predicted``, ``predicted_singlets`` (of those that hashtags call singlets), ``score_hashtag_doublets`` and
    ``score_hashtag_singlets`` (means), ``auroc_hashtag_doublets`` (of the score, hashtag doublets against singlets)
    and, beside it, ``auroc_counts`` (of the number of molecules).
    """
    score = np.full(counts.shape[0], np.nan)
    record: dict[str, dict[str, Any]] = {}
    pools = calls["pool"].astype(str).to_numpy(dtype=object)
    for number, pool in enumerate(dict.fromkeys(pools)):
        member = np.flatnonzero(pools == pool)
        if len(member) < params.min_cells:
            record[pool] = {"cells": len(member), "reason": f"fewer than {params.min_cells} cells"}
            continue
        part = calls.iloc[member]
        share, entry = expected_doublets(part, params)
        cells = counts if len(member) == counts.shape[0] else counts[member]
        odds, total = _evidence(cells, part, params, np.random.default_rng([seed, number]), target_sum)
        if odds is None:
            record[pool] = {"cells": len(member), "reason": "no gene varies among its cells"}
            continue
        score[member] = np.minimum(share * np.exp(np.minimum(odds, 50.0)), 1.0)
        entry |= _comparison(part, score[member], total, params.threshold)
        record[pool] = entry
    score = score.round(6).astype(np.float32)
    return Doublets(score, np.nan_to_num(score) >= params.threshold, record)


def expected_doublets(calls: pd.DataFrame, params: DoubletParams) -> tuple[float, dict[str, Any]]:
    """(Share of doublets in a pool, record of it).

    With tag shares p among singlets, a pair has one tag with probability sum(p^2): hashtags see the rest of them.
    ``doublet_probability`` is summed up where the calls have it, else calls are counted.
    """
    n = len(calls)
    singlet = (calls["hashtag_kind"] == "singlet").to_numpy()
    tags = calls["hashtag_call"][singlet].astype(str).value_counts(normalize=True)
    within = float((tags**2).sum())
    if within <= 0 or within > 0.99:
        share = float(min(params.share_per_1000 * n / 1000, 0.5))
        return share, {"cells": n, "share": round(share, 6), "share_from": "number of cells"}
    seen = float((calls["hashtag_kind"] == "doublet").sum())
    if "doublet_probability" in calls and calls["doublet_probability"].notna().all():
        seen = float(calls["doublet_probability"].sum())
    share = float(np.clip(seen / n / (1 - within), 1 / n, 0.5))
    return share, {
        "cells": n,
        "share": round(share, 6),
        "share_from": "hashtags",
        "seen_by_hashtags": round(seen, 3),
        "expected_within_tag": round(share * n * within, 3),
    }


def _evidence(
    counts: sp.csr_matrix, calls: pd.DataFrame, params: DoubletParams, rng: np.random.Generator, target_sum: float
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.float64]]:
    """ln(f1 / f) of each cell of one pool, None where no gene varies, and its molecules."""
    n = counts.shape[0]
    total = cell_totals(counts).astype(np.float64)
    logs = log_normalised(counts, target_sum, total)
    chosen = variable_genes(logs, params.n_genes, min_cells=3)
    if not chosen.any():
        chosen = variable_genes(logs, params.n_genes)
    if not chosen.any():
        return None, total
    components = fit_components(logs[:, chosen], params.n_components)
    cells = components.scores(logs[:, chosen])
    del logs
    parents = np.flatnonzero((calls["hashtag_kind"] != "doublet").to_numpy())
    if len(parents) < 2:
        parents = np.arange(n)
    made = int(np.clip(params.ratio * n, 100, params.most))
    pairs = rng.choice(parents, (made, 2))
    sums, made_scores = total[pairs].sum(axis=1), np.zeros((made, cells.shape[1]), np.float32)
    picked = sp.csr_matrix(counts[:, chosen])
    for start in range(0, made, _ROWS):
        rows = slice(start, start + _ROWS)
        both = sp.csr_matrix(picked[pairs[rows, 0]] + picked[pairs[rows, 1]])
        made_scores[rows] = components.scores(log_normalised(both, target_sum, sums[rows]))
    size = np.log1p(np.append(total, sums))
    return _told_apart(np.vstack([cells, made_scores]), size, n, rng), total


def _told_apart(
    scores: npt.NDArray[np.float32],
    size: npt.NDArray[np.float64],
    n: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Log odds of being made up, both sides weighted equally, of the first ``n`` rows; the others are made up."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import NearestNeighbors
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    label = np.arange(len(scores)) >= n
    k = int(np.clip(np.sqrt(n), 10, _NEIGHBORS))
    spread = max(float(size[:n].std()), 1e-6)
    place = np.column_stack([scores / max(float(scores[:n, 0].std()), 1e-6), (size - size[:n].mean()) / spread])
    with threadpool_limits(1):
        nearest = NearestNeighbors(n_neighbors=k + 1).fit(place).kneighbors(place, return_distance=False)
        own = nearest == np.arange(len(scores))[:, None]
        share = (label[nearest] & ~own).sum(axis=1) / (~own).sum(axis=1)
        features = np.column_stack([share, size, scores.astype(float) ** 2])
        fold = rng.permutation(len(scores)) % _FOLDS
        odds = np.zeros(len(scores))
        for number in range(_FOLDS):
            model = make_pipeline(
                StandardScaler(), LogisticRegression(C=_PENALTY, class_weight="balanced", max_iter=2000)
            )
            seen = fold != number
            odds[~seen] = model.fit(features[seen], label[seen]).decision_function(features[~seen])
    return odds[:n]


def _comparison(
    calls: pd.DataFrame, score: npt.NDArray[np.float64], total: npt.NDArray[np.float64], threshold: float
) -> dict[str, Any]:
    """The scores of one pool beside the hashtags' calls."""
    doublet = (calls["hashtag_kind"] == "doublet").to_numpy()
    singlet = (calls["hashtag_kind"] == "singlet").to_numpy()
    over = score >= threshold
    result: dict[str, Any] = {"predicted": int(over.sum()), "score_sum": round(float(score.sum()), 3)}
    if singlet.any():
        result["predicted_singlets"] = int((over & singlet).sum())
    if doublet.sum() >= _LEAST and singlet.any():
        from scipy.stats import mannwhitneyu

        pairs = int(doublet.sum()) * int(singlet.sum())
        for name, values in (("auroc_hashtag_doublets", score), ("auroc_counts", total)):
            u = mannwhitneyu(values[doublet], values[singlet], method="asymptotic").statistic
            result[name] = round(float(u) / pairs, 6)
        result["score_hashtag_doublets"] = round(float(score[doublet].mean()), 6)
        result["score_hashtag_singlets"] = round(float(score[singlet].mean()), 6)
    return result
