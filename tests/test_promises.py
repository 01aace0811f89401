"""The committed scores of `mini` hold what is promised of movies: floors, and better than the controls beside them."""

from __future__ import annotations

import json
import math
import operator
from pathlib import Path

import pytest

FLOORS = [
    ("stitch/pipeline", "position_error_px", "<=", 1.0),
    ("segment/fast", "f1_iou50", ">=", 0.95),
    ("segment/fast", "seg", ">=", 0.82),
    ("track/lap", "tra", ">=", 0.95),
    ("track/lap", "division_f1", ">=", 0.8),
    ("phases_imaging/pipeline", "phase_accuracy", ">=", 0.93),
    ("phases_imaging/pipeline", "fraction_error", "<=", 0.03),
]
BETTER = [
    *[("segment", "fast", other, score) for other in ("paper", "otsu") for score in ("f1_iou50", "seg")],
    *[("track", "lap", other, "division_f1") for other in ("nearest", "laptrack", "btrack")],
    *[("track", "lap", other, "lnk") for other in ("nearest", "laptrack", "btrack")],
]
HOLDS = {"<=": operator.le, ">=": operator.ge}


def score(root: Path, data: str, name: str, key: str) -> float:
    """One number of ``metrics/<data>/<name>.json``; the test fails where it is missing or no number."""
    path = root / "metrics" / data / f"{name}.json"
    if not path.is_file():
        pytest.fail(f"metrics/{data}/{name}.json is missing: `make repro` makes it; commit it", pytrace=False)
    value = json.loads(path.read_text(encoding="utf-8")).get(key)
    if not isinstance(value, int | float) or not math.isfinite(value):
        pytest.fail(f"metrics/{data}/{name}.json: {key} is {value!r}, no number", pytrace=False)
    return float(value)


@pytest.mark.parametrize(("name", "key", "side", "promised"), FLOORS, ids=lambda value: str(value))
def test_mini_holds_its_floor(root: Path, name: str, key: str, side: str, promised: float):
    found = score(root, "mini", name, key)
    assert HOLDS[side](found, promised), f"metrics/mini/{name}.json: {key} is {found}, promised is {side} {promised}"


@pytest.mark.parametrize(("step", "ours", "other", "key"), BETTER, ids=lambda value: str(value))
def test_mini_is_better_than_the_controls(root: Path, step: str, ours: str, other: str, key: str):
    own, theirs = score(root, "mini", f"{step}/{ours}", key), score(root, "mini", f"{step}/{other}", key)
    assert own > theirs, f"{step} on mini: {key} of {ours} is {own}, of {other} {theirs}"
