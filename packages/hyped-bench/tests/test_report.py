"""The report of a tiny dataset whose records were made by the runner: complete, true to the metrics, offline."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from hyped_bench.records import write_metrics, write_record
from hyped_bench.report.build import build_report
from hyped_bench.report.cli import report as report_command
from hyped_bench.report.inputs import read_inputs
from hyped_bench.runner import prepare, run_model
from hyped_core.container import HypedData, assemble
from hyped_core.design import Design
from hyped_core.errors import CorruptFileError, InvalidDataError, MissingFileError
from hyped_core.plugins.hookspecs import hookimpl
from hyped_core.spec import ReportSectionSpec

OPENING = ("reading", "summary")
SECTIONS = (
    "experiment",
    "movies",
    "phases",
    "cells",
    "changes",
    "leaderboards",
    "paper_tables",
    "quality",
    "containers",
    "provenance",
)
RUNS = (
    ("denoise", "identity"),
    ("denoise", "gaussian"),
    ("denoise", "raises"),
    ("demultiplex", "top_tag"),
    ("expression", "no_change"),
    ("expression", "train_mean"),
)


def make_container(demo: Path, folder: Path) -> None:
    """A container with everything: the demo's, with phases, a harvest within the movie, t-SNE and top genes."""
    demo_data = HypedData.read(demo / "demo.hyped")
    values = demo_data.design.model_dump(mode="json")
    values["timeline"]["events"] = [{"name": "harvest", "time_h": 4.0}]
    design = Design.model_validate(values)
    nuclei = demo_data.table("nuclei").obs.reset_index(drop=True)
    nuclei["phase"] = np.where(nuclei["label"] % 3 == 0, "S_G2M", "G1")
    nuclei["condition"] = "mmMYOD1"
    rna, hto = demo_data.table("rna").copy(), demo_data.table("hto").copy()
    rng = np.random.default_rng(0)
    rna.obsm["X_tsne"] = rng.normal(size=(rna.n_obs, 2)).astype(np.float32)
    unsorted = rna.obs["condition"].astype(str) != "control"
    phase = rna.obs["phase"].astype(str).to_numpy().copy()
    phase[unsorted.to_numpy()] = np.where(np.arange(int(unsorted.sum())) % 4 == 0, "S", "G1")
    rna.obs["phase"] = phase
    rna.uns["top_genes"] = pd.DataFrame(
        {
            "contrast": ["mmMYOD1_vs_rest", "siPRRX1_vs_rest", "siPRRX1_vs_control"],
            "gene": ["MYOD1", "PRRX1", "GENE001"],
            "rank": [1, 1, 1],
            "log2_fold_change": [2.0, -1.0, 0.5],
            "p_adjusted": [1e-9, 1e-5, 1e-3],
        }
    )
    nuclei.to_parquet(folder / "nuclei.parquet")
    (folder / "containers").mkdir()
    assemble(
        folder / "containers" / "full.hyped",
        design=design,
        name="full",
        movies=demo / "demo.hyped" / "movies",
        labels=demo / "demo.hyped" / "labels",
        nuclei=[folder / "nuclei.parquet"],
        tables={"rna": rna, "hto": hto},
    )
    assemble(
        folder / "containers" / "screen.hyped", design=design, name="screen", tables={"rna": demo_data.table("rna")}
    )


