"""Every task on the demo's data: the same keys for all models, exact scores of exact answers, bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hyped_bench.metrics.undefined import rounded
from hyped_bench.runner import expand_sources, prepare, run_model
from hyped_core.context import RunContext
from hyped_core.errors import HypedError, InvalidDataError, MissingFileError, ParamsError, PluginError
from hyped_core.plugins.registry import tasks

CONTROLS = [
    ("denoise", ["identity", "gaussian", "median"]),
    ("segment", ["otsu"]),
    ("track", ["nearest"]),
    ("demultiplex", ["top_tag"]),
    ("expression", ["no_change", "additive", "bilinear", "duplicate"]),
]


@pytest.mark.parametrize(("task", "names"), CONTROLS)
def test_every_model_writes_the_same_shallow_keys(task, names, demo_sections, bench_host):
    job = prepare(task, demo_sections[task], host=bench_host)
    results = [run_model(job, name, host=bench_host) for name in names]
    expected = sorted(job.task.metric_keys())
    for result in results:
        assert result.status == "ok", result.reason
        assert list(result.metrics) == expected
        assert all(v is None or isinstance(v, (int, float)) for v in result.metrics.values())
        assert result.metrics == {k: rounded(v) for k, v in result.metrics.items()}
    for key in tasks(bench_host).get(task).metrics:
        assert key in expected


@pytest.mark.parametrize(("task", "names"), CONTROLS)
def test_the_same_seed_gives_the_same_numbers(task, names, demo_sections, bench_host):
    runs = [
        run_model(prepare(task, demo_sections[task], seed=4), names[-1], host=bench_host).metrics
        for _ in "ab"
    ]
    assert runs[0] == runs[1]


class Perfect:
    """Models that know the answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def denoise(self, stack, meta, *, context):
        from hyped_core.container.movies import Movie

        movie = Movie.open(self.folder / "truth" / "clean" / "S0.zarr")
        return np.stack([movie.plane(i, meta.channel) for i in (0, 5, 10)]).astype(np.float32) + 1.0

    def segment(self, planes, meta, *, context):
        from hyped_core.container.movies import Labels, Movie

        movie = Movie.open(self.folder / "demo.hyped" / "movies" / "S0.zarr")
        at = next(i for i in range(14) if np.array_equal(movie.plane(i, "Cy5"), planes[0]))
        return Labels.open(self.folder / "demo.hyped" / "labels" / "S0.zarr").frame(at)

    def track(self, objects, labels=None, *, context):
        truth = pd.read_parquet(self.folder / "truth" / "tracks.parquet")
        keys = objects[["frame", "label"]].merge(truth, on=["frame", "label"])
        assert not {"track_id", "parent_id", "phase"} & set(objects.columns)
        return objects.assign(track_id=keys["track_id"].to_numpy(), parent_id=keys["parent_id"].to_numpy())

    def assign(self, hto, *, context):
        truth = pd.read_parquet(self.folder / "truth" / "cells.parquet")
        tags = pd.Series(truth["tags"].to_numpy(), index=truth["pool"] + "_" + truth["barcode"])[
            hto.obs_names
        ]
        call = tags.where(~tags.str.contains("+", regex=False), "Doublet")
        kind = np.where(call == "Doublet", "doublet", "singlet")
        return pd.DataFrame(
            {"call": call, "kind": kind, "probability": 1.0, "tags": tags}, index=hto.obs_names
        )


def test_exact_answers_get_exact_scores(demo_folder, demo_sections):
    found = {}
    for task in ("denoise", "segment", "track", "demultiplex"):
        job = prepare(task, demo_sections[task])
        found[task] = job.task.score(job.task.run(lambda: Perfect(demo_folder))).metrics
    assert found["denoise"]["mse"] == pytest.approx(1.0)
    assert (
        found["segment"]["f1_iou50"]
        == found["segment"]["seg"]
        == found["segment"]["foreground_recall"]
        == 1.0
    )
    assert found["track"]["tra"] == found["track"]["lnk"] == found["track"]["division_f1"] == 1.0
    assert found["demultiplex"]["accuracy"] == found["demultiplex"]["f_singlet"] == 1.0
    assert found["demultiplex"]["doublet_recall"] == found["demultiplex"]["accuracy_perturbed"] == 1.0


