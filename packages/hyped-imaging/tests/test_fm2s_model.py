"""FM2S on images whose clean version is known, on bad input, over seeds, and through its weights' folder."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from hyped_core.context import RunContext  # noqa: E402
from hyped_core.contracts import Denoiser, ImageMeta  # noqa: E402
from hyped_core.errors import (  # noqa: E402
    CorruptFileError,
    InvalidDataError,
    MissingFileError,
    MissingHardwareError,
    ParamsError,
    UsageError,
)
from hyped_core.params import build  # noqa: E402
from hyped_imaging.denoise.fm2s import training  # noqa: E402
from hyped_imaging.denoise.fm2s.config import Fm2sConfig  # noqa: E402
from hyped_imaging.denoise.fm2s.model import Fm2s  # noqa: E402
from hyped_imaging.denoise.fm2s.target import median_filter  # noqa: E402

META = ImageMeta(channel="Cy5", data_range=(0, 16383))
QUICK = {"draws": 12, "crops": 2, "crop_px": 32}


def scene(shape=(96, 112), black=100.0, bright=150.0):
    """Discs in camera units: an offset of 100, about 1 % of 14 bits used."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    clean = np.full(shape, black + 0.1 * bright)
    for y, x, r, level in [(25, 30, 12, 0.5), (60, 70, 16, 1.0), (30, 90, 9, 0.3)]:
        clean += bright * level / (1 + np.exp(np.hypot(yy - y, xx - x) - r))
    return clean


def expose(clean, gain=2.0, read=3.0, seed=0, black=100.0):
    rng = np.random.default_rng(seed)
    noisy = rng.poisson(np.maximum(clean - black, 0) / gain) * gain + black + read * rng.standard_normal(clean.shape)
    return np.clip(np.rint(noisy), 0, 16383).astype(np.uint16)


def denoised(stack, seed=0, **values):
    return Fm2s(Fm2sConfig(**{**QUICK, **values})).denoise(stack, META, context=RunContext(seed=seed))


@pytest.mark.parametrize("mode", ["fast", "series"])
def test_error_falls_and_brightness_stays_on_a_camera_with_an_offset(mode):
    clean = scene()
    noisy = expose(clean)[None]
    before = noisy.copy()
    out = denoised(noisy, mode=mode, draws=60)
    assert isinstance(Fm2s(), Denoiser)
    assert out.shape == noisy.shape and out.dtype == np.float32 and np.array_equal(noisy, before)
    assert np.mean((out[0] - clean) ** 2) < 0.25 * np.mean((noisy[0] - clean) ** 2)
    assert np.mean((out[0] - clean) ** 2) < np.mean((median_filter(noisy[0].astype(np.float32), 3) - clean) ** 2)
    assert abs(out.mean() - noisy.mean()) < 0.5  # the camera's units: nothing is cut down to whole levels


def test_paper_keeps_eight_bits_and_cuts_down_to_levels():
    noisy = np.clip(expose(scene((40, 44), black=0, bright=180), gain=8, black=0), 0, 255).astype(np.uint8)[None]
    values = {"mode": "paper", "microscope": "confocal", "draws": 8, "crop_px": 0, "crops": 1}
    cut = denoised(noisy, **values)
    assert np.allclose(cut, np.rint(cut), atol=1e-3) and cut.min() >= 0 and cut.max() <= 255
    free = denoised(noisy, **values, truncate=False)
    lost = free - cut
    assert lost.min() > -1e-3 and lost.max() < 1 + 1e-3 and 0.4 < lost.mean() < 0.6


def test_paper_takes_five_real_steps_and_five_for_each_draw_on_the_whole_image(monkeypatch):
    steps, drawn = [], []
    plain_step, plain_noise = torch.optim.Adam.step, training.add_noise

    def step(self, *args):
        steps.append(self.param_groups[0]["lr"])
        return plain_step(self, *args)

    def noise(*args):
        drawn.append(tuple(args[0].shape))
        return plain_noise(*args)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    monkeypatch.setattr(training, "add_noise", noise)
    values = Fm2sConfig(mode="paper", microscope="wide_field").with_defaults()
    assert (values.draws, values.steps_per_draw, values.real_steps, values.crop_px) == (450, 5, 5, 0)
    config = values.model_copy(update={"draws": 9})
    Fm2s(config).denoise(np.arange(300).reshape(1, 12, 25).astype(np.uint8), META, context=RunContext())
    assert len(steps) == 5 + 9 * 5 and set(steps) == {1e-3}
    assert drawn == [(1, 1, 12, 25)] * 9


