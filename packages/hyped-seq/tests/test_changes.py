"""What changes between conditions: contrasts, their warnings, rank-sum tests, and the tables together."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, mannwhitneyu, rankdata, tiecorrect

from hyped_core.context import RunContext
from hyped_core.design import default_design
from hyped_core.errors import InvalidDataError
from hyped_seq.annotate.change_params import ChangeParams
from hyped_seq.annotate.changes import OUTPUTS, find_changes, no_changes, six_digits, top_genes, write_changes
from hyped_seq.annotate.contrasts import Contrast, benjamini_hochberg, plan_contrasts, plan_strata
from hyped_seq.annotate.differential import COLUMNS, differential_expression, rank_sums

DESIGN = default_design()
PERTURBED = ["siPRRX1", "mmMYOD1", "siPRRX1_mmMYOD1"]


@pytest.fixture(scope="module")
def changes(simulated_cells):
    cells = simulated_cells
    return find_changes(cells.rna, cells.isoform, DESIGN, ChangeParams(), context=RunContext())


def _tested(obs: pd.DataFrame) -> pd.Series:
    return obs["assigned_condition"].astype(str).where(obs["hashtag_kind"].astype(str) == "singlet", "")


# --- which contrasts


def _plan(condition: list[str], pool: list[str], **options) -> list[Contrast]:
    return plan_contrasts(pd.Series(condition), pd.Series(pool), DESIGN, options.pop("min_group", 5), **options)


def test_contrasts_need_cells_on_both_sides():
    condition = ["control"] * 6 + ["mmMYOD1"] * 6 + ["siPRRX1"] * 2
    pool = ["control"] * 6 + ["perturbed"] * 8
    assert [p.name for p in _plan(condition, pool)] == ["mmMYOD1_vs_control"]
    shared = _plan(condition, ["one"] * 14, min_group=2)
    assert [p.name for p in shared] == ["siPRRX1_vs_control", "mmMYOD1_vs_control", "mmMYOD1_vs_siPRRX1"]
    assert not any("confounded" in plan.warning for plan in shared)


def test_contrasts_of_the_experiment_and_their_warnings():
    condition = [name for name in ["control", *PERTURBED] for _ in range(5)]
    pool = ["control"] * 5 + ["perturbed"] * 15
    plans = _plan(condition, pool)
    assert [p.name for p in plans] == [
        *(f"{name}_vs_control" for name in PERTURBED),
        *(f"{name}_vs_rest" for name in PERTURBED),
        "mmMYOD1_vs_siPRRX1",
        "siPRRX1_mmMYOD1_vs_siPRRX1",
        "siPRRX1_mmMYOD1_vs_mmMYOD1",
    ]
    for plan in plans:
        against_control = plan.members == ("control",)
        assert ("confounded with pool" in plan.warning) == against_control
        assert ("set by sorting" in plan.warning) == against_control
    within = _plan(condition, pool, within_phase=True)
    assert "set by sorting" not in within[0].warning and "from expression" in within[0].warning
    assert len(_plan(condition, pool, pairwise=False)) == 6


def test_without_control_the_perturbed_ones_are_still_compared():
    assert [p.name for p in _plan(["mmMYOD1"] * 5 + ["siPRRX1"] * 5, ["p"] * 10)] == ["mmMYOD1_vs_siPRRX1"]
    assert _plan(["mmMYOD1"] * 5, ["p"] * 5) == [] and _plan([""] * 5, ["p"] * 5) == []


def test_a_stratum_holds_one_phase_on_both_sides():
    rng = np.random.default_rng(0)
    condition = pd.Series(rng.choice(["control", *PERTURBED, ""], 900))
    phase = pd.Series(rng.choice(["G1", "S", "G2M", ""], 900, p=[0.5, 0.3, 0.15, 0.05]))
    phase[(phase == "G2M") & (condition == "mmMYOD1")] = "G1"
    strata = plan_strata(condition, phase, condition, DESIGN, phases=("G1", "S", "G2M"), min_group=10)
    assert [stratum.phase for stratum in strata] == ["all", "G1", "S", "G2M"]
    assert (strata[0].condition != "").sum() == (condition != "").sum()
    for stratum in strata[1:]:
        assert set(phase[stratum.condition != ""]) == {stratum.phase}
    assert strata[3].left_out.get("mmMYOD1") == 0 and "mmMYOD1" not in set(strata[3].condition)
    assert not any("mmMYOD1" in (plan.group, *plan.members) for plan in strata[3].contrasts if plan.members)


# --- tests of genes


@given(st.integers(0, 10_000), st.integers(3, 25), st.integers(3, 25))
@settings(max_examples=20, deadline=None)
def test_rank_sums_are_scipys(seed, n_group, n_reference):
    rng = np.random.default_rng(seed)
    dense = rng.poisson(rng.uniform(0.1, 3, 12), (n_group + n_reference, 12)).astype(float)
    condition = np.array(["a"] * n_group + ["b"] * n_reference, dtype=object)
    ours = rank_sums(sp.csr_matrix(dense), condition, [Contrast("a", ("b",))])
    theirs = mannwhitneyu(dense[:n_group], dense[n_group:], axis=0, method="asymptotic")
    tied = np.ptp(dense, axis=0) == 0
    assert np.array_equal(ours.u[0], theirs.statistic)
    assert np.allclose(ours.p[0][~tied], theirs.pvalue[~tied], rtol=1e-6) and (ours.p[0][tied] == 1).all()
    assert (ours.z[0][tied] == 0).all()
    clear = theirs.pvalue < 0.5
    assert np.array_equal(ours.z[0][clear] > 0, (theirs.statistic > n_group * n_reference / 2)[clear])


@pytest.mark.parametrize("reference", ["control", "rest"])
def test_u_and_p_are_scanpys(simulated_cells, reference):
    """scanpy corrects ties where asked to and never for continuity; it gives z, from which U follows."""
    import scanpy

    rna = simulated_cells.rna
    condition = _tested(rna.obs)
    keep = (condition != "") if reference == "control" else condition.isin(PERTURBED)
    obs = pd.DataFrame({"condition": pd.Categorical(condition[keep])}, index=rna.obs_names[keep])
    cells = AnnData(rna.X[keep.to_numpy()], obs=obs)
    cells.var_names = rna.var_names
    cells.uns["log1p"] = {"base": None}
    scanpy.tl.rank_genes_groups(
        cells, "condition", groups=PERTURBED, reference=reference, method="wilcoxon", tie_correct=True
    )
    members = {name: ("control",) if reference == "control" else tuple(set(PERTURBED) - {name}) for name in PERTURBED}
    plans = [Contrast(name, members[name]) for name in PERTURBED]
    kept = condition[keep].to_numpy(dtype=object)
    ours = rank_sums(cells.X, kept, plans, continuity=False)
    for i, plan in enumerate(plans):
        found = scanpy.get.rank_genes_groups_df(cells, plan.group).set_index("names").loc[cells.var_names]
        sides = [np.flatnonzero(kept == plan.group), np.flatnonzero(np.isin(kept, plan.members))]
        n1, n2 = map(len, sides)
        ranks = rankdata(cells.X[np.concatenate(sides)].toarray(), axis=0)
        ties = np.array([tiecorrect(column) for column in ranks.T])
        spread = np.sqrt(ties * n1 * n2 * (n1 + n2 + 1) / 12)
        varied = spread > 0
        theirs = found["scores"].to_numpy(float) * spread + n1 * n2 / 2
        assert varied.sum() > 500
        assert np.allclose(ours.u[i][varied], theirs[varied], rtol=1e-6)
        assert np.allclose(ours.p[i][varied], found["pvals"].to_numpy(float)[varied], rtol=1e-6, atol=1e-300)


def test_contrasts_with_one_reference_share_a_pass_and_agree_with_one_at_a_time():
    rng = np.random.default_rng(1)
    matrix = sp.csr_matrix(rng.poisson(0.6, (120, 20)).astype(np.float32))
    condition = rng.choice(["control", *PERTURBED], 120).astype(object)
    plans = [Contrast(a, ("control",)) for a in PERTURBED] + [
        Contrast(a, tuple(b for b in PERTURBED if b != a)) for a in PERTURBED
    ]
    together = rank_sums(matrix, condition, plans)
    threaded = rank_sums(matrix, condition, plans, threads=2)
    assert np.array_equal(threaded.u, together.u) and np.array_equal(threaded.p, together.p)
    for i, plan in enumerate(plans):
        alone = rank_sums(matrix, condition, [plan])
        assert np.array_equal(alone.u[0], together.u[i]) and np.array_equal(alone.p[0], together.p[i])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_scipys(values):
    assert np.allclose(benjamini_hochberg(np.array(values)), false_discovery_control(values))
    assert np.allclose(benjamini_hochberg([values, values])[1], false_discovery_control(values))


def test_a_gene_counts_the_same_in_another_order_of_cells(simulated_cells):
    rna = simulated_cells.rna
    order = np.random.default_rng(0).permutation(rna.n_obs)
    condition, pool, phase = _tested(rna.obs), rna.obs["pool"].astype(str), rna.obs["phase"].astype(str)
    tables = []
    for rows in (np.arange(rna.n_obs), order):
        strata = plan_strata(
            condition.iloc[rows], phase.iloc[rows], pool.iloc[rows], DESIGN, phases=("G1",), min_group=10
        )
        tables.append(differential_expression(rna.X[rows], rna.var, strata))
    same = ["contrast", "phase", "gene", "rank", "u_statistic", "n_group"]
    assert tables[0][same].astype(str).equals(tables[1][same].astype(str))
    assert np.allclose(tables[0]["log2_fold_change"], tables[1]["log2_fold_change"])


# --- the table of expression


def test_table_of_expression_says_what_it_means(changes, simulated_cells):
    de, obs = changes.de, simulated_cells.rna.obs
    assert tuple(de.columns) == COLUMNS and set(de["phase"]) == {"all", "G1", "S", "G2M"}
    assert np.allclose(de["auc"], de["u_statistic"] / (de["n_group"] * de["n_reference"]))
    assert de[["pct_group", "pct_reference"]].stack().between(0, 100).all()
    condition = _tested(obs)
    for (name, phase), part in de.groupby(["contrast", "phase"], observed=True):
        assert np.allclose(part["p_adjusted"], false_discovery_control(part["p_value"]))
        assert list(part["rank"]) == list(range(1, len(part) + 1)) and part["p_value"].is_monotonic_increasing
        group = str(part["group"].iloc[0])
        here = (condition == group) & ((phase == "all") | (obs["phase"].astype(str) == phase))
        assert set(part["n_group"]) == {int(here.sum())}, name
    with_control = de[de["reference"] == "control"]
    assert with_control["warning"].astype(str).str.contains("confounded with pool").all()
    others = de[de["reference"] != "control"]
    assert (others["warning"] == "").all() and others["shared_log2_fold_change"].isna().all()
    assert de["inference"].astype(str).str.contains("pooled").all()


def test_perturbed_genes_are_found(changes):
    de = changes.de[changes.de["phase"] == "all"].set_index(["contrast", "gene"])
    row = de.loc[("mmMYOD1_vs_control", "MYOD1")]
    assert row["log2_fold_change"] > 1 and row["p_adjusted"] < 1e-6 and row["rank"] <= 20 and row["auc"] > 0.7
    assert de.loc[("siPRRX1_vs_rest", "MYOD1")]["log2_fold_change"] < -1
    alone = de.loc[("siPRRX1_mmMYOD1_vs_mmMYOD1", "PRRX1")]
    assert alone["log2_fold_change"] < -0.5 and alone["p_adjusted"] < 1e-6


def test_specific_change_is_free_of_control(changes):
    """Control cancels: the specific part is the change from the other conditions' geometric mean."""
    de = changes.de[(changes.de["phase"] == "all") & (changes.de["reference"] == "control")]
    level = np.log2(de.pivot(index="gene", columns="group", values="mean_group") + ChangeParams().pseudocount)
    for name in PERTURBED:
        others = level[[other for other in PERTURBED if other != name]].mean(axis=1)
        part = de[de["group"] == name].set_index("gene")
        assert np.allclose(part["specific_log2_fold_change"], (level[name] - others).loc[part.index])
        total = part["shared_log2_fold_change"] + part["specific_log2_fold_change"]
        assert np.allclose(total, part["log2_fold_change"])


