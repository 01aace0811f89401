"""Tracks as a graph and back: what the formats of exchange share, and which of them a file is.

Nodes are objects (rows of the table of tracks), edges lead from an object to the next of its track and from a
mother's last object to the first of each daughter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hyped_core.errors import InvalidDataError, MissingFileError, Problem, UsageError, ValidationError
from hyped_core.io.tables import require_columns

if TYPE_CHECKING:
    import pandas as pd

IntArray = npt.NDArray[np.int64]

LINK, DIVISION, ONLY_DAUGHTER = 0, 1, 2
"""Kinds of edges: within a track, to one of several daughters, to a daughter without sister."""

SHOWN = 50
"""Problems of one kind that an error lists before it counts the rest."""

Format = Literal["geff", "ctc"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import gave.

    Attributes
    ----------
    table : one row an object, with ``track_id``, ``parent_id`` and ``unassigned_reason``.
    record : counts and notes, JSON-able.
    """

    table: pd.DataFrame
    record: dict[str, Any] = field(default_factory=dict)


def one_scene(table: pd.DataFrame, scene: str | None, where: object) -> pd.DataFrame:
    """The rows of one scene with a fresh index; ``scene`` may stay out where the table holds only one.

    Raises
    ------
    InvalidDataError, UsageError
        Columns are missing; several scenes and none named, or one that is not there.
    """
    require_columns(table, ("frame", "track_id", "parent_id"), where)
    if "scene" not in table.columns:
        if scene is not None:
            raise UsageError("the table has no column 'scene'", where=where, mend="leave --scene out")
        return table.reset_index(drop=True)
    names = [str(name) for name in table["scene"].dropna().unique()]
    if scene is None and len(names) > 1:
        raise UsageError(
            f"holds {len(names)} scenes, a file of exchange holds one",
            where=where,
            mend=f"name one: --scene {names[0]} (there: {', '.join(names)})",
        )
    if scene is not None and scene not in names:
        raise UsageError(f"has no scene {scene!r}", where=where, mend=f"scenes there: {', '.join(names)}")
    chosen = table if scene is None else table[table["scene"].astype(str) == scene]
    return chosen.reset_index(drop=True)


def pixel_size(table: pd.DataFrame) -> float | None:
    """Micrometres a pixel by the columns in pixels and micrometres; None where they do not say, or disagree."""
    if not {"y_px", "x_px", "y_um", "x_um"} <= set(table.columns) or not len(table):
        return None
    px = table[["y_px", "x_px"]].to_numpy(np.float64).ravel()
    um = table[["y_um", "x_um"]].to_numpy(np.float64).ravel()
    used = np.isfinite(px) & np.isfinite(um) & (px > 0)
    if not used.any():
        return None
    size = float(f"{float(np.median(um[used] / px[used])):.12g}")
    fits = size > 0 and bool(np.allclose(um[used], px[used] * size, rtol=1e-6, atol=1e-6))
    return size if fits else None


