"""Segmenting in several processes, on a cluster, and again after a kill: the same bytes, and no frame twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hyped_core.cli.main import run
from hyped_core.container import partial
from hyped_core.container.movies import Labels, Movie, MovieWriter
from hyped_core.context import RunContext, SilentProgress
from hyped_core.design import default_design
from hyped_core.errors import CorruptFileError, StorageError
from hyped_core.io.hashing import digest
from hyped_imaging.modelstep import ModelStep
from hyped_imaging.parallel import Workers
from hyped_imaging.segment.step import segment_movie

FRAMES = 8
LOST = 5
CHANNELS = ("Cy5", "mKate", "TagGFP")
MODEL = "paper"


def frame(index):
    """Four nuclei that drift, in noise."""
    yy, xx = np.mgrid[:90, :120]
    planes = np.full((3, 90, 120), 150.0)
    for y, x in [(25, 30), (60, 70), (30, 100), (70, 25)]:
        planes[:, np.hypot(yy - y - index, xx - x + index) <= 8] += 900
    return (planes + 10 * np.random.default_rng(index).standard_normal(planes.shape)).astype(np.uint16)


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """A movie of which one frame was lost."""
    path = tmp_path_factory.mktemp("data") / "movies" / "S4.zarr"
    with MovieWriter(
        path, shape=(FRAMES, 3, 90, 120), dtype="uint16", channels=CHANNELS, pixel_size_um=0.9,
        time_h=np.arange(FRAMES) / 3,
    ) as out:  # fmt: skip
        for index in range(FRAMES):
            if index == LOST:
                out.write_missing(index, "tiles are cut short")
            else:
                out.write_frame(index, frame(index))
    return path


def segment(movie, out, *, progress=None, **changes):
    """Labels and table of a run; the model makes itself in every worker."""
    given = {"model": ModelStep(model=MODEL), "design": default_design(), "scene": "S4", **changes}
    context = RunContext(progress=progress or SilentProgress())
    return segment_movie(Movie.open(movie), out / "labels.zarr", out / "nuclei.parquet", context=context, **given)


def content(out):
    return digest(out / "labels.zarr").sha256, (out / "nuclei.parquet").read_bytes()


@pytest.fixture(scope="module")
def whole(movie):
    """What a run in one go in this process writes, beside the movies so that its source reads the same."""
    out = movie.parent.parent / "whole"
    segment(movie, out)
    return content(out)


def beside(movie, tmp_path):
    """An empty folder as far from the movie as that of `whole`."""
    return movie.parent.parent / tmp_path.name


class Interrupt(SilentProgress):
    """Ends a run like Ctrl-C after so many frames."""

    def __init__(self, after):
        self.after, self.given = after, 0

    def track(self, items, description, total=None):
        for item in items:
            self.given += 1
            yield item
            if self.given == self.after:
                raise KeyboardInterrupt


def kept_frames(out):
    """Frames that a run left finished: their shards, with the time they were written."""
    found = {}
    for path in out.glob(".labels.zarr.*.resume/array.zarr/0/c/*/0/0"):
        found[int(path.parts[-3])] = path.stat().st_mtime_ns
    return found


def test_missing_frames_have_no_rows_and_are_missing_in_the_labels(movie, whole):
    labels = Labels.open(movie.parent.parent / "whole" / "labels.zarr")
    assert labels.missing_frames == {LOST: "tiles are cut short"} and LOST not in labels.written()
    assert labels.attrs["model"] == MODEL
    nuclei = pd.read_parquet(movie.parent.parent / "whole" / "nuclei.parquet")
    assert nuclei.groupby("frame").size().to_dict() == dict.fromkeys(set(range(FRAMES)) - {LOST}, 4)
    assert nuclei["time_h"].to_numpy() == pytest.approx(nuclei["frame"].to_numpy() / 3)


def test_processes_write_the_same_bytes(movie, whole, tmp_path):
    segment(movie, beside(movie, tmp_path), workers=Workers(2))
    assert content(beside(movie, tmp_path)) == whole


def test_a_ready_segmenter_is_sent_to_workers(movie, whole, tmp_path):
    from hyped_core.plugins.registry import get_model

    spec = get_model("segment", MODEL)
    config = {"channels": ["mKate", "TagGFP"]}
    noted = {"model": MODEL, "config": Labels.open(movie.parent.parent / "whole" / "labels.zarr").attrs["config"]}
    segment(
        movie, beside(movie, tmp_path), model=spec.create(config), workers=Workers(2), attrs=noted
    )
    assert content(beside(movie, tmp_path)) == whole


def test_interrupted_it_goes_on_where_it_was(movie, whole, tmp_path):
    out = beside(movie, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        segment(movie, out, progress=Interrupt(3))
    before = kept_frames(out)
    assert sorted(before) == [0, 1, 2] and not (out / "nuclei.parquet").exists()
    counted = Interrupt(-1)
    done = segment(movie, out, progress=counted, workers=Workers(2))
    assert (done.kept, counted.given) == (3, FRAMES - 1 - 3)
    assert done.nuclei == 4 * (FRAMES - 1) and (done.frames, done.missing) == (FRAMES - 1, 1)
    assert content(out) == whole
    assert list(out.glob(".*")) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"model": ModelStep(model=MODEL, config={"min_area_px": 31})},
        {"frames": range(FRAMES - 1)},
        {"scene": "S5"},
    ],
)
def test_what_would_change_the_result_begins_anew(movie, tmp_path, changes):
    out = beside(movie, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        segment(movie, out, progress=Interrupt(3))
    assert segment(movie, out, **changes).kept == 0


def test_a_movie_that_changed_begins_anew(movie, tmp_path):
    import shutil

    own = tmp_path / "S4.zarr"
    shutil.copytree(movie, own)
    with pytest.raises(KeyboardInterrupt):
        segment(own, tmp_path, progress=Interrupt(3))
    shutil.copy(own / "0/c/7/0/0/0", own / "0/c/1/0/0/0")
    assert segment(own, tmp_path).kept == 0


def command(movie, out, *options):
    code = "import sys; from hyped_core.cli.main import main; sys.exit(main())"
    return [
        sys.executable, "-c", code, "imaging", "segment", str(movie), str(out / "labels.zarr"),
        str(out / "nuclei.parquet"), "--model", MODEL, *options,
    ]  # fmt: skip


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_killed_it_goes_on_where_it_was(movie, whole, tmp_path, options):
    """The command as a user runs it, ended by SIGKILL once a frame is there."""
    out = beside(movie, tmp_path)
    slow = {**os.environ, "PYTHONPATH": str(tmp_path)}
    (tmp_path / "sitecustomize.py").write_text(
        "import time\n"
        "from hyped_core.container import partial\n"
        "write = partial.FrameHandle.write_frame\n"
        "def slow(self, *given):\n"
        "    write(self, *given)\n"
        "    time.sleep(0.5)\n"
        "partial.FrameHandle.write_frame = slow\n"
    )
    process = subprocess.Popen(command(movie, out, *options), env=slow, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not kept_frames(out) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.2)  # workers end with it
    before = kept_frames(out)
    assert 1 <= len(before) < FRAMES - 1 and not (out / "labels.zarr").exists()
    with pytest.raises(KeyboardInterrupt):  # look again before the end: nothing was written twice
        segment(movie, out, progress=Interrupt(FRAMES - 1 - len(before)))
    assert kept_frames(out).items() >= before.items()
    assert segment(movie, out).kept == FRAMES - 1
    assert content(out) == whole


def kill_once(monkeypatch, tmp_path):
    """The first worker process that writes frame 3 is killed when it has."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "from pathlib import Path\n"
        "from hyped_core.container import partial\n"
        f"mark, parent = Path({str(tmp_path / 'died')!r}), {os.getpid()}\n"
        "write = partial.FrameHandle.write_frame\n"
        "def fatal(self, index, *given):\n"
        "    if index == 3 and os.getpid() != parent and not mark.exists():\n"
        "        mark.touch()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(self, index, *given)\n"
        "partial.FrameHandle.write_frame = fatal\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_worker_killed_in_the_middle_costs_nothing_but_time(movie, whole, tmp_path, monkeypatch):
    kill_once(monkeypatch, tmp_path)
    segment(movie, beside(movie, tmp_path), workers=Workers(2))
    assert (tmp_path / "died").exists()
    assert content(beside(movie, tmp_path)) == whole


