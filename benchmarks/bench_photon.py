"""The denoiser `photon` beside every control on real noisy and clean images of 512 x 512 pixels, and on a full frame.

Six fields of view with two exposures each (needs the public files in HYPED_PUBLIC_DATA). Quality is the field's mean
PSNR at data range 255, and no benchmark passes where `photon` is quick but in some field below a control or FM2S.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from benchmarks.bench_fm2s import CROPS_128
from benchmarks.calibrate_denoise import psnr, read_fields

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta

FOLDER = Path(os.environ.get("HYPED_PUBLIC_DATA", "")) / "denoise" / "fmd"
needs_fields = pytest.mark.skipif(not (FOLDER / "noisy").is_dir(), reason="HYPED_PUBLIC_DATA names no folder")
META = ImageMeta(data_range=(0.0, 255.0))
THREADS = 2
LIMIT_S = 2.0
"""Seconds an image of 512 x 512 pixels may take on `THREADS` threads."""
ABOVE_FM2S_DB = 0.8
"""Least lead over FM2S on crops of 128 pixels with all of its steps (`CROPS_128`), on the mean over the six fields."""
LIMIT_MB = 1500.0
"""Peak memory of a process that denoises a frame of 2826 x 3245 pixels."""
CONTROLS = ("identity", "median 3", "gaussian 1", "gaussian 1.5", "gaussian by risk", "tv 0.1", "tv", "nlm", "fm2s")


class ChambolleTenth:
    """Total variation of weight 0.1 on the unit range, whatever the noise."""

    def denoise(self, stack, meta, *, context):
        """(t, y, x) -> the same, float32."""
        from skimage.restoration import denoise_tv_chambolle

        return np.stack([denoise_tv_chambolle(plane / 255, 0.1) * 255 for plane in stack]).astype(np.float32)


def denoiser(name):
    """The control or `photon`."""
    from hyped_bench.controls import denoise, denoise_nlm, denoise_tv
    from hyped_imaging.denoise.fm2s.model import Fm2s
    from hyped_imaging.denoise.photon.model import Photon

    return {
        "identity": denoise.Identity,
        "median 3": denoise.Median,
        "gaussian 1": lambda: denoise.Gaussian(denoise.GaussianConfig(sigma_px=1.0)),
        "gaussian 1.5": lambda: denoise.Gaussian(denoise.GaussianConfig(sigma_px=1.5)),
        "gaussian by risk": denoise.Gaussian,
        "tv 0.1": ChambolleTenth,
        "tv": denoise_tv.TotalVariation,
        "nlm": denoise_nlm.NonLocalMeans,
        "fm2s": Fm2s,
        "photon": Photon,
    }[name]()


@cache
def fields():
    """(noisy, clean) pairs by field."""
    return read_fields(FOLDER)


@cache
def field_psnr(name):
    """Mean PSNR by field."""
    model, context = denoiser(name), RunContext(threads=THREADS)

    def score(noisy, clean):
        return psnr(model.denoise(noisy[None], META, context=context)[0], clean)

    return {field: float(np.mean([score(*pair) for pair in pairs])) for field, pairs in fields().items()}


@needs_fields
@pytest.mark.benchmark(group="denoising: one image of 512 x 512")
@pytest.mark.parametrize("name", [*CONTROLS, "photon"])
def test_one_image(benchmark, name):
    """A wide-field image, whose noise is correlated: the slowest kind."""
    noisy, _ = fields()["WideField_BPAE_G"][0]
    model, context = denoiser(name), RunContext(threads=THREADS)
    benchmark.pedantic(lambda: model.denoise(noisy[None], META, context=context), rounds=5, warmup_rounds=1)
    scores = field_psnr(name)
    benchmark.extra_info |= {"mean_psnr": round(float(np.mean(list(scores.values()))), 3)}
    benchmark.extra_info |= {field: round(value, 2) for field, value in scores.items()}
    if name == "photon":
        below = {(control, f) for control in CONTROLS for f in scores if field_psnr(control)[f] >= scores[f]}
        lead = np.mean([scores[f] - CROPS_128[f] for f in scores])
        assert not below and lead >= ABOVE_FM2S_DB, (below, lead)
        if benchmark.stats is not None:
            assert benchmark.stats.stats.min < LIMIT_S


@pytest.mark.benchmark(group="denoising: a frame of 2826 x 3245")
def test_full_frame(benchmark):
    """Time and peak memory of a process of its own (in which the kernels are compiled already)."""
    code = (
        "import resource, sys, numpy as np\n"
        "from hyped_core.context import RunContext\n"
        "from hyped_core.contracts import ImageMeta\n"
        "from hyped_imaging.denoise.photon.model import Photon\n"
        "yy, xx = np.mgrid[:2826, :3245]\n"
        "clean = 20 + 80 * (np.sin(yy / 9) * np.sin(xx / 11) > 0.5)\n"
        "frame = (np.random.default_rng(0).poisson(clean) * 4 + 100).astype(np.uint16)[None]\n"
        f"result = Photon().denoise(frame, ImageMeta(), context=RunContext(threads={THREADS}))[0]\n"
        "error = ((result - 4 * clean - 100) ** 2).mean() / ((frame[0] - 4.0 * clean - 100) ** 2).mean()\n"
        "assert error < 0.2, error\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == 'darwin' else 1e3))\n"
    )

    def run():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env=os.environ)
        return float(done.stdout)

    megabytes = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info["peak_mb"] = round(megabytes)
    assert megabytes < LIMIT_MB