def test_denoise_means_and_range_by_hand(demo_folder, demo_sections, bench_host):
    from hyped_core.container.movies import Movie

    metrics = run_model(prepare("denoise", demo_sections["denoise"]), "identity", host=bench_host).metrics
    noisy = Movie.open(demo_folder / "demo.hyped" / "movies" / "S0.zarr")
    clean = Movie.open(demo_folder / "truth" / "clean" / "S0.zarr")
    fields = []
    for channel in noisy.channels:
        planes = [
            (noisy.plane(i, channel).astype(float), clean.plane(i, channel).astype(float)) for i in (0, 5, 10)
        ]
        peak = max(c.max() for _, c in planes) - min(c.min() for _, c in planes)
        values = [10 * np.log10(peak**2 / np.mean((n - c) ** 2)) for n, c in planes]
        fields.append(np.mean(values))
        assert metrics[f"psnr_demo_{channel}"] == pytest.approx(np.mean(values), abs=1e-5)
    assert metrics["psnr"] == pytest.approx(np.mean(fields), abs=1e-5)
    assert metrics["self_mse"] is None and metrics["n_fields"] == 1 and metrics["n_planes"] == 9


def test_images_of_one_field_are_one_unit(tmp_path, bench_host):
    from PIL import Image

    rng = np.random.default_rng(0)
    for field in ("a", "b"):
        clean = rng.integers(50, 200, (32, 32))
        for i in (1, 2):
            for kind, image in (("clean", clean), ("noisy", clean + rng.normal(0, 10, clean.shape))):
                (tmp_path / kind).mkdir(exist_ok=True)
                Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(
                    tmp_path / kind / f"{field}_{i}.png"
                )
    section = {
        "sources": [
            {
                "name": "png",
                "noisy": str(tmp_path / "noisy"),
                "reference": "clean",
                "clean": str(tmp_path / "clean"),
            }
        ]
    }
    metrics = run_model(prepare("denoise", section), "identity", host=bench_host).metrics
    assert metrics["n_fields"] == 2
    assert metrics["psnr"] == pytest.approx(10 * np.log10(255**2 / 100), abs=0.4)
    (tmp_path / "clean" / "a_2.png").unlink()
    with pytest.raises(InvalidDataError, match="no clean image for a_2"):
        prepare("denoise", section)


def test_sparse_annotations_score_both_sides(tmp_path, bench_host):
    import tifffile

    image, marks = np.full((40, 40), 10, np.uint8), np.zeros((40, 40), np.uint8)
    image[10:20, 10:20] = 200
    marks[12:16, 12:16], marks[30:34, 30:34], marks[30:34, 12:16] = 2, 1, 2
    for folder, array in (("images", image), ("masks", marks)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "x.tif", array)
    source = {
        "name": "s",
        "movie": str(tmp_path / "images"),
        "truth": str(tmp_path / "masks"),
        "sparse": True,
    }
    metrics = run_model(prepare("segment", {"sources": [source]}), "otsu", host=bench_host).metrics
    assert metrics["foreground_recall"] == 0.5 and metrics["background_rejection"] == 1.0
    assert metrics["f1_iou50"] is None


def test_tracks_of_segmented_objects_are_matched_by_overlap(demo_folder, tmp_path, bench_host):
    truth = pd.read_parquet(demo_folder / "truth" / "tracks.parquet")
    nuclei = truth.drop(columns=["track_id", "parent_id", "phase"])
    nuclei.to_parquet(tmp_path / "n.parquet")
    labels = str(demo_folder / "demo.hyped" / "labels" / "S0.zarr")
    source = {
        "name": "S0",
        "objects": "segmented",
        "table": str(tmp_path / "n.parquet"),
        "truth": str(demo_folder / "truth" / "tracks.parquet"),
        "truth_labels": labels,
        "labels": labels,
    }
    job = prepare("track", {"sources": [source]})
    perfect = job.task.score(job.task.run(lambda: Perfect(demo_folder))).metrics
    assert perfect["tra"] == perfect["division_f1"] == 1.0
    job.task.objects["S0"] = job.task.objects["S0"].iloc[:-10]  # ten objects not segmented
    assert job.task.score(job.task.run(lambda: Perfect(demo_folder))).metrics["det"] < 1.0
    with pytest.raises(ParamsError, match="needs truth_labels"):
        prepare("track", {"sources": [{k: v for k, v in source.items() if k != "truth_labels"}]})


