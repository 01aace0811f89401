"""No damage to a CZI file ends the interpreter, hangs it or gets past it as another kind of error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hyped_imaging.simulate.czi import CziSink

SCRIPT = """
import random, struct, sys
from pathlib import Path
from hyped_core.errors import CorruptFileError, HypedError
from hyped_imaging.readers import open_czi

content = Path(sys.argv[1]).read_bytes()
target = Path(sys.argv[2])
directory, metadata = struct.unpack("<qq", content[84:100])
with open_czi(sys.argv[1]) as czi:
    blocks = czi.structure.table["position"].tolist()
places = [
    lambda r: r.randrange(len(content)), lambda r: directory + r.randrange(900),
    lambda r: r.choice(blocks) + r.randrange(500), lambda r: metadata + r.randrange(900), lambda r: r.randrange(600),
]
for seed in range(120):
    r = random.Random(seed)
    raw = bytearray(content)
    place = places[seed % len(places)]
    for _ in range(r.choice([1, 2, 10])):
        raw[min(place(r), len(raw) - 1)] = r.choice([0, 255, r.randrange(256)])
    target.write_bytes(raw)
    print(seed, flush=True)
    try:
        with open_czi(target, sys.argv[3]) as czi:
            for scene in czi.scenes:
                czi.tiles(scene.index), czi.time_h(scene.index)
                for frame in range(scene.n_frames):
                    try:
                        czi.read_tiles(scene.index, frame)
                    except CorruptFileError as error:
                        assert error.where == str(target) and error.mend
    except HypedError as error:
        assert error.where == str(target)
print("all read")
"""


@pytest.mark.parametrize("reader", ["aicspylibczi", "pylibczirw", "direct"])
def test_damaged_bytes_anywhere(tmp_path: Path, reader: str) -> None:
    if reader == "aicspylibczi":
        pytest.importorskip("aicspylibczi", reason="aicspylibczi is not installed")
    rng = np.random.default_rng(0)
    start = np.datetime64("2025-01-01", "us")
    with CziSink(tmp_path / "small.czi", channels=["a", "b"], scenes=["A", "B"], pixel_size_um=0.65, name="t",
                 first_frame="2025-01-01T00:00:00Z", seed=1) as sink:  # fmt: skip
        for scene, frame, channel, tile in np.ndindex(2, 2, 2, 2):
            sink.write_tile(
                rng.integers(0, 3000, (24, 30), dtype=np.uint16), scene=scene, frame=frame, channel=channel,
                tile=tile, position_px=(25 * tile, 100 * scene), time=start + np.timedelta64(20 * frame, "m"),
            )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "small.czi"), str(tmp_path / "hurt.czi"), reader],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.endswith("all read\n"), done.stdout[-20:] + done.stderr[-2000:]
