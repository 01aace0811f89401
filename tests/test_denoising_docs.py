"""docs/denoising.md: its blocks run one after the other and do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs_page import typed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "denoising.md"
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.S)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The page followed to its end in an empty folder: the folder, and all that was printed."""
    folder = tmp_path_factory.mktemp("reader")
    printed = []
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        printed.append(typed(language, text, folder))
    return folder, "\n".join(printed)


def test_the_page_runs_and_takes_noise_off(followed: tuple[Path, str]):
    _, printed = followed
    found = re.search(r"mean squared error (\d+) -> (\d+)", printed)
    assert found and int(found[2]) < int(found[1]) / 5


def test_the_denoised_movie_keeps_what_the_movie_says(followed: tuple[Path, str]):
    import numpy as np

    from hyped_core.container.movies import Movie

    folder, _ = followed
    first, second = Movie.open(folder / "movies/S0.zarr"), Movie.open(folder / "denoised/S0.zarr")
    assert first.channels == second.channels and np.array_equal(first.time_h, second.time_h)
    assert first.pixel_size_um == second.pixel_size_um
    at = first.channel_index("mKate")
    inside = slice(60, -60)
    before, after = (movie.frame(0)[at][inside, inside].astype(float) for movie in (first, second))
    steps = [float(np.median(np.abs(np.diff(plane, axis=1)))) for plane in (before, after)]
    assert steps[1] < 0.2 * steps[0]


def test_table_4_has_every_control_and_the_reason(followed: tuple[Path, str]):
    _, printed = followed
    assert all(name in printed for name in ("identity", "median", "gaussian", "tv", "nlm", "photon"))
    assert "48.13" in printed and "fidelity" in printed
