"""One sub-block of a CZI, decoded from its bytes: pixels (raw, zstd, JPEG XR) and its own metadata.

pylibCZIrw composes tiles and cannot give one that another covers, and aicspylibczi refuses a frame with a
tile missing; this is what stands in there.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hyped_core.errors import CorruptFileError, UnsupportedDataError
from hyped_imaging.readers.structure import GRAY, HEADER, MEND

COMPRESSIONS = {0: "uncompressed", 1: "JPEG", 2: "LZW", 4: "JPEG XR", 5: "zstd0", 6: "zstd1"}


def check_block(file: BinaryIO, position: int, n_dims: int, pixel_type: int) -> tuple[int, int, int]:
    """(offset of the metadata, its length, length of the pixels) of the sub-block at ``position``.

    Raises
    ------
    CorruptFileError
        It does not begin there, its sizes do not fit into the file, or it contradicts the directory. The C++
        libraries crash on such a block, so this is called before they see it.
    """
    file.seek(position)
    head = file.read(HEADER + 48)
    if len(head) < HEADER + 48 or head[:14] != b"ZISRAWSUBBLOCK":
        raise CorruptFileError(f"there is no sub-block at byte {position}", where=file.name, mend=MEND)
    allocated, used = struct.unpack("<qq", head[16:HEADER])
    metadata, attachment, data = struct.unpack("<iiq", head[HEADER : HEADER + 16])
    kind, dims = struct.unpack("<i", head[HEADER + 18 : HEADER + 22])[0], struct.unpack("<i", head[-4:])[0]
    body = max(256, 48 + 20 * n_dims)
    need = body + metadata + attachment + data
    size = os.fstat(file.fileno()).st_size
    wrong = min(metadata, attachment, data, allocated, used) < 0 or need > max(allocated, used)
    if wrong or position + HEADER + max(allocated, used) > size or (kind, dims) != (pixel_type, n_dims):
        raise CorruptFileError(f"the sub-block at byte {position} is damaged", where=file.name, mend=MEND)
    return position + HEADER + body, metadata, data


def read_metadata(file: BinaryIO, position: int, n_dims: int, pixel_type: int) -> str:
    """The sub-block's XML (``<METADATA><Tags><AcquisitionTime>...``), empty where it has none."""
    start, length, _ = check_block(file, position, n_dims, pixel_type)
    file.seek(start)
    return file.read(max(length, 0)).decode("utf-8", errors="replace")


def read_pixels(
    file: BinaryIO, position: int, n_dims: int, shape: tuple[int, int], pixel_type: int, compression: int
) -> np.ndarray:
    """Pixels (y, x) of the sub-block at ``position``: uint8 or uint16.

    Raises
    ------
    CorruptFileError
        The bytes do not decode to ``shape``.
    UnsupportedDataError
        Compressed in a way that is not read.
    """
    start, length, size = check_block(file, position, n_dims, pixel_type)
    file.seek(start + length)
    raw = file.read(size)
    dtype = GRAY[pixel_type]
    try:
        data = decode(raw, dtype, shape, compression)
    except (RuntimeError, ValueError, IndexError) as error:
        raise CorruptFileError(
            f"the pixels at byte {position} cannot be decoded: {error}", where=file.name, mend=MEND
        ) from error
    if data is None:
        raise UnsupportedDataError(
            f"compressed with {COMPRESSIONS.get(compression, compression)}",
            where=file.name,
            mend="save it in ZEN uncompressed or with zstd",
        )
    return data


def decode(raw: bytes, dtype: np.dtype, shape: tuple[int, int], compression: int) -> np.ndarray | None:
    """Pixels of ``raw``; None for a compression that is not read; ValueError where the length is wrong."""
    if compression == 0:
        flat = np.frombuffer(raw, dtype)
    elif compression in (5, 6):
        flat = _zstd(raw, dtype, compression)
    elif compression in (1, 4):
        import imagecodecs

        image = imagecodecs.jpegxr_decode(raw) if compression == 4 else imagecodecs.jpeg_decode(raw)
        flat = np.asarray(image).astype(dtype, copy=False).ravel()
    else:
        return None
    count = shape[0] * shape[1]
    if flat.size < count:
        raise ValueError(f"{flat.size} pixels where {count} were expected")
    return flat[:count].reshape(shape)


def _zstd(raw: bytes, dtype: np.dtype, compression: int) -> np.ndarray:
    """zstd0: a plain frame. zstd1: a header (length; type 1, bit 0 of its value: low and high bytes
    split)."""
    import imagecodecs

    split = False
    if compression == 6:
        length = raw[0]
        if length >= 3 and raw[1] == 1:
            split = bool(raw[2] & 1)
        raw = raw[length:]
    flat = np.frombuffer(imagecodecs.zstd_decode(raw), np.uint8)
    if split and dtype.itemsize == 2:
        flat = np.ascontiguousarray(flat.reshape(2, -1).T).ravel()
    return flat.view(dtype)


def open_binary(path: Path) -> BinaryIO:
    """The file, open for random reads."""
    return path.open("rb", buffering=0)
