"""Cross-modal tasks on simulated containers: planted truth is found, nothing hidden is shown, parts may be missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

from hyped_bench.controls import crossmodal as controls
from hyped_bench.tasks.base import clean_metrics
from hyped_bench.tasks.crossmodal import CompositionTask, ForecastTask, ResponseTask
from hyped_bench.tasks.crossmodal.courses import QUANTITIES, families, scene_sums
from hyped_core.container.assembly import assemble
from hyped_core.context import RunContext
from hyped_core.design.model import Design, parse_design
from hyped_core.errors import InvalidDataError, PluginError, UsageError
from hyped_core.simulate.biology import BiologyParams, alive_at, phase_at, simulate_lineages

CHANGES = {
    "control": (),
    "siPRRX1": (("PRRX1", "suppression", "siRNA", 0),),
    "mmMYOD1": (("MYOD1", "activation", "mmRNA", 24),),
    "siPRRX1_mmMYOD1": (("PRRX1", "suppression", "siRNA", 0), ("MYOD1", "activation", "mmRNA", 24)),
}
STRONG = {
    "cycle": {
        "effects": {
            "MYOD1:activation": {"g1_factor": 2.5, "leave": 0.9},
            "PRRX1:suppression": {"g1_factor": 0.6},
        },
        "interactions": {},
    }
}
"""Effects that 80 founders a scene show without doubt."""
START, END, HARVEST = 20.0, 52.0, 48.0
FOUNDERS = 80


def design_of(*, replicates: int = 2, chosen: tuple[str, ...] = ("control",), names=tuple(CHANGES)) -> Design:
    keys = ("gene", "direction", "agent", "onset_h")
    return parse_design(
        {
            "name": "world",
            "conditions": [
                {
                    "name": name,
                    "phase_composition": "sorted" if name in chosen else "natural",
                    "perturbation": [dict(zip(keys, change, strict=True)) for change in CHANGES[name]],
                }
                for name in names
            ],
            "timeline": {
                "imaging_start_h": START, "imaging_end_h": END, "interval_min": 60,
                "events": [{"name": "harvest", "time_h": HARVEST}],
            },
            "scenes": [
                {"name": f"{name}_{i + 1}", "condition": name, "replicate": i + 1}
                for name in names for i in range(replicates)
            ],
            "flags": {"confounded": [["condition", "pool"]]},
        },
        "test",
    )  # fmt: skip


def nuclei_of(design: Design, *, seed: int = 3) -> pd.DataFrame:
    """Every nucleus of every scene: phases of the simulated lineages, a walk, and areas that grow with G1's end."""
    rows = []
    params = BiologyParams.model_validate(STRONG)
    for k, scene in enumerate(design.scenes):
        rng = np.random.default_rng([seed, k])
        cells = simulate_lineages(design, scene.condition, FOUNDERS, START, END, params, rng)
        place = dict(zip(cells["cell_id"], rng.uniform(0, 2000, (len(cells), 2)), strict=True))
        step = 2.0 if "MYOD1" in scene.condition else 4.0
        pace = dict(zip(cells["cell_id"], rng.gamma(30.0, 1 / 30.0, len(cells)), strict=True))
        for frame, time in enumerate(np.arange(START, END + 1e-9, 1.0)):
            here = cells[alive_at(cells, time)]
            phases = phase_at(cells, time, "fucci")
            for cell, parent, phase in zip(here["cell_id"], here["parent_id"], phases, strict=True):
                place[cell] = place[cell] + step * pace[cell] * np.array([np.cos(frame + cell), np.sin(frame + cell)])
                rows.append((scene.name, frame, time, cell, cell, parent, *place[cell], phase,
                             300.0 if phase in ("S_G2M", "M") else 200.0))  # fmt: skip
    columns = ["scene", "frame", "time_h", "label", "track_id", "parent_id", "y_um", "x_um", "phase", "area_um2"]
    return pd.DataFrame(rows, columns=columns)


