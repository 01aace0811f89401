"""Models of other packages in segment, track and denoise: apart, with the results that they have here; no harm done."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

from hyped_core.cli.main import run
from hyped_core.container.movies import Labels, Movie, write_movie
from hyped_core.design import default_design
from hyped_core.plugins.host import default_host
from hyped_core.testing.plugins import make_distribution
from hyped_imaging.modelstep import ModelStep
from hyped_imaging.process.params import ProcessParams
from hyped_imaging.process.run import _model_facts

PLUGIN = """
    from hyped_core import ModelSpec, hookimpl

    @hookimpl
    def hyped_models():
        for name, task in (("bright", "segment"), ("aborts", "segment"), ("chain", "track"), ("stuck", "track"),
                           ("mean", "denoise"), ("gone", "denoise")):
            config = "labx_models:Config" if name == "bright" else None
            yield ModelSpec(f"lab-{name}", task, f"labx_models:{name.capitalize()}", config)
    """
MODELS = """
    import json, os, time
    import numpy as np
    from hyped_core import Params

    class Config(Params):
        channel: str = ""
        above: float = 500.0

        @classmethod
        def for_design(cls, values, design):
            return {"channel": design.nuclear_channel(), **values}

    class Bright:
        def __init__(self, config):
            self.config = config

        def segment(self, planes, meta, *, context):
            print("looking")
            return (planes[meta.channels.index(self.config.channel)] > self.config.above).astype(np.int32)

    class Aborts:
        def segment(self, planes, meta, *, context):
            os.abort()

    class Chain:
        def track(self, objects, labels, *, context):
            print("linking")
            return objects.assign(track_id=objects["label"].astype("int64"), parent_id=0)

    class Stuck:
        def track(self, objects, labels, *, context):
            time.sleep(600)

    class Mean:
        def fit(self, stack, meta, *, context):
            self.level = float(stack.mean())

        def save(self, folder):
            folder.mkdir()
            (folder / "level.json").write_text(json.dumps(self.level))

        def load(self, folder):
            self.level = json.loads((folder / "level.json").read_text())

        def denoise(self, stack, meta, *, context):
            print("smoothing")
            return np.full(stack.shape, self.level, np.float32)

    class Gone:
        def denoise(self, stack, meta, *, context):
            os._exit(3)
    """
FRAMES = 3
LEVELS = (700, 300)
"""Of the pixels of the nucleus, a channel: SiR-DNA is an alias of the design's Cy5, where nuclei are."""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """lab-x 1.0 is installed; ``S4.zarr`` is a movie of three frames, one square nucleus in two channels."""
    folder = tmp_path / "lab"
    make_distribution(folder, "lab-x", {"labx_plugin": PLUGIN, "labx_models": MODELS})
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    planes = np.zeros((FRAMES, 2, 40, 48), np.uint16)
    for k, level in enumerate(LEVELS):
        planes[:, k, 10:20, 15:25] = level
    write_movie(
        tmp_path / "S4.zarr", iter(planes), channels=("SiR-DNA", "mKate"), pixel_size_um=0.9,
        time_h=[i / 3 for i in range(FRAMES)], data_range=(0, 16383),
    )  # fmt: skip
    default_host.cache_clear()
    yield tmp_path
    default_host.cache_clear()
    assert "labx_models" not in sys.modules  # the models were never imported here
    sys.modules.pop("labx_plugin", None)


def failed(capfd, word: str) -> None:
    said = capfd.readouterr()
    assert said.out == "" and word in said.err, said.err
    assert "(lab-x 1.0)" in said.err and "pip uninstall lab-x" in said.err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_segment_and_track(lab, capfd, workers):
    command = ["imaging", "segment", "S4.zarr", "labels.zarr", "nuclei.parquet", "--model", "lab-bright", "--json"]
    assert run([*command, "--workers", workers]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["nuclei"] == FRAMES and "looking" in said.err
    found = Labels.open(lab / "labels.zarr")
    assert (found.frame(1) > 0).sum() == 100 and found.attrs["config"] == {"channel": "Cy5"}
    assert run(["imaging", "track", "nuclei.parquet", "tracks.parquet", "--model", "lab-chain", "--json"]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["tracks"] == 1 and "linking" in said.err
    assert list(pd.read_parquet("tracks.parquet")["track_id"]) == [1, 1, 1]


def test_a_segmenter_or_tracker_that_ends_its_process_or_hangs(lab, capfd, monkeypatch):
    monkeypatch.setenv("HYPED_MODEL_SECONDS", "5")
    command = ["imaging", "segment", "S4.zarr", "labels.zarr", "nuclei.parquet"]
    for workers in ("1", "2"):
        assert run([*command, "--model", "lab-aborts", "--json", "--workers", workers]) == 4
        failed(capfd, "SIGABRT")
    assert run([*command, "--model", "lab-aborts", "--dry-run"]) == 4
    failed(capfd, "SIGABRT")
    assert run([*command, "--model", "lab-bright"]) == 0
    capfd.readouterr()
    assert run(["imaging", "track", "nuclei.parquet", "tracks.parquet", "--model", "lab-stuck", "--json"]) == 4
    failed(capfd, "5 seconds")


def test_a_denoiser_learns_each_channel_by_itself(lab, capfd):
    command = ["imaging", "denoise", "S4.zarr", "out.zarr", "--model", "lab-mean", "--json"]
    assert run([*command, "--save-weights", "weights"]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["model"] == "lab-mean" and "smoothing" in said.err
    means = [round(100 * level / (40 * 48)) for level in LEVELS]
    after = Movie.open(lab / "out.zarr")
    assert [int(after.frame(2)[k].min()) for k in (0, 1)] == means == [int(after.frame(0)[k].max()) for k in (0, 1)]
    assert run([*command[:3], "again.zarr", *command[4:], "--weights", "weights"]) == 0
    assert np.array_equal(Movie.open(lab / "again.zarr").frame(1), after.frame(1))
    capfd.readouterr()
    assert run([*command[:3], "no.zarr", "--model", "lab-gone", "--json"]) == 4
    failed(capfd, "exit code 3")


def test_what_decides_the_steps_of_process(lab):
    params = ProcessParams(segment=ModelStep(model="lab-bright", config={"above": 400}))
    facts = _model_facts("segment", params, default_design())
    assert facts[:3] == ["segment/lab-bright", "labx_models:Bright", {"channel": "Cy5", "above": 400.0}]
