"""The one pass over a transcript matrix that the test of isoform usage needs, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit


@njit(cache=True, nogil=True)
def class_sums(
    indptr: npt.NDArray[np.integer],
    indices: npt.NDArray[np.integer],
    data: npt.NDArray[Any],
    classes: npt.NDArray[np.int64],
    feature: npt.NDArray[np.int64],
    gene: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    pair_starts: npt.NDArray[np.int64],
    n_classes: int,
) -> tuple[npt.NDArray[np.float64], ...]:
    """Sums over the cells of each class, see `hyped_seq.annotate.isoforms.UsageSums`.

    ``indptr, indices, data`` are those of a (cells, transcripts) CSR matrix; ``classes`` (cells,) and ``feature``
    (transcripts,) are -1 for what is left out; ``gene`` (features,) rises; ``starts`` and ``pair_starts``
    (genes + 1,) are where a gene's features and pairs of features begin. Returns y, ny (classes, features), yy
    (classes, pairs) and n, n2, cells (classes, genes).
    """
    n_features = len(gene)
    n_genes = len(starts) - 1
    y = np.zeros((n_classes, n_features))
    ny = np.zeros((n_classes, n_features))
    yy = np.zeros((n_classes, pair_starts[n_genes]))
    n = np.zeros((n_classes, n_genes))
    n2 = np.zeros((n_classes, n_genes))
    cells = np.zeros((n_classes, n_genes))
    of_feature = np.zeros(n_features)
    of_gene = np.zeros(n_genes)
    following = np.empty(n_features, np.int64)  # of each touched feature the next one of the same gene, -1: none
    newest = np.full(n_genes, -1, np.int64)
    touched_genes = np.empty(n_genes, np.int64)
    for cell in range(len(classes)):
        kind = classes[cell]
        if kind < 0:
            continue
        n_touched = 0
        for entry in range(indptr[cell], indptr[cell + 1]):
            f = feature[indices[entry]]
            value = data[entry]
            if f < 0 or value == 0:
                continue
            g = gene[f]
            if newest[g] < 0:
                touched_genes[n_touched] = g
                n_touched += 1
            if of_feature[f] == 0:
                following[f] = newest[g]
                newest[g] = f
            of_feature[f] += value
            of_gene[g] += value
        for i in range(n_touched):
            g = touched_genes[i]
            n[kind, g] += of_gene[g]
            n2[kind, g] += of_gene[g] ** 2
            cells[kind, g] += 1
            width = starts[g + 1] - starts[g]
            f = newest[g]
            while f >= 0:
                y[kind, f] += of_feature[f]
                ny[kind, f] += of_feature[f] * of_gene[g]
                row = pair_starts[g] + (f - starts[g]) * width
                other = newest[g]
                while other >= 0:
                    yy[kind, row + other - starts[g]] += of_feature[f] * of_feature[other]
                    other = following[other]
                f = following[f]
            f = newest[g]
            while f >= 0:
                of_feature[f] = 0
                f = following[f]
            newest[g] = -1
            of_gene[g] = 0
    return y, ny, yy, n, n2, cells
