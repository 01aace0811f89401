"""Training of GEARS: epochs of shuffled batches, the best one by validation, resumable after each.

The order of cells is drawn from the seed and the epoch's number alone, so that a run that was interrupted ends in the
very weights of one that was not. Importing this module imports torch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from hyped_core.errors import HypedError, InvalidDataError, MissingHardwareError
from hyped_seq.gears.checkpoint import Checkpoint
from hyped_seq.gears.checks import check_known, check_panel
from hyped_seq.gears.data import TrainingCells, training_cells
from hyped_seq.gears.evaluate import evaluation_set, predicted_means, scores, summary
from hyped_seq.gears.graphs import Graph, coexpression_graph, term_graph
from hyped_seq.gears.loss import autofocus_loss
from hyped_seq.gears.network import Architecture, Batch, GearsNetwork
from hyped_seq.gears.train_state import TrainState, fingerprint, read_state, write_state
from hyped_seq.torch_run import torch_threads

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_seq.gears.params import GearsParams
    from hyped_seq.gears.terms import Terms

LOG = logging.getLogger(__name__)
MOST_GRADIENT = 1.0
"""Every component of a gradient is cut to plus or minus this."""
RATE_DECAY = 0.5
"""Factor of the learning rate after each epoch."""


def fit(
    cells: AnnData,
    params: GearsParams,
    *,
    terms: Terms | None = None,
    validation: AnnData | None = None,
    start: Checkpoint | None = None,
    folder: Path | None = None,
    extra: Sequence[str] = (),
    context: RunContext,
) -> Checkpoint:
    """Train a network.

    Parameters
    ----------
    cells, validation
        See `hyped_seq.gears.data.training_cells`.
    terms
        Gene sets for the perturbation graph; without them the co-expression graph takes its place.
    start
        Go on from this model: its weights, graphs and states, on its gene panel.
    folder
        The state of training is kept here after each epoch, and training goes on from one that is found.
    extra
        Symbols that get a node in the perturbation graph beside those of the panel and of the training cells.

    Returns
    -------
    Checkpoint
        With the weights of the epoch of least validation ``mse_de`` (of the last epoch without validation). Its
        ``history`` has the columns ``epoch, learning_rate, train_loss`` and the metrics of
        `hyped_seq.gears.evaluate` with ``train_`` and ``validation_`` before them.

    Raises
    ------
    InvalidDataError, UnknownPerturbation
        Cells, labels or names that do not do; see `hyped_seq.gears.checks`.
    MissingHardwareError
        The device is not here.
    HypedError
        The loss became infinite.
    """
    device = _device(context.device)
    seed = training_seed(context, params)
    if start is not None:
        check_panel([str(name) for name in cells.var_names], start.genes, where="cells/var_names")
    data = training_cells(
        cells, params, validation=validation, seed=seed, states=None if start is None else start.states
    )
    checkpoint = _first(data, params, terms, extra, seed) if start is None else _go_on(data, params, start)
    for note in data.notes:
        LOG.warning("gears: %s", note)
    with torch_threads(context.threads):
        run = _Run(data, checkpoint, params, seed, device, context)
        state = run.train(folder)
    network = checkpoint.network
    network.load_state_dict(state.weights)
    checkpoint.network = network.to("cpu").eval().requires_grad_(False)
    checkpoint.history = pd.DataFrame(state.history)
    checkpoint.facts = _facts(data, checkpoint, state, seed)
    return checkpoint


def training_seed(context: RunContext, params: GearsParams) -> int:
    """Seed of weights, pairs and order of cells: of the run's seed and the parameters'."""
    return int(context.rng("gears", params.seed).integers(2**31))


def vocabulary(data: TrainingCells, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Nodes of the perturbation graph, sorted: symbols of the panel, perturbed genes, and those asked for."""
    return tuple(sorted({*data.symbols, *data.perturbed_genes, *extra}))


def graph_cells(data: TrainingCells, params: GearsParams) -> np.ndarray:
    """Rows that co-expression is taken from: training control cells; in mode ``reference`` those of single
    perturbations too, as the original."""
    if params.mode == "fixed":
        return data.control
    single = np.array([len(found.genes) < 2 for found in data.perturbations])
    return data.train[single[data.condition[data.train]]]


def panel_graph(data: TrainingCells, params: GearsParams) -> Graph:
    """Co-expression of the panel's genes among `graph_cells`."""
    rows = graph_cells(data, params)
    return coexpression_graph(data.x[rows], neighbours=params.neighbours, threshold=params.coexpression_threshold)


