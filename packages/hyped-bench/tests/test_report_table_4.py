"""Table 4 of the report: three kinds of reference in three tables, and nothing said that is not so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hyped_bench.report.context import ReportContext
from hyped_bench.report.inputs import Entry, ReportInputs
from hyped_bench.report.scoreboard import groups
from hyped_bench.report.sections.paper_table_4 import table_4

OWN = {"self_mse": 0.001, "self_mse_lo": 0.0008, "self_mse_hi": 0.0013, "self_psnr": 30.0, "self_ssim": 0.9}
CLEAN = {"mse": 20.0, "psnr": 34.0, "psnr_lo": 33.0, "psnr_hi": 35.0, "ssim": 0.9, "n_fields": 6}


def entry(model: str, kind: str = "model", folder: Path | None = None, **metrics: Any) -> Entry:
    return Entry("denoise", model, kind, "ok", "", metrics, None, folder)


def shown(entries: list[Entry], dataset: str = "mini") -> tuple[str, ReportContext]:
    context = ReportContext(ReportInputs(dataset, {}, {"denoise": entries}))
    return re.sub(r"<[^>]+>|\s+", " ", str(context.join(table_4(context)))), context


def rows(context: ReportContext, name: str) -> dict[str, dict[str, Any]]:
    table = context.placed.tables[name]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_three_kinds_of_reference_are_three_tables_with_what_each_means() -> None:
    text, context = shown(
        [
            entry("fm2s-series", **OWN, n_self_fields=4),
            entry("photon", **OWN, **CLEAN, downstream_seg=0.8, downstream_tra=0.9, n_downstream_fields=4),
            entry("identity", "control", self_mse=0.0, self_ssim=1.0, self_psnr=None, **{**CLEAN, "psnr": 28.0}),
        ]
    )
    assert set(context.placed.tables) == {"table_4", "table_4_clean", "table_4_downstream"}
    assert list(rows(context, "table_4")) == ["fm2s-series", "photon", "identity"]
    assert list(rows(context, "table_4_clean")) == ["photon", "identity"]
    assert list(rows(context, "table_4_downstream")) == ["photon"]
    order = [
        text.index(t)
        for t in ("fidelity, not quality", "Against clean images: quality", "After segmentation and tracking")
    ]
    assert order == sorted(order)
    assert "not computed" not in text and "Not computed" not in text
    assert "psnr" not in "".join(rows(context, "table_4_downstream")["photon"])


def test_intervals_are_shown_and_written() -> None:
    text, context = shown([entry("photon", **OWN, **CLEAN)])
    assert "0.001 (0.0008 to 0.0013)" in text and "34 (33 to 35)" in text
    assert rows(context, "table_4")["photon"]["MSE lo"] == 0.0008
    assert rows(context, "table_4_clean")["photon"]["psnr hi"] == 35.0
    assert rows(context, "table_4_clean")["photon"]["n_fields"] == 6


def test_movies_with_less_light_have_tables_of_their_own_brightest_first() -> None:
    values = {"downstream_seg": 0.5, "downstream_seg_light_100": 0.6, "downstream_seg_light_2.5": 0.4}
    half = {key: value / 2 for key, value in values.items()}
    text, context = shown([entry("photon", **values), entry("identity", "control", **half)])
    assert [n for n in context.placed.tables if "down" in n] == ["table_4_downstream_100", "table_4_downstream_2.5"]
    assert rows(context, "table_4_downstream_2.5")["photon"]["nuclei seg"] == 0.4
    assert "frames redrawn with 2.5 % of the light" in text


@pytest.mark.parametrize(
    ("model", "status", "reason", "said"),
    [
        (None, "", "", "FM2S (no such model was scored)"),
        ("fm2s", "failed", "out of luck", "FM2S (fm2s: failed: out of luck)"),
        ("fm2s-series", "unavailable", "needs torch", "FM2S (fm2s-series: unavailable: needs torch)"),
        ("fm2s", "ok", "", "FM2S (fm2s was not scored by the paper's protocol)"),
    ],
)
def test_why_fm2s_is_not_there(model: str | None, status: str, reason: str, said: str) -> None:
    own = [] if model is None else [Entry("denoise", model, "model", status, reason, {})]
    text, context = shown([entry("photon", **OWN), *own])
    assert any(said in line for line in context.placed.absent)
    assert text.count("not computed") == 8
    assert rows(context, "table_4")["FM2S"]["MSE"] is None


def test_the_printed_row_is_only_for_the_papers_own_data() -> None:
    _, context = shown([entry("fm2s", **OWN)], "hyped")
    printed = rows(context, "table_4")["FM2S (printed)"]
    assert (printed["MSE"], printed["psnr_paper_convention (dB)"], printed["PSNR (dB)"]) == (0.000146, 86.480553, None)
    assert "FM2S (printed)" not in rows(shown([entry("fm2s", **OWN)])[1], "table_4")


def test_seconds_are_shown_where_they_were_kept(tmp_path: Path) -> None:
    (tmp_path / "timing.json").write_text(json.dumps({"wall_s": 9.0, "seconds_per_megapixel": 7.123456}))
    text, context = shown([entry("photon", folder=tmp_path, **CLEAN), entry("median", "control", **CLEAN)])
    assert "s a megapixel" in text
    assert rows(context, "table_4_clean")["photon"]["s a megapixel"] == 7.123
    assert rows(context, "table_4_clean")["median"]["s a megapixel"] is None
    (tmp_path / "timing.json").write_text("{broken")
    assert "s a megapixel" not in shown([entry("photon", folder=tmp_path, **CLEAN)])[0]


def test_leaderboards_never_show_fidelity_and_leave_out_what_was_not_scored() -> None:
    keys = dict.fromkeys(("downstream_seg", "downstream_tra"))
    told = groups("denoise", [entry("photon", **OWN, **CLEAN, **keys)])
    assert [[m.key for m in metrics] for _, metrics in told] == [["psnr", "ssim", "mse"]]
    told = groups("denoise", [entry("photon", **CLEAN, downstream_seg=0.8)])
    assert [title.partition(":")[0] for title, _ in told] == ["Against clean images", "After segmentation and tracking"]
