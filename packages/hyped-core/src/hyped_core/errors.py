"""Every error HYPED raises on purpose, with the exit code the command line gives it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class HypedError(Exception):
    """Something HYPED refuses to do, said so that the reader can act on it.

    Parameters
    ----------
    message
        What is wrong and what was expected.
    where
        The file, field, plugin or column it is about.
    mend
        What to do about it, ideally a command to type.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: object = None, mend: str | None = None) -> None:
        self.message = message
        self.where = None if where is None else str(where)
        self.mend = mend
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross processes with every field, whatever a child's constructor takes."""
        return _unpickled, (type(self), self.args, dict(self.__dict__))

    def __str__(self) -> str:
        lines = [self.message if self.where is None else f"{self.where}: {self.message}"]
        if self.mend:
            lines.append(f"  to mend: {self.mend}")
        return "\n".join(lines)


def _unpickled(kind: type[HypedError], args: tuple[Any, ...], fields: dict[str, Any]) -> HypedError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


def type_and_text(error: BaseException) -> str:
    """An error by type and text, ``KeyError: 'x'``, as far as it lets itself be put into words."""
    kind = type(error).__name__
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  a stranger's error may raise anything when it is asked
        text = "(its text cannot be had)"
    return f"{kind}: {text}" if text else kind


class UsageError(HypedError):
    """The command or the call was put together wrongly."""

    exit_code = 2


class InvalidDataError(HypedError):
    """Data, a design or a parameter file is not what it has to be."""

    exit_code = 3


class MissingFileError(InvalidDataError):
    """A file or folder that was named does not exist."""


class CorruptFileError(InvalidDataError):
    """A file exists but cannot be read as what it claims to be."""


class UnsupportedDataError(InvalidDataError):
    """A valid file holds something HYPED does not handle (RGB pixels, for example)."""


class DesignError(InvalidDataError):
    """The experiment's design contradicts itself or the data."""


class ParamsError(InvalidDataError):
    """A parameter file holds an unknown key or a value out of range."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a container, a design or a plugin.

    Attributes
    ----------
    where : the place, slash-joined (``movies/S0.zarr/time_h``).
    message : what is wrong there.
    mend : what to do about it.
    """

    where: str
    message: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" (to mend: {self.mend})" if self.mend else "")


class ValidationError(InvalidDataError):
    """All problems found by one validation, raised together."""

    def __init__(self, title: str, problems: Iterable[Problem], *, where: object = None) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        listing = "\n".join(f"  - {problem}" for problem in self.problems)
        count = len(self.problems)
        super().__init__(
            f"{title}: {count} problem{'' if count == 1 else 's'}\n{listing}", where=where
        )


class PluginError(HypedError):
    """A plugin or a model it registers cannot be used."""

    exit_code = 4


class UnknownNameError(PluginError):
    """No registered model, task or dataset has this name."""


class NameClashError(PluginError):
    """Two distributions registered the same name."""


class MissingDependencyError(HypedError):
    """An optional library is not installed; ``mend`` is the install command."""

    exit_code = 5


class MissingHardwareError(HypedError):
    """The machine lacks what was asked for (a GPU, memory, disk)."""

    exit_code = 5


class StorageError(HypedError):
    """A file cannot be written: the disk is full or failing, or the folder may not be written to."""

    exit_code = 5


class NetworkError(HypedError):
    """A download failed or the network may not be used."""

    exit_code = 5


class RegressionError(HypedError):
    """Two runs differ by more than the declared tolerance."""

    exit_code = 6
