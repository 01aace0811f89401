"""What verdicts of the task `expression` are given on.

One or two metrics of each kind, so that no kind outvotes the others: the change from control and from the other
perturbations, its size, weighted genes, which perturbation it is, populations of cells, and sets of genes. Raw cosine
and correlation of means are no ground for a verdict: no change has 0.98 of them. Nor is ``de_direction``: two samples
of control cells agree in half of the signs, where no change is given none.
"""

from __future__ import annotations

from typing import Literal

from hyped_bench.tasks.base import Judged

BETTER: dict[str, Literal["higher", "lower"]] = {
    "pearson_delta": "higher",
    "pearson_delta_train": "higher",
    "mse_relative": "lower",
    "mae": "lower",
    "wmse": "lower",
    "pds_l1": "higher",
    "rank_l1": "higher",
    "energy_distance": "lower",
    "mmd": "lower",
    "de_overlap_50": "higher",
    "de_spearman": "higher",
    "de_auprc": "higher",
}

JUDGED = tuple(
    Judged(
        metric,
        better,
        nothing="no_change",
        simple=("additive",),
        ceiling="duplicate",
        unit=("perturbation",),  # of several phases or replicates of one, the mean
        unit_word="perturbation",
    )
    for metric, better in BETTER.items()
)
