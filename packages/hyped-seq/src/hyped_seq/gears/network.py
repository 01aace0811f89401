"""The network of GEARS, computed once for each distinct set of perturbed genes of a batch and not for each cell.

What a cell's own row would add is its weight in the batch normalisations, so that output, gradient and running
statistics are those of the cell-by-cell computation (Roohani et al. 2023, Nature Biotechnology).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hyped_core.errors import InvalidDataError
from hyped_seq.gears.architecture import Architecture, Batch, Sets, Signs, check_batch, check_sets
from hyped_seq.gears.decoder import Workspace, decode, hidden_rows
from hyped_seq.gears.graph_conv import Convolution, Neighbours
from hyped_seq.gears.weighted_norm import Block, WeightedBatchNorm

if TYPE_CHECKING:
    from hyped_seq.gears.graphs import Graph

POSITION_SHARE = 0.2
"""Of the co-expression embedding in a gene's vector (the original's constant)."""
_SETS_AT_ONCE = 32
"""Perturbation sets predicted in one go: bounds memory, not results."""


class GearsNetwork(nn.Module):
    """Change of every gene under a set of perturbed genes; parameters are named as in the original's checkpoints.

    Parameters
    ----------
    architecture
        Sizes.
    gene_graph, perturbation_graph
        Of as many nodes as the architecture says.
    generator
        Draws the initial weights; None: torch's own.

    Raises
    ------
    InvalidDataError
        A graph of another size.
    """

    def __init__(
        self,
        architecture: Architecture,
        gene_graph: Graph,
        perturbation_graph: Graph,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, graph, nodes in (
            ("co-expression graph", gene_graph, architecture.genes),
            ("perturbation graph", perturbation_graph, architecture.perturbations),
        ):
            if graph.nodes != nodes:
                raise InvalidDataError(f"{graph.nodes} nodes where the network has {nodes}", where=name)
        self.architecture = architecture
        genes, perturbations, hidden = architecture.genes, architecture.perturbations, architecture.hidden
        with torch.random.fork_rng(devices=[]):  # the modules' own draws, replaced below, leave torch's state alone
            self.gene_emb = nn.Embedding(genes, hidden)
            self.pert_emb = nn.Embedding(perturbations, hidden)
            self.emb_pos = nn.Embedding(genes, hidden)
            self.layers_emb_pos = nn.ModuleList(Convolution(hidden) for _ in range(architecture.gene_layers))
            self.sim_layers = nn.ModuleList(Convolution(hidden) for _ in range(architecture.perturbation_layers))
            self.bn_emb = WeightedBatchNorm(hidden)
            self.emb_trans_v2 = Block(hidden, hidden, hidden)
            self.pert_fuse = Block(hidden, hidden, hidden)
            self.bn_pert_base = WeightedBatchNorm(hidden)
            self.recovery_w = Block(hidden, 2 * hidden, hidden)
            self.cross_gene_state = Block(genes, hidden, hidden)
            self.indv_w1 = nn.Parameter(torch.empty(genes, hidden, 1))
            self.indv_b1 = nn.Parameter(torch.empty(genes, 1))
            self.indv_w2 = nn.Parameter(torch.empty(1, genes, hidden + 1))
            self.indv_b2 = nn.Parameter(torch.empty(1, genes))
            if architecture.uncertainty:
                self.uncertainty_w = Block(hidden, 2 * hidden, hidden, 1)
            if architecture.state:
                self.cell_state = nn.Linear(architecture.state, hidden, bias=False)
            if architecture.mode == "reference":  # without effect in the original too, but in its checkpoints
                self.pert_w = nn.Linear(1, hidden)
                self.bn_pert_base_trans = WeightedBatchNorm(hidden)
        self.gene_neighbours = Neighbours(gene_graph)
        self.perturbation_neighbours = Neighbours(perturbation_graph)
        self._workspace = Workspace()
        self._draw(generator)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator | None) -> None:
        """Initial weights, from the distributions of the original."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                module.weight.normal_(generator=generator)
            elif isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.uniform_(-bound, bound, generator=generator)
        for weight in (self.indv_w1, self.indv_b1, self.indv_w2, self.indv_b2):
            nn.init.xavier_normal_(weight, generator=generator)
        if self.architecture.state:
            self.cell_state.weight.zero_()

    def train(self, mode: bool = True) -> GearsNetwork:
        """As torch's; out of training the memory of its steps is let go."""
        if not mode:
            self._workspace.clear()
        return super().train(mode)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Predicted change of each cell, control expression not added, and the log variance in uncertainty mode.

        Returns
        -------
        (cells, genes) and (cells, genes) or None.

        Raises
        ------
        InvalidDataError
            A gene that the perturbation graph has not, shapes that do not fit, or a single cell in training, which
            has no statistics to normalise by.
        """
        check_batch(batch, self.architecture, training=self.training)
        of_cell = batch.of_cell
        counts = torch.bincount(of_cell, minlength=len(batch.sets))
        moves = self._moves(batch.sets, batch.signs, counts)
        group_of_cell = of_cell
        bases = self._bases(len(of_cell))
        if self.architecture.mode == "reference":  # the first cell is a group of its own, with a base of its own
            counts = counts - torch.nn.functional.one_hot(of_cell[0], len(counts))
            groups = torch.cat([of_cell[:1], counts.nonzero()[:, 0]])
            place = torch.zeros_like(counts).index_copy_(
                0, groups[1:], torch.arange(1, len(groups), device=groups.device)
            )
            group_of_cell = place[of_cell]
            group_of_cell[0] = 0
            moves = moves.index_select(0, groups)
            counts = counts[groups]
            counts[0] = 1
        weights = counts.to(moves.dtype)
        rows, spread = self._decode(bases, moves, weights, len(of_cell))
        return self._outcome(rows, spread, weights, group_of_cell, batch.state)

    def _bases(self, cells: int) -> Tensor:
        """Gene vectors, (1, genes, hidden); in mode ``reference`` (2, genes, hidden): of the first cell, of others."""
        genes, hidden = self.architecture.genes, self.architecture.hidden
        own = torch.relu(self.bn_emb(_renormalised(self.gene_emb), None, float(cells * genes)))
        position = _renormalised(self.emb_pos)
        positions = [self._position(position, reached=True)]
        weights = None
        if self.architecture.mode == "reference" and cells > 1:
            positions.append(self._position(position, reached=False))
            weights = torch.tensor([1.0, cells - 1.0], dtype=own.dtype, device=own.device).repeat_interleave(genes)
        rows = torch.cat([torch.add(own, p, alpha=POSITION_SHARE) for p in positions])
        return self.emb_trans_v2(rows, weights, float(cells * genes)).reshape(-1, genes, hidden)

    def _position(self, rows: Tensor, *, reached: bool) -> Tensor:
        for i, layer in enumerate(self.layers_emb_pos):
            rows = layer(self.gene_neighbours(rows) if reached else rows)
            if i < len(self.layers_emb_pos) - 1:
                rows = torch.relu(rows)
        return rows

    def _moves(self, sets: Sets, signs: Signs | None, counts: Tensor) -> Tensor:
        """What a set adds to every gene's vector, (sets, hidden); zero for control."""
        rows = _renormalised(self.pert_emb)
        perturbed = [i for i, s in enumerate(sets) if len(s)]
        if not perturbed:
            return rows.new_zeros(len(sets), self.architecture.hidden)
        for layer in self.sim_layers[:-1]:
            rows = torch.relu(layer(self.perturbation_neighbours(rows)))
        members = [sets[i] for i in perturbed]
        sides = None if signs is None else [signs[i] for i in perturbed]
        sums = self.perturbation_neighbours.of_sets(rows, members, sides)
        times = [float(len(s)) for s in members] if sides is None else [float(sum(s)) for s in sides]
        last = self.sim_layers[-1].lin
        shares = torch.tensor(times, dtype=sums.dtype, device=sums.device)[:, None]
        sums = sums @ last.weight.T + shares * last.bias
        where = torch.tensor(perturbed, device=sums.device)
        weights = counts[where].to(sums.dtype)
        cells = float(weights.sum())
        if cells == 1:  # a single perturbed cell enters its norms twice in the original
            weights, cells = weights * 2, 2.0
        fused = self.pert_fuse(sums, weights, cells)
        return fused.new_zeros(len(sets), fused.shape[1]).index_copy(0, where, fused)

    def _decode(self, bases: Tensor, moves: Tensor, weights: Tensor, cells: int) -> tuple[Tensor, Tensor | None]:
        """Decoder's (and uncertainty head's) number for each group and gene: (groups, genes)."""
        bases, moves = self._norm_of_sums(bases, moves, weights, cells)
        readout, bias = self.indv_w1[:, :, 0], self.indv_b1[:, 0]
        rows = decode(bases, moves, weights, cells, self.recovery_w, readout, bias, self._workspace)
        if not self.architecture.uncertainty:
            return rows, None
        genes = self.architecture.genes
        inputs = hidden_rows(bases, moves).flatten(0, 1)
        spread = self.uncertainty_w(inputs, weights.repeat(genes), float(cells * genes))
        return rows, spread.reshape(genes, len(moves)).T

    def _norm_of_sums(self, bases: Tensor, moves: Tensor, weights: Tensor, cells: int) -> tuple[Tensor, Tensor]:
        """Fold the norm of ``bases[kind, gene] + moves[group]`` into its two terms.

        Mean and variance over all pairs follow from those of the terms: no pair is formed.
        """
        norm = self.bn_pert_base
        if norm.training:
            share = (weights / cells)[:, None]
            means = bases.mean(1)
            variances = (bases - means[:, None]).square().mean(1)
            if len(bases) > 1:
                kinds = torch.ones(len(moves), dtype=torch.long, device=moves.device)
                kinds[0] = 0
                means, variances = means[kinds], variances[kinds]
            centres = means + moves
            mean = (share * centres).sum(0)
            variance = (share * (variances + (centres - mean).square())).sum(0)
            norm.track(mean, variance, float(cells * self.architecture.genes))
        else:
            mean, variance = norm.running_mean, norm.running_var
        scale, shift = norm.affine(mean, variance)
        return bases * scale + shift, moves * scale

    def _outcome(
        self, rows: Tensor, spread: Tensor | None, weights: Tensor, group_of_cell: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The cross-gene block and the second gene-specific map, for cells."""
        layers = self.cross_gene_state.network
        cells = float(len(group_of_cell))
        hidden = layers[0](rows)
        if state is None:
            vectors = layers[4](layers[3](torch.relu(layers[1](hidden, weights, cells))), weights, cells)
            change = self._readout(rows, vectors).index_select(0, group_of_cell)
        else:
            hidden = hidden.index_select(0, group_of_cell) + self.cell_state(state.to(hidden.dtype))
            vectors = layers[4](layers[3](torch.relu(layers[1](hidden, None, cells))), None, cells)
            change = self._readout(rows.index_select(0, group_of_cell), vectors)
        return change, None if spread is None else spread.index_select(0, group_of_cell)

    def _readout(self, rows: Tensor, vectors: Tensor) -> Tensor:
        weights = self.indv_w2[0]
        return torch.addcmul(torch.addmm(self.indv_b2, vectors, weights[:, 1:].T), rows, weights[:, 0])

    @torch.no_grad()
    def changes(
        self, sets: Sets, signs: Signs | None = None, *, state: Tensor | None = None, first: bool = False
    ) -> Tensor:
        """Change under each set, averaged over cells of the states given; by running statistics, without gradient.

        Parameters
        ----------
        sets, signs
            As in :class:`Batch`.
        state
            (cells, state); None: one cell of zero scores.
        first
            Mode ``reference``: of the first cell of a batch, else of the others.

        Returns
        -------
        (sets, genes)
        """
        with self._evaluating():
            state = self._some_state(state)
            return torch.cat([self._mean_change(rows, state) for rows, _ in self._decoded(sets, signs, first)])

    @torch.no_grad()
    def changes_of_cells(
        self,
        members: Sequence[int],
        sign: Sequence[float] | None = None,
        state: Tensor | None = None,
        *,
        first: bool = False,
    ) -> Tensor:
        """Change under one set for cells of different states, (cells, genes); one row where no state is given."""
        with self._evaluating():
            state = self._some_state(state)
            ((rows, _),) = self._decoded([members], None if sign is None else [sign], first)
            return self._readout(rows, self._vectors(self.cross_gene_state.network[0](rows), state))

    @torch.no_grad()
    def log_variances(self, sets: Sets, signs: Signs | None = None, *, first: bool = False) -> Tensor:
        """Log variance under each set, (sets, genes).

        Raises
        ------
        InvalidDataError
            The network has no uncertainty head.
        """
        if not self.architecture.uncertainty:
            raise InvalidDataError("the network gives no log variance", mend="train with uncertainty: true")
        with self._evaluating():
            return torch.cat([spread for _, spread in self._decoded(sets, signs, first) if spread is not None])

    def _decoded(self, sets: Sets, signs: Signs | None, first: bool) -> Iterator[tuple[Tensor, Tensor | None]]:
        """:meth:`_decode` of a few sets at a time."""
        check_sets(sets, signs, self.architecture)
        bases = self._bases(2)[:1] if first else self._bases(2)[-1:]
        for start in range(0, len(sets), _SETS_AT_ONCE):
            part = slice(start, start + _SETS_AT_ONCE)
            counts = torch.ones(len(sets[part]), dtype=torch.long, device=bases.device)
            moves = self._moves(sets[part], None if signs is None else signs[part], counts)
            yield self._decode(bases, moves, counts.to(moves.dtype), len(moves))

    def _mean_change(self, rows: Tensor, state: Tensor | None) -> Tensor:
        hidden = self.cross_gene_state.network[0](rows)
        if state is None:
            return self._readout(rows, self._vectors(hidden, None))
        return self._readout(rows, torch.stack([self._vectors(row, state).mean(0) for row in hidden]))

    def _vectors(self, hidden: Tensor, state: Tensor | None) -> Tensor:
        """Cell vectors by running statistics from the first layer's output, one for each row of the state."""
        _, norm, _, linear, last = self.cross_gene_state.network
        return last(linear(torch.relu(norm(hidden if state is None else hidden + self.cell_state(state)))))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    def _some_state(self, state: Tensor | None) -> Tensor | None:
        """Check and convert a state; zero scores where the network takes one and none is given."""
        size, like = self.architecture.state, self.indv_b2
        if state is None:
            return like.new_zeros(1, size) if size else None
        if not size:
            raise InvalidDataError("a cell state for a network that takes none", where="state")
        if state.ndim != 2 or state.shape[1] != size or not len(state):
            raise InvalidDataError(f"a state of shape {tuple(state.shape)}, not (cells, {size})", where="state")
        return state.to(like)


@torch.no_grad()
def _scale_down(weight: Tensor) -> None:
    norms = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    weight.mul_(torch.where(norms > 1, 1 / (norms + 1e-7), torch.ones_like(norms)))


def _renormalised(embedding: nn.Embedding) -> Tensor:
    """The table after rows longer than 1 were scaled to 1 in place, as a lookup with ``max_norm`` 1 does."""
    _scale_down(embedding.weight)
    return embedding.weight
