"""How the checks of denoisers put a model to work, and what holds of every result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_core.checking.behaviour.images import as_array, called, movie
from hyped_core.checking.behaviour.working import comparing
from hyped_core.checking.records import Check, CheckFailed, Subject, asked_by
from hyped_core.contracts import ImageMeta

HERE = "denoise(stack)"
SAME, SAME_SHARE = 0.05, 1e-4
"""Results are the same within so many camera units and this share of the pixel: sums of float32 in another order."""


def small(frames: int = 3, height: int = 56, width: int = 68, channel: str = "Cy5") -> npt.NDArray[np.uint16]:
    """(t, y, x) of the tiny movie, around its dividing nucleus; new memory."""
    return movie().stack(channel)[2 : 2 + frames, 20 : 20 + height, 20 : 20 + width].copy()


def meta_of(stack: npt.NDArray, channel: str = "Cy5") -> ImageMeta:
    """What a model is told of a part of the tiny movie."""
    meta = movie().channel_meta(channel)
    assert meta.time_h is not None
    step = meta.time_h[1] - meta.time_h[0]
    return dataclasses.replace(meta, time_h=tuple(t * step for t in range(len(stack))))


def denoised(
    subject: Subject,
    stack: npt.NDArray,
    *,
    model: Any = None,
    meta: ImageMeta | None = None,
    where: str = HERE,
    mend: str = "",
) -> npt.NDArray[np.float32]:
    """The model's answer for ``stack``, if it is what the contract says; by a fresh model where none is given.

    ``mend`` says what to do where it raises something.
    """
    model = subject.make() if model is None else model
    told, context = meta or meta_of(stack), subject.context()
    return checked(called(lambda: model.denoise(stack, told, context=context), where, mend), stack.shape, where)


def fitted(subject: Subject, model: Any, stack: npt.NDArray, channel: str = "Cy5") -> Any:
    """The model after `fit` on ``stack``, where it has one."""
    if callable(getattr(model, "fit", None)):
        called(lambda: model.fit(stack, meta_of(stack, channel), context=subject.context()), "fit(stack)")
    return model


def fresh_result(subject: Subject) -> npt.NDArray[np.float32]:
    """What a fresh model makes of ``small(1)``, computed once for all checks of a model that repeats itself."""
    notes = getattr(subject.make, "notes", {})
    if "denoised" not in notes:
        notes["denoised"] = denoised(subject, small(1))
    return notes["denoised"]


def whole_frame(subject: Subject) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]:
    """The first frame, whole, as it was given to a fresh model, and the result; computed once for all checks."""
    notes = getattr(subject.make, "notes", {})
    if "whole frame" not in notes:
        stack = movie().stack()[:1]
        notes["whole frame"] = stack, denoised(subject, stack)
    return notes["whole frame"]


@asked_by("frames_kept")
def checked(result: Any, shape: tuple[int, ...], where: str, *, finite: bool = True) -> npt.NDArray[np.float32]:
    """A result, if it is float32 of this shape, and finite."""
    result = as_array(result, where)
    if result.shape != shape:
        raise CheckFailed(
            f"shape {result.shape} for a stack of shape {shape}",
            where=where,
            mend="return (t, y, x) as given, one frame too: pad inside the model, and crop what was padded",
        )
    if result.dtype != np.float32:
        raise CheckFailed(
            f"the result is {result.dtype}, expected float32",
            where=where,
            mend="return result.astype(numpy.float32), in camera units",
        )
    if finite and not np.isfinite(result).all():
        bad = np.argwhere(~np.isfinite(result))
        raise CheckFailed(
            f"{len(bad)} of {result.size} pixels are NaN or infinite, the first at (t, y, x) "
            f"{tuple(int(i) for i in bad[0])}, for a stack that is finite",
            where=where,
            mend="return finite pixels for finite ones: divide by a deviation, range or maximum only where it is "
            "above 0, and take no root or logarithm of what may be below it",
        )
    return result


@comparing
def same(a: npt.NDArray, b: npt.NDArray, what: str, mend: str, where: str = HERE) -> None:
    """Fail where two results differ by more than rounding."""
    apart = np.abs(a.astype(np.float64) - b) - SAME_SHARE * np.abs(b)
    if apart.size and apart.max() > SAME:
        place = tuple(int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape))
        count = int((apart > SAME).sum())
        raise CheckFailed(
            f"{what}: {count} of {apart.size} pixels differ, the most at (t, y, x) {place}: "
            f"{a[place]:.6g} and {b[place]:.6g} camera units",
            where=where,
            mend=mend,
        )


def denoise_check(name: str, why: str, run: Callable[[Subject], None]) -> Check:
    """A check of denoisers."""
    return Check(name, ("denoise",), why, run)
