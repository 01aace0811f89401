"""Movies are worked through frame by frame: the peak of memory does not depend on how many frames there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hyped_core.container.movies import MovieWriter
from hyped_imaging.simulate.czi import CziSink

CHANNELS = ["Cy5", "mKate", "TagGFP", "DIC"]
SHAPE = (700, 800)
TILE, STEP = (380, 430), (320, 370)
FEW, MANY = 24, 72
"""Stitching calibrates on some frames at once, whatever their number: 24 are enough of them for its full sample."""
FRAME_MIB = 4 * SHAPE[0] * SHAPE[1] * 2 / 2**20
"""Pixels of one frame: four channels, two bytes each."""

SCRIPT = """
import sys
from pathlib import Path
from hyped_core.cli.main import run

code = run(["imaging", *sys.argv[1:]])
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
sys.exit(code)
"""
"""Prints the peak in KiB. VmHWM, since ru_maxrss of a child starts from what its parent held on Linux."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")


def scenery() -> np.ndarray:
    """(4, y, x) uint16: discs on a noisy background."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    frame = rng.normal(400, 12, (4, *SHAPE))
    for at in rng.uniform(0, 1, (90, 2)) * SHAPE:
        frame += 900 * ((y - at[0]) ** 2 + (x - at[1]) ** 2 < 81)
    return frame.clip(0, 16000).astype(np.uint16)


def movie(path: Path, frame: np.ndarray, frames: int) -> Path:
    """A movie of so many frames, each a little moved."""
    with MovieWriter(
        path, shape=(frames, *frame.shape), dtype=np.uint16, channels=CHANNELS, pixel_size_um=0.65,
        time_h=np.arange(frames) / 3,
    ) as writer:  # fmt: skip
        for index in range(frames):
            writer.write_frame(index, np.roll(frame, index, axis=2))
    return path


def mosaic(path: Path, frame: np.ndarray, frames: int) -> Path:
    """A CZI of so many frames of 2 x 2 tiles."""
    with CziSink(
        path, channels=CHANNELS, scenes=["S0"], pixel_size_um=0.65, name="m", bits=14,
        first_frame="2025-01-01T00:00:00Z", seed=0,
    ) as sink:  # fmt: skip
        for index in range(frames):
            shown = np.roll(frame, index, axis=2)
            time = np.datetime64("2025-01-01", "us") + np.timedelta64(1200 * index, "s")
            for channel in range(len(CHANNELS)):
                for tile in range(4):
                    y, x = STEP[0] * (tile // 2), STEP[1] * (tile % 2)
                    sink.write_tile(
                        shown[channel, y : y + TILE[0], x : x + TILE[1]], scene=0, frame=index, channel=channel,
                        tile=tile, position_px=(x, y), time=time,
                    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Path]]:
    """By the number of frames: the same scenery as CZI and as movie."""
    folder, frame = tmp_path_factory.mktemp("memory"), scenery()
    return {
        frames: {
            "czi": mosaic(folder / f"{frames}.czi", frame, frames),
            "movie": movie(folder / str(frames) / "S0.zarr", frame, frames),
        }
        for frames in (FEW, MANY)
    }


def peak_mib(*arguments: object) -> float:
    """Peak resident memory of ``hyped imaging`` with these arguments, in a process of its own."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        env={**os.environ, **threads, "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1]) / 1024


@pytest.mark.parametrize(
    ("command", "source", "made"),
    [
        ("stitch", "czi", ["{out}.zarr"]),
        ("segment", "movie", ["{out}.labels.zarr", "{out}.parquet"]),
        ("import-movie", "movie", ["{out}.zarr"]),
        ("export", "movie", ["{out}.release"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_peak_memory_does_not_grow_with_the_frames(
    sources: dict[int, dict[str, Path]], tmp_path: Path, command: str, source: str, made: list[str]
):
    peaks = {
        frames: peak_mib(command, sources[frames][source], *(name.format(out=tmp_path / str(frames)) for name in made))
        for frames in (FEW, MANY)
    }
    kept = (MANY - FEW) * FRAME_MIB
    told = " and ".join(f"{peak:.0f} MiB with {frames} frames" for frames, peak in peaks.items())
    assert peaks[MANY] - peaks[FEW] < 4 * FRAME_MIB, f"{told}; all kept would be {kept:.0f} MiB more"
