"""One plane: better than simple filters wherever the noise comes from, and nothing lost where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, median_filter
from tests.photon_scenes import SCENES, expose, scene

from hyped_imaging.denoise.photon.single import BAND, Passes, corners, denoise_plane
from hyped_imaging.denoise.physics import estimate_noise

CAMERAS = {
    "photons": dict(peak=50, read=1),
    "few photons": dict(peak=5, read=0.5),
    "12 bit": dict(peak=1000, gain=4, offset=50, read=4, bits=12),
    "14 bit": dict(peak=500, gain=8, offset=100, read=12, bits=14),
    "8 bit": dict(peak=100, gain=0.3, offset=2, read=0.3, bits=8),
    "8 bit, clipped": dict(peak=10, gain=20, offset=0, read=5, bits=8),
    "read noise": dict(peak=10_000, gain=0.01, offset=100, read=10),
    "smoothed 0.5": dict(peak=50, read=2, blur=0.5),
    "smoothed 0.8": dict(peak=50, read=2, blur=0.8),
    "binned": dict(peak=20, read=1, binned=True),
}


def denoised(noisy, **passes):
    return denoise_plane(noisy, estimate_noise(noisy), Passes(**passes))


def psnr(image, clean):
    return 10 * np.log10(np.ptp(clean) ** 2 / np.mean((image - clean) ** 2))


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("kind", SCENES)
def test_no_worse_than_the_best_simple_filter(camera, kind):
    """The best of median 3 and Gaussians 1 and 1.5, chosen knowing the truth; beaten, or level at the least light."""
    clean, noisy = expose(scene(kind, 192), **CAMERAS[camera])
    simple = max(
        psnr(median_filter(noisy, 3), clean), *(psnr(gaussian_filter(noisy, sigma), clean) for sigma in (1, 1.5))
    )
    # texture everywhere under noise that is as wide as it: what is noise cannot be seen in one image
    lost = (camera, kind) == ("smoothed 0.8", "texture")
    score = psnr(denoised(noisy), clean)
    assert score > simple - (1.0 if lost else 0.15)
    assert score > psnr(noisy, clean) or lost


@pytest.mark.parametrize("kind", ["discs", "smooth"])
def test_far_better_than_simple_filters_on_nuclei_and_background(kind):
    clean, noisy = expose(scene(kind, 192), peak=50, read=1)
    simple = max(psnr(gaussian_filter(noisy, sigma), clean) for sigma in (1, 1.5))
    assert psnr(denoised(noisy), clean) > simple + 1.5


def test_noise_that_the_patches_share_goes_at_the_coarser_scales():
    clean, noisy = expose(scene("smooth", 192), peak=20, read=2, blur=0.8)
    assert psnr(denoised(noisy, scales=3), clean) > psnr(denoised(noisy, scales=1), clean) + 1.5


@pytest.mark.parametrize("shape", [(8, 8), (9, 40), (130, 8), (61, 67), (200, 33)])
def test_every_pixel_of_odd_shapes_is_filtered(shape):
    rng = np.random.default_rng(3)
    noisy = (100 + 5 * rng.standard_normal(shape)).astype(np.float32)
    result = denoised(noisy)
    assert result.shape == shape and result.dtype == np.float32 and np.isfinite(result).all()
    assert result.std() < 0.8 * noisy.std()


def test_threads_change_nothing():
    _, noisy = expose(scene("discs", 360), peak=20)
    noise = estimate_noise(noisy)
    assert len(corners(360, Passes().step)) > 2 * BAND
    one, four = (denoise_plane(noisy, noise, Passes(), threads) for threads in (1, 4))
    assert np.array_equal(one, four)


def test_corners_reach_the_edge():
    for edge in range(8, 40):
        at = corners(edge, 4)
        assert at[0] == 0 and at[-1] == edge - 8 and np.all(np.diff(at) <= 4) and np.all(np.diff(at) > 0)
