"""Checks of denoisers: a plain good model passes them all, and each fails on a model that is wrong in its way."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hyped_core.checking.behaviour.denoise import CHECKS, EXERCISE
from hyped_core.checking.compare import copy_of, difference
from hyped_core.checking.records import CheckFailed, CheckSkipped, Subject
from hyped_core.errors import InvalidDataError, MissingDependencyError, PluginError
from hyped_core.spec import ModelSpec
from hyped_core.stacks import check_stack

checked = runpy.run_path(str(Path(__file__).with_name("checked_models.py")))
NAMED = {check.name: check for check in CHECKS}


class Mean:
    """Each pixel the mean of nine: learns nothing, is local, keeps units."""

    def denoise(self, stack, meta, *, context):
        from scipy.ndimage import uniform_filter

        return uniform_filter(check_stack(stack), (0, 3, 3))


class Averaging(Mean):
    """Looks at one frame on each side, learns its strength, and goes through movies frame by frame."""

    neighbours = 1
    strength = None

    def fit(self, stack, meta, *, context):
        self.strength = float(np.std(check_stack(stack)))

    def denoise(self, stack, meta, *, context):
        planes = check_stack(stack)
        return np.stack([self._one(planes.__getitem__, t, len(planes), meta, context) for t in range(len(planes))])

    def _one(self, read, t, count, meta, context):
        planes = check_stack(np.stack([read(i) for i in range(max(0, t - 1), min(count, t + 2))]))
        share = 0.5 if self.strength is None else self.strength / (self.strength + 100)
        mine = planes[min(t, 1)]
        return (share * planes.mean(axis=0) + (1 - share) * mine).astype(np.float32)


class Streaming(Averaging):
    def denoise_frames(self, read, count, meta, *, context, frames=None):
        for t in range(count) if frames is None else frames:
            yield self._one(read, t, count, meta, context)


def subject_of(model, tmp_path, **told) -> Subject:
    spec = ModelSpec("tried", "denoise", "nowhere:Model", **told)
    return Subject("denoise", "tried", spec, lambda values=None: model(), tmp_path)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.name)
@pytest.mark.parametrize("model", [Mean, Averaging, Streaming])
def test_good_models_pass(check, model, tmp_path):
    skipped = {
        Mean: {"no_fit_needed", "fit_settles", "frames_one_by_one", "channels_learn_apart"},
        Averaging: {"frames_one_by_one"},
        Streaming: {"windows_equal_the_whole"},
    }[model]
    if check.name in skipped:
        with pytest.raises(CheckSkipped):
            check.run(subject_of(model, tmp_path))
    else:
        check.run(subject_of(model, tmp_path))


def wrong(change, base=Mean, **attributes):
    """A model whose results are ``change(result, stack)``."""

    def denoise(self, stack, meta, *, context):
        return change(base.denoise(self, stack, meta, context=context), np.asarray(stack))

    return checked["sendable"](type("Wrong", (base,), {"denoise": denoise, **attributes}), globals())


class Ignorant(Mean):
    """Takes a stack of numbers for a file's bytes."""

    def denoise(self, stack, meta, *, context):
        planes = np.frombuffer(stack.tobytes(order="A"), stack.dtype).reshape(stack.shape)
        return super().denoise(planes, meta, context=context)


class InPlace(Mean):
    def denoise(self, stack, meta, *, context):
        stack -= stack.min()
        return super().denoise(stack, meta, context=context)


class Standardised(Mean):
    """Divides by the standard deviation, and by nothing where there is none."""

    def denoise(self, stack, meta, *, context):
        planes = check_stack(stack)
        with np.errstate(invalid="ignore"):
            middle, wide = planes.mean(), planes.std()
            return ((planes - middle) / wide * wide + middle).astype(np.float32)


