"""Cells of the expression task: read once, brought to one form, and cut into what a model may see."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_bench.readers import dense, read_cells
from hyped_bench.splits import Fold, FoldCells, LeakError, check_no_leak, fold_cells, make_folds, split_record
from hyped_bench.splits.source import source_cells
from hyped_bench.tasks.expression.contexts import mixed_contexts
from hyped_bench.tasks.expression.names import canonical_names
from hyped_bench.tasks.expression.params import RELABELLED, ExpressionSource
from hyped_bench.tasks.expression.predicted import Key, redraw
from hyped_bench.tasks.expression.scale import check_cells, normalised
from hyped_core.design.model import CONTROL, Perturbation
from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    from anndata import AnnData

MIN_UNITS = 8
"""With fewer scored perturbations there is no interval over perturbations."""


@dataclass(slots=True)
class ExpressionData:
    """Cells of one source in one form.

    Attributes
    ----------
    x : (cells, genes) float32, ln(1 + counts per 10,000).
    labels : perturbation of each cell, ``control`` for control.
    perturbations : name -> typed perturbation.
    remarks : what cannot be scored, and why.
    """

    source: ExpressionSource
    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.object_]
    phase: npt.NDArray[np.object_]
    pool: npt.NDArray[np.object_]
    replicate: npt.NDArray[np.object_]
    obs_names: npt.NDArray[np.object_]
    genes: npt.NDArray[np.object_]
    perturbations: dict[str, Perturbation]
    folds: list[Fold] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    known: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What scoring has worked out of the truth, for the next model."""

    @property
    def relabelled(self) -> bool:
        """True where models see control cells only, labelled as every condition."""
        return self.source.protocol == RELABELLED

    @property
    def confounded(self) -> bool:
        """True where no pool holds both control and perturbed cells (and pools of both are known)."""
        control = self.labels == CONTROL
        ours, theirs = (set(self.pool[rows]) - {""} for rows in (control, ~control))
        return bool(ours and theirs) and not ours & theirs

    @property
    def few(self) -> bool:
        """True where too few perturbations are scored to say anything of others: cells are the unit of inference."""
        return len(self.scored) < MIN_UNITS

    @property
    def scored(self) -> list[str]:
        """Perturbations that are scored, each once: repeats of one (in several phases) say nothing of others."""
        return sorted({name for fold in self.folds for name in fold.test})

    def keys(self, fold: Fold | None = None) -> list[Key]:
        """Units that are scored, of a fold or of all."""
        folds = self.folds if fold is None else [fold]
        return [(self.source.name, one.name, name) for one in folds for name in one.test]

    def folds_alike(self) -> list[list[Fold]]:
        """Folds whose scored perturbations are measured from the same control cells, and so compare."""
        held = dict.fromkeys(fold.held for fold in self.folds)
        return [[fold for fold in self.folds if fold.held == one] for one in held]

    def parts(self, fold: Fold) -> FoldCells:
        """Row numbers of what a fold shows, scores and starts from."""
        return self.remember(("parts", fold.name), lambda: fold_cells(fold, self.cells()))

    def cells(self) -> pd.DataFrame:
        """What splits are made on: perturbation, phase and replicate of each cell, by its name."""
        columns = {"perturbation": self.labels, "phase": self.phase, "replicate": self.replicate}
        return pd.DataFrame(columns, index=pd.Index(self.obs_names))

    def rows(self, name: str, fold: Fold | None = None) -> npt.NDArray[np.intp]:
        """Row numbers of a perturbation's cells; of those a fold scores (of control: starts from) where it is given."""
        if fold is None or fold.held is None:
            return np.flatnonzero(self.labels == name)
        parts = self.parts(fold)
        if name == CONTROL:
            return parts.control
        column, value = fold.held
        held = self.phase if column == "phase" else self.replicate
        return np.flatnonzero((self.labels == name) & (held == value))

    def mean(self, name: str, fold: Fold | None = None) -> npt.NDArray[np.float64]:
        """Mean expression of a perturbation's cells (see `rows`)."""
        held = None if fold is None else fold.held
        rows = self.rows
        return self.remember(("mean", name, held), lambda: self.x[rows(name, fold)].mean(axis=0, dtype=np.float64))

    def trained_mean(self, fold: Fold, name: str) -> npt.NDArray[np.float64]:
        """Mean over the training perturbations, which changes of a scored perturbation can be measured from.

        Under ``relabelled_control``, where models see none: mean over the true means of the other conditions (control
        where there is no other), as where each condition is held out by itself. No model is shown it.
        """
        if not fold.train:
            others = tuple(other for other in fold.test if other != name) or (CONTROL,)
            return np.mean([self.mean(other, fold) for other in others], axis=0)
        return self.remember(("trained", fold.name), lambda: self._trained_mean(fold))

    def _trained_mean(self, fold: Fold) -> npt.NDArray[np.float64]:
        if fold.held is None:
            return np.mean([self.mean(name) for name in fold.train], axis=0)
        rows = self.parts(fold).train
        parts = [self.x[rows[self.labels[rows] == name]] for name in fold.train]
        return np.mean([part.mean(axis=0, dtype=np.float64) for part in parts], axis=0)

    def redrawn_control(self, fold: Fold) -> npt.NDArray[np.float64]:
        """Means (draws, genes) of the control cells of a fold redrawn with replacement."""
        rows = self.rows(CONTROL, fold)
        return self.remember(("redrawn control", fold.held), lambda: redraw(self.x[rows], self.source.name, CONTROL))

    def changed_genes(self, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Mask (perturbations, genes) of the genes each perturbation targets."""
        return np.array([np.isin(self.genes, self.perturbations[name].genes) for name in names])

    def remember(self, what: Any, work: Callable[[], Any]) -> Any:
        """What ``work`` gives, worked out once: it has to depend on the cells and on ``what`` alone."""
        if what not in self.known:
            self.known[what] = work()
        return self.known[what]

    def visible(self, fold: Fold) -> AnnData:
        """What a model may see in a fold, as copies: control cells, and those of its training perturbations.

        Under ``relabelled_control`` control cells alone: as they are, and once more for every scored condition
        with that condition's label (named ``CONDITION/CELL``).
        """
        if not self.relabelled:
            return self._anndata(self.seen(fold), (CONTROL, *fold.train))
        control = self.rows(CONTROL)
        names = (CONTROL, *fold.test)
        rows = np.tile(control, len(names))
        prefix = np.repeat(np.array(["", *(f"{name}/" for name in fold.test)], dtype=object), len(control))
        labels = np.repeat(np.array(names, dtype=object), len(control))
        return self._anndata(rows, names, labels, prefix + self.obs_names[rows])

    def seen(self, fold: Fold) -> npt.NDArray[np.intp]:
        """Row numbers of the cells a model learns from."""
        return self.parts(fold).train

    def seen_in(self, folds: Sequence[Fold]) -> npt.NDArray[np.intp]:
        """Row numbers of the cells a model learns from in at least one of the folds, which hold out perturbations."""
        return np.flatnonzero(np.isin(self.labels, sorted({CONTROL, *(n for fold in folds for n in fold.train)})))

    def validation(self, fold: Fold) -> AnnData | None:
        """Copies of control cells and of the fold's validation perturbations; None where it has none."""
        if not fold.validation:
            return None
        rows = np.sort(np.concatenate([self.rows(CONTROL), self.parts(fold).validation]))
        return self._anndata(rows, (CONTROL, *fold.validation))

    def check_leaks(self, fold: Fold) -> None:
        """Raise a `hyped_bench.splits.LeakError` where what a model gets in a fold holds a cell it is scored on."""

        def check() -> None:
            self._check_names(fold)
            test = self._anndata(self.parts(fold).test, (CONTROL, *fold.test))
            seen = {"visible": self.visible(fold), "validation": self.validation(fold), "control": self.control(fold)}
            check_no_leak(fold, seen, test, relabelled=self.relabelled)

        self.remember(("leaks", fold.name), check)

    def _check_names(self, fold: Fold) -> None:
        """Two names of one perturbation must not stand on both sides: labels and cells would not tell."""
        if self.relabelled or fold.held is not None:
            return
        seen = {self._changes(name): name for name in (*fold.train, *fold.validation)}
        if twice := [(name, seen[self._changes(name)]) for name in fold.test if self._changes(name) in seen]:
            name, other = twice[0]
            raise LeakError(
                f"{len(twice)} scored perturbations are learned from under another name ({name} as {other})",
                where=f"{self.source.name}: fold {fold.name}",
                mend="give cells in which the same genes are changed one name",
            )

    def _changes(self, name: str) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((change.gene, change.direction) for change in self.perturbations[name].changes))

    def split_record(self) -> dict[str, Any]:
        """The split as saved."""
        return split_record(self.folds, self.source.held_out, RELABELLED if self.relabelled else None)

    def control(self, fold: Fold | None = None) -> AnnData:
        """The control cells a model starts from (a copy)."""
        return self._anndata(self.rows(CONTROL, fold), (CONTROL,))

    def made_of(
        self, values: npt.NDArray, fold: Fold, name: str
    ) -> tuple[npt.NDArray[np.intp] | None, tuple[str, ...]]:
        """Rows of the control cells that predicted cells were made of, and the name of their draw.

        A model that gives as many cells as it was given control cells gives one for each; of another number of cells
        nothing is known.
        """
        control = self.rows(CONTROL, fold)
        if len(values) == len(control):
            return control, (self.source.name, CONTROL)
        return None, (self.source.name, name, "predicted")

    def asked_genes(self) -> list[str]:
        """Every gene that some perturbation of the source changes, held-out ones included: names, nothing measured."""
        return sorted({gene for name in set(self.labels) for gene in self.perturbations[name].genes})

    def _anndata(
        self,
        rows: npt.NDArray[np.intp],
        names: tuple[str, ...],
        labels: npt.NDArray[np.object_] | None = None,
        obs_names: npt.NDArray[np.object_] | None = None,
    ) -> AnnData:
        """Copies of cells, under their own labels and names where no others are given."""
        import anndata

        obs = pd.DataFrame(
            {
                "perturbation": self.labels[rows] if labels is None else labels,
                "phase": self.phase[rows],
                "pool": self.pool[rows],
            },
            index=self.obs_names[rows] if obs_names is None else obs_names,
        )
        if (self.replicate != "").any():
            obs["replicate"] = self.replicate[rows]
        known = {n: self.perturbations[n].model_dump(mode="json") for n in sorted(names)}
        return anndata.AnnData(
            self.x[rows].copy(),
            obs=obs,
            var=pd.DataFrame(index=self.genes.copy()),
            uns={"perturbations": known, "asked_genes": self.asked_genes()},
        )


