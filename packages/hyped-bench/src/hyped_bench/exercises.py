"""How models of the tasks across modalities are put to work by `hyped plugins check`: tiny made-up courses, cells and
changes, given as the tasks give them (`hyped_bench.tasks.crossmodal.contracts`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hyped_core.checking.records import Exercise
from hyped_core.errors import PluginError

if TYPE_CHECKING:
    from hyped_bench.tasks.crossmodal.contracts import Course
    from hyped_core.context import RunContext

QUANTITIES = ("dividing", "growth", "speed_um_h", "area_um2")
GENES = {"control": (), "siA": ("A",), "mmB": ("B",), "siA_mmB": ("A", "B")}
"""Condition -> genes changed in it."""
HARVEST_H = 20.0
CUT_H = 10.0
"""Where the start of a scene ends."""


def _courses(rng: np.random.Generator, conditions: tuple[str, ...]) -> list[dict[str, Any]]:
    """Two scenes a condition, as the arguments of `Course`; arrays by name, so that a change in them is seen."""
    time = np.arange(0.5, 24.0)
    found = []
    for condition in conditions:
        for replicate in (1, 2):
            rate = rng.uniform(0.02, 0.04)
            dividing = 0.4 + 0.2 * np.sin(time / 4 + rng.uniform(0, 2))
            columns = [dividing, rate * time, np.full(len(time), rng.uniform(5, 15)), 200 + 5 * time]
            values = np.stack(columns, axis=1) * rng.uniform(0.98, 1.02, (len(time), len(columns)))
            found.append({"scene": f"{condition}_{replicate}", "condition": condition, "replicate": replicate,
                          "time_h": time.copy(), "values": values, "quantities": QUANTITIES})  # fmt: skip
    return found


def _as_courses(given: list[dict[str, Any]]) -> list[Course]:
    from hyped_bench.tasks.crossmodal.contracts import Course

    return [Course(**one) for one in given]


def _cells(rng: np.random.Generator) -> Any:
    """40 cells a condition, 12 genes; those of the control were sorted, with the phases that the sorter set."""
    import anndata
    import pandas as pd

    n = 40 * len(GENES)
    condition = np.repeat(list(GENES), 40)
    true = rng.choice(["G1", "S", "G2M"], n, p=[0.5, 0.25, 0.25])
    called = np.where(rng.random(n) < 0.1, "G1", true)
    obs = pd.DataFrame(
        {
            "condition": condition, "phase": called, "phase_classifier": called, "phase_score": called,
            "assigned_phase": np.where(condition == "control", true, ""), "sorted": condition == "control",
        },
        index=[f"cell{i:03d}" for i in range(n)],
    )  # fmt: skip
    x = rng.gamma(4.0, 0.25, (n, 12)) + (true != "G1")[:, None] * (np.arange(12) < 4)
    return anndata.AnnData(x.astype(np.float32), obs=obs, var=pd.DataFrame(index=[f"G{i:02d}" for i in range(12)]))


def _composition_inputs(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, 1])
    cells = _cells(rng)
    courses = [
        {**one, "time_h": one["time_h"][:8], "values": one["values"][:8]} if one["condition"] == "siA" else one
        for one in _courses(rng, tuple(GENES))
    ]
    own = cells[(cells.obs["condition"] == "siA").to_numpy()].copy()
    return {"courses": courses, "cells": cells, "own": own}


def _composition_work(model: Any, inputs: dict[str, Any], context: RunContext) -> dict[str, Any]:
    model.fit(_as_courses(inputs["courses"]), inputs["cells"], harvest_h=HARVEST_H, context=context)
    value = np.asarray(model.estimate(inputs["own"], "siA", context=context), dtype=float)
    if value.shape not in ((), (inputs["own"].n_obs,)):
        mend = "return the share, or a number for each of the cells"
        raise PluginError(f"gave shape {value.shape}, expected one number or one a cell", where="estimate", mend=mend)
    return {"share": _finite(value, "estimate")}


def _forecast_inputs(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, 2])
    courses = _courses(rng, tuple(GENES))
    late = courses[-1]["time_h"][courses[-1]["time_h"] >= CUT_H].copy()
    early = courses[-1]["time_h"] < CUT_H
    courses[-1] |= {"time_h": courses[-1]["time_h"][early], "values": courses[-1]["values"][early]}
    return {"courses": courses, "time_h": late}


def _forecast_work(model: Any, inputs: dict[str, Any], context: RunContext) -> dict[str, Any]:
    courses = _as_courses(inputs["courses"])
    model.fit(courses, context=context)
    values = np.asarray(model.forecast(courses[-1], inputs["time_h"], context=context), dtype=float)
    return {"values": _shaped(values, (len(inputs["time_h"]), len(QUANTITIES)), "forecast", "(hours, quantities)")}


def _response_inputs(seed: int) -> dict[str, Any]:
    import pandas as pd

    rng = np.random.default_rng([seed, 3])
    units = [name for name in GENES if name != "control"]
    genes = [*(f"G{i:02d}" for i in range(6)), "score_S", "score_G2M"]
    features = pd.DataFrame(rng.normal(0, 0.3, (len(units), len(genes))), units, genes)
    columns = [f"{quantity}@{hour}" for quantity in QUANTITIES for hour in (8, 16)]
    responses = pd.DataFrame(features.to_numpy() @ rng.normal(0, 1, (len(genes), len(columns))), units, columns)
    held = units[-1]
    return {"features": features.drop(held), "responses": responses.drop(held), "new": features.loc[held].copy(),
            "genes": {name: GENES[name] for name in units if name != held}}  # fmt: skip


def _response_work(model: Any, inputs: dict[str, Any], context: RunContext) -> dict[str, Any]:
    model.fit(inputs["features"], inputs["responses"], inputs["genes"], context=context)
    values = np.asarray(model.predict(inputs["new"], GENES[inputs["new"].name], context=context), dtype=float)
    return {"change": _shaped(values, (inputs["responses"].shape[1],), "predict", "(columns of the responses,)")}


def _shaped(values: np.ndarray, wanted: tuple[int, ...], method: str, axes: str) -> np.ndarray:
    if values.shape != wanted:
        raise PluginError(f"gave shape {values.shape}, expected {wanted}", where=method, mend=f"return {axes}")
    return _finite(values, method)


def _finite(values: np.ndarray, method: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise PluginError("gave NaN or infinite values", where=method, mend="return a number wherever one is asked for")
    return values


COMPOSITION = Exercise("composition", _composition_inputs, _composition_work)
FORECAST = Exercise("forecast", _forecast_inputs, _forecast_work)
RESPONSE = Exercise("response", _response_inputs, _response_work)
