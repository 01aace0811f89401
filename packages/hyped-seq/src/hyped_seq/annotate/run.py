"""`annotate`: joins counts and calls, removes bad cells, normalises, embeds, calls phases and contrasts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Design, Perturbation
from hyped_core.design.model import CONTROL
from hyped_core.errors import InvalidDataError, MissingFileError
from hyped_core.io.atomic import write_json
from hyped_seq.annotate.contrasts import COLUMNS as CONTRAST_COLUMNS
from hyped_seq.annotate.contrasts import plan_contrasts, run_contrasts
from hyped_seq.annotate.cycle_genes import CycleGenes
from hyped_seq.annotate.embedding import embed
from hyped_seq.annotate.normalise import log_normalised, variable_genes
from hyped_seq.annotate.params import AnnotateParams
from hyped_seq.annotate.phases import PHASES, call_phases
from hyped_seq.annotate.quality import cell_figures, judge
from hyped_seq.ingest.estimate import Rate, h5ad_shape, plan
from hyped_seq.ingest.output import output_files
from hyped_seq.readers.h5ad import read_h5ad, write_h5ad
from hyped_seq.readers.matrix import as_counts

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext

OUTPUTS = ("rna.h5ad", "isoform.h5ad", "hto.h5ad", "removed.csv", "de.csv", "annotate.json")


@dataclass
class Annotated:
    """Annotated modalities over the same cells, the removed cells, the contrasts and the record."""

    modalities: dict[str, AnnData]
    removed: pd.DataFrame
    contrasts: pd.DataFrame
    record: dict[str, Any]


def read_ingested(folder: str | Path) -> dict[str, AnnData]:
    """The modalities that `hyped seq ingest` wrote to ``folder``; ``rna`` or, for hashtags alone, ``hto``.

    Raises
    ------
    MissingFileError, InvalidDataError
        Neither rna.h5ad nor hto.h5ad, or the modalities hold different cells.
    """
    folder = Path(folder)
    modalities = {name: read_h5ad(folder / f"{name}.h5ad") for name in _modalities(folder)}
    for name, data in modalities.items():
        if "rna" in modalities and list(data.obs_names) != list(modalities["rna"].obs_names):
            raise InvalidDataError(
                "holds other cells than rna.h5ad", where=folder / f"{name}.h5ad", mend="ingest all again"
            )
    return modalities


def _modalities(folder: Path) -> list[str]:
    """Names of the modalities in the folder."""
    found = [name for name in ("rna", "isoform", "hto") if (folder / f"{name}.h5ad").is_file()]
    if not {"rna", "hto"} & set(found):
        raise MissingFileError(
            "has neither rna.h5ad nor hto.h5ad", where=folder, mend="make them with `hyped seq ingest`"
        )
    return found


def estimate_annotate(folder: str | Path, params: AnnotateParams) -> dict[str, Any]:
    """What annotating the modalities in ``folder`` takes: see `hyped_seq.ingest.estimate.plan`.

    Raises
    ------
    MissingFileError, CorruptFileError
        As `read_ingested`.
    """
    names = _modalities(Path(folder))
    shapes = {name: h5ad_shape(Path(folder) / f"{name}.h5ad") for name in names}
    made = [name for name in OUTPUTS if not name.endswith(".h5ad") or name.removesuffix(".h5ad") in names]
    slow = 50.0 if params.umap else 300.0 if params.tsne else 1000.0
    return plan(shapes, made, Rate(1.25, 800.0, 2.0, slow if "rna" in names else 10000.0, 1e6))


def annotate(
    modalities: dict[str, AnnData],
    calls: pd.DataFrame,
    design: Design,
    params: AnnotateParams,
    cycle_genes: CycleGenes,
    *,
    context: RunContext,
    calls_from: str | Path = "calls",
) -> Annotated:
    """Annotate the cells of ``modalities`` (as `read_ingested` gives them) with the calls of `demultiplex`.

    ``calls_from`` is the file that errors about the calls name.

    Cells leave by quality alone; doublets and negatives stay, marked by ``hashtag_kind``. Where there are
    hashtags and no genes, cells get their calls and what follows from them by the design, and all stay.

    Raises
    ------
    InvalidDataError
        Cells of the calls are not those of the matrices, counts are none, or nothing is left.
    """
    if "rna" not in modalities:
        return _annotate_hashtags(modalities["hto"], calls, design, calls_from)
    rna = modalities["rna"]
    counts = as_counts(rna.layers["counts"] if "counts" in rna.layers else rna.X, "rna")
    calls = _match_calls(calls, list(rna.obs_names), calls_from)
    pools = rna.obs["pool"].astype(str)
    figures = cell_figures(counts, rna.var["symbol"], rna.obs.get("mito_pct"))
    figures.index = rna.obs_names
    quality = judge(figures, pools, params.quality)
    keep = quality.keep
    obs = _obs(rna.obs[keep], figures[keep], calls[keep], design)
    logs = log_normalised(counts[keep], params.target_sum)
    symbols = list(rna.var["symbol"].astype(str))
    phases = call_phases(
        logs, symbols, obs["assigned_phase"], obs["pool"], cycle_genes, params.phase, seed=context.seed
    )
    phase_table = phases.table.copy()
    phase_table.loc[(obs["hashtag_kind"] == "doublet").to_numpy(), ["phase", "phase_source"]] = ["", "none"]
    for column in phase_table.columns:
        obs[column] = phase_table[column]
    singlet = (obs["hashtag_kind"] == "singlet").to_numpy()
    tested = obs["assigned_condition"].where(singlet, "")
    plans = plan_contrasts(tested, obs["pool"].astype(str), design, params.min_group)
    contrasts = run_contrasts(logs, rna.var, tested, plans, design, params.quality.min_cells_per_gene)
    _as_categories(obs, design)
    annotated = _modality(rna, keep, obs, logs, counts[keep])
    annotated.var["highly_variable"] = variable_genes(
        logs, params.n_variable_genes, params.quality.min_cells_per_gene
    )
    embed(annotated, params, context=context)
    record = {
        "cells": int(keep.sum()),
        "removed": int((~keep).sum()),
        "thresholds": quality.thresholds,
        "kinds": {str(k): int(v) for k, v in obs["hashtag_kind"].value_counts().sort_index().items()},
        "conditions": {str(k): int(v) for k, v in obs["condition"].value_counts().sort_index().items() if k},
        "phase": phases.record,
        "contrasts": [plan.name for plan in plans],
        "confounded": [list(pair) for pair in design.flags.confounded],
    }
    _add_uns(annotated, design, record, contrasts, params)
    result = {"rna": annotated}
    shared = [column for column in obs.columns if column not in ("n_counts", "n_genes")]
    for name in ("isoform", "hto"):
        if name in modalities:
            other = modalities[name]
            raw = as_counts(other.layers["counts"] if "counts" in other.layers else other.X, name)[keep]
            values = log_normalised(raw, params.target_sum) if name == "isoform" else raw
            result[name] = _modality(other, keep, obs[shared], values, raw)
    return Annotated(result, quality.removed, contrasts, record)


def _annotate_hashtags(
    hto: AnnData, calls: pd.DataFrame, design: Design, calls_from: str | Path
) -> Annotated:
    """Cells of which only hashtags are known; a phase is known where the design's tag says it."""
    counts = as_counts(hto.layers["counts"] if "counts" in hto.layers else hto.X, "hto")
    calls = _match_calls(calls, list(hto.obs_names), calls_from)
    obs = _obs(hto.obs, pd.DataFrame(index=hto.obs_names), calls, design)
    obs["phase"] = obs["assigned_phase"]
    obs["phase_source"] = np.where(obs["phase"] != "", "hashtag", "none")
    _as_categories(obs, design)
    record = {
        "cells": hto.n_obs,
        "removed": 0,
        "kinds": {str(k): int(v) for k, v in obs["hashtag_kind"].value_counts().sort_index().items()},
        "conditions": {str(k): int(v) for k, v in obs["condition"].value_counts().sort_index().items() if k},
        "phase": {"method": "from hashtags alone: there are no genes"},
        "contrasts": [],
        "confounded": [list(pair) for pair in design.flags.confounded],
    }
    everything = np.ones(hto.n_obs, dtype=bool)
    annotated = _modality(hto, everything, obs, counts, counts)
    annotated.uns["annotate_json"] = json.dumps(record, sort_keys=True)
    annotated.uns["perturbations_json"] = perturbations_json(design)
    removed = pd.DataFrame(columns=["cell", "reason"])
    return Annotated({"hto": annotated}, removed, pd.DataFrame(columns=list(CONTRAST_COLUMNS)), record)


