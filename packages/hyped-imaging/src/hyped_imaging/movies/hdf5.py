"""HDF5 files, each a frame, as a movie: the paper's release without loss (`hyped_imaging.movies.release`), and
files of others.

Those of others hold one image dataset (its axes by parameter), or one dataset a channel.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import CorruptFileError, InvalidDataError, UnsupportedDataError
from hyped_imaging.movies.params import ImportParams
from hyped_imaging.movies.release import DATASET, SUMMARY
from hyped_imaging.movies.source import MovieSource, arrange, check_pixels, expand, natural_key, open_each
from hyped_imaging.readers.times import between

if TYPE_CHECKING:
    import h5py

_MEND = "fetch or export the file again"


def read_frames(paths: Sequence[Path], params: ImportParams) -> MovieSource:
    """See `MovieSource`. ``paths``: one folder, or the files; each file is a frame. Sorted by time, else by
    name.

    In a folder that `export_frames` wrote, frames without a file are missing frames of the movie. In any other
    a frame that has no file leaves a gap in the times. A file that cannot be read is a missing frame, its time
    that between its neighbours where no release.json tells it.

    Raises
    ------
    MissingFileError, CorruptFileError, UnsupportedDataError, InvalidDataError
        Absent, damaged, no image inside, frames that do not fit together.
    """
    files, from_folder = expand(paths, (".h5", ".hdf5"))
    files = files if from_folder else sorted(files, key=natural_key)
    found = open_each(files, lambda path: _Head(path, params))
    heads = [head for head in found if isinstance(head, _Head)]
    first = heads[0]
    for head in heads[1:]:
        for fact in ("shape", "dtype", "channels", "pixel_size_um"):
            if getattr(head, fact) != getattr(first, fact):
                raise InvalidDataError(
                    f"has {fact} {getattr(head, fact)}, {first.path.name} has {getattr(first, fact)}",
                    where=head.path,
                    mend="keep the frames of one scene in a folder of their own",
                )
    hours = None
    timed = [head.time_h for head in heads]
    if all(time is not None for time in timed):
        heads.sort(key=lambda head: head.time_h or 0.0)
        hours = np.array([head.time_h for head in heads], float)
        repeated = np.flatnonzero(np.diff(hours) <= 0)
        if repeated.size:
            raise InvalidDataError(
                f"has the same time as {heads[repeated[0]].path.name}",
                where=heads[repeated[0] + 1].path,
                mend="remove the double frame",
            )
    unread = {path: item for path, item in zip(files, found, strict=True) if isinstance(item, CorruptFileError)}
    summary = _summary(paths[0]) if from_folder else None
    if summary is not None:
        placed, hours, missing = _placed(heads, summary, paths[0])
        at = {_number(path): path for path in unread}
        damaged = {index: at[index] for index in missing if index in at}
    else:
        placed, damaged = _among(heads, files, unread)
        missing = {}
        if hours is not None and damaged:
            known = np.array([index for index, head in enumerate(placed) if head is not None])
            hours = between(np.arange(len(placed)), known, hours)
    missing.update({index: unread[path].message for index, path in damaged.items()})

    def read(index: int) -> npt.NDArray:
        head = placed[index]
        return np.zeros(first.shape, first.dtype) if head is None else head.read()

    return MovieSource(
        paths[0],
        (len(placed), *first.shape),
        first.dtype,
        read,
        first.channels,
        first.pixel_size_um,
        hours,
        hours_since_release=True,
        data_range=first.data_range,
        missing=missing,
        damaged=tuple(sorted(damaged)),
        files=tuple(damaged.get(k, paths[0]) if head is None else head.path for k, head in enumerate(placed)),
    )


def _number(path: Path) -> int:
    """The number at the end of a file's name; -1 where there is none."""
    digits = re.search(r"(\d+)$", path.stem)
    return int(digits.group(1)) if digits else -1


def _among(
    heads: Sequence[_Head], files: Sequence[Path], unread: Mapping[Path, CorruptFileError]
) -> tuple[list[_Head | None], dict[int, Path]]:
    """Frames in order, None for a file that cannot be read, which comes behind the one before it by name; and
    the files of these by frame."""
    behind: dict[Path | None, list[Path]] = {}
    last: Path | None = None
    for path in files:
        if path in unread:
            behind.setdefault(last, []).append(path)
        else:
            last = path
    placed: list[_Head | None] = []
    damaged: dict[int, Path] = {}
    for head in (None, *heads):
        if head is not None:
            placed.append(head)
        for path in behind.get(None if head is None else head.path, []):
            damaged[len(placed)] = path
            placed.append(None)
    return placed, damaged


