"""Sections of other packages, made in processes of their own: none harms the report, and those that work are whole."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyped_bench import plugin as own_plugin
from hyped_bench.report.apart import SECONDS_VARIABLE, inputs_in, inputs_out
from hyped_bench.report.build import Report, build_report
from hyped_bench.report.context import ReportContext
from hyped_bench.report.inputs import ReportInputs, read_inputs
from hyped_core.plugins.host import PluginHost
from hyped_core.testing import isolated_host, make_distribution

PLUGIN = """
    from hyped_core import ReportSectionSpec, hookimpl

    @hookimpl
    def hyped_report_sections():
        for name, order in {sections}:
            yield ReportSectionSpec(name, name.title(), f"lab_sections:{{name}}", order=order)
"""
HARM = """
    import ctypes, os, sys, time
    from hyped_bench.report.charts import Chart, Panel, Series
    from hyped_bench.report.context import Table

    def raises(context):
        raise RuntimeError("no <b>luck</b>")

    def exits(context):
        sys.exit(3)

    def vanishes(context):
        os._exit(0)

    def crashes(context):
        ctypes.string_at(0)

    def waits(context):
        time.sleep(1000)

    def interrupts(context):
        raise KeyboardInterrupt

    def numbers(context):
        return 7

    def half(context):
        context.alert("half an alert")
        context.table("half", Table("", ["a"], [[1]]))
        raise ValueError("in the middle")

    def undrawable(context):
        panel = Panel("lines", series=(Series("plotly draws it, matplotlib does not", [1, 2], [1]),))
        return context.chart("undrawable", Chart("c", "a", (panel,)))

    def greedy(context):
        return context.table("leaderboard_denoise", Table("", ["a"], [[1]]))

    def meddles(context):
        context.inputs.results["denoise"][0].metrics["psnr"] = 99.0
        from hyped_bench.report import outputs
        outputs.write_files = None
        return "<p>meddled</p>"
"""
FAILING = {
    "raises": "RuntimeError: no <b>luck</b>",
    "exits": "SystemExit: 3",
    "vanishes": "exit code 0",
    "crashes": "SIGSEGV",
    "interrupts": "KeyboardInterrupt",
    "numbers": "returned int, not text",
    "half": "ValueError: in the middle",
    "undrawable": "same first dimension",
    "greedy": "is taken",
}
WORKING = """
    import os
    import numpy as np
    from hyped_bench.report.charts import Chart, Panel, Rule, Series
    from hyped_bench.report.context import Table

    def works(context):
        os.write(1, b"past sys.stdout")
        print("to stdout")
        (entry,) = [e for e in context.inputs.entries if e.model == "gaussian"]
        rows = [[entry.model, np.float64(entry.metrics["psnr"]), np.int64(3), float("nan"), None, "a,b", True]]
        series = Series("s", np.array([0.0, 1.0, 2.0]), [1.0, None, 3.0], low=[0.5, None, 2.0], high=[2.0, None, 4.0])
        panel = Panel("lines", "title", "x", "y", series=(series,), rules=(Rule(1.0, "here"),), y_range=(0.0, 5.0))
        heat = Panel("heat", matrix=((1.0, None), (0.5, 2.0)), rows=("a", "b"), columns=("c", "d"))
        context.style(".lab { color: red }")
        context.script("(() => {})();")
        return context.join([
            context.heading("Speed of nuclei", listed="Speed"),
            context.alert("a stranger's alert"),
            context.absent("nothing of theirs"),
            context.table("lab_speeds", Table("Speeds", list("abcdefg"), rows)),
            context.attach("lab_more", Table("More", ["a"], [[0.123456789]]), "more"),
            context.chart("lab_chart", Chart("A chart", "lines", (panel, heat), legend=(("s", "#000000"),))),
            context.text(f"of {context.dataset}, {context.settings['description']}, {os.getcwd()}"),
        ])
"""


@pytest.fixture
def scored(tmp_path: Path) -> ReportInputs:
    """Two denoisers' metrics."""
    for model, value in (("identity", 20.0), ("gaussian", 25.123456789)):
        file = tmp_path / "metrics" / "denoise" / f"{model}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"psnr": value, "ssim": None}))
    places = {name: tmp_path / name for name in ("metrics", "records", "containers")}
    return read_inputs("tiny", {"description": "few & odd"}, **places)


@pytest.fixture
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[PluginHost]:
    """A host with HYPED's sections and those of a stranger: (name -> order, their module)."""
    with isolated_host(install(tmp_path, *request.param)) as host:
        host.register(own_plugin, "hyped-bench", "hyped-bench", "0.1.0")
        yield host


def install(folder: Path, sections: dict[str, int], code: str) -> Path:
    place = folder / "site"
    text = PLUGIN.format(sections=list(sections.items()))
    make_distribution(place, "lab", {"lab_plugin": text, "lab_sections": code})
    return place


def own_host() -> PluginHost:
    host = PluginHost(points=[])
    host.register(own_plugin, "hyped-bench", "hyped-bench", "0.1.0")
    return host


