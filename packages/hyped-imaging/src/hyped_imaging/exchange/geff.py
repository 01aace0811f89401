"""Tracks as a GEFF graph, the form in which napari's plugins open and correct them, and back.

Every column of the table is a node property, so that nothing is lost; edges alone decide tracks on the way
back. Axes are ``t`` (frame), ``y`` and ``x`` (pixels), each with the scale that leads to hours and micrometres.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError, MissingDependencyError, UnsupportedDataError
from hyped_core.io.atomic import atomic_path
from hyped_imaging.exchange import graph as exchange

if TYPE_CHECKING:
    import pandas as pd
    from geff import GeffMetadata

    from hyped_core.container.labels import Labels

SCHEMA = 1
"""Version of the ``hyped`` notes in the graph's metadata."""

ROW = "hyped_row"
"""Node property: row of the exported table, from 1. What lacks it was added by hand."""

RESERVED = ("t", "y", "x", "tracklet_id", "lineage_id", ROW)
"""Node properties beside the columns of the table."""


def need_geff() -> Any:
    """The ``geff`` package; `MissingDependencyError` with the install command where it is not there."""
    try:
        import geff
    except ModuleNotFoundError as error:
        raise MissingDependencyError("GEFF files need geff, which is not installed", mend="pip install geff") from error
    return geff


def export_geff(table: pd.DataFrame, out: str | Path, *, labels: Labels | None = None) -> dict[str, Any]:
    """Write the tracks of one scene as a GEFF graph (zarr format 2, which all readers know).

    Parameters
    ----------
    table : table of tracks of one scene: ``frame, track_id, parent_id`` and places in pixels or micrometres.
    out : the new folder, ``NAME.geff`` by custom; replaced where it exists.
    labels : labels of the scene; named in the graph, so that napari opens them with the tracks.

    Returns
    -------
    Counts: ``objects, edges, tracks, divisions, unassigned``.

    Raises
    ------
    InvalidDataError, ValidationError, UnsupportedDataError, MissingDependencyError
        Columns are missing or named like the graph's own properties; the tracks are no lineage; a column's
        type has no form in GEFF; geff is not installed.
    """
    need_geff()
    from geff.core_io import write_arrays

    out = Path(out)
    edges, kind = exchange.table_edges(table, where=out)
    pixel, places = _places(table, labels, out)
    n = len(table)
    frame = table["frame"].to_numpy().astype(np.int64)
    props: dict[str, Any] = {"t": _prop(frame), "y": _prop(places[0]), "x": _prop(places[1])}
    columns = []
    for name in table.columns:
        prop, description = encode(table[name], out)
        props[str(name)] = prop
        columns.append({"name": str(name), **description})
    out_degree = np.bincount(edges[:, 0], minlength=n) if n else np.zeros(0, np.int64)
    inner = edges[out_degree[edges[:, 0]] == 1]
    props["tracklet_id"] = _prop(exchange.components(n, inner) + 1)
    props["lineage_id"] = _prop(exchange.components(n, edges) + 1)
    props[ROW] = _prop(np.arange(1, n + 1, dtype=np.int64))
    ids = np.arange(1, n + 1, dtype=np.uint64)
    notes = {"schema_version": SCHEMA, "rows": n, "columns": columns, "pixel_size_um": pixel, **_hours(table, labels)}
    metadata = _metadata(pixel, notes, labels, out)
    with atomic_path(out) as part:
        write_arrays(
            part,
            node_ids=ids,
            node_props=props,
            edge_ids=(edges + 1).astype(np.uint64).reshape(-1, 2),
            edge_props={"kind": _prop(kind)},
            metadata=metadata,
        )
    track = table["track_id"].to_numpy()
    return {
        "objects": n,
        "edges": len(edges),
        "tracks": int(np.unique(track[track > 0]).size),
        "divisions": int((np.bincount(edges[kind > 0, 0]) > 1).sum()) if (kind > 0).any() else 0,
        "unassigned": int((track <= 0).sum()),
    }


def _prop(values: npt.NDArray, missing: npt.NDArray | None = None) -> dict[str, Any]:
    return {"values": np.ascontiguousarray(values), "missing": missing}


def _places(
    table: pd.DataFrame, labels: Labels | None, where: Path
) -> tuple[float | None, tuple[npt.NDArray, npt.NDArray]]:
    """Pixel size where known, and y and x: in pixels where the size is known, else in micrometres."""
    size = exchange.pixel_size(table)
    if labels is not None:
        if size is not None and abs(size - labels.pixel_size_um) > 1e-4 * size:
            raise InvalidDataError(
                f"the table counts {size:g} um a pixel, the labels {labels.pixel_size_um:g}",
                where=where,
                mend="give the labels that the table was measured on",
            )
        size = size or float(labels.pixel_size_um)
    if {"y_px", "x_px"} <= set(table.columns) and size is not None:
        y, x = (table[name].to_numpy(np.float64) for name in ("y_px", "x_px"))
    elif {"y_um", "x_um"} <= set(table.columns):
        y, x = (table[name].to_numpy(np.float64) / (size or 1.0) for name in ("y_um", "x_um"))
    else:
        raise InvalidDataError("has no columns y_um and x_um", where=where, mend="give a table of tracks")
    if not (np.isfinite(y).all() and np.isfinite(x).all()):
        raise InvalidDataError("positions are NaN or infinite", where=where, mend="drop or mend these rows")
    return size, (y, x)


