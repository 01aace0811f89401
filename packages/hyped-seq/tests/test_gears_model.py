"""`gears` as an expression model: what it must get right where the truth is known, and the contract it keeps."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hyped_core.context import RunContext  # noqa: E402
from hyped_core.contracts import ExpressionPredictor  # noqa: E402
from hyped_core.design import GeneChange, Perturbation  # noqa: E402
from hyped_core.errors import InvalidDataError, MissingFileError, UsageError  # noqa: E402
from hyped_core.plugins.registry import get_model  # noqa: E402
from hyped_seq.gears.checks import UnknownPerturbation  # noqa: E402
from hyped_seq.gears.model import Gears, GearsConfig  # noqa: E402

shared = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("gears_planted.py"))))
CONTEXT = RunContext()
SMALL = {"hidden": 8, "epochs": 1}


def change_of(model: Gears, control, perturbation: Perturbation | str) -> np.ndarray:
    if isinstance(perturbation, str):
        perturbation = Perturbation.from_name(perturbation)
    predicted = model.predict(control, perturbation, context=CONTEXT)
    return predicted.X.mean(0) - np.asarray(control.X).mean(0)


@pytest.fixture(scope="module")
def tiny():
    return shared.planted(genes=40, cells=12, controls=40, seed=3)


@pytest.fixture(scope="module")
def quick(tiny) -> Gears:
    model = Gears(GearsConfig(**SMALL))
    model.fit(tiny.part(["P00", "P01", "P10", "P20", "P00+P10"]), context=CONTEXT)
    return model


@pytest.mark.parametrize("name", shared.HELD_OUT)
def test_unseen_combinations_and_a_gene_with_seen_relatives_are_predicted(name):
    screen, model = shared.trained()
    truth = screen.changes[name]
    found = change_of(model, screen.control, name)
    assert np.corrcoef(found, truth)[0, 1] > 0.8
    assert ((found - truth) ** 2).mean() < 0.4 * (truth**2).mean()  # no change scores 1


def test_a_relative_says_more_than_a_stranger():
    screen, model = shared.trained()
    found = change_of(model, screen.control, "P21")
    relative = np.corrcoef(found, screen.changes["P20"])[0, 1]
    assert relative > np.corrcoef(found, screen.changes["P00"])[0, 1] + 0.4


def test_keeps_the_contract(tiny, quick):
    assert isinstance(quick, ExpressionPredictor)
    assert get_model("expression", "gears").create({"hidden": 8}).config.mode == "fixed"
    assert get_model("expression", "gears-reference").create({"hidden": 8}).config.mode == "reference"
    control = tiny.control
    before = control.X.copy()
    found = quick.predict(control, Perturbation.from_name("P00+P20"), context=CONTEXT)
    assert list(found.var_names) == list(control.var_names) and list(found.obs_names) == list(control.obs_names)
    assert found.X.dtype == np.float32 and found.X.min() >= 0 and found.X.shape == control.X.shape
    assert set(found.obs["perturbation"]) == {"P00+P20"}
    assert (control.X == before).all() and set(control.obs["perturbation"]) == {"control"}


def test_training_cells_stay_as_they_are_and_the_seed_decides(tiny):
    cells = tiny.part(["P00", "P10"])
    before = cells.X.copy()
    first, second, other = Gears(GearsConfig(**SMALL)), Gears(GearsConfig(**SMALL)), Gears(GearsConfig(**SMALL, seed=5))
    for model in (first, second, other):
        model.fit(cells, context=CONTEXT)
    assert (cells.X == before).all()
    one, two, three = (change_of(model, tiny.control, "P00") for model in (first, second, other))
    assert (one == two).all() and not np.allclose(one, three)


def test_sparse_and_dense_cells_are_one(tiny, quick):
    import scipy.sparse as sp

    control = tiny.control
    thin = control.copy()
    thin.X = sp.csr_matrix(control.X)
    assert np.array_equal(change_of(quick, control, "P00"), quick.predict(thin, Perturbation.from_name("P00"),
                          context=CONTEXT).X.mean(0) - control.X.mean(0))  # fmt: skip


def test_control_is_left_alone(tiny, quick):
    control = tiny.control
    assert np.array_equal(quick.predict(control, Perturbation(name="control"), context=CONTEXT).X, control.X)


def test_changes_depend_on_the_cell_in_fixed_mode_and_not_in_reference(tiny):
    screen, model = shared.trained()
    found = model.predict(screen.control, Perturbation.from_name("P00"), context=CONTEXT)
    raised = found.X.mean(0) > screen.control.X.mean(0)  # scaling down depends on the cell in any case
    assert (found.X - screen.control.X)[:, raised].std(axis=0).max() > 1e-3
    _, old = shared.trained("reference")
    change = old.predict(screen.control, Perturbation.from_name("P00"), context=CONTEXT).X - screen.control.X
    assert np.allclose(change[1:], change[1], atol=1e-5) and not np.allclose(change[0], change[1], atol=1e-5)


def test_copies_of_control_cells_teach_that_nothing_changes():
    import anndata

    tiny = shared.planted(genes=40, cells=2, controls=160)
    control = tiny.control
    parts = []
    for name in ("control", "P00", "P10", "P00+P10"):
        copy = control.copy()
        copy.obs["perturbation"] = name
        copy.obs_names = [f"{name}_{cell}" for cell in copy.obs_names]
        parts.append(copy)
    model = Gears(GearsConfig(hidden=16, epochs=8, learning_rate=1e-2))
    model.fit(anndata.concat(parts), context=CONTEXT)
    truth = np.sqrt((tiny.changes["P00+P10"] ** 2).mean())
    for name in ("P00", "P10", "P00+P10"):
        assert np.sqrt((change_of(model, control, name) ** 2).mean()) < 0.25 * truth


def test_pretrained_on_half_of_the_genes_goes_on_from_what_it_knew(tmp_path):
    screen, model = shared.trained()
    model.save(tmp_path / "model")
    genes = list(screen.cells.var_names[::2])
    cells = screen.part(["P00", "P10", "P20"])[:, genes].copy()
    tuned = Gears(GearsConfig(hidden=32, epochs=1, learning_rate=1e-4, pretrained=str(tmp_path / "model")))
    tuned.fit(cells, context=CONTEXT)
    control = screen.control[:, genes].copy()
    # combinations that the fine-tuning cells do not hold, of which the pretrained model saw the single genes
    for name in ("P00+P11", "P02+P13"):
        assert np.corrcoef(change_of(tuned, control, name), screen.changes[name][::2])[0, 1] > 0.6
    moved = tuned.facts["started_from"]["transferred"]
    assert moved["genes"]["shared"] == len(genes) and moved["genes"]["left_out"] == screen.cells.n_vars - len(genes)
    anew = Gears(GearsConfig(hidden=32, epochs=1, learning_rate=1e-4, perturbed=("P02", "P13")))
    anew.fit(cells, context=CONTEXT)
    assert np.corrcoef(change_of(anew, control, "P02+P13"), screen.changes["P02+P13"][::2])[0, 1] < 0.6


def test_pretrained_takes_genes_and_perturbations_it_lacks(tiny, quick, tmp_path):
    quick.save(tmp_path / "model")
    cells = tiny.part(["P00", "P10"])
    cells.var_names = [f"new{i}" if i >= 35 else name for i, name in enumerate(cells.var_names)]
    cells.obs["perturbation"] = cells.obs["perturbation"].replace({"P10": "MYOD1"})
    model = Gears(GearsConfig(**SMALL, pretrained=str(tmp_path / "model")))
    model.fit(cells, context=CONTEXT)
    moved = model.facts["started_from"]["transferred"]
    assert moved["genes"]["new"] == 5 and moved["perturbations"]["new"] == 6  # five genes of the panel, and MYOD1
    control = cells[cells.obs["perturbation"] == "control"].copy()
    assert "fallback" not in model.predict(control, Perturbation.from_name("MYOD1"), context=CONTEXT).uns


def test_saved_and_loaded_models_are_equal(tiny, quick, tmp_path):
    quick.save(tmp_path / "a")
    loaded = Gears()
    loaded.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    for name in ("gears.json", "gears.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert np.array_equal(change_of(loaded, tiny.control, "P00+P20"), change_of(quick, tiny.control, "P00+P20"))
    assert loaded.facts == quick.facts


def test_suppression_is_encoded_as_activation_unless_directions_count(tiny):
    up = Perturbation(name="P00", changes=(GeneChange(gene="P00", direction="activation"),))
    down = Perturbation(name="P00", changes=(GeneChange(gene="P00", direction="suppression"),))
    cells = tiny.part(["P00", "P10"])
    ignored, signed = Gears(GearsConfig(**SMALL)), Gears(GearsConfig(**SMALL, direction="signed"))
    for model in (ignored, signed):
        model.fit(cells, context=CONTEXT)
    assert np.array_equal(change_of(ignored, tiny.control, up), change_of(ignored, tiny.control, down))
    assert "P00" in ignored.predict(tiny.control, down, context=CONTEXT).uns["notes"][0]
    assert "notes" not in ignored.predict(tiny.control, up, context=CONTEXT).uns
    assert not np.allclose(change_of(signed, tiny.control, up), change_of(signed, tiny.control, down))
    assert ignored.facts["suppression"] != signed.facts["suppression"]


def test_genes_asked_for_get_a_node_and_a_fallback(tiny):
    model = Gears(GearsConfig(**SMALL, perturbed=("STRANGER",)))
    model.fit(tiny.part(["P00", "P10"]), context=CONTEXT)
    found = model.predict(tiny.control, Perturbation.from_name("P00+STRANGER"), context=CONTEXT)
    assert "STRANGER" in found.uns["fallback"] and "P00" not in found.uns["fallback"]


def test_uncertainty_gives_a_log_variance(tiny):
    model = Gears(GearsConfig(**SMALL, uncertainty=True))
    model.fit(tiny.part(["P00", "P10"]), context=CONTEXT)
    found = model.predict(tiny.control, Perturbation.from_name("P10"), context=CONTEXT)
    assert found.layers["log_variance"].shape == found.shape and np.isfinite(found.layers["log_variance"]).all()


def test_what_it_refuses(tiny, quick, tmp_path):
    control, one = tiny.control, Perturbation.from_name("P00")
    with pytest.raises(UsageError, match="learned nothing"):
        Gears().predict(control, one, context=CONTEXT)
    with pytest.raises(UnknownPerturbation, match="near names: P00"):
        quick.predict(control, Perturbation.from_name("p00"), context=CONTEXT)
    with pytest.raises(InvalidDataError, match="missing"):
        quick.predict(control[:, 1:].copy(), one, context=CONTEXT)
    with pytest.raises(InvalidDataError, match="another order"):
        quick.predict(control[:, ::-1].copy(), one, context=CONTEXT)
    counts = control.copy()
    counts.X = np.round(np.exp(counts.X)).astype(np.float32)
    with pytest.raises(InvalidDataError, match="counts|log"):
        quick.predict(counts, one, context=CONTEXT)
    broken = control.copy()
    broken.X[3, 2] = np.nan
    with pytest.raises(InvalidDataError, match="NaN"):
        quick.predict(broken, one, context=CONTEXT)
    with pytest.raises(InvalidDataError, match="control"):
        Gears(GearsConfig(**SMALL)).fit(tiny.cells[tiny.cells.obs["perturbation"] == "P00"].copy(), context=CONTEXT)
    with pytest.raises(MissingFileError):
        Gears().load(tmp_path)
    with pytest.raises(MissingFileError):
        Gears(GearsConfig(**SMALL, pretrained=str(tmp_path / "no"))).fit(tiny.part(["P00"]), context=CONTEXT)


def test_genes_that_will_be_asked_for_have_a_node():
    """Neither on the panel nor perturbed in training: with its name in uns it is predicted, and said to be a guess."""
    cells = shared.planted(genes=40, cells=10, controls=30, seed=2).cells
    wanted = Perturbation.from_name("ELSEWHERE")
    control = cells[(cells.obs["perturbation"] == "control").to_numpy()].copy()
    config = GearsConfig(hidden=8, epochs=1)
    unaware = Gears(config)
    unaware.fit(cells, context=RunContext(seed=0))
    with pytest.raises(UnknownPerturbation):
        unaware.predict(control, wanted, context=RunContext(seed=0))
    told = cells.copy()
    told.uns["asked_genes"] = ["ELSEWHERE"]
    aware = Gears(config)
    aware.fit(told, context=RunContext(seed=0))
    assert "ELSEWHERE" in aware.predict(control, wanted, context=RunContext(seed=0)).uns["fallback"]
