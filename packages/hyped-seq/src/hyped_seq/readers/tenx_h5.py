"""10x h5 matrices, written by Cell Ranger 2 (one group a genome) and 3 (group ``matrix``)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import scipy.sparse as sp

from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_seq.readers.matrix import CountMatrix, checked


def read_tenx_h5(path: str | Path, genome: str | None = None) -> CountMatrix:
    """Read a 10x ``.h5`` file; ``genome`` picks a group of a version 2 file that holds several.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file, no 10x matrix inside, or lengths disagree.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise MissingFileError("no such file", where=path, mend="check the path")
    try:
        with h5py.File(path, "r") as file:
            group = _group(file, genome, path)
            indptr, indices, data = (group[key][()] for key in ("indptr", "indices", "data"))
            n_features, n_cells = (int(size) for size in group["shape"][()])
            barcodes = [text.decode() for text in group["barcodes"][()]]
            table = group["features"] if "features" in group else group
            ids, names = ("id", "name") if "features" in group else ("genes", "gene_names")
            columns = {"id": ids, "name": names, **({"kind": "feature_type"} if "feature_type" in table else {})}
            features = pd.DataFrame({name: [x.decode() for x in table[at][()]] for name, at in columns.items()})
        counts = sp.csr_matrix((data, indices, indptr), shape=(n_cells, n_features))
        counts.check_format(full_check=True)
    except (OSError, KeyError, ValueError) as error:
        raise CorruptFileError(
            f"is not a complete 10x h5 file: {error}", where=path, mend="copy the file again"
        ) from error
    return checked(counts, barcodes, features, path)


def _group(file: object, genome: str | None, path: Path) -> object:
    """The h5 group that holds the matrix."""
    groups = [name for name in file if "indptr" in file[name]]  # type: ignore[attr-defined, index]
    wanted = genome or ("matrix" if "matrix" in groups else groups[0] if len(groups) == 1 else None)
    if wanted not in groups:
        raise InvalidDataError(
            f"has no single matrix; groups with one: {', '.join(groups) or 'none'}",
            where=path,
            mend="name the genome",
        )
    return file[wanted]  # type: ignore[index]
