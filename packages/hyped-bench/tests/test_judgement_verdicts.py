"""Verdicts follow from the numbers: planted effects, copies of the control, undefined units, few units, draws."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hyped_bench.judgement import Entry, judge_entries, rank_as_planted
from hyped_bench.judgement.comparisons import Compared
from hyped_bench.judgement.panels import POOLED, pool_names
from hyped_bench.judgement.verdicts import _numbers
from hyped_bench.tasks.base import Judged

SCORE = Judged("score", "higher", "no_change", ("additive",), "duplicate", ("perturbation",), "held-out perturbation")
ERROR = replace(SCORE, metric="error", better="lower")
KINDS = {"no_change": "control", "additive": "control", "duplicate": "reference", "oracle": "reference"}


def entry(name, levels, n=10, noise=0.02, source="screen", seed=None, kind=None, confounded=False):
    """An entry whose metrics scatter about given levels; units share part of their scatter, as real ones do."""
    shared = np.random.default_rng(0).normal(0, 0.1, n)
    own = np.random.default_rng([len(name), *name.encode(), seed or 0])
    table = pd.DataFrame({"source": source, "perturbation": [f"P{i}" for i in range(n)]})
    for metric, level in levels.items():
        table[metric] = level + shared + own.normal(0, noise, n) if noise else level + shared
    if seed is not None:
        table["seed"] = seed
    return Entry(name, kind or KINDS.get(name, "model"), units=table, confounded={source: confounded})


def panel_of(levels, judged=(SCORE,), **more):
    metrics = [item.metric for item in judged]
    return [entry(name, dict.fromkeys(metrics, level), **more) for name, level in levels.items()]


def word(made, model, against, metric="score", source="screen"):
    found = {
        v.word for v in made.verdicts
        if (v.model, v.against, v.metric, v.source) == (model, against, metric, source)
    }  # fmt: skip
    assert len(found) == 1
    return found.pop()


def test_planted_effects_are_called_as_they_are():
    made = judge_entries(
        panel_of({"no_change": 0.0, "additive": 0.5, "duplicate": 0.9, "good": 0.7, "poor": 0.2, "even": 0.5}),
        "expression", (SCORE,),
    )  # fmt: skip
    assert [word(made, m, "no_change") for m in ("good", "poor", "even")] == ["better"] * 3
    assert [word(made, m, "additive") for m in ("good", "poor", "even")] == ["better", "worse", "indistinguishable"]
    text = next(v.text for v in made.verdicts if v.model == "poor" and v.role == "nothing")
    assert text.startswith("poor is better than doing nothing (no_change) on score (+0.2")
    assert "10 held-out perturbations" in text
    assert made.rankings[0]["order"][:2] == ["duplicate", "good"]
    overall = {s.model: s.text for s in made.summaries if not s.metric}
    assert overall["poor"] == "poor: better than doing nothing (no_change) on score; worse than additive on score."


def test_effects_are_positive_where_better_whatever_the_direction():
    levels = {"no_change": 1.0, "additive": 0.5, "duplicate": 0.1, "good": 0.3}
    made = judge_entries(panel_of(levels, (ERROR,)), "expression", (ERROR,))
    row = next(c for c in made.comparisons if c.model == "good" and c.role == "nothing")
    assert row.effect == pytest.approx(0.7, abs=0.05)
    assert row.lo < row.effect < row.hi
    assert word(made, "good", "no_change", "error") == "better"
    assert made.rankings[0]["order"] == ["duplicate", "good", "additive", "no_change"]


def test_the_best_control_is_what_models_are_held_against():
    levels = {"no_change": 0.0, "additive": 0.4, "duplicate": 0.9, "strong": 0.6, "good": 0.5}
    entries = panel_of(levels)
    entries[3].kind = "control"
    made = judge_entries(entries, "expression", (SCORE,))
    roles = {(c.model, c.role): c.against for c in made.comparisons}
    assert roles["good", "best_control"] == "strong"
    assert ("strong", "best_control") not in roles
    assert word(made, "good", "strong") == "worse"
    assert not any(c.model in ("duplicate", "oracle") for c in made.comparisons)


def test_a_model_that_returns_the_control_is_called_by_its_name():
    entries = panel_of({"no_change": 0.0, "additive": 0.5, "duplicate": 0.9}, (SCORE, ERROR))
    copy = replace(entries[0], model="lazy", kind="model")
    made = judge_entries([*entries, copy], "expression", (SCORE, replace(ERROR, better="higher")))
    texts = [v.text for v in made.verdicts if v.model == "lazy" and v.against == "no_change"]
    assert all(text.startswith("lazy returns the control cells") for text in texts)
    assert {v.word for v in made.verdicts if v.model == "lazy" and v.against == "no_change"} == {"indistinguishable"}
    overall = next(s.text for s in made.summaries if s.model == "lazy" and not s.metric)
    assert overall == "lazy returns the control cells."


def test_an_effect_without_an_interval_is_said_without_one():
    scores = (1.0, 1.0, 0.0, None, None, None, None, 1)
    row = Compared("S0", "psnr", "same", "model", "median", "control", *scores, same=True)
    assert _numbers(row) == "+0.00"
    assert _numbers(replace(row, effect=0.5, lo=0.25, hi=0.75)) == "+0.50, 0.25 to 0.75"


def test_equal_scores_on_one_metric_alone_are_no_copy():
    entries = panel_of({"no_change": 0.0, "additive": 0.5, "duplicate": 0.9, "good": 0.6}, (SCORE, ERROR))
    entries[3].units["error"] = entries[0].units["error"]
    made = judge_entries(entries, "expression", (SCORE, replace(ERROR, better="higher")))
    text = next(v.text for v in made.verdicts if (v.model, v.role, v.metric) == ("good", "nothing", "error"))
    assert "returns the control" not in text
    assert "equal in every one of 10 held-out perturbations" in text


def test_a_metric_without_range_gives_no_verdict():
    made = judge_entries(
        panel_of({"no_change": 0.9, "additive": 0.9, "duplicate": 0.9, "good": 0.95}, noise=0.05),
        "expression", (SCORE,),
    )  # fmt: skip
    calibration = made.calibration[0]
    assert not calibration.can_tell
    assert calibration.reason
    assert word(made, "good", "no_change") == "cannot tell"
    assert any("unable to tell: score" in note for note in made.notes)
    assert not made.rankings[0]["can_tell"]


def test_a_ceiling_carried_by_few_units_cannot_tell():
    entries = panel_of({"no_change": 0.5, "additive": 0.5, "duplicate": 0.5}, n=20, noise=0)
    entries[2].units.loc[:8, "score"] += 1.0
    made = judge_entries(entries, "expression", (SCORE,))
    assert made.calibration[0].share_ceiling_better == pytest.approx(0.45)
    assert made.calibration[0].dynamic_range > made.calibration[0].null_hi
    assert "45% of held-out perturbations only" in made.calibration[0].reason


def test_an_undefined_or_absent_unit_makes_the_comparison_undefined_and_is_said():
    entries = panel_of({"no_change": 0.0, "additive": 0.5, "duplicate": 0.9, "nan": 0.9, "short": 0.9, "good": 0.7})
    entries[3].units.loc[2, "score"] = np.nan
    entries[4].units = entries[4].units.iloc[1:]
    made = judge_entries(entries, "expression", (SCORE,))
    for model in ("nan", "short"):
        row = next(c for c in made.comparisons if c.model == model and c.role == "nothing")
        assert (row.effect, row.lo, row.p_holm) == (None, None, None)
        assert row.reason == "undefined in 1 of 10 held-out perturbations"
        assert word(made, model, "no_change") == "cannot tell"
        assert model not in made.rankings[0]["order"]
    assert word(made, "good", "no_change") == "better"
    assert sum("undefined in 1 of 10" in note for note in made.notes) >= 2


def test_failed_entries_and_missing_controls_are_listed():
    entries = panel_of({"no_change": 0.0, "good": 0.7})
    entries.append(Entry("broken", "model", "failed", "PluginError: no"))
    made = judge_entries(entries, "expression", (SCORE,))
    assert made.failed == [{"model": "broken", "status": "failed", "reason": "PluginError: no"}]
    assert made.missing_controls == ["screen: additive", "screen: duplicate"]
    assert made.calibration[0].reason == "duplicate was not scored here"
    assert word(made, "good", "no_change") == "cannot tell"


def test_correction_grows_with_the_number_of_models():
    levels = {"no_change": 0.0, "additive": 0.3, "duplicate": 0.9, "a": 0.02, "b": 0.01, "c": 0.0, "d": 0.5}
    made = judge_entries(panel_of(levels, noise=0.03), "expression", (SCORE,))
    rows = {c.model: c for c in made.comparisons if c.role == "nothing" and c.kind == "model"}
    assert rows["d"].p_holm == pytest.approx(4 * rows["d"].p)
    assert all(row.p_holm >= row.p for row in rows.values())
    control = next(c for c in made.comparisons if c.role == "nothing" and c.model == "additive")
    assert control.p_holm == control.p  # a family of its own


def with_draws(made_entry, spread, size=200):
    rng = np.random.default_rng(len(made_entry.model))
    units = made_entry.units
    table = units.loc[units.index.repeat(size)].reset_index(drop=True)
    table["draw"] = np.tile(np.arange(size), len(units))
    table["score"] += rng.normal(0, spread, len(table))
    return replace(made_entry, draws=table)


def test_few_perturbations_are_judged_by_their_cells_and_it_is_said():
    levels = {"no_change": 0.0, "additive": 0.5, "duplicate": 0.9, "good": 0.7, "near": 0.501}
    entries = [with_draws(e, 0.03) for e in panel_of(levels, n=3, noise=0, confounded=True)]
    made = judge_entries(entries, "expression", (SCORE,))
    inference = made.inference["screen"]
    assert (inference.kind, inference.n) == ("cells", 3)
    assert "this says nothing of unseen perturbations" in inference.said
    assert made.calibration[0].can_tell
    assert word(made, "good", "additive") == "better"
    assert word(made, "near", "additive") == "indistinguishable"
    for verdict in made.verdicts:
        assert "intervals come from cells within conditions; this says nothing of unseen perturbations" in verdict.text
        assert "condition and pool cannot be told apart here" in verdict.text


def test_few_perturbations_without_redrawn_cells_get_no_verdict():
    levels = {"no_change": 0.0, "additive": 0.5, "duplicate": 0.9, "good": 0.7}
    made = judge_entries(panel_of(levels, n=3), "expression", (SCORE,))
    assert made.inference["screen"].kind == "none"
    assert {v.word for v in made.verdicts} == {"cannot tell"}
    assert all(c.effect is not None and c.lo is None for c in made.comparisons)


def test_a_model_without_redrawn_cells_among_others_is_undefined():
    levels = {"no_change": 0.0, "additive": 0.5, "duplicate": 0.9, "good": 0.7}
    entries = [with_draws(e, 0.03) for e in panel_of(levels, n=3)]
    entries[3].draws = None
    made = judge_entries(entries, "expression", (SCORE,))
    row = next(c for c in made.comparisons if c.model == "good")
    assert row.lo is None
    assert "redrawn cells" in row.reason
    assert word(made, "additive", "no_change") == "better"


def test_where_condition_and_pool_are_one_scores_against_the_other_conditions_stand_beside():
    levels = {"no_change": (0, 0), "train_mean": (0.8, 0), "additive": (0.8, 0.3), "duplicate": (0.9, 0.9)}
    levels["pool_only"] = (0.8, 0.0)
    entries = [
        entry(
            name, {"score": level, "score_train": free}, confounded=True,
            kind="control" if name == "train_mean" else None,
        )
        for name, (level, free) in levels.items()
    ]  # fmt: skip
    made = judge_entries(entries, "expression", (SCORE,))
    assert made.confounded == {"screen": True}
    assert word(made, "pool_only", "no_change") == "better"
    assert word(made, "pool_only", "train_mean", "score_train") == "indistinguishable"
    # of the pool only the measured change is free: doing nothing to the cells stands beside doing nothing by the key
    assert word(made, "pool_only", "no_change", "score_train") == "indistinguishable"
    held = [c.against for c in made.comparisons if (c.model, c.metric) == ("pool_only", "score_train")]
    assert held == ["train_mean", "no_change", "additive", "additive"]  # simple, and the best control
    assert any("what a model predicts need not be" in note for note in made.notes)
    texts = {(v.metric, v.role): v.text for v in made.verdicts if v.model == "pool_only"}
    assert "may be the pool's" in texts["score", "nothing"]
    assert "the mean of the other perturbed conditions (train_mean)" in texts["score_train", "nothing"]
    assert "may be the pool's" not in texts["score_train", "nothing"]


def test_where_condition_and_pool_are_one_a_reader_is_sent_to_what_there_is():
    levels = {"no_response": 0.0, "mean_response": 0.3, "duplicate": 0.9, "good": 0.7}
    judged = (replace(SCORE, nothing="no_response", simple=("mean_response",)),)
    entries = panel_of(levels, confounded=True)
    entries[0].kind = entries[1].kind = "control"
    made = judge_entries(entries, "response", judged)
    text = next(s.text for s in made.summaries if s.model == "good" and not s.metric)
    assert text.endswith("may be the pool's: read what is said against mean_response, which has it too.")
    assert not any("_train" in line for line in (text, *made.notes))
    bare = judge_entries([e for e in entries if e.model != "mean_response"], "response", judged)
    assert next(s.text for s in bare.summaries if s.model == "good" and not s.metric).endswith("may be the pool's.")


def test_a_copy_of_what_is_no_cells_is_not_said_to_return_cells():
    entries = panel_of({"identity": 0.0, "duplicate": 0.9})
    entries[0].kind = "control"
    judged = (replace(SCORE, nothing="identity", simple=()),)
    made = judge_entries([*entries, replace(entries[0], model="lazy", kind="model")], "denoise", judged)
    assert "lazy answers as identity does." in [s.text for s in made.summaries]
    assert not any("returns" in v.text for v in made.verdicts)


def folded(levels, folds=("G1", "S", "G2M"), n=3):
    entries = panel_of(levels, n=n)
    for made_entry in entries:
        made_entry.units = pd.concat([made_entry.units.assign(fold=f) for f in folds], ignore_index=True)
    return entries


def test_repeats_of_a_perturbation_over_folds_add_no_unit():
    levels = {"no_change": 0.0, "additive": 0.5, "duplicate": 0.9, "good": 0.7}
    made = judge_entries(folded(levels), "expression", (SCORE,))  # 9 rows, 3 perturbations
    assert (made.inference["screen"].kind, made.inference["screen"].n) == ("none", 3)
    assert "each the mean of up to 3 folds" in made.inference["screen"].said
    many, once = folded(levels, n=10), panel_of(levels, n=10)
    a, b = (judge_entries(e, "expression", (SCORE,)).comparisons for e in (many, once))
    assert [(r.n, r.p) for r in a] == [(r.n, r.p) for r in b]
    assert [r.lo for r in a] == pytest.approx([r.lo for r in b])
    drawn = [with_draws(e, 0.03) for e in folded(levels)]
    assert all(len(e.draws) == 3 * 3 * 200 for e in drawn)
    made = judge_entries(drawn, "expression", (SCORE,))
    assert (made.inference["screen"].kind, made.inference["screen"].n) == ("cells", 3)
    assert word(made, "good", "additive") == "better"


def test_a_fold_that_one_model_lacks_is_not_left_out_of_its_mean():
    entries = folded({"no_change": 0.0, "additive": 0.5, "duplicate": 0.9, "good": 0.7}, n=10)
    table = entries[3].units
    entries[3].units = table[(table["fold"] != "S") | (table["perturbation"] != "P4")]
    made = judge_entries(entries, "expression", (SCORE,))
    row = next(c for c in made.comparisons if c.model == "good" and c.role == "nothing")
    assert row.effect is None
    assert row.reason == "undefined in 1 of 10 held-out perturbations"
    assert word(made, "additive", "no_change") == "better"


def test_more_models_than_few_units_can_carry_are_said():
    levels = {"no_change": 0.0, "additive": 0.5, "duplicate": 0.9}
    for count, silent in ((6, True), (7, False)):
        entries = panel_of(levels | {f"m{i}": 0.7 for i in range(count)}, n=8)
        made = judge_entries(entries, "expression", (SCORE,))
        assert (word(made, "m0", "no_change") == "better") is silent
        assert any("among 7 models at once nothing can be called" in note for note in made.notes) is not silent


def test_seeds_are_averaged_first_and_their_spread_is_reported():
    entries = panel_of({"no_change": 0.0, "additive": 0.5, "duplicate": 0.9}, noise=0)
    parts = [entry("good", {"score": level}, seed=s, noise=0) for s, level in enumerate((0.6, 0.7, 0.8))]
    entries.append(replace(parts[0], units=pd.concat([p.units for p in parts])))
    made = judge_entries(entries, "expression", (SCORE,))
    row = next(c for c in made.comparisons if c.model == "good" and c.role == "nothing")
    assert (row.n, row.effect) == (10, pytest.approx(0.7))
    spread = made.seeds[0]
    assert (spread["model"], spread["n_seeds"]) == ("good", 3)
    assert spread["spread"] == pytest.approx(0.1)
    entries[-1].units = entries[-1].units.iloc[1:]  # a seed that gave no score for one unit
    again = judge_entries(entries, "expression", (SCORE,))
    assert next(c for c in again.comparisons if c.model == "good").effect is None


def test_phases_are_compared_and_named_only_where_significant():
    entries = panel_of({"no_change": 0.0, "additive": 0.5, "duplicate": 0.9, "good": 0.7})
    for made_entry in entries:
        parts = [made_entry.units.assign(phase=phase) for phase in ("G1", "G2M", "S")]
        made_entry.strata = pd.concat(parts, ignore_index=True)
    flat = entries[0].strata["score"].to_numpy()
    within = entries[3].strata["phase"] == "S"
    noise = np.random.default_rng(1).normal(0, 0.01, within.sum())
    entries[3].strata.loc[within, "score"] = flat[within] + noise - noise.mean()
    made = judge_entries(entries, "expression", (SCORE,))
    words = {r["phase"]: r["word"] for r in made.strata if r["model"] == "good" and r["against"] == "no_change"}
    assert words == {"G1": "better", "G2M": "better", "S": ""}
    row = next(r for r in made.strata if r["model"] == "good" and r["phase"] == "G1" and r["role"] == "nothing")
    assert row["p_holm"] == pytest.approx(3 * row["p"])


def test_scenes_with_one_unit_each_are_taken_together_by_what_is_added_to_their_names():
    primary = Entry("m", "model", primary={"scene_1_dim": False, "scene_2_dim": False})
    keys = [("scene_1",), ("scene_2",), ("scene_1_dim",), ("scene_2_dim",)]
    names = pool_names(keys, [primary])
    assert names == {"scene_1": POOLED, "scene_2": POOLED, "scene_1_dim": "dim", "scene_2_dim": "dim"}
    assert pool_names([("a", "P1"), ("a", "P2"), ("b", "P1")], [primary]) == {"a": "a", "b": "b"}
    assert pool_names(keys, [primary], drawn=True)["scene_1_dim"] == "scene_1_dim"


def test_few_scenes_are_judged_by_students_interval_against_the_best_control():
    judged = (Judged("seg", "higher", unit_word="scene"),)
    entries = []
    for name, kind, level in (("otsu", "control", 0.6), ("fast", "model", 0.9)):
        rng = np.random.default_rng(list(name.encode()))
        units = pd.DataFrame({"source": [f"S{i}" for i in range(4)], "seg": level + rng.normal(0, 0.01, 4)})
        entries.append(Entry(name, kind, units=units))
    made = judge_entries(entries, "segment", judged)
    assert [(v.source, v.word, v.against) for v in made.verdicts] == [(POOLED, "better", "otsu")]
    assert "Student's over 4 scenes" in made.verdicts[0].text


def test_controls_that_stand_in_a_models_own_table_are_used():
    judged = (Judged("shift", "higher", "null", ceiling="half", unit=("perturbation",), unit_word="perturbation"),)
    rng = np.random.default_rng(3)
    units = pd.DataFrame({"source": "mini", "perturbation": [f"P{i}" for i in range(9)]})
    units["shift"], units["shift_null"] = 0.5 + rng.normal(0, 0.05, 9), rng.normal(0, 0.05, 9)
    units["shift_half"] = 0.9
    made = judge_entries([Entry("embedder", "model", units=units)], "embedding", judged)
    assert made.calibration[0].can_tell
    assert word(made, "embedder", "null", "shift", "mini") == "better"


LADDER = {"oracle": 0.95, "duplicate": 0.8, "additive": 0.5, "good": 0.6, "no_change": 0.0}


def test_the_planted_order_holds_and_a_broken_one_is_named():
    made = judge_entries(panel_of(LADDER), "expression", (SCORE,))
    ranking = rank_as_planted(made.planted)[0]
    assert ranking.holds
    assert [(s.first, s.second) for s in ranking.steps] == [
        ("oracle", "duplicate"), ("duplicate", "good"), ("good", "no_change")
    ]  # fmt: skip
    made = judge_entries(panel_of(LADDER | {"good": -0.5, "additive": -0.4}), "expression", (SCORE,))
    broken = rank_as_planted(made.planted)[0]
    assert not broken.holds
    assert [(s.first, s.second) for s in broken.broken] == [("additive", "no_change")]


def test_the_duplicate_is_brought_to_all_cells_where_the_metric_allows():
    judged = (replace(SCORE, metric="pearson_delta"), SCORE)
    made = judge_entries(panel_of(LADDER | {"duplicate": 0.55}, judged), "expression", judged)
    full, half = rank_as_planted(made.planted)
    assert full.full_size
    assert full.holds  # 2 * 0.55 / 1.55 = 0.71 lies above the model's 0.6
    assert not half.full_size
    assert [s.state for s in half.steps] == ["holds", "open", "holds"]
    assert half.broken == ()


def test_perfect_scores_tie():
    entries = panel_of(LADDER)
    for made_entry in entries[:4]:
        made_entry.units["score"] = 1.0
    ranking = rank_as_planted(judge_entries(entries, "expression", (SCORE,)).planted)[0]
    assert [s.state for s in ranking.steps] == ["tied", "tied", "holds"]
    assert ranking.holds


def test_phases_with_few_units_have_intervals_only_where_the_source_is_judged_over_units():
    for n, given in ((10, True), (4, False)):
        entries = panel_of({"no_change": 0.0, "additive": 0.5, "duplicate": 0.9, "good": 0.7}, n=n)
        for made_entry in entries:
            made_entry.strata = made_entry.units.iloc[:4].assign(phase="S")
        rows = judge_entries(entries, "expression", (SCORE,)).strata
        assert rows
        assert all((row["lo"] is not None) is given and row["n"] == 4 for row in rows)


def test_the_order_of_entries_changes_nothing():
    entries = panel_of({"no_change": 0.0, "additive": 0.5, "duplicate": 0.9, "good": 0.7, "poor": 0.2})
    first = judge_entries(entries, "expression", (SCORE,)).as_dict()
    again = judge_entries(entries[::-1], "expression", (SCORE,)).as_dict()
    assert first["calibration"] == again["calibration"]
    assert first["rankings"] == again["rankings"]
    for part in ("comparisons", "verdicts"):
        rows = [sorted(map(str, made[part])) for made in (first, again)]
        assert rows[0] == rows[1]


def test_a_model_that_was_not_scored_on_a_source_is_named():
    entries = panel_of({"no_change": 0.0, "additive": 0.5, "duplicate": 0.9, "good": 0.7, "half": 0.7})
    for made_entry in entries[:4]:
        made_entry.units = pd.concat([made_entry.units, made_entry.units.assign(source="other")], ignore_index=True)
    made = judge_entries(entries, "expression", (SCORE,))
    assert "other: half was not scored" in made.notes
    assert {c.source for c in made.comparisons if c.model == "half"} == {"screen"}
    assert {c.source for c in made.comparisons if c.model == "good"} == {"screen", "other"}
