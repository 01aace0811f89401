"""Cycle positions, mitosis and runs of phases, on traces of which everything is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from hyped_core.design import default_design
from hyped_core.simulate.readout import POSITION_BOUNDS
from hyped_imaging.cli_phases import phases as command
from hyped_imaging.phases.mitosis import since_last, until_division
from hyped_imaging.phases.params import PhaseParams
from hyped_imaging.phases.runs import lineages, phase_runs
from hyped_imaging.phases.sequence import mend
from hyped_imaging.phases.states import call_phases

DESIGN = default_design()
LEVELS = {"dark": (0.05, 0.0), "G1": (0.8, 0.0), "G1S": (0.6, 0.6), "S_G2M": (0.02, 0.9), "M": (0.0, 0.4)}


def cycle(track, parent=0, start=0, brightness=1000.0, noise=0.03, seed=0, interval_h=1 / 3):
    """One cell from birth to division, 20 minutes a frame, in rows of a table of tracks."""
    rng = np.random.default_rng([seed, track])
    course = ["dark"] * 6 + ["G1"] * 25 + ["G1S"] * 4 + ["S_G2M"] * 25 + ["M"] * 3
    rows = []
    for i, phase in enumerate(course):
        g1, sg2m = LEVELS[phase]
        condensed = phase == "M"
        rows.append(
            {
                "scene": "S0", "frame": start + i, "time_h": (start + i) * interval_h, "label": track,
                "track_id": track, "parent_id": parent, "condition": "control", "replicate": 1,
                "area_um2": 110.0 if condensed else 200.0 + i, "mean_Cy5": 1600.0 if condensed else 800.0,
                "mean_mKate": brightness * g1 + brightness * noise * rng.standard_normal(),
                "mean_TagGFP": brightness * sg2m + brightness * noise * rng.standard_normal(), "true": phase,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def population(noise=0.03, seed=0):
    """Cells that begin at different times, some followed by daughters."""
    parts = [cycle(k, start=3 * k, noise=noise, seed=seed) for k in range(1, 15)]
    parts += [cycle(20 + k, parent=k, start=3 * k + 63, noise=noise, seed=seed) for k in range(1, 10)]
    return pd.concat(parts, ignore_index=True)


def true_position(table):
    """Of `cycle`: 6 frames dark and 25 G1, 29 of S to G2, 3 of M; frames stand for their middle."""
    age = table.groupby("track_id")["frame"].transform(lambda f: f - f.min()) + 0.5
    return np.interp(age, [0, 31, 60, 63], [0.0, 0.45, 0.95, 1.0])


def test_the_scale_is_the_simulators():
    assert PhaseParams().position_bounds == (POSITION_BOUNDS[1], POSITION_BOUNDS[3])


def test_positions_of_whole_cycles():
    daughters = [cycle(100 + k, parent=k, start=3 * k + 63) for k in range(1, 10)]
    table = pd.concat([population(), *daughters], ignore_index=True)
    called = call_phases(table, DESIGN)
    apart = np.abs(called["cycle_position"] - true_position(table))
    assert apart.mean() < 0.03
    assert apart[called["cycle_position_by"] == "both_sides"].max() < 0.06
    assert called["cycle_position"].between(0, 1, inclusive="left").all()
    steps = called.sort_values(["track_id", "frame"]).groupby("track_id")["cycle_position"].diff()
    assert (steps.dropna() >= -1e-9).all()
    sources = called.groupby("cycle_position_by").size()
    assert set(sources.index) == {"both_sides", "one_side"}


def test_positions_without_tracks_come_from_reporters_alone():
    table = population().assign(track_id=0, parent_id=0)
    called = call_phases(table, DESIGN)
    assert (called["cycle_position_by"] == "reporters").all() and called["phase_per_frame"].all()
    late = called["true"].isin(["S_G2M", "G1S"])
    g1 = called["true"].isin(["G1", "dark"])
    assert (called.loc[g1, "cycle_position"] < 0.45).mean() > 0.95
    assert (called.loc[late, "cycle_position"] >= 0.45).mean() > 0.95


def test_cut_nuclei_are_not_mitotic():
    """A nucleus that leaves the field shrinks in the picture, but does not get brighter."""
    table = population().assign(border=False)
    leaving = (table["track_id"] == 5) & table["frame"].between(15 + 45, 15 + 50)
    table.loc[leaving, "area_um2"] = 40.0
    table.loc[leaving, "border"] = True
    table.loc[leaving, "mean_Cy5"] = 700.0
    called = call_phases(table, DESIGN)
    assert not (called.loc[leaving, "phase"] == "M").any()
    mitotic = called["true"] == "M"
    assert (called.loc[mitotic, "phase"] == "M").mean() > 0.9
    assert (called.loc[called["phase"] == "M", "true"] == "M").mean() > 0.9


def test_shape_alone_tells_mitosis_where_nothing_shows_brightness():
    table = population().drop(columns="mean_Cy5")
    called = call_phases(table, DESIGN)
    mitotic = called["true"] == "M"
    assert (called.loc[mitotic, "phase"] == "M").mean() > 0.9


def test_hours_until_division_and_since():
    track = np.array([1, 1, 2, 2, 3, 4])
    parent = np.array([0, 0, 1, 1, 1, 0])
    time = np.array([0.0, 1.0, 2.0, 3.0, 2.0, 9.0])
    assert until_division(track, parent, time)[:2].tolist() == [1.5, 0.5]
    assert np.isinf(until_division(track, parent, time)[2:]).all()
    on = np.array([True, False, False, True, False, False])
    assert since_last(on, track, time).tolist() == [0, 1, np.inf, 0, np.inf, np.inf]


def test_lineages_follow_mothers_and_survive_a_circle():
    track, parent = np.array([1, 2, 3, 4, 0, 0]), np.array([0, 1, 2, 0, 0, 0])
    assert lineages(track, parent).tolist() == [1, 1, 1, 4, -5, -6]
    assert len(lineages(np.array([1, 2]), np.array([2, 1]))) == 2


def test_single_calls_against_the_cycle_are_mended_and_swaps_are_not():
    names = ["dark"] * 5 + ["G1"] * 4 + ["dark"] + ["G1"] * 5 + ["S_G2M"] * 8 + ["G1"] * 8
    phase = np.array(names, dtype=object)
    track, time = np.ones(len(phase), np.int64), np.arange(len(phase)) / 3
    mended = mend(phase, track, time, 1.0, 3.0)
    assert mended[9] == "G1"
    assert (mended[23:] == "G1").all(), "eight frames outweigh one forbidden step"
    assert (mended == phase).sum() == len(phase) - 1, "and no division is made up to explain it"
    divided = np.array(["S_G2M"] * 8 + ["dark"] * 6 + ["G1"] * 8, dtype=object)
    assert (mend(divided, track[:22], time[:22], 1.0, 3.0) == divided).all()


def runs_of_one(table):
    called = call_phases(table, DESIGN)
    runs = phase_runs(called)
    return runs[runs["system"] == "fucci"].set_index("phase")


def test_a_run_is_whole_between_two_changes_and_open_at_the_ends_of_a_track():
    whole = runs_of_one(population()).query("track_id == 20 + 1")
    assert whole.loc["dark", "begin_h"] == pytest.approx((63 + 3 - 0.5) / 3)
    length = (whole["end_h"] - whole["begin_h"]).to_dict()
    assert length["dark"] == pytest.approx(2.0, abs=0.35) and length["G1"] == pytest.approx(25 / 3, abs=0.7)
    assert np.isnan(length["M"]), "track 21 does not divide in the table"
    founder = runs_of_one(population()).query("track_id == 1")
    assert np.isnan(founder.loc["dark", "begin_h"]), "no mother was seen"
    assert founder.loc["M", "end_h"] == pytest.approx((63 + 3 - 0.5) / 3)


def test_a_change_within_a_gap_has_no_time():
    """Nobody saw S entry: G1 was under way when last seen, and how long S/G2/M had lasted is unknown."""
    table = population()
    first = table.groupby("track_id")["frame"].transform("min")
    age = table["frame"] - first
    hole = age.between(27, 38)
    runs = runs_of_one(table[~hole])
    assert runs.loc["G1", "end_h"].isna().all()
    assert runs.loc["S_G2M", "begin_h"].isna().all()
    assert "G1S" not in runs.index
    seen = runs_of_one(table)
    assert seen.loc["G1", "end_h"].notna().all() and seen.loc["S_G2M", "begin_h"].notna().all()
    called = call_phases(table[~hole], DESIGN)
    apart = np.abs(called["cycle_position"] - true_position(table)[~hole])
    assert apart.mean() < 0.08, "positions are in hours, so a gap does not stop the clock"


def test_a_division_that_the_tracker_saw_late_is_one_division():
    table = pd.concat([cycle(1), cycle(2, parent=1, start=63), cycle(3, parent=1, start=63)])
    late = (table["track_id"] == 2) & (table["frame"] < 65)
    table.loc[late, "track_id"] = 1
    table.loc[(table["track_id"] == 3) & (table["frame"] < 65), ["track_id", "parent_id"]] = 0
    table.loc[table["track_id"] == 1, "parent_id"] = 0
    called = call_phases(table, DESIGN)
    runs = phase_runs(called)
    cycles = runs[runs["system"] == "cycle"]
    whole = cycles[cycles["begin_h"].notna() & cycles["end_h"].notna()]
    assert len(whole) == 0 and len(cycles) == 3, "no cycle of half an hour"


def test_command_writes_fractions_and_durations_of_a_folder(tmp_path):
    folder = tmp_path / "tracks"
    folder.mkdir()
    for number in (1, 2):
        table = population(seed=number).drop(columns="true").assign(scene=f"S{number}", replicate=number)
        table.to_parquet(folder / f"S{number}.parquet")
    out = [str(tmp_path / name) for name in ("out.parquet", "f.csv", "d.csv")]
    result = CliRunner().invoke(command, [str(folder), out[0], "--fractions", out[1], "--durations", out[2]])
    assert result.exit_code == 0, result.output
    assert pd.read_parquet(out[0])["scene"].nunique() == 2
    shares, lengths = pd.read_csv(out[1]), pd.read_csv(out[2])
    assert set(shares["replicate"]) == set(lengths["replicate"]) == {"1", "2", "all"}
    over = lengths.query("replicate == 'all' and phase == 'G1' and system == 'fucci'").iloc[0]
    assert over["median_h"] == pytest.approx(25 / 3, abs=0.5) and over["n_replicates"] == 2
    (tmp_path / "none").mkdir()
    missing = CliRunner().invoke(command, [str(tmp_path / "none"), out[0]])
    assert missing.exit_code != 0 and "parquet" in str(missing.exception)
