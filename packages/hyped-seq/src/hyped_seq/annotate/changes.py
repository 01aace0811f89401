"""What changes between conditions: expression, isoform usage and dose, in one call, and their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Design
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError
from hyped_seq.annotate.change_params import ChangeParams
from hyped_seq.annotate.contrasts import ALL_PHASES, Stratum, inference_note, plan_strata
from hyped_seq.annotate.differential import COLUMNS as DE_COLUMNS
from hyped_seq.annotate.differential import differential_expression
from hyped_seq.annotate.dose import dose_columns, dose_response
from hyped_seq.annotate.isoforms import COLUMNS as ISOFORM_COLUMNS
from hyped_seq.annotate.isoforms import isoform_usage

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext

OUTPUTS = ("de.csv", "isoform_usage.csv", "dose.csv")


@dataclass(frozen=True)
class Changes:
    """Tables of what changes, and a record of how they came about (JSON-able).

    Attributes
    ----------
    de : a row a phase, contrast and gene (`hyped_seq.annotate.differential.COLUMNS`).
    isoform_usage : a row a phase, contrast and gene with several transcripts
        (`hyped_seq.annotate.isoforms.COLUMNS`).
    dose : a row a cell of a perturbed condition (`hyped_seq.annotate.dose.dose_columns`).
    record : contrasts, conditions left out for too few cells, how isoforms were chosen, dose and response.
    """

    de: pd.DataFrame
    isoform_usage: pd.DataFrame
    dose: pd.DataFrame
    record: dict[str, Any]


def find_changes(
    rna: AnnData, isoform: AnnData | None, design: Design, params: ChangeParams, *, context: RunContext
) -> Changes:
    """Differential expression, isoform usage and dose of the singlets with a condition.

    Parameters
    ----------
    rna : X = ln(1 + CP10k); ``obs``: pool, hashtag_kind, assigned_condition, phase, n_counts; ``var``: symbol,
        gene_id.
    isoform : the same cells; ``layers["counts"]``: molecules of transcripts; ``var``: transcript_id, gene_id,
        symbol. None: no table of isoform usage.

    Raises
    ------
    InvalidDataError
        A column of ``obs`` or ``layers["counts"]`` is missing, or ``isoform`` holds other cells.
    """
    condition = tested_conditions(rna.obs)
    phase, pool = rna.obs["phase"].astype(str), rna.obs["pool"].astype(str)
    strata = plan_strata(
        condition, phase, pool, design, phases=params.strata, min_group=params.min_group, pairwise=params.pairwise
    )
    inference = inference_note(design)
    logs = sp.csr_matrix(rna.X)
    de = differential_expression(
        logs,
        rna.var,
        strata,
        pseudocount=params.pseudocount,
        min_cells=params.min_cells,
        inference=inference,
        threads=context.threads,
    )
    usage, usage_record = _usage(isoform, rna, strata, params, inference, context)
    everyone = condition.to_numpy(dtype=object)
    dose, dose_record = dose_response(
        logs, _symbols(rna), rna.obs, everyone, design, params.dose, rng=context.rng("dose")
    )
    record = {
        "cells": int((condition != "").sum()),
        "contrasts": [plan.name for plan in strata[0].contrasts],
        "strata": {stratum.phase: _stratum_record(stratum) for stratum in strata},
        "inference": inference,
        "expression": {
            "test": "Mann-Whitney, normal approximation, corrected for ties and continuity",
            "genes": {str(k): int(v) for k, v in de.groupby("phase", observed=True)["gene"].nunique().items()},
            "found_at_fdr_0.05": _found(de),
        },
        "isoforms": usage_record | {"found_at_fdr_0.05": _found(usage)},
        "dose": dose_record,
        "notes": [*_notes(condition, strata[0]), *_absent_genes(dose_record), *_depth_notes(condition, rna.obs)],
    }
    return Changes(de, usage, dose, record)


def no_changes(reason: str) -> Changes:
    """Empty tables, where there is no expression to compare; ``reason`` goes to the record."""
    return Changes(
        pd.DataFrame(columns=list(DE_COLUMNS)),
        pd.DataFrame(columns=list(ISOFORM_COLUMNS)),
        pd.DataFrame(columns=dose_columns(())),
        {"contrasts": [], "notes": [reason]},
    )


def write_changes(changes: Changes, folder: Path) -> None:
    """Write the tables named in `OUTPUTS` to ``folder``; floats with 6 digits, U in full.

    At full size ``de.csv`` has a million rows: Arrow writes them several times faster than pandas.
    """
    import pyarrow as pa
    from pyarrow import csv

    for name, table in zip(OUTPUTS, (changes.de, changes.isoform_usage, changes.dose), strict=True):
        floats = [c for c in table.select_dtypes("float") if c != "u_statistic"]
        rounded = table.assign(**{column: six_digits(table[column].to_numpy(float)) for column in floats})
        for column in rounded.select_dtypes("category"):
            rounded[column] = rounded[column].astype(object)
        arrow = pa.Table.from_pandas(rounded, preserve_index=False)
        csv.write_csv(arrow, Path(folder) / name, csv.WriteOptions(quoting_style="needed", quoting_header="needed"))


def six_digits(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The closest floats that are written with 6 significant digits."""
    result = np.array(values, dtype=np.float64)
    usual = np.isfinite(result) & (np.abs(result) > 1e-16) & (np.abs(result) < 1e20)
    exponent = 5 - np.floor(np.log10(np.abs(result[usual]))).astype(np.int64)
    up, down = 10.0 ** np.maximum(exponent, 0), 10.0 ** np.maximum(-exponent, 0)
    result[usual] = np.rint(result[usual] * up / down) / up * down
    others = np.flatnonzero(~usual & np.isfinite(result) & (result != 0))
    result[others] = [float(f"{value:.6g}") for value in result[others]]
    return result


