"""Matrices that were never filtered: telling cells from the empty droplets that most of their barcodes are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_FEWEST_BARCODES = 1000
"""Fewer are never taken for a matrix of empty droplets: those hold tens of thousands."""
_OF_TOP, _TOP = 0.1, 0.01
"""Cells have a tenth of the molecules of the cell that is a hundredth down the list of expected cells."""
_FEWEST_CELLS, _GUESSES = 50, 2000
_EMPTY_MEDIAN, _RATIO = 50, 20
"""Empty droplets hold this many molecules at most at their median, and cells at theirs so many times more."""
_BELOW = 3.0
"""A step is clear where fewer barcodes than are cells lie less than this factor below it."""
_ANY_CAPTURE = 100_000
"""More barcodes than any capture has cells: such a matrix is unfiltered even without a clear step."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where the molecules by rank step down from cells to empty droplets.

    Attributes
    ----------
    least : fewest molecules of a cell.
    cells, empty : barcodes at or above it, and below it.
    clear : whether few barcodes lie just below it; where not, cells cannot be told by their molecules alone.
    """

    least: int
    cells: int
    empty: int
    clear: bool


def find_step(molecules: npt.ArrayLike) -> Step | None:
    """The step between cells and empty droplets in the ``molecules`` (n,) of all barcodes; None in a filtered matrix.

    Cells have a tenth of the molecules of the 99th percentile of the expected cells, at least; their number is the one
    that agrees best with itself: of guesses x the one with the smallest ``(found(x) - x)**2 / x``. This is the rule
    that Cell Ranger begins with (10x Genomics, "Gene Expression Algorithms Overview", OrdMag).

    The matrix is unfiltered where more than half of its barcodes are below, their median is 50 molecules at most, and
    the median of the cells is 20 times that, and where the step is clear or there are more barcodes than any capture
    has cells (100,000). Shallow matrices of cells are not: their barcodes are alike, or differ without a step.
    """
    values = np.sort(np.asarray(molecules, dtype=np.int64))[::-1]
    n = len(values)
    if n < _FEWEST_BARCODES:
        return None
    guesses = np.unique(np.rint(np.geomspace(_FEWEST_CELLS, n, _GUESSES)).astype(np.int64))
    places = np.minimum(np.rint(_TOP * guesses).astype(np.int64), n - 1)
    leasts = np.maximum(np.ceil(_OF_TOP * values[places]), 1)
    found = n - np.searchsorted(values[::-1], leasts, side="left")
    best = int(np.argmin((found - guesses) ** 2 / guesses))
    least, cells = int(leasts[best]), int(found[best])
    if not 0 < cells < n / 2:
        return None
    empty_median = float(np.median(values[cells:]))
    if empty_median > _EMPTY_MEDIAN or np.median(values[:cells]) < _RATIO * max(empty_median, 1.0):
        return None
    close = int((values[cells:] >= least / _BELOW).sum())
    if close >= cells and n < _ANY_CAPTURE:
        return None
    return Step(least, cells, n - cells, close < cells)