def bodies(made: Report) -> dict[str, str]:
    """Section -> its HTML on the page."""
    text = made.page.read_text()
    found = re.findall(r'<section id="([^"]+)".*?</section>', text, flags=re.DOTALL)
    parts = re.split(r'(?=<section id=")', text)[1:]
    return dict(zip(found, parts, strict=True))


@pytest.mark.parametrize("lab", [(dict.fromkeys(FAILING, 0), HARM)], indirect=True)
def test_sections_that_do_harm_are_shown_as_failed_and_the_rest_is_as_without_them(
    tmp_path: Path, scored: ReportInputs, lab: PluginHost, capfd: pytest.CaptureFixture[str]
) -> None:
    alone = build_report(tmp_path / "alone", scored, host=own_host())
    capfd.readouterr()
    made = build_report(tmp_path / "out", scored, host=lab)
    assert capfd.readouterr().out == ""
    assert set(made.failed) == set(FAILING)
    assert made.sections == (*sorted(FAILING), *alone.sections)
    shown, before = bodies(made), bodies(alone)
    for name, reason in FAILING.items():
        assert made.failed[name].startswith("lab: ") and reason in made.failed[name]
        assert made.failed[name].endswith("To be rid of it: pip uninstall lab, or set HYPED_BLOCK_PLUGINS=lab")
        assert "\n" not in made.failed[name]
        assert "This section failed. lab:" in shown[name] and "pip uninstall lab" in shown[name]
    for name in alone.sections:
        assert shown[name].split("</section>")[0] == before[name].split("</section>")[0], name
    assert "no <b>luck</b>" not in made.page.read_text()
    assert "half an alert" not in made.page.read_text()
    assert made.tables == alone.tables and made.figures == alone.figures
    for file in (tmp_path / "alone" / "tables").iterdir():
        assert file.read_bytes() == (tmp_path / "out" / "tables" / file.name).read_bytes()


@pytest.mark.parametrize("lab", [({"waits": 0, "meddles": 1}, HARM)], indirect=True)
def test_one_that_hangs_is_ended_and_one_that_meddles_changes_nothing_here(
    tmp_path: Path, scored: ReportInputs, lab: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "6")
    made = build_report(tmp_path / "out", scored, host=lab)
    assert set(made.failed) == {"waits"}
    assert "took longer than the 6 seconds" in made.failed["waits"] and SECONDS_VARIABLE in made.failed["waits"]
    assert "--time-limit" not in made.failed["waits"]
    assert "meddled" in bodies(made)["meddles"] and "99" not in bodies(made)["leaderboards"]
    assert (tmp_path / "out" / "tables").is_dir()


@pytest.mark.parametrize("lab", [({"works": 35}, WORKING)], indirect=True)
def test_one_that_works_is_the_same_as_if_it_were_made_here(
    tmp_path: Path, scored: ReportInputs, lab: PluginHost, capfd: pytest.CaptureFixture[str]
) -> None:
    from lab_sections import works

    made = build_report(tmp_path / "out", scored, host=lab)
    assert capfd.readouterr().out == "" and made.failed == {}
    assert made.sections.index("works") == 3
    here = ReportContext(scored)
    here.section = "works"
    body, page = bodies(made)["works"], made.page.read_text()
    assert str(works(here)) in body
    assert str(Path.cwd()) in body and "few &amp; odd" in body
    assert {"lab_speeds", "lab_more"} <= set(made.tables) and "lab_chart" in made.figures
    assert ".lab { color: red }" in page and "a stranger&#39;s alert" in page.split('<section id="experiment"')[0]
    assert 'href="#works-speed"' in page
    (row,) = csv.reader((tmp_path / "out" / "tables" / "lab_speeds.csv").read_text().splitlines()[1:])
    assert row == ["gaussian", "25.123457", "3", "", "", "a,b", "True"]
    assert (tmp_path / "out" / "tables" / "lab_more.csv").read_text() == "a\n0.123457\n"
    from hyped_bench.report.draw_svg import svg_and_png

    svg, png = svg_and_png(here.placed.charts["lab_chart"])
    figures = tmp_path / "out" / "figures"
    assert (figures / "lab_chart.svg").read_bytes() == svg and (figures / "lab_chart.png").read_bytes() == png
    assert "Plotly" in page


def test_inputs_cross_whole(scored: ReportInputs) -> None:
    again = inputs_in(json.loads(json.dumps(inputs_out(scored))))
    assert again == scored


def test_the_command_goes_on(tmp_path: Path, scored: ReportInputs) -> None:
    place = install(tmp_path, {"crashes": 0, "vanishes": 500}, HARM)
    code = (
        "import sys; from hyped_core.cli.main import run; "
        "sys.exit(run(['bench', 'report', 'out', '--dataset', 'tiny', '--metrics', 'metrics', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{place}:{os.environ.get('PYTHONPATH', '')}", "HYPED_CACHE": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["failed"]) == {"crashes", "vanishes"} and (tmp_path / found["page"]).is_file()
    assert "section crashes failed: lab: its process was killed by signal SIGSEGV" in done.stderr
    assert "pip uninstall lab" in done.stderr
