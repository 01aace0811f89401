"""Writing a release: whole or not at all, equal bytes for equal cells, compressed by what every HDF5 reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hyped_core.errors import InvalidDataError, UsageError
from hyped_core.io.atomic import atomic_path
from hyped_seq.readers.h5ad import write_h5ad

if TYPE_CHECKING:
    from anndata import AnnData


def check_name(path: str | Path) -> Path:
    """``path``, where a release can be written to it.

    Raises
    ------
    UsageError
        It is a folder or does not end in ``.h5ad``.
    """
    path = Path(path)
    if path.is_dir() or path.suffix != ".h5ad":
        raise UsageError("is no name for a release", where=path, mend="give a file named <name>.h5ad")
    return path


def write_release(cells: AnnData, path: str | Path) -> None:
    """Write what `build_release` made to ``path``.

    Raises
    ------
    UsageError
        ``path`` is a folder or does not end in ``.h5ad``.
    InvalidDataError
        ``cells`` holds something that an h5ad file cannot.
    """
    path = check_name(path)
    with atomic_path(path) as temporary:
        try:
            write_h5ad(cells, temporary)
        except OSError:
            raise
        except Exception as error:  # anndata and h5py raise many kinds, some of them private
            raise InvalidDataError(
                f"cannot be written: {error}", where=path, mend="remove what an h5ad file cannot hold"
            ) from error
