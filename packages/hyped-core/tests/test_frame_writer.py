"""Writing frames from several processes, going on after a kill, lost frames, and a full disk."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hyped_core.container import partial
from hyped_core.container.movies import Labels, LabelsWriter, Movie, MovieWriter
from hyped_core.container.validate import _frames_problems
from hyped_core.errors import InvalidDataError, StorageError, UsageError
from hyped_core.io.hashing import digest

SHAPE = (6, 2, 600, 40)
"""High enough for a pyramid of two levels."""


def frame(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 4000, SHAPE[1:]).astype(np.uint16)


def note(index: int) -> bytes:
    return f"table of {index}".encode() * 50


def writer(path: Path, resume: str | None = "key", **changes) -> MovieWriter:
    given = {"shape": SHAPE, "dtype": "uint16", "channels": "ab", "pixel_size_um": 1, "time_h": range(SHAPE[0])}
    return MovieWriter(path, **{**given, **changes}, resume=resume)


def write_all(path: Path, resume: str | None = None) -> str:
    with writer(path, resume) as out:
        for index in range(SHAPE[0]):
            out.write_frame(index, frame(index), note(index))
    return digest(path).sha256


def half(path: Path, resume: str = "key") -> Path:
    """A run that ends by an error after three frames; the folder it leaves."""
    with pytest.raises(KeyboardInterrupt), writer(path, resume) as out:
        for index in (4, 0, 2):
            out.write_frame(index, frame(index), note(index))
        raise KeyboardInterrupt
    (folder,) = path.parent.glob(f".{path.name}.*.resume")
    return folder


def write_one(handle, index):
    """In another process."""
    handle.write_frame(index, frame(index), note(index))
    return os.getpid()


def test_resumed_is_as_if_written_in_one_go(tmp_path):
    whole = write_all(tmp_path / "whole" / "S.zarr")
    path = tmp_path / "S.zarr"
    half(path)
    with writer(path) as out:
        assert out.written() == [0, 2, 4]
        assert [out.note(i) for i in range(5)] == [note(0), None, note(2), None, note(4)]
        for index in (5, 1, 3):
            out.write_frame(index, frame(index), note(index))
        assert not path.exists()
    assert digest(path).sha256 == whole
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_several_processes_write_the_same_bytes(tmp_path):
    whole = write_all(tmp_path / "whole" / "S.zarr")
    with writer(tmp_path / "S.zarr", None) as out:
        handle = out.handle()
        assert len(pickle.dumps(handle)) < 2000
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            pids = set(pool.map(write_one, [handle] * SHAPE[0], range(SHAPE[0])))
        assert os.getpid() not in pids
        assert out.note(3) == note(3)
    assert digest(tmp_path / "S.zarr").sha256 == whole


def test_killed_in_the_middle_of_a_frame_goes_on_with_the_next(tmp_path):
    whole = write_all(tmp_path / "whole" / "S.zarr")
    code = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from hyped_core.container import partial
        from test_frame_writer import frame, note, writer
        with writer(Path(sys.argv[1])) as out:
            for index in range(3):
                out.write_frame(index, frame(index), note(index))
            put = partial.FrameHandle._put
            def killed_at_level_0(self, path, parts):
                if "/0/c/" in str(path):
                    (Path(self.folder) / "partial" / "begun").write_bytes(parts[0])
                    os.kill(os.getpid(), signal.SIGKILL)
                put(self, path, parts)
            partial.FrameHandle._put = killed_at_level_0
            out.write_frame(3, frame(3), note(3))
    """
    path = tmp_path / "S.zarr"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not path.exists()
    (folder,) = tmp_path.glob(".S.zarr.*.resume")
    kept = {p: p.stat().st_mtime_ns for p in folder.glob("array.zarr/0/c/*/*/*/*")}
    assert len(kept) == 3
    with writer(path) as out:
        assert out.written() == [0, 1, 2]
        for index in (3, 4, 5):
            out.write_frame(index, frame(index), note(index))
        assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert digest(path).sha256 == whole


