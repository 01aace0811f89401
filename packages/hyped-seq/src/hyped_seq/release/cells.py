"""The annotated modalities of a folder, with what a release needs of them and no more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.design import Design, read_design
from hyped_core.design.model import parse_design
from hyped_core.errors import InvalidDataError, MissingFileError
from hyped_seq.ingest.estimate import Rate, h5ad_shape, plan
from hyped_seq.readers.h5ad import read_counts_only, read_h5ad
from hyped_seq.release.build import MODALITIES

if TYPE_CHECKING:
    from anndata import AnnData


def read_cells(folder: str | Path, left_out: Sequence[str] = ()) -> dict[str, AnnData]:
    """The modalities that `hyped seq annotate` or `import-cells` wrote to ``folder``.

    ``rna`` is whole; of ``isoform`` and ``hto`` the counts alone are read, ``X`` follows from them.

    Raises
    ------
    MissingFileError, CorruptFileError
        Neither rna.h5ad nor hto.h5ad, or a file that is no readable h5ad.
    """
    folder = Path(folder)
    names = _present(folder, left_out)
    return {name: (read_h5ad if name == "rna" else read_counts_only)(folder / f"{name}.h5ad") for name in names}


def _present(folder: Path, left_out: Sequence[str]) -> list[str]:
    found = [name for name in MODALITIES if name not in left_out and (folder / f"{name}.h5ad").is_file()]
    if not {"rna", "hto"} & set(found):
        raise MissingFileError(
            "has neither rna.h5ad nor hto.h5ad",
            where=folder,
            mend="make them with `hyped seq annotate` or `hyped seq import-cells`",
        )
    return found


def design_of(cells: dict[str, AnnData], folder: str | Path, given: str | Path | None) -> Design:
    """The design in the file ``given``, else the one that the cells carry.

    Raises
    ------
    InvalidDataError
        The cells carry none, or the design is not valid.
    """
    import yaml

    if given is not None:
        return read_design(given)
    for name, data in cells.items():
        text = data.uns.get("design_yaml")
        if text is not None:
            return parse_design(yaml.safe_load(str(text)), where=f"{folder}/{name}.h5ad/uns/design_yaml")
    raise InvalidDataError("the cells carry no design", where=folder, mend="give it: --design design.yaml")


def estimate_release(folder: str | Path, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """What making a release takes: see `hyped_seq.ingest.estimate.plan`.

    Raises
    ------
    MissingFileError, CorruptFileError
        As `read_cells`.
    """
    folder = Path(folder)
    shapes = {name: h5ad_shape(folder / f"{name}.h5ad") for name in _present(folder, left_out)}
    return plan(shapes, ["release.h5ad"], Rate(0.8, 200.0, 2.0, 20000.0, 6e6))