def test_a_cluster_writes_the_same_bytes_and_may_lose_a_worker(movie, whole, tmp_path, monkeypatch):
    from distributed import LocalCluster

    kill_once(monkeypatch, tmp_path)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
        workers = Workers(scheduler=cluster.scheduler_address)
        segment(movie, beside(movie, tmp_path), workers=workers)
        assert (tmp_path / "died").exists()
    assert content(beside(movie, tmp_path)) == whole


@pytest.fixture
def damaged(movie, tmp_path):
    """A copy of the movie with a shard that is cut short."""
    import shutil

    own = tmp_path / "movies" / "S4.zarr"
    shutil.copytree(movie, own)
    shard = own / "0/c/2/0/0/0"
    shard.write_bytes(shard.read_bytes()[:500])
    return own


def test_a_damaged_frame_ends_the_run_and_the_option_to_go_on_is_named(damaged, tmp_path, capsys):
    out = tmp_path / "out"
    with pytest.raises(CorruptFileError, match="frame 2") as caught:
        segment(damaged, out, workers=Workers(2))
    assert "--skip-damaged" in caught.value.mend
    labels, table = out / "labels.zarr", out / "nuclei.parquet"
    assert not labels.exists() and not table.exists() and {0, 1} <= kept_frames(out).keys()
    arguments = ["imaging", "segment", str(damaged), str(labels), str(table), "--model", MODEL]
    assert run([*arguments, "--scene", "S4", "--json"]) == 3
    assert "--skip-damaged" in capsys.readouterr().err
    assert run([*arguments, "--scene", "S4", "--json", "--skip-damaged"]) == 0
    said = capsys.readouterr()
    assert "done before" in said.err and "2 frames missing" in said.err
    assert json.loads(said.out)["frames_missing"] == 2
    missing = Labels.open(labels).missing_frames
    assert list(missing) == [2, LOST] and "cannot be read" in missing[2] and str(tmp_path) not in missing[2]
    assert sorted(pd.read_parquet(table)["frame"].unique()) == [0, 1, 3, 4, 6, 7]


