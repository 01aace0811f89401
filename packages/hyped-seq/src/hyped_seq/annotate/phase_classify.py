"""Training the classifier of phases on sorted cells, and calling the cells of a pool with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hyped_seq.annotate.phase_composition import Shares, estimate_shares, fit_pool, jackknife_variance
from hyped_seq.annotate.phase_params import PhaseParams
from hyped_seq.annotate.phase_ring import FloatArray, IntArray, RingModel, fit_ring, softmax

TEMPERATURES = (1.0, 1.15, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0, 6.0)
"""Divisors of the log likelihood that are tried: genes that vary together make it too sure of itself."""
LOUDNESS = (0.0, 0.01, 0.03, 0.1, 0.3)
"""Variances that are tried of the factor by which all genes of a cell are louder or softer together."""


@dataclass(frozen=True, slots=True)
class CycleCounts:
    """Raw counts of the cycle genes (cells, G), molecules over all genes (cells,), as floats."""

    counts: FloatArray
    depth: FloatArray

    @classmethod
    def of(cls, counts: sp.csr_matrix, symbols: list[str], genes: list[str]) -> CycleCounts:
        """Those of ``genes`` in all cells."""
        position = {symbol: i for i, symbol in enumerate(symbols)}
        return cls(
            counts[:, [position[gene] for gene in genes]].toarray().astype(np.float64),
            np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(),
        )

    def at(self, rows: npt.NDArray[Any]) -> CycleCounts:
        """The same of some cells."""
        return CycleCounts(self.counts[rows], self.depth[rows])


@dataclass(frozen=True, slots=True)
class Trained:
    """The classifier, its siblings that each lack a fold, and what it says of sorted cells it had not seen."""

    model: RingModel
    siblings: tuple[RingModel, ...]
    temperature: float
    label_probability: FloatArray
    """(sorted cells, P) probability of being sorted as each phase."""
    phase_probability: FloatArray
    """(sorted cells, P) probability of being in each phase."""


def train(
    cells: CycleCounts, codes: IntArray, phases: tuple[str, ...], params: PhaseParams, rng: np.random.Generator
) -> Trained:
    """Fit on all sorted cells and without each fold; what is left to choose has the least held-out log loss.

    Chosen are the loudness, with curves that were learned without (they are learned again where it is not 0), and
    the temperature. The held-out figures are those of the choice: two numbers from hundreds of cells.
    """
    fold = np.empty(len(codes), dtype=np.int64)
    for phase in range(len(phases)):
        rows = rng.permutation(np.flatnonzero(codes == phase))
        fold[rows] = np.arange(rows.size) % params.folds
    numbers = range(params.folds)
    held_out = [np.flatnonzero(fold == number) for number in numbers]
    parts = [
        _drawn(rows, params.max_cells, rng)
        for rows in (np.arange(len(codes)), *(np.flatnonzero(fold != number) for number in numbers))
    ]

    def fitted(loudness: float) -> list[RingModel]:
        return [
            fit_ring(cells.counts[part], cells.depth[part], codes[part], len(phases), params, loudness)
            for part in parts
        ]

    def held(siblings: list[RingModel]) -> tuple[float, float, FloatArray, FloatArray]:
        """Least loss, its temperature, and the held-out probabilities of labels and of phases."""
        places = np.empty((len(codes), params.places))
        for out, sibling in zip(held_out, siblings, strict=True):
            places[out] = sibling.place_log_likelihood(cells.counts[out], cells.depth[out])
        tried = []
        for temperature in TEMPERATURES:
            as_label = np.empty((len(codes), len(phases)))
            in_phase = np.empty_like(as_label)
            for out, sibling in zip(held_out, siblings, strict=True):
                at = softmax(places[out] / temperature + np.log(sibling.density))
                in_phase[out] = at @ sibling.membership
                as_label[out] = in_phase[out] @ sibling.label
            loss = -float(np.log(as_label[np.arange(len(codes)), codes]).mean())
            tried.append((loss, temperature, as_label, in_phase))
        return min(tried, key=lambda item: item[:2])

    models = fitted(0.0)
    losses = [(held([replace(one, loudness=value) for one in models[1:]])[0], value) for value in LOUDNESS]
    loudness = min(losses)[1]
    if loudness > 0:
        models = fitted(loudness)
    _, temperature, as_label, in_phase = held(models[1:])
    return Trained(models[0], tuple(models[1:]), temperature, as_label, in_phase)


def call_pool(
    cells: CycleCounts,
    conditions: npt.NDArray[np.object_],
    pool: str,
    phases: tuple[str, ...],
    models: list[RingModel],
    temperature: float,
    params: PhaseParams,
    rng: np.random.Generator,
    record: dict[str, Any],
) -> FloatArray:
    """(cells, P) probabilities of the unsorted cells of a pool by the first model; shares go into ``record``."""
    part = cells.at(_drawn(np.arange(len(cells.depth)), params.max_cells, rng))
    found = []
    for model in models:
        fit = fit_pool(model, part.counts, part.depth, temperature, params.shift_sd, params.place_cells)
        found.append(fit.log_likelihood(cells.counts, cells.depth))
    if not params.adapt_composition:
        return softmax(found[0])
    shares = [estimate_shares(logs) for logs in found]
    probability = shares[0].posterior
    record["composition"][pool] = _shares_record(shares, phases)
    for name in sorted(set(conditions) - {""}):
        here = conditions == name
        shares = [estimate_shares(logs[here]) for logs in found]
        probability[here] = shares[0].posterior
        record["composition"][f"{pool} / {name}"] = _shares_record(shares, phases)
    return probability


def _shares_record(shares: list[Shares], phases: tuple[str, ...]) -> dict[str, Any]:
    """Shares by the whole model with 95 % intervals; the others, if any, are of its siblings."""
    first, others = shares[0], [other.value for other in shares[1:]]
    error = 1.959964 * np.sqrt(first.variance + (jackknife_variance(others) if others else 0.0))
    result: dict[str, Any] = {"cells": len(first.posterior)}
    for phase, value, half in zip(phases, first.value, error, strict=True):
        result[phase] = round(float(value), 6)
        result[f"{phase}_lo"] = round(max(0.0, float(value - half)), 6)
        result[f"{phase}_hi"] = round(min(1.0, float(value + half)), 6)
    return result


def _drawn(rows: IntArray, n: int, rng: np.random.Generator) -> IntArray:
    """At most ``n`` of the rows, in their order."""
    return rows if len(rows) <= n else np.sort(rng.choice(rows, n, replace=False))
