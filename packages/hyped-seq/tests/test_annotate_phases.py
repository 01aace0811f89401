"""Phases from expression: the classifier trained on sorted cells, the gene score, lists of cycle genes."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from hyped_core.errors import InvalidDataError
from hyped_seq.annotate.cycle_genes import G2M_GENES, S_GENES, CycleGenes, names_in, read_cycle_genes
from hyped_seq.annotate.normalise import log_normalised
from hyped_seq.annotate.phase_composition import estimate_shares, fit_pool, jackknife_variance
from hyped_seq.annotate.phase_params import PhaseParams
from hyped_seq.annotate.phase_report import reliability, wilson
from hyped_seq.annotate.phase_ring import fit_ring
from hyped_seq.annotate.phase_score import gene_score, phase_of_scores
from hyped_seq.annotate.phase_store import read_classifier
from hyped_seq.annotate.phases import PHASES, PhaseCalls, call_phases

N_GENES = 300


@dataclass(frozen=True)
class Planted:
    """Cells of two captures drawn here, without the simulator: sorted ones, and others in two conditions."""

    counts: sp.csr_matrix
    symbols: list[str]
    truth: np.ndarray
    sorted_as: pd.Series
    pools: pd.Series
    conditions: pd.Series

    def call(self, **changes) -> PhaseCalls:
        given = {"sorted_phase": self.sorted_as, "counts": self.counts, "conditions": self.conditions}
        given |= {"groups": self.pools, "genes": CycleGenes(), "params": PhaseParams(), "symbols": self.symbols}
        return call_phases(log_normalised(self.counts), **(given | changes))


def plant(
    seed: int,
    wrong: float = 0.1,
    depth: float = 3000.0,
    shift_sd: float = 0.2,
    shallow: float = 1.0,
    loud_sd: float = 0.0,
) -> Planted:
    """Genes with one bump each round the cycle, ``wrong`` of the labels random, and a second capture.

    There, genes are shifted, cells ``shallow`` times as deep, and 70 % or 90 % (by condition) are in G1. With
    ``loud_sd`` the cycle genes of a cell are louder or softer together than its depth says.
    """
    rng = np.random.default_rng(seed)
    cycle = [*S_GENES[:30], *G2M_GENES[:30]]
    peak = np.repeat([0.55, 0.85], 30) + rng.normal(0, 0.05, 60)
    base = np.exp(rng.normal(0, 1, N_GENES))
    base[:60] = np.exp(rng.normal(0, 0.5, 60))
    n = 360
    phase = np.concatenate([np.repeat([0, 1, 2], n // 3), rng.choice(3, 400, p=[0.7, 0.2, 0.1])])
    phase = np.concatenate([phase, rng.choice(3, 300, p=[0.9, 0.06, 0.04])])
    edges = np.array([0.0, 0.45, 0.75, 1.0])
    at = edges[phase] + rng.random(phase.size) * np.diff(edges)[phase]
    rate = np.tile(np.log(base), (phase.size, 1))
    rate[:, :60] += 1.5 * np.exp(3 * (np.cos(2 * np.pi * (at[:, None] - peak)) - 1))
    other = np.arange(phase.size) >= n
    rate[other] += rng.normal(0, shift_sd, N_GENES)
    size = depth * np.exp(rng.normal(0, 0.4, phase.size)) * np.where(other, shallow, 1.0)
    mean = np.exp(rate)
    mean *= (size / mean.sum(axis=1))[:, None]
    mean[:, :60] *= np.exp(loud_sd * np.random.default_rng(seed).normal(size=(phase.size, 1)))
    counts = sp.csr_matrix(rng.poisson(mean * rng.gamma(8, 1 / 8, mean.shape)).astype(np.int32))
    label = np.array(PHASES, dtype=object)[phase]
    noisy = rng.random(phase.size) < wrong
    label[noisy] = np.array(PHASES, dtype=object)[(phase[noisy] + rng.integers(1, 3, noisy.sum())) % 3]
    label[other] = ""
    cells = [f"c{i}" for i in range(phase.size)]
    return Planted(
        counts,
        [*cycle, *(f"G{i}" for i in range(N_GENES - 60))],
        np.array(PHASES, dtype=object)[phase],
        pd.Series(label, index=cells),
        pd.Series(np.where(other, "second", "first"), index=cells),
        pd.Series(np.repeat(["", "one", "two"], [n, 400, 300]), index=cells),
    )


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant(0)


@pytest.fixture(scope="module")
def called(planted) -> PhaseCalls:
    return planted.call()


def test_phases_against_the_truth(annotated, seq_world):
    obs = annotated.modalities["rna"].obs
    truth = seq_world.cells.loc[obs.index]
    single = ((truth["kind"] == "singlet") & (obs["hashtag_kind"] == "singlet")).to_numpy()
    perturbed = single & (obs["pool"] == "perturbed").to_numpy()
    true = truth["phase"].astype(str).to_numpy()
    right = obs["phase"].astype(str).to_numpy() == true
    score = obs["phase_score"].astype(str).to_numpy() == true
    assert right[perturbed].mean() > 0.9
    assert right[perturbed].mean() > score[perturbed].mean() + 0.1
    for phase in PHASES:
        share = (obs["phase"].astype(str).to_numpy() == phase)[perturbed].mean()
        assert share == pytest.approx((true[perturbed] == phase).mean(), abs=0.07), "rare phases are called too"
    record = annotated.record["phase"]
    assert record["held_out_accuracy"] > max(0.78, record["score_accuracy"] + 0.05)
    sorted_cells = (obs["assigned_phase"] != "").to_numpy()
    assert (obs["phase"].astype(str) == obs["assigned_phase"].astype(str))[sorted_cells].all()
    assert set(obs["pool"][sorted_cells]) == {"control"}
    for phase in PHASES:
        found = record["composition"]["perturbed"]
        assert found[f"{phase}_lo"] < (true[perturbed] == phase).mean() < found[f"{phase}_hi"]


def test_planted_phases_are_found_in_both_captures(planted, called):
    right = called.table["phase_classifier"].to_numpy() == planted.truth
    known = (planted.sorted_as != "").to_numpy()
    score = called.table["phase_score"].to_numpy() == planted.truth
    assert right[known].mean() > 0.9 and right[~known].mean() > 0.9
    assert right[known].mean() > score[known].mean() + 0.05
    assert (called.table["phase_source"] == np.where(known, "sorted", "classifier")).all()
    assert (called.table.loc[known, "phase"] == planted.sorted_as[known]).all()


def test_wrong_labels_are_estimated_and_do_not_teach(planted, called):
    known = (planted.sorted_as != "").to_numpy()
    wrong = (planted.sorted_as.to_numpy() != planted.truth)[known].mean()
    record = called.record
    assert record["label_error"] == pytest.approx(wrong, abs=0.03)
    right = (called.table["phase_classifier"].to_numpy() == planted.truth)[known].mean()
    assert right > record["held_out_accuracy"] + 0.05, "nearer to the truth than to the labels it learned from"
    assert record["expected_accuracy"] == pytest.approx(right, abs=0.04)
    assert record["held_out_accuracy_lo"] < record["held_out_accuracy"] < record["held_out_accuracy_hi"]
    assert sum(map(sum, (row.values() for row in record["confusion"].values()))) == known.sum()


def test_probabilities_are_calibrated(planted, called):
    unsorted = (planted.sorted_as == "").to_numpy()
    right = (called.table["phase_classifier"].to_numpy() == planted.truth)[unsorted]
    found = reliability(called.table["phase_probability"].to_numpy(float)[unsorted], right)
    assert found["calibration_error"] < 0.04 and called.record["calibration_error"] < 0.08


@pytest.mark.parametrize(("seed", "shallow", "shift_sd"), [(1, 1.0, 0.0), (2, 0.3, 0.2), (3, 1.0, 0.5)])
def test_shares_hold_whatever_the_capture(seed, shallow, shift_sd):
    made = plant(seed, shallow=shallow, shift_sd=shift_sd)
    record = made.call().record
    for condition in ("one", "two"):
        here = (made.conditions == condition).to_numpy()
        found = record["composition"][f"second / {condition}"]
        assert found["cells"] == here.sum() and sum(found[p] for p in PHASES) == pytest.approx(1, abs=1e-5)
        for phase in PHASES:
            share = (made.truth[here] == phase).mean()
            assert found[f"{phase}_lo"] - 0.01 < share < found[f"{phase}_hi"] + 0.01
            assert found[f"{phase}_hi"] - found[f"{phase}_lo"] < 0.25


def test_without_signal_it_is_not_sure(planted):
    rng = np.random.default_rng(1)
    known = (planted.sorted_as != "").to_numpy()
    shuffled = planted.sorted_as.copy()
    shuffled[known] = rng.permutation(planted.sorted_as[known].to_numpy())
    record = planted.call(sorted_phase=shuffled).record
    assert record["held_out_accuracy_lo"] < 0.36, "chance is a third"
    assert max(record["reliability"]["probability"]) < 0.65 and record["label_error"] > 0.4


def test_genes_that_vary_together_are_noticed():
    made = plant(5, loud_sd=0.6)
    plain, found = plant(5).call(), made.call()
    assert plain.record["loudness"] <= 0.01 < found.record["loudness"]
    unsorted = (made.sorted_as == "").to_numpy()
    assert (found.table["phase_classifier"].to_numpy() == made.truth)[unsorted].mean() > 0.88


def test_agreement_is_by_condition_and_adds_up(planted, called):
    found = called.record["agreement"]
    unsorted = (planted.sorted_as == "").to_numpy()
    assert set(found) == {"second / one", "second / two"}
    agree = (called.table["phase_classifier"] == called.table["phase_score"])[unsorted]
    assert called.record["agreement_classifier_score_unsorted"] == pytest.approx(agree.mean(), abs=1e-6)
    cells = sum(n for group in found.values() for row in group["table"].values() for n in row.values())
    assert cells == unsorted.sum()
    same = sum(group["table"][phase][phase] for group in found.values() for phase in PHASES)
    assert same == agree.sum()


def test_the_seed_decides(planted, called):
    pd.testing.assert_frame_equal(planted.call(seed=0).table, called.table)
    assert planted.call(seed=0).record == called.record
    assert planted.call(seed=1).record["held_out_accuracy"] != called.record["held_out_accuracy"]


def test_more_cells_than_are_learned_from(planted, called):
    few = planted.call(params=PhaseParams(max_cells=150))
    assert (few.table["phase_classifier"] == called.table["phase_classifier"]).mean() > 0.9


def test_a_prior_of_equal_phases_where_shares_are_not_to_be_adapted(planted, called):
    plain = planted.call(params=PhaseParams(adapt_composition=False))
    assert plain.record["composition"] == {}
    unsorted = (planted.sorted_as == "").to_numpy()
    g1 = [(c.table["phase_classifier"][unsorted] == "G1").mean() for c in (plain, called)]
    assert g1[0] < g1[1], "most unsorted cells are in G1, and only one of the two learns that"


def test_genes_and_cells_without_counts_are_no_obstacle(planted, called):
    counts = planted.counts.tolil()
    counts[:, [3, 40]] = 0
    counts[-1, :60] = 0
    table = planted.call(counts=counts.tocsr()).table
    assert np.isfinite(table["phase_probability"]).all()
    assert (table["phase_classifier"] == called.table["phase_classifier"]).mean() > 0.95


def test_nothing_sorted_means_the_gene_score(planted):
    result = planted.call(sorted_phase=pd.Series("", index=planted.sorted_as.index))
    assert result.record["method"] == "gene score: too few sorted cells"
    assert (result.table["phase"] == result.table["phase_score"]).all()
    assert (result.table["phase_source"] == "score").all() and (result.table["phase_classifier"] == "").all()


def test_a_phase_that_was_never_sorted_is_named_and_not_called(planted):
    result = planted.call(sorted_phase=planted.sorted_as.where(planted.sorted_as != "G2M", ""))
    assert result.record["never_sorted"] == ["G2M"]
    assert set(result.table["phase_classifier"]) == {"G1", "S"}


def test_a_shift_of_genes_is_not_taken_for_other_shares():
    made = plant(4, shift_sd=0.0)
    counts = made.counts[:, :60].toarray().astype(float)
    depth = np.asarray(made.counts.sum(axis=1), float).ravel()
    known = (made.sorted_as != "").to_numpy()
    codes = np.array([PHASES.index(p) for p in made.sorted_as[known]])
    model = fit_ring(counts[known], depth[known], codes, 3, PhaseParams())
    factor = np.random.default_rng(0).uniform(0.4, 1.0, 60)
    thinned = np.random.default_rng(1).binomial(counts[~known].astype(int), factor).astype(float)
    before = fit_pool(model, counts[~known], depth[~known], 1.0, 0.3, 50.0)
    after = fit_pool(model, thinned, depth[~known], 1.0, 0.3, 50.0)
    found = after.shift - before.shift
    assert np.corrcoef(found, np.log(factor))[0, 1] > 0.9
    shares = [
        estimate_shares(fit.log_likelihood(data, depth[~known])).value
        for fit, data in ((before, counts[~known]), (after, thinned))
    ]
    assert np.abs(shares[0] - shares[1]).max() < 0.04


@settings(max_examples=30)
@given(st.floats(0.05, 0.9))
def test_shares_are_recovered(share):
    rng = np.random.default_rng(0)
    truth = rng.random(4000) < share
    x = rng.normal(np.where(truth, 1.0, -1.0), 1.0)
    found = estimate_shares(np.column_stack([-x, x]))
    assert found.value[1] == pytest.approx(truth.mean(), abs=0.04)
    assert abs(found.value[1] - truth.mean()) < 4 * np.sqrt(found.variance[1])
    assert np.allclose(found.posterior.sum(axis=1), 1)


def test_standard_errors_of_shares_are_those_of_repeated_draws():
    rng = np.random.default_rng(0)
    means = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    values, variances = [], []
    for _ in range(200):
        phase = rng.choice(3, 400, p=[0.6, 0.25, 0.15])
        x = rng.normal(means[phase], 1.0)
        found = estimate_shares(-0.5 * ((x[:, None] - means) ** 2).sum(axis=2))
        values.append(found.value)
        variances.append(found.variance)
    assert np.allclose(np.mean(variances, axis=0), np.var(values, axis=0), rtol=0.3)


def test_jackknife_of_a_mean_is_its_variance():
    x = np.random.default_rng(0).normal(size=20)
    without = [[np.delete(x, i).mean()] for i in range(20)]
    assert jackknife_variance(without)[0] == pytest.approx(x.var(ddof=1) / 20)


@given(st.integers(1, 400), st.floats(0, 1))
def test_intervals_are_scipys(n, share):
    k = round(share * n)
    theirs = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((theirs.low, theirs.high), abs=2e-6)


def test_reliability_tells_calibrated_from_too_sure():
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.4, 1, 20000)
    right = rng.random(20000) < probability
    assert reliability(probability, right)["calibration_error"] < 0.02
    sure = reliability(np.sqrt(probability), right)
    assert sure["calibration_error"] == pytest.approx((np.sqrt(probability) - probability).mean(), abs=0.01)
    assert sum(sure["reliability"]["cells"]) == 20000


def test_gene_score_is_higher_where_the_genes_are():
    rng = np.random.default_rng(2)
    mean = np.tile(rng.uniform(1, 10, 400), (60, 1))
    mean[:30, :8] *= 4
    names = [f"G{i}" for i in range(400)]
    score = gene_score(log_normalised(sp.csr_matrix(rng.poisson(mean))), names, tuple(names[:8]))
    assert score[:30].min() > score[30:].max()


def test_gene_scores_are_scanpys_without_the_draw(annotated):
    scanpy = pytest.importorskip("scanpy")
    rna = annotated.modalities["rna"]
    logs = rna.X.tocsr()
    theirs = rna.copy()
    theirs.X = logs
    theirs.var_names = theirs.var["symbol"].astype(str).to_numpy()
    theirs.var_names_make_unique()
    present = CycleGenes().present(list(theirs.var_names))
    scanpy.tl.score_genes_cell_cycle(theirs, s_genes=list(present.s), g2m_genes=list(present.g2m))
    ours = {
        "S_score": gene_score(logs, list(theirs.var_names), present.s),
        "G2M_score": gene_score(logs, list(theirs.var_names), present.g2m),
    }
    for name, values in ours.items():
        assert np.corrcoef(values, theirs.obs[name])[0, 1] > 0.95
    agree = phase_of_scores(theirs.obs["S_score"].to_numpy(), theirs.obs["G2M_score"].to_numpy())
    assert (agree == theirs.obs["phase"].astype(str).to_numpy()).all(), "the rule on the scores is theirs"


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


def test_without_cycle_genes_no_phase_is_made_up(planted):
    result = planted.call(genes=CycleGenes(("NONE",), ("NOR1",)))
    unsorted = (planted.sorted_as == "").to_numpy()
    assert (result.table["phase"][unsorted] == "").all() and (result.table["phase"][~unsorted] != "").all()
    assert result.record["method"].startswith("none") and result.classifier is None


def test_too_few_cycle_genes_are_said_with_their_number(planted):
    note = planted.call(genes=CycleGenes(("NONE", planted.symbols[0]), ("NOR1",))).record["note"]
    assert "1 of 2 genes of S and 0 of 1 of G2/M" in note and "--genes" in note
    assert "note" not in planted.call().record


def test_genes_of_a_mouse_are_those_of_the_list(planted, called):
    mouse = [symbol.capitalize() for symbol in planted.symbols]
    assert set(CycleGenes().present(mouse).s) & {"Mcm5", "Pcna"} and not CycleGenes().present(["MCM"]).s
    assert names_in(["MCM5", "CENPU", "TYMS"], ["mcm5", "Mcm5", "MCM5", "Mlf1ip"]) == ["MCM5", "Mlf1ip", None]
    again = planted.call(symbols=mouse)
    assert again.table["phase"].tolist() == called.table["phase"].tolist()
    there, names = called.classifier.among(mouse)
    assert there.genes == called.classifier.genes and names == [gene.capitalize() for gene in there.genes]


def test_a_gene_that_one_fold_alone_has_seen_is_no_obstacle(planted):
    counts = planted.counts.tolil()
    counts[:, 7] = 0
    counts[5, 7] = 3
    assert np.isfinite(planted.call(counts=counts.tocsr()).table["phase_probability"]).all()


@pytest.fixture
def stored(called, tmp_path):
    path = tmp_path / "phase_classifier.json"
    path.write_text(json.dumps(called.classifier.to_json()))
    return path


def test_a_classifier_serves_an_experiment_without_sorted_cells(stored):
    other = plant(11)
    retired = {"CENPU": "MLF1IP", "PIMREG": "FAM64A"}
    result = other.call(
        sorted_phase=pd.Series("", index=other.sorted_as.index),
        symbols=[retired.get(name, name) for name in other.symbols],
        params=PhaseParams(classifier=str(stored), shift_sd=0.5),
    )
    assert result.record["method"].startswith("classifier of another experiment")
    assert result.record["borrowed"]["genes"] == 60 and result.classifier is None
    right, score = ((result.table[column].to_numpy() == other.truth).mean() for column in ("phase", "phase_score"))
    assert right > 0.85 and right > score + 0.1


def test_ones_own_sorted_cells_come_first(planted, called, stored):
    result = planted.call(params=PhaseParams(classifier=str(stored)))
    pd.testing.assert_frame_equal(result.table, called.table)


def test_a_stored_classifier_is_the_same_classifier(called, stored):
    back = read_classifier(stored, PHASES)
    assert (back.genes, back.phases) == (called.classifier.genes, called.classifier.phases)
    for name in ("log_rate", "weight", "membership", "label", "density"):
        assert np.allclose(getattr(back.model, name), getattr(called.classifier.model, name), rtol=1e-5)


@pytest.mark.parametrize("damage", ["absent", "cut", "other", "shape", "nan", "phase", "bounds", "field", "binary"])
def test_what_is_no_classifier_is_refused(damage, stored):
    values = json.loads(stored.read_text())
    changed = {
        "other": {"format": "something"},
        "shape": values | {"weight": values["weight"][1:]},
        "nan": values | {"weight": [float("nan")] * len(values["weight"])},
        "phase": values | {"phases": ["G1", "S", "G9"]},
        "bounds": values | {"temperature": 0.0},
        "field": {key: value for key, value in values.items() if key != "density"},
    }
    if damage == "absent":
        stored.unlink()
    elif damage == "binary":
        stored.write_bytes(b"\xff\xfe\x00\x81")
    else:
        stored.write_text(json.dumps(changed[damage]) if damage in changed else stored.read_text()[:500])
    with pytest.raises(InvalidDataError, match="phase_classifier.json"):
        read_classifier(stored, PHASES)


def test_a_classifier_of_other_genes_is_refused(planted, stored):
    with pytest.raises(InvalidDataError, match="shares 4 genes"):
        planted.call(
            sorted_phase=pd.Series("", index=planted.sorted_as.index),
            symbols=[name if i in (0, 1, 30, 31) or i > 59 else f"X{i}" for i, name in enumerate(planted.symbols)],
            params=PhaseParams(classifier=str(stored), min_genes=6),
            genes=CycleGenes(tuple(f"X{i}" for i in range(2, 30)), tuple(f"X{i}" for i in range(32, 60))),
        )
