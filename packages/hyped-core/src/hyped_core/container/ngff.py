"""OME-NGFF metadata of movies and labels: made for writing, parsed for reading. No pixels here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.container.extras import need
from hyped_core.container.pyramid import level_shapes
from hyped_core.errors import CorruptFileError, MissingFileError, UnsupportedDataError
from hyped_core.io.zarrs import refuse_pickles

if TYPE_CHECKING:
    import zarr

NGFF_VERSION = "0.5"
MOVIE_SCHEMA = 1
"""Version of the ``hyped`` attributes of movies and labels."""

AXES = ("t", "c", "z", "y", "x")
_TO_UM = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "meter": 1e6, None: 1.0}
_COLOURS = ("FF00FF", "FF4040", "40FF40", "FFFFFF", "40A0FF", "FFD040")
_MEND = "make it again with the step that wrote it"


def multiscales(
    name: str,
    axes: Sequence[str],
    pixel_size_um: float,
    time_h: npt.NDArray[np.float64],
    shape: Sequence[int] = (1, 1),
) -> list[dict[str, Any]]:
    """The ``multiscales`` entry: level ``"0"``, and the further levels an array of this shape (..., y, x) has.

    A pixel of level k covers 2^k x 2^k of level 0, and its place is their centre. The scale of the time axis
    is the median interval in hours: real times, with their gaps, are in the ``hyped`` attributes.
    """
    interval = float(np.median(np.diff(time_h))) if len(time_h) > 1 else 1.0
    described = {
        "t": {"name": "t", "type": "time", "unit": "hour"},
        "c": {"name": "c", "type": "channel"},
        "y": {"name": "y", "type": "space", "unit": "micrometer"},
        "x": {"name": "x", "type": "space", "unit": "micrometer"},
    }
    levels = []
    for level in range(len(level_shapes(shape))):
        pixel = pixel_size_um * 2**level
        scale = {"t": round(interval, 9), "c": 1.0, "y": pixel, "x": pixel}
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": [scale[a] for a in axes]}]
        if level:
            shift = {"y": (pixel - pixel_size_um) / 2, "x": (pixel - pixel_size_um) / 2}
            transforms.append({"type": "translation", "translation": [shift.get(a, 0.0) for a in axes]})
        levels.append({"path": str(level), "coordinateTransformations": transforms})
    return [{"name": name, "axes": [described[a] for a in axes], "datasets": levels}]


def omero(
    channels: Sequence[str],
    data_range: tuple[float, float],
    shown: Sequence[tuple[float, float]] | None = None,
) -> dict[str, Any]:
    """The ``omero`` block: channel names, and the display windows: ``shown`` (one a channel), or the data range."""
    low, high = data_range
    windows = [{"min": low, "max": high, "start": s, "end": e} for s, e in shown or [data_range] * len(channels)]
    return {
        "channels": [
            {"label": name, "color": _COLOURS[k % len(_COLOURS)], "active": True, "window": windows[k]}
            for k, name in enumerate(channels)
        ],
        "rdefs": {"model": "color"},
    }


@dataclass(frozen=True, slots=True)
class Layout:
    """What an opened NGFF image says about itself.

    Attributes
    ----------
    axes : names in stored order, a subsequence of t, c, z, y, x.
    pixel_size_um : edge of a pixel; 1.0 where the file gives no unit.
    interval_h : hours between frames by the time axis' scale and unit, where both are there.
    channels : labels of the ``omero`` block, where there is one.
    hyped : HYPED's own attributes (empty for a foreign file).
    """

    axes: tuple[str, ...]
    pixel_size_um: float
    interval_h: float | None
    channels: tuple[str, ...]
    hyped: Mapping[str, Any]
    ome: Mapping[str, Any]


def open_array(path: Path, kind: str) -> tuple[zarr.Array, Layout]:
    """Level 0 of the NGFF image in the folder ``path`` and its parsed metadata.

    Raises
    ------
    MissingFileError, CorruptFileError, UnsupportedDataError
        No such folder; not a readable NGFF image; axes HYPED does not handle (a z axis longer than one).
    """
    zarr = need("zarr", f"reading a {kind}")
    if not path.exists():
        raise MissingFileError(
            f"there is no such {kind}", where=path, mend="check the path, or run the step that writes it"
        )
    if not path.is_dir():
        raise CorruptFileError(f"is a file, not a {kind} (a zarr folder)", where=path, mend="give the folder")
    refuse_pickles(path, arrays=())
    try:
        group = zarr.open_group(str(path), mode="r")
        attrs = dict(group.attrs)
    except Exception as error:
        raise CorruptFileError(
            f"cannot be read as a {kind}: {type(error).__name__}: {_short(error)}", where=path, mend=_MEND
        ) from error
    layout = parse(attrs, path, kind)
    level = level_path(attrs)
    refuse_pickles(path, arrays=(level,))
    try:
        array = group[level]
        shape = array.shape
    except Exception as error:
        raise CorruptFileError(
            f"has no readable array {level!r}: {type(error).__name__}: {_short(error)}",
            where=path,
            mend=_MEND,
        ) from error
    if not isinstance(array, zarr.Array) or len(shape) != len(layout.axes):
        raise CorruptFileError(
            f"array {level!r} has shape {shape}, the metadata names axes {layout.axes}",
            where=path,
            mend=_MEND,
        )
    if "z" in layout.axes and shape[layout.axes.index("z")] != 1:
        raise UnsupportedDataError(
            f"has {shape[layout.axes.index('z')]} z planes", where=path, mend="project it to one plane first"
        )
    return array, layout


def level_path(attrs: Mapping[str, Any]) -> str:
    """Path of the full-resolution array inside the image."""
    ome = attrs.get("ome", attrs)
    return str(ome["multiscales"][0]["datasets"][0]["path"])


def parse(attrs: Mapping[str, Any], path: Path, kind: str) -> Layout:
    """Read ``multiscales`` (NGFF 0.4 or 0.5), ``omero`` and HYPED's own attributes."""
    ome = attrs.get("ome", attrs)
    try:
        image = ome["multiscales"][0]
        axes = tuple(axis["name"] if isinstance(axis, Mapping) else axis for axis in image["axes"])
        units = [axis.get("unit") if isinstance(axis, Mapping) else None for axis in image["axes"]]
        scale = [1.0] * len(axes)
        for transform in image["datasets"][0].get("coordinateTransformations", []):
            if transform.get("type") == "scale":
                scale = [float(v) for v in transform["scale"]]
        labels = ome.get("omero", {}).get("channels", [])
        channels = tuple(str(c.get("label", k)) for k, c in enumerate(labels))
        hyped = dict(attrs.get("hyped", {}))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise CorruptFileError(
            f"is not a {kind}: its attributes hold no valid OME-NGFF 'multiscales' ({_short(error)})",
            where=path,
            mend=_MEND,
        ) from error
    order = [AXES.index(a) for a in axes if a in AXES]
    if len(order) != len(axes) or order != sorted(order) or axes[-2:] != ("y", "x"):
        raise UnsupportedDataError(
            f"has axes {axes}; HYPED reads t, c, y, x in this order", where=path, mend="convert the image"
        )
    version = hyped.get("schema_version", MOVIE_SCHEMA)
    if not isinstance(version, int) or version > MOVIE_SCHEMA:
        raise UnsupportedDataError(
            f"was written with schema version {version}, this HYPED knows up to {MOVIE_SCHEMA}",
            where=path,
            mend="pip install --upgrade 'hyped-core[container]'",
        )
    y = axes.index("y")
    pixel = float(hyped.get("pixel_size_um", scale[y] * _TO_UM.get(units[y], 1.0)))
    return Layout(axes, pixel, _interval(axes, units, scale), channels, hyped, dict(ome))


def _interval(axes: Sequence[str], units: Sequence[str | None], scale: Sequence[float]) -> float | None:
    if "t" not in axes:
        return None
    hours = {"hour": 1.0, "minute": 1 / 60, "second": 1 / 3600, "millisecond": 1 / 3.6e6}
    t = axes.index("t")
    hour = hours.get(units[t] or "")
    return None if hour is None else scale[t] * hour


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
