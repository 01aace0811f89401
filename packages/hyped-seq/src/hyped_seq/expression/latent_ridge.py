"""`latent_ridge`: predicts unseen perturbations from effects of genes in a latent space of changes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from hyped_core.design.model import CONTROL
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UsageError
from hyped_core.params import Params
from hyped_seq.expression.effects import (
    Effects,
    Floats,
    Key,
    column_mean,
    fit_effects,
    gene_embeddings,
    latent_basis,
)

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_core.design import Perturbation

_ARRAYS = "latent_ridge.safetensors"
_TEXT = "latent_ridge.json"


class LatentRidgeConfig(Params):
    """Settings of `latent_ridge`."""

    n_components: int = Field(30, ge=1)
    """Directions of expression change that are kept."""
    n_embedding: int = Field(10, ge=1)
    """Length of a gene's embedding (loadings on principal components of the training cells)."""
    ridges: tuple[float, ...] = (0.3, 3.0, 30.0)
    """Penalties of the embedding's weights to choose from."""
    residual_ridges: tuple[float, ...] = (0.02, 0.1, 0.5)
    """Penalties of a gene's own effect to choose from."""
    folds: int = Field(5, ge=2)
    """Folds over perturbations when choosing; with fewer than twice as many, the middle ones are taken."""
    max_cells: int = Field(1000, ge=1)
    """Most control cells that carry a prediction, and most cells that embeddings are taken from."""


