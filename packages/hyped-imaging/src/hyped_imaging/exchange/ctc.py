"""Folders of the Cell Tracking Challenge: 16-bit masks whose labels are tracks, and the file of tracks.

``res_track.txt`` (``man_track.txt`` in a ground truth) has a line ``L B E P`` a track: label, first and last
frame, parent or 0. Checkers want a label in every frame from B to E, so a track that skips frames is written
in pieces, each the parent of the next; ``hyped.json`` beside them says which pieces belong together, how large
a pixel is and when the frames were taken. Other tools pass over that file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hyped_core.errors import (
    CorruptFileError,
    InvalidDataError,
    Problem,
    UnsupportedDataError,
    UsageError,
    ValidationError,
)
from hyped_core.io.atomic import atomic_path
from hyped_imaging.exchange import graph as exchange

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.container.labels import Labels

IntArray = npt.NDArray[np.int64]
Layout = Literal["res", "gt"]

MAX_LABEL = 65535
"""Largest label a 16-bit mask can hold."""

SIDECAR = "hyped.json"
_NAMES = {"res": ("mask", "res_track.txt"), "gt": ("man_track", "man_track.txt")}
_MASK = re.compile(r"(?:mask|man_track)(\d+)\.tiff?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Tracks without gaps.

    Attributes
    ----------
    label : (n,) label of each object's piece, 0 for objects in no track.
    lines : (m, 4) label, first frame, last frame, parent's label or 0; sorted by label.
    track_of : label of a piece -> ``track_id``.
    """

    label: IntArray
    lines: IntArray
    track_of: dict[int, int]


def split_pieces(table: pd.DataFrame, where: object = "tracks") -> Pieces:
    """Cut tracks where they skip frames, and give each piece a label of 16 bits.

    The first piece of a track keeps its ``track_id`` as label, further pieces get numbers above all tracks;
    where that goes beyond `MAX_LABEL`, all pieces are numbered from 1 by track and frame.

    Raises
    ------
    ValidationError
        The tracks are no lineage.
    UnsupportedDataError
        There are more than `MAX_LABEL` pieces.
    """
    exchange.table_edges(table, where)
    track = table["track_id"].to_numpy().astype(np.int64)
    frame = table["frame"].to_numpy().astype(np.int64)
    parent = table["parent_id"].to_numpy().astype(np.int64)
    rows = np.flatnonzero(track > 0)
    rows = rows[np.lexsort((frame[rows], track[rows]))]
    label = np.zeros(len(table), np.int64)
    if not len(rows):
        return Pieces(label, np.zeros((0, 4), np.int64), {})
    t, f = track[rows], frame[rows]
    fresh = np.concatenate([[True], t[1:] != t[:-1]])
    begins = fresh | np.concatenate([[False], f[1:] != f[:-1] + 1])
    piece = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(rows)) - 1
    if len(first) > MAX_LABEL:
        raise UnsupportedDataError(
            f"{len(first)} tracks (counted without gaps) do not fit into 16-bit masks, which hold {MAX_LABEL}",
            where=where,
            mend="export fewer frames, or use --format geff",
        )
    whole = fresh[first]
    names = t[first].copy()
    names[~whole] = int(t.max()) + 1 + np.arange(int((~whole).sum()))
    if names.max() > MAX_LABEL:
        names = np.arange(1, len(first) + 1)
    ends = {int(t[k]): int(name) for k, name in zip(last, names, strict=True)}  # the last piece of each track
    above = np.concatenate([[0], names[:-1]])
    mother = parent[rows][first]
    above[whole] = [ends[int(p)] if p > 0 else 0 for p in mother[whole]]
    label[rows] = names[piece]
    lines = np.column_stack([names, f[first], f[last], above]).astype(np.int64)
    return Pieces(
        label,
        lines[np.argsort(names)],
        {int(n): int(k) for n, k in sorted(zip(names, t[first], strict=True))},
    )


