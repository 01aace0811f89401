"""Hashtag demultiplexing against known origin: the simulator's truth or genotypes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from hyped_bench.metrics import demultiplex as measure
from hyped_bench.metrics.undefined import mean_defined
from hyped_bench.readers import read_cells, read_table, require_columns
from hyped_bench.tasks.base import Judged, ModelFactory, Scores, Task, TaskParams, check_sources, summary_keys
from hyped_core.context import RunContext
from hyped_core.errors import InvalidDataError, PluginError
from hyped_core.params import Params

KEYS = (
    "accuracy",
    "f_singlet",
    "doublet_recall",
    "doublet_precision",
    "negative_recall",
    "negative_precision",
    "forced_accuracy",
    "called_accuracy",
    "abstained_share",
    "ece",
    "brier",
)
FURTHER = ("forced_call", "doublet_probability", "margin")
"""Columns that a model may add; the record keeps them."""
DRAWS = 200
"""Times the cells of a capture are redrawn for verdicts; captures are too few to draw from."""
KINDS = {"Doublet": "doublet", "Negative": "negative"}


class DemultiplexSource(Params):
    """One capture: hashtag counts of its cells and where each cell came from."""

    name: str
    counts: str
    """.h5ad, container (table ``hto``) or CSV with tags in rows and cells in columns."""
    pool: str | None = None
    """Keep cells of this pool (``obs.pool``)."""
    tags: tuple[str, ...] | None = None
    """Tags in use in this capture; where None those the design gives ``pool``, else those with any count."""
    design: str | None = None
    """Design file; HYPED's own where None. Read only for a source with a ``pool``."""
    truth: str
    """Table (CSV or parquet) with one row a cell."""
    barcode: str = "barcode"
    """Its column that names cells."""
    origin: str = "tags"
    """Its column that says where a cell came from: a sample, several (``A+B``), Doublet or Negative."""
    donors: dict[str, str] = Field(default_factory=dict)
    """Origin -> tag, where the truth has other names than the tags (genotypes)."""
    primary: bool = True


class DemultiplexParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[DemultiplexSource, ...]


