"""The step denoise on a small movie: what a model gets, what is written, and again after an end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from hyped_core.container.movies import Labels, LabelsWriter, Movie, MovieWriter, write_movie
from hyped_core.context import RunContext, SilentProgress
from hyped_core.design import default_design
from hyped_core.errors import (
    DesignError,
    InvalidDataError,
    MissingFileError,
    PluginError,
    UnsupportedDataError,
    UsageError,
)
from hyped_core.io.hashing import digest
from hyped_core.plugins.registry import get_model
from hyped_imaging.cli_denoise import denoise as command
from hyped_imaging.denoise.images import denoise_image
from hyped_imaging.denoise.plan import DenoiseOptions, Planes, make_plan
from hyped_imaging.denoise.step import denoise_movie, estimate
from hyped_imaging.denoise.windows import plan_windows, spread_frames, to_dtype, window_length
from hyped_imaging.modelstep import ModelStep
from hyped_imaging.movies.importing import open_source
from hyped_imaging.movies.params import ImportParams

pytest.importorskip("hyped_bench.controls.denoise", reason="its Gaussian is quick and exact")

FRAMES, LOST = 9, 4
SHAPE = (FRAMES, 3, 45, 61)
CHANNELS = ("SiR-DNA", "mKate", "Oblique")
"""The first is an alias of the design's Cy5; the last is brightfield."""
TIMES = np.array([0, 1, 2, 3, 4, 8, 9, 10, 11]) / 3
GAUSSIAN = ModelStep(model="gaussian")


def nuclei(index: int) -> np.ndarray:
    yy, xx = np.mgrid[: SHAPE[2], : SHAPE[3]]
    return (np.hypot(yy - 20 - index, xx - 30) <= 9).astype(np.int32)


def frame(index: int) -> np.ndarray:
    """A nucleus that moves, in Poisson noise."""
    rng = np.random.default_rng(index)
    bright = np.array([800.0, 400.0, 0.0])[:, None, None] * nuclei(index)
    return rng.poisson(150 + bright).astype(np.uint16)


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Movie:
    path = tmp_path_factory.mktemp("data") / "S4.zarr"
    with MovieWriter(
        path, shape=SHAPE, dtype="uint16", channels=CHANNELS, pixel_size_um=0.65, time_h=TIMES, data_range=(0, 16383),
        attrs={"offset": 93.0, "reader": "direct"},
    ) as out:  # fmt: skip
        for index in range(FRAMES):
            if index == LOST:
                out.write_missing(index, "tiles are cut short")
            else:
                out.write_frame(index, frame(index))
    return Movie.open(path)


@pytest.fixture(scope="module")
def labels(movie: Movie) -> Labels:
    path = movie.path.with_name("labels.zarr")
    with LabelsWriter(path, shape=(FRAMES, *SHAPE[2:]), pixel_size_um=0.65, time_h=TIMES) as out:
        for index in range(FRAMES):
            out.write_frame(index, nuclei(index))
    return Labels.open(path)


class TimeMean:
    """Mean of a frame and its neighbours; keeps what it was given."""

    neighbours = 1

    def __init__(self):
        self.seen = []

    def denoise(self, stack, meta, *, context):
        self.seen.append((len(stack), meta.channel, meta.time_h))
        assert stack.dtype == np.uint16 and meta.data_range == (0.0, 16383.0)
        padded = np.concatenate([stack[:1], stack, stack[-1:]]).astype(np.float32)
        return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


class Learner:
    """Takes the channel's mean for every pixel, once it has learnt it."""

    def __init__(self, mean=None):
        self.mean, self.fits = mean, []

    def fit(self, stack, meta, *, context):
        self.mean = float(stack.mean())
        self.fits.append((meta.channel, meta.time_h))

    def denoise(self, stack, meta, *, context):
        return np.full(stack.shape, self.mean, np.float32)

    def save(self, folder: Path):
        folder.mkdir()
        (folder / "mean.json").write_text(json.dumps(self.mean))

    def load(self, folder: Path):
        self.mean = json.loads((folder / "mean.json").read_text())


