"""Images with structures of several scales, and a camera that takes them: the truth of the tests of ``photon``."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

SCENES = ("discs", "filaments", "smooth", "texture", "spots")

NOISELESS = (*SCENES, "ramp", "sharp", "saturated", "points", "many points", "fibres", "blocks", "waves")
"""What `noiseless` makes."""


def scene(kind, size=256, seed=0):
    """(size, size), about 0.05 to 1: nuclei, fibres, background alone, uneven texture, or points."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size]
    image = np.zeros((size, size))
    if kind == "discs":
        for _ in range(size * size // 2600):
            y, x, r = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(5, 15)
            image += rng.uniform(0.3, 1) / (1 + np.exp((np.hypot(yy - y, xx - x) - r) / 1.2))
    elif kind == "filaments":
        for _ in range(size // 10):
            at, angle = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi)
            for turn in rng.normal(0, 0.08, size):
                angle += turn
                at = at + [np.sin(angle), np.cos(angle)]
                image[tuple(at.astype(int) % size)] += 1
        image = gaussian_filter(image, 1.2)
        image /= np.quantile(image, 0.999)
    elif kind == "smooth":
        image = gaussian_filter(rng.standard_normal((size, size)), 20)
        image = (image - image.min()) / np.ptp(image)
    elif kind == "texture":
        fine, coarse = (gaussian_filter(rng.standard_normal((size, size)), sigma) for sigma in (2, 15))
        image = np.abs(fine * coarse)
        image /= np.quantile(image, 0.999)
    elif kind == "spots":
        image = gaussian_filter((rng.random((size, size)) < 0.004) * rng.uniform(0.3, 1, (size, size)), 1.5)
        image /= image.max()
    return np.clip(image, 0, 1.2) + 0.05


def noiseless(kind, size=256):
    """(size, size), 0 to about 1, without noise: the scenes, and structures that cover an image thinly or evenly."""
    rng = np.random.default_rng(3)
    yy, xx = np.mgrid[:size, :size]
    if kind in SCENES:
        return scene(kind, size)
    if kind == "ramp":
        image = yy + 2.0 * xx
    elif kind == "sharp":
        image = 1.0 * (scene("discs", size) > 0.5)
    elif kind == "saturated":
        image = np.minimum(scene("discs", size), 0.4)
    elif kind in ("points", "many points"):
        density = 0.004 if kind == "points" else 0.01
        image = gaussian_filter((rng.random((size, size)) < density) * rng.uniform(0.3, 1, (size, size)), 1.3)
    elif kind == "fibres":
        image = np.zeros((size, size))
        for angle, place in zip(rng.uniform(0, np.pi, 80), rng.uniform(-size, size, 80), strict=True):
            across = np.cos(angle) * (xx - size / 2) + np.sin(angle) * (yy - size / 2) - 0.7 * place
            image += rng.uniform(0.3, 1) * np.exp(-((across / rng.uniform(0.8, 1.5)) ** 2) / 2)
    elif kind == "blocks":
        image = np.kron(rng.integers(0, 2, (size // 8, size // 8)), np.ones((8, 8)))
    elif kind == "waves":
        image = 1 + np.sin(xx / 1.5) * np.sin(yy / 1.7)
    return image / image.max()


def expose(image, peak=50.0, gain=1.0, offset=0.0, read=1.0, blur=0.0, bits=None, seed=1, binned=False):
    """(clean, noisy) in camera units.

    ``peak`` photons at 1, ``gain`` units a photon, ``read`` noise in units. ``blur``: the noise is smoothed by a
    Gaussian of that width. ``binned``: taken at half the size and interpolated. ``bits``: rounded, and clipped at both
    ends.
    """
    rng = np.random.default_rng(seed)
    clean = image * peak * gain + offset
    if binned:
        size = image.shape[0] // 2
        small = image.reshape(size, 2, size, 2).mean((1, 3))
        taken = rng.poisson(small * peak) * gain + offset + read * rng.standard_normal(small.shape)
        noisy = zoom(taken, 2, order=1, grid_mode=True, mode="nearest")
    else:
        error = rng.poisson(image * peak) * gain - image * peak * gain + read * rng.standard_normal(image.shape)
        noisy = clean + (gaussian_filter(error, blur) if blur else error)
    if bits is not None:
        noisy = np.clip(np.round(noisy), 0, 2**bits - 1)
    return clean, noisy.astype(np.float32)
