"""Tables on disk: parquet, h5ad, AnnData in zarr. Typed errors on reading; atomic writing, stable bytes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingDependencyError, MissingFileError
from hyped_core.io.atomic import atomic_path
from hyped_core.io.zarrs import refuse_pickles

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_AGAIN = "run the step that writes it again, or fetch it again"


def _exists(path: str | Path, kind: str) -> Path:
    path = Path(path)
    if not path.exists():
        raise MissingFileError(
            f"there is no such {kind}", where=path, mend="check the path, or run the step that writes it"
        )
    return path


def _corrupt(path: Path, kind: str, error: Exception) -> CorruptFileError:
    detail = str(error).splitlines()[0][:200] if str(error) else ""
    return CorruptFileError(
        f"cannot be read as {kind}: {type(error).__name__}: {detail}", where=path, mend=_AGAIN
    )


def require_columns(table: pd.DataFrame, columns: Iterable[str], where: object) -> None:
    """Raise `InvalidDataError` naming every column of ``columns`` that ``table`` lacks."""
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise InvalidDataError(
            f"lacks column{'s' if len(absent) > 1 else ''} {', '.join(absent)}",
            where=where,
            mend=f"columns there: {', '.join(map(str, table.columns))}",
        )


def read_parquet(path: str | Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """A parquet table; ``columns`` have to be in it (all columns are read).

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError, MissingDependencyError
    """
    import pandas as pd

    path = _exists(path, "table")
    try:
        table = pd.read_parquet(path)
    except ImportError as error:
        raise MissingDependencyError(
            "reading parquet needs pyarrow", where=path, mend="pip install 'hyped-core[container]'"
        ) from error
    except Exception as error:
        raise _corrupt(path, "a parquet table", error) from error
    require_columns(table, columns, path)
    return table


def write_parquet(path: str | Path, table: pd.DataFrame) -> None:
    """Write a parquet table atomically, without its index."""
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False, compression="zstd")


def read_h5ad(path: str | Path) -> AnnData:
    """An AnnData from an h5ad file, in memory.

    Raises
    ------
    MissingFileError, CorruptFileError
    """
    import anndata

    path = _exists(path, "h5ad file")
    try:
        return anndata.read_h5ad(path)
    except Exception as error:
        raise _corrupt(path, "h5ad", error) from error


def write_h5ad(path: str | Path, table: AnnData) -> None:
    """Write an AnnData atomically; equal content gives equal bytes."""
    with atomic_path(path) as temporary:
        table.write_h5ad(temporary, compression="gzip", compression_opts=1)


def read_table_zarr(path: str | Path) -> AnnData:
    """An AnnData from a zarr folder such as ``spatial.zarr/tables/rna``; spatialdata is not imported.

    A folder that names a codec which unpickles is refused before anything is decoded.

    Raises
    ------
    MissingFileError, CorruptFileError
    """
    import anndata

    path = _exists(path, "table")
    refuse_pickles(path)
    try:
        table = anndata.read_zarr(str(path))
    except ImportError as error:
        raise MissingDependencyError(
            "reading a table in zarr needs zarr", where=path, mend="pip install 'hyped-core[container]'"
        ) from error
    except Exception as error:
        raise _corrupt(path, "a table (AnnData in zarr)", error) from error
    attrs = table.uns.get("spatialdata_attrs")
    if attrs is not None and hasattr(attrs.get("region"), "tolist"):
        attrs["region"] = attrs["region"].tolist()
    return table
