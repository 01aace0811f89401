"""Low-dimensional views of the cells: principal components, neighbours, t-SNE, UMAP; all seeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hyped_seq.annotate.normalise import mean_and_variance
from hyped_seq.annotate.params import AnnotateParams
from hyped_seq.annotate.parts import part

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext

_CLIP = 10.0
"""Expression is cut at so many standard deviations above the mean, so that one cell cannot own a component."""

MAP_CELLS = 5
"""Fewer cells get no t-SNE and no UMAP."""

_ROWS = 2048
"""Cells that are dense at a time."""


@dataclass(frozen=True, slots=True)
class Components:
    """Principal components of standardised genes.

    Attributes
    ----------
    deviation, highest : (genes,) standard deviation, and the expression at which values are cut.
    centre : (genes,) mean of the cut and scaled expression.
    loadings : (genes, k) unit vectors, largest share of the variance first; of each the entry that is largest in
        size is positive.
    """

    deviation: npt.NDArray[np.float32]
    highest: npt.NDArray[np.float32]
    centre: npt.NDArray[np.float64]
    loadings: npt.NDArray[np.float32]

    def scores(self, logs: sp.csr_matrix) -> npt.NDArray[np.float32]:
        """(cells, k) scores of cells with the same genes, seen before or not."""
        offset = (self.centre @ self.loadings).astype(np.float32)
        return (_scaled(logs, self.deviation, self.highest) @ self.loadings - offset).astype(np.float32)


def fit_components(logs: sp.csr_matrix, n_components: int) -> Components:
    """The principal components of ``logs`` (cells, genes), exact: from the genes' correlations.

    There are none (k = 0) of fewer than two cells or of no gene.

    The cells x genes matrix stays sparse: correlations are summed up over blocks of cells, at 20,000 cells x 2,000
    genes in a third of the time that an iterative solver takes. One thread, so that the bytes do not depend on how
    many there are.
    """
    import scipy.linalg
    from threadpoolctl import threadpool_limits

    cells, genes = logs.shape
    mean, variance = mean_and_variance(logs)
    deviation = np.sqrt(variance * max(cells - 1, 1) / cells)
    deviation[deviation == 0] = 1
    deviation, highest = deviation.astype(np.float32), (mean + _CLIP * deviation).astype(np.float32)
    scaled = _scaled(logs, deviation, highest)
    centre = mean_and_variance(scaled)[0]
    with threadpool_limits(1, "blas"):
        products = np.zeros((genes, genes))
        for start in range(0, cells, _ROWS):
            block = scaled[start : start + _ROWS].toarray()
            products += block.T @ block
        products -= cells * np.outer(centre, centre)
        n = max(0, min(n_components, cells - 1, genes))
        if n == 0:
            return Components(deviation, highest, centre, np.zeros((genes, 0), np.float32))
        _, vectors = scipy.linalg.eigh(products, subset_by_index=[genes - n, genes - 1], overwrite_a=True)
    loadings = vectors[:, ::-1]
    largest = loadings[np.abs(loadings).argmax(axis=0), np.arange(n)]
    return Components(deviation, highest, centre, (loadings * np.where(largest < 0, -1, 1)).astype(np.float32))


def _scaled(
    logs: sp.csr_matrix, deviation: npt.NDArray[np.float32], highest: npt.NDArray[np.float32]
) -> sp.csr_matrix:
    values = np.minimum(logs.data, highest[logs.indices]) / deviation[logs.indices]
    return sp.csr_matrix((values.astype(np.float32), logs.indices, logs.indptr), shape=logs.shape)


def principal_components(logs: sp.csr_matrix, n_components: int) -> npt.NDArray[np.float32]:
    """(cells, n_components) scores of the standardised genes in ``logs``."""
    return fit_components(logs, n_components).scores(logs)


def tsne(scores: npt.NDArray[np.float32], perplexity: float, seed: int) -> npt.NDArray[np.float32]:
    """(cells, 2) t-SNE of principal component scores, started from the first two."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    bounded = min(perplexity, max(1.5, (len(scores) - 1) / 3))
    view = TSNE(
        n_components=2,
        perplexity=bounded,
        init="pca",
        learning_rate="auto",
        random_state=seed,
        n_jobs=1,
        max_iter=750,
    )
    with threadpool_limits(1):
        return view.fit_transform(scores).astype(np.float32)


def add_umap(cells: AnnData, n_neighbors: int, seed: int) -> None:
    """Add the neighbours of each cell (exact, in ``X_pca``) to ``obsp`` and a UMAP of them to ``obsm``."""
    import scanpy as sc

    neighbors = min(n_neighbors, cells.n_obs - 1)
    sc.pp.neighbors(cells, n_neighbors=neighbors, use_rep="X_pca", transformer="sklearn", random_state=seed)
    sc.tl.umap(cells, random_state=seed)
    cells.obsm["X_umap"] = cells.obsm["X_umap"].astype(np.float32)


def embed(cells: AnnData, params: AnnotateParams, *, context: RunContext) -> list[str]:
    """Add ``X_pca`` and, as asked, ``X_tsne`` and ``X_umap`` of the ``highly_variable`` genes to ``obsm``.

    Returns what was left out and why, in words: everything where no gene varies among the cells, the maps of fewer
    than `MAP_CELLS` cells or of a single component.
    """
    chosen = cells.var["highly_variable"].to_numpy()
    if not chosen.any() or cells.n_obs < 2:
        why = "one cell" if cells.n_obs == 1 else "no gene varies among the cells"
        return [f"embedding: {why}, there are no principal components and no maps"]
    with part(context, "principal components"):
        cells.obsm["X_pca"] = principal_components(cells.X[:, chosen], params.n_components)
    asked = [name for name, wanted in (("t-SNE", params.tsne), ("UMAP", params.umap)) if wanted]
    found = cells.obsm["X_pca"].shape[1]
    if asked and (cells.n_obs < MAP_CELLS or found < 2):
        why = f"{cells.n_obs} cells" if cells.n_obs < MAP_CELLS else "one principal component"
        return [f"embedding: {why}, too few for {' and '.join(asked)}"]
    if params.tsne:
        with part(context, "t-SNE"):
            cells.obsm["X_tsne"] = tsne(cells.obsm["X_pca"], params.perplexity, context.seed)
    if params.umap:
        with part(context, "UMAP"):
            add_umap(cells, params.n_neighbors, context.seed)
    return []
