"""The checks of `hyped plugins check` as pytest's tests: one test for each check of each model.

    from hyped_core.testing import parametrize_model_checks

    @parametrize_model_checks(["my_model.model:Halfway"], task="expression")
    def test_contract(model_check):
        model_check()

Choose some with ``pytest -k "halfway and sparse_input"``. The models work in the process of the tests.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from hyped_core.checking.catalogue import checks_of
from hyped_core.checking.records import Check
from hyped_core.checking.run import Maker, run_check
from hyped_core.errors import PluginError
from hyped_core.spec import ModelSpec, import_target


@dataclass(frozen=True)
class ModelCheck:
    """One check of one model: call it in a test. It passes, skips the test with the reason, or fails it."""

    check: Check
    spec: ModelSpec
    make: Maker

    def __call__(self) -> None:
        """Run the check.

        Raises
        ------
        AssertionError
            The model fails it; the text says where, why, and what to do.
        """
        __tracebackhide__ = True
        record = run_check(self.check, self.spec, self.make)
        if record.status == "skipped":
            pytest.skip(record.reason)
        if record.status == "failed":
            mend = f"\n  to mend: {record.mend}" if record.mend else ""
            how = f"\n  {self.make.how()}" if self.make.quick else ""
            raise AssertionError(
                f"{record.model} fails {record.check}: {record.where}: {record.reason}{mend}\n"
                f"  why it matters: {self.check.why}{how}"
            )

    def __repr__(self) -> str:
        return f"{self.spec.key} {self.check.name}"


def parametrize_model_checks(
    models: Iterable[ModelSpec | str | type],
    *,
    task: str | None = None,
    values: Mapping[str, Mapping[str, Any]] | None = None,
    expected_failures: Mapping[str, Mapping[str, str]] | None = None,
    only: Iterable[str] | None = None,
    argument: str = "model_check",
) -> pytest.MarkDecorator:
    """Parametrise a test by every check of every model.

    Parameters
    ----------
    models
        Specs; names ``"task/name"`` of installed models; ``"package.module:Class"`` or classes, then with ``task``.
    task
        The task of models given by class.
    values
        ``"task/name"`` -> parameters of its instances, in place of those in its `ModelSpec.quick`.
    expected_failures
        ``"task/name"`` -> check -> why it fails; over those of the spec. The test is then expected to fail, and fails
        where the model passes the check after all.
    only
        Names of checks; all where None.
    argument
        Name of the test's argument.

    Raises
    ------
    PluginError
        A model cannot be found, or an expected failure names no check of its task.
    """
    params = []
    for model in models:
        spec, make = resolve(model, task)
        if spec.key in (values or {}):
            make.use(values[spec.key])
        excused = {**spec.expected_failures, **(expected_failures or {}).get(spec.key, {})}
        checks = checks_of(spec.task)
        for name in [*excused, *(only or ())]:
            if name not in {check.name for check in checks}:
                known = ", ".join(check.name for check in checks)
                raise PluginError(f"there is no check {name!r} of the task {spec.task}", where=spec.key, mend=known)
        for check in checks:
            if only is not None and check.name not in set(only):
                continue
            marks = [pytest.mark.xfail(reason=excused[check.name], strict=True)] if check.name in excused else []
            params.append(pytest.param(ModelCheck(check, spec, make), id=f"{spec.key}-{check.name}", marks=marks))
    return pytest.mark.parametrize(argument, params)


def resolve(
    model: ModelSpec | str | type, task: str | None = None, values: Mapping[str, Any] | None = None
) -> tuple[ModelSpec, Maker]:
    """A model's spec, and what makes its instances.

    Raises
    ------
    PluginError
        It cannot be found or imported, or its task or config cannot be told.
    """
    if isinstance(model, ModelSpec):
        return model, Maker(model.create, values, model.quick)
    if isinstance(model, str) and ":" in model and "/" not in model:
        return _of_class(import_target(model), model, task, values)
    if isinstance(model, str):
        from hyped_core.plugins.registry import models as registry

        spec = registry().get(model)
        return spec, Maker(spec.create, values, spec.quick)
    if isinstance(model, type):
        return _of_class(model, f"{model.__module__}:{model.__name__}", task, values)
    raise PluginError(
        f"a model is a ModelSpec, a class, 'task/name' or 'package.module:Class', not {type(model).__name__}"
    )


def _of_class(
    made: Any, target: str, task: str | None, values: Mapping[str, Any] | None
) -> tuple[ModelSpec, Maker]:
    """A class that no plugin need have registered: its spec where one has, else a plain one."""
    from hyped_core.plugins.registry import models as registry

    for item in registry().items():
        if item.spec.target == target and task in (None, item.spec.task):
            return item.spec, Maker(item.spec.create, values, item.spec.quick)
    if task is None:
        raise PluginError("no plugin registers this class, so its task has to be given", where=target,
                          mend="task='expression', or register it in a plugin")
    config = config_of(made)
    name = made.__name__.lower().strip("_") if made.__name__.strip("_")[:1].isalpha() else "model"
    where = None if config is None else _reachable(f"{config.__module__}:{config.__qualname__}")
    spec = ModelSpec(name, task, _reachable(target) or "builtins:object", where)

    def make(given: Mapping[str, Any] | None = None) -> Any:
        if config is None:
            if given:
                raise PluginError(f"takes no parameters, got {sorted(given)}", where=target)
            return made()
        from hyped_core.params import build

        return made(build(config, given or {}, where=target))

    return spec, Maker(make, values)


def _reachable(target: str) -> str | None:
    """``target`` where it is an import string; a class in a function, or in a file that is no module, has none."""
    module, _, name = target.partition(":")
    return target if all(part.isidentifier() for part in [*module.split("."), name]) else None


def config_of(made: Any) -> Any:
    """The config class that a model's class takes, by the type of its first argument; None where it takes none.

    Raises
    ------
    PluginError
        It takes an argument whose type is no pydantic model.
    """
    from pydantic import BaseModel

    parameters = [p for p in inspect.signature(made).parameters.values() if p.default is p.empty]
    parameters = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not parameters:
        return None
    try:
        types = typing.get_type_hints(made.__init__)
    except NameError:
        types = {}
    found = types.get(parameters[0].name)
    if dataclasses.is_dataclass(made) and found is None:
        found = {field.name: field.type for field in dataclasses.fields(made)}.get(parameters[0].name)
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise PluginError(
            f"takes {parameters[0].name!r}, whose type is no config that can be made",
            where=f"{made.__module__}:{made.__qualname__}",
            mend="annotate it with the config's class, or give the ModelSpec",
        )
    return found