@pytest.fixture(scope="module")
def scored(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Containers, metrics and records of a small dataset; one model raises."""
    folder = tmp_path_factory.mktemp("report")
    make_container(demo_folder, folder)
    sections = json.loads((demo_folder / "sections.json").read_text())

    class Raises:
        def denoise(self, stack: Any, meta: Any, *, context: Any) -> Any:
            raise RuntimeError("out of luck <b>")

    import sys

    from hyped_bench import plugin as own_plugin
    from hyped_core.plugins.host import PluginHost
    from hyped_core.spec import ModelSpec

    class Plugin:
        @hookimpl
        def hyped_models(self):
            yield ModelSpec("raises", "denoise", "raising_models:Raises")

    host = PluginHost(points=[])
    host.register(own_plugin, "hyped-bench", "hyped-bench", "0.1.0")
    host.register(Plugin(), "raising", "raising", "1.0")
    sys.modules["raising_models"] = SimpleNamespace(Raises=Raises)  # type: ignore[assignment]
    try:
        jobs: dict[str, Any] = {}
        for task, model in RUNS:
            if task not in jobs:
                jobs[task] = prepare(task, sections[task], host=host)
            result = run_model(jobs[task], model, host=host)
            write_metrics(folder / "metrics" / task / f"{model}.json", result)
            write_record(folder / "records" / task / model, jobs[task], result)
    finally:
        del sys.modules["raising_models"]
    return folder


def inputs_of(folder: Path, dataset: str = "tiny") -> Any:
    """Inputs, with two tasks set that were not scored."""
    settings = {"description": "A tiny & odd <dataset>", "bench": {"denoise": {}, "stitch": {}, "track": {}}}
    places = {"metrics": folder / "metrics", "records": folder / "records", "containers": folder / "containers"}
    return read_inputs(dataset, settings, **places)


@pytest.fixture(scope="module")
def made(scored: Path) -> Path:
    """The report, and its tables for plots."""
    build_report(scored / "out", inputs_of(scored), plots=scored / "plots")
    return scored / "out"


@pytest.fixture
def copied(scored: Path, tmp_path: Path) -> Path:
    """Metrics and records to damage; no containers."""
    for kind in ("metrics", "records"):
        shutil.copytree(scored / kind, tmp_path / kind)
    (tmp_path / "containers").mkdir()
    return tmp_path


class Page(HTMLParser):
    """Ids, links and the words of each section; script and style are skipped."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.alts: list[str | None] = []
        self.headings: list[int] = []
        self.words: dict[str, str] = {}
        self._section, self._skip = "", 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        self.links += [str(values[k]) for k in ("src", "href", "poster", "action", "data") if values.get(k)]
        if tag == "img":
            self.alts.append(values.get("alt"))
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))
        self._section = str(values.get("id")) if tag == "section" else self._section
        self._skip += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._skip -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.words[self._section] = self.words.get(self._section, "") + data


@pytest.fixture(scope="module")
def page(made: Path) -> Page:
    """The page, parsed."""
    return Page((made / "index.html").read_text())