def run(movie, out, model=GAUSSIAN, *, progress=None, labels=None, **options):
    return denoise_movie(
        movie, out, model, design=default_design(), context=RunContext(progress=progress or SilentProgress()),
        options=DenoiseOptions(**options), labels=labels,
    )  # fmt: skip


def present():
    return [index for index in range(FRAMES) if index != LOST]


@pytest.mark.parametrize("memory_gb", [4.0, 1e-3, 1e-9])
def test_windows_give_what_the_whole_movie_gives(movie, tmp_path, memory_gb):
    """With as many neighbours at both ends as the model looks at, no window's end can be seen."""
    model = TimeMean()
    record = run(movie, tmp_path / "S4.zarr", model, memory_gb=memory_gb)
    found = Movie.open(tmp_path / "S4.zarr")
    for k, name in enumerate(CHANNELS[:2]):
        stack = np.stack([frame(index)[k] for index in present()])
        whole = TimeMean().denoise(stack, movie.meta(name), context=RunContext())
        for at, index in enumerate(present()):
            np.testing.assert_array_equal(found.plane(index, name), np.rint(whole[at]))
    lengths = [n for n, channel, _ in model.seen if channel == "mKate"]
    assert max(lengths) <= record["window_frames"] + 2
    assert len(lengths) == -(-8 // record["window_frames"])
    assert record["window_frames"] == 2 * model.neighbours if memory_gb < 1e-6 else record["window_frames"] > 2
    assert model.seen[0][2][: lengths[0]] == tuple(TIMES[present()][: lengths[0]])


def test_everything_but_noise_is_kept(movie, tmp_path):
    run(movie, tmp_path / "other.zarr")
    found = Movie.open(tmp_path / "other.zarr")
    assert found.channels == movie.channels and found.shape == movie.shape and found.dtype == movie.dtype
    assert found.pixel_size_um == movie.pixel_size_um and found.data_range == movie.data_range
    np.testing.assert_array_equal(found.time_h, movie.time_h)
    assert found.missing_frames == {LOST: "tiles are cut short"}
    assert {k: found.attrs[k] for k in ("offset", "reader", "scene")} == {
        "offset": 93.0, "reader": "direct", "scene": "S4",
    }  # fmt: skip
    assert found.attrs["denoise"] == {"model": "gaussian", "config": {}, "channels": ["SiR-DNA", "mKate"]}
    for index in present():
        np.testing.assert_array_equal(found.plane(index, "Oblique"), movie.plane(index, "Oblique"))
        before, after = movie.plane(index, "mKate").astype(float), found.plane(index, "mKate").astype(float)
        assert np.abs(np.diff(after)).mean() < 0.7 * np.abs(np.diff(before)).mean()


def test_the_model_gets_one_plane_alone_as_in_a_stack(movie, tmp_path):
    run(movie, tmp_path / "S4.zarr", channels=("Cy5",), dtype="float32")
    found = Movie.open(tmp_path / "S4.zarr")
    model = get_model("denoise", "gaussian").create()
    own = model.denoise(frame(3)[:1], movie.meta("SiR-DNA"), context=RunContext())[0]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.plane(3, "SiR-DNA"), own)
    np.testing.assert_array_equal(found.plane(3, "mKate"), frame(3)[1])


def test_chosen_frames_have_their_times_and_true_neighbours(movie, tmp_path):
    record = run(movie, tmp_path / "S4.zarr", TimeMean(), frames=range(1, 9, 3), channels=("mKate",))
    found = Movie.open(tmp_path / "S4.zarr")
    np.testing.assert_array_equal(found.time_h, TIMES[[1, 4, 7]])
    assert found.missing_frames == {1: "tiles are cut short"} and found.attrs["frames"] == [1, 4, 7]
    assert record["frames"] == 2 and record["frames_missing"] == 1
    for at, index in ((0, 1), (2, 7)):
        near = np.mean([frame(i)[1].astype(float) for i in (index - 1, index, index + 1)], axis=0)
        np.testing.assert_allclose(found.plane(at, "mKate"), near, atol=0.51)


class StopAfter:
    """Ends the run after so many steps: a channel of a window each."""

    def __init__(self, steps):
        self.left = steps

    def track(self, items, description, total=None):
        for item in items:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            yield item