def test_true_nuclei_are_given_with_area_and_intensities(demo_folder, demo_sections):
    section = json.loads(json.dumps(demo_sections["track"]))
    section["sources"][0] |= {
        "truth_labels": str(demo_folder / "demo.hyped" / "labels" / "S0.zarr"),
        "movie": str(demo_folder / "demo.hyped" / "movies" / "S0.zarr"),
    }
    objects = prepare("track", section).task.objects["demo"]
    assert {"area_um2", "mean_Cy5", "mean_mKate", "mean_TagGFP"} <= set(objects.columns)
    assert objects["area_um2"].between(5, 200).all()
    assert objects["mean_Cy5"].min() > 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: None, "DataFrame"),
        (lambda t: t.iloc[::-1].assign(track_id=1, parent_id=0), "order given"),
        (lambda t: t.assign(track_id=np.nan, parent_id=0), "integers"),
        (lambda t: t.assign(track_id=1, parent_id=0), "two objects in one frame"),
        (lambda t: t.assign(track_id=np.arange(1, len(t) + 1), parent_id=10**6), "no track"),
    ],
)
def test_bad_tracks(change, message, demo_sections):
    job = prepare("track", demo_sections["track"])

    class Bad:
        def track(self, objects, labels=None, *, context):
            return change(objects)

    with pytest.raises(PluginError, match=message):
        job.task.run(Bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="kind"), "returns a DataFrame"),
        (lambda t: t.iloc[1:], "every cell once"),
        (lambda t: t.assign(call="nonsense"), "neither a tag"),
        (lambda t: t.assign(probability=2.0), "probabilities"),
    ],
)
def test_bad_calls(change, message, demo_sections, demo_folder):
    job = prepare("demultiplex", demo_sections["demultiplex"])

    class Bad(Perfect):
        def assign(self, hto, *, context):
            return change(super().assign(hto, context=context))

    with pytest.raises(PluginError, match=message):
        job.task.run(lambda: Bad(demo_folder))


def test_donor_names_are_mapped_and_unknown_ones_refused(tmp_path, bench_host):
    counts = pd.DataFrame({"c1": [90, 1], "c2": [2, 80], "c3": [70, 60], "c4": [95, 2]}, index=["T1", "T2"])
    counts.to_csv(tmp_path / "counts.csv")
    truth = pd.DataFrame({"Barcode": ["c1", "c2", "c3"], "donor": ["D A", "D B", "Doublet"]})
    truth.to_csv(tmp_path / "truth.csv", index=False)
    source = {
        "name": "cap",
        "counts": str(tmp_path / "counts.csv"),
        "truth": str(tmp_path / "truth.csv"),
        "barcode": "Barcode",
        "origin": "donor",
        "donors": {"D A": "T1", "D B": "T2"},
    }
    result = run_model(prepare("demultiplex", {"sources": [source]}), "top_tag", host=bench_host)
    assert result.metrics["accuracy_cap"] == pytest.approx(2 / 3, abs=1e-6) and result.metrics["n_cells"] == 3
    assert "1 cells without known origin" in result.warnings[0]
    with pytest.raises(InvalidDataError, match="no tags: D B"):
        run_model(
            prepare("demultiplex", {"sources": [{**source, "donors": {"D A": "T1"}}]}),
            "top_tag",
            host=bench_host,
        )


