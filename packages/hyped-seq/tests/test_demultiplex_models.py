"""The demultiplexers: counts whose origin is known, captures with genetic truth, and counts that are odd."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.context import RunContext
from hyped_core.contracts import Demultiplexer
from hyped_core.errors import InvalidDataError
from hyped_core.plugins.registry import get_model
from hyped_seq.demultiplex.calibration import DEFAULT
from hyped_seq.demultiplex.hashed import Hashed, HashedConfig, evidence, two_tag_share
from hyped_seq.demultiplex.levels import Levels, background_offsets, settle, two_highest

CONTEXT = RunContext()
NAMES = ("hashed", "hashsolo", "gmm", "quantile")
TAGS = ("A", "B", "C")


def hto_of(counts: np.ndarray, tags: tuple[str, ...] = TAGS) -> anndata.AnnData:
    obs = pd.DataFrame(index=[f"c{i}" for i in range(len(counts))])
    return anndata.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=pd.DataFrame(index=list(tags)))


def capture(
    n: int = 1500,
    scale: tuple[float, ...] = (60, 20, 8),
    background: tuple[float, ...] = (4, 2, 1),
    doublets: float = 0.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of cells with tags of unequal brightness over background, and their true calls."""
    rng = np.random.default_rng(seed)
    k, rows = len(scale), np.arange(n)
    first, second = rng.integers(0, k, (2, n))
    pair = rng.random(n) < doublets
    mean = np.tile(np.array(background, dtype=float), (n, 1)) * np.exp(0.4 * rng.standard_normal((n, 1)))
    mean[rows, first] += np.array(scale)[first] * np.exp(0.4 * rng.standard_normal(n))
    mean[rows, second] += pair * np.array(scale)[second] * np.exp(0.4 * rng.standard_normal(n))
    names = np.array([chr(65 + i) for i in range(k)], dtype=object)
    return rng.poisson(mean), np.where(pair & (first != second), "Doublet", names[first])


def calls_of(counts: np.ndarray, tags: tuple[str, ...] = TAGS, **config: object) -> pd.DataFrame:
    return Hashed(HashedConfig(**config)).assign(hto_of(counts, tags), context=CONTEXT)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_registered_and_keeps_the_contract(name):
    model = get_model("demultiplex", name).create()
    assert isinstance(model, Demultiplexer)
    counts, truth = capture(scale=(60, 20, 12), doublets=0.08)
    hto = hto_of(counts)
    before = hto.X.copy()
    calls = model.assign(hto, context=CONTEXT)
    assert list(calls.index) == list(hto.obs_names) and (hto.X != before).nnz == 0
    assert calls["probability"].between(0, 1).all()
    singlet = (calls["kind"] == "singlet").to_numpy()
    assert (calls["call"].to_numpy() == truth)[singlet].mean() > 0.9
    assert (calls["tags"][singlet] == calls["call"][singlet]).all()
    doublet = (calls["kind"] == "doublet").to_numpy()
    assert doublet[truth == "Doublet"].mean() > 3 * doublet[truth != "Doublet"].mean()
    pairs = calls["tags"][doublet].str.split("+")
    assert all(len(set(pair)) == 2 and set(pair) <= set(TAGS) for pair in pairs)
    assert (calls["tags"][calls["kind"] == "negative"] == "").all()
    assert set(calls["forced_call"]) <= set(TAGS)
    pd.testing.assert_frame_equal(calls, model.assign(hto, context=CONTEXT))


def test_dim_tags_are_found_that_raw_counts_miss():
    counts, truth = capture(scale=(60, 20, 6))
    ours = (calls_of(counts, doublet_share=0)["call"].to_numpy() == truth).mean()
    assert ours > (np.array(TAGS)[counts.argmax(axis=1)] == truth).mean() + 0.02 and ours > 0.95


