"""What GEARS is not to take for something else: a typed error that says what to do, or a stated rule."""

from __future__ import annotations

import logging
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

from hyped_core.context import RunContext
from hyped_core.errors import InvalidDataError
from hyped_seq.gears.checks import UnknownPerturbation
from hyped_seq.gears.data import training_cells
from hyped_seq.gears.params import GearsParams

torch = pytest.importorskip("torch")

from hyped_seq.gears.train import fit  # noqa: E402

screen = runpy.run_path(str(Path(__file__).with_name("gears_cells.py")))["screen"]
SMALL = GearsParams(epochs=1, hidden=8, batch_cells=16, state_dims=2, coexpression_threshold=0.2)
CONTEXT = RunContext()


def _values(change: Callable[[np.ndarray], np.ndarray]) -> AnnData:
    cells = screen()
    cells.X = sp.csr_matrix(change(cells.X.toarray()).astype(np.float32))
    return cells


def _put(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(x: np.ndarray) -> np.ndarray:
        x[3, 4] = value
        return x

    return change


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (lambda: _values(_put(np.nan)), "1 values are NaN or infinite"),
        (lambda: _values(_put(np.inf)), "1 values are NaN or infinite"),
        (lambda: _values(_put(-0.5)), "1 values are negative, the lowest -0.5"),
        (lambda: _values(lambda x: np.rint(x)), "these are counts"),
        (lambda: _values(_put(9.3)), r"values reach 9.3, above ln\(1 \+ 10,000\)"),
        (lambda: _values(lambda x: np.expm1(x)), "no log values"),
        (lambda: _values(np.zeros_like), "every value is zero"),
        (lambda: screen()[:0].copy(), "holds 0 cells"),
    ],
)
def test_values_that_are_no_log_values_are_refused(cells: Callable[[], AnnData], said: str) -> None:
    with pytest.raises(InvalidDataError, match=said) as error:
        fit(cells(), SMALL, context=CONTEXT)
    assert error.value.mend


def test_the_highest_log_value_there_can_be_is_taken() -> None:
    training_cells(_values(_put(np.log1p(1e4))), SMALL)


def test_validation_values_are_checked_too() -> None:
    cells = screen()
    x = cells.X.toarray()
    x[70, 2] = np.nan
    cells.X = sp.csr_matrix(x)
    with pytest.raises(InvalidDataError, match="validation/X: 1 values are NaN"):
        training_cells(screen(), SMALL, validation=cells)


def test_a_gene_named_twice_is_refused() -> None:
    cells = screen()
    cells.var_names = ["G0", "G0", *cells.var_names[2:]]
    with pytest.raises(InvalidDataError, match="1 genes are named more than once: G0"):
        fit(cells, SMALL, context=CONTEXT)


def test_cells_without_control_or_without_perturbed_ones_are_refused() -> None:
    cells = screen()
    control = (cells.obs["perturbation"] == "control").to_numpy()
    with pytest.raises(InvalidDataError, match="has no 'control' cells"):
        fit(cells[~control].copy(), SMALL, context=CONTEXT)
    with pytest.raises(InvalidDataError, match="holds no perturbed cells"):
        fit(cells[control].copy(), SMALL, context=CONTEXT)
    del cells.obs["perturbation"]
    with pytest.raises(InvalidDataError, match="no column 'perturbation'"):
        fit(cells, SMALL, context=CONTEXT)


@pytest.mark.parametrize("missing", [None, "", np.nan])
def test_cells_without_a_label_are_refused(missing: object) -> None:
    cells = screen()
    labels = cells.obs["perturbation"].astype(object)
    labels.iloc[[1, 80]] = missing
    cells.obs["perturbation"] = labels
    with pytest.raises(InvalidDataError, match="2 cells have no perturbation"):
        fit(cells, SMALL, context=CONTEXT)


