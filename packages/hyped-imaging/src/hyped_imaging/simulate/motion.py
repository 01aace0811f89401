"""Where nuclei are: a persistent random walk with soft contacts and adhesion, on a grid of neighbours."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@numba.njit(cache=True)
def radius_towards(
    half_long: float, half_short: float, angle: float, dy: float, dx: float, distance: float
) -> float:
    """Radius of an ellipse (semi-axes, angle of the long one) in the direction (dy, dx)."""
    along = (dx * np.cos(angle) + dy * np.sin(angle)) / distance
    across = (-dx * np.sin(angle) + dy * np.cos(angle)) / distance
    return half_long * half_short / np.sqrt((half_short * along) ** 2 + (half_long * across) ** 2)


@numba.njit(cache=True)
def contacts(
    y: Array,
    x: Array,
    half_long: Array,
    half_short: Array,
    angle: Array,
    contact: float,
    stiffness: float,
    pull: float,
    reach: float,
    box_y: float,
    box_x: float,
) -> Array:
    """Displacements (n, 2) in micrometres by which neighbours push and pull one another.

    ``pull`` is the share of a gap narrower than ``reach`` that closes now; ``box_y, box_x`` the area's size.
    """
    n = y.size
    shift = np.zeros((n, 2))
    if n == 0:
        return shift
    cell = 2.0 * half_long.max() + reach + 1e-6
    rows, columns = int(box_y / cell) + 1, int(box_x / cell) + 1
    head = -np.ones(rows * columns, np.int64)
    following = -np.ones(n, np.int64)
    place = np.empty(n, np.int64)
    for i in range(n):
        r = min(max(int(y[i] / cell), 0), rows - 1)
        c = min(max(int(x[i] / cell), 0), columns - 1)
        place[i] = r * columns + c
        following[i] = head[place[i]]
        head[place[i]] = i
    for i in range(n):
        r, c = place[i] // columns, place[i] % columns
        for rr in range(max(r - 1, 0), min(r + 2, rows)):
            for cc in range(max(c - 1, 0), min(c + 2, columns)):
                j = head[rr * columns + cc]
                while j >= 0:
                    if j > i:
                        dy, dx = y[j] - y[i], x[j] - x[i]
                        distance = np.sqrt(dy * dy + dx * dx) + 1e-9
                        wanted = contact * (
                            radius_towards(half_long[i], half_short[i], angle[i], dy, dx, distance)
                            + radius_towards(half_long[j], half_short[j], angle[j], dy, dx, distance)
                        )
                        gap = distance - wanted
                        move = 0.0
                        if gap < 0.0:
                            move = 0.5 * stiffness * gap
                        elif gap < reach:
                            move = 0.5 * pull * gap
                        shift[i, 0] += move * dy / distance
                        shift[i, 1] += move * dx / distance
                        shift[j, 0] -= move * dy / distance
                        shift[j, 1] -= move * dx / distance
                    j = following[j]
    return shift


@numba.njit(cache=True)
def turn(angle: Array, vy: Array, vx: Array, rate: float) -> None:
    """Turn long axes (mod pi) toward the direction of motion by the share ``rate`` of the way."""
    for i in range(angle.size):
        goal = np.arctan2(vy[i], vx[i])
        difference = (goal - angle[i] + 0.5 * np.pi) % np.pi - 0.5 * np.pi
        angle[i] += rate * difference