@pytest.mark.parametrize("share", [0.02, 0.08, 0.2])
def test_doublets_are_estimated_from_the_counts(share):
    """Bright tags on few cells: the number of cells (0.8 % per 1,000) would be far off. Drawn to 8 % a bit."""
    counts, truth = capture(4000, scale=(90,) * 6, background=(3,) * 6, doublets=share * 6 / 5)
    found = evidence(counts.astype(float))
    assert two_tag_share(found.pair, 0.08) == pytest.approx(0.8 * share + 0.2 * 0.08, abs=0.03)
    calls = calls_of(counts, tuple("ABCDEF"))
    called = (calls["kind"] == "doublet").to_numpy()
    assert (truth == "Doublet")[called].mean() > 0.75


def test_the_share_of_doublets_can_be_given():
    counts, truth = capture(4000, doublets=0.1)
    for share in (0.0, 0.05, 0.3):
        calls = calls_of(counts, doublet_share=share)
        assert (calls["kind"] == "doublet").mean() == pytest.approx(share, abs=0.002)
    true = (truth == "Doublet").mean()
    called = (calls_of(counts, doublet_share=true)["kind"] == "doublet").to_numpy()
    assert called[truth == "Doublet"].mean() > 0.6, "most of the true doublets are among them"


def test_columns_beside_the_call():
    counts, truth = capture(3000, scale=(15, 10, 6), doublets=0.1)
    calls = calls_of(counts)
    singlet = calls["kind"] == "singlet"
    assert (calls["forced_call"] == calls["call"])[singlet].all()
    assert calls["margin"].min() >= 0 and calls["doublet_probability"].between(0, 1).all()
    assert (calls["probability"] == calls["doublet_probability"])[calls["kind"] == "doublet"].all()
    doubtful = calls["margin"] < calls["margin"].quantile(0.1)
    right = calls["forced_call"].to_numpy() == truth
    assert right[(truth != "Doublet") & ~doubtful].mean() > right[(truth != "Doublet") & doubtful].mean() + 0.1


def test_abstaining_is_asked_for_and_marked():
    counts, truth = capture(3000, doublets=0.1)
    plain, careful = calls_of(counts), calls_of(counts, min_probability=0.8)
    abstained = (careful["kind"] == "negative").to_numpy()
    assert not (plain["kind"] == "negative").any() and 0 < abstained.mean() < 0.9
    unsure = (plain["probability"] < 0.8) & (plain["kind"] == "singlet")
    assert unsure.to_numpy().tolist() == abstained.tolist(), "doublets are not abstained from"
    assert (careful["forced_call"] == plain["forced_call"]).all()
    right = plain["call"].to_numpy() == truth
    assert right[~abstained].mean() > right[abstained].mean()
    assert set(careful["probability"][abstained]) == {DEFAULT.negative} and 0 < DEFAULT.negative < 0.5
    assert careful[~abstained].equals(plain[~abstained])


@pytest.mark.parametrize("name", ["hashed", "gmm"])
def test_abstaining_is_the_same_in_both(name):
    counts, _ = capture(1500, doublets=0.1)
    plain, careful = (
        get_model("demultiplex", name).create({"min_probability": least}).assign(hto_of(counts), context=CONTEXT)
        for least in (0.0, 0.99)
    )
    unsure = (plain["kind"] == "singlet") & (plain["probability"] < 0.99)
    assert unsure.any() and (plain["kind"] == "doublet").any()
    assert (careful["kind"] == plain["kind"].mask(unsure, "negative")).all()
    assert (careful["probability"][unsure] < 0.5).all(), "that they have no tag, not that the best tag is wrong"
    assert (careful["probability"] == plain["probability"])[~unsure].all()


