"""Signal-to-noise ratios: against planes of known signal and noise, and against the benchmark's own formula."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from hyped_core.container.movies import Labels, LabelsWriter, Movie, write_movie
from hyped_core.errors import DesignError, InvalidDataError
from hyped_imaging.cli_snr import snr_command
from hyped_imaging.snr import MAD_TO_SIGMA, background_mask, decibel, paper_snr, snr, snr_table, summarise

SIGNAL, OFFSET, NOISE = 400.0, 1000.0, 20.0


@pytest.fixture(scope="module")
def scene():
    """A plane of known ratio (20) and its labels; nuclei are blurred into a rim that counts on neither side."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:400, :500]
    labels, plane = np.zeros(y.shape, np.int32), np.full(y.shape, OFFSET)
    for k, (cy, cx) in enumerate((a, b) for a in range(40, 400, 80) for b in range(40, 500, 80)):
        distance = np.hypot(y - cy, x - cx)
        labels[distance <= 10] = k + 1
        plane += SIGNAL * np.clip((14 - distance) / 4, 0, 1)
    return np.round(plane + rng.normal(0, NOISE, y.shape)).astype(np.uint16), labels


def test_the_known_ratio_is_found(scene):
    plane, labels = scene
    found = snr(plane, labels)
    assert found.ratio == pytest.approx(SIGNAL / NOISE, rel=0.01)
    assert found.db == pytest.approx(20 * math.log10(found.ratio))
    assert (found.signal, found.background) == pytest.approx((OFFSET + SIGNAL, OFFSET), rel=1e-3)
    assert found.noise == pytest.approx(NOISE, rel=0.01)
    assert found.nucleus_px == (labels > 0).sum() and found.background_px == background_mask(labels).sum()


def test_the_definition_is_what_it_says(scene):
    plane, labels = scene
    free = distance_transform_edt(labels == 0) > 5
    expected = (plane[labels > 0].mean() - plane[free].mean()) / plane[free].std()
    middle = np.median(plane[free])
    robust = (plane[labels > 0].mean() - middle) / (MAD_TO_SIGMA * np.median(np.abs(plane[free] - middle)))
    for array in (plane, plane.astype(np.float32), plane.astype(np.int32)):
        assert snr(array, labels).ratio == pytest.approx(expected, rel=1e-9)
        assert snr(array, labels, robust=True).ratio == pytest.approx(robust, rel=1e-9)


def test_offset_and_gain_do_not_count_but_missed_nuclei_do_less_when_robust(scene):
    plane, labels = scene
    ratio = snr(plane, labels).ratio
    assert snr(plane.astype(float) * 3.5 + 77, labels).ratio == pytest.approx(ratio, rel=1e-9)
    some = np.where(labels % 3 == 0, 0, labels)  # a third of the nuclei was not found
    assert snr(plane, some).ratio < 0.6 * ratio
    assert snr(plane, some, robust=True).ratio > 0.85 * ratio


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_the_halo_is_euclidean(seed, halo):
    labels = (np.random.default_rng(seed).random((23, 31)) > 0.98).astype(np.int32)
    labels[0, 0] = 1
    np.testing.assert_array_equal(background_mask(labels, halo), distance_transform_edt(labels == 0) > halo)


def test_undefined_ratios_say_why(scene):
    plane, labels = scene
    for given_plane, given_labels, reason in (
        (plane, np.zeros_like(labels), "no nucleus"),
        (plane, np.ones_like(labels), "no background"),
        (np.full_like(plane, 9), labels, "background without variance"),
        (plane.max() - plane, labels, "nuclei are no brighter than the background"),
    ):
        for robust in (False, True):
            found = snr(given_plane, given_labels, robust=robust)
            assert found.reason == reason and math.isnan(found.db)
    assert math.isnan(paper_snr(plane, np.zeros_like(labels)))
    assert math.isnan(paper_snr(plane, np.ones_like(labels)))
    assert math.isnan(paper_snr(np.full_like(plane, 9), labels))
    assert math.isnan(decibel(-1.0)) and math.isnan(decibel(math.nan)) and decibel(100.0, "power") == 20.0
    for bad in (plane[:-1], np.stack([plane, plane])):
        with pytest.raises(InvalidDataError, match="do not fit"):
            snr(bad, labels)
    holed = plane.astype(float)
    holed[3, 3] = np.nan
    with pytest.raises(InvalidDataError, match="NaN"):
        snr(holed, labels)


