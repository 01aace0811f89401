"""The committed scores of `mini` hold what is promised: floors, and better than the controls beside them."""

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
    ("phases_rna/pipeline", "phase_accuracy", ">=", 0.9),
    ("phases_rna/pipeline", "held_out_accuracy", ">=", 0.85),
    ("phases_rna/pipeline", "fraction_error", "<=", 0.03),
    ("hashtag_counts/pipeline", "count_pearson", ">=", 0.99),
    ("hashtag_counts/pipeline", "count_ratio", ">=", 0.95),
    ("hashtag_counts/pipeline", "count_ratio", "<=", 1.05),
    ("demultiplex/hashed", "accuracy", ">=", 0.91),
    ("denoise/photon", "psnr", ">=", 44.5),
    ("denoise/photon", "ssim", ">=", 0.99),
    ("changes/pipeline", "de_recall", ">=", 0.8),
    ("changes/pipeline", "de_false_share", "<=", 0.05),
    ("changes/pipeline", "isoform_recall", ">=", 0.9),
    ("changes/pipeline", "isoform_false_share", "<=", 0.05),
]
DENOISERS = ("identity", "gaussian", "median", "tv", "nlm", "fm2s-series")
BETTER = [
    *[("segment", "fast", other, score) for other in ("paper", "otsu") for score in ("f1_iou50", "seg")],
    *[("track", "lap", other, "division_f1") for other in ("nearest", "laptrack", "btrack")],
    *[("demultiplex", "hashed", other, "accuracy") for other in ("top_tag", "hashsolo", "gmm", "quantile")],
    *[("denoise", "photon", other, score) for other in DENOISERS for score in ("psnr", "ssim")],
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


@pytest.mark.parametrize("other", DENOISERS)
def test_photon_is_closer_to_the_truth_in_every_field_and_channel(root: Path, other: str):
    fields = [f"psnr_{scene}_{channel}" for scene in ("S0", "S2", "S4", "S6") for channel in ("Cy5", "mKate", "TagGFP")]
    below = {
        field for field in fields
        if score(root, "mini", "denoise/photon", field) <= score(root, "mini", f"denoise/{other}", field)
    }  # fmt: skip
    assert not below


def test_denoised_nuclei_are_found_as_raw_ones_and_better_where_light_is_short(root: Path):
    for key in ("downstream_f1_iou50", "downstream_seg", "downstream_tra"):
        denoised, raw = (score(root, "mini", f"denoise/{name}", key) for name in ("photon", "identity"))
        assert denoised >= raw - 0.005, key
        denoised, raw = (score(root, "mini", f"denoise/{name}", f"{key}_light_10") for name in ("photon", "identity"))
        assert denoised > raw + 0.02, key


def test_phases_are_told_better_than_by_the_gene_score(root: Path):
    for ours, classic in (("phase_accuracy", "score_accuracy"), ("held_out_accuracy", "held_out_score_accuracy")):
        own, theirs = (score(root, "mini", "phases_rna/pipeline", key) for key in (ours, classic))
        assert own > theirs, f"{ours} is {own}, {classic} {theirs}"


@pytest.mark.parametrize(("step", "ours", "other", "key"), BETTER, ids=lambda value: str(value))
def test_mini_is_better_than_the_controls(root: Path, step: str, ours: str, other: str, key: str):
    own, theirs = score(root, "mini", f"{step}/{ours}", key), score(root, "mini", f"{step}/{other}", key)
    assert own > theirs, f"{step} on mini: {key} of {ours} is {own}, of {other} {theirs}"


@pytest.mark.parametrize("model", ["pca", "geneformer-untrained", "geneformer-tiny"])
def test_raw_cosines_of_embeddings_cannot_tell_and_what_can_is_beside_them(root: Path, model: str):
    found = json.loads((root / f"metrics/mini/embedding/{model}.json").read_text(encoding="utf-8"))
    assert found["n_units"] == 9 and found["n_dropped"] == 0 and found["n_undefined"] == 0
    assert found["cosine"] > 0.98 and abs(found["cosine_gain"]) < 0.01, "doing nothing scores the same"
    assert 0.05 <= found["null_p"] <= 1 and found["cosine_shift_lo"] < found["cosine_shift"] < found["cosine_shift_hi"]
    assert found["cosine_shift_half"] > 0.2, "halves of the perturbed cells agree: there is a change to be found"
    assert set(found) == set(json.loads((root / "metrics/mini/embedding/pca.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("model", ["gears", "gears-reference"])
def test_gears_beats_no_change_on_the_screen_and_the_recipe_cannot_be_told_from_it(root: Path, model: str):
    name = f"expression/{model}"
    assert score(root, "mini", name, "mse_relative") < 0.95
    assert score(root, "mini", name, "pearson_delta") > 0.3
    nothing = score(root, "mini", "expression/no_change", "cosine_recipe")
    assert abs(score(root, "mini", name, "cosine_recipe") - nothing) < 0.005


@pytest.mark.parametrize("control", ["train_mean", "additive", "matching_mean", "nearest", "pool_effect", "bilinear"])
def test_by_the_recipe_every_control_is_no_change(root: Path, control: str):
    for key in ("mse_relative_recipe", "pearson_delta_recipe", "cosine_recipe"):
        found = (score(root, "mini", f"expression/{m}", key) for m in (control, "no_change"))
        assert math.isclose(*found, abs_tol=1e-6)
