"""What a segmenter has to do: the exercise, and what holds of labels whatever the frame shows."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_core.checking.behaviour.images import (
    REFUSE,
    as_array,
    called,
    done_or_refused,
    layouts,
    movie,
)
from hyped_core.checking.behaviour.segment_place import misplaced
from hyped_core.checking.behaviour.working import comparing, must_repeat
from hyped_core.checking.records import Check, CheckFailed, CheckSkipped, Exercise, Subject, asked_by
from hyped_core.checking.tiny.movie import tiny_movie
from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta

HERE = "segment(planes)"
SHARE = 1e-3
"""Share of the pixels that may change sides where only rounding differs."""
BAD_PIXEL_SHARE = 0.1
"""Share of the nuclei's pixels that one bad pixel may change."""


def frame(number: int = 2) -> npt.NDArray[np.uint16]:
    """(c, y, x) of the tiny movie; new memory."""
    return movie().noisy[number].copy()


def segmented(
    subject: Subject,
    planes: npt.NDArray,
    *,
    meta: ImageMeta | None = None,
    model: Any = None,
    where: str = HERE,
    mend: str = "",
) -> npt.NDArray[np.int32]:
    """The model's labels of ``planes``, if they have the contract's form; by a fresh model where none is given.

    A check makes one model for all its calls where it can: some take seconds to load. ``mend`` says what to do where
    it raises something.
    """
    model = subject.make() if model is None else model
    told, context = meta or movie().frame_meta(2), subject.context()
    return checked(called(lambda: model.segment(planes, told, context=context), where, mend), planes.shape[1:], where)


def fresh_labels(subject: Subject, number: int = 2) -> npt.NDArray[np.int32]:
    """What a fresh model finds in a frame of the tiny movie, computed once for all checks of the model."""
    notes = getattr(subject.make, "notes", {})
    key = f"labels of frame {number}"
    if key not in notes:
        notes[key] = segmented(subject, frame(number), meta=movie().frame_meta(number))
    return notes[key]


@asked_by("labels_form")
def checked(result: Any, shape: tuple[int, ...], where: str) -> npt.NDArray[np.int32]:
    """Labels, if they are int32 of this shape and not below 0."""
    result = as_array(result, where)
    if result.shape != shape:
        raise CheckFailed(
            f"labels of shape {result.shape} for planes of {shape}",
            where=where,
            mend="return one plane of labels (y, x) for all channels, of the height and width of planes (c, y, x)",
        )
    if result.dtype != np.int32:
        raise CheckFailed(
            f"labels are {result.dtype}, expected int32",
            where=where,
            mend="return labels.astype(numpy.int32), in which each nucleus has a number of its own",
        )
    if result.size and result.min() < 0:
        raise CheckFailed(
            f"a label is {int(result.min())}, expected 0 for background and numbers from 1",
            where=where,
            mend="give borders and background the label 0, and nuclei the numbers from 1",
        )
    return result


@comparing
@asked_by("frames_apart")
def same(a: npt.NDArray, b: npt.NDArray, what: str, mend: str, where: str) -> None:
    """Fail where two segmentations differ, whatever the nuclei are called, in more than a few pixels."""
    pairs, counts = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1, return_counts=True)
    found = list(zip(counts.tolist(), *pairs.tolist(), strict=True))
    ours: dict[int, tuple[int, int]] = {}
    theirs: dict[int, tuple[int, int]] = {}
    for count, one, other in found:  # of each nucleus the one that shares most of it
        ours[one] = max(ours.get(one, (0, 0)), (count, other))
        theirs[other] = max(theirs.get(other, (0, 0)), (count, one))
    kept = sum(n for n, one, other in found if ours[one] == (n, other) and theirs[other] == (n, one))
    numbers = [len(np.unique(labels[labels > 0])) for labels in (a, b)]
    if numbers[0] != numbers[1] or a.size - kept > SHARE * a.size:
        raise CheckFailed(
            f"{what}: {numbers[0]} and {numbers[1]} nuclei, {a.size - kept} of {a.size} pixels belong to others",
            where=where,
            mend=mend,
        )


def _inputs(seed: int) -> dict[str, Any]:
    made = tiny_movie(seed)
    return {"planes": made.noisy[2].copy(), "meta": made.frame_meta(2)}


def _work(model: Any, inputs: dict[str, Any], context: RunContext) -> dict[str, Any]:
    return {"labels": model.segment(inputs["planes"], inputs["meta"], context=context)}


EXERCISE = Exercise("segment", _inputs, _work, rtol=0, atol=0)


def labels_form(subject: Subject) -> None:
    """int32 (y, x), of the planes' height and width, 0 or above."""
    model = subject.make()
    segmented(subject, frame(), model=model)
    segmented(subject, frame()[:, :61, :37].copy(), model=model, where=f"{HERE} of shape (3, 61, 37)")


