"""CZI to a written movie, a full-size frame: 4 channels x 30 tiles of 516 x 705 pixels, 2826 x 3245 on the canvas.

Beside ours, what a user would put together: pylibCZIrw's own composition of a scene into gzipped HDF5, and
aicspylibczi's into plain zarr. Both of these neither refine positions nor correct illumination nor blend.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hyped_core.design import default_design

ROWS, COLUMNS, TILE, STEP = 6, 5, (516, 705), (462, 635)
FRAMES = 4
FRAME_S, WORKER_BYTES = 0.6, 2**30
"""What a frame may take on one core, and a process at its peak."""
MOVIE_FRAMES, SCENES = 2030, 10
"""The whole movie, for which the minutes are worked out."""
SECONDS: dict[str, float] = {}
CHANNELS = ["SiR-DNA", "mKate", "TagGFP", "Oblique"]


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory):
    """A CZI of 4 frames: blurred noise, shot and read noise, offset 100, vignetting, stage errors up to 4 px."""
    import cv2

    from hyped_imaging.simulate.czi import CziSink

    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("mosaic") / "full.czi"
    y, x = np.mgrid[-1 : 1 : TILE[0] * 1j, -1 : 1 : TILE[1] * 1j]
    light = 1 - 0.25 * ((y - 0.1) ** 2 + (x + 0.2) ** 2)
    errors = rng.integers(0, 5, (ROWS * COLUMNS, 2))
    with CziSink(path, channels=CHANNELS, scenes=["S0"], pixel_size_um=1.0, name="full", bits=14,
                 first_frame="2025-01-01T00:00:00Z", seed=0) as sink:  # fmt: skip
        for frame, channel in itertools.product(range(FRAMES), range(len(CHANNELS))):
            plane = cv2.GaussianBlur(rng.standard_normal((2840, 3260)).astype(np.float32), (0, 0), 3)
            plane = 130 + 900 * np.clip(plane / plane.std(), 0, 4)
            for tile, (row, column) in enumerate(itertools.product(range(ROWS), range(COLUMNS))):
                top, left = row * STEP[0], column * STEP[1]
                ty, tx = top + errors[tile, 0], left + errors[tile, 1]
                mean = plane[ty : ty + TILE[0], tx : tx + TILE[1]] * light
                noisy = 100 + mean + rng.standard_normal(TILE, np.float32) * np.sqrt(8 * mean + 144)
                time = np.datetime64("2025-01-01", "us") + np.timedelta64(1200 * frame + tile, "s")
                sink.write_tile(np.clip(noisy, 0, 16383).astype(np.uint16), scene=0, frame=frame, channel=channel,
                                tile=tile, position_px=(left, top), time=time)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def prepared(mosaic):
    """Plan and calibration, which are made once a scene."""
    from hyped_imaging.readers import open_czi
    from hyped_imaging.stitch import StitchParams, plan_scene
    from hyped_imaging.stitch.calibrate import calibrate
    from hyped_imaging.stitch.source import TileSource

    params = StitchParams()
    with open_czi(mosaic) as czi:
        plan = plan_scene(czi, 0, params, default_design())
        return plan, params, calibrate(TileSource(czi, plan, params), params)


@pytest.mark.benchmark(group="czi to movie, one frame")
def test_hyped(benchmark, mosaic, prepared, tmp_path):
    """Ours: flat-field, offset, refined layout, feathering, drift's picture, pyramid. At most 0.6 s."""
    from hyped_core.container.movies import MovieWriter
    from hyped_imaging.readers.czi import choose_reader
    from hyped_imaging.stitch.job import StitchJob

    plan, params, calibration = prepared
    turn = itertools.cycle(range(FRAMES))
    with MovieWriter(tmp_path / "m.zarr", shape=plan.shape, dtype=np.uint16, channels=plan.channels,
                     pixel_size_um=1.0, time_h=plan.time_h) as writer:  # fmt: skip
        job = StitchJob(str(mosaic), choose_reader(), {}, plan, params, calibration, writer.handle(), {})
        with job.open() as work:
            for frame in range(FRAMES):
                work(frame)
            benchmark.pedantic(lambda: work(next(turn)), rounds=8, warmup_rounds=1)
    if benchmark.stats is not None:
        SECONDS["frame"] = benchmark.stats.stats.median
        assert SECONDS["frame"] <= FRAME_S


