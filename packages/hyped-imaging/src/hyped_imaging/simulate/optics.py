"""From sharp planes to what an ideal camera would read under even light, channel by channel of the design."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyped_imaging.simulate.params import OpticsParams

if TYPE_CHECKING:
    from hyped_core.design import Design


def clean_frame(
    planes: dict[str, npt.NDArray], design: Design, optics: OpticsParams
) -> npt.NDArray[np.float32]:
    """Mean camera readings (c, y, x) float32 in camera units, the offset included, light even.

    The nuclear channel shows every nucleus, a reporter channel what the design says it reports, the
    brightfield channel the slope of the cells' height along the diagonal (oblique illumination); a channel of
    another role shows background. Light of ``bleed_from`` is seen in ``bleed_into`` where the design has both
    of these channels.
    """
    import cv2

    def blurred(name: str, sigma: float = optics.blur_px) -> npt.NDArray:
        return cv2.GaussianBlur(planes[name], (0, 0), sigma) if sigma > 0 else planes[name]

    body = blurred("body", optics.blur_px + 1.5)
    haze = optics.haze * np.minimum(body, 3.0)
    frame = np.full((len(design.channels), *body.shape), optics.background, np.float32)
    signals: dict[str, npt.NDArray] = {}
    for index, channel in enumerate(design.channels):
        if channel.role == "nuclei":
            signals[channel.name] = optics.nuclear * blurred("nuclear")
        elif channel.role == "reporter" and channel.reports is not None:
            signals[channel.name] = optics.reporter * blurred("g1" if channel.reports == "G1" else "sg2m")
        elif channel.role == "brightfield":
            height = body + 0.8 * np.minimum(blurred("nuclear", optics.blur_px + 0.6), 1.5)
            slope = sum(cv2.Sobel(height, cv2.CV_32F, dx, 1 - dx, scale=0.125) for dx in (1, 0))
            frame[index] = optics.brightfield * np.clip(1.0 + 4.0 * optics.relief * slope, 0.2, 2.5)
        if channel.name in signals:
            frame[index] += signals[channel.name] + haze
    names = [channel.name for channel in design.channels]
    if optics.bleed_from in signals and optics.bleed_into in names:
        frame[names.index(optics.bleed_into)] += optics.bleed * signals[optics.bleed_from]
    return frame + np.float32(optics.offset)
