"""The tiny movie: what is said of it is true of it, for any seed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from hyped_core.checking.tiny.movie import CHANNELS, DIVISION, FRAMES, HEIGHT, WIDTH, tiny_movie

SEEDS = (0, 1, 2, 11, 95)


def touching(labels: np.ndarray) -> bool:
    """Whether two nuclei lie side by side."""
    pairs = ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]))
    return any(((a != b) & (a > 0) & (b > 0)).any() for a, b in pairs)


@pytest.mark.parametrize("seed", SEEDS)
def test_arrays_and_tables_fit_together(seed):
    movie = tiny_movie(seed)
    assert movie.noisy.shape == movie.clean.shape == (FRAMES, 3, HEIGHT, WIDTH)
    assert (movie.noisy.dtype, movie.clean.dtype, movie.labels.dtype) == (np.uint16, np.float32, np.int32)
    assert movie.channels == movie.meta.channels == CHANNELS
    assert movie.objects[["frame", "label"]].equals(movie.tracks[["frame", "label"]])
    assert not movie.objects.isna().any().any()
    pixel = movie.meta.pixel_size_um
    for frame, labels in enumerate(movie.labels):
        rows = movie.objects[movie.objects["frame"] == frame]
        assert rows["label"].tolist() == list(range(1, labels.max() + 1))
        centres = np.array(ndimage.center_of_mass(labels > 0, labels, rows["label"])) * pixel
        assert np.allclose(rows[["y_um", "x_um"]], centres)
        assert np.allclose(rows["area_um2"], np.bincount(labels.ravel())[1:] * pixel**2)
        assert (rows["time_h"] == movie.meta.time_h[frame]).all()
        assert all(ndimage.label(labels == label)[1] == 1 for label in rows["label"])
    area_px = movie.objects["area_um2"] / pixel**2
    assert np.allclose(movie.objects["integrated_Cy5"], movie.objects["mean_Cy5"] * area_px)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_division_a_meeting_a_leaver_and_an_enterer(seed):
    movie = tiny_movie(seed)
    tracks = movie.tracks.groupby("track_id").agg(
        first=("frame", "min"), last=("frame", "max"), rows=("frame", "size"), parent=("parent_id", "first")
    )
    assert (tracks["last"] - tracks["first"] + 1 == tracks["rows"]).all()
    daughters = tracks[tracks["parent"] > 0]
    assert len(daughters) == 2 and daughters["parent"].nunique() == 1 and (daughters["first"] == DIVISION).all()
    assert tracks.loc[daughters["parent"].iloc[0], "last"] == DIVISION - 1
    rest = tracks[(tracks["parent"] == 0) & ~tracks.index.isin(daughters["parent"])]
    assert (rest["last"] < FRAMES - 1).sum() == 1 and (rest["first"] > 0).sum() == 1
    assert touching(movie.labels[-1]) and not touching(movie.labels[0])
    moved = movie.objects.merge(movie.tracks)
    ways = moved.sort_values("frame").groupby("track_id")[["y_um", "x_um"]].agg(["first", "last"])
    assert np.median(np.hypot(*(ways[c]["last"] - ways[c]["first"] for c in ("y_um", "x_um")))) > 4


def test_labels_do_not_tell_tracks():
    tracks = tiny_movie(0).tracks
    assert tracks.groupby("track_id")["label"].nunique().max() > 1


def test_the_noise_is_that_of_the_camera_told():
    movie = tiny_movie(3)
    noise = movie.noisy - movie.clean
    assert abs(noise.mean()) < 0.5
    for low, high in ((290, 310), (1050, 1200)):
        at = (movie.clean > low) & (movie.clean < high)
        expected = movie.meta.gain * (movie.clean[at].mean() - movie.meta.offset) + 10.0**2
        assert at.sum() > 2000 and noise[at].var() == pytest.approx(expected, rel=0.05)


def test_nuclei_are_bright_in_the_stain_and_in_one_or_both_reporters():
    movie = tiny_movie(0)
    means = movie.objects.groupby(movie.tracks["track_id"])[[f"mean_{c}" for c in CHANNELS]].mean()
    assert (means["mean_Cy5"] > 500).all()
    assert (means[["mean_mKate", "mean_TagGFP"]].max(axis=1) > 300).all()
    assert (means["mean_mKate"] < 50).any() and (means["mean_TagGFP"] < 50).any()


def test_seeds_decide():
    a, b, c = tiny_movie(4), tiny_movie(4), tiny_movie(5)
    assert np.array_equal(a.noisy, b.noisy) and a.objects.equals(b.objects) and np.array_equal(a.labels, b.labels)
    assert not np.array_equal(a.noisy, c.noisy) and not np.array_equal(a.labels, c.labels)
    assert a.noisy is not b.noisy


def test_models_are_told_of_what_they_are_given():
    movie = tiny_movie(0)
    stack = movie.stack("mKate")
    assert stack.flags.c_contiguous and not np.shares_memory(stack, movie.noisy)
    assert np.array_equal(stack, movie.noisy[:, 1])
    assert movie.channel_meta("mKate").channels == ("mKate",) and movie.channel_meta("mKate").channel == "mKate"
    assert movie.frame_meta(3).time_h == (movie.meta.time_h[3],) and movie.frame_meta(3).channels == CHANNELS


def test_needs_no_more_than_numpy_and_pandas():
    code = (
        "import sys; from hyped_core.checking.tiny.movie import tiny_movie; tiny_movie();"
        "heavy = {'anndata', 'scipy', 'skimage', 'torch', 'sklearn'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