@given(st.integers(0, 10_000), st.permutations(range(4)))
@settings(max_examples=12, deadline=None)
def test_permuting_cells_or_tags_permutes_calls(seed, columns):
    counts, _ = capture(250, scale=(60, 30, 20, 9), background=(3, 2, 4, 1), doublets=0.1, seed=seed)
    counts = counts.astype(float)
    rows = np.random.default_rng(seed).permutation(len(counts))
    names = np.array(list("ABCD"))
    plain = calls_of(counts, tuple(names))
    mixed = calls_of(counts[rows][:, columns], tuple(names[list(columns)]))
    expected = plain.iloc[rows].set_axis(mixed.index)
    pd.testing.assert_frame_equal(mixed, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_tag_without_counts_changes_no_call(name):
    counts, _ = capture(400, scale=(60, 30, 20), doublets=0.1)
    more = np.column_stack([counts[:, :1], np.zeros(len(counts)), counts[:, 1:]])
    model = get_model("demultiplex", name).create()
    plain = model.assign(hto_of(counts), context=CONTEXT)
    pd.testing.assert_frame_equal(plain, model.assign(hto_of(more, ("A", "empty", "B", "C")), context=CONTEXT))


def test_a_tag_that_nobody_carries_takes_few_cells():
    counts, truth = capture(3000, scale=(60, 30, 20, 0), background=(4, 2, 3, 3))
    carried = truth != "D"  # cells of the tag that stains nothing have no origin to be found
    calls = calls_of(counts[carried], tuple("ABCD"))
    assert (calls["call"] == "D").mean() < 0.02
    assert (calls["forced_call"].to_numpy() == truth[carried]).mean() > 0.95


def test_a_tag_that_nearly_all_cells_carry():
    counts, truth = capture(6000, scale=(60, 30, 20))
    kept = (truth == "A") | (np.arange(len(truth)) % 20 == 0)
    calls = calls_of(counts[kept])
    assert (truth[kept] == "A").mean() > 0.9
    assert (calls["forced_call"].to_numpy() == truth[kept]).mean() > 0.97


@pytest.mark.parametrize("n_tags", [2, 5, 16])
def test_other_numbers_of_tags(n_tags):
    counts, truth = capture(200 * n_tags, scale=(50,) * n_tags, background=(3,) * n_tags, doublets=0.06)
    calls = calls_of(counts, tuple(chr(65 + i) for i in range(n_tags)))
    assert (calls["call"].to_numpy() == truth).mean() > 0.93


@pytest.mark.parametrize("name", NAMES)
def test_cells_without_counts_are_negative(name):
    counts, _ = capture(300, scale=(60, 30, 20))
    counts[:7] = 0
    calls = get_model("demultiplex", name).create().assign(hto_of(counts), context=CONTEXT)
    assert (calls["call"][:7] == "Negative").all() and (calls["forced_call"][:7] == "").all()
    assert (calls["kind"][7:] == "singlet").mean() > 0.7


@pytest.mark.parametrize("name", ["hashed", "gmm", "quantile"])
@pytest.mark.parametrize(
    "counts",
    [np.zeros((3, 2)), np.array([[9, 1]]), np.full((20, 2), 3), np.array([[9], [0], [2]]), np.eye(2) * 40],
    ids=["nothing", "one cell", "all alike", "one tag", "two cells"],
)
def test_hardly_any_counts_break_nothing(name, counts):
    calls = get_model("demultiplex", name).create().assign(
        hto_of(counts, ("A", "B")[: counts.shape[1]]), context=CONTEXT
    )
    assert set(calls["call"]) <= {"A", "B", "Doublet", "Negative"} and len(calls) == len(counts)
    assert calls["probability"].between(0, 1).all()
    assert (calls["call"].to_numpy()[counts.sum(axis=1) == 0] == "Negative").all()


def test_one_tag_in_use_is_called_of_every_cell_with_counts():
    calls = calls_of(np.array([[30, 0], [0, 0], [2, 0]]), ("A", "B"))
    assert calls["call"].tolist() == ["A", "Negative", "A"]
    assert calls["probability"].iloc[0] < 0.7, "nothing there says that it is right"


@pytest.mark.parametrize("counts", [np.random.default_rng(0).poisson(0.02, (300, 3)), np.array([[5, 1, 1]])])
def test_hashsolo_refuses_what_it_cannot_fit(counts):
    counts[0] = [1, 1, 1] if len(counts) > 1 else counts[0]
    model = get_model("demultiplex", "hashsolo").create()
    with pytest.raises(InvalidDataError, match="too few cells or counts") as caught:
        model.assign(hto_of(counts), context=CONTEXT)
    assert "hashed" in caught.value.mend


def test_hashsolo_refuses_fewer_than_three_tags_in_use():
    model = get_model("demultiplex", "hashsolo").create()
    with pytest.raises(InvalidDataError, match="three tags with counts, there are 2"):
        model.assign(hto_of(np.array([[3, 4, 0]] * 9)), context=CONTEXT)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [0.5, -1.0, np.nan, np.inf])
