"""One position for every tile: the measured shifts of all pairs, solved together by least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyped_imaging.stitch.register import PairShift

_STAGE_WEIGHT = 1e-3
"""Weight of a pair that keeps the stage's offset, beside 0.04 .. 1 of a measured one."""
_ANCHOR_WEIGHT = 1e-5
"""Weight that keeps each tile near the stage's position: fixes what the pairs leave free."""
_OUTLIER_PX = 2.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tiles are.

    Attributes
    ----------
    positions : (n, 2) float64, y and x of each tile's corner in pixels.
    residuals : (pairs, 2) how far each pair's shift is from the solution; NaN where the stage's offset was
        kept.
    used : (pairs,) whether the pair's own shift was used.
    """

    positions: npt.NDArray[np.float64]
    residuals: npt.NDArray[np.float64]
    used: npt.NDArray[np.bool_]

    @property
    def residual_px(self) -> float:
        """Root mean square length of the residuals; 0 where no pair was measured."""
        if not self.used.any():
            return 0.0
        return float(np.sqrt(np.square(self.residuals[self.used]).sum(axis=1).mean()))


def solve_layout(stage: npt.NDArray, pairs: list[PairShift]) -> Layout:
    r"""Tile positions that fit the pairs best.

    Minimises :math:`\sum_{ij} w_{ij} |(p_j - p_i) - (s_j - s_i) - d_{ij}|^2 + \epsilon \sum_i |p_i - s_i|^2`
    with stage positions ``s`` (n, 2), measured shifts ``d`` and ``w`` the squared correlation. A pair that
    contradicts the others by more than 2 px (and three times the usual) loses its say, the worst first, and
    keeps the stage's offset.
    """
    stage = np.asarray(stage, float)
    used = np.array([pair.trusted for pair in pairs], bool)
    shift = np.array([pair.shift for pair in pairs], float).reshape(-1, 2)
    weight = np.array([max(pair.correlation, 0.0) ** 2 for pair in pairs])
    ends = np.array([(pair.first, pair.second) for pair in pairs], int).reshape(-1, 2)
    while True:
        moved = _solve(
            len(stage), ends, np.where(used[:, None], shift, 0.0), np.where(used, weight, _STAGE_WEIGHT)
        )
        residuals = moved[ends[:, 1]] - moved[ends[:, 0]] - shift
        length = np.where(used, np.hypot(residuals[:, 0], residuals[:, 1]), 0.0)
        if not used.any():
            break
        limit = max(_OUTLIER_PX, 3.0 * 1.4826 * float(np.median(length[used])))
        worst = int(np.argmax(length))
        if length[worst] <= limit:
            break
        used[worst] = False
    return Layout(stage + moved, np.where(used[:, None], residuals, np.nan), used)


def _solve(n: int, ends: npt.NDArray, shift: npt.NDArray, weight: npt.NDArray) -> npt.NDArray[np.float64]:
    """Displacements (n, 2) of the tiles from the weighted normal equations (a graph's Laplacian)."""
    matrix = np.diag(np.full(n, _ANCHOR_WEIGHT))
    right = np.zeros((n, 2))
    for (i, j), d, w in zip(ends, shift, weight, strict=True):
        matrix[[i, j, i, j], [i, j, j, i]] += [w, w, -w, -w]
        right[i] -= w * d
        right[j] += w * d
    return np.linalg.solve(matrix, right)