def cells_of(design: Design, shares: dict[str, float], *, seed: int = 5, n: int = 300) -> anndata.AnnData:
    """Cells with a planted share of S_G2M; 5 genes follow the phase, 5 the condition, 10 nothing."""
    rng = np.random.default_rng(seed)
    blocks, rows = [], []
    for k, (name, share) in enumerate(shares.items()):
        dividing = np.arange(n) < round(share * n)
        x = rng.gamma(4.0, 0.25, (n, 20))
        x[:, :5] += dividing[:, None]
        x[:, 5:10] += 0.4 * k
        blocks.append(x)
        rows += [(name, "S" if d else "G1") for d in dividing]
    obs = pd.DataFrame(rows, columns=["condition", "phase"], index=[f"p_c{i:05d}" for i in range(len(rows))])
    obs["pool"] = ["c" if name == "control" else "p" for name in obs["condition"]]
    obs["score_S"] = np.where(obs["phase"] == "S", 0.5, -0.2) + rng.normal(0, 0.05, len(obs))
    obs["score_G2M"] = obs["score_S"]
    x = np.concatenate(blocks).astype(np.float32)
    return anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"G{i:02d}" for i in range(20)]))


def write(folder: Path, design: Design, nuclei: pd.DataFrame | None, cells: anndata.AnnData | None) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    if nuclei is not None:
        nuclei.to_parquet(folder / "nuclei.parquet", index=False)
        parts = [folder / "nuclei.parquet"]
    container = folder / "world.hyped"
    assemble(container, design=design, name="world", nuclei=parts, tables={} if cells is None else {"rna": cells})
    return str(container)


def population(design: Design, name: str) -> float:
    """Share of S_G2M of 3000 simulated cells at harvest."""
    params = BiologyParams.model_validate(STRONG)
    cells = simulate_lineages(design, name, 3000, START, END, params, np.random.default_rng(9))
    return float((phase_at(cells, HARVEST, "rna") != "G1").mean())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both modalities with one cause; control's cells were sorted into halves."""
    design = design_of()
    nuclei = nuclei_of(design)
    shares = {name: population(design, name) for name in CHANGES}
    folder = tmp_path_factory.mktemp("world")
    container = write(folder, design, nuclei, cells_of(design, shares | {"control": 0.5}))
    truth = pd.DataFrame(
        [(n, HARVEST, phase, share) for n, s in shares.items() for phase, share in (("G1", 1 - s), ("S", s))],
        columns=["condition", "time_h", "phase", "fraction"],
    )
    truth.to_csv(folder / "fractions.csv", index=False)
    tracks, csv = str(_true_tracks(folder, design, nuclei)), str(folder / "fractions.csv")
    known = {"design": design, "nuclei": nuclei, "shares": shares}
    return {**known, "container": container, "tracks": tracks, "population": csv}


def _true_tracks(folder: Path, design: Design, nuclei: pd.DataFrame) -> Path:
    scenes = {s.name: s for s in design.scenes}
    table = nuclei.assign(
        condition=[scenes[s].condition for s in nuclei["scene"]],
        replicate=[scenes[s].replicate for s in nuclei["scene"]],
    )
    table.to_parquet(folder / "tracks.parquet", index=False)
    return folder / "tracks.parquet"


def task_of(kind: Any, source: dict[str, Any], *, seed: int = 0, draws: int = 20, **params: Any) -> Any:
    task = kind(kind.Params(sources=[{"name": "w", **source}], draws=draws, **params), RunContext(seed=seed))
    task.load()
    return task


def metrics_of(task: Any, make: Any) -> dict[str, Any]:
    scores = task.reference(make) if isinstance(make, str) else task.score(task.run(make))
    assert sorted(scores.metrics) == sorted(task.metric_keys())
    return clean_metrics(scores.metrics)


# ---------------------------------------------------------------- composition
def test_composition_finds_the_planted_shift_and_leaves_the_sorted_condition_out(world):
    task = task_of(CompositionTask, {"container": world["container"], "population": world["population"]})
    assert task.data["w"].units == ["siPRRX1", "mmMYOD1", "siPRRX1_mmMYOD1"]
    found = {m: metrics_of(task, getattr(controls, m)) for m in ("CalledPhases", "ControlComposition", "EvenSplit")}
    oracle, halves = metrics_of(task, "oracle"), metrics_of(task, "replicate")
    assert found["CalledPhases"]["fraction_error"] == pytest.approx(oracle["fraction_error"], abs=0.01)
    assert found["CalledPhases"]["fraction_error"] < 0.6 * found["ControlComposition"]["fraction_error"]
    assert oracle["fraction_error"] < 2 * halves["fraction_error"]
    assert found["CalledPhases"]["order_agreement"] == oracle["order_agreement"] == 1.0
    assert found["ControlComposition"]["order_agreement"] == 0.5
    assert metrics_of(task, controls.SortedDesign)["fraction_error"] == pytest.approx(
        found["EvenSplit"]["fraction_error"], abs=1e-6
    )  # the sorter made halves


