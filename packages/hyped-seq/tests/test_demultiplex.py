"""What follows from calls by the design, the table of calls and the command; the models have a file of their own."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from hyped_core.cli.main import run
from hyped_core.context import RunContext
from hyped_core.design import default_design
from hyped_core.errors import DesignError, InvalidDataError, MissingFileError, PluginError
from hyped_core.plugins.registry import get_model
from hyped_seq.demultiplex.calls import FURTHER_COLUMNS
from hyped_seq.demultiplex.hashed import Hashed
from hyped_seq.demultiplex.run import COLUMNS, demultiplex, read_calls, write_calls
from hyped_seq.ingest.genes import EMPTY
from hyped_seq.ingest.params import IngestParams
from hyped_seq.ingest.run import ingest_pools
from hyped_seq.readers.h5ad import read_h5ad

CONTEXT = RunContext()


def hto_of(counts: np.ndarray, pool: str = "p1", tags: tuple[str, ...] = ("A", "B")) -> anndata.AnnData:
    obs = pd.DataFrame({"pool": pool}, index=[f"{pool}_c{i}" for i in range(len(counts))])
    return anndata.AnnData(
        sp.csr_matrix(counts.astype(np.int32)), obs=obs, var=pd.DataFrame(index=list(tags))
    )


def simulated(
    seed: int = 0, n: int = 1500, scale: tuple[float, ...] = (60, 20, 8)
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of cells with one of three tags of unequal brightness over background, and their tags."""
    rng = np.random.default_rng(seed)
    tag = rng.integers(0, 3, n)
    mean = np.tile([4.0, 2.0, 1.0], (n, 1)) * np.exp(0.4 * rng.standard_normal((n, 1)))
    mean[np.arange(n), tag] += np.array(scale)[tag] * np.exp(0.4 * rng.standard_normal(n))
    return rng.poisson(mean), tag


@pytest.fixture(scope="module")
def world_hto(seq_world) -> anndata.AnnData:
    result = ingest_pools(seq_world.pools, default_design(), IngestParams(), EMPTY, context=CONTEXT)
    return result.modalities["hto"]


def test_simulated_experiment(world_hto, seq_world):
    design = default_design()
    truth = pd.Series(seq_world.calls, index=seq_world.cells.index).loc[world_hto.obs_names].to_numpy()
    accuracy = {}
    for name in ("hashed", "hashsolo"):
        calls = demultiplex(world_hto, get_model("demultiplex", name).create(), design, context=CONTEXT)
        accuracy[name] = (calls["call"].to_numpy() == truth).mean()
    assert accuracy["hashed"] > 0.87
    assert accuracy["hashed"] > accuracy["hashsolo"] + 0.02
    calls = demultiplex(world_hto, Hashed(), design, context=CONTEXT)
    assert list(calls.index) == list(world_hto.obs_names)
    both = calls[calls["call"] == "394631"]
    assert set(both["condition"][both["pool"] == "perturbed"]) == {"siPRRX1"}
    assert set(both["condition"][both["pool"] == "control"]) == {"control"}
    assert set(both["phase"][both["pool"] == "control"]) == {"G1"}
    assert (calls["phase"][calls["pool"] == "perturbed"] == "").all()
    assert (calls["condition"][calls["kind"] != "singlet"] == "").all()
    correct = (calls["call"].to_numpy() == truth) & (calls["kind"] == "singlet").to_numpy()
    assert (calls["condition"].to_numpy() == seq_world.cells.loc[calls.index, "condition"])[correct].all()


def test_a_pool_is_called_as_if_it_were_alone(world_hto):
    design = default_design()
    together = demultiplex(world_hto, Hashed(), design, context=CONTEXT)
    alone = demultiplex(
        world_hto[world_hto.obs["pool"] == "control"].copy(), Hashed(), design, context=CONTEXT
    )
    pd.testing.assert_frame_equal(together[together["pool"] == "control"], alone)


