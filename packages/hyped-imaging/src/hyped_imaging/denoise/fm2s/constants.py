"""The constants of FM2S: the published table, by microscope and by how many exposures were averaged."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hyped_core.errors import ParamsError

AVERAGES = (1, 2, 4, 8, 16)
"""Exposures averaged into an image for which constants are published."""
LEVEL_LIMITS = (1e-5, 0.15)
"""A block's mean intensity, in [0, 1], is held between these before it sets the block's noise."""


@dataclass(frozen=True, slots=True)
class Constants:
    """What decides target and noise; intensities are in [0, 1].

    A block of mean m gets Poisson noise of k_p / m photons at intensity 1, and Gaussian noise of standard
    deviation k_g m / 255; the whole image then gets Poisson noise of lambda_p photons at intensity 1.

    Attributes
    ----------
    filter_px : side of the median filter that makes the target.
    channels : identical channels the image is repeated to (lambda); each is given noise of its own.
    block_px : side of the blocks.
    k_g, k_p, lambda_p : strengths of the three kinds of noise.
    """

    filter_px: int
    channels: int
    block_px: int
    k_g: float
    k_p: float
    lambda_p: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _rows(filter_px: int, channels: int, k_g: tuple, k_p: tuple, lambda_p: tuple) -> dict[int, Constants]:
    return {
        average: Constants(filter_px, channels, 75, float(g), float(p), float(whole))
        for average, g, p, whole in zip(AVERAGES, k_g, k_p, lambda_p)
    }


PUBLISHED: dict[str, dict[int, Constants]] = {
    "confocal": _rows(3, 2, (200, 125, 70, 10, 5), (30, 95, 195, 240, 650), (70, 285, 485, 650, 1400)),
    "two_photon": _rows(3, 2, (175, 150, 90, 20, 15), (30, 85, 300, 185, 850), (60, 300, 480, 600, 3800)),
    "wide_field": _rows(11, 1, (220, 220, 60, 20, 1), (45, 100, 650, 600, 1500), (2000, 2500, 3500, 4000, 4800)),
    "base": {1: Constants(3, 6, 5, 60.0, 40.0, 125.0)},
}
"""Constants by microscope and averaging (arXiv 2412.10031 v2 and its public code; the fluorescence microscopy
dataset of Zhang et al., CVPR 2019). ``base`` is for calcium imaging and has one level."""


def published(microscope: str, average: int = 1) -> Constants:
    """The published constants.

    Raises
    ------
    ParamsError
        No constants for this microscope or this averaging.
    """
    rows = PUBLISHED.get(microscope)
    if rows is None:
        raise ParamsError(
            f"no constants for microscope {microscope!r}", where="fm2s", mend=f"one of {', '.join(PUBLISHED)}"
        )
    if average not in rows:
        raise ParamsError(
            f"no constants of {microscope} for {average} averaged exposures", where="fm2s/average",
            mend=f"one of {', '.join(map(str, rows))}, or give k_g, k_p and lambda_p",
        )  # fmt: skip
    return rows[average]
