"""What a model of image stacks asks of the one it is given: numbers on three axes, finite."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError


def check_stack(stack: npt.ArrayLike, where: str = "denoise") -> npt.NDArray[np.float32]:
    """A stack (t, y, x) as C-contiguous float32, copied only where it is not that already.

    Values beyond float32's range count as infinite.

    Raises
    ------
    InvalidDataError
        Not three axes, an empty axis, not real numbers, NaN or infinite pixels (with frames and counts).
    """
    given = np.asarray(stack)
    if given.ndim != 3 or 0 in given.shape or given.dtype.kind not in "buif":
        raise InvalidDataError(
            f"the stack is {given.dtype} of shape {given.shape}, expected numbers (t, y, x) without an empty axis",
            where=where,
            mend="give a plane as plane[None], and a movie of one channel at a time",
        )
    with np.errstate(over="ignore"):
        planes = np.ascontiguousarray(given, dtype=np.float32)
    if given.dtype.kind != "f":
        return planes
    bad = [(t, int(np.count_nonzero(~np.isfinite(plane)))) for t, plane in enumerate(planes)]
    bad = [(t, count) for t, count in bad if count]
    if bad:
        named = ", ".join(f"frame {t}: {count}" for t, count in bad[:5]) + (", ..." if len(bad) > 5 else "")
        raise InvalidDataError(
            f"NaN or infinite pixels in {len(bad)} of {len(planes)} frames ({named})",
            where=where,
            mend="fill them, for example with the frame's median, or leave the frames out",
        )
    return planes