def test_counts_that_are_none_are_named(name, wrong):
    counts = capture(20)[0].astype(float)
    counts[3, 1] = wrong
    with pytest.raises(InvalidDataError, match="tag 'B' in cell 'c3'"):
        get_model("demultiplex", name).create().assign(hto_of(counts), context=CONTEXT)
    with pytest.raises(InvalidDataError, match="shape"):
        get_model("demultiplex", name).create().assign(hto_of(np.zeros((0, 3))), context=CONTEXT)


@given(
    mean0=st.floats(-1, 1),
    step=st.floats(0.7, 5),
    scales=st.tuples(st.floats(0.06, 2), st.floats(0.06, 2)),
    values=st.lists(st.floats(-30, 30), min_size=2, max_size=20),
)
def test_log_odds_rise_with_the_count(mean0, step, scales, values):
    one = [np.array([v]) for v in (mean0, scales[0], mean0 + step, scales[1], 1.0)]
    odds = Levels(*one).log_odds(np.sort(values)[:, None]).ravel()
    assert (np.diff(odds) >= -1e-9).all() and np.isfinite(odds).all()


def test_levels_are_those_the_counts_were_made_with():
    counts, truth = capture(6000, scale=(60, 30, 20), background=(4, 8, 2))
    offsets = background_offsets(np.log1p(counts))
    levels, _ = settle(counts.astype(float))
    for j, name in enumerate(TAGS):
        others = np.log1p(counts[truth != name, j])
        assert offsets[j] == pytest.approx(np.median(others), abs=0.15)
        own = np.median(np.log1p(counts[truth == name, j])) - offsets[j]
        assert levels.mean1[j] - levels.mean0[j] == pytest.approx(own, abs=0.2)
        assert levels.share[j] == pytest.approx((truth == name).mean(), abs=0.06)
    assert levels.share.sum() == pytest.approx(1)


@given(st.integers(2, 6), st.integers(0, 1000))
def test_the_two_highest_are_those_of_a_sort(n_tags, seed):
    values = np.random.default_rng(seed).normal(size=(9, n_tags))
    assert (two_highest(values) == np.argsort(-values, axis=1)[:, :2]).all()


@given(st.floats(-60, 60), st.floats(0, 60), st.floats(-3, 12))
def test_calibrated_probabilities_rise_with_the_evidence(beyond, margin, height):
    one = [np.array([v]) for v in (beyond, margin, height)]
    assert 0 <= DEFAULT.p_doublet(one[0])[0] <= DEFAULT.p_doublet(one[0] + 1)[0] < 1
    assert 0 <= DEFAULT.p_tag(one[1], one[2])[0] <= DEFAULT.p_tag(one[1] + 1, one[2])[0] <= 1
    assert DEFAULT.p_tag(one[1], one[2] + 1)[0] <= DEFAULT.p_tag(one[1], one[2])[0]


