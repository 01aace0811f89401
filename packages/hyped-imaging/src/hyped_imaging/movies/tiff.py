"""TIFF, OME-TIFF and ImageJ stacks as a movie: one file, one file a channel, or a folder with one file a
frame."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import CorruptFileError, InvalidDataError, UnsupportedDataError
from hyped_imaging.movies.params import ImportParams
from hyped_imaging.movies.source import MovieSource, arrange, check_pixels, expand, open_each

if TYPE_CHECKING:
    import tifffile

_LENGTH_UM = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "nm": 1e-3,
    "\\u00b5m": 1.0,
    "inch": 25400.0,
}
_TIME_S = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0, "hour": 3600.0}
_MEND = "copy the file again from its source"


def read_tiff(paths: Sequence[Path], params: ImportParams) -> MovieSource:
    """See `MovieSource`. Several files are channels, in the order given; the files of a folder are frames; one of
    them that cannot be read is a missing frame.

    Raises
    ------
    MissingFileError, CorruptFileError, UnsupportedDataError, InvalidDataError
        Absent, damaged, coloured, or files that do not fit together.
    """
    files, are_frames = expand(paths, (".tif", ".tiff"))
    if are_frames:
        found = open_each(files, lambda path: _Stack(path, params))
    else:
        found = [_Stack(path, params) for path in files]
    stacks = [stack for stack in found if isinstance(stack, _Stack)]
    missing = {k: item.message for k, item in enumerate(found) if isinstance(item, CorruptFileError)}
    first = stacks[0]
    for stack in stacks[1:]:
        if stack.shape != first.shape or stack.dtype != first.dtype:
            raise InvalidDataError(
                f"is {stack.shape} {stack.dtype}, {first.path.name} is {first.shape} {first.dtype}",
                where=stack.path,
                mend="give files of one size and type",
            )
    frames, channels, height, width = first.shape
    if are_frames and len(found) > 1:
        if frames != 1:
            raise InvalidDataError(
                "a folder's files must hold one frame each",
                where=first.path,
                mend="name the files, one a channel",
            )
        return MovieSource(
            paths[0],
            (len(found), channels, height, width),
            first.dtype,
            lambda i: found[i].frame(0),
            first.facts.channels,
            first.facts.pixel_size_um,
            None,
            data_range=first.facts.data_range,
            missing=missing,
            damaged=tuple(missing),
            files=tuple(files),
        )
    names = first.facts.channels if len(stacks) == 1 else ()
    return MovieSource(
        first.path,
        (frames, channels * len(stacks), height, width),
        first.dtype,
        lambda i: np.concatenate([stack.frame(i) for stack in stacks]),
        names,
        first.facts.pixel_size_um,
        first.facts.hours,
        data_range=first.facts.data_range,
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    channels: tuple[str, ...] = ()
    pixel_size_um: float | None = None
    hours: npt.NDArray[np.float64] | None = None
    data_range: tuple[float, float] | None = None


class _Stack:
    """One TIFF file, read plane by plane: (t, c, y, x) after projection in Z."""

    def __init__(self, path: Path, params: ImportParams) -> None:
        import tifffile

        self.path = path
        self.z = params.z_projection
        self._whole: npt.NDArray | None = None
        try:
            with tifffile.TiffFile(path) as self.file:
                self._inspect(params)
        except (tifffile.TiffFileError, ValueError, IndexError, KeyError, TypeError, struct.error, OSError) as error:
            raise CorruptFileError(f"not a readable TIFF: {error}", where=path, mend=_MEND) from error

    def _inspect(self, params: ImportParams) -> None:
        """Read all but pixels; the file is open only here and while a frame is read."""
        self.series = self.file.series[0]
        pages = [page for page in self.series.pages if page is not None]
        end = max(o + n for page in pages for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
        if end > self.path.stat().st_size:
            raise CorruptFileError("truncated: planes are missing from its end", where=self.path, mend=_MEND)
        self.dtype = self.series.dtype.newbyteorder("=")
        check_pixels(self.dtype, self.path)
        self.axes, sizes = self._axes(params)
        if not self.axes.endswith("YX"):
            raise InvalidDataError(
                f"axes {self.axes} must end in YX", where=self.path, mend="store the image so, or export HDF5"
            )
        size = dict(zip(self.axes, sizes, strict=True))
        self.lead = [(name, size[name]) for name in self.axes if name not in "YX"]
        self.shape = (size.get("T", 1), size.get("C", 1), size["Y"], size["X"])
        self.facts = _facts(self.file, self.shape[0], self.shape[1])

    def _axes(self, params: ImportParams) -> tuple[str, tuple[int, ...]]:
        """Axes by T, C, Z, Y, X: the parameter's, or the file's with unnamed stacks (and Z alone) taken for
        time."""
        axes, sizes = self.series.axes, self.series.shape
        if params.axes:
            sizes = tuple(n for n in sizes if n > 1) if len(params.axes) != len(sizes) else sizes
            if len(params.axes) != len(sizes):
                raise InvalidDataError(
                    f"has shape {self.series.shape}, which is not {params.axes!r}",
                    where=self.path,
                    mend="correct the parameter `axes`",
                )
            return params.axes, sizes
        if "S" in axes and sizes[axes.index("S")] > 1:
            raise UnsupportedDataError(
                f"has colour or sample planes (axes {axes}, shape {sizes})",
                where=self.path,
                mend="split the colours, or name the axes by the parameter `axes`",
            )
        kept = [(name, n) for name, n in zip(axes, sizes, strict=True) if n > 1 or name in "YX"]
        names = "".join(name for name, _ in kept)
        for unnamed in "QI":
            if unnamed in names and "T" not in names:
                names = names.replace(unnamed, "T")
        if params.z_as_time and "Z" in names and "T" not in names:
            names = names.replace("Z", "T")
        if set(names) - set("TCZYX") or len(set(names)) != len(names):
            raise UnsupportedDataError(
                f"has axes {axes} of sizes {sizes}",
                where=self.path,
                mend="name the axes by the parameter `axes`",
            )
        return names, tuple(n for _, n in kept)

    def frame(self, index: int) -> npt.NDArray:
        """(c, y, x) of one time point."""
        sizes = [n for _, n in self.lead]
        wanted = [[index] if name == "T" else range(n) for name, n in self.lead]
        planes = np.array(np.meshgrid(*wanted, indexing="ij")).reshape(len(sizes), -1) if sizes else None
        flat = [0] if planes is None else np.ravel_multi_index(tuple(planes), sizes).tolist()
        shape = [len(w) for (name, _), w in zip(self.lead, wanted, strict=True)]
        self.file.filehandle.open()
        try:
            stacked = np.stack([self._plane(k) for k in flat]).reshape(*shape, *self._plane_shape())
        finally:
            self.file.filehandle.close()
        axes = self.axes
        if "T" in axes:
            stacked = stacked.take(0, axis=axes.index("T"))
            axes = axes.replace("T", "")
        return np.ascontiguousarray(arrange(stacked, axes, self.z, self.path).astype(self.dtype, copy=False))

    def _plane_shape(self) -> tuple[int, int]:
        shape = self.series.shape
        return int(shape[-2]), int(shape[-1])

    def _plane(self, index: int) -> npt.NDArray:
        count = int(np.prod([n for _, n in self.lead], dtype=int)) if self.lead else 1
        try:
            if len(self.series.pages) == count and self.series.pages[index] is not None:
                return self.series.pages[index].asarray().reshape(self._plane_shape())
            if self._whole is None:
                self._whole = self.series.asarray().reshape(count, *self._plane_shape())
            return self._whole[index]
        except (ValueError, RuntimeError, OSError, IndexError) as error:
            raise CorruptFileError(
                f"plane {index} cannot be read: {error}", where=self.path, mend=_MEND
            ) from error


def _facts(file: tifffile.TiffFile, frames: int, channels: int) -> _Facts:
    if file.is_ome and file.ome_metadata:
        return _ome_facts(file.ome_metadata, frames, channels)
    if file.imagej_metadata:
        return _imagej_facts(file, frames)
    return _Facts()


def _ome_facts(xml: str, frames: int, channels: int) -> _Facts:
    """From the OME-XML of the first image: sizes, channel names, DeltaT of the planes, or TimeIncrement."""
    try:
        root = ET.fromstring(xml)
    except ET.ParseError:
        return _Facts()
    pixels = root.find(".//{*}Image/{*}Pixels")
    if pixels is None:
        return _Facts()
    names = tuple(item.get("Name") or "" for item in pixels.findall("{*}Channel"))
    size = _scaled(pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit", "µm"), _LENGTH_UM)
    increment = _scaled(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"), _TIME_S)
    deltas: dict[int, float] = {}
    for plane in pixels.findall("{*}Plane"):
        seconds = _scaled(plane.get("DeltaT"), plane.get("DeltaTUnit", "s"), _TIME_S, zero=True)
        if seconds is not None:
            t = int(plane.get("TheT", 0))
            deltas[t] = min(seconds, deltas.get(t, seconds))
    hours = None
    if frames > 1 and sorted(deltas) == list(range(frames)):
        seconds_all = np.array([deltas[t] for t in range(frames)])
        if (np.diff(seconds_all) > 0).all():
            hours = (seconds_all - seconds_all[0]) / 3600.0
    if hours is None and increment and frames > 1:
        hours = np.arange(frames) * (increment / 3600.0)
    bits = pixels.get("SignificantBits")
    limits = (0.0, float(2 ** int(bits) - 1)) if bits and bits.isdigit() else None
    return _Facts(names if len(names) == channels and all(names) else (), size, hours, limits)


def _imagej_facts(file: tifffile.TiffFile, frames: int) -> _Facts:
    """ImageJ: `finterval` seconds between frames; pixels a unit in the resolution tags."""
    notes: dict[str, Any] = file.imagej_metadata or {}
    interval = _scaled(notes.get("finterval"), str(notes.get("tunit", "s")), _TIME_S)
    hours = np.arange(frames) * (interval / 3600.0) if interval and frames > 1 else None
    tag = file.pages[0].tags.get("XResolution")  # type: ignore[union-attr]
    size = None
    if tag is not None and tag.value[0] > 0:
        size = _scaled(tag.value[1] / tag.value[0], str(notes.get("unit", "")), _LENGTH_UM)
    return _Facts((), float(f"{size:.9g}") if size else None, hours)


def _scaled(value: object, unit: str | None, table: dict[str, float], zero: bool = False) -> float | None:
    """``value`` in micrometres or seconds; None where it is absent, not positive or of an unknown unit."""
    try:
        number = float(value) if value is not None else None  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    factor = table.get((unit or "").strip())
    if (
        number is None
        or factor is None
        or not np.isfinite(number)
        or (number <= 0 and not (zero and number == 0))
    ):
        return None
    return number * factor
