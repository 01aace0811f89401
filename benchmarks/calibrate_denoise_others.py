"""What FM2S, `tv` and `nlm` score on real fields: the published recipe on crops, and the constants that were chosen.

    HYPED_PUBLIC_DATA=... python benchmarks/calibrate_denoise_others.py crops --seeds 0 1 2
    HYPED_PUBLIC_DATA=... python benchmarks/calibrate_denoise_others.py excess tv nlm

Six fields of view, two exposures each (the unit is the field), PSNR against the clean image with data range 255.
WideField_BPAE_B_1 and _2 are byte-identical files, one exposure: it is computed once.

- ``crops``: FM2S as published (`Fm2sConfig.mode` ``paper``, all steps, constants of the microscope, results cut down to
  whole levels) but on random crops of 128 pixels, since whole images take minutes. Median over the seeds of each file,
  then mean of a field's files; also the mean over fields of each seed. 15 to 25 s an image and seed on one core, so a
  quarter of an hour for three seeds; ``--fields`` takes some of them. Other random numbers move an image by up to
  3 dB, and now and then a training runs away for good, since nothing watches it (WideField_BPAE_B at seed 2: 15.6 dB):
  hence the median.
- ``excess``: how far FM2S's made noise exceeds the measured one (`hyped_imaging.denoise.fm2s.estimate.EXCESS`), mode
  ``fast``: 1.5 s an image, seed and value, 3 minutes for two seeds.
- ``tv``, ``nlm``: `strength` of the controls; a minute each.

The last three print every value's mean, and for each field the score of the value that is best on the other five.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from calibrate_denoise import psnr, read_fields
from skimage.metrics import structural_similarity
from threadpoolctl import threadpool_limits

from hyped_bench.controls.denoise_nlm import NonLocalMeans, NonLocalMeansConfig
from hyped_bench.controls.denoise_tv import TotalVariation, TotalVariationConfig
from hyped_core.context import RunContext
from hyped_core.contracts import Denoiser, ImageMeta
from hyped_imaging.denoise.fm2s import estimate
from hyped_imaging.denoise.fm2s.config import Fm2sConfig
from hyped_imaging.denoise.fm2s.model import Fm2s

META = ImageMeta(data_range=(0, 255))
MICROSCOPES = {"Confocal": "confocal", "TwoPhoton": "two_photon", "WideField": "wide_field"}
EXCESS = (1.05, 1.25, 1.5, 2.0, 3.0)
STRENGTHS = {"tv": (1.2, 1.4, 1.6, 1.8, 2.1), "nlm": (0.6, 0.8, 0.9, 1.0, 1.3)}
SHIPPED = {"excess": estimate.EXCESS, "tv": TotalVariationConfig().strength, "nlm": NonLocalMeansConfig().strength}

Pairs = list[tuple[npt.NDArray, npt.NDArray]]


def say(text: str) -> None:
    """A line, at once: some parts take long."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def ssim(image: npt.NDArray, clean: npt.NDArray) -> float:
    """With data range 255, the image clipped to it."""
    return float(structural_similarity(np.clip(image, 0, 255).astype(np.float64), clean, data_range=255))


def per_exposure(
    pairs: Pairs, score: Callable[[npt.NDArray, npt.NDArray], tuple[float, ...]]
) -> list[tuple[float, ...]]:
    """Scores of each file; those of identical files are computed once."""
    known: dict[bytes, tuple[float, ...]] = {}
    for noisy, clean in pairs:
        if noisy.tobytes() not in known:
            known[noisy.tobytes()] = score(noisy, clean)
    return [known[noisy.tobytes()] for noisy, _ in pairs]


def denoised(model: Denoiser, noisy: npt.NDArray, seed: int = 0) -> npt.NDArray:
    """One 8-bit image, on one thread."""
    with threadpool_limits(1):
        return model.denoise(noisy.astype(np.uint8)[None], META, context=RunContext(seed=seed, threads=1))[0]


def quality(config: Fm2sConfig, seed: int, noisy: npt.NDArray, clean: npt.NDArray) -> tuple[float, ...]:
    """PSNR and SSIM of FM2S."""
    result = denoised(Fm2s(config), noisy, seed)
    return psnr(result, clean), ssim(result, clean)


