"""Whether a prediction is nearer to its own perturbation than to the others, in every way the field ranks them."""

from __future__ import annotations

import numpy.typing as npt

from hyped_bench.metrics.discrimination import centroid_accuracy, discrimination, transposed_rank

DISTANCES = ("l1", "l2", "cosine")
PDS_KEYS = tuple(f"pds_{kind}" for kind in DISTANCES)
RANK_KEYS = (*PDS_KEYS, *(f"rank_{kind}" for kind in DISTANCES), "centroid_accuracy")


def rank_scores(
    found: npt.NDArray, true: npt.NDArray, excluded: npt.NDArray | None
) -> dict[str, npt.NDArray | None]:
    """`RANK_KEYS` of predicted against true changes (perturbations, genes); None for fewer than two of them.

    ``excluded`` (perturbations, genes) are the genes a perturbation targets: they would tell which it is.
    """
    scores: dict[str, npt.NDArray | None] = {}
    for kind in DISTANCES:
        scores[f"pds_{kind}"] = discrimination(found, true, kind, excluded)  # type: ignore[arg-type]
        scores[f"rank_{kind}"] = transposed_rank(found, true, kind, excluded)  # type: ignore[arg-type]
    scores["centroid_accuracy"] = centroid_accuracy(found, true, excluded)
    return scores
