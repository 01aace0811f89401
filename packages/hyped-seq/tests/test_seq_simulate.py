"""The simulated pools as a whole: layout, truth, planted changes, and the floors of difficulty."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from hyped_core.context import RunContext
from hyped_core.design import default_design, read_design
from hyped_core.errors import DesignError, ParamsError, UsageError
from hyped_core.params import build
from hyped_core.simulate.biology import BiologyParams, activity, phase_at, simulate_lineages
from hyped_seq.simulate.params import SeqSimulationParams
from hyped_seq.simulate.run import build_programme, estimate, pool_sizes, simulate_sequencing

SMALL = {
    "n_cells": 120,
    "chunk_cells": 50,
    "programme": {"n_genes": 400, "n_transcripts": 700},
    "screen": {"singles": 4, "doubles": 2, "controls": 20, "cells_min": 3, "cells_max": 5, "truth_cells": 50},
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment of `mini` at its own size; not to be changed."""
    out = tmp_path_factory.mktemp("simulated")
    simulate_sequencing(
        out / "raw",
        out / "truth",
        SeqSimulationParams(),
        default_design(),
        11,
        screen=out / "screen.h5ad",
        screen_truth=out / "truth" / "screen.h5ad",
    )
    return out


@pytest.fixture(scope="module")
def truth(simulated: Path) -> pd.DataFrame:
    return pd.read_parquet(simulated / "truth" / "cells.parquet")


def lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def matrix(simulated: Path, pool: str, kind: str) -> sp.csr_matrix:
    folder = simulated / "raw" / pool / f"{pool}.{kind}_feature_bc_matrix"
    return sp.csr_matrix(scipy.io.mmread(folder / "matrix.mtx.gz").T)


def hashtags(simulated: Path, pool: str) -> pd.DataFrame:
    table = pd.read_csv(simulated / "raw" / pool / "hashtags" / "counts.csv", index_col=0)
    table.index = table.index.astype(str)
    return table.T


@pytest.mark.parametrize("pool", ["perturbed", "control"])
def test_the_layout_is_that_of_wf_single_cell(simulated, pool) -> None:
    folder = simulated / "raw" / pool
    for kind in ("gene", "transcript"):
        for state in ("raw", "processed"):
            mex = folder / f"{pool}.{kind}_{state}_feature_bc_matrix"
            assert {p.name for p in mex.iterdir()} == {"matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz"}
            barcodes, features = lines(mex / "barcodes.tsv.gz"), lines(mex / "features.tsv.gz")
            assert all(b.endswith("-1") and len(b) == 18 for b in barcodes)
            assert features[0].split("\t")[0] == "unknown_00000"
            assert {f.split("\t")[2] for f in features} == {"Gene Expression"}
            shape = scipy.io.mminfo(mex / "matrix.mtx.gz")[:2]
            assert shape == (len(features), len(barcodes))
    raw = lines(folder / f"{pool}.gene_raw_feature_bc_matrix" / "barcodes.tsv.gz")
    whitelist = (folder / f"{pool}.whitelist.tsv").read_text().split()
    assert sorted(b[:-2] for b in raw) == whitelist
    reads = pd.read_csv(folder / f"{pool}.read_summary.tsv", sep="\t")
    columns = (
        "read_id uncorrected_barcode corrected_barcode quality_barcode uncorrected_umi corrected_umi "
        "quality_umi gene transcript start end chr"
    )
    assert list(reads.columns) == columns.split()
    assert set(reads["corrected_barcode"]) <= set(whitelist)
    transcripts = matrix(simulated, pool, "transcript_raw")
    seen = np.flatnonzero(np.asarray(transcripts.sum(axis=0)).ravel())
    names = [
        line.split("\t")[1]
        for line in lines(folder / f"{pool}.transcript_raw_feature_bc_matrix" / "features.tsv.gz")
    ]
    assert {names[i] for i in seen} == set(reads["transcript"])
    mito = pd.read_csv(folder / f"{pool}.gene_expression_mito_per_cell.tsv", sep="\t")
    assert list(mito.columns) == ["CB", "mito_pct"]
    assert pool in json.loads((folder / f"{pool}.config_stats.json").read_text())


