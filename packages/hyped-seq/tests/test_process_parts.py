"""Parts of `hyped seq process`: numbers of the summary, charts, the start of a design, what is held against it."""

from __future__ import annotations

import base64
import gzip
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, mannwhitneyu

from hyped_core.cli.main import run
from hyped_core.design import Design, read_design
from hyped_core.errors import CorruptFileError, MissingFileError, UsageError, ValidationError
from hyped_seq.ingest.params import IngestParams
from hyped_seq.process import charts, shown
from hyped_seq.process.check import check_design, unhashed
from hyped_seq.process.facts import (
    call_facts,
    contrast_facts,
    dose_facts,
    pool_facts,
    quality_facts,
    separation,
    wilson,
)
from hyped_seq.process.held import Held, _first, _read
from hyped_seq.process.layout import Layout
from hyped_seq.process.look import alerts, limits
from hyped_seq.process.sections import render
from hyped_seq.process.source import find_source
from hyped_seq.process.starter import HUMAN_HASHTAGS, found_tags, starter_design

_COMPLEMENT = str.maketrans("ACGT", "TGCA")


@given(st.integers(1, 500), st.floats(0, 1))
def test_intervals_of_shares_are_scipys(n: int, share: float):
    k = round(share * n)
    theirs = binomtest(k, n).proportion_ci(method="wilson")
    assert np.allclose(wilson(k, n), (theirs.low, theirs.high), atol=1e-6)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_separation_is_the_share_of_pairs_in_order(called: list[int], others: list[int]):
    u = mannwhitneyu(called, others).statistic
    assert separation(np.array(called), np.array(others)) == pytest.approx(u / len(called) / len(others), abs=1e-4)


def test_separation_needs_cells():
    assert separation(np.array([]), np.array([1])) is None and separation(np.array([1]), np.array([])) is None


def held(**parts: object) -> Held:
    """Results of all steps, empty but for ``parts``."""
    empty = pd.DataFrame()
    values = {"captured": empty, "cells": empty, "calls": empty, "tags": None, "embedding": None, "removed": empty,
              "top": empty, "isoforms": empty, "dose": empty, "ingest": {}, "annotate": {}}  # fmt: skip
    return Held(**{**values, **parts})


def test_figures_that_only_annotating_knows_are_of_all_cells():
    captured = pd.DataFrame({"pool": "p", "n_counts": [10, 20, 30], "n_genes": [1, 2, 3]}, index=list("abc"))
    kept = captured.loc[["a", "b"]].assign(mito_pct=[1.0, 2.0])
    removed = pd.DataFrame({"cell": ["c"], "pool": "p", "reason": "mito_pct 90 above 8", "mito_pct": [90.0]})
    facts = pool_facts(held(captured=captured, cells=kept, removed=removed))["p"]
    assert facts == {"cells": 3, "kept": 2, "removed": 1, "median_n_counts": 20.0, "median_n_genes": 2.0,
                     "median_mito_pct": 2.0}  # fmt: skip
    nothing = pool_facts(held(captured=captured, cells=captured.assign(mito_pct=np.nan)))["p"]
    assert "median_mito_pct" not in nothing


def test_calls_are_counted_before_and_after_quality():
    calls = pd.DataFrame({"pool": "p", "call": ["A", "A", "Doublet"], "kind": ["singlet", "singlet", "doublet"],
                          "probability": [0.8, 0.6, 0.9]}, index=list("abc"))  # fmt: skip
    facts = call_facts(held(calls=calls, cells=pd.DataFrame(index=["b", "c"])))["p"]
    assert (facts["singlet"], facts["kept_singlet"], facts["doublet"], facts["kept_doublet"]) == (2, 1, 1, 1)


@pytest.mark.parametrize("axes", [0, 1, 2, 5])
def test_a_map_is_drawn_of_as_many_axes_as_there_are(axes: int, tmp_path: Path):
    from anndata import AnnData

    path = tmp_path / "rna.h5ad"
    places = np.arange(3.0 * axes).reshape(3, axes)
    AnnData(np.ones((3, 2), np.float32), obsm={"X_pca": places}).write_h5ad(path)
    obs, found = _read(path)
    assert len(obs) == 3 and (found is None) == (axes == 0)
    if found is not None:
        assert found[1].shape == (3, 2) and np.array_equal(found[1][:, : min(axes, 2)], places[:, :2])
        assert "<img" in charts.cell_map(found[1], ["a", "b", "a"], charts.colours(["a", "b"]), "map")