def test_the_truth_at_harvest_is_the_mean_of_the_scenes_shares(world):
    task = task_of(CompositionTask, {"container": world["container"]})
    nuclei = world["nuclei"]
    near = nuclei[nuclei["time_h"].between(47, 48) & nuclei["scene"].str.startswith("mmMYOD1_")]
    near = near.assign(hit=near["phase"].isin(["G1S", "S_G2M", "M"]))
    expected = near.groupby(["scene", "time_h"])["hit"].mean().groupby("scene").mean().mean()
    assert task.data["w"].truth["mmMYOD1"][0] == pytest.approx(expected)


class Spy:
    """Keeps what it is shown and estimates a half."""

    seen: list[tuple[str, Any, Any]] = []

    def fit(self, courses, cells, *, harvest_h, context):
        self.courses, self.cells = courses, cells

    def estimate(self, cells, condition, *, context):
        type(self).seen.append((condition, self.courses, cells))
        return np.full(cells.n_obs, 0.5)


def test_an_estimator_never_sees_its_condition_imaged_at_harvest(world):
    Spy.seen = []
    task = task_of(CompositionTask, {"container": world["container"]})
    task.run(Spy)
    assert {name for name, _, _ in Spy.seen} == {"siPRRX1", "mmMYOD1", "siPRRX1_mmMYOD1"}
    for name, courses, cells in Spy.seen:
        own = [c for c in courses if c.condition == name]
        assert own and all(c.time_h.max() < START + (END - START) / 3 + 1 for c in own)
        assert max(c.time_h.max() for c in courses if c.condition != name) > HARVEST
        assert set(cells.obs["condition"].astype(str)) == {name}


def test_draws_are_the_same_truth_for_every_model_and_spread_as_nuclei_do(world):
    task = task_of(CompositionTask, {"container": world["container"]}, draws=200)
    tables = [task.score(task.run(m)).details["draws"] for m in (controls.EvenSplit, controls.SortedDesign)]
    assert list(tables[0].columns) == ["source", "condition", "draw", "fraction_error", "bias"]
    gap = tables[0]["bias"] - tables[1]["bias"]
    assert np.allclose(gap, gap.iloc[0])  # both are constants, so the redrawn truth cancels draw by draw
    spread = tables[0].groupby("condition")["bias"].std()
    shares = [0.5 - float(tables[0].loc[tables[0]["condition"] == n, "bias"].mean()) for n in spread.index]
    nuclei = 2 * FOUNDERS * 1.3
    binomial = [np.sqrt(s * (1 - s) / nuclei) for s in shares]
    assert ((spread > 0.5 * np.array(binomial)) & (spread < 3 * np.array(binomial))).all()


# ---------------------------------------------------------------- forecast
def test_oracle_is_exact_where_the_pipeline_made_no_error_and_two_rates_beat_standing_still(world):
    task = task_of(ForecastTask, {"container": world["container"], "tracks": world["tracks"]})
    oracle = metrics_of(task, "oracle")
    assert all(abs(oracle[k]) < 1e-9 for k in ("mase", "rmse_dividing", "rmse_growth", "rmse_speed", "rmse_area"))
    stay, rates = metrics_of(task, controls.Persistence), metrics_of(task, controls.TwoState)
    assert rates["rmse_growth"] < 0.6 * stay["rmse_growth"]
    assert 0 < metrics_of(task, "replicate")["rmse_dividing"] < stay["rmse_dividing"]
    assert oracle["n_scenes"] == 8


def test_nothing_beats_persistence_on_noise_around_a_constant(tmp_path):
    """Nuclei that never divide, in phases drawn anew each hour: the last hours are as good as any forecast."""
    design = design_of(names=("control", "mmMYOD1"))
    rng = np.random.default_rng(0)
    rows = [
        (s.name, f, START + f, i + 1, i + 1, 0, 10.0 * i + rng.normal(), rng.normal(), p, 200 + 10 * rng.normal())
        for s in design.scenes for f in range(33) for i, p in enumerate(rng.choice(["G1", "S_G2M"], 40))
    ]  # fmt: skip
    columns = ["scene", "frame", "time_h", "label", "track_id", "parent_id", "y_um", "x_um", "phase", "area_um2"]
    task = task_of(ForecastTask, {"container": write(tmp_path, design, pd.DataFrame(rows, columns=columns), None)})
    stay = metrics_of(task, controls.Persistence)
    trend = metrics_of(task, controls.DampedTrend)
    assert stay["rmse_dividing"] < trend["rmse_dividing"]
    assert stay["rmse_area"] < trend["rmse_area"]
    assert stay["rmse_growth"] == 0