def _first(
    data: TrainingCells, params: GearsParams, terms: Terms | None, extra: Sequence[str], seed: int
) -> Checkpoint:
    """An untrained model."""
    names = vocabulary(data, extra)
    panel = panel_graph(data, params)
    if terms is None:
        perturbed = _renamed(panel, data.symbols, names)
    else:
        perturbed = term_graph(terms, names, neighbours=params.neighbours, threshold=params.term_threshold)
    fixed = params.mode == "fixed"
    states = data.states if fixed and params.state_dims and data.states is not None and data.states.dims else None
    architecture = Architecture(
        genes=len(data.genes),
        perturbations=len(names),
        hidden=params.hidden,
        gene_layers=params.gene_layers,
        perturbation_layers=params.perturbation_layers,
        uncertainty=params.uncertainty,
        state=states.dims if states is not None else 0,
        mode=params.mode,
    )
    generator = torch.Generator().manual_seed(seed)
    network = GearsNetwork(architecture, panel, perturbed, generator=generator)
    return Checkpoint(
        network, architecture, panel, perturbed, data.genes, names, params, data.control_mean,
        symbols=data.symbols, trained_genes=data.trained_genes(), states=states,
        facts={"perturbation_graph": "co-expression" if terms is None else "terms"},
    )  # fmt: skip


def _go_on(data: TrainingCells, params: GearsParams, start: Checkpoint) -> Checkpoint:
    """A copy of ``start`` to train on, once it fits cells and parameters."""
    import copy

    if start.architecture.mode != params.mode:
        raise InvalidDataError(
            f"the model to start from is of mode {start.architecture.mode!r}, {params.mode!r} is asked for",
            where="mode", mend="set the mode of the model, or start anew",
        )
    check_known(data.perturbed_genes, start.positions, where="cells/obs/perturbation")
    genes = tuple(sorted({*start.trained_genes, *data.trained_genes()}))
    return Checkpoint(
        copy.deepcopy(start.network).requires_grad_(True), start.architecture, start.gene_graph,
        start.perturbation_graph, start.genes, start.perturbations, params, data.control_mean,
        symbols=start.symbols, trained_genes=genes, states=start.states,
        facts={"perturbation_graph": start.facts.get("perturbation_graph", ""), "started_from": start.facts},
    )  # fmt: skip


def _renamed(panel: Graph, symbols: Sequence[str], names: Sequence[str]) -> Graph:
    """The panel's graph over ``names``; of columns with the same symbol the first stands for it."""
    position = {name: i for i, name in enumerate(names)}
    first: dict[str, int] = {}
    for i, symbol in enumerate(symbols):
        first.setdefault(symbol, i)
    node = np.array([position[s] if first[s] == i else -1 for i, s in enumerate(symbols)], dtype=np.int64)
    sources, targets = node[panel.sources], node[panel.targets]
    kept = (sources >= 0) & (targets >= 0)
    return Graph(sources[kept], targets[kept], panel.weights[kept], len(names))


