"""Scores of lists of changed genes against what was planted, and of counted molecules against true ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def recall(called: npt.ArrayLike, true: npt.ArrayLike) -> float | None:
    """Share of the true changes that were called; calling nothing scores 0, calling everything 1.

    >>> recall([True, False, True], [True, True, False])
    0.5
    """
    called, true = np.asarray(called, dtype=bool), np.asarray(true, dtype=bool)
    return float(called[true].mean()) if true.any() else None


def false_share(called: npt.ArrayLike, null: npt.ArrayLike) -> float | None:
    """Share of the calls that are of genes nothing was done to: the realised false discovery rate.

    Genes that are neither true nor null (changed a little, or by the cells' composition) count as called, not as
    false. None where nothing was called. Calling everything scores the share of null genes.

    >>> false_share([True, True, False], [False, True, True])
    0.5
    """
    called, null = np.asarray(called, dtype=bool), np.asarray(null, dtype=bool)
    return float(null[called].mean()) if called.any() else None


def size_correlation(found: npt.ArrayLike, planted: npt.ArrayLike) -> float | None:
    """Pearson correlation of found with planted log2 fold changes; None with fewer than three or without spread.

    Finding no change anywhere has no value; sizes without information score about 0.

    >>> size_correlation([0.0, 1.0, 2.0], [0.0, 2.0, 4.0])
    1.0
    """
    found, planted = np.asarray(found, dtype=float), np.asarray(planted, dtype=float)
    if found.size < 3 or np.ptp(found) == 0 or np.ptp(planted) == 0:
        return None
    return float(np.corrcoef(found, planted)[0, 1])


def count_scores(found: npt.NDArray, true: npt.NDArray) -> dict[str, float | None]:
    """How counted molecules (cells, tags) compare with true ones (cells, tags).

    ``count_pearson``: correlation of ln(1 + count) over all entries (counting nothing has none);
    ``count_ratio``: molecules counted over true ones; ``top_tag_agreement``: share of the cells with one true
    highest tag whose counted highest tag is that one (any tag for all cells scores about one over their number);
    ``count_error``: mean absolute difference over the mean true count. Counting nothing scores ratio 0 and error 1.
    None where no molecule is true (ratio, error), or no cell has one highest tag.
    """
    found, true = np.asarray(found, dtype=float), np.asarray(true, dtype=float)
    ordered = np.sort(true, axis=1)
    clear = ordered[:, -1] > ordered[:, -2] if true.shape[1] > 1 else ordered[:, -1] > 0
    same = found.argmax(axis=1) == true.argmax(axis=1)
    total = true.sum()
    return {
        "count_pearson": size_correlation(np.log1p(found).ravel(), np.log1p(true).ravel()),
        "count_ratio": float(found.sum() / total) if total else None,
        "count_error": float(np.abs(found - true).sum() / total) if total else None,
        "top_tag_agreement": float(same[clear].mean()) if clear.any() else None,
    }