def load_source(source: ExpressionSource, rng: np.random.Generator) -> ExpressionData:
    """Read a source, choose genes and cells, and make its folds."""
    cells = read_cells(source.cells, "rna")
    keep = np.ones(cells.n_obs, dtype=bool)
    for column, value in source.where.items():
        if column not in cells.obs:
            raise InvalidDataError(
                f"has no obs column {column!r}", where=source.cells, mend="correct `where`"
            )
        keep &= (cells.obs[column].astype(str) == value).to_numpy()
    if source.kind == "conditions":
        labels, known, kept = condition_labels(cells.obs, source)
        keep &= kept
    else:
        labels, known = screen_labels(cells, source)
        unknown = cells.obs[source.perturbation].isna().to_numpy()
        keep &= ~unknown
    _check_cell_names(cells.obs_names[keep], source)
    rows = subsample(labels, keep, source.max_cells, rng)
    x = dense(cells.X[rows])
    x = normalised(x, source.cells) if source.counts else x
    check_cells(x, source)
    names = np.asarray(cells.var_names, dtype=object)
    if len(set(names)) != len(names):
        raise InvalidDataError("has duplicate gene names", where=source.cells, mend="make var_names unique")
    chosen = _genes(x, names, labels[rows], known, source)
    data = ExpressionData(
        source=source,
        x=np.ascontiguousarray(x[:, chosen]),
        labels=labels[rows],
        phase=obs_column(cells.obs, "phase")[rows],
        pool=obs_column(cells.obs, "pool")[rows],
        replicate=obs_column(cells.obs, "replicate")[rows],
        obs_names=np.asarray(cells.obs_names, dtype=object)[rows],
        genes=names[chosen],
        perturbations=known,
    )
    if len(rows) < (kept := int(keep.sum())):
        data.remarks.append(
            f"{source.name}: {len(rows)} of {kept} cells are used, at most {source.max_cells} of a perturbation and of "
            "control (max_cells)"
        )
    if source.kind == "screen":
        mixed = mixed_contexts(cells.obs, keep & (labels == CONTROL), keep & (labels != CONTROL))
        data.remarks += [f"{source.name}: {line}" for line in mixed]
    if source.kind == "screen" and (missing := int(unknown.sum())):
        data.remarks.append(f"{source.name}: {missing} cells without a perturbation: neither learned from nor scored")
    if CONTROL not in set(data.labels):
        raise InvalidDataError("has no control cells", where=source.cells, mend="name them 'control'")
    present = sorted(set(data.labels))
    if source.kind == "conditions" and (without := sorted(set(known) - set(present))):
        data.remarks.append(f"{source.name}: no cells of {', '.join(without)}: neither learned from nor scored")
    if data.relabelled:
        data.folds = [_relabelled_fold(present, source)]
    else:
        every = source_cells(source) if source.held_out.kind == "saved" else data.cells()
        data.folds = make_folds(present, source.held_out, every)
        data.folds = _with_enough_cells(data)
    return data