class Recorder(controls.Persistence):
    """Persistence that keeps what it is shown."""

    shown: list[Any] = []

    def fit(self, courses, *, context):
        type(self).shown.append(courses)
        super().fit(courses, context=context)


@pytest.mark.parametrize("kind", ["future", "replicate"])
def test_no_forecaster_sees_a_held_out_scene_beyond_its_cut(world, kind):
    Recorder.shown = []
    task = task_of(ForecastTask, {"container": world["container"], "kind": kind})
    task.run(Recorder)
    data = task.data["w"]
    ends = [{c.scene: float(c.time_h[-1]) for c in courses} for courses in Recorder.shown]
    folds = list(data.folds.values()) * (1 + task.params.draws)
    assert len(ends) == len(folds)
    for seen, (hidden, scored) in zip(ends, folds, strict=True):
        assert scored and all(seen[s] <= data.cut_h[s] + 1e-6 for s in hidden)
        assert all(seen[s] > 51 for s in set(seen) - set(hidden))
    assert (kind == "future") == all(len(hidden) == 8 for hidden, _ in folds)
    assert data.units == sorted(s.name for s in world["design"].scenes)


def test_hidden_hours_cannot_reach_a_forecast(world, tmp_path):
    """Emptying what lies beyond the cut of S_G2M changes the scores but no forecast."""
    nuclei = world["nuclei"].copy()
    before = task_of(ForecastTask, {"container": world["container"]})
    nuclei.loc[nuclei["time_h"] > before.data["w"].cut_h["control_1"] + 1, "phase"] = "G1"
    after = task_of(ForecastTask, {"container": write(tmp_path, world["design"], nuclei, None)})
    for make in (controls.TwoState, controls.MeanTrajectory, controls.DampedTrend):
        first, second = before.run(make), after.run(make)
        assert all(np.allclose(first[key].predicted[0], second[key].predicted[0], equal_nan=True) for key in first)


@pytest.mark.parametrize("kind", ["future", "replicate"])
def test_a_gap_before_the_cut_is_not_filled_from_beyond_it(world, kind):
    """The last hours before the cut are undefined: whatever is hidden, they take the last value that was seen."""
    task = task_of(ForecastTask, {"container": world["container"], "kind": kind})
    data = task.data["w"]
    fold, (hidden, scored) = next(iter(data.folds.items()))
    beyond = {name: data.hidden(data.scene(name)) for name in hidden}
    for name in hidden:
        data.values[name][:, np.flatnonzero(~beyond[name])[-2:]] = np.nan
    models = (controls.MeanTrajectory, controls.Persistence, controls.DampedTrend, controls.TwoState)
    seen = [data.visible(fold, row) for row in (0, 3)]
    forecasts = [task.run(make) for make in models]
    columns = [QUANTITIES.index(q) for q in data.quantities]
    for name in hidden:
        last = data.values[name][0][~beyond[name]][-3, columns]
        assert np.array_equal(seen[0][name].values[-2:], [last, last])
        data.values[name][:, beyond[name]] = 100.0
    for row, before in zip((0, 3), seen, strict=True):
        after = data.visible(fold, row)
        assert all(np.array_equal(after[name].values, before[name].values) for name in data.values)
    for make, before in zip(models, forecasts, strict=True):
        after = task.run(make)  # other scenes that are hidden as well were cut before they were read
        assert all(np.array_equal(after["w", n].predicted, before["w", n].predicted, equal_nan=True) for n in scored)


def test_a_start_that_a_redraw_left_empty_is_shown_as_measured(world):
    task = task_of(ForecastTask, {"container": world["container"]})
    data = task.data["w"]
    name = data.units[0]
    start = ~data.hidden(data.scene(name))
    area = data.quantities.index("area_um2")
    data.values[name][2][start, QUANTITIES.index("area_um2")] = np.nan
    seen = {row: data.visible("future", row)[name].values for row in (0, 2)}
    assert np.array_equal(seen[2][:, area], seen[0][:, area])
    assert not np.array_equal(seen[2][:, data.quantities.index("dividing")], seen[0][:, 0])
    assert all(np.isfinite(a.predicted[:, :, [0, 1, 2, 3]]).all() for a in task.run(controls.DampedTrend).values())


