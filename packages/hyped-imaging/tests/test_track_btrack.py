"""The tracker ``btrack``: axes, bounds of time, and what happens where its library does not load."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from hyped_core.context import RunContext
from hyped_core.errors import MissingDependencyError
from hyped_imaging.track import build_btrack
from hyped_imaging.track.btrack import BtrackConfig, BtrackTracker, bounded_optimise, number

CONTEXT = RunContext()


def loads() -> bool:
    """Whether btrack and its library are here."""
    try:
        return build_btrack.library_error() is None
    except MissingDependencyError:
        return False


needs_btrack = pytest.mark.skipif(not loads(), reason="btrack's library does not load here: make btrack")


def lines(frames=15):
    """Two nuclei in a field much wider than high, one of them moving along x only."""
    rows = []
    for frame in range(frames):
        rows.append((frame, frame / 3, 1, 10.0, 50.0 + 4.0 * frame, 1))
        rows.append((frame, frame / 3, 2, 40.0, 900.0 - 4.0 * frame, 2))
    return pd.DataFrame(rows, columns=["frame", "time_h", "label", "y_um", "x_um", "true"])


@needs_btrack
def test_links_are_right_whatever_the_order_of_rows():
    objects = lines()
    result = BtrackTracker().track(objects.sample(frac=1, random_state=1), context=CONTEXT).sort_index()
    assert result.groupby("true")["track_id"].nunique().tolist() == [1, 1]
    assert result["track_id"].nunique() == 2 and (result["unassigned_reason"] == "").all()


@needs_btrack
def test_axes_are_not_swapped():
    """A gate of 6 um is met along x; btrack's volume is set from the data, so wide fields lose nothing."""
    result = BtrackTracker(BtrackConfig(max_search_um=6.0)).track(lines(), context=CONTEXT)
    assert result["track_id"].nunique() == 2


@needs_btrack
def test_without_optimisation_every_object_is_accounted_for():
    rng = np.random.default_rng(0)
    objects = lines()
    noise = pd.DataFrame(
        {
            "frame": 3,
            "time_h": 1.0,
            "label": np.arange(3, 9),
            "y_um": rng.uniform(0, 50, 6),
            "x_um": 500.0,
            "true": 0,
        }
    )
    for optimise in (False, True):
        result = BtrackTracker(BtrackConfig(optimise=optimise)).track(
            pd.concat([objects, noise], ignore_index=True), context=CONTEXT
        )
        left = result["track_id"] == 0
        assert (result.loc[left, "unassigned_reason"] != "").all()
        assert (result.loc[~left, "unassigned_reason"] == "").all()


@needs_btrack
def test_nothing_to_track():
    assert len(BtrackTracker().track(lines().iloc[:0], context=CONTEXT)) == 0


def test_an_optimiser_that_does_not_end_is_ended():
    class Endless:
        tracks = ()

        def optimise(self, options):
            time.sleep(30)

    start = time.monotonic()
    assert bounded_optimise(Endless(), 0.3) is None
    assert time.monotonic() - start < 5


def test_an_optimiser_that_dies_gives_none():
    class Dying:
        tracks = ()

        def optimise(self, options):
            raise SystemExit(1)

    assert bounded_optimise(Dying(), 5) is None


def test_numbering_puts_an_object_in_one_track_and_names_parents():
    table = pd.DataFrame({"frame": [0, 1, 1, 2]})
    track, parent = number([(7, 3, [2, 3]), (3, 3, [0, 1]), (9, 9, [3])], table)
    assert track.tolist() == [1, 1, 2, 2] and parent.tolist() == [0, 0, 1, 1]


def test_a_library_that_does_not_load_names_the_mend(monkeypatch, tmp_path):
    broken = tmp_path / "libtracker.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(build_btrack, "library_path", lambda: broken)
    with pytest.raises(MissingDependencyError, match="make btrack") as caught:
        BtrackTracker().track(lines(), context=CONTEXT)
    assert caught.value.exit_code == 5


def test_build_says_what_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(build_btrack, "library_error", lambda: "too old")
    monkeypatch.setattr(build_btrack, "find_compiler", lambda: "g++")
    monkeypatch.setattr(build_btrack, "EIGEN_FOLDERS", (str(tmp_path),))
    monkeypatch.delenv("EIGEN_INCLUDE", raising=False)
    assert build_btrack.main() == 5
    assert "libeigen3-dev" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(build_btrack.shutil, "which", lambda name: None)
    with pytest.raises(MissingDependencyError, match="apt-get install g\\+\\+"):
        build_btrack.find_compiler()


def test_a_compiler_that_fails_leaves_the_old_library(monkeypatch, tmp_path):
    target = tmp_path / "libtracker.so"
    target.write_text("old")
    (tmp_path / "Eigen").mkdir()
    (tmp_path / "Eigen" / "Dense").write_text("")
    monkeypatch.setattr(build_btrack, "EIGEN_FOLDERS", (str(tmp_path),))
    monkeypatch.delenv("EIGEN_INCLUDE", raising=False)
    monkeypatch.setattr(build_btrack, "find_compiler", lambda: "false")
    monkeypatch.setattr(build_btrack, "find_sources", lambda scratch: tmp_path)
    with pytest.raises(Exception, match="compiler failed"):
        build_btrack.build(target)
    assert target.read_text() == "old" and sorted(p.name for p in tmp_path.iterdir()) == [
        "Eigen",
        "libtracker.so",
    ]


def test_importing_the_tracker_imports_no_btrack_and_opens_no_network():
    code = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise RuntimeError('network')\n"
        "socket.socket.connect = refuse\n"
        "import hyped_imaging.track.btrack, hyped_imaging.track.build_btrack\n"
        "assert 'btrack' not in sys.modules and 'cvxopt' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