def test_specific_change_leaves_the_pools_effect_out(changes, simulated_cells):
    truth = simulated_cells.genes
    moved = truth.index[(truth["pool_effect_log2"].abs() > 0.5) & (truth["baseline_cp10k"] > 1)]
    untouched = [g for g in moved if not truth.loc[g, [f"log2fc_{name}" for name in PERTURBED]].any()]
    de = changes.de[(changes.de["phase"] == "all") & (changes.de["contrast"] == "mmMYOD1_vs_control")]
    part = de.set_index("gene").loc[untouched]
    assert len(part) >= 5
    assert part["specific_log2_fold_change"].abs().mean() < 0.4 * part["log2_fold_change"].abs().mean()


def test_fold_changes_and_calls_agree_with_what_was_planted(changes, simulated_cells):
    truth = simulated_cells.genes
    fold = 2.0 ** truth[[f"log2fc_{name}" for name in PERTURBED]].set_axis(PERTURBED, axis=1)
    for name in PERTURBED:
        part = changes.de[(changes.de["phase"] == "all") & (changes.de["contrast"] == f"{name}_vs_rest")].set_index(
            "gene"
        )
        others = fold[[other for other in PERTURBED if other != name]].mean(axis=1)
        change = np.log2(fold[name] / others).loc[part.index]
        clear = (change.abs() > 0.7) & (truth["baseline_cp10k"].loc[part.index] > 1)
        assert clear.sum() >= 5
        assert np.corrcoef(change[clear], part["log2_fold_change"][clear])[0, 1] > 0.9
        assert (part["p_adjusted"][clear] < 0.05).mean() > 0.6
        null = (fold == 1).all(axis=1).loc[part.index] & (truth["cycle_log2"].loc[part.index] == 0)
        assert null.sum() > 100
        assert (part["p_value"][null] < 0.05).mean() < 0.12, "composition alone moves untouched genes a little"


