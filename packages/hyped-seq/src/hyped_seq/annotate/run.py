"""`annotate`: joins counts and calls, removes bad cells, normalises, embeds, calls phases and finds what changes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from hyped_core.design import Design
from hyped_core.errors import InvalidDataError, MissingFileError
from hyped_core.io.atomic import write_json
from hyped_seq.annotate.ambient import ASSUMPTIONS, find_ambient
from hyped_seq.annotate.cells import as_categories, cell_table, match_calls, perturbations_json, tally
from hyped_seq.annotate.changes import OUTPUTS as CHANGES
from hyped_seq.annotate.changes import Changes, find_changes, no_changes, top_genes, write_changes
from hyped_seq.annotate.cycle_genes import CycleGenes
from hyped_seq.annotate.doublets import find_doublets
from hyped_seq.annotate.embedding import embed
from hyped_seq.annotate.normalise import log_normalised, variable_genes
from hyped_seq.annotate.params import AmbientParams, AnnotateParams
from hyped_seq.annotate.parts import part
from hyped_seq.annotate.phase_store import PhaseClassifier
from hyped_seq.annotate.phases import call_phases
from hyped_seq.annotate.quality import REMOVED_COLUMNS, Quality, cell_figures, judge, removal_notes
from hyped_seq.ingest.estimate import Rate, h5ad_shape, plan
from hyped_seq.ingest.output import output_files
from hyped_seq.readers.h5ad import read_counts_only, write_h5ad
from hyped_seq.readers.matrix import as_counts

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext

CLASSIFIER = "phase_classifier.json"
"""What was trained on sorted cells, for experiments that have none (``phase: {classifier: FILE}``)."""
OUTPUTS = ("rna.h5ad", "isoform.h5ad", "hto.h5ad", "removed.csv", *CHANGES, "annotate.json", CLASSIFIER)

_BYTES_PER_GENE, _BYTES_PER_TRANSCRIPT = 10_000, 1_000
"""What ``de.csv`` and ``isoform_usage.csv`` take with the contrasts of four conditions, with and without phases."""


@dataclass
class Annotated:
    """Annotated modalities over the same cells, the removed cells, what changes, the record, and what was trained."""

    modalities: dict[str, AnnData]
    removed: pd.DataFrame
    changes: Changes
    record: dict[str, Any]
    classifier: PhaseClassifier | None = None


def read_ingested(folder: str | Path) -> dict[str, AnnData]:
    """The modalities that `hyped seq ingest` wrote to ``folder``; ``rna`` or, for hashtags alone, ``hto``.

    Counts are in ``layers["counts"]``; ``X``, which holds them too, is not read.

    Raises
    ------
    MissingFileError, InvalidDataError
        Neither rna.h5ad nor hto.h5ad, or the modalities hold different cells.
    """
    folder = Path(folder)
    modalities = {name: read_counts_only(folder / f"{name}.h5ad") for name in _modalities(folder)}
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
    slow = 200.0 if params.tsne else 500.0
    found = plan(shapes, made, Rate(1.25, 800.0, 8.0, slow if "rna" in names else 10000.0, 2e6))
    genes, transcripts = (shapes[name].features if name in shapes else 0 for name in ("rna", "isoform"))
    found["bytes"] += genes * _BYTES_PER_GENE + transcripts * _BYTES_PER_TRANSCRIPT
    return found


def annotate(
    modalities: dict[str, AnnData],
    calls: pd.DataFrame | None,
    design: Design,
    params: AnnotateParams,
    cycle_genes: CycleGenes,
    *,
    context: RunContext,
    calls_from: str | Path = "calls",
) -> Annotated:
    """Annotate the cells of ``modalities`` (as `read_ingested` gives them) with the calls of `demultiplex`.

    ``modalities`` is emptied on the way, so that memory holds each matrix once. ``calls`` is None where there are no
    hashtags: a pool's condition is then known if it has one (`match_calls`). ``calls_from`` is the file that errors
    about the calls name.

    Cells leave by quality alone, and predicted doublets if ``params.doublets.remove``; doublets and negatives by
    hashtags stay, marked by ``hashtag_kind``. Where there are hashtags and no genes, cells get their calls and what
    follows from them by the design, and all stay.

    Raises
    ------
    InvalidDataError
        Cells of the calls are not those of the matrices, counts are none, or nothing is left.
    """
    if "rna" not in modalities:
        return _annotate_hashtags(modalities.pop("hto"), calls, design, calls_from)
    rna = modalities.pop("rna")
    var, given = rna.var, rna.obs
    counts = _counts(rna, "rna")
    del rna
    matched = match_calls(calls, given, design, calls_from)
    with part(context, "quality"):
        figures = cell_figures(counts, var["symbol"], given.get("mito_pct"))
        figures.index = given.index
        quality = judge(figures, given["pool"], params.quality)
        keep, removed = quality.keep, quality.removed
        empty = _empty_droplets(counts, figures, given["pool"], keep, params.ambient)
        counts = _rows(counts, keep)
    obs = cell_table(given[keep], figures[keep], matched[keep], design)
    record = _quality_record(quality, figures, given["pool"])
    notes = record["quality_notes"]
    if params.doublets.enabled:
        with part(context, "doublets"):
            found = find_doublets(counts, obs, params.doublets, seed=context.seed, target_sum=params.target_sum)
        obs["doublet_score"], obs["predicted_doublet"] = found.score, found.predicted
        record["doublets"] = {"threshold": params.doublets.threshold, "removed": params.doublets.remove, **found.record}
        notes += [f"doublets of {pool}: not scored, {entry['reason']}" for pool, entry in found.record.items()
                  if "reason" in entry]  # fmt: skip
        if params.doublets.remove:
            stay = ~found.predicted
            removed = _with_doublets(removed, obs[~stay], params.doublets.threshold, given.index)
            counts, obs = _rows(counts, stay), obs[stay].copy()
            keep = given.index.isin(obs.index)
    if params.ambient.enabled:
        with part(context, "soup"):
            soup = find_ambient(counts, obs, var["symbol"], design, params.ambient, seed=context.seed, empty=empty)
        obs["ambient_share"] = soup.share
        record["ambient"] = {"assumptions": list(ASSUMPTIONS), **soup.record}
    logs = log_normalised(counts, params.target_sum)
    with part(context, "phases"):
        record["phase"], classifier = _add_phases(obs, logs, counts, var, cycle_genes, params, context)
    notes += [record["phase"]["note"]] if "note" in record["phase"] else []
    as_categories(obs, design)
    annotated = _modality(var, obs, counts, logs)
    annotated.var["highly_variable"] = variable_genes(
        logs, params.n_variable_genes, params.quality.min_cells_per_gene
    )
    notes += embed(annotated, params, context=context)
    shared = obs.drop(columns=["n_counts", "n_genes"])
    result = {"rna": annotated}
    for name in list(modalities):
        other = modalities.pop(name)
        result[name] = _modality(other.var, shared, _rows(_counts(other, name), keep))
        del other
    with part(context, "changes between conditions"):
        changes = find_changes(annotated, result.get("isoform"), design, params.changes, context=context)
    record |= {
        "cells": len(obs),
        "removed": len(removed),
        "kinds": tally(obs, "hashtag_kind"),
        "conditions": tally(obs, "condition"),
        "contrasts": changes.record["contrasts"],
        "changes": changes.record,
        "confounded": [list(pair) for pair in design.flags.confounded],
    }
    for name, data in result.items():
        if data.X is None:
            own = data.layers["counts"]
            data.X = log_normalised(own, params.target_sum) if name == "isoform" else own
    _add_uns(annotated, design, record, changes, params)
    return Annotated(result, removed, changes, record, classifier)


def _annotate_hashtags(
    hto: AnnData, calls: pd.DataFrame | None, design: Design, calls_from: str | Path
) -> Annotated:
    """Cells of which only hashtags are known; a phase is known where the design's tag says it."""
    counts = _counts(hto, "hto")
    calls = match_calls(calls, hto.obs, design, calls_from)
    obs = cell_table(hto.obs, pd.DataFrame(index=hto.obs_names), calls, design)
    obs["phase"] = obs["assigned_phase"]
    obs["phase_source"] = np.where(obs["phase"] != "", "hashtag", "none")
    as_categories(obs, design)
    changes = no_changes("there are no genes")
    record = {
        "cells": hto.n_obs,
        "removed": 0,
        "kinds": tally(obs, "hashtag_kind"),
        "conditions": tally(obs, "condition"),
        "phase": {"method": "from hashtags alone: there are no genes"},
        "contrasts": [],
        "changes": changes.record,
        "confounded": [list(pair) for pair in design.flags.confounded],
    }
    annotated = _modality(hto.var, obs, counts, counts)
    annotated.uns["annotate_json"] = json.dumps(record, sort_keys=True)
    annotated.uns["perturbations_json"] = perturbations_json(design)
    return Annotated({"hto": annotated}, pd.DataFrame(columns=list(REMOVED_COLUMNS)), changes, record)


