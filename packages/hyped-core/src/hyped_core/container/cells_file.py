"""A release of cells (one ``.h5ad``) opened: its tables and records in memory, its matrices on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.container.cells_schema import FORMAT, SCHEMA_VERSION
from hyped_core.design import Design
from hyped_core.design.model import parse_design
from hyped_core.errors import CorruptFileError, HypedError, InvalidDataError, MissingFileError, UnsupportedDataError

if TYPE_CHECKING:
    import pandas as pd

MAKE = "make it with `hyped seq release CELLS_DIR OUT.h5ad`"


@dataclass
class CellsFile:
    """An opened release.

    Attributes
    ----------
    path, store : the file and its ``h5py.File``.
    obs, var : tables; ``uns`` : everything but the tables of isoforms, which `table` reads.
    design : the design in the file; None where it cannot be read, then ``design_error`` says why.
    """

    path: Path
    store: Any
    obs: pd.DataFrame
    var: pd.DataFrame
    uns: dict[str, Any]
    design: Design | None = None
    design_error: str = ""
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """``uns["hyped"]``."""
        return self.uns["hyped"]

    @property
    def absent(self) -> dict[str, str]:
        """Part -> why it is not there."""
        found = self.record.get("absent")
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    @property
    def names(self) -> dict[str, Any]:
        """Columns by modality and names that were changed for the file; see `hyped_seq.release`."""
        try:
            found = json.loads(str(self.record.get("names", "{}")))
        except ValueError:
            found = {}
        return found if isinstance(found, dict) else {}

    def keys(self, where: str) -> list[str]:
        """Names in ``layers``, ``obsm``, ``obsp`` or ``uns``."""
        return sorted(self.store[where]) if where in self.store else []

    def table(self, where: str, name: str) -> Any:
        """One element, read into memory.

        Raises
        ------
        CorruptFileError
            It cannot be read.
        """
        try:
            return _element(self.store, f"{where}/{name}")
        except Exception as error:  # anndata and h5py raise many kinds, some of them private
            place = f"{self.path}/{where}/{name}"
            raise CorruptFileError(f"cannot be read: {error}", where=place, mend=MAKE) from error


def has_cells_format(path: str | Path) -> bool:
    """Whether a file is a release of cells of any version; False for anything that is no HDF5 file."""
    import h5py

    try:
        with h5py.File(path, "r") as store:
            return _text(store.get("uns/hyped/format")) == FORMAT
    except OSError:
        return False


@contextmanager
def open_cells(path: str | Path) -> Iterator[CellsFile]:
    """Open a release for reading.

    Raises
    ------
    MissingFileError, CorruptFileError
        No such file, or not a readable h5ad.
    InvalidDataError
        An h5ad, but not a release of HYPED.
    UnsupportedDataError
        A newer HYPED wrote it.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="check the path")
    again = "write the file again, or fetch it again"
    try:
        store = h5py.File(path, "r")
    except OSError as error:
        raise CorruptFileError(f"is not a readable h5ad file: {error}", where=path, mend=again) from error
    with store:
        version = _check_format(store, path)
        if version > SCHEMA_VERSION:
            raise UnsupportedDataError(
                f"has schema version {version}, this HYPED knows up to {SCHEMA_VERSION}",
                where=f"{path}/uns/hyped/schema_version",
                mend="pip install --upgrade hyped-core",
            )
        try:
            obs, var = _element(store, "obs"), _element(store, "var")
            uns, unreadable = _uns(store)
            found = CellsFile(path, store, obs, var, uns, unreadable=unreadable)
        except Exception as error:  # anndata and h5py raise many kinds, some of them private
            raise CorruptFileError(f"is not a readable h5ad file: {error}", where=path, mend=again) from error
        found.design, found.design_error = _design(found)
        yield found


def _check_format(store: Any, path: Path) -> int:
    """The schema version of an open file that says it is a release."""
    if _text(store.get("uns/hyped/format")) != FORMAT:
        raise InvalidDataError(
            f"is no release of HYPED: uns['hyped']['format'] is not {FORMAT!r}",
            where=path,
            mend=f"{MAKE}; `hyped seq import-cells` takes any h5ad",
        )
    version = store.get("uns/hyped/schema_version")
    value = version[()] if version is not None and getattr(version, "shape", None) == () else None
    if value is None or value != int(value) or value < 1:
        raise CorruptFileError(
            f"has no valid schema_version: {value!r}", where=f"{path}/uns/hyped/schema_version", mend=MAKE
        )
    return int(value)


def _text(element: Any) -> str | None:
    if element is None or getattr(element, "shape", None) != ():
        return None
    value = element[()]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _element(store: Any, place: str) -> Any:
    from anndata.io import read_elem

    return read_elem(store[place])


def _uns(store: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """``uns`` without the table of isoforms (it may have 200,000 rows), and what cannot be read."""
    found: dict[str, Any] = {}
    unreadable: dict[str, str] = {}
    for name in store["uns"] if "uns" in store else ():
        if name == "isoform":
            continue
        try:
            found[name] = _element(store, f"uns/{name}")
        except Exception as error:  # noqa: BLE001 (anndata and h5py raise many kinds, some of them private)
            unreadable[name] = str(error).splitlines()[0] if str(error) else type(error).__name__
    if not isinstance(found.get("hyped"), dict):
        raise CorruptFileError("cannot be read", where="uns/hyped")
    return found, unreadable


def _design(cells: CellsFile) -> tuple[Design | None, str]:
    import yaml

    text = cells.uns.get("design_yaml")
    if not isinstance(text, str):
        return None, "this entry is missing"
    try:
        return parse_design(yaml.safe_load(text), where="uns/design_yaml"), ""
    except HypedError as error:
        return None, error.message
    except yaml.YAMLError as error:
        return None, f"is not YAML: {error}"
