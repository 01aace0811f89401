"""RunContext: streams of random numbers by name, progress that changes nothing."""

from __future__ import annotations

import pytest

from hyped_core.context import LineProgress, RichProgress, RunContext, SilentProgress, default_progress


def test_same_stream_same_numbers():
    first = RunContext(seed=7).rng("cells", 3).random(5)
    assert (first == RunContext(seed=7).rng("cells", 3).random(5)).all()


@pytest.mark.parametrize(
    "other", [(8, ("cells", 3)), (7, ("cells", 4)), (7, ("cell", 3)), (7, ("cells",)), (7, ())]
)
def test_other_streams_other_numbers(other):
    seed, stream = other
    first = RunContext(seed=7).rng("cells", 3).random(5)
    assert (first != RunContext(seed=seed).rng(*stream).random(5)).all()


@pytest.mark.parametrize(
    "progress", [SilentProgress(), LineProgress(0.0), RichProgress(), default_progress()]
)
def test_progress_yields_the_items_and_keeps_stdout_clean(progress, capsys):
    assert list(progress.track(range(5), "counting")) == [0, 1, 2, 3, 4]
    assert list(progress.track(iter("abc"), "spelling")) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""


def test_line_progress_says_how_far(capsys):
    list(LineProgress(0.0).track([1, 2], "stitching"))
    assert "stitching: 1/2" in capsys.readouterr().err


def test_context_is_frozen():
    with pytest.raises(AttributeError):
        RunContext().seed = 3
