"""The task itself: lets a model embed measured and in-silico perturbed cells, and scores every condition by phase."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from hyped_bench.metrics import embedding as measure
from hyped_bench.tasks.base import (
    Judged,
    ModelFactory,
    Scores,
    Task,
    TaskParams,
    check_sources,
    summarise,
    summary_keys,
)
from hyped_bench.tasks.embedding.calls import Embedded, run_source
from hyped_bench.tasks.embedding.data import EmbeddingData, load_source
from hyped_bench.tasks.embedding.params import EmbeddingParams
from hyped_bench.tasks.embedding.scoring import (
    INTERVALS,
    KEYS,
    NULLS,
    PhaseScores,
    Unit,
    group_means,
    null_rows,
    unit_row,
)

COUNTS = ("units", "undefined", "dropped")
WITHIN = (
    "intervals are over cells within groups (there are no replicate wells): they say how sure these cells make the "
    "number, not what another experiment would give"
)
DIRECT = (
    "cosine_shift also credits the perturbed genes' own change, which the perturbation sets; cosine_shift_indirect is "
    "against the change that is left when these genes are set alike in perturbed and control cells"
)


class EmbeddingTask(Task):
    """Model: `hyped_core.contracts.CellEmbedder`. Unit: a perturbation in a phase."""

    name: ClassVar[str] = "embedding"
    Params: ClassVar[type[TaskParams]] = EmbeddingParams
    judged: ClassVar[tuple[Judged, ...]] = tuple(
        Judged(metric, "higher", nothing, ceiling="half", unit=("perturbation",), unit_word="perturbation")
        for metric, nothing in (("cosine_shift_conditions", "null"), ("cosine_shift", "null"), ("cosine", "no_change"))
    )

    def __init__(self, params: EmbeddingParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: EmbeddingParams = params
        check_sources([s.name for s in params.sources])
        self.data: dict[str, EmbeddingData] = {}
        self.found: dict[str, Embedded] = {}
        """What the model gave in the last run."""
        self.timing: dict[str, float] = {}
        """Cells embedded and seconds of the model's own calls in the last run; no part of the scores."""

    def inputs(self) -> list[str]:
        """Cells, and designs where they are files."""
        return [p for s in self.params.sources for p in (s.cells, s.design) if p]

    def facts(self) -> dict[str, Any]:
        """Sizes of groups, genes of the nulls, and what the model says of itself."""
        return {
            "unit": "perturbation in a phase; cells within it are resampled",
            "confounded": {name: data.confounded for name, data in sorted(self.data.items())},
            "null_draws": self.params.null_draws,
            "groups": {name: self._group_facts(data) for name, data in sorted(self.data.items())},
            "nulls": {name: _null_facts(found) for name, found in sorted(self.found.items())},
            "model": {name: found.facts for name, found in sorted(self.found.items()) if found.facts},
        }

    def _group_facts(self, data: EmbeddingData) -> dict[str, Any]:
        found = self.found.get(data.source.name)
        facts: dict[str, Any] = {}
        for (phase, name), rows in data.groups.items():
            own = {"cells": len(rows)}
            if found is not None and (phase, name) in found.usable:
                own["dropped"] = len(rows) - len(found.usable[phase, name])
                own["matched"] = len(found.matched[phase, name])
            facts.setdefault(phase, {})[name] = own
        return facts

    def load(self) -> None:
        """Read every source and group its cells."""
        for source in self.params.sources:
            data = load_source(source, self.context.rng("embedding", "cells", source.name))
            self.data[source.name] = data
            self.warnings += data.remarks

    def run(self, make_model: ModelFactory) -> dict[str, Embedded]:
        """Let a fresh model a source learn from control cells, and ask it for all embeddings."""
        self.found, self.timing = {}, {}
        results: dict[str, Embedded] = {}
        timing: dict[str, float] = {}
        for name, data in self.data.items():
            results[name], asker = run_source(make_model(), data, self.params, self.context)
            for kind, count in asker.asked.items():
                timing[f"cells_{kind}"] = timing.get(f"cells_{kind}", 0) + count
            for kind, seconds in asker.seconds.items():
                timing[f"{kind}_s"] = timing.get(f"{kind}_s", 0.0) + seconds
        self.found, self.timing = results, timing
        return results

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        names = [s.name for s in self.params.sources if s.suffix]
        counts = [f"n_{what}{end}" for what in COUNTS for end in ("", *(f"_{n}" for n in names))]
        return summary_keys(KEYS, names, INTERVALS) + counts

    def score(self, predictions: dict[str, Embedded]) -> Scores:
        """Score every perturbation in every phase."""
        rows, nulls, details = [], [], []
        units: dict[str, list[Unit]] = {}
        for name, data in self.data.items():
            found = predictions[name]
            units[name] = [
                unit
                for phase in data.phases
                for unit in PhaseScores(data, found, phase, self.params, self.context).run()
            ]
            order = list(data.perturbations)
            units[name].sort(key=lambda unit: order.index(unit.name))  # stable: phases stay in their order
            rows += [unit_row(data, found, unit) for unit in units[name]]
            nulls += [row for unit in units[name] for row in null_rows(data, found, unit)]
            details.append(group_means(data, found))
        table = pd.DataFrame(rows).astype(dict.fromkeys(KEYS, float))
        metrics, said = self._summary(table, units)
        dropped = {name: _dropped(self.data[name], predictions[name]) for name in self.data}
        named = [s.name for s in self.params.sources if s.suffix]
        primary = [s.name for s in self.params.sources if s.primary]
        for end, chosen in (("", primary), *((f"_{name}", [name]) for name in named)):
            own = table[table["source"].isin(chosen)]
            metrics[f"n_units{end}"] = len(own)
            metrics[f"n_undefined{end}"] = int(own["undefined"].sum())
            metrics[f"n_dropped{end}"] = sum(dropped[name] for name in chosen)
        return Scores(
            metrics,
            {"units": table, "nulls": pd.DataFrame(nulls)},
            {"means": pd.concat(details, ignore_index=True)},
            [*dict.fromkeys(self.warnings), *self._remarks(table, predictions, dropped), *said],
        )

    def _summary(
        self, table: pd.DataFrame, units: dict[str, list[Unit]]
    ) -> tuple[dict[str, float | int | None], list[str]]:
        """Means over units; p-values and intervals of these means, not means of p-values and intervals."""
        named = [s.name for s in self.params.sources if s.suffix]
        primary = [s.name for s in self.params.sources if s.primary]
        metrics, said = summarise(table, KEYS, named, primary)
        said = [line for line in said if not line.startswith("null_p")]
        for end, chosen in (("", primary), *((f"_{name}", [name]) for name in named)):
            own = [unit for name in chosen for unit in units[name]]
            for key, of in NULLS.items():
                metrics[f"{key}{end}"] = _joint_p(own, of)
        own = [unit for name in primary for unit in units[name]]
        for key in INTERVALS:
            whole = bool(own) and all(key in unit.draws for unit in own)
            draws = np.mean([unit.draws[key] for unit in own], axis=0) if whole else ()
            edge = 2.0 if key == "cosine_gain" else 1.0
            metrics[f"{key}_lo"], metrics[f"{key}_hi"] = measure.centred_interval(
                metrics[key], draws, lowest=-edge, highest=edge
            )
        return metrics, said

    def _remarks(
        self, table: pd.DataFrame, predictions: dict[str, Embedded], dropped: dict[str, int]
    ) -> list[str]:
        remarks = [WITHIN, DIRECT]
        for name, data in self.data.items():
            if data.confounded:
                remarks.append(
                    f"{name}: no pool holds both control and perturbed cells: changes from control hold the pool's "
                    "effect; cosine_shift_conditions is free of it"
                )
            if dropped[name]:
                remarks.append(f"{name}: {dropped[name]} cells could not be embedded and were left out")
            found = predictions[name]
            for gene, count in found.different.items():
                match = found.matches[gene]
                if not any(gene in draw for draw in found.draws):
                    remarks.append(
                        f"{name}: {gene} cannot be matched for expression ({count} genes near a mean of "
                        f"{match.mean:.3g} in 10,000 and a detection of {match.detection:.2f}): no null for it"
                    )
                elif count < self.params.null_draws:
                    remarks.append(
                        f"{name}: {gene} has {count} genes matched for expression, fewer than the "
                        f"{self.params.null_draws} draws: some draws repeat them"
                    )
        undefined = int(table["undefined"].sum())
        if undefined:
            remarks.append(
                f"{undefined} values are undefined (a predicted change of zero, or a constant vector): 0 was stated, "
                "and a p-value of 1"
            )
        return remarks


def _joint_p(units: list[Unit], key: str) -> float | None:
    """p of the mean over units: draw k stands for the same genes in all units of a source. None if one has no null."""
    if not units or any(key not in unit.null for unit in units):
        return None
    if all(unit.real[key] is None for unit in units):
        return 1.0
    real = float(np.mean([unit.real[key] or 0.0 for unit in units]))
    return measure.empirical_p(real, np.mean([unit.null[key] for unit in units], axis=0))


def _dropped(data: EmbeddingData, found: Embedded) -> int:
    return sum(len(rows) - len(found.usable[group]) for group, rows in data.groups.items())


def _null_facts(found: Embedded) -> dict[str, Any]:
    return {
        gene: {
            "mean_counts_per_10000": match.mean,
            "detection": match.detection,
            "matches": len(match.columns),
            "drawn": [draw[gene] for draw in found.draws if gene in draw],
        }
        for gene, match in found.matches.items()
    }
