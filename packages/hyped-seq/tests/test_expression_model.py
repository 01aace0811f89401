"""`latent_ridge`: what it must get right where the truth is known, and the contract it keeps."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from hyped_core.context import RunContext
from hyped_core.contracts import ExpressionPredictor
from hyped_core.design import Perturbation
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UsageError
from hyped_core.plugins.registry import get_model
from hyped_seq.annotate.normalise import log_normalised
from hyped_seq.expression.effects import fit_effects, gene_embeddings, latent_basis
from hyped_seq.expression.latent_ridge import LatentRidge, LatentRidgeConfig

CONTEXT = RunContext()
GENES = [f"G{i}" for i in range(60)]


def cells_of(changes: dict[str, np.ndarray], noise: float = 0.05, n: int = 60) -> anndata.AnnData:
    """Cells around a control mean of 2 moved by ``changes`` of mean expression."""
    rng = np.random.default_rng(0)
    names = ["control", *changes]
    blocks = [2 + changes.get(name, 0) + noise * rng.standard_normal((n, len(GENES))) for name in names]
    obs = pd.DataFrame({"perturbation": np.repeat(names, n)}, index=[str(i) for i in range(n * len(names))])
    return anndata.AnnData(
        np.maximum(np.vstack(blocks), 0).astype(np.float32), obs=obs, var=pd.DataFrame(index=GENES)
    )


def effects(n: int, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"P{i}": rng.standard_normal(len(GENES)) * (rng.random(len(GENES)) < 0.3) for i in range(n)}


def fitted(cells: anndata.AnnData, **config: object) -> LatentRidge:
    model = LatentRidge(LatentRidgeConfig.model_validate(config))
    model.fit(cells, context=CONTEXT)
    return model


def change_of(model: LatentRidge, cells: anndata.AnnData, name: str) -> np.ndarray:
    control = cells[cells.obs["perturbation"] == "control"]
    predicted = model.predict(control, Perturbation.from_name(name), context=CONTEXT)
    return predicted.X.mean(0) - np.asarray(control.X).mean(0)


def test_keeps_the_contract():
    model = get_model("expression", "latent_ridge").create({"n_components": 5})
    assert isinstance(model, ExpressionPredictor)
    cells = cells_of(effects(4))
    before = cells.X.copy()
    model.fit(cells, context=CONTEXT)
    control = cells[cells.obs["perturbation"] == "control"].copy()
    predicted = model.predict(control, Perturbation.from_name("P0+P1"), context=CONTEXT)
    assert list(predicted.var_names) == GENES and predicted.X.dtype == np.float32 and predicted.X.min() >= 0
    assert set(predicted.obs["perturbation"]) == {"P0+P1"}
    assert (cells.X == before).all() and set(control.obs["perturbation"]) == {"control"}


def test_control_is_left_alone():
    cells = cells_of(effects(4))
    control = cells[cells.obs["perturbation"] == "control"]
    predicted = fitted(cells).predict(control, Perturbation(name="control"), context=CONTEXT)
    assert np.allclose(predicted.X, control.X)


def test_unseen_combination_of_seen_genes_is_their_sum_where_the_truth_is():
    singles = effects(6)
    pairs = [("P0", "P1"), ("P1", "P2"), ("P2", "P3"), ("P3", "P4")]
    world = {**singles, **{"+".join(pair): singles[pair[0]] + singles[pair[1]] for pair in pairs}}
    cells = cells_of(world)
    truth = np.maximum(singles["P4"] + singles["P5"], -2)
    assert np.corrcoef(change_of(fitted(cells), cells, "P4+P5"), truth)[0, 1] > 0.97


def test_damping_is_learned_from_combinations():
    singles = {name: 0.4 * change for name, change in effects(8).items()}
    pairs = [(f"P{i}", f"P{j}") for i in range(6) for j in range(i)]
    learned = {}
    for damping in (0.6, 1.0):
        world = {**singles, **{"+".join(p): damping * (singles[p[0]] + singles[p[1]]) for p in pairs}}
        model = fitted(cells_of(world, noise=0.01), ridges=[30.0], residual_ridges=[0.02])
        learned[damping] = model._effects.damping
    assert learned[1.0] == pytest.approx(1.0, abs=0.06)
    assert learned[0.6] < learned[1.0] - 0.15, "drawn towards 1, but well below it"


def test_a_gene_seen_only_in_a_combination_is_told_from_its_partner():
    singles = effects(6)
    world = {name: change for name, change in singles.items() if name != "P5"}
    world |= {"P0+P5": singles["P0"] + singles["P5"], "P1+P5": singles["P1"] + singles["P5"]}
    cells = cells_of(world)
    assert np.corrcoef(change_of(fitted(cells), cells, "P5"), np.maximum(singles["P5"], -2))[0, 1] > 0.9


def test_structure_shared_by_co_expressed_genes_reaches_unseen_genes():
    rng = np.random.default_rng(4)
    module = np.repeat([0, 1], 30)
    activity = rng.standard_normal((400, 2))
    control = 3 + activity[:, module] * 0.5 + 0.1 * rng.standard_normal((400, 60))
    blocks, names = [control], ["control"] * 400
    for gene in [*range(0, 8), *range(30, 38)]:
        change = np.where(module == module[gene], 0.8, -0.3)
        blocks.append(3 + change + 0.3 * rng.standard_normal((40, 60)))
        names += [f"G{gene}"] * 40
    obs = pd.DataFrame({"perturbation": names}, index=[str(i) for i in range(len(names))])
    cells = anndata.AnnData(np.vstack(blocks).astype(np.float32), obs=obs, var=pd.DataFrame(index=GENES))
    model = fitted(cells)
    for gene in (15, 45):
        truth = np.where(module == module[gene], 0.8, -0.3)
        others = np.arange(60) != gene
        assert np.corrcoef(change_of(model, cells, f"G{gene}")[others], truth[others])[0, 1] > 0.8


def test_the_mean_is_the_predicted_one_and_never_negative():
    singles = {"P0": np.full(60, -5.0), "P1": np.full(60, 1.0)}
    cells = cells_of(singles)
    model = fitted(cells)
    control = cells[cells.obs["perturbation"] == "control"]
    for name in ("P0", "P1"):
        perturbation = Perturbation.from_name(name)
        predicted = model.predict(control, perturbation, context=CONTEXT)
        mean = np.asarray(control.X, dtype=np.float64).mean(0)
        assert predicted.X.min() >= 0
        assert np.allclose(
            predicted.X.mean(0), mean + model.predicted_change(perturbation, GENES, mean), atol=1e-4
        )


def test_sparse_and_dense_agree():
    cells = cells_of(effects(5))
    sparse = cells.copy()
    sparse.X = sp.csr_matrix(cells.X)
    assert np.allclose(
        change_of(fitted(cells), cells, "P0+P1"),
        np.asarray(change_of(fitted(sparse), cells, "P0+P1")),
        atol=1e-4,
    )


def test_saved_and_loaded_it_predicts_the_same(tmp_path):
    cells = cells_of(effects(6))
    model = fitted(cells)
    model.save(tmp_path / "m")
    model.save(tmp_path / "n")
    assert all((tmp_path / "m" / p.name).read_bytes() == p.read_bytes() for p in (tmp_path / "n").iterdir())
    other = LatentRidge()
    other.load(tmp_path / "m")
    assert (change_of(model, cells, "P0+P9") == change_of(other, cells, "P0+P9")).all()
    (tmp_path / "m" / "latent_ridge.json").write_text("{}")
    with pytest.raises(CorruptFileError):
        other.load(tmp_path / "m")
    (tmp_path / "m" / "latent_ridge.safetensors").unlink()
    with pytest.raises(MissingFileError, match="safetensors"):
        other.load(tmp_path / "m")


def test_what_it_refuses():
    cells = cells_of(effects(3))
    with pytest.raises(UsageError, match="fit"):
        LatentRidge().predict(cells, Perturbation.from_name("P0"), context=CONTEXT)
    with pytest.raises(InvalidDataError, match="no 'control'"):
        fitted(cells[cells.obs["perturbation"] != "control"].copy())
    with pytest.raises(InvalidDataError, match="no perturbed"):
        fitted(cells[cells.obs["perturbation"] == "control"].copy())
    with pytest.raises(InvalidDataError, match="other genes"):
        fitted(cells).predict(cells[:, ::-1].copy(), Perturbation.from_name("P0"), context=CONTEXT)


def test_beats_the_mean_and_the_sum_on_the_simulated_screen(seq_world):
    screen = anndata.read_h5ad(seq_world.screen)
    screen.X = log_normalised(screen.layers["counts"])
    described = json.loads(screen.uns["perturbations_json"])
    names = screen.obs["perturbation"].astype(str).to_numpy()
    unique = sorted(set(names) - {"control"})
    control = (
        screen.X[names == "control"].mean(axis=0).A1
        if hasattr(screen.X[:1].mean(axis=0), "A1")
        else np.asarray(screen.X[names == "control"].mean(axis=0)).ravel()
    )
    delta = {name: np.asarray(screen.X[names == name].mean(axis=0)).ravel() - control for name in unique}
    singles = [name for name in unique if "+" not in name]
    pairs = [name for name in unique if "+" in name]
    held = {*singles[::5], *[p for p in pairs[::2] if not set(p.split("+")) & set(singles[::5])]}
    model = fitted(screen[~np.isin(names, list(held))].copy())
    mean = np.mean([delta[name] for name in unique if name not in held], axis=0)
    errors = {"model": [], "mean": [], "sum": []}
    for name in held:
        found = model.predicted_change(
            Perturbation.model_validate(described[name]), list(screen.var_names), control
        )
        errors["model"].append(((found - delta[name]) ** 2).mean())
        errors["mean"].append(((mean - delta[name]) ** 2).mean())
        known = [delta[gene] for gene in name.split("+")] if "+" in name else [mean]
        errors["sum"].append(((np.sum(known, axis=0) - delta[name]) ** 2).mean())
    assert np.mean(errors["model"]) < 0.8 * np.mean(errors["mean"])
    assert np.mean(errors["model"]) < np.mean(errors["sum"])


def test_parts():
    rng = np.random.default_rng(0)
    basis = latent_basis(rng.standard_normal((5, 40)), np.ones(5), 30)
    assert basis.shape == (40, 5) and np.allclose(basis.T @ basis, np.eye(5))
    tall, wide = rng.standard_normal((80, 10)), rng.standard_normal((8, 10))
    assert gene_embeddings(wide, 4, np.arange(8)).shape == (10, 4)
    loadings = gene_embeddings(tall, 9, np.arange(80))
    correlation = np.corrcoef(tall.T)
    assert np.abs(loadings @ loadings.T - correlation).max() < 0.5
    single = fit_effects(np.ones((1, 2)), np.ones(1), [[("A", "activation")]], [np.ones((1, 1))], 1.0, 0.1)
    assert single.damping == 1.0 and single.residuals.shape == (1, 2)
