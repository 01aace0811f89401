"""The task `denoise`: three kinds of reference that never mix, units that are fields of view, and bad parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyped_bench.metrics.undefined import bootstrap_interval, rounded
from hyped_bench.runner import prepare, run_model
from hyped_bench.tasks.denoise.downstream import DOWNSTREAM_KEYS, Chain, DenoisedFrames, measured, true_tracks
from hyped_bench.tasks.denoise.fields import as_stored, dimmed, read_source
from hyped_bench.tasks.denoise.planes import CLEAN_KEYS, SELF_KEYS
from hyped_core.container.movies import Labels, Movie
from hyped_core.context import RunContext
from hyped_core.errors import DesignError, InvalidDataError, ParamsError, UnknownNameError

CONDITIONS = ["control", "control", "siPRRX1", "siPRRX1"]


@pytest.fixture
def kinds(demo_folder: Path) -> dict[str, dict[str, Any]]:
    """A source of each kind on the demo's movie."""
    movie, labels = (demo_folder / "demo.hyped" / part / "S0.zarr" for part in ("movies", "labels"))
    clean = demo_folder / "truth" / "clean" / "S0.zarr"
    common = {"noisy": str(movie), "channels": ["Cy5", "mKate"], "scene": "S0"}
    return {
        "clean": {**common, "name": "c", "reference": "clean", "clean": str(clean), "frames": [0, 1]},
        "self": {**common, "name": "s", "reference": "self", "labels": str(labels), "frames": [2, 3]},
        "downstream": {**common, "name": "d", "reference": "downstream", "labels": str(labels), "channels": ["Cy5"],
                       "tracks": str(demo_folder / "truth" / "tracks.parquet"), "frames": "4:12",
                       "segmenter": "otsu", "tracker": "nearest"},
    }  # fmt: skip


def run(sources: list[dict[str, Any]], model: str, host: Any, **more: Any) -> Any:
    result = run_model(prepare("denoise", {"sources": sources, **more}, host=host), model, host=host)
    assert result.status == "ok", result.reason
    return result


def test_kinds_do_not_touch_one_another(kinds, bench_host):
    """Scores of a kind are the same alone and beside the others, and absent where it is not asked for."""
    together = run(list(kinds.values()), "gaussian", bench_host).metrics
    own = {"clean": CLEAN_KEYS, "self": SELF_KEYS, "downstream": DOWNSTREAM_KEYS}
    for kind, source in kinds.items():
        alone = run([source], "gaussian", bench_host).metrics
        for other, keys in own.items():
            for key in keys:
                if other == kind:
                    assert alone[key] == together[key] is not None, key
                else:
                    assert alone[key] is None, key
    assert together["n_fields"] == together["n_self_fields"] == together["n_downstream_fields"] == 1
    assert (together["n_planes"], together["n_self_planes"], together["n_downstream_planes"]) == (4, 4, 8)


def test_a_field_scored_by_two_kinds_needs_two_sources(kinds, bench_host):
    both = [kinds["clean"], {**kinds["self"], "frames": [0, 1]}]
    metrics = run(both, "identity", bench_host).metrics
    assert metrics["mse"] > 0 and metrics["self_mse"] == 0


def test_doing_nothing_scores_the_noise_and_perfect_fidelity(kinds, bench_host):
    result = run(list(kinds.values()), "identity", bench_host)
    metrics = result.metrics
    noisy = Movie.open(kinds["clean"]["noisy"])
    clean = Movie.open(kinds["clean"]["clean"])
    errors = {
        c: [float(np.var(noisy.plane(i, c).astype(float) - clean.plane(i, c))) for i in (0, 1)]
        for c in ("Cy5", "mKate")
    }
    assert metrics["mse"] == pytest.approx(np.mean(list(errors.values())), rel=0.01)
    assert metrics["mse_channel_mKate"] == pytest.approx(np.mean(errors["mKate"]), rel=0.01)
    assert metrics["self_mse"] == 0 and metrics["self_ssim"] == 1 and metrics["self_psnr"] is None
    assert metrics["psnr_paper_convention"] is None and metrics["snr_before"] == metrics["snr_after"] > 1
    assert metrics["snr_reference_before_db"] == metrics["snr_reference_after_db"] > 0
    assert any("fidelity, not quality" in w and "48.13" in w for w in result.warnings)
    assert any(w.startswith("clean: means are over 1 field") for w in result.warnings)


