"""Phases from traces of which the phase is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hyped_core.design import Channel, Design, default_design
from hyped_core.errors import DesignError, InvalidDataError
from hyped_imaging.phases.fractions import phase_fractions
from hyped_imaging.phases.params import PhaseParams
from hyped_imaging.phases.states import call_phases
from hyped_imaging.phases.traces import normalise, otsu, smooth, track_median

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


def test_phases_of_a_population():
    table = population()
    called = call_phases(table, DESIGN)
    assert (called["phase"] == table["true"]).mean() > 0.95
    assert set(called["phase"]) == {"G1", "G1S", "S_G2M", "dark", "M"}
    assert not called["phase_per_frame"].any()
    assert called.loc[called["true"] == "G1", "g1_level"].median() == pytest.approx(0.9, abs=0.15)


def test_smoothing_mends_noisy_frames():
    table = population(noise=0.15)
    plain = call_phases(table, DESIGN, PhaseParams(window_h=0.0))
    smoothed = call_phases(table, DESIGN, PhaseParams(window_h=1.4))
    assert (smoothed["phase"] == table["true"]).mean() > (plain["phase"] == table["true"]).mean() + 0.02


@pytest.mark.parametrize("gain", [0.1, 30.0])
def test_brightness_of_the_movie_does_not_matter(gain):
    table = population()
    other = table.assign(mean_mKate=table.mean_mKate * gain, mean_TagGFP=table.mean_TagGFP * gain * 2)
    assert call_phases(table, DESIGN)["phase"].tolist() == call_phases(other, DESIGN)["phase"].tolist()


def test_order_of_rows_does_not_matter():
    table = population()
    plain = call_phases(table, DESIGN)
    mixed = call_phases(table.sample(frac=1, random_state=2), DESIGN)
    pd.testing.assert_frame_equal(mixed.sort_index(), plain)


def test_the_design_says_which_channel_reports_what():
    swapped = Design(
        name="paper",
        channels=(
            Channel(name="Cy5", role="nuclei"),
            Channel(name="mKate", role="reporter", reports="S_G2M"),
            Channel(name="TagGFP", role="reporter", reports="G1"),
        ),
    )
    table = population()
    called = call_phases(table, swapped)
    assert (called.loc[table["true"] == "S_G2M", "phase"] == "G1").mean() > 0.95


def test_short_and_untracked_objects_are_called_frame_by_frame_and_marked():
    table = population()
    table.loc[table["track_id"] == 3, "track_id"] = 0
    table = table[(table["track_id"] != 4) | (table["frame"].isin([30, 31]))]
    called = call_phases(table, DESIGN)
    alone = called["track_id"].isin([0, 4])
    assert (called["phase_per_frame"] == alone).all()
    assert not (called.loc[alone, "phase"] == "M").any()
    shown = alone & ~called["true"].isin(["M"])
    assert (called.loc[shown, "phase"] == called.loc[shown, "true"]).mean() > 0.9


def test_without_reporters_phases_are_empty():
    nuclear = Design(name="nuclei", channels=(Channel(name="Cy5", role="nuclei"),))
    called = call_phases(population().drop(columns=["mean_mKate", "mean_TagGFP"]), nuclear)
    assert (called["phase"] == "").all() and called["g1_level"].isna().all()


def test_a_reporter_that_nobody_shows_is_off():
    table = population()
    rng = np.random.default_rng(1)
    table["mean_TagGFP"] = 5 * rng.standard_normal(len(table))
    called = call_phases(table, DESIGN)
    assert not called["phase"].isin(["S_G2M", "G1S"]).any()


def test_missing_channels_and_columns_are_named():
    with pytest.raises(DesignError, match="Cy5, TagGFP"):
        call_phases(population().drop(columns="mean_mKate"), DESIGN)
    with pytest.raises(InvalidDataError, match="track_id"):
        call_phases(population().drop(columns="track_id"), DESIGN)
    holed = population()
    holed.loc[3, "area_um2"] = np.nan
    with pytest.raises(InvalidDataError, match="area_um2"):
        call_phases(holed, DESIGN)


def test_empty_table():
    assert len(call_phases(population().iloc[:0], DESIGN)) == 0


def test_smoothing_does_not_reach_over_a_gap_or_into_another_track():
    values = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 9.0, 9.0])
    track = np.array([1, 1, 1, 1, 1, 1, 2, 2])
    time = np.array([0, 0.3, 0.6, 5.0, 5.3, 5.6, 5.6, 5.9])
    assert smooth(values, track, time, 0.7).tolist() == values.tolist()
    spike = np.array([0.0, 7.0, 0.0, 0.0])
    assert smooth(spike, np.ones(4, int), np.arange(4) / 3, 0.4).tolist()[1] == 0.0


def test_otsu_cuts_between_two_groups():
    rng = np.random.default_rng(0)
    cut = otsu(np.concatenate([rng.normal(1, 0.1, 300), rng.normal(5, 0.1, 100)]))
    assert 1.4 < cut < 4.6
    assert not normalise(np.full(10, 3.0), 0.95, 5).any()


def test_track_median_of_even_and_odd_tracks():
    track = np.array([1, 1, 2, 2, 2, 0])
    assert track_median(np.array([1.0, 3, 5, 1, 9, 7]), track).tolist() == [2, 2, 5, 5, 5, 7]


def test_fractions_add_up_and_empty_phases_have_rows():
    table = call_phases(population(), DESIGN)
    table.loc[0, "phase"] = ""
    shares = phase_fractions(table)
    shares = shares[shares["replicate"] == "1"]
    sums = shares.groupby(["system", "frame"])["fraction"].sum()
    assert np.allclose(sums, 1, atol=1e-5)
    one = shares[(shares["system"] == "fucci") & (shares["frame"] == 20)]
    assert one["phase"].tolist() == sorted(["G1", "G1S", "S_G2M", "dark", "M"])
    assert one["n"].sum() == one["n_total"].iloc[0] == (table["frame"] == 20).sum()
