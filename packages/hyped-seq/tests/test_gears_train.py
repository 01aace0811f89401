"""Training of GEARS: it learns what is planted, is seeded, goes on where it was cut off, and keeps the best epoch."""

from __future__ import annotations

import json
import logging
import math
import runpy
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hyped_core.context import RunContext
from hyped_core.errors import CorruptFileError, InvalidDataError
from hyped_seq.gears.params import GearsParams

torch = pytest.importorskip("torch")

from hyped_seq.gears.checkpoint import Checkpoint  # noqa: E402
from hyped_seq.gears.data import training_cells  # noqa: E402
from hyped_seq.gears.terms import terms_of  # noqa: E402
from hyped_seq.gears.train import fit, graph_cells, vocabulary  # noqa: E402
from hyped_seq.gears.train_state import STATE  # noqa: E402

screen = runpy.run_path(str(Path(__file__).with_name("gears_cells.py")))["screen"]
SMALL = GearsParams(epochs=3, hidden=8, batch_cells=16, state_dims=2, coexpression_threshold=0.2)
TERMS = terms_of({f"G{i}": [f"t{i % 4}", "all"] for i in range(12)}, "test")
CONTEXT = RunContext()


def weights(checkpoint: Checkpoint) -> dict[str, bytes]:
    return {key: value.numpy().tobytes() for key, value in checkpoint.network.state_dict().items()}


class CutOff:
    """Progress that interrupts in one of the loops."""

    def __init__(self, after: int) -> None:
        self.left = after

    def track(self, items: Iterable, description: str, total: int | None = None) -> Iterator:
        self.left -= 1
        for number, item in enumerate(items):
            if self.left < 0 and number == 2:
                raise KeyboardInterrupt
            yield item


@pytest.mark.parametrize("mode", ["fixed", "reference"])
def test_a_planted_change_is_learned(mode: str) -> None:
    params = SMALL.model_copy(update={"mode": mode, "epochs": 6, "hidden": 16, "learning_rate": 0.01})
    own_terms = terms_of({f"G{i}": [f"t{i}"] for i in range(12)}, "test")
    found = fit(screen(), params, terms=own_terms, validation=screen(seed=1), context=CONTEXT)
    assert found.history.train_mse_de.min() < 0.6 * found.history.train_mse_de[0]
    for gene in range(5):
        change = found.network.changes([(found.positions[f"G{gene}"],)]).numpy()[0]
        planted = [gene + 10, gene + 11, gene + 12]
        assert change[planted].mean() > 0.5
        assert np.abs(np.delete(change, planted)).mean() < 0.5 * change[planted].mean()


@pytest.mark.parametrize("mode", ["fixed", "reference"])
def test_the_same_seed_gives_the_same_bytes_and_another_others(mode: str) -> None:
    params = SMALL.model_copy(update={"mode": mode, "epochs": 1})
    one, same = (fit(screen(), params, terms=TERMS, context=CONTEXT) for _ in range(2))
    assert weights(one) == weights(same)
    assert one.history.equals(same.history)
    assert weights(one) != weights(fit(screen(), params, terms=TERMS, context=RunContext(seed=1)))
    other = params.model_copy(update={"seed": 1})
    assert weights(one) != weights(fit(screen(), other, terms=TERMS, context=CONTEXT))