def _check_cell_names(names: pd.Index, source: ExpressionSource) -> None:
    if not names.is_unique:
        raise InvalidDataError(
            f"{int(names.duplicated().sum())} cells have the name of another ({names[names.duplicated()][0]})",
            where=source.cells,
            mend="make obs_names unique: what a model may see is told by them",
        )


def _with_enough_cells(data: ExpressionData) -> list[Fold]:
    """Folds without the perturbations that have too few cells in the held-out phase or replicate to be scored by."""
    least, folds, left_out = data.source.min_cells, [], []
    for fold in data.folds:
        if fold.held is None:
            folds.append(fold)
            continue
        few = [name for name in fold.test if len(data.rows(name, fold)) < least]
        left_out += [f"{name} in {fold.name}" for name in few]
        if test := tuple(name for name in fold.test if name not in few):
            folds.append(replace(fold, test=test))
    if not folds:
        raise InvalidDataError(
            f"no perturbation has {least} cells in a held-out phase or replicate: there is nothing to score",
            where=data.source.cells,
            mend="set `min_cells` lower, or use another kind of split",
        )
    if left_out:
        more = f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""
        data.remarks.append(
            f"{data.source.name}: fewer than {least} cells (min_cells), not scored: {', '.join(left_out[:10])}{more}"
        )
    return folds


