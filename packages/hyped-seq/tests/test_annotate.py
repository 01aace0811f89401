"""`hyped seq annotate`: quality, normalisation, phases, contrasts, and the columns later steps rely on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, mannwhitneyu

from hyped_core.cli.main import run
from hyped_core.context import RunContext
from hyped_core.design import default_design
from hyped_core.errors import InvalidDataError, MissingFileError
from hyped_seq.annotate.contrasts import benjamini_hochberg, plan_contrasts, rank_sum
from hyped_seq.annotate.cycle_genes import G2M_GENES, S_GENES, CycleGenes, read_cycle_genes
from hyped_seq.annotate.normalise import log_normalised, mean_and_variance, variable_genes
from hyped_seq.annotate.params import AnnotateParams, QualityParams
from hyped_seq.annotate.phases import adapt_composition, gene_score
from hyped_seq.annotate.quality import cell_figures, judge
from hyped_seq.annotate.run import Annotated, annotate, read_ingested, write_annotated
from hyped_seq.demultiplex.hashed import Hashed
from hyped_seq.demultiplex.run import demultiplex, write_calls
from hyped_seq.ingest.genes import read_gene_map
from hyped_seq.ingest.params import IngestParams
from hyped_seq.ingest.run import ingest_pools, write_ingested

CONTEXT = RunContext()
PARAMS = AnnotateParams.model_validate({"tsne": False})


@pytest.fixture(scope="module")
def ingested(seq_world, tmp_path_factory) -> Path:
    gene_map = read_gene_map(seq_world.raw / "reference.gtf.gz")
    result = ingest_pools(seq_world.pools, default_design(), IngestParams(), gene_map, context=CONTEXT)
    folder = tmp_path_factory.mktemp("annotate") / "ingest"
    write_ingested(result, folder)
    return folder


@pytest.fixture(scope="module")
def calls(ingested) -> pd.DataFrame:
    return demultiplex(anndata.read_h5ad(ingested / "hto.h5ad"), Hashed(), default_design(), context=CONTEXT)


@pytest.fixture(scope="module")
def annotated(ingested, calls) -> Annotated:
    return annotate(read_ingested(ingested), calls, default_design(), PARAMS, CycleGenes(), context=CONTEXT)


def test_fixed_columns_and_layers(annotated):
    rna = annotated.modalities["rna"]
    fixed = [
        "pool",
        "hashtag_call",
        "hashtag_kind",
        "assigned_condition",
        "condition",
        "assigned_phase",
        "phase",
    ]
    assert set(fixed) <= set(rna.obs)
    for name, data in annotated.modalities.items():
        assert list(data.obs_names) == list(rna.obs_names), name
        assert set(fixed) <= set(data.obs)
        assert data.layers["counts"].dtype == np.int32
    back = np.expm1(rna.X.astype(np.float64)).sum(axis=1)
    assert rna.X.dtype == np.float32 and np.allclose(back, 1e4, rtol=1e-4)
    names = json.loads(rna.uns["perturbations_json"])
    assert set(names) == {"control", "PRRX1", "MYOD1", "PRRX1+MYOD1"}
    both = rna.obs["condition"] == "siPRRX1_mmMYOD1"
    assert set(rna.obs["perturbation"][both]) == {"PRRX1+MYOD1"}
    assert rna.obsm["X_pca"].shape == (rna.n_obs, 30)


def test_every_cell_is_kept_or_accounted_for(annotated, seq_world):
    kept, removed = set(annotated.modalities["rna"].obs_names), set(annotated.removed["cell"])
    assert kept | removed == set(seq_world.cells.index) and not kept & removed
    assert (annotated.removed["reason"] != "").all()
    low = set(seq_world.cells.index[seq_world.cells["low_quality"]])
    assert len(low & removed) > 0.9 * len(low)
    assert len(removed - low) < 0.02 * len(seq_world.cells)


def test_phases_against_the_truth(annotated, seq_world):
    obs = annotated.modalities["rna"].obs
    truth = seq_world.cells.loc[obs.index]
    single = ((truth["kind"] == "singlet") & (obs["hashtag_kind"] == "singlet")).to_numpy()
    perturbed = single & (obs["pool"] == "perturbed").to_numpy()
    right = obs["phase"].astype(str).to_numpy() == truth["phase"].astype(str).to_numpy()
    score = obs["phase_score"].astype(str).to_numpy() == truth["phase"].astype(str).to_numpy()
    assert right[perturbed].mean() > 0.82
    assert right[perturbed].mean() > score[perturbed].mean() + 0.1
    record = annotated.record["phase"]
    assert record["held_out_accuracy"] > max(0.75, record["score_accuracy"])
    sorted_cells = (obs["assigned_phase"] != "").to_numpy()
    assert (obs["phase"].astype(str) == obs["assigned_phase"].astype(str))[sorted_cells].all()
    assert set(obs["pool"][sorted_cells]) == {"control"}
    shares = truth["phase"][perturbed].value_counts(normalize=True)
    assert abs(record["composition"]["perturbed"]["G1"] - shares["G1"]) < 0.12


def test_doublets_stay_and_have_no_phase_or_assigned_condition(annotated):
    obs = annotated.modalities["rna"].obs
    doublet = obs["hashtag_kind"] == "doublet"
    assert (
        doublet.any()
        and (obs["phase"][doublet] == "").all()
        and (obs["assigned_condition"][doublet] == "").all()
    )
    in_control = doublet & (obs["pool"] == "control")
    assert (obs["condition"][in_control] == "control").all(), "every cell of that pool is a control cell"


def test_contrasts_find_the_perturbed_gene_and_carry_warnings(annotated):
    table = annotated.contrasts
    with_control = table[table["reference"] == "control"]
    assert with_control["warning"].str.contains("confounded with pool").all()
    among = table[table["reference"] == "rest"]
    assert (among["warning"] == "").all() and set(among["group"]) == {"siPRRX1", "mmMYOD1", "siPRRX1_mmMYOD1"}
    assert table["inference"].str.contains("pooled").all()
    row = table[(table["contrast"] == "mmMYOD1_vs_control") & (table["gene"] == "MYOD1")].iloc[0]
    assert row["log2_fold_change"] > 1 and row["p_adjusted"] < 1e-6 and row["rank"] <= 20
    row = table[(table["contrast"] == "siPRRX1_vs_rest") & (table["gene"] == "MYOD1")].iloc[0]
    assert row["log2_fold_change"] < -1
    top = annotated.modalities["rna"].uns["top_genes"]
    assert (top.groupby("contrast").size() == 10).all() and (top["warning"] != "").any()


def test_rank_sum_is_scipys():
    rng = np.random.default_rng(0)
    group, reference = (
        rng.poisson(1.0, (40, 30)).astype(np.float32),
        rng.poisson(0.7, (55, 30)).astype(np.float32),
    )
    p_value, z_score = rank_sum(sp.csr_matrix(group), sp.csr_matrix(reference))
    theirs = mannwhitneyu(group, reference, axis=0, method="asymptotic")
    assert np.allclose(p_value, theirs.pvalue, rtol=1e-6)
    higher = theirs.statistic > 40 * 55 / 2
    assert ((z_score > 0) == higher)[theirs.pvalue < 0.9].all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_scipys(values):
    assert np.allclose(benjamini_hochberg(np.array(values)), false_discovery_control(values))


def test_contrasts_need_cells_on_both_sides():
    condition = pd.Series(["control"] * 6 + ["mmMYOD1"] * 6 + ["siPRRX1"] * 2)
    pool = pd.Series(["control"] * 6 + ["perturbed"] * 8)
    assert [p.name for p in plan_contrasts(condition, pool, default_design(), 5)] == ["mmMYOD1_vs_control"]
    shared = plan_contrasts(condition, pd.Series(["one"] * 14), default_design(), 2)
    assert not any("confounded" in plan.warning for plan in shared)
    assert [p.name for p in shared][-1] == "mmMYOD1_vs_rest" or len(shared) == 4


def test_same_seed_same_bytes(ingested, calls, tmp_path):
    digests = []
    for name in ("a", "b"):
        result = annotate(
            read_ingested(ingested),
            calls,
            default_design(),
            AnnotateParams(),
            CycleGenes(),
            context=RunContext(seed=7),
        )
        write_annotated(result, tmp_path / name)
        digests.append(
            {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / name).iterdir()}
        )
    assert digests[0] == digests[1]
    assert set(digests[0]) == {
        "rna.h5ad",
        "isoform.h5ad",
        "hto.h5ad",
        "removed.csv",
        "de.csv",
        "annotate.json",
    }
    assert anndata.read_h5ad(tmp_path / "a" / "rna.h5ad").obsm["X_tsne"].shape[1] == 2


def test_users_bounds_win():
    figures = pd.DataFrame(
        {"n_counts": [10, 500, 600, 700], "n_genes": [5, 90, 91, 92], "mito_pct": [1.0, 2.0, 1.5, 60.0]},
        index=list("abcd"),
    )
    pools = pd.Series(["p"] * 4, index=figures.index)
    quality = judge(figures, pools, QualityParams(min_counts=550, min_genes=0, max_mito_pct=50))
    assert quality.keep.tolist() == [False, False, True, False]
    assert quality.removed.set_index("cell")["reason"].to_dict() == {
        "a": "n_counts below 550",
        "b": "n_counts below 550",
        "d": "mito_pct above 50",
    }
    with pytest.raises(InvalidDataError, match="no cell of pool 'p'"):
        judge(figures, pools, QualityParams(min_counts=1e6))


def test_mito_is_a_prefix():
    counts = sp.csr_matrix(np.array([[5, 3, 2]]))
    figures = cell_figures(counts, pd.Series(["MT-CO1", "XMT-1", "ACTB"]), None)
    assert figures["mito_pct"].tolist() == [50.0]
    assert np.isnan(cell_figures(counts, pd.Series(["A", "B", "C"]), None)["mito_pct"].iloc[0])


def test_normalisation_and_moments():
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(2, (30, 12)))
    logs = log_normalised(counts)
    dense = np.log1p(counts.toarray() / counts.sum(1) * 1e4)
    assert np.allclose(logs.toarray(), dense, rtol=1e-5)
    mean, variance = mean_and_variance(logs)
    assert np.allclose(mean, dense.mean(0), rtol=1e-5) and np.allclose(
        variance, dense.var(0, ddof=1), rtol=1e-3
    )
    assert log_normalised(sp.csr_matrix((3, 4), dtype=np.int32)).nnz == 0


def test_variable_genes_find_the_planted_ones():
    rng = np.random.default_rng(1)
    mean = np.tile(rng.uniform(2, 20, 300), (200, 1))
    mean[:100, :15] *= 1.8
    mean[100:, :15] *= 0.2
    chosen = variable_genes(log_normalised(sp.csr_matrix(rng.poisson(mean))), 20)
    assert chosen.sum() == 20 and chosen[:15].sum() >= 13


def test_gene_score_is_higher_where_the_genes_are():
    rng = np.random.default_rng(2)
    mean = np.tile(rng.uniform(1, 10, 400), (60, 1))
    mean[:30, :8] *= 4
    names = [f"G{i}" for i in range(400)]
    score = gene_score(log_normalised(sp.csr_matrix(rng.poisson(mean))), names, tuple(names[:8]))
    assert score[:30].min() > score[30:].max()


@given(st.floats(0.05, 0.9))
def test_composition_is_recovered(share):
    rng = np.random.default_rng(0)
    truth = rng.random(4000) < share
    x = rng.normal(np.where(truth, 1.0, -1.0), 1.0)
    equal = 1 / (1 + np.exp(-2 * x))
    _, shares = adapt_composition(np.column_stack([1 - equal, equal]))
    assert shares[1] == pytest.approx(truth.mean(), abs=0.04)


def test_cycle_genes(tmp_path):
    assert len(S_GENES) == 43 and len(G2M_GENES) == 54 and not set(S_GENES) & set(G2M_GENES)
    assert CycleGenes().present(["MLF1IP", "JPT1", "ACTB"]) == CycleGenes(("MLF1IP",), ("JPT1",))
    (tmp_path / "two.tsv").write_text("gene\tphase\nA\tS\nB\tG2/M\n")
    assert read_cycle_genes(tmp_path / "two.tsv") == CycleGenes(("A",), ("B",))
    (tmp_path / "bad.tsv").write_text("A\tS\nB\tG9\n")
    with pytest.raises(InvalidDataError, match="line 2"):
        read_cycle_genes(tmp_path / "bad.tsv")


@pytest.mark.public
def test_public_list_of_cycle_genes_is_the_built_in_one(public_folder):
    listed = read_cycle_genes(public_folder / "reference" / "regev_lab_cell_cycle_genes.txt")
    assert len(listed.s) == 43
    assert set(listed.present([*S_GENES, *G2M_GENES]).g2m) == set(G2M_GENES)


def test_calls_of_another_experiment(ingested, calls):
    with pytest.raises(InvalidDataError, match="no call for"):
        annotate(
            read_ingested(ingested), calls.iloc[5:], default_design(), PARAMS, CycleGenes(), context=CONTEXT
        )


def test_an_ingest_without_rna(tmp_path):
    with pytest.raises(MissingFileError, match="rna.h5ad"):
        read_ingested(tmp_path)


def test_without_cycle_genes_no_phase_is_made_up(ingested, calls):
    result = annotate(
        read_ingested(ingested),
        calls,
        default_design(),
        PARAMS,
        CycleGenes(("NONE",), ("NOR1",)),
        context=CONTEXT,
    )
    obs = result.modalities["rna"].obs
    assert (obs["phase"][obs["pool"] == "perturbed"] == "").all()
    assert result.record["phase"]["method"].startswith("none")


def test_command_line_refuses_unknown_keys(ingested, calls, tmp_path, capsys):
    from hyped_seq.demultiplex.run import write_calls

    write_calls(calls, tmp_path / "calls.csv")
    (tmp_path / "p.yaml").write_text("annotate: {quality: {n_mad: 3}}\n")
    arguments = ["seq", "annotate", str(ingested), str(tmp_path / "calls.csv"), str(tmp_path / "out")]
    assert run([*arguments, "--params", f"{tmp_path / 'p.yaml'}#annotate"]) == 3
    assert "n_mad" in capsys.readouterr().err and not (tmp_path / "out").exists()
    (tmp_path / "p.yaml").write_text("annotate: {tsne: false}\n")
    assert run([*arguments, "--params", f"{tmp_path / 'p.yaml'}#annotate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] > 800


def test_hashtags_alone_get_calls_and_conditions(tmp_path):
    import numpy as np
    import pandas as pd
    from anndata import AnnData

    from hyped_core.context import RunContext
    from hyped_core.design.model import parse_design
    from hyped_seq.annotate.cycle_genes import read_cycle_genes
    from hyped_seq.annotate.params import AnnotateParams
    from hyped_seq.annotate.run import annotate, read_ingested, write_annotated
    from hyped_seq.readers.h5ad import write_h5ad

    design = parse_design(
        {
            "name": "two",
            "conditions": [{"name": "control"}, {"name": "other"}],
            "pools": [{"name": "p"}],
            "hashtags": [
                {"pool": "p", "tag": "a", "barcode": "ACGT", "condition": "control", "phase": "S"},
                {"pool": "p", "tag": "b", "barcode": "TGCA", "condition": "other"},
            ],
        },
        "test",
    )
    counts = np.array([[9, 0], [0, 8], [7, 7]], dtype=np.float32)
    cells = ["p_AA", "p_CC", "p_GG"]
    hto = AnnData(counts, obs=pd.DataFrame({"pool": "p", "barcode": ["AA", "CC", "GG"]}, index=cells))
    hto.var_names = ["a", "b"]
    (tmp_path / "ingest").mkdir()
    write_h5ad(hto, tmp_path / "ingest" / "hto.h5ad")
    calls = pd.DataFrame(
        {
            "pool": "p",
            "call": ["a", "b", "Doublet"],
            "kind": ["singlet", "singlet", "doublet"],
            "probability": [0.9, 0.9, 0.8],
            "tags": ["a", "b", "a+b"],
            "condition": ["control", "other", ""],
            "phase": ["S", "", ""],
        },
        index=cells,
    )
    read, genes = read_ingested(tmp_path / "ingest"), read_cycle_genes(None)
    result = annotate(read, calls, design, AnnotateParams(), genes, context=RunContext())
    write_annotated(result, tmp_path / "cells")
    obs = result.modalities["hto"].obs
    assert list(obs["condition"]) == ["control", "other", ""]
    assert list(obs["phase"]) == ["S", "", ""]
    written = sorted(p.name for p in (tmp_path / "cells").iterdir())
    assert written == ["annotate.json", "de.csv", "hto.h5ad", "removed.csv"]


def test_a_dry_run_says_what_it_would_make_and_writes_nothing(ingested, calls, tmp_path, capsys):
    write_calls(calls, tmp_path / "calls.csv")
    arguments = ["seq", "annotate", str(ingested), str(tmp_path / "calls.csv"), str(tmp_path / "out")]
    assert run([*arguments, "--dry-run"]) == 0
    said = json.loads(capsys.readouterr().out)
    held = {path.stem: anndata.read_h5ad(path) for path in ingested.glob("*.h5ad")}
    assert said["cells"] == held["rna"].n_obs
    assert said["features"] == {name: data.n_vars for name, data in held.items()}
    assert set(said["outputs"]) == {*(f"{n}.h5ad" for n in held), "removed.csv", "de.csv", "annotate.json"}
    size = sum(path.stat().st_size for path in ingested.glob("*.h5ad"))
    assert 0.5 * size < said["bytes"] < 5 * size and said["seconds"] > 0 and "cells/s" in said["rate"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["cut", "kind", "probability", "short", "binary"])
def test_damaged_calls_are_refused_by_the_name_of_their_file(damage, ingested, calls, tmp_path, capsys):
    path = tmp_path / "calls.csv"
    write_calls(calls, path)
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    broken = {
        "cut": "".join(lines[:-5]),
        "kind": text.replace(",singlet,", ",singelt,", 1),
        "probability": text.replace(lines[1].split(",")[4], "0.x9", 1),
        "short": "".join(lines[:-1]) + lines[-1][:25],
    }
    path.write_bytes(b"\x00\xff\xfe\x81" * 50 if damage == "binary" else broken[damage].encode())
    assert run(["seq", "annotate", str(ingested), str(path), str(tmp_path / "out")]) == 3
    assert f"{path}: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
