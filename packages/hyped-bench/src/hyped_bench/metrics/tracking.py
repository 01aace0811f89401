"""Scores of tracks against true tracks: the Cell Tracking Challenge's counts, from tables of detections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_core.errors import InvalidDataError


@dataclass(frozen=True, slots=True)
class TrackGraph:
    """Tracks as the Cell Tracking Challenge writes them.

    Attributes
    ----------
    tracks : (n, 4) int64: id, first frame, last frame, parent id (0 for none); no track has a gap.
    ids : track id of each detection kept.
    rows : which rows of the table the detections are.
    frames : frame of each detection kept, counted from 0 over frames that are in use.
    """

    tracks: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int64]


def track_graph(table: pd.DataFrame, frames: npt.ArrayLike) -> TrackGraph:
    """Build the graph from columns ``frame, track_id, parent_id``; ``frames`` are the frames in use, sorted.

    Rows with ``track_id`` 0 are unassigned and left out, as an object without a mask would be. A track that
    skips frames is cut there; the second part has the first as its parent, as the Challenge writes gaps.

    Raises
    ------
    InvalidDataError
        A track has two detections in one frame, a parent that does not exist or that outlives its child.
    """
    track = table["track_id"].to_numpy(dtype=np.int64)
    parent = table["parent_id"].to_numpy(dtype=np.int64)
    frame = np.searchsorted(np.asarray(frames), table["frame"].to_numpy())
    rows = np.flatnonzero(track > 0)
    rows = rows[np.lexsort((frame[rows], track[rows]))]
    track, parent, frame = track[rows], parent[rows], frame[rows]
    same = track[1:] == track[:-1]
    if (same & (frame[1:] == frame[:-1])).any():
        bad = int(track[1:][same & (frame[1:] == frame[:-1])][0])
        raise InvalidDataError(
            f"track {bad} has two objects in one frame", mend="give each object of a frame its own track_id"
        )
    starts = (
        np.concatenate([[True], ~(same & (frame[1:] == frame[:-1] + 1))]) if len(rows) else np.zeros(0, bool)
    )
    pieces = np.cumsum(starts).astype(np.int64)
    first = np.flatnonzero(starts)
    last = np.concatenate([first[1:] - 1, [len(rows) - 1]]) if len(rows) else first
    new_track = np.concatenate([[True], track[1:] != track[:-1]])[first] if len(rows) else np.zeros(0, bool)
    ends_of = {int(track[i]): int(pieces[i]) for i in last}
    above = np.zeros(len(first), dtype=np.int64)
    for number, (i, fresh) in enumerate(zip(first, new_track, strict=True)):
        if not fresh:
            above[number] = number
        elif parent[i] > 0:
            if int(parent[i]) not in ends_of:
                raise InvalidDataError(f"track {track[i]} names a parent {parent[i]} that is no track")
            above[number] = ends_of[int(parent[i])]
    tracks = np.column_stack([np.arange(1, len(first) + 1), frame[first], frame[last], above]).astype(
        np.int64
    )
    for ident, birth, _, ancestor in tracks:
        if ancestor and tracks[ancestor - 1, 2] >= birth:
            raise InvalidDataError(
                f"track {track[first[ident - 1]]} begins before its parent ends",
                mend="a parent's last frame comes before its children's first",
            )
    return TrackGraph(tracks, pieces, rows, frame)


def tracking_scores(
    predicted: pd.DataFrame, truth: pd.DataFrame, matches: pd.DataFrame | None = None, tolerance: int = 1
) -> dict[str, float | int | None]:
    """TRA, LNK, DET and the F1 of divisions, with their counts.

    Parameters
    ----------
    predicted, truth
        One row an object: ``frame, label, track_id, parent_id``.
    matches
        ``frame, label_truth, label`` of objects that are the same (each true one at most once). Where None,
        equal labels of a frame are the same object, as when the tracker was given the true objects.
    tolerance
        Frames by which a division may be early or late.

    Returns
    -------
    ``tra``, ``lnk``, ``det``: 1 - min(AOGM, AOGM0) / AOGM0 with the Challenge's weights (split 5, missed 10,
    extra 1; edges: extra 1, missed 1.5, wrong kind 1), over nodes and edges, edges and nodes (Matula et al.
    2015), computed by py-ctcmetrics. ``division_f1``: branching correctness BC(tolerance) (Ulman et al. 2017), None
    where the truth has no division; ``lnk`` is None where it has no link. Linking nothing, one track per object,
    scores ``det`` 1, ``lnk`` 0, ``division_f1`` 0 and, of N objects and E links, ``tra`` 1 - 1.5 E / (10 N + 1.5 E):
    0.87 for long tracks, so TRA flatters any tracker that is given the objects. No tracks at all score 0.
    """
    from ctc_metrics.metrics import det, lnk, raw_division_metrics, tra
    from ctc_metrics.utils.representations import count_acyclic_graph_correction_operations

    frames = np.unique(np.concatenate([truth["frame"].to_numpy(), predicted["frame"].to_numpy()]))
    true_graph, graph = track_graph(truth, frames), track_graph(predicted, frames)
    if len(true_graph.rows) == 0:
        raise InvalidDataError("the truth has no tracks")
    pairs = _pairs(predicted, truth, graph, true_graph, matches)
    labels_true = _by_frame(true_graph.ids, true_graph.frames, len(frames))
    labels = _by_frame(graph.ids, graph.frames, len(frames))
    mapped_true = _by_frame(pairs[0], pairs[2], len(frames))
    mapped = _by_frame(pairs[1], pairs[2], len(frames))
    n_divisions = int(
        (np.unique(true_graph.tracks[true_graph.tracks[:, 3] > 0, 3], return_counts=True)[1] > 1).sum()
    )
    result: dict[str, float | int | None] = {
        "n_objects": len(true_graph.rows),
        "n_divisions": n_divisions,
        "n_unassigned": int((predicted["track_id"].to_numpy() == 0).sum()),
    }
    if len(graph.rows) == 0:
        result.update(tra=0.0, lnk=0.0, det=0.0, division_f1=0.0 if n_divisions else None)
        return result
    counts = count_acyclic_graph_correction_operations(
        true_graph.tracks, graph.tracks, labels_true, labels, mapped_true, mapped
    )
    hits, extra, missed = raw_division_metrics(
        graph.tracks, true_graph.tracks, mapped_true, mapped, tolerance
    )
    result["tra"] = float(tra(**counts)[0])
    result["lnk"] = float(lnk(**counts)) if counts["num_edges"] else None
    result["det"] = float(det(**counts))
    result["division_f1"] = 2 * hits / (2 * hits + extra + missed) if n_divisions else None
    result.update(n_divisions_found=int(hits), n_divisions_extra=int(extra), n_divisions_missed=int(missed))
    return result


def _by_frame(ids: npt.NDArray, frames: npt.NDArray, n_frames: int) -> list[list[int]]:
    """Ids as one list a frame, in stable order."""
    order = np.argsort(frames, kind="stable")
    return [
        part.tolist() for part in np.split(ids[order], np.searchsorted(frames[order], np.arange(1, n_frames)))
    ]


def _pairs(
    predicted: pd.DataFrame,
    truth: pd.DataFrame,
    graph: TrackGraph,
    true_graph: TrackGraph,
    matches: pd.DataFrame | None,
) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """Track ids (true, predicted) and frames of matched objects that are in both graphs."""
    left = pd.DataFrame(
        {
            "frame": truth["frame"].to_numpy()[true_graph.rows],
            "label_truth": truth["label"].to_numpy()[true_graph.rows],
            "id_truth": true_graph.ids,
            "at": true_graph.frames,
        }
    )
    right = pd.DataFrame(
        {
            "frame": predicted["frame"].to_numpy()[graph.rows],
            "label": predicted["label"].to_numpy()[graph.rows],
            "id": graph.ids,
        }
    )
    if matches is None:
        joined = left.merge(right, left_on=["frame", "label_truth"], right_on=["frame", "label"])
    else:
        joined = left.merge(matches[["frame", "label_truth", "label"]], on=["frame", "label_truth"]).merge(
            right, on=["frame", "label"]
        )
    if joined.duplicated(["frame", "label_truth"]).any():
        raise InvalidDataError("a true object was matched twice")
    return joined["id_truth"].to_numpy(), joined["id"].to_numpy(), joined["at"].to_numpy()