class LatentRidge:
    """Additive effects of genes with shared structure and damped combinations.

    The change of a perturbation from control is, in the span of the training changes, the sum of its genes'
    effects times a learned damping for combinations. A gene's effect is linear in its co-expression
    embedding plus a residual of its own where the gene was seen, so that unseen genes still get an estimate.
    """

    def __init__(self, config: LatentRidgeConfig | None = None) -> None:
        self.config = config or LatentRidgeConfig()
        self._genes: list[str] = []
        self._embedding: Floats = np.zeros((0, 0))
        self._basis: Floats = np.zeros((0, 0))
        self._effects: Effects | None = None
        self._own: dict[str, float] = {}
        self._symbols: dict[str, int] = {}
        self._chosen: dict[str, float] = {}

    def fit(self, train: AnnData, validation: AnnData | None = None, *, context: RunContext) -> None:
        """Learn from control and perturbed training cells; ``validation`` joins the choice of penalties.

        Raises
        ------
        InvalidDataError
            There is no control, or no perturbed cell, or a value that is not finite.
        """
        self._genes = list(map(str, train.var_names))
        self._symbols = _symbol_positions(train)
        control, changes, counts, members = pseudobulk_changes(train)
        if not (np.isfinite(control).all() and np.isfinite(changes).all()):
            raise InvalidDataError("holds values that are not finite", where="train.X", mend="fill them in")
        if not members:
            raise InvalidDataError("holds no perturbed cells", where="train", mend="give perturbed training cells")
        rows = np.arange(train.n_obs)
        if len(rows) > self.config.max_cells:
            rows = np.sort(context.rng("latent_ridge", "embedding").choice(rows, self.config.max_cells, replace=False))
        self._embedding = gene_embeddings(train.X, self.config.n_embedding, rows)
        weights = counts / counts.mean()
        self._basis = latent_basis(changes, weights, self.config.n_components)
        latent = changes @ self._basis
        features = [self._features(member) for member in members]
        held = None
        if validation is not None:
            held = self._validation(validation, control)
        point = self._choose(latent, weights, members, features, held, context)
        self._chosen = dict(zip(("ridge", "residual_ridge"), point, strict=True))
        self._effects = fit_effects(latent, weights, members, features, *point)
        self._own = self._own_changes(control, changes, members)

    def predict(self, control: AnnData, perturbation: Perturbation, *, context: RunContext) -> AnnData:
        """Control cells moved by the predicted change.

        A gene predicted to fall is scaled down in every cell, one predicted to rise is raised by the same
        amount in every cell: nothing falls below zero and the mean is the predicted one. At most
        ``max_cells`` rows.

        Raises
        ------
        UsageError
            Not fitted yet.
        InvalidDataError
            ``control`` has other genes than the training cells.
        """
        from anndata import AnnData

        change = self.predicted_change(perturbation, list(map(str, control.var_names)), column_mean(control.X))
        rows = np.arange(control.n_obs)
        if len(rows) > self.config.max_cells:
            rng = context.rng("latent_ridge", perturbation.name)
            rows = np.sort(rng.choice(rows, self.config.max_cells, replace=False))
        part = control.X[rows]
        cells = np.asarray(part.toarray() if sp.issparse(part) else part, dtype=np.float64)
        mean = cells.mean(axis=0)
        falls = change < 0
        factor = np.ones_like(change)
        np.divide(mean + change, mean, out=factor, where=falls & (mean > 0))
        moved = cells * np.maximum(factor, 0) + np.maximum(change, 0)
        obs = control.obs.iloc[rows].copy()
        obs["perturbation"] = perturbation.name
        return AnnData(X=moved.astype(np.float32), obs=obs, var=control.var.copy())

    def predicted_change(self, perturbation: Perturbation, genes: Sequence[str], control_mean: Floats) -> Floats:
        """(genes,) change of mean ln(1 + CP10k); never more than ``control_mean`` downwards."""
        if self._effects is None:
            raise UsageError("latent_ridge has learned nothing yet", mend="call fit or load first")
        if list(genes) != self._genes:
            raise InvalidDataError(
                "control cells have other genes (or another order) than the training cells",
                where="control",
                mend="give the genes the model was trained on",
            )
        if perturbation.is_control:
            return np.zeros(len(genes))
        member = [(change.gene, change.direction) for change in perturbation.changes]
        change = self._basis @ self._effects.of(member, self._features(member))
        for gene, direction in member:
            at = self._symbols.get(gene)
            seen = (gene, direction) in self._effects.keys
            if at is not None and not seen and direction in self._own:
                size = self._own[direction]
                change[at] = size if direction == "activation" else -size * control_mean[at]
        return np.maximum(change, -control_mean)

    def save(self, folder: Path) -> None:
        """Write ``latent_ridge.safetensors`` and ``latent_ridge.json`` into ``folder``."""
        from safetensors.numpy import save_file

        if self._effects is None:
            raise UsageError("latent_ridge has learned nothing yet", mend="call fit first")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {
            "embedding": self._embedding,
            "basis": self._basis,
            "weights": self._effects.weights,
            "residuals": self._effects.residuals,
        }
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / _ARRAYS)
        text = {
            "genes": self._genes,
            "symbols": self._symbols,
            "keys": [list(key) for key in self._effects.keys],
            "damping": self._effects.damping,
            "own": self._own,
            "chosen": self._chosen,
            "config": self.config.model_dump(mode="json"),
        }
        (folder / _TEXT).write_text(json.dumps(text, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Read back what `save` wrote.

        Raises
        ------
        MissingFileError, CorruptFileError
            A file is absent or the two do not fit one another.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        for name in (_ARRAYS, _TEXT):
            if not (folder / name).is_file():
                raise MissingFileError("no such file", where=folder / name, mend="save the model again")
        try:
            arrays = load_file(folder / _ARRAYS)
            text: dict[str, Any] = json.loads((folder / _TEXT).read_text(encoding="utf-8"))
            keys: tuple[Key, ...] = tuple((gene, direction) for gene, direction in text["keys"])
            effects = Effects(arrays["weights"], arrays["residuals"], keys, float(text["damping"]))
            fits = (
                len(arrays["basis"]) == len(arrays["embedding"]) == len(text["genes"])
                and len(effects.residuals) == len(keys)
                and effects.weights.shape == (arrays["embedding"].shape[1] + 1, arrays["basis"].shape[1])
            )
        except (SafetensorError, json.JSONDecodeError, KeyError, ValueError, TypeError) as error:
            raise CorruptFileError(f"is no saved latent_ridge: {error}", where=folder, mend="save it again") from error
        if not fits:
            raise CorruptFileError("arrays and names do not fit one another", where=folder, mend="save it again")
        self._genes, self._symbols = text["genes"], text["symbols"]
        self._embedding, self._basis, self._effects = arrays["embedding"], arrays["basis"], effects
        self._own, self._chosen = text["own"], text["chosen"]

    def _features(self, member: Sequence[Key]) -> Floats:
        """(genes, 1 + d): one, and the embedding, negative for suppression; zeros for genes not measured."""
        rows = np.zeros((len(member), self._embedding.shape[1] + 1))
        rows[:, 0] = 1
        for row, (gene, direction) in enumerate(member):
            at = self._symbols.get(gene)
            if at is not None:
                rows[row, 1:] = self._embedding[at] * (1 if direction == "activation" else -1)
        return rows

    def _validation(self, cells: AnnData, control: Floats) -> tuple[Floats, list[list[Key]]] | None:
        """Latent changes and genes of held-back perturbations, from training control."""
        changes, _, members = _changes_from(cells, control)
        return (changes @ self._basis, members) if members else None

    def _choose(
        self,
        latent: Floats,
        weights: Floats,
        members: list[list[Key]],
        features: list[Floats],
        held: tuple[Floats, list[list[Key]]] | None,
        context: RunContext,
    ) -> tuple[float, float]:
        """Penalties with the least squared error on held-back perturbations."""
        grid = list(itertools.product(self.config.ridges, self.config.residual_ridges))
        middle = grid[len(grid) // 2]
        n = len(members)
        folds: list[np.ndarray] = []
        if n >= 2 * self.config.folds:
            order = context.rng("latent_ridge", "folds").permutation(n)
            folds = [order[i :: self.config.folds] for i in range(self.config.folds)]
        if not folds and held is None:
            return middle
        errors = dict.fromkeys(grid, 0.0)
        for point in grid:
            for fold in folds:
                kept = np.setdiff1d(np.arange(n), fold)
                effects = fit_effects(
                    latent[kept],
                    weights[kept],
                    [members[i] for i in kept],
                    [features[i] for i in kept],
                    *point,
                )
                errors[point] += sum(((effects.of(members[i], features[i]) - latent[i]) ** 2).sum() for i in fold)
            if held is not None:
                effects = fit_effects(latent, weights, members, features, *point)
                errors[point] += sum(
                    ((effects.of(member, self._features(member)) - truth) ** 2).sum()
                    for truth, member in zip(*held, strict=True)
                )
        return min(grid, key=lambda point: (errors[point], point))

    def _own_changes(self, control: Floats, changes: Floats, members: list[list[Key]]) -> dict[str, float]:
        """Median change of a perturbed gene itself: absolute if activated, share of control if suppressed."""
        own: dict[str, list[float]] = {}
        for change, member in zip(changes, members, strict=True):
            for gene, direction in member:
                at = self._symbols.get(gene)
                if at is None:
                    continue
                if direction == "activation":
                    own.setdefault(direction, []).append(max(float(change[at]), 0.0))
                elif control[at] > 1e-3:
                    own.setdefault(direction, []).append(float(np.clip(-change[at] / control[at], 0, 1)))
        return {direction: float(np.median(values)) for direction, values in sorted(own.items())}


def pseudobulk_changes(train: AnnData) -> tuple[Floats, Floats, Floats, list[list[Key]]]:
    """Mean of control, change of each perturbation's mean from it, numbers of cells, and their genes.

    Raises
    ------
    InvalidDataError
        ``obs["perturbation"]`` is absent or names no control.
    """
    if "perturbation" not in train.obs:
        raise InvalidDataError("obs has no column 'perturbation'", where="train", mend="add it")
    is_control = (train.obs["perturbation"].astype(str) == CONTROL).to_numpy()
    if not is_control.any():
        raise InvalidDataError(f"has no {CONTROL!r} cells", where="train/obs/perturbation", mend="add control cells")
    control = column_mean(train.X[is_control])
    return control, *_changes_from(train, control)


def _changes_from(cells: AnnData, control: Floats) -> tuple[Floats, Floats, list[list[Key]]]:
    """Changes of each perturbation's mean from ``control``, numbers of cells, and genes; by name."""
    from hyped_core.design import Perturbation

    names = cells.obs["perturbation"].astype(str).to_numpy()
    records = cells.uns.get("perturbations")
    if records is None and "perturbations_json" in cells.uns:
        records = json.loads(str(cells.uns["perturbations_json"]))
    records = records or {}
    changes, counts, members = [], [], []
    for name in sorted(set(names) - {CONTROL, "", "nan"}):
        known = records.get(name)
        found = Perturbation.model_validate(known) if known else Perturbation.from_name(name)
        if found.is_control:
            continue
        rows = np.flatnonzero(names == name)
        changes.append(column_mean(cells.X[rows]) - control)
        counts.append(float(len(rows)))
        members.append([(change.gene, change.direction) for change in found.changes])
    stacked = np.stack(changes) if changes else np.zeros((0, len(control)))
    return stacked, np.array(counts), members


def _symbol_positions(cells: AnnData) -> dict[str, int]:
    """Gene name -> column, by ``var["symbol"]`` and by ``var_names``."""
    positions = {str(name): i for i, name in enumerate(cells.var_names)}
    if "symbol" in cells.var:
        for i, symbol in enumerate(cells.var["symbol"].astype(str)):
            positions.setdefault(symbol, i)
    return positions
