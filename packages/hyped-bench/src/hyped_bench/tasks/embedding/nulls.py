"""Random genes in place of the perturbed ones: matched for expression, never a real one, never one twice in a draw."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from hyped_core.design.model import Perturbation

MEAN_WINDOW = 0.5
"""A match's ln(1 + mean counts per 10,000) lies within this of the gene's."""
DETECTION_WINDOW = 0.2
"""A match is detected in a share of control cells within this of the gene's."""
FEWEST = 5
"""With fewer matches a gene has no null."""

Draw = dict[str, str]
"""Perturbed gene -> the gene in its place."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Genes that could stand in for a perturbed one.

    Attributes
    ----------
    mean : counts per 10,000, over control cells.
    detection : share of control cells with a count.
    columns : nearest first.
    """

    mean: float
    detection: float
    columns: npt.NDArray[np.intp]


def matched_genes(
    counts: csr_matrix, genes: Mapping[str, npt.NDArray[np.intp]], most: int
) -> dict[str, Matches]:
    """Matches of each gene among all others, by mean and detection in control cells.

    Parameters
    ----------
    counts
        (control cells, genes) raw counts.
    genes
        Perturbed gene -> its columns; none of these columns is a match of any of them.
    most
        At most as many matches, the nearest: the larger of the two differences, each over its window. A window
        around the gene is used, not fixed bins, whose edges would put a gene beside others on one side only.
    """
    totals = np.maximum(np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(), 1.0)
    means = np.asarray(counts.T @ (10_000.0 / totals), dtype=np.float64).ravel() / counts.shape[0]
    detected = np.bincount(counts.indices[counts.data > 0], minlength=counts.shape[1]) / counts.shape[0]
    level = np.log1p(means)
    real = np.concatenate([np.asarray(columns) for columns in genes.values()])
    found = {}
    for gene, columns in genes.items():
        own = columns[np.argmax(means[columns])]
        distance = np.maximum(
            np.abs(level - level[own]) / MEAN_WINDOW, np.abs(detected - detected[own]) / DETECTION_WINDOW
        )
        distance[real] = np.inf
        near = np.argsort(distance, kind="stable")[:most]
        found[gene] = Matches(float(means[own]), float(detected[own]), near[distance[near] <= 1.0])
    return found


def draw_genes(
    candidates: Mapping[str, Sequence[str]],
    partners: Mapping[str, set[str]],
    draws: int,
    usable: Callable[[str, str], bool],
    rng: np.random.Generator,
) -> tuple[list[Draw], dict[str, int]]:
    """Draws of one stand-in for each gene, the same in every condition the gene is perturbed in.

    A gene's stand-ins differ between draws as long as there are others, and between the genes of a draw (at least
    between ``partners``, genes of one condition, where a screen has more genes than matches).

    Parameters
    ----------
    candidates
        Perturbed gene -> names of its matches.
    usable
        (perturbed gene, stand-in) -> whether the model can perturb the stand-in; asked once a pair.

    Returns
    -------
    The draws (a gene that cannot be matched is absent from them), and for each gene how many different stand-ins
    it got.
    """
    queues = {gene: deque(rng.permutation(np.array(names, dtype=object))) for gene, names in candidates.items()}
    asked: dict[tuple[str, str], bool] = {}

    def take(gene: str, taken: set[str]) -> str | None:
        queue = queues[gene]
        for _ in range(len(queue)):
            name = str(queue[0])
            pair = gene, name
            if pair not in asked:
                asked[pair] = usable(gene, name)
            if not asked[pair]:
                queue.popleft()
                continue
            queue.rotate(-1)
            if name not in taken:
                return name
        return None

    found: list[Draw] = []
    for _ in range(draws):
        draw: Draw = {}
        for gene in queues:
            name = take(gene, set(draw.values()))
            if name is None:
                name = take(gene, {draw[other] for other in partners.get(gene, set()) if other in draw})
            if name is not None:
                draw[gene] = name
        found.append(draw)
    different = {gene: len({draw[gene] for draw in found if gene in draw}) for gene in queues}
    poor = {gene for gene, count in different.items() if count < min(FEWEST, draws)}
    return [{g: n for g, n in draw.items() if g not in poor} for draw in found], different


def in_place(perturbation: Perturbation, draw: Draw) -> Perturbation | None:
    """The perturbation with the draw's genes, same directions; None where one of them has no stand-in."""
    if not set(perturbation.genes) <= set(draw):
        return None
    changes = tuple(change.model_copy(update={"gene": draw[change.gene]}) for change in perturbation.changes)
    return Perturbation(name="+".join(change.gene for change in changes), changes=changes)