def test_what_is_measured_only_beyond_the_cut_is_not_forecast(world, tmp_path):
    nuclei = world["nuclei"].copy()
    given = 1 / 4  # three quarters of the areas are there, none of them before the cut
    cut = START + given * (END - START)
    nuclei.loc[nuclei["time_h"] <= cut + 1, "area_um2"] = np.nan
    path = write(tmp_path, world["design"], nuclei, None)
    task = task_of(ForecastTask, {"container": path, "given": given})
    assert task.data["w"].quantities == ("dividing", "growth", "speed_um_h")
    assert any("area" in w for w in task.warnings)


def test_the_start_of_a_condition_is_not_filled_from_its_hidden_hours(world):
    task = task_of(CompositionTask, {"container": world["container"]})
    data = task.data["w"]
    name = data.units[0]
    own = [s for s in data.scenes if s.condition == name]
    for scene in own:
        late = scene.time_h < data.cut(scene, task.params.start)
        data.values[scene.scene][:, np.flatnonzero(late)[-2:]] = np.nan
    before = [[c for c in data.visible(name, task.params.start, row) if c.condition == name] for row in (0, 3)]
    assert [len(courses) for courses in before] == [2, 2]
    share = controls.StartComposition
    first = task.run(share)["w", name].predicted
    for scene in own:
        hidden = scene.time_h >= data.cut(scene, task.params.start)
        data.values[scene.scene][:, hidden] = 100.0
    after = [[c for c in data.visible(name, task.params.start, row) if c.condition == name] for row in (0, 3)]
    for one, other in zip(sum(before, []), sum(after, []), strict=True):
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.values[-1], one.values[-3])
    assert np.array_equal(first, task.run(share)["w", name].predicted)
    # a start of which nothing is known is not shown at all
    data.values[own[0].scene][:, own[0].time_h < data.cut(own[0], task.params.start)] = np.nan
    assert own[0].scene not in {c.scene for c in data.visible(name, task.params.start, 0)}
    assert np.isfinite(task.run(share)["w", name].predicted).all()


def test_a_forecast_needs_no_cells_and_names_what_was_not_measured(world, tmp_path):
    nuclei = world["nuclei"].drop(columns="area_um2").assign(phase="")
    task = task_of(ForecastTask, {"container": write(tmp_path, world["design"], nuclei, None)})
    assert task.data["w"].quantities == ("growth", "speed_um_h")
    metrics = metrics_of(task, controls.TwoState)
    assert metrics["rmse_dividing"] is None and metrics["rmse_area"] is None and metrics["rmse_growth"] is not None
    assert any("dividing, area" in w for w in task.warnings)


def test_short_movies_and_single_scenes_are_refused_by_name(world, tmp_path):
    everything = world["nuclei"][world["nuclei"]["label"] % 3 == 0]
    short = everything[everything["time_h"] < START + 4]
    with pytest.raises(InvalidDataError, match="no movie is long enough"):
        task_of(ForecastTask, {"container": write(tmp_path / "a", world["design"], short, None)})
    alone = design_of(replicates=1)
    nuclei = everything[everything["scene"].str.endswith("_1")]
    path = write(tmp_path / "b", alone, nuclei, None)
    with pytest.raises(InvalidDataError, match="no condition has a second scene"):
        task_of(ForecastTask, {"container": path, "kind": "replicate"})
    assert len(task_of(ForecastTask, {"container": path}).data["w"].units) == 4
    mixed = write(tmp_path / "c", world["design"], everything[everything["scene"] != "mmMYOD1_2"], None)
    task = task_of(ForecastTask, {"container": mixed, "kind": "replicate"})
    assert "mmMYOD1_1" not in task.data["w"].units and any("mmMYOD1_1" in w for w in task.warnings)


