"""The denoiser ``photon``: zero-shot, from the noise physics of the image or the movie it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_core.params import Params
from hyped_core.stacks import check_stack

if TYPE_CHECKING:
    from hyped_core.context import RunContext
    from hyped_core.contracts import ImageMeta
    from hyped_imaging.denoise.photon.single import Passes
    from hyped_imaging.denoise.physics import NoisePhysics

NOISE_FRAMES = 16
"""Frames that a movie's noise is estimated from where `Photon.fit` was not called."""


class PhotonConfig(Params):
    """How strongly noise is taken off, and where alike patches are looked for."""

    strength: float = Field(1.0, gt=0)
    """Factor on the noise's standard deviation: above 1 smooths more, below 1 keeps more."""
    scales: int = Field(3, ge=1, le=5)
    """Sizes of structures that are denoised on their own: the image, its half, its quarter and so on."""
    search_px: int = Field(9, ge=1, le=32)
    """How far up, down, left and right alike patches are looked for, pixels."""
    neighbours: int = Field(3, ge=0, le=5)
    """Frames before and after that are searched too; 0 denoises each frame of a movie alone."""


class Photon:
    """Denoises planes and movies; of a movie it learns the camera's noise, nothing is drawn at random."""

    def __init__(self, config: PhotonConfig | None = None) -> None:
        self.config = config or PhotonConfig()
        self._noise: NoisePhysics | None = None

    @property
    def neighbours(self) -> int:
        """Frames before and after that a frame's result depends on: those searched by the frames searched, through all
        passes. The light of all frames of a movie, which is followed from its first, comes on top."""
        return 4 * self.config.neighbours

    def fit(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> None:
        """Estimate the noise from frames (t, y, x) spread over a movie; whatever is denoised then is taken to have it.

        Raises
        ------
        InvalidDataError
            Not (t, y, x), or NaN or infinite pixels.
        """
        self._noise = estimated(check_stack(stack, where="photon"), meta)

    def denoise(self, stack: npt.NDArray, meta: ImageMeta, *, context: RunContext) -> npt.NDArray[np.float32]:
        """(t, y, x) in camera units -> the same shape, float32, each frame within the range it had.

        Without `fit` the noise is estimated from the stack: once for a movie, or for each frame where frames are
        denoised alone. The result does not depend on ``context.threads``. Frames with an edge below 8 pixels come back
        as they are.

        Raises
        ------
        InvalidDataError
            Not (t, y, x), or NaN or infinite pixels.
        """
        planes = check_stack(stack, where="photon")
        result = np.empty_like(planes)
        frames = self.denoise_frames(planes.__getitem__, len(planes), meta, context=context)
        for t, plane in enumerate(context.progress.track(frames, "photon", len(planes))):
            result[t] = plane
        return result

    def denoise_frames(
        self,
        read: Callable[[int], npt.NDArray],
        count: int,
        meta: ImageMeta,
        *,
        context: RunContext,
        frames: Sequence[int] | None = None,
    ) -> Iterator[npt.NDArray[np.float32]]:
        """The frames of a movie as `denoise` gives them, one after another, with few of them in memory.

        Parameters
        ----------
        read : gives the frame (y, x) of a number in 0 .. count - 1; asked for each more than once.
        frames : the numbers of those that are wanted, ascending; all by default. Which others are wanted does not
            change a frame's pixels.

        Raises
        ------
        InvalidDataError
            NaN or infinite pixels.
        """
        from hyped_imaging.denoise.photon.single import denoise_plane

        def plane_of(t: int) -> npt.NDArray[np.float32]:
            return check_stack(np.asarray(read(t))[None], where=f"photon, frame {t}")[0]

        if count > 1 and self.config.neighbours > 0:
            from hyped_imaging.denoise.photon.movie import stream_movie

            noise = self._noise
            if noise is None:
                noise = estimated(np.stack([plane_of(t) for t in spread(count)]), meta)
            yield from stream_movie(plane_of, count, noise, self.config, context.threads, frames)
            return
        passes = self.passes()
        for t in range(count) if frames is None else frames:
            plane = plane_of(t)
            noise = self._noise or estimated(plane[None], meta)
            yield denoise_plane(plane, noise, passes, max(1, context.threads))

    def passes(self) -> Passes:
        """The filter's numbers under this configuration."""
        from hyped_imaging.denoise.photon.single import Passes

        usual = Passes()
        return Passes(
            threshold=usual.threshold * self.config.strength,
            threshold_correlated=usual.threshold_correlated * self.config.strength,
            shrink=usual.shrink * self.config.strength**2,
            search=self.config.search_px,
            scales=self.config.scales,
        )


def estimated(planes: npt.NDArray[np.float32], meta: ImageMeta) -> NoisePhysics:
    """The noise of frames (t, y, x) of one movie."""
    from hyped_imaging.denoise.physics import estimate_noise

    return estimate_noise(planes[0] if len(planes) == 1 else planes, meta.gain)


def spread(count: int) -> list[int]:
    """Numbers of at most `NOISE_FRAMES` frames from the middles of as many equal parts of a movie."""
    parts = min(count, NOISE_FRAMES)
    return [int((k + 0.5) * count / parts) for k in range(parts)]