@pytest.mark.parametrize("pool", ["perturbed", "control"])
def test_genes_are_the_sum_of_their_transcripts(simulated, pool) -> None:
    genes, transcripts = matrix(simulated, pool, "gene_raw"), matrix(simulated, pool, "transcript_raw")
    table = pd.read_parquet(simulated / "truth" / "transcripts.parquet")
    symbols = pd.read_parquet(simulated / "truth" / "genes.parquet")["symbol"]
    index = pd.Index(symbols).get_indexer(table["symbol"])
    to_gene = sp.csr_matrix((np.ones(len(index)), (np.arange(len(index)), index)))
    assert abs(transcripts @ to_gene - genes).max() == 0
    assert genes.data.min() >= 1 and (genes.data == genes.data.astype(int)).all()


def test_processed_is_log10_of_the_filtered_raw(simulated) -> None:
    folder = simulated / "raw" / "control"
    raw, processed = matrix(simulated, "control", "gene_raw"), matrix(simulated, "control", "gene_processed")
    all_barcodes = lines(folder / "control.gene_raw_feature_bc_matrix" / "barcodes.tsv.gz")
    kept = lines(folder / "control.gene_processed_feature_bc_matrix" / "barcodes.tsv.gz")
    rows = pd.Index(all_barcodes).get_indexer(kept)
    assert 0 < len(kept) < len(all_barcodes)
    features = np.asarray((raw > 0).sum(axis=0)).ravel() >= 3
    selected = raw[rows][:, features].toarray().astype(float)
    expected = np.log10(1 + 1e4 * selected / selected.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(processed.toarray(), expected, atol=1e-5)


def test_the_annotation_names_every_gene_and_transcript(simulated) -> None:
    rows = [line.split("\t") for line in lines(simulated / "raw" / "reference.gtf.gz")]
    assert (
        sum(row[2] == "gene" for row in rows) == 600 and sum(row[2] == "transcript" for row in rows) == 1400
    )
    assert any('gene_id "ENSG00000129152"; gene_name "MYOD1"' in row[8] for row in rows)


def test_phases_of_natural_cells_are_those_that_imaging_would_see(simulated, truth) -> None:
    fractions = pd.read_csv(simulated / "truth" / "fractions.csv").set_index(["condition", "phase"])[
        "fraction"
    ]
    alone = truth[~truth["multiplet"]]
    for condition in ("siPRRX1", "mmMYOD1", "siPRRX1_mmMYOD1"):
        cells = simulate_lineages(
            default_design(), condition, 3000, 20.0, 52.0, BiologyParams(), np.random.default_rng(99)
        )
        imaged = (phase_at(cells, 48.0, "rna") == "G1").mean()
        sequenced = (alone.loc[alone["condition"] == condition, "phase"] == "G1").mean()
        assert fractions[condition, "G1"] == pytest.approx(imaged, abs=0.05)
        assert sequenced == pytest.approx(imaged, abs=0.1)
    control = alone.loc[alone["condition"] == "control", "phase"].value_counts(normalize=True)
    assert control.max() - control.min() < 0.12, "the sorter sets the control's composition"
    assert fractions["control", "G1"] > 0.5, "and biology would have set another"


def test_sorted_control_cells_are_mostly_in_the_phase_their_tag_names(truth) -> None:
    phase = {tag.tag: tag.phase for tag in default_design().pool_hashtags("control")}
    control = truth[(truth["pool"] == "control") & (truth["kind"] == "singlet") & ~truth["multiplet"]]
    agreement = (control["tags"].map(phase) == control["phase"]).mean()
    assert 0.88 < agreement < 0.99


def test_planted_fold_changes_are_in_the_counts(simulated, truth) -> None:
    genes = pd.read_parquet(simulated / "truth" / "genes.parquet")
    counts = matrix(simulated, "perturbed", "gene_raw").toarray().astype(float)
    table = truth[truth["pool"] == "perturbed"].reset_index(drop=True)
    good = (~table["multiplet"] & ~table["low_quality"]).to_numpy()
    still = ((genes["role"] != "cycle") & (genes["role"] != "mito")).to_numpy()
    share = counts / counts[:, still].sum(axis=1, keepdims=True)
    params = BiologyParams()

    a = activity(table["dose_MYOD1"].to_numpy(), params.dose_of("mmRNA"))[:, None]
    b = activity(table["dose_PRRX1"].to_numpy(), params.dose_of("siRNA"))[:, None]
    change = a * genes["log2fc_mmMYOD1"].to_numpy() + b * genes["log2fc_siPRRX1"].to_numpy()
    change = change + a * b * genes["interaction_siPRRX1_mmMYOD1"].to_numpy()
    own = genes["baseline_cp10k"].to_numpy() * np.exp2(change) / 1e4
    ambient = table["ambient_share"].to_numpy()[:, None]
    wanted_share = (1 - ambient) * own + ambient * own.mean(axis=0)

    def mean(values: np.ndarray, condition: str) -> np.ndarray:
        return values[good & (table["condition"] == condition).to_numpy()].mean(axis=0)

    planted = (genes[["log2fc_mmMYOD1", "log2fc_siPRRX1"]].abs().max(axis=1) > 0.6).to_numpy()
    chosen = planted & still & (genes["baseline_cp10k"] > 1).to_numpy()
    assert chosen.sum() > 20
    for one, other in (("mmMYOD1", "siPRRX1"), ("siPRRX1_mmMYOD1", "siPRRX1")):
        seen = np.log2(mean(share, one)[chosen] / mean(share, other)[chosen])
        wanted = np.log2(mean(wanted_share, one)[chosen] / mean(wanted_share, other)[chosen])
        assert np.corrcoef(seen, wanted)[0, 1] > 0.97
        assert np.abs(seen - wanted).mean() < 0.25 and abs(np.median(seen - wanted)) < 0.2


def test_isoform_switches_are_in_the_counts(simulated, truth) -> None:
    table = pd.read_parquet(simulated / "truth" / "transcripts.parquet")
    counts = matrix(simulated, "perturbed", "transcript_raw").toarray()
    cells = truth[truth["pool"] == "perturbed"].reset_index(drop=True)
    with_dose = (
        (cells["condition"] == "mmMYOD1") & (cells["dose_MYOD1"] > 0) & ~cells["multiplet"]
    ).to_numpy()
    without = ((cells["condition"] == "siPRRX1") & ~cells["multiplet"]).to_numpy()
    moved = (table["share_mmMYOD1"] - table["share_siPRRX1"]).to_numpy()
    symbols = [s for s, g in table.groupby("symbol") if np.abs(moved[g.index]).max() > 0.15]
    assert len(symbols) >= 5
    checked = 0
    for symbol in symbols:
        rows = np.flatnonzero(table["symbol"] == symbol)
        one, other = counts[with_dose][:, rows].sum(axis=0), counts[without][:, rows].sum(axis=0)
        if min(one.sum(), other.sum()) < 300:
            continue
        seen = one / one.sum() - other / other.sum()
        where = np.abs(moved[rows]).argmax()
        assert np.sign(seen[where]) == np.sign(moved[rows][where]) and abs(seen[where]) > 0.4 * abs(
            moved[rows][where]
        )
        checked += 1
    assert checked >= 3


def test_the_pool_effect_is_there_and_confounded_with_control(simulated, truth) -> None:
    genes = pd.read_parquet(simulated / "truth" / "genes.parquet")
    assert genes["pool_effect_log2"].std() > 0.1
    assert set(truth.loc[truth["pool"] == "control", "condition"]) == {"control"}
    assert "control" not in set(truth.loc[truth["pool"] == "perturbed", "condition"])
    quiet = (genes["role"].isin(["housekeeping", "filler"]) & (genes["baseline_cp10k"] > 4)).to_numpy()
    log2fc = genes[[c for c in genes if c.startswith("log2fc_")]].abs().max(axis=1).to_numpy()
    quiet &= log2fc < 0.05
    levels = []
    for pool in ("control", "perturbed"):
        counts = matrix(simulated, pool, "gene_raw")[:, np.flatnonzero(quiet)].toarray().astype(float)
        levels.append(np.log2(counts.sum(axis=0) / counts.sum()))
    assert np.corrcoef(levels[0] - levels[1], genes["pool_effect_log2"].to_numpy()[quiet])[0, 1] > 0.9


def test_hashtags_separate_imperfectly(simulated, truth) -> None:
    """A plain top tag is right for most cells and far from all, raw and after centring."""
    for pool in ("control", "perturbed"):
        counts = hashtags(simulated, pool)
        cells = truth[truth["pool"] == pool].set_index("barcode").loc[counts.index]
        label = cells["tags"].where(cells["kind"] == "singlet", cells["kind"].str.capitalize())
        log = np.log1p(counts.to_numpy())
        for values in (counts.to_numpy(), log - np.median(log, axis=0)):
            top = counts.columns.to_numpy()[values.argmax(axis=1)]
            assert 0.75 < (top == label.to_numpy()).mean() < 0.97
            singlet = (cells["kind"] == "singlet").to_numpy()
            assert (top == label.to_numpy())[singlet].mean() < 0.99
        own = counts.to_numpy()[cells["kind"] == "negative"]
        assert own.mean() < counts.to_numpy().mean() / 2
    dim = truth[truth["kind"] == "singlet"]
    means = {
        tag: hashtags(simulated, "perturbed")
        .loc[dim.loc[(dim["pool"] == "perturbed") & (dim["tags"] == tag), "barcode"], tag]
        .mean()
        for tag in ("394631", "394635")
    }
    assert means["394635"] < 0.6 * means["394631"]


def test_doublets_low_quality_cells_and_soup_are_there_in_their_shares(simulated, truth) -> None:
    assert truth["multiplet"].mean() == pytest.approx(0.08, abs=0.01)
    assert 0.03 < (truth["kind"] == "doublet").mean() < 0.08
    assert 0.002 < (truth["kind"] == "negative").mean() < 0.04
    assert truth["ambient_share"].mean() == pytest.approx(0.05, abs=0.01)
    assert 0.01 < truth["low_quality"].mean() < 0.08
    assert (
        truth.loc[truth["multiplet"], "n_counts"].mean()
        > 1.6 * truth.loc[~truth["multiplet"], "n_counts"].mean()
    )
    mito = pd.concat(
        pd.read_csv(simulated / "raw" / pool / f"{pool}.gene_expression_mito_per_cell.tsv", sep="\t").assign(
            pool=pool
        )
        for pool in ("control", "perturbed")
    )
    table = truth.merge(mito, left_on=["pool", "barcode"], right_on=["pool", "CB"])
    by = table.groupby("low_quality")
    assert by["mito_pct"].median()[True] > 3 * by["mito_pct"].median()[False]
    assert by["n_counts"].median()[True] < 0.4 * by["n_counts"].median()[False]
    both = truth["kind"] == "doublet"
    assert (truth.loc[both, "tags"].str.count(r"\+") == 1).all() and truth.loc[both, "multiplet"].all()
    assert 1000 <= len(truth) <= 1500 and not truth.duplicated(["pool", "barcode"]).any()


def test_genes_the_pool_lacks_come_from_the_soup(simulated, truth) -> None:
    """Cells without MYOD1 RNA show MYOD1 molecules in proportion to their share of ambient RNA."""
    symbols = list(pd.read_parquet(simulated / "truth" / "genes.parquet")["symbol"])
    counts = matrix(simulated, "perturbed", "gene_raw")[:, symbols.index("MYOD1")].toarray().ravel()
    cells = truth[truth["pool"] == "perturbed"]
    clean = ((cells["condition"] == "siPRRX1") & ~cells["multiplet"]).to_numpy()
    soup = (cells["ambient_share"] * cells["n_counts"]).to_numpy()
    low, high = soup[clean] < np.median(soup[clean]), soup[clean] >= np.median(soup[clean])
    assert counts[clean][high].sum() > 1.5 * counts[clean][low].sum() > 0


def test_the_screen_has_its_floors_and_its_truth(simulated) -> None:
    screen, expected = (
        ad.read_h5ad(simulated / "screen.h5ad"),
        ad.read_h5ad(simulated / "truth" / "screen.h5ad"),
    )
    names = list(expected.obs_names)
    doubles = [name for name in names if "+" in name]
    singles = [name for name in names if "+" not in name and name != "control"]
    assert names[0] == "control" and len(singles) >= 24 and len(doubles) >= 12
    sizes = screen.obs["perturbation"].value_counts()
    assert sizes["control"] >= 300 and sizes.drop("control").between(40, 60).all()
    perturbations = json.loads(screen.uns["perturbations_json"])
    assert set(perturbations) == set(names) and len(perturbations[doubles[0]]["changes"]) == 2
    counts = screen.layers["counts"]
    assert counts.dtype == np.int32 and screen.X.dtype == np.float32
    total = np.asarray(counts.sum(axis=1)).ravel()
    np.testing.assert_allclose(
        screen.X.toarray(), np.log1p(1e4 * counts.toarray() / total[:, None]), rtol=1e-5
    )
    assert set(screen.obs["phase"].cat.categories) == {"G1", "S", "G2M"}
    assert screen.obs.groupby("perturbation", observed=True)["pool"].nunique().eq(2).all()
    mean = np.array(
        [np.asarray(screen[screen.obs["perturbation"] == name].X.mean(axis=0)).ravel() for name in names]
    )
    change, wanted = mean - mean[0], expected.X - expected.X[0]
    matched = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(change[1:], wanted[1:], strict=True)])
    shifted = np.array(
        [np.corrcoef(a, b)[0, 1] for a, b in zip(change[1:], np.roll(wanted[1:], 1, axis=0), strict=True)]
    )
    assert np.median(matched) > 0.75 and np.median(shifted) < 0.5
    place = {name: i for i, name in enumerate(names)}
    residual = [
        np.linalg.norm(wanted[place[d]] - sum(wanted[place[g]] for g in d.split("+")))
        / np.linalg.norm(wanted[place[d]])
        for d in doubles
    ]
    assert np.median(residual) > 0.25, "pairs must not be additive"
    assert np.isin(singles, screen.var_names).all()


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes_and_another_seed_others(tmp_path) -> None:
    params, design = build(SeqSimulationParams, SMALL), default_design()
    digests = []
    for name, seed in (("one", 4), ("two", 4), ("three", 5)):
        out = tmp_path / name
        files = {"screen": out / "screen.h5ad", "screen_truth": out / "truth" / "screen.h5ad"}
        simulate_sequencing(out / "raw", out / "truth", params, design, seed, **files)
        digests.append(digest(out))
    assert digests[0] == digests[1]
    assert len(digests[0]) > 40 and "truth/screen.h5ad" in digests[0]
    differing = [name for name in digests[0] if digests[0][name] != digests[2][name]]
    assert any(name.endswith("reads.fastq.gz") for name in differing) and "screen.h5ad" in differing


