"""Real public files through the tasks: the controls reach what is known of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hyped_bench.runner import prepare, run_model

FOLDER = Path(os.environ.get("HYPED_PUBLIC_DATA", ""))
pytestmark = [
    pytest.mark.public,
    pytest.mark.skipif(not (FOLDER / "manifest.csv").is_file(), reason="HYPED_PUBLIC_DATA names no folder"),
]


def test_demultiplexing_against_genotypes(bench_host):
    letters = "ABCDEFGHIJKLMNOP"
    sources = [
        {
            "name": f"batch{batch}_c1",
            "counts": str(FOLDER / f"hto/bal/batch{batch}_c1_hto_counts.csv"),
            "truth": str(FOLDER / f"hto/bal/batch{batch}_c1_donors.csv"),
            "barcode": "Barcode",
            "origin": "genetic_donor",
            "donors": {f"BAL {letters[i]}": f"BAL {i + 1:02d}" for i in range(8 * batch - 8, 8 * batch)},
        }
        for batch in (1, 2)
    ]
    metrics = run_model(prepare("demultiplex", {"sources": sources}), "top_tag", host=bench_host).metrics
    assert metrics["n_cells_batch1_c1"] == 11579 and metrics["n_cells_batch2_c1"] == 24035
    assert 0.80 < metrics["accuracy"] < 0.90 and metrics["doublet_recall"] == 0.0
    assert metrics["accuracy"] == pytest.approx(
        (metrics["accuracy_batch1_c1"] + metrics["accuracy_batch2_c1"]) / 2, abs=2e-6
    )
    assert metrics["accuracy_lo"] < metrics["accuracy"] < metrics["accuracy_hi"]


def test_denoising_counts_fields_not_files(bench_host):
    source = {
        "name": "fmd",
        "noisy": str(FOLDER / "denoise/fmd/noisy"),
        "reference": "clean",
        "clean": str(FOLDER / "denoise/fmd/clean"),
    }
    job = prepare("denoise", {"sources": [source]})
    nothing, blur = (run_model(job, name, host=bench_host).metrics for name in ("identity", "gaussian"))
    assert nothing["n_fields"] == 6
    assert nothing["psnr"] == pytest.approx(26.6, abs=0.1) and blur["psnr"] == pytest.approx(34.1, abs=0.3)
    assert all(
        blur[f"psnr_{f}"] > nothing[f"psnr_{f}"]
        for f in ("Confocal_FISH", "TwoPhoton_MICE", "WideField_BPAE_G")
    )


def test_expression_on_real_norman_cells(bench_host):
    source = {
        "name": "norman",
        "cells": str(FOLDER / "perturb/perturbench_devel.h5ad"),
        "where": {"dataset": "norman19"},
    }
    job = prepare("expression", {"sources": [source]})
    nothing, repeat = (run_model(job, name, host=bench_host).metrics for name in ("no_change", "duplicate"))
    assert nothing["pearson"] > 0.93 and nothing["pearson_delta"] == 0
    assert repeat["pearson_delta"] > 0.85 and repeat["pds_l1"] > 0.9
    assert any("panel" in w for w in run_model(job, "bilinear", host=bench_host).warnings)


def test_tracking_against_known_tracks(bench_host):
    source = {
        "name": "btrack",
        "objects": "points",
        "table": str(FOLDER / "timelapse/btrack/test_data.csv"),
        "truth": str(FOLDER / "timelapse/btrack/test_ground_truth.json"),
    }
    metrics = run_model(prepare("track", {"sources": [source]}), "nearest", host=bench_host).metrics
    assert metrics["n_objects"] == 1399 and metrics["lnk"] > 0.9 and metrics["det"] == 1.0


def test_sparse_annotations_of_real_nuclei(bench_host):
    source = {
        "name": "bbbc007",
        "movie": str(FOLDER / "segmentation/BBBC007/images"),
        "truth": str(FOLDER / "segmentation/BBBC007/masks"),
        "sparse": True,
    }
    metrics = run_model(prepare("segment", {"sources": [source]}), "otsu", host=bench_host).metrics
    assert 0.3 < metrics["foreground_recall"] <= 1 and metrics["background_rejection"] > 0.9
