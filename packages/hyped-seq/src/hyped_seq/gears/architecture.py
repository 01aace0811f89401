"""Sizes of a GEARS network and the batches it takes, and the checks that the two fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hyped_core.errors import InvalidDataError

Sets = Sequence[Sequence[int]]
Signs = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Architecture:
    """Sizes and kind of a network.

    Attributes
    ----------
    genes, perturbations : nodes of the co-expression graph and of the perturbation graph.
    hidden : width of gene and perturbation vectors.
    gene_layers, perturbation_layers : graph convolutions over either graph.
    uncertainty : also give a log variance.
    state : scores that describe a control cell; 0: the change does not depend on the cell.
    mode : ``reference``: the co-expression graph reaches only the first cell of a batch, as in the original.
    """

    genes: int
    perturbations: int
    hidden: int = 64
    gene_layers: int = 1
    perturbation_layers: int = 1
    uncertainty: bool = False
    state: int = 0
    mode: Literal["fixed", "reference"] = "fixed"

    def __post_init__(self) -> None:
        for name in ("genes", "perturbations", "hidden", "gene_layers", "perturbation_layers"):
            if getattr(self, name) < 1:
                raise InvalidDataError(f"{name} is {getattr(self, name)} and must be at least 1", where="architecture")
        if self.mode not in ("fixed", "reference"):
            raise InvalidDataError(f"no mode {self.mode!r}: fixed or reference", where="architecture")
        if self.state < 0 or (self.state and self.mode == "reference"):
            raise InvalidDataError(
                f"{self.state} state scores in mode {self.mode}: the original knows no cell state",
                where="architecture",
                mend="state: 0, or mode fixed",
            )


@dataclass
class Batch:
    """Cells by their sets of perturbed genes.

    Attributes
    ----------
    sets : the distinct sets, each a tuple of rows of the perturbation graph; ``()`` is control.
    signs : of each gene of each set, +1 activated, -1 suppressed; None: direction is ignored.
    of_cell : (cells,) int64, the set of each cell. In mode ``reference`` cell 0 is the one the graph reaches.
    state : (cells, state) float32, None where the architecture has none.
    """

    sets: tuple[tuple[int, ...], ...]
    signs: tuple[tuple[float, ...], ...] | None
    of_cell: Tensor
    state: Tensor | None = None


def check_sets(sets: Sets, signs: Signs | None, architecture: Architecture) -> None:
    """Raise `InvalidDataError` where a set names a gene that the perturbation graph has not, or signs do not fit."""
    if not len(sets):
        raise InvalidDataError("no set of perturbed genes", where="sets")
    nodes = architecture.perturbations
    for i, members in enumerate(sets):
        for node in members:
            if not 0 <= node < nodes:
                raise InvalidDataError(
                    f"perturbed gene {node} of a perturbation graph of {nodes} genes", where=f"sets[{i}]"
                )
    if signs is not None and [len(s) for s in signs] != [len(s) for s in sets]:
        raise InvalidDataError("one sign is needed for each perturbed gene of each set", where="signs")


def check_batch(batch: Batch, architecture: Architecture, *, training: bool) -> None:
    """Raise `InvalidDataError` where a batch does not fit the architecture, or has too few cells to train on."""
    check_sets(batch.sets, batch.signs, architecture)
    of_cell, cells = batch.of_cell, len(batch.of_cell)
    if of_cell.ndim != 1 or not cells or of_cell.dtype != torch.int64:
        raise InvalidDataError(
            f"{of_cell.dtype} of shape {tuple(of_cell.shape)}, not int64 of at least one cell", where="of_cell"
        )
    low, high = (int(end) for end in torch.aminmax(of_cell))
    if low < 0 or high >= len(batch.sets):
        raise InvalidDataError(f"set {low if low < 0 else high} of {len(batch.sets)}", where="of_cell")
    if training and cells == 1:
        raise InvalidDataError(
            "one cell has no statistics to normalise by", where="of_cell", mend="train on two cells or more a step"
        )
    if architecture.state:
        if batch.state is None or batch.state.shape != (cells, architecture.state):
            shape = None if batch.state is None else tuple(batch.state.shape)
            raise InvalidDataError(f"a state of shape {shape}, not {(cells, architecture.state)}", where="state")
    elif batch.state is not None:
        raise InvalidDataError("a cell state for a network that takes none", where="state")