def test_without_a_difference_nothing_is_found(simulated_cells):
    rna = simulated_cells.rna
    control = np.flatnonzero(_tested(rna.obs) == "control")
    found, low = 0, []
    for seed in range(5):
        labels = np.random.default_rng(seed).permutation(np.resize(["a", "b"], len(control))).astype(object)
        ours = rank_sums(rna.X[control], labels, [Contrast("a", ("b",))])
        found += int((benjamini_hochberg(ours.p)[0] < 0.05).any())
        low.append((ours.p[0] < 0.05).mean())
    assert found <= 1 and 0.02 < np.mean(low) < 0.07


# --- everything together


def test_top_genes_keep_their_warnings(changes):
    top = top_genes(changes.de, 4)
    assert (top.groupby("contrast").size() == 4).all() and set(top["phase"]) == {"all"}
    assert (top["warning"] != "").any() and top["warning"].map(type).eq(str).all()
    assert len(top_genes(changes.de, 2, "G1")) == 2 * top_genes(changes.de, 2, "G1")["contrast"].nunique()
    assert top_genes(no_changes("no genes").de, 3).empty


def test_same_input_same_bytes_and_u_in_full(changes, simulated_cells, tmp_path):
    again = find_changes(simulated_cells.rna, simulated_cells.isoform, DESIGN, ChangeParams(), context=RunContext())
    for name, result in (("a", changes), ("b", again)):
        (tmp_path / name).mkdir()
        write_changes(result, tmp_path / name)
    digests = [[hashlib.sha256((tmp_path / n / f).read_bytes()).hexdigest() for f in OUTPUTS] for n in "ab"]
    assert digests[0] == digests[1] and json.dumps(changes.record) == json.dumps(again.record)
    back = pd.read_csv(tmp_path / "a" / "de.csv")
    assert np.array_equal(back["u_statistic"], changes.de["u_statistic"]) and tuple(back.columns) == COLUMNS
    assert np.allclose(back["p_value"], changes.de["p_value"], rtol=1e-5)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_six_digits_are_those_of_a_format(value):
    assert six_digits(np.array([value]))[0] == pytest.approx(float(f"{value:.6g}"), rel=1.1e-5, abs=0)
    assert len(f"{abs(six_digits(np.array([value]))[0]):.17g}".split("e")[0].replace(".", "").strip("0")) <= 17
    assert float(f"{six_digits(np.array([value]))[0]:.6g}") == six_digits(np.array([value]))[0]