def table(folder: Path, name: str) -> list[dict[str, str]]:
    """A CSV table of the report."""
    with (folder / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_section_is_there_and_is_headed(page: Page) -> None:
    assert [s for s in page.words if s] == [*OPENING, *SECTIONS]
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    steps = np.diff(page.headings)
    assert steps.max() <= 1
    assert len(page.ids) == len(set(page.ids))


def test_nothing_is_loaded_from_elsewhere(made: Path, page: Page) -> None:
    assert page.links
    for link in page.links:
        assert link.startswith(("data:", "#")) or not link.startswith(("/", "..")) and ":" not in link, link
        if not link.startswith(("data:", "#")):
            assert (made / link).is_file(), link
    style = (made / "index.html").read_text().split("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style
    assert all(page.alts)


def test_tables_hold_the_metrics_own_numbers(made: Path, scored: Path) -> None:
    seen = 0
    for task, model in RUNS:
        metrics = json.loads((scored / "metrics" / task / f"{model}.json").read_text())
        rows = [r for path in made.glob(f"tables/leaderboard_{task}*.csv") for r in table(made, path.stem)]
        own = [row for row in rows if row["model"] == model]
        assert own
        for row in own:
            for key, text in row.items():
                if key in metrics:
                    assert (float(text) if text else None) == metrics[key], (task, model, key)
                    seen += metrics[key] is not None
    assert seen > 40


def test_leaderboard_for_plots_is_long_and_equal_to_the_metrics(made: Path, scored: Path) -> None:
    rows = list(csv.DictReader((scored / "plots" / "leaderboard.csv").read_text().splitlines()))
    assert list(rows[0]) == ["task", "metric", "model", "role", "value", "lo", "hi"]
    assert {(r["task"], r["model"]) for r in rows} == set(RUNS)
    for row in rows:
        metrics = json.loads((scored / "metrics" / row["task"] / f"{row['model']}.json").read_text())
        assert (float(row["value"]) if row["value"] else None) == metrics[row["metric"]]
    fractions = pd.read_csv(scored / "plots" / "phase_fractions.csv")
    assert list(fractions.columns) == ["condition", "replicate", "time_h", "phase", "fraction"]
    totals = fractions.groupby(["condition", "replicate", "time_h"])["fraction"].sum()
    assert np.allclose(totals, 1, atol=1e-5)
    nuclei = HypedData.read(scored / "containers" / "full.hyped").table("nuclei").obs
    hour = nuclei[nuclei["time_h"] < 0.999]
    found = fractions.query("time_h == 0.5 and phase == 'S_G2M'")["fraction"].item()
    assert found == pytest.approx((hour["phase"].astype(str) == "S_G2M").mean(), abs=1e-6)
    wide = pd.read_csv(scored / "plots" / "s_g2m_fraction.csv")
    assert list(wide.columns) == ["time_h", "mmMYOD1"]
    assert wide.set_index("time_h").at[0.5, "mmMYOD1"] == pytest.approx(found, abs=1e-6)


def test_without_phases_there_are_no_tables_of_them(copied: Path) -> None:
    plots = copied / "plots"
    plots.mkdir()
    for name in ("phase_fractions.csv", "s_g2m_fraction.csv"):
        (plots / name).write_text("of an earlier run\n")
    made = build_report(copied / "out", inputs_of(copied), plots=plots)
    assert [path.name for path in made.plots] == ["leaderboard.csv"]
    assert [path.name for path in plots.iterdir()] == ["leaderboard.csv"]


def test_a_failed_model_is_shown_with_its_reason_and_escaped(made: Path, page: Page) -> None:
    row = next(r for r in table(made, "leaderboard_denoise") if r["model"] == "raises")
    assert row["status"] == "failed"
    assert row["psnr"] == ""
    assert "raises has no scores: failed." in page.words["leaderboards"]
    assert "out of luck <b>" in page.words["leaderboards"]
    assert "out of luck <b>" not in (made / "index.html").read_text()
    assert table(made, "leaderboard_denoise")[-1]["model"] == "raises"


def test_controls_are_marked_and_drawn_as_lines(made: Path) -> None:
    rows = {r["model"]: r["role"] for r in table(made, "leaderboard_denoise")}
    assert rows == {"gaussian": "control", "identity": "control", "raises": "model"}
    text = (made / "index.html").read_text()
    plot = text.split('data-plot="plot-leaderboard_denoise-1">')[1].split("</script>")[0]
    layout = json.loads(plot)["layout"]
    scores = {r["model"]: float(r["psnr"]) for r in table(made, "leaderboard_denoise") if r["psnr"]}
    assert sorted(s["x0"] for s in layout["shapes"] if s["line"]["dash"] == "solid") == sorted(scores.values())
    assert {n["text"]: n["x"] for n in layout["annotations"] if n["showarrow"]} == scores
    assert layout["yaxis"]["ticktext"] == ["raises"]
    assert [n["text"] for n in layout["annotations"] if not n["showarrow"]] == ["failed"]


def test_every_model_leads_to_its_record(page: Page) -> None:
    for task, model in RUNS:
        assert f"#record-{task}-{model}" in page.links
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids), "a link of the page leads nowhere"


def test_the_page_holds_the_bytes_of_every_table(made: Path) -> None:
    text = (made / "index.html").read_text()
    held = dict(re.findall(r'<script type="application/json" id="csv-([^"]+)">(.*?)</script>', text, re.DOTALL))
    files = {path.stem: path.read_text() for path in (made / "tables").glob("*.csv")}
    assert {name: json.loads(source) for name, source in held.items()} == files


def test_figures_are_there_as_svg_and_png(made: Path) -> None:
    names = {path.stem for path in (made / "figures").glob("*.svg")}
    assert names == {path.stem for path in (made / "figures").glob("*.png")}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (made / "figures").glob("*.png"))


def test_a_task_that_was_not_judged_says_how_to_judge_it(page: Page) -> None:
    assert "hyped bench judge records/tiny --task denoise" in page.words["leaderboards"]
    assert "Not judged: demultiplex" not in page.words["summary"]  # no model there, controls only
    assert "Not judged: denoise" in page.words["summary"]
    assert "raises on denoise: failed" in page.words["summary"]