def _summary(folder: Path) -> dict[str, Any] | None:
    """What the release says of itself as a whole; None for a folder of another origin."""
    path = folder / SUMMARY
    if not path.is_file():
        return None
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        times = np.asarray(summary["time_h"], float)
        lost = {int(index): str(reason) for index, reason in summary["missing_frames"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFileError(
            f"cannot be read: {error}", where=path, mend="export the movie again, or remove this file"
        ) from error
    return {"time_h": times, "missing_frames": lost, "scene": summary.get("scene")}


def _placed(
    heads: list[_Head], summary: dict[str, Any], folder: Path
) -> tuple[list[_Head | None], npt.NDArray[np.float64], dict[int, str]]:
    """Files by frame number, None where there is none; times of all frames; the missing ones with reasons."""
    times = summary["time_h"]
    placed: list[_Head | None] = [None] * len(times)
    for head in heads:
        strange = head.frame is None or not 0 <= head.frame < len(times) or head.scene != summary["scene"]
        if strange or placed[head.frame] is not None or head.time_h != times[head.frame]:
            raise InvalidDataError(
                f"is not the file of a frame that {SUMMARY} lists",
                where=head.path,
                mend=f"remove it, or remove {folder / SUMMARY}",
            )
        placed[head.frame] = head
    missing = {
        index: summary["missing_frames"].get(index, "its file is absent")
        for index, head in enumerate(placed)
        if head is None
    }
    return placed, times, missing


class _Head:
    """What one file says; its pixels on request."""

    def __init__(self, path: Path, params: ImportParams) -> None:
        self.path, self.params = path, params
        try:
            with _open(path) as file:
                attrs, sizes = self._inspect(file)
        except (OSError, RuntimeError, KeyError) as error:
            raise CorruptFileError(f"its head cannot be read: {error}", where=path, mend=_MEND) from error
        many = len(self.names) > 1
        try:
            self.shape = (
                len(self.names) if many else int(sizes.get("C", 1)),
                int(sizes["Y"]),
                int(sizes["X"]),
            )
        except KeyError as error:
            raise InvalidDataError(
                f"axes {self.axes!r} lack {error}", where=path, mend="set the parameter `axes`"
            ) from error
        named = attrs.get("channels")
        self.channels = (
            tuple(name.rsplit("/", 1)[-1] for name in self.names)
            if many
            else ()
            if named is None
            else tuple(_text(name) for name in np.atleast_1d(named))
        )
        self.time_h = _float(attrs.get("time_h"))
        number = _float(attrs.get("frame"))
        self.frame = None if number is None else int(number)
        self.scene = _text(attrs.get("scene", ""))
        self.pixel_size_um = _float(attrs.get("pixel_size_um"))
        limits = np.ravel(attrs.get("data_range", ()))
        self.data_range = (float(limits[0]), float(limits[1])) if limits.size == 2 else None

    def _inspect(self, file: h5py.File) -> tuple[dict[str, Any], dict[str, int]]:
        """Attributes of the file and its image, and the size of each axis."""
        path, params = self.path, self.params
        self.names = _image_names(file, params.dataset, path)
        data = file[self.names[0]]
        attrs = {**dict(file.attrs), **dict(data.attrs)}
        self.dtype = np.dtype(data.dtype)
        check_pixels(self.dtype, path)
        self.axes = params.axes or _text(attrs.get("axes", "")) or ("CYX" if data.ndim == 3 else "YX")
        self.lead = data.ndim - len(self.axes)
        if self.lead < 0 or any(n != 1 for n in data.shape[: self.lead]) or "T" in self.axes:
            raise InvalidDataError(
                f"{self.names[0]} of shape {data.shape} is not one frame with axes {self.axes!r}",
                where=path,
                mend="set the parameter `axes`",
            )
        return attrs, dict(zip(self.axes, data.shape[self.lead :], strict=True))

    def read(self) -> npt.NDArray:
        """(c, y, x)."""
        with _open(self.path) as file:
            try:
                images = [np.asarray(file[name]) for name in self.names]
            except (OSError, RuntimeError) as error:
                raise CorruptFileError(
                    f"its pixels cannot be read: {error}", where=self.path, mend=_MEND
                ) from error
        images = [image.reshape(image.shape[self.lead :]) for image in images]
        planes = [arrange(image, self.axes, self.params.z_projection, self.path) for image in images]
        return np.ascontiguousarray(np.concatenate(planes))


def _open(path: Path) -> h5py.File:
    import h5py
    import hdf5plugin  # noqa: F401  (registers the compression filters)

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise CorruptFileError(f"not a readable HDF5 file: {error}", where=path, mend=_MEND) from error


def _image_names(file: h5py.File, wanted: str, path: Path) -> list[str]:
    """The dataset with the image; or several two-dimensional ones of equal shape, one a channel, sorted."""
    import h5py

    if wanted:
        if not isinstance(file.get(wanted), h5py.Dataset):
            raise InvalidDataError(
                f"has no dataset {wanted!r}", where=path, mend="correct the parameter `dataset`"
            )
        return [wanted]
    found: dict[str, h5py.Dataset] = {}
    file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    images = {
        name: item for name, item in sorted(found.items()) if item.ndim >= 2 and item.dtype.kind in "uif"
    }
    if DATASET in images:
        return [DATASET]
    if len(images) == 1:
        return list(images)
    if (
        images
        and all(item.ndim == 2 for item in images.values())
        and len({i.shape for i in images.values()}) == 1
    ):
        return list(images)
    if not images:
        raise UnsupportedDataError(
            "holds no image", where=path, mend=f"datasets there: {', '.join(found) or 'none'}"
        )
    raise UnsupportedDataError(
        f"holds several images ({', '.join(images)})", where=path, mend="name one by the parameter `dataset`"
    )


def _text(value: object) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _float(value: object) -> float | None:
    try:
        number = float(value) if value is not None else None  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if number is not None and np.isfinite(number) else None
