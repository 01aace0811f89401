"""Scores of the denoiser `photon` on real fields with the field that is scored left out of the choice of its constants.

    HYPED_PUBLIC_DATA=... python benchmarks/calibrate_denoise.py

Six fields of view, two exposures each (the unit is the field), PSNR against the clean image with data range 255. Every
combination of `CANDIDATES` is tried; for each field the one with the best mean over the other five is scored on it.
What ships (`hyped_imaging.denoise.photon.single.Passes`) and the best over all six are printed beside. Takes a few
minutes on one core.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skimage.io import imread

from hyped_imaging.denoise.photon.single import Passes, denoise_plane
from hyped_imaging.denoise.physics import estimate_noise

CANDIDATES: dict[tuple[str, ...], tuple[tuple, ...]] = {
    ("threshold",): ((2.8,), (3.0,)),
    ("threshold_correlated",): ((2.8,), (3.1,)),
    ("first", "later"): ((16, 32), (32, 64)),
    ("low", "high"): ((0.3, 0.7), (0.5, 0.9)),
}
"""Constants of `Passes`, and what is tried for each."""


def read_fields(folder: Path) -> dict[str, list[tuple[npt.NDArray, npt.NDArray]]]:
    """(noisy, clean) pairs by field: the file's name without its trailing number."""
    fields: dict[str, list[tuple[npt.NDArray, npt.NDArray]]] = {}
    for path in sorted((folder / "noisy").glob("*.png")):
        pair = imread(path).astype(np.float32), imread(folder / "clean" / path.name).astype(np.float64)
        fields.setdefault(path.stem.rsplit("_", 1)[0], []).append(pair)
    return fields


def psnr(image: npt.NDArray, clean: npt.NDArray) -> float:
    """Decibels at data range 255, the image clipped to it."""
    return float(10 * np.log10(255**2 / np.mean((np.clip(image, 0, 255) - clean) ** 2)))


def field_scores(fields: dict[str, list[tuple[npt.NDArray, npt.NDArray]]], passes: Passes) -> list[float]:
    """Mean PSNR of each field's exposures."""
    return [
        float(np.mean([psnr(denoise_plane(noisy, estimate_noise(noisy), passes), clean) for noisy, clean in pairs]))
        for pairs in fields.values()
    ]


def grid() -> Iterator[Passes]:
    """Every combination of the candidates."""
    for values in product(*CANDIDATES.values()):
        numbers: dict = {}
        for name, value in zip(CANDIDATES, values, strict=True):
            numbers |= dict(zip(name, value, strict=True))
        yield replace(Passes(), **numbers)


def main() -> None:
    """Print left-out scores, those of the shipped constants, and the best over all fields."""
    folder = Path(os.environ.get("HYPED_PUBLIC_DATA", "")) / "denoise" / "fmd"
    fields = read_fields(folder)
    if not fields:
        sys.exit("HYPED_PUBLIC_DATA names no folder with denoise/fmd/noisy and clean")
    tried = list(grid())
    scores = np.array([field_scores(fields, passes) for passes in tried])
    shipped = field_scores(fields, Passes())
    sys.stdout.write(f"{len(tried)} combinations of {CANDIDATES}\n{'field':<20} left out  shipped  chosen without it\n")
    left_out = []
    for k, name in enumerate(fields):
        others = np.delete(scores, k, axis=1).mean(axis=1)
        best = int(np.argmax(others))
        left_out.append(scores[best, k])
        chosen = {name: getattr(tried[best], name) for names in CANDIDATES for name in names}
        sys.stdout.write(f"{name:<20} {scores[best, k]:8.2f} {shipped[k]:8.2f}  {chosen}\n")
    sys.stdout.write(f"{'mean':<20} {np.mean(left_out):8.3f} {np.mean(shipped):8.3f}\n")
    best = int(np.argmax(scores.mean(axis=1)))
    sys.stdout.write(f"best over all: {scores[best].mean():.3f} with {tried[best]}\n")
    for names, values in CANDIDATES.items():
        for value in values:
            rows = [i for i, one in enumerate(tried) if tuple(getattr(one, name) for name in names) == value]
            sys.stdout.write(f"  {', '.join(names)} = {value}: mean {scores[rows].mean():.3f}\n")


if __name__ == "__main__":
    main()