def test_the_look_of_pools_is_said():
    summary = dict.fromkeys(("pools", "hashtag_reads", "features", "calls", "tags", "conditions", "phases"), {})
    record = {"isoform_left_out": ["p", "q"],
              "pools": {"p": {"empty_droplets_left_out": 900, "least_molecules_of_a_cell": 55}, "q": {}}}  # fmt: skip
    notes = {"quality_notes": ["p: 30 of 90 cells removed (n_counts below 30)"]}
    design = Design.model_validate({"name": "d"})
    said = alerts(summary, held(ingest=record, annotate=notes), design)
    assert said == [
        "p and q have no counts of transcripts, so they are left out of all pools: nothing is said about isoforms",
        "p: was not filtered; 900 barcodes with fewer than 55 molecules were taken for empty droplets and left out",
        *notes["quality_notes"],
    ]
    assert alerts(summary, held(), design) == []


def test_a_warning_stands_between_the_title_of_its_contrast_and_what_it_warns_of():
    contrast = {"contrast": "a_vs_b", "group": "a", "reference": "b", "n_group": 5, "n_reference": 6, "significant": 1,
                "warning": "confounded with pool", "top": [{"gene": "G", "log2_fold_change": 1.0}]}  # fmt: skip
    text = shown.genes({"contrasts": [contrast]}, held(), Design.model_validate({"name": "d"}))
    places = [text.index(part) for part in ("<b>a against b</b>", "confounded with pool", "<svg", "5 against 6")]
    assert places == sorted(places) and text.count("a against b</") == 1


@given(st.floats(0, 9e9))
def test_numbers_on_axes_are_short_and_right(value: float):
    said = charts.short(value)
    factor = {"k": 1e3, "M": 1e6, "G": 1e9}.get(said[-1], 1.0)
    number = float(said.rstrip("kMG")) * factor
    assert len(said) <= 5 and abs(number - value) <= 0.051 * max(value, 0.02)


def test_labels_of_an_axis_stay_inside_the_picture():
    text = charts.histograms("t", {"a": (np.array([1.0, 1234.5, 16512.0, 1e6]), "#000000")}, log=False)
    width = 250
    for x, anchor, said in re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="(\w+)"[^>]*>([^<]+)<', text):
        wide = 6 * len(said)
        left = float(x) - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
        assert left >= 0 and left + wide <= width, said


def test_removed_cells_are_counted_by_reason():
    removed = pd.DataFrame({"cell": ["a", "b"], "reason": ["n_counts 3 below 10.5; mito_pct 40 above 1e+01",
                                                           "mito_pct 9.5 above 8"]})  # fmt: skip
    captured = pd.DataFrame(index=list("abc"))
    facts = quality_facts(held(removed=removed, captured=captured, cells=captured.loc[["c"]]))
    assert facts["reasons"] == {"mito_pct above": 2, "n_counts below": 1} and facts["removed"] == 2


def test_tops_of_contrasts_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(1)
    table = pd.DataFrame([(f"c{c}", phase, r, f"g{r}", p) for c in range(3) for phase in ("all", "S")
                          for r, p in enumerate(np.sort(rng.random(40) ** 4), start=1)],
                         columns=["contrast", "phase", "rank", "gene", "p_adjusted"])  # fmt: skip
    table.to_csv(tmp_path / "de.csv", index=False)
    monkeypatch.setattr("hyped_seq.process.held._CHUNK", 7)
    found = _first(tmp_path / "de.csv", 5)
    assert len(found) == 3 * 2 * 5
    expected = (table["p_adjusted"] < 0.05).groupby([table["contrast"], table["phase"]]).sum()
    assert all(row.significant == expected[row.contrast, row.phase] for row in found.itertuples())
    facts = contrast_facts(found)
    assert [item["contrast"] for item in facts] == ["c0", "c1", "c2"], "phases apart are left to the table"
    assert [row["gene"] for row in facts[0]["top"]] == ["g1", "g2", "g3", "g4", "g5"]
    (tmp_path / "none.csv").write_text("gene\n")
    assert _first(tmp_path / "none.csv", 5).empty and _first(tmp_path / "absent.csv", 5).empty