def _hours(table: pd.DataFrame, labels: Labels | None) -> dict[str, Any]:
    """Hours of every frame that is known, as two lists."""
    if labels is not None and labels.has_times:
        return {"frames": list(range(labels.n_frames)), "hours": [float(v) for v in labels.time_h]}
    if "time_h" not in table.columns:
        return {"frames": [], "hours": []}
    hours = table.groupby("frame", sort=True)["time_h"].first().dropna()
    return {"frames": [int(v) for v in hours.index], "hours": [float(v) for v in hours]}


def _metadata(pixel: float | None, notes: dict[str, Any], labels: Labels | None, out: Path) -> GeffMetadata:
    from geff import GeffMetadata
    from geff_spec import Axis, DisplayHint, RelatedObject

    hours, frames = np.asarray(notes["hours"]), np.asarray(notes["frames"])
    steps = np.diff(hours) / np.diff(frames) if len(hours) > 1 else np.zeros(0)
    # the median interval, as in the movie's own metadata: napari then shows tracks and movie in step
    time = {"scale": round(float(np.median(steps)), 9), "scaled_unit": "hour"} if steps.size else {}
    space: dict[str, Any] = {"unit": "micrometer"}
    if pixel is not None:
        space = {"unit": "pixel", "scale": pixel, "scaled_unit": "micrometer"}
    related = None
    if labels is not None:
        level = Path(os.path.relpath(labels.path.resolve() / "0", out.resolve())).as_posix()
        related = [RelatedObject(type="labels", path=level, node_prop="label")]
    return GeffMetadata(
        directed=True,
        axes=[
            Axis(name="t", type="time", unit="frame", **time),
            Axis(name="y", type="space", **space),
            Axis(name="x", type="space", **space),
        ],
        node_props_metadata={},
        edge_props_metadata={},
        track_node_props={"tracklet": "tracklet_id", "lineage": "lineage_id"},
        related_objects=related,
        display_hints=DisplayHint(display_horizontal="x", display_vertical="y", display_time="t"),
        extra={"hyped": notes},
    )


def encode(column: pd.Series, where: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """A column as a GEFF property (values, mask of missing ones), and what `decode` needs to restore it."""
    import pandas as pd

    name = str(column.name)
    if name in RESERVED or "/" in name or name.startswith((".", "__")) or not name:
        raise InvalidDataError(
            f"column {name!r} cannot be a node property of this name", where=where, mend="rename the column"
        )
    description: dict[str, Any] = {"dtype": str(column.dtype)}
    if isinstance(column.dtype, pd.CategoricalDtype):
        description.update(
            dtype="category",
            categories=[str(c) for c in column.cat.categories],
            ordered=bool(column.cat.ordered),
        )
        if not all(isinstance(c, str) for c in column.cat.categories):
            raise _unsupported(column, where)
        column = column.astype(object)
    kind = column.dtype.kind
    gone = column.isna().to_numpy()
    if kind in "biu" and column.dtype.itemsize <= 8:
        if gone.any() or isinstance(column.dtype, pd.api.extensions.ExtensionDtype):
            base = column.dtype.numpy_dtype if hasattr(column.dtype, "numpy_dtype") else np.dtype(np.int64)
            filled = column.fillna(False if kind == "b" else 0).to_numpy(dtype=base)
            return _prop(filled, gone if gone.any() else None), description
        return _prop(column.to_numpy()), description
    if kind == "f" and isinstance(column.dtype, np.dtype) and column.dtype.itemsize in (4, 8):
        return _prop(column.to_numpy()), description  # NaN is a value of these
    if column.dtype == object or isinstance(column.dtype, pd.StringDtype):
        present = column[~gone]
        if all(isinstance(value, str) for value in present):
            # numpy's fixed-width text drops trailing NUL characters
            if any(value.endswith("\0") for value in present):
                raise _unsupported(column, where)
            values = column.where(~gone, "").to_numpy(dtype=object).astype(np.str_)
            description["missing"] = "nan" if any(isinstance(v, float) for v in column[gone]) else "none"
            return _prop(values, gone if gone.any() else None), description
    raise _unsupported(column, where)


def _unsupported(column: pd.Series, where: object) -> UnsupportedDataError:
    return UnsupportedDataError(
        f"column {column.name!r} ({column.dtype}) has no form in GEFF",
        where=where,
        mend="turn it into numbers, booleans or text, or drop it",
    )


def decode(
    values: npt.NDArray, missing: npt.NDArray | None, description: dict[str, Any]
) -> pd.Series | npt.NDArray:
    """The column that `encode` was given."""
    import pandas as pd

    dtype = description["dtype"]
    if values.dtype.kind in "UT" or values.dtype == object:
        column = pd.Series(values.astype(object), dtype=object)
        if missing is not None:
            column[missing] = float("nan") if description.get("missing") == "nan" else None
        if dtype == "category":
            return column.astype(
                pd.CategoricalDtype(description.get("categories"), ordered=bool(description.get("ordered")))
            )
        return column if dtype == "object" else column.astype(dtype)
    if missing is not None and missing.any():
        column = pd.Series(values).astype(dtype if not _is_numpy(dtype) else "float64")
        column[missing] = pd.NA if not _is_numpy(dtype) else np.nan
        return column
    return pd.Series(values).astype(dtype)


def _is_numpy(dtype: str) -> bool:
    try:
        np.dtype(dtype)
    except TypeError:
        return False
    return True
