"""Abstract test classes, one a task: a subclass that names a model has a test for each check of the task.

    from hyped_core.testing import ExpressionPredictorSuite

    class TestHalfway(ExpressionPredictorSuite):
        model = "my_model.model:Halfway"

A check that the model fails for a reason goes into ``expected_failures``; a method of a check's name
(``test_gene_order``) replaces the check's test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from hyped_core.checking.catalogue import checks_of
from hyped_core.checking.records import Check
from hyped_core.errors import PluginError
from hyped_core.spec import ModelSpec
from hyped_core.testing.kit import ModelCheck, resolve


class ModelSuite:
    """What the suites of all tasks have in common.

    Attributes
    ----------
    task : of the suite.
    model : ``"package.module:Class"``, a class, ``"task/name"`` or a `ModelSpec`; or a fixture that gives one.
    config : parameters of its instances, in place of its `ModelSpec.quick`; or a fixture.
    expected_failures : check -> why the model fails it; the test fails where it passes after all.
    """

    task: ClassVar[str] = ""
    model: Any = None
    config: Any = None
    expected_failures: ClassVar[Mapping[str, str]] = {}
    _made: ClassVar[dict[Any, Any]] = {}

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if cls.task and "task" in cls.__dict__:  # a task's suite; classes below it inherit its tests
            for check in checks_of(cls.task):
                setattr(cls, f"test_{check.name}", _test(check))
        known = {check.name for check in checks_of(cls.task)} if cls.task else set()
        for name in set(cls.expected_failures) - known:
            raise PluginError(f"there is no check {name!r} of the task {cls.task}", where=cls.__name__,
                              mend=f"checks: {', '.join(sorted(known))}")

    def resolved(self, request: pytest.FixtureRequest) -> tuple[ModelSpec, Any]:
        """The model's spec and what makes its instances, shared by the tests of the class."""
        model, config = self._value(request, "model"), self._value(request, "config")
        if model is None:
            raise PluginError("names no model", where=type(self).__name__, mend='model = "package.module:Class"')
        key = (type(self), str(model), str(sorted((config or {}).items())))
        if key not in self._made:
            self._made[key] = resolve(model, self.task, config)
        return self._made[key]

    def _value(self, request: pytest.FixtureRequest, name: str) -> Any:
        """An attribute, or what the fixture of its name gives."""
        value = getattr(type(self), name)
        if value is None or isinstance(value, (str, type, Mapping, ModelSpec)):
            return value
        return request.getfixturevalue(name)


def _test(check: Check) -> Callable[[ModelSuite, pytest.FixtureRequest], None]:
    def test(self: ModelSuite, request: pytest.FixtureRequest) -> None:
        __tracebackhide__ = True
        spec, make = self.resolved(request)
        excuse = {**spec.expected_failures, **self.expected_failures}.get(check.name)
        try:
            ModelCheck(check, spec, make)()
        except AssertionError as failure:
            if excuse is None:
                raise
            pytest.xfail(f"{excuse}: {failure}")
        if excuse is not None:
            said = f"{spec.key} was expected to fail {check.name} ({excuse}) and passes: take it out"
            pytest.fail(said, pytrace=False)

    test.__doc__ = check.why
    test.__name__ = f"test_{check.name}"
    return test


class ExpressionPredictorSuite(ModelSuite):
    """Tests of an expression predictor."""

    task = "expression"


class CellEmbedderSuite(ModelSuite):
    """Tests of an embedder of cells."""

    task = "embedding"


class DenoiserSuite(ModelSuite):
    """Tests of a denoiser."""

    task = "denoise"


class SegmenterSuite(ModelSuite):
    """Tests of a segmenter."""

    task = "segment"


class TrackerSuite(ModelSuite):
    """Tests of a tracker."""

    task = "track"


class DemultiplexerSuite(ModelSuite):
    """Tests of a demultiplexer."""

    task = "demultiplex"
