"""Parameters of what changes between conditions: expression, isoform usage and dose."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hyped_core.params import Params


class IsoformParams(Params):
    """Which transcripts and genes enter the test of isoform usage."""

    min_molecules: int = Field(10, ge=1)
    """Transcripts with fewer molecules over all tested cells are counted as the gene's ``other``."""
    min_share: float = Field(0.05, ge=0, lt=0.5)
    """Transcripts with a smaller share of their gene's molecules are counted as the gene's ``other``."""
    min_gene_molecules: int = Field(20, ge=2)
    """Genes with fewer molecules on either side of a contrast are not tested in it."""
    min_gene_cells: int = Field(10, ge=3)
    """Genes seen in fewer cells of either side are not tested in it."""
    min_expected: float = Field(3.0, gt=0)
    """Transcripts of which fewer molecules are expected on either side do not enter the gene's statistic."""
    strata: bool = False
    """Whether to test within each phase too."""
    shuffle: bool = True
    """Whether to do all tests once more with shuffled conditions, for the record."""


class DoseParams(Params):
    """How the response of a cell is scored."""

    folds: int = Field(5, ge=2)
    """A cell's response is measured along a direction estimated from the other folds' cells."""
    min_cells: int = Field(20, ge=10)
    """Conditions with fewer cells get no response."""
    n_genes: int = Field(200, ge=10)
    """Genes that make up the direction: those that differ most (by Welch's t) among the other folds' cells."""
    genes_listed: int = Field(20, ge=0)
    """Genes that follow the dose, listed per condition and perturbed gene in the record."""


class ChangeParams(Params):
    """Contrasts between conditions and what is tested in each."""

    min_group: int = Field(10, ge=2)
    """Conditions with fewer cells (in a phase) enter no contrast (in that phase)."""
    pairwise: bool = True
    """Whether perturbed conditions are contrasted in pairs too, beside each against all others."""
    strata: tuple[Literal["G1", "S", "G2M"], ...] = ("G1", "S", "G2M")
    """Phases within which expression is tested, beside all phases together."""
    min_cells: int = Field(10, ge=1)
    """Genes seen in fewer of the cells that are compared (in a phase) are left out (there)."""
    pseudocount: float = Field(0.05, gt=0)
    """Added to mean CP10k before fold changes, so that unseen genes give finite ones."""
    isoforms: IsoformParams = IsoformParams()
    """Isoform usage."""
    dose: DoseParams = DoseParams()
    """Ranking of cells by dose and response."""
