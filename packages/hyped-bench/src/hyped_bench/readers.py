"""Reading what tasks need, and no more: tables out of containers and files, images, hashes of inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UnsupportedDataError
from hyped_core.io import tables
from hyped_core.io.hashing import digest, sha256_file
from hyped_core.io.tables import require_columns
from hyped_core.io.zarrs import open_zarr

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")


def existing(path: str | Path, mend: str = "correct the path, or run the pipeline to the step that writes it") -> Path:
    """``path`` if it is there, else a `MissingFileError`."""
    found = Path(path)
    if not found.exists():
        raise MissingFileError("no such file or folder", where=path, mend=mend)
    return found


def read_obs(path: str | Path, table: str = "rna") -> pd.DataFrame:
    """``obs`` of a table in a container, or of an .h5ad file; nothing else is read."""
    from anndata.io import read_elem

    source = existing(path)
    try:
        if source.is_dir():
            inner = source / "spatial.zarr" / "tables" / table
            return read_elem(open_zarr(inner if inner.is_dir() else source)["obs"])
        import h5py

        with h5py.File(source, "r") as file:
            return read_elem(file["obs"])
    except (OSError, KeyError) as error:
        raise CorruptFileError(
            f"holds no cells (table {table!r})", where=path, mend="give a .hyped container or an .h5ad file"
        ) from error


def read_cells(path: str | Path, table: str = "rna") -> AnnData:
    """A table as AnnData, from a ``.hyped`` container or an .h5ad file."""
    source = existing(path)
    if not source.is_dir():
        return tables.read_h5ad(source)
    inner = source / "spatial.zarr" / "tables" / table
    if source.suffix == ".hyped" and not inner.is_dir():
        raise MissingFileError(f"holds no table {table!r}", where=path, mend="give a container that has it")
    return tables.read_table_zarr(inner if inner.is_dir() else source)


def read_table(path: str | Path) -> pd.DataFrame:
    """A parquet or CSV table."""
    source = existing(path)
    if source.suffix == ".parquet":
        return tables.read_parquet(source)
    import pandas as pd

    try:
        return pd.read_csv(source)
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"is not a readable table: {error}", where=path) from error


def read_json(path: str | Path) -> Any:
    """Parsed JSON."""
    source = existing(path)
    try:
        return json.loads(source.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"is not valid JSON: {error}", where=path) from error


def image_files(folder: str | Path) -> dict[str, Path]:
    """Images of a folder by their name without suffix, sorted."""
    files = sorted(p for p in existing(folder).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise MissingFileError(
            "holds no images", where=folder, mend=f"suffixes read: {', '.join(IMAGE_SUFFIXES)}"
        )
    return {path.stem: path for path in files}


def read_image(path: str | Path) -> npt.NDArray:
    """One grey image or stack from a PNG or TIFF file, as stored."""
    source = existing(path)
    try:
        if source.suffix.lower() == ".png":
            from PIL import Image

            with Image.open(source) as image:
                array = np.asarray(image)
        else:
            import tifffile

            array = tifffile.imread(source)
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"is not a readable image: {error}", where=path) from error
    if array.ndim == 3 and array.shape[-1] in (3, 4) and array.dtype == np.uint8:
        raise UnsupportedDataError("holds colour pixels", where=path, mend="give one grey channel")
    return array


def stack_first(array: npt.NDArray) -> npt.NDArray:
    """A TIFF stack with time first: (y, x) and (y, x, t) with few t become (t, y, x)."""
    if array.ndim == 2:
        return array[None]
    if array.ndim == 3 and array.shape[2] < min(array.shape[:2]):
        return np.moveaxis(array, 2, 0)
    return array


def sha256_of(path: str | Path) -> str:
    """sha256 of a file; of anything inside a container its manifest's; of any other folder `digest`'s."""
    source = existing(path)
    for parent in (source, *source.parents):
        if parent.suffix == ".hyped" and (parent / "manifest.json").is_file():
            return sha256_file(parent / "manifest.json")
    return digest(source).sha256


def dense(matrix: Any) -> npt.NDArray[np.float32]:
    """A float32 array (cells, genes) from a sparse or dense matrix; NaN or infinity is an error."""
    array = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise InvalidDataError("the expression matrix holds NaN or infinite values")
    return array


__all__ = [
    "dense",
    "existing",
    "image_files",
    "read_cells",
    "read_image",
    "read_json",
    "read_obs",
    "read_table",
    "require_columns",
    "sha256_of",
    "stack_first",
]
