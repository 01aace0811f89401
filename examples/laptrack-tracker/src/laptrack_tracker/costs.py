"""What it costs to join two objects: laptrack minimises the sum. Each cost is below 1 where a join is possible."""

from collections.abc import Callable
from math import inf

import numpy as np

Cost = Callable[[np.ndarray, np.ndarray], float]
"""Of two objects as (y_um, x_um, log2 of the area, time_h); laptrack gives them in either order of time."""


def _square_of_distance(a: np.ndarray, b: np.ndarray) -> float:
    return float((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2)


def move_cost(jitter_um: float, speed_um_per_h: float, area_weight: float, longest_h: float = inf) -> Cost:
    """The same nucleus twice: (distance / reach)^2 + (area_weight * octaves of area between them)^2.

    The reach is ``jitter_um + speed_um_per_h * hours`` between the two, so that neither a longer gap nor an uneven
    interval needs another setting; beyond ``longest_h`` hours the cost is infinite.
    """

    def cost(a: np.ndarray, b: np.ndarray) -> float:
        hours = abs(float(b[3] - a[3]))
        if hours > longest_h:
            return inf
        reach = jitter_um + speed_um_per_h * hours
        return _square_of_distance(a, b) / reach**2 + (area_weight * float(b[2] - a[2])) ** 2

    return cost


def division_cost(reach_um: float, area_weight: float) -> Cost:
    """A daughter and her mother: (distance / reach_um)^2 + (area_weight * octaves off half the mother's area)^2."""

    def cost(a: np.ndarray, b: np.ndarray) -> float:
        mother, daughter = (a, b) if a[3] < b[3] else (b, a)
        octaves = float(daughter[2] - mother[2]) + 1.0
        return _square_of_distance(mother, daughter) / reach_um**2 + (area_weight * octaves) ** 2

    return cost
