"""What the benchmark says of what was run here: the planted truth in its order, and every control in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyped_bench.judgement import judge, rank_as_planted
from hyped_core.plugins.registry import models

pytestmark = pytest.mark.slow  # after the pipeline


def records(root: Path, dataset: str) -> Path:
    folder = root / "records" / dataset
    if not (folder / "expression").is_dir():
        pytest.skip(f"run make repro DATASET={dataset} first")
    return folder


def controls(task: str) -> set[str]:
    return {i.spec.name for i in models().items() if i.spec.task == task and i.spec.role == "control"}


def test_the_planted_truth_of_the_screen_ranks_as_it_must(root: Path):
    made = judge(records(root, "mini"), "expression")
    orders = rank_as_planted(made.planted, source="screen")
    assert len(orders) >= 8, "most metrics can tell"
    assert [order.metric for order in orders if not order.holds] == []
    untold = [c for c in made.calibration if not c.can_tell]
    assert {c.metric for c in untold if c.source == "screen"} & {order.metric for order in orders} == set()
    assert all(c.reason for c in untold)


@pytest.mark.parametrize("dataset", ["mini", "public"])
def test_every_control_stands_on_the_leaderboard_and_verdicts_follow_from_the_numbers(root: Path, dataset: str):
    made = judge(records(root, dataset), "expression")
    assert made.missing_controls == []
    ranked = {name for row in made.rankings for name in row["order"]}
    assert controls("expression") | {"latent_ridge", "gears", "duplicate"} <= ranked
    against = {(c.source, c.metric, c.model, c.role, c.against): c for c in made.comparisons}
    words = {(v.source, v.metric, v.model, v.role, v.against): v.word for v in made.verdicts}
    assert {key[2] for key in words} >= {"latent_ridge", "gears"}
    for key, word in words.items():
        if word in ("better", "worse"):
            comparison = against[key]
            assert comparison.p_holm < 0.05
            assert (comparison.effect > 0) == (word == "better")


def test_no_verdict_on_three_conditions_speaks_of_unseen_perturbations(root: Path):
    made = judge(records(root, "mini"), "expression")
    assert made.inference["conditions"].kind == "cells"
    assert made.confounded["conditions"] is True
    said = [v.text for v in made.verdicts if v.source == "conditions" and v.word in ("better", "worse")]
    assert said
    assert [text for text in said if "says nothing of unseen perturbations" not in text] == []
