"""A movie as some reader found it: frames one by one, and what the files say about channels, units and
times."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hyped_core.errors import (
    CorruptFileError,
    InvalidDataError,
    MissingFileError,
    ParamsError,
    UnsupportedDataError,
)


@dataclass(frozen=True)
class MovieSource:
    """What a reader of kind ``movie`` returns; a third party's too.

    Attributes
    ----------
    where : the file or folder, for errors.
    shape : (t, c, y, x).
    dtype : of the frames.
    frame : index -> (c, y, x) array; reads that frame only.
    channels : names; empty where the files give none.
    pixel_size_um : edge of a pixel; None where unknown.
    hours : (t,) float64; None where unknown.
    hours_since_release : whether ``hours`` counts from the experiment's zero (else from the first frame).
    data_range : (lowest, highest) the camera can give, where known.
    notes : further JSON-able facts kept in the movie's attributes.
    missing : frames that are lost, and why; ``frame`` is not asked for them.
    damaged : those of ``missing`` whose file is there and cannot be read; they count as lost in this import.
    files : the file of each frame, where each has its own; for errors.
    """

    where: Path
    shape: tuple[int, int, int, int]
    dtype: np.dtype
    frame: Callable[[int], npt.NDArray]
    channels: tuple[str, ...] = ()
    pixel_size_um: float | None = None
    hours: npt.NDArray[np.float64] | None = None
    hours_since_release: bool = False
    data_range: tuple[float, float] | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    damaged: tuple[int, ...] = ()
    files: tuple[Path, ...] = ()


_T = TypeVar("_T")


def open_each(files: Sequence[Path], opened: Callable[[Path], _T]) -> list[_T | CorruptFileError]:
    """``opened`` of each file of a frame, the error in the place of one that cannot be read.

    Raises
    ------
    CorruptFileError
        None of them can be read: the error of the first.
    """
    found: list[_T | CorruptFileError] = []
    for path in files:
        try:
            found.append(opened(path))
        except CorruptFileError as error:
            found.append(error)
    errors = [item for item in found if isinstance(item, CorruptFileError)]
    if len(errors) == len(found):
        raise errors[0]
    return found


def natural_key(path: Path) -> list[object]:
    """Sorts ``f2`` before ``f10``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def expand(paths: Sequence[Path], suffixes: tuple[str, ...]) -> tuple[list[Path], bool]:
    """Files to read in order, and whether they came from a folder (then each is a frame, else a channel).

    Raises
    ------
    MissingFileError
        A path does not exist, or a folder holds no file with one of ``suffixes``.
    """
    for path in paths:
        if not path.exists():
            raise MissingFileError("no such file or folder", where=path, mend="check the path")
    if len(paths) == 1 and paths[0].is_dir():
        found = [p for p in paths[0].iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]
        if not found:
            raise MissingFileError(
                f"holds no {' or '.join(suffixes)} file", where=paths[0], mend="check the folder"
            )
        return sorted(found, key=natural_key), True
    folder = next((path for path in paths if path.is_dir()), None)
    if folder is not None:
        raise InvalidDataError("give one folder, or files, not both", where=folder)
    return list(paths), False


def check_pixels(dtype: np.dtype, where: Path) -> None:
    """Grey values HYPED can hold: integers of up to 32 bits or floats."""
    if dtype.kind not in "uif" or dtype.itemsize > 8 or (dtype.kind in "ui" and dtype.itemsize > 4):
        raise UnsupportedDataError(
            f"has pixels of type {dtype}", where=where, mend="convert it to 16-bit grey values"
        )


def arrange(image: npt.NDArray, axes: str, params_z: str | int, where: Path) -> npt.NDArray:
    """An array with ``axes`` (a subset of C, Z, Y, X in any order) as (c, y, x), Z projected."""
    if (
        sorted(axes) != sorted(set(axes))
        or len(axes) != image.ndim
        or not {"Y", "X"} <= set(axes) <= set("CZYX")
    ):
        raise InvalidDataError(
            f"an image of shape {image.shape} cannot have the axes {axes!r}",
            where=where,
            mend="set the parameter `axes`",
        )
    order = [axes.index(name) for name in "CZYX" if name in axes]
    moved = np.transpose(image, order)
    if "C" not in axes:
        moved = moved[None]
    if "Z" not in axes:
        return moved
    return project(moved, params_z, where)


def project(stack: npt.NDArray, kind: str | int, where: Path) -> npt.NDArray:
    """(c, z, y, x) -> (c, y, x): maximum, mean (rounded for integers) or one plane."""
    if isinstance(kind, int):
        if not 0 <= kind < stack.shape[1]:
            raise ParamsError(
                f"z_projection {kind} is not a plane",
                where=where,
                mend=f"planes go from 0 to {stack.shape[1] - 1}",
            )
        return stack[:, kind]
    if kind == "max":
        return stack.max(axis=1)
    mean = stack.mean(axis=1)
    return (np.rint(mean) if stack.dtype.kind in "ui" else mean).astype(stack.dtype)