def write_annotated(result: Annotated, folder: str | Path) -> None:
    """Write the h5ad files, ``removed.csv``, ``de.csv`` and ``annotate.json``, all or none."""
    with output_files(folder, OUTPUTS) as out:
        for name, data in result.modalities.items():
            write_h5ad(data, out / f"{name}.h5ad")
        result.removed.to_csv(out / "removed.csv", index=False, lineterminator="\n")
        result.contrasts.to_csv(out / "de.csv", index=False, lineterminator="\n", float_format="%.6g")
        write_json(out / "annotate.json", result.record)


def _match_calls(calls: pd.DataFrame, cells: list[str], where: str | Path) -> pd.DataFrame:
    """Calls in the order of ``cells``; every cell has to have one."""
    absent = [cell for cell in cells if cell not in calls.index]
    if absent:
        raise InvalidDataError(
            f"has no call for {len(absent)} of {len(cells)} cells, first {absent[0]!r}",
            where=where,
            mend="demultiplex the hto.h5ad of the same ingest",
        )
    return calls.loc[cells]


def _obs(obs: pd.DataFrame, figures: pd.DataFrame, calls: pd.DataFrame, design: Design) -> pd.DataFrame:
    """``obs`` with quality figures, calls, condition and perturbation; still plain text columns."""
    table = obs.copy()
    table["pool"] = table["pool"].astype(str)
    for column in figures.columns:
        table[column] = figures[column]
    table["hashtag_call"] = calls["call"]
    table["hashtag_kind"] = calls["kind"]
    table["hashtag_probability"] = calls["probability"].astype(np.float32)
    table["hashtags"] = calls["tags"]
    table["assigned_condition"] = calls["condition"]
    only = {pool.name: pool.conditions[0] for pool in design.pools if len(pool.conditions) == 1}
    from_pool = table["pool"].map(only).fillna("")
    table["condition"] = table["assigned_condition"].where(table["assigned_condition"] != "", from_pool)
    table["perturbation"] = table["condition"].map(perturbation_names(design)).fillna("")
    table["assigned_phase"] = calls["phase"]
    return table


