"""Commands on a Dask cluster of two worker processes: the bytes they make are those of one process, whoever dies."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from hyped_core.cli.main import run
from hyped_core.context import RunContext
from hyped_core.design import default_design
from hyped_imaging.simulate.params import SimulateParams
from hyped_imaging.simulate.run import simulate

FRAMES = 8
COMMANDS = {
    "stitch": ("small.czi", "movie.zarr"),
    "export": ("stitch/movie.zarr", "release"),
    "import-movie": ("export/release", "movie.zarr"),
    "process": ("small.czi", "out"),
}
"""What each command reads, in the experiment's folder, and the name of what it makes."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler and two worker processes on loopback."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CZI of one scene with its design, and by one process: movie, release, and the movie read back."""
    folder = tmp_path_factory.mktemp("experiment")
    params = SimulateParams.model_validate(
        {"scenes": ["S0"], "timing": {"n_frames": FRAMES, "gap_at_h": None}, "workers": 1, "name": "small"}
    )
    design = default_design()
    simulate(folder, folder / "truth", design, params, RunContext(seed=3))
    (folder / "design.yaml").write_text(design.to_yaml())
    for command in COMMANDS:
        assert imaging(folder, command, folder / command) == 0
    return folder


def imaging(experiment: Path, command: str, folder: Path, *options: str) -> int:
    """``hyped imaging COMMAND`` of the experiment, into ``folder``."""
    folder.mkdir(exist_ok=True)
    source, made = COMMANDS[command]
    if command != "export":
        options = (*options, "--design", str(experiment / "design.yaml"))
    return run(["imaging", command, str(experiment / source), str(folder / made), *options])


def content(folder: Path) -> dict[str, str]:
    """Hash of every file, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def differing(one: Path, other: Path) -> list[str]:
    first, second = content(one), content(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_cluster_makes_the_same_bytes(experiment: Path, address: str, tmp_path: Path, command: str):
    assert imaging(experiment, command, tmp_path / command, "--scheduler", address) == 0
    assert len(content(tmp_path / command)) >= FRAMES
    assert differing(tmp_path / command, experiment / command) == []


def worker_pids(address: str) -> dict[str, int]:
    with Client(address, set_as_default=False) as client:
        return client.run(os.getpid)


@pytest.mark.parametrize("command", ["stitch", "process"])
def test_a_worker_killed_as_it_works_costs_nothing_but_time(experiment: Path, tmp_path: Path, command: str):
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
        victim = min(worker_pids(cluster.scheduler_address).values())
        killed: list[int] = []
        over = threading.Event()

        def kill() -> None:
            """At the first frame that is written, while others are under way."""
            while not over.wait(0.005) and not killed:
                if any(tmp_path.rglob("0/c/*/0/0/0")):
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)

        watch = threading.Thread(target=kill)
        watch.start()
        try:
            code = imaging(experiment, command, tmp_path / command, "--scheduler", cluster.scheduler_address)
        finally:
            over.set()
            watch.join()
        assert code == 0 and killed == [victim], "it was to be killed before the command ended"
        assert victim not in worker_pids(cluster.scheduler_address).values()
    assert differing(tmp_path / command, experiment / command) == []