class _Run:
    """One training."""

    def __init__(
        self, data: TrainingCells, checkpoint: Checkpoint, params: GearsParams, seed: int, device: torch.device,
        context: RunContext,
    ) -> None:  # fmt: skip
        self.data, self.params, self.seed, self.device, self.context = data, params, seed, device, context
        self.checkpoint = checkpoint
        self.sets = data.sets(checkpoint.positions)
        self.signs = data.signs() if params.direction == "signed" else None
        self.network = checkpoint.network.to(device)
        self.has_state = checkpoint.architecture.state > 0
        self.kept = torch.from_numpy(data.kept).to(device)
        self.control_mean = torch.from_numpy(data.control_mean).to(device)
        reference = params.mode == "reference"
        self.parts = {
            name: evaluation_set(data, rows, reference=reference, batch_cells=params.batch_cells)
            for name, rows in (("train", data.train), ("validation", data.validation))
            if len(rows)
        }

    def train(self, folder: Path | None) -> TrainState:
        """Run the epochs that are left; the state at the end, with the weights to keep."""
        params = self.params
        mark = ""
        # fused: one pass over each tensor, four times as fast here as torch's default on a CPU
        optimiser = torch.optim.Adam(
            self.network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay, fused=True
        )
        state = TrainState()
        if folder is not None:
            folder = Path(folder)
            mark = fingerprint(self.data, params, self.seed, self.checkpoint)
            state = read_state(folder, mark, self.network, optimiser)
            if state.epoch > params.epochs:
                raise InvalidDataError(
                    f"training there is {state.epoch} epochs on, {params.epochs} are asked for", where=folder,
                    mend="ask for as many, or give another folder",
                )
        for epoch in range(state.epoch, params.epochs):
            if params.patience and "validation" in self.parts and epoch - state.best_epoch >= params.patience:
                break
            rate = params.learning_rate * RATE_DECAY**epoch
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = self._epoch(epoch, optimiser)
            row = {"epoch": epoch + 1, "learning_rate": rate, "train_loss": loss} | self.evaluate()
            state.history.append(row)
            state.epoch = epoch + 1
            error = row.get("validation_mse_de", math.nan)
            if "validation" not in self.parts or not state.best_epoch or error < state.best:
                state.best, state.best_epoch = error, epoch + 1
                state.weights = {key: value.detach().cpu().clone() for key, value in self.network.state_dict().items()}
            if folder is not None:
                write_state(folder, mark, self.network, optimiser, state)
        return state

    def _epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> float:
        """One pass through the training cells; the mean loss of its batches."""
        self.network.train()
        batches = self._batches(epoch)
        total = torch.zeros((), device=self.device)
        for rows in self.context.progress.track(batches, f"gears epoch {epoch + 1} of {self.params.epochs}"):
            optimiser.zero_grad(set_to_none=True)
            loss = self._loss(rows)
            loss.backward()
            torch.nn.utils.clip_grad_value_(self.network.parameters(), MOST_GRADIENT)
            optimiser.step()
            total += loss.detach()
        mean = float(total) / len(batches)
        if not math.isfinite(mean):
            raise HypedError(
                f"the loss of epoch {epoch + 1} is {mean}", where="gears", mend="set learning_rate lower"
            )
        return mean

    def _batches(self, epoch: int) -> list[np.ndarray]:
        """Shuffled rows in whole batches, the rest left out; one batch of all where there are fewer cells than one."""
        rows, size = self.data.train, self.params.batch_cells
        order = rows[np.random.default_rng([self.seed, 15, epoch]).permutation(len(rows))]
        whole = len(order) // size
        return [order] if not whole else list(order[: whole * size].reshape(whole, size))

    def _loss(self, rows: np.ndarray) -> torch.Tensor:
        data, params = self.data, self.params
        present, of_cell = np.unique(data.condition[rows], return_inverse=True)
        pairs = data.pairs[rows]
        x, y = self._dense(pairs), self._dense(rows)
        state = torch.from_numpy(data.cell_states[pairs]).to(self.device) if self.has_state else None
        where = torch.from_numpy(of_cell).to(self.device)
        batch = Batch(
            sets=tuple(self.sets[i] for i in present),
            signs=None if self.signs is None else tuple(self.signs[i] for i in present),
            of_cell=where,
            state=state,
        )
        change, log_variance = self.network(batch)
        kept = self.kept[torch.from_numpy(present).to(self.device)]
        return autofocus_loss(
            change, log_variance, x, y, where, kept, self.control_mean,
            direction_weight=params.direction_weight, uncertainty_weight=params.uncertainty_weight,
        ).total  # fmt: skip

    def _dense(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.data.x[rows].toarray()).to(self.device)

    def evaluate(self) -> dict[str, float]:
        """Metrics of training and validation cells under the present weights."""
        self.network.eval()
        found = {}
        for name, cells in self.parts.items():
            predicted = predicted_means(self.network, cells, self.sets, self.signs)
            table = scores(predicted, cells, self.data.de_genes, self.data.control_mean, self.data.names)
            found |= {f"{name}_{metric}": value for metric, value in summary(table).items()}
        return found


def _facts(data: TrainingCells, checkpoint: Checkpoint, state: TrainState, seed: int) -> dict[str, object]:
    """What the model is, JSON-able; no time and no path."""
    perturbed, graph = checkpoint.perturbation_graph, checkpoint.gene_graph
    isolated = perturbed.isolated()
    zero = np.asarray(data.x[data.train].getnnz(axis=0)).ravel() == 0
    alone = [g for g in data.perturbed_genes if isolated[checkpoint.positions[g]]]
    return checkpoint.facts | {
        "mode": checkpoint.architecture.mode,
        "direction": checkpoint.params.direction,
        "cells": {"train": len(data.train), "control": len(data.control), "validation": len(data.validation)},
        "conditions": int(len(np.unique(data.condition[data.train])) - 1),
        "genes": len(data.genes),
        "genes_all_zero": int(zero.sum()),
        "vocabulary": len(checkpoint.perturbations),
        "edges": {"genes": len(graph.weights), "perturbations": len(perturbed.weights)},
        "perturbed_genes_without_neighbours": alone,
        "pairs": "random" if checkpoint.architecture.mode == "reference" else checkpoint.params.pairs,
        "state_dims": checkpoint.architecture.state,
        "validation": data.rule,
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "best_validation_mse_de": None if math.isnan(state.best) else round(state.best, 9),
        "conditions_without_cells": list(data.silent),
        "notes": list(data.notes),
        "seed": seed,
    }


def _device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MissingHardwareError("there is no CUDA device here", where="device", mend="use the device cpu")
    return device
