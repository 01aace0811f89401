"""At ``scale: full`` frames stream into the file: the peak of memory does not depend on how many there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import resource, sys
from pathlib import Path
from hyped_core.context import RunContext
from hyped_core.design import default_design
from hyped_imaging.simulate.params import SimulateParams
from hyped_imaging.simulate.run import simulate

folder, frames = Path(sys.argv[1]), int(sys.argv[2])
params = SimulateParams.model_validate({
    "scale": "full", "scenes": ["S0"], "workers": 2, "timing": {"n_frames": frames},
    "mosaic": {"rows": 2, "columns": 2}, "nuclei": {"founders_per_mm2": 20.0},
})
simulate(folder / "raw", folder / "truth", default_design(), params, RunContext(seed=0))
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.is_file() else []
peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
print(peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
"""Prints the peak in KiB. VmHWM, since ru_maxrss of a child starts from what its parent held on Linux."""

FRAME_MIB = 4 * 4 * 516 * 705 * 2 / 2**20
"""Raw pixels of one frame: 4 channels of 4 tiles, two bytes each."""


def peak_mib(folder: Path, frames: int) -> float:
    """Peak resident memory of a process that simulates so many frames."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(frames)],
        env={**os.environ, **threads, "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the units of the peak are those of Linux")
def test_peak_memory_does_not_grow_with_the_frames(tmp_path: Path) -> None:
    few, many = peak_mib(tmp_path / "few", 3), peak_mib(tmp_path / "many", 12)
    kept = 9 * FRAME_MIB
    assert many - few < kept / 3, f"{few:.0f} MiB with 3 frames, {many:.0f} with 12; all kept would be {kept:.0f} more"
