"""Errors say where, what and how to mend it; each class has its exit code."""

from __future__ import annotations

import pickle

import pytest

from hyped_core import errors
from hyped_core.errors import HypedError, Problem, ValidationError

CODES = {
    "HypedError": 1,
    "UsageError": 2,
    "InvalidDataError": 3,
    "MissingFileError": 3,
    "CorruptFileError": 3,
    "UnsupportedDataError": 3,
    "DesignError": 3,
    "ParamsError": 3,
    "ValidationError": 3,
    "PluginError": 4,
    "UnknownNameError": 4,
    "NameClashError": 4,
    "MissingDependencyError": 5,
    "MissingHardwareError": 5,
    "NetworkError": 5,
    "StorageError": 5,
    "RegressionError": 6,
}


def all_errors():
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, HypedError)
    }


def test_exit_codes_are_as_promised():
    assert {name: error.exit_code for name, error in all_errors().items()} == CODES


@pytest.mark.parametrize("name", CODES)
def test_every_error_is_a_hyped_error(name):
    error = all_errors()[name]
    made = error("title", []) if error is ValidationError else error("said", where="a.yaml", mend="do this")
    assert isinstance(made, HypedError)
    with pytest.raises(HypedError):
        raise made


def test_text_has_place_message_and_mend():
    error = HypedError("no such channel", where="design.yaml", mend="channels there: Cy5")
    assert str(error) == "design.yaml: no such channel\n  to mend: channels there: Cy5"
    assert str(HypedError("alone")) == "alone"


def test_validation_error_lists_every_problem():
    problems = [Problem("movies/S0", "is missing", "stitch it"), Problem("rna/obs", "no column 'phase'")]
    error = ValidationError("not valid", problems, where="x.hyped")
    text = str(error)
    assert "2 problems" in text and text.startswith("x.hyped: ")
    assert "movies/S0: is missing (to mend: stitch it)" in text
    assert "rna/obs: no column 'phase'" in text
    assert error.problems == tuple(problems)
    assert "1 problem\n" in str(ValidationError("t", problems[:1]))


@pytest.mark.parametrize("name", CODES)
def test_errors_cross_processes_with_every_field(name):
    error = all_errors()[name]
    problems = [Problem("movies/S0", "is missing", "stitch it")]
    made = error("title", problems, where="a") if error is ValidationError else error("said", where="a", mend="do")
    back = pickle.loads(pickle.dumps(made))
    assert type(back) is error and str(back) == str(made) and back.__dict__ == made.__dict__


def test_a_child_with_its_own_constructor_crosses_too():
    made = OneArgument(7)
    made.add_note("seen at frame 3")
    back = pickle.loads(pickle.dumps(made))
    assert (back.frame, str(back), back.__notes__) == (7, str(made), ["seen at frame 3"])


class OneArgument(HypedError):
    def __init__(self, frame):
        self.frame = frame
        super().__init__(f"frame {frame}", where="S0", mend="again")
