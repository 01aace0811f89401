"""Tasks that score what the sequencing steps wrote: hashtag molecules, phases of cells, what changes between them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from hyped_bench.metrics.changes import count_scores, false_share, recall, size_correlation
from hyped_bench.metrics.phases import commonest_accuracy, fraction_error, phase_accuracy
from hyped_bench.readers import existing, read_cells, read_obs, read_table, require_columns
from hyped_bench.tasks.base import Scores, TaskParams, check_sources, summarise, summary_keys
from hyped_bench.tasks.pipeline import PHASE_KEYS, PipelineTask
from hyped_core.design.phases import PHASE_SYSTEMS, coarse_phase
from hyped_core.errors import InvalidDataError
from hyped_core.params import Params

RNA_KEYS = (*PHASE_KEYS, "score_accuracy", "held_out_accuracy", "held_out_score_accuracy", "expected_accuracy")
"""``score_accuracy``: of the gene score's calls of the same cells. ``held_out_...``: share of the sorted cells whose
call, by a classifier that had not seen them or by the gene score, is what they were sorted for; the sorter errs too.
``expected_accuracy``: mean probability of the classifier's calls, ``phase_accuracy`` where it is calibrated."""
COUNT_KEYS = ("count_pearson", "count_ratio", "count_error", "top_tag_agreement")
CHANGE_KEYS = ("de_recall", "de_false_share", "fold_change_pearson", "isoform_recall", "isoform_false_share")


class HashtagCountsSource(Params):
    """One pool's hashtag counts and the molecules there were."""

    name: str
    counts: str
    """.h5ad or container with the table ``hto``."""
    pool: str
    truth: str
    """CSV with tags in rows and barcodes in columns."""
    primary: bool = True


class HashtagCountsParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[HashtagCountsSource, ...]


class HashtagCountsTask(PipelineTask):
    """Hashtag molecules counted from reads against true ones. Unit: a pool."""

    name: ClassVar[str] = "hashtag_counts"
    Params: ClassVar[type[TaskParams]] = HashtagCountsParams

    def __init__(self, params: HashtagCountsParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: HashtagCountsParams = params
        check_sources([s.name for s in params.sources])

    def inputs(self) -> list[str]:
        """Counts and truth."""
        return [p for s in self.params.sources for p in (s.counts, s.truth)]

    def load(self) -> None:
        """Check that every file is there."""
        for path in self.inputs():
            existing(path)

    def facts(self) -> dict[str, Any]:
        """Unit of inference."""
        return {"unit": "pool"}

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        return [*summary_keys(COUNT_KEYS, [s.name for s in self.params.sources]), "n_cells"]

    def score(self, predictions: Any = None) -> Scores:
        """Compare the counts of every cell that both know."""
        rows = []
        for source in self.params.sources:
            hto = read_cells(source.counts, "hto")
            require_columns(hto.obs, ["pool", "barcode"], source.counts)
            member = (hto.obs["pool"].astype(str) == source.pool).to_numpy()
            wide = read_table(source.truth)
            true = wide.set_index(wide.columns[0]).T
            true.columns = true.columns.astype(str)
            tags = [str(tag) for tag in true.columns]
            if not member.any() or not set(tags) <= set(hto.var_names):
                raise InvalidDataError(
                    f"has no cells or not the tags {', '.join(tags)} of pool {source.pool!r}", where=source.counts
                )
            part = hto[member, tags]
            matrix = part.layers["counts"] if "counts" in part.layers else part.X
            found = pd.DataFrame(
                matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix),
                index=part.obs["barcode"].astype(str), columns=tags,
            )  # fmt: skip
            common = found.index[found.index.isin(true.index)]
            if len(common) == 0:
                raise InvalidDataError("shares no barcode with the truth", where=source.counts)
            scores = count_scores(found.loc[common].to_numpy(), true.loc[common, tags].to_numpy())
            rows.append({"source": source.name, **scores, "n_cells": len(common)})
        units = pd.DataFrame(rows)
        names = [s.name for s in self.params.sources]
        metrics, warnings = summarise(units, COUNT_KEYS, names, [s.name for s in self.params.sources if s.primary])
        metrics["n_cells"] = int(units["n_cells"].sum())
        return Scores(metrics, {"units": units}, {}, warnings)