class Halving(Mean):
    """A network with a level of halves, without padding."""

    def denoise(self, stack, meta, *, context):
        planes = check_stack(stack)
        return planes[:, : planes.shape[1] // 2 * 2, : planes.shape[2] // 2 * 2]


class Patches(Mean):
    def denoise(self, stack, meta, *, context):
        found = np.lib.stride_tricks.sliding_window_view(check_stack(stack), (9, 9), axis=(1, 2))
        assert found.size
        return super().denoise(stack, meta, context=context)


class Blind(Mean):
    """Spreads NaN over the frame."""

    def denoise(self, stack, meta, *, context):
        planes = np.asarray(stack, np.float32)
        return planes - planes.mean(axis=(1, 2), keepdims=True) + planes.mean(axis=(1, 2), keepdims=True)


class Choosy(Mean):
    def denoise(self, stack, meta, *, context):
        return super().denoise(stack, meta, context=context) - meta.offset + meta.offset


class Insisting(Mean):
    def fit(self, stack, meta, *, context):
        self.ready = True

    def denoise(self, stack, meta, *, context):
        if not hasattr(self, "ready"):
            raise InvalidDataError("fit me first")
        return super().denoise(stack, meta, context=context)


class Remembering(Mean):
    last = None

    def denoise(self, stack, meta, *, context):
        found = super().denoise(stack, meta, context=context)
        self.last = float(found.mean()) if self.last is None else self.last
        return found + np.float32(0.01 * (self.last - found.mean()))


class Learning(Remembering):
    """Fine without `fit`; after it, goes on learning."""

    fitted = False

    def fit(self, stack, meta, *, context):
        self.fitted, self.shift = True, 0.0

    def denoise(self, stack, meta, *, context):
        found = Mean.denoise(self, stack, meta, context=context)
        if self.fitted:
            self.shift += 1.0
            return found + np.float32(self.shift)
        return found


class Looking(Averaging):
    neighbours = 0


class Saying(Mean):
    neighbours = "3"


class Cutting(Averaging):
    """Equal to the whole in the first window only: looks three frames back and says one."""

    def _one(self, read, t, count, meta, context):
        planes = check_stack(np.stack([read(i) for i in range(max(0, t - 3), t + 1)]))
        return planes.mean(axis=0)


class Placed(Mean):
    """Lifts the right side of whatever it is given, as against a fall of light over the whole field."""

    def denoise(self, stack, meta, *, context):
        found = super().denoise(stack, meta, context=context)
        return found + 4 * np.arange(found.shape[2], dtype=np.float32)


class Skipping(Streaming):
    def denoise_frames(self, read, count, meta, *, context, frames=None):
        yield from super().denoise_frames(read, count, meta, context=context)


class Other(Streaming):
    def denoise_frames(self, read, count, meta, *, context, frames=None):
        for plane in super().denoise_frames(read, count, meta, context=context, frames=frames):
            yield plane + np.float32(1)


def shared() -> type:
    """A model whose class holds what it learns."""
    state = SimpleNamespace(shift=0.0)

    class Shared(Mean):
        def fit(self, stack, meta, *, context):
            state.shift = float(np.mean(stack)) / 10

        def denoise(self, stack, meta, *, context):
            return super().denoise(stack, meta, context=context) + np.float32(state.shift)

        def __init__(self):
            state.shift = 0.0

    return checked["sendable"](Shared, globals())


class Locked(Averaging):
    def __init__(self):
        import threading

        self.lock = threading.Lock()


TOLD = {
    "nuclei are": {"camera_units", "windows_equal_the_whole"},
    "read-only float32: raises": {"inputs_unmodified", "constant_stack", "tiny_stacks"},
    "20 camera units from 0": {"other_cameras"},
    "InvalidDataError: fit me first": {"runs"},
    "before and after another stack was denoised": {"calls_repeat"},
    "a crop and the whole image differ by": {"camera_units", "crops_agree"},
    "whose copy was fitted to another channel": {"instances_apart"},
    r"copy.deepcopy\(model\): TypeError": {"model_pickles"},
}
"""The checks that tell of a defect where it is not its own alone: one that is more general, or several that differ."""
WRONG = [
    ("frames_kept", wrong(lambda r, s: r.astype(np.float64)), "float64, expected float32"),
    ("frames_kept", wrong(lambda r, s: r[0]), r"shape \(56, 68\) for a stack of shape \(2, 56, 68\)"),
    ("frames_kept", wrong(lambda r, s: r.tolist()), "builtins.list, expected a numpy array"),
    ("frames_kept", wrong(lambda r, s: np.where(r == r.max(), np.nan, r)), r"1 of 7616 pixels are NaN"),
    ("camera_units", wrong(lambda r, s: r / np.float32(16383)), "the mean of the stack is"),
    ("camera_units", wrong(lambda r, s: r - np.float32(100)), "the mean of the stack is"),
    ("camera_units", wrong(lambda r, s: r * np.float32(0.3) + np.float32(0.7 * r.mean())), "nuclei are"),
    ("pixels_in_place", wrong(lambda r, s: np.roll(r, 1, axis=2)), "moved by 0 pixels in y and 1 in x"),
    ("pixels_in_place", wrong(lambda r, s: np.roll(r, -1, axis=1)), "moved by -1 pixels in y and 0 in x"),
    ("other_cameras", wrong(lambda r, s: np.maximum(r, 0)), "pixels below 0"),
    ("other_cameras", wrong(lambda r, s: r.clip(-9999, 16383)), "16 bits"),
    ("other_cameras", wrong(lambda r, s: r * np.float32(257) if s.dtype == np.uint8 else r), "8 bits"),
    ("stack_in_any_memory", Ignorant, "Fortran order"),
    ("stack_in_any_memory", InPlace, "read-only float32: raises"),
    ("stack_in_any_memory", wrong(lambda r, s: r + np.float32(s.dtype.kind == "f")), "read-only float32"),
    ("constant_stack", Standardised, "of all 0: .*NaN or infinite"),
    ("constant_stack", wrong(lambda r, s: r + np.float32(20)), "20 camera units from 0"),
    ("odd_sizes", Halving, r"of shape \(1, 61, 37\).*shape \(1, 60, 36\) for a stack"),
    ("tiny_stacks", Patches, r"of shape \(1, 8, 8\).*ValueError.*or an error about the data"),
    ("tiny_stacks", wrong(lambda r, s: np.zeros((1, 8, 8), np.float32) if r.size < 64 else r), r"of shape \(1, 1, 1\)"),
    ("bad_pixels", Blind, "one pixel that is nan made 3807 others"),
    ("unknown_camera", Choosy, "TypeError"),
    ("no_fit_needed", Insisting, "InvalidDataError: fit me first"),
    ("no_memory", Remembering, "after another stack, and by a fresh model"),
    ("fit_settles", Learning, "before and after another stack was denoised"),
    ("windows_equal_the_whole", Looking, "frames 0 to 0 of 2, neighbours = 0: frames in a window"),
    ("windows_equal_the_whole", Saying, "neighbours: is '3', expected a whole number"),
    ("windows_equal_the_whole", Cutting, "frames 1 to 3 of 4, neighbours = 1"),
    ("crops_agree", Placed, "a crop and the whole image differ by"),
    ("frames_one_by_one", Skipping, r"denoise_frames\(frames=\[0, 3\]\): 4 frames, 2 were asked for"),
    ("frames_one_by_one", Other, "frame 0 by denoise_frames and by denoise"),
    ("channels_learn_apart", shared(), "whose copy was fitted to another channel"),
    ("channels_learn_apart", Locked, r"copy.deepcopy\(model\): TypeError"),
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
    assert set(checked["failing"]("denoise", model)) == TOLD.get(said, {name})


def test_every_check_is_seen_to_fail():
    assert {name for name, *_ in WRONG} == set(NAMED)


def test_refusing_is_about_data_and_typed(tmp_path):
    class Refuses(Mean):
        kind = InvalidDataError

        def denoise(self, stack, meta, *, context):
            if min(np.shape(stack)) < 16:
                raise self.kind("too small", where="stack")
            return super().denoise(stack, meta, context=context)

    subject = subject_of(Refuses, tmp_path)
    with pytest.raises(CheckFailed, match=r"InvalidDataError: too small"):
        NAMED["frames_kept"].run(subject)  # two frames are nothing to refuse
    NAMED["tiny_stacks"].run(subject)
    Refuses.kind = PluginError
    with pytest.raises(CheckFailed, match=r"PluginError: too small.*expected a result"):
        NAMED["tiny_stacks"].run(subject)
    Refuses.kind = MissingDependencyError
    with pytest.raises(MissingDependencyError):
        NAMED["frames_kept"].run(subject)


def test_models_that_do_not_repeat_themselves_are_not_compared(tmp_path):
    with pytest.raises(CheckSkipped, match="deterministic=False"):
        NAMED["no_memory"].run(subject_of(Remembering, tmp_path, deterministic=False))


def test_why_is_one_sentence_and_names_are_told_once():
    assert len(NAMED) == len(CHECKS)
    for check in CHECKS:
        assert check.tasks == ("denoise",) and check.why.endswith(".") and ". " not in check.why


def test_the_exercise_uses_all_that_a_model_offers(tmp_path):
    context = subject_of(Streaming, tmp_path).context()
    inputs = EXERCISE.inputs(3)
    assert difference(inputs, EXERCISE.inputs(3)) is None and difference(inputs, EXERCISE.inputs(4)) is not None
    before = copy_of(inputs)
    found = EXERCISE.work(Streaming(), inputs, context)
    assert set(found) == {"denoised without fit", "denoised after fit", "denoise_frames"}
    assert set(EXERCISE.work(Mean(), inputs, context)) == {"denoised without fit"}
    assert difference(inputs, before) is None
