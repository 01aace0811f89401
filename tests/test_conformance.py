"""All models of HYPED's own packages through the checks that plugins have to pass; what one fails, its spec says."""

from __future__ import annotations

import pytest

from hyped_core.plugins.registry import models
from hyped_core.spec import TASKS
from hyped_core.testing import parametrize_model_checks

OWN = ("hyped-imaging", "hyped-seq", "hyped-bench")
VALUES = {
    "expression/gears": {"epochs": 1, "hidden": 8},
    "expression/gears-reference": {"epochs": 1, "hidden": 8},
    "embedding/geneformer-tiny": {"pretrain": {"steps": 4, "hidden": 16, "feed_forward": 16, "max_tokens": 64}},
    "embedding/geneformer-untrained": {"pretrain": {"steps": 4, "hidden": 16, "feed_forward": 16, "max_tokens": 64}},
    "denoise/fm2s": {"draws": 2},
    "denoise/fm2s-series": {"draws": 2},
}
"""Parameters that make learned models small; the checks ask how a model behaves, not how well it does."""
LEARNED = ("gears", "geneformer", "fm2s")
"""Begin of the names of models that take minutes."""


def own(learned: bool) -> list[str]:
    """Keys of our models of tasks with a contract."""
    found = [
        item.spec.key
        for item in models().items()
        if item.plugin.distribution in OWN and item.spec.task in TASKS
    ]
    return [key for key in found if key.partition("/")[2].startswith(LEARNED) == learned]


def test_every_task_has_models_of_ours_and_no_parameters_are_for_another():
    keys = own(False) + own(True)
    assert {key.partition("/")[0] for key in keys} == set(TASKS)
    assert set(VALUES) <= set(keys)
    assert len(own(True)) == 7


@parametrize_model_checks(own(False))
def test_a_model_of_ours_does_what_plugins_have_to(model_check):
    model_check()


@pytest.mark.slow
@parametrize_model_checks(own(True), values=VALUES)
def test_a_learned_model_of_ours_does_what_plugins_have_to(model_check):
    model_check()