def write_annotated(result: Annotated, folder: str | Path) -> None:
    """Write the h5ad files, ``removed.csv``, the tables of `write_changes`, ``annotate.json`` and `CLASSIFIER`."""
    with output_files(folder, OUTPUTS) as out:
        for name, data in result.modalities.items():
            write_h5ad(data, out / f"{name}.h5ad")
        result.removed.to_csv(out / "removed.csv", index=False, lineterminator="\n", float_format="%.6g")
        write_changes(result.changes, out)
        write_json(out / "annotate.json", result.record)
        if result.classifier is not None:
            write_json(out / CLASSIFIER, result.classifier.to_json())


def _counts(data: AnnData, where: str) -> sp.csr_matrix:
    """The raw counts of a modality, checked; not copied where they are CSR int32 in order, as ingest writes them."""
    found = data.layers["counts"] if "counts" in data.layers else data.X
    if (
        isinstance(found, sp.csr_matrix)
        and found.dtype == np.int32
        and found.has_canonical_format
        and (not found.nnz or found.data.min() > 0)
    ):
        return found
    return as_counts(found, where)


def _rows(counts: sp.csr_matrix, keep: npt.NDArray[np.bool_]) -> sp.csr_matrix:
    return counts if keep.all() else counts[np.flatnonzero(keep)]