def test_a_movie_of_which_nothing_is_left_gives_an_empty_table(tmp_path):
    with MovieWriter(
        tmp_path / "S4.zarr", shape=(2, 3, 20, 20), dtype="uint16", channels=CHANNELS, pixel_size_um=1, time_h=[0, 1]
    ) as out:
        for index in range(2):
            out.write_missing(index, "lost")
    done = segment(tmp_path / "S4.zarr", tmp_path)
    assert (done.frames, done.missing, done.nuclei) == (0, 2, 0)
    assert {"frame", "time_h", "label", "mean_Cy5"} <= set(pd.read_parquet(tmp_path / "nuclei.parquet").columns)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_keeps_finished_frames(movie, whole, tmp_path, monkeypatch):
    out = beside(movie, tmp_path)
    put = partial.FrameHandle._put

    def full(self, path, parts):
        if len(kept_frames(out)) < 3:
            return put(self, path, parts)
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(parts[0])

    with monkeypatch.context() as patched, pytest.raises(StorageError, match="no space left") as caught:
        patched.setattr(partial.FrameHandle, "_put", full)
        segment(movie, out)
    assert "run the same command again" in caught.value.mend
    assert len(kept_frames(out)) == 3 and not (out / "nuclei.parquet").exists()
    assert segment(movie, out).kept == 3
    assert content(out) == whole