class DemultiplexTask(Task):
    """Model: `hyped_core.contracts.Demultiplexer`. Unit of the means: a capture; of intervals: cells."""

    name: ClassVar[str] = "demultiplex"
    Params: ClassVar[type[TaskParams]] = DemultiplexParams
    judged: ClassVar[tuple[Judged, ...]] = (
        Judged("accuracy", "higher", unit_word="pool"),
        Judged("f_singlet", "higher", unit_word="pool"),
        Judged("brier", "lower", unit_word="pool"),
    )

    def __init__(self, params: DemultiplexParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: DemultiplexParams = params
        check_sources([s.name for s in params.sources])
        self.counts: dict[str, Any] = {}

    def inputs(self) -> list[str]:
        """Counts and truth."""
        return [p for s in self.params.sources for p in (s.counts, s.truth)]

    def facts(self) -> dict[str, Any]:
        """Unit of inference."""
        return {"unit": "capture", "interval_unit": "cell"}

    def load(self) -> None:
        """Read the counts of each capture."""
        for source in self.params.sources:
            self.counts[source.name] = _counts(source)

    def run(self, make_model: ModelFactory) -> dict[str, pd.DataFrame]:
        """Call every cell of every capture, each capture on its own."""
        calls = {}
        for source in self.context.progress.track(self.params.sources, "demultiplex"):
            hto = self.counts[source.name]
            result = make_model().assign(hto.copy(), context=self.context)
            calls[source.name] = _checked(result, hto, source.name)
        return calls

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        names = [s.name for s in self.params.sources]
        return [
            *summary_keys(KEYS, names, ("accuracy", "f_singlet")),
            "n_cells",
            *(f"n_cells_{n}" for n in names),
            "n_abstained",
            *(f"n_abstained_{n}" for n in names),
        ]

    def score(self, predictions: dict[str, pd.DataFrame]) -> Scores:
        """Score captures and average; intervals resample cells within captures."""
        rows, tables, details, drawn = [], {}, [], []
        for source in self.params.sources:
            calls = predictions[source.name]
            truth = _truth(source, self.counts[source.name])
            known = calls.loc[truth.index]
            table, names = measure.confusion(known["call"].astype(str).to_numpy(), truth.to_numpy())
            tables[source.name] = (table, names)
            abstained = int((known["kind"] == "negative").sum())
            rows.append(
                {
                    "source": source.name,
                    "n_cells": len(truth),
                    "n_abstained": abstained,
                    **_scores(table, names),
                    "abstained_share": abstained / len(truth),
                    **_of_probabilities(known, truth),
                }
            )
            drawn.append(_drawn(source.name, known, truth))
            details.append(known.assign(source=source.name, truth=truth).rename_axis("cell").reset_index())
            if len(truth) < len(calls):
                self.warnings.append(
                    f"{source.name}: {len(calls) - len(truth)} cells without known origin not scored"
                )
        units = pd.DataFrame(rows)
        primary = [s.name for s in self.params.sources if s.primary]
        chosen = units[units["source"].isin(primary)]
        metrics: dict[str, float | int | None] = {}
        for key in KEYS:
            metrics[key] = mean_defined(chosen[key])
            metrics.update({f"{key}_{r['source']}": r[key] for r in units.to_dict("records")})
        for key in ("n_cells", "n_abstained"):
            metrics[key] = int(chosen[key].sum())
            metrics.update({f"{key}_{r['source']}": int(r[key]) for r in units.to_dict("records")})
        metrics.update(self._intervals(tables, primary))
        confusion = pd.concat([_long(name, *tables[name]) for name in tables], ignore_index=True)
        return Scores(
            metrics,
            {"units": units, "confusion": confusion},
            {"cells": pd.concat(details, ignore_index=True), "draws": pd.concat(drawn, ignore_index=True)},
            list(self.warnings),
        )

    def _intervals(self, tables: dict[str, Any], primary: list[str]) -> dict[str, float | None]:
        rng = self.context.rng("demultiplex", "bootstrap")
        draws: dict[str, list[list[float]]] = {"accuracy": [], "f_singlet": []}
        for name in primary:
            table, names = tables[name]
            again = measure.resampled(table, rng, self.params.bootstrap)
            draws["accuracy"].append([measure.accuracy(t) or 0.0 for t in again])
            draws["f_singlet"].append([measure.f_singlet(t, names) or 0.0 for t in again])
        result: dict[str, float | None] = {}
        for key, values in draws.items():
            low, high = np.quantile(np.mean(values, axis=0), [0.025, 0.975]) if values else (None, None)
            result[f"{key}_lo"], result[f"{key}_hi"] = low, high
        return result


def _scores(table: Any, names: list[str]) -> dict[str, float | None]:
    doublet = measure.recall_precision(table, names, measure.DOUBLET)
    negative = measure.recall_precision(table, names, measure.NEGATIVE)
    return {
        "accuracy": measure.accuracy(table),
        "f_singlet": measure.f_singlet(table, names),
        "doublet_recall": doublet[0],
        "doublet_precision": doublet[1],
        "negative_recall": negative[0],
        "negative_precision": negative[1],
        "called_accuracy": measure.called_accuracy(table, names),
    }


def _of_probabilities(calls: pd.DataFrame, truth: pd.Series) -> dict[str, float | None]:
    """What is measured cell by cell; ``forced_accuracy`` is None where the model names no best tag."""
    right = (calls["call"].astype(str) == truth).to_numpy()
    probability = calls["probability"].to_numpy(dtype=float)
    forced = calls["forced_call"].astype(str).to_numpy() if "forced_call" in calls else None
    return {
        "forced_accuracy": None if forced is None else measure.forced_accuracy(forced, truth.to_numpy()),
        "ece": measure.expected_calibration_error(probability, right),
        "brier": measure.brier(probability, right),
    }


def _drawn(source: str, calls: pd.DataFrame, truth: pd.Series) -> pd.DataFrame:
    """``source``, ``draw`` and scores with the cells redrawn; the same cells for every model, whatever the seed."""
    rng = RunContext(seed=0).rng("demultiplex", "draws", source)
    n = len(truth)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(float)
    call, true = calls["call"].astype(str).to_numpy(), truth.to_numpy().astype(str)
    right = (call == true).astype(float)
    probability = calls["probability"].to_numpy(dtype=float)
    samples = np.array(sorted(set(true) - set(KINDS)), dtype=str)
    is_true, is_called = true[:, None] == samples, call[:, None] == samples
    hits, there = counts @ (is_true & is_called), counts @ is_true
    each = np.where(there > 0, 2 * hits / np.maximum(there + counts @ is_called, 1), 0.0)
    with np.errstate(invalid="ignore"):  # a capture without singlets has no F1
        f_singlet = each.sum(axis=1) / (there > 0).sum(axis=1)
    return pd.DataFrame(
        {
            "source": source, "draw": np.arange(DRAWS), "accuracy": counts @ right / n, "f_singlet": f_singlet,
            "brier": counts @ (probability - right) ** 2 / n,
        }
    )  # fmt: skip


def _long(source: str, table: Any, names: list[str]) -> pd.DataFrame:
    rows, columns = np.nonzero(table)
    labels = np.asarray(names, dtype=object)
    return pd.DataFrame(
        {"source": source, "truth": labels[rows], "call": labels[columns], "n_cells": table[rows, columns]}
    )


def _counts(source: DemultiplexSource) -> Any:
    """Cells x tags of one capture, raw counts as CSR."""
    import anndata
    import scipy.sparse as sp

    if source.counts.endswith(".csv"):
        wide = read_table(source.counts)
        matrix = wide.set_index(wide.columns[0]).T
        values = sp.csr_matrix(matrix.to_numpy(dtype=np.float32))
        hto = anndata.AnnData(
            values,
            obs=pd.DataFrame(index=matrix.index.astype(str)),
            var=pd.DataFrame(index=matrix.columns.astype(str)),
        )
    else:
        hto = read_cells(source.counts, "hto")
        if "counts" in hto.layers:
            hto.X = hto.layers["counts"]
        if source.pool is not None:
            if "pool" not in hto.obs:
                raise InvalidDataError("has no obs column pool", where=source.counts, mend="leave `pool` out")
            hto = hto[hto.obs["pool"].astype(str) == source.pool].copy()
    if hto.n_obs == 0:
        raise InvalidDataError(f"has no cells of pool {source.pool!r}", where=source.counts)
    wanted = list(source.tags) if source.tags is not None else _tags_in_use(source, hto)
    missing = [name for name in wanted if name not in set(hto.var_names)]
    if missing:
        raise InvalidDataError(
            f"has no tags {', '.join(missing)}",
            where=source.counts,
            mend=f"tags there: {', '.join(hto.var_names)}",
        )
    kept = hto[:, wanted].copy()
    return anndata.AnnData(
        sp.csr_matrix(kept.X, dtype=np.float32),
        obs=pd.DataFrame(index=kept.obs_names),
        var=pd.DataFrame(index=kept.var_names),
    )


def _tags_in_use(source: DemultiplexSource, hto: Any) -> list[str]:
    """Tags the design gives this pool, else those with any count."""
    if source.pool is not None:
        from hyped_core.design import read_design

        known = {tag.tag for tag in read_design(source.design).hashtags if tag.pool == source.pool}
        planned = [name for name in hto.var_names if name in known]
        if planned:
            return planned
    total = np.asarray(hto.X.sum(axis=0)).ravel()
    return [name for name, count in zip(hto.var_names, total, strict=True) if count]


def _as_in(cells: pd.Index, names: pd.Series, pool: str | None) -> pd.Series:
    """``names`` as the counts write them: as they are, without 10x's ``-1``, and with the pool in front."""
    short = names.str.replace(r"-\d+$", "", regex=True)
    candidates = [names, short] + ([] if pool is None else [f"{pool}_" + names, f"{pool}_" + short])
    return next((candidate for candidate in candidates if cells.isin(candidate).any()), names)


def _truth(source: DemultiplexSource, hto: Any) -> pd.Series:
    """True call of each cell with a known origin, in the order of the counts."""
    table = read_table(source.truth)
    require_columns(table, [source.barcode, source.origin], source.truth)
    if source.pool is not None and "pool" in table:
        table = table[table["pool"].astype(str) == source.pool]
    origin = table[source.origin].fillna("").astype(str)
    names = table[source.barcode].astype(str)
    names = _as_in(hto.obs_names, names, source.pool)
    call = origin.map(lambda value: _call(value, source.donors))
    truth = pd.Series(call.to_numpy(), index=names.to_numpy())
    if truth.index.has_duplicates:
        raise InvalidDataError(
            "names a cell twice", where=source.truth, mend="give `pool`, or one file a capture"
        )
    strange = sorted(set(truth) - set(hto.var_names) - set(KINDS))
    if strange:
        raise InvalidDataError(
            f"names origins that are no tags: {', '.join(strange[:5])}",
            where=source.truth,
            mend=f"map them in `donors` to the tags {', '.join(hto.var_names)}",
        )
    common = hto.obs_names[hto.obs_names.isin(truth.index)]
    if len(common) == 0:
        raise InvalidDataError(
            "shares no cell with the counts", where=source.truth, mend="check `barcode` and `pool`"
        )
    return truth.loc[common]


def _call(origin: str, donors: dict[str, str]) -> str:
    """The call that is right for an origin."""
    if origin in ("", "Negative", "negative", "none"):
        return measure.NEGATIVE
    if origin in ("Doublet", "doublet") or len(set(origin.split("+"))) > 1:
        return measure.DOUBLET
    return donors.get(origin, origin.split("+")[0])


def _checked(result: Any, hto: Any, where: str) -> pd.DataFrame:
    """Refuse calls that are incomplete, of other cells, or of tags that do not exist."""
    columns = ["call", "kind", "probability", "tags"]
    if not isinstance(result, pd.DataFrame) or not set(columns) <= set(result.columns):
        raise PluginError(f"a demultiplexer returns a DataFrame with {', '.join(columns)}", where=where)
    if not result.index.equals(hto.obs_names):
        raise PluginError("a demultiplexer calls every cell once, in the order given", where=where)
    called = set(result["call"].astype(str))
    strange = sorted(called - set(hto.var_names) - set(KINDS))
    if strange:
        raise PluginError(
            f"calls that are neither a tag nor Doublet nor Negative: {strange[:5]}", where=where
        )
    values = result["probability"].to_numpy(dtype=float)
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or values.max(initial=0) > 1 + 1e-9:
        raise PluginError("probabilities must lie in [0, 1]", where=where)
    forced = set(result["forced_call"].astype(str)) if "forced_call" in result else set()
    strange = sorted(forced - set(hto.var_names) - {""})
    if strange:
        raise PluginError(f"forced calls that are no tag: {strange[:5]}", where=where)
    return result[[*columns, *(name for name in FURTHER if name in result)]]
