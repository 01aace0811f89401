"""GEFF graphs read as tables of tracks: our own after correction by hand, and those of other tools."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import CorruptFileError, InvalidDataError, UnsupportedDataError, UsageError
from hyped_imaging.exchange import graph as exchange
from hyped_imaging.exchange.geff import RESERVED, ROW, decode, need_geff

if TYPE_CHECKING:
    import pandas as pd

_UM = {
    "micrometer": 1.0, "micron": 1.0, "um": 1.0, "µm": 1.0, "μm": 1.0, "micrometre": 1.0,
    "nanometer": 1e-3, "nm": 1e-3, "millimeter": 1e3, "mm": 1e3, "centimeter": 1e4, "meter": 1e6,
}  # fmt: skip
_HOURS = {
    "hour": 1.0, "h": 1.0, "hours": 1.0, "minute": 1 / 60, "min": 1 / 60, "minutes": 1 / 60,
    "second": 1 / 3600, "s": 1 / 3600, "sec": 1 / 3600, "seconds": 1 / 3600, "millisecond": 1 / 3.6e6, "day": 24.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hints:
    """What a user says where a file does not.

    Attributes
    ----------
    pixel_size_um : edge of a pixel.
    interval_min : minutes between frames.
    start_h : hours at frame 0, with ``interval_min``.
    axes : names of the node properties of time, y and x.
    """

    pixel_size_um: float | None = None
    interval_min: float | None = None
    start_h: float = 0.0
    axes: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """A GEFF graph in memory; edges are positions of nodes."""

    path: Path
    ids: npt.NDArray
    edges: npt.NDArray[np.int64]
    kind: npt.NDArray[np.uint8]
    missing: npt.NDArray
    props: dict[str, tuple[npt.NDArray, npt.NDArray | None]]
    metadata: Any

    @property
    def notes(self) -> dict[str, Any]:
        """What `export_geff` wrote beside the graph, where a tool kept it."""
        return dict((self.metadata.extra or {}).get("hyped") or {})


def import_geff(source: str | Path, hints: Hints, original: pd.DataFrame | None = None) -> exchange.Imported:
    """The table of tracks of a GEFF graph.

    A graph that `export_geff` wrote and nobody edited gives back its table: columns, types, order of rows,
    unassigned objects with their reason. After edits tracks and parents follow from the edges: a node with
    two edges out divides, tracks keep the number of their first object. A moved object takes its new place in
    pixels and micrometres while its measurements stay those of the old one. An added object gets its
    measurements from the others of its track, linear in time, and the column ``added_by_hand`` marks it.

    Parameters
    ----------
    source : the GEFF folder.
    hints : what the file does not say.
    original : the exported table (one scene), for columns that the tool in between dropped.

    Raises
    ------
    CorruptFileError, InvalidDataError, UnsupportedDataError
        Not a readable GEFF graph; undirected or three-dimensional; no axes.
    UsageError
        The size of a pixel or the interval is not in the file: names the option.
    ValidationError
        The edges are no lineage (merges, three daughters, edges back in time): every problem with node ids.
    """
    graph = read_graph(Path(source))
    if ROW in graph.props or original is not None:
        from hyped_imaging.exchange.geff_edits import import_own

        return import_own(graph, hints, original)
    return import_foreign(graph, hints)


def read_graph(path: Path) -> Graph:
    """Read and check the structure of a graph (not its edges' sense)."""
    need_geff()
    from geff.core_io import read_to_memory

    try:
        found = read_to_memory(path)
    except Exception as error:  # geff, pydantic and zarr raise many types for a broken file
        detail = " ".join(str(error).split())[:300]
        raise CorruptFileError(
            f"cannot be read as GEFF: {type(error).__name__}: {detail}", where=path, mend="write it again"
        ) from error
    if not found["metadata"].directed:
        raise UnsupportedDataError(
            "is an undirected graph", where=path, mend="tracks need edges from earlier to later objects"
        )
    ids = np.asarray(found["node_ids"])
    named = np.asarray(found["edge_ids"]).reshape(-1, 2)
    order = np.argsort(ids, kind="stable")
    at = np.minimum(np.searchsorted(ids[order], named), max(len(ids) - 1, 0))
    known = (ids[order][at] == named).all(axis=1) if len(ids) else np.zeros(len(named), dtype=bool)
    edges = order[at[known]].astype(np.int64).reshape(-1, 2) if len(ids) else np.zeros((0, 2), np.int64)
    kind = np.zeros(len(named), np.uint8)
    if "kind" in found["edge_props"]:
        given = found["edge_props"]["kind"]
        if given["values"].ndim == 1 and given["values"].dtype.kind in "iuf":
            values = np.nan_to_num(np.asarray(given["values"], dtype=np.float64))
            kind = np.where(given["missing"] if given["missing"] is not None else False, 0, values).astype(np.uint8)
    props = {
        name: (np.asarray(prop["values"]), prop["missing"]) for name, prop in found["node_props"].items()
    }
    return Graph(path, ids, edges, kind[known], named[~known], props, found["metadata"])


def numbers(graph: Graph, name: str) -> npt.NDArray[np.float64]:
    """A node property as finite numbers, one a node."""
    if name not in graph.props:
        raise InvalidDataError(
            f"has no node property {name!r}",
            where=graph.path,
            mend=f"name time, y and x: --axes T,Y,X (there: {', '.join(sorted(graph.props))})",
        )
    values, missing = graph.props[name]
    if values.ndim != 1 or values.dtype.kind not in "iufb":
        raise InvalidDataError(f"node property {name!r} is no plain number", where=graph.path)
    values = values.astype(np.float64)
    bad = ~np.isfinite(values) | (missing if missing is not None else False)
    if bad.any():
        shown = ", ".join(str(i) for i in graph.ids[bad][:10])
        raise InvalidDataError(
            f"{int(bad.sum())} node(s) have no {name!r}: {shown}", where=graph.path, mend="mend or delete them"
        )
    return values


def find_axes(graph: Graph, hints: Hints) -> tuple[str, str, str]:
    """Names of the properties of time, y and x, by the user, the metadata, or usual names."""
    if hints.axes is not None:
        return hints.axes
    axes = graph.metadata.axes or []
    times = [a.name for a in axes if a.type == "time"]
    space = [a.name for a in axes if a.type == "space"]
    time = times[0] if times else _named(graph.props, ("t", "frame", "time", "FRAME", "POSITION_T"))
    y, x = _letter(space or graph.props, "y"), _letter(space or graph.props, "x")
    if (y is None or x is None) and len(space) >= 2:
        y, x = space[-2:]  # the order of axes has a meaning in GEFF
    if time is None or y is None or x is None:
        lacking = [n for n, v in (("time", time), ("y", y), ("x", x)) if v is None]
        raise InvalidDataError(
            f"does not say which node properties are {', '.join(lacking)}",
            where=graph.path,
            mend=f"name them: --axes T,Y,X (there: {', '.join(sorted(graph.props))})",
        )
    for name in space:
        if name not in (y, x) and np.ptp(numbers(graph, name)) > 0 if len(graph.ids) else False:
            raise UnsupportedDataError(
                f"has a third axis in space, {name!r}", where=graph.path, mend="project it to one plane first"
            )
    return time, y, x


def _named(there: Any, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in there), None)