def export_ctc(
    table: pd.DataFrame,
    labels: Labels,
    out: str | Path,
    *,
    layout: Layout = "res",
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Write tracks and labels of one scene as a folder of the Cell Tracking Challenge.

    Parameters
    ----------
    table : table of tracks of one scene: ``frame, label, track_id, parent_id``.
    labels : labels of the scene, all frames.
    out : the new folder; replaced where it exists.
    layout : ``res`` writes ``mask000.tif`` and ``res_track.txt``; ``gt`` the folders ``TRA`` (``man_track000.tif``,
        ``man_track.txt``) and ``SEG`` (``man_seg000.tif``, every labelled object) of a ground truth.
    progress : wraps the frames as they are written.

    Returns
    -------
    Counts: ``frames, objects, tracks, pieces, divisions, unassigned`` (objects left out of the masks).

    Raises
    ------
    ValidationError
        The tracks are no lineage, or objects of the table have no pixels in the labels.
    InvalidDataError, UnsupportedDataError
        Columns or frames are missing; too many tracks for 16 bits.
    """
    import tifffile

    out = Path(out)
    if "label" not in table.columns:
        raise InvalidDataError("has no column 'label'", where=out, mend="give the table that `track` wrote")
    pieces = split_pieces(table, out)
    frame = table["frame"].to_numpy().astype(np.int64)
    if len(frame) and (frame.min() < 0 or frame.max() >= labels.n_frames):
        raise InvalidDataError(
            f"has objects in frame {frame.max()}, the labels have {labels.n_frames} frames",
            where=out,
            mend="give the labels (and --scene) that the table was measured on",
        )
    tracked = np.flatnonzero(pieces.label > 0)
    tracked = tracked[np.argsort(frame[tracked], kind="stable")]
    bounds = np.searchsorted(frame[tracked], np.arange(labels.n_frames + 1))
    prefix, text = _NAMES[layout]
    digits = max(3, len(str(labels.n_frames - 1)))
    problems: list[Problem] = []
    ids = table["label"].to_numpy().astype(np.int64)
    with atomic_path(out) as part:
        folder = part / "TRA" if layout == "gt" else part
        folder.mkdir(parents=True)
        if layout == "gt":
            (part / "SEG").mkdir()
        for index in progress(range(labels.n_frames)):
            rows = tracked[bounds[index] : bounds[index + 1]]
            image = labels.frame(index)
            mask, absent = relabel(image, ids[rows], pieces.label[rows])
            problems += [
                Problem(f"frame {index}, label {i}", "has no pixels in the labels", "measure the labels again")
                for i in absent
            ]
            options: dict[str, Any] = {"compression": "zlib", "metadata": None}
            tifffile.imwrite(folder / f"{prefix}{index:0{digits}d}.tif", mask, **options)
            if layout == "gt":
                tifffile.imwrite(part / "SEG" / f"man_seg{index:0{digits}d}.tif", _compact(image, index), **options)
        if problems:
            raise ValidationError("the table and the labels do not agree", exchange.shorten(problems), where=out)
        lines = "".join(f"{a} {b} {c} {d}\n" for a, b, c, d in pieces.lines.tolist())
        (folder / text).write_text(lines, encoding="ascii", newline="\n")
        _write_sidecar(folder / SIDECAR, lines, pieces, labels)
    parents = pieces.lines[pieces.lines[:, 3] > 0, 3]
    return {
        "frames": labels.n_frames,
        "objects": len(tracked),
        "tracks": len(set(pieces.track_of.values())),
        "pieces": len(pieces.lines),
        "divisions": int((np.unique(parents, return_counts=True)[1] > 1).sum()),
        "unassigned": len(table) - len(tracked),
    }


def relabel(image: npt.NDArray, old: IntArray, new: IntArray) -> tuple[npt.NDArray[np.uint16], IntArray]:
    """The mask (y, x) in which labels ``old`` became ``new`` and all others 0, and the old ones not found."""
    mask = np.zeros(image.shape, np.uint16)
    order = np.argsort(old)
    known = old[order]
    flat = np.flatnonzero(image)
    if not len(known) or not len(flat):
        return mask, known
    values = image.ravel()[flat]
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    hit = known[at] == values
    mask.ravel()[flat[hit]] = new[order][at[hit]]
    return mask, known[np.bincount(at[hit], minlength=len(known)) == 0]


def _compact(image: npt.NDArray, frame: int) -> npt.NDArray[np.uint16]:
    """Labels from 1 without gaps, in 16 bits."""
    found = np.unique(image[image > 0]).astype(np.int64)
    if len(found) > MAX_LABEL:
        raise UnsupportedDataError(f"frame {frame} has {len(found)} labels, 16 bits hold {MAX_LABEL}")
    return relabel(image, found, np.arange(1, len(found) + 1))[0]


def _write_sidecar(path: Path, lines: str, pieces: Pieces, labels: Labels) -> None:
    joined = {str(name): track for name, track in pieces.track_of.items() if name != track}
    record = {
        "schema_version": 1,
        "pixel_size_um": float(labels.pixel_size_um),
        "time_h": [float(v) for v in labels.time_h] if labels.has_times else None,
        "missing_frames": {str(i): reason for i, reason in getattr(labels, "missing_frames", {}).items()},
        "tracks_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "track_of_label": joined,
    }
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the Cell Tracking Challenge, read except for its pixels.

    Attributes
    ----------
    path : where the masks lie.
    masks : files in the order of frames.
    lines : (m, 4) label, first frame, last frame, parent.
    notes : HYPED's own notes, empty for other tools' folders.
    """

    path: Path
    masks: tuple[Path, ...]
    lines: IntArray
    notes: Mapping[str, Any]

    def mask(self, frame: int) -> npt.NDArray:
        """The mask of one frame, (y, x)."""
        import tifffile

        path = self.masks[frame]
        try:
            image = np.asarray(tifffile.imread(path))
        except Exception as error:  # tifffile and its codecs raise many types for a broken file
            raise CorruptFileError(
                f"is no readable TIFF: {type(error).__name__}: {error}", where=path, mend="copy it again"
            ) from error
        if not image.size:
            raise CorruptFileError("holds no image", where=path, mend="copy it again")
        if image.ndim != 2 or image.dtype.kind not in "iu":
            raise UnsupportedDataError(
                f"is {image.dtype} {image.shape}, expected one plane of labels",
                where=path,
                mend="masks of volumes are not read",
            )
        return image


def open_folder(path: str | Path) -> Folder:
    """Read the file of tracks and list the masks of the folder ``path``.

    Raises
    ------
    CorruptFileError, InvalidDataError
        The file of tracks is not one; masks are absent or one of the sequence is missing.
    """
    path = Path(path)
    text = next((path / name for name in ("res_track.txt", "man_track.txt") if (path / name).is_file()), None)
    if text is None:
        raise InvalidDataError("holds no res_track.txt or man_track.txt", where=path, mend="give that folder")
    numbered = {
        int(found.group(1)): item for item in sorted(path.iterdir()) if (found := _MASK.fullmatch(item.name))
    }
    if not numbered:
        raise InvalidDataError(
            "holds no masks (mask000.tif or man_track000.tif)", where=path, mend="give the folder with the masks"
        )
    absent = sorted(set(range(max(numbered) + 1)) - set(numbered))
    if absent:
        shown = ", ".join(map(str, absent[:10])) + (", ..." if len(absent) > 10 else "")
        raise InvalidDataError(f"lacks the masks of frames {shown}", where=path, mend="copy the folder again")
    content = text.read_bytes()
    lines = _parse(content, text)
    return Folder(path, tuple(numbered[i] for i in sorted(numbered)), lines, _notes(path / SIDECAR, content))


def _parse(content: bytes, path: Path) -> IntArray:
    """Lines of four numbers, separated by spaces or tabs."""
    rows, problems = [], []
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 4 or not all(re.fullmatch(r"\d+", word) for word in words):
            problems.append(Problem(f"line {number}", f"{line[:60]!r} is not 'L B E P'", "four numbers from 0 up"))
        else:
            rows.append([int(word) for word in words])
    if problems:
        raise ValidationError("the file of tracks cannot be read", exchange.shorten(problems), where=path)
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _notes(path: Path, content: bytes) -> dict[str, Any]:
    """HYPED's notes; which pieces belong together only where the file of tracks is as it was exported."""
    if not path.is_file():
        return {}
    try:
        notes = dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise CorruptFileError(f"is no JSON: {error}", where=path, mend="delete it, or export again") from error
    if notes.get("tracks_sha256") != hashlib.sha256(content).hexdigest():
        notes.pop("track_of_label", None)
    return notes


def check_lines(lines: IntArray, where: object) -> None:
    """Refuse a file of tracks that is no lineage, with every problem."""
    problems = []
    names, counts = np.unique(lines[:, 0], return_counts=True)
    problems += [Problem(f"label {i}", "has several lines", "one line a label") for i in names[counts > 1]]
    end_of = dict(lines[:, [0, 2]].tolist())
    for label, begin, end, parent in lines.tolist():
        if label == 0:
            problems.append(Problem("label 0", "is background", "labels begin at 1"))
        if end < begin:
            problems.append(Problem(f"label {label}", f"ends in frame {end} before it begins in {begin}", "swap them"))
        if parent and parent not in end_of:
            problems.append(Problem(f"label {label}", f"its parent {parent} has no line", "set the parent to 0"))
        elif parent and end_of[parent] >= begin:
            problems.append(
                Problem(
                    f"label {label}",
                    f"begins in frame {begin}, its parent {parent} ends in {end_of[parent]}",
                    "a parent ends before its daughters begin",
                )
            )
    if problems:
        raise ValidationError("the file of tracks is no lineage", exchange.shorten(problems), where=where)


def join_pieces(lines: IntArray, known: Mapping[int, int] | None) -> tuple[dict[int, int], dict[int, int]]:
    """``track_id`` of each label and parent of each track.

    ``known`` (label -> track, where it differs) comes from an export of ours. Without it, a label is taken as
    the going on of its parent where it is the only child and frames lie between the two: that is how gaps are
    written. An only child right after its parent is a daughter whose sister was not seen.
    """
    children: dict[int, list[int]] = {}
    for label, _, _, parent in lines.tolist():
        if parent:
            children.setdefault(parent, []).append(label)
    end_of = dict(lines[:, [0, 2]].tolist())
    track_of: dict[int, int] = {}
    parent_of: dict[int, int] = {}
    for label, begin, _, parent in sorted(lines.tolist(), key=lambda line: line[1]):
        if known is not None:
            track = known.get(label, label)
            goes_on = bool(parent) and track_of[parent] == track
        else:
            goes_on = bool(parent) and len(children[parent]) == 1 and begin > end_of[parent] + 1
            track = track_of[parent] if goes_on else label
        track_of[label] = track
        if not goes_on:
            parent_of[track] = track_of[parent] if parent else 0
    return track_of, parent_of


def settle(
    folder: Folder, pixel_size_um: float | None, interval_min: float | None, start_h: float
) -> tuple[float, npt.NDArray[np.float64]]:
    """Pixel size and hours of each frame: what the caller says, else what our export noted.

    Raises
    ------
    UsageError
        Neither says: names the options.
    """
    n = len(folder.masks)
    noted = folder.notes.get("time_h")
    pixel = pixel_size_um or folder.notes.get("pixel_size_um")
    lacking = [
        option
        for option, there in (
            ("--pixel-size-um UM", pixel is not None),
            ("--interval-min MINUTES", interval_min is not None or (noted is not None and len(noted) == n)),
        )
        if not there
    ]
    if lacking:
        raise UsageError(
            "masks do not say how large a pixel is and when frames were taken",
            where=folder.path,
            mend=f"give {' and '.join(lacking)}, or the movie: --movie MOVIE.zarr",
        )
    if interval_min is not None:
        return float(pixel or 0), start_h + np.arange(n) * (interval_min / 60)
    return float(pixel or 0), np.asarray(noted, dtype=np.float64)