@pytest.mark.benchmark(group="czi to movie, one frame")
def test_pylibczirw_and_h5py(benchmark, mosaic, tmp_path):
    """pylibCZIrw composes each channel, h5py writes it with gzip 4."""
    h5py = pytest.importorskip("h5py")
    from pylibCZIrw import czi as pyczi

    turn = itertools.cycle(range(FRAMES))
    with pyczi.open_czi(str(mosaic)) as document:

        def frame():
            index = next(turn)
            with h5py.File(tmp_path / f"{index}.h5", "w") as file:
                for channel in range(len(CHANNELS)):
                    plane = document.read(plane={"T": index, "C": channel}, scene=0)[..., 0]
                    file.create_dataset(str(channel), data=plane, compression="gzip", compression_opts=4)

        benchmark.pedantic(frame, rounds=3)


@pytest.mark.benchmark(group="czi to movie, one frame")
def test_aicspylibczi_and_zarr(benchmark, mosaic, tmp_path):
    """aicspylibczi composes each channel, zarr writes it with its defaults, a chunk of 1024 x 1024."""
    aics = pytest.importorskip("aicspylibczi")
    import zarr

    document = aics.CziFile(str(mosaic))
    box = document.get_mosaic_scene_bounding_box(0)
    array = zarr.create_array(str(tmp_path / "m.zarr"), shape=(FRAMES, 4, box.h, box.w), dtype="u2",
                              chunks=(1, 1, 1024, 1024))  # fmt: skip
    turn = itertools.cycle(range(FRAMES))

    def frame():
        index = next(turn)
        for channel in range(len(CHANNELS)):
            plane = document.read_mosaic(region=(box.x, box.y, box.w, box.h), scale_factor=1.0, T=index, C=channel)
            array[index, channel] = plane.reshape(box.h, box.w)

    benchmark.pedantic(frame, rounds=3)


@pytest.mark.benchmark(group="calibration of a scene")
def test_calibration(benchmark, mosaic):
    """Illumination, offset and layout of a scene: once, whatever its number of frames."""
    from hyped_imaging.readers import open_czi
    from hyped_imaging.stitch import StitchParams, plan_scene
    from hyped_imaging.stitch.calibrate import calibrate
    from hyped_imaging.stitch.source import TileSource

    params = StitchParams()
    with open_czi(mosaic) as czi:
        plan = plan_scene(czi, 0, params, default_design())
        benchmark.pedantic(lambda: calibrate(TileSource(czi, plan, params), params), rounds=2)
    if benchmark.stats is not None and "frame" in SECONDS:
        seconds = MOVIE_FRAMES * SECONDS["frame"] + SCENES * benchmark.stats.stats.median
        benchmark.extra_info[f"minutes_of_{MOVIE_FRAMES}_frames_in_{SCENES}_scenes"] = round(seconds / 60, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.benchmark(group="hyped imaging stitch, a process of its own")
def test_worker(benchmark, mosaic, tmp_path):
    """The whole command on four frames, start, calibration and record of seams included: at most 1 GiB at its peak."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from hyped_core.cli.main import run\n"
        "code = run(['imaging', 'stitch', *sys.argv[1:]])\n"
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))\n"
        "sys.exit(code)\n"
    )
    turn = itertools.count()

    def run():
        out = Path(tmp_path, f"{next(turn)}.zarr")
        command = [sys.executable, "-c", code, str(mosaic), str(out), "--qc", str(out.with_suffix(".json"))]
        done = subprocess.run(command, capture_output=True, check=True, text=True, env=os.environ)
        return int(done.stdout.splitlines()[-1]) * 1024

    peak = benchmark.pedantic(run, rounds=2)
    benchmark.extra_info["peak_memory_mib"] = peak // 2**20
    assert peak <= WORKER_BYTES