def perturbation_names(design: Design) -> dict[str, str]:
    """Condition -> ``"control"``, ``"GENE"`` or ``"GENE1+GENE2"``."""
    return {
        item.name: "+".join(change.gene for change in item.perturbation) or CONTROL
        for item in design.conditions
    }


def perturbations_json(design: Design) -> str:
    """The perturbations by the names of `perturbation_names`, as JSON."""
    names = perturbation_names(design)
    records = {
        names[item.name]: Perturbation(name=names[item.name], changes=item.perturbation).model_dump(
            mode="json"
        )
        for item in design.conditions
    }
    return json.dumps(records, sort_keys=True)


def _as_categories(obs: pd.DataFrame, design: Design) -> None:
    """Text columns with few values become categoricals in a stated order."""
    conditions = [item.name for item in design.conditions]
    orders = {
        "hashtag_kind": ["singlet", "doublet", "negative"],
        "assigned_condition": conditions,
        "condition": conditions,
        "assigned_phase": list(PHASES),
        "phase": list(PHASES),
        "phase_classifier": list(PHASES),
        "phase_score": list(PHASES),
    }
    for column in ("pool", "hashtag_call", "hashtags", "perturbation", "phase_source", *orders):
        if column not in obs:
            continue
        values = obs[column].astype(str)
        order = list(dict.fromkeys([*orders.get(column, ()), *sorted(set(values))]))
        present = set(values)
        obs[column] = pd.Categorical(values, categories=[name for name in order if name in present])


def _modality(
    data: AnnData, keep: np.ndarray, obs: pd.DataFrame, x: sp.csr_matrix, counts: sp.csr_matrix
) -> AnnData:
    from anndata import AnnData

    return AnnData(X=x, obs=obs.copy(), var=data.var.copy(), layers={"counts": counts.copy()})


def _add_uns(
    cells: AnnData, design: Design, record: dict[str, Any], contrasts: pd.DataFrame, params: AnnotateParams
) -> None:
    """What readers of the file need to know, in plain types that h5ad keeps."""
    cells.uns["log1p"] = {"target_sum": params.target_sum}
    cells.uns["annotate_json"] = json.dumps(record, sort_keys=True)
    cells.uns["design_yaml"] = design.to_yaml()
    cells.uns["perturbations_json"] = perturbations_json(design)
    cells.uns["phase"] = {key: value for key, value in record["phase"].items() if not isinstance(value, dict)}
    top = contrasts[contrasts["rank"] <= params.top_genes] if len(contrasts) else contrasts
    cells.uns["top_genes"] = top.reset_index(drop=True).astype(
        {c: str for c in top.columns if top[c].dtype == object}
    )