def test_another_key_begins_anew_and_removes_what_the_old_one_left(tmp_path):
    path = tmp_path / "S.zarr"
    old = half(path, "old")
    with pytest.raises(KeyboardInterrupt), writer(path, "new") as out:
        assert out.written() == []
        out.write_frame(0, frame(0))
        raise KeyboardInterrupt
    assert not old.exists() and len(list(tmp_path.glob(".*.resume"))) == 1


@pytest.mark.parametrize("changes", [{"shape": (6, 2, 600, 41)}, {"dtype": "float32"}, {"chunk_yx": (64, 64)}])
def test_the_same_key_for_another_array_begins_anew(tmp_path, changes):
    half(tmp_path / "S.zarr")
    with pytest.raises(KeyboardInterrupt), writer(tmp_path / "S.zarr", **changes) as out:
        assert out.written() == []
        raise KeyboardInterrupt


def test_a_run_with_nothing_done_leaves_nothing(tmp_path):
    with pytest.raises(InvalidDataError, match="never written"), writer(tmp_path / "S.zarr"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_write_one_target(tmp_path):
    path = tmp_path / "S.zarr"
    with pytest.raises(KeyboardInterrupt), writer(path, "a") as first:
        first.write_frame(0, frame(0))
        with pytest.raises(UsageError, match="another process"), writer(path, "a"):
            pass
        with pytest.raises(InvalidDataError, match="never written"), writer(path, "b"):
            pass  # another key: what the first run holds is left alone
        assert first.written() == [0]
        raise KeyboardInterrupt


def test_a_frame_cut_short_by_a_power_loss_is_written_again(tmp_path):
    path = tmp_path / "S.zarr"
    folder = half(path)
    for name in ("array.zarr/0/c/2/0/0/0", "array.zarr/1/c/4/0/0/0"):
        (folder / name).write_bytes((folder / name).read_bytes()[:1000])
    with pytest.raises(KeyboardInterrupt), writer(path) as out:
        assert out.written() == [0]
        out.write_frame(1, frame(1), note(1))
        raise KeyboardInterrupt
    (folder / "notes" / "1").write_bytes(b"")
    with pytest.raises(KeyboardInterrupt), writer(path) as out:
        assert out.written() == [0]
        raise KeyboardInterrupt


def test_a_worker_that_outlives_the_run_fails_and_makes_no_folder(tmp_path):
    with writer(tmp_path / "S.zarr") as out:
        handle = out.handle()
        for index in range(SHAPE[0]):
            out.write_frame(index, frame(index))
    before = digest(tmp_path)
    with pytest.raises(StorageError, match="is gone"):
        handle.write_frame(1, frame(1))
    assert digest(tmp_path) == before


def test_lost_frames_are_recorded_and_read_as_zeros(tmp_path):
    path = tmp_path / "S.zarr"
    with writer(path) as out:
        for index in (0, 1, 3, 5):
            out.write_frame(index, frame(index))
        out.write_missing(4, "tile 3 is cut short")
        out.handle().write_missing(2, "no time point")
        assert out.missing_frames == {2: "no time point", 4: "tile 3 is cut short"}
    movie = Movie.open(path)
    assert movie.missing_frames == {2: "no time point", 4: "tile 3 is cut short"}
    assert movie.written() == [0, 1, 3, 5]
    assert not movie.frame(2).any() and movie.frame(4).shape == SHAPE[1:] and movie.plane(4, "b").ndim == 2
    assert movie.window(slice(0, 3), slice(0, 4)).shape == (6, 2, 3, 4)
    assert not movie.dask()[2].compute().any()
    assert np.array_equal(movie.frame(5), frame(5))
    assert list(_frames_problems("S", movie)) == []


def test_no_lost_frame_is_a_key_frame(tmp_path):
    from hyped_core.container.spatial import key_frames
    from hyped_core.design import default_design

    plan = default_design()
    event = plan.timeline.events[0].time_h
    times = event + np.arange(-2, SHAPE[0] - 2)
    for name, lost, kept in (("A", (0, 2), (1, 5)), ("B", (3, 5), (0, 2, 4)), ("C", range(6), ())):
        with writer(tmp_path / f"{name}.zarr", time_h=times) as out:
            for index in range(SHAPE[0]):
                if index in lost:
                    out.write_missing(index, "lost")
                else:
                    out.write_frame(index, frame(index))
        assert set(key_frames(Movie.open(tmp_path / f"{name}.zarr"), plan)) >= set(kept)
        assert not set(lost) & set(key_frames(Movie.open(tmp_path / f"{name}.zarr"), plan))


def test_a_lost_frame_that_is_found_again_is_no_longer_lost(tmp_path):
    path = tmp_path / "S.zarr"
    with pytest.raises(KeyboardInterrupt), writer(path) as out:
        out.write_frame(0, frame(0))
        out.write_missing(3, "cannot be read")
        raise KeyboardInterrupt
    with writer(path) as out:
        assert out.written() == [0] and out.missing_frames == {3: "cannot be read"}
        for index in range(1, SHAPE[0]):
            out.write_frame(index, frame(index))
    assert Movie.open(path).missing_frames == {}
    assert "missing_frames" not in Movie.open(path).attrs


def test_labels_miss_frames_too(tmp_path):
    with LabelsWriter(tmp_path / "L.zarr", shape=(2, 5, 6), pixel_size_um=1, time_h=[0, 1]) as out:
        out.write_frame(0, np.ones((5, 6), int))
        out.write_missing(1, "lost")
    labels = Labels.open(tmp_path / "L.zarr")
    assert labels.missing_frames == {1: "lost"} and not labels.frame(1).any() and labels.frame(0).all()


def test_pixels_that_are_gone_are_still_a_problem(tmp_path):
    path = tmp_path / "S.zarr"
    with writer(path) as out:
        for index in range(5):
            out.write_frame(index, frame(index))
        out.write_missing(5, "lost")
    (path / "0" / "c" / "1" / "0" / "0" / "0").unlink()
    (problem,) = _frames_problems("S", Movie.open(path))
    assert "1 of 6" in problem.message
    attrs = json.loads((path / "zarr.json").read_text())
    attrs["attributes"]["hyped"]["missing_frames"] = {"9": "lost"}
    (path / "zarr.json").write_text(json.dumps(attrs))
    messages = [problem.message for problem in _frames_problems("S", Movie.open(path))]
    assert any("[9]" in text for text in messages) and any("2 of 6" in text for text in messages)


def test_attributes_are_added_while_writing(tmp_path):
    with writer(tmp_path / "S.zarr", attrs={"reader": "made"}) as out:
        for index in range(SHAPE[0]):
            out.write_frame(index, frame(index))
        out.update_attrs({"drift_px": np.zeros(2).tolist()})
        with pytest.raises(InvalidDataError, match="not JSON"):
            out.update_attrs({"drift_px": np.zeros(2)})
    attrs = Movie.open(tmp_path / "S.zarr").attrs
    assert attrs["drift_px"] == [0, 0] and attrs["reader"] == "made"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named_and_finished_frames_are_kept(tmp_path, monkeypatch):
    path = tmp_path / "S.zarr"
    with pytest.raises(StorageError, match="no space left") as caught, writer(path) as out:
        out.write_frame(0, frame(0))
        folder = Path(out.handle().folder)
        (folder / "partial" / "full").symlink_to("/dev/full")  # the kernel's own ENOSPC
        with monkeypatch.context() as patched:
            patched.setattr(partial, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex="full")))
            out.write_frame(1, frame(1))
    assert str(path) in caught.value.where and "kept" in caught.value.mend and caught.value.exit_code == 5
    assert caught.value.__cause__.errno == errno.ENOSPC
    with writer(path) as out:
        assert out.written() == [0]
        for index in range(1, SHAPE[0]):
            out.write_frame(index, frame(index))


def test_a_limit_on_files_is_named(tmp_path):
    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    code = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from hyped_core.errors import StorageError
        from test_frame_writer import frame, writer
        try:
            with writer(Path(sys.argv[1]), None) as out:
                out.write_frame(0, frame(0))
        except StorageError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "S.zarr")],
        capture_output=True, text=True, preexec_fn=limited, check=True,
    )  # fmt: skip
    assert "ulimit" in done.stdout and "kept" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "movies").write_text("a file")
    for resume in (None, "key"):
        with pytest.raises(StorageError, match="a file is where"), writer(tmp_path / "movies" / "S.zarr", resume):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="may not be written"), writer(tmp_path / "S.zarr"):
        pass
