"""A release of cells back to the modalities it was made of, as `import-cells` takes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.container.cells_file import CellsFile, has_cells_format, open_cells
from hyped_core.container.cells_schema import HASHTAG_COUNTS, ISOFORM_COUNTS
from hyped_core.container.cells_validate import validate_cells
from hyped_seq.annotate.normalise import log_normalised
from hyped_seq.readers.h5ad import read_h5ad

if TYPE_CHECKING:
    from anndata import AnnData

_OF_THE_RELEASE = ("hyped", "isoform", "hashtags")


def is_release(path: str | Path) -> bool:
    """True for an h5ad that `hyped seq release` wrote, of any version."""
    return Path(path).is_file() and has_cells_format(path)


def import_release(path: str | Path) -> tuple[dict[str, AnnData], dict[str, Any]]:
    """The modalities ``rna``, ``isoform`` and ``hto`` of a release, and the record of how it was read.

    Cells, counts, ``obs``, ``obsm`` and the names that the file could not hold are those the release was made
    of. ``X`` of isoforms is normalised again from their counts.

    Raises
    ------
    CorruptFileError, UnsupportedDataError
        The file is damaged, or of a newer HYPED.
    ValidationError
        The release is not valid: every problem.
    """
    validate_cells(path)
    cells = read_h5ad(path)
    with open_cells(path) as file:
        names, modalities = _columns(file), [str(name) for name in np.atleast_1d(file.record["modalities"])]
    kept = {key: value for key, value in cells.uns.items() if key not in _OF_THE_RELEASE}
    made: dict[str, AnnData] = {}
    if "rna" in modalities:
        made["rna"] = _genes(cells, _obs(cells.obs, names.get("rna")), kept)
    if "isoform" in modalities:
        counts = sp.csr_matrix(cells.obsm[ISOFORM_COUNTS])
        target = float(cells.uns.get("log1p", {}).get("target_sum", 1e4))
        x = log_normalised(counts, target)
        made["isoform"] = _modality(x, counts, _obs(cells.obs, names.get("isoform")), cells.uns["isoform"], {})
    if "hto" in modalities:
        counts = sp.csr_matrix(cells.obsm[HASHTAG_COUNTS].to_numpy())
        own = {} if "rna" in modalities else kept
        obs = _obs(cells.obs, names.get("hto"))
        made["hto"] = _modality(counts.copy(), counts, obs, cells.uns["hashtags"], own)
    record = {
        "release": True,
        "cells": cells.n_obs,
        "genes": cells.n_vars,
        "modalities": modalities,
        "conditions": _counts(cells.obs["condition"]),
        "kinds": _counts(cells.obs["hashtag_kind"]),
        "counts": "raw counts from layers/counts" if "counts" in cells.layers else "absent: see uns/hyped/absent",
    }
    return made, record


def _columns(file: CellsFile) -> dict[str, dict[str, str]]:
    found = file.names.get("obs", {})
    return found if isinstance(found, dict) else {}


def _obs(obs: pd.DataFrame, names: dict[str, str] | None) -> pd.DataFrame:
    """The columns of one modality under their own names; columns added to the file later go to every one."""
    if names is None:
        return obs.copy()
    there = {key: name for name, key in names.items() if key in obs}
    return obs[list(there)].rename(columns=there)


def _genes(cells: AnnData, obs: pd.DataFrame, uns: dict[str, Any]) -> AnnData:
    from anndata import AnnData

    obsm = {key: cells.obsm[key] for key in cells.obsm if key not in (HASHTAG_COUNTS, ISOFORM_COUNTS)}
    return AnnData(
        X=cells.X,
        obs=obs,
        var=cells.var,
        uns=uns,
        layers=dict(cells.layers),
        obsm=obsm,
        varm=dict(cells.varm),
        obsp=dict(cells.obsp),
    )


def _modality(x: Any, counts: sp.csr_matrix, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any]) -> AnnData:
    from anndata import AnnData

    return AnnData(X=x, obs=obs, var=var, uns=uns, layers={"counts": counts})


def _counts(column: pd.Series) -> dict[str, int]:
    found = column.astype(str).value_counts().sort_index()
    return {str(value): int(n) for value, n in found.items() if n and value}
