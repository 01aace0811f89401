"""`hyped seq gears train`, `predict` and `convert`, from files to files."""

from __future__ import annotations

import json
import pickle
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import anndata
import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from hyped_core.errors import HypedError, InvalidDataError, MissingFileError, UsageError  # noqa: E402
from hyped_core.splits import custom_split  # noqa: E402
from hyped_seq.cli_gears_convert import convert  # noqa: E402
from hyped_seq.cli_gears_predict import predict  # noqa: E402
from hyped_seq.cli_gears_train import train  # noqa: E402
from hyped_seq.gears import train_run  # noqa: E402
from hyped_seq.gears.checkpoint import load_checkpoint  # noqa: E402
from hyped_seq.gears.checks import UnknownPerturbation  # noqa: E402
from hyped_seq.gears.train_state import STATE  # noqa: E402

shared = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("gears_planted.py"))))


def run(command, *arguments: object) -> SimpleNamespace:
    """stdout and stderr of a command; its errors are raised."""
    done = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return SimpleNamespace(out=done.stdout, err=done.stderr)


def fails(command, kind: type[HypedError], *arguments: object) -> str:
    with pytest.raises(kind) as caught:
        CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    return str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Cells, parameters, gene sets, and a model trained on a simulation split of the cells."""
    folder = tmp_path_factory.mktemp("gears")
    shared.planted(genes=40, cells=10, controls=30, seed=2).cells.write_h5ad(folder / "cells.h5ad")
    shared.write_terms(folder / "terms.gmt")
    (folder / "params.yaml").write_text("gears: {hidden: 8, epochs: 2}\n", encoding="utf-8")
    found = run(train, *arguments(folder, folder / "model"), "--split", "simulation", "--json")
    (folder / "said.json").write_text(found.out, encoding="utf-8")
    (folder / "said.txt").write_text(found.err, encoding="utf-8")
    return folder


def arguments(folder: Path, out: Path) -> list[object]:
    return [folder / "cells.h5ad", out, "--params", f"{folder / 'params.yaml'}#gears", "--terms", folder / "terms.gmt"]


def test_training_writes_model_losses_split_and_test(folder):
    model = folder / "model"
    assert sorted(path.name for path in model.iterdir()) == [
        "gears.json", "gears.safetensors", "loss.csv", "report.json", "split.json", "test.csv",
    ]  # fmt: skip
    assert not (folder / ".model.resume").exists()
    report = json.loads((model / "report.json").read_text())
    assert report == json.loads((folder / "said.json").read_text())
    names = [name for name in shared.planted(genes=40, cells=1, controls=2, seed=2).changes]
    split = custom_split(model / "split.json", names)
    assert list(split.test) == report["split"]["test"] and len(report["split"]["sha256"]) == 64
    test = pd.read_csv(model / "test.csv")
    assert sorted(test["perturbation"]) == sorted(split.test)
    assert report["test"]["all"]["perturbations"] == len(test)
    better = report["test"]["all"]["better_than_no_change"]
    assert better == {key: int((test[key] < test[f"{key}_no_change"]).sum()) for key in ("mse", "mse_de")}
    assert f"better than no change on {better['mse']} of {len(test)}" in (folder / "said.txt").read_text()
    assert sum(v["perturbations"] for k, v in report["test"].items() if k != "all") == len(test)
    losses = pd.read_csv(model / "loss.csv")
    assert losses["epoch"].tolist() == [1, 2] and losses["validation_mse_de"].notna().all()
    checkpoint = load_checkpoint(model)
    assert not set(split.test) & set(checkpoint.trained_genes)  # held-out singles were not trained on ...
    assert set(split.test) - {n for n in split.test if "+" in n} <= set(checkpoint.perturbations)  # ... and have a node
    assert "test, all" in (folder / "said.txt").read_text()


def test_the_test_errors_are_those_of_the_cells(folder):
    cells = anndata.read_h5ad(folder / "cells.h5ad")
    test = pd.read_csv(folder / "model" / "test.csv").set_index("perturbation")
    labels = cells.obs["perturbation"].astype(str).to_numpy()
    control = cells.X[labels == "control"].mean(0)
    name = test.index[0]
    truth = cells.X[labels == name].mean(0)
    assert test.loc[name, "mse_no_change"] == pytest.approx(((truth - control) ** 2).mean(), rel=1e-4)
    run(predict, folder / "model", folder / "cells.h5ad", folder / "one.h5ad", "--held-out")
    found = anndata.read_h5ad(folder / "one.h5ad")
    mean = found.X[found.obs["perturbation"] == name].mean(0)
    assert test.loc[name, "mse"] == pytest.approx(((truth - mean) ** 2).mean(), rel=1e-3)


def test_the_same_command_gives_the_same_bytes(folder):
    run(train, *arguments(folder, folder / "again"), "--split", "simulation")
    for name in ("gears.safetensors", "gears.json", "loss.csv", "report.json", "split.json", "test.csv"):
        assert (folder / "again" / name).read_bytes() == (folder / "model" / name).read_bytes()


def test_a_training_that_was_killed_goes_on(folder, monkeypatch):
    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    out = folder / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(train_run, "evaluate_test", killed)
        with pytest.raises(click.Abort):
            train.main([str(a) for a in [*arguments(folder, out), "--split", "simulation"]], standalone_mode=False)
    state = folder / ".killed.resume" / STATE
    assert state.is_file() and not out.exists()
    before = state.stat().st_mtime_ns
    seen = []
    real = train_run.evaluate_test
    monkeypatch.setattr(
        train_run, "evaluate_test", lambda *a: (seen.append(state.stat().st_mtime_ns), real(*a))[1]
    )
    run(train, *arguments(folder, out), "--split", "simulation")
    assert seen == [before]  # no epoch was run again
    assert (out / "gears.safetensors").read_bytes() == (folder / "model" / "gears.safetensors").read_bytes()
    assert not state.exists()


def test_predictions_of_a_combination(folder):
    out = folder / "both.h5ad"
    found = run(predict, folder / "model", folder / "cells.h5ad", out, "--perturb", "P00:activation",
                "--perturb", "P10:suppression", "--max-cells", 7, "--json")  # fmt: skip
    cells = anndata.read_h5ad(out)
    assert cells.n_obs == 7 and set(cells.obs["perturbation"]) == {"P00+P10"} and cells.X.min() >= 0
    source = anndata.read_h5ad(folder / "cells.h5ad")
    assert set(cells.obs["control_cell"]) <= set(source.obs_names[source.obs["perturbation"] == "control"])
    assert json.loads(cells.uns["gears_json"]) == json.loads(found.out)
    assert "suppression of P10 is encoded as the activation" in found.err


def test_a_list_of_predictions(folder):
    (folder / "list.txt").write_text("P00\nP00+P10\nP20:suppression+P01:activation\n", encoding="utf-8")
    run(predict, folder / "model", folder / "cells.h5ad", folder / "list.h5ad", "--list", folder / "list.txt")
    cells = anndata.read_h5ad(folder / "list.h5ad")
    assert cells.obs["perturbation"].value_counts().to_dict() == {"P00": 30, "P00+P10": 30, "P20+P01": 30}
    assert cells.obs_names.is_unique
    records = json.loads(cells.uns["perturbations_json"])
    assert records["P20+P01"]["changes"][0]["direction"] == "suppression"


def test_columns_are_taken_by_name(folder):
    cells = anndata.read_h5ad(folder / "cells.h5ad")
    more = anndata.AnnData(
        np.hstack([cells.X[:, ::-1], cells.X[:, :1]]),
        obs=cells.obs,
        var=pd.DataFrame(index=[*cells.var_names[::-1], "MORE"]),
    )
    more.write_h5ad(folder / "more.h5ad")
    for name in ("cells", "more"):
        found = run(predict, folder / "model", folder / f"{name}.h5ad", folder / f"from_{name}.h5ad",
                    "--perturb", "P00:activation")  # fmt: skip
    one, two = (anndata.read_h5ad(folder / f"from_{name}.h5ad") for name in ("cells", "more"))
    assert list(one.var_names) == list(two.var_names) and np.allclose(one.X, two.X)
    assert "1 genes that the model does not know" in found.err


def test_a_model_goes_on_from_another(folder):
    found = run(train, *arguments(folder, folder / "tuned"), "--from", folder / "model", "--epochs", 1)
    assert "40 genes are shared" in found.err
    facts = json.loads((folder / "tuned" / "report.json").read_text())["model"]
    assert facts["started_from"]["transferred"]["genes"]["exact"] == 40
    assert "split" not in json.loads((folder / "tuned" / "report.json").read_text())


def test_dry_runs_write_nothing(folder):
    before = sorted(folder.rglob("*"))
    found = json.loads(run(train, *arguments(folder, folder / "dry"), "--dry-run").out)
    assert found["genes"] == 40 and found["seconds"] > 0
    found = json.loads(
        run(predict, folder / "model", folder / "cells.h5ad", folder / "dry.h5ad", "--held-out", "--dry-run").out
    )
    assert found["perturbations"] > 1
    assert sorted(folder.rglob("*")) == before


def test_estimates_are_not_below_what_is_taken(folder):
    code = (
        "import sys; from pathlib import Path; from click.testing import CliRunner;"
        "from hyped_seq.cli_gears_{0} import {0} as command;"
        "done = CliRunner().invoke(command, sys.argv[1:], catch_exceptions=False); assert done.exit_code == 0;"
        # not ru_maxrss: that counts what the parent had at the fork
        "lines = Path('/proc/self/status').read_text().splitlines();"
        "print(next(int(line.split()[1]) for line in lines if line.startswith('VmHWM')) / 1024)"
    )
    predicted = [folder / "model", folder / "cells.h5ad", folder / "peak.h5ad", "--held-out"]
    for name, command, given in (
        ("train", train, arguments(folder, folder / "peak")), ("predict", predict, predicted),
    ):  # fmt: skip
        said = json.loads(run(command, *given, "--dry-run").out)["memory_mib"]
        call = [sys.executable, "-c", code.format(name), *map(str, given)]
        taken = float(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
        assert taken < said < 3 * taken


def test_a_note_is_told_once(folder, tmp_path, caplog):
    cells = anndata.read_h5ad(folder / "cells.h5ad")
    labels = cells.obs["perturbation"].astype(str)
    rows = [*np.flatnonzero(labels == "control"), *np.flatnonzero(labels == "P00")[:3]]
    cells[rows].copy().write_h5ad(tmp_path / "few.h5ad")
    found = run(train, tmp_path / "few.h5ad", tmp_path / "model", *arguments(folder, tmp_path)[2:])
    assert (caplog.text + found.err).count("every epoch is run and the last one kept") == 1


def test_a_split_holds_all_spellings_of_a_perturbation_out(folder, tmp_path):
    cells = anndata.read_h5ad(folder / "cells.h5ad")
    labels = cells.obs["perturbation"].astype(str).astype(object)
    labels.iloc[np.flatnonzero(labels == "P00")[::2]] = "P00+ctrl"
    cells.obs["perturbation"] = labels
    cells.uns = {}
    cells.write_h5ad(tmp_path / "spelled.h5ad")
    split = tmp_path / "split.json"
    known = [name for name in pd.unique(labels) if name not in ("control", "P00", "P00+ctrl")]
    sets = {"train": known[1:], "validation": known[:1], "test": ["P00"]}
    split.write_text(json.dumps(sets), encoding="utf-8")
    run(train, tmp_path / "spelled.h5ad", tmp_path / "model", *arguments(folder, tmp_path)[2:], "--split-file", split)
    tested = pd.read_csv(tmp_path / "model" / "test.csv")["cells"].tolist()
    assert tested == [int(labels.isin(["P00", "P00+ctrl"]).sum())]


def test_what_training_refuses(folder, tmp_path):
    plain = arguments(folder, tmp_path / "model")
    assert "--overwrite" in fails(train, UsageError, *arguments(folder, folder / "model"))
    assert "is read, and would be replaced" in fails(train, UsageError, folder / "cells.h5ad", folder, "--overwrite")
    assert "two splits" in fails(train, UsageError, *plain, "--split", "single", "--split-file", "x.json")
    fails(train, MissingFileError, tmp_path / "no.h5ad", tmp_path / "model")
    cells = anndata.read_h5ad(folder / "cells.h5ad")
    cells.obs = cells.obs.rename(columns={"perturbation": "condition"})
    cells.write_h5ad(tmp_path / "condition.h5ad")
    assert "import-cells" in fails(train, InvalidDataError, tmp_path / "condition.h5ad", tmp_path / "model")
    (tmp_path / "params.yaml").write_text("{hiden: 8}\n", encoding="utf-8")
    wrong = ["--params", tmp_path / "params.yaml"]
    assert "hidden" in fails(train, InvalidDataError, folder / "cells.h5ad", tmp_path / "m", *wrong)
    (tmp_path / "split.json").write_text(json.dumps({"train": ["P00"], "validation": ["NONE"]}), encoding="utf-8")
    assert "NONE" in fails(train, InvalidDataError, *plain, "--split-file", tmp_path / "split.json")
    assert not (tmp_path / "model").exists()


def test_what_prediction_refuses(folder, tmp_path):
    model, cells, out = folder / "model", folder / "cells.h5ad", tmp_path / "out.h5ad"
    assert "near names: P" in fails(predict, UnknownPerturbation, model, cells, out, "--perturb", "P0O:activation")
    assert "GENE:activation" in fails(predict, UsageError, model, cells, out, "--perturb", "P00")
    fails(predict, UsageError, model, cells, out)
    fails(predict, UsageError, model, cells, out, "--held-out", "--perturb", "P00:activation")
    fails(predict, UsageError, model, cells, tmp_path / "out.csv", "--held-out")
    fails(predict, MissingFileError, tmp_path / "no", cells, out, "--held-out")
    fails(predict, MissingFileError, model, cells, out, "--list", tmp_path / "no.txt")
    (tmp_path / "list.txt").write_text("P00:up\n", encoding="utf-8")
    assert "P00:up" in fails(predict, InvalidDataError, model, cells, out, "--list", tmp_path / "list.txt")
    full = anndata.read_h5ad(cells)
    full[:, 1:].write_h5ad(tmp_path / "less.h5ad")
    assert "P00" in fails(predict, InvalidDataError, model, tmp_path / "less.h5ad", out, "--perturb", "P01:activation")
    full[full.obs["perturbation"] == "P00"].write_h5ad(tmp_path / "perturbed.h5ad")
    perturbed = fails(predict, InvalidDataError, model, tmp_path / "perturbed.h5ad", out, "--perturb", "P01:activation")
    assert "control" in perturbed
    assert not out.exists()


@pytest.fixture
def official(folder) -> Path:
    """The folder that the original's ``save_model`` would write of a model in mode reference."""
    run(train, *arguments(folder, folder / "reference"), "--mode", "reference", "--epochs", 1, "--overwrite")
    checkpoint = load_checkpoint(folder / "reference")
    made = folder / "official"
    made.mkdir(exist_ok=True)
    config = {
        "hidden_size": 8, "num_go_gnn_layers": 1, "num_gene_gnn_layers": 1, "decoder_hidden_size": 16,
        "num_similar_genes_go_graph": 20, "num_similar_genes_co_express_graph": 20, "coexpress_threshold": 0.4,
        "uncertainty": False, "uncertainty_reg": 1, "direction_lambda": 0.1, "device": "cpu", "no_perturb": False,
        "num_genes": len(checkpoint.genes), "num_perts": len(checkpoint.perturbations),
    }  # fmt: skip
    for key, graph in (("G_coexpress", checkpoint.gene_graph), ("G_go", checkpoint.perturbation_graph)):
        config[key] = torch.from_numpy(np.stack([graph.sources, graph.targets]))
        config[f"{key}_weight"] = torch.from_numpy(graph.weights)
    with (made / "config.pkl").open("wb") as stream:
        pickle.dump(config, stream)
    torch.save(checkpoint.network.state_dict(), made / "model.pt")
    (made / "genes.txt").write_text("\n".join(checkpoint.genes) + "\n", encoding="utf-8")
    (made / "perturbations.json").write_text(json.dumps(checkpoint.perturbations), encoding="utf-8")
    return made