def labels_contiguous(subject: Subject) -> None:
    """n nuclei are called 1 to n."""
    for number in (2, 7):
        labels = _nuclei(fresh_labels(subject, number))
        found = np.unique(labels[labels > 0])
        if found[-1] != len(found):
            gap = int(np.setdiff1d(np.arange(1, found[-1] + 1), found)[0])
            raise CheckFailed(
                f"{len(found)} nuclei have labels up to {int(found[-1])}; there is no {gap}",
                where=f"{HERE} of frame {number}",
                mend="call n nuclei 1 to n: number them anew after some were dropped, by numpy.unique(labels, "
                "return_inverse=True) or skimage.segmentation.relabel_sequential",
            )


def labels_connected(subject: Subject) -> None:
    """All pixels of a label hang together, corners included."""
    from scipy import ndimage

    for number in (2, 7):
        labels = _nuclei(fresh_labels(subject, number))
        for label, box in enumerate(ndimage.find_objects(labels), start=1):
            parts = 0 if box is None else ndimage.label(labels[box] == label, np.ones((3, 3)))[1]
            if parts > 1:
                raise CheckFailed(
                    f"label {label} is {parts} pieces, the first within rows {box[0].start} to {box[0].stop - 1} and "
                    f"columns {box[1].start} to {box[1].stop - 1}",
                    where=f"{HERE} of frame {number}",
                    mend="end with one label for each connected piece, or keep a label's largest (scipy.ndimage.label)",
                )


@asked_by("labels_connected")
def nuclei_in_place(subject: Subject) -> None:
    """Bright nuclei that touch neither another nor the edge are labelled where they are: most of them, roughly."""
    pairs = [(fresh_labels(subject, number), movie().labels[number]) for number in (2, 7)]
    if said := misplaced(pairs):
        raise CheckFailed(
            said,
            where=f"{HERE} of frames 2 and 7",
            mend="give pixel (y, x) of the planes the label at (y, x): undo each flip, turn, crop and scaling; where "
            "the model is for other cells than nuclei 17 micrometres wide, say so in ModelSpec.expected_failures",
        )


def empty_frames(subject: Subject) -> None:
    """A frame that is black, even or saturated has no nuclei."""
    model = subject.make()
    for value in (0, 300, 16383):
        where = f"{HERE} of all {value}"
        labels = segmented(subject, np.full((3, 48, 56), value, np.uint16), model=model, where=where)
        if labels.any():
            raise CheckFailed(
                f"{int(labels.max())} nuclei on {int((labels > 0).sum())} of {labels.size} pixels, "
                f"where every pixel is {value}",
                where=where,
                mend="return zeros where the planes have no contrast: a threshold taken from the frame itself "
                "(Otsu's, a quantile) finds nuclei in every frame",
            )


def noise_alone(subject: Subject) -> None:
    """A frame without nuclei gets labels of the usual form, or none."""
    rng = np.random.default_rng(3)
    planes = (100 + 4 * rng.poisson(50, (3, 64, 72))).astype(np.uint16)
    mend = "return zeros where no nucleus is found: take no mean, maximum or share of an empty list"
    segmented(subject, planes, where=f"{HERE} of noise alone", mend=mend)


def tiny_frames(subject: Subject) -> None:
    """Frames smaller than a nucleus, and empty ones, are segmented or refused, no crash."""
    model = subject.make()
    for height, width in ((8, 8), (3, 40), (1, 1), (0, 16)):
        planes = frame()[:, 40 : 40 + height, 40 : 40 + width].copy()
        where = f"{HERE} of shape {planes.shape}"
        mend = "return zeros of the height and width given for what is smaller than a nucleus or a window"
        done_or_refused(partial(segmented, subject, planes, model=model, where=where), where, mend)


def bad_pixels_in_planes(subject: Subject) -> None:
    """NaN and infinity are refused, or change nothing but the place where they are."""
    clean, model = frame().astype(np.float32), subject.make()
    expected = None
    for value in (np.nan, np.inf):
        planes = clean.copy()
        planes[:, 47, 51] = value
        where = f"{HERE} with one pixel {value}"
        mend = "replace such pixels by the plane's median before anything is computed"
        labels = done_or_refused(partial(segmented, subject, planes, model=model, where=where), where, mend)
        if labels is None:
            continue
        expected = segmented(subject, clean, model=model) if expected is None else expected
        moved, nuclei = int(((labels > 0) != (expected > 0)).sum()), int((expected > 0).sum())
        if moved > BAD_PIXEL_SHARE * max(nuclei, 1):
            raise CheckFailed(
                f"one pixel that is {value} moved {moved} pixels into or out of nuclei, which without it have {nuclei}",
                where=where,
                mend=f"replace such pixels by the plane's median, or {REFUSE} where not numpy.isfinite(planes).all()",
            )