def test_raw_means_come_with_what_doing_nothing_scores(page: Page, scored: Path) -> None:
    nothing = json.loads((scored / "metrics" / "expression" / "no_change.json").read_text())
    assert f"cosine of {nothing['cosine']:.4g}" in page.words["leaderboards"]
    assert "flatter every model" in page.words["leaderboards"]


def test_paper_tables_say_what_is_computed_and_what_is_not(made: Path, page: Page, scored: Path) -> None:
    units = pd.read_csv(scored / "records" / "expression" / "no_change" / "units.csv")
    rows = [r for r in table(made, "table_3") if r["model"] == "no_change"]
    assert sorted(float(r["MSE"]) for r in rows) == sorted(units["mse"])
    assert {r["perturbation"] for r in rows} <= {"-PRRX1", "+MYOD1", "-PRRX1+MYOD1"}
    words = page.words["paper_tables"]
    assert "not computed" in words
    assert "Geneformer" in words
    assert "48.13 dB" in words
    assert "printed" not in words
    assert [r["model"] for r in table(made, "table_4_clean")] == ["gaussian", "identity"]


def test_the_papers_numbers_stand_beside_ours_for_its_own_data(scored: Path, tmp_path: Path) -> None:
    build_report(tmp_path / "out", inputs_of(scored, "hyped"))
    printed = [r for r in table(tmp_path / "out", "table_3") if r["role"] == "paper"]
    assert len(printed) == 12
    assert table(tmp_path / "out", "table_4")[-1]["psnr_paper_convention (dB)"] == "86.480553"


def test_design_flags_and_reporters_are_said(page: Page) -> None:
    words = page.words["experiment"]
    for text in ("Confounded.", "Sorted.", "Pooled.", "mKate reports G1", "contradicts itself"):
        assert text in words


def test_figure_2_and_composition_are_drawn_from_the_container(made: Path, scored: Path) -> None:
    names = {p.stem for p in (made / "figures").glob("*.svg")}
    assert {"figure_2a_over_time", "figure_2a_harvest", "figure_2b", "figure_2c", "figure_2d", "composition"} <= names
    data = HypedData.read(scored / "containers" / "full.hyped")
    nuclei = data.table("nuclei").obs
    last = nuclei[np.isclose(nuclei["time_h"], 4.0)]
    row = table(made, "composition")[0]
    assert row["condition"] == "mmMYOD1"
    assert int(row["n_nuclei"]) == len(last)
    assert float(row["imaging"]) == pytest.approx((last["phase"].astype(str) == "S_G2M").mean(), abs=1e-6)
    cells = data.table("rna").obs
    own = cells[(cells["condition"].astype(str) == "mmMYOD1") & (cells["phase"].astype(str) != "")]
    assert float(row["sequencing"]) == pytest.approx((own["phase"].astype(str) == "S").mean(), abs=1e-6)


def test_hashtag_calls_add_up(made: Path, scored: Path) -> None:
    cells = HypedData.read(scored / "containers" / "full.hyped").table("rna").obs
    for row in table(made, "hashtags_called"):
        counts = [int(v) for k, v in row.items() if k not in ("pool", "all")]
        assert sum(counts) == int(row["all"]) == int((cells["pool"].astype(str) == row["pool"]).sum())


def test_what_is_absent_is_said(page: Page) -> None:
    assert "The task stitch is set in the parameters but was not scored." in page.words["leaderboards"]
    assert "The cells of screen have no t-SNE" in page.words["cells"]
    assert "No stitching was scored" in page.words["quality"]
    assert "No container of this dataset holds transcript counts." in page.words["containers"]


def test_every_record_has_its_provenance(page: Page) -> None:
    words = page.words["provenance"]
    for _, model in RUNS:
        assert f"{model} (" in words
    assert "sha256" in words


