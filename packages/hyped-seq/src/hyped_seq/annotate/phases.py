"""Cell-cycle phases from expression: a classifier trained on sorted cells, and the classic gene score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hyped_seq.annotate.cycle_genes import CycleGenes
from hyped_seq.annotate.params import PhaseParams

PHASES = ("G1", "S", "G2M")


@dataclass(frozen=True, slots=True)
class PhaseCalls:
    """Phases of all cells.

    Attributes
    ----------
    table : ``phase``, ``phase_source`` (``sorted``, ``classifier``, ``score``, ``none``),
    ``phase_classifier``
        (for sorted cells: called by a classifier that had not seen them), ``phase_probability``,
        ``phase_score``, ``score_S``, ``score_G2M``.
    record : held-out accuracies, agreement, genes used.
    """

    table: pd.DataFrame
    record: dict[str, Any]


def call_phases(
    logs: sp.csr_matrix,
    symbols: list[str],
    sorted_phase: pd.Series,
    groups: pd.Series,
    genes: CycleGenes,
    params: PhaseParams,
    *,
    seed: int = 0,
) -> PhaseCalls:
    """Call the phase of every cell.

    Parameters
    ----------
    logs : (cells, genes) ln(1 + CP10k).
    sorted_phase : phase by FACS where known, "" elsewhere; its index names the cells.
    groups : the pool of each cell: shares of phases are adapted per group.

    Sorted cells keep their FACS phase; others get the classifier's, or the gene score's where no classifier
    can be trained, or "" where too few cycle genes are in the matrix.
    """
    present = genes.present(symbols)
    used = [*present.s, *present.g2m]
    known = sorted_phase.astype(str).where(sorted_phase.astype(str).isin(PHASES), "")
    table = pd.DataFrame(
        {
            "phase": known,
            "phase_source": np.where(known != "", "sorted", "none"),
            "phase_classifier": "",
            "phase_probability": np.float32("nan"),
            "phase_score": "",
            "score_S": np.float32("nan"),
            "score_G2M": np.float32("nan"),
        },
        index=sorted_phase.index,
    )
    record: dict[str, Any] = {
        "genes_s": len(present.s),
        "genes_g2m": len(present.g2m),
        "sorted_cells": int((known != "").sum()),
    }
    if len(used) < params.min_genes or not present.s or not present.g2m:
        record["method"] = "none: too few cycle genes in the matrix"
        return PhaseCalls(table, record)
    s_score, g2m_score = gene_score(logs, symbols, present.s), gene_score(logs, symbols, present.g2m)
    table["score_S"], table["score_G2M"] = s_score.astype(np.float32), g2m_score.astype(np.float32)
    table["phase_score"] = phase_of_scores(s_score, g2m_score)
    position = {symbol: i for i, symbol in enumerate(symbols)}
    features = logs[:, [position[gene] for gene in used]].toarray().astype(np.float64)
    labels = known.to_numpy(dtype=object)
    per_phase = pd.Series(labels[labels != ""]).value_counts()
    trainable = len(per_phase) >= 2 and per_phase.min() >= max(params.min_cells, params.folds)
    if trainable:
        _classify(table, features, labels, groups.astype(str).to_numpy(dtype=object), params, seed, record)
    record["method"] = (
        "classifier trained on sorted cells" if trainable else "gene score: too few sorted cells"
    )
    source = "phase_classifier" if trainable else "phase_score"
    unsorted = (known == "").to_numpy()
    table.loc[unsorted, "phase"] = table.loc[unsorted, source]
    table.loc[unsorted, "phase_source"] = source.removeprefix("phase_")
    if unsorted.any() and trainable:
        agree = table.loc[unsorted, "phase_classifier"] == table.loc[unsorted, "phase_score"]
        record["agreement_classifier_score_unsorted"] = round(float(agree.mean()), 6)
    return PhaseCalls(table, record)


def _classify(
    table: pd.DataFrame,
    features: npt.NDArray[np.float64],
    labels: npt.NDArray[np.object_],
    groups: npt.NDArray[np.object_],
    params: PhaseParams,
    seed: int,
    record: dict[str, Any],
) -> None:
    """Fill ``phase_classifier`` and ``phase_probability``; put the held-out accuracies into ``record``."""
    known = labels != ""
    truth = labels[known].astype(str)
    penalty, held_out = _choose_penalty(features[known], truth, params, seed)
    fitted = _classifier(penalty).fit(features[known], truth)
    classes = np.array(sorted(set(truth)), dtype=object)
    probabilities = np.zeros((len(labels), len(classes)))
    probabilities[known] = held_out
    record["composition"] = {}
    for group in dict.fromkeys(groups[~known]):
        member = ~known & (groups == group)
        found = fitted.predict_proba(features[member])
        if params.adapt_composition:
            found, shares = adapt_composition(found)
            record["composition"][str(group)] = {
                str(k): round(float(v), 6) for k, v in zip(classes, shares, strict=True)
            }
        probabilities[member] = found
    table["phase_classifier"] = classes[probabilities.argmax(axis=1)]
    table["phase_probability"] = probabilities.max(axis=1).astype(np.float32)
    called = table["phase_classifier"].to_numpy()[known]
    record["penalty"] = penalty
    record["held_out_accuracy"] = _accuracy(truth, called)
    record["score_accuracy"] = _accuracy(truth, table["phase_score"].to_numpy()[known])
    record["confusion"] = {
        str(true): {str(name): int(((truth == true) & (called == name)).sum()) for name in classes}
        for true in classes
    }


def _classifier(penalty: float) -> Any:
    """Standardised multinomial logistic regression with all phases weighted equally."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(), LogisticRegression(C=penalty, class_weight="balanced", max_iter=1000, tol=1e-3)
    )