def crops(fields: dict[str, Pairs], seeds: Sequence[int]) -> None:
    """FM2S as published on crops of 128."""
    found: dict[str, npt.NDArray] = {}
    for name, pairs in fields.items():
        config = Fm2sConfig(mode="paper", microscope=MICROSCOPES[name.split("_")[0]], crop_px=128)  # type: ignore[arg-type]
        by_seed = []
        for seed in seeds:
            by_seed.append(per_exposure(pairs, partial(quality, config, seed)))
            say(f"{name:<20} seed {seed}: " + ", ".join(f"{p:.2f} dB {s:.3f}" for p, s in by_seed[-1]))
        found[name] = np.array(by_seed)  # (seed, file, PSNR and SSIM)
    for name, values in found.items():
        p, s = np.median(values, axis=0).mean(axis=0)
        say(f"{name:<20} {p:8.3f} dB  SSIM {s:.4f}")
    p, s = np.mean([np.median(values, axis=0).mean(axis=0) for values in found.values()], axis=0)
    means = [np.mean([values[k, :, 0].mean() for values in found.values()]) for k in range(len(seeds))]
    widest = max(float(np.ptp(values[..., 0], axis=0).max()) for values in found.values())
    say(f"{'mean':<20} {p:8.3f} dB  SSIM {s:.4f}")
    say("mean over fields by seed: " + ", ".join(f"{k}: {m:.2f}" for k, m in zip(seeds, means, strict=True)))
    say(f"largest difference between seeds on one image: {widest:.2f} dB")


def left_out(part: str, values: Sequence[float], scores: npt.NDArray, names: Sequence[str]) -> None:
    """Print what each value scores, and each field by the value best on the others.

    Parameters
    ----------
    scores
        (value, field).
    """
    shipped = list(values).index(SHIPPED[part])
    for value, row in zip(values, scores, strict=True):
        say(f"{part} {value:<5} mean {row.mean():.3f}  " + " ".join(f"{v:.2f}" for v in row))
    kept = []
    for k, name in enumerate(names):
        best = int(np.argmax(np.delete(scores, k, axis=1).mean(axis=1)))
        kept.append(scores[best, k])
        say(f"{name:<20} left out {kept[-1]:.2f} ({values[best]})  shipped {scores[shipped, k]:.2f}")
    say(f"{'mean':<20} left out {np.mean(kept):.3f}  shipped {scores[shipped].mean():.3f} ({values[shipped]})")


def field_means(fields: dict[str, Pairs], make: Callable[[], Denoiser], seeds: Sequence[int] = (0,)) -> list[float]:
    """PSNR of each field: mean over its files and the seeds."""
    return [
        float(np.mean([per_exposure(pairs, lambda n, c, k=seed: (psnr(denoised(make(), n, k), c),)) for seed in seeds]))
        for pairs in fields.values()
    ]


def excess(fields: dict[str, Pairs], seeds: Sequence[int]) -> None:
    """FM2S ``fast`` at each excess of made over measured noise."""
    scores = []
    for value in EXCESS:
        estimate.EXCESS = value
        scores.append(field_means(fields, Fm2s, seeds))
    estimate.EXCESS = SHIPPED["excess"]
    left_out("excess", EXCESS, np.array(scores), list(fields))


def strength(part: str, fields: dict[str, Pairs]) -> None:
    """A control at each strength."""

    def make(value: float) -> Denoiser:
        if part == "tv":
            return TotalVariation(TotalVariationConfig(strength=value))
        return NonLocalMeans(NonLocalMeansConfig(strength=value))

    scores = [field_means(fields, lambda v=value: make(v)) for value in STRENGTHS[part]]
    left_out(part, STRENGTHS[part], np.array(scores), list(fields))


def main() -> None:
    """Print the parts that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="+", choices=["crops", "excess", "tv", "nlm"])
    parser.add_argument("--seeds", nargs="+", type=int, help="0 1 2 for crops, 0 1 for excess")
    parser.add_argument("--fields", nargs="+", help="names of fields; all six")
    given = parser.parse_args()
    fields = read_fields(Path(os.environ.get("HYPED_PUBLIC_DATA", "")) / "denoise" / "fmd")
    if not fields:
        sys.exit("HYPED_PUBLIC_DATA names no folder with denoise/fmd/noisy and clean")
    chosen = {name: pairs for name, pairs in fields.items() if given.fields is None or name in given.fields}
    if set(given.fields or ()) - chosen.keys():
        sys.exit(f"fields are {', '.join(fields)}")
    if len(chosen) < 2 and set(given.parts) != {"crops"}:
        sys.exit("one field cannot be left out of one: name two at least")
    for part in given.parts:
        if part == "crops":
            crops(chosen, given.seeds or (0, 1, 2))
        elif part == "excess":
            excess(chosen, given.seeds or (0, 1))
        else:
            strength(part, chosen)


if __name__ == "__main__":
    main()