class PhasesRnaSource(Params):
    """Phases called from expression against true phases."""

    name: str
    cells: str
    """Container (table ``rna``) or .h5ad with ``obs.phase``."""
    truth: str
    """Table with ``barcode, pool, phase``; cells of more than one phase (multiplets) are left out."""
    kind: str = "singlet"
    """Keep true cells of this kind (column ``kind`` of the truth, where there is one)."""
    pools: tuple[str, ...] | None = None
    """Keep cells of these pools. Pools sorted by phase say nothing: their phase is read off the hashtag."""
    primary: bool = True


class PhasesRnaParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[PhasesRnaSource, ...]


class PhasesRnaTask(PipelineTask):
    """Phases (system ``rna``) of cells. Unit: a source."""

    name: ClassVar[str] = "phases_rna"
    Params: ClassVar[type[TaskParams]] = PhasesRnaParams

    def __init__(self, params: PhasesRnaParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: PhasesRnaParams = params
        check_sources([s.name for s in params.sources])

    def inputs(self) -> list[str]:
        """Cells and truth."""
        return [p for s in self.params.sources for p in (s.cells, s.truth)]

    def load(self) -> None:
        """Check that every file is there."""
        for path in self.inputs():
            existing(path)

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        return [*summary_keys(RNA_KEYS, [s.name for s in self.params.sources]), "n_cells"]

    def score(self, predictions: Any = None) -> Scores:
        """Compare phases cell by cell and fractions by condition."""
        rows, fractions, confusion = [], [], []
        for source in self.params.sources:
            cells, truth = read_obs(source.cells, "rna"), read_table(source.truth)
            require_columns(cells, ["phase"], source.cells)
            require_columns(truth, ["barcode", "pool", "phase"], source.truth)
            if "kind" in truth:
                truth = truth[truth["kind"].astype(str) == source.kind]
            if source.pools is not None:
                truth = truth[truth["pool"].astype(str).isin(source.pools)]
            truth = truth[truth["phase"].astype(str).isin(PHASE_SYSTEMS["rna"].phases)]
            truth = truth.set_index(truth["pool"].astype(str) + "_" + truth["barcode"].astype(str))
            common = cells.index[cells.index.isin(truth.index)]
            if len(common) == 0:
                raise InvalidDataError("shares no cell with the truth", where=source.cells)
            called = cells.loc[common, "phase"].astype(str).to_numpy()
            true = truth.loc[common, "phase"].astype(str).to_numpy()
            group = truth.loc[common, "condition" if "condition" in truth else "pool"].astype(str).to_numpy()
            error, table = fraction_error(
                pd.DataFrame({"group": group, "phase": called}),
                pd.DataFrame({"group": group, "phase": true}),
                ["group"],
            )
            rows.append(
                {
                    "source": source.name,
                    "phase_accuracy": phase_accuracy(called, true),
                    "coarse_accuracy": phase_accuracy(coarse_phase(called, "rna"), coarse_phase(true, "rna")),
                    "fraction_error": error,
                    "commonest_accuracy": commonest_accuracy(true),
                    **_beside(cells, common, true),
                    "n_cells": len(common),
                }
            )
            fractions.append(table.assign(source=source.name))
            counts = pd.DataFrame({"truth": true, "call": called}).value_counts().rename("n").reset_index()
            confusion.append(counts.sort_values(["truth", "call"]).assign(source=source.name))
        units = pd.DataFrame(rows)
        names = [s.name for s in self.params.sources]
        metrics, warnings = summarise(
            units, RNA_KEYS, names, [s.name for s in self.params.sources if s.primary]
        )
        metrics["n_cells"] = int(units["n_cells"].sum())
        tables = {
            "units": units,
            "fractions": pd.concat(fractions, ignore_index=True),
            "confusion": pd.concat(confusion, ignore_index=True),
        }
        return Scores(metrics, tables, {}, warnings)


class ChangesSource(Params):
    """The tables of contrasts that `hyped seq annotate` wrote, and what was planted."""

    name: str
    cells: str
    """Folder with ``de.csv`` and, where there are transcripts, ``isoform_usage.csv``."""
    genes: str
    """Table with ``symbol, baseline_cp10k, cycle_log2`` and ``log2fc_<condition>``."""
    transcripts: str | None = None
    """Table with ``transcript, symbol`` and ``share_<condition>``."""
    reference: str = "rest"
    """Which contrasts are scored: those whose reference this is. Against ``control`` the pool is in every change."""
    primary: bool = True


class ChangesParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[ChangesSource, ...]
    fdr: float = Field(0.05, gt=0, lt=1)
    """Adjusted p-values below this are calls."""
    min_log2_fold_change: float = Field(0.5, gt=0)
    """Planted changes at least this large have to be found (at activity 1; cells got less and more)."""
    min_cp10k: float = Field(1.0, ge=0)
    """Genes whose higher side is below this are too rare to have to be found."""
    min_share_change: float = Field(0.1, gt=0, le=1)
    """Planted changes of a transcript's share at least this large have to be found."""
    min_molecules: int = Field(100, ge=1)
    """Genes with fewer molecules on a side of a contrast are too rare for a switch to have to be found."""


class ChangesTask(PipelineTask):
    """Differential expression and isoform usage against planted changes. Unit: a source; calls: gene by contrast."""

    name: ClassVar[str] = "changes"
    Params: ClassVar[type[TaskParams]] = ChangesParams

    def __init__(self, params: ChangesParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: ChangesParams = params
        check_sources([s.name for s in params.sources])

    def inputs(self) -> list[str]:
        """Tables and truth."""
        found = [p for s in self.params.sources for p in (f"{s.cells}/de.csv", s.genes)]
        return found + [
            p for s in self.params.sources if s.transcripts for p in (f"{s.cells}/isoform_usage.csv", s.transcripts)
        ]

    def load(self) -> None:
        """Check that every file is there."""
        for path in self.inputs():
            existing(path)

    def facts(self) -> dict[str, Any]:
        """Unit of inference."""
        return {"unit": "source", "calls": "gene by contrast"}

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        keys = summary_keys(CHANGE_KEYS, [s.name for s in self.params.sources])
        return [*keys, "n_planted_genes", "n_planted_switches"]

    def score(self, predictions: Any = None) -> Scores:
        """Compare the calls over all cells (not within a phase) with what was planted."""
        rows, tables = [], {}
        for source in self.params.sources:
            genes = self._genes(source)
            row = {
                "source": source.name,
                "de_recall": recall(genes["called"], genes["planted"]),
                "de_false_share": false_share(genes["p_adjusted"] < self.params.fdr, genes["null"]),
                "fold_change_pearson": size_correlation(
                    genes.loc[genes["planted"], "log2_fold_change"], genes.loc[genes["planted"], "true_log2fc"]
                ),
                "n_planted_genes": int(genes["planted"].sum()),
                "isoform_recall": None, "isoform_false_share": None, "n_planted_switches": 0,
            }  # fmt: skip
            tables[f"genes_{source.name}"] = genes
            if source.transcripts:
                usage = self._isoforms(source)
                called = usage["p_adjusted"] < self.params.fdr
                row |= {
                    "isoform_recall": recall(called, usage["planted"]),
                    "isoform_false_share": false_share(called, usage["null"]),
                    "n_planted_switches": int(usage["planted"].sum()),
                }
                tables[f"isoforms_{source.name}"] = usage
            rows.append(row)
        units = pd.DataFrame(rows)
        names = [s.name for s in self.params.sources]
        metrics, warnings = summarise(units, CHANGE_KEYS, names, [s.name for s in self.params.sources if s.primary])
        for key in ("n_planted_genes", "n_planted_switches"):
            metrics[key] = int(units[key].sum())
        return Scores(metrics, {"units": units, **tables}, {}, warnings)

    def _genes(self, source: ChangesSource) -> pd.DataFrame:
        """Gene by contrast: what was found, what was planted, and whether anything was."""
        found = self._contrasts(f"{source.cells}/de.csv", source, ["gene", "log2_fold_change", "p_adjusted"])
        truth = read_table(source.genes).set_index("symbol")
        parts = []
        for group, rows in found.groupby("group", sort=True):
            sides = self._sides(str(group), source, found)
            known = rows[rows["gene"].astype(str).isin(truth.index)]
            planted = truth.loc[known["gene"].astype(str)]
            side = {name: np.mean([_planted(planted, c) for c in sides[name]], axis=0) for name in sides}
            change = np.log2(side["group"] / side["reference"])
            touched = np.any([_planted(planted, c) != 1 for c in (*sides["group"], *sides["reference"])], axis=0)
            highest = planted["baseline_cp10k"].to_numpy(float) * np.maximum(side["group"], side["reference"])
            due = (np.abs(change) >= self.params.min_log2_fold_change) & (highest >= self.params.min_cp10k)
            right = np.sign(known["log2_fold_change"].to_numpy(float)) == np.sign(change)
            parts.append(
                known[["contrast", "gene", "log2_fold_change", "p_adjusted"]].assign(
                    true_log2fc=change, planted=due, null=~touched & (planted["cycle_log2"].to_numpy(float) == 0),
                    called=(known["p_adjusted"].to_numpy(float) < self.params.fdr) & right,
                )
            )  # fmt: skip
        return pd.concat(parts, ignore_index=True)

    def _isoforms(self, source: ChangesSource) -> pd.DataFrame:
        """Gene by contrast: the adjusted p-value of its isoform usage, and the largest planted change of a share."""
        path = f"{source.cells}/isoform_usage.csv"
        sides_of = ["molecules_group", "molecules_reference"]
        found = self._contrasts(path, source, ["gene", "p_adjusted", *sides_of])
        truth = read_table(source.transcripts)  # type: ignore[arg-type]
        parts = []
        for group, rows in found.groupby("group", sort=True):
            sides = self._sides(str(group), source, found)
            share = {name: np.mean([truth[f"share_{c}"] for c in sides[name]], axis=0) for name in sides}
            apart = pd.Series(np.abs(share["group"] - share["reference"])).groupby(truth["symbol"].to_numpy()).max()
            size = rows["gene"].astype(str).map(apart)
            enough = rows[sides_of].min(axis=1) >= self.params.min_molecules
            parts.append(
                rows[["contrast", "gene", "p_adjusted", *sides_of]].assign(
                    true_share_change=size, planted=(size >= self.params.min_share_change) & enough, null=size < 1e-9
                )
            )
        return pd.concat(parts, ignore_index=True)

    def _contrasts(self, path: str, source: ChangesSource, columns: list[str]) -> pd.DataFrame:
        """Rows of the wanted contrasts over all phases."""
        table = read_table(path)
        require_columns(table, ["contrast", "group", "reference", "phase", *columns], path)
        chosen = table[(table["reference"].astype(str) == source.reference) & (table["phase"].astype(str) == "all")]
        if chosen.empty:
            raise InvalidDataError(f"has no contrast against {source.reference!r}", where=path)
        return chosen

    @staticmethod
    def _sides(group: str, source: ChangesSource, found: pd.DataFrame) -> dict[str, list[str]]:
        """Conditions on the two sides of a contrast."""
        rest = sorted(set(found["group"].astype(str)) - {group})
        return {"group": [group], "reference": rest if source.reference == "rest" else [source.reference]}


def _planted(truth: pd.DataFrame, condition: str) -> np.ndarray:
    """(genes,) fold change planted in a condition; 1 for one without a column (control)."""
    column = f"log2fc_{condition}"
    return 2.0 ** truth[column].to_numpy(float) if column in truth else np.ones(len(truth))


def _beside(cells: pd.DataFrame, scored: pd.Index, true: npt.NDArray) -> dict[str, float | None]:
    """What the gene score says of the scored cells, and how both do on sorted cells; None without the columns."""
    found: dict[str, float | None] = dict.fromkeys(RNA_KEYS[len(PHASE_KEYS) :])
    if "phase_score" in cells:
        found["score_accuracy"] = phase_accuracy(cells.loc[scored, "phase_score"].astype(str), true)
    if "phase_probability" in cells:
        found["expected_accuracy"] = float(cells.loc[scored, "phase_probability"].astype(float).mean())
    if {"phase_source", "assigned_phase"} <= set(cells.columns):
        own = cells[cells["phase_source"].astype(str) == "sorted"]
        for key, column in (("held_out_accuracy", "phase_classifier"), ("held_out_score_accuracy", "phase_score")):
            if column in own and len(own) and (own[column].astype(str) != "").any():
                found[key] = phase_accuracy(own[column].astype(str), own["assigned_phase"].astype(str))
    return found
