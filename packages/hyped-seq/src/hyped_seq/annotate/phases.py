"""Cell-cycle phases from expression: a classifier trained on sorted cells, and the classic gene score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError
from hyped_seq.annotate.cycle_genes import CycleGenes
from hyped_seq.annotate.phase_classify import CycleCounts, call_pool, train
from hyped_seq.annotate.phase_params import PhaseParams
from hyped_seq.annotate.phase_report import accuracy, agreement, cross_table, held_out, reliability
from hyped_seq.annotate.phase_score import gene_score, phase_of_scores
from hyped_seq.annotate.phase_store import PhaseClassifier, read_classifier

PHASES = ("G1", "S", "G2M")


@dataclass(frozen=True, slots=True)
class PhaseCalls:
    """Phases of all cells.

    Attributes
    ----------
    table : ``phase``, ``phase_source`` (``sorted``, ``classifier``, ``score``, ``none``), ``phase_classifier``
        (for sorted cells: called by a classifier that had not seen them), ``phase_probability`` (of
        ``phase_classifier``), ``phase_score``, ``score_S``, ``score_G2M``.
    record : ``method``, ``genes_s``, ``genes_g2m``, ``sorted_cells``; ``note``, in words, where the genes are
        too few for phases; with a classifier also:
        ``held_out_accuracy``, ``score_accuracy`` (the gene score's on the same cells), each with the ends of its
        95 % interval (``_lo``, ``_hi``) and its ``_recall`` by phase, all against what cells were sorted as;
        ``confusion``; ``calibration_error`` and ``reliability`` (`hyped_seq.annotate.phase_report.reliability`);
        ``temperature`` and ``loudness`` (`hyped_seq.annotate.phase_classify.train`);
        ``label_error``, the share of sorted cells estimated to be in another phase than sorted for (an accuracy
        above one minus it cannot be had); ``expected_accuracy``, the mean probability of the phases called in
        sorted cells; ``never_sorted``, phases that hence cannot be called;
        ``composition``, shares of phases by pool and by ``pool / condition``, each with its interval;
        ``agreement`` of classifier and gene score in the same groups, and
        ``agreement_classifier_score_unsorted`` over all; ``borrowed`` where the classifier is another experiment's.
    classifier : what was trained here; None where the sorted cells did not suffice.
    """

    table: pd.DataFrame
    record: dict[str, Any]
    classifier: PhaseClassifier | None = None


def call_phases(
    logs: sp.csr_matrix,
    symbols: list[str],
    sorted_phase: pd.Series,
    groups: pd.Series,
    genes: CycleGenes,
    params: PhaseParams,
    *,
    counts: sp.csr_matrix,
    conditions: pd.Series,
    seed: int = 0,
) -> PhaseCalls:
    """Call the phase of every cell.

    Parameters
    ----------
    logs : (cells, genes) ln(1 + CP10k).
    sorted_phase : phase by FACS where known, "" elsewhere; its index names the cells.
    groups : the pool of each cell: genes' shifts and shares of phases are estimated per pool.
    counts : (cells, genes) raw counts.
    conditions : condition of each cell, "" where unknown; shares of phases are estimated per condition of a pool.

    Sorted cells keep their FACS phase; others get the classifier's, or the gene score's where no classifier
    can be trained and none is given, or "" where too few cycle genes are in the matrix.

    Raises
    ------
    MissingFileError, InvalidDataError
        ``params.classifier`` is needed and is no classifier, or has hardly a gene in common with the matrix.
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
        record["note"] = (
            f"phases: the matrix has {len(present.s)} of {len(genes.s)} genes of S and {len(present.g2m)} of "
            f"{len(genes.g2m)} of G2/M, too few to call a phase; give your species' genes (--genes)"
        )
        return PhaseCalls(table, record)
    s_score, g2m_score = gene_score(logs, symbols, present.s), gene_score(logs, symbols, present.g2m)
    table["score_S"], table["score_G2M"] = s_score.astype(np.float32), g2m_score.astype(np.float32)
    table["phase_score"] = phase_of_scores(s_score, g2m_score)
    per_phase = known[known != ""].value_counts()
    unsorted = (known == "").to_numpy()
    pools, conditions = groups.astype(str), conditions.astype(str)
    source, trained = "phase_classifier", None
    if len(per_phase) >= 2 and per_phase.min() >= max(params.min_cells, params.folds):
        record["method"] = "classifier trained on sorted cells"
        trained = _classify(
            table, CycleCounts.of(counts, symbols, used), used, known, pools, conditions, params, seed, record
        )
    elif params.classifier is not None:
        other, names = read_classifier(params.classifier, PHASES).among(symbols)
        if len(names) < params.min_genes:
            raise InvalidDataError(
                f"shares {len(names)} genes with the matrix, needs {params.min_genes}",
                where=params.classifier,
                mend="take a classifier of the same organism and gene names",
            )
        record["method"] = "classifier of another experiment: too few sorted cells"
        _borrow(table, CycleCounts.of(counts, symbols, names), other, pools, conditions, params, seed, record)
    else:
        record["method"] = "gene score: too few sorted cells"
        source = "phase_score"
    if source == "phase_classifier":
        _agree(table, unsorted, pools, conditions, record)
    table.loc[unsorted, "phase"] = table.loc[unsorted, source]
    table.loc[unsorted, "phase_source"] = source.removeprefix("phase_")
    return PhaseCalls(table, record, trained)


def _classify(
    table: pd.DataFrame,
    cells: CycleCounts,
    genes: list[str],
    known: pd.Series,
    pools: pd.Series,
    conditions: pd.Series,
    params: PhaseParams,
    seed: int,
    record: dict[str, Any],
) -> PhaseClassifier:
    """Fill ``phase_classifier`` and ``phase_probability``; put figures and shares into ``record``."""
    rng = np.random.default_rng(seed)
    labels = known.to_numpy(dtype=object)
    is_sorted = labels != ""
    phases = tuple(phase for phase in PHASES if (labels == phase).any())
    seen = cells.counts[is_sorted].any(axis=0)
    cells = CycleCounts(cells.counts[:, seen], cells.depth)
    truth = labels[is_sorted]
    codes = np.array([phases.index(label) for label in truth], dtype=np.int64)
    trained = train(cells.at(is_sorted), codes, phases, params, rng)
    probability = np.zeros((len(labels), len(phases)))
    probability[is_sorted] = trained.phase_probability
    record["composition"] = {}
    for pool in sorted(set(pools[~is_sorted])):
        member = np.flatnonzero(~is_sorted & (pools == pool).to_numpy())
        names = conditions.to_numpy(dtype=object)[member]
        models = [trained.model, *trained.siblings]
        probability[member] = call_pool(
            cells.at(member), names, pool, phases, models, trained.temperature, params, rng, record
        )
    table["phase_classifier"] = np.array(phases, dtype=object)[probability.argmax(axis=1)]
    table["phase_probability"] = probability.max(axis=1).astype(np.float32)
    called = table["phase_classifier"].to_numpy(dtype=object)[is_sorted]
    label_probability = trained.label_probability[np.arange(len(truth)), probability[is_sorted].argmax(axis=1)]
    record |= held_out("held_out", truth, called, phases)
    record |= held_out("score", truth, table["phase_score"].to_numpy(dtype=object)[is_sorted], phases)
    record |= reliability(label_probability, called == truth)
    record["temperature"] = trained.temperature
    record["loudness"] = trained.model.loudness
    record["label_error"] = round(trained.model.label_error(), 6)
    record["expected_accuracy"] = round(float(trained.phase_probability.max(axis=1).mean()), 6)
    record["confusion"] = cross_table(truth, called, phases)
    record["never_sorted"] = [phase for phase in PHASES if phase not in phases]
    kept = tuple(gene for gene, here in zip(genes, seen, strict=True) if here)
    return PhaseClassifier(kept, phases, trained.model, trained.temperature, record["held_out_accuracy"])


def _borrow(
    table: pd.DataFrame,
    cells: CycleCounts,
    other: PhaseClassifier,
    pools: pd.Series,
    conditions: pd.Series,
    params: PhaseParams,
    seed: int,
    record: dict[str, Any],
) -> None:
    """Fill ``phase_classifier`` and ``phase_probability`` of all cells by a classifier of another experiment."""
    rng = np.random.default_rng(seed)
    probability = np.zeros((len(table), len(other.phases)))
    record["composition"] = {}
    record["borrowed"] = {"genes": len(other.genes), "held_out_accuracy_there": other.held_out_accuracy}
    for pool in sorted(set(pools)):
        member = np.flatnonzero((pools == pool).to_numpy())
        names = conditions.to_numpy(dtype=object)[member]
        probability[member] = call_pool(
            cells.at(member), names, pool, other.phases, [other.model], other.temperature, params, rng, record
        )
    table["phase_classifier"] = np.array(other.phases, dtype=object)[probability.argmax(axis=1)]
    table["phase_probability"] = probability.max(axis=1).astype(np.float32)


def _agree(
    table: pd.DataFrame,
    unsorted: npt.NDArray[np.bool_],
    pools: pd.Series,
    conditions: pd.Series,
    record: dict[str, Any],
) -> None:
    """Agreement of classifier and gene score among unsorted cells, by condition of a pool."""
    if not unsorted.any():
        return
    names = pools.where(conditions == "", pools + " / " + conditions)[unsorted]
    classifier, score = (
        table[column].to_numpy(dtype=object)[unsorted] for column in ("phase_classifier", "phase_score")
    )
    record["agreement_classifier_score_unsorted"] = accuracy(classifier, score)
    record["agreement"] = agreement(classifier, score, names, PHASES)
