"""Evidence to the probability that a call is right, and how many cells to call doublets: few numbers, learnt on
captures with genetic truth (benchmarks/calibrate_demultiplex.py learns them again and says how they do).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EXTREME_HEIGHT = 2.5
"""Scales above the median carrier from where a cell's brightness itself makes its call doubtful."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is learnt from genetic truth.

    Attributes
    ----------
    genuine : share of the droplets with two evident tags that hold two cells by their genotypes.
    follow : log-odds of the second tag taken off for each scale by which the first stands above its carriers.
    doublet : ceiling, intercept, slope of P(doublet) over the evidence beyond the threshold.
    tag : intercept, slope over the margin between the highest two tags, loss for each scale of extreme height,
        of P(highest tag is right | singlet).
    negative : share of the cells abstained from that have no tag (a singlet's probability below 0.7).
    """

    genuine: float
    follow: float
    doublet: tuple[float, float, float]
    tag: tuple[float, float, float]
    negative: float = 0.0

    def p_doublet(self, beyond: Floats) -> Floats:
        """(cells,) ceiling / (1 + exp(-(intercept + slope x beyond)))."""
        ceiling, intercept, slope = self.doublet
        return ceiling * sigmoid(intercept + slope * np.clip(beyond, -100, 100))

    def p_tag(self, margin: Floats, height: Floats) -> Floats:
        """(cells,) probability that the highest tag is the right one of a singlet."""
        intercept, slope, loss = self.tag
        return sigmoid(intercept + slope * np.clip(margin, 0, 100) - loss * extreme(height))


def extreme(height: Floats) -> Floats:
    """How far the height of a cell's tag is beyond `EXTREME_HEIGHT`, at most 5."""
    return np.clip(height - EXTREME_HEIGHT, 0, 5)


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-values)) without overflow."""
    return 1 / (1 + np.exp(-np.clip(values, -50, 50)))


DEFAULT = Calibration(
    genuine=0.767,
    follow=1.05,
    doublet=(0.82, -0.047, 0.791),
    tag=(0.207, 0.591, 1.672),
    negative=0.07,
)
"""Learnt on three captures with genetic truth: two with eight antibody tags, one with three lipid tags."""
