"""What the checks of image models and trackers share: calls that may be refused, and memory laid out in many ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hyped_core.checking.records import CheckFailed, CheckSkipped, Subject
from hyped_core.checking.tiny.movie import TinyMovie, tiny_movie
from hyped_core.errors import HypedError, MissingDependencyError, MissingHardwareError, PluginError

T = TypeVar("T")

REFUSE = "raise hyped_core.errors.InvalidDataError with where and mend"


@cache
def movie() -> TinyMovie:
    """The tiny movie; what is given to models is copied from it."""
    return tiny_movie(0)


def called(call: Callable[[], T], where: str) -> T:
    """What a method gives for valid input.

    Raises
    ------
    CheckFailed
        It raised something; where a library or a device is missing the error passes as it is.
    """
    from hyped_core.checking.behaviour.common import place_of, said

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
            mend=told or "this is valid input, which every user has: make the model work on it",
        ) from error


def done_or_refused(call: Callable[[], T], where: str) -> T | None:
    """What ``call`` gives, or None where the model refuses with a `HypedError` about its data.

    Raises
    ------
    CheckFailed
        Any other exception: to the user it is a crash. A `PluginError` is one too: it is about the model.
    """
    try:
        return called(call, where)
    except CheckFailed as failed:
        error = failed.__cause__
        if error is None:
            raise
        if isinstance(error, HypedError) and not isinstance(error, PluginError):
            return None
        raise CheckFailed(
            f"{failed.message}; expected a result, or an error about the data (hyped_core.errors.InvalidDataError)",
            where=where,
            mend=f"handle it, or {REFUSE}",
        ) from error


def needs_repeatable(subject: Subject) -> None:
    """Skip a check that compares two runs of a model that says they may differ."""
    if not subject.spec.deterministic:
        raise CheckSkipped("the model says that the same seed may give other numbers (deterministic=False)")


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
        mend="return numpy.asarray(result), on the CPU",
    )