def test_equal_inputs_give_equal_bytes(made: Path, scored: Path, tmp_path: Path) -> None:
    build_report(tmp_path / "again", inputs_of(scored), plots=tmp_path / "plots")
    files = sorted(p.relative_to(made) for p in made.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    for path in files:
        assert (made / path).read_bytes() == (tmp_path / "again" / path).read_bytes(), path
    assert (scored / "plots" / "leaderboard.csv").read_bytes() == (tmp_path / "plots" / "leaderboard.csv").read_bytes()
    assert (made / "index.html").stat().st_size < 15_000_000


def test_without_containers_the_scores_are_still_shown(copied: Path) -> None:
    made = build_report(copied / "out", inputs_of(copied), plots=copied / "plots")
    assert made.sections == SECTIONS
    words = Page(made.page.read_text()).words
    assert "No container was found" in words["containers"]
    assert "no frames are shown" in words["movies"]
    assert [p.name for p in made.plots] == ["leaderboard.csv"]


@pytest.mark.parametrize(
    ("damage", "error", "named"),
    [
        (lambda f: (f / "metrics/denoise/identity.json").unlink(), MissingFileError, "identity.json"),
        (lambda f: (f / "metrics/denoise/identity.json").write_text("{"), CorruptFileError, "identity.json"),
        (
            lambda f: (f / "metrics/denoise/identity.json").write_text('{"psnr": "x"}'),
            CorruptFileError,
            "identity.json",
        ),
        (lambda f: (f / "records/denoise/identity/record.json").write_text("{]"), CorruptFileError, "record.json"),
        (lambda f: (f / "records/denoise/identity/record.json").write_text("{}"), CorruptFileError, "record.json"),
        (lambda f: (f / "records/denoise/identity/record.json").unlink(), MissingFileError, "record.json"),
        (lambda f: (f / "metrics/denoise/identity.json").write_text('{"psnr": 99}'), InvalidDataError, "record.json"),
        (lambda f: [shutil.rmtree(f / k) for k in ("metrics", "records")], MissingFileError, "metrics"),
    ],
)
def test_damaged_inputs_are_named_with_a_mend(copied: Path, damage: Any, error: type, named: str) -> None:
    damage(copied)
    with pytest.raises(error) as caught:
        inputs_of(copied)
    assert named in caught.value.where
    assert "hyped bench run" in caught.value.mend


def test_a_dataset_of_which_nothing_is_there_is_an_error(tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("metrics", "records", "containers")}
    with pytest.raises(MissingFileError, match="'nosuch'") as caught:
        read_inputs("nosuch", {}, **places)
    assert caught.value.exit_code == 3 and "--dataset" in str(caught.value)


def test_another_plugins_failing_section_harms_no_other(copied: Path, bench_host: Any) -> None:
    class Sections:
        @hookimpl
        def hyped_report_sections(self):
            yield ReportSectionSpec("broken", "Broken", "no_such_module_anywhere:section", order=5)
            yield ReportSectionSpec("own", "Own", "json:dumps", order=500)

    bench_host.register(Sections(), "stranger", "stranger", "1.0")
    made = build_report(copied / "out", inputs_of(copied), host=bench_host)
    assert made.sections == ("broken", *SECTIONS, "own")
    assert set(made.failed) == {"broken", "own"}
    words = Page(made.page.read_text()).words
    assert "This section failed. stranger:" in words["broken"]
    assert "gaussian" in words["leaderboards"]


def test_command_writes_the_report_and_says_where(copied: Path) -> None:
    options = ["--dataset", "tiny", "--metrics", copied / "metrics", "--records", copied / "records", "--json"]
    outcome = CliRunner().invoke(report_command, list(map(str, [copied / "out", *options])), catch_exceptions=False)
    assert outcome.exit_code == 0
    found = json.loads(outcome.stdout)
    assert Path(found["page"]).is_file()
    assert found["failed"] == {}
    with pytest.raises(MissingFileError, match="no such folder"):
        CliRunner().invoke(
            report_command,
            [str(copied / "out"), "--dataset", "tiny", "--metrics", "nowhere"],
            catch_exceptions=False,
        )


def test_a_broken_container_leaves_the_old_report_as_it_was(scored: Path, tmp_path: Path) -> None:
    shutil.copytree(scored / "containers" / "screen.hyped", tmp_path / "containers" / "screen.hyped")
    for kind in ("metrics", "records"):
        shutil.copytree(scored / kind, tmp_path / kind)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("old")
    shutil.rmtree(tmp_path / "containers" / "screen.hyped" / "spatial.zarr")
    with pytest.raises(MissingFileError):
        build_report(tmp_path / "out", inputs_of(tmp_path))
    assert (tmp_path / "out" / "index.html").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["containers", "metrics", "out", "records"]
