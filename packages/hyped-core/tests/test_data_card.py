"""A dataset's card says what its manifest says and what was counted, and says so where nothing is known."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from hyped_core.cli.data_card import card_command
from hyped_core.data.card import make_card, manifest_of_container
from hyped_core.data.datasheet import SECTIONS, Datasheet
from hyped_core.data.fetch import RECEIPT
from hyped_core.data.manifest import parse_manifest, read_manifest, read_manifest_file
from hyped_core.errors import InvalidDataError, MissingFileError, ParamsError, UsageError, ValidationError

SHA = "ab" * 32
VALUES = {
    "name": "t",
    "title": "a test",
    "licence": "MIT",
    "citation": "A | B 2020",
    "files": [
        {"path": "b.csv", "bytes": 10, "sha256": SHA, "source": {"kind": "url", "url": "https://a.b/b.csv"}},
        {"path": "a.zip", "approx_bytes": 12_000_000, "source": {"kind": "url", "url": "https://a.b/a.zip"}},
    ],
    "datasheet": {
        "research_only": "For research only.",
        "motivation": {"purpose": "To test."},
        "uses": {"limits": ["one thing", "another"]},
        "parts": {"b.csv": "a | b"},
    },
}


def run(*args: object):
    return CliRunner().invoke(card_command, [str(arg) for arg in args])


def test_every_question_is_answered_or_said_to_be_unknown():
    card = make_card(parse_manifest(VALUES, "here"))
    sheet = Datasheet.model_validate(VALUES["datasheet"])
    answered = {(section, key) for section, rows in sheet.sections() for key, _, answer in rows if answer is not None}
    assert answered == {("motivation", "purpose"), ("uses", "limits")}
    total = 0
    for section, rows in sheet.sections():
        body = card.markdown.split(f"## {section.capitalize()}\n")[1].split("\n## ")[0]
        for key, question, _ in rows:
            total += 1
            assert question.endswith("?") and body.count(question) == 1
            assert (f"**{question}**" in body) == ((section, key) in answered)
            assert (f"{section}/{key}" in card.unknown) != ((section, key) in answered)
    assert len(card.unknown) == total - 2 and len(SECTIONS) == 7
    assert "**What was it made for?**\nTo test.\n" in card.markdown
    assert "\n- one thing\n- another\n" in card.markdown


def test_the_card_opens_with_the_statement_and_keeps_tables_whole():
    text = make_card(parse_manifest(VALUES, "here")).markdown
    assert text.startswith("# t: a test\n\n> **For research only.**\n")
    assert "| Cite | A \\| B 2020 |" in text and "| `b.csv` | a \\| b |" in text
    assert f"| `b.csv` | 10 B | `{SHA}` | MIT |" in text
    assert "| `a.zip` | about 12 MB | recorded at the first fetch | MIT |" in text
    assert "1 file of 10 B; 1 file of about 12 MB, as far as is known beforehand" in text
    assert text.endswith("|\n") and "\n\n\n" not in text


def test_many_files_are_summed_up_by_folder():
    source = {"kind": "url", "url": "https://a.b/c"}
    files = [{"path": f"{'xy'[i % 2]}/{i}", "bytes": 100, "source": source} for i in range(30)]
    text = make_card(parse_manifest({**VALUES, "files": files}, "here")).markdown
    assert "| `x/` | 15 | 1.5 kB | MIT |" in text and "`x/0`" not in text and "30 files of 3.0 kB" in text


def test_a_receipt_fills_in_what_the_manifest_does_not_know(tmp_path):
    receipt = {"dataset": "t", "files": {"a.zip": {"bytes": 7, "sha256": "cd" * 32}, "c": {"bytes": 1, "sha256": SHA}}}
    (tmp_path / RECEIPT).write_text(json.dumps(receipt))
    card = make_card(parse_manifest(VALUES, "here"), fetched=tmp_path)
    assert card.facts["files"] == {"n": 3, "bytes": 18, "without_size": 0, "without_sha256": 0}
    assert f"| `a.zip` | 7 B | `{'cd' * 32}` | MIT |" in card.markdown
    assert [item["@id"] for item in card.metadata["distribution"]] == ["a.zip", "b.csv"], "c has no address"
    receipt["files"]["b.csv"] = {"bytes": 10, "sha256": "cd" * 32}
    (tmp_path / RECEIPT).write_text(json.dumps(receipt))
    with pytest.raises(InvalidDataError, match="b.csv: the receipt has another sha256"):
        make_card(parse_manifest(VALUES, "here"), fetched=tmp_path)
    with pytest.raises(InvalidDataError, match="hyped data fetch t"):
        make_card(parse_manifest(VALUES, "here"), fetched=tmp_path / "none")


@pytest.mark.parametrize(
    ("sheet", "place"),
    [
        ({"use": {}}, "datasheet/use: unknown key .*'uses'"),
        ({"uses": {"limit": "x"}}, "datasheet/uses/limit: unknown key .*'limits'"),
        ({"uses": {"limits": ""}}, "datasheet/uses/limits.*is empty: leave the key out"),
        ({"uses": {"limits": []}}, "datasheet/uses/limits.*is empty"),
        ({"uses": {"limits": 3}}, "datasheet/uses/limits"),
    ],
)
def test_a_bad_datasheet_is_refused_with_its_place_and_mend(tmp_path, sheet, place):
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump({**VALUES, "datasheet": sheet}))
    with pytest.raises(ValidationError, match=place):
        read_manifest_file(path)


def test_files_that_are_no_manifest(tmp_path):
    with pytest.raises(MissingFileError, match="manifest.yaml"):
        read_manifest_file(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(ParamsError, match="not valid YAML"):
        read_manifest_file(tmp_path / "a.yaml")


def test_a_container_is_counted_as_it_is(tiny_container, tmp_path):
    from hyped_core.container.data import HypedData

    manifest = read_manifest("mini")
    card = make_card(manifest, [tiny_container])
    card.write(tmp_path)
    hd = HypedData.read(tiny_container)
    facts = card.facts["containers"][hd.name]
    assert facts["scenes"] == len(hd.movies) and facts["frames"] == sum(m.n_frames for m in hd.movies.values())
    obs = hd.table("rna").obs
    assert sum(facts["counts"]["pool"].values()) == len(obs)
    cells = pd.read_csv(tmp_path / f"{hd.name}-cells.csv")
    assert cells["cell"].tolist() == obs.index.tolist()
    assert cells["pool"].tolist() == obs["pool"].astype(str).tolist()
    scenes = pd.read_csv(tmp_path / f"{hd.name}-scenes.csv")
    assert scenes["scene"].tolist() == sorted(hd.movies) and scenes["frames"].sum() == facts["frames"]
    for part in hd.manifest.parts:
        assert part.sha256 in card.markdown
    assert re.sub(r"## Counted(.|\n)*?(?=## Motivation)", "", card.markdown) == make_card(manifest).markdown


def test_the_same_container_gives_the_same_bytes_wherever_it_lies(tiny_container, tmp_path):
    import shutil

    moved = shutil.copytree(tiny_container, tmp_path / "elsewhere" / "tiny.hyped")
    for path, folder in ((tiny_container, "one"), (moved, "two")):
        make_card(manifest_of_container(path), [path]).write(tmp_path / folder)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two and len(one) >= 3
    assert not any(str(tmp_path).encode() in data for data in one.values())


def test_a_container_of_ones_own_without_a_manifest(tiny_container):
    result = run(tiny_container)
    assert result.exit_code == 0 and result.stdout.startswith("# tiny: a HYPED container")
    assert "| Licence | not stated |" in result.stdout and "Not known: What was it made for?" in result.stdout
    assert "hyped data fetch" not in result.stdout, "it cannot be fetched"
    with pytest.raises(InvalidDataError, match="two containers are named 'tiny'"):
        make_card(read_manifest("mini"), [tiny_container, tiny_container])


def test_the_command_takes_a_name_a_manifest_or_a_container(tiny_container, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(VALUES))
    assert run(path).stdout == make_card(read_manifest_file(path)).markdown
    result = run(tiny_container, "--manifest", path, "--out", tmp_path / "out")
    assert result.exit_code == 0 and result.stdout == ""
    text = (tmp_path / "out" / "card.md").read_text()
    assert text.startswith("# t: a test") and "## Counted in `tiny.hyped`" in text
    said = json.loads(run("mini", "--json").stdout)
    assert said["dataset"] == "mini" and said["written"] == [] and "motivation/funding" in said["unknown"]
    for args in ((path, "--manifest", path), ("mini", "--manifest", path)):
        assert isinstance(run(*args).exception, UsageError)
    assert isinstance(run(tmp_path / "none.hyped").exception, MissingFileError)
