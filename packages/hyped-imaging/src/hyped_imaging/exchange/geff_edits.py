"""Our own GEFF graph after it was opened elsewhere: what was moved, added, deleted, and the table it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError, UsageError
from hyped_imaging.exchange import graph as exchange
from hyped_imaging.exchange.geff import RESERVED, ROW, decode
from hyped_imaging.exchange.geff_import import Graph, Hints, find_axes, numbers

if TYPE_CHECKING:
    import pandas as pd

IDENTITY = ("frame", "label", "track_id", "parent_id")

ADDED = "added_by_hand"
"""Column that marks added objects; only there where some were added."""

_CLOSE = 1e-3
"""Pixels (or micrometres) within which a place counts as not moved."""


def import_own(graph: Graph, hints: Hints, original: pd.DataFrame | None) -> exchange.Imported:
    """See `geff_import.import_geff`."""
    import pandas as pd

    axes = find_axes(graph, hints)
    t = numbers(graph, axes[0])
    if (t != np.round(t)).any():
        raise InvalidDataError(
            f"axis {axes[0]!r} is not the frame any more", where=graph.path, mend="name the frame: --axes FRAME,Y,X"
        )
    frame = t.astype(np.int64)
    row = _rows(graph, frame, original)
    new = row < 0
    base = original if original is not None else _columns(graph, row)
    lacking = [name for name in IDENTITY if name not in base.columns]
    if lacking:
        raise InvalidDataError(
            f"lost the node properties {', '.join(lacking)}",
            where=graph.path,
            mend="give the exported table too: --original TRACKS.parquet",
        )
    exchange.check_edges(graph.ids, frame, graph.edges, graph.missing, graph.path)

    keys = [graph.ids, np.where(new, len(row) + row.max(initial=0), row)]
    order = np.lexsort([*keys, frame] if new.any() else keys)  # added objects come last in their frame
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    edges, kind = place[graph.edges], graph.kind
    frame, row, new = frame[order], row[order], new[order]
    taken = base.iloc[np.where(new, 0, row)].reset_index(drop=True) if len(base) else base.reindex(range(len(row)))
    if new.any():
        taken = _blank(taken, new)
    table = taken.copy()

    retimed = ~new & (frame != taken["frame"].to_numpy())
    table["frame"] = frame.astype(_dtype(base, "frame"))
    table["label"] = _new_labels(graph, order, table, frame, new | retimed).astype(_dtype(base, "label"))
    moved = _move(table, graph, axes, order, new, hints)
    _set_times(table, graph, frame, new | retimed, hints)

    old = np.where(new, 0, taken["track_id"].fillna(0).to_numpy()).astype(np.int64)
    linked = np.zeros(len(frame), dtype=bool)
    linked[edges.ravel()] = True
    unassigned = ~linked & ~new & (old <= 0)
    kept = np.flatnonzero(~unassigned)
    compact = np.cumsum(~unassigned) - 1
    track, parent = np.zeros(len(frame), np.int64), np.zeros(len(frame), np.int64)
    track[kept], parent[kept] = exchange.number_tracks(frame[kept], compact[edges], kind, old[kept])
    changed = new | (track != np.maximum(old, 0)) | (
        ~new & (parent != np.where(new, 0, taken["parent_id"].fillna(0).to_numpy()).astype(np.int64))
    )
    table["track_id"] = track.astype(_dtype(base, "track_id"))
    table["parent_id"] = parent.astype(_dtype(base, "parent_id"))
    assigned = ~unassigned & (new | (old <= 0))
    if "unassigned_reason" in table.columns and assigned.any():
        table["unassigned_reason"] = table["unassigned_reason"].astype(object).mask(assigned, "")
    if new.any():
        _interpolate(table, base, track, frame, new)
        table[ADDED] = new
    exported = len(original) if original is not None else int(graph.notes.get("rows", row.max(initial=-1) + 1))
    record = {
        "origin": "hyped",
        "added": int(new.sum()),
        "deleted": max(0, exported - int((~new).sum())),
        "moved": int((moved | retimed).sum()),
        "changed": int(changed.sum()),
        "lost_columns": [c["name"] for c in graph.notes.get("columns", []) if c["name"] not in table.columns],
    }
    return exchange.Imported(pd.DataFrame(table), record)


def _dtype(base: pd.DataFrame, name: str) -> Any:
    dtype = base[name].dtype
    return dtype if np.issubdtype(getattr(dtype, "numpy_dtype", dtype), np.integer) else np.dtype(np.int64)


def _rows(graph: Graph, frame: npt.NDArray[np.int64], original: pd.DataFrame | None) -> npt.NDArray[np.int64]:
    """Row of the exported table each node is, -1 for nodes added by hand."""
    n = len(graph.ids)
    row = np.full(n, -1, np.int64)
    if ROW in graph.props:
        values, missing = graph.props[ROW]
        values = np.nan_to_num(values.astype(np.float64), nan=0.0)
        known = (values >= 1) & (values == np.round(values)) & ~(missing if missing is not None else np.zeros(n, bool))
        row[known] = values[known].astype(np.int64) - 1
    elif original is not None and "label" in graph.props and len(original):
        label = numbers(graph, "label").astype(np.int64)
        places = {
            pair: i for i, pair in enumerate(zip(original["frame"].tolist(), original["label"].tolist(), strict=True))
        }
        row = np.array([places.get(pair, -1) for pair in zip(frame.tolist(), label.tolist(), strict=True)], np.int64)
    else:
        raise InvalidDataError(
            f"holds neither {ROW!r} nor 'label' to find the original objects by",
            where=graph.path,
            mend="keep all node properties when saving from the viewer",
        )
    if original is not None and len(row) and row.max() >= len(original):
        raise InvalidDataError(
            f"names row {row.max() + 1}, the original table has {len(original)}",
            where=graph.path,
            mend="give the table (and --scene) that was exported",
        )
    order = np.lexsort((graph.ids, row))  # of copies of an object the first is the object
    again = np.concatenate([[False], row[order][1:] == row[order][:-1]]) if n else np.zeros(0, bool)
    row[order[again]] = -1
    return row


def _columns(graph: Graph, row: npt.NDArray[np.int64]) -> pd.DataFrame:
    """The exported table as the node properties hold it; rows that were deleted repeat another one."""
    import pandas as pd

    described = graph.notes.get("columns")
    if described is None:  # a tool dropped the notes: all there is, plainly
        names = [name for name in graph.props if name not in RESERVED and graph.props[name][0].ndim == 1]
        described = [
            {"name": n, "dtype": "object" if graph.props[n][0].dtype.kind in "OUT" else str(graph.props[n][0].dtype)}
            for n in names
        ]
    at = np.zeros(int(row.max(initial=-1)) + 1, np.int64)
    at[row[row >= 0]] = np.flatnonzero(row >= 0)
    if len(at):
        at[~np.isin(np.arange(len(at)), row)] = np.flatnonzero(row >= 0)[0]
    columns = {}
    for item in described:
        if item["name"] not in graph.props:
            continue
        values, missing = graph.props[item["name"]]
        if values.ndim != 1:
            continue
        columns[item["name"]] = decode(values[at], missing[at] if missing is not None else None, item)
    return pd.DataFrame(columns, index=range(len(at)))


def _blank(taken: pd.DataFrame, new: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Empty the measurements of added objects; what is the same for a whole scene stays."""
    import pandas as pd

    table = taken.copy()
    whole = [c for c in ("scene", "condition", "replicate", "pool", "dataset") if c in table.columns]
    for name in table.columns:
        column = table[name]
        if name in whole or name in IDENTITY:
            continue
        if pd.api.types.is_bool_dtype(column.dtype):
            column = column.mask(new, False)
        elif pd.api.types.is_integer_dtype(column.dtype):
            column = column.astype("float64").mask(new)
        elif pd.api.types.is_float_dtype(column.dtype):
            column = column.mask(new)
        else:
            column = column.mask(new, "" if name == "unassigned_reason" else None)
        table[name] = column
    for name in ("track_id", "parent_id"):
        table[name] = table[name].mask(new, 0)
    return table


