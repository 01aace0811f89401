"""Models of the tasks across modalities are checked by their exercises: what is wrong with one is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hyped_bench.controls import crossmodal
from hyped_core.checking.catalogue import checks_of, exercise_of
from hyped_core.checking.plugin import check_plugin, find_target
from hyped_core.checking.run import Maker, raw_records
from hyped_core.errors import PluginError
from hyped_core.plugins.registry import tasks
from hyped_core.spec import TASKS, ModelSpec

CROSSMODAL = ("composition", "forecast", "response")


def bad(task: str, model: type) -> dict[str, str]:
    """Check -> reason, of those that a model fails."""
    spec = ModelSpec("mine", task, "somewhere:Model", seeded=False)
    return {r.check: f"{r.where}: {r.reason}" for r in raw_records(spec, Maker(model)) if r.status == "failed"}


@pytest.mark.parametrize("task", CROSSMODAL)
def test_a_task_of_the_benchmark_has_the_checks_of_every_task(task: str):
    assert tasks().get(task).exercise and exercise_of(task).task == task
    common = [check.name for check in checks_of("track") if set(check.tasks) >= set(TASKS)]
    assert [check.name for check in checks_of(task)] == common


@pytest.mark.parametrize("task", ["stitch", "no-such-task"])
def test_a_task_without_an_exercise_has_no_checks(task: str):
    with pytest.raises(PluginError, match="nothing says how models of this task are put to work"):
        checks_of(task)


class Writes(crossmodal.EvenSplit):
    """Changes the cells that it is given."""

    def estimate(self, cells, condition, *, context):
        """The mean."""
        cells.X[:] = 0
        return 0.5


class Moves(crossmodal.Persistence):
    """Changes a course in place."""

    def forecast(self, start, time_h, *, context):
        """The end of the start."""
        start.values[:] += 1
        return super().forecast(start, time_h, context=context)


class Centres(crossmodal.NoResponse):
    """Centres the table that it is given."""

    def fit(self, features, responses, genes, *, context):
        """Keep the rest."""
        responses -= responses.mean()
        super().fit(features, responses, genes, context=context)


class Draws(crossmodal.NoResponse):
    """Draws from numpy's global generator."""

    def predict(self, features, genes, *, context):
        """Noise."""
        return np.random.normal(size=self.y.shape[1])  # noqa: NPY002


class Short(crossmodal.Persistence):
    """One hour too few."""

    def forecast(self, start, time_h, *, context):
        """All hours but the last."""
        return super().forecast(start, time_h, context=context)[:-1]


class Nothing(crossmodal.EvenSplit):
    """NaN for each cell."""

    def estimate(self, cells, condition, *, context):
        """Nothing known."""
        return np.full(cells.n_obs, np.nan)


@pytest.mark.parametrize(
    ("task", "model", "check", "said"),
    [
        ("composition", Writes, "inputs_unmodified", "own/X"),
        ("forecast", Moves, "inputs_unmodified", "courses[7]/values"),
        ("response", Centres, "inputs_unmodified", "responses"),
        ("response", Draws, "seed_repeats", "change"),
        ("response", Draws, "random_state_untouched", ""),
        ("forecast", Short, "runs", "gave shape (13, 4), expected (14, 4)"),
        ("composition", Nothing, "runs", "gave NaN or infinite values"),
    ],
)
def test_what_is_wrong_with_a_model_is_found(task: str, model: type, check: str, said: str):
    found = bad(task, model)
    assert said in found[check]
    assert check != "runs" or list(found) == ["runs"]


PYPROJECT = """
[project]
name = "share-model"
version = "0.1.0"
description = "Half of the cells"
license = "MIT"
requires-python = ">=3.11"
dependencies = ["hyped-core>=0.1,<0.2"]

[project.entry-points.hyped]
share-model = "share_model"
"""
PLUGIN = """
from hyped_core import ModelSpec, TaskSpec, hookimpl
from hyped_core.checking.records import Exercise

COUNTING = Exercise(
    "counting", lambda seed: {"cells": [seed, 1]}, lambda model, inputs, context: {"n": model.estimate(
        inputs["cells"], "", context=context)})

@hookimpl
def hyped_tasks():
    yield TaskSpec("counting", "share_model:Half", exercise="share_model:COUNTING")

class Half:
    def fit(self, courses, cells, *, harvest_h, context):
        courses[0].values[:] = 0

    def estimate(self, cells, condition, *, context):
        return 0.5

@hookimpl
def hyped_models():
    for task in ("composition", "counting", "stitch"):
        yield ModelSpec("half", task, "share_model:Half", summary="Half", licence="MIT", seeded=False)
"""


def test_a_strangers_model_of_a_task_of_the_benchmark_is_checked(tmp_path: Path):
    folder = tmp_path / "share-model"
    (folder / "src").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "src" / "share_model.py").write_text(PLUGIN)
    records = list(check_plugin(find_target(str(folder)), only=["runs", "inputs_unmodified"]))
    told = {(record.model, record.check): (record.status, record.where, record.reason) for record in records}
    assert told["composition/half", "runs"] == ("passed", "", "")
    assert told["composition/half", "inputs_unmodified"][:2] == ("failed", "courses[0]/values")
    assert told["counting/half", "runs"][0] == told["counting/half", "inputs_unmodified"][0] == "passed"
    assert told["stitch/half", "runs"][0] == "skipped" and "nothing says how" in told["stitch/half", "runs"][2]