def _relabelled_fold(names: list[str], source: ExpressionSource) -> Fold:
    scored = tuple(name for name in names if name != CONTROL)
    if not scored:
        raise InvalidDataError("has no perturbed cells to score", where=source.cells)
    return Fold(RELABELLED, (), scored)


def obs_column(obs: pd.DataFrame, name: str) -> npt.NDArray[np.object_]:
    """A column of ``obs`` as text; empty text where it, or a cell's value in it, is absent."""
    if name not in obs:
        return np.full(len(obs), "", dtype=object)
    text = obs[name].astype(str).to_numpy(dtype=object, copy=True)
    text[obs[name].isna().to_numpy()] = ""
    return text


def screen_labels(cells: Any, source: ExpressionSource) -> tuple[npt.NDArray[np.object_], dict[str, Perturbation]]:
    """Perturbation of each cell of a screen, and what each name stands for."""
    if source.perturbation not in cells.obs:
        raise InvalidDataError(
            f"has no obs column {source.perturbation!r}",
            where=source.cells,
            mend=f"columns there: {', '.join(map(str, cells.obs.columns))}",
        )
    raw = cells.obs[source.perturbation].astype(str).to_numpy(dtype=object)
    canonical = canonical_names(raw)
    stored = json.loads(cells.uns["perturbations_json"]) if "perturbations_json" in cells.uns else {}
    known = {}
    for original, name in canonical.items():
        given = stored.get(name) or stored.get(original)
        if given:
            known[name] = Perturbation.model_validate(given).model_copy(update={"name": name})
        else:
            known[name] = Perturbation.from_name(name, source.direction)
    known.setdefault(CONTROL, Perturbation(name=CONTROL))
    return np.array([canonical[name] for name in raw], dtype=object), known


def condition_labels(
    obs: pd.DataFrame, source: ExpressionSource
) -> tuple[npt.NDArray[np.object_], dict[str, Perturbation], npt.NDArray[np.bool_]]:
    """Conditions as perturbations; doublets, negatives and cells without a condition are left out."""
    from hyped_core.design import read_design

    column = next((c for c in ("assigned_condition", "condition") if c in obs), None)
    if column is None:
        raise InvalidDataError(
            "has no obs column condition", where=source.cells, mend="run `hyped seq annotate`"
        )
    names = {}
    known = {CONTROL: Perturbation(name=CONTROL)}
    for condition in read_design(source.design).conditions:
        name = "+".join(change.gene for change in condition.perturbation) or CONTROL
        names[condition.name] = name
        known[name] = Perturbation(name=name, changes=condition.perturbation)
    labels = obs[column].astype(str).map(lambda value: names.get(value, "")).to_numpy(dtype=object)
    keep = labels != ""
    if "hashtag_kind" in obs:
        keep &= (obs["hashtag_kind"].astype(str) == "singlet").to_numpy()
    if not keep.any():
        raise InvalidDataError(
            "no cell has a condition of the design", where=source.cells, mend="check the design"
        )
    return labels, known, keep


def subsample(
    labels: npt.NDArray, keep: npt.NDArray, limit: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Rows with ``keep``, at most ``limit`` of each label, drawn without replacement, ascending."""
    rows = []
    for name in sorted(set(labels[keep])):
        members = np.flatnonzero(keep & (labels == name))
        if len(members) > limit:
            members = np.sort(rng.choice(members, limit, replace=False))
        rows.append(members)
    return np.sort(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.intp)


def _genes(
    x: npt.NDArray,
    names: npt.NDArray,
    labels: npt.NDArray,
    known: Mapping[str, Perturbation],
    source: ExpressionSource,
) -> npt.NDArray[np.intp]:
    """Genes kept: all, or the most variable among control cells together with every perturbed gene."""
    if source.n_genes is None or source.n_genes >= len(names):
        return np.arange(len(names))
    variance = x[labels == CONTROL].var(axis=0)
    perturbed = np.isin(names, sorted({gene for label in set(labels) for gene in known[label].genes}))
    order = np.lexsort((np.arange(len(names)), -variance, ~perturbed))
    return np.sort(order[: max(source.n_genes, int(perturbed.sum()))])
