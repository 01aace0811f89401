"""Parts of the report: fractions, intervals, charts, thumbnails, names; facts by hand."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from hyped_bench.report import charts, phase_data, thumbnails
from hyped_bench.report.cli import report as report_command
from hyped_bench.report.context import ReportContext, Table, number_text
from hyped_bench.report.draw_plotly import plotly_json
from hyped_bench.report.draw_svg import svg_text
from hyped_bench.report.inputs import Entry, ReportInputs, find_containers
from hyped_bench.report.outputs import csv_text, dividing_rows
from hyped_bench.report.scoreboard import Metric, best_control, counts, ordered
from hyped_core.design import default_design
from hyped_core.errors import ParamsError, UsageError


def nuclei_table() -> pd.DataFrame:
    """Two replicates; phases known by hand; one nucleus without a phase."""
    rows = [
        ("S0", "a", 1, 0.1, "G1"),
        ("S0", "a", 1, 0.1, "S_G2M"),
        ("S0", "a", 1, 0.9, "G1"),
        ("S0", "a", 1, 0.9, "G1"),
        ("S0", "a", 1, 0.9, ""),
        ("S0", "a", 1, 1.0, "dark"),
        ("S1", "a", 2, 0.4, "M"),
    ]
    return pd.DataFrame(rows, columns=["scene", "condition", "replicate", "time_h", "phase"])


def entry(model: str, kind: str = "model", status: str = "ok", **metrics: float | None) -> Entry:
    """An entry without a record."""
    return Entry("denoise", model, kind, status, "", dict(metrics))


def test_fractions_are_over_nuclei_with_a_phase_by_the_hour() -> None:
    found = phase_data.fractions_over_time(nuclei_table(), "fucci")
    first = found[(found["replicate"] == 1) & (found["time_h"] == 0.5)].set_index("phase")
    assert first["fraction"].to_dict() == {"G1": 0.75, "G1S": 0.0, "S_G2M": 0.25, "dark": 0.0, "M": 0.0}
    assert set(first["n"]) == {4}
    later = found[(found["replicate"] == 1) & (found["time_h"] == 1.5)].set_index("phase")
    assert later.loc["dark", "fraction"] == 1.0
    assert len(found) == 3 * 5


def test_share_of_dividing_nuclei_is_a_mean_of_replicates_in_the_coarse_phase() -> None:
    rows = [
        ("S0", "a", 1, 0.1, "G1"),
        ("S0", "a", 1, 0.2, "S_G2M"),
        ("S0", "a", 1, 0.2, "G1S"),
        ("S0", "a", 1, 0.3, "dark"),
        ("S0", "a", 1, 0.3, ""),
        ("S1", "a", 2, 0.4, "M"),
        ("S1", "b", 1, 1.4, "G1"),
    ]
    nuclei = pd.DataFrame(rows, columns=["scene", "condition", "replicate", "time_h", "phase"])
    found = phase_data.dividing_over_time(nuclei, "fucci")
    assert found.loc[0.5, "a"] == (2 / 4 + 1) / 2
    assert found.loc[1.5, "b"] == 0 and math.isnan(found.loc[0.5, "b"]) and math.isnan(found.loc[1.5, "a"])


def test_the_wide_table_has_conditions_in_their_designs_order() -> None:
    design = default_design()
    names = [item.name for item in design.conditions]
    assert names != sorted(names)
    rows = [("S0", name, 1, 0.5 + i, "S_G2M") for i, name in enumerate(sorted(names)[1:])]
    nuclei = pd.DataFrame(rows, columns=["scene", "condition", "replicate", "time_h", "phase"])
    container = SimpleNamespace(name="x", data=SimpleNamespace(design=design))
    head, table = dividing_rows([(container, nuclei, "fucci")])
    assert head == ["time_h", *(name for name in names if name in sorted(names)[1:])]
    assert [row[0] for row in table] == [0.5, 1.5, 2.5]
    assert csv_text(head, table).splitlines()[1].count("1.0") == 1
    twice, _ = dividing_rows([(container, nuclei, "fucci")] * 2)
    assert twice[1] == f"x: {head[1]}"


@given(st.lists(st.sampled_from(["G1", "G1S", "S_G2M", "dark", "M", "", "nan"]), min_size=1, max_size=40))
def test_fractions_of_a_bin_add_up_to_one(phases: list[str]) -> None:
    table = pd.DataFrame({"phase": phases, "scene": "S0", "condition": "a", "replicate": 1})
    table["time_h"] = np.arange(len(phases)) / 3
    found = phase_data.fractions_over_time(table, "fucci")
    if len(found):
        assert np.allclose(found.groupby("time_h")["fraction"].sum(), 1)
    known = sum(p not in ("", "nan") for p in phases)
    assert found.drop_duplicates("time_h")["n"].sum() == known


def test_nearest_frame_of_each_scene_and_none_too_far() -> None:
    chosen = phase_data.at_time(nuclei_table(), 0.8, within_h=0.2)
    assert set(chosen["time_h"]) == {0.9}
    assert len(chosen) == 3
    assert phase_data.at_time(nuclei_table(), 48.0).empty


def test_wilson_agrees_with_scipy() -> None:
    from scipy.stats import binomtest

    for hits, n in ((0, 7), (3, 11), (200, 231), (5, 5)):
        low, high = binomtest(hits, n).proportion_ci(0.95, method="wilson")
        assert phase_data.wilson(hits, n) == pytest.approx((low, high), abs=1e-6)


def test_composition_leaves_out_what_only_one_modality_saw() -> None:
    nuclei = nuclei_table()
    cells = pd.DataFrame({"condition": ["a", "a", "a", "b"], "phase": ["S", "G1", "", "G2M"]})
    rows = phase_data.composition(nuclei, cells, "fucci", ["a", "b"], 0.5)
    assert [r["condition"] for r in rows] == ["a"]
    assert (rows[0]["n_cells"], rows[0]["sequencing"]) == (2, 0.5)
    assert rows[0]["imaging"] == pytest.approx(2 / 3)  # one of two at 0.1 h, and M at 0.4 h
    assert (rows[0]["imaging_lowest"], rows[0]["imaging_highest"]) == (0.5, 1.0)


def test_order_is_best_first_then_undefined_then_failed() -> None:
    entries = [
        entry("bad", psnr=1.0),
        entry("none", psnr=None),
        entry("gone", status="failed", psnr=None),
        entry("good", psnr=2.0),
    ]
    assert [e.model for e in ordered(entries, Metric("psnr", "higher"))] == ["good", "bad", "none", "gone"]
    assert [e.model for e in ordered(entries, Metric("psnr", "lower"))] == ["bad", "good", "none", "gone"]


def test_best_control_follows_the_direction() -> None:
    entries = [entry("a", "control", mse=1.0), entry("b", "control", mse=2.0), entry("c", mse=0.0)]
    assert best_control(entries, Metric("mse", "lower")).model == "a"
    assert best_control(entries, Metric("mse", "higher")).model == "b"
    assert best_control(entries[2:], Metric("mse", "lower")) is None


def test_counts_leave_out_those_of_single_sources() -> None:
    record = {"params": {"sources": [{"name": "S0"}, {"name": "S1"}]}}
    own = Entry("x", "m", "model", "ok", "", {"n_cells": 5, "n_cells_S0": 2, "n_cells_S1": 3, "acc": 1.0}, record)
    assert counts([own], Metric("psnr", "higher")) == ["n_cells"]


def test_counts_are_those_of_the_kind_of_reference() -> None:
    own = entry("m", n_fields=4, n_self_fields=3, n_downstream_planes=2)
    assert counts([own], Metric("psnr", "higher")) == ["n_fields"]
    assert counts([own], Metric("downstream_seg", "higher")) == ["n_downstream_planes"]


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
def test_shown_numbers_are_close_to_the_value(value: float) -> None:
    assert math.isclose(float(number_text(value)), value, rel_tol=6e-4, abs_tol=1e-300)


def test_csv_keeps_commas_quotes_and_six_digits() -> None:
    import csv
    import io

    text = csv_text(["a", "b"], [['x, "y"', 1 / 3], [None, float("nan")], [True, 0.0000123456789]])
    rows = list(csv.reader(io.StringIO(text)))
    assert rows == [["a", "b"], ['x, "y"', "0.333333"], ["", ""], ["True", "1.23457e-05"]]


def every_kind() -> charts.Chart:
    """A chart with a panel of each kind."""
    line = charts.Series("G1", [0.0, 1.0, 2.0], [0.1, None, 0.3], low=[0.0, None, 0.2], high=[0.2, None, 0.4])
    dot = charts.Series("m (model)", [0.5], ["m"], low=[0.4], high=[0.7])
    panels = (
        charts.Panel("lines", "a < b & c", "h", "share", (line,), (charts.Rule(1.0, "harvest"),), y_range=(0, 1)),
        charts.Panel("bars", series=(charts.Series("x", ["p", "q"], [1, 2]), charts.Series("y", ["p", "q"], [3, 4]))),
        charts.Panel("points", series=(charts.Series("g", [1.0, 2.0], [3.0, 4.0]),)),
        charts.Panel("intervals", series=(dot,), rules=(charts.Rule(0.2),)),
        charts.Panel("heat", matrix=((1.0, -1.0), (None, 0.5)), rows=("g1", "g2"), columns=("a", "b")),
    )
    return charts.Chart("caption", "alt text", panels, (("G1", "#d55e00"),))


def test_every_kind_of_panel_becomes_plotly_json_with_its_values() -> None:
    lines, bars, _, dots, heat = map(json.loads, plotly_json(every_kind()))
    assert lines["data"][-1]["y"] == [0.1, None, 0.3]
    assert lines["layout"]["shapes"][0]["x0"] == 1.0
    assert bars["layout"]["barmode"] == "stack"
    assert dots["data"][0]["error_x"]["array"] == [0.2]
    assert dots["data"][0]["error_x"]["arrayminus"] == [0.1]
    assert heat["data"][0]["z"] == [[1.0, -1.0], [None, 0.5]]


def test_svg_is_wellformed_equal_twice_and_keeps_text() -> None:
    text = svg_text(every_kind())
    assert text == svg_text(every_kind())
    root = ElementTree.fromstring(text)
    words = {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"a < b & c", "harvest", "G1"} <= words
    assert "<dc:date>" not in text


def test_names_of_tables_are_claimed_once_and_are_safe() -> None:
    context = ReportContext(ReportInputs("x", {}, {}))
    table = Table("t", ["a"], [["<script>"]])
    assert "&lt;script&gt;" in context.table("one", table)
    with pytest.raises(UsageError):
        context.table("one", table)
    with pytest.raises(UsageError):
        context.table("../one", table)


def test_containers_of_groups_are_found_by_their_path(tmp_path) -> None:
    for name in ("b.hyped", "mosaics/a.hyped", "mosaics/a.hyped/inner.hyped", "mosaics/deep/er/c.hyped"):
        (tmp_path / name).mkdir(parents=True)
    assert [c.name for c in find_containers(tmp_path)] == ["b", "mosaics/a"]
    assert find_containers(tmp_path / "nowhere") == []


@pytest.mark.parametrize("section", ["datasets.tiyn", "dataset.tiny", "tiny"])
def test_a_section_that_is_not_there_is_an_error_of_the_parameters(section: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("datasets: {tiny: {description: x}}\n")
    for kind in ("metrics", "records", "containers"):
        (tmp_path / kind).mkdir()
    options = ["--dataset=tiny", f"--metrics={tmp_path}/metrics", f"--records={tmp_path}/records"]
    options += [f"--containers={tmp_path}/containers", f"--params={tmp_path}/params.yaml#{section}"]
    with pytest.raises(ParamsError, match="has no section") as caught:
        CliRunner().invoke(report_command, [str(tmp_path / "new"), *options], catch_exceptions=False)
    assert caught.value.exit_code == 3 and "params.yaml" in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_outlines_are_painted_on_the_rim_in_the_colour_of_the_phase() -> None:
    planes = {name: np.full((3, 20, 30), 100, np.uint16) for name in ("mKate", "TagGFP", "Cy5")}
    planes["mKate"][:, 5:10, 5:10] = 900
    mask = np.zeros((20, 30), np.int32)
    mask[5:10, 5:10] = 3
    movie = SimpleNamespace(
        shape=(3, 3, 20, 30),
        channels=tuple(planes),
        pixel_size_um=0.5,
        plane=lambda i, channel: planes[channel][i],
    )
    labels = SimpleNamespace(frame=lambda i: mask)
    made = thumbnails.thumbnail(movie, labels, None, [0, 2], default_design())
    assert [(i, n) for i, _, n in made.images] == [(0, 1), (2, 1)]
    assert made.images[0][1].startswith("data:image/webp;base64,")
    assert made.edge_um == (10.0, 15.0)
    assert "mKate red (G1)" in made.shown
    pixels = np.zeros((20, 30, 3), np.uint8)
    phases = pd.DataFrame({"label": [3], "phase": ["S_G2M"]})
    thumbnails._outline(pixels, mask, phases)
    painted = pixels.any(axis=2)
    assert painted[5:10, 5].all() and painted[5, 5:10].all()
    assert not painted[6:9, 6:9].any() and not painted[mask == 0].any()
    assert pixels[5, 5, 1] > pixels[5, 5, 0]  # green, not red


def test_bands_span_the_mean_and_narrow_with_more_lineages():
    from hyped_bench.report.phase_data import fraction_bands, fractions_over_time

    def nuclei(n, per_lineage):
        rng = np.random.default_rng(0)
        cells = np.arange(n * per_lineage)
        phase = np.where(rng.random(n) < 0.4, "G1", "S_G2M")[cells // per_lineage]
        columns = {"track_id": cells + 1, "parent_id": np.where(cells % per_lineage, cells, 0), "phase": phase}
        parts = [
            pd.DataFrame(columns).assign(time_h=20 + f / 3, frame=f, scene=s, replicate=k, condition="control")
            for f in range(6)
            for k, s in enumerate(("A", "B"), 1)
        ]
        return pd.concat(parts, ignore_index=True)

    table = nuclei(40, 2)
    bands = fraction_bands(table, "fucci")
    over = fractions_over_time(table, "fucci").groupby(["condition", "time_h", "phase"])["fraction"].mean()
    assert np.allclose(bands.set_index(["condition", "time_h", "phase"])["fraction"].sub(over), 0)
    assert ((bands["lo"] <= bands["fraction"]) & (bands["fraction"] <= bands["hi"])).all()
    assert (bands["n_lineages"] == 80).all(), "40 lineages a replicate, each counted once in all frames of an hour"

    def width(found):
        own = found[found["phase"] == "G1"]
        return float((own["hi"] - own["lo"]).mean())

    assert width(bands) == pytest.approx(2 * 1.96 * (0.24 / 80) ** 0.5, rel=0.2)
    assert width(fraction_bands(nuclei(400, 2), "fucci")) < 0.45 * width(bands)
