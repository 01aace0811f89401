"""Typed parameters: a pydantic model filled from a section of a YAML file, with errors that name the key."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict
from pydantic import ValidationError as PydanticError

from hyped_core.errors import MissingFileError, ParamsError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Params(BaseModel):
    """Base of every parameter model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


M = TypeVar("M", bound=BaseModel)


def problems_of(error: PydanticError, model: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Pydantic's findings as `Problem` records; an unknown key gets its closest match as the mend."""
    found = []
    for item in error.errors():
        place = "/".join(str(part) for part in item["loc"])
        where = f"{prefix}/{place}" if prefix and place else prefix or place or model.__name__
        mend = ""
        if item["type"] == "extra_forbidden":
            key = str(item["loc"][-1])
            names = list(_model_at(model, item["loc"][:-1]).model_fields)
            close = difflib.get_close_matches(key, names, n=1)
            mend = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(names)}"
            found.append(Problem(where, "unknown key", mend))
        else:
            found.append(Problem(where, item["msg"], mend))
    return found


def _model_at(model: type[BaseModel], place: Iterable[int | str]) -> type[BaseModel]:
    """The model that holds the fields at ``place``: field names, with positions and keys of containers between."""
    annotation: Any = model
    for part in place:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
            if part not in model.model_fields:
                return model
            annotation = model.model_fields[str(part)].annotation
        else:
            inner = [a for a in get_args(annotation) if a not in (Ellipsis, type(None), str)]
            annotation = inner[0] if inner else None
    while not isinstance(annotation, type) and get_args(annotation):
        annotation = get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else model


def build(model: type[M], values: Mapping[str, Any], *, where: object = None) -> M:
    """Make ``model`` from ``values``.

    Raises
    ------
    ParamsError
        Listing every unknown key and bad value at once.
    """
    try:
        return model.model_validate(dict(values))
    except PydanticError as error:
        problems = problems_of(error, model)
        listing = "\n".join(f"  - {problem}" for problem in problems)
        raise ParamsError(
            f"{len(problems)} problem(s) in parameters for {model.__name__}\n{listing}",
            where=where,
            mend="correct the keys named above in the parameter file",
        ) from error


def read_yaml(path: str | Path) -> Any:
    """Parse a YAML file; a missing or malformed file is a typed error that names it."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="give the path of a YAML file")
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where PyYAML has it
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"not valid YAML: {error}", where=path, mend="correct the file's syntax") from error


def read_section(reference: str) -> dict[str, Any]:
    """The mapping at ``"file.yaml#dotted.section"`` (the whole file without ``#``)."""
    file, _, section = str(reference).partition("#")
    value = read_yaml(file)
    for depth, key in enumerate(filter(None, section.split("."))):
        if not isinstance(value, dict) or key not in value:
            known = ", ".join(map(str, value)) if isinstance(value, dict) else "nothing"
            place = ".".join(section.split(".")[: depth + 1])
            raise ParamsError(f"has no section {place!r}", where=file, mend=f"sections there: {known}")
        value = value[key]
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ParamsError(f"section {section!r} must be a mapping", where=file)
    return value


def load_params(reference: str | None, model: type[M], /, **overrides: Any) -> M:
    """``model`` filled from ``"file.yaml#section"``; ``overrides`` that are not None win over the file.

    >>> from hyped_core.params import Params, load_params
    >>> class Blur(Params):
    ...     sigma_px: float = 2.0
    >>> load_params(None, Blur, sigma_px=3).sigma_px
    3.0
    """
    values = read_section(reference) if reference else {}
    values = {**values, **{key: value for key, value in overrides.items() if value is not None}}
    return build(model, values, where=reference)


__all__ = ["Params", "build", "load_params", "problems_of", "read_section", "read_yaml"]