def test_chunks_bound_what_is_held_and_add_up(tmp_path) -> None:
    """A larger programme in small chunks: every barcode is there once, the last chunk being a short one."""
    values = {
        **SMALL,
        "scale": "full",
        "n_cells": 130,
        "chunk_cells": 17,
        "programme": {"n_genes": 3000, "n_transcripts": 9000},
    }
    params = build(SeqSimulationParams, values)
    record = simulate_sequencing(tmp_path / "raw", tmp_path / "truth", params, default_design(), 0)
    truth = pd.read_parquet(tmp_path / "truth" / "cells.parquet")
    for pool in ("control", "perturbed"):
        counts = matrix(tmp_path, pool, "gene_raw")
        assert counts.shape == (record["pools"][pool]["barcodes"], 3000)
        own = truth.loc[truth["pool"] == pool, "n_counts"].to_numpy()
        np.testing.assert_array_equal(np.asarray(counts.sum(axis=1)).ravel(), own)
        assert own.mean() > 8000, "full scale has its own depth"
    assert not list(tmp_path.rglob(".*"))


def test_scale_and_difficulty() -> None:
    full = SeqSimulationParams(scale="full").resolved()
    assert (full.n_cells, full.programme.n_genes, full.programme.n_transcripts) == (20_000, 36_000, 150_000)
    sizes = pool_sizes(default_design(), SeqSimulationParams(scale="full"))
    assert sizes == {"perturbed": 11_200, "control": 8_800}
    assert full == full.resolved()
    given = build(
        SeqSimulationParams, {"scale": "full", "n_cells": 50, "programme": {"n_genes": 900}}
    ).resolved()
    assert (given.n_cells, given.programme.n_genes, given.programme.n_transcripts) == (50, 900, 150_000)
    hard, standard = SeqSimulationParams(difficulty="hard").resolved(), SeqSimulationParams().resolved()
    assert (
        hard.capture.ambient > standard.capture.ambient and hard.capture.doublets > standard.capture.doublets
    )
    assert hard.hashtags.brightness[0] < standard.hashtags.brightness[0]
    small = estimate(default_design(), SeqSimulationParams(), True)
    large = estimate(default_design(), SeqSimulationParams(scale="full"), True)
    assert large["disk_mb"] > 50 * small["disk_mb"] and large["memory_mb"] < 4000


