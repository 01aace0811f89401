"""Checks of segmenters: a plain good model passes them all, and each fails on a model that is wrong in its way."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from hyped_core.checking.behaviour.images import movie
from hyped_core.checking.behaviour.segment import CHECKS, EXERCISE, same
from hyped_core.checking.compare import copy_of, difference
from hyped_core.checking.records import CheckFailed, CheckSkipped, Subject
from hyped_core.errors import DesignError, InvalidDataError
from hyped_core.spec import ModelSpec

checked = runpy.run_path(str(Path(__file__).with_name("checked_models.py")))
NAMED = {check.name: check for check in CHECKS}


class Threshold:
    """Everything well above the background of the stain, in connected pieces."""

    channel = "Cy5"
    over = 300.0

    def segment(self, planes, meta, *, context):
        if self.channel not in meta.channels:
            raise DesignError(f"there is no channel {self.channel}", where="channels")
        plane = np.asarray(planes[meta.channels.index(self.channel)], np.float32)
        if plane.size == 0 or not np.isfinite(plane).all():
            raise InvalidDataError("empty, or pixels that are NaN or infinite", where="planes")
        smooth = ndimage.gaussian_filter(plane, 1)
        labels, count = ndimage.label(smooth > np.median(smooth) + self.over)
        large = np.flatnonzero(np.bincount(labels.ravel(), minlength=count + 1)[1:] >= 12) + 1
        number = np.zeros(count + 1, np.int32)
        number[large] = np.arange(1, len(large) + 1)
        return number[labels]


def subject_of(model, tmp_path, **told) -> Subject:
    spec = ModelSpec("tried", "segment", "nowhere:Model", **told)
    return Subject("segment", "tried", spec, lambda values=None: model(), tmp_path)


def wrong(change):
    """A model whose labels are ``change(labels, planes)``."""

    class Wrong(Threshold):
        def segment(self, planes, meta, *, context):
            return change(super().segment(planes, meta, context=context), np.asarray(planes))

    return checked["sendable"](Wrong, globals())


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.name)
def test_a_good_model_passes(check, tmp_path):
    check.run(subject_of(Threshold, tmp_path))


class Raw(Threshold):
    """Checks nothing of what it is given."""

    def segment(self, planes, meta, *, context):
        plane = np.asarray(planes[meta.channels.index("Cy5")], np.float32)
        return (plane > plane.mean() + plane.std()).astype(np.int32)


class First(Threshold):
    """Takes the first plane for the stain."""

    def segment(self, planes, meta, *, context):
        return super().segment(planes[:1], type(meta)(channels=("Cy5",)), context=context)


class Indexing(Threshold):
    def segment(self, planes, meta, *, context):
        assert planes[meta.channels.index("Cy5")].size
        return super().segment(planes, meta, context=context)


class Stretching(Threshold):
    """Scales integers by the range of their type."""

    def segment(self, planes, meta, *, context):
        planes = np.asarray(planes)
        factor = 1.0 if planes.dtype.kind == "u" else 0.3
        return super().segment(planes * factor, meta, context=context)


class Sealing(Threshold):
    def segment(self, planes, meta, *, context):
        planes[0, 0, 0] += 0
        return super().segment(planes, meta, context=context)


class Remembering(Threshold):
    level = None

    def segment(self, planes, meta, *, context):
        self.level = self.level or float(np.ptp(planes))
        self.over = 0.2 * self.level
        return super().segment(planes, meta, context=context)


class Timed(Threshold):
    def segment(self, planes, meta, *, context):
        assert meta.time_h[0] >= 0
        return super().segment(planes, meta, context=context)


class Noise(Threshold):
    """Divides by the number of nuclei."""

    def segment(self, planes, meta, *, context):
        labels = super().segment(planes, meta, context=context)
        assert not np.ptp(planes) or 1 // int(labels.max()) >= 0
        return labels


class NaNWeak(Threshold):
    def segment(self, planes, meta, *, context):
        return super().segment(np.where(np.isfinite(planes).all(), planes, 0), meta, context=context)


class Crashing(Threshold):
    def segment(self, planes, meta, *, context):
        np.asarray(planes, np.float32)[..., 9, 9]
        return super().segment(planes, meta, context=context)


def gap(labels, planes):
    return np.where(labels > 1, labels + 2, labels).astype(np.int32)


def moved(labels, by):
    return np.pad(labels[:, :-by], ((0, 0), (by, 0)))[:, : labels.shape[1]]


def joined(labels, planes):
    return np.where(labels == 3, 2, np.where(labels > 3, labels - 1, labels)).astype(np.int32)


TOLD = {
    "ZeroDivisionError": {"noise_alone", "tiny_frames"},
    "one pixel that is nan moved 1395": {"bad_pixels_in_planes", "labels_connected", "missing_channels"},
    "without channel Cy5: raises ValueError: tuple.index": {"missing_channels", "tiny_frames"},
    "read-only float32: raises ValueError": {"planes_in_any_memory", "tiny_frames"},
}
"""The checks that tell of a defect where it is not its own alone: one that is more general, or several that differ."""
WRONG = [
    ("labels_form", wrong(lambda labels, p: labels.astype(np.int64)), "int64, expected int32"),
    ("labels_form", wrong(lambda labels, p: labels > 0), "bool, expected int32"),
    ("labels_form", wrong(lambda labels, p: labels[None]), r"labels of shape \(1, 96, 108\) for planes of \(96, 108\)"),
    ("labels_form", wrong(lambda labels, p: labels[:60, :36]), r"\(60, 36\)"),
    ("labels_form", wrong(lambda labels, p: np.where(labels, labels, -1)), "a label is -1"),
    ("labels_form", wrong(lambda labels, p: {"labels": labels}), "builtins.dict, expected a numpy array"),
    ("labels_contiguous", wrong(gap), "labels up to 11; there is no 2"),
    ("labels_connected", wrong(joined), "label 2 is 2 pieces, the first within rows"),
    ("empty_frames", wrong(lambda labels, p: labels if np.ptp(p) else labels + 1), "1 nuclei on 2688 of 2688 pixels"),
    ("nuclei_in_place", wrong(lambda labels, p: labels[:, ::-1]), "(apart from the others|left and right exchanged)"),
    ("nuclei_in_place", wrong(lambda labels, p: labels[::-1]), "the labels upside down lie on"),
    ("nuclei_in_place", wrong(lambda labels, p: moved(labels, 2)), "the labels two pixels further left lie on"),
    ("nuclei_in_place", wrong(lambda labels, p: np.zeros_like(labels)), "apart from the others, 0 share"),
    ("noise_alone", Noise, "ZeroDivisionError"),
    ("tiny_frames", Crashing, r"of shape \(3, 8, 8\).*IndexError.*or an error about the data"),
    ("bad_pixels_in_planes", Raw, "one pixel that is nan moved 1395"),
    ("bad_pixels_in_planes", NaNWeak, "one pixel that is nan moved"),
    ("channel_order", First, "channels in the order TagGFP, Cy5, mKate"),
    ("missing_channels", Indexing, "without channel Cy5: raises ValueError: tuple.index"),
    ("planes_in_any_memory", Stretching, "float32 and uint16 of the same numbers"),
    ("planes_in_any_memory", Sealing, "read-only float32: raises ValueError"),
    ("frames_apart", Remembering, "after another frame, and by a fresh model"),
    ("unknown_movie", Timed, "TypeError"),
]


@pytest.mark.parametrize("name, model, said", WRONG, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(WRONG)])
def test_a_wrong_model_fails_its_check(name, model, said, tmp_path):
    with pytest.raises(CheckFailed) as caught:
        NAMED[name].run(subject_of(model, tmp_path))
    failed = caught.value
    assert failed.where and failed.mend
    assert re.search(said, f"{failed.where}: {failed.message}", re.DOTALL), f"{failed.where}: {failed.message}"


@pytest.mark.parametrize("name, model, said", WRONG, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(WRONG)])
def test_a_defect_is_told_by_as_few_checks_as_can_be(name, model, said):
    assert set(checked["failing"]("segment", model)) == TOLD.get(said, {name})


def test_every_check_is_seen_to_fail():
    assert {name for name, *_ in WRONG} == set(NAMED)


def test_a_model_that_finds_nothing_is_not_said_to_be_good_at_it(tmp_path):
    subject = subject_of(wrong(lambda labels, p: labels * np.int32(0)), tmp_path)
    for name in ("labels_contiguous", "labels_connected", "channel_order"):
        with pytest.raises(CheckSkipped, match="finds no nuclei"):
            NAMED[name].run(subject)


def test_a_model_that_passes_over_a_bad_pixel_is_fine(tmp_path):
    class Patient(Threshold):
        def segment(self, planes, meta, *, context):
            planes = np.where(np.isfinite(planes), planes, np.median(planes[np.isfinite(planes)]))
            return super().segment(planes, meta, context=context)

    NAMED["bad_pixels_in_planes"].run(subject_of(Patient, tmp_path))


def test_names_of_nuclei_and_a_few_pixels_do_not_count():
    labels = movie().labels[2]
    renamed = np.where(labels == 1, 2, np.where(labels == 2, 1, labels)).astype(np.int32)
    same(labels, renamed, "renamed", "", "")
    nudged = labels.copy()
    nudged[np.argwhere(labels == 3)[0][0], np.argwhere(labels == 3)[0][1]] = 0
    same(labels, nudged, "nudged", "", "")
    shifted = np.roll(labels, 2, axis=1)
    with pytest.raises(CheckFailed, match="belong to others"):
        same(labels, shifted, "shifted", "", "")
    merged = np.where(labels == 2, 1, labels).astype(np.int32)
    with pytest.raises(CheckFailed, match="belong to others"):
        same(labels, merged, "merged", "", "")
    with pytest.raises(CheckFailed, match="belong to others"):
        same(merged, labels, "merged", "", "")


def test_why_is_one_sentence_and_names_are_told_once():
    assert len(NAMED) == len(CHECKS)
    for check in CHECKS:
        assert check.tasks == ("segment",) and check.why.endswith(".") and ". " not in check.why


def test_the_exercise(tmp_path):
    inputs = EXERCISE.inputs(3)
    assert difference(inputs, EXERCISE.inputs(3)) is None and difference(inputs, EXERCISE.inputs(4)) is not None
    before = copy_of(inputs)
    found = EXERCISE.work(Threshold(), inputs, subject_of(Threshold, tmp_path).context())
    assert found["labels"].max() > 5 and difference(inputs, before) is None
