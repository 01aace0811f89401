"""Reading cell-gears' own checkpoints: names and counts are checked, bad files are typed, nothing in them runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hyped_core.errors import (  # noqa: E402
    CorruptFileError,
    InvalidDataError,
    MissingFileError,
    UnsupportedDataError,
)
from hyped_seq.gears.checkpoint import load_checkpoint  # noqa: E402
from hyped_seq.gears.official import load_official  # noqa: E402

HERE = Path(__file__).parent / "data" / "gears"
FACTS = json.loads((HERE / "screen.json").read_text())
NAMES = {"genes": FACTS["genes"], "perturbations": FACTS["perturbations"]}


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(HERE / "plain", tmp_path / "official"))


def rewritten(folder, **changes):
    """The config with some entries changed; None takes one out."""
    config = pickle.loads((folder / "config.pkl").read_bytes())  # our own fixture
    config = {key: value for key, value in {**config, **changes}.items() if value is not None}
    (folder / "config.pkl").write_bytes(pickle.dumps(config))


def test_what_the_files_say_is_kept():
    found = load_official(HERE / "deep", **NAMES)
    assert found.architecture.mode == found.params.mode == "reference"
    assert (found.architecture.gene_layers, found.architecture.perturbation_layers) == (2, 2)
    assert found.params.neighbours == 6 and found.params.coexpression_threshold == 0.2
    uncertain = load_official(HERE / "uncertain", **NAMES)
    assert uncertain.architecture.uncertainty and uncertain.params.uncertainty_weight == 0.7
    assert uncertain.params.direction_weight == pytest.approx(0.3)
    assert not any(value.requires_grad for value in uncertain.network.parameters())


def test_saved_as_ours_and_read_back(tmp_path):
    found = load_official(HERE / "uncertain", **NAMES, control_mean=np.ones(48))
    found.save(tmp_path / "ours")
    back = load_checkpoint(tmp_path / "ours")
    assert torch.equal(back.network.changes([(3,), (1, 2)]), found.network.changes([(3,), (1, 2)]))
    assert back.genes == tuple(FACTS["genes"]) and back.control_mean.tolist() == [1.0] * 48


def test_data_parallel_names(folder):
    state = torch.load(folder / "model.pt", weights_only=True)
    torch.save({f"module.{key}": value for key, value in state.items()}, folder / "model.pt")
    ours = load_official(folder, **NAMES).network.changes([(0,)])
    assert torch.equal(ours, load_official(HERE / "plain", **NAMES).network.changes([(0,)]))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"genes": FACTS["genes"][:-1]}, "47 names for a model of 48 genes"),
        ({"perturbations": [*FACTS["perturbations"], "MORE"]}, "48 names for a model of 47 perturbations"),
        ({"genes": [*FACTS["genes"][:-1], "TOY00"]}, "'TOY00' is named twice"),
        ({"genes": "TOY00"}, "names for a model"),
        ({"control_mean": np.zeros(3)}, "control_mean"),
    ],
)
def test_names_are_checked(names, words):
    with pytest.raises(InvalidDataError) as caught:
        load_official(HERE / "plain", **{**NAMES, **names})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"num_genes": None}, CorruptFileError, "num_genes is missing"),
        ({"num_perts": "many"}, CorruptFileError, "num_perts is 'many'"),
        ({"hidden_size": 9}, CorruptFileError, "gene_emb.weight is (48, 8)"),
        ({"hidden_size": 10**9}, CorruptFileError, "gene_emb.weight is (48, 8)"),
        ({"num_go_gnn_layers": 2}, CorruptFileError, "does not hold the weights"),
        ({"uncertainty": True}, CorruptFileError, "does not hold the weights"),
        ({"G_go": None}, CorruptFileError, "perturbation graph is missing"),
        ({"G_go": torch.tensor([[0, 99], [1, 2]]), "G_go_weight": torch.ones(2)}, CorruptFileError, "node 99"),
        ({"G_coexpress_weight": torch.ones(2)}, CorruptFileError, "with 2 weights"),
        ({"G_coexpress_weight": "none"}, CorruptFileError, "co-expression graph is missing"),
        ({"no_perturb": True}, UnsupportedDataError, "no_perturb"),
    ],
)
def test_a_config_that_does_not_fit_is_named(folder, changes, kind, words):
    rewritten(folder, **changes)
    with pytest.raises(kind) as caught:
        load_official(folder, **NAMES)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("coexpress_threshold", 1.0),
        ("num_similar_genes_go_graph", 0),
        ("num_similar_genes_go_graph", float("nan")),
        ("direction_lambda", -0.1),
        ("direction_lambda", float("nan")),
        ("uncertainty_reg", float("inf")),
    ],
)
def test_a_setting_out_of_range_is_named(folder, name, value):
    rewritten(folder, **{name: value})
    with pytest.raises(CorruptFileError, match=f"config.pkl.*{name} is {value}"):
        load_official(folder, **NAMES)


@pytest.mark.parametrize("name", ["config.pkl", "model.pt"])
def test_missing_cut_and_foreign_files(folder, name):
    whole = (folder / name).read_bytes()
    for content in (b"", whole[:100], whole[: len(whole) // 2], b"P\x00\x01 not this", b"\x80\x04]."):
        (folder / name).write_bytes(content)
        with pytest.raises(InvalidDataError):
            load_official(folder, **NAMES)
    (folder / name).unlink()
    with pytest.raises(MissingFileError, match=name):
        load_official(folder, **NAMES)


def test_weights_that_are_not_finite(folder):
    state = torch.load(folder / "model.pt", weights_only=True)
    state["indv_b1"][3] = float("nan")
    torch.save(state, folder / "model.pt")
    with pytest.raises(CorruptFileError, match="indv_b1 holds numbers that are not finite"):
        load_official(folder, **NAMES)


class Runs:
    """Pickles as a call of ``os.system``."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("name", ["config.pkl", "model.pt"])
def test_programs_in_a_checkpoint_do_not_run(folder, tmp_path, name):
    mark = tmp_path / "mark"
    if name == "config.pkl":
        rewritten(folder, device=Runs(f"touch {mark}"))
    else:
        torch.save({"gene_emb.weight": Runs(f"touch {mark}")}, folder / name)
    with pytest.raises(InvalidDataError, match="refused to unpickle"):
        load_official(folder, **NAMES)
    assert not mark.exists()
