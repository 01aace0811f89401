"""All models of HYPED's own packages through the checks that plugins have to pass; what one fails, its spec says."""

from __future__ import annotations

import pytest

from hyped_core.plugins.registry import models
from hyped_core.spec import TASKS
from hyped_core.testing import parametrize_model_checks

OWN = ("hyped-imaging", "hyped-seq", "hyped-bench")
LEARNED = ("gears", "geneformer", "fm2s")
"""Begin of the names of models that take minutes."""


def own(learned: bool) -> list[str]:
    """Keys of our models."""
    found = [item.spec.key for item in models().items() if item.plugin.distribution in OWN]
    return [key for key in found if key.partition("/")[2].startswith(LEARNED) == learned]


def test_every_task_has_models_of_ours_and_those_that_learn_long_say_how_they_are_quick():
    keys = own(False) + own(True)
    assert {key.partition("/")[0] for key in keys} == {*TASKS, "composition", "forecast", "response"}
    assert len(own(True)) == 7
    quick = {key for key in keys if models().get(key).quick}
    assert quick == {key for key in own(True) if not models().get(key).weights}


@parametrize_model_checks(own(False))
def test_a_model_of_ours_does_what_plugins_have_to(model_check):
    model_check()


@pytest.mark.slow
@parametrize_model_checks(own(True))
def test_a_learned_model_of_ours_does_what_plugins_have_to(model_check):
    model_check()