def _choose_penalty(
    features: npt.NDArray[np.float64], truth: npt.NDArray[np.str_], params: PhaseParams, seed: int
) -> tuple[float, npt.NDArray[np.float64]]:
    """The penalty with the least held-out log loss, and its held-out probabilities (cells, phases)."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(params.folds, shuffle=True, random_state=seed)
    tried = []
    for penalty in sorted(params.penalties):
        found = cross_val_predict(_classifier(penalty), features, truth, cv=folds, method="predict_proba")
        tried.append((float(log_loss(truth, found)), penalty, found))
    _, penalty, found = min(tried, key=lambda item: item[:2])
    return penalty, found


def adapt_composition(
    probabilities: npt.NDArray[np.float64], iterations: int = 500, tolerance: float = 1e-6
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Probabilities under the shares of classes that explain them best, and those shares.

    Expectation maximisation of Saerens et al. 2002 (doi:10.1162/089976602753284446) from equal shares;
    ``probabilities`` (cells, classes) have to come from a classifier trained with equal shares.
    """
    shares = np.full(probabilities.shape[1], 1 / probabilities.shape[1])
    adapted = probabilities
    for _ in range(iterations):
        adapted = probabilities * shares
        adapted = adapted / adapted.sum(axis=1, keepdims=True)
        updated = adapted.mean(axis=0)
        change = np.abs(updated - shares).max()
        shares = updated
        if change < tolerance:
            break
    return adapted, shares


def _accuracy(truth: npt.NDArray[np.object_], called: npt.NDArray[np.object_]) -> float:
    return round(float((truth == called).mean()), 6)


def gene_score(
    logs: sp.csr_matrix, symbols: list[str], genes: tuple[str, ...], n_bins: int = 25
) -> npt.NDArray[np.float64]:
    """Mean expression of ``genes`` minus that of all other genes of like mean expression, per cell.

    There are ``n_bins`` bins, fewer where they would hold less than 20 genes. The reference is every other
    gene of the bins (by mean) that ``genes`` fall into, weighted as ``genes`` are
    spread over the bins: the idea of Tirosh et al. 2016 without its random draw.
    """
    position = {symbol: i for i, symbol in enumerate(symbols)}
    chosen = np.array([position[gene] for gene in genes])
    mean = np.asarray(logs.mean(axis=0)).ravel()
    n_bins = max(1, min(n_bins, len(mean) // 20))
    bins = np.minimum(
        pd.Series(mean).rank(method="first").to_numpy() * n_bins // (len(mean) + 1), n_bins - 1
    ).astype(int)
    is_chosen = np.zeros(len(mean), dtype=bool)
    is_chosen[chosen] = True
    weights = np.zeros(len(mean))
    for number in np.unique(bins[chosen]):
        others = (bins == number) & ~is_chosen
        if others.any():
            weights[others] = (bins[chosen] == number).mean() / others.sum()
    total = weights.sum()
    reference = np.asarray(logs @ (weights / total if total > 0 else weights)).ravel()
    return np.asarray(logs[:, chosen].mean(axis=1)).ravel() - reference


def phase_of_scores(
    s_score: npt.NDArray[np.float64], g2m_score: npt.NDArray[np.float64]
) -> npt.NDArray[np.object_]:
    """G1 where both scores are at most zero, else the higher one's phase."""
    higher = np.where(g2m_score > s_score, "G2M", "S")
    return np.where((s_score <= 0) & (g2m_score <= 0), "G1", higher).astype(object)
