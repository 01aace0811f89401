"""`build_release`: annotated modalities over the same cells as one AnnData, documented inside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.container.cells_schema import (
    FIXED_OBS,
    FORMAT,
    HASHTAG_COUNTS,
    ISOFORM_COUNTS,
    SCHEMA_VERSION,
    entries,
)
from hyped_core.design import Design
from hyped_core.errors import InvalidDataError
from hyped_core.provenance import versions
from hyped_seq.readers.matrix import as_counts
from hyped_seq.release.plain import file_names, plain_record, plain_table

if TYPE_CHECKING:
    from anndata import AnnData

MODALITIES = ("rna", "isoform", "hto")
_WHY = {
    "rna": "the cells have hashtags and no genes",
    "isoform": "the cells have no counts of transcripts",
    "hto": "the cells have no counts of hashtags",
    "counts": "the cells have no raw counts",
}


def build_release(
    modalities: Mapping[str, AnnData], design: Design, *, left_out: Sequence[str] = ()
) -> AnnData:
    """One AnnData of ``rna``, ``isoform`` and ``hto`` (any with ``rna`` or ``hto``) that share their cells.

    ``X`` is ln(1 + CP10k), ``layers["counts"]`` raw; hashtags are ``obsm["hashtag_counts"]``, transcripts
    ``obsm["isoform_counts"]``; ``uns["hyped"]`` documents every column and says what is absent and why. Large
    arrays are shared with ``modalities``, not copied. The layout: `hyped_core.container.cells_schema`.

    Parameters
    ----------
    modalities
        As `hyped seq annotate` or `hyped seq import-cells` made them.
    design
        Goes into the file, its flags as warnings.
    left_out
        Names of modalities that there are and that are not to be in the file.

    Raises
    ------
    InvalidDataError
        Neither rna nor hto, other cells in one than in another, fixed columns missing, names that a file
        cannot hold, or counts that are none.
    """
    from anndata import AnnData

    held = {name: modalities[name] for name in MODALITIES if name in modalities and name not in left_out}
    main = held["rna"] if "rna" in held else held.get("hto")
    if main is None:
        raise InvalidDataError("there is neither rna nor hto", mend="give the cells of `hyped seq annotate`")
    obs, names = _obs(held, main)
    index = obs.index
    uns = {**main.uns}
    absent = {name: _WHY[name] for name in MODALITIES if name not in held}
    absent |= {name: "left out when the release was made" for name in left_out}
    rna = held.get("rna")
    parts: dict[str, Any] = {"var": pd.DataFrame(index=pd.Index([], dtype=object))}
    obsm: dict[str, Any] = {}
    if rna is not None:
        parts, obsm = _genes(rna), {key: rna.obsm[key] for key in rna.obsm}
        uns.setdefault("log1p", {"target_sum": 1e4})
        if "counts" not in rna.layers:
            absent["counts"] = str(uns.get("counts", _WHY["counts"])).removeprefix("absent: ")
    if "hto" in held:
        obsm[HASHTAG_COUNTS], uns["hashtags"] = _hashtags(held["hto"], index)
    if "isoform" in held:
        obsm[ISOFORM_COUNTS], uns["isoform"] = _isoforms(held["isoform"])
    _check_keys(obsm, "obsm")
    uns["design_yaml"] = design.to_yaml()
    cells = AnnData(obs=obs, obsm=obsm, **parts)
    cells.uns.update(plain_record(uns, "uns"))
    cells.uns["hyped"] = plain_record(
        {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "modalities": np.array(list(held), dtype=object),
            "absent": {name: absent[name] for name in (*MODALITIES, "counts") if name in absent},
            "warnings": np.array(design_warnings(design), dtype=object),
            "names": json.dumps({"obs": names}, ensure_ascii=False),
            "written_with": versions(("hyped-core", "hyped-seq", "anndata")),
        },
        "uns/hyped",
    )
    cells.uns["hyped"]["columns"] = describe(cells, names)
    return cells


def design_warnings(design: Design) -> list[str]:
    """What the experiment cannot show, a sentence each."""
    said = [f"{a} and {b} cannot be told apart" for a, b in design.flags.confounded]
    if design.flags.pooled_wells:
        said.append("replicate wells were pooled before barcoding: p-values take cells as units, not replicates")
    if design.sorted_conditions():
        names = ", ".join(design.sorted_conditions())
        said.append(f"phase fractions of {names} were set by sorting, not by biology")
    return said


def _obs(held: Mapping[str, AnnData], main: AnnData) -> tuple[pd.DataFrame, dict[str, dict[str, str]]]:
    """The table of cells, and modality -> its column -> the column's name in the file.

    A column of another modality that the first one does not have, or has with other values, is there as
    ``<modality>_<column>``.
    """
    absent = [name for name in FIXED_OBS if name not in main.obs]
    if absent:
        raise InvalidDataError(
            f"the cells lack {', '.join(absent)}", where="obs", mend="run `hyped seq annotate` first"
        )
    cells = list(map(str, main.obs_names))
    if len(set(cells)) < len(cells):
        raise InvalidDataError("cells do not have names of their own", where="obs", mend="name cells uniquely")
    columns = {str(name): main.obs[name] for name in main.obs}
    of: dict[str, dict[str, str]] = {}
    for modality, data in held.items():
        if list(map(str, data.obs_names)) != cells:
            raise InvalidDataError(
                f"{modality} holds other cells, or in another order", where="obs", mend="annotate all again together"
            )
        of[modality] = {}
        for name in data.obs:
            key = str(name)
            if key not in columns or not _same(columns[key], data.obs[name]):
                key = f"{modality}_{name}"
                if key in columns:
                    raise InvalidDataError(f"{key!r} is there already", where="obs", mend="rename that column")
                columns[key] = data.obs[name]
            of[modality][str(name)] = key
    names = file_names(columns, "obs")
    table = pd.DataFrame({name: column.to_numpy() if column.dtype == object else column.array
                          for name, column in columns.items()}, index=pd.Index(cells, dtype=object))  # fmt: skip
    renamed = {modality: {name: names[key] for name, key in given.items()} for modality, given in of.items()}
    return plain_table(table, "obs", names), renamed


def _same(a: pd.Series, b: pd.Series) -> bool:
    if a is b:
        return True
    if isinstance(a.dtype, pd.CategoricalDtype) or isinstance(b.dtype, pd.CategoricalDtype):
        return bool((a.astype(str).to_numpy() == b.astype(str).to_numpy()).all())
    return a.dtype == b.dtype and a.reset_index(drop=True).equals(b.reset_index(drop=True))


def _genes(rna: AnnData) -> dict[str, Any]:
    """X, layers, var, varm and obsp of the genes."""
    for name in ("gene_id", "symbol"):
        if name not in rna.var:
            raise InvalidDataError(f"rna lacks {name}", where=f"var/{name}", mend="run `hyped seq annotate` first")
    if not rna.var_names.is_unique:
        raise InvalidDataError("genes do not have names of their own", where="var", mend="sum repeated genes")
    if rna.X is None:
        raise InvalidDataError("rna has no X", where="X", mend="run `hyped seq annotate` first")
    _check_keys(rna.layers, "layers")
    layers = {name: rna.layers[name] for name in rna.layers}
    if "counts" in layers:
        layers["counts"] = counts_of(layers["counts"], "layers/counts")
    x = rna.X if sp.issparse(rna.X) and rna.X.format == "csr" else sp.csr_matrix(rna.X)
    return {
        "X": x.astype(np.float32, copy=False),
        "var": plain_table(rna.var, "var"),
        "layers": layers,
        "varm": {key: rna.varm[key] for key in rna.varm},
        "obsp": {key: rna.obsp[key] for key in rna.obsp},
    }


def counts_of(matrix: Any, where: str) -> sp.csr_matrix:
    """``matrix`` as CSR int32, itself where it is that already.

    Raises
    ------
    InvalidDataError
        It does not hold counts.
    """
    if isinstance(matrix, sp.csr_matrix) and matrix.dtype == np.int32 and (not matrix.nnz or matrix.data.min() >= 0):
        return matrix
    return as_counts(matrix, where)


def _check_keys(held: Any, where: str) -> None:
    for name, given in file_names(held, where).items():
        if name != given:
            raise InvalidDataError(f"{name!r} cannot be a name in an h5ad file", where=where, mend=f"name it {given!r}")


def _hashtags(hto: AnnData, index: pd.Index) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts as a table, a column a tag; the tags in the same order."""
    counts = counts_of(hto.layers["counts"] if "counts" in hto.layers else hto.X, "hto")
    names = list(file_names(hto.var_names, f"obsm/{HASHTAG_COUNTS}").values())
    return pd.DataFrame(counts.toarray(), index=index, columns=pd.Index(names, dtype=object)), hto.var


