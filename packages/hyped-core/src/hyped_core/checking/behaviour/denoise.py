"""What a denoiser has to do: the exercise, and checks of single stacks; those of movies are in `denoise_movies`."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_core.checking.behaviour import denoise_movies
from hyped_core.checking.behaviour.denoise_kit import (
    HERE,
    SAME,
    SAME_SHARE,
    checked,
    denoised,
    fresh_result,
    meta_of,
    same,
    small,
    whole_frame,
)
from hyped_core.checking.behaviour.denoise_kit import denoise_check as _check
from hyped_core.checking.behaviour.images import REFUSE, done_or_refused, layouts, movie
from hyped_core.checking.behaviour.working import must_repeat
from hyped_core.checking.records import CheckFailed, Exercise, Subject, asked_by
from hyped_core.checking.tiny.movie import tiny_movie
from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta

LEVEL, CONTRAST = 0.05, (0.5, 1.5)
"""How far the mean may move, as a share of it; and how many times the nuclei may stand out as they did."""


CAMERA = "use offset, gain, time_h and data_range of meta where they are told, and do without where they are None"
SIZES = "take any height and width and any number of frames: pad inside the model, and crop what was padded"


def _inputs(seed: int) -> dict[str, Any]:
    made = tiny_movie(seed)
    stack = made.stack()[2:4, 20:76, 20:88].copy()
    return {"stack": stack, "meta": dataclasses.replace(made.channel_meta(), time_h=(0.0, 1 / 3))}


def _work(model: Any, inputs: dict[str, Any], context: RunContext) -> dict[str, Any]:
    stack, meta = inputs["stack"], inputs["meta"]
    found = {"denoised without fit": model.denoise(stack, meta, context=context)}
    if callable(getattr(model, "fit", None)):
        model.fit(stack, meta, context=context)
        found["denoised after fit"] = model.denoise(stack, meta, context=context)
    if callable(getattr(model, "denoise_frames", None)):
        frames = model.denoise_frames(stack.__getitem__, len(stack), meta, context=context)
        found["denoise_frames"] = np.stack(list(frames))
    return found


EXERCISE = Exercise("denoise", _inputs, _work, rtol=SAME_SHARE, atol=SAME)


def frames_kept(subject: Subject) -> None:
    """One float32 plane for each plane given, of its size, with finite pixels."""
    denoised(subject, small(2))


def camera_units(subject: Subject) -> None:
    """The mean stays, and nuclei stand out about as much as they did."""
    _units(*whole_frame(subject), movie().labels[:1] > 0, HERE)


def pixels_in_place(subject: Subject) -> None:
    """What was at a pixel is at that pixel: the result is most like the clean frame where it is not shifted."""
    made = movie()
    clean, result = made.clean[0, made.channels.index("Cy5")], whole_frame(subject)[1][0]

    def likeness(y: int, x: int) -> float:
        inner = clean[2:-2, 2:-2]
        moved = result[2 + y : result.shape[0] - 2 + y, 2 + x : result.shape[1] - 2 + x]
        return float(np.corrcoef(inner.ravel(), moved.ravel())[0, 1]) if np.ptp(moved) else 0.0

    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    best = max(steps, key=lambda step: likeness(*step))
    if best != (0, 0):
        with asked_by("camera_units"):
            raise CheckFailed(
                f"the result is most like the frame when moved by {best[0]} pixels in y and {best[1]} in x: likeness "
                f"{likeness(*best):.4f}, and {likeness(0, 0):.4f} where it is",
                where=HERE,
                mend="give pixel (t, y, x) of the result for pixel (t, y, x) of the stack: pad on both sides alike, "
                "crop what was padded, undo each flip, and use windows of odd width",
            )


def other_cameras(subject: Subject) -> None:
    """Stacks of 8 bits, of 16 bits nearly full, and with a background taken off (so with pixels below 0) stay too."""
    noisy, nuclei = small(1).astype(np.float64), movie().labels[2:3, 20:76, 20:88] > 0
    base, model = dataclasses.replace(meta_of(noisy), offset=None, gain=None), subject.make()
    cameras = {
        "8 bits": ((noisy / 8).round().clip(0, 255).astype(np.uint8), (0.0, 255.0)),
        "16 bits, nearly full": ((noisy * 32).clip(0, 65535).astype(np.uint16), (0.0, 65535.0)),
        "pixels below 0": ((noisy - 600).astype(np.float32), (-600.0, 15783.0)),
    }
    for name, (stack, limits) in cameras.items():
        where = f"{HERE} of {name}"
        told = dataclasses.replace(base, data_range=limits)
        with asked_by("unknown_camera"):  # here, too, offset and gain are not told
            result = denoised(subject, stack, model=model, meta=told, where=where, mend=CAMERA)
        _units(stack, result, nuclei, where)


@asked_by("camera_units")
def _units(noisy: npt.NDArray, result: npt.NDArray, nuclei: npt.NDArray[np.bool_], where: str) -> None:
    mend = "return camera units: undo scaling and offset of the input with the same numbers, and clip to no range"
    wanted, found = float(noisy.mean()), float(result.mean(dtype=np.float64))
    stood = float(noisy[nuclei].mean() - noisy[~nuclei].mean())
    room = LEVEL * max(abs(wanted), stood)
    if abs(found - wanted) > room:
        raise CheckFailed(
            f"the mean of the stack is {wanted:.4g} camera units and that of the result {found:.4g}, more than "
            f"{room:.3g} apart",
            where=where,
            mend=mend,
        )
    stand = float(result[nuclei].mean(dtype=np.float64) - result[~nuclei].mean(dtype=np.float64))
    if not CONTRAST[0] <= stand / stood <= CONTRAST[1]:
        raise CheckFailed(
            f"nuclei are {stood:.4g} camera units above the background in the stack and {stand:.4g} in the result",
            where=where,
            mend=mend,
        )


def stack_in_any_memory(subject: Subject) -> None:
    """The numbers decide, not their type, order in memory or stride."""
    must_repeat(subject)
    stack, expected, model = small(1), fresh_result(subject), subject.make()
    for name, form in layouts(stack):
        where = f"{HERE} in {name}"
        mend = "begin with hyped_core.stacks.check_stack(stack), float32 whatever is given, and copy before a change"
        with asked_by("inputs_unmodified"):
            found = denoised(subject, form, model=model, where=where, mend=mend)
        same(found, expected, f"{name} and uint16 of the same numbers", mend, where)


def constant_stack(subject: Subject) -> None:
    """Black, even and saturated frames come back as they are."""
    model = subject.make()
    for value in (0, 500, 16383):
        stack = np.full((2, 40, 48), value, np.uint16)
        where = f"{HERE} of all {value}"
        result = denoised(subject, stack, model=model, where=where)
        room = 1 + 0.01 * value
        worst = float(np.abs(result - np.float32(value)).max())
        if worst > room:
            with asked_by("camera_units", "other_cameras"):
                raise CheckFailed(
                    f"pixels up to {worst:.4g} camera units from {value}, where every pixel is {value}",
                    where=where,
                    mend="return stack.astype(numpy.float32) for a plane whose pixels are all the same",
                )


def odd_sizes(subject: Subject) -> None:
    """One frame, odd edges and edges that no power of two divides are ordinary stacks."""
    model = subject.make()
    for shape in ((1, 61, 37), (2, 33, 70)):
        stack = movie().stack()[: shape[0], : shape[1], : shape[2]].copy()
        denoised(subject, stack, model=model, where=f"{HERE} of shape {shape}", mend=SIZES)


def tiny_stacks(subject: Subject) -> None:
    """Stacks smaller than any window or patch, and empty ones, are denoised or refused, no crash."""
    model = subject.make()
    for shape in ((1, 8, 8), (2, 8, 8), (1, 3, 40), (1, 1, 1), (0, 16, 16), (1, 0, 16)):
        stack = movie().stack()[: shape[0], 20 : 20 + shape[1], 20 : 20 + shape[2]].copy()
        where = f"{HERE} of shape {shape}"
        call = partial(model.denoise, stack, meta_of(stack), context=subject.context())
        result = done_or_refused(call, where, "return what is smaller than a window or patch as float32")
        if result is not None:
            with asked_by("odd_sizes", "constant_stack"):
                checked(result, stack.shape, where)


def bad_pixels(subject: Subject) -> None:
    """NaN and infinity are refused, or stay where they were."""
    for value in (np.nan, np.inf):
        stack = small(2).astype(np.float32)
        stack[1, 20, 30] = value
        where = f"{HERE} with one pixel {value}"
        call = partial(subject.make().denoise, stack, meta_of(stack), context=subject.context())
        result = done_or_refused(call, where, "leave such pixels out of sums and keep them as they are")
        if result is None:
            continue
        result = checked(result, stack.shape, where, finite=False)
        spread = ~np.isfinite(result)
        spread[1, 20, 30] = False
        if spread.any():
            raise CheckFailed(
                f"one pixel that is {value} made {int(spread.sum())} others NaN or infinite",
                where=where,
                mend=f"begin with hyped_core.stacks.check_stack, which refuses them, or {REFUSE}",
            )


def unknown_camera(subject: Subject) -> None:
    """Offset, gain, times and names are told where they are known; a model does without."""
    denoised(subject, small(1), meta=ImageMeta(), where=f"{HERE} with ImageMeta() alone", mend=CAMERA)


CHECKS = (
    _check("frames_kept", "Steps after denoising find frames and pixels by their place.", frames_kept),
    _check(
        "camera_units",
        "Intensities of nuclei are measured on the denoised movie and compared with those of others.",
        camera_units,
    ),
    _check(
        "pixels_in_place",
        "Labels of the raw movie are laid on the denoised one; what is moved is measured beside the nuclei.",
        pixels_in_place,
    ),
    _check("unknown_camera", "Many movies say nothing of their camera.", unknown_camera),
    _check("other_cameras", "A model that knows one camera alone distorts the movies of every other.", other_cameras),
    _check(
        "stack_in_any_memory",
        "Movies come as integers or floats, as views or read-only maps of files; the result must not depend on which.",
        stack_in_any_memory,
    ),
    _check("constant_stack", "Movies have dark, empty and saturated frames; they must not become NaN.", constant_stack),
    _check("odd_sizes", "Fields of view have the size that stitching leaves, not a power of two.", odd_sizes),
    _check("tiny_stacks", "A crash without a reason ends a run that took hours.", tiny_stacks),
    _check("bad_pixels", "One NaN that spreads silently spoils every measurement of the frame.", bad_pixels),
    *denoise_movies.CHECKS,
)
