"""What a stack has to be before it is denoised."""

from __future__ import annotations

import numpy as np
import pytest

from hyped_core.errors import InvalidDataError
from hyped_core.stacks import check_stack


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64, np.float32, np.float64, bool])
def test_numbers_come_back_as_contiguous_float32(dtype):
    stack = np.arange(24).reshape(2, 3, 4).astype(dtype)
    out = check_stack(stack[:, ::-1])
    assert out.dtype == np.float32 and out.flags.c_contiguous
    assert np.array_equal(out, stack[:, ::-1].astype(np.float32))


def test_float32_is_not_copied():
    stack = np.zeros((1, 4, 4), np.float32)
    assert check_stack(stack) is stack or np.shares_memory(check_stack(stack), stack)


@pytest.mark.parametrize(
    "stack",
    [np.zeros((4, 4)), np.zeros((0, 4, 4)), np.zeros((1, 4, 0)), np.zeros((1, 1, 2), complex), [[["a"]]], 1.0],
)
def test_what_is_no_stack_is_refused(stack):
    with pytest.raises(InvalidDataError, match=r"expected numbers \(t, y, x\)"):
        check_stack(stack)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_bad_pixels_are_counted_by_frame(value):
    stack = np.zeros((8, 4, 4))
    stack[1, 0, :2] = stack[7, 3, 3] = value
    with pytest.raises(InvalidDataError) as caught:
        check_stack(stack, where="photon")
    assert "2 of 8 frames (frame 1: 2, frame 7: 1)" in str(caught.value)
    assert caught.value.where == "photon" and "fill" in caught.value.mend


def test_a_long_list_of_bad_frames_is_cut():
    with pytest.raises(InvalidDataError, match=r"9 of 9 frames \(.*frame 4: 1, \.\.\.\)"):
        check_stack(np.full((9, 1, 1), np.nan))