def test_a_run_that_was_ended_goes_on_to_the_same_bytes(movie, tmp_path):
    model = ModelStep(model="gaussian", config={"sigma_px": 1.5})
    small = {"memory_gb": 2.5e-4}
    whole = run(movie, tmp_path / "whole" / "S4.zarr", model, **small)
    assert whole["window_frames"] == 2
    out = tmp_path / "again" / "S4.zarr"
    write_movie(out, frame(0)[None], channels=CHANNELS, pixel_size_um=1.0, time_h=[0])
    old = digest(out).sha256
    with pytest.raises(KeyboardInterrupt):
        run(movie, out, model, progress=StopAfter(5), **small)
    assert digest(out).sha256 == old
    record = run(movie, out, model, **small)
    assert record["frames_done_before"] == 4  # two windows of two; the third had one channel done
    assert digest(out).sha256 == digest(tmp_path / "whole" / "S4.zarr").sha256
    assert record["changes"] == whole["changes"]
    assert [path.name for path in out.parent.iterdir()] == ["S4.zarr"]


class Sums:
    """Goes frame by frame: a frame and all before it; keeps what it was asked for."""

    neighbours = 0

    def __init__(self):
        self.asked = []

    def fit(self, stack, meta, *, context):
        self.base = float(stack.mean()) / 2

    def denoise(self, stack, meta, *, context):
        raise AssertionError("frames are to be asked for one by one")

    def denoise_frames(self, read, count, meta, *, context, frames=None):
        assert len(meta.time_h) == count
        self.asked.append((meta.channel, list(frames)))
        for t in range(count) if frames is None else frames:
            yield (sum(read(s).astype(np.float32) for s in range(t + 1)) / (t + 1) + self.base).astype(np.float32)


def test_a_model_that_goes_frame_by_frame_is_asked_for_no_stack(movie, tmp_path):
    """Missing frames are passed over, and frames that are not wanted are not asked for."""
    record = run(movie, tmp_path / "S4.zarr", Sums(), frames=[1, 4, 7], memory_gb=1e-9)
    found = Movie.open(tmp_path / "S4.zarr")
    for k, name in enumerate(CHANNELS[:2]):
        base = np.mean([frame(i)[k] for i in present()]) / 2
        for at, index in ((0, 1), (2, 7)):
            before = np.mean([frame(i)[k].astype(float) for i in present() if i <= index], axis=0)
            np.testing.assert_allclose(found.plane(at, name), before + base, atol=0.52)
    np.testing.assert_array_equal(found.plane(2, "Oblique"), frame(7)[2])
    assert record["window_frames"] == 0 and record["changes"]["mKate"]["mean_shift"] > 50
    assert [path.name for path in tmp_path.iterdir()] == ["S4.zarr"]


@pytest.mark.parametrize("steps", [3, 8, 11])
def test_frame_by_frame_an_ended_run_goes_on_to_the_same_bytes(movie, tmp_path, steps):
    """Ended within the first channel, between the channels and within the last, and with another memory."""
    model = ModelStep(model="photon", config={"neighbours": 1, "scales": 1})
    whole = run(movie, tmp_path / "whole" / "S4.zarr", model)
    out = tmp_path / "again" / "S4.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(movie, out, model, progress=StopAfter(steps))
    spooled = sorted(path.name for path in out.parent.rglob("*.plane"))
    assert not out.exists() and len(spooled) == min(steps + 1, 8) - max(0, steps - 8)
    if steps == 3:
        next(out.parent.rglob("0-1.plane")).write_bytes(b"[1]\ndamaged")
    record = run(movie, out, model, memory_gb=1e-9)
    assert record["frames_done_before"] == max(0, steps - 8)
    assert digest(out).sha256 == digest(tmp_path / "whole" / "S4.zarr").sha256
    assert record["changes"] == whole["changes"]
    assert [path.name for path in out.parent.iterdir()] == ["S4.zarr"]


