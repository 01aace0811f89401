"""When each frame of a scene was taken, from the first place in the file that says so."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from hyped_core.errors import CorruptFileError
from hyped_imaging.readers.structure import HEADER, CziStructure
from hyped_imaging.readers.subblock import open_binary, read_metadata

if TYPE_CHECKING:
    from hyped_imaging.readers.metadata import CziMetadata

_TIME = re.compile(r"<AcquisitionTime>\s*([^<\s]+)\s*</AcquisitionTime>")
_DAMAGED = 0.1
"""Share of frames whose time may be lost with their first tile."""
_ISO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?")


def scene_times(
    structure: CziStructure, metadata: CziMetadata, scene: int, interval_min: float | None = None
) -> tuple[np.ndarray | None, str]:
    """Hours of each frame since the first frame of the file, float64, and the name of the source.

    Tried in this order: ``subblock`` (AcquisitionTime of each frame's first tile), ``timestamps`` (the
    TimeStamps attachment), ``xml`` (listed positions or the interval), ``parameter`` (``interval_min``). A
    source that has not one time a frame, or whose times do not increase, is passed over. (None, "none")
    where nothing is known; a single frame is at 0 (``single``).
    """
    table = structure.table
    frames = np.unique(table.loc[table["S"] == scene, "T"].to_numpy())
    for source, read in (("subblock", _from_subblocks), ("timestamps", _from_attachment), ("xml", _from_xml)):
        hours = read(structure, metadata, scene, frames)
        if hours is not None and len(hours) == len(frames) and _increasing(hours):
            return hours, source
    if len(frames) == 1:
        return np.zeros(1), "single"
    if interval_min is not None:
        return (frames - frames[0]) * (interval_min / 60.0), "parameter"
    return None, "none"


def _increasing(hours: np.ndarray) -> bool:
    return bool(np.isfinite(hours).all() and (np.diff(hours) > 0).all())


def _from_subblocks(
    structure: CziStructure, metadata: CziMetadata, scene: int, frames: np.ndarray
) -> np.ndarray | None:
    """One small read a frame: the tile that comes first in M, C and Z; zero is the file's earliest such time.

    A few frames whose tile is damaged take the time between their neighbours'.
    """
    table = structure.table
    order = table.sort_values(["S", "T", "M", "C", "Z"], kind="stable")
    firsts = order.drop_duplicates(["S", "T"])
    mine = firsts.loc[firsts["S"] == scene]
    starts = firsts.drop_duplicates("S")
    with open_binary(structure.path) as file:
        read = [_subblock_time(file, row) for row in mine.itertuples()]
        origins = [_subblock_time(file, row) for row in starts.itertuples()]
    known = [k for k, time in enumerate(read) if isinstance(time, np.datetime64)]
    if not known or None in read or len(read) - len(known) > _DAMAGED * len(read):
        return None
    zero = min(time for time in [*origins, read[known[0]]] if isinstance(time, np.datetime64))
    hours = np.array([(read[k] - zero) / np.timedelta64(1, "ns") for k in known]) / 3.6e12
    if len(known) == len(read):
        return hours
    return between(frames, np.asarray(known), hours)


def between(frames: np.ndarray, known: np.ndarray, hours: np.ndarray) -> np.ndarray | None:
    """Hours of all frames, those not known from the line through their neighbours; None of a single known one."""
    if len(known) < 2:
        return None
    out = np.interp(frames, frames[known], hours)
    for outside, near in ((frames < frames[known[0]], slice(0, 2)), (frames > frames[known[-1]], slice(-2, None))):
        (first, second), (begin, end) = frames[known][near], hours[near]
        out[outside] = begin + (frames[outside] - first) * (end - begin) / (second - first)
    return out


def _subblock_time(file: BinaryIO, row: Any) -> np.datetime64 | str | None:
    """When a sub-block was taken; None where it does not say, ``damaged`` where it cannot be read."""
    try:
        found = _TIME.search(read_metadata(file, row))
    except CorruptFileError:
        return "damaged"
    iso = _ISO.match(found.group(1)) if found else None
    return np.datetime64(iso.group(0), "ns") if iso else None


def _from_attachment(
    structure: CziStructure, metadata: CziMetadata, scene: int, frames: np.ndarray
) -> np.ndarray | None:
    """Seconds as doubles, one a T position; counted from the first."""
    for attachment in structure.attachments:
        if attachment.kind != "CZTIMS":
            continue
        with open_binary(structure.path) as file:
            file.seek(attachment.position + HEADER + 256)
            head = file.read(8)
            if len(head) < 8:
                return None
            count = struct.unpack("<ii", head)[1]
            if not 0 < count < 10_000_000:
                return None
            raw = file.read(8 * count)
        if len(raw) == 8 * count and int(frames.max()) < count:
            seconds = np.frombuffer(raw, "<f8")
            return (seconds[frames] - seconds[0]) / 3600.0
    return None


def _from_xml(
    structure: CziStructure, metadata: CziMetadata, scene: int, frames: np.ndarray
) -> np.ndarray | None:
    if metadata.offsets_s and int(frames.max()) < len(metadata.offsets_s):
        seconds = np.array(metadata.offsets_s)
        return (seconds[frames] - seconds[0]) / 3600.0
    if metadata.interval_s is not None:
        return frames * (metadata.interval_s / 3600.0)
    return None
