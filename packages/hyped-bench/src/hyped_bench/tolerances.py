"""How far a metric may differ between two runs that count as the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hyped_core.errors import InvalidDataError, ParamsError

DEFAULT = 1e-6
"""Absolute and relative, for a metric that declares nothing: the last digit of a metrics file."""


@dataclass(slots=True)
class Tolerances:
    """Tolerances by metric.

    Attributes
    ----------
    named : pattern -> (absolute, relative); a pattern is a key or ``task/key``, with ``*``; the first that fits.
    absolute, relative : for every metric that no pattern fits, where they are given.
    """

    named: dict[str, tuple[float, float]] = field(default_factory=dict)
    absolute: float | None = None
    relative: float | None = None
    _used: set[str] = field(default_factory=set)
    _declared: dict[str, dict[str, float]] | None = None

    def __post_init__(self) -> None:
        given = [v for pair in self.named.values() for v in pair] + [self.absolute or 0.0, self.relative or 0.0]
        if any(not value >= 0 for value in given):
            raise InvalidDataError("tolerances must not be negative")

    def of(self, task: str | None, key: str) -> tuple[float, float]:
        """(absolute, relative) of a metric: by pattern, as given for all, as declared, else `DEFAULT`."""
        for pattern, pair in self.named.items():
            if fnmatchcase(f"{task}/{key}" if "/" in pattern else key, pattern):
                self._used.add(pattern)
                return pair
        if self.absolute is not None or self.relative is not None:
            other = DEFAULT
            return (
                other if self.absolute is None else self.absolute,
                other if self.relative is None else self.relative,
            )
        declared = self._of_task(task)
        fits = [name for name in declared if key == name or key.startswith(f"{name}_")]
        value = declared[max(fits, key=len)] if fits else DEFAULT
        return value, value

    def unused(self) -> list[str]:
        """Patterns that no metric fitted."""
        return [pattern for pattern in self.named if pattern not in self._used]

    def _of_task(self, task: str | None) -> dict[str, float]:
        """Metric -> tolerance as registered; ``psnr_S0`` and ``psnr_lo`` are of ``psnr``."""
        if task is None:
            return {}
        if self._declared is None:
            from hyped_core.plugins.registry import metrics

            self._declared = {}
            for item in metrics().items():
                self._declared.setdefault(item.spec.task, {})[item.spec.name] = item.spec.tolerance
        return self._declared.get(task, {})


def read_tolerances(path: str | Path) -> dict[str, tuple[float, float]]:
    """Tolerances from YAML: pattern -> a number (absolute and relative), or ``{absolute: .., relative: ..}``.

    Raises
    ------
    MissingFileError, ParamsError
    """
    from hyped_core.params import read_section

    values = read_section(str(path))
    if not isinstance(values, dict):
        raise ParamsError("must map metrics to tolerances", where=path)
    found = {}
    for pattern, value in values.items():
        where = f"{path}/{pattern}"
        if isinstance(value, dict):
            if odd := sorted(set(value) - {"absolute", "relative"}):
                raise ParamsError(f"unknown key {odd[0]}", where=where, mend="keys: absolute, relative")
            pair = (_number(value.get("absolute", 0.0), where), _number(value.get("relative", 0.0), where))
        else:
            pair = (_number(value, where),) * 2
        found[str(pattern)] = pair
    return found


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)  # YAML reads 1e-4 as text
    except (TypeError, ValueError) as error:
        raise ParamsError(f"must be a number, not {value!r}", where=where) from error
    if not number >= 0:
        raise ParamsError("must not be negative", where=where)
    return number
