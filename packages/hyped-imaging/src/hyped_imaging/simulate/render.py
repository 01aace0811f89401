"""Drawing nuclei and cell bodies onto planes, sharp and without noise."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
LabelPlane = npt.NDArray[np.int32]

COLUMNS = (
    "y",
    "x",
    "half_long",
    "half_short",
    "angle",
    "lobe",
    "lobe_phase",
    "bright",
    "g1",
    "sg2m",
    "texture",
    "texture_phase",
    "body",
    "height",
    "label",
)
"""Columns of the table `stamp` draws. Lengths and places in pixels, ``label`` 0 draws without a label."""


@numba.njit(cache=True)
def stamp(
    table: npt.NDArray[np.float64],
    labels: LabelPlane,
    nearest: Plane,
    nuclear: Plane,
    g1: Plane,
    sg2m: Plane,
    height: Plane,
) -> None:
    """Draw every row of ``table`` (n, len(COLUMNS)) onto the planes (y, x), in place.

    A pixel belongs to the nucleus to whose centre it is nearest, measured in radii; brightness is the larger
    of two nuclei's. The edge of a label is where an unblurred nucleus has half its brightness.
    """
    rows, columns = labels.shape
    for n in range(table.shape[0]):
        y0, x0, a, b, angle, lobe, lobe_phase, bright, level_g1, level_sg2m = table[n, :10]
        texture, phase, body, tall, label = table[n, 10:15]
        ct, st = np.cos(angle), np.sin(angle)
        cp, sp = np.cos(lobe_phase), np.sin(lobe_phase)
        k1, k2, k3 = 5.0 + np.sin(phase), 4.0 + np.cos(1.7 * phase), 6.0 + np.sin(2.3 * phase)
        mean = np.sqrt(a * b)
        body_a, body_b = a * body, b * body * 0.75
        limit = a * (1.0 + lobe) + 4.0
        outer = max(limit, max(body_a, body_b)) if tall > 0.0 else limit
        for r in range(max(int(y0 - outer), 0), min(int(y0 + outer) + 2, rows)):
            for c in range(max(int(x0 - outer), 0), min(int(x0 + outer) + 2, columns)):
                dy, dx = r - y0, c - x0
                along, across = dx * ct + dy * st, dy * ct - dx * st
                if tall > 0.0:
                    bu, bv = along / body_a, across / body_b
                    inside = 1.0 - bu * bu - bv * bv
                    if inside > 0.0:
                        height[r, c] += tall * inside * inside
                u, v = along / a, across / b
                rho = np.sqrt(u * u + v * v) + 1e-9
                if rho * mean > mean * (1.0 + lobe) + 5.0:
                    continue
                cu, cv = u / rho, v / rho
                three = (4.0 * cu * cu * cu - 3.0 * cu) * cp - (3.0 * cv - 4.0 * cv * cv * cv) * sp
                d = rho / (1.0 + lobe * three)
                shape = 1.0 / (1.0 + np.exp(min((d - 1.0) * mean / 0.5, 30.0)))
                dome = shape * (1.0 - 0.2 * d * d) if d < 2.0 else 0.0
                grain = np.cos(k1 * u + phase) + np.cos(k2 * v - 2.1 * phase)
                grain += np.cos(k3 * (u + v) + 0.7 * phase)
                value = bright * dome * (1.0 + texture * grain / 1.5)
                if value > nuclear[r, c]:
                    nuclear[r, c] = value
                if level_g1 * dome > g1[r, c]:
                    g1[r, c] = level_g1 * dome
                if level_sg2m * dome > sg2m[r, c]:
                    sg2m[r, c] = level_sg2m * dome
                if label > 0.0 and d < 1.0 and d < nearest[r, c]:
                    nearest[r, c] = d
                    labels[r, c] = int(label)


@numba.njit(cache=True)
def measure(labels: LabelPlane, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Area, sum of y, sum of x (count + 1, 3) and whether another label is within two pixels (count + 1,)."""
    rows, columns = labels.shape
    sums = np.zeros((count + 1, 3))
    touching = np.zeros(count + 1, np.bool_)
    for r in range(rows):
        for c in range(columns):
            label = labels[r, c]
            if label == 0:
                continue
            sums[label, 0] += 1.0
            sums[label, 1] += r
            sums[label, 2] += c
            for dr in range(0, 3):
                for dc in range(-2, 3):
                    rr, cc = r + dr, c + dc
                    if rr < rows and 0 <= cc < columns:
                        other = labels[rr, cc]
                        if other != 0 and other != label:
                            touching[label] = True
                            touching[other] = True
    return sums, touching