def test_the_step_gives_what_the_model_gives_for_the_whole_movie(movie, tmp_path):
    """Noise from the frames the step fits on, and frames alone as among all."""
    config = {"neighbours": 1, "scales": 1}
    run(movie, tmp_path / "all.zarr", ModelStep(model="photon", config=config), dtype="float32", channels=("mKate",))
    run(
        movie, tmp_path / "some.zarr", ModelStep(model="photon", config=config), dtype="float32",
        channels=("mKate",), frames=[0, 6, 7],
    )  # fmt: skip
    every, some = Movie.open(tmp_path / "all.zarr"), Movie.open(tmp_path / "some.zarr")
    model = get_model("denoise", "photon").create(config)
    stack = np.stack([frame(index)[1] for index in present()])
    model.fit(stack, movie.meta("mKate"), context=RunContext())
    own = model.denoise(stack, movie.meta("mKate"), context=RunContext())
    for at, index in enumerate(present()):
        np.testing.assert_array_equal(every.plane(index, "mKate"), own[at])
    for at, index in enumerate((0, 6, 7)):
        np.testing.assert_array_equal(some.plane(at, "mKate"), every.plane(index, "mKate"))


def test_weights_of_a_model_that_learns_each_image_anew_are_refused(movie, tmp_path):
    with pytest.raises(UsageError, match="(?s)each image anew.*fm2s-series"):
        run(movie, tmp_path / "a.zarr", ModelStep(model="fm2s"), save_weights=tmp_path / "w")
    assert not any(tmp_path.iterdir())


def test_another_parameter_begins_anew(movie, tmp_path):
    out = tmp_path / "S4.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(movie, out, progress=StopAfter(5), memory_gb=2.5e-4)
    record = run(movie, out, ModelStep(model="gaussian", config={"sigma_px": 2.0}), memory_gb=2.5e-4)
    assert record["frames_done_before"] == 0


@given(st.floats(0.01, 0.99), st.integers(0, 60000))
@settings(max_examples=30, deadline=None)
def test_integers_are_rounded_without_bias(share, level):
    """Cutting would move the mean by half a unit; rounding leaves dithered values where they are."""
    rng = np.random.default_rng(level)
    values = (level + 5 + share + rng.uniform(-2, 2, 20000)).astype(np.float64)
    whole, clipped = to_dtype(values, np.dtype(np.uint16))
    assert clipped == 0 and abs(float(whole.mean()) - values.mean()) < 0.02


def test_clipped_pixels_are_counted(tmp_path, movie):
    values = np.array([[-3.0, -0.4, 0.5, 1.5, 65535.4, 65536.0]], np.float32)
    whole, clipped = to_dtype(values, np.dtype(np.uint16))
    assert whole.tolist() == [[0, 0, 0, 2, 65535, 65535]] and clipped == 2
    assert to_dtype(np.array([4e9, 5e9], np.float32), np.dtype(np.uint32))[0].tolist() == [4000000000, 2**32 - 1]
    record = run(movie, tmp_path / "S4.zarr", Learner(-7.0), weights=None, channels=("mKate",), frames=[0, 1])
    assert record["changes"]["mKate"]["clipped_pixels"] == 0  # it learnt the mean anew
    constant = type("Constant", (), {"denoise": lambda self, stack, meta, context: np.full(stack.shape, -7.0)})()
    record = run(movie, tmp_path / "S4.zarr", constant, channels=("mKate",), frames=[0, 1])
    assert record["changes"]["mKate"]["clipped_pixels"] == 2 * SHAPE[2] * SHAPE[3]


def test_the_record_says_what_was_taken_away(movie, labels, tmp_path):
    record = run(movie, tmp_path / "S4.zarr", channels=("mKate",), labels=labels)
    found = Movie.open(tmp_path / "S4.zarr")
    moved = np.stack([found.plane(i, "mKate").astype(float) - movie.plane(i, "mKate") for i in present()])
    change = record["changes"]["mKate"]
    assert change["removed_rms"] == pytest.approx(np.sqrt((moved**2).mean()), abs=1e-4)
    assert change["mean_shift"] == pytest.approx(moved.mean(), abs=1e-4)
    snr = record["snr"]["mKate"]
    assert snr["frames"] == 8 and snr["snr_db_after"] > snr["snr_db_before"] + 3
    from hyped_imaging.snr import snr as ratio

    own = [ratio(movie.plane(i, "mKate"), nuclei(i)).db for i in present()]
    assert snr["snr_db_before"] == pytest.approx(np.median(own), abs=1e-4)


