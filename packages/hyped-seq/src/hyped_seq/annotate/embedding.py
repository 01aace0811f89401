"""Low-dimensional views of the cells: principal components, t-SNE, UMAP; all seeded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hyped_seq.annotate.params import AnnotateParams

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext

_CLIP = 10.0
"""Standardised expression is cut here, so that one cell cannot own a component."""


def principal_components(logs: sp.csr_matrix, n_components: int, seed: int) -> npt.NDArray[np.float32]:
    """(cells, n_components) scores of the standardised genes in ``logs``; signs are fixed by the loadings."""
    from sklearn.decomposition import PCA

    dense = logs.toarray().astype(np.float32)
    dense -= dense.mean(axis=0)
    deviation = dense.std(axis=0)
    dense /= np.where(deviation > 0, deviation, 1)
    np.clip(dense, -_CLIP, _CLIP, out=dense)
    n = max(1, min(n_components, min(dense.shape) - 1))
    solver = "full" if min(dense.shape) <= 2 * n else "arpack"
    return PCA(n_components=n, svd_solver=solver, random_state=seed).fit_transform(dense).astype(np.float32)


def tsne(scores: npt.NDArray[np.float32], perplexity: float, seed: int) -> npt.NDArray[np.float32]:
    """(cells, 2) t-SNE of principal component scores, started from the first two."""
    from sklearn.manifold import TSNE

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
    return view.fit_transform(scores).astype(np.float32)


def embed(cells: AnnData, params: AnnotateParams, *, context: RunContext) -> None:
    """Add ``X_pca`` and, as asked, ``X_tsne`` and ``X_umap`` of the ``highly_variable`` genes to ``obsm``."""
    chosen = cells.var["highly_variable"].to_numpy()
    cells.obsm["X_pca"] = principal_components(cells.X[:, chosen], params.n_components, context.seed)
    if params.tsne and cells.n_obs > 4:
        cells.obsm["X_tsne"] = tsne(cells.obsm["X_pca"], params.perplexity, context.seed)
    if params.umap:
        import scanpy as sc

        sc.pp.neighbors(cells, n_neighbors=params.n_neighbors, use_rep="X_pca", random_state=context.seed)
        sc.tl.umap(cells, random_state=context.seed)
        cells.obsm["X_umap"] = cells.obsm["X_umap"].astype(np.float32)