# ---------------------------------------------------------------- response
def test_responses_of_both_directions_are_scored_against_planted_changes(world):
    task = task_of(ResponseTask, {"container": world["container"], "tracks": world["tracks"]}, draws=60)
    none, mean, oracle = (metrics_of(task, m) for m in (controls.NoResponse, controls.MeanResponse, "oracle"))
    assert max(oracle["z_rmse"], oracle["rmse_dividing"]) < 1e-9 and oracle["pearson"] == 1
    assert none["pearson"] is None and none["z_rmse"] > 3 > metrics_of(task, "replicate")["z_rmse"]
    assert mean["z_rmse"] < none["z_rmse"]
    changes = task.score(task.run(controls.NoResponse)).details["changes"].set_index(["condition", "column"])
    speed = changes.loc["mmMYOD1"].filter(like="speed_um_h@", axis=0)["truth"]
    assert np.allclose(speed, -2.0, atol=0.4)  # 2 instead of 4 um a step, a step an hour
    back = task_of(ResponseTask, {"container": world["container"], "predict": "expression"}, draws=60)
    truth = back.score(back.run(controls.NoResponse)).details["changes"].set_index(["condition", "column"])["truth"]
    for k, name in enumerate(CHANGES):
        if name != "control":
            assert truth[name][[f"G{i:02d}" for i in range(5, 10)]].mean() == pytest.approx(0.4 * k, abs=0.05)
            assert truth[name]["G00"] == pytest.approx(world["shares"][name] - 0.5, abs=0.15)
    assert metrics_of(back, "replicate")["z_rmse"] == pytest.approx(1.0, abs=0.25)
    with pytest.raises(InvalidDataError, match="simulated truth"):
        back.reference("oracle")
    assert back.references == ("replicate",)


class Learner(controls.MeanResponse):
    """Keeps what it is taught."""

    taught: list[tuple[list[str], str]] = []

    def predict(self, features, genes, *, context):
        type(self).taught.append((self.names, str(features.name)))
        return super().predict(features, genes, context=context)


def test_a_held_out_condition_is_never_taught(world):
    Learner.taught = []
    task_of(ResponseTask, {"container": world["container"]}).run(Learner)
    assert {held for _, held in Learner.taught} == {"siPRRX1", "mmMYOD1", "siPRRX1_mmMYOD1"}
    assert all(held not in names and len(names) == 2 for names, held in Learner.taught)


# ---------------------------------------------------------------- partial containers, bad models, records
def test_what_is_missing_is_named_with_its_mend(world, tmp_path):
    shares, everything = world["shares"] | {"control": 0.5}, world["nuclei"]
    nuclei = everything[(everything["time_h"] % 4 == 0) & (everything["label"] % 3 == 0)]

    def cells_in(design, names=tuple(CHANGES)):
        return cells_of(design, {name: shares[name] for name in names}, n=30)

    films = write(tmp_path / "films", world["design"], nuclei, None)
    cells = write(tmp_path / "cells", world["design"], None, cells_in(world["design"]))
    for kind in (CompositionTask, ResponseTask):
        with pytest.raises(InvalidDataError, match="'rna'") as error:
            task_of(kind, {"container": films})
        assert "--cells" in str(error.value)
        with pytest.raises(InvalidDataError, match="'nuclei'") as error:
            task_of(kind, {"container": cells})
        assert "--phases" in str(error.value)
    with pytest.raises(InvalidDataError, match="'nuclei'"):
        task_of(ForecastTask, {"container": cells})
    chosen = design_of(chosen=tuple(CHANGES))
    path = write(tmp_path / "sorted", chosen, nuclei, cells_in(chosen))
    with pytest.raises(InvalidDataError, match="was sorted"):
        task_of(CompositionTask, {"container": path})
    blank = write(tmp_path / "blank", world["design"], nuclei.assign(phase=""), cells_in(world["design"]))
    with pytest.raises(InvalidDataError, match="no row has a phase"):
        task_of(CompositionTask, {"container": blank})
    half = nuclei.assign(phase=nuclei["phase"].where(nuclei["scene"] != "mmMYOD1_2", ""))
    task = task_of(CompositionTask, {"container": write(tmp_path / "half", world["design"], half,
                                                        cells_in(world["design"]))})  # fmt: skip
    assert any("mmMYOD1_2" in w for w in task.warnings)
    assert metrics_of(task, controls.MeanComposition)["fraction_error"] is not None
    few = design_of(names=("control", "mmMYOD1"))
    two = nuclei[nuclei["scene"].str.match(r"(control|mmMYOD1)_")]
    small = write(tmp_path / "few", few, two, cells_in(few, ("control", "mmMYOD1")))
    with pytest.raises(InvalidDataError, match="1 perturbed conditions"):
        task_of(ResponseTask, {"container": small})
    assert task_of(CompositionTask, {"container": small}).data["w"].units == ["mmMYOD1"]
    with pytest.raises(InvalidDataError, match="no frame lies within"):
        early = write(tmp_path / "early", world["design"], nuclei[nuclei["time_h"] < 40], cells_in(world["design"]))
        task_of(CompositionTask, {"container": early})