def test_a_model_that_learns_does_so_once_a_channel_from_the_whole_movie(movie, tmp_path):
    made = []

    class Counting(Learner):
        def fit(self, stack, meta, *, context):
            super().fit(stack, meta, context=context)
            made.append((meta.channel, len(stack), meta.time_h[0], meta.time_h[-1]))

    run(movie, tmp_path / "a.zarr", Counting(), frames=[0, 1], save_weights=tmp_path / "weights", memory_gb=1e-9)
    assert [item[:2] for item in made] == [("SiR-DNA", 8), ("mKate", 8)]
    assert made[0][2:] == (TIMES[0], TIMES[-1])
    mean = np.mean([frame(i)[1] for i in present()])
    assert Movie.open(tmp_path / "a.zarr").plane(0, "mKate")[0, 0] == round(mean)
    assert sorted(p.name for p in (tmp_path / "weights").iterdir()) == ["SiR-DNA", "mKate"]
    run(movie, tmp_path / "b.zarr", Counting(), weights=tmp_path / "weights", channels=("mKate",))
    assert len(made) == 2
    assert Movie.open(tmp_path / "b.zarr").plane(0, "mKate")[0, 0] == round(mean)
    with pytest.raises(MissingFileError, match="no weights of Oblique"):
        run(movie, tmp_path / "c.zarr", Learner(), weights=tmp_path / "weights", channels=("Oblique",))
    with pytest.raises(UsageError, match="no weights to save"):
        run(movie, tmp_path / "c.zarr", save_weights=tmp_path / "w")
    with pytest.raises(UsageError, match="no weights to load"):
        run(movie, tmp_path / "c.zarr", weights=tmp_path / "nothing")
    with pytest.raises(MissingFileError, match="it has none"):
        run(movie, tmp_path / "c.zarr", Learner(), weights=tmp_path / "nothing")
    assert not (tmp_path / "c.zarr").exists()


def test_a_model_that_breaks_its_contract_leaves_nothing(movie, tmp_path):
    for answer in (lambda stack: stack[:, 1:], lambda stack: np.full(stack.shape, np.nan)):
        bad = type("Bad", (), {"denoise": lambda self, stack, meta, context, give=answer: give(stack)})()
        with pytest.raises(PluginError, match="Bad|denoiser returned"):
            run(movie, tmp_path / "S4.zarr", bad)
        assert not any(tmp_path.iterdir())


def test_a_frame_with_nan_is_named(tmp_path):
    frames = np.stack([frame(i).astype(np.float32) for i in range(3)])
    frames[2, 0, 4, 5] = np.nan
    write_movie(tmp_path / "m.zarr", frames, channels=CHANNELS, pixel_size_um=1.0, time_h=[0, 1, 2])
    with pytest.raises(InvalidDataError, match="frame 2"):
        run(Movie.open(tmp_path / "m.zarr"), tmp_path / "out.zarr")


def test_bad_requests_are_named(movie, labels, tmp_path):
    with pytest.raises(DesignError, match="Cy7"):
        run(movie, tmp_path / "a.zarr", channels=("Cy7",))
    with pytest.raises(UsageError, match="replace the movie"):
        run(movie, movie.path)
    with pytest.raises(InvalidDataError, match="all these frames are missing"):
        run(movie, tmp_path / "a.zarr", frames=[LOST])
    write_movie(tmp_path / "f.zarr", np.zeros((1, 1, 9, 9), np.float32), channels=["a"], pixel_size_um=1, time_h=[0])
    with pytest.raises(UsageError, match="cannot be written as uint16"):
        run(Movie.open(tmp_path / "f.zarr"), tmp_path / "a.zarr", dtype="uint16")
    with pytest.raises(InvalidDataError, match="labels"):
        run(Movie.open(tmp_path / "f.zarr"), tmp_path / "a.zarr", labels=labels)


