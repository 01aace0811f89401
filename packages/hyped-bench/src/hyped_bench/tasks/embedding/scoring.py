"""Scores of one source: the paper's numbers on all cells, everything else on as many cells in every group."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_bench.metrics import embedding as measure
from hyped_bench.metrics import expression as plain
from hyped_bench.tasks.embedding.calls import Embedded
from hyped_bench.tasks.embedding.data import EmbeddingData
from hyped_bench.tasks.embedding.params import EmbeddingParams
from hyped_core.context import RunContext
from hyped_core.design.model import CONTROL

Array = npt.NDArray[np.float64]
Values = dict[str, float | None]

PAPER = ("cosine", "mse", "mae", "pearson")
DO_NOTHING = tuple(f"{key}_no_change" for key in PAPER)
RAW = (
    "cosine_gain", "mse_relative", "cosine_matched", "cosine_no_change_matched", "cosine_other", "cosine_other_max",
    "cosine_half",
)  # fmt: skip
SHIFT = (
    "cosine_shift", "pearson_shift", "cosine_shift_indirect", "cosine_shift_other", "cosine_shift_other_max",
    "cosine_shift_half", "cosine_shift_null", "null_p", "null_p_indirect",
)  # fmt: skip
CONDITIONS = ("cosine_shift_conditions", "cosine_shift_conditions_half", "cosine_shift_conditions_null",
              "null_p_conditions")  # fmt: skip
KEYS = (*PAPER, *DO_NOTHING, *RAW, *SHIFT, *CONDITIONS)
INTERVALS = ("cosine", "cosine_gain", "cosine_shift", "cosine_shift_indirect", "cosine_shift_conditions")
NULLS = {"null_p": "cosine_shift", "null_p_indirect": "cosine_shift_indirect",
         "null_p_conditions": "cosine_shift_conditions"}  # fmt: skip
"""p-value -> the value it is of."""
CHUNK = 100
"""Bootstrap draws held at once."""


class Unit:
    """One perturbation in one phase while it is scored.

    Attributes
    ----------
    values : key -> value; None where it has none by design (no other condition, no match).
    draws : key of `INTERVALS` -> bootstrap draws.
    null, real : key of `NULLS` -> null values, and the value on the same cells (None where undefined).
    undefined : keys that were stated as 0 because a vector was zero or constant.
    """

    def __init__(self, phase: str, name: str) -> None:
        self.phase, self.name = phase, name
        self.values: Values = dict.fromkeys(KEYS)
        self.draws: dict[str, Array] = {}
        self.null: dict[str, Array] = {}
        self.real: dict[str, float | None] = {}
        self.undefined: list[str] = []

    def state(self, key: str, value: float | None) -> None:
        """Keep a value; an undefined one is stated as 0 and counted."""
        if value is None or not np.isfinite(value):
            self.undefined.append(key)
            value = 0.0
        self.values[key] = float(value)


class PhaseScores:
    """All units of one phase, scored together because they share their control cells."""

    def __init__(
        self, data: EmbeddingData, found: Embedded, phase: str, params: EmbeddingParams, context: RunContext
    ) -> None:
        self.data, self.found, self.phase, self.params = data, found, phase, params
        self.names = data.conditions(phase)
        self.units = [Unit(phase, name) for name in self.names]
        self.rng = context.rng("embedding", "score", data.source.name, phase)
        rows = found.matched[phase, CONTROL]
        self.control = found.cells[rows].astype(np.float64)
        self.change = [found.in_silico[name][rows] - self.control for name in self.names]
        self.true = [found.cells[found.matched[phase, name]].astype(np.float64) for name in self.names]
        self.scale = float(np.sqrt(np.mean(np.sum(self.control**2, axis=1))))

    def run(self) -> list[Unit]:
        """Score every unit."""
        self.predicted = measure.still([c.mean(axis=0) for c in self.change], self.scale)
        self.truth = np.array([t.mean(axis=0) for t in self.true]) - self.control.mean(axis=0)
        self._all_cells()
        self._matched()
        self._halves()
        self._nulls()
        self._bootstrap()
        return self.units

    def _all_cells(self) -> None:
        """The paper's protocol, and the same with nothing done."""
        rows = self.found.usable[self.phase, CONTROL]
        control = self.found.cells[rows].mean(axis=0, dtype=np.float64)
        for unit in self.units:
            silico = self.found.in_silico[unit.name][rows].mean(axis=0, dtype=np.float64)
            true = self.found.cells[self.found.usable[self.phase, unit.name]].mean(axis=0, dtype=np.float64)
            for key in PAPER:
                unit.state(key, getattr(plain, key)(silico, true))
                unit.state(f"{key}_no_change", getattr(plain, key)(control, true))
            unit.state("cosine_gain", unit.values["cosine"] - unit.values["cosine_no_change"])  # type: ignore[operator]
            unit.values["mse_relative"] = plain.mse_relative(silico, true, control)

    def _matched(self) -> None:
        """Raw means, shifts and contrasts on as many cells in every group; other conditions' truth beside the own."""
        control = self.control.mean(axis=0)
        silico, true = control + self.predicted, control + self.truth
        raw = measure.cosine_rows(silico[:, None], true[None])
        nothing = measure.cosine_rows(control, true)
        shift = measure.cosine_rows(self.predicted[:, None], self.truth[None])
        apart = self._apart(self.predicted, self.truth)
        for i, unit in enumerate(self.units):
            unit.state("cosine_matched", raw[i, i])
            unit.state("cosine_no_change_matched", nothing[i])
            unit.state("cosine_shift", shift[i, i])
            changed = bool(self.predicted[i].any())
            unit.state("pearson_shift", plain.pearson(self.predicted[i], self.truth[i]) if changed else None)
            unit.state("cosine_shift_indirect", measure.cosine_rows(self.predicted[i], self._indirect(i)))
            others = np.delete(np.arange(len(self.units)), i)
            if len(others):
                for key, values in (("cosine_other", raw), ("cosine_shift_other", shift)):
                    theirs = np.nan_to_num(values[i, others], nan=0.0)
                    unit.values[key], unit.values[f"{key}_max"] = float(theirs.mean()), float(theirs.max())
                unit.state("cosine_shift_conditions", apart[i])

    def _indirect(self, i: int) -> Array:
        """The true change that is left when the perturbed genes are set alike in perturbed and control cells."""
        pinned = self.found.pinned[self.phase, self.names[i]]
        whole = pinned[~np.isnan(pinned[:, 0])]
        if len(whole) == 0:
            return np.zeros(self.control.shape[1])
        return whole.mean(axis=0, dtype=np.float64) - (self.control + self.change[i]).mean(axis=0)

    def _apart(self, predicted: Array, truth: Array) -> Array:
        """Cosines of the contrasts between conditions; NaN for a single condition."""
        if len(self.units) < 2:
            return np.full(predicted.shape[:-1], np.nan)
        mine = measure.still(measure.contrasts(predicted), self.scale)
        return measure.cosine_rows(mine, measure.contrasts(truth))

    def _halves(self) -> None:
        """One half of the perturbed cells against the other, each from its own half of the control cells."""
        draws, size = self.params.half_draws, len(self.control)
        control = [w @ self.control for w in measure.halves(size, draws, self.rng)]
        first, second = [], []
        for true in self.true:
            a, b = measure.halves(size, draws, self.rng)
            first.append(a @ true)
            second.append(b @ true)
        one, two = np.array(first), np.array(second)
        raw = measure.cosine_rows(one, two).mean(axis=1)
        shift = measure.cosine_rows(one - control[0], two - control[1]).mean(axis=1)
        for i, unit in enumerate(self.units):
            unit.values["cosine_half"], unit.values["cosine_shift_half"] = float(raw[i]), float(shift[i])
        if len(self.units) > 1:
            apart = measure.cosine_rows(measure.contrasts(one), measure.contrasts(two)).mean(axis=1)
            for i, unit in enumerate(self.units):
                unit.values["cosine_shift_conditions_half"] = float(apart[i])

    def _nulls(self) -> None:
        """Random genes in place of the real ones, and the real ones on the same cells."""
        rows = self.found.null_rows[self.phase]
        cells = self.found.cells[rows].astype(np.float64)
        real = measure.still(
            [(self.found.in_silico[name][rows] - cells).mean(axis=0) for name in self.names], self.scale
        )
        shifts = [self.found.null_shifts.get((self.phase, name)) for name in self.names]
        for i, (unit, drawn) in enumerate(zip(self.units, shifts, strict=True)):
            if drawn is None:
                continue
            null = measure.still(drawn, self.scale)
            for key, truth in (("cosine_shift", self.truth[i]), ("cosine_shift_indirect", self._indirect(i))):
                self._keep_null(unit, key, measure.cosine_rows(real[i], truth), measure.cosine_rows(null, truth))
            unit.values["cosine_shift_null"] = float(unit.null["cosine_shift"].mean())
        if len(self.units) > 1 and all(drawn is not None for drawn in shifts):
            # every condition's genes are replaced at once: the others' predictions are random as well
            null = self._apart(np.array(shifts), np.broadcast_to(self.truth[:, None], np.shape(shifts)))
            own = self._apart(real, self.truth)
            for i, unit in enumerate(self.units):
                self._keep_null(unit, "cosine_shift_conditions", own[i], null[i])
                unit.values["cosine_shift_conditions_null"] = float(
                    unit.null["cosine_shift_conditions"].mean()
                )
        for unit in self.units:
            for key, of in NULLS.items():
                if of in unit.null:
                    unit.values[key] = measure.empirical_p(unit.real[of], unit.null[of])

    @staticmethod
    def _keep_null(unit: Unit, key: str, real: npt.ArrayLike, null: Array) -> None:
        value = float(real)  # type: ignore[arg-type]
        unit.real[key] = value if np.isfinite(value) else None
        unit.null[key] = np.nan_to_num(null, nan=0.0)

    def _bootstrap(self) -> None:
        """Draws of cells within every group; a control cell takes its perturbed copies along."""
        keys = [k for k in INTERVALS if k != "cosine_shift_conditions" or len(self.units) > 1]
        parts: list[dict[str, list[Array]]] = [{key: [] for key in keys} for _ in self.units]
        whole = self.found.usable[self.phase, CONTROL]
        control = self.found.cells[whole].astype(np.float64)
        left = self.params.bootstrap
        while left > 0:
            size = min(CHUNK, left)
            left -= size
            weights = measure.resampling(len(self.control), size, self.rng)
            base = weights @ self.control
            predicted = measure.still([weights @ change for change in self.change], self.scale)
            drawn = [measure.resampling(len(t), size, self.rng) for t in self.true]
            truth = np.array([w @ t for w, t in zip(drawn, self.true, strict=True)]) - base
            shift = measure.cosine_rows(predicted, truth)
            apart = self._apart(predicted, truth)
            every = measure.resampling(len(whole), size, self.rng)
            nothing = every @ control
            for i, unit in enumerate(self.units):
                rows = self.found.usable[self.phase, unit.name]
                true = measure.resampling(len(rows), size, self.rng) @ self.found.cells[rows].astype(np.float64)
                cosine = measure.cosine_rows(every @ self.found.in_silico[unit.name][whole].astype(np.float64), true)
                found = {
                    "cosine": cosine,
                    "cosine_gain": cosine - measure.cosine_rows(nothing, true),
                    "cosine_shift": shift[i],
                    "cosine_shift_indirect": measure.cosine_rows(
                        predicted[i], self._indirect_draws(i, drawn[i], base + predicted[i])
                    ),
                    "cosine_shift_conditions": apart[i],
                }
                for key in keys:
                    parts[i][key].append(np.nan_to_num(found[key], nan=0.0))
        for unit, own in zip(self.units, parts, strict=True):
            unit.draws = {key: np.concatenate(values) for key, values in own.items()}

    def _indirect_draws(self, i: int, weights: Array, silico: Array) -> Array:
        pinned = self.found.pinned[self.phase, self.names[i]].astype(np.float64)
        known = ~np.isnan(pinned[:, 0])
        kept = weights[:, known]
        share = np.maximum(kept.sum(axis=1, keepdims=True), 1e-300)
        return (kept / share) @ pinned[known] - silico