def test_dose_is_correlated_by_ranks():
    design = Design.model_validate({"name": "d", "conditions": [
        {"name": "up", "perturbation": [{"gene": "G", "direction": "activation"}]}]})  # fmt: skip
    level = np.arange(30.0)
    table = pd.DataFrame({
        "condition": "up", "level_G": level, "response_control": np.exp(level / 10),
        "responder_control": level > 14, "response_rest": np.nan, "responder_rest": None,
    })  # fmt: skip
    assert dose_facts(table, design) == [{"condition": "up", "gene": "G", "reference": "control", "cells": 30,
                                          "responders": 0.5, "spearman": 1.0}]  # fmt: skip


def pixels(text: str) -> tuple[np.ndarray, list[str]]:
    """The picture of a map: indices and palette."""
    png = base64.b64decode(re.search(r"base64,([^\"]+)", text).group(1))  # type: ignore[union-attr]
    chunks, at = {}, 8
    while at < len(png):
        size = struct.unpack(">I", png[at : at + 4])[0]
        chunks[png[at + 4 : at + 8]] = png[at + 8 : at + 8 + size]
        at += 12 + size
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)[:, 1:]
    return rows, [f"#{chunks[b'PLTE'][k : k + 3].hex()}" for k in range(0, len(chunks[b"PLTE"]), 3)]


