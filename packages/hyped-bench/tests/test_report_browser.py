"""The report in a real browser, opened from disk without a network: what a reader sees, clicks, types and hears.

Needs the Python package ``playwright`` and a system Chromium (``apt-get install chromium``).
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hyped_bench.demo import run_demo
from hyped_bench.report.build import Report, build_report
from hyped_bench.report.inputs import read_inputs
from hyped_core.params import read_section

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHECKS = (Path(__file__).parent / "data" / "report_checks.js").read_text(encoding="utf-8")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SCREENSHOTS = os.environ.get("HYPED_REPORT_SCREENSHOTS")
"""A folder that keeps pictures of the pages, to be looked at."""


@dataclass
class Opened:
    """A page of the report, and everything it complained about or asked for."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def js(self, code: str, argument: Any = None) -> Any:
        """The value of a JavaScript expression."""
        return self.page.evaluate(code, argument)

    def text(self, selector: str) -> str:
        """The words of an element."""
        return self.page.locator(selector).inner_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium of the system."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if BROWSER is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


def mini_is_made() -> bool:
    """True where the repository holds the outputs of its simulated dataset."""
    return all((ROOT / place).is_dir() for place in ("data/mini/containers", "metrics/mini", "records/mini"))


@pytest.fixture(scope="module", params=["demo", "mini"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of the demonstration, and that of the simulated dataset where it was made."""
    folder = tmp_path_factory.mktemp("report")
    if request.param == "demo":
        run_demo(folder / "demo")
        places = {"metrics": folder / "demo/metrics", "records": folder / "demo/records", "containers": folder / "demo"}
        settings: dict[str, Any] = {"description": "The demonstration"}
    elif not mini_is_made():
        pytest.skip("the dataset mini was not made here: make repro")
    else:
        places = {"metrics": ROOT / "metrics/mini", "records": ROOT / "records/mini"}
        places["containers"] = ROOT / "data/mini/containers"
        settings = read_section(f"{ROOT / 'params.yaml'}#datasets.mini")
    return build_report(folder / "report", read_inputs(request.param, settings, **places))


@pytest.fixture
def opened(browser: Any, report: Report) -> Iterator[Opened]:
    """The report on a desktop, in the light."""
    with visit(browser, report) as found:
        yield found


class visit:
    """Opens the report from disk; nothing else may be fetched."""

    def __init__(self, browser: Any, report: Report, size: dict[str, int] = DESKTOP, scheme: str = "light") -> None:
        self._context = browser.new_context(viewport=size, color_scheme=scheme, accept_downloads=True, offline=True)
        self._url = report.page.resolve().as_uri()

    def __enter__(self) -> Opened:
        page = self._context.new_page()
        found = Opened(page)
        page.set_default_timeout(60_000)
        page.on("console", lambda m: found.errors.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        page.on("request", lambda request: found.requests.append(request.url))
        page.goto(self._url)
        page.wait_for_selector("html[data-ready]", state="attached")
        page.evaluate(CHECKS)
        return found

    def __exit__(self, *_: object) -> None:
        self._context.close()


def open_all(opened: Opened) -> None:
    """Open everything that is folded."""
    opened.js("document.querySelectorAll('details').forEach(d => { d.open = true; })")


def player(opened: Opened) -> Any:
    """The movie player, scrolled to and ready."""
    opened.page.locator("#movie").scroll_into_view_if_needed()
    opened.page.wait_for_selector("#movie[data-ready]")
    return opened.page.locator("#movie")


def pixels(opened: Opened) -> list[int]:
    """A coarse copy of the canvas: 64 x 64 pixels of three colours."""
    return opened.js(
        """() => {
          const copy = document.createElement("canvas"); copy.width = copy.height = 64;
          const pen = copy.getContext("2d");
          pen.drawImage(document.getElementById("movie-canvas"), 0, 0, 64, 64);
          return [...pen.getImageData(0, 0, 64, 64).data].filter((_, k) => k % 4 < 3);
        }"""
    )


def drawn_after(opened: Opened, act: Any) -> list[int]:
    """The canvas after an action that draws it again."""
    before = int(opened.page.get_attribute("#movie-canvas", "data-drawn") or 0)
    act()
    opened.page.wait_for_function("n => Number(document.getElementById('movie-canvas').dataset.drawn) > n", arg=before)
    return pixels(opened)


def differ(one: list[int], other: list[int]) -> float:
    """Share of values that changed visibly."""
    return sum(abs(a - b) > 8 for a, b in zip(one, other, strict=True)) / len(one)


def keep(opened: Opened, report: Report, name: str) -> None:
    """A picture of the whole page, where a folder for them is named."""
    if SCREENSHOTS:
        step = opened.page.viewport_size["height"] - 100
        for top in range(0, opened.js("document.documentElement.scrollHeight"), step):
            opened.js("top => scrollTo(0, top)", top)
        opened.js("scrollTo(0, 0)")
        opened.page.wait_for_timeout(500)
        folder = Path(SCREENSHOTS)
        folder.mkdir(parents=True, exist_ok=True)
        opened.page.screenshot(path=folder / f"{report.page.parts[-3]}-{name}.png", full_page=True)


# ------------------------------------------------------------------ the page as a whole
@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")])
def test_the_page_opens_whole_and_without_complaint(
    browser: Any, report: Report, size: dict[str, int], scheme: str
) -> None:
    with visit(browser, report, size, scheme) as opened:
        keep(opened, report, f"{size['width']}-{scheme}")
        open_all(opened)
        sections = opened.js(
            """[...document.querySelectorAll('main section')].map(s => [s.id, s.getBoundingClientRect().height,
                 s.textContent.replace(s.querySelector('h2').textContent, '').trim().length])"""
        )
        assert [name for name, _, _ in sections if name in report.sections] == list(report.sections)
        assert [name for name, height, words in sections if height < 40 or words < 20] == []
        fits = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        opened.page.wait_for_timeout(1000)
        assert opened.js(fits), ("the page scrolls sideways", opened.js("checks.outside('main')"))
        assert all(url.startswith(("file:", "data:", "blob:")) for url in opened.requests)
        assert opened.errors == []


def test_every_plot_is_drawn(opened: Opened) -> None:
    open_all(opened)
    plots = opened.page.locator(".plot").all()
    assert plots
    for plot in plots:
        plot.scroll_into_view_if_needed()
        plot.locator("svg.main-svg").first.wait_for(state="attached")
        assert plot.evaluate("p => p.querySelectorAll('svg path, svg rect, svg image, canvas').length") > 2
        assert plot.bounding_box()["height"] > 100
    assert opened.errors == []


def test_the_verdicts_fit_the_page(opened: Opened) -> None:
    """The last column of the table that is read first is not cut off on a desktop."""
    wide = "t => { const box = t.closest('.scroll'); return box.scrollWidth - box.clientWidth; }"
    tables = opened.page.locator("#table-verdicts")
    assert [tables.nth(i).evaluate(wide) for i in range(tables.count())] in ([], [0])


def test_links_of_the_page_lead_somewhere(opened: Opened, report: Report) -> None:
    lost = opened.js(
        """[...document.querySelectorAll('a[href^="#"]')].map(a => a.getAttribute('href').slice(1))
             .filter(id => id && !document.getElementById(id))"""
    )
    assert lost == []
    files = opened.js("[...document.querySelectorAll('a[href]:not([href^=\"#\"])')].map(a => a.getAttribute('href'))")
    files = [f for f in files if not f.startswith(("data:", "blob:"))]
    assert files
    for file in files:
        assert (report.page.parent / file).is_file(), file


def test_a_table_is_downloaded_as_it_stands(opened: Opened, report: Report) -> None:
    links = opened.page.locator('figure.table a[href$=".csv"]')
    assert links.count() > 2
    for figure in opened.page.locator('figure.table:has(a[href$=".csv"])').all():
        link = figure.locator('a[href$=".csv"]').first
        path = report.page.parent / str(link.get_attribute("href"))
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        shown = figure.evaluate(
            "f => [...f.querySelectorAll('tbody tr')].map(r => r.querySelector('th,td').textContent.trim())"
        )
        assert len(rows) - 1 == len(shown), path.name
        assert link.get_attribute("download") is not None
    link = next(one for one in links.all() if one.is_visible())
    with opened.page.expect_download() as waiting:
        link.click()
    target = report.page.parent / str(link.get_attribute("href"))
    assert Path(waiting.value.path()).read_bytes() == target.read_bytes()


def test_a_records_provenance_is_one_click_away(opened: Opened) -> None:
    records = opened.page.locator("#provenance details")
    assert records.count() > 0
    first = records.first
    assert not first.locator(":scope > :not(summary)").first.is_visible()
    first.locator("summary").first.click()
    body = first.locator(":scope > :not(summary)").first
    assert body.is_visible()
    words = first.inner_text()
    assert "seed" in words or "version" in words or "sha256" in words
    link = opened.page.locator('main a[href^="#record-"], main a[href^="#provenance-"]')
    if link.count():  # names in a leaderboard lead to their record, opened
        link.first.click()
        target = str(link.first.get_attribute("href"))[1:]
        opened.page.wait_for_function("id => document.getElementById(id).getBoundingClientRect().top < 900", arg=target)


# ------------------------------------------------------------------ the movie player
def test_the_scrubber_moves_through_time(opened: Opened) -> None:
    panel = player(opened)
    slider = panel.locator("#movie-slider")
    first, hour, says = pixels(opened), opened.text("#movie-hour"), opened.text("#movie-says")
    assert sum(v > 60 for v in first) > 50, "the first frame is black"
    last = int(slider.get_attribute("max"))
    assert last > 2
    moved = drawn_after(opened, lambda: slider.fill(str(last)))
    assert differ(first, moved) > 0.01
    assert opened.text("#movie-hour") != hour
    assert opened.text("#movie-says") != says
    assert slider.get_attribute("aria-valuetext") == opened.text("#movie-hour")
    payload = json.loads(opened.js("document.querySelector('script[data-movie]').textContent"))
    assert opened.text("#movie-hour") == payload["times"][-1]
    back = drawn_after(opened, lambda: slider.fill("0"))
    assert differ(first, back) == 0


def test_the_player_works_by_keyboard_alone(opened: Opened) -> None:
    panel = player(opened)
    slider = panel.locator("#movie-slider")
    slider.focus()
    times = [opened.text("#movie-hour")]
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "Home"):
        drawn_after(opened, lambda key=key: opened.page.keyboard.press(key))
        times.append(opened.text("#movie-hour"))
    assert len(set(times[:3])) == 3
    assert times[3] == times[1]
    assert times[4] not in times[:4]
    assert times[5] == times[0]
    drawn_after(opened, lambda: opened.page.keyboard.press("Space"))
    assert opened.text("#movie-play") == "Pause"
    opened.page.keyboard.press("Space")
    assert opened.text("#movie-play") == "Play"


def test_play_runs_and_pause_stops(opened: Opened) -> None:
    panel = player(opened)
    play = panel.locator("#movie-play")
    assert opened.page.get_attribute("#movie-says", "aria-live") == "polite"
    play.click()
    opened.page.wait_for_function("Number(document.getElementById('movie-slider').value) >= 3")
    assert play.get_attribute("aria-pressed") == "true"
    assert opened.page.get_attribute("#movie-says", "aria-live") == "off", "a voice would follow every frame"
    play.click()
    assert play.get_attribute("aria-pressed") == "false"
    stopped = opened.js("document.getElementById('movie-slider').value")
    opened.page.wait_for_timeout(600)
    assert opened.js("document.getElementById('movie-slider').value") == stopped
    assert opened.page.get_attribute("#movie-says", "aria-live") == "polite"


def test_every_switch_changes_the_picture_and_back(opened: Opened) -> None:
    panel = player(opened)
    drawn_after(opened, lambda: panel.locator("#movie-slider").fill("4"))
    before = pixels(opened)
    boxes = panel.locator('.movie-switches input[type="checkbox"]').all()
    assert len(boxes) >= 4
    for box in boxes:
        name = box.evaluate("b => b.closest('label').textContent")
        if box.is_disabled():
            assert box.evaluate("b => b.closest('label').querySelector('.movie-why').textContent"), name
            continue
        changed = drawn_after(opened, lambda box=box: box.set_checked(not box.is_checked()))
        assert differ(before, changed) > 0.002, name
        again = drawn_after(opened, lambda box=box: box.set_checked(not box.is_checked()))
        assert differ(before, again) == 0, name


def test_channels_add_up_in_their_colours(opened: Opened) -> None:
    panel = player(opened)
    for box in panel.locator('.movie-switches input[type="checkbox"]:not(:disabled)').all():
        box.set_checked(False)
    dark = pixels(opened)
    drawn_after(opened, lambda: panel.locator("#movie-slider").fill("1"))
    dark = pixels(opened)
    limit = 64 * 64 * 3
    assert sum(v > 30 for v in dark) < 0.06 * limit, "with every channel off only the scale bar is left"
    box = panel.locator("input[data-channel]").first
    alone = drawn_after(opened, lambda: box.set_checked(True))
    colour = str(box.get_attribute("data-colour"))
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    sums = [sum(a - d for a, d in zip(alone[c::3], dark[c::3], strict=True)) for c in range(3)]
    assert sums.index(max(sums)) == wanted.index(max(wanted))
    assert sum(sums) > 0


def test_conditions_are_chosen_and_keep_the_hour(opened: Opened) -> None:
    panel = player(opened)
    radios = panel.locator("input[name=movie-condition]").all()
    if len(radios) < 2:
        pytest.skip("one condition only")
    drawn_after(opened, lambda: panel.locator("#movie-slider").fill("6"))
    hour, before = opened.text("#movie-hour"), pixels(opened)
    radios[0].focus()
    other = drawn_after(opened, lambda: opened.page.keyboard.press("ArrowRight"))
    assert radios[1].is_checked()
    assert differ(before, other) > 0.01
    assert abs(float(hour.split()[0]) - float(opened.text("#movie-hour").split()[0])) < 1
    labels = {str(opened.page.get_attribute("#movie-canvas", "aria-label"))}
    for radio in radios[2:]:
        drawn_after(opened, lambda radio=radio: radio.check())
        labels.add(str(opened.page.get_attribute("#movie-canvas", "aria-label")))
    assert len(labels) == len(radios) - 1


# ------------------------------------------------------------------ for everyone
def test_tab_reaches_every_control_in_order_and_shows_where_it_is(opened: Opened) -> None:
    opened.js("document.documentElement.style.scrollBehavior = 'auto'")
    player(opened)
    opened.js("window.scrollTo(0, 0)")
    expected = opened.js("checks.tabStops()")
    assert len(expected) > 20
    found = []
    for _ in range(len(expected) + 5):
        opened.page.keyboard.press("Tab")
        place = opened.js("checks.focused()")
        if place is None:
            break
        order, ring, in_view, html = place
        if order is None:
            continue  # a scrolling area that the browser itself makes focusable
        assert ring, f"focus is not seen on {html}"
        assert in_view, f"focus is off the screen on {html}"
        found.append(order)
    assert found == sorted(found)
    missing = [expected[k] for k in sorted(set(range(len(expected))) - set(found))]
    assert not missing, missing[:5]


def test_what_a_screen_reader_needs_is_there(opened: Opened) -> None:
    player(opened)
    assert opened.js("checks.problems()") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(browser: Any, report: Report, scheme: str) -> None:
    with visit(browser, report, DESKTOP, scheme) as opened:
        player(opened)
        open_all(opened)
        assert opened.js("checks.faint()") == []
        plots = opened.js(
            """() => [...document.querySelectorAll('.plot svg text')].slice(0, 400)
                 .map(t => getComputedStyle(t).fill).filter((v, k, all) => all.indexOf(v) === k)"""
        )
        ink = opened.js("getComputedStyle(document.body).color")
        assert not plots or ink in plots, "the plots' text has not the page's colour"


def test_the_button_turns_the_page_dark_and_back(opened: Opened) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = opened.js(ground)
    opened.page.click("#theme")
    assert opened.js(ground) != light
    assert opened.js("checks.faint()") == []
    opened.page.click("#theme")
    assert opened.js(ground) == light


def test_the_movie_fits_a_phone(browser: Any, report: Report) -> None:
    with visit(browser, report, PHONE, "dark") as opened:
        player(opened)
        assert opened.js("checks.outside('#movie')") == []
        for control in opened.page.locator("#movie button:visible, #movie-slider").all():
            assert control.bounding_box()["height"] >= 28
        assert opened.page.locator("#movie-slider").bounding_box()["width"] > 150


def test_a_phone_still_shows_time_and_picture_together(browser: Any, report: Report) -> None:
    with visit(browser, report, PHONE) as opened:
        player(opened)
        heights = opened.js(
            """['movie-canvas', 'movie-slider', 'movie-says'].map(id => {
                 const box = document.getElementById(id).getBoundingClientRect(); return [box.top, box.bottom]; })"""
        )
        assert heights[-1][1] - heights[0][0] < PHONE["height"]