def test_official_checkpoints_become_ours(folder, official, tmp_path):
    names = ["--genes", official / "genes.txt", "--perturbations", official / "perturbations.json"]
    found = run(convert, official, tmp_path / "model", *names)
    assert "40 genes" in found.err
    ours, theirs = load_checkpoint(folder / "reference"), load_checkpoint(tmp_path / "model")
    assert theirs.architecture.mode == "reference"
    assert torch.equal(ours.network.changes([(0, 3)]), theirs.network.changes([(0, 3)]))
    run(predict, tmp_path / "model", folder / "cells.h5ad", tmp_path / "out.h5ad", "--perturb", "P00:activation")
    assert "--overwrite" in fails(convert, UsageError, official, tmp_path / "model", *names)
    short = tmp_path / "short.txt"
    short.write_text("P00\n", encoding="utf-8")
    fails(convert, InvalidDataError, official, tmp_path / "new", "--genes", short, *names[2:])
    fails(convert, MissingFileError, official, tmp_path / "new", "--genes", tmp_path / "no", *names[2:])
    assert not (tmp_path / "new").exists()


def test_outputs_never_replace_what_is_read(folder, tmp_path):
    cells = folder / "cells.h5ad"
    before = cells.read_bytes()
    fails(predict, UsageError, folder / "model", cells, cells, "--perturb", "G1:activation")
    fails(train, UsageError, *arguments(folder, cells))
    fails(train, UsageError, *arguments(folder, folder))
    foreign = tmp_path / "other.h5ad"
    foreign.write_bytes(before)
    asked = ("--perturb", "P00:activation")
    assert "no prediction" in fails(predict, UsageError, folder / "model", cells, foreign, *asked)
    for _ in range(2):
        run(predict, folder / "model", cells, tmp_path / "own.h5ad", *asked)
    assert foreign.read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    fails(train, UsageError, *arguments(folder, tmp_path))
    assert cells.read_bytes() == before
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"