def top_genes(de: pd.DataFrame, n: int = 10, phase: str = ALL_PHASES) -> pd.DataFrame:
    """The first ``n`` genes of each contrast of a phase with all columns, the warning among them; texts as str."""
    top = de[(de["rank"].astype(float) <= n) & (de["phase"].astype(str) == phase)].reset_index(drop=True)
    texts = [c for c in top.columns if not pd.api.types.is_numeric_dtype(top[c])]
    return top.astype(dict.fromkeys(texts, str))


def tested_conditions(obs: pd.DataFrame) -> pd.Series:
    """Condition of each cell that is compared, "" for the others: singlets with a condition from their hashtag."""
    missing = [c for c in ("pool", "hashtag_kind", "assigned_condition", "phase") if c not in obs]
    if missing:
        raise InvalidDataError(
            f"lacks {', '.join(missing)}", where="rna obs", mend="take the cells that `hyped seq annotate` writes"
        )
    return obs["assigned_condition"].astype(str).where(obs["hashtag_kind"].astype(str) == "singlet", "")


def _usage(
    isoform: AnnData | None,
    rna: AnnData,
    strata: list[Stratum],
    params: ChangeParams,
    inference: str,
    context: RunContext,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    if isoform is None:
        return pd.DataFrame(columns=list(ISOFORM_COLUMNS)), {"method": "none: no transcript matrix"}
    if not np.array_equal(isoform.obs_names, rna.obs_names):
        raise InvalidDataError(
            "holds other cells than rna, or in another order", where="isoform", mend="ingest both together"
        )
    if "counts" not in isoform.layers:
        raise InvalidDataError(
            "has no layer 'counts'", where="isoform", mend="keep the molecules of transcripts in layers['counts']"
        )
    return isoform_usage(
        sp.csr_matrix(isoform.layers["counts"]),
        isoform.var,
        strata if params.isoforms.strata else strata[:1],
        params.isoforms,
        inference=inference,
        rng=context.rng("isoforms") if params.isoforms.shuffle else None,
    )


def _symbols(rna: AnnData) -> list[str]:
    return list((rna.var["symbol"] if "symbol" in rna.var else rna.var_names.to_series()).astype(str))


def _stratum_record(stratum: Stratum) -> dict[str, Any]:
    names, counts = np.unique(stratum.condition[stratum.condition != ""].astype(str), return_counts=True)
    return {
        "cells": {str(name): int(count) for name, count in zip(names, counts, strict=True)},
        "contrasts": len(stratum.contrasts),
        "left_out": stratum.left_out,
    }


def _found(table: pd.DataFrame) -> dict[str, int]:
    """Tests below 0.05 after adjustment, by contrast, all phases together."""
    if not len(table):
        return {}
    whole = table[table["phase"].astype(str) == ALL_PHASES]
    below = (whole["p_adjusted"] < 0.05).groupby(whole["contrast"].astype(str), sort=False).sum()
    return {str(name): int(count) for name, count in below.items()}


def _notes(condition: pd.Series, whole: Stratum) -> list[str]:
    """What could not be compared, in words."""
    known = set(condition) - {""}
    notes = []
    if not known:
        notes.append("no cell has a condition: nothing is compared")
    elif len(known) == 1:
        notes.append(f"one condition ({next(iter(known))}): nothing is compared")
    elif CONTROL not in known:
        notes.append("no control cells: contrasts among the perturbed conditions only")
    elif len(known) == 2:
        notes.append("one perturbed condition: contrast with control only")
    notes += [f"{name}: {n} cells, too few to compare" for name, n in whole.left_out.items()]
    return notes


def _absent_genes(dose: dict[str, Any]) -> list[str]:
    absent = dose["genes_not_in_matrix"]
    return [f"{gene}: perturbed by the design, not in the matrix; no level of it" for gene in absent]


def _depth_notes(condition: pd.Series, obs: pd.DataFrame, ratio: float = 1.5) -> list[str]:
    """Conditions sequenced to different depths: normalisation does not take all of it out of a rank test."""
    if "n_counts" not in obs or not (condition != "").any():
        return []
    depth = obs["n_counts"].astype(float).groupby(condition.where(condition != "", np.nan)).median()
    if len(depth) < 2 or depth.max() <= ratio * depth.min():
        return []
    low, high = depth.idxmin(), depth.idxmax()
    return [
        f"median molecules a cell: {depth[low]:.0f} in {low}, {depth[high]:.0f} in {high}; rank tests of rare genes "
        "feel the depth, normalised or not"
    ]