def test_round_trip_of_the_table(world_hto, tmp_path):
    calls = demultiplex(world_hto, Hashed(), default_design(), context=CONTEXT)
    write_calls(calls, tmp_path / "a.csv")
    write_calls(calls, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == ",".join([*COLUMNS, *FURTHER_COLUMNS])
    pd.testing.assert_frame_equal(read_calls(tmp_path / "a.csv"), calls)
    plain = calls.drop(columns=list(FURTHER_COLUMNS))
    write_calls(plain, tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text().splitlines()[0] == ",".join(COLUMNS), "a model need not give them"
    pd.testing.assert_frame_equal(read_calls(tmp_path / "c.csv"), plain)


def test_a_design_that_names_another_tag(small_design):
    with pytest.raises(DesignError, match="'B'"):
        demultiplex(hto_of(np.ones((5, 2)), tags=("A", "X")), Hashed(), small_design, context=CONTEXT)


def test_counts_that_are_none(small_design):
    hto = hto_of(np.ones((5, 2)))
    hto.X = sp.csr_matrix(np.full((5, 2), 0.5))
    with pytest.raises(InvalidDataError, match="whole"):
        demultiplex(hto, Hashed(), small_design, context=CONTEXT)
    del hto.obs["pool"]
    with pytest.raises(InvalidDataError, match="'pool'"):
        demultiplex(hto, Hashed(), small_design, context=CONTEXT)


def test_a_model_that_breaks_its_contract(small_design):
    class Short:
        def assign(self, hto, *, context):
            return Hashed().assign(hto, context=context).iloc[:-1]

    class Sure(Hashed):
        def assign(self, hto, *, context):
            return super().assign(hto, context=context).assign(probability=2.0)

    hto = hto_of(simulated(n=50)[0][:, :2])
    for model, message in ((Short(), "one row a cell"), (Sure(), "outside")):
        with pytest.raises(PluginError, match=message):
            demultiplex(hto, model, small_design, context=CONTEXT)


def test_broken_tables_of_calls(tmp_path):
    with pytest.raises(MissingFileError):
        read_calls(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_text("cell,pool\nx,p\n")
    with pytest.raises(InvalidDataError, match="call"):
        read_calls(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text(",".join(COLUMNS) + "\n" + "x,p,A,singlet,1,A,up,\n" * 2)
    with pytest.raises(InvalidDataError, match="twice"):
        read_calls(tmp_path / "b.csv")


def test_command_line(small_design, tmp_path, capsys):
    hto_of(simulated(n=60)[0][:, :2]).write_h5ad(tmp_path / "hto.h5ad")
    params = tmp_path / "params.yaml"
    params.write_text("demultiplex: {model: hashed, config: {doublet_share: 0.1}}\n")
    arguments = [
        "seq",
        "demultiplex",
        str(tmp_path / "hto.h5ad"),
        str(tmp_path / "out.csv"),
        "--design",
        str(tmp_path / "design.yaml"),
    ]
    assert run([*arguments, "--params", f"{params}#demultiplex"]) == 0
    assert (read_calls(tmp_path / "out.csv")["kind"] == "doublet").sum() == 6
    params.write_text("demultiplex: {model: hashed, config: {doublet_shares: 0.1}}\n")
    before = (tmp_path / "out.csv").read_bytes()
    assert run([*arguments, "--params", f"{params}#demultiplex"]) == 3
    assert "doublet_share" in capsys.readouterr().err
    assert run([*arguments, "--model", "hashd"]) == 4
    assert (tmp_path / "out.csv").read_bytes() == before


def test_a_dry_run_says_what_it_would_make_and_writes_nothing(small_design, tmp_path, capsys):
    hto_of(simulated(n=60)[0][:, :2]).write_h5ad(tmp_path / "hto.h5ad")
    arguments = ["seq", "demultiplex", str(tmp_path / "hto.h5ad"), str(tmp_path / "out.csv"), "--dry-run"]
    assert run([*arguments, "--design", str(tmp_path / "design.yaml")]) == 0
    said = json.loads(capsys.readouterr().out)
    held = read_h5ad(tmp_path / "hto.h5ad")
    assert (said["cells"], said["features"], said["outputs"]) == (held.n_obs, {"hto": 2}, ["out.csv"])
    assert said["bytes"] == 100 * held.n_obs and said["seconds"] > 0 and "cells/s" in said["rate"]
    assert run([*arguments, "--model", "hashd"]) == 4
    assert not (tmp_path / "out.csv").exists()


def hashtag_table(folder, pool_tags=("H-A-GTCAACTCTTTAGCG", "b", "unmapped")):
    """Counts of 60 cells as CITE-seq-Count has them: ``table.csv``, and the same counts as ``hto.h5ad`` of pool p1."""
    counts, _ = simulated(n=60)
    cells = ["".join(row) for row in np.random.default_rng(1).choice(list("ACGT"), (60, 16))]
    pd.DataFrame(counts, index=[f"{cell}-1" for cell in cells], columns=pool_tags).T.to_csv(folder / "table.csv")
    hto = hto_of(counts[:, :2])
    hto.obs_names = [f"p1_{cell}" for cell in cells]
    hto.write_h5ad(folder / "hto.h5ad")


def test_a_count_table_is_called_as_its_h5ad_is(small_design, tmp_path, capsys):
    hashtag_table(tmp_path)
    options = ["--design", str(tmp_path / "design.yaml")]
    for name in ("table.csv", "hto.h5ad"):
        assert run(["seq", "demultiplex", str(tmp_path / name), str(tmp_path / f"{name}.calls"), *options]) == 0
    assert (tmp_path / "table.csv.calls").read_bytes() == (tmp_path / "hto.h5ad.calls").read_bytes()
    calls = read_calls(tmp_path / "table.csv.calls")
    assert set(calls["pool"]) == {"p1"} and set(calls["condition"]) >= {"up", "control"}
    said = capsys.readouterr().err
    assert "pool 'p1': 60 cells, tags A, B" in said and "left out, no tags of the pool: unmapped" in said


def test_a_count_table_without_a_design_or_of_another_pool(small_design, tmp_path, capsys):
    hashtag_table(tmp_path)
    table, out = str(tmp_path / "table.csv"), tmp_path / "calls.csv"
    assert run(["seq", "demultiplex", table, str(out)]) == 0
    calls = read_calls(out)
    assert set(calls["pool"]) == {"table"} and set(calls["condition"]) == {""} and {"b"} < set(calls["call"])
    assert "conditions stay empty" in capsys.readouterr().err
    design = ["--design", str(tmp_path / "design.yaml")]
    assert run(["seq", "demultiplex", table, str(out), *design, "--pool", "p2"]) == 3
    assert "no pool 'p2'" in capsys.readouterr().err
    (tmp_path / "two.yaml").write_text("name: d\npools: [{name: p1}, {name: p2}]\n")
    assert run(["seq", "demultiplex", table, str(out), "--design", str(tmp_path / "two.yaml")]) == 2
    assert "--pool" in capsys.readouterr().err
    assert run(["seq", "demultiplex", str(tmp_path / "hto.h5ad"), str(out), *design, "--pool", "p1"]) == 2
    assert "names its pools itself" in capsys.readouterr().err
    assert run(["seq", "demultiplex", table, str(tmp_path / "no.csv"), *design, "--dry-run"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cells"] == 60 and said["features"] == {"hto": 2} and not (tmp_path / "no.csv").exists()


def test_a_pool_the_design_lacks_is_refused_where_a_design_is_given(small_design, tmp_path, capsys):
    path = tmp_path / "hto.h5ad"
    hto_of(np.array([[50, 1], [2, 60], [40, 3]]), pool="elsewhere").write_h5ad(path)
    out = tmp_path / "calls.csv"
    assert run(["seq", "demultiplex", str(path), str(out), "--design", str(tmp_path / "design.yaml")]) == 3
    assert "elsewhere" in capsys.readouterr().err
    assert not out.exists()
    assert run(["seq", "demultiplex", str(path), str(out)]) == 0
    assert "conditions stay empty" in capsys.readouterr().err
    assert set(read_calls(out)["condition"]) == {""}
