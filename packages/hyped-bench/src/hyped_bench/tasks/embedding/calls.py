"""What a model is asked for: embeddings of all cells, of perturbed control cells, of random genes in their place."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hyped_bench.tasks.embedding.data import EmbeddingData, Group
from hyped_bench.tasks.embedding.genes import gene_columns, gene_names
from hyped_bench.tasks.embedding.nulls import Draw, Matches, draw_genes, in_place, matched_genes
from hyped_bench.tasks.embedding.params import EmbeddingParams
from hyped_core.context import RunContext
from hyped_core.design.model import CONTROL, Perturbation
from hyped_core.errors import HypedError, PluginError

Rows = npt.NDArray[np.intp]
FEWEST_CELLS = 4
"""A group with fewer cells the model could embed has no halves worth a number."""


@dataclass(slots=True)
class Embedded:
    """What a model gave for one source.

    Attributes
    ----------
    cells : (cells, d) float32 of all cells, rows of NaN where there is none.
    in_silico : perturbation -> (cells, d), the control cells' rows after it, NaN elsewhere.
    pinned : (phase, perturbation) -> (matched cells, d), perturbed cells given the same perturbation in silico.
    usable : group -> rows that have all embeddings they need.
    matched : group -> as many of these rows in each group of a phase.
    null_rows : phase -> the matched control rows the null is computed on.
    null_shifts : (phase, perturbation) -> (draws, d) mean shift of ``null_rows``; absent where a gene has no match.
    draws : the stand-ins of each draw.
    matches, different : of each perturbed gene: its matches, how many different stand-ins it got.
    facts : what the model says of itself.
    """

    cells: npt.NDArray[np.float32]
    in_silico: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    pinned: dict[Group, npt.NDArray[np.float32]] = field(default_factory=dict)
    usable: dict[Group, Rows] = field(default_factory=dict)
    matched: dict[Group, Rows] = field(default_factory=dict)
    null_rows: dict[str, Rows] = field(default_factory=dict)
    null_shifts: dict[Group, npt.NDArray[np.float64]] = field(default_factory=dict)
    draws: list[Draw] = field(default_factory=list)
    matches: dict[str, Matches] = field(default_factory=dict)
    different: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Asker:
    """Calls a model with copies of cells and checks what it returns."""

    def __init__(self, model: Any, data: EmbeddingData, context: RunContext) -> None:
        self.model, self.data, self.context = model, data, context
        self.width: int | None = None
        self.asked: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()

    def fit(self, rows: Rows) -> None:
        """Let the model learn from control cells, where it learns."""
        if hasattr(self.model, "fit"):
            started = time.perf_counter()
            self.model.fit(self.data.cells(rows, perturbation=CONTROL), context=self.context)
            self.seconds["fit"] += time.perf_counter() - started

    def embed(self, rows: Rows) -> npt.NDArray[np.float32]:
        """(rows, d) of cells as they are."""
        return self._checked(lambda cells: self.model.embed(cells, context=self.context), rows, None)

    def perturbed(self, rows: Rows, perturbation: Perturbation, given: str | None = CONTROL) -> npt.NDArray[np.float32]:
        """(rows, d) of cells after ``perturbation``."""
        return self._checked(
            lambda cells: self.model.embed_perturbed(cells, perturbation, context=self.context), rows, given,
            perturbation.name,
        )  # fmt: skip

    def _checked(self, call: Any, rows: Rows, given: str | None, name: str = "") -> npt.NDArray[np.float32]:
        started = time.perf_counter()
        result = call(self.data.cells(rows, perturbation=given))
        kind = "embed_perturbed" if name else "embed"
        self.seconds[kind] += time.perf_counter() - started
        self.asked[kind] += len(rows)
        where = f"{self.data.source.name}/{name or 'cells'}"
        values = checked_embedding(result, len(rows), where, self.width)
        self.width = values.shape[1]
        return values


def checked_embedding(result: Any, n: int, where: str, width: int | None = None) -> npt.NDArray[np.float32]:
    """Embeddings as float32 (n, d), or a `PluginError` that says which rule they break.

    Checked: a floating array with one row a cell, as wide as before, each row finite or NaN throughout.
    """
    values = np.asarray(result)
    if values.ndim != 2 or len(values) != n or values.shape[1] == 0:
        raise PluginError(f"returned an array of shape {values.shape}, expected ({n}, d)", where=where)
    if not np.issubdtype(values.dtype, np.floating):
        raise PluginError(f"returned {values.dtype} values, expected float32", where=where)
    if width is not None and values.shape[1] != width:
        raise PluginError(f"returned vectors of {values.shape[1]} dimensions, {width} before", where=where)
    values = np.ascontiguousarray(values, dtype=np.float32)
    broken = ~np.isfinite(values).all(axis=1) & ~np.isnan(values).all(axis=1)
    if broken.any():
        raise PluginError(
            f"returned NaN or infinite values in {int(broken.sum())} of {n} rows",
            where=where,
            mend="give finite vectors, and a row of NaN throughout for a cell that cannot be embedded",
        )
    return values


def run_source(
    model: Any, data: EmbeddingData, params: EmbeddingParams, context: RunContext
) -> tuple[Embedded, Asker]:
    """Everything the scores of one source need of a model: each cell is embedded once, each null once a draw.

    The model predicts before it is shown a perturbed cell: one that keeps what it has seen gains nothing by it.
    """
    asker = Asker(model, data, context)
    n, control = data.counts.shape[0], data.control_rows()
    asker.fit(control)
    own = asker.embed(control)
    found = Embedded(np.full((n, own.shape[1]), np.nan, dtype=np.float32))
    found.cells[control] = own
    for name, perturbation in data.perturbations.items():
        values = np.full_like(found.cells, np.nan)
        values[control] = asker.perturbed(control, perturbation)
        found.in_silico[name] = values
    perturbed = np.setdiff1d(np.arange(n), control)
    found.cells[perturbed] = asker.embed(perturbed)
    # before perturbed cells and random genes add what the same calls did to them
    found.facts = copy.deepcopy(dict(getattr(model, "facts", None) or {}))
    _choose(found, data, params, context)
    for name, perturbation in data.perturbations.items():
        own = [phase for phase in data.phases if (phase, name) in data.groups]
        parts = [found.matched[phase, name] for phase in own]
        values = asker.perturbed(np.concatenate(parts), perturbation, None)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        found.pinned.update({(phase, name): part for phase, part in zip(own, np.split(values, ends), strict=True)})
    _run_nulls(found, asker, params, context)
    return found, asker


def _choose(found: Embedded, data: EmbeddingData, params: EmbeddingParams, context: RunContext) -> None:
    """The cells that can be used, as many of them in each group of a phase, and those of the null."""
    there = ~np.isnan(found.cells[:, 0])
    before = there.copy()
    for values in found.in_silico.values():
        before &= ~np.isnan(values[:, 0])
    for (phase, name), rows in data.groups.items():
        usable = rows[(before if name == CONTROL else there)[rows]]
        if len(usable) < FEWEST_CELLS:
            raise PluginError(
                f"could embed {len(usable)} of {len(rows)} cells",
                where=f"{data.source.name}/{phase}/{name}",
                mend="check that the model knows the genes of the data (names, gene ids)",
            )
        found.usable[phase, name] = usable
    for phase in data.phases:
        own = {group: rows for group, rows in found.usable.items() if group[0] == phase}
        size = min(map(len, own.values()))
        for group, rows in own.items():
            rng = context.rng("embedding", "matched", data.source.name, *group)
            drawn = rng.permutation(rows)[:size]
            found.matched[group] = np.sort(drawn)
            if group[1] == CONTROL:
                found.null_rows[phase] = np.sort(drawn[: params.null_cells])


def _run_nulls(found: Embedded, asker: Asker, params: EmbeddingParams, context: RunContext) -> None:
    data = asker.data
    columns = {g: gene_columns(data.var, g) for p in data.perturbations.values() for g in p.genes}
    names = gene_names(data.var)
    most = max(2 * params.null_draws, 30)
    found.matches = matched_genes(data.counts[data.control_rows()], columns, most)
    rows = np.concatenate([found.null_rows[phase] for phase in data.phases])
    found.draws, found.different = draw_genes(
        {gene: list(names[match.columns]) for gene, match in found.matches.items()},
        _partners(data.perturbations),
        params.null_draws,
        _probe(asker, rows[:1]),
        context.rng("embedding", "nulls", data.source.name),
    )
    sums: dict[Group, list[npt.NDArray[np.float64]]] = {}
    work = [(draw, name) for draw in found.draws for name in data.perturbations]
    for draw, name in context.progress.track(work, f"embedding, random genes, {data.source.name}"):
        replaced = in_place(data.perturbations[name], draw)
        if replaced is None:
            continue
        shift = asker.perturbed(rows, replaced).astype(np.float64) - found.cells[rows]
        at = 0
        for phase in data.phases:
            part = shift[at : at + len(found.null_rows[phase])]
            at += len(part)
            if (phase, name) in data.groups:
                whole = part[~np.isnan(part[:, 0])]
                sums.setdefault((phase, name), []).append(
                    whole.mean(axis=0) if len(whole) else np.zeros(part.shape[1])
                )
    found.null_shifts = {group: np.array(shifts) for group, shifts in sums.items()}


def _partners(perturbations: Mapping[str, Perturbation]) -> dict[str, set[str]]:
    """Genes that are perturbed together with each gene."""
    partners: dict[str, set[str]] = {}
    for perturbation in perturbations.values():
        for gene in perturbation.genes:
            partners.setdefault(gene, set()).update(set(perturbation.genes) - {gene})
    return partners


def _probe(asker: Asker, row: Rows) -> Any:
    """Whether the model can perturb a gene as the one it stands in for: tried on one cell."""
    directions: dict[str, set[str]] = {}
    for perturbation in asker.data.perturbations.values():
        for change in perturbation.changes:
            directions.setdefault(change.gene, set()).add(change.direction)

    def usable(gene: str, name: str) -> bool:
        try:
            for direction in sorted(directions[gene]):
                asker.perturbed(row, Perturbation.from_name(name, direction))  # type: ignore[arg-type]
        except HypedError:
            return False  # a gene that is not in the model's vocabulary: another takes its place
        return True

    return usable
