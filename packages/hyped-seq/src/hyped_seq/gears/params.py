"""Parameters of GEARS; defaults are the original's, apart from those that only mode ``fixed`` has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hyped_core.params import Params


class GearsParams(Params):
    """How GEARS is built and trained."""

    mode: Literal["fixed", "reference"] = "fixed"
    """``reference``: the original's arithmetic with its defects; ``fixed``: the defects repaired."""
    direction: Literal["ignored", "signed"] = "ignored"
    """``ignored``: suppression of a gene is encoded as its activation is, as the original does; ``signed``: a
    suppressed gene's vector counts negative."""
    hidden: int = Field(64, ge=2)
    """Width of gene and perturbation vectors."""
    gene_layers: int = Field(1, ge=1)
    """Graph convolutions over the co-expression graph."""
    perturbation_layers: int = Field(1, ge=1)
    """Graph convolutions over the perturbation graph."""
    neighbours: int = Field(20, ge=1)
    """Edges into a gene kept in either graph, itself not counted."""
    coexpression_threshold: float = Field(0.4, ge=0, lt=1)
    """Absolute correlations up to this are no edge."""
    term_threshold: float = Field(0.1, ge=0, lt=1)
    """Jaccard similarities of term sets up to this are no edge."""
    terms: str = ""
    """Gene sets for the perturbation graph: .gmt, gene2go (.pkl, .json) or a table gene, term. Where empty the
    co-expression graph of the training cells takes its place."""
    uncertainty: bool = False
    """Predict a log variance for every gene too."""
    uncertainty_weight: float = Field(1.0, ge=0)
    """Weight of the uncertainty term in the loss."""
    direction_weight: float = Field(0.1, ge=0)
    """Weight of the direction term in the loss (it has no gradient: it moves the reported loss only)."""
    epochs: int = Field(20, ge=1)
    """Passes through the training cells; the learning rate halves after each."""
    batch_cells: int = Field(32, ge=2)
    """Cells in a step."""
    learning_rate: float = Field(1e-3, gt=0)
    """Adam's, in the first epoch."""
    weight_decay: float = Field(5e-4, ge=0)
    """Adam's (L2)."""
    patience: int = Field(0, ge=0)
    """Epochs without a better validation error before training stops; 0: never."""
    state_dims: int = Field(8, ge=0)
    """Principal components of the control cells that tell a cell's state, which the predicted change depends on; 0: it
    does not. Mode ``fixed`` only."""
    pairs: Literal["matched", "random"] = "matched"
    """Control cell given to each perturbed one in training: of similar state, or any. Mode ``fixed`` only."""
    pretrained: str = ""
    """Folder of a checkpoint to start from; its genes are mapped to those of the training cells."""
    seed: int = 0
    """Of weights, pairs, order of cells and the cells held out for validation."""
