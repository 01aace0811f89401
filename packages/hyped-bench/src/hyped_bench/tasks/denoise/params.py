"""What a source of the task `denoise` can say, and which of it each kind of reference needs."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from hyped_bench.metrics.image import SnrFormula
from hyped_bench.tasks.base import TaskParams
from hyped_core.params import Params

Reference = Literal["clean", "self", "downstream"]
KINDS: tuple[Reference, ...] = ("clean", "self", "downstream")

_NEEDED = {
    "clean": {"clean": "the images without noise"},
    "self": {},
    "downstream": {"labels": "the true labels of the movie's frames", "tracks": "the table of true tracks"},
}
_REFUSED = {"clean": ("tracks", "light"), "self": ("clean", "tracks", "light"), "downstream": ("clean", "crop")}


def _frame_numbers(value: Any) -> Any:
    """``"20:44"`` as the frames 20 to 43; anything else as it is."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", value)
        if not found or int(found[1]) >= int(found[2]):
            raise ValueError("frames are a list of numbers or first:end, e.g. 20:44 for the frames 20 to 43")
        return tuple(range(int(found[1]), int(found[2])))
    return value


class DenoiseSource(Params):
    """Noisy images and what to hold the denoised ones against."""

    name: str
    noisy: str
    """Movie folder (zarr), TIFF stack or folder of images."""
    reference: Reference
    """``clean``: images without noise (quality). ``self``: the noisy image itself, by the paper's protocol (fidelity:
    how little was changed, not how good it is). ``downstream``: true nuclei and tracks, against what a segmenter and a
    tracker find in the denoised movie."""
    clean: str | None = None
    """``clean``: the images without noise, as ``noisy`` has them."""
    labels: str | None = None
    """Labels of nuclei: the true ones for ``downstream``; for the ratio of foreground to background else."""
    tracks: str | None = None
    """``downstream``: table of true tracks (parquet: scene, frame, label, track_id, parent_id, y_um, x_um)."""
    scene: str | None = None
    """Scene in the tables of tracks and in the design; the source's name where None. Sources of one scene are one field
    of view."""
    design: str | None = None
    """Design file: names the scene's condition, and fills what the segmenter's and tracker's configs leave open."""
    condition: str | None = None
    """Condition where no design names it."""
    channels: tuple[str, ...] | None = None
    """Channels that are denoised (and, ``downstream``, given to the segmenter); all where None."""
    frames: Annotated[tuple[int, ...] | None, BeforeValidator(_frame_numbers)] = None
    """Frames used, in order, as a list or ``first:end``; neighbours in this list are neighbours for the model."""
    crop: int | None = Field(None, ge=16)
    """Edge of the central square used, in pixels."""
    field_pattern: str = r"^(?P<field>.+)_\d+$"
    """Images of a folder whose names give the same ``field`` are realisations of one field of view: one unit."""
    data_range: Literal["camera", "clean"] | float | None = None
    """``clean``: peak of PSNR and SSIM: the camera's range, the clean images' range, or a number. Default: camera for
    image files (8 bits: 255), clean for movies (a 14-bit range would flatter every method)."""
    clip: float = Field(98.0, gt=0, le=100)
    """``self``: where bright intensities are clipped, in percent."""
    clip_rule: Literal["percentile", "share"] = "percentile"
    """``self``: the paper's "intensities above 98 %" may mean either."""
    snr: SnrFormula = "mean_over_std"
    """Formula of the ratio of foreground to background."""
    segmenter: str = "fast"
    """``downstream``: registered segmenter."""
    segmenter_config: dict[str, Any] = Field(default_factory=dict)
    tracker: str = "lap"
    """``downstream``: registered tracker."""
    tracker_config: dict[str, Any] = Field(default_factory=dict)
    light: float = Field(1.0, gt=0, le=1)
    """``downstream``: redraw the frames as exposed with this share of the light (`dimmed` says how), where a movie as
    it is has too little noise to tell denoisers apart."""
    gain: float | None = Field(None, gt=0)
    """``light`` below 1: camera units a photo-electron."""
    read_noise: float = Field(0.0, ge=0)
    """``light`` below 1: read noise in camera units."""
    primary: bool = True

    @model_validator(mode="after")
    def _complete(self) -> DenoiseSource:
        missing = {k: v for k, v in _NEEDED[self.reference].items() if getattr(self, k) is None}
        if missing:
            said = " and ".join(f"{key} ({what})" for key, what in missing.items())
            raise ValueError(f"reference: {self.reference} of source {self.name} needs {said}")
        given = [k for k in _REFUSED[self.reference] if getattr(self, k) != type(self).model_fields[k].default]
        if given:
            raise ValueError(
                f"reference: {self.reference} of source {self.name} takes no {', '.join(given)}: "
                "a source has one kind of reference, another kind is another source"
            )
        if self.light < 1 and self.gain is None:
            raise ValueError(f"light of source {self.name} needs gain (camera units a photo-electron)")
        if self.reference == "downstream" and self.frames is not None:
            self._check_run(self.frames)
        return self

    def _check_run(self, frames: tuple[int, ...]) -> None:
        if len(frames) < 2 or any(b != a + 1 for a, b in zip(frames, frames[1:], strict=False)):
            raise ValueError(f"frames of source {self.name} are tracked: give at least two, one after another")

    def place(self) -> str:
        """The field of view of a movie."""
        return self.scene or self.name

    def condition_name(self) -> str | None:
        """The condition, from ``condition`` or from the design; None where neither says.

        Raises
        ------
        DesignError
            The design does not know the scene.
        """
        if self.condition is not None or self.design is None:
            return self.condition
        from hyped_core.design import read_design

        return read_design(self.design).scene(self.place()).condition


class DenoiseParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[DenoiseSource, ...]
    division_tolerance: int = Field(1, ge=0)
    """``downstream``: frames by which a division may be early or late."""
