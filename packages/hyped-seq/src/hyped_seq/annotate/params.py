"""Parameters of `hyped seq annotate`."""

from __future__ import annotations

from pydantic import Field

from hyped_core.params import Params
from hyped_seq.annotate.change_params import ChangeParams
from hyped_seq.annotate.phase_params import PhaseParams


class QualityParams(Params):
    """Which cells are removed. A bound that is None comes from the data; it is taken per pool."""

    n_mads: float = Field(4.0, gt=0)
    """Cells further from the median than this many scaled median absolute deviations are removed."""
    min_counts: float | None = None
    """Least counts per cell (else from the data, on the log scale)."""
    min_genes: float | None = None
    """Least genes per cell (else from the data, on the log scale)."""
    max_counts: float | None = None
    """Most counts per cell (None: no bound; doublets are judged by hashtags and by `DoubletParams`)."""
    max_mito_pct: float | None = None
    """Most mitochondrial counts in percent (else from the data)."""
    mito_floor_pct: float = Field(5.0, ge=0, le=100)
    """The bound from the data is at least so many percent: deviations are tiny in nuclei and cells with little mito."""
    min_cells_per_gene: int = Field(1, ge=0)
    """Genes seen in fewer cells do not enter the variable genes; none is removed from the files."""


class DoubletParams(Params):
    """Doublets as expression shows them: cells that look like the sum of two."""

    enabled: bool = True
    remove: bool = False
    """Whether predicted doublets are removed (they are always marked)."""
    threshold: float = Field(0.5, gt=0, le=1)
    """Least probability at which a cell is marked ``predicted_doublet``."""
    share_per_1000: float = Field(0.008, ge=0, lt=1)
    """Share of doublets per 1,000 cells of a pool, where hashtags do not say how many there are."""
    n_genes: int = Field(500, ge=10)
    """Variable genes of the pool that enter."""
    n_components: int = Field(10, ge=2)
    """Principal components of the pool that enter."""
    ratio: float = Field(2.0, gt=0)
    """Doublets made up per cell of the pool, up to ``most``."""
    most: int = Field(10_000, ge=100)
    """Most doublets made up in a pool."""
    min_cells: int = Field(50, ge=20)
    """Pools with fewer cells get no score."""


class AmbientParams(Params):
    """Share of molecules that come from the soup, told by genes that a condition's cells cannot express."""

    enabled: bool = True
    min_fold: float = Field(5.0, gt=1)
    """A gene tells only where the soup holds this many times of it than the cells' own expression."""
    min_cells: int = Field(20, ge=5)
    """Groups with fewer cells are not used."""
    min_probability: float = Field(0.9, ge=0, le=1)
    """Cells whose hashtag is less sure are not used."""
    max_doublet_score: float = Field(0.2, ge=0, le=1)
    """Cells with a higher doublet score are not used."""
    n_bootstrap: int = Field(200, ge=20)
    """Resamplings of cells behind the 95 % interval."""
    empty_counts: int = Field(100, ge=1)
    """Removed barcodes with at most so many molecules count as empty droplets."""
    empty_molecules: int = Field(20_000, ge=1)
    """With as many molecules in empty droplets, these give the soup's composition, else the mean of the cells."""


class AnnotateParams(Params):
    """All settings of the step."""

    quality: QualityParams = QualityParams()
    """Removal of cells."""
    doublets: DoubletParams = DoubletParams()
    """Doublets from expression."""
    ambient: AmbientParams = AmbientParams()
    """Molecules from the soup."""
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
    umap: bool = True
    """Whether to compute neighbours and a UMAP (by scanpy)."""
    n_neighbors: int = Field(15, ge=2)
    """Neighbours of each cell in the graph."""
    changes: ChangeParams = ChangeParams()
    """Contrasts between conditions."""
    top_genes: int = Field(10, ge=1)
    """Genes listed per contrast in ``uns`` (``de.csv`` has all)."""
