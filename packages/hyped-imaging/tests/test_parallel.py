"""Frames done here, in processes and on a Dask cluster: the same results in the same order, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hyped_core.context import SilentProgress
from hyped_core.errors import HypedError, InvalidDataError, NetworkError, UsageError
from hyped_core.remote.placing import MEMORY_VARIABLE, default_memory_gb
from hyped_imaging.parallel import Workers, run_frames, worker_options

FRAMES = (5, 1, 9, 3, 0, 7)


@dataclass(frozen=True)
class Job:
    """Squares frames, and notes who opened what in a folder; misbehaves at one frame where it is told to."""

    folder: str
    at: int = -1
    deed: str = ""

    @contextmanager
    def open(self):
        mark = Path(self.folder, f"{os.getpid()}-{time.monotonic_ns()}")
        mark.write_text("open")
        if self.deed == "cannot open":
            raise InvalidDataError("cannot be opened", where="movie", mend="mend it")
        yield self.square
        mark.write_text("closed")

    def square(self, frame):
        if self.deed == "count":
            time.sleep(0.2)
            Path(self.folder, f"did {frame}").touch()
        if frame == self.at:
            if self.deed == "odd error":
                raise OddError(3, "of a library")
            if self.deed == "error":
                raise InvalidDataError("is odd", where=f"frame {frame}", mend="leave it out")
            if self.deed == "die" or (self.deed == "die once" and not Path(self.folder, "died").exists()):
                Path(self.folder, "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return frame, frame**2, os.getpid()


class OddError(Exception):
    """Pickled, but never unpickled: it is made from two things and keeps one."""

    def __init__(self, number, text):
        super().__init__(text)


class Counts(SilentProgress):
    def track(self, items, description, total=None):
        self.seen = []
        for item in items:
            self.seen.append(item[0])
            yield item


def results(job, workers, frames=FRAMES, progress=None):
    found = list(run_frames(job, frames, workers, progress=progress or SilentProgress(), description="square"))
    return [frame for frame, _ in found], [result[1] for _, result in found], {result[2] for _, result in found}


def opened(job):
    """What became of every opening of the job."""
    return sorted(path.read_text() for path in Path(job.folder).iterdir() if path.name != "died")


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two worker processes on loopback."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as running:
        yield running


@pytest.fixture(params=["here", "processes", "cluster"])
def workers(request):
    if request.param == "cluster":
        return Workers(scheduler=request.getfixturevalue("cluster").scheduler_address)
    return Workers(2 if request.param == "processes" else 1)


def test_results_are_those_of_the_frames_in_their_order(tmp_path, workers):
    counts = Counts()
    job = Job(str(tmp_path))
    frames, squares, pids = results(job, workers, progress=counts)
    assert tuple(frames) == FRAMES and squares == [f**2 for f in FRAMES] and counts.seen == list(FRAMES)
    assert (os.getpid() in pids) == (workers == Workers())
    assert 1 <= len(opened(job)) <= 2 and set(opened(job)) == {"closed"}


def test_a_job_that_cannot_be_sent_is_refused_at_once(tmp_path):
    with pytest.raises(UsageError, match="cannot be sent"):
        results(Job(lambda: tmp_path), Workers(2))


def test_nothing_to_do_opens_nothing(tmp_path):
    assert results(Job(str(tmp_path)), Workers(2), frames=()) == ([], [], set())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("deed", ["error", "cannot open"])
def test_errors_come_as_they_were_raised(tmp_path, workers, deed):
    with pytest.raises(InvalidDataError) as caught:
        results(Job(str(tmp_path), at=3, deed=deed), workers)
    error = caught.value
    expected = ("is odd", "frame 3", "leave it out") if deed == "error" else ("cannot be opened", "movie", "mend it")
    assert (error.message, error.where, error.mend) == expected


def test_frames_in_the_queue_are_not_done_once_nobody_waits(tmp_path):
    run = run_frames(
        Job(str(tmp_path), deed="count"), range(8), Workers(2), progress=SilentProgress(), description=""
    )
    next(run)
    run.close()
    assert 1 <= len(list(tmp_path.glob("did *"))) <= 4


@pytest.mark.parametrize("workers", ["processes", "cluster"], indirect=True)
def test_an_error_that_cannot_travel_is_told_in_words(tmp_path, workers):
    with pytest.raises(HypedError, match="OddError: of a library") as caught:
        results(Job(str(tmp_path), at=3, deed="odd error"), workers)
    assert caught.value.where == "frame 3"


@pytest.mark.parametrize("workers", ["processes", "cluster"], indirect=True)
def test_a_worker_killed_once_costs_nothing_but_time(tmp_path, workers):
    frames, squares, _ = results(Job(str(tmp_path), at=3, deed="die once"), workers)
    assert (tmp_path / "died").exists()
    assert tuple(frames) == FRAMES and squares == [f**2 for f in FRAMES]


def test_a_frame_that_kills_every_worker_ends_the_run(tmp_path):
    with pytest.raises(HypedError, match="died 3 times in a row at frame 3") as caught:
        results(Job(str(tmp_path), at=3, deed="die"), Workers(2))
    assert "memory" in caught.value.mend


def test_frames_before_the_error_are_given_out(tmp_path, workers):
    seen = []
    with pytest.raises(InvalidDataError):
        for frame, _ in run_frames(
            Job(str(tmp_path), at=9, deed="error"), FRAMES, workers, progress=SilentProgress(), description=""
        ):
            seen.append(frame)
    assert seen == [5, 1]


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = f"""
        import os, sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_parallel import Job
        from hyped_core.context import SilentProgress
        from hyped_imaging.parallel import Workers, run_frames
        if __name__ == "__main__":
            run = run_frames(Job(sys.argv[1]), range(8), Workers(2), progress=SilentProgress(), description="")
            print(next(run)[1][2], flush=True)
            time.sleep(60)
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    (tmp_path / "marks").mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path / "marks")], stdout=subprocess.PIPE)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 20
    while time.monotonic() < end and _runs(worker):
        time.sleep(0.05)
    assert not _runs(worker)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_libraries_in_workers_keep_to_one_thread(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    run = run_frames(Threads(), range(2), Workers(2), progress=SilentProgress(), description="")
    assert [result for _, result in run] == [("1", "3", 1)] * 2
    assert "OMP_NUM_THREADS" not in os.environ


def test_models_of_other_packages_share_the_memory_among_workers(tmp_path, monkeypatch):
    monkeypatch.delenv(MEMORY_VARIABLE, raising=False)
    run = run_frames(Memory(), range(3), Workers(3), progress=SilentProgress(), description="")
    assert [result for _, result in run] == pytest.approx([default_memory_gb() / 3] * 3, rel=0.01)
    assert MEMORY_VARIABLE not in os.environ
    monkeypatch.setenv(MEMORY_VARIABLE, "7")
    run = run_frames(Memory(), range(2), Workers(2), progress=SilentProgress(), description="")
    assert [result for _, result in run] == [7.0] * 2


class Memory:
    @contextmanager
    def open(self):
        yield lambda _: default_memory_gb()


class Threads:
    @contextmanager
    def open(self):
        import cv2

        yield lambda _: (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"], cv2.getNumThreads())


def test_options_of_commands():
    @click.command()
    @worker_options
    def command(workers):
        click.echo(f"{workers.processes} {workers.scheduler}")

    invoke = CliRunner().invoke
    assert invoke(command, []).output == "1 None\n"
    assert invoke(command, ["--workers", "3"]).output == "3 None\n"
    assert invoke(command, ["--scheduler", "tcp://a:1"]).output == "1 tcp://a:1\n"
    assert invoke(command, ["--workers", "0"]).exit_code == 2
    assert isinstance(invoke(command, ["--workers", "2", "--scheduler", "tcp://a:1"]).exception, UsageError)


def test_a_scheduler_that_is_not_there_is_named(tmp_path, monkeypatch):
    import socket

    monkeypatch.setattr("hyped_imaging.parallel._CONNECT_S", 0.5)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(NetworkError, match="no Dask scheduler") as caught:
        results(Job(str(tmp_path)), Workers(scheduler=address))
    assert caught.value.where == address


def test_a_cluster_without_workers_is_named(tmp_path, monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr("hyped_imaging.parallel._JOIN_S", 0.5)
    with (
        LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as empty,
        pytest.raises(NetworkError, match="no worker"),
    ):
        results(Job(str(tmp_path)), Workers(scheduler=empty.scheduler_address))


@pytest.mark.parametrize("address", ["", "nonsense://x", "127.0.0.1:notaport"])
def test_an_address_that_is_none_is_refused(tmp_path, address):
    with pytest.raises((NetworkError, UsageError)):
        results(Job(str(tmp_path)), Workers(scheduler=address))


def test_workers_of_another_version_are_refused(tmp_path, cluster, monkeypatch):
    from hyped_core import provenance

    here = os.getpid()

    def versions(names):
        return dict.fromkeys(names, "0.0" if os.getpid() == here else "0.1")

    monkeypatch.setattr(provenance, "versions", versions)
    with pytest.raises(UsageError, match=r"this process 0\.0"):
        results(Job(str(tmp_path)), Workers(scheduler=cluster.scheduler_address))