def _empty_droplets(
    counts: sp.csr_matrix,
    figures: pd.DataFrame,
    pools: pd.Series,
    keep: npt.NDArray[np.bool_],
    params: AmbientParams,
) -> dict[str, npt.NDArray[np.float64]]:
    """Pool -> (genes,) molecules in removed barcodes with next to none."""
    empty = ~keep & (figures["n_counts"] <= params.empty_counts).to_numpy()
    names = pools.astype(str).to_numpy()
    return {
        str(pool): np.asarray(counts[np.flatnonzero(empty & (names == pool))].sum(axis=0), dtype=np.float64).ravel()
        for pool in dict.fromkeys(names[empty])
    }


def _quality_record(quality: Quality, figures: pd.DataFrame, pools: pd.Series) -> dict[str, Any]:
    known = int(figures["mito_pct"].notna().sum())
    notes = []
    if not known:
        notes.append("mito_pct: no gene begins with MT- and the workflow gave none, no cell is judged by it")
    elif known < len(figures):
        notes.append(f"mito_pct: not known of {len(figures) - known} cells, which are not judged by it")
    notes += removal_notes(quality.removed, pools)
    return {"thresholds": quality.thresholds, "threshold_sources": quality.sources, "quality_notes": notes}


def _with_doublets(removed: pd.DataFrame, gone: pd.DataFrame, threshold: float, order: pd.Index) -> pd.DataFrame:
    """``removed`` with the predicted doublets in ``gone`` added, in the order of the matrix."""
    more = gone[["pool", *REMOVED_COLUMNS[3:]]].assign(
        cell=gone.index, reason=[f"doublet_score {value:.6g} above {threshold:.6g}" for value in gone["doublet_score"]]
    )
    table = pd.concat([removed, more[list(REMOVED_COLUMNS)]], ignore_index=True)
    return table.iloc[np.argsort(order.get_indexer(table["cell"]), kind="stable")].reset_index(drop=True)


def _add_phases(
    obs: pd.DataFrame,
    logs: sp.csr_matrix,
    counts: sp.csr_matrix,
    var: pd.DataFrame,
    cycle_genes: CycleGenes,
    params: AnnotateParams,
    context: RunContext,
) -> tuple[dict[str, Any], PhaseClassifier | None]:
    """Add the phases to ``obs``; doublets by hashtags get none. The record, and the classifier that was trained."""
    phases = call_phases(
        logs,
        list(var["symbol"].astype(str)),
        obs["assigned_phase"],
        obs["pool"],
        cycle_genes,
        params.phase,
        counts=counts,
        conditions=obs["assigned_condition"],
        seed=context.seed,
    )
    table = phases.table.copy()
    table.loc[(obs["hashtag_kind"] == "doublet").to_numpy(), ["phase", "phase_source"]] = ["", "none"]
    for column in table.columns:
        obs[column] = table[column]
    return phases.record, phases.classifier


def _modality(
    var: pd.DataFrame, obs: pd.DataFrame, counts: sp.csr_matrix, x: sp.csr_matrix | None = None
) -> AnnData:
    from anndata import AnnData

    return AnnData(X=x, obs=obs.copy(), var=var.copy(), layers={"counts": counts})


def _add_uns(
    cells: AnnData, design: Design, record: dict[str, Any], changes: Changes, params: AnnotateParams
) -> None:
    """What readers of the file need to know, in plain types that h5ad keeps."""
    cells.uns["log1p"] = {"target_sum": params.target_sum}
    cells.uns["annotate_json"] = json.dumps(record, sort_keys=True)
    cells.uns["design_yaml"] = design.to_yaml()
    cells.uns["perturbations_json"] = perturbations_json(design)
    cells.uns["phase"] = {key: value for key, value in record["phase"].items() if not isinstance(value, dict | list)}
    cells.uns["top_genes"] = top_genes(changes.de, params.top_genes)
    if len(changes.isoform_usage):
        cells.uns["top_isoforms"] = top_genes(changes.isoform_usage, params.top_genes)
