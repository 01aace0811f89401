"""Verdicts on the page follow the judgement: words, metrics that cannot tell, confounded designs, labels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyped_bench.report import charts
from hyped_bench.report.build import build_report
from hyped_bench.report.context import ReportContext, Table
from hyped_bench.report.inputs import Entry, ReportInputs, read_inputs
from hyped_bench.report.verdicts import Judged, counted, said
from hyped_core.errors import CorruptFileError

MODELS = {"good": "model", "bad": "model", "no_change": "control", "additive": "control", "duplicate": "reference"}
SCORES = {"good": 0.8, "bad": 0.3, "no_change": 0.0, "additive": 0.5, "duplicate": 0.9}


def verdict(model: str, metric: str, word: str, against: str, role: str, **more: Any) -> dict[str, Any]:
    row = {"source": "screen", "metric": metric, "model": model, "against": against, "role": role, "word": word}
    return {**row, "kind": MODELS[model], "text": "", **more}


def judgement() -> dict[str, Any]:
    """One metric that can tell, and one that cannot."""
    calibration = [
        {"source": "screen", "metric": name, "better": better, "control": "no_change", "control_score": 0.0,
         "ceiling": "duplicate", "ceiling_score": 0.9, "dynamic_range": 0.9, "share_ceiling_better": 1.0,
         "null_lo": -0.2, "null_hi": 0.2, "can_tell": tells, "reason": reason}
        for name, better, tells, reason in (
            ("pearson_delta", "higher", True, ""),
            ("wmse", "lower", False, "the ceiling is no better than doing nothing"),
        )
    ]  # fmt: skip
    verdicts = [
        verdict("good", "pearson_delta", "better", "no_change", "nothing"),
        verdict("good", "pearson_delta", "better", "additive", "simple"),
        verdict("bad", "pearson_delta", "better", "no_change", "nothing"),
        verdict("bad", "pearson_delta", "worse", "additive", "simple"),
        verdict("bad", "pearson_delta", "worse", "additive", "best_control"),
        verdict("additive", "pearson_delta", "better", "no_change", "nothing"),
        *(verdict(m, "wmse", "cannot tell", "no_change", "nothing") for m in ("good", "bad")),
    ]
    comparisons = [
        {**row, "effect": 0.8, "lo": 0.7, "hi": 0.9, "p": 0.001, "p_holm": 0.002, "n": 9}
        for row in verdicts
        if row["metric"] == "pearson_delta"
    ]
    inference = {"screen": {"kind": "perturbations", "n": 9, "said": "intervals are over 9 held-out perturbations"}}
    return {
        "schema": 1, "task": "expression", "confounded": {"screen": False}, "inference": inference,
        "calibration": calibration, "comparisons": comparisons, "verdicts": verdicts, "rankings": [],
        "missing_controls": ["pool_effect"], "notes": ["a remark"],
    }  # fmt: skip


def scored(folder: Path, judged: dict[str, Any] | None, confounded: bool = False) -> ReportInputs:
    """Five entries with records; where asked for, judged."""
    for model, kind in MODELS.items():
        metrics = {"pearson_delta": SCORES[model], "pearson_delta_lo": SCORES[model] - 0.1,
                   "pearson_delta_hi": SCORES[model] + 0.1, "wmse": 1 - SCORES[model],
                   "pearson_delta_train": SCORES[model] / 2}  # fmt: skip
        record = {
            "task": "expression", "model": model, "kind": kind, "status": "ok", "environment": {}, "metrics": metrics,
            "params": {"sources": [{"name": "screen"}]}, "facts": {"confounded": {"screen": confounded}},
        }  # fmt: skip
        place = folder / "records" / "expression" / model
        place.mkdir(parents=True)
        (place / "record.json").write_text(json.dumps(record))
        (folder / "metrics" / "expression").mkdir(parents=True, exist_ok=True)
        (folder / "metrics" / "expression" / f"{model}.json").write_text(json.dumps(metrics))
    strata = [["screen", p, phase, v] for p in "ab" for phase, v in (("G1", 0.2), ("S", 0.4))]
    table = pd.DataFrame(strata, columns=["source", "perturbation", "phase", "pearson_delta"])
    table.to_csv(folder / "records" / "expression" / "good" / "strata.csv", index=False)
    if judged is not None:
        place = folder / "records" / "judgement" / "expression"
        place.mkdir(parents=True)
        (place / "judgement.json").write_text(json.dumps(judged))
    (folder / "containers").mkdir()
    places = {"metrics": folder / "metrics", "records": folder / "records", "containers": folder / "containers"}
    return read_inputs("tiny", {}, **places)


def words(text: str) -> str:
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


@pytest.fixture
def page(tmp_path: Path) -> tuple[str, Path]:
    made = build_report(tmp_path / "out", scored(tmp_path, judgement()))
    return made.page.read_text(), tmp_path / "out"


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return pd.read_csv(folder / "tables" / f"{name}.csv", keep_default_na=False).to_dict("records")


def test_the_summary_has_a_line_a_model_and_names_what_it_is_held_against(page: tuple[str, Path]) -> None:
    found = {row["model"]: row["verdict"] for row in rows(page[1], "verdicts")}
    assert found == {
        "good": "better than doing nothing (no_change) and additive",
        "bad": "better than doing nothing (no_change); worse than additive, the best control",
    }
    assert "+0.8 (0.7 to 0.9)" in words(page[0])
    text = (page[1] / "summary.md").read_text()
    assert found["bad"] in text and "cannot tell: wmse: the ceiling is no better" in text


def test_metrics_that_cannot_tell_are_listed_with_the_reason_and_greyed_not_hidden(page: tuple[str, Path]) -> None:
    text = page[0]
    assert "wmse: the ceiling is no better than doing nothing" in words(text)
    assert re.search(r'<th scope="col" class="num muted">wmse', text)
    assert text.count('class="plot muted"') == 1
    assert "Cannot tell: the ceiling is no better" in words(text)
    assert {row["model"]: row["wmse"] for row in rows(page[1], "leaderboard_expression")}["good"] == 0.2


def test_inference_and_missing_controls_are_said(page: tuple[str, Path]) -> None:
    text = words(page[0])
    assert "intervals are over 9 held-out perturbations" in text
    assert "On expression a control is missing: pool_effect" in text


def test_models_are_points_and_references_are_dashed(page: tuple[str, Path]) -> None:
    plot = page[0].split('data-plot="plot-leaderboard_expression-1">')[1].split("</script>")[0]
    figure = json.loads(plot)
    assert figure["layout"]["yaxis"]["ticktext"] == ["good", "bad"]
    assert [trace["x"] for trace in figure["data"]] == [[0.8], [0.3]]
    lines = {shape["x0"]: shape["line"]["dash"] for shape in figure["layout"]["shapes"]}
    assert lines == {0.0: "solid", 0.5: "solid", 0.9: "dash"}
    best = {shape["x0"]: shape["line"]["width"] for shape in figure["layout"]["shapes"]}
    assert best[0.5] > best[0.0]


def test_what_does_nothing_is_named_and_what_was_not_judged_is_said(page: tuple[str, Path]) -> None:
    text = words(page[0])
    assert "Doing nothing is no_change." in text
    assert "control: does nothing" in text and "additive control better than doing nothing" in text
    assert "Not judged, so without a verdict: pearson_delta_train." in text
    assert {r["model"]: r["role"] for r in rows(page[1], "leaderboard_expression")}["no_change"] == "control"
    legends = re.findall(r"models \([^)]*\)", text)
    assert legends == ["models (95 % interval)", "models (too few units for intervals)"]
    plot = page[0].split('data-plot="plot-leaderboard_expression-1">')[1].split("</script>")[0]
    assert json.loads(plot)["layout"]["xaxis"]["showgrid"] is False  # its lines would pass for controls


def test_scores_by_phase_are_means_over_units(page: tuple[str, Path]) -> None:
    found = {row["phase"]: row["pearson_delta"] for row in rows(page[1], "by_phase_expression")}
    assert found == {"G1": 0.2, "S": 0.4}


def test_a_confounded_design_shows_both_scores_side_by_side(tmp_path: Path) -> None:
    build_report(tmp_path / "out", scored(tmp_path, None, confounded=True))
    text = words((tmp_path / "out" / "index.html").read_text())
    assert "Confounded: on screen every control cell comes from one capture pool" in text
    good = next(r for r in rows(tmp_path / "out", "confounded_expression") if r["model"] == "good")
    assert (good["pearson_delta"], good["pearson_delta_train"]) == (0.8, 0.4)
    assert "hyped bench judge records/tiny --task expression" in text


def test_where_no_metric_can_tell_there_is_one_line_and_no_verdict(tmp_path: Path) -> None:
    values = judgement()
    for row in values["calibration"]:
        row.update(can_tell=False, reason="too few")
    build_report(tmp_path / "out", scored(tmp_path, values))
    found = rows(tmp_path / "out", "verdicts")
    assert [(row["model"], row["verdict"]) for row in found] == [("all 2", "no metric can tell: too few")]


def test_a_source_without_any_verdict_is_one_line_with_what_is_lacking(tmp_path: Path) -> None:
    values = judgement()
    for row in values["verdicts"]:
        row["word"] = "cannot tell"
    values["inference"]["screen"]["said"] = "2 pools, and no redrawn cells"
    build_report(tmp_path / "out", scored(tmp_path, values))
    found = rows(tmp_path / "out", "verdicts")
    assert [(row["model"], row["verdict"]) for row in found] == [("all 2", "no verdict: 2 pools, and no redrawn cells")]


def test_a_confounded_verdict_says_so_and_adds_the_one_that_is_free_of_the_pool(tmp_path: Path) -> None:
    values = judgement()
    values["confounded"] = {"screen": True}
    values["verdicts"].append(verdict("good", "pearson_delta_train", "worse", "additive", "simple"))
    build_report(tmp_path / "out", scored(tmp_path, values))
    found = next(row for row in rows(tmp_path / "out", "verdicts") if row["model"] == "good")
    assert found["verdict"].startswith("confounded with the capture pool: better than doing nothing")
    assert found["verdict"].endswith("Free of it (pearson_delta_train): worse than additive")


def test_a_model_that_returns_the_control_is_called_so() -> None:
    row = verdict("bad", "m", "indistinguishable", "no_change", "nothing", text="bad returns the control cells: ...")
    assert said([row]) == "returns the control cells"
    judged = Judged(judgement())
    assert judged.lead("screen") == "pearson_delta"
    assert counted(judged.tally("screen", "bad")) == "better on 1 of 1"


def test_a_broken_judgement_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="no judgement of schema 1"):
        scored(tmp_path, {"schema": 7})


@given(st.dictionaries(st.text("abcdefgh_", min_size=1, max_size=16), st.floats(0, 1), min_size=1, max_size=14))
def test_labels_of_rules_never_cover_one_another_on_a_phone(values: dict[str, float]) -> None:
    placed = charts.spread([charts.Rule(v, name) for name, v in values.items()], (-0.05, 1.05))
    assert sorted(", ".join(rule.label for rule in placed).split(", ")) == sorted(values)
    spans: dict[int, list[tuple[float, float]]] = {}
    for rule in placed:
        place, wide = (rule.value + 0.05) / 1.1 * charts.NARROW, len(rule.label) * charts.LETTER
        start = {"left": place, "center": place - wide / 2, "right": place - wide}[rule.anchor]
        spans.setdefault(rule.tier, []).append((start, start + wide))
    for found in spans.values():
        found.sort()
        assert all(a[1] <= b[0] for a, b in zip(found, found[1:], strict=False))


def test_text_in_a_table_cannot_end_its_script() -> None:
    context = ReportContext(ReportInputs("x", {}, {}))
    html = context.table("t", Table("t", ["a"], [["</script><!-- <script>"]]))
    held = re.search(r'id="csv-t">(.*?)</script>', html, re.DOTALL)[1]
    assert json.loads(held) == "a\n</script><!-- <script>\n"


def test_scripts_and_styles_of_sections_stand_once_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hyped_bench.report import build

    inputs = ReportInputs("x", {}, {"t": [Entry("t", "m", "model", "ok", "", {"a": 1.0})]})
    context = ReportContext(inputs)
    for _ in range(2):
        context.style(".own { color: red; }")
        context.script("window.own = '</script>';")
    text = build.render_page(context, [])
    assert text.count(".own { color: red; }") == 1
    assert text.count("window.own = '<\\/script>';") == 1
    with pytest.raises(Exception, match=r"nowhere\.js"):
        context.script("nowhere.js")


def test_a_data_card_is_on_the_page_and_its_html_is_not_trusted() -> None:
    context = ReportContext(ReportInputs("x", {}, {}))
    html = context.document("# Card\n\n<b>bold</b>\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n", ["card.md"])
    assert "<h3>Card</h3>" in html and "<td>2</td>" in html and 'href="card.md"' in html
    assert "<b>" not in html