def test_threads_change_no_more_than_float_noise() -> None:
    params = SMALL.model_copy(update={"epochs": 1})
    one, two = (fit(screen(), params, context=RunContext(threads=n)) for n in (1, 2))
    for key, value in one.network.state_dict().items():
        torch.testing.assert_close(value, two.network.state_dict()[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", ["fixed", "reference"])
def test_interrupted_training_ends_in_the_weights_of_uninterrupted(tmp_path: Path, mode: str) -> None:
    params = SMALL.model_copy(update={"mode": mode})
    whole = fit(screen(), params, terms=TERMS, context=CONTEXT)
    for loops in (1, 2):  # in the second epoch, then in the third after going on
        with pytest.raises(KeyboardInterrupt):
            fit(screen(), params, terms=TERMS, folder=tmp_path, context=replace(CONTEXT, progress=CutOff(1)))
        assert (tmp_path / STATE).is_file(), loops
    gone_on = fit(screen(), params, terms=TERMS, folder=tmp_path, context=CONTEXT)
    assert weights(gone_on) == weights(whole)
    assert gone_on.history.equals(whole.history)
    assert gone_on.facts == whole.facts
    again = fit(screen(), params, terms=TERMS, folder=tmp_path, context=CONTEXT)  # nothing is left to do
    assert weights(again) == weights(whole)


def test_training_can_be_made_longer(tmp_path: Path) -> None:
    short = SMALL.model_copy(update={"epochs": 1})
    fit(screen(), short, folder=tmp_path, context=CONTEXT)
    longer = fit(screen(), SMALL, folder=tmp_path, context=CONTEXT)
    assert weights(longer) == weights(fit(screen(), SMALL, context=CONTEXT))
    with pytest.raises(InvalidDataError, match="3 epochs on, 1 are asked for"):
        fit(screen(), short, folder=tmp_path, context=CONTEXT)


def test_state_of_other_cells_or_parameters_is_refused(tmp_path: Path) -> None:
    fit(screen(), SMALL, folder=tmp_path, context=CONTEXT)
    with pytest.raises(InvalidDataError, match="other cells or graphs, or with other parameters"):
        fit(screen(seed=1), SMALL, folder=tmp_path, context=CONTEXT)
    with pytest.raises(InvalidDataError, match="other parameters"):
        fit(screen(), SMALL.model_copy(update={"weight_decay": 0.0}), folder=tmp_path, context=CONTEXT)
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CorruptFileError, match="no state of training"):
        fit(screen(), SMALL, folder=tmp_path, context=CONTEXT)


def test_state_of_other_graphs_is_refused_and_that_of_the_same_from_another_path_is_not(tmp_path: Path) -> None:
    fit(screen(), SMALL, terms=TERMS, extra=("AAA1",), folder=tmp_path, context=CONTEXT)
    half = terms_of({f"G{i}": [f"t{i % 4}"] for i in range(6)}, "test")
    for other in ({"terms": half, "extra": ("AAA1",)}, {"extra": ("AAA1",)}, {"terms": TERMS, "extra": ("ZZZ1",)}):
        with pytest.raises(InvalidDataError, match="other cells or graphs"):
            fit(screen(), SMALL, folder=tmp_path, context=CONTEXT, **other)
    moved = SMALL.model_copy(update={"terms": "elsewhere.gmt"})
    fit(screen(), moved, terms=TERMS, extra=("AAA1",), folder=tmp_path, context=CONTEXT)


def test_the_epochs_script_runs_without_a_gpu(tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "gpu_gears.py"
    command = [sys.executable, script, "--device", "cpu", "--tiny", "--epochs", "2", "--out", tmp_path / "out.json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    facts = json.loads((tmp_path / "out.json").read_text())
    assert json.loads(done.stdout) == facts
    assert 0 < facts["epoch_without_evaluation_s"] <= facts["epoch_s"]
    assert facts["times_faster_than_published"] is None  # of another size


def test_the_epoch_of_least_validation_error_is_kept() -> None:
    params = SMALL.model_copy(update={"epochs": 4, "learning_rate": 0.02})
    kept = fit(screen(), params, validation=screen(("G7",), seed=2), context=CONTEXT)
    best = int(kept.history.validation_mse_de.argmin()) + 1
    assert kept.facts["best_epoch"] == best
    stopped = fit(
        screen(), params.model_copy(update={"epochs": best}), validation=screen(("G7",), seed=2), context=CONTEXT
    )
    assert weights(stopped) == weights(kept)


def test_training_stops_when_patience_is_at_its_end() -> None:
    params = SMALL.model_copy(update={"epochs": 12, "patience": 1, "learning_rate": 0.05})
    found = fit(screen(), params, validation=screen(("G7",), seed=2), context=CONTEXT)
    assert len(found.history) == found.facts["best_epoch"] + 1 < 12
    assert found.facts["epochs"] == len(found.history)


def test_the_learning_rate_halves_after_each_epoch() -> None:
    assert fit(screen(), SMALL, context=CONTEXT).history.learning_rate.tolist() == [1e-3, 5e-4, 2.5e-4]


def test_one_perturbation_is_enough() -> None:
    found = fit(screen(("G0",)), SMALL, context=CONTEXT)
    assert found.facts["validation"] == "4 cells, a tenth of each of 1 conditions, were held out for validation"
    assert found.history.validation_mse_de.notna().all()


def test_where_nothing_can_be_held_out_the_last_epoch_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = fit(screen(("G0", "G1"), cells=4), SMALL, context=CONTEXT)
    assert found.facts["best_epoch"] == 3
    assert found.facts["best_validation_mse_de"] is None
    assert "nothing could be held out" in found.facts["notes"][0] and "nothing could be held out" in caplog.text
    assert "validation_mse_de" not in found.history


def test_fewer_cells_than_a_batch_are_one_batch() -> None:
    params = SMALL.model_copy(update={"batch_cells": 512, "epochs": 1})
    assert math.isfinite(fit(screen(), params, context=CONTEXT).history.train_loss[0])


def test_control_cells_relabelled_as_conditions_teach_no_change() -> None:
    cells = screen((), control=90)
    cells.obs["perturbation"] = np.repeat(["control", "G0", "G1"], 30)
    cells.uns["perturbations"] = {}
    params = SMALL.model_copy(update={"epochs": 8, "learning_rate": 0.01})
    found = fit(cells, params, context=CONTEXT)
    assert np.abs(found.network.changes([(found.positions["G0"],)]).numpy()).mean() < 0.3


def test_training_goes_on_from_a_checkpoint() -> None:
    long = SMALL.model_copy(update={"epochs": 6, "learning_rate": 0.01})
    first = fit(screen(), long, terms=TERMS, context=CONTEXT)
    before = weights(first)
    second = fit(screen(("G1", "G3"), seed=4), SMALL, start=first, context=CONTEXT)
    assert weights(first) == before  # it is copied
    assert second.perturbations == first.perturbations
    assert second.trained_genes == ("G0", "G1", "G2", "G3", "G4")
    anew = fit(screen(("G1", "G3"), seed=4), SMALL, context=CONTEXT)
    assert second.history.train_loss[0] < anew.history.train_loss[0]
    with pytest.raises(InvalidDataError, match="mode 'fixed'"):
        fit(screen(), SMALL.model_copy(update={"mode": "reference"}), start=first, context=CONTEXT)


def test_nodes_are_the_panel_perturbed_genes_and_those_asked_for() -> None:
    cells = screen(("G0", "G1"))
    cells.obs["perturbation"] = cells.obs["perturbation"].replace({"G1": "ELSEWHERE"})
    cells.uns["perturbations"] = {}
    data = training_cells(cells, SMALL)
    names = vocabulary(data, ("ASKED",))
    assert names == tuple(sorted([*cells.var_names, "ELSEWHERE", "ASKED"]))
    found = fit(cells, SMALL, terms=TERMS, extra=("ASKED",), context=CONTEXT)
    assert found.perturbations == names
    assert found.facts["perturbed_genes_without_neighbours"] == ["ELSEWHERE"]
    assert found.facts["perturbation_graph"] == "terms"


def test_without_terms_the_panels_graph_joins_perturbations() -> None:
    found = fit(screen(), SMALL, extra=("A",), context=CONTEXT)
    assert found.facts["perturbation_graph"] == "co-expression"
    names, genes, graph = found.perturbations, found.genes, found.perturbation_graph
    named = {(names[s], names[t]) for s, t in zip(graph.sources, graph.targets, strict=True)}
    panel = found.gene_graph
    assert named == {(genes[s], genes[t]) for s, t in zip(panel.sources, panel.targets, strict=True)}


def test_co_expression_is_of_control_cells_and_in_reference_mode_of_single_perturbations_too() -> None:
    fixed = training_cells(screen(), SMALL)
    assert (fixed.condition[graph_cells(fixed, SMALL)] == 0).all()
    reference = SMALL.model_copy(update={"mode": "reference"})
    data = training_cells(screen(), reference)
    rows = graph_cells(data, reference)
    assert {data.names[i] for i in data.condition[rows]} >= {"control"}
    assert "G0+G1" not in {data.names[i] for i in data.condition[rows]}
    assert np.isin(rows, data.train).all()


def test_direction_matters_where_it_is_signed() -> None:
    cells = screen(("G0", "G1"))
    cells.uns["perturbations"]["G1"]["changes"] = (
        cells.uns["perturbations"]["G1"]["changes"][0] | {"direction": "suppression"},
    )
    outcome = []
    for direction in ("ignored", "signed"):
        params = SMALL.model_copy(update={"direction": direction, "epochs": 1})
        outcome.append(weights(fit(cells, params, context=CONTEXT)))
    assert outcome[0] != outcome[1]
