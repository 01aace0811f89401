"""Predictions of a trained GEARS: mean expression under many perturbations at once, and cells under one.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    from hyped_core.design import Perturbation
    from hyped_seq.gears.checkpoint import Checkpoint

Singles = npt.NDArray[np.float32]
_CELLS_AT_ONCE = 4096
"""Cells whose changes are computed in one go: bounds memory, not results."""


@dataclass(frozen=True, eq=False)
class PredictedCells:
    """Cells under one perturbation.

    Attributes
    ----------
    x : (cells, genes) float32.
    log_variance : (cells, genes) float32, read-only where all cells share a row; None without an uncertainty head.
    fallback : why the prediction says nothing of this perturbation; empty where it does.
    notes : what else the user should be told.
    """

    x: Singles
    log_variance: Singles | None
    fallback: str
    notes: tuple[str, ...]


def predict_cells(checkpoint: Checkpoint, x: Singles, perturbation: Perturbation) -> PredictedCells:
    """Control cells (cells, genes) as they are predicted to be under ``perturbation``; ``x`` is left as it is.

    Mode ``fixed``: each cell's change is that of its state; see `moved_cells`. The control is the cells themselves.
    Mode ``reference``: ``x`` + change, negative values included, where the first cell has the change that the
    original gives the first one of a batch (the co-expression graph reaches it alone), and the control, too, is what
    the network says of it.

    Raises
    ------
    UnknownPerturbation
        A gene has no node in the perturbation graph.
    InvalidDataError
        A gene is changed twice.
    """
    nodes, signs = _encoded(checkpoint, perturbation)
    network = checkpoint.network
    reference = checkpoint.architecture.mode == "reference"
    if perturbation.is_control and not reference:
        found = x.copy()
    elif reference:
        found = x + _array(network.changes_of_cells(nodes, signs))
        found[0] = x[0] + _array(network.changes_of_cells(nodes, signs, first=True))[0]
    elif checkpoint.architecture.state and checkpoint.states is not None:
        change = np.empty(x.shape, dtype=np.float32)
        state = torch.from_numpy(checkpoint.states.of(x))
        for start in range(0, len(x), _CELLS_AT_ONCE):
            part = slice(start, start + _CELLS_AT_ONCE)
            change[part] = _array(network.changes_of_cells(nodes, signs, state[part]))
        found = moved_cells(x, change)
    else:
        found = moved_cells(x, _array(network.changes_of_cells(nodes, signs)))
    spread = None
    if checkpoint.architecture.uncertainty:
        side = None if signs is None else [signs]
        spread = np.broadcast_to(_array(network.log_variances([nodes], side)), x.shape)
        if reference:
            spread = spread.copy()
            spread[0] = _array(network.log_variances([nodes], side, first=True))[0]
    return PredictedCells(found, spread, fallback(checkpoint, perturbation), notes_of(checkpoint, perturbation))


def predict_means(checkpoint: Checkpoint, x: Singles, perturbations: Sequence[Perturbation]) -> Singles:
    """(perturbations, genes) mean of `predict_cells` for each of many perturbations, without making the cells.

    A perturbation costs one row through the network, whatever the number of cells.

    Raises
    ------
    UnknownPerturbation, InvalidDataError
        As `predict_cells`.
    """
    base = x.mean(axis=0, dtype=np.float64)
    encoded = [_encoded(checkpoint, perturbation) for perturbation in perturbations]
    sets = [nodes for nodes, _ in encoded]
    signs = [side for _, side in encoded if side is not None] if checkpoint.params.direction == "signed" else None
    network = checkpoint.network
    if not sets:
        return np.zeros((0, x.shape[1]), dtype=np.float32)
    if checkpoint.architecture.mode == "reference":
        first, rest = (_array(network.changes(sets, signs, first=one)).astype(np.float64) for one in (True, False))
        return (base + (first + (len(x) - 1) * rest) / len(x)).astype(np.float32)
    state = None
    if checkpoint.architecture.state and checkpoint.states is not None:
        state = torch.from_numpy(checkpoint.states.of(x))
    change = _array(network.changes(sets, signs, state=state)).astype(np.float64)
    change[[not nodes for nodes in sets]] = 0
    return np.maximum(base + change, 0).astype(np.float32)


def moved_cells(x: Singles, change: Singles) -> Singles:
    """Cells after a change, never negative, with the mean that the change gives them.

    ``x + change`` floored at zero has too high a mean where cells that do not express a gene would fall below zero;
    so each gene is then scaled to ``max(mean(x + change), 0)``.

    Parameters
    ----------
    x : (cells, genes), at least zero.
    change : (cells, genes), or (1, genes) for all cells.
    """
    moved = x + change
    target = np.maximum(moved.mean(axis=0, dtype=np.float64), 0)
    np.maximum(moved, 0, out=moved)
    mean = moved.mean(axis=0, dtype=np.float64)
    factor = np.divide(target, mean, out=np.zeros_like(target), where=mean > 0)
    moved *= np.minimum(factor, 1).astype(np.float32)
    return moved


def fallback(checkpoint: Checkpoint, perturbation: Perturbation) -> str:
    """Which genes neither training cells nor the perturbation graph say anything of; empty where there are none.

    A gene's vector is made of those of the nodes it takes from: paths of edges into it as long as there are graph
    convolutions. Training teaches what the genes perturbed in it take from; a gene is spoken for where it takes from
    any of these too. Of a checkpoint that does not say what it was trained on (an official one), nothing can be said.
    """
    if not checkpoint.trained_genes:
        return ""
    positions, graph = checkpoint.positions, checkpoint.perturbation_graph
    into = graph.normalised()  # a row holds what a node takes from, itself included
    into.eliminate_zeros()
    taught = np.zeros(graph.nodes, dtype=bool)
    taught[[positions[gene] for gene in checkpoint.trained_genes if gene in positions]] = True
    layers = range(checkpoint.architecture.perturbation_layers)
    for _ in layers:
        taught = into.T.astype(bool) @ taught
    reached = taught
    for _ in layers:
        reached = into.astype(bool) @ reached
    silent = [gene for gene in perturbation.genes if not reached[positions[gene]]]
    if not silent:
        return ""
    return (
        f"no term or training cell says anything of {', '.join(silent)}: no cell with it perturbed was trained on, and "
        "in the perturbation graph it shares no neighbour with a gene that was"
    )


def notes_of(checkpoint: Checkpoint, perturbation: Perturbation) -> tuple[str, ...]:
    """What to say beside a prediction: a suppression that is encoded as an activation."""
    if checkpoint.params.direction == "signed":
        return ()
    down = [change.gene for change in perturbation.changes if change.direction == "suppression"]
    if not down:
        return ()
    return (
        f"direction: ignored: the suppression of {', '.join(down)} is encoded as the activation is, as the original "
        "does; what it means follows from the cells that were trained on",
    )


def _encoded(
    checkpoint: Checkpoint, perturbation: Perturbation
) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """Nodes of the perturbed genes, and their signs where directions count."""
    nodes, signs = checkpoint.encode(perturbation)
    if len(set(nodes)) < len(nodes):
        raise InvalidDataError(
            "changes a gene twice", where=f"perturbation {perturbation.name!r}", mend="name each gene once"
        )
    return nodes, signs if checkpoint.params.direction == "signed" else None


def _array(values: torch.Tensor) -> Singles:
    return values.detach().cpu().numpy()