def test_windows_cover_each_frame_once_with_its_neighbours():
    here = [i for i in range(40) if i not in (7, 8, 20)]
    for chosen in (here, here[::5], [0, 1, 30, 31], [39]):
        for neighbours, length in ((0, 1), (0, 7), (2, 4), (3, 100)):
            windows = plan_windows(chosen, here, neighbours=neighbours, length=length)
            assert [i for w in windows for i in w.kept] == chosen
            for window in windows:
                assert len(window.given) <= length + 2 * neighbours
                place = [here.index(i) for i in window.given]
                assert place == list(range(place[0], place[-1] + 1))
                for index in window.kept:
                    at = here.index(index)
                    assert set(here[max(0, at - neighbours) : at + neighbours + 1]) <= set(window.given)


def test_a_window_of_the_papers_size_holds_several_frames():
    length = window_length((203, 4, 2826, 3245), 2, neighbours=2, memory_gb=4.0)
    assert 4 <= length <= 12
    assert spread_frames(range(203)) == [12, 38, 63, 88, 114, 139, 164, 190]
    assert spread_frames([5]) == [5]


def test_the_estimate_writes_nothing_and_comes_near(movie, tmp_path):
    planes = Planes.of_movie(movie)
    model = get_model("denoise", "gaussian").create()
    found = estimate(planes, model, default_design(), DenoiseOptions(), RunContext())
    run(movie, tmp_path / "S4.zarr")
    size = sum(path.stat().st_size for path in (tmp_path / "S4.zarr").rglob("*/c/**/0") if path.is_file()) / 1e6
    assert found["frames"] == 8 and found["channels"] == ["SiR-DNA", "mKate"] and found["seconds"] >= 0
    assert found["megabytes"] == pytest.approx(size, rel=0.3)
    plan = make_plan(planes, model, default_design(), DenoiseOptions())
    assert plan.length == 8 and plan.channels == (0, 1)


def test_the_estimate_of_a_model_that_goes_frame_by_frame(movie):
    planes = Planes.of_movie(movie)
    model = get_model("denoise", "photon").create({"neighbours": 1, "scales": 1})
    found = estimate(planes, model, default_design(), DenoiseOptions(), RunContext())
    assert found["window_frames"] == 0 and found["memory_gb"] is None and found["seconds"] > 0
    assert found["scratch_megabytes"] == round(8 * SHAPE[2] * SHAPE[3] * 2 / 1e6, 3)  # the first of two channels


def cli(*arguments):
    done = CliRunner().invoke(command, [str(item) for item in arguments])
    return done.stdout, done.stderr, done.exception


def test_command_on_a_movie(movie, labels, tmp_path):
    out = tmp_path / "S4.zarr"
    common = [movie.path, out, "--model", "gaussian", "--channels", "Cy5, mKate"]
    text, _, error = cli(*common, "--dry-run", "--json")
    assert error is None and json.loads(text)["frames"] == 8 and not out.exists()
    text, said, error = cli(*common, "--labels", labels.path, "--frames", "0:3", "--json")
    assert error is None and json.loads(text)["frames"] == 3 and "SNR" in said
    assert Movie.open(out).shape[0] == 3


def test_the_command_names_what_it_cannot_take(movie, tmp_path):
    file = tmp_path / "raw.czi"
    file.write_bytes(b"ZISRAWFILE")
    for arguments, said in (
        ((file, tmp_path / "out.zarr"), "hyped imaging stitch"),
        ((movie.path, tmp_path / "out.tif"), "name a folder"),
        ((movie.path, tmp_path / "out.zarr", "--device", "gpu"), "no device gpu"),
    ):
        _, _, error = cli(*arguments)
        assert isinstance(error, UsageError) and said in f"{error} {error.mend}"
    assert not (tmp_path / "out.zarr").exists() and not (tmp_path / "out.tif").exists()


def test_command_takes_parameters(movie, tmp_path):
    params = tmp_path / "p.yaml"
    params.write_text("denoise: {model: gaussian, config: {sigma_px: 3.0}}\n")
    _, said, error = cli(movie.path, tmp_path / "S4.zarr", "--params", f"{params}#denoise")
    assert error is None and "by gaussian" in said
    assert Movie.open(tmp_path / "S4.zarr").attrs["denoise"]["config"] == {"sigma_px": 3.0}