def channel_order(subject: Subject) -> None:
    """Planes are found by ``meta.channels``, in whatever order they come."""
    must_repeat(subject)
    meta, planes, model = movie().frame_meta(2), frame(), subject.make()
    expected = _nuclei(fresh_labels(subject))
    for order in ((2, 0, 1), (1, 2, 0)):
        names = tuple(meta.channels[k] for k in order)
        turned = dataclasses.replace(meta, channel="+".join(names), channels=names)
        where = f"{HERE} with channels {', '.join(names)}"
        found = segmented(subject, planes[list(order)].copy(), meta=turned, model=model, where=where)
        what = f"channels in the order {', '.join(names)} and {', '.join(meta.channels)}"
        same(found, expected, what, "take each plane as planes[meta.channels.index(name)], not by its place", where)


def missing_channels(subject: Subject) -> None:
    """Where a channel is missing the model does without or says so."""
    planes, channels, model = frame(), movie().channels, subject.make()
    for k, name in enumerate(channels):
        others = tuple(other for other in channels if other != name)
        _try(subject, model, np.delete(planes, k, axis=0), others, f"{HERE} without channel {name}")
        _try(subject, model, planes[k : k + 1].copy(), (name,), f"{HERE} with channel {name} alone")
    _try(subject, model, planes[:1].copy(), ("other",), f"{HERE} with one channel of another name")


def planes_in_any_memory(subject: Subject) -> None:
    """The numbers decide, not their type, order in memory or stride."""
    must_repeat(subject)
    planes, expected, model = frame(), fresh_labels(subject), subject.make()
    for name, form in layouts(planes):
        where = f"{HERE} in {name}"
        mend = "begin with planes.astype(numpy.float32), a copy, and take scales from values, not from the dtype"
        with asked_by("inputs_unmodified"):
            found = segmented(subject, form, model=model, where=where, mend=mend)
        same(found, expected, f"{name} and uint16 of the same numbers", mend, where)


def frames_apart(subject: Subject) -> None:
    """The labels of a frame do not depend on the frames before it."""
    must_repeat(subject)
    used = subject.make()
    segmented(subject, frame(6) * np.uint16(2), meta=movie().frame_meta(6), model=used)
    where = "segment(planes) after segment(other)"
    found, expected = segmented(subject, frame(), model=used), fresh_labels(subject)
    mend = "let segment set nothing on self: levels and sizes are of the frame given, or in the config"
    same(found, expected, "after another frame, and by a fresh model", mend, where)


def unknown_movie(subject: Subject) -> None:
    """Of a movie only the names of its channels have to be known."""
    segmented(
        subject, frame(), meta=ImageMeta(channels=movie().channels), where=f"{HERE} with ImageMeta(channels=...)",
        mend="use time_h, pixel size, offset and gain of meta where they are told, and do without where they are None",
    )  # fmt: skip


def _try(subject: Subject, model: Any, planes: npt.NDArray, names: tuple[str, ...], where: str) -> None:
    meta = dataclasses.replace(movie().frame_meta(2), channel="+".join(names), channels=names)
    call = partial(segmented, subject, planes, meta=meta, model=model, where=where)
    done_or_refused(call, where, "do without it: ask `name in meta.channels` before meta.channels.index(name)")


def _nuclei(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The labels; the check is skipped where there are none, since it would hold of nothing."""
    if not labels.any():
        raise CheckSkipped("the model finds no nuclei in the tiny movie (theirs are 17 micrometres wide)")
    return labels


def _check(name: str, why: str, run: Any) -> Check:
    return Check(name, ("segment",), why, run)


CHECKS = (
    _check("labels_form", "Nuclei are measured where their labels lie; another shape ends the run.", labels_form),
    _check("frames_apart", "Frames are segmented by several processes, in any order.", frames_apart),
    _check(
        "labels_contiguous",
        "Gaps in the numbers count as nuclei without pixels, or cost memory by the highest number.",
        labels_contiguous,
    ),
    _check("labels_connected", "A label in pieces is measured as one nucleus between them.", labels_connected),
    _check(
        "nuclei_in_place",
        "Labels that lie elsewhere, or nowhere, measure the background, and nothing later tells.",
        nuclei_in_place,
    ),
    _check("empty_frames", "Movies begin and end with dark frames; nuclei there would be tracked.", empty_frames),
    _check("noise_alone", "A frame that all nuclei left must not end the run.", noise_alone),
    _check("tiny_frames", "A crash without a reason ends a run that took hours.", tiny_frames),
    _check(
        "bad_pixels_in_planes",
        "One NaN makes every comparison with a threshold false, and a frame loses its nuclei.",
        bad_pixels_in_planes,
    ),
    _check(
        "channel_order",
        "Microscopes write channels in any order; nuclei would be those of another stain.",
        channel_order,
    ),
    _check(
        "missing_channels",
        "A user whose movie lacks a stain has to be told which, not shown an IndexError.",
        missing_channels,
    ),
    _check(
        "planes_in_any_memory",
        "Movies come as integers or floats, as views or read-only maps of files; the result must not depend on which.",
        planes_in_any_memory,
    ),
    _check("unknown_movie", "Plain image files say nothing of time, camera or pixel size.", unknown_movie),
)
