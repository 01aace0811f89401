"""The config of a model: a frozen pydantic model with a default and a description for every field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hyped_core.errors import ParamsError, PluginError, Problem
from hyped_core.spec import ModelSpec

_UNKNOWN = "a_key_that_no_config_has"
_BASE = "derive it from hyped_core.Params"


def config_problems(model: Any, spec: ModelSpec, name: str) -> Iterator[Problem]:
    """What is wrong with the class that ``ModelSpec.config`` names."""
    from pydantic import BaseModel

    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        yield Problem(f"ModelSpec.config: {name}", "is no pydantic model", _BASE)
        return
    yield from _fields(model, name)
    if model.model_config.get("extra") != "forbid" or _takes_unknown(model, spec):
        yield Problem(name, "takes keys that it does not know: a misspelt one is silently ignored", _BASE)
    if not model.model_config.get("frozen"):
        yield Problem(name, "can be changed after it was made", f'{_BASE}, or model_config = {{"frozen": True}}')
    yield from _round_trip(model, name)


def _fields(model: Any, name: str) -> Iterator[Problem]:
    for key, field in model.model_fields.items():
        where = f"{name}.{key}"
        if field.is_required():
            yield Problem(where, "has no default", "give one that works on the data the task is scored on")
        if not (field.description or "").strip():
            yield Problem(where, "has no description", "write a string under the field, or Field(description=...)")
        inner = field.annotation
        if isinstance(inner, type) and hasattr(inner, "model_fields"):
            yield from _fields(inner, where)


def _takes_unknown(model: Any, spec: ModelSpec) -> bool:
    try:
        spec.load_config({_UNKNOWN: 1})
    except (ParamsError, PluginError):
        return False
    return True


def _round_trip(model: Any, name: str) -> Iterator[Problem]:
    """The defaults through JSON and back, and the schema."""
    from pydantic import ValidationError

    defaults = {
        field.validation_alias if isinstance(field.validation_alias, str) else key: field.default
        for key, field in model.model_fields.items()
        if not field.is_required() and field.default_factory is None
    }
    try:
        made = model.model_validate(defaults)
    except ValidationError as error:
        for item in error.errors():
            if item["type"] == "missing":
                continue  # told above
            where = ".".join([name, *map(str, item["loc"])])
            yield Problem(where, f"its default is refused by its own type: {item['msg']}", "correct the default")
        return
    try:
        text = json.dumps(made.model_dump(mode="json"), allow_nan=False)
        again = model.model_validate(json.loads(text))
    except Exception as error:  # noqa: BLE001  a field's own serialiser may raise anything
        said = str(error).splitlines()[0]
        yield Problem(name, f"cannot be written as JSON and read back: {said}", "use numbers, text, lists and None")
    else:
        if again != made:
            fields = [key for key in model.model_fields if getattr(again, key) != getattr(made, key)]
            yield Problem(f"{name}: {', '.join(fields)}", "JSON changes it", "use types that JSON has")
    try:
        json.dumps(model.model_json_schema())
    except Exception as error:  # noqa: BLE001  as above
        yield Problem(name, f"has no JSON schema: {str(error).splitlines()[0]}", "use types that JSON has")
