"""Figures that say how far called phases can be trusted: accuracy, calibration, agreement."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Phases = npt.NDArray[np.object_]


def accuracy(truth: Phases, called: Phases) -> float:
    """Share of cells whose called phase is the true one."""
    return round(float((truth == called).mean()), 6)


def wilson(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Ends of the 95 % interval (Wilson's, 1927) of ``k`` among ``n`` cells; (0, 1) without cells.

    >>> [round(end, 4) for end in wilson(0, 10)]
    [0.0, 0.2775]
    """
    if n == 0:
        return 0.0, 1.0
    share, extra = k / n, z * z / n
    middle, half = share + extra / 2, z * math.sqrt(share * (1 - share) / n + extra / (4 * n))
    return max(0.0, (middle - half) / (1 + extra)), min(1.0, (middle + half) / (1 + extra))


def held_out(prefix: str, truth: Phases, called: Phases, phases: tuple[str, ...]) -> dict[str, Any]:
    """``<prefix>_accuracy`` with its interval, and ``<prefix>_recall`` by phase."""
    share = accuracy(truth, called)
    low, high = (round(end, 6) for end in wilson(int((truth == called).sum()), len(truth)))
    recall = {phase: accuracy(truth[truth == phase], called[truth == phase]) for phase in phases}
    return {
        f"{prefix}_accuracy": share,
        f"{prefix}_accuracy_lo": low,
        f"{prefix}_accuracy_hi": high,
        f"{prefix}_recall": recall,
    }


def reliability(probability: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], bins: int = 10) -> dict[str, Any]:
    """``calibration_error`` and the ``reliability`` table behind it.

    Cells are put into ``bins`` of equal numbers by the probability of their call; the error is the mean
    difference between that probability and the share that is right (expected calibration error). It is not
    zero for calibrated probabilities: a bin of ``m`` cells strays by about ``0.4 / sqrt(m)``.
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    said = np.array([probability[part].mean() for part in parts])
    seen = np.array([right[part].mean() for part in parts])
    size = np.array([part.size for part in parts])
    return {
        "calibration_error": round(float((np.abs(said - seen) * size).sum() / size.sum()), 6),
        "reliability": {
            "probability": [round(float(value), 6) for value in said],
            "right": [round(float(value), 6) for value in seen],
            "cells": [int(value) for value in size],
        },
    }


def cross_table(rows: Phases, columns: Phases, phases: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Numbers of cells by the phase in ``rows`` and the phase in ``columns``."""
    return {one: {two: int(((rows == one) & (columns == two)).sum()) for two in phases} for one in phases}


def agreement(
    classifier: Phases, score: Phases, groups: pd.Series, phases: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """By group of cells: ``cells``, ``agree`` (share), ``table`` (classifier by gene score)."""
    names = groups.to_numpy(dtype=object)
    found = {}
    for name in sorted(set(names)):
        here = names == name
        found[str(name)] = {
            "cells": int(here.sum()),
            "agree": accuracy(classifier[here], score[here]),
            "table": cross_table(classifier[here], score[here], phases),
        }
    return found
