"""Sparse matrices into HDF5 groups as AnnData lays them out, compressed on several cores."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.sparse as sp
from isal import isal_zlib

CHUNK = 1 << 17
"""Values in a chunk of an HDF5 array."""
_LEVEL = 1
_THREADS = min(4, os.cpu_count() or 1)
"""How many chunks are deflated at a time; the bytes do not depend on it."""
_AHEAD = 32
"""Chunks that may wait to be written."""


def write_sparse(group: Any, matrix: sp.csr_matrix | sp.csc_matrix) -> None:
    """Write ``matrix`` to an empty HDF5 ``group``: ``data``, ``indices``, ``indptr`` and AnnData's attributes.

    The arrays are chunked, shuffled (whole numbers only: bytes of normalised values repeat whole, not one by one) and
    deflated with HDF5's own filters, so any HDF5 reader takes them.
    """
    group.attrs["encoding-type"] = f"{matrix.format}_matrix"
    group.attrs["encoding-version"] = "0.1.0"
    group.attrs["shape"] = matrix.shape
    for name in ("data", "indices", "indptr"):
        _write_array(group, name, getattr(matrix, name))


def _write_array(group: Any, name: str, array: np.ndarray) -> None:
    """One array; HDF5's filters work on one core, so chunks are filtered here and handed over ready."""
    chunk = min(CHUNK, max(array.size, 1))
    shuffle = array.dtype.kind in "iu"
    dataset = group.create_dataset(
        name,
        shape=array.shape,
        dtype=array.dtype,
        chunks=(chunk,),
        maxshape=(None,),
        shuffle=shuffle,
        compression="gzip",
        compression_opts=_LEVEL,
    )
    starts = range(0, array.size, chunk)
    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(starts), _AHEAD):
            some = starts[first : first + _AHEAD]
            ready = pool.map(lambda start: _filtered(array[start : start + chunk], chunk, shuffle), some)
            for start, values in zip(some, ready, strict=True):
                dataset.id.write_direct_chunk((start,), values)


def _filtered(values: np.ndarray, chunk: int, shuffle: bool) -> bytes:
    """A chunk as HDF5's filters (shuffle where asked, deflate) store it; the last one is filled up with zeros."""
    if values.size < chunk:
        values = np.concatenate([values, np.zeros(chunk - values.size, dtype=values.dtype)])
    values = np.ascontiguousarray(values)
    if shuffle:
        values = values.view(np.uint8).reshape(chunk, values.dtype.itemsize).T
    return isal_zlib.compress(values.tobytes(), _LEVEL)