def _interpolate(
    table: pd.DataFrame,
    base: pd.DataFrame,
    track: npt.NDArray[np.int64],
    frame: npt.NDArray[np.int64],
    new: npt.NDArray[np.bool_],
) -> None:
    """Measurements of added objects from the measured ones of their track, linear in time, level at its ends.

    What a track without any measured object would need stays NaN.
    """
    import pandas as pd

    fixed = {*IDENTITY, "time_h", "y_px", "x_px", "y_um", "x_um", "replicate"}
    names = [c for c in table.columns if c not in fixed and pd.api.types.is_float_dtype(table[c].dtype)]
    when = table["time_h"].to_numpy(np.float64) if "time_h" in table.columns else frame.astype(np.float64)
    values = {name: table[name].to_numpy(np.float64, na_value=np.nan).copy() for name in names}
    for piece in np.unique(track[new]):
        rows = np.flatnonzero(track == piece)
        added, measured = rows[new[rows]], rows[~new[rows]]
        for column in values.values():
            there = measured[np.isfinite(column[measured])]
            if len(there):
                column[added] = np.interp(when[added], when[there], column[there])
    for name, column in values.items():
        before = base[name].dtype
        if pd.api.types.is_integer_dtype(before) and np.isfinite(column).all():
            table[name] = np.round(column).astype(getattr(before, "numpy_dtype", before))
        else:
            dtype = table[name].dtype
            table.loc[new, name] = column[new].astype(dtype) if isinstance(dtype, np.dtype) else column[new]


