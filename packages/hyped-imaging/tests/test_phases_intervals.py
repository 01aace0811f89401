"""Intervals of shares cover the truth of simulated populations, and durations are those that were simulated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.design import default_design
from hyped_core.simulate.biology import alive_at, phase_at, simulate_lineages
from hyped_core.simulate.params import BiologyParams
from hyped_imaging.phases.durations import durations
from hyped_imaging.phases.fractions import phase_fractions
from hyped_imaging.phases.intervals import design_effect, lineage_intervals, replicate_interval, wilson
from hyped_imaging.phases.params import PhaseParams

DESIGN, BIOLOGY = default_design(), BiologyParams()


def seen(n, seed, replicate, times, condition="control"):
    """True phases of a replicate's cells at ``times``, in a table as `call_phases` gives it."""
    rng = np.random.default_rng([seed, replicate])
    cells = simulate_lineages(DESIGN, condition, n, float(times[0]), float(times[-1]), BIOLOGY, rng)
    parts = []
    for frame, time in enumerate(times):
        here = cells[alive_at(cells, time)]
        columns = {"track_id": here["cell_id"], "parent_id": here["parent_id"], "frame": frame, "time_h": time}
        parts.append(pd.DataFrame(columns).assign(phase=phase_at(cells, time, "fucci")))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(scene=f"R{replicate}", condition=condition, replicate=replicate)


def test_intervals_cover_the_population():
    times = np.array([24.0, 36.0, 48.0])
    keys = ["system", "phase", "frame"]
    truth = phase_fractions(seen(4000, 99, 1, times)).query("replicate == '1'").set_index(keys)["fraction"]
    parts = []
    for seed in range(40):
        table = pd.concat([seen(40, seed, k, times) for k in (1, 2, 3)], ignore_index=True)
        parts.append(phase_fractions(table))
    found = pd.concat(parts, ignore_index=True)
    true = truth.reindex(pd.MultiIndex.from_frame(found[keys])).to_numpy()
    covers = (found["fraction_lo"] <= true) & (true <= found["fraction_hi"])
    one = found["replicate"] != "all"
    assert 0.90 < covers[one].mean() < 0.98
    assert covers[~one].mean() > 0.93
    assert (found.loc[~one, "n_replicates"] == 3).all()
    widths = (found["fraction_hi"] - found["fraction_lo"])[one]
    assert widths.mean() < 0.3, "not by being as wide as can be"


def test_one_replicate_has_no_interval_over_replicates():
    table = phase_fractions(seen(30, 0, 1, np.array([30.0, 34.0])))
    over = table[table["replicate"] == "all"]
    assert len(over) and over[["fraction_lo", "fraction_hi"]].isna().all(axis=None)
    assert (over["interval"] == "").all() and (over["n_replicates"] == 1).all()


def test_replicates_that_agree_by_chance_keep_the_error_of_counting():
    assert replicate_interval(np.zeros(3), (0.0, 0.08), 0.95) == (0.0, 0.08)
    low, high = replicate_interval(np.array([0.2, 0.3, 0.4]), (0.29, 0.31), 0.95)
    assert (low, high) == pytest.approx((0.3 - 0.1 * 4.3027 / 3**0.5, 0.3 + 0.1 * 4.3027 / 3**0.5), abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30))
@settings(max_examples=60, deadline=None)
def test_lineages_never_count_for_more_than_their_nuclei(pairs):
    hits = np.array(pairs, float)
    sizes = hits.sum(axis=1)
    hits, sizes = hits[sizes > 0], sizes[sizes > 0]
    if len(sizes) < 2:
        return
    worth = design_effect(hits, sizes)
    assert (worth >= 1).all() and (worth <= (sizes**2).sum() / sizes.sum() + 1e-9).all()
    for column, (low, high) in enumerate(lineage_intervals(hits, sizes, 0.95)):
        assert 0 <= low <= hits[:, column].sum() / sizes.sum() <= high <= 1


def test_doubling_every_nucleus_within_its_lineage_tells_nothing_new():
    rng = np.random.default_rng(3)
    hits = np.eye(3)[rng.integers(0, 3, 50)]
    single = lineage_intervals(hits, np.ones(50), 0.95)
    assert np.allclose(lineage_intervals(2 * hits, np.full(50, 2.0), 0.95), single, atol=0.01)
    wider = [wilson(k / 50, 100, 0.95) for k in hits.sum(axis=0)]
    assert all(b[1] - b[0] < a[1] - a[0] for a, b in zip(single, wider, strict=True))


def test_durations_are_the_simulated_ones_where_the_mean_of_whole_ones_is_not():
    times = np.arange(20.0, 46.0, 1 / 3)
    table = pd.concat([seen(150, 5, k, times) for k in (1, 2)], ignore_index=True)
    table["phase_per_frame"] = False
    rng = np.random.default_rng(7)
    cells = simulate_lineages(DESIGN, "control", 3000, 20.0, 120.0, BIOLOGY, rng)
    born = cells[(cells["parent_id"] > 0) & (cells["birth_h"].between(20, 45))]
    found = durations(table, PhaseParams(draws=200))
    over = found[found["replicate"] == "all"].set_index(["system", "phase"])
    for (system, phase), true in {
        ("coarse", "G1"): born["s_start_h"] - born["birth_h"],
        ("coarse", "S_G2M"): born["m_start_h"] + born["m_length_h"] - born["s_start_h"],
        ("cycle", "cycle"): born["m_start_h"] + born["m_length_h"] - born["birth_h"],
    }.items():
        row = over.loc[(system, phase)]
        median = float(np.median(true))
        assert row["median_h"] == pytest.approx(median, rel=0.07), (system, phase)
        assert row["median_lo"] - 0.35 <= median and not row["median_hi"] + 0.35 < median
        assert row["n_censored"] > 0 and row["n_unknown_begin"] > 0
    cycle = over.loc[("cycle", "cycle")]
    true = float(np.mean(born["m_start_h"] + born["m_length_h"] - born["birth_h"]))
    assert cycle["complete_mean_h"] < true - 1.5, "only short cycles fit into the movie"
    assert over.loc[("fucci", "M"), "median_h"] == pytest.approx(0.8, abs=0.35)
    assert over.loc[("fucci", "dark"), "median_h"] == pytest.approx(2.0, abs=0.35)


def test_durations_of_nothing():
    table = seen(10, 0, 1, np.array([30.0, 30.3]))
    for empty in (table.assign(phase=""), table.iloc[:0], table.assign(track_id=0, parent_id=0)):
        assert len(durations(empty)) == 0
    assert len(phase_fractions(table.assign(phase=""))) == 0


def test_same_seed_same_intervals():
    table = seen(40, 1, 1, np.arange(20.0, 40.0, 0.5))
    pd.testing.assert_frame_equal(durations(table), durations(table.sample(frac=1, random_state=0)))