def test_paper_convention_stands_beside_the_right_psnr(kinds, bench_host):
    metrics = run([kinds["self"]], "gaussian", bench_host).metrics
    assert metrics["psnr_paper_convention"] - metrics["self_psnr"] == pytest.approx(48.1308, abs=1e-3)
    assert metrics["snr_after"] > metrics["snr_before"]
    assert metrics["snr_after_db"] != pytest.approx(20 * np.log10(metrics["snr_after"]), abs=1e-6), "mean of dB"


def test_denoised_movies_are_segmented_as_the_task_does(kinds, bench_host):
    source = kinds["downstream"]
    mine = run([source], "identity", bench_host).metrics
    frames = list(range(4, 12))
    segment = {"name": "x", "movie": source["noisy"], "truth": source["labels"], "channels": ["Cy5"], "frames": frames}
    theirs = run_model(prepare("segment", {"sources": [segment]}, host=bench_host), "otsu", host=bench_host)
    for key in ("f1_iou50", "seg"):
        assert mine[f"downstream_{key}"] == theirs.metrics[key]


def test_denoised_movies_are_tracked_as_the_task_does(kinds, tmp_path, bench_host):
    """With a segmenter that gives the true labels, scores are those of the task `track` on the same table."""
    source = prepare("denoise", {"sources": [kinds["downstream"]]}, host=bench_host).task.params.sources[0]
    truth = Labels.open(source.labels)
    labels = {i: truth.frame(i) for i in range(4, 12)}

    class Exact:
        left = iter(labels.values())

        def segment(self, planes, meta, *, context):
            return next(self.left)

    chain = Chain(source)
    chain._make["segment"] = lambda configs=None: Exact()
    stacks = read_source(source, np.random.default_rng(0))
    row = chain.score(stacks, [s.noisy.astype(np.float32) for s in stacks], 1, RunContext())

    nuclei = measured(labels, DenoisedFrames(stacks, [s.noisy for s in stacks]), stacks[0].meta)
    nuclei.to_parquet(tmp_path / "nuclei.parquet")
    table = true_tracks(source, list(labels))
    table.to_parquet(tmp_path / "truth.parquet")
    track = {
        "name": "S0",
        "objects": "segmented",
        "table": str(tmp_path / "nuclei.parquet"),
        "truth": str(tmp_path / "truth.parquet"),
        "truth_labels": source.labels,
        "labels": source.labels,
    }
    theirs = run_model(prepare("track", {"sources": [track]}, host=bench_host), "nearest", host=bench_host).metrics
    for key in ("tra", "lnk", "det", "division_f1"):
        assert rounded(row[f"downstream_{key}"]) == theirs[key]
    assert row["downstream_f1_iou50"] == row["downstream_det"] == 1 and row["n_divisions"] > 0
    at = table.merge(nuclei, on=["frame", "label"], suffixes=("", "_mine"))
    assert len(at) == len(table) == len(nuclei)
    assert np.abs(at["y_um"] - at["y_um_mine"]).median() < 0.1
    assert nuclei["mean_Cy5"].min() > 200, "over the background"


