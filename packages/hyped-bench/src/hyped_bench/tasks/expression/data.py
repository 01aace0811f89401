"""Cells of the expression task: read once, brought to one form, and cut into what a model may see."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hyped_bench.readers import dense, read_cells
from hyped_bench.splits import Fold, FoldCells, check_no_leak, fold_cells, genes_of, make_folds, split_record
from hyped_bench.splits.source import source_cells
from hyped_bench.tasks.expression.params import RELABELLED, ExpressionSource
from hyped_bench.tasks.expression.predicted import Key, redraw
from hyped_core.design.model import CONTROL, Perturbation
from hyped_core.errors import InvalidDataError

if TYPE_CHECKING:
    from anndata import AnnData

LOG_LIMIT = 12.0
"""ln(1 + 10,000) is 9.2: values above this cannot be log-normalised."""
CONTROL_WORDS = frozenset(
    (CONTROL, "ctrl", "non-targeting", "nontargeting", "non_targeting", "non targeting", "nt", "unperturbed")
)
"""What files of screens call control, in any case of letters."""
MIN_UNITS = 8
"""With fewer held-out perturbations there is no interval over perturbations."""


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
        return sum(len(fold.test) for fold in self.folds) < MIN_UNITS

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

    def trained_mean(self, fold: Fold) -> npt.NDArray[np.float64]:
        """Mean over the training perturbations as a model sees them: of relabelled control cells, control's own."""
        if not fold.train:
            return self.mean(CONTROL)
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
            test = self._anndata(self.parts(fold).test, (CONTROL, *fold.test))
            seen = {"visible": self.visible(fold), "validation": self.validation(fold), "control": self.control(fold)}
            check_no_leak(fold, seen, test, relabelled=self.relabelled)

        self.remember(("leaks", fold.name), check)

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
    rows = subsample(labels, keep, source.max_cells, rng)
    x = dense(cells.X[rows])
    x = normalised(x, source.cells) if source.counts else x
    _check_scale(x, source)
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
    return data


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
        given = stored.get(original) or stored.get(name)
        if given:
            known[name] = Perturbation.model_validate(given)
        else:
            known[name] = Perturbation.from_name(name, source.direction)
    known.setdefault(CONTROL, Perturbation(name=CONTROL))
    return np.array([canonical[name] for name in raw], dtype=object), known


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """Each name as HYPED writes it: ``control``, ``GENE`` or ``GENE1+GENE2``.

    Understood: GEARS' (``ctrl``, ``A+ctrl``), words for control such as ``non-targeting``, and scPerturb's ``A_B``
    where ``A`` and ``B`` alone are names too.

    >>> canonical_names(["ctrl", "A+ctrl", "B", "A_B", "HLA_C"])["A_B"]
    'A+B'
    """
    given = sorted(set(names))
    plain = {n: CONTROL if n.strip().casefold() in CONTROL_WORDS else "+".join(genes_of(n)) or CONTROL for n in given}
    single = set(plain.values())
    found = {}
    for name in given:
        parts = plain[name].split("_")
        pair = len(parts) > 1 and "+" not in plain[name] and all(part in single for part in parts)
        genes = [part for part in parts if part != CONTROL]
        found[name] = ("+".join(genes) or CONTROL) if pair else plain[name]
    return found


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


def looks_like_counts(x: npt.NDArray) -> bool:
    """True for whole numbers, none negative, of which some are above 1: the logarithm of counts has none such."""
    return bool(x.size and x.min() >= 0 and x.max() > 1 and (x == np.rint(x)).all())


def normalised(x: npt.NDArray[np.float32], where: str) -> npt.NDArray[np.float32]:
    """ln(1 + counts per 10,000) of raw counts (cells, genes); cells without a count stay 0."""
    if not looks_like_counts(x):
        raise InvalidDataError(
            "X holds no raw counts, though `counts` says so", where=where, mend="set `counts: false`"
        )
    total = x.sum(axis=1, dtype=np.float64, keepdims=True)
    share = np.divide(x, total, out=np.zeros(x.shape, dtype=np.float64), where=total > 0)
    return np.log1p(1e4 * share).astype(np.float32)


def _check_scale(x: npt.NDArray, source: ExpressionSource) -> None:
    if x.size and (x.max() > LOG_LIMIT or x.min() < 0):
        raise InvalidDataError(
            f"X runs from {x.min():g} to {x.max():g}: that is not ln(1 + counts per 10,000)",
            where=source.cells,
            mend="normalise it, for example with `hyped seq import-cells`; of raw counts say `counts: true`",
        )
    if looks_like_counts(x):
        raise InvalidDataError(
            "X holds whole numbers only: these are counts, not ln(1 + counts per 10,000)",
            where=source.cells,
            mend="say `counts: true`, or normalise it with `hyped seq import-cells`",
        )
