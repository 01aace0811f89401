"""Choosing the planes a segmenter works on, and refusing what cannot be segmented."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hyped_core.contracts import ImageMeta
from hyped_core.errors import DesignError, InvalidDataError


def select_planes(
    planes: npt.NDArray, meta: ImageMeta, channels: Sequence[str], dtype: npt.DTypeLike | None = np.float32
) -> npt.NDArray:
    """The planes of ``channels`` in that order, (len(channels), y, x), new memory of ``dtype`` (None: as they
    came).

    Raises
    ------
    InvalidDataError
        Not (c, y, x), not one plane a name in ``meta.channels``, or NaN in a chosen plane.
    DesignError
        A channel is not among ``meta.channels``, which are named.
    """
    planes = np.asarray(planes)
    if planes.ndim != 3 or 0 in planes.shape:
        raise InvalidDataError(
            f"planes have shape {planes.shape}, expected (c, y, x)", where="segment", mend="give one frame"
        )
    if planes.dtype.kind not in "uif":
        raise InvalidDataError(f"planes are {planes.dtype}, expected numbers", where="segment")
    if len(meta.channels) != planes.shape[0]:
        raise InvalidDataError(
            f"{planes.shape[0]} planes, but meta.channels names {len(meta.channels)}",
            where="segment",
            mend="name every plane in meta.channels",
        )
    for name in channels:
        if name not in meta.channels:
            raise DesignError(
                f"there is no channel {name!r} to segment",
                where="channels",
                mend=f"channels there: {', '.join(meta.channels)}; set config.channels or mend the design",
            )
    chosen = planes[[meta.channels.index(name) for name in channels]]
    with np.errstate(over="ignore"):  # what does not fit is infinite, and said below
        chosen = chosen.astype(dtype or chosen.dtype, copy=False)
    check_finite(chosen, "+".join(channels))
    return chosen


def check_finite(array: npt.NDArray, where: object) -> None:
    """Raise `InvalidDataError` where an array of floats holds NaN or infinities."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise InvalidDataError(
            f"{count} pixel(s) are NaN or infinite", where=where, mend="fill or crop them before this step"
        )