def write_fields(folder: Path, noises: dict[str, float], planes: int = 3) -> dict[str, Any]:
    """Images of fields whose noise differs; each field has several realisations."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, sigma in noises.items():
        clean = rng.integers(60, 190, (32, 32))
        for i in range(planes):
            for kind, image in (("clean", clean), ("noisy", clean + sigma * rng.standard_normal(clean.shape))):
                (folder / kind).mkdir(exist_ok=True)
                Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / kind / f"{name}_{i}.png")
    return {"name": "png", "noisy": str(folder / "noisy"), "reference": "clean", "clean": str(folder / "clean")}


def test_intervals_are_over_fields_of_view_not_over_files(tmp_path, bench_host):
    source = write_fields(tmp_path, {"a": 3, "b": 6, "c": 12, "d": 24})
    job = prepare("denoise", {"sources": [source]}, host=bench_host)
    result = run_model(job, "identity", host=bench_host)
    metrics, fields = result.metrics, result.scores.tables["units"]
    assert metrics["n_fields"] == 4 and metrics["n_planes"] == 12 and len(fields) == 4
    expected = bootstrap_interval(fields["psnr"], job.task.context.rng("denoise", "bootstrap", ""))
    assert (metrics["psnr_lo"], metrics["psnr_hi"]) == tuple(rounded(v) for v in expected)
    assert metrics["psnr_hi"] - metrics["psnr_lo"] > 5, "four fields of 3 to 24 grey levels of noise"
    assert metrics["psnr"] == pytest.approx(np.mean([metrics[f"psnr_{f}"] for f in "abcd"]), abs=1e-5)
    assert "psnr_channel_nuclei" not in metrics, "the only channel says nothing of its own"


def test_a_scene_counts_once_with_all_its_channels_and_sources(kinds, bench_host):
    """Three scenes, one in two sources and with two channels: three units of equal weight."""
    base = {k: v for k, v in kinds["clean"].items() if k != "scene"}
    sources = [
        {**base, "name": "A", "frames": [0], "channels": ["Cy5"], "condition": "x"},
        {**base, "name": "B", "frames": [4], "channels": ["Cy5"], "condition": "x"},
        {**base, "name": "C1", "scene": "C", "frames": [8], "condition": "y"},
        {**base, "name": "C2", "scene": "C", "frames": [9], "condition": "y"},
    ]
    result = run(sources, "identity", bench_host)
    metrics = result.metrics
    fields = result.scores.tables["units"].groupby("unit")["psnr"].mean()
    assert metrics["n_fields"] == 3 and list(fields.index) == ["A", "B", "C"]
    assert metrics["psnr"] == pytest.approx(fields.mean(), abs=1e-5)
    assert metrics["psnr_condition_x"] == pytest.approx(fields[["A", "B"]].mean(), abs=1e-5)
    assert metrics["psnr_condition_y"] == pytest.approx(fields["C"], abs=1e-5)
    assert metrics["psnr_channel_Cy5_lo"] is not None and "psnr_condition_x_lo" not in metrics
    assert {"psnr_A", "psnr_A_Cy5", "psnr_C1_mKate"} <= set(metrics)
    summary = result.scores.tables["summary"]
    assert set(summary["group"]) == {"all", "source", "channel", "condition"}


def test_conditions_come_from_the_design(kinds, tmp_path, bench_host):
    from hyped_core.design import default_design

    design = tmp_path / "design.yaml"
    scene = default_design().scenes[0]
    design.write_text(json.dumps(default_design().model_dump(mode="json")))
    source = {**kinds["clean"], "scene": scene.name, "design": str(design)}
    result = run([source], "identity", bench_host)
    assert set(result.scores.tables["units"]["condition"]) == {scene.condition}
    with pytest.raises(DesignError, match="no scene 'nowhere'"):
        prepare("denoise", {"sources": [{**source, "scene": "nowhere"}]}, host=bench_host)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("clean", {"clean": None}, "needs clean"),
        ("self", {"clean": "x"}, "takes no clean.*another source"),
        ("downstream", {"labels": None}, r"needs labels \(the true labels"),
        ("downstream", {"tracks": None}, "needs tracks"),
        ("downstream", {"crop": 64}, "takes no crop"),
        ("downstream", {"frames": [1, 3]}, "one after another"),
        ("downstream", {"frames": "9:4"}, "first:end"),
        ("downstream", {"light": 0.5}, "needs gain"),
        ("clean", {"reference": "noisy"}, "reference"),
        ("clean", {"light": 0.5, "gain": 8}, "takes no light"),
    ],
)
def test_bad_sources_are_named(kinds, kind, change, message, bench_host):
    source = {k: v for k, v in {**kinds[kind], **change}.items() if v is not None}
    with pytest.raises(ParamsError, match=message):
        prepare("denoise", {"sources": [source]}, host=bench_host)


def test_every_source_says_its_kind(kinds, bench_host):
    source = {k: v for k, v in kinds["clean"].items() if k != "reference"}
    with pytest.raises(ParamsError, match="reference"):
        prepare("denoise", {"sources": [source]}, host=bench_host)


def test_what_is_not_there_is_said_before_any_model_runs(kinds, tmp_path, bench_host):
    with pytest.raises(UnknownNameError, match=r"source d, segmenter(.|\n)*no_such"):
        prepare("denoise", {"sources": [{**kinds["downstream"], "segmenter": "no_such"}]}, host=bench_host)
    with pytest.raises(ParamsError, match="sigma_pxx"):
        wrong = {**kinds["downstream"], "segmenter_config": {"sigma_pxx": 1}}
        prepare("denoise", {"sources": [wrong]}, host=bench_host)
    images = write_fields(tmp_path, {"a": 1})
    with pytest.raises(InvalidDataError, match="no movie"):
        prepare("denoise", {"sources": [{**kinds["downstream"], "noisy": images["noisy"]}]}, host=bench_host)
    job = prepare("denoise", {"sources": [{**kinds["downstream"], "scene": "S9"}]}, host=bench_host)
    with pytest.raises(InvalidDataError, match="no tracks of scene S9"):
        run_model(job, "identity", host=bench_host)


class Calls:
    """Remembers what it was called with, and empties it."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[int, ...], Any]] = []

    def denoise(self, stack, meta, *, context):
        self.seen.append((stack.shape, meta.time_h))
        out = stack.astype(np.float32)
        stack[...] = 0
        return out


