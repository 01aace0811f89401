"""What a denoiser has to do over a movie: with and without `fit`, in windows and crops, frame by frame, on copies."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial
from typing import Any

import numpy as np

from hyped_core.checking.behaviour.denoise_kit import (
    checked,
    denoise_check,
    denoised,
    fitted,
    fresh_result,
    meta_of,
    same,
    small,
)
from hyped_core.checking.behaviour.images import called, movie
from hyped_core.checking.behaviour.working import must_repeat
from hyped_core.checking.records import CheckFailed, CheckSkipped, Subject, asked_by

MOST_NEIGHBOURS = 8
"""Neighbours up to which windows are tried; more would take movies longer than a check may."""
MARGIN = 16
"""Pixels at the cut edges of a crop that may change."""


def no_fit_needed(subject: Subject) -> None:
    """A model that has `fit` also denoises without it."""
    if not _learns(subject.make()):
        raise CheckSkipped("the model has no fit")
    denoised(
        subject, small(1), where="denoise(stack) of a model that was not fitted",
        mend="let denoise learn from the stack it is given where fit was not called: fit is optional",
    )  # fmt: skip


def no_memory(subject: Subject) -> None:
    """The second call of a model does not depend on the first."""
    must_repeat(subject)
    one, other = small(1), movie().stack("mKate")[:1, :40, :48] * np.uint16(3)
    used = subject.make()
    denoised(subject, other, model=used)
    same(
        denoised(subject, one, model=used), fresh_result(subject), "after another stack, and by a fresh model",
        "let denoise set nothing on self: each call is of its own stack, and only fit learns for later ones",
        "denoise(stack) after denoise(other)",
    )  # fmt: skip


def fit_settles(subject: Subject) -> None:
    """After `fit` the result for a stack stays the same, whatever was denoised before."""
    must_repeat(subject)
    model = subject.make()
    if not _learns(model):
        raise CheckSkipped("the model has no fit")
    fitted(subject, model, small(2))
    one, other = small(1), movie().stack("mKate")[:1, :40, :48] * np.uint16(3)
    first = denoised(subject, one, model=model)
    denoised(subject, other, model=model)
    same(
        denoised(subject, one, model=model), first, "before and after another stack was denoised",
        "let denoise use what fit learned and change none of it", "denoise(stack) twice after fit",
    )  # fmt: skip


def windows_equal_the_whole(subject: Subject) -> None:
    """Frames with as many on each side as ``neighbours`` says come out as in the whole movie."""
    must_repeat(subject)
    model = subject.make()
    if callable(getattr(model, "denoise_frames", None)):
        raise CheckSkipped("the model offers denoise_frames, so it is given no windows")
    near = neighbours_of(model)
    if near > MOST_NEIGHBOURS:
        raise CheckSkipped(f"the model looks at {near} frames on each side; up to {MOST_NEIGHBOURS} are tried")
    parts = movie().stack()[np.arange(2 * near + 2) % 8, 24:64, 32:80]
    whole = denoised(subject, parts, model=fitted(subject, model, parts))
    for low, high in ((0, 1), (near + 1, near + 2)):  # kept frames: the first, and one with neighbours on both sides
        start, stop = max(0, low - near), min(len(parts), high + near)
        given = parts[start:stop].copy()
        meta = meta_of(parts)
        assert meta.time_h is not None
        meta = dataclasses.replace(meta, time_h=meta.time_h[start:stop])
        where = f"denoise(stack) of frames {start} to {stop - 1} of {len(parts)}, neighbours = {near}"
        found = denoised(subject, given, model=model, meta=meta, where=where)
        same(
            found[low - start : high - start], whole[low:high], "frames in a window and in the whole movie",
            "set `neighbours` (of the model or its config) to how many frames on each side a result depends on, and "
            "take nothing else from other frames (a mean, a range), but in fit", where,
        )  # fmt: skip


def crops_agree(subject: Subject) -> None:
    """Pixels far from the edges of a crop come out about as in the whole: closer than the noise is strong."""
    made = movie()
    noisy, clean = made.stack()[2:3], made.clean[2:3, 0]
    noise = float(np.sqrt(np.mean((noisy - clean) ** 2, dtype=np.float64)))
    model = fitted(subject, subject.make(), noisy)
    whole = denoised(subject, noisy, model=model)
    part = denoised(subject, np.ascontiguousarray(noisy[:, :72, 20:92]), model=model, where="denoise(crop)")
    inside = (slice(None), slice(0, 72 - MARGIN), slice(MARGIN, 72 - MARGIN))
    apart = float(np.sqrt(np.mean((part[inside] - whole[:, :72, 20:92][inside]) ** 2, dtype=np.float64)))
    if apart > noise:
        raise CheckFailed(
            f"a crop and the whole image differ by {apart:.4g} camera units (root mean square, {MARGIN} pixels from "
            f"the cut edges), more than the noise of {noise:.4g} that is to be taken off",
            where="denoise(crop)",
            mend="let a pixel depend on those around it and on what fit learned: not on its place, nor on a mean or "
            "range of the whole image",
        )


def frames_one_by_one(subject: Subject) -> None:
    """`denoise_frames` gives the pixels of `denoise`, whichever frames are asked for."""
    model = subject.make()
    if not callable(getattr(model, "denoise_frames", None)):
        raise CheckSkipped("the model offers no denoise_frames")
    must_repeat(subject)
    stack = small(4)
    meta = meta_of(stack)
    whole = denoised(subject, stack, model=fitted(subject, model, stack))
    for wanted in (None, [0, 3], [2]):
        where = f"denoise_frames(frames={wanted})"
        numbers = list(range(len(stack))) if wanted is None else wanted
        given = partial(
            model.denoise_frames, lambda t: stack[t].copy(), len(stack), meta, context=subject.context(), frames=wanted
        )
        found = called(lambda given=given: list(given()), where)
        if len(found) != len(numbers):
            raise CheckFailed(
                f"{len(found)} frames, {len(numbers)} were asked for",
                where=where,
                mend="yield one (y, x) float32 plane for each number in frames, ascending (all where frames is None)",
            )
        for number, plane in zip(numbers, found, strict=True):
            plane = checked(plane, stack.shape[1:], where)
            same(
                plane[None], whole[number][None], f"frame {number} by denoise_frames and by denoise",
                "let denoise(stack) go through denoise_frames(stack.__getitem__, len(stack), ...), or both through one "
                "function of a frame", where,
            )  # fmt: skip


def channels_learn_apart(subject: Subject) -> None:
    """A copy of a model learns a channel and the model itself knows nothing of it."""
    if subject.remote:
        raise CheckSkipped("the model works in a process of its own, where it is not copied")
    must_repeat(subject)
    model = subject.make()
    if not _learns(model):
        raise CheckSkipped("the model has no fit")
    other = movie().stack("mKate")[:2, :40, :48] * np.uint16(3)
    try:
        own = copy.deepcopy(model)
    except Exception as error:
        with asked_by("model_pickles"):
            raise CheckFailed(
                f"copy.deepcopy(model): {type(error).__name__}: {error}",
                where="copy.deepcopy(model)",
                mend="keep locks, open files and generators out of attributes: make them in the method that uses them",
            ) from error
    fitted(subject, own, other, "mKate")
    same(
        denoised(subject, small(1), model=model), fresh_result(subject),
        "by a model whose copy was fitted to another channel, and by a fresh one",
        "set what fit learns on self as new values: no attribute of the class, and no list or array that is changed in "
        "place", "copy.deepcopy(model).fit(other)",
    )  # fmt: skip


def neighbours_of(model: Any) -> int:
    """Frames on each side that a model says its result depends on: its own ``neighbours``, else its config's, else 0.

    Raises
    ------
    CheckFailed
        It is no whole number from 0 up.
    """
    told = getattr(model, "neighbours", None)
    if told is None:
        told = getattr(getattr(model, "config", None), "neighbours", None)
    if told is None:
        return 0
    if isinstance(told, bool) or not isinstance(told, (int, np.integer)) or told < 0:
        raise CheckFailed(
            f"is {told!r}, expected a whole number of frames from 0 up",
            where="neighbours",
            mend="set `neighbours` to how many frames before and after a frame its result depends on, 0 for none",
        )
    return int(told)


def _learns(model: Any) -> bool:
    return callable(getattr(model, "fit", None))


CHECKS = (
    denoise_check(
        "no_fit_needed",
        "The benchmark gives each field of view to `denoise` alone, so a model that insists on `fit` cannot be scored.",
        no_fit_needed,
    ),
    denoise_check(
        "no_memory",
        "Movies and channels follow one another through one model, and a result must not depend on their order.",
        no_memory,
    ),
    denoise_check(
        "fit_settles",
        "Frames of a movie that are denoised in several calls would differ in brightness and noise.",
        fit_settles,
    ),
    denoise_check(
        "windows_equal_the_whole",
        "Long movies are denoised in windows; where a window ends would show as a jump in time.",
        windows_equal_the_whole,
    ),
    denoise_check(
        "crops_agree", "A preview on a crop would promise another result than the whole field gives.", crops_agree
    ),
    denoise_check(
        "frames_one_by_one",
        "Long movies go through `denoise_frames`, and the benchmark scores `denoise`: they must be one model.",
        frames_one_by_one,
    ),
    denoise_check(
        "channels_learn_apart",
        "Each channel is learned by a copy of one model; noise learned of one would be taken off another.",
        channels_learn_apart,
    ),
)