def test_a_map_puts_every_cell_at_its_place_in_its_colour():
    places = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0], [0.0, 2.0]])
    picture, palette = pixels(charts.cell_map(places, ["a", "b", "", "a"], charts.colours(["a", "b"]), "map"))
    side = charts.MAP_PX
    corner = {(row, column): palette[picture[row, column]] for row in (8, side - 9) for column in (8, side - 9)}
    assert corner[side - 9, 8] == charts.PALETTE[0] and corner[side - 9, side - 9] == charts.PALETTE[1]
    assert corner[8, side - 9] == charts.GREY and corner[8, 8] == charts.PALETTE[0], "y points up"
    assert palette[picture[side // 2, side // 2]] == "#ffffff"


def test_the_order_of_painting_hides_no_label():
    rng = np.random.default_rng(0)
    places = rng.normal(size=(20_000, 2)) * 0.01
    places[:2] = [[-1, -1], [1, 1]]
    labels = np.repeat(["a", "b"], 10_000)
    picture, palette = pixels(charts.cell_map(places, list(labels), charts.colours(["a", "b"]), "map"))
    shares = np.bincount(picture.ravel(), minlength=3)[1:] / (picture > 0).sum()
    assert (shares > 0.35).all() and len(palette) == 3


def test_histograms_and_knees_take_odd_values():
    for values in ([], [0], [5, 5, 5], [np.nan, 1.0], [0, 1e6]):
        assert charts.histograms("t", {"a": (np.array(values, float), "#000000")}, log=True).startswith("<svg")
    assert "<svg" in charts.knee({"p": np.array([0])}, {}) and "<svg" in charts.knee({"p": np.array([9, 1])}, {"p": 3})


def test_a_page_of_twenty_thousand_cells_is_small():
    rng = np.random.default_rng(2)
    n, tags = 20_000, [f"tag{k}" for k in range(8)]
    design = Design.model_validate({
        "name": "many", "conditions": [{"name": f"<c{k}>"} for k in range(8)], "pools": [{"name": "p"}],
        "hashtags": [{"pool": "p", "tag": tag, "condition": f"<c{k}>"} for k, tag in enumerate(tags)],
    })  # fmt: skip
    index = [f"cell{k}" for k in range(n)]
    which = rng.integers(0, 8, n)
    cells = pd.DataFrame({
        "pool": "p", "n_counts": rng.integers(500, 9000, n), "n_genes": rng.integers(300, 4000, n),
        "mito_pct": rng.random(n) * 10, "condition": [f"<c{k}>" for k in which], "hashtag_kind": "singlet",
        "phase": rng.choice(["G1", "S", "G2M"], n),
    }, index=index)  # fmt: skip
    calls = pd.DataFrame({"pool": "p", "call": [tags[k] for k in which], "kind": "singlet"}, index=index)
    calls["probability"] = 0.9
    counts = pd.DataFrame(rng.poisson(3, (n, 8)) + 30 * np.eye(8, dtype=int)[which], index=index, columns=tags)
    found = held(captured=cells, cells=cells, calls=calls, tags=counts,
                 embedding=("X_tsne", rng.normal(size=(n, 2)).astype(np.float32)))  # fmt: skip
    from hyped_seq.process import facts as f

    summary = {
        "design": "many", "version": "1", "out": "out.h5ad", "model": "hashed", "pools": f.pool_facts(found),
        "features": {"rna": 1}, "calls": f.call_facts(found), "tags": f.tag_facts(found, design), "doublets": {},
        "quality": f.quality_facts(found), "phases": f.phase_facts(found, design), "contrasts": [], "isoforms": [],
        "hashtag_reads": {}, "dose": [], "limits": [], "alerts": [],
    }  # fmt: skip
    text = render(summary, found, design)
    assert len(text) < 3_000_000 and "&lt;c3&gt;" in text and "<c3>" not in text
    assert all(tag["separation"] > 0.99 for tag in summary["tags"]["p"].values())
    shares = summary["phases"]["fractions"]["<c0>"]["shares"]
    assert sum(share[0] for share in shares.values()) == pytest.approx(1, abs=1e-3)
    assert all(low <= share <= high for share, low, high in shares.values())


def test_what_cannot_be_told_follows_from_pools_and_flags():
    design = Design.model_validate({"name": "d", "conditions": [{"name": "control"}, {"name": "a"}, {"name": "b"}],
                                    "flags": {"pooled_wells": True}})  # fmt: skip
    apart = pd.DataFrame({"pool": ["p", "p", "q"], "condition": ["control", "a", "b"]})
    said = limits(held(cells=apart, tags=pd.DataFrame(), annotate={"contrasts": ["x"]}), design)
    assert said[0].startswith("b: captured in other pools than control") and "wells were pooled" in said[1]
    together = apart.assign(pool="p")
    assert not any("other pools" in text for text in limits(held(cells=together, tags=pd.DataFrame()), design))
    assert "without hashtags" in limits(held(cells=together), design)[-1]


def test_pools_and_libraries_are_matched(small_pool: Path, tmp_path: Path):
    table = tmp_path / "tags.csv"
    table.write_text((small_pool / "hashtags" / "counts.csv").read_text())
    inside = find_source([small_pool], [], IngestParams())
    assert inside.hashtags == {"p1": small_pool / "hashtags" / "counts.csv"} and inside.given == ()
    assert find_source([small_pool], [], IngestParams(hashtags="none")).hashtags == {}
    given = find_source([f"one={small_pool}"], [str(table)], IngestParams())
    assert given.hashtags == {"one": table} and given.given == ("one",)
    before = given.identity()
    table.write_text(table.read_text().replace("50", "5"))
    assert find_source([f"one={small_pool}"], [str(table)], IngestParams()).identity() != before
    for pools, libraries, error in (
        ([small_pool, small_pool], [], UsageError), ([tmp_path / "none"], [], MissingFileError),
        ([small_pool], ["p9=x"], UsageError), ([small_pool], ["p1=none.csv"], MissingFileError),
    ):  # fmt: skip
        with pytest.raises(error):
            find_source(pools, libraries, IngestParams())


def test_a_design_without_sequences_cannot_count_reads(small_pool: Path, small_design: Design, tmp_path: Path):
    reads = tmp_path / "r.fastq"
    reads.write_text("")
    source = find_source([small_pool], [f"p1={reads}"], IngestParams())
    bare = small_design.model_copy(update={
        "hashtags": tuple(tag.model_copy(update={"barcode": ""}) for tag in small_design.hashtags)})  # fmt: skip
    with pytest.raises(ValidationError) as caught:
        check_design(source, bare, IngestParams())
    assert [problem.where for problem in caught.value.problems] == ["hashtags/p1/A/barcode", "hashtags/p1/B/barcode"]
    check_design(source, small_design, IngestParams())
    assert unhashed(small_design, source.pools) == {}


def test_tags_nobody_named_can_be_dropped(small_pool: Path, small_design: Design):
    source = find_source([small_pool], [], IngestParams())
    fewer = small_design.model_copy(update={"hashtags": small_design.hashtags[:1]})
    with pytest.raises(ValidationError, match="unlisted_tags: drop"):
        check_design(source, fewer, IngestParams())
    assert check_design(source, fewer, IngestParams(unlisted_tags="drop")) == []


def test_a_layout_is_named_by_its_file(tmp_path: Path):
    layout = Layout(tmp_path / "a.b.h5ad")
    assert (layout.page.name, layout.steps.name) == ("a.b.html", "a.b.steps")
    for wrong in ("out", "out.h5"):
        with pytest.raises(UsageError):
            Layout(tmp_path / wrong)


def read(tag: str, flank: str, reverse: bool) -> str:
    """A hashing read: adapter, cell barcode, UMI, bases up to the tag, and what the chemistry puts behind it."""
    text = "CTACACGACGCTCTTCCGATCT" + "ACGTTGCA" * 3 + "TTTTAACCGG" + HUMAN_HASHTAGS[tag] + flank
    return text.translate(_COMPLEMENT)[::-1] if reverse else text


def test_known_tags_are_found_in_reads_with_their_chemistry(tmp_path: Path):
    behind = {"0253": "GCATCTGTA" + "GCTTTAAGGCCGGTCCTAGCAA", "0258": "A" * 24, "0260": "CATGCATGC" + "CCCATATAAGAAA"}
    reads = [read(tag, flank, k % 2 == 1) for k in range(40) for tag, flank in behind.items()]
    reads += ["ACGT" * 20] * 10 + [read("0251", "GGG", False)]
    path = tmp_path / "r.fastq.gz"
    with gzip.open(path, "wt") as handle:
        handle.writelines(f"@r{k}\n{text}\n+\n{'I' * len(text)}\n" for k, text in enumerate(reads))
    found = found_tags(path)
    assert [(tag.name, tag.chemistry) for tag in found] == [
        ("0253", "TotalSeq-B"), ("0258", "TotalSeq-A"), ("0260", "TotalSeq-C")]  # fmt: skip
    assert [tag.barcode for tag in found] == [HUMAN_HASHTAGS[tag.name] for tag in found]
    assert {tag.remark for tag in found} == {"in 40 of the first 131 reads"}
    with path.open("r+b") as handle:
        handle.truncate(200)
    with pytest.raises(CorruptFileError):
        found_tags(path)


def test_the_start_is_refused_until_it_is_filled_in(small_pool: Path, tmp_path: Path, capsys):
    assert run(["seq", "design", str(small_pool), "--name", "my test"]) == 0
    text = capsys.readouterr().out
    path = tmp_path / "design.yaml"
    path.write_text(text)
    with pytest.raises(ValidationError) as caught:
        read_design(path)
    assert len(caught.value.problems) == 2 and all("FILL-IN" in problem.message for problem in caught.value.problems)
    path.write_text(text.replace("FILL-IN", "control"))
    design = read_design(path)
    assert design.name == "my test" and {tag.tag for tag in design.hashtags} == {"A", "B"}
    assert check_design(find_source([small_pool], [], IngestParams()), design, IngestParams()) == []


def test_sequences_in_the_names_of_tags_are_taken(tmp_path: Path):
    path = tmp_path / "p.csv"
    barcodes = "AAACCCAAGAAACACT,AAACCCAAGAAACCAT,GGGTTTCCATTTGGCA"
    path.write_text(f",{barcodes}\nHTO_1-GTCAACTCTTTAGCG,5,100,0\nHTO_2-TGATGGCCTATTGGG,40,2,9\n")
    found = found_tags(path)
    assert [(tag.name, tag.barcode) for tag in found] == [
        ("HTO_1-GTCAACTCTTTAGCG", "GTCAACTCTTTAGCG"), ("HTO_2-TGATGGCCTATTGGG", "TGATGGCCTATTGGG")]  # fmt: skip
    assert "105 counts; the highest tag of 1 cells" in found[0].remark


def test_a_pool_without_tags_asks_for_its_condition(small_pool: Path):
    source = find_source([small_pool], [], IngestParams(hashtags="none"))
    text = starter_design(source, "x")
    assert "{name: p1, conditions: [FILL-IN]}" in text and "hashtags:  " not in text