def table_edges(table: pd.DataFrame, where: object = "tracks") -> tuple[IntArray, npt.NDArray[np.uint8]]:
    """Edges (m, 2) between row positions, earlier object first, and the kind of each.

    Links come first, by track and frame; then mothers to daughters, by daughter.

    Raises
    ------
    ValidationError
        With every problem: two objects of a track in one frame, a track with two parents, a parent that is no
        track or does not end before its daughter begins.
    """
    track = table["track_id"].to_numpy().astype(np.int64)
    parent = table["parent_id"].to_numpy().astype(np.int64)
    frame = table["frame"].to_numpy().astype(np.int64)
    rows = np.flatnonzero(track > 0)
    rows = rows[np.lexsort((frame[rows], track[rows]))]
    same = track[rows[1:]] == track[rows[:-1]]
    links = np.column_stack([rows[:-1][same], rows[1:][same]]).astype(np.int64)
    problems = [
        Problem(f"track {track[a]}, frame {frame[a]}", "two objects of one track", "give each its own track")
        for a in links[frame[links[:, 0]] == frame[links[:, 1]], 0]
    ]
    begins = np.concatenate([[True], ~same])[: len(rows)]
    ends = np.concatenate([~same, [True]])[: len(rows)]
    first, last = rows[begins], rows[ends]
    names = track[first]  # sorted
    two = np.unique(track[rows][parent[rows] != parent[first][np.cumsum(begins) - 1]])
    problems += [Problem(f"track {name}", "has several parents", "keep one parent_id a track") for name in two]
    above = parent[first]
    daughters = np.flatnonzero(above > 0)
    at = np.searchsorted(names, above[daughters])
    known = (at < len(names)) & (names[np.minimum(at, max(len(names) - 1, 0))] == above[daughters])
    for k in daughters[~known]:
        problems.append(Problem(f"track {names[k]}", f"its parent {above[k]} is no track", "set parent_id to 0"))
    mothers, children = last[at[known]], first[daughters[known]]
    for a, b in zip(mothers, children, strict=True):
        if frame[a] >= frame[b]:
            problems.append(
                Problem(
                    f"track {track[b]}",
                    f"begins in frame {frame[b]}, its parent {track[a]} ends in frame {frame[a]}",
                    "a parent ends before its daughters begin",
                )
            )
    if problems:
        raise ValidationError("the tracks are no lineage", shorten(problems), where=where)
    siblings = np.bincount(mothers, minlength=len(table)) if len(mothers) else np.zeros(len(table), np.int64)
    kind = np.concatenate(
        [np.full(len(links), LINK), np.where(siblings[mothers] > 1, DIVISION, ONLY_DAUGHTER)]
    ).astype(np.uint8)
    return np.concatenate([links, np.column_stack([mothers, children]).astype(np.int64)]), kind