def test_isoforms_within_phases_where_asked_for(simulated_cells):
    params = ChangeParams.model_validate({"isoforms": {"strata": True, "shuffle": False}})
    result = find_changes(simulated_cells.rna, simulated_cells.isoform, DESIGN, params, context=RunContext())
    usage = result.isoform_usage
    assert {"all", "G1"} <= set(usage["phase"]) <= {"all", "G1", "S", "G2M"}
    sizes = usage.groupby(["contrast", "phase"])["n_group"].first().unstack()
    assert (sizes["G1"] < sizes["all"]).all() and "shuffled" not in result.record["isoforms"]
    within = usage[(usage["phase"] == "G1") & (usage["reference"] == "control")]
    assert within["warning"].str.contains("from expression").all()


def test_record_accounts_for_cells_and_what_was_left_out(changes, simulated_cells):
    record = changes.record
    assert record["cells"] == int((_tested(simulated_cells.rna.obs) != "").sum())
    assert len(record["contrasts"]) == 9 and "ties" in record["expression"]["test"]
    for name, stratum in record["strata"].items():
        for condition, count in stratum["left_out"].items():
            assert count < ChangeParams().min_group and condition not in stratum["cells"], name


def test_one_condition_alone_gives_empty_tables_and_says_so(simulated_cells):
    rna = simulated_cells.rna
    alone = rna[(_tested(rna.obs) == "mmMYOD1").to_numpy()].copy()
    result = find_changes(alone, None, DESIGN, ChangeParams(), context=RunContext())
    assert result.de.empty and tuple(result.de.columns) == COLUMNS and result.isoform_usage.empty
    assert any("one condition (mmMYOD1)" in note for note in result.record["notes"])
    assert len(result.dose) == alone.n_obs and result.dose["response_control"].isna().all()
    assert result.record["isoforms"]["method"].startswith("none: no transcript matrix")


