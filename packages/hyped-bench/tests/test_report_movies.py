"""The movie player of the report: what it shows, what it costs, what it says where something is absent."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.draw import ellipse, polygon2mask

from hyped_bench.report import movie_data as data
from hyped_bench.report import movie_frames as frames
from hyped_bench.report import movie_sheets as sheets_of
from hyped_bench.report.context import ReportContext
from hyped_bench.report.inputs import ReportInputs, find_containers
from hyped_bench.report.movie_outlines import UNIT, nuclei_of_frame, polygons
from hyped_bench.report.sections import movies
from hyped_bench.report.sections.movies import section
from hyped_core.container import HypedData, assemble, write_movie
from hyped_core.container.movies import LabelsWriter
from hyped_core.design import default_design
from hyped_core.errors import MissingDependencyError

CHANNELS = ("Cy5", "mKate", "TagGFP", "Oblique")
EDGE = 48


class Simulated:
    """Bright discs that move right by a pixel a frame, noise around them."""

    def __init__(self, count: int = 60, edge: int = 160, channels: tuple[str, ...] = CHANNELS) -> None:
        self.shape, self.channels, self.pixel_size_um = (edge, edge), channels, 1.0
        self.n_frames, self.there = count, list(range(count))
        self.time_h: Any = 20 + np.arange(count) / 3
        self.segmented = True
        self.most_read = 0

    def labels(self, index: int, y: slice, x: slice) -> np.ndarray:
        mask = np.zeros(self.shape, np.int32)
        for k, start in enumerate(range(20, self.shape[0] - 20, 30), start=1):
            rows, columns = ellipse(start, (20 + index) % self.shape[1], 8, 6, shape=self.shape)
            mask[rows, columns] = k
        return mask[y, x]

    def pixels(self, index: int, y: slice, x: slice) -> np.ndarray:
        self.most_read = max(self.most_read, (y.stop - y.start) * (x.stop - x.start))
        signal = 1000.0 * (self.labels(index, y, x) > 0)
        noise = np.random.default_rng(index).normal(300, 60, (len(self.channels), *signal.shape))
        return (signal + noise).astype(np.uint16)


def made(source: Any, nuclei: pd.DataFrame | None = None, budget: int = data.BUDGET) -> data.MovieData:
    found = data.movie_data(source, nuclei, default_design(), {"condition": "a", "scene": "S0"}, budget)
    assert found is not None
    return found


def corners(nucleus: list[int]) -> np.ndarray:
    """(x, y) of an outline in shown pixels."""
    return np.cumsum(np.array(nucleus[4:]).reshape(-1, 2), axis=0) / UNIT


# ------------------------------------------------------------------ outlines
@settings(deadline=None, max_examples=25)
@given(
    st.floats(4, 14), st.floats(4, 14), st.floats(0, 3.1), st.floats(18, 30), st.floats(18, 30), st.integers(1, 2000)
)
def test_an_outline_covers_its_label(a: float, b: float, angle: float, y: float, x: float, label: int) -> None:
    mask = np.zeros((EDGE, EDGE), np.int32)
    mask[ellipse(y, x, a, b, shape=mask.shape, rotation=angle)] = label
    (found,) = polygons(mask).items()
    assert found[0] == label
    drawn = polygon2mask(mask.shape, found[1][:, ::-1] / UNIT - 0.5)
    own = mask == label
    assert (drawn & own).sum() / (drawn | own).sum() > 0.8


def test_outlines_of_touching_and_cut_nuclei_are_their_own() -> None:
    mask = np.zeros((EDGE, EDGE), np.int32)
    mask[10:24, 0:9] = 7
    mask[10:24, 9:20] = 3
    mask[40:48, 30:44] = 90
    mask[2, 2] = 5
    found = polygons(mask)
    assert sorted(found) == [3, 5, 7, 90]
    for label in (3, 7, 90):
        drawn, own = polygon2mask(mask.shape, found[label][:, ::-1] / UNIT - 0.5), mask == label
        assert (drawn & own).sum() / (drawn | own).sum() > 0.8, label
    assert polygons(np.zeros((5, 5), np.int32)) == {}


def test_rows_of_the_table_meet_their_outlines() -> None:
    view = frames.View(slice(100, 148), slice(200, 248), 1)
    mask = np.zeros((EDGE, EDGE), np.int32)
    mask[ellipse(20, 30, 7, 5)] = 4
    mask[ellipse(40, 10, 5, 5)] = 9
    rows = pd.DataFrame(
        {"label": [4, 77], "track_id": [12, 13], "phase": ["S_G2M", "G1"], "y_um": [60.0, 60.0], "x_um": [115.0, 116.0]}
    )
    found = nuclei_of_frame(mask, rows, view, 0.5, ["G1", "S_G2M"])
    assert [n[:2] for n in found] == [[12, 1], [0, -1]]
    for nucleus in found:
        assert np.array(nucleus[2:4]) / UNIT == pytest.approx(corners(nucleus).mean(axis=0), abs=1.0)
    unsegmented = nuclei_of_frame(None, rows, view, 0.5, ["G1"])
    assert [len(n) for n in unsegmented] == [4, 4]
    far = rows.assign(y_um=10.0)
    assert nuclei_of_frame(None, far, view, 0.5, ["G1"]) == []


# ------------------------------------------------------------------ budget
def test_the_text_stays_within_its_budget_and_gives_up_frames_before_size() -> None:
    texts = {budget: made(Simulated(60, 100), budget=budget) for budget in (2_000_000, 80_000, 40_000)}
    for budget, found in texts.items():
        assert len(json.dumps(found.payload["nuclei"])) < len(found.text)
        assert len(found.text) < budget * 1.02 + 1_000
    shown = {budget: len(found.payload["frames"]) for budget, found in texts.items()}
    sizes = {budget: found.payload["width"] for budget, found in texts.items()}
    assert shown[2_000_000] == 60 and sizes[2_000_000] == 100
    assert sizes[40_000] <= sizes[2_000_000]
    assert 1 <= shown[40_000] < 60
    assert "all 60 frames" in texts[2_000_000].facts


@settings(deadline=None)
@given(st.integers(1, 500), st.floats(10, 50_000), st.integers(10_000, 3_000_000), st.booleans())
def test_what_is_affordable_fits(count: int, cost: float, budget: int, at_any_price: bool) -> None:
    costs = {60: cost, 30: cost / 2}
    found = list(data.affordable(count, costs, budget, at_any_price=at_any_price))
    fitting = [(s, q) for s, q in found if len(data.chosen_frames(range(count), s)) * costs[q] <= budget]
    assert len(found) - len(fitting) <= (1 if at_any_price else 0)
    if at_any_price:
        assert found
    if count * cost <= budget:
        assert found[0] == (1, 60)
    assert [s for s, _ in fitting] == sorted(s for s, _ in fitting)


def test_a_large_frame_is_cut_to_its_centre_and_averaged() -> None:
    source = Simulated(2, 1400)
    source.pixel_size_um = 0.65
    found = made(source)
    assert source.most_read <= (data.EDGE * 2) ** 2
    assert found.payload["width"] == found.payload["height"] == data.EDGE
    assert found.payload["pixel_um"] == 1.3
    assert "centre of the frame (416 x 416 µm of 910 x 910 µm)" in found.facts
    assert "2 x 2 pixels averaged" in found.facts
    assert "in view" in found.payload["says"][0]


@given(st.integers(1, 4000), st.integers(1, 4000), st.floats(0, 20), st.integers(96, 320))
def test_a_view_lies_inside_its_frame(height: int, width: int, pixel: float, edge: int) -> None:
    view = frames.choose_view((height, width), pixel, edge)
    for part, size, shown in zip((view.y, view.x), (height, width), view.size, strict=True):
        assert 0 <= part.start < part.stop <= size
        assert (part.stop - part.start) == shown * view.factor
        assert 1 <= shown <= edge
    if view.whole((height, width)):
        assert max(height, width) < (edge + 1) * view.factor


@pytest.mark.parametrize("pixel", [None, 0.0, -1.0, 2.2e-309, 1e-9, 1e9, float("inf"), float("nan")])
def test_an_absurd_pixel_size_is_one_that_is_not_known(pixel: float | None) -> None:
    assert frames.known_pixel_size(pixel) == 0.0
    assert frames.choose_view((900, 700), pixel or 0.0, 320) == frames.choose_view((900, 700), 0.0, 320)
    assert frames.known_pixel_size(0.65) == 0.65


# ------------------------------------------------------------------ pictures
def test_frames_lie_where_the_script_looks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets_of, "SHEET_PIXELS", 90_000)
    layers = frames.layers(CHANNELS, default_design())
    tiles = np.zeros((30, 4, 50, 61), np.uint8)
    for k in range(30):
        tiles[k] = 7 * k + 20
    columns, rows = sheets_of.sheet_layout(50, 61)
    assert columns * rows < 30
    sheets = sheets_of.encode(tiles, layers, 60)
    for channel, layer in enumerate(layers):
        shrink = sheets_of.BRIGHTFIELD_SHRINK if layer.brightfield else 1
        height, width = 50 // shrink, 61 // shrink
        opened = [Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) for uri in sheets[channel]]
        assert max(o.size[0] * o.size[1] for o in opened) <= sheets_of.SHEET_PIXELS
        for k in range(30):
            number, within = divmod(k, columns * rows)
            y, x = within // columns * height, within % columns * width
            tile = np.asarray(opened[number].convert("L"))[y : y + height, x : x + width]
            assert tile.shape == (height, width)
            assert abs(float(np.median(tile)) - (7 * k + 20)) < 4


def test_contrast_is_one_for_the_movie_and_leaves_out_what_no_tile_covers() -> None:
    layers = frames.layers(("Cy5",), default_design())
    first, last = np.full((1, 50, 50), 100.0), np.full((1, 50, 50), 100.0)
    last[0, :10, :10] = 1100.0
    first[0, 20:40] = 0.0
    limits = frames.contrast([first, last], layers)
    assert limits.tolist() == [[100.0, 1100.0]]
    assert frames.to_bytes(last, limits)[0, 5, 5] == 255
    assert frames.to_bytes(first, limits).max() == 0
    constant = frames.contrast([np.zeros((1, 4, 4))], layers)
    assert frames.to_bytes(np.full((1, 4, 4), np.nan), constant).max() == 0


def test_every_channel_has_a_colour_and_something_is_on() -> None:
    design = default_design()
    for names in (CHANNELS, ("Oblique",), ("other",), ("a", "b", "c"), ("Oblique", "x"), ("SiR-DNA",)):
        found = frames.layers(names, design)
        assert [layer.name for layer in found] == list(names)
        assert any(layer.on for layer in found), names
        assert len({layer.colour for layer in found}) == len(found)
    by_name = {layer.name: layer for layer in frames.layers(CHANNELS, design)}
    assert not by_name["Oblique"].on
    assert by_name["mKate"].what == "reports G1"


# ------------------------------------------------------------------ words
def test_times_are_those_of_acquisition_with_their_gaps() -> None:
    source = Simulated(8)
    source.time_h = np.array([20.0, 20.33, 20.67, 21.0, 22.4, 22.7, 23.1, 52.0])
    source.there = [0, 1, 2, 4, 5, 7]
    found = made(source)
    assert found.payload["times"] == ["20.0 h", "20.3 h", "20.7 h", "22.4 h", "22.7 h", "52.0 h"]
    assert found.payload["hours"] == [20.0, 20.33, 20.67, 22.4, 22.7, 52.0]
    assert found.payload["says"][3].startswith("22.4 h, frame 4 of 6 shown: 4 nuclei")
    assert "the 6 of 8 frames that are there" in found.facts
    assert ["harvest", 48.0, 5] in found.payload["events"]
    source.time_h = None
    assert made(source).payload["times"][-1] == "frame 7"


def test_counts_in_words_and_in_the_table_are_those_of_the_nuclei_table() -> None:
    source = Simulated(5)
    rows = [
        {"frame": f, "label": k, "track_id": k, "parent_id": 0, "y_um": 20.0 + 30 * (k - 1), "x_um": 20.0 + f,
         "phase": ("G1", "G1", "S_G2M", "")[k - 1]}
        for f in range(5) for k in range(1, 5)
    ]  # fmt: skip
    found = made(source, pd.DataFrame(rows))
    assert found.payload["says"][2].endswith("4 nuclei, 2 in G1, 1 in S/G2/M, 1 without a phase.")
    assert found.rows[2] == [2, float(source.time_h[2]), 4, {"G1": 2, "S_G2M": 1}]
    assert found.outlines_reason == found.tracks_reason == ""
    assert [name for name, _ in found.payload["phases"]] == ["G1", "S/G2/M"]


def test_what_is_absent_has_a_reason() -> None:
    source = Simulated(3)
    found = made(source)
    assert (found.outlines_reason, found.tracks_reason) == ("", "no nuclei table")
    source.segmented = False
    source.labels = lambda index, y, x: None  # type: ignore[method-assign]
    source.pixels = lambda index, y, x: np.ones((4, 160, 160), np.uint16)  # type: ignore[method-assign]
    found = made(source)
    assert found.outlines_reason == "not segmented"
    assert "nuclei were not segmented" in found.payload["says"][0]
    source.there = []
    assert data.movie_data(source, None, default_design(), {}) is None


# ------------------------------------------------------------------ the section
def container(folder: Path, *, labels: bool = True, nuclei: bool = True, scenes: int = 2, count: int = 4) -> HypedData:
    """A container of two conditions of the design, with or without its parts."""
    design, source, path = default_design(), Simulated(count, 64, CHANNELS[:3]), folder / "small.hyped"
    whole = slice(0, 64)
    names = []
    for condition in list(dict.fromkeys(s.condition for s in design.scenes))[:scenes]:
        names.append(next(s.name for s in design.scenes if s.condition == condition))
    rows = []
    for name in names:
        write_movie(
            path / "movies" / f"{name}.zarr",
            np.stack([source.pixels(k, whole, whole) for k in range(count)]),
            channels=CHANNELS[:3],
            pixel_size_um=1.0,
            time_h=source.time_h,
        )
        rows += [
            {"scene": name, "frame": f, "time_h": source.time_h[f], "label": 1, "track_id": 1, "parent_id": 0,
             "y_um": 20.0, "x_um": 20.0 + f, "phase": "G1"} for f in range(count)
        ]  # fmt: skip
        if labels:
            with LabelsWriter(
                path / "labels" / f"{name}.zarr",
                shape=(count, 64, 64),
                pixel_size_um=1.0,
                time_h=source.time_h,
                source=f"../../movies/{name}.zarr",
            ) as writer:
                for k in range(count):
                    writer.write_frame(k, source.labels(k, whole, whole))
    parts = {}
    if nuclei:
        pd.DataFrame(rows).to_parquet(folder / "nuclei.parquet")
        parts["nuclei"] = [folder / "nuclei.parquet"]
    assemble(path, design=design, name="small", **parts)
    return HypedData.read(path)


def shown(folder: Path) -> tuple[ReportContext, str, list[dict[str, Any]]]:
    """The section of the containers in a folder: context, HTML, payloads."""
    context = ReportContext(ReportInputs("tiny", {}, [], find_containers(folder)))
    html = section(context)
    pieces = html.split('<script type="application/json" data-movie="')[1:]
    return context, html, [json.loads(p.split(">", 1)[1].split("</script>")[0]) for p in pieces]


def test_the_player_holds_one_scene_of_each_condition(tmp_path: Path) -> None:
    hd = container(tmp_path)
    context, html, payloads = shown(tmp_path)
    assert [p["scene"] for p in payloads] == list(hd.movies)
    assert len({p["condition"] for p in payloads}) == 2
    for payload in payloads:
        assert len(payload["frames"]) == len(payload["nuclei"]) == len(payload["says"]) == 4
        assert {c["name"] for c in payload["channels"]} == set(CHANNELS[:3])
        assert not payload["outlines"] and not payload["tracks"]
    table = context.placed.tables["movie_frames"]
    assert len(table.rows) == 8
    assert html.count('type="radio"') == 2
    assert "Oblique" not in html
    assert section(ReportContext(context.inputs)) == html


@pytest.mark.parametrize(("labels", "nuclei"), [(False, True), (True, False), (False, False)])
def test_without_labels_or_nuclei_the_movie_is_still_shown(tmp_path: Path, labels: bool, nuclei: bool) -> None:
    container(tmp_path, labels=labels, nuclei=nuclei, scenes=1)
    _, _, (payload,) = shown(tmp_path)
    assert payload["outlines"] == ("" if labels else "not segmented")
    assert payload["tracks"] == ("" if nuclei else "no nuclei table")
    assert len(payload["channels"][0]["sheets"]) == 1


def test_lost_frames_are_left_out_and_said(tmp_path: Path) -> None:
    hd = container(tmp_path, scenes=1)
    (scene,) = hd.movies
    shard = next((hd.movies.path(scene) / "0" / "c" / "2").rglob("*"))
    while shard.is_dir():
        shard = next(shard.iterdir())
    shard.unlink()
    _, _, (payload,) = shown(tmp_path)
    assert payload["frames"] == [0, 1, 3]
    assert "the 3 of 4 frames that are there" in payload["facts"]


def test_key_frames_stand_in_where_there_is_no_movie(tmp_path: Path) -> None:
    hd = container(tmp_path, scenes=1)
    (scene,) = hd.movies
    times = {scene: dict(enumerate(hd.movies[scene].time_h.tolist()))}
    found = frames.key_frame_sources(hd, times)
    source = found[scene]
    assert source.there == [0, 3]
    whole = slice(0, 64)
    for index in source.there:
        assert np.array_equal(source.pixels(index, whole, whole), hd.movies[scene].frame(index))
        assert np.array_equal(source.labels(index, whole, whole), hd.labels[scene].frame(index))
    assert source.pixel_size_um == 1.0
    payload = made(source, hd.table("nuclei").obs).payload
    assert payload["times"] == ["20.00 h", "21.00 h"]
    assert len(payload["nuclei"][0][0]) > 4


def test_a_container_of_key_frames_alone_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hd = container(tmp_path, scenes=1)
    (scene,) = hd.movies
    monkeypatch.setattr(HypedData, "read", classmethod(lambda cls, path: hd))
    hd.movies, hd.labels = hd.movies.only(set()), hd.labels.only(set())
    _, html, (payload,) = shown(tmp_path)
    assert payload["scene"] == scene
    assert payload["frames"] == [0, 3]
    assert "the 2 of 4 frames that are there" in payload["facts"]
    assert "<img" not in html

    def absent(*_: Any) -> None:
        raise MissingDependencyError("a frame needs spatialdata", mend="pip install it")

    monkeypatch.setattr(movies, "key_frame_sources", absent)
    _, html, payloads = shown(tmp_path)
    assert payloads == []
    assert "a frame needs spatialdata" in html


def test_no_movie_at_all_is_said(tmp_path: Path) -> None:
    context, html, payloads = shown(tmp_path)
    assert payloads == []
    assert "no frames are shown" in html
    assert context.placed.absent