def components(n: int, edges: IntArray) -> IntArray:
    """Number of the connected part each of ``n`` nodes belongs to, from 0 by first node."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(n, n))
    found = connected_components(graph, directed=False)[1] if n else np.zeros(0, np.int64)
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[inverse] if n else np.zeros(0, np.int64)


def number_tracks(
    frame: IntArray, edges: IntArray, kind: npt.NDArray[np.uint8], old: IntArray
) -> tuple[IntArray, IntArray]:
    """``track_id`` and ``parent_id`` of each node by the edges alone.

    A node with two edges out divides: each daughter is a new track. An edge of kind `ONLY_DAUGHTER` starts a
    new track too. A track keeps the number that its first node had before (``old``, 0 for none), where no
    earlier track has it; others get fresh numbers above all old ones, by first frame and node.
    """
    n = len(frame)
    out = np.bincount(edges[:, 0], minlength=n) if n else np.zeros(0, np.int64)
    birth = (out[edges[:, 0]] > 1) | (kind == ONLY_DAUGHTER)
    piece = components(n, edges[~birth])
    order = np.lexsort((np.arange(n), frame))
    _, at = np.unique(piece[order], return_index=True)
    first = order[at]  # first node of each piece
    sequence = np.argsort(at)  # pieces by first frame and node
    claimed = old[first][sequence]
    _, winner = np.unique(claimed, return_index=True)
    keeps = np.zeros(len(sequence), dtype=bool)
    keeps[winner] = True
    keeps &= claimed > 0
    names = np.zeros(len(first), np.int64)
    names[sequence] = np.where(
        keeps, claimed, (int(old.max()) if n and old.size else 0) + np.cumsum(~keeps)
    )
    above = np.zeros(len(first), np.int64)
    above[piece[edges[birth, 1]]] = names[piece[edges[birth, 0]]]
    return names[piece], above[piece]


def check_edges(
    ids: npt.NDArray, frame: npt.NDArray, edges: IntArray, missing: npt.NDArray, where: object
) -> None:
    """Refuse a graph that is no lineage: every problem with the ids of its nodes.

    Parameters
    ----------
    ids : (n,) id of each node, as the file names it.
    frame : (n,) time of each node.
    edges : (m, 2) positions of nodes.
    missing : (k, 2) ids of edges that name a node the file does not have.

    Raises
    ------
    ValidationError
        Nodes with several edges in (merges) or more than two out, edges within a frame or back in time,
        doubled edges, edges to nothing.
    """
    problems = [
        Problem(f"edge {a} -> {b}", "names a node that is not there", "delete the edge, or add the node")
        for a, b in missing
    ]
    names, counts = np.unique(ids, return_counts=True)
    problems += [Problem(f"node {i}", "this id is used twice", "give it another") for i in names[counts > 1]]
    for a, b in edges[frame[edges[:, 0]] >= frame[edges[:, 1]]]:
        problems.append(
            Problem(
                f"edge {ids[a]} -> {ids[b]}",
                f"leads from time {frame[a]:g} to {frame[b]:g}",
                "delete it; an edge leads to a later object",
            )
        )
    _, at, times = np.unique(edges, axis=0, return_index=True, return_counts=True)
    for a, b in edges[at[times > 1]]:
        problems.append(Problem(f"edge {ids[a]} -> {ids[b]}", "is there twice", "delete one"))
    single = edges[at]
    into, out = (np.bincount(single[:, k], minlength=len(ids)) for k in (1, 0))
    for i in np.flatnonzero(into > 1):
        sources = ", ".join(str(ids[a]) for a in single[single[:, 1] == i, 0])
        problems.append(
            Problem(
                f"node {ids[i]}",
                f"two tracks merge here (edges from nodes {sources})",
                "delete all edges into it but one",
            )
        )
    for i in np.flatnonzero(out > 2):
        targets = ", ".join(str(ids[b]) for b in single[single[:, 0] == i, 1])
        problems.append(
            Problem(
                f"node {ids[i]}",
                f"divides into {out[i]} (edges to nodes {targets})",
                "a nucleus has two daughters at most: delete the other edges",
            )
        )
    if problems:
        raise ValidationError("the graph is no lineage", shorten(problems), where=where)


def shorten(problems: list[Problem]) -> list[Problem]:
    """At most `SHOWN` problems, the rest counted."""
    if len(problems) <= SHOWN:
        return problems
    return [*problems[:SHOWN], Problem("further", f"{len(problems) - SHOWN} problems like these")]


def detect(source: str | Path) -> tuple[Format, Path]:
    """Which format a folder holds, and the folder that holds it (it may lie one level below ``source``).

    Raises
    ------
    MissingFileError, InvalidDataError
        There is no such folder; neither format, or several, in it.
    """
    source = Path(source)
    if not source.exists():
        raise MissingFileError("there is no such folder", where=source, mend="check the path")
    places = [source, *sorted(p for p in source.iterdir() if p.is_dir())] if source.is_dir() else []
    for candidates in (places[:1], places[1:]):
        found: list[tuple[Format, Path]] = [("geff", p) for p in candidates if _is_geff(p)]
        found += [
            ("ctc", p) for p in candidates for name in ("res_track.txt", "man_track.txt") if (p / name).is_file()
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidDataError(
                f"holds several graphs: {', '.join(str(p.relative_to(source)) for _, p in found)}",
                where=source,
                mend="give the one you mean",
            )
    raise InvalidDataError(
        "holds neither a GEFF graph nor a res_track.txt or man_track.txt of the Cell Tracking Challenge",
        where=source,
        mend="give the .geff folder, or the folder with the masks and the track file",
    )


def _is_geff(folder: Path) -> bool:
    for name in ("zarr.json", ".zattrs"):
        try:
            attrs = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if "geff" in attrs or "geff" in attrs.get("attributes", {}):
            return True
    return False