def _letter(there: Any, letter: str) -> str | None:
    """The one name of which ``letter`` is a part of its own (``y``, ``POSITION_Y``, ``pos_y_um``)."""
    found = [name for name in there if re.search(rf"(^|[^a-z]){letter}([^a-z]|$)", name.lower())]
    exact = [name for name in found if name.lower() == letter]
    return exact[0] if exact else found[0] if len(found) == 1 else None


def axis_values(graph: Graph, name: str) -> tuple[npt.NDArray[np.float64], str | None]:
    """Values of an axis with its scale and offset applied, and the unit they are in."""
    values = numbers(graph, name)
    axis = next((a for a in graph.metadata.axes or [] if a.name == name), None)
    if axis is None:
        return values, None
    if axis.scale is not None and axis.scaled_unit:
        return values * axis.scale + (axis.offset or 0.0), str(axis.scaled_unit).lower()
    return values, str(axis.unit).lower() if axis.unit else None


def import_foreign(graph: Graph, hints: Hints) -> exchange.Imported:
    """A graph of another tool: axes by its metadata, units converted, its properties kept as columns."""
    import pandas as pd

    t_name, y_name, x_name = find_axes(graph, hints)
    frame, hours = _times(graph, t_name, hints)
    y, x, pixel = _places(graph, y_name, x_name, hints)
    exchange.check_edges(graph.ids, frame, graph.edges, graph.missing, graph.path)
    track, parent = exchange.number_tracks(frame, graph.edges, graph.kind, np.zeros(len(frame), np.int64))
    columns: dict[str, Any] = {"frame": frame, "time_h": hours, "label": _labels(graph, frame)}
    if pixel is not None:
        columns.update(y_px=y / pixel, x_px=x / pixel)
    columns.update(y_um=y, x_um=x)
    left_out = []
    own = {"track_id", "parent_id", "unassigned_reason", "y_px", "x_px", t_name, y_name, x_name, *columns, *RESERVED}
    for name in sorted(set(graph.props) - own):
        values, missing = graph.props[name]
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1 or (values.dtype == object and not all(isinstance(v, str) for v in values)):
            left_out.append(name)
            continue
        dtype = "object" if values.dtype.kind in "OUT" else str(values.dtype)
        columns[name] = decode(values, missing, {"dtype": dtype})
    columns.update(track_id=track, parent_id=parent, unassigned_reason=np.full(len(frame), "", dtype=object))
    table = pd.DataFrame(columns)
    order = np.lexsort((graph.ids, frame))
    table = table.iloc[order].reset_index(drop=True)
    return exchange.Imported(table, {"origin": "foreign", "left_out": left_out})