def public_capture(folder: Path, name: str) -> tuple[anndata.AnnData, np.ndarray, np.ndarray | None]:
    """Counts, true calls and the published hashsolo calls (none of ``cell_line``)."""
    if name == "cell_line":
        place, published = folder / "hto" / name, None
        counts, donors = place / "lmo_counts_capture1.csv", place / "lmo_donors_capture1.csv"
        tags = {f"CL {letter}": f"CL 0{i + 1}" for i, letter in enumerate("ABC")}
    else:
        place, first = folder / "hto" / "bal", {"batch1_c1": 0, "batch2_c1": 8}[name]
        counts, donors = place / f"{name}_hto_counts.csv", place / f"{name}_donors.csv"
        tags = {f"BAL {'ABCDEFGHIJKLMNOP'[i]}": f"BAL {i + 1:02d}" for i in range(first, first + 8)}
        published = pd.read_csv(place / f"{name}_hashsolo.csv").set_index("Barcode")["Classification"]
    table = pd.read_csv(counts, index_col=0).T
    truth = pd.read_csv(donors).drop_duplicates("Barcode").set_index("Barcode")["genetic_donor"].replace(tags)
    hto = anndata.AnnData(
        sp.csr_matrix(table.to_numpy(dtype=np.float32)),
        obs=pd.DataFrame(index=table.index),
        var=pd.DataFrame(index=table.columns),
    )
    theirs = None if published is None else published.loc[table.index].to_numpy()
    return hto, truth.loc[table.index].to_numpy(), theirs


def per_tag_f(called: np.ndarray, truth: np.ndarray) -> float:
    scores = []
    for tag in sorted(set(truth) - {"Doublet", "Negative"}):
        hit = ((called == tag) & (truth == tag)).sum()
        scores.append(2 * hit / ((called == tag).sum() + (truth == tag).sum()))
    return float(np.mean(scores))


@pytest.mark.public
@pytest.mark.parametrize("name", ["batch1_c1", "batch2_c1", "cell_line"])
def test_real_captures_against_genotypes(name, public_folder: Path):
    hto, truth, published = public_capture(public_folder, name)
    calls = Hashed().assign(hto, context=CONTEXT)
    right = calls["call"].to_numpy() == truth
    if published is None:
        published = get_model("demultiplex", "hashsolo").create().assign(hto, context=CONTEXT)["call"].to_numpy()
    theirs = (published == truth).mean()
    assert theirs == pytest.approx({"batch1_c1": 0.866, "batch2_c1": 0.783, "cell_line": 0.754}[name], abs=0.001)
    assert right.mean() >= theirs + 0.045
    assert per_tag_f(calls["call"].to_numpy(), truth) > {"batch1_c1": 0.94, "batch2_c1": 0.88}.get(name, 0.87)
    for name in ("gmm", "quantile"):
        other = get_model("demultiplex", name).create().assign(hto, context=CONTEXT)
        assert right.mean() > (other["call"].to_numpy() == truth).mean() + 0.02
    bins = np.minimum((calls["probability"].to_numpy() * 10).astype(int), 9)
    gaps = np.abs(np.bincount(bins, right - calls["probability"].to_numpy(), minlength=10)) / len(right)
    assert gaps.sum() < 0.05


@pytest.mark.public
def test_numbers_learnt_on_other_captures_do_as_well(public_folder: Path):
    """Each capture with what is learnt on the other two: benchmarks/calibrate_demultiplex.py."""
    pytest.importorskip("hyped_bench")
    place = Path(__file__).resolve().parents[3] / "benchmarks" / "calibrate_demultiplex.py"
    spec = importlib.util.spec_from_file_location("calibrate_demultiplex", place)
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # its dataclasses look themselves up there
    spec.loader.exec_module(script)
    seen = [script.Seen(c, evidence(c.counts.to_numpy(dtype=float))) for c in script.read_captures(public_folder)]
    scores, lead = [], []
    for held in seen:
        learnt = script.learn([other for other in seen if other is not held])
        assert learnt != DEFAULT
        calls, probability = script.calls_of(held, learnt)
        scores.append(script.row(held, calls, probability))
        hto = hto_of(held.capture.counts.to_numpy(), tuple(held.capture.counts.columns))
        published = held.capture.published
        if published is None:
            published = get_model("demultiplex", "hashsolo").create().assign(hto, context=CONTEXT)["call"]
        lead.append(scores[-1]["accuracy"] - float((published.to_numpy() == held.truth).mean()))
    assert min(lead) >= 0.025 and np.mean(lead) >= 0.045
    assert np.mean([score["f_singlet"] for score in scores]) >= 0.90
    assert max(score["ece"] for score in scores) < 0.06