def test_bad_answers_are_refused(world):
    class Short(controls.EvenSplit):
        def estimate(self, cells, condition, *, context):
            return np.ones(3)

    class Lost(controls.Persistence):
        def forecast(self, start, time_h, *, context):
            return np.full((len(time_h), len(start.quantities)), np.nan)

    class Narrow(controls.NoResponse):
        def predict(self, features, genes, *, context):
            return np.zeros(1)

    for kind, model, said in (
        (CompositionTask, Short, "for each of the 300 cells"),
        (ForecastTask, Lost, "NaN"),
        (ResponseTask, Narrow, "shape"),
    ):
        task = task_of(kind, {"container": world["container"]})
        with pytest.raises(PluginError, match=said):
            task.run(model)
        with pytest.raises(UsageError, match="no reference"):
            task.reference("duplicate")


@pytest.mark.parametrize(
    ("kind", "make"),
    [(CompositionTask, "CalledPhases"), (ForecastTask, "TwoState"), (ResponseTask, "LinearResponse")],
)
def test_equal_seeds_give_equal_tables_and_facts_are_plain(world, kind, make):
    runs = []
    for seed in (4, 4, 5):
        task = task_of(kind, {"container": world["container"]}, seed=seed)
        runs.append(task.score(task.run(getattr(controls, make))))
    for name in ("units", "draws"):
        first, second, other = ((r.tables | r.details)[name] for r in runs)
        pd.testing.assert_frame_equal(first, second, check_exact=True)
        assert name == "units" or not first.equals(other)
    facts = json.loads(json.dumps(task.facts()))
    assert set(facts["split_sha256"]) == {"w"} and facts["n_units"]["w"] == len(task.data["w"].units)
    judged = {j.metric for j in kind.judged}
    assert judged <= set(runs[0].tables["units"].columns)
    assert all(set(j.unit) <= set(runs[0].details["draws"].columns) for j in kind.judged)


# ---------------------------------------------------------------- sums over lineages
def test_sums_over_lineages_give_the_scenes_own_values(world):
    nuclei = world["nuclei"].assign(condition="control", replicate=1)
    own = nuclei[nuclei["scene"] == "control_1"]
    scene = scene_sums(own, 2.0)[0]
    values = scene.values()
    first = own[own["time_h"] < 22]
    assert values[0, 0] == pytest.approx(first["phase"].isin(["G1S", "S_G2M", "M"]).mean())
    late = own[own["time_h"].between(40, 41.9)]
    assert values[10, 1] == pytest.approx(np.log2(len(late) / len(first)))
    assert np.allclose(values[1:, 2], 4.0, atol=0.3)
    assert values[10, 3] == pytest.approx(late["area_um2"].mean())
    half = scene.halves(50, np.random.default_rng(0))
    parts = [np.tensordot(weights, scene.sums, 1) for weights in (half[0], 1 - half[0])]
    assert np.allclose(scene.sums.sum(axis=0), parts[0] + parts[1])
    assert np.abs(2 * half.sum(axis=1) - scene.n_lineages).max() <= 2
    starters = scene.sums[:, 0, 0] > 0
    assert set(scene.redraws(9, np.random.default_rng(0))[:, starters].sum(axis=1)) == {starters.sum()}


def test_a_broken_track_stays_with_its_lineage():
    """One cell whose track breaks and one far away that comes in: two families and a third for the newcomer."""
    rows = [("S0", f, float(f), 1 if f < 5 else 2, 0, 10.0 + f, 10.0) for f in range(10)]
    rows += [("S0", f, float(f), 3, 0, 500.0, 500.0) for f in range(10)]
    rows += [("S0", f, float(f), 4, 0, 900.0, 900.0) for f in range(6, 10)]
    table = pd.DataFrame(rows, columns=["scene", "frame", "time_h", "track_id", "parent_id", "y_um", "x_um"])
    found = families(table)
    assert len(set(found)) == 3
    assert len(set(found[table["track_id"].isin([1, 2])])) == 1
    assert len(set(families(table.assign(track_id=0)))) == 3  # nuclei without tracks, by place