def _isoforms(isoform: AnnData) -> tuple[sp.csr_matrix, pd.DataFrame]:
    """Counts, and transcripts in the order of its columns."""
    table = isoform.var.copy()
    if "transcript_id" not in table:
        table.insert(0, "transcript_id", list(map(str, isoform.var_names)))
    for name in ("gene_id", "symbol"):
        if name not in table:
            raise InvalidDataError(
                f"transcripts have no {name}", where=f"uns/isoform/{name}", mend="run `hyped seq ingest` again"
            )
    return counts_of(isoform.layers["counts"] if "counts" in isoform.layers else isoform.X, "isoform"), table


def describe(cells: AnnData, names: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Every column and matrix of ``cells`` with its meaning and unit, from the schema; one row each."""
    from_other = {
        key: f"{column} of {modality}"
        for modality, given in names.items()
        for column, key in given.items()
        if column != key
    }
    held: dict[str, Any] = {
        "X": [""] if cells.X is not None else [],
        "layers": cells.layers,
        "obs": cells.obs,
        "var": cells.var,
        "obsm": cells.obsm,
        "obsp": cells.obsp,
        "uns": cells.uns,
    }
    rows = []
    for where, keys in held.items():
        known = entries(where)  # type: ignore[arg-type]
        for name in keys:
            entry = known.get(name)
            meaning = entry.meaning if entry else from_other.get(name, "not of HYPED: as it came with the cells")
            rows.append((f"{where}/{name}" if name else where, meaning, entry.unit if entry else ""))
    return plain_table(pd.DataFrame(rows, columns=["place", "meaning", "unit"]), "uns/hyped/columns")
