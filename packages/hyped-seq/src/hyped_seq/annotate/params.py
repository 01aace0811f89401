"""Parameters of `hyped seq annotate`."""

from __future__ import annotations

from pydantic import Field

from hyped_core.params import Params


class QualityParams(Params):
    """Which cells are removed. A bound that is None comes from the data; it is taken per pool."""

    n_mads: float = Field(4.0, gt=0)
    """Cells further from the median than this many scaled median absolute deviations are removed."""
    min_counts: float | None = None
    """Least counts per cell (else from the data, on the log scale)."""
    min_genes: float | None = None
    """Least genes per cell (else from the data, on the log scale)."""
    max_counts: float | None = None
    """Most counts per cell (None: no bound; doublets are judged by hashtags)."""
    max_mito_pct: float | None = None
    """Most mitochondrial counts in percent (else from the data)."""
    min_cells_per_gene: int = Field(1, ge=0)
    """Genes seen in fewer cells do not enter variable genes and contrasts; none is removed from the files."""


class PhaseParams(Params):
    """How phases of cells that were not sorted are told."""

    penalties: tuple[float, ...] = Field((0.003, 0.01, 0.03, 0.1), min_length=1)
    """Inverse regularisation strengths C of the classifier; that with the least held-out loss is taken."""
    adapt_composition: bool = True
    """Whether the share of phases among unsorted cells is estimated per pool and taken as the prior there.
    The sorter set the shares that the classifier is trained on, so they say nothing about other cells."""
    folds: int = Field(5, ge=2)
    """Folds of the held-out accuracy."""
    min_genes: int = Field(6, ge=2)
    """With fewer cycle genes in the matrix no phase is told from expression."""
    min_cells: int = Field(10, ge=2)
    """With fewer sorted cells in a phase no classifier is trained."""


class AnnotateParams(Params):
    """All settings of the step."""

    quality: QualityParams = QualityParams()
    """Removal of cells."""
    phase: PhaseParams = PhaseParams()
    """Phases from expression."""
    target_sum: float = Field(1e4, gt=0)
    """Counts per cell after normalisation."""
    n_variable_genes: int = Field(2000, ge=10)
    """Genes that enter the embedding."""
    n_components: int = Field(30, ge=2)
    """Principal components."""
    tsne: bool = True
    """Whether to compute a t-SNE (the paper's map)."""
    perplexity: float = Field(30.0, gt=1)
    """Perplexity of the t-SNE."""
    umap: bool = False
    """Whether to compute neighbours and a UMAP (by scanpy)."""
    n_neighbors: int = Field(15, ge=2)
    """Neighbours of each cell in the graph."""
    top_genes: int = Field(10, ge=1)
    """Genes listed per contrast in ``uns`` (``de.csv`` has all)."""
    min_group: int = Field(5, ge=2)
    """Groups with fewer cells enter no contrast."""