def test_a_design_without_pools_or_hashtags_is_refused_and_nothing_is_left(tmp_path) -> None:
    text = "name: x\nconditions: [{name: control}]\n"
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text(text + "pools: [{name: p, conditions: [control]}]\n")
    params = build(SeqSimulationParams, SMALL)
    for name, words in (("a", "pools"), ("b", "hashtags")):
        with pytest.raises(DesignError, match=words):
            simulate_sequencing(
                tmp_path / "raw", tmp_path / "truth", params, read_design(tmp_path / f"{name}.yaml"), 0
            )
    with pytest.raises(UsageError):
        simulate_sequencing(tmp_path / "raw", tmp_path / "raw" / "truth", params, default_design(), 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.yaml", "b.yaml"]
    with pytest.raises(ParamsError, match="ambiance"):
        build(SeqSimulationParams, {"capture": {"ambiance": 0.1}})


def test_another_design_is_simulated_without_special_cases(tmp_path) -> None:
    text = """
name: other
conditions:
  - {name: control}
  - {name: up, perturbation: [{gene: KLF4, direction: activation, agent: mmRNA, onset_h: 4}]}
pools: [{name: all, conditions: [control, up]}]
hashtags:
  - {pool: all, tag: T1, barcode: ACGTACGTACGTACG, chemistry: TotalSeq-C, condition: control}
  - {pool: all, tag: T2, barcode: TTGCATTGCATTGCA, chemistry: TotalSeq-A, condition: up}
"""
    (tmp_path / "design.yaml").write_text(text)
    design = read_design(tmp_path / "design.yaml")
    record = simulate_sequencing(
        tmp_path / "raw", tmp_path / "truth", build(SeqSimulationParams, SMALL), design, 0
    )
    assert record["pools"]["all"]["barcodes"] == 120
    truth = pd.read_parquet(tmp_path / "truth" / "cells.parquet")
    assert {"T1", "T2", "T1+T2"} <= set(truth["tags"]) and "dose_KLF4" in truth
    programme = build_programme(design, build(SeqSimulationParams, SMALL), RunContext())
    assert "KLF4:activation" in programme.effects
