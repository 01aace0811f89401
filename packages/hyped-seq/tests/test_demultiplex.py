"""Demultiplexers and what follows from their calls by the design."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from hyped_core.cli.main import run
from hyped_core.context import RunContext
from hyped_core.contracts import Demultiplexer
from hyped_core.design import default_design, read_design
from hyped_core.errors import DesignError, InvalidDataError, MissingFileError, PluginError
from hyped_core.plugins.registry import get_model
from hyped_seq.demultiplex.background import TagMixture, background_offsets, centred
from hyped_seq.demultiplex.hashed import Hashed, HashedConfig
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


@pytest.mark.parametrize("name", ["hashed", "hashsolo"])
def test_both_are_registered_and_keep_the_contract(name):
    model = get_model("demultiplex", name).create()
    assert isinstance(model, Demultiplexer)
    counts, tag = simulated()
    hto = hto_of(counts, tags=("A", "B", "C"))
    before = hto.X.copy()
    calls = model.assign(hto, context=CONTEXT)
    assert list(calls.index) == list(hto.obs_names) and (hto.X != before).nnz == 0
    assert calls["probability"].between(0, 1).all()
    singlet = calls["kind"] == "singlet"
    assert (calls["call"][singlet] == np.array(["A", "B", "C"])[tag][singlet]).mean() > 0.93
    assert (calls["tags"][singlet] == calls["call"][singlet]).all()


def test_hashed_finds_dim_tags_that_raw_counts_miss():
    counts, tag = simulated(scale=(60, 20, 6))
    calls = Hashed(HashedConfig(doublet_share=0)).assign(
        hto_of(counts, tags=("A", "B", "C")), context=CONTEXT
    )
    ours = (calls["call"].to_numpy() == np.array(["A", "B", "C"])[tag]).mean()
    assert ours > (counts.argmax(axis=1) == tag).mean() + 0.02 and ours > 0.95


def test_the_order_of_cells_and_tags_does_not_matter():
    counts, _ = simulated(n=400)
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(400), np.array([2, 0, 1])
    names = np.array(["A", "B", "C"])
    plain = Hashed().assign(hto_of(counts, tags=tuple(names)), context=CONTEXT)
    mixed = Hashed().assign(hto_of(counts[rows][:, columns], tags=tuple(names[columns])), context=CONTEXT)
    assert (plain["call"].to_numpy()[rows] == mixed["call"].to_numpy()).all()
    assert np.allclose(plain["probability"].to_numpy()[rows], mixed["probability"].to_numpy(), atol=1e-3)


def test_doublets_are_as_many_as_expected_and_the_right_ones():
    counts, tag = simulated(n=4000)
    pairs = np.flatnonzero(tag[:200] != tag[200:400])
    counts[pairs] += counts[pairs + 200]
    share = len(pairs) / 4000
    calls = Hashed(HashedConfig(doublet_share=share)).assign(
        hto_of(counts, tags=("A", "B", "C")), context=CONTEXT
    )
    called = (calls["kind"] == "doublet").to_numpy()
    assert abs(called.sum() - len(pairs)) <= 2
    assert called[pairs].mean() > 0.6, "most of the true doublets are among them"
    default = Hashed().assign(hto_of(counts, tags=("A", "B", "C")), context=CONTEXT)
    expected = 0.008 * 4 * (1 - 3 * (1 / 3) ** 2)
    assert (default["kind"] == "doublet").mean() == pytest.approx(expected, rel=0.15)


def test_cells_without_counts_are_negative():
    counts, _ = simulated(n=300)
    counts[:7] = 0
    calls = Hashed().assign(hto_of(counts, tags=("A", "B", "C")), context=CONTEXT)
    assert (calls["call"][:7] == "Negative").all() and (calls["kind"][7:] != "negative").all()
    strict = Hashed(HashedConfig(min_log_odds=3.0)).assign(
        hto_of(counts, tags=("A", "B", "C")), context=CONTEXT
    )
    assert (strict["kind"] == "negative").sum() > 7


@pytest.mark.parametrize("columns", [1, 2])
def test_few_tags(columns):
    counts, _ = simulated(n=200)
    calls = Hashed().assign(hto_of(counts[:, :columns], tags=("A", "B")[:columns]), context=CONTEXT)
    assert set(calls["call"]) <= {"A", "B", "Doublet", "Negative"} and len(calls) == 200


def test_all_cells_alike_does_not_break():
    calls = Hashed().assign(hto_of(np.full((20, 2), 3)), context=CONTEXT)
    assert len(calls) == 20 and calls["probability"].notna().all()


@given(
    weight=st.floats(0.01, 0.99),
    mean0=st.floats(-3, 3),
    step=st.floats(0.5, 5),
    variances=st.tuples(st.floats(0.01, 4), st.floats(0.01, 4)),
    values=st.lists(st.floats(-30, 30), min_size=2, max_size=20),
)
def test_log_odds_rise_with_the_count(weight, mean0, step, variances, values):
    odds = TagMixture(weight, mean0, mean0 + step, *variances).log_odds(np.sort(values))
    assert (np.diff(odds) >= -1e-9).all() and np.isfinite(odds).all()


def test_offsets_are_the_background_of_the_others():
    counts, tag = simulated(n=3000)
    logs = np.log1p(counts)
    offsets = background_offsets(logs)
    for j in range(3):
        assert offsets[j] == pytest.approx(np.median(logs[tag != j, j]), abs=0.15)
    assert np.allclose(centred(logs, 0.0), logs - offsets)


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
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    pd.testing.assert_frame_equal(read_calls(tmp_path / "a.csv"), calls)


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


def per_donor_f(called: np.ndarray, truth: np.ndarray, donors: list[str]) -> float:
    scores = []
    for donor in donors:
        hit = ((called == donor) & (truth == donor)).sum()
        scores.append(2 * hit / ((called == donor).sum() + (truth == donor).sum()))
    return float(np.mean(scores))


@pytest.mark.public
@pytest.mark.parametrize(("batch", "first", "donors"), [("batch1", 1, "ABCDEFGH"), ("batch2", 9, "IJKLMNOP")])
def test_public_captures_beat_the_published_calls(batch, first, donors, public_folder: Path, tmp_path):
    import yaml

    folder = public_folder / "hto" / "bal"
    pool = f"{batch}_c1"
    names = [f"BAL {donor}" for donor in donors]
    tags = [f"BAL {first + i:02d}" for i in range(8)]
    values = {
        "name": "bal",
        "conditions": [{"name": name} for name in names],
        "pools": [{"name": pool}],
        "hashtags": [{"pool": pool, "tag": t, "condition": c} for t, c in zip(tags, names)],
    }
    (tmp_path / "bal.yaml").write_text(yaml.safe_dump(values))
    design = read_design(tmp_path / "bal.yaml")
    counts = f"{pool}={folder / f'{pool}_hto_counts.csv'}"
    hto = ingest_pools([counts], design, IngestParams(), EMPTY, context=CONTEXT).modalities["hto"]
    calls = demultiplex(hto, Hashed(), design, context=CONTEXT)
    called = calls["condition"].where(calls["kind"] == "singlet", calls["call"])
    called.index = called.index.str.removeprefix(f"{pool}_") + "-1"
    truth = pd.read_csv(folder / f"{pool}_donors.csv").set_index("Barcode")["genetic_donor"]
    published = pd.read_csv(folder / f"{pool}_hashsolo.csv").set_index("Barcode")["Classification"]
    published = published.replace(dict(zip(tags, names)))
    ours = (called.loc[truth.index] == truth).mean()
    theirs = (published.loc[truth.index] == truth).mean()
    assert theirs == pytest.approx({"batch1": 0.866, "batch2": 0.783}[batch], abs=0.001)
    assert ours >= theirs + 0.04
    f_ours = per_donor_f(called.loc[truth.index].to_numpy(), truth.to_numpy(), names)
    f_theirs = per_donor_f(published.loc[truth.index].to_numpy(), truth.to_numpy(), names)
    assert f_ours >= f_theirs + 0.02 and f_ours > 0.88


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
