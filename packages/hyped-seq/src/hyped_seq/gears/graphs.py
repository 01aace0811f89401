"""Weighted directed graphs between genes: from co-expression and from shared terms, and their normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from hyped_core.errors import InvalidDataError
from hyped_seq.gears.terms import Terms, rows_of

_BLOCK_BYTES = 64 << 20
"""Genes whose similarities to all others fit in here are compared at once."""
_MOST_WAITING = 4_000_000
"""Edges held before all but the strongest are let go."""


@dataclass(frozen=True)
class Graph:
    """Edges ``sources[i] -> targets[i]`` of weight ``weights[i]`` among ``nodes`` nodes, each pair at most once.

    Attributes
    ----------
    sources, targets : int64, (edges,), from 0 to ``nodes - 1``.
    weights : float32, (edges,), at least 0 and finite.
    nodes : number of nodes; those without an edge are isolated.

    Raises
    ------
    InvalidDataError
        Arrays of unequal length, a node that is not there, an edge named twice, a negative or infinite weight.
    """

    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    nodes: int

    def __post_init__(self) -> None:
        for name, kind in (("sources", np.int64), ("targets", np.int64), ("weights", np.float32)):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=kind))
        if not len(self.sources) == len(self.targets) == len(self.weights):
            raise InvalidDataError("a graph needs as many sources as targets and weights", where="graph")
        ends = np.concatenate([self.sources, self.targets])
        if ends.size and (ends.min() < 0 or ends.max() >= self.nodes):
            raise InvalidDataError(
                f"an edge ends at node {int(ends.max() if ends.min() >= 0 else ends.min())}, of {self.nodes} nodes",
                where="graph",
                mend="number nodes from 0 in the order of the names",
            )
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all()):
            raise InvalidDataError("a weight is negative or not finite", where="graph")
        if len(np.unique(self.targets * self.nodes + self.sources)) < len(self.sources):
            raise InvalidDataError("an edge is named twice", where="graph", mend="keep one of each pair")

    def normalised(self) -> sp.csr_matrix:
        """D^-1/2 (A + I') D^-1/2 as float32 CSR, a row a target: what `SGConv` propagates with in one step.

        ``A[t, s]`` is the weight of s -> t. A node's own loop keeps its weight, a missing one gets 1. ``D`` holds
        the sums of A's rows; where one is 0, so are its row and column (`gcn_norm` of PyTorch Geometric 2.8;
        Kipf and Welling 2017, eq. 2).
        """
        loops = np.ones(self.nodes)
        own = self.sources == self.targets
        loops[self.sources[own]] = self.weights[own]
        every = np.arange(self.nodes)
        rows = np.concatenate([self.targets[~own], every])
        columns = np.concatenate([self.sources[~own], every])
        values = np.concatenate([self.weights[~own].astype(np.float64), loops])
        degree = np.bincount(rows, weights=values, minlength=self.nodes)
        scale = np.divide(1.0, np.sqrt(degree), out=np.zeros(self.nodes), where=degree > 0)
        values = (scale[columns] * values * scale[rows]).astype(np.float32)
        matrix = sp.csr_matrix((values, (rows, columns)), shape=(self.nodes, self.nodes))
        matrix.sort_indices()
        return matrix

    def isolated(self) -> np.ndarray:
        """True for nodes that no edge joins to another node, bool (nodes,)."""
        joined = np.zeros(self.nodes, dtype=bool)
        others = self.sources != self.targets
        joined[self.sources[others]] = True
        joined[self.targets[others]] = True
        return ~joined


def coexpression_graph(x: Any, *, neighbours: int = 20, threshold: float = 0.4) -> Graph:
    """Edges from the genes most correlated with each gene, itself among them.

    Into each gene come an edge of weight 1 from itself and edges from the ``neighbours`` genes of largest absolute
    Pearson correlation above ``threshold``, which is the weight. Of genes whose correlations are equal (in float32)
    those that come first in ``x`` are taken. A gene that does not vary has no edges, not even from itself
    (`Graph.normalised` gives it one).

    Parameters
    ----------
    x
        Log-normalised expression, (cells, genes), dense or sparse. Sums are float64.

    Raises
    ------
    InvalidDataError
        Fewer than two cells, or a value that is not finite.
    """
    from hyped_seq.gears.correlation import correlations

    varies, blocks = correlations(x)
    genes = len(varies)
    own = np.flatnonzero(varies)
    parts = [_none()]
    least, waiting = np.zeros(genes), 0
    for first, block in blocks:
        rows, columns = np.nonzero(block > threshold)
        ahead = columns > rows
        rows, columns = rows[ahead], columns[ahead]
        values = block[rows, columns].astype(np.float32)
        rows, columns = rows + first, columns + first
        for sources, targets in ((columns, rows), (rows, columns)):
            kept = values >= least[targets]
            parts.append((sources[kept], targets[kept], values[kept]))
            waiting += int(kept.sum())
        if waiting > _MOST_WAITING:
            parts = [_strongest(*_joined(parts), neighbours)]
            full = np.bincount(parts[0][1], minlength=genes) == neighbours
            lowest = np.full(genes, np.inf)
            np.minimum.at(lowest, parts[0][1], parts[0][2])
            least, waiting = np.where(full, lowest, 0.0), 0
    parts = [_strongest(*_joined(parts), neighbours), (own, own, np.ones(len(own)))]
    return Graph(*_joined(parts), genes)


def term_graph(terms: Terms, names: Sequence[str], *, neighbours: int = 20, threshold: float = 0.1) -> Graph:
    """Edges from the genes whose terms are most like each gene's, itself among them.

    The weight is the Jaccard similarity of the two genes' sets of terms. Into each gene come edges from the
    ``neighbours + 1`` genes of largest similarity above ``threshold``; of equal ones the name that sorts first (by
    code points) is taken, whatever the order of ``names``. A gene is 1 similar to itself; where more than
    ``neighbours`` genes with exactly its terms sort before it, its own edge is left out, and it gets one when the
    graph is normalised. A gene without terms is an isolated node.

    Parameters
    ----------
    names
        The nodes, in order; found among ``terms.genes`` as they are, else in upper case (`rows_of`).

    Raises
    ------
    InvalidDataError
        See `rows_of`.
    """
    rows = rows_of(terms, names)
    order = np.asarray(sorted(range(len(names)), key=lambda i: names[i]), dtype=np.int64)
    order = order[rows[order] >= 0]
    table = sp.csr_matrix(terms.table[rows[order]], dtype=np.int32)
    size = np.diff(table.indptr)
    across = sp.csr_matrix(table.T)
    width = max(1, _BLOCK_BYTES // (32 * max(len(order), 1)))
    parts = [_none()]
    for start in range(0, len(order), width):
        shared = table[start : start + width] @ across
        targets = np.repeat(np.arange(start, start + shared.shape[0]), np.diff(shared.indptr))
        values = shared.data / (size[targets] + size[shared.indices] - shared.data)
        alike = values > threshold
        parts.append(_strongest(shared.indices[alike], targets[alike], values[alike], neighbours + 1))
    sources, targets, values = _joined(parts)
    return Graph(order[sources], order[targets], values, len(names))


def _strongest(
    sources: np.ndarray, targets: np.ndarray, values: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ``most`` edges of largest value into each target; of equal ones those from the first sources."""
    order = np.lexsort((sources, -values, targets))
    sources, targets, values = sources[order], targets[order], values[order]
    place = np.arange(len(targets)) - np.searchsorted(targets, targets)
    kept = place < most
    return sources[kept], targets[kept], values[kept]


def _none() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    nodes = np.empty(0, dtype=np.int64)
    return nodes, nodes, np.empty(0)


def _joined(parts: Sequence[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sources, targets, values = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return sources, targets, values