@pytest.mark.parametrize("rule", ["percentile", "share"])
@pytest.mark.parametrize("formula", ["mean_over_std", "power"])
def test_the_papers_ratio_is_the_benchmarks(scene, formula, rule):
    image = pytest.importorskip("hyped_bench.metrics.image")
    plane, labels = scene
    scaled = image.unit_range(plane, rule=rule)[0]
    expected = image.signal_to_noise(scaled, labels, formula)
    for array in (plane, plane.astype(np.float64)):
        assert paper_snr(array, labels, formula=formula, rule=rule) == pytest.approx(expected, rel=1e-9)
    assert decibel(expected, formula) == pytest.approx(image.decibel(expected, formula))


def test_the_papers_two_readings():
    """Table 4: 14.082 -> 15.051 is 0.97 if the numbers are decibel, 0.58 dB (6.9 %) if they are ratios."""
    before, after = 14.082471, 15.051044
    assert after - before == pytest.approx(0.97, abs=0.005)
    assert decibel(after) - decibel(before) == pytest.approx(0.58, abs=0.005)
    assert after / before - 1 == pytest.approx(0.069, abs=0.001)


@pytest.fixture
def files(tmp_path, scene):
    """Two frames, the second dark in its second channel."""
    plane, labels = scene
    planes = np.stack([np.stack([plane, plane]), np.stack([plane, np.full_like(plane, 100)])])
    hours = [20.0, 21.0]
    write_movie(tmp_path / "m.zarr", planes, channels=["Cy5", "mKate"], pixel_size_um=0.65, time_h=hours)
    with LabelsWriter(tmp_path / "l.zarr", shape=(2, *labels.shape), pixel_size_um=0.65, time_h=hours) as writer:
        for index in range(2):
            writer.write_frame(index, labels)
    return tmp_path


def test_a_row_a_frame_and_channel(files, scene):
    plane, labels = scene
    table = snr_table(Movie.open(files / "m.zarr"), Labels.open(files / "l.zarr"))
    assert table["frame"].tolist() == [0, 0, 1, 1] and table["time_h"].tolist() == [20, 20, 21, 21]
    assert table["snr"].iloc[:3].tolist() == [snr(plane, labels).ratio] * 3 and np.isnan(table["snr"].iloc[3])
    assert table["paper_snr"].iloc[0] == paper_snr(plane, labels)
    cy5, mkate = summarise(table)
    assert cy5["defined"] == 2 and cy5["snr_db"] == pytest.approx(26, abs=0.2)
    assert mkate["defined"] == 1 and mkate["undefined"] == {"background without variance": 1}
    with pytest.raises(DesignError, match="DAPI"):
        snr_table(Movie.open(files / "m.zarr"), Labels.open(files / "l.zarr"), channels=["DAPI"])


def test_the_command(files):
    arguments = [str(files / "m.zarr"), str(files / "l.zarr")]
    run = CliRunner().invoke(snr_command, [*arguments, "--json", "--frames", "1", "--out", str(files / "s.csv")])
    assert run.exception is None
    first, second = json.loads(run.stdout)["channels"]
    assert (first["channel"], first["frames"], second["snr_db"]) == ("Cy5", 1, None)
    assert len(pd.read_csv(files / "s.csv")) == 2
    shown = CliRunner().invoke(snr_command, [*arguments, "--channels", "mKate"]).stdout.splitlines()
    assert len(shown) == 2 and shown[1].split()[:2] == ["mKate", "1/2"]
    other = np.zeros((2, 1, 50, 50), np.uint16)
    write_movie(files / "n.zarr", other, channels=["Cy5"], pixel_size_um=0.65, time_h=[20.0, 21.0])
    wrong = CliRunner().invoke(snr_command, [str(files / "n.zarr"), str(files / "l.zarr")])
    assert isinstance(wrong.exception, InvalidDataError)
