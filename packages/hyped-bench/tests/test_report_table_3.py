"""Table 3 of the report: embeddings by phase, and beside each number what says whether it means anything."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from hyped_bench.report.context import ReportContext
from hyped_bench.report.inputs import Entry, ReportInputs
from hyped_bench.report.printed import TABLE_3
from hyped_bench.report.scoreboard import groups
from hyped_bench.report.sections.leaderboards import section as leaderboards
from hyped_bench.report.sections.paper_table_3 import table_3
from hyped_bench.tasks.expression.params import SAID
from hyped_core.design.model import default_design

VALUES = {
    "cosine": 0.98, "mse": 0.01, "mae": 0.1, "pearson": 0.97, "n_matched": 17,
    "cosine_matched": 0.981, "cosine_no_change_matched": 0.985, "cosine_other": 0.979, "cosine_half": 0.995,
    "cosine_shift": 0.2, "cosine_shift_lo": 0.1, "cosine_shift_hi": 0.3, "null_p": 0.05, "cosine_shift_null": 0.01,
    "cosine_shift_other": 0.15, "cosine_shift_indirect": 0.02, "null_p_indirect": 0.6, "cosine_shift_half": 0.8,
    "cosine_shift_conditions": 0.3, "cosine_shift_conditions_lo": 0.2, "cosine_shift_conditions_hi": 0.4,
    "null_p_conditions": 0.1, "cosine_shift_conditions_null": 0.0, "cosine_shift_conditions_half": 0.7,
}  # fmt: skip


def entry(folder: Path, model: str, kind: str = "model", drop: tuple[str, ...] = (), **changes: Any) -> Entry:
    own = folder / model
    own.mkdir()
    rows = [
        {"source": "mini", "perturbation": name, "phase": phase, **VALUES, **changes, "cosine": 0.9 + 0.01 * i}
        for name in ("MYOD1", "PRRX1", "PRRX1+MYOD1")
        for i, phase in enumerate(("G1", "S", "G2M"))
    ]
    pd.DataFrame(rows).drop(columns=list(drop)).to_csv(own / "units.csv", index=False)
    record = {"params": {"sources": [{"name": "mini", "kind": "conditions"}]}}
    metrics = {key: value for key, value in {**VALUES, **changes}.items() if key != "n_matched"}
    return Entry("embedding", model, kind, "ok", "", {**metrics, "cosine_no_change": 0.985}, record, own)


def shown(entries: list[Entry], dataset: str = "mini") -> tuple[str, ReportContext]:
    container = SimpleNamespace(data=SimpleNamespace(design=default_design()))
    results = {task: [e for e in entries if e.task == task] for task in ("embedding", "expression")}
    context = ReportContext(ReportInputs(dataset, {}, results, [container]))
    return " ".join(re.sub(r"<[^>]+>", " ", str(context.join(table_3(context)))).split()), context


def expression(folder: Path, model: str, kind: str = "model", protocols: tuple[str, ...] = ("relabelled_control",),
               by: str = "variance", top: bool = True, began: dict[str, Any] | None = None) -> Entry:  # fmt: skip
    """Scores on the conditions by protocol; those on the top genes are 0.5 lower than those on all genes."""
    own = folder / model
    own.mkdir()
    numbers = {"cosine": 0.95, "pearson": 0.94, "mse": 0.52, "mae": 0.61}
    if top:
        numbers |= {f"{key}_top": value - 0.5 for key, value in numbers.items()}
    change = {"pearson_delta": 0.0, "cosine_delta": 0.0, "mse_relative": 1.0, "energy_distance": 2.0, "n_cells": 30}
    table = [
        {"source": protocol, "fold": "f", "perturbation": name, "subgroup": "", **numbers, **change}
        for protocol in protocols
        for name in ("MYOD1", "PRRX1", "PRRX1+MYOD1")
    ]
    pd.DataFrame(table).to_csv(own / "units.csv", index=False)
    said = {p: {"name": p, "says": SAID[p], "top_genes": 500, "top_genes_by": by} for p in protocols}
    sources = [{"name": p, "kind": "conditions", "protocol": p} for p in protocols]
    record = {"params": {"sources": sources}, "facts": {"protocol": said} if top else {}}
    if began is not None:
        record["facts"]["model"] = {p: {"f": {"genes": 5, "started_from": began}} for p in protocols}
        sources[-1]["configs"] = {model: {"pretrained": "models/screen"}}
    return Entry("expression", model, kind, "ok", "", {}, record, own)


def rows(context: ReportContext, name: str) -> list[dict[str, Any]]:
    table = context.placed.tables[name]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_geneformers_rows_are_in_the_papers_layout(tmp_path: Path) -> None:
    text, context = shown([entry(tmp_path, "geneformer"), entry(tmp_path, "pca", "control")], "hyped")
    table = rows(context, "table_3")
    mine = [r for r in table if r["model"] == "geneformer"]
    printed = [r for r in table if r["model"] == "Geneformer (printed)"]
    assert {(r["perturbation"], r["phase"]) for r in mine} == {(r["perturbation"], r["phase"]) for r in printed}
    assert [r["cosine"] for r in mine] == pytest.approx([0.9, 0.91, 0.92] * 3)
    assert not any("Geneformer" in line for line in context.placed.absent)
    assert any("GEARS" in line for line in context.placed.absent)
    assert [r["role"] for r in table if r["model"] == "pca"] == ["control"] * 9


def test_a_model_of_the_same_architecture_is_not_the_papers(tmp_path: Path) -> None:
    _, context = shown([entry(tmp_path, "geneformer-tiny")])
    said = [line for line in context.placed.absent if "Geneformer" in line]
    assert "geneformer-tiny has its architecture, not the published weights" in said[0]
    assert [r["cosine"] for r in rows(context, "table_3") if r["model"] == "Geneformer"] == [None]
    failed = Entry("embedding", "geneformer", "model", "failed", "no weights", {})
    assert "Geneformer (failed: no weights)" in shown([failed])[1].placed.absent[-1]
    assert "no model of the task embedding was scored" in shown([])[1].placed.absent[-1]


def test_the_honest_tables_hold_every_unit_with_how_to_read_it(tmp_path: Path) -> None:
    text, context = shown([entry(tmp_path, "geneformer-tiny"), entry(tmp_path, "pca", "control", cosine_shift=0.4)])
    for name, key in (("raw", "cosine_matched"), ("change", "cosine_shift"), ("between", "cosine_shift_conditions")):
        table = rows(context, f"table_3_embedding_{name}")
        assert len(table) == 18 and {r["n_matched"] for r in table} == {17}
        assert table[0][key] == VALUES[key] and table[0]["phase"] == "G1" and table[2]["phase"] == "G2/M"
    change = rows(context, "table_3_embedding_change")
    assert change[0]["cosine_shift_lo"] == 0.1 and change[9]["cosine_shift"] == 0.4
    assert "0.981000 0.985000 0.979000 0.995000" in text, "four digits would hide what differs"
    assert "0.2 (0.1 to 0.3)" in text and text.count("How to read it") == 3
    assert "over cells within each group" in text and "printed" not in text


def test_a_single_condition_has_no_table_between_conditions(tmp_path: Path) -> None:
    drop = tuple(key for key in VALUES if "conditions" in key)
    _, context = shown([entry(tmp_path, "pca", "control", drop)])
    assert "table_3_embedding_change" in context.placed.tables
    assert "table_3_embedding_between" not in context.placed.tables


def test_the_leaderboard_has_the_control_and_what_doing_nothing_scores(tmp_path: Path) -> None:
    entries = [entry(tmp_path, "geneformer-tiny"), entry(tmp_path, "pca", "control", cosine_shift_conditions=0.1)]
    told = groups("embedding", entries)
    assert [keys[0].key for _, keys in told] == ["cosine_shift_conditions", "cosine_shift", "cosine"]
    context = ReportContext(ReportInputs("mini", {}, {"embedding": entries}))
    text = re.sub(r"<[^>]+>|\s+", " ", str(leaderboards(context)))
    assert "0.985 in the space of pca" in text
    assert [r["model"] for r in rows(context, "leaderboard_embedding")] == ["geneformer-tiny", "pca"]
    assert "mse" not in context.placed.tables["leaderboard_embedding_3"].columns, "errors do not compare across spaces"


BOTH = ("held_out", "relabelled_control")
SCREEN = {
    "from": {"cells": {"control": 360, "train": 2227, "validation": 182}, "conditions": 38, "genes": 600},
    "transferred": {"genes": {"shared": 512, "exact": 500}},
}
"""What records say of weights carried over from a screen."""
OFFICIAL = {"source": "official checkpoint of cell-gears", "files_sha256": {}}


def test_gears_rows_by_the_papers_recipe_are_in_the_papers_layout(tmp_path: Path) -> None:
    models = [
        expression(tmp_path, "no_change", "control", BOTH),
        expression(tmp_path, "gears", "model", BOTH, began=SCREEN),
        expression(tmp_path, "gears-reference", began=OFFICIAL),
    ]
    text, context = shown(models, "hyped")
    table = rows(context, "table_3")
    mine = [r for r in table if r["model"] == "GEARS"]
    printed = [r for r in table if r["model"] == "GEARS (printed)"]
    for key in ("perturbation", "phase", "protocol"):
        assert [r[key] for r in mine] == [r[key] for r in printed], key
    assert {r["over"] for r in mine} == {"500 genes by variance"}
    assert [r["cosine"] for r in mine] == pytest.approx([0.45] * 3)
    assert [r["MSE"] for r in mine] == pytest.approx([0.02] * 3)
    assert [r["model"] for r in table if r["model"].startswith("GEARS (the original")] == [
        "GEARS (the original's arithmetic)"
    ] * 3
    beside = [(r["model"], r["protocol"]) for r in table if r["perturbation"] == "+MYOD1" and r["role"] != "paper"]
    assert beside == [
        ("GEARS", "relabelled_control"), ("GEARS (the original's arithmetic)", "relabelled_control"),
        ("no_change", "relabelled_control"), ("gears", "held_out"), ("no_change", "held_out"),
    ]  # fmt: skip
    assert not any("GEARS" in line for line in context.placed.absent)
    assert "the model never sees a perturbed cell of the experiment" in text
    assert {(r["model"], r["protocol"]) for r in rows(context, "table_3_change")} == {
        *((model, protocol) for model in ("gears", "no_change") for protocol in BOTH),
        ("gears-reference", "relabelled_control"),
    }


def test_gears_is_the_papers_only_where_it_began_with_pretrained_weights(tmp_path: Path) -> None:
    models = [expression(tmp_path, "gears"), expression(tmp_path, "gears-reference", began=OFFICIAL)]
    text, context = shown(models)
    assert [r["model"] for r in rows(context, "table_3") if r["role"] == "model"] == [
        *["GEARS, not pretrained"] * 3, *["GEARS (the original's arithmetic)"] * 3
    ]  # fmt: skip
    assert "arithmetic) began with pretrained weights: official checkpoint of cell-gears, folder" in text
    assert text.count("began with pretrained weights") == 1
    assert not any("GEARS" in line for line in context.placed.absent)

    own = tmp_path / "own"
    own.mkdir()
    text, context = shown([expression(own, "gears-reference")])
    table = rows(context, "table_3")
    assert [r["cosine"] for r in table if r["model"] == "GEARS"] == [None], "the paper's recipe was not followed"
    assert {r["model"] for r in table if r["role"] == "model"} == {"GEARS (the original's arithmetic), not pretrained"}
    assert "the recipe's second half only, from weights that were not pretrained)" in context.placed.absent[-1]


def test_the_note_says_on_what_gears_was_pretrained(tmp_path: Path) -> None:
    text, _ = shown([expression(tmp_path, "gears", "model", BOTH, began=SCREEN)])
    said = "trained on 2227 cells (360 control) of 38 perturbations, folder models/screen; 512 of its genes are in"
    assert f"GEARS began with pretrained weights: {said} this panel." in text and text.count("trained on 2227") == 1
    text, _ = shown([expression(tmp_path, "gears-reference", began={})])
    assert "weights: the record does not say of which cells, folder models/screen." in text


def test_gears_is_not_computed_where_it_did_not_run_by_the_recipe(tmp_path: Path) -> None:
    text, context = shown([expression(tmp_path, "gears", protocols=("held_out",))])
    assert "GEARS (it was scored, but on no source of conditions with the protocol relabelled_control)" in text
    table = rows(context, "table_3")
    assert [r["cosine"] for r in table if r["model"] == "GEARS"] == [None]
    assert [r["protocol"] for r in table if r["model"] == "gears"] == ["held_out"] * 3
    assert "the model never sees a perturbed cell" not in text
    failed = Entry("expression", "gears", "model", "unavailable", "torch is missing", {})
    assert "GEARS (unavailable: torch is missing)" in shown([failed])[1].placed.absent[-1]
    assert "GEARS (no such model was scored)" in shown([])[1].placed.absent[-1]


def test_genes_chosen_by_the_truth_are_said_and_old_records_have_all_genes(tmp_path: Path) -> None:
    text, _ = shown([expression(tmp_path, "gears", by="change")])
    assert "no model could have known them" in text
    text, context = shown([expression(tmp_path, "additive", "control", ("held_out",), top=False)])
    own = [r for r in rows(context, "table_3") if r["model"] == "additive"]
    assert {r["over"] for r in own} == {"all genes"} and {r["cosine"] for r in own} == {0.95}
    assert "no model could have known them" not in text


def test_the_leaderboard_has_the_means_of_the_subgroups_of_a_split(tmp_path: Path) -> None:
    entries = []
    for model, kind, score in (("gears", "model", 0.3), ("additive", "control", 0.6), ("failed", "model", 0.9)):
        own = tmp_path / model
        own.mkdir()
        table = [
            {"source": "screen", "subgroup": group, "n_perturbations": n, "pearson_delta": score - shift, "mse": 0.1}
            for group, n, shift in (("unseen_single", 3, 0.0), ("combo_seen1", 5, 0.1))
        ]
        pd.DataFrame(table).to_csv(own / "subgroups.csv", index=False)
        status = "failed" if model == "failed" else "ok"
        metrics = {"pearson_delta": score, "mse": 0.1} if status == "ok" else {}
        entries.append(Entry("expression", model, kind, status, "", metrics, {}, own))
    context = ReportContext(ReportInputs("mini", {}, {"expression": entries}))
    leaderboards(context)
    found = rows(context, "by_subgroup_expression")
    assert [(r["subgroup"], r["n_perturbations"], r["model"], r["role"]) for r in found] == [
        ("combo_seen1", 5, "additive", "control"), ("combo_seen1", 5, "gears", "model"),
        ("unseen_single", 3, "additive", "control"), ("unseen_single", 3, "gears", "model"),
    ]  # fmt: skip
    assert [r["pearson_delta"] for r in found] == pytest.approx([0.5, 0.2, 0.6, 0.3])
    bare = ReportContext(ReportInputs("mini", {}, {"expression": [expression(tmp_path, "plain")]}))
    leaderboards(bare)
    assert "by_subgroup_expression" not in bare.placed.tables


def test_the_papers_layout_has_its_rows_in_its_order_with_the_printed_numbers_beside(tmp_path: Path) -> None:
    gears = expression(tmp_path, "gears", began={"cells": {"train": 9, "control": 2}, "conditions": 3})
    nothing = expression(tmp_path, "no_change", "control")
    _, context = shown([entry(tmp_path, "geneformer"), gears, nothing], "hyped")
    found = rows(context, "table_3_paper")
    assert [(r["model"], r["perturbation"], r["phase"]) for r in found] == [row[:3] for row in TABLE_3]
    assert [r["cosine (printed)"] for r in found] == [row[3] for row in TABLE_3]
    assert [r["cosine"] for r in found[:3]] == pytest.approx([0.90, 0.91, 0.92])
    assert [r["cosine"] for r in found[9:]] == pytest.approx([0.45] * 3)
    assert {r["computed by"] for r in found[9:]} == {"gears"}
    honest = rows(context, "table_3_honest")
    assert {r["model"] for r in honest} == {"gears", "no_change"}
    _, other = shown([gears, nothing], "mini")
    assert "cosine (printed)" not in other.placed.tables["table_3_paper"].columns
    assert {r["cosine"] for r in rows(other, "table_3_paper")[:9]} == {None}