def test_stitch_and_phases_score_the_pipelines_own_output(tmp_path, demo_folder, bench_host):
    qc = {"residual_px": 0.5, "seam_error": 0.1, "seam_error_before": 0.4}
    place = [(0, 0), (0, 90), (90, 0), (90, 90)]
    shifts = [(0, 0), (3, 0), (0, 0), (0, -3)]
    qc["tiles"] = [
        {"m": i, "x": x + 7, "y": y - 2, "stage_x": x + 7 + dx, "stage_y": y + dy}
        for i, ((x, y), (dx, dy)) in enumerate(zip(place, shifts, strict=True))
    ]
    (tmp_path / "S0.json").write_text(json.dumps(qc))
    rows = [("S0", i, x, y) for i, (x, y) in enumerate(place)]
    pd.DataFrame(rows, columns=["scene", "tile", "true_x_px", "true_y_px"]).to_csv(
        tmp_path / "tiles.csv", index=False
    )
    section = {
        "sources": [{"name": "S0", "qc": str(tmp_path / "S0.json"), "truth": str(tmp_path / "tiles.csv")}]
    }
    metrics = run_model(prepare("stitch", section), "pipeline", host=bench_host).metrics
    assert metrics["residual_px"] == 0.5 and metrics["position_error_px"] == 0.0
    assert metrics["stage_error_px"] > 1

    tracks = demo_folder / "truth" / "tracks.parquet"
    wrong = pd.read_parquet(tracks).assign(y_um=lambda t: t["y_um"] + 0.5)
    flip = np.arange(len(wrong)) % 4 == 0
    wrong.loc[flip, "phase"] = "dark"
    wrong.to_parquet(tmp_path / "phases.parquet")
    section = {"sources": [{"name": "x", "nuclei": str(tmp_path / "phases.parquet"), "truth": str(tracks)}]}
    metrics = run_model(prepare("phases_imaging", section), "pipeline", host=bench_host).metrics
    assert metrics["phase_accuracy"] == pytest.approx(0.75, abs=0.01) and metrics["matched"] > 0.98
    assert 0 < metrics["fraction_error"] < 0.25
    assert metrics["phase_accuracy_all"] == pytest.approx(0.75, abs=0.01) and 0 < metrics["away"] <= 1
    assert metrics["precision_dark"] < 0.5 and metrics["precision_G1"] == pytest.approx(1.0, abs=0.01)
    assert metrics["cycle_position_error"] is None, "the truth of the demo has no positions"


def test_rna_phases(tmp_path, demo_folder, bench_host):
    section = {
        "sources": [
            {
                "name": "x",
                "cells": str(demo_folder / "demo.hyped"),
                "truth": str(demo_folder / "truth/cells.parquet"),
            }
        ]
    }
    metrics = run_model(prepare("phases_rna", section), "pipeline", host=bench_host).metrics
    assert metrics["phase_accuracy"] == 1.0 and metrics["fraction_error"] == 0.0  # the demo copies its truth
    with pytest.raises(HypedError, match="pipeline's own output"):
        run_model(prepare("phases_rna", section), "additive", host=bench_host)


def test_scenes_expand_and_names_must_differ():
    section = {
        "sources": [
            {"name": "{scene}_x", "scenes": ["A", "B"], "qc": "{scene}.json"},
            {"name": "C", "qc": "c"},
        ]
    }
    wide = expand_sources(section)["sources"]
    assert [s["name"] for s in wide] == ["A_x", "B_x", "C"] and wide[1]["qc"] == "B.json"
    with pytest.raises(ParamsError, match="same name"):
        prepare("stitch", {"sources": [{"name": "a", "qc": "1"}, {"name": "a", "qc": "2"}]}, load=False)
    with pytest.raises(ParamsError, match="no sources"):
        prepare("stitch", {"sources": []}, load=False)


@pytest.mark.parametrize("task", ["denoise", "segment", "track", "demultiplex", "expression"])
def test_missing_files_are_named(task, demo_sections, tmp_path):
    section = json.loads(
        json.dumps(demo_sections[task]).replace("demo.hyped", "gone.hyped").replace("truth/", "gone/")
    )
    with pytest.raises(MissingFileError, match="gone"):
        job = prepare(task, section)
        job.task.score(job.task.run(lambda: Perfect(tmp_path)))


def test_a_container_without_the_table_says_so(demo_folder, tmp_path, demo_sections):
    shutil.copytree(demo_folder / "demo.hyped" / "movies", tmp_path / "bare.hyped" / "movies")
    section = {
        "sources": [{**demo_sections["expression"]["sources"][0], "cells": str(tmp_path / "bare.hyped")}]
    }
    with pytest.raises(MissingFileError, match="no table 'rna'"):
        prepare("expression", section)
    assert RunContext().seed == 0
