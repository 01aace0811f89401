"""Judgements of records on disk: read, written, read again, and by the command."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from hyped_bench.cli_judge import judge as command
from hyped_bench.judgement import judge, read_judgement, write_judgement
from hyped_bench.judgement.files import as_csv
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError, UnsupportedDataError

LEVELS = {"otsu": ("control", 0.6), "fast": ("model", 0.9), "slow": ("model", 0.6)}


@pytest.fixture
def records(tmp_path):
    """Records of a segmenter's task on nine scenes, one of which is not primary, and a model that failed."""
    root = tmp_path / "records" / "toy"
    for name, (kind, level) in LEVELS.items():
        rng = np.random.default_rng(len(name))
        folder = root / "segment" / name
        folder.mkdir(parents=True)
        table = pd.DataFrame({"source": [f"S{i}" for i in range(9)]})
        for metric in ("f1_iou50", "seg", "foreground_recall"):
            table[metric] = level + rng.normal(0, 0.02, 9)
        table.to_csv(folder / "units.csv", index=False)
        record = {"kind": kind, "status": "ok", "reason": "", "metrics": {}, "facts": {}, "params": {"sources": []}}
        (folder / "record.json").write_text(json.dumps(record))
    broken = root / "segment" / "broken"
    broken.mkdir()
    (broken / "record.json").write_text(
        json.dumps({"kind": "model", "status": "failed", "reason": "ran out of memory", "metrics": {}})
    )
    return root


def test_judging_twice_gives_the_same_bytes_and_reading_gives_it_back(records, tmp_path):
    for name in ("a", "b"):
        write_judgement(tmp_path / name, judge(records, "segment"))
    first = (tmp_path / "a" / "judgement.json").read_bytes()
    assert first == (tmp_path / "b" / "judgement.json").read_bytes()
    value = read_judgement(tmp_path / "a")
    assert value == judge(records / "segment", "segment").as_dict()
    assert value["schema"] == 1
    assert value["failed"] == [{"model": "broken", "status": "failed", "reason": "ran out of memory"}]
    words = {(v["model"], v["word"]) for v in value["verdicts"] if v["metric"] == "seg"}
    assert words == {("fast", "better"), ("slow", "indistinguishable")}
    rows = list(csv.DictReader((tmp_path / "a" / "comparisons.csv").read_text().splitlines()))
    assert len(rows) == len(value["comparisons"]) == 6
    assert float(rows[0]["effect"]) == value["comparisons"][0]["effect"]


def test_the_command_prints_a_line_a_model_and_writes_what_it_says(records, tmp_path):
    made = CliRunner().invoke(command, [str(records), "--task", "segment", "--out", str(tmp_path / "out")])
    assert made.exit_code == 0, made.output
    assert "all: fast: better than the best control (otsu) on f1_iou50, seg, foreground_recall." in made.output
    assert "broken failed: ran out of memory" in made.output
    assert read_judgement(tmp_path / "out" / "judgement.json")["task"] == "segment"
    as_json = CliRunner().invoke(command, [str(records), "--task", "segment", "--json"])
    assert json.loads(as_json.stdout) == read_judgement(tmp_path / "out")
    every = CliRunner().invoke(command, [str(records), "--task", "segment", "--all"])
    assert "fast is better than otsu, the best control on seg (+0.3" in every.stdout


def test_what_cannot_be_judged_is_said(records, tmp_path):
    with pytest.raises(MissingFileError, match="holds no records"):
        judge(tmp_path / "nowhere", "segment")
    quiet = judge(records / "segment", "stitch")
    assert quiet.verdicts == []
    assert any("declares no metric" in note for note in quiet.notes)
    with pytest.raises(MissingFileError, match="no such judgement"):
        read_judgement(tmp_path)
    (tmp_path / "judgement.json").write_text('{"schema": 9}')
    with pytest.raises(UnsupportedDataError, match="schema 9"):
        read_judgement(tmp_path)
    (tmp_path / "judgement.json").write_text("[]")
    with pytest.raises(CorruptFileError, match="is no judgement"):
        read_judgement(tmp_path)
    table = records / "segment" / "fast" / "units.csv"
    pd.read_csv(table).drop(columns="source").to_csv(table, index=False)
    with pytest.raises(InvalidDataError, match="has no column source"):
        judge(records, "segment")


def test_tables_keep_undefined_values_empty():
    assert as_csv([{"a": 1.5, "b": None}]) == "a,b\n1.5,\n"
    assert as_csv([]) == ""


def test_a_dataset_names_its_records_and_nothing_named_is_an_error(records, monkeypatch):
    monkeypatch.chdir(records.parent.parent)
    named = CliRunner().invoke(command, ["--dataset", "toy", "--task", "segment"])
    assert named.exit_code == 0
    assert named.stdout.startswith("all: fast: better than")
    nothing = CliRunner().invoke(command, ["--task", "segment"])
    assert "there is nothing to judge" in str(nothing.exception)


def test_names_that_look_like_missing_values_stay_names(tmp_path):
    from hyped_bench.judgement import read_entries

    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "record.json").write_text(json.dumps({"kind": "model", "metrics": {}}))
    (tmp_path / "m" / "units.csv").write_text("source,perturbation,score\nscreen,NA,0.5\nscreen,None,\n")
    units = read_entries(tmp_path)[0].units
    assert units["perturbation"].tolist() == ["NA", "None"]
    assert units["score"].isna().tolist() == [False, True]


def test_lines_of_a_run_name_the_source_and_leave_out_records_of_other_runs(records):
    from hyped_bench.runs.verdicts import verdict_lines

    lines, _ = verdict_lines(records, "segment", ["otsu", "fast"])
    assert lines == ["all: fast: better than the best control (otsu) on f1_iou50, seg, foreground_recall."]
    every, _ = verdict_lines(records, "segment")
    assert [line.split(": ")[:2] for line in every] == [["all", "fast"], ["all", "slow"]]
    assert verdict_lines(records.parent, "segment")[1][0].startswith("no verdicts: ")