def unit_row(data: EmbeddingData, found: Embedded, unit: Unit) -> dict[str, Any]:
    """A unit's line of the table ``units``."""
    row: dict[str, Any] = {
        "source": data.source.name,
        "perturbation": unit.name,
        "phase": unit.phase,
        "n_control": len(found.usable[unit.phase, CONTROL]),
        "n_perturbed": len(found.usable[unit.phase, unit.name]),
        "n_matched": len(found.matched[unit.phase, unit.name]),
        "n_null_cells": len(found.null_rows[unit.phase]),
        "n_null": len(unit.null.get("cosine_shift", ())),
        **unit.values,
    }
    for key in INTERVALS:
        row[f"{key}_lo"], row[f"{key}_hi"] = measure.centred_interval(
            unit.values[key],
            unit.draws.get(key, ()),
            lowest=-2.0 if key == "cosine_gain" else -1.0,
            highest=2.0 if key == "cosine_gain" else 1.0,
        )
    return {**row, "undefined": len(unit.undefined)}


def null_rows(data: EmbeddingData, found: Embedded, unit: Unit) -> list[dict[str, Any]]:
    """Lines of the table ``nulls``: each draw's genes and values, and draw -1: the real genes on the same cells."""
    if not unit.null:
        return []
    start = {"source": data.source.name, "perturbation": unit.name, "phase": unit.phase}
    genes = data.perturbations[unit.name].genes
    rows = [{**start, "draw": -1, "genes": "+".join(genes), **{key: unit.real.get(key) for key in NULLS.values()}}]
    for k, draw in enumerate(found.draws):
        values = {key: float(unit.null[key][k]) if key in unit.null else None for key in NULLS.values()}
        rows.append({**start, "draw": k, "genes": "+".join(draw[g] for g in genes), **values})
    return rows