@pytest.mark.parametrize("mode", ["fast", "series"])
def test_a_seed_means_the_same_bytes_whatever_the_threads(mode):
    stack = np.stack([expose(scene((40, 44)), seed=k) for k in range(2)])
    one = denoised(stack, seed=1, mode=mode)
    assert one.tobytes() == denoised(stack, seed=1, mode=mode).tobytes()
    assert not np.array_equal(one, denoised(stack, seed=2, mode=mode))
    if mode == "fast":  # every image by itself
        assert np.array_equal(one[1], denoised(stack[1:], seed=1)[0])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 45), st.integers(1, 45)),
    st.sampled_from(["uint8", "uint16", "int16", "float32", "float64"]),
    st.sampled_from(["noise", "ramp", "saturated", "constant", "negative", "spike"]),
    st.sampled_from(["fast", "series", "paper"]),
    st.integers(0, 99),
)
def test_shape_type_and_range_are_kept(shape, dtype, kind, mode, seed):
    rng = np.random.default_rng(seed)
    top = 255 if dtype == "uint8" else 4095
    values = {
        "noise": lambda: rng.poisson(20, shape),
        "ramp": lambda: np.arange(np.prod(shape)).reshape(shape) % (top + 1),
        "saturated": lambda: np.where(rng.random(shape) < 0.5, top, rng.poisson(20, shape)),
        "constant": lambda: np.full(shape, 7),
        "negative": lambda: rng.normal(0, 20, shape) - (0 if dtype.startswith("u") else 50),
        "spike": lambda: np.where(np.arange(np.prod(shape)).reshape(shape) == 0, top, 3),
    }[kind]()
    stack = np.clip(values, 0 if dtype.startswith("u") else -1000, top).astype(dtype)
    before = stack.copy()
    extra = {"microscope": "confocal", "draws": 1} if mode == "paper" else {"draws": 3}
    config = Fm2sConfig(mode=mode, crops=1, crop_px=24, **extra)
    out = Fm2s(config).denoise(stack, ImageMeta(data_range=(0, top)), context=RunContext(seed=seed))
    assert out.shape == shape and out.dtype == np.float32 and np.isfinite(out).all()
    assert np.array_equal(stack, before)
    if mode == "paper":
        assert out.min() >= 0 and out.max() <= top * 1.00001
    else:
        assert out.min() >= stack.min() and out.max() <= stack.max()
        if kind == "constant":
            assert np.array_equal(out, stack.astype(np.float32))


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((1, 0, 4)), np.full((1, 8, 8), np.nan)])
def test_what_cannot_be_denoised_is_named(bad):
    with pytest.raises(InvalidDataError, match="fm2s"):
        denoised(bad)


def discs():
    clean = scene((64, 72))
    return clean, expose(clean)


