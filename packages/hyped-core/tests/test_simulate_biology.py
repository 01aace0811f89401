"""The simulated cell cycle: lineages, phases and reporters, held to what they have to satisfy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from hyped_core.context import RunContext
from hyped_core.design import coarse_phase, default_design, read_design
from hyped_core.errors import DesignError, ParamsError, UsageError
from hyped_core.params import build
from hyped_core.simulate.biology import (
    POSITION_BOUNDS,
    BiologyParams,
    CycleParams,
    ReporterParams,
    activity,
    alive_at,
    cycle_position,
    dose_genes,
    phase_at,
    reporter_levels,
    simulate_lineages,
)

CONDITIONS = ("control", "siPRRX1", "mmMYOD1", "siPRRX1_mmMYOD1")


@pytest.fixture(scope="module")
def lineages_by_condition() -> dict[str, pd.DataFrame]:
    design = default_design()
    return {
        name: simulate_lineages(design, name, 3000, 0.0, 52.0, BiologyParams(), np.random.default_rng(7))
        for name in CONDITIONS
    }


def g1_share(cells: pd.DataFrame, time_h: float) -> float:
    return float((phase_at(cells, time_h, "rna") == "G1").mean())


def test_every_division_has_two_daughters_that_start_where_the_mother_ends(lineages_by_condition) -> None:
    for cells in lineages_by_condition.values():
        assert list(cells["cell_id"]) == list(range(1, len(cells) + 1))
        mothers = cells[cells["fate"] == "divides"].set_index("cell_id")
        daughters = cells[cells["parent_id"] > 0]
        assert daughters["parent_id"].value_counts().eq(2).all()
        assert set(daughters["parent_id"]) == set(mothers.index)
        own = mothers.loc[daughters["parent_id"]]
        np.testing.assert_array_equal(own["end_h"].to_numpy(), daughters["birth_h"].to_numpy())
        np.testing.assert_array_equal(own["founder_id"].to_numpy(), daughters["founder_id"].to_numpy())
        assert (cells["end_h"] <= 52.0).all()
        ordered = cells[["birth_h", "s_start_h", "g2_start_h", "m_start_h"]].to_numpy()
        finite = np.isfinite(ordered[:, 1])
        assert (np.diff(ordered[finite], axis=1) > 0).all()
        np.testing.assert_array_equal(~finite, cells["leaves_cycle"].to_numpy())


def test_the_number_of_cells_is_conserved(lineages_by_condition) -> None:
    cells = lineages_by_condition["control"]
    for time_h in (1.0, 17.0, 33.0, 51.0):
        ended = cells[cells["end_h"] <= time_h]["fate"].value_counts()
        expected = 3000 + ended.get("divides", 0) - ended.get("dies", 0)
        assert alive_at(cells, time_h).sum() == expected


@pytest.mark.parametrize("time_h", [0.0, 6.0, 14.5, 21.0, 26.0, 38.0, 48.0, 52.0])
def test_the_two_phase_systems_and_the_reporters_agree_cell_by_cell(lineages_by_condition, time_h) -> None:
    threshold = ReporterParams().threshold
    for cells in lineages_by_condition.values():
        fucci, rna = phase_at(cells, time_h, "fucci"), phase_at(cells, time_h, "rna")
        np.testing.assert_array_equal(coarse_phase(fucci, "fucci"), coarse_phase(rna, "rna"))
        ids, g1, sg2m = reporter_levels(cells, time_h)
        np.testing.assert_array_equal(ids, cells["cell_id"].to_numpy()[alive_at(cells, time_h)])
        assert g1.min() >= 0 and g1.max() <= 1 and sg2m.min() >= 0 and sg2m.max() <= 1
        np.testing.assert_array_equal(
            (g1 >= threshold)[fucci != "M"], np.isin(fucci, ["G1", "G1S"])[fucci != "M"]
        )
        np.testing.assert_array_equal(
            (sg2m >= threshold)[fucci != "M"], np.isin(fucci, ["S_G2M", "G1S"])[fucci != "M"]
        )
        position = cycle_position(cells, time_h)
        assert (position >= 0).all() and (position < 1).all()
        names = np.array(["G1", "S", "G2M"])
        np.testing.assert_array_equal(names[np.digitize(position, POSITION_BOUNDS[1:3])], rna)


def test_reporters_change_smoothly(lineages_by_condition) -> None:
    cells = lineages_by_condition["control"].head(400)
    step = 0.01
    for time_h in np.arange(5.0, 45.0, 2.7):
        before = pd.DataFrame(dict(zip(("id", "g1", "sg2m"), reporter_levels(cells, time_h), strict=True)))
        after = pd.DataFrame(
            dict(zip(("id", "g1", "sg2m"), reporter_levels(cells, time_h + step), strict=True))
        )
        both = before.merge(after, on="id", suffixes=("", "_after"))
        assert (both["g1"] - both["g1_after"]).abs().max() < 0.04
        assert (both["sg2m"] - both["sg2m_after"]).abs().max() < 0.04


def test_cells_start_synchronised_and_lose_it(lineages_by_condition) -> None:
    control = lineages_by_condition["control"]
    assert g1_share(control, 0.0) > 0.85
    times = np.arange(8.0, 52.0, 0.5)
    swing = [g1_share(control, t) for t in times]
    early = max(swing[:40]) - min(swing[:40])
    late_cells = simulate_lineages(
        default_design(), "control", 300, 0.0, 120.0, BiologyParams(), np.random.default_rng(1)
    )
    late = [g1_share(late_cells, t) for t in np.arange(95.0, 120.0, 0.5)]
    assert max(late) - min(late) < 0.5 * early


def test_conditions_shift_g1_after_the_onset(lineages_by_condition) -> None:
    share = {name: g1_share(cells, 48.0) for name, cells in lineages_by_condition.items()}
    assert share["control"] < share["siPRRX1"] < share["mmMYOD1"] < share["siPRRX1_mmMYOD1"]
    before = {name: g1_share(cells, 23.9) for name, cells in lineages_by_condition.items()}
    assert abs(before["control"] - before["mmMYOD1"]) < 0.03, "MYOD1 is given at 24 h"


def test_both_perturbations_together_do_more_than_each_alone_implies(lineages_by_condition) -> None:
    without = BiologyParams(cycle=CycleParams(interactions={}))
    name = "siPRRX1_mmMYOD1"
    plain = simulate_lineages(default_design(), name, 3000, 0.0, 52.0, without, np.random.default_rng(7))
    double = lineages_by_condition[name]
    assert (double["fate"] == "divides").sum() < 0.95 * (plain["fate"] == "divides").sum()


def test_dose_is_taken_up_by_part_of_the_cells_at_the_onset_and_inherited(lineages_by_condition) -> None:
    assert dose_genes(default_design()) == ("MYOD1", "PRRX1")
    control, double = lineages_by_condition["control"], lineages_by_condition["siPRRX1_mmMYOD1"]
    assert not control[["dose_MYOD1", "dose_PRRX1"]].to_numpy().any()
    exposed = double[(double["birth_h"] <= 24) & (double["end_h"] > 24)]
    assert 0.15 < (exposed["dose_MYOD1"] == 0).mean() < 0.25
    assert exposed.loc[exposed["dose_MYOD1"] > 0, "dose_MYOD1"].std() > 0.2
    assert not double.loc[double["end_h"] <= 24, "dose_MYOD1"].any()
    born_after = double[double["birth_h"] > 24]
    mothers = double.set_index("cell_id").loc[born_after["parent_id"]]
    np.testing.assert_array_equal(born_after["dose_MYOD1"].to_numpy(), mothers["dose_MYOD1"].to_numpy())
    assert activity(np.array([0.0, 1.0]), BiologyParams().dose).tolist() == [0.0, 1.0]


def test_a_later_start_gives_the_asked_number_of_founders_of_the_same_population() -> None:
    design = default_design()
    cells = simulate_lineages(design, "control", 400, 20.0, 52.0, BiologyParams(), np.random.default_rng(3))
    assert alive_at(cells, 20.0).sum() == 400
    assert (cells["parent_id"] == 0).sum() == 400
    assert (cells["fate"] == "divides").sum() > 400
    whole = simulate_lineages(design, "control", 4000, 0.0, 52.0, BiologyParams(), np.random.default_rng(4))
    assert abs(g1_share(cells, 20.0) - g1_share(whole, 20.0)) < 0.08


def test_forty_founders_a_scene_divide_often_enough() -> None:
    design = default_design()
    rng = np.random.default_rng(0)
    scenes = [
        simulate_lineages(design, name, 40, 20.0, 52.0, BiologyParams(), rng) for name in CONDITIONS * 2
    ]
    assert sum((cells["fate"] == "divides").sum() for cells in scenes) >= 300


def test_same_seed_same_cells() -> None:
    design = default_design()
    runs = [
        simulate_lineages(design, "mmMYOD1", 50, 10.0, 40.0, BiologyParams(), np.random.default_rng(5))
        for _ in "ab"
    ]
    pd.testing.assert_frame_equal(*runs)


def test_effects_come_from_the_parameters_by_gene_and_direction(tmp_path) -> None:
    text = (
        "name: other\nconditions:\n  - {name: control}\n"
        "  - {name: up, perturbation: [{gene: KLF4, direction: activation, onset_h: 0}]}\n"
    )
    (tmp_path / "design.yaml").write_text(text)
    design = read_design(tmp_path / "design.yaml")
    arrest = build(CycleParams, {"effects": {"KLF4:activation": {"leave": 1.0, "g1_factor": 3.0}}})
    params = BiologyParams(cycle=arrest)
    cells = {
        name: simulate_lineages(design, name, 800, 0.0, 40.0, params, np.random.default_rng(1))
        for name in ("control", "up")
    }
    assert (cells["up"]["fate"] == "divides").sum() < 0.6 * (cells["control"]["fate"] == "divides").sum()
    assert "dose_KLF4" in cells["control"]


def test_bad_input_is_refused() -> None:
    design, rng = default_design(), np.random.default_rng(0)
    with pytest.raises(UsageError):
        simulate_lineages(design, "control", 5, 10.0, 10.0, BiologyParams(), rng)
    with pytest.raises(UsageError):
        simulate_lineages(design, "control", 0, 0.0, 10.0, BiologyParams(), rng)
    with pytest.raises(DesignError):
        simulate_lineages(design, "nothing", 5, 0.0, 10.0, BiologyParams(), rng)
    cells = simulate_lineages(design, "control", 5, 0.0, 10.0, BiologyParams(), rng)
    with pytest.raises(UsageError):
        phase_at(cells, 5.0, "facs")
    with pytest.raises(ParamsError):
        build(BiologyParams, {"cycle": {"g1_hours": 3}})


def test_importing_the_biology_loads_no_pandas() -> None:
    code = (
        "import sys, hyped_core.simulate.biology, hyped_core.simulate.programme;"
        "sys.exit(any(n in sys.modules for n in ('pandas', 'scipy', 'anndata')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_streams_with_long_common_beginnings_are_independent() -> None:
    names = ("siPRRX1_mmMYOD1", "siPRRX1_mmMYOG", "capture_1", "capture_2")
    assert len({RunContext(seed=0).rng("harvest", name).random() for name in names}) == 4
