"""A finished h5ad (the paper's release, or a perturb-seq screen) to the columns every later step expects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hyped_core.container.cells_file import open_cells
from hyped_core.design import Design, Perturbation
from hyped_core.errors import InvalidDataError, UsageError
from hyped_core.io.atomic import write_json
from hyped_core.io.outputs import check_output
from hyped_seq.ingest.estimate import Rate, Shape, h5ad_shape, plan
from hyped_seq.ingest.import_hashtags import import_hashtags, is_hashtag_table
from hyped_seq.ingest.import_matrices import gene_symbols, matrices
from hyped_seq.ingest.import_release import import_release, is_release
from hyped_seq.ingest.output import output_files
from hyped_seq.ingest.params import ImportCellsParams
from hyped_seq.ingest.perturbations import Columns, Named, name_perturbations, without_value
from hyped_seq.readers.h5ad import read_h5ad, write_h5ad
from hyped_seq.readers.matrix import check_barcodes

if TYPE_CHECKING:
    from anndata import AnnData

RECORD = "import.json"
OUTPUTS = ("rna.h5ad", "isoform.h5ad", "hto.h5ad", RECORD)


@dataclass
class Imported:
    """The cells and a record of how the file was read.

    ``rna`` of an h5ad, ``hto`` of a table of hashtag counts, of a release whatever it was made of.
    """

    record: dict[str, Any]
    rna: AnnData | None = None
    isoform: AnnData | None = None
    hto: AnnData | None = None


def import_cells(path: str | Path, design: Design, params: ImportCellsParams) -> Imported:
    """Read an h5ad (or a table of hashtag counts alone) and give it HYPED's columns.

    What `hyped seq release` wrote comes back as it was, with the design it carries, where ``params`` are the
    defaults; with others it is read as any h5ad is.

    ``X`` is ln(1 + CP10k) float32. Raw counts go to ``layers["counts"]``; where the file has none, ``X`` is
    taken as log-normalised after a check, the layer is absent, and ``uns["counts"]`` says so.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        Not a readable h5ad, a column that is not there, nothing left after the filter, or an ``X`` that is
        neither.
    """
    if is_hashtag_table(path):
        hto, record = import_hashtags(path, design, params)
        return Imported(record, hto=hto)
    if _as_it_was(path, params):
        modalities, record = import_release(path)
        return Imported(record, **modalities)
    cells = _filtered(read_h5ad(path), params, path)
    check_barcodes(list(map(str, cells.obs_names)), path)
    source = _column(
        cells, params.perturbation_column, ("assigned_condition", "perturbation", "condition"), path
    )
    if source is None:
        raise InvalidDataError(
            f"obs has no column with the perturbation; columns: {', '.join(map(str, cells.obs))}",
            where=path,
            mend="name it: perturbation_column",
        )
    cells, unassigned = _assigned(cells, source, params)
    measured = {*map(str, cells.var_names), *gene_symbols(cells.var)}
    named = name_perturbations(
        cells.obs[source], design, params, measured, _beside(cells, params, path), _described(cells, path)
    )
    cells, dropped = _enough_cells(cells, named, params)
    logs, counts, var, matrix_record = matrices(cells, params, path)
    obs = _obs(cells, named, params, path)
    from anndata import AnnData

    rna = AnnData(X=logs, obs=obs, var=var)
    if counts is not None:
        rna.layers["counts"] = counts
    for key in cells.obsm:
        if key in ("X_pca", "X_tsne", "X_umap"):
            rna.obsm[key] = np.asarray(cells.obsm[key], dtype=np.float32)
    present = set(rna.obs["perturbation"].astype(str))
    records = {
        name: item.model_dump(mode="json")
        for name, item in sorted(named.perturbations.items())
        if name in present
    }
    rna.uns["perturbations_json"] = json.dumps(records, sort_keys=True)
    rna.uns["log1p"] = {"target_sum": params.target_sum}
    rna.uns["counts"] = matrix_record["counts"]
    rna.uns["design_yaml"] = design.to_yaml()
    record = {
        "cells": rna.n_obs,
        "genes": rna.n_vars,
        "perturbation_column": source,
        "perturbations": {
            str(k): int(v) for k, v in rna.obs["perturbation"].value_counts().sort_index().items()
        },
        "direction_from": named.direction_from,
        "not_measured": sorted({g for name in present for g in named.perturbations[name].genes} - set(rna.var_names)),
        "without_perturbation": unassigned,
        "left_out": dropped,
        **matrix_record,
    }
    return Imported(record, rna=rna)


def _as_it_was(path: str | Path, params: ImportCellsParams) -> bool:
    """A release, and nothing asked for but to have it back."""
    return params == ImportCellsParams() and is_release(path)


def estimate_import(path: str | Path, design: Design, params: ImportCellsParams) -> dict[str, Any]:
    """What importing takes: see `hyped_seq.ingest.estimate.plan`. A table of hashtags is small and is read.

    Raises
    ------
    MissingFileError, CorruptFileError, InvalidDataError
        No such file, or not one of the kinds that can be imported.
    """
    rate = Rate(1.5, 200.0, 1.5, 20000.0, 2e6)
    if is_hashtag_table(path):
        hto, _ = import_hashtags(path, design, params)
        shape = Shape(hto.n_obs, hto.n_vars, int(hto.X.nnz), 8 * int(hto.X.nnz))
        return plan({"hto": shape}, ["hto.h5ad", "import.json"], rate)
    shape = h5ad_shape(path)
    if _as_it_was(path, params):
        with open_cells(path) as cells:
            names = [name for name in ("rna", "isoform", "hto") if name not in cells.absent]
        return plan({names[0]: shape}, [*(f"{name}.h5ad" for name in names), "import.json"], rate)
    return plan({"rna": shape}, ["rna.h5ad", "import.json"], rate)


def check_folder(folder: str | Path, source: str | Path) -> None:
    """Refuse a folder whose files of the names written are what is read, or were written by something else.

    Raises
    ------
    UsageError
        Which one it is.
    """
    folder = Path(folder)
    there = [folder / name for name in OUTPUTS if (folder / name).exists()]
    for path in there:
        check_output(path, kind="file", inputs=[source])
    if there and not (folder / RECORD).is_file():
        raise UsageError(
            "was not written by this command, and would be replaced", where=there[0], mend="name a new folder"
        )


def write_imported(result: Imported, folder: str | Path) -> None:
    """Write the modalities that are there and ``import.json``, all or none."""
    with output_files(folder, OUTPUTS) as out:
        for name, data in (("rna", result.rna), ("isoform", result.isoform), ("hto", result.hto)):
            if data is not None:
                write_h5ad(data, out / f"{name}.h5ad")
        write_json(out / RECORD, result.record)


def _described(cells: AnnData, path: str | Path) -> dict[str, Perturbation]:
    """Perturbations that the file describes itself in ``uns["perturbations_json"]``."""
    text = cells.uns.get("perturbations_json")
    if text is None:
        return {}
    try:
        return {name: Perturbation.model_validate(item) for name, item in json.loads(str(text)).items()}
    except (ValueError, AttributeError) as error:
        raise InvalidDataError(
            f"does not hold perturbations: {error}",
            where=f"{path}/uns/perturbations_json",
            mend="remove or correct it",
        ) from error


def _need(cells: AnnData, name: str | None, path: str | Path) -> str:
    """``name`` where it is a column of obs."""
    if name not in cells.obs:
        raise InvalidDataError(
            f"obs has no column {name!r}; columns: {', '.join(map(str, cells.obs))}",
            where=path,
            mend="correct the column's name in the parameters",
        )
    return str(name)


def _column(cells: AnnData, name: str | None, defaults: tuple[str, ...], path: str | Path) -> str | None:
    """The named column (which has to be there), else the first default that is there."""
    if name is not None:
        return _need(cells, name, path)
    return next((column for column in defaults if column in cells.obs), None)


def _filtered(cells: AnnData, params: ImportCellsParams, path: str | Path) -> AnnData:
    keep = np.ones(cells.n_obs, dtype=bool)
    for column, wanted in params.filter.items():
        values = [wanted] if isinstance(wanted, str) else wanted
        text = cells.obs[_need(cells, column, path)].astype(str)
        found = text.isin(values).to_numpy()
        if not found.any():
            raise InvalidDataError(
                f"no cell has {column} in {values}; values there: {', '.join(sorted(set(text))[:20])}",
                where=path,
                mend="correct the filter",
            )
        keep &= found
    if not keep.any():
        raise InvalidDataError("no cell passes the filter", where=path, mend="correct the filter")
    return cells[keep].copy()


def _assigned(cells: AnnData, source: str, params: ImportCellsParams) -> tuple[AnnData, int]:
    """Cells that have a perturbation, where the others are to be left out; how many these were."""
    missing = without_value(cells.obs[source])
    if params.without_perturbation == "refuse" or not missing.any() or missing.all():
        return cells, 0
    return cells[~missing].copy(), int(missing.sum())


def _beside(cells: AnnData, params: ImportCellsParams, path: str | Path) -> Columns:
    """The columns that say directions and numbers of genes."""
    defaults = ("perturbation_type",) if params.direction is None else ()
    found = (
        _column(cells, params.direction_column, defaults, path),
        _column(cells, params.number_column, ("nperts",), path),
    )
    directions, numbers = (None if name is None else cells.obs[name] for name in found)
    return Columns(directions, numbers)


def _enough_cells(cells: AnnData, named: Named, params: ImportCellsParams) -> tuple[AnnData, dict[str, int]]:
    """Cells of perturbations with enough of them; what was left out."""
    counts = named.names.value_counts()
    dropped = {str(name): int(n) for name, n in sorted(counts.items()) if n < params.min_cells}
    keep = ~named.names.isin(list(dropped)).to_numpy()
    named.names = named.names[keep]
    named.conditions = named.conditions[keep]
    return (cells[keep].copy() if dropped else cells), dropped


def _obs(cells: AnnData, named: Named, params: ImportCellsParams, path: str | Path) -> pd.DataFrame:
    """The fixed columns, plus the file's own under their names where they do not collide."""
    pool_column = _column(cells, params.pool_column, ("pool", "batch"), path)
    phase_column = _column(cells, params.phase_column, ("phase", "assigned_phase"), path)
    n = cells.n_obs
    barcodes = list(map(str, cells.obs_names))
    pools = [str(p) for p in cells.obs[pool_column]] if pool_column else [params.pool_name or "all"] * n
    phases = _text(cells.obs[phase_column]) if phase_column else [""] * n
    conditions = (
        _text(cells.obs[_need(cells, params.condition_column, path)])
        if params.condition_column
        else list(named.conditions)
    )
    names = [b if b.startswith(f"{p}_") else f"{p}_{b}" for p, b in zip(pools, barcodes, strict=True)]
    fixed = {
        "pool": pools,
        "hashtag_call": _text(cells.obs["hashtag_call"]) if "hashtag_call" in cells.obs else [""] * n,
        "hashtag_kind": _text(cells.obs["hashtag_kind"]) if "hashtag_kind" in cells.obs else ["singlet"] * n,
        "assigned_condition": conditions,
        "condition": conditions,
        "assigned_phase": _text(cells.obs["assigned_phase"]) if "assigned_phase" in cells.obs else [""] * n,
        "phase": ["G2M" if phase == "G2/M" else phase for phase in phases],
        "perturbation": list(named.names),
    }
    table = pd.DataFrame(
        {"barcode": barcodes, **{key: pd.Categorical(value) for key, value in fixed.items()}}, index=names
    )
    for column in cells.obs:
        if column not in table:
            own = cells.obs[column]
            whole = pd.api.types.is_extension_array_dtype(own.dtype) and not isinstance(own.dtype, pd.CategoricalDtype)
            table[column] = own.array if whole else own.to_numpy()
    return table


def _text(column: pd.Series) -> list[str]:
    """Values as text, missing ones as ""."""
    return ["" if pd.isna(value) else str(value) for value in column]