def group_means(data: EmbeddingData, found: Embedded) -> pd.DataFrame:
    """Mean vectors of every group, long: what each unit's numbers can be computed from by hand.

    ``kind`` is ``cells`` (as measured), ``in_silico`` or ``pinned`` (measured, with the perturbed genes set as in
    silico); ``of`` is ``all`` or ``matched`` cells.
    """
    parts = []
    for of, groups in (("all", found.usable), ("matched", found.matched)):
        for (phase, name), rows in groups.items():
            means = {("cells", name): found.cells[rows]}
            if name == CONTROL:
                for other in data.conditions(phase):
                    means["in_silico", other] = found.in_silico[other][rows]
            elif of == "matched":
                pinned = found.pinned[phase, name]
                means["pinned", name] = pinned[~np.isnan(pinned[:, 0])]
            for (kind, label), values in means.items():
                if len(values):
                    parts.append(_long(data.source.name, phase, label, kind, of, values))
    return pd.concat(parts, ignore_index=True)


def _long(source: str, phase: str, name: str, kind: str, of: str, values: npt.NDArray) -> pd.DataFrame:
    # nine digits: a small change of a large mean can be told, and the number of threads changes no byte
    mean = np.array([float(f"{value:.9g}") for value in values.mean(axis=0, dtype=np.float64)])
    return pd.DataFrame(
        {
            "source": source, "phase": phase, "perturbation": name, "kind": kind, "of": of, "n_cells": len(values),
            "dimension": np.arange(len(mean), dtype=np.int32), "mean": mean,
        }
    )  # fmt: skip