def _times(
    graph: Graph, name: str, hints: Hints
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Frame and hours of each node."""
    values, unit = axis_values(graph, name)
    stored = numbers(graph, name)
    real = unit in _HOURS
    whole = bool((stored == np.round(stored)).all())
    axis = next((a for a in graph.metadata.axes or [] if a.name == name), None)
    counted = axis is None or axis.unit is None or str(axis.unit).lower() == "frame"
    if counted and whole:
        frame = stored.astype(np.int64)
        if hints.interval_min is not None:
            return frame, hints.start_h + frame * (hints.interval_min / 60)
        if real:
            return frame, hints.start_h + values * _HOURS[unit or ""]
        raise UsageError(
            f"counts time in frames and does not say how long one is (axis {name!r})",
            where=graph.path,
            mend="give the minutes between frames: --interval-min MINUTES",
        )
    if not real:
        raise UsageError(
            f"axis {name!r} is in {unit or 'no unit'} and its values are no frame numbers",
            where=graph.path,
            mend="name the property that holds frame numbers, --axes FRAME,Y,X, and give --interval-min MINUTES",
        )
    hours = values * _HOURS[unit or ""]
    distinct = np.unique(hours)
    step = hints.interval_min / 60 if hints.interval_min else 1.0
    if not hints.interval_min and len(distinct) > 1:
        step = float(np.median(np.diff(distinct)))
    start = float(distinct[0]) if len(distinct) else 0.0
    frame = np.round((hours - start) / step).astype(np.int64)
    if len(np.unique(frame)) < len(distinct):
        raise UsageError(
            f"axis {name!r}: {len(distinct)} times fall on {len(np.unique(frame))} frames of {step * 60:g} min",
            where=graph.path,
            mend="give the minutes between frames: --interval-min MINUTES",
        )
    return frame, hours


def _places(
    graph: Graph, y_name: str, x_name: str, hints: Hints
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float | None]:
    """y and x in micrometres, and the pixel size where it is known."""
    both = []
    for name in (y_name, x_name):
        values, unit = axis_values(graph, name)
        if unit in _UM:
            both.append(values * _UM[unit or ""])
        elif unit in (None, "pixel", "px", "pixels"):
            if hints.pixel_size_um is None:
                raise UsageError(
                    f"axis {name!r} is in pixels" if unit else f"does not say the unit of axis {name!r}",
                    where=graph.path,
                    mend="give the edge of a pixel: --pixel-size-um UM (1 if values are micrometres)",
                )
            both.append(numbers(graph, name) * hints.pixel_size_um)
        else:
            raise UnsupportedDataError(
                f"axis {name!r} is in {unit!r}", where=graph.path, mend="use micrometer or pixel"
            )
    axis = next((a for a in graph.metadata.axes or [] if a.name == y_name), None)
    pixel = hints.pixel_size_um
    if pixel is None and axis is not None and axis.scale and str(axis.unit).lower() == "pixel":
        pixel = float(axis.scale) * _UM.get(str(axis.scaled_unit).lower(), 1.0)
    return both[0], both[1], pixel


def _labels(graph: Graph, frame: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Label of each node in its frame: the property the file names, a usual one, or numbers by node id."""
    named = [r.node_prop or r.label_prop for r in graph.metadata.related_objects or [] if r.type == "labels"]
    for name in [*filter(None, named), "label", "seg_id", "segmentation_id", "mask_id"]:
        if name not in graph.props:
            continue
        values, missing = graph.props[name]
        usable = values.ndim == 1 and values.dtype.kind in "iu" and (missing is None or not missing.any())
        if usable and (values > 0).all():
            pairs = np.column_stack([frame, values.astype(np.int64)])
            if len(np.unique(pairs, axis=0)) == len(pairs):
                return values.astype(np.int64)
    labels = np.zeros(len(frame), np.int64)
    order = np.lexsort((graph.ids, frame))
    starts = np.concatenate([[0], np.flatnonzero(np.diff(frame[order])) + 1]) if len(order) else np.zeros(1, int)
    counts = np.diff(np.append(starts, len(order)))
    labels[order] = np.arange(len(order)) - np.repeat(starts, counts) + 1
    return labels