def _new_labels(
    graph: Graph, order: npt.NDArray, table: pd.DataFrame, frame: npt.NDArray[np.int64], wanting: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Labels, free ones for objects that were added or came into another frame."""
    labels = table["label"].to_numpy().astype(np.int64).copy()
    if not wanting.any():
        return labels
    used: dict[int, set[int]] = {}
    for f, label in zip(frame[~wanting].tolist(), labels[~wanting].tolist(), strict=True):
        used.setdefault(f, set()).add(label)
    given = np.zeros(len(labels), np.int64)
    if "label" in graph.props and graph.props["label"][0].dtype.kind in "iuf":
        values, missing = graph.props["label"]
        stated = np.nan_to_num(values.astype(np.float64), nan=0.0)
        given = np.where(missing if missing is not None else False, 0, stated).astype(np.int64)[order]
    for i in np.flatnonzero(wanting):
        there = used.setdefault(int(frame[i]), set())
        labels[i] = given[i] if given[i] > 0 and int(given[i]) not in there else max(there, default=0) + 1
        there.add(int(labels[i]))
    return labels


def _move(
    table: pd.DataFrame,
    graph: Graph,
    axes: tuple[str, str, str],
    order: npt.NDArray,
    new: npt.NDArray[np.bool_],
    hints: Hints,
) -> npt.NDArray[np.bool_]:
    """Give moved and added objects the place the axes say; returns which known ones moved."""
    pixel = graph.notes.get("pixel_size_um") or exchange.pixel_size(table[~new]) or hints.pixel_size_um
    moved = np.zeros(len(table), dtype=bool)
    places: dict[str, npt.NDArray[np.float64]] = {}
    for letter, axis in (("y", axes[1]), ("x", axes[2])):
        stored = numbers(graph, axis)[order]
        before = _before(table, letter, pixel)
        if not before:
            raise InvalidDataError(
                f"lost the places in {letter}_um",
                where=graph.path,
                mend="give the exported table too: --original TRACKS.parquet",
            )
        apart = {unit: np.abs(stored - values) for unit, values in before.items()}
        # a viewer may have turned pixels into micrometres: the objects it left in place tell
        said = "px" if _counts_pixels(graph, axis) else "um"
        kept = {unit: float(np.mean(gap[~new] <= _CLOSE)) if (~new).any() else 0.0 for unit, gap in apart.items()}
        unit = max(apart, key=lambda u: (kept[u], u == said))
        moved |= ~new & (apart[unit] > _CLOSE)
        places[f"{letter}_{unit}"] = stored
        other = "um" if unit == "px" else "px"
        if pixel is not None:
            places[f"{letter}_{other}"] = stored * pixel if unit == "px" else stored / pixel
    touched = moved | new
    for name in ("y_px", "x_px", "y_um", "x_um"):
        if not touched.any() or name not in table.columns:
            continue
        if name not in places:
            raise UsageError(
                "objects were moved or added and the size of a pixel is not known",
                where=graph.path,
                mend="give the edge of a pixel: --pixel-size-um UM",
            )
        table.loc[touched, name] = places[name][touched]
    return moved


def _before(table: pd.DataFrame, letter: str, pixel: float | None) -> dict[str, npt.NDArray[np.float64]]:
    """Exported places in pixels and in micrometres, as far as they are known."""
    places = {
        unit: table[f"{letter}_{unit}"].to_numpy(np.float64)
        for unit in ("px", "um")
        if f"{letter}_{unit}" in table.columns
    }
    if pixel is not None and len(places) == 1:
        if "um" in places:
            places["px"] = places["um"] / pixel
        else:
            places["um"] = places["px"] * pixel
    return places


def _counts_pixels(graph: Graph, axis: str) -> bool:
    """Whether the metadata says that an axis counts pixels."""
    return any(a.name == axis and str(a.unit).lower() == "pixel" for a in graph.metadata.axes or [])


def _set_times(
    table: pd.DataFrame, graph: Graph, frame: npt.NDArray[np.int64], wanting: npt.NDArray[np.bool_], hints: Hints
) -> None:
    """Hours of objects that were added or came into another frame, by the frame they lie in."""
    if "time_h" not in table.columns or not wanting.any():
        return
    notes = graph.notes
    hours = dict(zip(notes.get("frames", []), notes.get("hours", []), strict=False))
    known = table.loc[~wanting]
    hours.update(zip(known["frame"].tolist(), known["time_h"].tolist(), strict=True))
    unknown = sorted(set(frame[wanting].tolist()) - set(hours))
    for f in unknown:
        earlier = [g for g in hours if g < f]
        if hints.interval_min is None or not earlier:
            raise UsageError(
                f"objects were added in frame {f}, of which the time is not known",
                where=graph.path,
                mend="give the minutes between frames: --interval-min MINUTES",
            )
        hours[f] = hours[max(earlier)] + (f - max(earlier)) * hints.interval_min / 60
    table.loc[wanting, "time_h"] = [hours[f] for f in frame[wanting].tolist()]
