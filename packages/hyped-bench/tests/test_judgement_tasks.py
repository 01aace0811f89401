"""What tasks declare to be judged exists and points the right way; results in memory are judged as records are."""

import numpy as np
import pandas as pd
import pytest

from hyped_bench.judgement import declared, entries_of, judge, judge_entries
from hyped_bench.metrics import demultiplex as measure
from hyped_bench.records import _write_csv
from hyped_bench.runner import Result
from hyped_bench.tasks.base import Judged, Scores
from hyped_bench.tasks.demultiplex import DRAWS, _drawn
from hyped_core.context import RunContext
from hyped_core.io.atomic import write_json
from hyped_core.plugins.registry import metrics

TASKS = ("denoise", "segment", "track", "demultiplex", "embedding", "expression")


@pytest.mark.parametrize("task", TASKS)
def test_what_is_judged_has_the_direction_it_is_registered_with(task):
    known = {item.spec.name: item.spec.better for item in metrics().items() if item.spec.task == task}
    judged = declared(task)
    assert judged
    assert judged[0].metric in known
    for item in judged:
        assert known.get(item.metric, item.better) == item.better, item.metric


def result(name, kind, level):
    rng = np.random.default_rng(list(name.encode()))
    table = pd.DataFrame({"source": "screen", "perturbation": [f"P{i}" for i in range(9)]})
    table["score"] = level + rng.normal(0, 0.1 / 3, 9)
    table["tiny"] = 1e-5 * table["score"]
    return Result("toy", name, kind, "hyped-bench", "0", "ok", "", {}, {}, scores=Scores({}, {"units": table}))


def test_results_in_memory_are_judged_as_their_records_are(tmp_path):
    judged = tuple(
        Judged(metric, "higher", "no_change", (), "duplicate", ("perturbation",), "perturbation")
        for metric in ("score", "tiny")
    )
    results = [result("no_change", "control", 0.0), result("duplicate", "reference", 1.0), result("m", "model", 0.4)]
    results.append(Result("toy", "bad", "model", "x", "0", "failed", "broke", {}, {}))
    for one in results:
        write_json(
            tmp_path / one.model / "record.json",
            {"kind": one.kind, "status": one.status, "reason": one.reason, "metrics": {}},
        )
        if one.scores is not None:
            _write_csv(tmp_path / one.model / "units.csv", one.scores.tables["units"])
    in_memory = judge_entries(sorted(entries_of(results, {}), key=lambda e: e.model), "toy", judged)
    assert in_memory.as_dict() == judge(tmp_path, "toy", judged=judged).as_dict()
    assert {v.word for v in in_memory.verdicts if v.model == "m" and v.role == "nothing"} == {"better"}


def test_redrawn_cells_of_a_capture_score_as_the_metrics_say():
    rng = np.random.default_rng(1)
    true = rng.choice(["A", "B", "Doublet", "Negative"], 60, p=[0.5, 0.3, 0.1, 0.1])
    call = np.where(rng.random(60) < 0.8, true, "B")
    probability = rng.random(60)
    index = [f"c{i}" for i in range(60)]
    calls = pd.DataFrame({"call": call, "probability": probability}, index=index)
    table = _drawn("x", calls, pd.Series(true, index=index))
    assert len(table) == DRAWS
    counts = RunContext(seed=0).rng("demultiplex", "draws", "x").multinomial(60, np.full(60, 1 / 60), size=DRAWS)
    for draw in (0, 7, 199):
        again = np.repeat(np.arange(60), counts[draw])
        matrix, names = measure.confusion(call[again], true[again])
        row = table.iloc[draw]
        assert row["accuracy"] == pytest.approx(measure.accuracy(matrix))
        assert row["f_singlet"] == pytest.approx(measure.f_singlet(matrix, names))
        assert row["brier"] == pytest.approx(measure.brier(probability[again], (call == true)[again]))
