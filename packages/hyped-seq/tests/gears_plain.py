"""GEARS a cell at a time with torch's own layers, from the model's description: what `GearsNetwork` is held against.

Every cell of a batch carries its own copy of every gene through the network, as the original does. Nothing of
`hyped_seq` is used; parameters are named alike so that a state dict fits both.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


def smoother(graph):
    """D^-1/2 (A + missing self loops) D^-1/2 of a graph, sparse float32 (nodes, nodes), row t the edges into t."""
    table = np.zeros((graph.nodes, graph.nodes))
    table[graph.targets, graph.sources] = graph.weights
    looped = graph.targets[graph.targets == graph.sources]
    missing = np.setdiff1d(np.arange(graph.nodes), looped)
    table[missing, missing] = 1
    degree = table.sum(1)
    root = np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0)
    return torch.from_numpy((table * root[:, None] * root).astype(np.float32)).to_sparse()


def mlp(*sizes):
    """Linear, norm, ReLU; the last ReLU left out."""
    layers = []
    for before, after in zip(sizes, sizes[1:]):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return Branch(nn.Sequential(*layers[:-1]))


class Branch(nn.Module):
    """A sequence under the name ``network``."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, rows):
        return self.network(rows)


class Layer(nn.Module):
    """A Linear under the name ``lin``."""

    def __init__(self, hidden):
        super().__init__()
        self.lin = nn.Linear(hidden, hidden)


class PlainGears(nn.Module):
    """Change of every gene of every cell."""

    def __init__(self, architecture, gene_graph, perturbation_graph):
        super().__init__()
        a = self.a = architecture
        h = a.hidden
        self.register_buffer("genes_near", smoother(gene_graph), persistent=False)
        self.register_buffer("perturbations_near", smoother(perturbation_graph), persistent=False)
        self.gene_emb = nn.Embedding(a.genes, h, max_norm=1.0)
        self.emb_pos = nn.Embedding(a.genes, h, max_norm=1.0)
        self.pert_emb = nn.Embedding(a.perturbations, h, max_norm=1.0)
        self.layers_emb_pos = nn.ModuleList(Layer(h) for _ in range(a.gene_layers))
        self.sim_layers = nn.ModuleList(Layer(h) for _ in range(a.perturbation_layers))
        self.bn_emb, self.bn_pert_base = nn.BatchNorm1d(h), nn.BatchNorm1d(h)
        self.emb_trans_v2, self.pert_fuse = mlp(h, h, h), mlp(h, h, h)
        self.recovery_w, self.cross_gene_state = mlp(h, 2 * h, h), mlp(a.genes, h, h)
        self.indv_w1 = nn.Parameter(torch.zeros(a.genes, h, 1))
        self.indv_b1 = nn.Parameter(torch.zeros(a.genes, 1))
        self.indv_w2 = nn.Parameter(torch.zeros(1, a.genes, h + 1))
        self.indv_b2 = nn.Parameter(torch.zeros(1, a.genes))
        if a.uncertainty:
            self.uncertainty_w = mlp(h, 2 * h, h, 1)
        if a.state:
            self.cell_state = nn.Linear(a.state, h, bias=False)
        if a.mode == "reference":
            self.pert_w, self.bn_pert_base_trans = nn.Linear(1, h), nn.BatchNorm1d(h)

    def forward(self, cells, signs=None, state=None):
        """``cells``: the perturbed genes of each; (cells, genes) change and log variance or None."""
        a, n = self.a, len(cells)
        every = torch.arange(a.genes).repeat(n)
        base = torch.relu(self.bn_emb(self.gene_emb(every)))
        position = self.emb_pos(every).reshape(n, a.genes, -1)
        for i, layer in enumerate(self.layers_emb_pos):
            reached = n if a.mode == "fixed" else 1
            columns = position[:reached].transpose(0, 1).reshape(a.genes, -1)
            near = (self.genes_near.to(columns.dtype) @ columns).reshape(a.genes, reached, -1).transpose(0, 1)
            position = layer.lin(torch.cat([near, position[reached:]]))
            if i + 1 < a.gene_layers:
                position = position.relu()
        base = self.emb_trans_v2(base + 0.2 * position.reshape(n * a.genes, -1)).reshape(n, a.genes, -1)
        table = self.pert_emb(torch.arange(a.perturbations))
        for i, layer in enumerate(self.sim_layers):
            table = layer.lin(self.perturbations_near.to(table.dtype) @ table)
            if i + 1 < a.perturbation_layers:
                table = table.relu()
        sums = {}
        for c, members in enumerate(cells):
            for j, p in enumerate(members):
                vector = table[p] * (1.0 if signs is None else signs[c][j])
                sums[c] = sums[c] + vector if c in sums else vector
        if sums:
            rows = list(sums.values())
            fused = self.pert_fuse(torch.stack(rows * 2 if len(rows) == 1 else rows))
            adds = dict(zip(sums, fused))
            base = torch.stack([base[c] + adds[c] if c in adds else base[c] for c in range(n)])
        rows = torch.relu(self.bn_pert_base(base.reshape(n * a.genes, -1)))
        decoded = self.recovery_w(rows).reshape(n, a.genes, -1)
        u = (decoded * self.indv_w1[None, :, :, 0]).sum(2) + self.indv_b1[:, 0]
        first, *rest = self.cross_gene_state.network
        vector = first(u) if state is None else first(u) + self.cell_state(state)
        for layer in rest:
            vector = layer(vector)
        both = torch.cat([u[:, :, None], vector[:, None].expand(-1, a.genes, -1)], 2)
        change = (both * self.indv_w2).sum(2) + self.indv_b2
        spread = self.uncertainty_w(rows).reshape(n, a.genes) if a.uncertainty else None
        return change, spread
