"""What a model's config takes: a stranger's is imported in a process of its own, and what was found is kept."""

from __future__ import annotations

import json
import time
from importlib.metadata import EntryPoint
from typing import Any

from hyped_core.plugins import kept
from hyped_core.plugins.record import Provided, said
from hyped_core.plugins.streams import stdout_to_stderr

FORMAT = 1
"""Of what is kept: another number and all is made again."""
_FIELD = ("name", "type", "default", "description")


def shown_config(item: Provided) -> dict[str, Any]:
    """``fields`` (name, type, default, description) and ``schema`` of a model's config, or ``note``: why there is none.

    The modules of HYPED's own packages are imported here, once for each of their states; a stranger's is so in a
    process of its own, within the limits of a look at a plugin (`hyped_core.plugins.probe`).
    """
    spec, plugin = item.spec, item.plugin
    place = kept.place_of("config", plugin.distribution, spec.config)
    stamp = kept.stamp_of(spec.config, (plugin.name, plugin.distribution), FORMAT, plugin.version)
    found = kept.read(place, stamp)
    if not _is_whole(found):
        found = describe(spec.config) if plugin.own else _describe_apart(plugin.name, spec.config)
        if "note" not in found:
            kept.write(place, stamp, found)
    return found


def describe(target: str) -> dict[str, Any]:
    """The same, with the config imported in this process."""
    from hyped_core.spec import import_target

    try:
        with stdout_to_stderr():
            config = import_target(target)
            if not hasattr(config, "model_json_schema"):
                return {"note": f"{target} is not a pydantic model"}
            found = {"fields": [_field(*pair) for pair in config.model_fields.items()]}
            return json.loads(json.dumps({**found, "schema": config.model_json_schema()}, default=str))
    except Exception as error:  # noqa: BLE001  a default's own code, or a type without a schema, may raise anything
        from hyped_core.errors import HypedError

        return {"note": str(error) if isinstance(error, HypedError) else f"{target}: {said(error)}"}


def _describe_apart(name: str, target: str) -> dict[str, Any]:
    from hyped_core.plugins.probe import LOOK_S, Limits
    from hyped_core.plugins.probe_process import Child

    child = Child(EntryPoint(name, target, ""), Limits.from_environment(), job="config")
    try:
        while (verdict := child.look()) is None:
            time.sleep(LOOK_S)
    finally:
        child.end()
    return child.found or {"note": f"{target}: {verdict.harm}"}


def _is_whole(found: Any) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("schema"), dict):
        return False
    fields = found.get("fields")
    return isinstance(fields, list) and all(
        isinstance(field, dict) and all(isinstance(field.get(key), str) for key in _FIELD) for field in fields
    )


def _field(name: str, value: Any) -> dict[str, str]:
    from pydantic_core import to_jsonable_python

    annotation = value.annotation
    shown = getattr(annotation, "__name__", "") if isinstance(annotation, type) else str(annotation)
    default = "required"
    if not value.is_required():
        default = json.dumps(to_jsonable_python(value.get_default(call_default_factory=True), fallback=str))
    return {
        "name": name,
        "type": shown.replace("typing.", ""),
        "default": default,
        "description": " ".join((value.description or "").split()),
    }
