"""Parameters of pretraining."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hyped_core.params import Params
from hyped_seq.geneformer.architecture import TINY


class PretrainParams(Params):
    """How a small Geneformer is pretrained by masked tokens; the defaults are those of ``geneformer-tiny``."""

    series: Literal["v1", "v2"] = "v2"
    """How cells become sequences: ``v2`` with ``<cls>`` and ``<eos>``, ``v1`` without."""
    layers: int = Field(TINY.layers, ge=1)
    """Number of layers."""
    hidden: int = Field(TINY.hidden, ge=1)
    """Width; the heads have to divide it."""
    heads: int = Field(TINY.heads, ge=1)
    """Attention heads."""
    feed_forward: int = Field(TINY.feed_forward, ge=1)
    """Width between the two linear maps of a layer."""
    max_tokens: int = Field(TINY.positions, ge=3)
    """Longest sequence, special tokens counted; a cell's lowest genes beyond it are cut off."""
    keep: tuple[str, ...] = ()
    """Genes (id or symbol) that have a token even where no cell expresses them, such as those to be perturbed."""
    keep_unseen: bool = False
    """Every gene of the cells has a token, also those that no cell expresses."""
    steps: int = Field(200, ge=1)
    """Steps of the optimiser."""
    batch_cells: int = Field(8, ge=1)
    """Cells in a step."""
    mask: float = Field(0.15, gt=0, lt=1)
    """Share of a cell's genes that are hidden."""
    replace: bool = False
    """Of the hidden genes show a tenth as they are and a tenth as another gene, as the published models were trained.
    Off: all are masked. With few cells the tenth that is shown is nearly all that is learned."""
    learning_rate: float = Field(3e-3, gt=0)
    """Highest learning rate: reached after `warm_up`, then down to zero in a straight line."""
    warm_up: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(0.01, ge=0)
    """Weight decay (AdamW), of matrices alone."""
    held_out: float = Field(0.1, gt=0, lt=1)
    """Share of the cells that are not learned from; at least one, and none where there is one cell only."""
    checks: int = Field(8, ge=1)
    """How often, evenly, the held-out loss is taken."""
