"""Kinds of features in one 10x matrix: genes, antibodies (the hashtags), and what is neither."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hyped_seq.readers.matrix import CountMatrix
from hyped_seq.readers.rows import take_columns

TAGS = ("Antibody Capture", "Multiplexing Capture")
"""Kinds that hashtags have: antibodies, and 10x' own multiplexing oligos."""
OTHERS = ("CRISPR Guide Capture", "Antigen Capture", "Custom", "Peaks")
"""Kinds that are neither genes nor hashtags."""


@dataclass(frozen=True)
class Kinds:
    """Parts of one matrix (None where it has no such feature), and how many features of other kinds it had."""

    genes: CountMatrix | None
    hashtags: CountMatrix | None
    left_out: dict[str, int]


def split_kinds(matrix: CountMatrix, tags: Collection[str]) -> Kinds:
    """Part ``matrix`` by the column ``kind`` of its features; without that column all are genes.

    Hashtags go by their name or their id, whichever the design's ``tags`` know more of.
    """
    kinds = matrix.features["kind"] if "kind" in matrix.features else pd.Series(dtype=object)
    special = kinds.isin([*TAGS, *OTHERS])
    if not special.any():
        return Kinds(matrix, None, {})
    antibodies = _part(matrix, kinds.isin(TAGS).to_numpy())
    if antibodies is not None:
        ids, names = antibodies.features["id"], antibodies.features["name"]
        label = ids if ids.isin(tags).sum() > names.isin(tags).sum() else names
        features = pd.DataFrame({"id": label, "name": label})
        antibodies = CountMatrix(antibodies.counts, antibodies.barcodes, features)
    left = {kind: int((kinds == kind).sum()) for kind in OTHERS if (kinds == kind).any()}
    return Kinds(_part(matrix, ~special.to_numpy()), antibodies, left)


def _part(matrix: CountMatrix, keep: np.ndarray) -> CountMatrix | None:
    if not keep.any():
        return None
    features = matrix.features[keep].reset_index(drop=True)
    return CountMatrix(take_columns(matrix.counts, keep), matrix.barcodes, features)
