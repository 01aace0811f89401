"""FM2S's parts against what is published of it, and against what noise and tiles have to satisfy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndi

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from hyped_core.context import RunContext  # noqa: E402
from hyped_core.errors import MissingHardwareError, ParamsError  # noqa: E402
from hyped_core.params import build  # noqa: E402
from hyped_imaging.denoise.fm2s.config import Fm2sConfig  # noqa: E402
from hyped_imaging.denoise.fm2s.constants import AVERAGES, PUBLISHED, Constants, published  # noqa: E402
from hyped_imaging.denoise.fm2s.inference import apply_mirrored, apply_network, device_of  # noqa: E402
from hyped_imaging.denoise.fm2s.network import REACH_PX, make_network  # noqa: E402
from hyped_imaging.denoise.fm2s.noise import add_noise, block_levels  # noqa: E402
from hyped_imaging.denoise.fm2s.target import median_filter  # noqa: E402

CPU = torch.device("cpu")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("channels", "weights"), [(1, 3529), (2, 4430), (6, 8034)])
def test_the_network_has_the_published_number_of_weights(channels, weights):
    assert sum(w.numel() for w in make_network(channels, seeded()).parameters()) == weights


def test_a_pixel_reaches_five_pixels_and_no_farther():
    network = make_network(1, seeded())
    plane = torch.rand(1, 1, 31, 31, generator=seeded(1)).requires_grad_()
    network(plane)[0, 0, 15, 15].backward()
    touched = np.argwhere(plane.grad[0, 0].numpy() != 0)
    assert touched.min() == 15 - REACH_PX and touched.max() == 15 + REACH_PX == 20


def test_published_constants():
    assert published("confocal") == Constants(3, 2, 75, 200, 30, 70)
    assert published("confocal", 16) == Constants(3, 2, 75, 5, 650, 1400)
    assert published("two_photon", 8) == Constants(3, 2, 75, 20, 185, 600)
    assert published("wide_field", 4) == Constants(11, 1, 75, 60, 650, 3500)
    assert published("base") == Constants(3, 6, 5, 60, 40, 125)
    assert all(tuple(PUBLISHED[name]) == AVERAGES for name in ("confocal", "two_photon", "wide_field"))
    with pytest.raises(ParamsError, match="base for 2"):
        published("base", 2)
    with pytest.raises(ParamsError, match="light_sheet"):
        published("light_sheet")


@pytest.mark.parametrize(
    "values", [{"mode": "paper"}, {"filter_px": 4}, {"microscope": "base", "average": 2}, {"microscope": "x"}]
)
def test_parameters_that_make_no_sense(values):
    with pytest.raises(ParamsError):
        build(Fm2sConfig, values)


@pytest.mark.parametrize("constants", [published("confocal"), published("wide_field"), published("base")])
def test_made_noise_has_the_mean_and_the_variance_the_constants_say(constants):
    """By block: variance v m / k_p + (k_g m / 255)^2 + v / lambda_p at intensity v in a block of mean m."""
    side = 5 if constants.block_px == 5 else 75
    for value in (0.1, 0.3):
        clean = torch.full((1, 1, 10 * side, 10 * side), value)
        levels = block_levels(clean, side)
        m = min(value, 0.15)
        assert torch.allclose(levels, torch.tensor(m), rtol=1e-3)
        wide = (-9.0, 9.0)  # without clipping, which moves mean and variance
        repeats = 60 if side == 5 else 1
        noisy = torch.stack([add_noise(clean, levels, constants, seeded(k), wide) for k in range(repeats)])
        expected = value * m / constants.k_p + (constants.k_g * m / 255) ** 2 + value / constants.lambda_p
        assert float(noisy.mean()) == pytest.approx(value, rel=0.02)
        assert float(noisy.var()) == pytest.approx(expected, rel=0.06)
        clipped = add_noise(clean, levels, constants, seeded())
        assert float(clipped.min()) >= 0 and float(clipped.max()) <= 1


def test_noise_is_independent_between_pixels_and_channels():
    clean = torch.full((1, 2, 300, 300), 0.3)
    noisy = (add_noise(clean, block_levels(clean, 75), published("confocal"), seeded()) - 0.3).numpy()[0]
    assert abs(np.corrcoef(noisy[0].ravel(), noisy[1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noisy[0, :, 1:].ravel(), noisy[0, :, :-1].ravel())[0, 1]) < 0.02


def test_levels_are_means_of_blocks_padded_with_zeros():
    plane = np.random.default_rng(0).random((80, 100)).astype(np.float32) * 0.2
    levels = block_levels(torch.from_numpy(plane)[None, None], 75)[0, 0].numpy()
    assert levels[0, 0] == pytest.approx(plane[:75, :75].mean(), rel=1e-5)
    assert levels[79, 99] == pytest.approx(plane[75:, 75:].sum() / 75**2, rel=1e-5)
    assert len(np.unique(levels)) == 4


@pytest.mark.parametrize("width", [1, 3, 5, 7, 11])
@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (37, 50)])
def test_median_is_scipys(width, shape):
    rng = np.random.default_rng(width)
    whole = rng.integers(0, 256, shape).astype(np.float32)
    assert np.array_equal(median_filter(whole, width), ndi.median_filter(whole, width, mode="reflect"))
    fine = rng.gamma(2.0, 300.0, shape).astype(np.float32) - 100
    off = np.abs(median_filter(fine, width) - ndi.median_filter(fine, width, mode="reflect"))
    assert off.max() <= (0 if width <= 5 else np.ptp(fine) / 4000)


@pytest.mark.parametrize("apply", [apply_network, apply_mirrored])
@pytest.mark.parametrize("tile", [16, 61])
def test_tiles_give_what_the_whole_plane_gives(apply, tile):
    network = make_network(2, seeded()).to(memory_format=torch.channels_last)
    plane = np.random.default_rng(0).random((97, 130)).astype(np.float32)
    whole = apply(network, plane, 2, device=CPU, tile_px=1000)
    assert np.allclose(apply(network, plane, 2, device=CPU, tile_px=tile), whole, atol=1e-6)
    if apply is apply_network:
        with torch.inference_mode():
            direct = network(torch.from_numpy(plane).expand(1, 2, -1, -1)).mean(1)[0].numpy()
        assert np.allclose(whole, direct, atol=1e-6)


def test_a_device_that_is_not_here():
    with pytest.raises(ParamsError, match="toaster"):
        device_of("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(MissingHardwareError, match="cuda"):
            device_of("cuda")


def test_seeds_are_streams_of_the_context():
    from hyped_imaging.denoise.fm2s.training import generator_for

    one, again, other = (generator_for(RunContext(seed=s), "cpu", "noise", 0).initial_seed() for s in (1, 1, 2))
    assert one == again != other