def test_a_label_without_a_record_is_refused_where_there_are_records() -> None:
    cells = screen()
    del cells.uns["perturbations"]["G3"]
    with pytest.raises(InvalidDataError, match="labelled 'G3', which uns.'perturbations'. has no record of"):
        fit(cells, SMALL, context=CONTEXT)
    cells.uns["perturbations"] = {}  # without any, labels are the genes' names
    assert "G3" in training_cells(cells, SMALL).perturbed_genes


def test_a_condition_that_changes_nothing_is_not_taken_for_control() -> None:
    cells = screen()
    cells.uns["perturbations"]["G3"]["changes"] = ()
    with pytest.raises(InvalidDataError, match="'G3' changes no gene"):
        fit(cells, SMALL, context=CONTEXT)


def test_a_condition_without_cells_is_told_and_not_trained_on(caplog: pytest.LogCaptureFixture) -> None:
    cells = screen()
    cells.obs["perturbation"] = cells.obs["perturbation"].astype("category").cat.add_categories(["G9"])
    with caplog.at_level(logging.WARNING):
        found = fit(cells, SMALL, context=CONTEXT)
    assert "conditions without cells are not trained on: G9" in caplog.text
    assert "conditions without cells are not trained on: G9" in found.facts["notes"]
    assert "G9" not in found.trained_genes


def test_a_condition_whose_cells_express_nothing_is_refused() -> None:
    cells = screen()
    x = cells.X.toarray()
    x[(cells.obs["perturbation"] == "G2").to_numpy()] = 0
    cells.X = sp.csr_matrix(x)
    with pytest.raises(InvalidDataError, match="every gene is zero in the cells of 'G2'"):
        fit(cells, SMALL, context=CONTEXT)


def test_genes_that_are_zero_everywhere_stay_and_have_no_edges() -> None:
    cells = screen()
    x = cells.X.toarray()
    x[:, [5, 17]] = 0
    cells.X = sp.csr_matrix(x)
    found = fit(cells, SMALL, context=CONTEXT)
    assert found.genes == tuple(cells.var_names)
    assert found.facts["genes_all_zero"] == 2
    ends = {*found.gene_graph.sources.tolist(), *found.gene_graph.targets.tolist()}
    assert not ends & {5, 17}
    assert torch.isfinite(found.network.changes([(3,)])).all()


def test_validation_cells_on_another_panel_are_refused() -> None:
    with pytest.raises(InvalidDataError, match="validation/var_names: 5 of its 30 genes are missing"):
        fit(screen(), SMALL, validation=screen()[:, 5:].copy(), context=CONTEXT)


@pytest.mark.parametrize("rows", [0, 60])
def test_validation_without_a_perturbed_cell_is_replaced_by_the_rule(rows: int) -> None:
    found = fit(screen(), SMALL, validation=screen()[:rows].copy(), context=CONTEXT)
    assert "the validation cells hold no perturbed cell" in found.facts["notes"][0]
    assert found.facts["validation"].startswith("1 of 6 perturbations")


def test_a_start_on_other_genes_or_without_a_perturbed_gene_is_refused() -> None:
    first = fit(screen(), SMALL, context=CONTEXT)
    with pytest.raises(InvalidDataError, match="cells/var_names: 5 of its 30 genes are missing"):
        fit(screen()[:, 5:].copy(), SMALL, start=first, context=CONTEXT)
    cells = screen(("G0", "G1"))
    cells.obs["perturbation"] = cells.obs["perturbation"].replace({"G1": "MYOD1"})
    cells.uns["perturbations"] = {}
    with pytest.raises(UnknownPerturbation, match="MYOD1 is no gene of the perturbation graph .30 genes"):
        fit(cells, SMALL, start=first, context=CONTEXT)


def test_a_rate_that_is_far_too_high_is_told() -> None:
    from hyped_core.errors import HypedError

    params = SMALL.model_copy(update={"learning_rate": 1e30, "epochs": 3})
    with pytest.raises(HypedError, match="loss of epoch"):
        fit(screen(), params, context=CONTEXT)
