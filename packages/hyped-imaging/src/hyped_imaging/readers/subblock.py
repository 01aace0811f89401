"""One sub-block of a CZI, decoded from its bytes: pixels (raw, zstd, JPEG, JPEG XR) and its own metadata.

pylibCZIrw composes tiles and cannot give one that another covers, aicspylibczi refuses a frame with a tile
missing, and both crash or guess on some damage; this is what stands in there.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from hyped_core.errors import CorruptFileError
from hyped_imaging.readers.structure import GRAY, HEADER, MEND

_ENTRY = 16
"""Bytes of a sub-block's body before its copy of the directory entry."""


class Row(Protocol):
    """A row of the directory's table (`CziStructure.table`)."""

    position: int
    n_dims: int
    pixel_type: int
    compression: int
    w: int
    h: int


def check_block(file: BinaryIO, row: Row) -> tuple[int, int, int]:
    """(offset of the metadata, its length, length of the pixels) of the sub-block of ``row``.

    Raises
    ------
    CorruptFileError
        It does not begin there, its sizes do not fit into the file, or it contradicts the directory. The C++
        libraries crash on such a block, so this is called before they see it.
    """
    file.seek(row.position)
    dims_at = HEADER + _ENTRY + 32
    head = file.read(dims_at + 20 * row.n_dims)
    if len(head) < dims_at + 20 * row.n_dims or head[:14] != b"ZISRAWSUBBLOCK":
        raise CorruptFileError(f"there is no sub-block at byte {row.position}", where=file.name, mend=MEND)
    allocated, used = struct.unpack("<qq", head[16:HEADER])
    metadata, attachment, data = struct.unpack("<iiq", head[HEADER : HEADER + _ENTRY])
    kind, _, _, compression = struct.unpack("<iqii", head[HEADER + 18 : HEADER + 38])
    dims = struct.unpack("<i", head[dims_at - 4 : dims_at])[0]
    body = max(256, 48 + 20 * row.n_dims)
    whole = max(allocated, used)
    fits = (
        min(metadata, attachment, data, allocated, used) >= 0
        and body + metadata + attachment + data <= whole
        and row.position + HEADER + whole <= os.fstat(file.fileno()).st_size
    )
    agrees = (kind, compression, dims) == (row.pixel_type, row.compression, row.n_dims)
    if not fits or not agrees or not _same_size(head[dims_at:], row):
        raise CorruptFileError(f"the sub-block at byte {row.position} is damaged", where=file.name, mend=MEND)
    if compression == 0 and data < row.w * row.h * GRAY[kind].itemsize:
        raise CorruptFileError(
            f"the sub-block at byte {row.position} lacks pixels", where=file.name, mend=MEND
        )
    return row.position + HEADER + body, metadata, data


def _same_size(dimensions: bytes, row: Row) -> bool:
    """Width and height in the block's own list of dimensions are the directory's."""
    sizes = {name[:1]: size for name, _, size, _, _ in struct.iter_unpack("<4s4i", dimensions)}
    return (sizes.get(b"X"), sizes.get(b"Y")) == (row.w, row.h)


def read_metadata(file: BinaryIO, row: Row) -> str:
    """The sub-block's XML (``<METADATA><Tags><AcquisitionTime>...``), empty where it has none."""
    start, length, _ = check_block(file, row)
    file.seek(start)
    return file.read(max(length, 0)).decode("utf-8", errors="replace")


def read_pixels(file: BinaryIO, row: Row) -> np.ndarray:
    """Pixels (y, x) of the sub-block of ``row``: uint8 or uint16.

    Raises
    ------
    CorruptFileError
        The bytes do not decode to its size.
    """
    start, length, size = check_block(file, row)
    file.seek(start + length)
    raw = file.read(size)
    try:
        return decode(raw, GRAY[row.pixel_type], (row.h, row.w), row.compression)
    except (RuntimeError, ValueError, IndexError, TypeError, MemoryError) as error:
        raise CorruptFileError(
            f"the pixels at byte {row.position} cannot be decoded: {error}", where=file.name, mend=MEND
        ) from error


def decode(raw: bytes, dtype: np.dtype, shape: tuple[int, int], compression: int) -> np.ndarray:
    """Pixels (y, x) of ``raw``, compressed by a method of `COMPRESSIONS`; ValueError where they are not of
    ``shape``."""
    count = shape[0] * shape[1]
    if compression in (1, 4):
        import imagecodecs

        image = imagecodecs.jpegxr_decode(raw) if compression == 4 else imagecodecs.jpeg8_decode(raw)
        if image.shape != shape or image.dtype != dtype:
            raise ValueError(f"they are {image.dtype} {image.shape}, not {dtype} {shape}")
        return np.asarray(image)
    flat = np.frombuffer(raw, np.uint8) if compression == 0 else _zstd(raw, count * dtype.itemsize, compression)
    if dtype.itemsize == 2 and compression == 6 and _split(raw):
        low, high = flat.reshape(2, -1)
        return (high.astype(np.uint16) << 8 | low).reshape(shape)
    if flat.size < count * dtype.itemsize:
        raise ValueError(f"{flat.size} bytes where {count * dtype.itemsize} were expected")
    return flat[: count * dtype.itemsize].view(dtype).reshape(shape)


def _split(raw: bytes) -> bool:
    """zstd1 has a header: its length; then type 1, whose value's bit 0 says that low and high bytes are
    split."""
    return raw[0] >= 3 and raw[1] == 1 and bool(raw[2] & 1)


def _zstd(raw: bytes, size: int, compression: int) -> np.ndarray:
    """``size`` bytes of a zstd frame, which zstd1 puts behind its header."""
    import imagecodecs

    out = np.empty(size, np.uint8)
    frame = raw[raw[0] :] if compression == 6 else raw
    done = np.frombuffer(imagecodecs.zstd_decode(frame, out=out), np.uint8)
    if done.size != size:
        raise ValueError(f"{done.size} bytes where {size} were expected")
    return done


def open_binary(path: Path) -> BinaryIO:
    """The file, open for random reads."""
    return path.open("rb", buffering=0)
