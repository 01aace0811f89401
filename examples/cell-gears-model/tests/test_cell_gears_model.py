"""Graphs and cells by hand; training and HYPED's own checks of expression models where cell-gears is installed."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from cell_gears_model.graph import edges_of_expression, edges_of_terms, read_terms
from cell_gears_model.model import CellGears, CellGearsConfig, _joined, _labelled
from cell_gears_model.plugin import hyped_models

from hyped_core import Perturbation, RunContext
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UsageError
from hyped_core.testing import ExpressionPredictorSuite


def as_dict(edges: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {(s, t): round(w, 6) for s, t, w in edges.itertuples(index=False)}


def cells(names: list[str], genes: tuple[str, ...] = ("B", "A")) -> AnnData:
    values = np.arange(len(names) * len(genes), dtype=np.float32).reshape(len(names), -1)
    obs = pd.DataFrame({"perturbation": names}, index=[f"c{i}" for i in range(len(names))])
    return AnnData(values, obs=obs, var=pd.DataFrame(index=list(genes)))


def test_the_model_runs_in_an_environment_of_its_own():
    (spec,) = hyped_models()
    assert "cell-gears==0.1.2" in spec.environment and spec.load_config().epochs == 2


def test_edges_of_terms_are_shared_parts():
    terms = {"A": frozenset("xy"), "B": frozenset("yz"), "C": frozenset("q")}
    found = as_dict(edges_of_terms(["A", "B", "C", "D"], terms, 3))
    loops = {(gene, gene): 1.0 for gene in "ABCD"}
    assert found == {**loops, ("A", "B"): 0.333333, ("B", "A"): 0.333333}
    assert len(edges_of_terms(["A", "B"], {"A": frozenset("x"), "B": frozenset("x")}, 1)) == 4


def test_edges_of_expression_are_correlations_and_unmeasured_genes_stand_alone():
    values = np.array([[1, -2, 5], [2, -4, 5], [4, -8, 5]], float)
    found = as_dict(edges_of_expression(["A", "B", "C", "OFF"], ["A", "B", "C"], values, 5))
    assert found == {**{(g, g): 1.0 for g in ("A", "B", "C", "OFF")}, ("A", "B"): 1.0, ("B", "A"): 1.0}


def test_terms_are_read_from_json(tmp_path: Path):
    file = tmp_path / "terms.json"
    file.write_text(json.dumps({"A": ["x", "y"]}))
    assert read_terms(file) == {"A": {"x", "y"}}
    file.write_text("[1]")
    with pytest.raises(CorruptFileError):
        read_terms(file)
    with pytest.raises(MissingFileError):
        read_terms(tmp_path / "absent.json")


def test_perturbations_are_spelled_as_cell_gears_does():
    given = cells(["control", "A", "A", "A+B", "A+B", "A+B+C", "A+B+C", "B", "control"])
    values, conditions, left_out = _labelled(given, ["A", "B"])
    assert conditions == ["ctrl", "A+ctrl", "A+ctrl", "A+B", "A+B", "ctrl"]
    assert left_out == ["A+B+C", "B"]  # three genes; one cell
    np.testing.assert_array_equal(values.toarray()[0], [1, 0])  # genes in the order asked for


def test_validation_cells_are_chosen_by_and_not_learned_from():
    train = _labelled(cells(["control", "control", "A", "A"]), ["A", "B"])
    validation = _labelled(cells(["control", "control", "B", "B"]), ["A", "B"])
    joined, conditions, sets = _joined({"train": train, "val": validation})
    assert sets == {"train": ["ctrl", "A+ctrl"], "val": ["B+ctrl"]}
    assert joined.shape == (6, 2) and conditions.count("ctrl") == 2
    assert _joined({"train": train, "val": None})[2]["val"] == ["A+ctrl"]
    with pytest.raises(InvalidDataError):
        _joined({"train": _labelled(cells(["control", "control"]), ["A", "B"]), "val": None})


def test_nothing_is_predicted_before_fit(tmp_path: Path):
    with pytest.raises(UsageError):
        CellGears(CellGearsConfig()).predict(cells(["control"]), Perturbation.from_name("A"), context=RunContext())


def test_it_moves_cells_the_right_way(tiny_perturbseq, tmp_path: Path):
    pytest.importorskip("gears")
    context, control = RunContext(scratch=tmp_path), tiny_perturbseq.control_cells()
    model = CellGears(CellGearsConfig(epochs=4))
    model.fit(tiny_perturbseq.training_cells(), tiny_perturbseq.validation_cells(), context=context)
    found = model.predict(control, tiny_perturbseq.perturbations["G005"], context=context).X.mean(axis=0)
    there = tiny_perturbseq.given(("G005",)).X.mean(axis=0)
    before = control.X.mean(axis=0)
    assert np.corrcoef(found - before, there - before)[0, 1] > 0.2
    assert not list(tmp_path.iterdir())


class TestContract(ExpressionPredictorSuite):
    model = "cell_gears_model.model:CellGears"

    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("gears")
