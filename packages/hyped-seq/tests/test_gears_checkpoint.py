"""Checkpoints of GEARS: what is saved comes back, and what does not fit is refused by name."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from hyped_core.context import RunContext
from hyped_core.design import Perturbation
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UnsupportedDataError
from hyped_core.io.hashing import sha256_file
from hyped_seq.gears.checks import UnknownPerturbation
from hyped_seq.gears.params import GearsParams

torch = pytest.importorskip("torch")

from hyped_seq.gears.checkpoint import TENSORS, TEXT, Checkpoint, load_checkpoint  # noqa: E402
from hyped_seq.gears.train import fit  # noqa: E402

screen = runpy.run_path(str(Path(__file__).with_name("gears_cells.py")))["screen"]
SMALL = GearsParams(epochs=1, hidden=8, batch_cells=16, state_dims=2, coexpression_threshold=0.2)


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    return fit(screen(), SMALL, context=RunContext())


@pytest.fixture
def folder(model: Checkpoint, tmp_path: Path) -> Path:
    model.save(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "update", [{}, {"mode": "reference"}, {"uncertainty": True, "state_dims": 0}, {"gene_layers": 2}], ids=str
)
def test_a_model_comes_back_as_it_was(tmp_path: Path, update: dict) -> None:
    first = fit(screen(), SMALL.model_copy(update=update), context=RunContext())
    first.save(tmp_path)
    second = load_checkpoint(tmp_path)
    for key, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[key]), key
    for name in ("genes", "symbols", "perturbations", "trained_genes", "params", "architecture", "facts"):
        assert getattr(first, name) == getattr(second, name), name
    np.testing.assert_array_equal(first.control_mean, second.control_mean)
    np.testing.assert_allclose(first.history.to_numpy(), second.history.to_numpy(), rtol=0)
    assert first.history.columns.tolist() == second.history.columns.tolist()
    torch.testing.assert_close(first.network.changes([(3,)]), second.network.changes([(3,)]), rtol=0, atol=0)
    if first.states is not None:
        np.testing.assert_array_equal(first.states.loadings, second.states.loadings)
    assert not second.network.training


def test_equal_models_give_equal_bytes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    load_checkpoint(folder).save(other)
    for name in (TENSORS, TEXT):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def test_names_of_another_panel_are_told(model: Checkpoint) -> None:
    genes = list(model.genes)
    model.check_panel(genes)
    with pytest.raises(InvalidDataError, match=r"2 of its 30 genes are missing \(G0, G1\); 1 genes are not .* \(NEW\)"):
        model.check_panel([*genes[2:], "NEW"])
    with pytest.raises(InvalidDataError, match="another order .column 0 is G1, not G0.*") as error:
        model.check_panel([genes[1], genes[0], *genes[2:]])
    assert "cells[:, checkpoint.genes]" in str(error.value)
    with pytest.raises(InvalidDataError, match="more than once"):
        model.check_panel([*genes, "G0"])


def test_unknown_genes_are_named_with_near_ones(model: Checkpoint) -> None:
    with pytest.raises(UnknownPerturbation, match="G99 is no gene .*near names: G9"):
        model.encode(Perturbation.from_name("G1+G99"))
    with pytest.raises(UnknownPerturbation, match="near names: G1"):
        model.encode(Perturbation.from_name("g1"))
    assert model.encode(Perturbation.from_name("control")) == ((), ())
    nodes, signs = model.encode(Perturbation.from_name("G1+G2", direction="suppression"))
    assert [model.perturbations[i] for i in nodes] == ["G1", "G2"] and signs == (-1.0, -1.0)


@pytest.mark.parametrize("name", [TENSORS, TEXT])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(MissingFileError, match=name):
        load_checkpoint(folder)


@pytest.mark.parametrize("size", [0, 7, 500, -1])
@pytest.mark.parametrize("name", [TENSORS, TEXT])
def test_a_cut_file_is_corrupt(folder: Path, name: str, size: int) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: size if size >= 0 else len(content) - 3])
    with pytest.raises(CorruptFileError):
        load_checkpoint(folder)


def test_tensors_of_another_model_are_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    fit(screen(seed=1), SMALL, context=RunContext()).save(other)
    (folder / TENSORS).write_bytes((other / TENSORS).read_bytes())
    with pytest.raises(CorruptFileError, match=f"not the file that {TEXT} describes"):
        load_checkpoint(folder)


@pytest.mark.parametrize("content", ["[]", "{}", '{"model_type": "bert"}', "nothing"])
def test_a_foreign_text_is_refused(folder: Path, content: str) -> None:
    (folder / TEXT).write_text(content)
    with pytest.raises(CorruptFileError):
        load_checkpoint(folder)


def test_a_later_format_is_not_supported(folder: Path) -> None:
    text = json.loads((folder / TEXT).read_text())
    (folder / TEXT).write_text(json.dumps(text | {"format": 99}))
    with pytest.raises(UnsupportedDataError, match="99"):
        load_checkpoint(folder)


def _changed(folder: Path, change: dict) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / TENSORS)
    for key, value in change.items():
        if value is None:
            del tensors[key]
        else:
            tensors[key] = value(tensors[key]) if callable(value) else value
    save_file(tensors, folder / TENSORS)
    text = json.loads((folder / TEXT).read_text())
    (folder / TEXT).write_text(json.dumps(text | {"tensors_sha256": sha256_file(folder / TENSORS)}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network.indv_w1": lambda t: t[:5]}, "indv_w1"),
        ({"network.indv_b2": None}, "indv_b2"),
        ({"network.strange": torch.zeros(2)}, "strange"),
        ({"gene_graph.sources": lambda t: t + 1000}, "node|outside"),
        ({"gene_graph.weights": lambda t: t[:-1]}, "weights"),
        ({"perturbation_graph.targets": None}, "perturbation_graph"),
        ({"states.loadings": lambda t: t[1:]}, "states"),
        ({"control_mean": lambda t: t[1:]}, "control_mean"),
        ({"network.gene_emb.weight": lambda t: t * float("nan")}, "not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder: Path, change: dict, said: str) -> None:
    _changed(folder, change)
    with pytest.raises(CorruptFileError, match=said):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "change", [{"genes": ["G0"]}, {"perturbations": []}, {"params": {"hidden": "x"}}, {"facts": 1}], ids=str
)
def test_names_that_do_not_fit_the_sizes_are_refused(folder: Path, change: dict) -> None:
    text = json.loads((folder / TEXT).read_text())
    (folder / TEXT).write_text(json.dumps(text | change))
    with pytest.raises(CorruptFileError):
        load_checkpoint(folder)
