"""docs/metrics.md names every registered metric, and docstrings say what doing nothing scores."""

from __future__ import annotations

import importlib
import inspect
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from hyped_bench.metric_specs import TABLES, metric_specs
from hyped_bench.metrics import de_sets, discrimination, distributions, expression
from hyped_bench.tasks.expression.scoring import KEYS

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_every_registered_metric_is_on_the_page():
    named = set(re.findall(r"`([a-z0-9_*]+)`", PAGE.read_text(encoding="utf-8")))
    missing = [m.name for m in metric_specs() if not any(fnmatch(m.name, name) for name in named)]
    assert not missing


def test_every_target_is_there_and_no_key_twice():
    seen = set()
    for spec in metric_specs():
        module, _, function = spec.target.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), spec
        assert (spec.task, spec.name) not in seen and spec.tolerance > 0
        seen.add((spec.task, spec.name))
    assert {task for task, _ in seen} == set(TABLES)


def test_every_score_of_the_expression_task_is_registered():
    registered = {spec.name for spec in metric_specs() if spec.task == "expression"}
    assert registered == set(KEYS)


def test_tables_are_whole():
    """Rows of a table have as many cells as its head."""
    blocks = re.findall(r"(?:^\|.*\n)+", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(blocks) > 10
    for block in blocks:
        widths = [len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()]
        assert len(set(widths)) == 1, block.splitlines()[widths.index(next(w for w in widths if w != widths[0]))]


@pytest.mark.parametrize("module", [expression, discrimination, distributions, de_sets])
def test_docstrings_say_what_doing_nothing_scores(module):
    """Every public score says it, in words a reader can find."""
    words = re.compile(r"no change|doing nothing|one change for all|one prediction for all", re.IGNORECASE)
    apart = {"welch_t", "de_weights", "principal_axes", "median_distance", "spearman", "de_scores"}
    for name, function in inspect.getmembers(importlib.import_module(module.__name__), inspect.isfunction):
        if function.__module__ == module.__name__ and not name.startswith("_") and name not in apart:
            said = " ".join((inspect.getdoc(function) or "").split())
            assert words.search(said), f"{module.__name__}.{name}"