@pytest.mark.parametrize(("dtype", "written"), [("uint8", "uint8"), ("uint16", "uint16"), ("float64", "float32")])
def test_a_plane_in_a_tiff_goes_there_and_back(tmp_path, dtype, written):
    plane = np.clip(frame(0)[1], 0, 255).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", plane)
    _, _, error = cli(tmp_path / "a.tif", tmp_path / "b.tif", "--model", "identity")
    assert error is None
    found = tifffile.imread(tmp_path / "b.tif")
    assert found.dtype == written
    np.testing.assert_array_equal(found, plane)


def test_a_stack_keeps_axes_times_and_pixel_size(tmp_path):
    stack = np.stack([frame(i)[1] for i in range(5)])
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=(1 / 0.65, 1 / 0.65),
        metadata={"axes": "TYX", "unit": "um", "finterval": 1200.0},
    )  # fmt: skip
    assert cli(tmp_path / "a.tif", tmp_path / "b.tif", "--model", "gaussian", "--frames", "1:")[2] is None
    found = open_source([tmp_path / "b.tif"], ImportParams())
    assert found.shape == (4, 1, 45, 61) and found.pixel_size_um == pytest.approx(0.65)
    np.testing.assert_allclose(np.diff(found.hours), 1 / 3)
    model = get_model("denoise", "gaussian").create()
    own = model.denoise(stack[2:3], Movie.meta, context=RunContext())[0]
    np.testing.assert_array_equal(found.frame(1)[0], np.rint(own))


def test_an_ome_tiff_keeps_its_channels(tmp_path):
    stack = np.stack([frame(i)[:2] for i in range(3)])
    notes = {"axes": "TCYX", "Channel": {"Name": ["Cy5", "mKate"]}, "PhysicalSizeX": 0.5, "TimeIncrement": 60.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata=notes)
    assert cli(tmp_path / "a.ome.tif", tmp_path / "b.tif", "--model", "gaussian", "--channels", "mKate")[2] is None
    found = open_source([tmp_path / "b.tif"], ImportParams())
    assert found.channels == ("Cy5", "mKate") and found.pixel_size_um == pytest.approx(0.5)
    np.testing.assert_allclose(found.hours, np.arange(3) / 60)
    np.testing.assert_array_equal(found.frame(2)[0], stack[2, 0])
    assert np.abs(found.frame(2)[1].astype(float) - stack[2, 1]).max() > 1


def test_a_png_becomes_a_tiff(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), frame(0)[1])
    assert cli(tmp_path / "a.png", tmp_path / "a.tif", "--model", "identity")[2] is None
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), frame(0)[1])


def test_bad_images_are_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(tmp_path / "ok.tif", np.ones((9, 9), np.uint8))
    tifffile.imwrite(tmp_path / "nan.tif", np.full((9, 9), np.nan, np.float32))
    cases = [
        (("a.png", "b.tif"), InvalidDataError, "not a readable PNG"),
        (("rgb.tif", "b.tif"), UnsupportedDataError, "colour"),
        (("none.tif", "b.tif"), MissingFileError, "no such file"),
        (("nan.tif", "b.tif"), InvalidDataError, "frame 0"),
        (("ok.tif", "b.png"), UsageError, "is a TIFF"),
        (("ok.tif", "ok.tif"), UsageError, "replace the image"),
        (("ok.tif", "b.tif", "--labels", "x"), UsageError, "--labels"),
    ]
    for (source, out, *more), kind, said in cases:
        _, _, error = cli(tmp_path / source, tmp_path / out, "--model", "identity", *more)
        assert isinstance(error, kind) and said in str(error), (source, out, error)
        assert not (tmp_path / "b.tif").exists()


def test_an_image_that_is_tiny(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((1, 1), 7, np.uint16))
    record = denoise_image(
        tmp_path / "a.tif", tmp_path / "b.tif", GAUSSIAN, design=default_design(), context=RunContext()
    )
    assert tifffile.imread(tmp_path / "b.tif").item() == 7 and record["changes"]["C0"]["removed_rms"] == 0