def few_bright_photons():
    """A dark plane with a few very bright spots: what makes small crops diverge."""
    clean = np.full((64, 64), 1.0)
    clean[10:13, 40:43], clean[50:52, 9:11], clean[30, 30] = 120, 220, 250
    return clean, np.clip(np.random.default_rng(5).poisson(clean / 4) * 4, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("image", [discs, few_bright_photons])
def test_no_seed_is_worse_than_the_filter_because_trainings_are_watched(image, monkeypatch):
    """At the default rate and at one that throws every training off; unwatched, the latter is far below the filter."""
    clean, noisy = image()

    def psnr(result):
        return 10 * np.log10(np.ptp(clean) ** 2 / np.mean((result - clean) ** 2))

    def over_seeds(rate):
        return [psnr(denoised(noisy[None], seed, learning_rate=rate, attempts=2)[0]) for seed in range(8)]

    limit = psnr(median_filter(noisy.astype(np.float32), 3))
    assert min(over_seeds(3e-3)) > limit + 1
    assert min(over_seeds(1.0)) > limit - 0.1

    judge, looks = training.Watch.judge, iter(range(10**6))

    def pleased(self, network, attempt):  # every look finds the network better than the one before
        return replace(judge(self, network, attempt), loss=-float(next(looks)), real_loss=0.0)

    monkeypatch.setattr(training.Watch, "judge", pleased)
    unwatched = over_seeds(1.0)
    assert max(unwatched) < limit - 0.5 and np.median(unwatched) < limit - 5


def test_a_training_that_fails_is_repeated_and_then_given_up(monkeypatch, caplog):
    noisy = expose(scene((48, 48)))[None]
    plain = training._attempt

    def broken(until):
        def attempt(*args):
            network, outcome = plain(*args)
            if args[-1] < until:
                with torch.no_grad():
                    network[4].bias.fill_(50.0)
                outcome = args[-2].judge(network, args[-1] + 1)
            return network, outcome

        return attempt

    monkeypatch.setattr(training, "_attempt", broken(1))
    model = Fm2s(Fm2sConfig(**QUICK))
    with caplog.at_level(logging.WARNING):
        model.denoise(noisy, META, context=RunContext())
    assert model.outcomes[0].accepted and model.outcomes[0].attempts == 2 and "1 of 3 is discarded" in caplog.text
    monkeypatch.setattr(training, "_attempt", broken(99))
    with caplog.at_level(logging.WARNING):
        out = model.denoise(noisy, META, context=RunContext())
    assert not model.outcomes[0].accepted and model.outcomes[0].attempts == 3 and "noise" in model.outcomes[0].reason
    assert "median-filtered image is the result" in caplog.text
    assert np.array_equal(out[0], median_filter(noisy[0].astype(np.float32), 3))
    with pytest.raises(UsageError):
        model.save("nowhere")


def test_weights_come_back_and_serve_another_frame(tmp_path):
    stack = np.stack([expose(scene((50, 60)), seed=k) for k in range(3)])
    model = Fm2s(Fm2sConfig(mode="series", **QUICK))
    with pytest.raises(UsageError, match="nothing was learnt"):
        model.save(tmp_path / "none")
    model.fit(stack, META, context=RunContext())
    first = model.denoise(stack, META, context=RunContext(seed=9))
    model.save(tmp_path / "w")
    again = Fm2s(Fm2sConfig(weights=str(tmp_path / "w")))
    assert np.array_equal(again.denoise(stack[2:], META, context=RunContext()), first[2:])
    assert again.outcomes == ()
    facts = json.loads((tmp_path / "w/fm2s.json").read_text())
    assert facts["constants"]["filter_px"] == 3 and facts["scaling"]["unit"] > 0

    with pytest.raises(MissingFileError, match="fm2s.json"):
        again.load(tmp_path)
    facts["constants"]["channels"] = 2
    (tmp_path / "w/fm2s.json").write_text(json.dumps(facts))
    with pytest.raises(CorruptFileError, match="2 channels"):
        again.load(tmp_path / "w")
    (tmp_path / "w/fm2s.json").write_text('{"format": "other"}')
    with pytest.raises(InvalidDataError, match="other"):
        again.load(tmp_path / "w")
    (tmp_path / "w/weights.safetensors").write_bytes(b"no")
    (tmp_path / "w/fm2s.json").write_text(json.dumps({**facts, "format": "hyped-fm2s-1"}))
    with pytest.raises(CorruptFileError, match="weights.safetensors"):
        again.load(tmp_path / "w")


def test_progress_is_reported():
    seen = []

    class Progress:
        def track(self, items, description, total=None):
            seen.append((description, total))
            yield from items

    Fm2s(Fm2sConfig(**QUICK)).denoise(expose(scene((40, 40)))[None], META, context=RunContext(progress=Progress()))
    assert seen == [("fm2s", 12)]


def test_what_cannot_be_computed_in_bf16_is_refused():
    stack = expose(scene((20, 20)))[None]
    for call in ("denoise", "fit"):
        with pytest.raises(MissingHardwareError, match="bf16 is for a GPU, and the device is cpu"):
            getattr(Fm2s(Fm2sConfig(precision="bf16", mode="series")), call)(stack, META, context=RunContext())
    with pytest.raises(ParamsError, match="fp32, as published"):
        build(Fm2sConfig, {"mode": "paper", "microscope": "confocal", "precision": "bf16"})


def test_paper_stays_within_the_camera_s_range_and_the_others_within_the_frame_s():
    noisy = np.random.default_rng(0).normal(200, 60, (1, 24, 24)).astype(np.float32)
    meta = ImageMeta(data_range=(150, 250))
    paper = Fm2s(Fm2sConfig(mode="paper", microscope="confocal", draws=2, truncate=False))
    out = paper.denoise(noisy, meta, context=RunContext())
    assert noisy.min() < 150 and noisy.max() > 250
    assert out.min() >= 150 and out.max() <= 250.001
    out = Fm2s(Fm2sConfig(**QUICK)).denoise(noisy, meta, context=RunContext())
    assert out.min() >= noisy.min() and out.max() <= noisy.max()
    assert np.ptp(out) > 0


def test_parameters_need_no_torch():
    code = "import sys, hyped_imaging.denoise.fm2s.model; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
