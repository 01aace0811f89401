"""Whether labels lie where the nuclei are, by the truth of the tiny movie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int32]

OVERLAP, FOUND, APART = 0.3, 0.5, 3
"""A nucleus is found by a label with this overlap (intersection over union); the share that has to be found; pixels
around a nucleus in which there is no other."""
MOVED: dict[str, Any] = {
    "as it is": lambda plane: plane,
    "upside down": lambda plane: plane[::-1],
    "with left and right exchanged": lambda plane: plane[:, ::-1],
    "turned round": lambda plane: plane[::-1, ::-1],
    "two pixels further down": lambda plane: np.roll(plane, 2, 0),
    "two pixels further up": lambda plane: np.roll(plane, -2, 0),
    "two pixels further right": lambda plane: np.roll(plane, 2, 1),
    "two pixels further left": lambda plane: np.roll(plane, -2, 1),
}
"""What is done to planes by mistake."""


def misplaced(pairs: Sequence[tuple[Labels, Labels]]) -> str:
    """How found and true labels of frames lie apart, in words; empty where most nuclei are found where they are."""
    shares = [share for labels, truth in pairs for share in _shares(labels, truth)]
    found = sum(share >= OVERLAP for share in shares)
    if found < FOUND * len(shares):
        return (
            f"of {len(shares)} bright nuclei, each apart from the others, {found} share {OVERLAP:.0%} of their pixels "
            f"with a label; at least {FOUND:.0%} were expected"
        )
    together = {
        name: sum(np.count_nonzero(moved(labels > 0) & (truth > 0)) for labels, truth in pairs)
        for name, moved in MOVED.items()
    }
    best = max(together, key=lambda name: together[name])
    if together[best] == together["as it is"]:
        return ""
    return f"the labels {best} lie on {together[best]} pixels of nuclei, as they are on {together['as it is']}"


def _shares(labels: Labels, truth: Labels) -> list[float]:
    """Of each nucleus that lies apart and whole, the best intersection over union with a label."""
    from scipy import ndimage

    inner = np.pad(np.ones(np.subtract(truth.shape, 2), dtype=bool), 1)
    found = []
    for mine in (truth == label for label in range(1, int(truth.max()) + 1)):
        around = ndimage.binary_dilation(mine, iterations=APART)
        if (around & (~inner | (truth > 0) & ~mine)).any():
            continue
        others = (labels == label for label in np.unique(labels[mine]) if label)
        found.append(max((float((mine & o).sum() / (mine | o).sum()) for o in others), default=0.0))
    return found