def test_movies_come_whole_and_realisations_one_by_one(kinds, tmp_path, bench_host):
    job = prepare("denoise", {"sources": [kinds["clean"], write_fields(tmp_path, {"a": 5, "b": 5})]}, host=bench_host)
    model = Calls()
    results = job.task.run(lambda configs=None: model)
    assert [shape for shape, _ in model.seen] == [(2, 128, 128)] * 2 + [(1, 32, 32)] * 6
    assert len(model.seen[0][1]) == 2 and model.seen[-1][1] is None
    assert all(np.array_equal(r, s.noisy) for r, s in zip(results, job.task.stacks, strict=True))
    assert job.task.timing["seconds_per_plane"] > 0 and "seconds_per_megapixel_png" in job.task.timing


def test_what_a_model_chose_is_in_the_record(kinds, tmp_path, bench_host):
    result = run([kinds["clean"], write_fields(tmp_path, {"a": 5})], "gaussian", bench_host)
    chosen = result.scores.tables["chosen"]
    assert list(chosen["plane"]) == ["0", "1", "0", "1", "a_0", "a_1", "a_2"]
    assert chosen["sigma_px"].between(0, 4).all() and set(chosen["source"]) == {"c", "png"}
    assert "chosen" not in run([kinds["clean"]], "median", bench_host).scores.tables


def test_one_frame_is_a_movie_too(kinds, bench_host):
    one = [{**kinds["clean"], "frames": [3]}, {**kinds["self"], "frames": [3]}]
    metrics = run(one, "gaussian", bench_host).metrics
    assert metrics["psnr"] > 0 and metrics["self_psnr"] > 0


def test_the_same_run_twice_and_empty_answers(kinds, bench_host):
    sources = list(kinds.values())
    first, second = (run(sources, "median", bench_host).metrics for _ in "ab")
    assert first == second and all(v == rounded(v) for v in first.values())
    job = prepare("denoise", {"sources": [kinds["downstream"]]}, host=bench_host)
    flat = [np.full(s.noisy.shape, 300.0, np.float32) for s in job.task.stacks]
    scores = job.task.score(flat).metrics
    assert scores["downstream_f1_iou50"] == scores["downstream_tra"] == scores["downstream_det"] == 0.0


def test_shares_of_light_are_told_apart(kinds, bench_host):
    base = kinds["downstream"]
    dim = {**base, "name": "dim", "light": 0.02, "gain": 8.0, "read_noise": 12.0, "primary": False}
    metrics = run([base, dim], "identity", bench_host).metrics
    f1 = {suffix: metrics[f"downstream_f1_iou50{suffix}"] for suffix in ("", "_d", "_dim", "_light_2", "_light_100")}
    assert f1[""] == f1["_light_100"] == f1["_d"]
    assert f1["_dim"] == f1["_light_2"] < f1["_d"]


def test_less_light_is_what_a_shorter_exposure_reads():
    """Mean and variance are those of Poisson counts at the lower level."""
    rng = np.random.default_rng(0)
    gain, offset, read, electrons, share = 8.0, 100.0, 12.0, 200.0, 0.1
    full = gain * rng.poisson(electrons, (1, 500, 500)) + offset + read * rng.standard_normal((1, 500, 500))
    less = dimmed(np.rint(full).astype(np.uint16), share, gain, offset, read, rng).astype(float)
    assert less.mean() == pytest.approx(offset + gain * electrons * share, rel=0.005)
    assert less.var() == pytest.approx(gain**2 * electrons * share + read**2, rel=0.02)
    assert as_stored(np.array([-3.0, 1.4, 70000.0]), np.dtype(np.uint16)).tolist() == [0, 1, 65535]