def test_perturbed_cells_without_control_are_compared_with_one_another(simulated_cells):
    rna = simulated_cells.rna
    cells = rna[_tested(rna.obs).isin(PERTURBED).to_numpy()].copy()
    result = find_changes(cells, None, DESIGN, ChangeParams(strata=()), context=RunContext())
    assert "control" not in set(result.de["reference"].astype(str)) and len(result.record["contrasts"]) == 6
    assert any("no control cells" in note for note in result.record["notes"])


def test_a_perturbed_gene_that_the_matrix_lacks_is_noted(simulated_cells, changes):
    assert not any("MYOD1" in note for note in changes.record["notes"])
    rna = simulated_cells.rna[:, (simulated_cells.rna.var["symbol"] != "MYOD1").to_numpy()].copy()
    params = ChangeParams(strata=(), pairwise=False)
    notes = find_changes(rna, None, DESIGN, params, context=RunContext()).record["notes"]
    assert [note for note in notes if "no level of it" in note] == [
        "MYOD1: perturbed by the design, not in the matrix; no level of it"
    ]


def test_depth_that_differs_is_noted(simulated_cells, changes):
    assert not any("median molecules" in note for note in changes.record["notes"])
    rna = simulated_cells.rna.copy()
    rna.obs["n_counts"] = np.where(_tested(rna.obs) == "control", 9000, 3000)
    params = ChangeParams(strata=(), pairwise=False)
    notes = find_changes(rna, None, DESIGN, params, context=RunContext()).record["notes"]
    assert any("9000 in control" in note for note in notes)


def test_tables_without_rows_keep_their_columns(tmp_path):
    write_changes(no_changes("there are no genes"), tmp_path)
    assert tuple(pd.read_csv(tmp_path / "de.csv").columns) == COLUMNS
    assert [path.name for path in sorted(tmp_path.iterdir())] == sorted(OUTPUTS)
    assert list(pd.read_csv(tmp_path / "dose.csv").columns)[:4] == ["cell", "pool", "condition", "phase"]


def test_bad_input_is_named(simulated_cells):
    rna, isoform = simulated_cells.rna, simulated_cells.isoform
    with pytest.raises(InvalidDataError, match="lacks phase"):
        bare = AnnData(rna.X, obs=rna.obs.drop(columns="phase"), var=rna.var)
        find_changes(bare, None, DESIGN, ChangeParams(), context=RunContext())
    with pytest.raises(InvalidDataError, match="isoform.*other cells"):
        find_changes(rna, isoform[::-1].copy(), DESIGN, ChangeParams(), context=RunContext())
    with pytest.raises(InvalidDataError, match="no layer 'counts'"):
        other = AnnData(isoform.X, obs=isoform.obs, var=isoform.var)
        find_changes(rna, other, DESIGN, ChangeParams(), context=RunContext())
    with pytest.raises(InvalidDataError, match="no gene of each transcript"):
        other = isoform.copy()
        other.var = other.var[["transcript_id"]]
        find_changes(rna, other, DESIGN, ChangeParams(), context=RunContext())
