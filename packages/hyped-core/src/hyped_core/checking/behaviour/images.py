"""What the checks of image models and trackers share: calls that may be refused, and memory laid out in many ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hyped_core.blame import is_refusal, place_of, said
from hyped_core.checking.records import CheckFailed, CheckSkipped
from hyped_core.checking.tiny.movie import TinyMovie, tiny_movie
from hyped_core.errors import HypedError, MissingDependencyError, MissingHardwareError

T = TypeVar("T")

REFUSE = "raise hyped_core.errors.InvalidDataError that names the argument (where) and what to do (mend)"


@cache
def movie() -> TinyMovie:
    """The tiny movie; what is given to models is copied from it."""
    return tiny_movie(0)


def called(call: Callable[[], T], where: str, mend: str = "") -> T:
    """What a method gives for valid input; ``mend`` says what to do where it raises something.

    Raises
    ------
    CheckFailed
        It raised something; where a library or a device is missing the error passes as it is.
    """
    try:
        return call()
    except (CheckFailed, CheckSkipped, MissingDependencyError, MissingHardwareError, MemoryError):
        raise
    except Exception as error:
        place = place_of(error)
        told = error.mend if isinstance(error, HypedError) else None
        raise CheckFailed(
            said(error) + (f" ({place})" if place else ""),
            where=where,
            mend=told or mend or f"correct that line: {where} is asked by the contract (hyped_core.contracts)",
        ) from error


def done_or_refused(call: Callable[[], T], where: str, mend: str = "handle it") -> T | None:
    """What ``call`` gives, or None where the model refuses with a `HypedError` about its data.

    ``mend`` says how it could be answered instead of refused.

    Raises
    ------
    CheckFailed
        Any other exception: to the user it is a crash.
    """
    try:
        return called(call, where)
    except CheckFailed as failed:
        error = failed.__cause__
        if error is None:
            raise
        if is_refusal(error):
            return None
        raise CheckFailed(
            f"{failed.message}; expected a result, or an error about the data (hyped_core.errors.InvalidDataError)",
            where=where,
            mend=f"{mend}, or {REFUSE}",
        ) from error


def layouts(array: npt.NDArray) -> Iterator[tuple[str, npt.NDArray]]:
    """The same numbers in other memory: name of the form, and the array in it."""
    sealed = array.astype(np.float32)
    sealed.flags.writeable = False
    yield "read-only float32", sealed
    yield "float64 in Fortran order", np.asfortranarray(array, dtype=np.float64)
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    yield f"every second pixel of a wider {array.dtype} array", wide[..., ::2]


def as_array(value: Any, method: str) -> npt.NDArray:
    """``value``, if it is a numpy array of numbers in main memory."""
    if isinstance(value, np.ndarray):
        return value
    raise CheckFailed(
        f"returned {type(value).__module__}.{type(value).__name__}, expected a numpy array",
        where=method,
        mend="return numpy.asarray(result); of torch result.detach().cpu().numpy()",
    )
